//! The configuration in its layers from end to end: who wins, who says so, and what a project may not.

use std::path::Path;

use serde_json::Value;

use crate::support::{Outcome, World, put};

mod running;
mod trust;

/// Writes the user's own file.
fn user(world: &World, text: &str) {
    let directory = world.path("c/skync");
    std::fs::create_dir_all(&directory).expect("made");
    put(&directory, "config.toml", text);
}

#[track_caller]
fn show(world: &World, arguments: &[&str], variables: &[(&str, &str)]) -> Value {
    let mut command = world.skync([&["config", "show", "--json"], arguments].concat());
    command.envs(variables.iter().copied());
    let outcome = Outcome::of(command.output().expect("it runs")).expect_code(0);
    serde_json::from_str(&outcome.stdout).expect("JSON")
}

/// The value of a key, and the layer that it is from.
#[track_caller]
fn setting(document: &Value, key: &str) -> (String, String) {
    let settings = document["settings"].as_array().expect("settings");
    let found = settings.iter().find(|one| one["key"] == key).expect("the key");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&found["value"]), text(&found["layer"]))
}

#[expect(clippy::disallowed_methods, reason = "a test's own files")]
fn remove(path: impl AsRef<Path>) {
    std::fs::remove_file(path).expect("removed");
}

/// Runs in another directory than the project's.
fn run_in(world: &World, directory: &Path, arguments: &[&str]) -> Outcome {
    let mut command = world.skync(arguments);
    Outcome::of(command.current_dir(directory).output().expect("it runs"))
}

#[test]
fn each_layer_wins_over_those_below_it() {
    let world = World::new();
    let image = |arguments: &[&str], variables: &[(&str, &str)]| {
        setting(&show(&world, arguments, variables), "image")
    };
    let is = |value: &str, layer: &str| (value.to_owned(), layer.to_owned());
    user(&world, "profile = \"dev\"\n[profiles.dev]\ndriver = \"docker\"\nimage = \"user\"\n");
    assert_eq!(image(&[], &[]), is("user", "user"));
    world.write("skync.toml", "[profiles.dev]\nimage = \"project\"\n");
    assert_eq!(image(&[], &[]), is("project", "project"));
    world.write("skync.local.toml", "[profiles.dev]\nimage = \"here\"\n");
    assert_eq!(image(&[], &[]), is("here", "project-local"));
    let variable = [("SKYNC_IMAGE", "variable")];
    assert_eq!(image(&[], &variable), is("variable", "variable"));
    assert_eq!(image(&["--set", "image=flag"], &variable), is("flag", "flag"));
    assert_eq!(image(&[], &[("SKYNC_IMAGE", "")]), is("here", "project-local"));
    let unknown = world.run(&["config", "show", "--set", "imgae=x"]).expect_code(3);
    assert!(unknown.stderr.contains("did you mean `image`?"), "{}", unknown.stderr);
    world.run(&["config", "show", "--set", "image"]).expect_code(2);
}

#[test]
fn a_variable_that_says_nothing_is_told() {
    let world = World::new();
    let mut command = world.skync(["exec", "--", "true"]);
    let outcome = Outcome::of(command.env("SKYNC_EXCULDE", "a").output().expect("it runs"));
    let told = "warning: `SKYNC_EXCULDE` says nothing; did you mean `SKYNC_EXCLUDE`?";
    assert!(outcome.stderr.contains(told), "{}", outcome.stderr);
}

#[test]
fn what_is_shown_says_where_it_is_from_and_hides_secrets() {
    let world = World::new();
    let text = "[profiles.base]\ndriver = \"docker\"\nimage = \"a\"\n\
        [profiles.dev]\nextends = \"base\"\nenv = { API_TOKEN = \"s3cret\", CI = \"1\" }\n";
    user(&world, &format!("profile = \"dev\"\n{text}"));
    world.write("skync.toml", "[profiles.dev]\nexclude = [\"dist/\"]\n");
    let shown = world.run(&["config", "show", "--origin"]).expect_code(0).stdout;
    let line = |start: &str| {
        let found = shown.lines().find(|line| line.starts_with(start));
        found.unwrap_or_else(|| panic!("no `{start}` in {shown}"))
    };
    assert!(line("image = a").ends_with("c/skync/config.toml:4, by `base`"), "{shown}");
    assert!(line("exclude = ").ends_with("project/skync.toml:2"), "{shown}");
    assert!(line("env.API_TOKEN = ***").ends_with("c/skync/config.toml:7"), "{shown}");
    assert!(line("env.CI = 1").contains("config.toml:7"), "{shown}");
    assert!(line("mode = ").ends_with("# default"), "{shown}");
    let document = show(&world, &[], &[]);
    assert_eq!((&document["profile"], &document["origin"]), (&"dev".into(), &"active".into()));
    assert_eq!(setting(&document, "env.API_TOKEN"), ("***".to_owned(), "user".to_owned()));
    let image =
        document["settings"].as_array().expect("all").iter().find(|one| one["key"] == "image");
    assert_eq!(image.expect("it is there")["from"], "base");
    assert!(!document.to_string().contains("s3cret") && !shown.contains("s3cret"));
}

#[test]
fn the_problems_of_all_files_are_told_in_one_pass() {
    let world = World::new();
    user(&world, "profile = \"dev\"\n[profiles.dev]\ndriver = \"docker\"\nimgae = \"a\"\n");
    world.write("skync.toml", "[profiles.dev]\nimage = \"a\"\nmemroy = \"1GiB\"\n");
    let refused = world.run(&["config", "show"]).expect_code(3).stderr;
    for part in [
        "2 problems in several places",
        "c/skync/config.toml:4:1",
        "project/skync.toml:3:1",
        "did you mean `image`?",
        "did you mean `memory`?",
    ] {
        assert!(refused.contains(part), "no `{part}` in {refused}");
    }
}

#[test]
fn a_profile_that_extends_itself_or_nothing_is_refused() {
    let world = World::new();
    user(&world, "[profiles.a]\nextends = \"b\"\n[profiles.b]\nextends = \"a\"\n");
    let round = world.run(&["--profile", "a", "config", "show"]).expect_code(3).stderr;
    assert!(round.contains("`extends` goes round in a circle: `a`, `b`, `a`"), "{round}");
    user(&world, "[profiles.a]\nextends = \"bsae\"\n[profiles.base]\ndriver = \"directory\"\n");
    let unknown = world.run(&["--profile", "a", "config", "show"]).expect_code(3).stderr;
    assert!(unknown.contains("config.toml:2:"), "{unknown}");
    assert!(unknown.contains("there is no profile `bsae`"), "{unknown}");
    assert!(unknown.contains("did you mean `base`?"), "{unknown}");
}

#[test]
fn a_profile_is_chosen_for_one_project_or_for_all() {
    let world = World::new();
    user(&world, "[profiles.a]\ndriver = \"directory\"\n[profiles.b]\ndriver = \"directory\"\n");
    let other = world.path("other");
    std::fs::create_dir(&other).expect("made");
    let list =
        |directory: &Path| run_in(&world, directory, &["profile", "list"]).expect_code(0).stdout;
    world.run(&["use", "a"]).expect_code(0);
    for directory in [world.project(), &other] {
        let shown = list(directory);
        assert!(shown.contains("`a` is used because of `skync profile use`"), "{shown}");
    }
    let here = world.run(&["use", "--here", "b"]).expect_code(0);
    assert_eq!(
        here.stderr,
        "for this project; elsewhere nothing has changed\nnow using `b` (directory)\n"
    );
    let shown = list(world.project());
    assert!(shown.contains("`b` is used because of `skync use` in this project"), "{shown}");
    assert!(list(&other).contains("`a` is used because of"));
    // From then on the project has a choice of its own, which is what `use` changes.
    world.run(&["use", "local"]).expect_code(0);
    assert!(
        list(world.project()).contains("`local` is used because of `skync use` in this project")
    );
    assert!(list(&other).contains("`a` is used because of"));
    assert_eq!(
        world.exec(&["pwd"]).expect_code(0).stdout.trim(),
        world.project().to_string_lossy()
    );
    run_in(&world, &other, &["use", "b"]).expect_code(0);
    assert!(list(&other).contains("`b` is used because of `skync profile use`"));
}

#[test]
fn a_projects_choice_is_told_and_can_be_overruled() {
    let world = World::new();
    user(&world, "profile = \"a\"\n[profiles.a]\ndriver = \"directory\"\n");
    world.write("skync.toml", "profile = \"p\"\n[profiles.p]\ndriver = \"directory\"\n");
    let list = || world.run(&["profile", "list"]).expect_code(0).stdout;
    assert!(list().contains("`p` is used because of the project's `skync.toml`"), "{}", list());
    world.write("skync.local.toml", "profile = \"a\"\n");
    assert!(
        list().contains("`a` is used because of the project's `skync.local.toml`"),
        "{}",
        list()
    );
    world.run(&["use", "p"]).expect_code(0);
    assert!(list().contains("`p` is used because of `skync use` in this project"), "{}", list());
    let written = std::fs::read_to_string(world.path("c/skync/config.toml")).expect("there");
    assert!(written.contains("profile = \"a\"\n"), "the choice for everywhere went: {written}");
}

#[test]
fn a_configuration_makes_a_directory_the_project() {
    let world = World::new();
    world.write("skync.toml", "");
    world.write("src/deep/x", "");
    let deep = world.project().join("src/deep");
    let paths = run_in(&world, &deep, &["config", "path", "--json"]).expect_code(0).stdout;
    let paths: Value = serde_json::from_str(&paths).expect("JSON");
    let project = world.project().join("skync.toml");
    let all = paths["files"].as_array().expect("files");
    assert!(all.iter().any(|one| one["path"] == *project.to_string_lossy()), "{paths}");
    let there = run_in(&world, &deep, &["exec", "--", "sh", "-c", "cd ../..; ls"]).expect_code(0);
    assert_eq!(there.stdout, "skync.toml\nsrc\n");
}

#[test]
fn a_project_file_that_is_a_trap_is_an_error_and_no_hang() {
    let world = World::new();
    let path = world.project().join("skync.toml");
    let refused = |wanted: &str| {
        for arguments in [&["config", "show"][..], &["up", "-d"]] {
            let outcome = world.run(arguments).expect_code(3);
            assert!(outcome.stderr.contains(wanted), "{}", outcome.stderr);
        }
        // Who wants none of it is not kept from working, nor from seeing what there is.
        world.run(&["--profile", "local", "exec", "--", "true"]).expect_code(0);
        world.run(&["config", "path"]).expect_code(0);
        remove(&path);
    };
    let made = std::process::Command::new("mkfifo").arg(&path).status().expect("it runs");
    assert!(made.success());
    refused("`skync.toml` is not a file");
    put(&world.path(""), "outside.toml", "[profiles.x]\nsecret = \"s3cret\"\n");
    std::os::unix::fs::symlink(world.path("outside.toml"), &path).expect("made");
    refused("`skync.toml` is a link that leads out of the project");
    world.write("skync.toml", vec![b'#'; 2 << 20]);
    refused("`skync.toml` has more than 1048576 bytes");
}
