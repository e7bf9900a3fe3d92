//! The main job: real spec-kit in a real sandbox without a network, on synchronised files.
//!
//! Each `exec` without a session has a new sandbox, so what one command needs of the one before it
//! has been to the host and back.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use crate::support::processes::signal;
use crate::support::{Outcome, SPECKIT, World, containers_of, tree, wait_until, with_input};

const INIT: &[&str] = &["specify", "init", "--here", "--integration", "copilot"];
const FILE: u32 = 0o100_000;
/// Without skync's own talk, for tests of all that is on stderr.
const QUIET: &[&str] = &["-q", "exec", "--"];

fn world() -> Option<World> {
    World::with_docker(SPECKIT)
}

/// A world whose project spec-kit has initialised.
fn initialised() -> Option<World> {
    let world = world()?;
    world.exec(INIT).expect_code(0);
    Some(world)
}

/// Runs git on the host, as the user of this world.
#[track_caller]
fn git(world: &World, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(arguments)
        .current_dir(world.project())
        .env("HOME", world.path("home"))
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env_remove("XDG_CONFIG_HOME")
        .output()
        .expect("git runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A world whose project is a git repository with one commit; its user is known to git on the host.
fn repository() -> Option<World> {
    let world = world()?;
    git(&world, &["config", "--global", "user.name", "Ada Löwe"]);
    git(&world, &["config", "--global", "user.email", "ada@example.org"]);
    git(&world, &["init", "--quiet", "--initial-branch=main"]);
    world.write("README.md", "hello\n");
    git(&world, &["add", "."]);
    git(&world, &["commit", "--quiet", "--message=first"]);
    Some(world)
}

#[test]
fn init_in_an_empty_directory_is_all_home_when_it_returns() {
    let Some(world) = world() else { return };
    world.exec(INIT).expect_code(0);
    let found = tree(world.project());
    let files = |mode: u32| {
        let all = found.iter().filter(move |(_, found)| found.mode == FILE | mode);
        all.map(|(path, _)| path.display().to_string()).collect::<Vec<_>>()
    };
    let all = found.values().filter(|found| found.mode & FILE == FILE).count();
    assert_eq!(all, 30, "{found:#?}");
    assert_eq!(files(0o755).len() + files(0o644).len() + files(0o600).len(), all, "{found:#?}");
    assert_eq!(files(0o755).len(), 6, "{:?}", files(0o755));
    assert!(files(0o755).iter().all(|path| path.ends_with(".sh")), "{:?}", files(0o755));
    assert_eq!(files(0o600), [".specify/workflows/workflow-registry.json"]);
    let me = rustix::process::geteuid().as_raw();
    assert!(found.values().all(|found| found.uid == me), "{found:#?}");
    assert_eq!(containers_of(&world), Vec::<String>::new());
}

#[test]
fn init_at_a_provider_is_all_home_when_it_returns() {
    let stream = World::with_e2b_options(&["--link", "stream"]);
    for world in [World::with_e2b(), stream, World::with_daytona()].into_iter().flatten() {
        world.exec(INIT).expect_code(0);
        let found = tree(world.project());
        let all = found.values().filter(|found| found.mode & FILE == FILE).count();
        assert_eq!(all, 30, "{found:#?}");
        assert_eq!(found.values().filter(|found| found.mode == FILE | 0o755).count(), 6);
        // What it wrote goes there again, into another sandbox.
        let check = world.exec(&["sh", "-c", "find .specify -type f | wc -l"]).expect_code(0);
        assert!(check.stdout.trim().parse::<u32>().is_ok_and(|count| count > 10), "{check:?}");
        world.expect_nothing_left();
    }
}

#[test]
fn init_again_asks_and_changes_nothing_until_the_answer_is_yes() {
    let Some(world) = initialised() else { return };
    let before = tree(world.project());
    world.exec(INIT).expect_code(1);
    assert_eq!(tree(world.project()), before);

    let output = with_input(&mut world.skync([&["exec", "--"], INIT].concat()), b"y\n");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("Project ready"), "{said}");
}

#[test]
fn a_new_sandbox_finds_every_managed_file_unmodified() {
    let Some(world) = initialised() else { return };
    let before = tree(world.project());
    let status = world.exec(&["specify", "integration", "status"]).expect_code(0);
    assert!(status.stdout.contains("Integration status: OK"), "{}", status.stdout);
    assert!(status.stdout.contains("Modified managed files: 0"), "{}", status.stdout);
    assert!(status.stdout.contains("Missing managed files: 0"), "{}", status.stdout);
    assert_eq!(tree(world.project()), before, "looking changes nothing");
}

#[test]
fn a_script_prints_clean_json_that_is_true_on_the_host() {
    let Some(world) = initialised() else { return };
    let script = ".specify/scripts/bash/create-new-feature.sh";
    let outcome = world.exec(&[script, "--json", "Add user login"]).expect_code(0);
    let json: serde_json::Value = serde_json::from_str(&outcome.stdout)
        .unwrap_or_else(|error| panic!("{error}: {:?}", outcome.stdout));
    let file = Path::new(json["SPEC_FILE"].as_str().expect("a path"));
    assert!(file.starts_with(world.project()), "{json}");
    assert!(file.is_file(), "{json}");
    assert!(world.read(".specify/feature.json").contains("specs/001-"), "{json}");

    // The next command, in another sandbox, goes on from there.
    let plan = world.exec(&[".specify/scripts/bash/setup-plan.sh", "--json"]).expect_code(0);
    let json: serde_json::Value = serde_json::from_str(&plan.stdout).expect("JSON");
    assert!(Path::new(json["IMPL_PLAN"].as_str().expect("a path")).is_file(), "{json}");
}

#[test]
fn what_spec_kit_and_the_shell_would_refuse_has_their_exit_codes() {
    let Some(world) = world() else { return };
    world.exec(&["specify", "frobnicate"]).expect_code(2);
    let Outcome { stderr, .. } = world.exec(&["nosuch"]).expect_code(127);
    assert!(stderr.contains("`nosuch` is not found in the sandbox"), "{stderr}");
    assert_eq!(tree(world.project()).len(), 0);
}

#[test]
fn switching_the_integration_removes_its_files_and_no_others() {
    let Some(world) = initialised() else { return };
    let excluded = world.write("node_modules/x", "mine\n");
    let nested = world.write("web/node_modules/y/z.js", "mine too\n");
    let unrelated = world.write("src/häuser & \"co\".txt", "unrelated\r\n");
    let beside = world.write(".github/workflows/ci.yml", "on: push\n");
    let look = |path: &Path| {
        let stat = path.symlink_metadata().expect("there");
        let content = std::fs::read(path).expect("readable");
        (stat.mode(), stat.mtime(), stat.mtime_nsec(), stat.ino(), content)
    };
    let kept = [&excluded, &nested, &unrelated, &beside].map(|path| (path, look(path)));

    let switch = ["specify", "integration", "switch", "claude", "--force"];
    world.exec(&switch).expect_code(0);

    let names = |directory: &str| -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(world.project().join(directory)) else {
            return Vec::new();
        };
        entries.map(|entry| entry.expect("one").file_name().into_string().expect("text")).collect()
    };
    assert_eq!(names(".github/skills"), Vec::<String>::new());
    assert!(names(".claude/skills").iter().any(|name| name.starts_with("speckit-")));
    for (path, before) in kept {
        assert_eq!(look(path), before, "{}", path.display());
    }
}

#[test]
fn a_repository_is_clean_inside_and_afterwards() {
    let Some(world) = repository() else { return };
    let status = [QUIET, &["git", "status", "--porcelain"]].concat();
    let status = world.run(&status).expect_code(0);
    assert_eq!((status.stdout.as_str(), status.stderr.as_str()), ("", ""));
    assert_eq!(git(&world, &["status", "--porcelain"]), "");
    assert_eq!(git(&world, &["fsck", "--strict"]), "");
}

#[test]
fn a_commit_made_inside_is_the_hosts_users_and_comes_home() {
    let Some(world) = repository() else { return };
    let script = "echo more >> README.md && git commit --quiet --all --message=second";
    let outcome = world.run(&[QUIET, &["sh", "-c", script]].concat()).expect_code(0);
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("", ""));
    let log = git(&world, &["log", "--format=%s|%an|%ae|%cn"]);
    assert_eq!(
        log,
        "second|Ada Löwe|ada@example.org|Ada Löwe\nfirst|Ada Löwe|ada@example.org|Ada Löwe\n"
    );
    assert_eq!(git(&world, &["status", "--porcelain"]), "");
    assert_eq!(git(&world, &["fsck", "--strict"]), "");
    // And the other way: what the host commits is there in the next sandbox.
    git(&world, &["commit", "--quiet", "--allow-empty", "--message=third"]);
    let inside = world.exec(&["git", "log", "--format=%s"]).expect_code(0);
    assert_eq!(inside.stdout, "third\nsecond\nfirst\n");
}

#[test]
fn init_below_a_repository_stays_in_the_directory_it_was_called_in() {
    let Some(world) = repository() else { return };
    let below = world.project().join("apps/shop");
    std::fs::create_dir_all(&below).expect("made");
    let mut command = world.skync([&["exec", "--"], INIT].concat());
    let output = command.current_dir(&below).output().expect("skync runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(below.join(".specify/memory/constitution.md").is_file());
    assert!(!world.project().join(".specify").exists());
    // Git sees the whole repository from there.
    let mut command = world.skync(["exec", "--", "git", "rev-parse", "--show-prefix"]);
    let output = command.current_dir(&below).output().expect("skync runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "apps/shop/\n");
}

/// Three steps, of which the second takes a minute the first time.
const WORKFLOW: &str = r#"schema_version: "1.0"
workflow:
  id: "long"
  name: "Long"
  version: "1.0.0"
  author: "test"
  description: "takes long"
steps:
  - id: one
    type: shell
    run: "echo one >> log"
  - id: two
    type: shell
    run: "test -e begun || { echo > begun; sleep 60; }; echo two >> log"
  - id: three
    type: shell
    run: "echo three >> log"
"#;

#[test]
fn an_interrupted_workflow_is_paused_on_the_host_and_resumed_in_a_new_sandbox() {
    for name in ["INT", "TERM"] {
        let Some(world) = initialised() else { return };
        world.write("long.yml", WORKFLOW);
        let running = world.start_exec(&[], &["specify", "workflow", "run", "long.yml"]);
        wait_until("the second step has begun", || world.exec(&["test", "-e", "begun"]).code == 0);
        signal(name, &[running.pid()]);
        // The command's own code, although a signal ended it.
        let outcome = running.finish().expect_code(0);
        assert!(outcome.stdout.contains("paused"), "{}", outcome.stdout);
        let runs = world.project().join(".specify/workflows/runs");
        let run = std::fs::read_dir(runs).expect("runs").next().expect("one").expect("readable");
        let state = std::fs::read_to_string(run.path().join("state.json")).expect("a state");
        assert!(state.contains("\"paused\""), "{state}");
        assert_eq!(containers_of(&world), Vec::<String>::new());

        let id = run.file_name().into_string().expect("text");
        world.exec(&["specify", "workflow", "resume", &id]).expect_code(0);
        assert_eq!(world.read("log"), "one\ntwo\nthree\n");
    }
}
