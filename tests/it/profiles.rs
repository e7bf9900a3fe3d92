//! Profiles from end to end: every verb, every document, every way to choose one.

use std::path::PathBuf;

use serde_json::Value;

use crate::support::{Outcome, SPECKIT, World, docker_is_there};

/// Runs a verb and checks that it left the project alone, which is where users keep their files.
#[track_caller]
fn run(world: &World, arguments: &[&str]) -> Outcome {
    let before = listing(world);
    let outcome = world.run(arguments);
    assert_eq!(listing(world), before, "{arguments:?} changed the project");
    outcome
}

/// Names, times and sizes of what is in the project.
fn listing(world: &World) -> Vec<(PathBuf, u64, std::time::SystemTime)> {
    let entries = std::fs::read_dir(world.project()).expect("listed").flatten();
    let mut all: Vec<_> = entries
        .map(|entry| {
            let metadata = entry.metadata().expect("metadata");
            (entry.path(), metadata.len(), metadata.modified().expect("a time"))
        })
        .collect();
    all.sort();
    all
}

/// The document that a verb prints, which says its version.
#[track_caller]
fn document(world: &World, arguments: &[&str], code: i32) -> Value {
    let outcome = run(world, &[arguments, &["--json"]].concat()).expect_code(code);
    let document: Value = serde_json::from_str(&outcome.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", outcome.stdout));
    assert_eq!(document["schema_version"], 1, "{document}");
    assert_eq!(document["ok"], code == 0, "{document}");
    assert_eq!(outcome.stderr, "", "a program got talk");
    document
}

fn config(world: &World) -> String {
    std::fs::read_to_string(world.path("c/skync/config.toml")).expect("a configuration")
}

fn world() -> World {
    let world = World::new();
    world.write("kept", "as it was");
    world
}

const PYTHON: [&str; 16] = [
    "profile",
    "add",
    "python",
    "--driver",
    "docker",
    "--image",
    "python:3.12",
    "--memory",
    "2g",
    "--cpus",
    "1.5",
    "--network",
    "none",
    "--env",
    "CI=1",
    "--gitignore",
];

#[test]
fn a_profile_lives_from_add_to_remove() {
    let world = world();
    let added = run(&world, &PYTHON).expect_code(0);
    assert!(added.stderr.contains("added `python` (image python:3.12, 2GiB memory, 1.5 CPUs"));
    assert!(added.stderr.contains("used from now on, since it is the first"), "{}", added.stderr);
    run(&world, &["profile", "add", "copy", "--driver", "directory"]).expect_code(0);

    let list = run(&world, &["profile", "list"]).expect_code(0).stdout;
    assert!(list.lines().any(|line| line.trim_start().starts_with("*  python")), "{list}");
    assert!(list.contains("`python` is used because of `skync profile use`"), "{list}");
    for name in ["copy", "local", "directory"] {
        assert!(list.contains(name), "{list}");
    }
    let show = run(&world, &["profile", "show", "python"]).expect_code(0).stdout;
    for part in [
        "image             python:3.12",
        "memory            2GiB",
        "CI=1",
        "gitignore         true",
    ] {
        assert!(show.contains(part), "no `{part}` in {show}");
    }

    let used = run(&world, &["profile", "use", "copy"]).expect_code(0);
    assert_eq!(used.stderr, "now using `copy` (directory)\n");
    let again = run(&world, &PYTHON);
    assert!(again.stderr.contains("--force"), "{}", again.stderr);
    again.expect_code(3);
    let replaced = run(&world, &[&PYTHON[..], &["--force"]].concat()).expect_code(0);
    assert!(replaced.stderr.contains("replaced `python`"), "{}", replaced.stderr);

    let removed = run(&world, &["profile", "remove", "copy"]).expect_code(0);
    assert!(removed.stderr.contains("`python` is used from now on, because it is the only"));
    let gone = run(&world, &["profile", "show", "copy"]).expect_code(5);
    assert!(gone.stderr.contains("there is no profile `copy`"), "{}", gone.stderr);
    let kept = run(&world, &["profile", "remove", "local"]);
    assert_ne!(kept.code, 0, "a built-in profile was removed");
    assert_eq!(world.read("kept"), "as it was");
}

#[test]
fn every_verb_has_a_document() {
    let world = world();
    let added = document(&world, &PYTHON, 0);
    assert_eq!((&added["active"], &added["replaced"]), (&true.into(), &false.into()));
    let profile = &added["profile"];
    assert_eq!((&profile["name"], &profile["driver"]), (&"python".into(), &"docker".into()));
    assert_eq!((&profile["memory"], &profile["cpus"]), (&(2_u64 << 30).into(), &1.5.into()));
    assert_eq!(profile["env"]["CI"], "1");

    let list = document(&world, &["profile", "list"], 0);
    assert_eq!(list["active"]["name"], "python");
    assert_eq!(list["active"]["origin"], "active");
    let names: Vec<_> =
        list["profiles"].as_array().expect("profiles").iter().map(|p| &p["name"]).collect();
    assert_eq!(names, ["python", "local", "directory"]);
    let show = document(&world, &["profile", "show"], 0);
    assert_eq!((&show["profile"], &show["origin"]), (profile, &"active".into()));
    let used = document(&world, &["profile", "use", "local"], 0);
    assert_eq!((&used["profile"], &used["driver"]), (&"local".into(), &"local".into()));
    let valid = document(&world, &["profile", "validate", "--offline", "--all"], 0);
    assert_eq!(valid["online"], false);
    let removed = document(&world, &["profile", "remove", "python"], 0);
    assert_eq!(removed["removed"], "python");

    let error = document(&world, &["profile", "show", "python"], 5);
    assert_eq!(error["error"]["kind"], "not-found");
    assert_eq!(error["error"]["message"], "there is no profile `python`");
    let error = document(&world, &["profile", "add", "x", "--driver", "dokcer"], 3);
    assert_eq!((&error["error"]["kind"], &error["error"]["code"]), (&"config".into(), &3.into()));
    let error = document(&world, &["profile", "frobnicate"], 2);
    assert_eq!(error["error"]["kind"], "usage");
}

#[test]
fn a_secret_in_a_profile_is_not_shown() {
    let world = world();
    let add = ["profile", "add", "p", "--driver", "directory", "--env", "API_TOKEN=hunter2"];
    let mut said = run(&world, &add).expect_code(0).stderr;
    for arguments in [&["profile", "show", "p"][..], &["profile", "list"]] {
        said += &run(&world, arguments).expect_code(0).stdout;
        said += &document(&world, arguments, 0).to_string();
    }
    assert!(said.contains("API_TOKEN") && !said.contains("hunter2"), "{said}");
}

#[test]
fn comments_and_order_of_the_file_are_kept() {
    let world = world();
    run(&world, &["profile", "add", "one", "--driver", "directory"]).expect_code(0);
    let mine = format!("# about all of it\n{}# about nothing\n", config(&world));
    let mine = mine.replace("driver = \"directory\"", "driver = \"directory\"   # a copy");
    #[expect(clippy::disallowed_methods, reason = "a configuration as a person would write it")]
    std::fs::write(world.path("c/skync/config.toml"), &mine).expect("written");
    run(&world, &["profile", "add", "two", "--driver", "directory"]).expect_code(0);
    run(&world, &["profile", "use", "two"]).expect_code(0);
    run(&world, &["profile", "remove", "two"]).expect_code(0);
    let text = config(&world);
    for part in ["# about all of it\n", "driver = \"directory\"   # a copy\n", "# about nothing"] {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
}

#[test]
fn all_problems_of_a_file_are_told_in_one_pass() {
    let world = world();
    let text = "profile = \"a\"\n[profiles.a]\ndriver = \"docker\"\nimgae = \"x\"\nmemory = \"much\"\n\
                [profiles.b]\ndriver = \"dokcer\"\n";
    std::fs::create_dir_all(world.path("c/skync")).expect("made");
    #[expect(clippy::disallowed_methods, reason = "a configuration as a person would write it")]
    std::fs::write(world.path("c/skync/config.toml"), text).expect("written");
    let validate = run(&world, &["profile", "validate", "--all", "--offline"]).expect_code(3);
    let parts = [
        "config.toml:4:1: unknown key `imgae`",
        "did you mean `image`?",
        "config.toml:5:",
        "config.toml:7:",
        "did you mean `docker`?",
        "hint: correct them in `",
    ];
    for part in parts {
        assert!(validate.stderr.contains(part), "no `{part}` in: {}", validate.stderr);
    }
    let error = document(&world, &["profile", "validate", "--all", "--offline"], 3);
    assert!(error["error"]["details"].as_array().is_some_and(|all| all.len() >= 3), "{error}");
}

#[test]
fn validate_asks_the_engine() {
    if !docker_is_there() {
        return;
    }
    let world = world();
    let add = |name: &str, more: &[&str]| {
        let add = ["profile", "add", name, "--driver", "docker"];
        run(&world, &[&add[..], more].concat()).expect_code(0);
    };
    add("fine", &["--image", SPECKIT, "--network", "none"]);
    add("image", &["--image", "skync-test/spekit:1.2.3"]);
    add("container", &["--container", "skync-test-no-such-container"]);
    add("network", &["--image", SPECKIT, "--network", "skync-test-no-such-network"]);
    add("engine", &["--image", SPECKIT, "--host", "unix:///nonexistent.sock"]);

    let fine = run(&world, &["profile", "validate", "fine"]).expect_code(0);
    assert!(fine.stderr.contains("`fine` can be used"), "{}", fine.stderr);
    let fine = document(&world, &["profile", "validate", "fine"], 0);
    assert_eq!((&fine["valid"][0], &fine["online"]), (&"fine".into(), &true.into()));
    let wrong = [
        ("image", 5, "the image `skync-test/spekit:1.2.3` is not here", SPECKIT),
        ("container", 5, "no container `skync-test-no-such-container`", "`docker ps --all` lists"),
        ("network", 5, "no network `skync-test-no-such-network`", "`docker network ls` lists"),
        ("engine", 7, "cannot reach a Docker engine at `/nonexistent.sock`", "start the engine"),
    ];
    for (name, code, what, then) in wrong {
        let outcome = run(&world, &["profile", "validate", name]).expect_code(code);
        for part in [name, what, then] {
            assert!(outcome.stderr.contains(part), "no `{part}` in: {}", outcome.stderr);
        }
        let error = document(&world, &["profile", "validate", name], code);
        assert!(error["error"]["details"][0].as_str().is_some_and(|text| text.contains(what)));
    }
    let all = run(&world, &["profile", "validate", "--all"]);
    assert!(all.stderr.contains("4 problems found"), "{}", all.stderr);
    run(&world, &["profile", "validate", "--all", "--offline"]).expect_code(0);
}

/// Where a command runs, in a word.
const WHERE: [&str; 3] = [
    "sh",
    "-c",
    "if [ -d /.skync ]; then echo docker; else case $PWD in */sandboxes/*) echo directory;; *) echo local;; esac; fi",
];

#[track_caller]
fn is_run_in(world: &World, flags: &[&str], place: &str) {
    let outcome = run(world, &[flags, &["exec", "--"], &WHERE].concat()).expect_code(0);
    assert_eq!(outcome.stdout, format!("{place}\n"), "{}", outcome.stderr);
}

#[test]
fn switching_takes_effect_with_the_next_command() {
    let Some(world) = World::with_docker(SPECKIT) else { return };
    world.write("kept", "as it was");
    is_run_in(&world, &[], "docker");
    for place in ["local", "directory", "docker", "directory", "local", "docker"] {
        run(&world, &["use", place]).expect_code(0);
        is_run_in(&world, &[], place);
    }
    world.expect_nothing_left();
}

#[test]
fn a_flag_wins_over_the_variable_and_both_over_the_file() {
    let world = world();
    run(&world, &["profile", "add", "copy", "--driver", "directory"]).expect_code(0);
    run(&world, &["profile", "add", "other", "--driver", "directory"]).expect_code(0);
    is_run_in(&world, &["--profile", "local"], "local");
    is_run_in(&world, &[], "directory");
    let with_variable = |value: &str, arguments: &[&str]| {
        let output = world.skync(arguments).env("SKYNC_PROFILE", value).output().expect("runs");
        let text = |bytes| String::from_utf8(bytes).expect("utf-8");
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let exec = [&["exec", "--"][..], &WHERE].concat();
    assert_eq!(with_variable("local", &exec).1, "local\n");
    let flag = [&["--profile", "copy"][..], &exec].concat();
    assert_eq!(with_variable("local", &flag).1, "directory\n");
    // An empty variable is none.
    assert_eq!(with_variable("", &exec).1, "directory\n");

    let origin = |arguments: &[&str], value: &str| {
        let arguments = [arguments, &["profile", "list", "--json"]].concat();
        let document: Value =
            serde_json::from_str(&with_variable(value, &arguments).1).expect("a document");
        document["active"].to_string()
    };
    assert_eq!(origin(&[], ""), r#"{"name":"copy","origin":"active"}"#);
    assert_eq!(origin(&[], "other"), r#"{"name":"other","origin":"environment"}"#);
    assert_eq!(origin(&["--profile", "local"], "other"), r#"{"name":"local","origin":"flag"}"#);
    let list = with_variable("other", &["profile", "list"]).1;
    let line = "`other` is used because of SKYNC_PROFILE, which wins over `copy`";
    assert!(list.contains(line), "{list}");
    let used = with_variable("other", &["use", "local"]).2;
    assert!(used.contains("SKYNC_PROFILE is set: `other` is used as long as it is"), "{used}");
    let (code, _, unknown) = with_variable("nosuch", &exec);
    assert_eq!(code, Some(125));
    let why = "there is no profile `nosuch`, chosen because of SKYNC_PROFILE";
    assert!(unknown.contains(why), "{unknown}");
    world.expect_nothing_left();
}

#[test]
fn variables_and_patterns_of_a_profile_reach_the_command() {
    let world = world();
    world.write("out/left", "1");
    let add = ["profile", "add", "p", "--driver", "directory", "--env", "WHO=me and you"];
    run(&world, &[&add[..], &["--exclude", "out/"]].concat()).expect_code(0);
    let outcome = run(&world, &["exec", "sh", "-c", "echo $WHO; ls"]).expect_code(0);
    assert_eq!(outcome.stdout, "me and you\nkept\n");
    world.expect_nothing_left();
}
