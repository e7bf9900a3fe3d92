//! What shells, terminals and `man` are given: completions, colours, the manual.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::sources::files;
use crate::support::{Outcome, World};

/// What a shell offers behind these words, the last of which is being written.
fn offered(world: &World, words: &[&str]) -> Vec<String> {
    let index = words.len().to_string();
    let mut command = world.skync([&["--", "skync"], words].concat());
    command.env("COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", index).env("_CLAP_IFS", "\n");
    let outcome = Outcome::of(command.output().expect("skync runs")).expect_code(0);
    assert_eq!(outcome.stderr, "", "an error in the shell's line");
    outcome.stdout.lines().map(str::to_owned).collect()
}

fn has(found: &[String], word: &str) -> bool {
    found.iter().any(|found| found == word)
}

#[test]
fn verbs_flags_profiles_drivers_and_paths_are_offered() {
    let world = World::new();
    world.run(&["profile", "add", "dev", "--driver", "directory"]).expect_code(0);
    world.write("src/a", "");
    let verbs = offered(&world, &["pro"]);
    assert_eq!(verbs, ["profile"]);
    assert!(has(&offered(&world, &[""]), "exec"));
    assert!(offered(&world, &["__"]).is_empty(), "what is ours is not offered");
    for words in [&["use", ""][..], &["--profile", ""], &["profile", "show", ""]] {
        let found = offered(&world, words);
        assert!(has(&found, "dev") && has(&found, "local"), "{words:?}: {found:?}");
    }
    assert_eq!(offered(&world, &["profile", "add", "x", "--driver", "do"]), ["docker"]);
    assert!(has(&offered(&world, &["up", "--root", "s"]), "src/"));
    assert!(has(&offered(&world, &["exec", "sr"]), "src/"));
    assert!(has(&offered(&world, &["exec", "ba"]), "bash"), "a program");
    assert!(has(&offered(&world, &["help", "ex"]), "exit-codes"));
    assert!(has(&offered(&world, &["completions", ""]), "zsh"));
}

#[test]
fn operations_are_offered_by_name_or_id_and_nothing_is_made_for_it() {
    let world = World::new();
    assert!(!has(&offered(&world, &["logs", ""]), "one"));
    assert!(!world.path("s/skync").exists(), "to ask is to read");
    world.run(&["exec", "--name", "one", "--", "true"]).expect_code(0);
    for verb in ["logs", "attach", "wait", "status"] {
        assert!(has(&offered(&world, &[verb, ""]), "one"), "{verb}");
    }
    assert!(!has(&offered(&world, &["cancel", ""]), "one"), "it has ended");
}

#[test]
fn a_shell_never_sees_an_error() {
    let world = World::new();
    world.write("../c/skync/config.toml", "profile = [[[\n");
    offered(&world, &["use", ""]);
    let outcome = world.skync(["--", "skync", "use", ""]).env("COMPLETE", "nosuch").output();
    let outcome = Outcome::of(outcome.expect("skync runs")).expect_code(0);
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("", ""));
}

#[test]
fn a_real_bash_completes_with_the_script() {
    let world = World::new();
    world.run(&["profile", "add", "dev", "--driver", "directory"]).expect_code(0);
    let directory = std::path::Path::new(env!("CARGO_BIN_EXE_skync")).parent().expect("above");
    let script = "eval \"$(skync completions bash)\"; complete -p skync; \
                  COMP_WORDS=(skync use de); COMP_CWORD=2; COMP_TYPE=9; \
                  _clap_complete_skync skync de use; printf 'offered: %s\\n' \"${COMPREPLY[@]}\"";
    let own = world.skync([""; 0]);
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", script]).current_dir(world.project());
    for (name, value) in own.get_envs() {
        match value {
            Some(value) => bash.env(name, value),
            None => bash.env_remove(name),
        };
    }
    let path = std::env::var("PATH").expect("a path");
    bash.env("PATH", format!("{}:{path}", directory.display()));
    let outcome = Outcome::of(bash.output().expect("bash runs")).expect_code(0);
    assert!(outcome.stdout.contains("-F _clap_complete_skync skync"), "{outcome:?}");
    assert!(outcome.stdout.ends_with("offered: dev\n"), "{outcome:?}");
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        let script = world.run(&["completions", shell]).expect_code(0).stdout;
        assert!(script.contains("COMPLETE") && script.contains("skync"), "{shell}: {script}");
    }
}

#[test]
fn the_manual_has_a_page_for_each_command_and_reads_well() {
    let world = World::new();
    let page = world.run(&["man"]).expect_code(0).stdout;
    for section in ["NAME", "SYNOPSIS", "EXAMPLES", "EXIT STATUS", "ENVIRONMENT", "FILES"] {
        let head = [format!(".SH {section}\n"), format!(".SH \"{section}\"\n")];
        assert!(head.iter().any(|head| page.contains(head)), "{section}: {page}");
    }
    let directory = world.path("man1");
    let argument = directory.to_str().expect("text");
    world.run(&["man", "--dir", argument]).expect_code(0);
    for name in ["skync.1", "skync-exec.1", "skync-profile-add.1"] {
        assert!(directory.join(name).is_file(), "{name}");
    }
    assert!(!directory.join("skync-__session.1").exists());
    if Command::new("groff").arg("--version").stdout(Stdio::null()).status().is_err() {
        eprintln!("not checked: groff is not installed");
        return;
    }
    for entry in std::fs::read_dir(&directory).expect("listed").flatten() {
        let mut groff = Command::new("groff")
            .args(["-K", "utf8", "-man", "-Tutf8", "-ww", "-z"])
            .arg(entry.path())
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("groff runs");
        groff.stdin.take().expect("piped").flush().expect("nothing");
        let outcome = Outcome::of(groff.wait_with_output().expect("it ends"));
        assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{:?}", entry.path());
    }
}

#[test]
fn every_variable_that_the_sources_read_is_in_the_manual() {
    let page = World::new().run(&["man"]).expect_code(0).stdout;
    let mut missing = Vec::new();
    for path in files(&["src"], "rs").into_iter().filter(|path| !path.ends_with("tests.rs")) {
        let text = std::fs::read_to_string(&path).expect("text");
        for part in text.split("\"SKYNC_").skip(1) {
            let name = part.split('"').next().unwrap_or_default();
            let is_name =
                !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
            if is_name && !page.contains(&format!("SKYNC_{name}")) {
                missing.push(format!("{}: SKYNC_{name}", path.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn help_has_colours_where_they_are_wanted_and_only_there() {
    let world = World::new();
    let help = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = world.skync(arguments);
        command.env_remove("NO_COLOR").env_remove("FORCE_COLOR").env_remove("CLICOLOR_FORCE");
        command.envs(variables.iter().copied());
        let outcome = Outcome::of(command.output().expect("skync runs"));
        format!("{}{}", outcome.stdout, outcome.stderr).contains('\u{1b}')
    };
    assert!(!help(&["--help"], &[]));
    assert!(help(&["--help"], &[("FORCE_COLOR", "1")]));
    assert!(help(&["--help"], &[("CLICOLOR_FORCE", "1")]));
    assert!(help(&["--color", "always", "--help"], &[("NO_COLOR", "1")]));
    assert!(!help(&["--help"], &[("NO_COLOR", "1"), ("FORCE_COLOR", "1")]));
    assert!(help(&["--color=always", "nosuch"], &[]));
    assert!(!help(&["nosuch"], &[("NO_COLOR", "1"), ("FORCE_COLOR", "1")]));
    let coloured = |variables: &[(&str, &str)]| {
        let mut command = world.skync(["exec", "--help"]);
        command.envs(variables.iter().copied());
        let terminal = crate::support::terminal::Terminal::start(&command, 60, 100);
        assert_eq!(terminal.ended(), 0);
        terminal.written().contains("\u{1b}[1m")
    };
    assert!(coloured(&[]));
    assert!(!coloured(&[("NO_COLOR", "1")]));
    assert!(!coloured(&[("TERM", "dumb")]));
}

#[test]
fn a_bar_is_for_terminals_and_no_color_does_not_hide_it() {
    let bar = |variables: &[(&str, &str)], arguments: &[&str]| {
        let world = World::new();
        let mut command = world.skync([arguments, &["exec", "true"]].concat());
        command.env_remove("CI").envs(variables.iter().copied());
        let terminal = crate::support::terminal::Terminal::start(&command, 24, 80);
        assert_eq!(terminal.ended(), 0);
        let written = terminal.written();
        // The line is taken away when it has done; a plain one stays.
        (
            written.contains("\u{1b}[2K"),
            written.contains("making a sandbox"),
            written.contains("\u{1b}[1"),
        )
    };
    assert!(bar(&[], &[]).0);
    let (is_live, _, is_coloured) = bar(&[("NO_COLOR", "1")], &[]);
    assert!(is_live && !is_coloured);
    for variable in [("TERM", "dumb"), ("CI", "true")] {
        let (is_live, is_told, _) = bar(&[variable], &[]);
        assert!(!is_live && is_told, "{variable:?}");
    }
    assert!(!bar(&[], &["-v"]).0, "verbose");
    let (is_live, is_told, _) = bar(&[], &["-q"]);
    assert!(!is_live && !is_told, "quiet");
}

#[test]
fn who_wants_quiet_hears_less_and_who_wants_more_hears_more() {
    let said = |arguments: &[&str]| {
        let world = World::new();
        world.write("a", "b");
        let outcome = world.run(&[arguments, &["exec", "echo", "out"]].concat()).expect_code(0);
        assert_eq!(outcome.stdout, "out\n");
        outcome.stderr
    };
    assert_eq!(said(&["-q"]), "");
    assert_eq!(said(&["-qq"]), "");
    assert!(said(&["-v"]).contains("synced: "));
    let world = World::new();
    let failed = world.run(&["-qq", "logs", "nosuch"]).expect_code(5);
    assert!(failed.stderr.starts_with("error: "), "{}", failed.stderr);
}
