//! What a project's file says counts when the user has let it, as it was then.

use super::{remove, show, user};
use crate::support::World;

/// A project that wants what it may not have unasked.
fn wanting() -> World {
    let world = World::new();
    let profile = "profile = \"dev\"\n[profiles.dev]\ndriver = \"docker\"\nimage = \"a\"\n";
    world.write("skync.toml", format!("{profile}network = \"host\"\nguarded = []\n"));
    world
}

#[test]
fn what_could_hurt_is_refused_until_it_is_trusted() {
    let world = wanting();
    let refused = world.run(&["config", "show"]).expect_code(3).stderr;
    for part in [
        "project/skync.toml` is not trusted",
        "skync.toml:5:",
        "skync.toml:6:",
        "`network` counts only when it is trusted: it could let the sandbox reach this machine",
        "`guarded` counts only when it is trusted",
        "hint: `skync trust` shows all that it says, and lets it count",
    ] {
        assert!(refused.contains(part), "no `{part}` in {refused}");
    }
    world.run(&["up", "-d"]).expect_code(3);
    world.exec(&["true"]).expect_code(125);
    for arguments in [&["profile", "validate"][..], &["profile", "validate", "--all", "--offline"]]
    {
        let outcome = world.run(arguments).expect_code(3);
        assert!(outcome.stderr.contains("`network` counts only when"), "{}", outcome.stderr);
    }
    // Nobody is asked who is not there, and a look changes nothing.
    world.run(&["trust"]).expect_code(2);
    let shown = world.run(&["trust", "--show"]).expect_code(0).stdout;
    assert!(shown.contains("   5 | network = \"host\""), "{shown}");
    world.run(&["config", "show"]).expect_code(3);

    world.run(&["trust", "--yes"]).expect_code(0);
    assert_eq!(show(&world, &[], &[])["profile"], "dev");
    let listed = world.run(&["trust", "--list"]).expect_code(0).stdout;
    assert!(listed.contains("project (skync.toml)"), "{listed}");
    world.run(&["trust", "--revoke"]).expect_code(0);
    world.run(&["config", "show"]).expect_code(3);
}

#[test]
fn a_command_for_keys_is_not_run_for_a_project_however_it_is_said() {
    let world = World::new();
    let ran = world.path("ran");
    let command = format!("credential_command = [\"touch\", \"{}\"]\n", ran.display());
    let base = format!("[profiles.b]\ndriver = \"e2b\"\n{command}");
    world.write("skync.toml", format!("{base}[profiles.w]\nextends = \"b\"\ndriver = \"e2b\"\n"));
    for is_trusted in [false, true] {
        for arguments in [
            &["auth", "status", "--offline"][..],
            &["auth", "status", "--offline", "w"],
            &["profile", "validate", "--all"],
            &["--profile", "w", "exec", "true"],
        ] {
            world.run(arguments);
            assert!(!ran.exists(), "{arguments:?}, trusted: {is_trusted}");
        }
        let shown = world.run(&["trust", "--yes"]).expect_code(0).stdout;
        assert!(shown.contains("\"touch\""), "what is trusted is to be seen: {shown}");
    }
}

#[test]
fn an_edit_of_a_trusted_file_waits_for_another_yes() {
    let world = wanting();
    world.run(&["trust", "--yes"]).expect_code(0);
    let text = world.read("skync.toml");
    // Also one that is free: what went could have been a limit.
    world.write("skync.toml", "");
    let refused = world.run(&["config", "show"]).expect_code(3).stderr;
    assert!(refused.contains("skync.toml` has changed since it was trusted"), "{refused}");
    remove(world.project().join("skync.toml"));
    let refused = world.run(&["config", "show"]).expect_code(3).stderr;
    assert!(refused.contains("was trusted and is not there any more"), "{refused}");
    assert!(refused.contains("`skync trust --revoke` does without it"), "{refused}");
    let path = world.run(&["config", "path"]).expect_code(0).stdout;
    assert!(path.contains("skync.toml (missing)"), "{path}");
    world.write("skync.toml", text);
    world.run(&["config", "show"]).expect_code(0);
    remove(world.project().join("skync.toml"));
    world.run(&["trust", "--revoke"]).expect_code(0);
    world.run(&["config", "show"]).expect_code(0);
}

#[test]
fn trust_is_in_one_project_and_one_content() {
    let world = wanting();
    world.run(&["trust", "--yes"]).expect_code(0);
    let other = world.path("other");
    std::fs::create_dir(&other).expect("made");
    std::fs::copy(world.project().join("skync.toml"), other.join("skync.toml")).expect("copied");
    super::run_in(&world, &other, &["config", "show"]).expect_code(3);
    // The second file is looked at by itself.
    world.write("skync.local.toml", "[profiles.dev]\nuser = \"root\"\n");
    let refused = world.run(&["config", "show"]).expect_code(3).stderr;
    assert!(refused.contains("skync.local.toml` is not trusted"), "{refused}");
    assert!(refused.contains("skync.local.toml:2:"), "{refused}");
    assert!(!refused.contains("`network`"), "{refused}");
}

#[test]
fn no_trust_runs_a_command_of_the_project_on_the_host() {
    let world = World::new();
    let made = world.path("made");
    let command = format!("[\"touch\", \"{}\"]", made.display());
    let text = format!("[profiles.c]\ndriver = \"e2b\"\ncredential_command = {command}\n");
    world.write("skync.toml", format!("profile = \"c\"\n{text}"));
    for _ in 0..2 {
        let refused = world.run(&["config", "show"]).expect_code(3).stderr;
        assert!(
            refused.contains("`credential_command` cannot be in a file of the project"),
            "{refused}"
        );
        world.run(&["up", "-d"]).expect_code(3);
        world.run(&["trust", "--yes"]).expect_code(0);
    }
    assert!(!made.exists(), "a project ran a command");
}

#[test]
fn the_users_own_secrets_are_not_taken_by_a_project() {
    let world = World::new();
    user(
        &world,
        "profile = \"plain\"\n[profiles.plain]\ndriver = \"directory\"\n\
         [profiles.work]\ndriver = \"directory\"\nenv = { TOKEN = \"1\" }\n",
    );
    world.write("skync.toml", "profile = \"work\"\n");
    let refused = world.run(&["config", "show"]).expect_code(3).stderr;
    assert!(refused.contains("skync.toml:1:"), "{refused}");
    world.write("skync.toml", "profile = \"x\"\n[profiles.x]\nextends = \"work\"\n");
    let refused = world.run(&["config", "show"]).expect_code(3).stderr;
    assert!(refused.contains("`extends` counts only when it is trusted"), "{refused}");
    // The user's own word needs no trust in the project.
    world.write("skync.toml", "profile = \"work\"\n");
    world.run(&["--profile", "work", "config", "show"]).expect_code(0);
    world.run(&["use", "--here", "work"]).expect_code(0);
    world.run(&["config", "show"]).expect_code(0);
}

#[test]
fn what_the_user_writes_into_the_project_by_a_command_is_trusted() {
    let world = World::new();
    let add = |name: &str, more: &[&str]| {
        let verb = ["profile", "add", name, "--driver", "docker", "--image", "a", "--project"];
        world.run(&[&verb[..], more].concat())
    };
    add("one", &["--network", "none"]).expect_code(0);
    assert!(world.read("skync.toml").starts_with("profile = \"one\"\n"));
    assert!(!world.path("c/skync/config.toml").exists());
    assert_eq!(show(&world, &[], &[])["origin"], "project");
    add("one", &[]).expect_code(3);
    add("two", &["--user", "root"]).expect_code(0);
    world.run(&["--profile", "two", "config", "show"]).expect_code(0);
    add("three", &["--credential-command", "id"]).expect_code(2);
    // What somebody else wrote is not trusted by the way.
    let text = world.read("skync.toml");
    world.write("skync.toml", format!("{text}[profiles.x]\ndriver = \"local\"\n"));
    add("four", &[]).expect_code(0);
    world.run(&["config", "show"]).expect_code(3);
    let names: Vec<_> = std::fs::read_dir(world.project()).expect("listed").collect();
    assert_eq!(names.len(), 1, "{names:?}");
}
