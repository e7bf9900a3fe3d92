//! Keys: where they are stored and found, what a keychain that does not open means, and that they
//! stand nowhere else.

mod canary;
mod places;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::client::Client;
use crate::support::keychain::Keychain;
use crate::support::processes::signal;
use crate::support::terminal::{CTRL_C, Terminal};
use crate::support::{Outcome, World, wait_until, with_input};

/// A key that looks like nothing.
const KEY: &str = "canary-5e1f0c77-b7c2-4d1e-9a44-0f3be1d2c9aa";

/// A world of E2B whose key nobody knows yet.
fn world() -> Option<World> {
    let mut world = World::with_e2b()?;
    world.set("E2B_API_KEY", "");
    world.e2b().set_key(KEY);
    Some(world)
}

fn log_in(world: &World, flags: &[&str], key: &str) -> Outcome {
    let mut command = world.skync([&["auth", "login", "--with-token"], flags].concat());
    Outcome::of(with_input(&mut command, format!("{key}\n").as_bytes()))
}

/// What `auth status` says of the profile `cloud`, and its exit code.
fn status(world: &World, code: i32) -> Value {
    let outcome = world.run(&["--json", "auth", "status", "cloud"]).expect_code(code);
    let document: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    assert!(!outcome.stdout.contains(KEY), "{document}");
    document["keys"][0].clone()
}

#[test]
fn in_an_open_keychain_a_key_is_stored_used_and_removed() {
    let Some(mut world) = world() else { return };
    let Some(keychain) = Keychain::open(&mut world) else { return };
    assert_eq!(status(&world, 4)["source"], Value::Null);
    let outcome = log_in(&world, &["cloud"], "e2b_of_somebody_else").expect_code(4);
    assert!(outcome.stderr.contains("the key was not stored"), "{outcome:?}");
    assert_eq!(status(&world, 4)["source"], Value::Null);

    log_in(&world, &["e2b"], KEY).expect_code(0);
    let row = status(&world, 0);
    assert_eq!((row["source"].as_str(), row["accepted"].as_bool()), (Some("keychain"), Some(true)));
    world.exec(&["sh", "-c", "echo 1 > a"]).expect_code(0);
    assert_eq!(world.read("a"), "1\n");
    // That of the profile wins over that of the driver, and a variable over both.
    log_in(&world, &["cloud", "--offline"], "another-key").expect_code(0);
    assert_eq!(status(&world, 4)["accepted"], false);
    world.set("SKYNC_E2B_TOKEN", KEY);
    assert_eq!(status(&world, 0)["source"], "environment");
    world.set("SKYNC_E2B_TOKEN", "");
    let outcome = world.run(&["auth", "logout", "cloud"]).expect_code(0);
    assert!(outcome.stderr.contains("still has a key"), "{outcome:?}");
    assert_eq!(status(&world, 0)["accepted"], true);

    world.run(&["auth", "logout", "--all"]).expect_code(0);
    assert_eq!(status(&world, 4)["source"], Value::Null);
    let outcome = world.run(&["up", "-d"]).expect_code(4);
    assert!(outcome.stderr.contains("skync auth login e2b"), "{outcome:?}");
    drop(keychain);
    world.expect_nothing_left();
}

#[test]
fn a_key_that_is_typed_is_not_shown_and_after_ctrl_c_none_is_stored() {
    let Some(mut world) = world() else { return };
    let Some(keychain) = Keychain::open(&mut world) else { return };
    let asked = || {
        let terminal = world.terminal(&["auth", "login", "e2b"]);
        terminal.expect_written("it is not shown");
        terminal.until("keys are not echoed", || terminal.is_raw());
        terminal
    };
    let cut_short = |cut: &dyn Fn(&Terminal)| {
        let terminal = asked();
        terminal.keys(&KEY[..20]);
        cut(&terminal);
        terminal.expect_end(130);
        assert!(!terminal.written().contains(&KEY[..6]), "{}", terminal.screen());
        assert_eq!(status(&world, 4)["source"], Value::Null);
    };
    cut_short(&|terminal| terminal.keys(CTRL_C));
    cut_short(&|terminal| signal("TERM", &[terminal.pid()]));

    let terminal = asked();
    terminal.keys(&format!("{KEY}\r"));
    terminal.expect_end(0);
    assert!(!terminal.written().contains(&KEY[..6]), "{}", terminal.screen());
    drop(terminal);
    assert_eq!(status(&world, 0)["source"], "keychain");
    drop(keychain);
    world.expect_nothing_left();
}

#[test]
fn a_login_whose_input_never_ends_ends_at_ctrl_c() {
    let Some(world) = world() else { return };
    let mut command = world.skync(["auth", "login", "e2b", "--with-token", "--insecure-storage"]);
    let mut client = Client::start(&mut command);
    client.say(b"a-part-of-a-key");
    let threads = format!("/proc/{}/task", client.child.id());
    let reads = |thread: std::fs::DirEntry| {
        std::fs::read_to_string(thread.path().join("comm")).is_ok_and(|name| name == "key\n")
    };
    wait_until("it reads", || {
        std::fs::read_dir(&threads).is_ok_and(|mut all| all.any(|one| one.is_ok_and(reads)))
    });
    client.signal(Signal::INT);
    client.expect_code(130);
    assert_eq!(status(&world, 4)["source"], Value::Null);
}

#[test]
fn a_new_login_counts_in_a_session_that_runs() {
    let Some(mut world) = world() else { return };
    let Some(keychain) = Keychain::open(&mut world) else { return };
    log_in(&world, &["e2b"], KEY).expect_code(0);
    world.run(&["up", "-d"]).expect_code(0);
    world.e2b().set_key("a-newer-key-of-e2b");
    log_in(&world, &["e2b"], "a-newer-key-of-e2b").expect_code(0);
    // Its removal needs the control plane.
    world.run(&["down"]).expect_code(0);
    drop(keychain);
    world.expect_nothing_left();
}

#[test]
fn a_locked_keychain_is_an_error_and_nothing_else_is_taken() {
    let Some(mut world) = world() else { return };
    let Some(keychain) = Keychain::open(&mut world) else { return };
    // Some keychains show nothing while they are locked: that there is no key is not known.
    keychain.lock();
    log_in(&world, &["e2b", "--insecure-storage"], KEY).expect_code(0);
    let row = status(&world, 4);
    assert!(row["problem"].as_str().is_some_and(|why| why.contains("locked")), "{row}");
    // What is in plain text goes, also if others can read it by now.
    let file = world.path("s/skync/credentials.toml");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).expect("set");
    world.run(&["auth", "logout", "--all"]).expect_code(4);
    assert!(!file.exists());
    drop(keychain);

    let Some(keychain) = Keychain::open(&mut world) else { return };
    log_in(&world, &["e2b"], KEY).expect_code(0);
    tool_login(&world);
    keychain.lock();
    let row = status(&world, 4);
    assert_eq!(row["source"], Value::Null, "{row}");
    assert!(row["problem"].as_str().is_some_and(|why| why.contains("locked")), "{row}");
    let outcome = world.run(&["up", "-d"]).expect_code(4);
    assert!(outcome.stderr.contains("the keychain is locked"), "{outcome:?}");
    assert!(outcome.stderr.contains("SKYNC_E2B_TOKEN"), "{outcome:?}");
    log_in(&world, &["e2b"], KEY).expect_code(4);
    world.run(&["auth", "logout", "e2b"]).expect_code(4);
    assert!(!world.path("s/skync/credentials.toml").exists(), "nothing in plain text");
    world.set("SKYNC_E2B_TOKEN", KEY);
    assert_eq!(status(&world, 0)["accepted"], true);
    drop(keychain);
    world.expect_nothing_left();
}

#[test]
fn a_keychain_that_does_not_answer_is_an_error_within_its_time() {
    let Some(mut world) = world() else { return };
    let Some(keychain) = Keychain::open(&mut world) else { return };
    tool_login(&world);
    assert_eq!(status(&world, 0)["source"], "provider_login");
    signal("STOP", &[keychain.pid()]);
    let row = status(&world, 4);
    let why = row["problem"].as_str().unwrap_or_default();
    assert!(why.contains("did not answer within 3 s"), "{row}");
    let outcome = world.run(&["up", "-d"]).expect_code(4);
    assert!(outcome.stderr.contains("did not answer within 3 s"), "{outcome:?}");
    world.run(&["profile", "add", "other", "--driver", "e2b", "--credential-command", "echo", KEY]);
    let row = world.run(&["--json", "auth", "status", "other"]).expect_code(0);
    assert!(row.stdout.contains(r#""source":"credential_command""#), "{row:?}");
    signal("CONT", &[keychain.pid()]);
    assert_eq!(status(&world, 0)["source"], "provider_login");
}

#[test]
fn without_a_keychain_the_order_goes_on_and_a_login_says_how() {
    let Some(world) = world() else { return };
    assert_eq!(status(&world, 4)["source"], Value::Null);
    let outcome = log_in(&world, &["e2b"], KEY).expect_code(4);
    assert!(outcome.stderr.contains("this machine has no keychain"), "{outcome:?}");
    assert!(outcome.stderr.contains("--insecure-storage"), "{outcome:?}");
    tool_login(&world);
    assert_eq!(status(&world, 0)["source"], "provider_login");
}

#[test]
fn nobody_on_the_bus_is_no_keychain() {
    let Some(mut world) = world() else { return };
    let Some(_bus) = Keychain::bus(&mut world) else { return };
    tool_login(&world);
    assert_eq!(status(&world, 0)["source"], "provider_login");
    let outcome = log_in(&world, &["e2b"], KEY).expect_code(4);
    assert!(outcome.stderr.contains("this machine has no keychain"), "{outcome:?}");
}

#[test]
fn a_bus_that_hangs_up_may_have_a_keychain() {
    let Some(mut world) = world() else { return };
    let socket = world.path("broken");
    let listener = UnixListener::bind(&socket).expect("a socket");
    std::thread::spawn(move || listener.incoming().for_each(drop));
    world.set("DBUS_SESSION_BUS_ADDRESS", &format!("unix:path={}", socket.display()));
    tool_login(&world);
    let row = status(&world, 4);
    let why = row["problem"].as_str().unwrap_or_default();
    assert!(why.contains("the keychain does not work"), "{row}");
    world.set("DBUS_SESSION_BUS_ADDRESS", "unix:path=/no/such/socket");
    assert_eq!(status(&world, 0)["source"], "provider_login");
}

/// As if somebody had logged in with E2B's own tool.
fn tool_login(world: &World) {
    let content = format!(r#"{{"projectApiKey":"{KEY}"}}"#);
    crate::support::put(&world.path("home"), ".e2b/config.json", content);
}
