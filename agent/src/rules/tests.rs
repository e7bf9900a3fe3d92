use std::collections::BTreeSet;
use std::fs::{DirBuilder, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use super::*;
use crate::disk::Root;

fn path(text: &str) -> SyncPath {
    SyncPath::parse(text.as_bytes()).expect("a path")
}

fn compiled(set: &RuleSet) -> Rules {
    let (rules, problems) = Rules::compile(set);
    assert_eq!(problems, []);
    rules
}

fn put(root: &Path, name: &str, content: &str) {
    let whole = root.join(name);
    DirBuilder::new().recursive(true).create(whole.parent().expect("a parent")).expect("made");
    File::create(whole).and_then(|mut f| f.write_all(content.as_bytes())).expect("written");
}

/// Judges a path in a tree where only the named files are.
fn excluded(rules: &Rules, there: &[&str], text: &str) -> bool {
    let is_directory = text.ends_with('/');
    let has = |directory: &SyncPath, name: &[u8]| {
        let name = Name::parse(name).expect("a name");
        there.iter().any(|t| path(t) == directory.join(&name))
    };
    rules.is_excluded(&path(text.trim_end_matches('/')), is_directory, has)
}

#[test]
fn defaults_leave_out_what_is_made_again_and_secrets() {
    let rules = compiled(&RuleSet::of_defaults());
    for out in [
        "node_modules/",
        "a/node_modules/x/y.js",
        "a/b.pyc",
        ".env",
        "a/.env.local",
        ".DS_Store",
        ".specify/extensions/.cache",
        "sub/.specify/extensions/.cache/x",
        ".skync-tmp-1",
        "a/.skync-tmp-1/b",
    ] {
        assert!(excluded(&rules, &[], out), "{out}");
    }
    for kept in [
        ".git/config",
        ".gitignore",
        ".skyncignore",
        ".env.example",
        ".env.sample",
        "a/.env.template",
        "node_modules",
        "target/",
        "build/",
        ".specify/extensions/x",
        "specs/a",
    ] {
        assert!(!excluded(&rules, &[], kept), "{kept}");
    }
}

#[test]
fn target_is_left_out_only_beside_a_manifest() {
    let rules = compiled(&RuleSet::of_defaults());
    assert!(excluded(&rules, &["Cargo.toml"], "target/debug/x"));
    assert!(excluded(&rules, &["a/pom.xml"], "a/target/"));
    assert!(!excluded(&rules, &["Cargo.toml"], "a/target/"));
    assert!(!excluded(&rules, &["Cargo.toml"], "target"));
    let set = RuleSet::of_defaults();
    let set = RuleSet::new(set.defaults, vec![], vec!["!target/".into()], vec![], vec![]);
    assert!(!excluded(&compiled(&set), &["Cargo.toml"], "target/x"), "the profile is stronger");
}

#[test]
fn stronger_rules_win_and_deeper_files_win() {
    let file = |directory: &str, text: &str| RuleFile {
        directory: path(directory),
        text: text.to_owned(),
    };
    let rules = compiled(&RuleSet::new(
        vec!["*.a".into(), "*.b".into()],
        vec![file("", "!*.a\n*.c"), file("d", "*.a")],
        vec!["*.d".into(), "!*.b".into()],
        vec![file("", "!*.d\n*.e"), file("d", "*.d\n/only")],
        vec!["!*.e".into(), "*.f".into()],
    ));
    for (text, is_out) in [
        ("x.a", false),
        ("d/x.a", true),
        ("x.b", false),
        ("x.c", true),
        ("x.d", false),
        ("d/x.d", true),
        ("d/only", true),
        ("d/d/only", false),
        ("only", false),
        ("x.e", false),
        ("x.f", true),
    ] {
        assert_eq!(excluded(&rules, &[], text), is_out, "{text}");
    }
}

#[test]
fn nothing_below_an_excluded_directory_or_of_our_own_comes_back() {
    let set = RuleSet::new(
        vec!["out/".into()],
        vec![],
        vec!["!out/keep".into()],
        vec![],
        vec!["!.skync-tmp-*".into()],
    );
    let rules = compiled(&set);
    assert!(excluded(&rules, &[], "out/keep"));
    assert!(excluded(&rules, &[], ".skync-tmp-2"));
}

#[test]
fn a_bad_pattern_is_told_of_and_the_others_hold() {
    let file = RuleFile { directory: path("src"), text: "\u{feff}*.x\na[\n[[:alpha:]]\n".into() };
    let set = RuleSet::new(vec![], vec![], vec!["b[".into()], vec![file], vec![]);
    let (rules, problems) = Rules::compile(&set);
    let told: Vec<_> = problems.iter().map(|p| (p.origin.as_str(), p.pattern.as_str())).collect();
    assert_eq!(
        told,
        [
            ("the profile", "b["),
            ("src/.skyncignore:2", "a["),
            ("src/.skyncignore:3", "[[:alpha:]]")
        ]
    );
    assert!(excluded(&rules, &[], "src/1.x"));
}

#[test]
fn every_field_counts_in_the_version() {
    let file = |directory: &str, text: &str| {
        vec![RuleFile { directory: path(directory), text: text.to_owned() }]
    };
    let one = |text: &str| vec![text.to_owned()];
    let sets = [
        RuleSet::new(vec![], vec![], vec![], vec![], vec![]),
        RuleSet::new(one("a"), vec![], vec![], vec![], vec![]),
        RuleSet::new(vec![], vec![], one("a"), vec![], vec![]),
        RuleSet::new(vec![], vec![], vec![], vec![], one("a")),
        RuleSet::new(vec![], file("", "a"), vec![], vec![], vec![]),
        RuleSet::new(vec![], vec![], vec![], file("", "a"), vec![]),
        RuleSet::new(vec![], vec![], vec![], file("a", ""), vec![]),
        RuleSet::new(vec![], vec![], vec!["a".into(), "b".into()], vec![], vec![]),
        RuleSet::new(vec![], vec![], vec!["ab".into()], vec![], vec![]),
    ];
    let versions: BTreeSet<_> = sets.iter().map(|set| set.version).collect();
    assert_eq!(versions.len(), sets.len());
    let again = RuleSet::new(one("a"), vec![], vec![], vec![], vec![]);
    assert_eq!(again.version, sets[1].version);
}

#[test]
fn collecting_reads_nested_files_but_none_below_what_is_excluded() {
    let outside = tempfile::tempdir().expect("a directory");
    put(outside.path(), ".skyncignore", "/skipped/\n");
    put(outside.path(), "a/b/.skyncignore", "*.x\n");
    put(outside.path(), "a/.gitignore", "gone/\n");
    put(outside.path(), "a/gone/.skyncignore", "lost");
    put(outside.path(), "skipped/.skyncignore", "lost");
    put(outside.path(), "node_modules/p/.skyncignore", "lost");
    put(outside.path(), "Cargo.toml", "");
    put(outside.path(), "target/.skyncignore", "lost");
    std::os::unix::fs::symlink("a/b", outside.path().join("link")).expect("a link");
    let root = Root::open(outside.path()).expect("a root");
    let set = RuleSet::collect(&root, &[], true, &[]).expect("collected");
    let of = |files: &[RuleFile]| -> Vec<String> {
        files.iter().map(|f| f.directory.to_string()).collect()
    };
    assert_eq!(of(&set.skyncignore), [".", "a/b"]);
    assert_eq!(of(&set.gitignore), ["a"]);
    let without = RuleSet::collect(&root, &[], false, &[]).expect("collected");
    assert_eq!(of(&without.skyncignore), [".", "a/b", "a/gone"]);
    assert_eq!(of(&without.gitignore), [] as [&str; 0]);
}

/// A small generator, so that a failure is repeated from its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

const NAMES: &[&str] =
    &["a", "b", "ab", "a.b", "x.log", "build", "da ta", "{a,b}", "#h", "!i", "A"];
const PIECES: &[&str] = &[
    "a", "b", "ab", "*", "*.log", "a*", "?", "[ab]", "[!a]", "[^b]", "build", "**", "da ta",
    "{a,b}", "\\#h", "\\!i", "a.b", "x.*", "*b", "\\a",
];

fn pattern(random: &mut Random) -> String {
    let mut text = String::new();
    if random.below(4) == 0 {
        text.push('!');
    }
    if random.below(4) == 0 {
        text.push('/');
    }
    let count = 1 + random.below(3);
    let parts: Vec<_> = (0..count).map(|_| random.pick(PIECES)).collect();
    text.push_str(&parts.join("/"));
    if random.below(4) == 0 {
        text.push('/');
    }
    text
}

/// What git says of the paths, asked all at once.
fn git_ignored(root: &Path, paths: &[String]) -> BTreeSet<String> {
    let mut git = Command::new("git")
        .args(["check-ignore", "--no-index", "-z", "--stdin"])
        .current_dir(root)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("git is installed");
    let mut stdin = git.stdin.take().expect("a pipe");
    let asked = paths.join("\0") + "\0";
    let feeder = std::thread::spawn(move || stdin.write_all(asked.as_bytes()));
    let output = git.wait_with_output().expect("git ends");
    feeder.join().expect("the feeder ends").expect("git read all");
    assert!(matches!(output.status.code(), Some(0 | 1)), "git failed");
    let said = String::from_utf8(output.stdout).expect("UTF-8");
    said.split('\0').filter(|p| !p.is_empty()).map(str::to_owned).collect()
}

#[test]
fn git_check_ignore_agrees_on_generated_patterns_and_paths() {
    for seed in 1..=60_u64 {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let outside = tempfile::tempdir().expect("a directory");
        let init = Command::new("git").args(["init", "-q"]).current_dir(outside.path()).status();
        assert!(init.expect("git is installed").success());
        let mut paths = BTreeSet::new();
        for _ in 0..60 {
            let names: Vec<_> = (0..=random.below(3)).map(|_| random.pick(NAMES)).collect();
            paths.insert(names.join("/"));
        }
        // A path is a directory if another is below it: leave those out that would be both.
        for text in &paths {
            let is_directory = paths.iter().any(|p| p.starts_with(&format!("{text}/")));
            let made = if is_directory { format!("{text}/.keep") } else { text.clone() };
            put(outside.path(), &made, "");
        }
        let mut rule_files = Vec::new();
        for directory in ["", "a", "b", "a/b"] {
            if !directory.is_empty() && !outside.path().join(directory).is_dir() {
                continue;
            }
            let lines: Vec<_> = (0..1 + random.below(5)).map(|_| pattern(&mut random)).collect();
            let text = lines.join("\n") + "\n";
            put(&outside.path().join(directory), ".gitignore", &text);
            rule_files.push(RuleFile { directory: path(directory), text });
        }
        let set = RuleSet::new(vec![], rule_files.clone(), vec![], vec![], vec![]);
        let rules = compiled(&set);
        let asked: Vec<String> = paths.into_iter().collect();
        let ignored = git_ignored(outside.path(), &asked);
        for text in &asked {
            let is_directory = outside.path().join(text).is_dir();
            let ours = rules.is_excluded(&path(text), is_directory, |_, _| false);
            assert_eq!(
                ours,
                ignored.contains(text),
                "seed {seed}: `{text}` (directory: {is_directory}) by {rule_files:#?}"
            );
        }
    }
}
