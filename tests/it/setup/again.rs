//! Sandboxes that are not fresh: taken over, started again, of another, or made of what was kept.

use std::process::Command;

use super::{Container, Images, docker, image, lines, set, settings_of, text, world};
use crate::support::processes::{Kind, signal};
use crate::support::{
    ALPINE_LIKE, Outcome, SPECKIT, World, containers_of, docker_is_there, wait_until,
};

/// What the engine says of an image.
fn of_image(image: &str, format: &str) -> String {
    text(docker(&["image", "inspect", &format!("--format={{{{{format}}}}}"), image]))
}

fn is_image(image: &str) -> bool {
    let found = Command::new("docker").args(["image", "inspect", image]).output();
    found.expect("docker runs").status.success()
}

/// Removes an image with the value, under whatever name.
struct Image(String);

impl Drop for Image {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rmi", &self.0]).output();
    }
}

/// Another image of the same files, with a change of its settings; removed with the value.
fn changed(image: &str, name: &str, change: &str) -> Image {
    let made = Container(text(docker(&["create", image, "x"])));
    Image(text(docker(&["commit", "--change", change, &made.0, name])))
}

#[test]
fn a_sandbox_that_is_taken_over_is_prepared_again_and_never_kept() {
    if !docker_is_there() {
        return;
    }
    let world = World::new();
    let images = Images(&world);
    let settings = [&image(ALPINE_LIKE)[..], &["--setup-image"]].concat();
    let mark = world.base().display().to_string();
    world.write("a", "content of the project");
    let mut kept = Vec::new();
    // It was prepared by its commands, and then as it was made of what is kept.
    for _ in 0..2 {
        set(&world, &settings, &[&format!("echo {mark} > /tmp/made")]);
        world.run(&["up", "-d"]).expect_code(0);
        let [name] = &images.names()[..] else { panic!("one image: {:?}", images.names()) };
        kept.push(of_image(name, ".Id"));
        // The keeper first, or it would clean up.
        signal("KILL", &[world.process(Kind::Keeper), world.process(Kind::Session)]);
        let kinds = [Kind::Keeper, Kind::Session];
        wait_until("they are dead", || {
            !world.processes().iter().any(|process| kinds.contains(&process.kind))
        });
        set(&world, &settings, &["echo again >> /tmp/made"]);
        let outcome = world.exec(&["cat", "/tmp/made", "a"]).expect_code(0);
        assert_eq!(outcome.stdout, format!("{mark}\nagain\ncontent of the project"));
        assert!(outcome.stderr.contains("it is done again"), "{}", outcome.stderr);
        kept.push(of_image(name, ".Id"));
        assert_eq!(images.names(), std::slice::from_ref(name));
        world.run(&["down"]).expect_code(0);
        world.wait_until_nothing_is_left();
    }
    assert!(kept.iter().all(|id| *id == kept[0]), "it is as it was: {kept:?}");
}

#[test]
fn an_agent_that_is_started_again_finds_its_sandbox_prepared() {
    let options = ["--setup", "echo x >> /tmp/count; [ $(wc -l < /tmp/count) -lt 2 ]"];
    let Some(world) = World::with_e2b_options(&options) else { return };
    world.run(&["up", "-d"]).expect_code(0);
    let container = world.e2b().sandboxes()[0].container.clone();
    let script = "echo 'only there' > %/only; kill -KILL $(cat /.skync/*/state/agent.pid)"
        .replace('%', &world.project().display().to_string());
    docker(&["exec", "--user", "user", &container, "sh", "-c", &script]);
    wait_until("what was only there is here", || world.project().join("only").exists());
    let outcome = world.exec(&["cat", "/tmp/count"]).expect_code(0);
    assert_eq!(outcome.stdout, "x\n");
    world.run(&["down"]).expect_code(0);
    world.expect_nothing_left();
}

#[test]
fn an_image_with_volumes_is_prepared_each_time_and_says_why() {
    if !docker_is_there() {
        return;
    }
    let world = World::new();
    let images = Images(&world);
    let name = format!("skync-test/volume:{}", std::process::id());
    let base = changed(ALPINE_LIKE, &name, "VOLUME /data");
    let settings = [&image(&name)[..], &["--setup-image"]].concat();
    set(&world, &settings, &["echo made > /data/made; echo it-ran"]);
    for _ in 0..2 {
        let outcome = world.exec(&["cat", "/data/made"]).expect_code(0);
        assert_eq!(outcome.stdout, "made\n");
        assert!(outcome.stderr.contains("setup: it-ran"), "{}", outcome.stderr);
        let why = format!("`/data` is a volume of the image `{name}`");
        assert!(outcome.stderr.contains(&why), "{}", outcome.stderr);
        assert_eq!(images.names(), Vec::<String>::new());
    }
    world.expect_nothing_left();
    drop(base);
}

#[test]
fn a_name_that_leads_to_what_another_made_is_not_taken_for_ours() {
    if !docker_is_there() {
        return;
    }
    let world = World::new();
    let images = Images(&world);
    let settings = [&image(ALPINE_LIKE)[..], &["--setup-image"]].concat();
    set(&world, &settings, &[&format!("echo {}; echo it-ran", world.base().display())]);
    let ran = |outcome: Outcome| outcome.expect_code(0).stderr.contains("setup: it-ran");
    assert!(ran(world.exec(&["true"])));
    assert!(!ran(world.exec(&["true"])));
    let [name] = &images.names()[..] else { panic!("one image: {:?}", images.names()) };
    let first = of_image(name, ".Id");
    docker(&["tag", ALPINE_LIKE, name]);
    assert!(ran(world.exec(&["true"])));
    assert!(!ran(world.exec(&["true"])));
    // What lost its name is of no use; the `gc` of a test beside this one may be sooner.
    world.run(&["gc"]).expect_code(0);
    assert!(!is_image(&first));

    let other = changed(name, name, "LABEL skync.owner=somebody");
    assert!(ran(world.exec(&["true"])));
    assert!(!ran(world.exec(&["true"])));
    assert_eq!(of_image(name, "index .Config.Labels \"skync.owner\"").len(), 16);
    // What is of another is not ours to remove.
    world.run(&["gc"]).expect_code(0);
    assert!(is_image(&other.0) && is_image(name));
    assert_eq!(settings_of(name), settings_of(ALPINE_LIKE));
}

#[test]
fn two_that_prepare_the_same_at_once_keep_one_image() {
    if !docker_is_there() {
        return;
    }
    let worlds = [World::new(), World::new()];
    let both = worlds.each_ref().map(Images);
    let wait = "echo begun; while [ ! -e /tmp/go ]; do :; done";
    let line = format!("{wait}; echo {}", worlds[0].base().display());
    let settings = [&image(ALPINE_LIKE)[..], &["--setup-image"]].concat();
    let running = worlds.each_ref().map(|world| {
        set(world, &settings, &[&line]);
        world.start_exec(&[], &["true"])
    });
    for running in &running {
        wait_until("it is being prepared", || running.stderr().contains("setup: begun"));
    }
    let mut ids = Vec::new();
    for (world, running) in worlds.iter().zip(running) {
        let [container] = &containers_of(world)[..] else { panic!("one container") };
        docker(&["exec", container, "touch", "/tmp/go"]);
        running.finish().expect_code(0);
        let [name] = &both[0].names()[..] else { panic!("one image: {:?}", both[0].names()) };
        ids.push(of_image(name, ".Id"));
    }
    assert_eq!(ids[0], ids[1]);
}

#[test]
fn two_projects_prepare_one_container_one_after_the_other() {
    if !docker_is_there() {
        return;
    }
    let run = ["run", "-d", "--network=none", SPECKIT, "sleep", "infinity"];
    let container = Container(text(docker(&run)));
    let settings = ["--driver", "docker", "--container", &container.0];
    let line = "echo x >> /count; echo begun; while [ ! -e /go ]; do sleep 0.05; done";
    let world = world(&settings, &[line]);
    let other = world.path("other");
    std::fs::create_dir(&other).expect("made");
    let first = world.start_exec(&[], &["true"]);
    wait_until("it is being prepared", || first.stderr().contains("setup: begun"));
    let err = std::fs::File::create(world.path("second")).expect("a file");
    let mut second = world.skync(["exec", "--", "true"]);
    let mut second = second.current_dir(&other).stderr(err).spawn().expect("skync runs");
    wait_until("the second waits", || {
        lines(&world, "second").iter().any(|line| line.contains("another session prepares"))
    });
    docker(&["exec", &container.0, "touch", "/go"]);
    first.finish().expect_code(0);
    assert!(second.wait().expect("it ends").success());
    let count = text(docker(&["exec", &container.0, "cat", "/count"]));
    assert_eq!(count, "x");
    let files = std::fs::read_dir(world.path("s/skync/prepared")).expect("a directory");
    assert_eq!(files.count(), 1, "there is a mark and no lock");
}
