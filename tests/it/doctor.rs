//! `skync doctor` through the real binary: what it finds, what it repairs, what it gives away.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::processes::{Kind, signal};
use crate::support::{Outcome, SPECKIT, World, docker_is_there, wait_until};

impl World {
    /// What `skync doctor` says, as a document.
    fn doctor(&self, arguments: &[&str]) -> (i32, Value) {
        let outcome = self.run(&[&["--json", "doctor"], arguments].concat());
        let document = serde_json::from_str(&outcome.stdout);
        (outcome.code, document.unwrap_or_else(|e| panic!("{e}: {outcome:?}")))
    }
}

/// All that was found under the name of a check.
fn findings<'a>(document: &'a Value, name: &str) -> &'a Vec<Value> {
    let checks = document["checks"].as_array().expect("checks");
    let check = checks.iter().find(|check| check["name"] == name);
    check.and_then(|check| check["findings"].as_array()).unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn nothing_is_wrong_where_all_is_there() {
    let world = World::new();
    world.write("a.py", "1");
    let (code, document) = world.doctor(&[]);
    assert_eq!((code, &document["ok"]), (0, &Value::Bool(true)), "{document:#}");
    assert_eq!(document["schema_version"], 1);
    let profile = findings(&document, "profile");
    assert!(profile[0]["found"].as_str().is_some_and(|found| found.starts_with("`directory`")));
    assert_eq!(profile[1]["level"], "ok");
    assert_eq!(findings(&document, "providers")[0]["level"], "skipped");
    let size = &findings(&document, "project")[1]["found"];
    assert!(
        size.as_str().is_some_and(|size| size.starts_with("1 files in 1 directories")),
        "{size}"
    );
    // To look leaves nothing behind.
    assert!(!world.path("s/skync").exists() && !world.path("c/skync").exists());
    let text = world.run(&["doctor"]).expect_code(0).stdout;
    for group in ["Versions\n", "\nProfile\n", "\nThis machine\n", "\nLeft over\n", "\nProject\n"] {
        assert!(text.contains(group), "{group}: {text}");
    }
}

#[test]
fn the_engine_of_a_profile_is_asked() {
    let Some(world) = World::with_docker(SPECKIT) else { return };
    let (code, document) = world.doctor(&["docker"]);
    assert_eq!(code, 0, "{document:#}");
    let found = findings(&document, "docker")[0]["found"].as_str().expect("text").to_owned();
    assert!(found.contains("API 1.") && found.contains("docker.sock"), "{found}");
    let clocks =
        findings(&document, "docker").iter().filter(|one| one["what"] == "clock of docker");
    assert_eq!(clocks.count(), 1);
}

#[test]
fn an_engine_that_hangs_keeps_nobody_from_the_rest() {
    let world = World::new();
    let socket = world.path("hangs.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("bound");
    let host = format!("unix://{}", socket.display());
    let add = ["profile", "add", "far", "--driver", "docker", "--image", "x", "--host", &host];
    world.run(&add).expect_code(0);
    let (code, document) = world.doctor(&[]);
    assert_eq!((code, &document["ok"]), (1, &Value::Bool(false)));
    let docker = &findings(&document, "docker")[0];
    assert_eq!(docker["level"], "problem", "{docker}");
    assert!(docker["found"].as_str().expect("text").contains("hangs.sock"), "{docker}");
    assert_eq!(findings(&document, "system")[1]["level"], "ok");
    assert!(!findings(&document, "project").is_empty());
}

#[test]
fn a_profile_that_is_not_there_is_a_problem_with_a_way_out() {
    let world = World::new();
    let outcome = world.run(&["doctor", "lost"]).expect_code(1);
    assert!(outcome.stdout.contains("there is no profile `lost`"), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("$ skync init"), "{}", outcome.stdout);
}

#[test]
fn what_crashes_left_is_told_and_fix_takes_it_away() {
    if std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse").is_err() {
        eprintln!("skipped: /dev/fuse cannot be opened");
        return;
    }
    let world = World::new();
    world.write("a", "1");
    world.run(&["mount"]).expect_code(0);
    let both = [world.process(Kind::Keeper), world.process(Kind::Session)];
    both.iter().for_each(|pid| signal("KILL", &[*pid]));
    wait_until("the session is told to have died", || {
        let (code, document) = world.doctor(&[]);
        assert_eq!(code, 0, "what is left over is a warning: {document:#}");
        let is_dead = |one: &Value| one["what"] == "sessions" && one["level"] == "warning";
        findings(&document, "left-over").iter().any(is_dead)
    });
    let outcome = world.run(&["doctor", "--fix"]).expect_code(0);
    assert!(outcome.stdout.contains("\nRepaired\n"), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("removed what session "), "{}", outcome.stdout);
    let (_, document) = world.doctor(&[]);
    let sessions = findings(&document, "left-over").iter().find(|one| one["what"] == "sessions");
    assert_eq!(sessions.expect("a finding")["found"], "none");
    world.wait_until_nothing_is_left();
}

#[test]
fn fix_closes_what_is_ours_and_open() {
    let world = World::new();
    world.run(&["profile", "add", "dev", "--driver", "directory"]).expect_code(0);
    let open = |name: &str, mode| {
        let path = world.path(name);
        std::fs::create_dir_all(&path).expect("made");
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("set");
    };
    open("r/skync", 0o755);
    open("c/skync", 0o755);
    let (code, document) = world.doctor(&[]);
    assert_eq!(code, 1, "{document:#}");
    let runtime = &findings(&document, "runtime-directory")[0];
    assert_eq!((&runtime["level"], &runtime["fixable"]), (&"problem".into(), &true.into()));
    let (code, document) = world.doctor(&["--fix"]);
    assert_eq!(code, 0, "{document:#}");
    assert!(
        document["fixed"].as_array().is_some_and(|all| all.iter().all(|one| one["ok"] == true))
    );
    for name in ["r/skync", "c/skync"] {
        let mode = std::fs::metadata(world.path(name)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{name}");
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test's own files")]
fn a_bundle_has_no_secret_and_is_never_written_over() {
    let world = World::new();
    world.write("a", "1");
    let add = ["profile", "add", "dev", "--driver", "directory"];
    world.run(&[&add[..], &["--env", "PLAIN=canary-of-profile"]].concat()).expect_code(0);
    world.exec(&["true"]).expect_code(0);
    let log = world.path("s/skync/session.log");
    let home = world.path("home").display().to_string();
    let line =
        format!("{home}/x canary-of-profile e2b_canary0123 canary-of-shell by canary-user\n");
    let mut text = std::fs::read_to_string(&log).unwrap_or_default();
    text += &line;
    std::fs::write(&log, text).expect("written");
    let file = world.path("report.tgz");
    let name = file.display().to_string();
    let bundle = || {
        let mut command = world.skync(["doctor", "--bundle", &name]);
        command.env("MY_TOKEN", "canary-of-shell").env("USER", "canary-user");
        Outcome::of(command.output().expect("skync runs"))
    };
    let outcome = bundle().expect_code(0);
    assert!(outcome.stdout.contains("look at it before you send it"), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("session.log"), "{}", outcome.stdout);
    let mode = std::fs::metadata(&file).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let unpacked = Command::new("tar").arg("-xzOf").arg(&file).output().expect("tar runs");
    assert!(unpacked.status.success());
    let text = String::from_utf8_lossy(&unpacked.stdout);
    assert!(text.contains("~/x *** *** *** by USER"), "{text}");
    assert!(!text.contains("canary") && !text.contains(&home), "{text}");
    let outcome = bundle().expect_code(2);
    assert!(outcome.stderr.contains("is not written over"), "{}", outcome.stderr);
}

#[test]
fn an_ordinary_user_is_told_what_a_mount_needs() {
    let has = |program: &str| Path::new("/usr/bin").join(program).exists();
    let mode = std::fs::metadata("/dev/fuse").map_or(0o666, |found| found.permissions().mode());
    if !rustix::process::geteuid().is_root() || !has("setpriv") || mode & 0o006 != 0 {
        eprintln!("skipped: needs root, setpriv and a device that is closed to others");
        return;
    }
    let world = World::new();
    let nobody = rustix::fs::Uid::from_raw(65534);
    for name in ["", "c", "s", "r", "home", "project"] {
        rustix::fs::chown(world.path(name), Some(nobody), None).expect("given");
    }
    let skync = world.path("skync");
    std::fs::copy(env!("CARGO_BIN_EXE_skync"), &skync).expect("copied");
    let of_world = world.skync::<&str>([]);
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&skync);
    command.args(["--json", "doctor"]).current_dir(world.project());
    command.envs(of_world.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let outcome = Outcome::of(command.output().expect("setpriv runs")).expect_code(0);
    let document: Value = serde_json::from_str(&outcome.stdout).expect("a document");
    let fuse = &findings(&document, "fuse")[0];
    assert_eq!(fuse["level"], "warning", "{fuse}");
    assert_eq!(fuse["remedy"][0], "sudo chmod 0666 /dev/fuse");
    if docker_is_there() {
        let docker = &findings(&document, "docker")[0];
        assert_eq!(docker["level"], "skipped", "no profile needs it: {docker}");
    }
}
