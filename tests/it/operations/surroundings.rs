//! The directory and the variables that a command finds.

use super::*;

#[test]
fn the_command_starts_in_the_same_place_of_the_project() {
    for world in worlds() {
        let below = world.project().join("a b/ü");
        std::fs::create_dir_all(&below).expect("made");
        let root = world.project().to_str().expect("text").to_owned();
        let root = root.as_str();
        let kept = Kept::start(&world);
        let place = |current: &std::path::Path, settings: &[&str]| {
            let all = [&["-q", "exec"], settings, &["sh", "-c", "pwd"]].concat();
            let output = world.skync(all).current_dir(current).output().expect("skync runs");
            assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
            text(&output.stdout).trim_end().to_owned()
        };
        let check = |current, settings: &[&str], expected: &str| {
            let found = place(current, settings);
            // On the driver `directory` the project is below a directory of the sandbox's own.
            assert!(found.ends_with(&format!("/project{expected}")), "{settings:?}: {found}");
        };
        check(world.project(), &[], "");
        check(world.project(), &["-w", "a b/ü"], "/a b/ü");
        check(world.project(), &["--workdir", below.to_str().expect("text")], "/a b/ü");
        check(&below, &["--root", root], "/a b/ü");
        check(&below, &["--root", root, "-w", ".."], "/a b");
        assert_eq!(place(world.project(), &["-w", "/usr"]), "/usr");
        drop(kept);
        let (found, in_container) = (place(&below, &[]), world.run(&["profile", "show"]));
        if in_container.stdout.contains("docker") {
            // Without a repository the current directory is the project, at the path it has here.
            assert_eq!(found, below.to_string_lossy());
        }
        let missing = ["exec", "-w", "not/there", "true"];
        let Outcome { stderr, .. } = world.run(&missing).expect_code(125);
        assert!(stderr.contains("not/there` is not there in the sandbox"), "{stderr}");
    }
}

/// The environment of a command in the sandbox.
fn environment(world: &World, settings: &[&str]) -> std::collections::BTreeMap<String, String> {
    let mut command = world.skync([&["-q", "exec"], settings, &["env", "-0"]].concat());
    let path = std::env::var("PATH").expect("a path");
    command
        .env("PATH", format!("{path}:/only/on/the/host"))
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("GH_TOKEN", "gh")
        .env("LANG", "C")
        .env("LC_ALL", "POSIX")
        .env("SPECIFY_X", "a b")
        .env("SPECKIT_Y", "")
        .env("TERM", "xterm-test");
    let output = command.output().expect("skync runs");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let all = text(&output.stdout);
    let all = all.split_terminator('\0').map(|one| one.split_once('=').expect("a variable"));
    all.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn of_the_hosts_environment_only_what_is_allowed_and_asked_for_goes_along() {
    if !docker_is_there() {
        return;
    }
    let world = World::new();
    let add = ["profile", "add", "docker", "--driver", "docker", "--image", SPECKIT];
    let settings = ["--network", "none", "--env", "FROM=profile", "--env", "WHO=profile=x"];
    world.run(&[&add[..], &settings].concat()).expect_code(0);
    let asked = ["-e", "K=V", "-e", "GH_TOKEN", "-e", "ABSENT", "-e", "A=b=c=", "-e", "FROM=line"];
    let found = environment(&world, &asked);
    let value = |name: &str| found.get(name).map(String::as_str);
    for (name, expected) in [
        ("K", Some("V")),
        ("GH_TOKEN", Some("gh")),
        ("ABSENT", None),
        ("A", Some("b=c=")),
        ("FROM", Some("line")),
        ("WHO", Some("profile=x")),
        ("AWS_SECRET_ACCESS_KEY", None),
        ("XDG_STATE_HOME", None),
        ("SPECIFY_X", Some("a b")),
        ("SPECKIT_Y", Some("")),
        ("TERM", Some("xterm-test")),
        ("LANG", Some("C.UTF-8")),
        ("LC_ALL", None),
        ("SKYNC", Some("1")),
    ] {
        assert_eq!(value(name), expected, "{name}: {found:#?}");
    }
    assert!(!value("PATH").expect("the image's").contains("/only/on/the/host"));
    assert_ne!(value("HOME"), world.path("home").to_str());
    // It is a locale that python can print in.
    let print = ["-q", "exec", "python3", "-c", "print('\\u2603 \\xe4')"];
    assert_eq!(world.run(&print).expect_code(0).stdout, "☃ ä\n");
}

#[test]
fn without_being_asked_no_secret_goes_along() {
    let world = World::new();
    let found = environment(&world, &[]);
    for name in ["AWS_SECRET_ACCESS_KEY", "GH_TOKEN", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"] {
        assert_eq!(found.get(name), None, "{name}");
    }
    assert_eq!(found.get("LANG").map(String::as_str), Some("C.UTF-8"));
}

#[test]
fn git_knows_the_hosts_user_and_trusts_the_project() {
    let Some(world) = World::with_docker(SPECKIT) else { return };
    let config = "[user]\n\tname = Ada \"Ä\" Löwe\n\temail = ada@example.org\n";
    #[expect(clippy::disallowed_methods, reason = "a test's own files")]
    std::fs::write(world.path("home").join(".gitconfig"), config).expect("written");
    let script = "git config user.name; git config user.email; git config safe.directory; \
                  git init -q . && chown -R 54321 . && git status --porcelain && echo trusted";
    let mut command = shell(&world, script);
    let output = command.env_remove("GIT_CONFIG_GLOBAL").output().expect("skync runs");
    let said = text(&output.stdout);
    // The quotes are git's, and gone once it has read them.
    assert_eq!(said, "Ada Ä Löwe\nada@example.org\n*\ntrusted\n", "{}", text(&output.stderr));
}

// --- in place ---
