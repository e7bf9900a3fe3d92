//! What a profile's `setup` does in a sandbox: once, in order, shown, and gone with it if it fails; and
//! what is kept of it as an image.

mod again;

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::support::processes::{Kind, signal};
use crate::support::{
    ALPINE_LIKE, EMPTY, SPECKIT, World, containers_of, docker, docker_is_there, put, wait_until,
};

/// A world whose profile `p` has these settings and is prepared by these lines.
fn world(settings: &[&str], lines: &[&str]) -> World {
    let world = World::new();
    set(&world, settings, lines);
    world
}

/// Gives the profile `p` of a world other settings.
fn set(world: &World, settings: &[&str], lines: &[&str]) {
    let lines = lines.iter().flat_map(|line| ["--setup", line]);
    let add = ["profile", "add", "p", "--force"].into_iter();
    let all: Vec<&str> = add.chain(settings.iter().copied()).chain(lines).collect();
    world.run(&all).expect_code(0);
}

const DIRECTORY: [&str; 2] = ["--driver", "directory"];

/// Settings of containers of an image.
fn image(name: &str) -> [&str; 6] {
    ["--driver", "docker", "--image", name, "--network", "none"]
}

/// The lines of a file beside the project, which the commands in a directory write.
fn lines(world: &World, name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(world.path(name)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// The logs of preparations that failed.
fn logs(world: &World) -> Vec<PathBuf> {
    let files = std::fs::read_dir(world.path("s/skync/setup")).into_iter().flatten().flatten();
    files.map(|file| file.path()).collect()
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("text").trim_end().to_owned()
}

/// The prepared images of a world, removed with the value.
struct Images<'a>(&'a World);

impl Images<'_> {
    fn names(&self) -> Vec<String> {
        let outcome = self.0.run(&["gc", "--dry-run", "--json"]).expect_code(0);
        let document: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
        let images = document["images"].as_array().expect("a list").iter();
        let names = images.map(|image| image["name"].as_str().expect("a name").to_owned());
        // One that lost its name can be of a test beside this one.
        names.filter(|name| name.starts_with("skync-setup:")).collect()
    }
}

impl Drop for Images<'_> {
    fn drop(&mut self) {
        let _ = self.0.run(&["down", "--discard"]);
        let _ = self.0.run(&["gc", "--images"]);
    }
}

#[test]
fn commands_run_once_in_order_before_the_project_is_there_and_beside_the_output() {
    let world = World::new();
    let count = world.path("count").display().to_string();
    let first = format!("echo first >> {count}; echo from-setup; pwd; test ! -e a");
    let second = format!("echo second $WORD $SKYNC >> {count}; echo to-stderr >&2");
    set(&world, &[&DIRECTORY[..], &["--env", "WORD=x"]].concat(), &[&first, &second]);
    world.write("a", "1");
    let outcome = world.exec(&["cat", "a"]).expect_code(0);
    assert_eq!(outcome.stdout, "1");
    for line in ["setup: [1 of 2] echo first", "setup: from-setup", "setup: to-stderr"] {
        assert!(outcome.stderr.contains(line), "{line}: {}", outcome.stderr);
    }
    assert_eq!(lines(&world, "count"), ["first", "second x 1"]);
    assert_eq!(logs(&world), Vec::<PathBuf>::new());
    world.expect_nothing_left();

    // In one session it is done once, whatever runs there.
    world.run(&["up", "-d"]).expect_code(0);
    world.exec(&["true"]).expect_code(0);
    let status = world.run(&["status", "--json"]).expect_code(0);
    let status: Value = serde_json::from_str(&status.stdout).expect("JSON");
    let setup = status["sessions"][0]["setup"].as_str().unwrap_or_default();
    assert!(setup.starts_with("done in "), "{status}");
    assert!(world.run(&["ps", "--json"]).expect_code(0).stdout.contains("\"operations\":[]"));
    world.run(&["down"]).expect_code(0);
    assert_eq!(lines(&world, "count").len(), 4);
    // Who wants quiet has it.
    assert!(!world.run(&["-q", "exec", "true"]).expect_code(0).stderr.contains("setup"));
}

#[test]
fn a_command_that_fails_is_told_with_its_log_and_nothing_is_left() {
    let fails = "i=0; while [ $i -lt 60 ]; do echo line $i; i=$((i+1)); done; exit 7";
    let world = world(&DIRECTORY, &["echo fine", fails, "echo never > ../../never"]);
    let outcome = world.run(&["-q", "exec", "true"]).expect_code(125);
    assert!(outcome.stderr.contains("(2 of 3) failed with exit code 7"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("  line 59\n") && outcome.stderr.contains("  line 20\n"));
    assert!(!outcome.stderr.contains("  line 19\n") && outcome.stdout.is_empty());
    let [log] = &logs(&world)[..] else { panic!("one log: {:?}", logs(&world)) };
    assert!(outcome.stderr.contains(&log.display().to_string()), "{}", outcome.stderr);
    let log = std::fs::read_to_string(log).expect("a log");
    assert!(log.contains("fine\n") && log.contains("line 0\n") && !log.contains("never"));
    world.expect_nothing_left();
    world.run(&["up", "-d"]).expect_code(1);
    wait_until("the session has ended", || world.leftovers().is_empty());

    set(&world, &DIRECTORY, &["nosuchprogram"]);
    let outcome = world.exec(&["true"]).expect_code(125);
    assert!(outcome.stderr.contains("a program that it names is not in"), "{}", outcome.stderr);
    set(&world, &[&DIRECTORY[..], &["--setup-timeout", "200ms"]].concat(), &["sleep 300"]);
    let outcome = world.exec(&["true"]).expect_code(125);
    assert!(outcome.stderr.contains("setup may take 200ms in all"), "{}", outcome.stderr);
    world.expect_nothing_left();
}

#[test]
fn a_program_is_told_in_its_own_way() {
    let world = world(&DIRECTORY, &["echo out"]);
    let outcome = world.run(&["--json", "exec", "echo", "own"]).expect_code(0);
    let documents: Vec<Value> =
        outcome.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let of_setup = documents.iter().filter(|document| document["event"] == "setup");
    let whats: Vec<&str> = of_setup.filter_map(|document| document["what"].as_str()).collect();
    assert_eq!(whats, ["started", "output", "ended"]);
    assert_eq!(documents[1]["text"], "out\n");
    assert!(!outcome.stderr.contains("setup:"), "{}", outcome.stderr);
}

#[test]
fn another_command_waits_for_the_preparation_and_sees_it_too() {
    let world = World::new();
    let (count, go) = (world.path("count"), world.path("go"));
    let (count, go) = (count.display(), go.display());
    let line = format!(
        "echo x >> {count}; echo before; while [ ! -e {go} ]; do sleep 0.02; done; echo after"
    );
    set(&world, &DIRECTORY, &[&line]);
    let first = world.start_exec(&[], &["echo", "one"]);
    wait_until("it is being prepared", || first.stderr().contains("setup: before"));
    let second = world.start_exec(&[], &["echo", "two"]);
    wait_until("the second sees it", || second.stderr().contains("setup: [1 of 1]"));
    let status = world.run(&["status"]).expect_code(0);
    assert!(status.stdout.contains("setup: 1 of 1: echo x"), "{}", status.stdout);
    put(world.base(), "go", "");
    for (running, said) in [(first, "one\n"), (second, "two\n")] {
        let outcome = running.finish().expect_code(0);
        assert_eq!(outcome.stdout, said);
        assert!(outcome.stderr.contains("setup: after"), "{}", outcome.stderr);
    }
    assert_eq!(lines(&world, "count").len(), 1);
}

#[test]
fn an_interrupt_ends_the_preparation_with_all_its_processes() {
    let world = world(&DIRECTORY, &["echo begun; setsid sleep 300 & sleep 300"]);
    let running = world.start_exec(&[], &["true"]);
    wait_until("it is being prepared", || running.stderr().contains("setup: begun"));
    signal("INT", &[running.pid()]);
    running.finish().expect_code(130);
    world.wait_until_nothing_is_left();
}

#[test]
fn a_session_that_dies_in_between_is_followed_by_one_that_begins_from_the_start() {
    let world = World::new();
    let count = world.path("count").display().to_string();
    let line = format!("echo x >> {count}; [ $(wc -l < {count}) -gt 1 ] || sleep 300");
    set(&world, &DIRECTORY, &[&line]);
    world.write("a", "1");
    let running = world.start_exec(&[], &["cat", "a"]);
    wait_until("it is being prepared", || lines(&world, "count").len() == 1);
    signal("KILL", &[world.process(Kind::Session)]);
    assert_eq!(running.finish().expect_code(0).stdout, "1");
    assert_eq!(lines(&world, "count").len(), 2);
    world.wait_until_nothing_is_left();
}

#[test]
fn the_death_of_all_in_between_leaves_nothing() {
    let world = world(&DIRECTORY, &["echo begun; sleep 300"]);
    let running = world.start_exec(&[], &["true"]);
    wait_until("it is being prepared", || running.stderr().contains("setup: begun"));
    let session = world.process(Kind::Session);
    signal("KILL", &[running.pid(), session]);
    world.wait_until_nothing_is_left();
}

#[test]
fn an_image_without_a_shell_says_so_and_takes_commands_that_need_none() {
    if !docker_is_there() {
        return;
    }
    let world = world(&image(EMPTY), &["echo x"]);
    let outcome = world.exec(&["true"]).expect_code(125);
    let said = "there is no /bin/sh in the sandbox";
    assert!(outcome.stderr.contains(said), "{}", outcome.stderr);
    world.expect_nothing_left();
}

/// Removes a container with the value.
struct Container(String);

impl Drop for Container {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rm", "-f", &self.0]).output();
    }
}

#[test]
fn a_container_of_another_is_prepared_once_and_again_when_the_profile_changes() {
    if !docker_is_there() {
        return;
    }
    let run = ["run", "-d", "--network=none", SPECKIT, "sleep", "infinity"];
    let container = Container(text(docker(&run)));
    let inside = |script: &str| text(docker(&["exec", &container.0, "sh", "-c", script]));
    let settings = ["--driver", "docker", "--container", &container.0];
    let world = world(&settings, &["echo a >> /count"]);
    for _ in 0..2 {
        world.exec(&["true"]).expect_code(0);
        assert_eq!(inside("cat /count"), "a");
        assert_eq!(inside("ls -A / | grep skync || true"), "");
    }
    set(&world, &settings, &["echo b >> /count"]);
    let outcome = world.exec(&["true"]).expect_code(0);
    assert!(outcome.stderr.contains("has changed since"), "{}", outcome.stderr);
    assert_eq!(inside("cat /count"), "a\nb");
    // One that fails is not marked as done.
    set(&world, &settings, &["echo c >> /count; exit 3"]);
    world.exec(&["true"]).expect_code(125);
    world.exec(&["true"]).expect_code(125);
    assert_eq!(inside("tr -d '\\n' < /count; ls -A / | grep skync || true"), "abcc");
}

/// What of an image decides how a container of it runs.
fn settings_of(image: &str) -> Vec<String> {
    let parts = ["Env", "Cmd", "Entrypoint", "User", "Volumes", "ExposedPorts", "Healthcheck"];
    let format = |part: &str| format!("--format={{{{json .Config.{part}}}}}");
    // What is not there is an error to some engines, and empty to others.
    let look = |part: &str| {
        let output =
            Command::new("docker").args(["image", "inspect", &format(part), image]).output();
        let said = String::from_utf8(output.expect("docker runs").stdout).expect("text");
        match said.trim() {
            // Nobody is root, as is 0.
            "null" | "[]" | "{}" | "\"\"" | "\"0\"" => String::new(),
            said => said.to_owned(),
        }
    };
    parts.map(look).to_vec()
}

#[test]
fn a_kept_image_is_used_by_the_next_sandbox_and_holds_nothing_of_ours() {
    if !docker_is_there() {
        return;
    }
    for user in [None, Some("1234:1234")] {
        let world = World::new();
        let images = Images(&world);
        let mark = world.base().file_name().expect("a name").to_str().expect("text").to_owned();
        let line = format!("echo {mark} > /tmp/made; echo it-ran");
        let settings = [&image(ALPINE_LIKE)[..], &["--setup-image"]].concat();
        let with_user = user.map(|user| ["--user", user]);
        let settings = [&settings[..], with_user.as_ref().map_or(&[], |user| &user[..])].concat();
        set(&world, &settings, &[&line]);
        world.write("a", "content of the project");
        let mut running = world.start_exec(&[], &["sh", "-c", "cat /tmp/made; echo; sleep 300"]);
        running.wait_for(&mark);
        assert!(running.stderr().contains("setup: it-ran"), "{}", running.stderr());
        let runtime = std::fs::read_dir(world.path("r/skync")).expect("a directory").flatten();
        let secrets = runtime.filter_map(|entry| std::fs::read(entry.path().join("secret")).ok());
        let secrets: Vec<Vec<u8>> = secrets.collect();
        let [name] = &images.names()[..] else { panic!("one image: {:?}", images.names()) };
        assert_eq!((secrets.len(), settings_of(name)), (1, settings_of(ALPINE_LIKE)));
        let saved = docker(&["save", name]);
        let has = |what: &[u8]| saved.windows(what.len()).any(|part| part == what);
        assert!(has(mark.as_bytes()), "what was prepared is in it");
        assert!(!has(&secrets[0]) && !has(b"content of the project") && !has(b"skync-agent 0"));
        let files = listed(name);
        let ours: Vec<&String> = files
            .iter()
            .filter(|file| file.contains("skync") || file.contains(mark.as_str()))
            .collect();
        assert_eq!(ours, [".skync/"], "of ours there is an empty directory");
        let [container] = &containers_of(&world)[..] else { panic!("one container") };
        let format = "--format={{range .Mounts}}{{if .Name}}{{.Name}}{{end}}{{end}}";
        let volume = text(docker(&["inspect", format, container]));
        assert!(!volume.is_empty());
        signal("INT", &[running.pid()]);
        running.finish().expect_code(130);
        world.expect_nothing_left();
        let left = docker(&["volume", "ls", "-q", "--filter", &format!("name={volume}")]);
        assert_eq!(text(left), "", "its volume went with the container");

        let outcome = world.exec(&["cat", "/tmp/made", "a"]).expect_code(0);
        assert_eq!(outcome.stdout, format!("{mark}\ncontent of the project"));
        assert!(!outcome.stderr.contains("it-ran"), "{}", outcome.stderr);
        let shown = world.run(&["profile", "show", "p"]).expect_code(0);
        assert!(shown.stdout.contains(name.as_str()), "{}", shown.stdout);

        // One that went away is made anew.
        docker(&["rmi", name]);
        world.run(&["gc"]).expect_code(0);
        let records = std::fs::read_dir(world.path("s/skync/prepared")).expect("a directory");
        assert_eq!(records.count(), 1, "it may be being made");
        let outcome = world.exec(&["cat", "/tmp/made"]).expect_code(0);
        assert!(outcome.stderr.contains("setup: it-ran"), "{}", outcome.stderr);
        world.run(&["gc"]).expect_code(0);
        assert_eq!(images.names(), std::slice::from_ref(name));
        let removed = world.run(&["gc", "--images"]).expect_code(0);
        assert!(removed.stderr.contains(name.as_str()), "{}", removed.stderr);
        assert_eq!(images.names(), Vec::<String>::new());
        let gone = Command::new("docker").args(["image", "inspect", name]).output();
        assert!(!gone.expect("docker runs").status.success());
    }
}

/// The names of all files of an image.
fn listed(image: &str) -> Vec<String> {
    let made = Container(text(docker(&["create", image, "x"])));
    let script = format!("docker export {} | tar t", made.0);
    let output = Command::new("sh").args(["-c", &script]).output().expect("sh runs");
    text(output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn an_image_that_cannot_be_prepared_is_not_kept() {
    if !docker_is_there() {
        return;
    }
    let world = World::new();
    let images = Images(&world);
    let line = format!("echo {}; exit 1", world.base().display());
    set(&world, &[&image(ALPINE_LIKE)[..], &["--setup-image"]].concat(), &[&line]);
    world.exec(&["true"]).expect_code(125);
    assert_eq!(images.names(), Vec::<String>::new());
    world.expect_nothing_left();
}

#[test]
fn a_sandbox_of_a_provider_is_prepared_too() {
    let options = ["--setup", "echo prepared | tee /tmp/made"];
    let Some(world) = World::with_e2b_options(&options) else { return };
    let outcome = world.exec(&["cat", "/tmp/made"]).expect_code(0);
    assert_eq!(outcome.stdout, "prepared\n");
    assert!(outcome.stderr.contains("setup: prepared"), "{}", outcome.stderr);
    world.expect_nothing_left();
}
