//! What is excluded stays untouched on both sides, and nothing else does.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use skync_agent::disk::Root;
use skync_agent::rules::RuleSet;

use crate::support::World;
use crate::support::random::Random;
use crate::support::tree::{Tree, agreed, assert_same, untouched};

fn files(root: &Path) -> BTreeSet<String> {
    let is_file = |what: &String| what.starts_with("file") || what.starts_with("link");
    agreed(root).into_iter().filter(|(_, what)| is_file(what)).map(|(name, _)| name).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

/// Writes the files and says which are in the sandbox then.
fn synced(world: &World, names: &[&str]) -> BTreeSet<String> {
    for name in names {
        world.write(name, "x");
    }
    let held = world.hold();
    let there = files(held.sandbox());
    held.release();
    there
}

#[test]
fn what_tools_make_again_and_secrets_stay_here_and_git_goes_along() {
    const IN: [&str; 9] = [
        ".env.example",
        ".git/HEAD",
        ".git/config",
        ".git/hooks/pre-commit",
        ".specify/feature.json",
        "build/out",
        "docs/target/kept",
        "rust/Cargo.toml",
        "src/app.env",
    ];
    const OUT: [&str; 10] = [
        ".env",
        ".env.local",
        ".venv/bin/python",
        "a/__pycache__/x.pyc",
        "a/b/node_modules/x/index.js",
        "module.pyc",
        "node_modules/x/index.js",
        "rust/target/debug/app",
        ".specify/extensions/.cache/x",
        "web/.next/x",
    ];
    let world = World::new();
    assert_eq!(synced(&world, &[&IN[..], &OUT[..]].concat()), set(&IN));
}

#[test]
fn target_is_excluded_once_a_cargo_toml_is_beside_it_and_nothing_is_deleted() {
    let world = World::new();
    world.write("target/x", "x");
    let held = world.hold();
    assert_eq!(files(held.sandbox()), set(&["target/x"]));
    // The command makes it a Rust project: what was synchronised is left alone on both sides.
    world
        .exec(&["sh", "-c", "touch Cargo.toml; echo changed > target/x; echo y > target/y"])
        .expect_code(0);
    assert_eq!(files(world.project()), set(&["Cargo.toml", "target/x"]));
    assert_eq!(world.read("target/x"), "x");
    assert_eq!(files(held.sandbox()), set(&["Cargo.toml", "target/x", "target/y"]));
    held.release();
}

#[test]
fn patterns_of_the_profile_the_project_and_the_command_line_come_in_this_order() {
    let world = World::new();
    let add = ["profile", "add", "p", "--driver", "directory"];
    let exclude = ["--exclude", "*.log", "--exclude", "dist/", "--exclude", "!.env.local"];
    world.run(&[&add[..], &exclude[..]].concat()).expect_code(0);
    world.write(".skyncignore", "!keep.log\n/only-root\n*.tmp\n# a comment\n\\#hash\n");
    world.write("sub/.skyncignore", "!deep.log\n!x.tmp\nonly-here\n");
    let names = [
        "a.log",
        "keep.log",
        "dist/x",
        ".env",
        ".env.local",
        "only-root",
        "x.tmp",
        "#hash",
        "sub/only-root",
        "sub/deep.log",
        "sub/other.log",
        "sub/x.tmp",
        "sub/only-here",
        "sub/below/only-here",
        "sub/below/x.tmp",
        "last/x",
    ];
    for name in names {
        world.write(name, "x");
    }
    let held = world.hold_with(&["--exclude", "last/", "--exclude", "/keep.log"]);
    let there = [
        ".env.local",
        ".skyncignore",
        "sub/.skyncignore",
        "sub/below/x.tmp",
        "sub/deep.log",
        "sub/only-root",
        "sub/x.tmp",
    ];
    assert_eq!(files(held.sandbox()), set(&there));
    held.release();
}

#[test]
fn what_is_excluded_is_not_touched_on_either_side() {
    let world = World::new();
    world.write(".skyncignore", "private/\n");
    for name in ["private/host", "d/private/host", "d/tracked", "e/tracked"] {
        world.write(name, "of the host");
    }
    let held = world.hold();
    let theirs = held.sandbox().join("private");
    std::fs::create_dir(&theirs).expect("made");
    std::fs::File::create(theirs.join("sandbox")).expect("made");
    let before = (untouched(&world.project().join("private")), untouched(&theirs));
    world.exec(&["sh", "-c", "cat private/sandbox && ! cat private/host"]).expect_code(0);
    assert_same(&before.0, &untouched(&world.project().join("private")));
    assert_same(&before.1, &untouched(&theirs));
    held.release();
    assert_same(&before.0, &untouched(&world.project().join("private")));
}

#[test]
fn deleting_a_directory_keeps_what_is_excluded_in_it_and_says_so_once() {
    let world = World::new();
    for name in ["d/tracked", "d/e/tracked", "d/e/node_modules/x", "f/tracked", "stays"] {
        world.write(name, "x");
    }
    let held = world.hold();
    let outcome = world.exec(&["rm", "-r", "d", "f"]).expect_code(0);
    assert_eq!(files(world.project()), set(&["d/e/node_modules/x", "stays"]));
    assert!(!world.project().join("f").exists());
    let line = "note: d was deleted in the sandbox and stays on the host, with what is excluded";
    assert_eq!(outcome.stderr.matches(line).count(), 1, "{}", outcome.stderr);
    assert_eq!(outcome.stderr.matches("note: ").count(), 1, "{}", outcome.stderr);
    let again = held.sync();
    assert_eq!(again.stderr.matches("note: ").count(), 0, "{}", again.stderr);
    assert!(!held.sandbox().join("d").exists(), "it came back");
    // The same the other way.
    std::fs::create_dir_all(held.sandbox().join("g/node_modules")).expect("made");
    std::fs::File::create(held.sandbox().join("g/node_modules/x")).expect("made");
    world.write("g/tracked", "x");
    held.sync();
    remove_tree(&world.project().join("g"));
    held.sync();
    assert!(held.sandbox().join("g/node_modules/x").exists());
    assert!(!held.sandbox().join("g/tracked").exists());
    assert!(!world.project().join("g").exists(), "it came back");
    held.release();
}

#[expect(clippy::disallowed_methods, reason = "a test's own files")]
fn remove_tree(path: &Path) {
    std::fs::remove_dir_all(path).expect("removed");
}

#[test]
fn excluding_something_in_a_live_session_deletes_nothing() {
    let world = World::new();
    for name in ["data/x", "data/deep/y", "sub/data/z", "kept"] {
        world.write(name, "first");
    }
    let held = world.hold();
    let host = agreed(world.project());
    let sandbox = agreed(held.sandbox());
    let run = |arguments: &[&str], script: &str| {
        world.run(&[&["exec"], arguments, &["--", "sh", "-c", script]].concat()).expect_code(0)
    };
    let unchanged = |with: &str| {
        let without_rules = |mut tree: Tree| {
            tree.retain(|name, _| name != ".skyncignore");
            tree
        };
        eprintln!("after {with}");
        assert_same(&host, &without_rules(agreed(world.project())));
        assert_same(&sandbox, &without_rules(agreed(held.sandbox())));
    };
    run(&["--exclude", "data/"], "true");
    unchanged("--exclude data/");
    run(&["--exclude", "*"], "true");
    unchanged("--exclude of everything");
    run(&[], "true");
    unchanged("nothing excluded any more");
    world.write(".skyncignore", "data/\n");
    run(&[], "true");
    unchanged("a new .skyncignore");
    // While it is excluded each side is on its own; afterwards a deletion is not remembered as one.
    run(&[], "rm -r data; echo second > sub/data/z");
    assert_eq!(world.read("data/x"), "first");
    assert_eq!(world.read("sub/data/z"), "first");
    world.write(".skyncignore", "sub/\n");
    run(&[], "cat data/x data/deep/y");
    assert_eq!(world.read("data/x"), "first");
    held.release();
}

/// Writes a tree of files and `.gitignore`s from few names, so that patterns meet files.
fn generate(root: &Path, random: &mut Random) -> Vec<String> {
    const NAMES: [&str; 6] = ["a", "b", "c", "a.x", "b.x", "ab"];
    const PATTERNS: [&str; 22] = [
        "a", "b/", "/a", "/b/", "*.x", "!a.x", "!b", "a/b", "/a/b", "a/*", "!a/b", "**/c", "a/**",
        "a/**/b", "[ab]", "?b", "\\!a", "# a", "b ", "c/**/", "!c/", "*",
    ];
    let mut directories = vec![String::new()];
    let mut paths = Vec::new();
    for _ in 0..12 {
        let above = directories[random.below(directories.len())].clone();
        let path = format!("{above}{}", random.of(&NAMES));
        if std::fs::create_dir(root.join(&path)).is_ok() {
            directories.push(format!("{path}/"));
        }
    }
    for _ in 0..40 {
        let above = &directories[random.below(directories.len())];
        let path = format!("{above}{}", random.of(&NAMES));
        if std::fs::File::create_new(root.join(&path)).is_ok() {
            paths.push(path);
        }
    }
    for directory in &directories {
        if directory.is_empty() || random.once_in(3) {
            let path = format!("{directory}.gitignore");
            let mut file = std::fs::File::create_new(root.join(&path)).expect("made");
            for _ in 0..1 + random.below(4) {
                writeln!(file, "{}", random.of(&PATTERNS)).expect("written");
            }
            paths.push(path);
        }
    }
    paths.sort();
    paths
}

fn git(root: &Path) -> Command {
    let mut git = Command::new("git");
    git.current_dir(root)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env_remove("GIT_DIR");
    git
}

/// The paths that git itself does not ignore.
fn not_ignored_by_git(root: &Path, paths: &[String]) -> BTreeSet<String> {
    let mut child = git(root)
        .args(["check-ignore", "--no-index", "-z", "--stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("git runs");
    let mut input = child.stdin.take().expect("a pipe");
    let listed = paths.join("\0");
    let writer = std::thread::spawn(move || input.write_all(listed.as_bytes()).expect("written"));
    let output = child.wait_with_output().expect("git ends");
    writer.join().expect("written");
    assert!(output.status.code().is_some_and(|code| code < 2), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    let ignored: BTreeSet<&str> = text.split('\0').collect();
    paths.iter().filter(|path| !ignored.contains(path.as_str())).cloned().collect()
}

#[test]
fn gitignore_files_mean_what_they_mean_to_git() {
    let mut ignored = 0;
    for seed in 0..60 {
        let base = tempfile::tempdir().expect("a directory");
        let project = base.path().join("project");
        std::fs::create_dir(&project).expect("made");
        assert!(git(&project).args(["init", "-q"]).status().expect("git runs").success());
        let paths = generate(&project, &mut Random::new(seed));
        let ours = scanned(&project, &base.path().join("staging"));
        let theirs = not_ignored_by_git(&project, &paths);
        ignored += paths.len() - theirs.len();
        assert_eq!(ours, theirs, "seed {seed}, in {:?}", base.keep());
    }
    assert!(ignored > 100, "the patterns met {ignored} files only");
}

/// The files below `root`, but for git's own, that a synchronisation with `gitignore` would see.
fn scanned(root: &Path, staging: &Path) -> BTreeSet<String> {
    use skync_agent::endpoint::Endpoint;
    use skync_agent::entry::Entry;
    let opened = Root::open(root).expect("a root");
    let rules = RuleSet::collect(&opened, &[], true, &[]).expect("rules");
    let (compiled, _) = skync_agent::rules::Rules::compile(&rules);
    let endpoint =
        Endpoint::open(opened, staging, compiled, rules.version, None).expect("an endpoint");
    let tree = endpoint.snapshot(None, &false.into()).expect("a scan").root.expect("a tree");
    let mut found = BTreeSet::new();
    let mut waiting = vec![(String::new(), &tree)];
    while let Some((path, entry)) = waiting.pop() {
        match entry {
            Entry::Directory(directory) => {
                for (name, child) in &directory.children {
                    let separator = if path.is_empty() { "" } else { "/" };
                    let path = format!("{path}{separator}{name}");
                    if path != ".git" {
                        waiting.push((path, child));
                    }
                }
            }
            Entry::File(_) => drop(found.insert(path)),
            other => panic!("{path}: {other:?}"),
        }
    }
    found
}

#[test]
fn a_profile_may_ask_for_gitignore_and_without_it_ignored_files_are_synchronised() {
    let world = World::new();
    world.run(&["profile", "add", "g", "--driver", "directory", "--gitignore"]).expect_code(0);
    world.write(".gitignore", "*.o\nout/\n!keep.o\n");
    world.write("sub/.gitignore", "!x.o\n/local\n");
    let names = ["a.o", "keep.o", "out/x", "sub/x.o", "sub/local", "sub/deep/local", "main.c"];
    let there = [".gitignore", "keep.o", "main.c", "sub/.gitignore", "sub/deep/local", "sub/x.o"];
    assert_eq!(synced(&world, &names), set(&there));
    // A command's ignored files stay in the sandbox.
    world.exec(&["sh", "-c", "touch new.o new.c"]).expect_code(0);
    assert!(world.project().join("new.c").exists() && !world.project().join("new.o").exists());
    world.run(&["profile", "add", "plain", "--driver", "directory"]).expect_code(0);
    world.run(&["use", "plain"]).expect_code(0);
    world.exec(&["sh", "-c", "cat a.o out/x sub/local && touch new.o"]).expect_code(0);
    assert!(world.project().join("new.o").exists());
}
