//! What is held back, what comes home around it, and what a yes or a no does.

use super::*;
use crate::config::SyncMode;
use crate::sync::decide::{Choice, Decision};
use crate::sync::plan::{Conflict, ConflictKind, Copy, flatten};
use crate::sync::reconcile::reconcile;
use crate::sync::trees::{dir, file, link, path, script, show};

fn guards() -> Guards {
    Guards::new(Path::new("/home/me/p"), None, false)
}

/// A plan of the sandbox's changes since both sides were `host`, with what was decided.
fn plan_with(host: &Entry, sandbox: &Entry, decisions: &Decisions) -> Plan {
    let mode = SyncMode::TwoWaySafe;
    let mut plan = reconcile(Some(host), Some(host), Some(sandbox), mode, decisions);
    take_out_guarded(&mut plan, &guards(), decisions);
    plan
}

fn plan(host: &Entry, sandbox: &Entry) -> Plan {
    plan_with(host, sandbox, &Decisions::none())
}

/// The same plan after the same answer to all that is held.
fn answered(host: &Entry, sandbox: &Entry, choice: Choice) -> Plan {
    let held = plan(host, sandbox).conflicts;
    let decide = |c: &Conflict| (c.path.clone(), Decision::about(c, choice).expect("possible"));
    plan_with(host, sandbox, &held.iter().map(decide).collect())
}

fn lines(plan: &Plan) -> Vec<String> {
    let shown = |side: &'static str, changes: &[Change]| {
        let show = move |c: &Change| {
            format!("{side}: {}: {} -> {}", c.path, show(c.old.as_ref()), show(c.new.as_ref()))
        };
        changes.iter().map(show).collect::<Vec<_>>()
    };
    let held = plan.conflicts.iter().map(|c| format!("held: {}", c.path));
    [shown("host", &plan.host), shown("sandbox", &plan.sandbox), held.collect()].concat()
}

#[test]
fn what_the_host_would_run_is_guarded_at_every_depth() {
    for guarded in [
        ".git/hooks/pre-commit",
        ".git/hooks/deep/er",
        ".git/config",
        ".git/config.worktree",
        ".git/commondir",
        "vendor/x/.git/hooks/post-checkout",
        "vendor/x/.git/config",
        ".git/modules/sub/hooks/update",
        ".git/modules/a/b/config",
        ".git/modules/refs/config",
        ".git/worktrees/w/commondir",
        ".envrc",
        "a/b/.envrc",
        ".vscode/tasks.json",
        "packages/x/.vscode/tasks.json",
        ".husky/pre-commit",
        "packages/x/.husky/_/husky.sh",
        // As a case-insensitive disk, and macOS, would read them.
        ".GIT/Config",
        ".Git/HOOKS/pre-commit",
        ".EnvRC",
        ".g\u{200c}it/config",
        "x/.git/ho\u{feff}oks/a",
    ] {
        assert!(guards().covers(&path(guarded), false), "{guarded}");
    }
    for free in [
        ".git/HEAD",
        ".git/index",
        ".git/refs/heads/config",
        ".git/refs/heads/hooks/x",
        ".git/logs/refs/heads/config",
        ".git/objects/ab/cdef",
        ".git/modules/sub/HEAD",
        ".git/worktrees/w/HEAD",
        "hooks/pre-commit",
        "config",
        "src/git/config",
        ".gitignore",
        ".github/workflows/ci.yml",
        ".vscode/settings.json",
        "envrc",
        ".envrc.example",
        "husky/x",
    ] {
        assert!(!guards().covers(&path(free), false), "{free}");
    }
}

#[test]
fn a_gitignore_file_is_guarded_where_it_says_what_is_left_out() {
    let guards = Guards::new(Path::new("/p"), None, true);
    for guarded in [".gitignore", "a/b/.gitignore", ".GitIgnore", ".envrc"] {
        assert!(guards.covers(&path(guarded), false), "{guarded}");
    }
    let own = Guards::new(Path::new("/p"), Some(&[".envrc".to_owned()]), true);
    assert!(!own.covers(&path(".gitignore"), false));
}

#[test]
fn a_git_directory_is_free_and_what_stands_in_for_one_is_not() {
    assert!(!guards().covers(&path("a/.git"), true));
    assert!(guards().covers(&path("a/.git"), false));
    assert!(!guards().covers(&path(".vscode"), true));
    assert!(guards().covers(&path(".vscode"), false));
}

#[test]
fn a_link_comes_home_if_it_cannot_lead_out() {
    let at = |path_of: &str, target: &str| guards().leaves_root(&path(path_of), target.as_bytes());
    for (link, target) in [
        ("l", "a"),
        ("l", "./a/./b//c/"),
        ("l", "nowhere/at/all"),
        ("l", "."),
        ("a/l", ".."),
        ("a/b/l", "../../c"),
        ("a/l", "../l"),
        ("l", "..a/b.."),
        ("l", "/home/me/p"),
        ("l", "/home/me/p/a//b/"),
    ] {
        assert!(!at(link, target), "{link} -> {target}");
    }
    for (link, target) in [
        ("l", ".."),
        ("l", "../p/a"),
        ("a/l", "../../x"),
        ("a/b/l", "./.././../.."),
        // `d` may be a link, and then `d/..` is not where it seems.
        ("x/y/l", "d/../e"),
        ("l", "a/.."),
        ("l", "/"),
        ("l", "/etc/passwd"),
        ("l", "/home/me/p2/a"),
        ("l", "/home/me"),
        ("l", "/home/me/p/../secret"),
    ] {
        assert!(at(link, target), "{link} -> {target}");
    }
}

fn repository(config: &str, hook: &str) -> Entry {
    dir([
        ("HEAD", file("ref")),
        ("config", file(config)),
        ("hooks", dir([("pre-commit", script(hook))])),
    ])
}

#[test]
fn a_new_repository_comes_home_without_its_configuration_and_hooks() {
    let (before, after) = (dir([]), dir([("r", dir([(".git", repository("c", "h"))]))]));
    let expected =
        ["host: r: nothing -> {.git: {HEAD: ref}}", "held: r/.git/config", "held: r/.git/hooks"];
    assert_eq!(lines(&plan(&before, &after)), expected);
    let yes = answered(&before, &after, Choice::Sandbox);
    assert_eq!(
        lines(&yes),
        ["host: r: nothing -> {.git: {HEAD: ref, config: c, hooks: {pre-commit: h*}}}"]
    );
    assert_eq!(yes.decided, [path("r/.git/config"), path("r/.git/hooks")]);
    let no = answered(&before, &after, Choice::Host);
    assert_eq!(
        lines(&no),
        [
            "host: r: nothing -> {.git: {HEAD: ref}}",
            "sandbox: r/.git/config: c -> nothing",
            "sandbox: r/.git/hooks: {pre-commit: h*} -> nothing",
        ]
    );
}

#[test]
fn changes_in_a_repository_that_is_there_are_held_one_by_one() {
    let tree = |config, hook| dir([(".git", repository(config, hook)), ("a", file(config))]);
    let (before, after) = (tree("1", "h"), tree("2", "x"));
    let expected = ["host: a: 1 -> 2", "held: .git/config", "held: .git/hooks/pre-commit"];
    assert_eq!(lines(&plan(&before, &after)), expected);
    let no = [
        "host: a: 1 -> 2",
        "sandbox: .git/config: 2 -> 1",
        "sandbox: .git/hooks/pre-commit: x* -> h*",
    ];
    assert_eq!(lines(&answered(&before, &after, Choice::Host)), no);
}

#[test]
fn a_hook_that_becomes_executable_is_held() {
    let hooks = |hook| dir([(".git", dir([("hooks", dir([("post-merge", hook)]))]))]);
    let held = plan(&hooks(file("1")), &hooks(script("1")));
    assert_eq!(lines(&held), ["held: .git/hooks/post-merge"]);
}

#[test]
fn a_yes_is_for_the_version_that_was_seen() {
    let tree = |content| dir([(".envrc", file(content))]);
    let held = plan(&tree("1"), &tree("2")).conflicts;
    let yes = Decision::about(&held[0], Choice::Sandbox).expect("possible");
    let mut decisions: Decisions = [(path(".envrc"), yes)].into_iter().collect();
    let later = plan_with(&tree("1"), &tree("3"), &decisions);
    assert_eq!(lines(&later), ["held: .envrc"]);
    assert_eq!(decisions.take_unused(&later.decided, |_| true), [path(".envrc")]);
}

#[test]
fn a_directory_that_is_deleted_leaves_what_is_guarded_in_it() {
    let before = dir([("r", dir([(".git", repository("c", "h")), ("a", file("1"))]))]);
    let after = dir([]);
    let whole = "{.git: {HEAD: ref, config: c, hooks: {pre-commit: h*}}, a: 1}";
    let rest = "{.git: {config: c, hooks: {pre-commit: h*}}}";
    let first = plan(&before, &after);
    let expected = [
        format!("host: r: {whole} -> {rest}"),
        "held: r/.git/config".to_owned(),
        "held: r/.git/hooks".to_owned(),
    ];
    assert_eq!(lines(&first), expected);
    let removed: Vec<_> = flatten(&first.host).iter().map(|step| step.path.to_string()).collect();
    assert_eq!(removed, ["r/.git/HEAD", "r/a"]);
    let yes = answered(&before, &after, Choice::Sandbox);
    assert_eq!(lines(&yes), [format!("host: r: {whole} -> nothing")]);
    let no = answered(&before, &after, Choice::Host);
    let expected =
        [format!("host: r: {whole} -> {rest}"), format!("sandbox: r: nothing -> {rest}")];
    assert_eq!(lines(&no), expected);
}

#[test]
fn a_directory_with_something_guarded_is_not_replaced_by_a_file() {
    let before = dir([("r", dir([(".envrc", file("1"))]))]);
    let after = dir([("r", file("2"))]);
    assert_eq!(lines(&plan(&before, &after)), ["held: r"]);
    let yes = answered(&before, &after, Choice::Sandbox);
    assert_eq!(lines(&yes), ["host: r: {.envrc: 1} -> 2"]);
    let no = answered(&before, &after, Choice::Host);
    assert_eq!(lines(&no), ["sandbox: r: 2 -> {.envrc: 1}"]);
}

#[test]
fn a_link_out_of_the_project_is_held_and_the_rest_comes_home() {
    let after = dir([("d", dir([("in", link("../a")), ("out", link("../../a"))]))]);
    let held = plan(&dir([]), &after);
    assert_eq!(lines(&held), ["host: d: nothing -> {in: @../a}", "held: d/out"]);
    assert_eq!(held.conflicts[0].kind, ConflictKind::LeavesRoot);
    let yes = answered(&dir([]), &after, Choice::Sandbox);
    assert_eq!(lines(&yes), ["host: d: nothing -> {in: @../a, out: @../../a}"]);
}

#[test]
fn a_yes_to_a_directory_is_none_to_a_link_in_it_that_leads_out() {
    let after = dir([(".husky", dir([("x", link("/etc")), ("y", file("1"))]))]);
    assert_eq!(lines(&plan(&dir([]), &after)), ["held: .husky"]);
    let yes = answered(&dir([]), &after, Choice::Sandbox);
    assert_eq!(lines(&yes), ["host: .husky: nothing -> {y: 1}", "held: .husky/x"]);
}

#[test]
fn the_hosts_own_changes_go_to_the_sandbox_unasked() {
    let before = dir([(".envrc", file("1")), ("l", link("/etc"))]);
    let after = dir([(".envrc", file("2")), ("l", link("/usr"))]);
    let mode = SyncMode::TwoWaySafe;
    let mut plan = reconcile(Some(&before), Some(&after), Some(&before), mode, &Decisions::none());
    let made = plan.clone();
    take_out_guarded(&mut plan, &guards(), &Decisions::none());
    assert_eq!(plan, made);
    assert_eq!(plan.sandbox.len(), 2);
}

#[test]
fn a_decision_about_a_conflict_at_a_guarded_path_is_the_yes_as_well() {
    let tree = |content| dir([(".envrc", file(content))]);
    let reconciled = |decisions: &Decisions| {
        let mut plan = reconcile(
            Some(&tree("0")),
            Some(&tree("h")),
            Some(&tree("s")),
            SyncMode::TwoWaySafe,
            decisions,
        );
        take_out_guarded(&mut plan, &guards(), decisions);
        plan
    };
    let open = reconciled(&Decisions::none()).conflicts;
    assert_eq!(open[0].kind, ConflictKind::BothChanged);
    let yes = Decision::about(&open[0], Choice::Sandbox).expect("possible");
    let plan = reconciled(&[(path(".envrc"), yes)].into_iter().collect());
    assert_eq!(lines(&plan), ["host: .envrc: h -> s"]);
    assert_eq!(plan.decided, [path(".envrc")]);
}

#[test]
fn a_version_that_is_guarded_beside_its_path_too_is_not_kept_there() {
    let sandbox = dir([("p", dir([(".envrc", file("1"))]))]);
    let (host, none) = (dir([("p", file("h"))]), Decisions::none());
    let both = |decisions: &Decisions| {
        reconcile(None, Some(&host), Some(&sandbox), SyncMode::TwoWaySafe, decisions)
    };
    let conflict = both(&none).conflicts.remove(0);
    let decision = Decision::about(&conflict, Choice::Both).expect("possible");
    let decisions = [(path("p"), decision)].into_iter().collect();
    let mut plan = both(&decisions);
    assert!(matches!(&plan.copies[..], [Copy { .. }]));
    take_out_guarded(&mut plan, &guards(), &decisions);
    assert_eq!((&plan.copies[..], &plan.decided[..]), (&[][..], &[][..]));
    assert_eq!(plan.conflicts, [conflict]);
}

#[test]
fn the_profiles_patterns_take_the_place_of_the_default() {
    let root = Path::new("/p");
    let guards = Guards::new(root, Some(&["Makefile".to_owned(), "scripts/".to_owned()]), true);
    assert!(guards.covers(&path("a/Makefile"), false));
    assert!(guards.covers(&path("scripts/x"), false));
    assert!(!guards.covers(&path(".envrc"), false));
    let nothing = Guards::new(root, Some(&[]), true);
    assert!(!nothing.covers(&path(".git/config"), false));
    // Links are no matter of patterns.
    assert!(nothing.leaves_root(&path("l"), b"/etc"));
}

#[test]
fn a_tree_as_deep_as_paths_can_be_needs_no_deeper_stack() {
    let deep = |leaf| (0..2000).fold(leaf, |below, _| dir([("d", below)]));
    let tree = || deep(dir([(".envrc", file("1")), ("a", file("2"))]));
    let (bottom, other) = (deep(dir([])), deep(dir([("a", file("3"))])));
    for (from, to) in [(dir([]), tree()), (tree(), dir([])), (bottom, tree()), (tree(), other)] {
        assert_eq!(plan(&from, &to).conflicts.len(), 1);
    }
}
