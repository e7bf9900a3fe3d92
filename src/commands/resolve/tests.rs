#![expect(clippy::disallowed_methods, reason = "tests write files of their own")]

use skync_agent::entry::{Digest, File};

use super::*;
use crate::project::Project;
use crate::sync::plan::{ConflictKind, Side};

fn path(text: &str) -> SyncPath {
    SyncPath::parse(text.as_bytes()).expect("a path")
}

fn file(content: &str) -> Option<Entry> {
    let (digest, size) = (Digest::of(content.as_bytes()), content.len() as u64);
    Some(Entry::File(File { digest, size, mode: 0o644, mtime_ns: 1 }))
}

fn conflict(at: &str, kind: ConflictKind) -> Conflict {
    let (host, sandbox) = (file("host\n"), file("sandbox\n"));
    Conflict { path: path(at), host, sandbox, ancestor: None, contents: None, kind }
}

fn conflicts() -> Vec<Conflict> {
    vec![
        conflict(".envrc", ConflictKind::Guarded),
        conflict("d/a", ConflictKind::BothChanged),
        conflict("d/b", ConflictKind::Blocked(Side::Host)),
        conflict("e", ConflictKind::BothChanged),
    ]
}

fn chosen(args: &ResolveArgs) -> Result<Decided, CliError> {
    let home = tempfile::tempdir().expect("a directory");
    let project = Project { root: "/p".into(), inside: "".into() };
    let context = Context::below(home.path());
    choose(args, &context, &Record { project }, &conflicts(), &|_| None)
}

fn taken(args: &ResolveArgs) -> Vec<(String, Choice)> {
    let decided = chosen(args).expect("possible").taken;
    decided.into_iter().map(|(path, decision)| (path.to_string(), decision.choice)).collect()
}

fn named(paths: &[&str]) -> ResolveArgs {
    ResolveArgs { paths: paths.iter().map(Into::into).collect(), ..ResolveArgs::default() }
}

#[test]
fn one_several_or_all_are_decided_at_once() {
    let one = ResolveArgs { host: true, ..named(&["e"]) };
    assert_eq!(taken(&one), [("e".to_owned(), Choice::Host)]);
    let below = ResolveArgs { host: true, ..named(&["d"]) };
    assert_eq!(taken(&below).len(), 2);
    let all = ResolveArgs { all: true, host: true, ..ResolveArgs::default() };
    assert_eq!(taken(&all).len(), 4);
}

#[test]
fn what_cannot_be_decided_does_not_keep_the_others_from_it() {
    let all = ResolveArgs { all: true, both: true, ..ResolveArgs::default() };
    let decided = chosen(&all).expect("possible");
    let paths: Vec<_> = decided.taken.iter().map(|(path, _)| path.to_string()).collect();
    assert_eq!(paths, ["d/a", "d/b", "e"]);
    assert_eq!(decided.refused, ["`.envrc` is held back: it can be taken or discarded"]);
    let blocked = ResolveArgs { sandbox: true, ..named(&["d"]) };
    assert_eq!(chosen(&blocked).expect("possible").refused.len(), 1);
}

#[test]
fn a_path_that_is_not_in_conflict_is_an_error_with_the_nearest() {
    let error = chosen(&ResolveArgs { host: true, ..named(&["e", "f/a"]) }).expect_err("none");
    assert_eq!(error.code, ExitCode::NotFound);
    assert_eq!(error.message, "`f/a` is not in conflict");
    assert_eq!(error.hints[0], "did you mean `d/a`?");
}

#[test]
fn nobody_is_asked_without_a_terminal_and_nothing_is_guessed() {
    let error = chosen(&named(&["e"])).expect_err("nobody to ask");
    assert_eq!(error.code, ExitCode::Usage);
    assert!(error.hints[0].contains("`--host`, `--sandbox` or `--both`"), "{:?}", error.hints);
    let error = chosen(&ResolveArgs { host: true, ..ResolveArgs::default() }).expect_err("none");
    assert_eq!(error.message, "no conflict is named");
}

#[test]
fn a_difference_needs_both_contents() {
    let place = tempfile::tempdir().expect("a directory");
    std::fs::write(place.path().join("e"), "host\n").expect("written");
    let conflict = conflict("e", ConflictKind::BothChanged);
    let difference = |fetch: Fetch<'_>| difference_of(&conflict, place.path(), fetch);
    let both = difference(&|_| Some(b"sandbox\n".to_vec()));
    assert!(both.ends_with("@@ -1 +1 @@\n-host\n+sandbox\n"), "{both}");
    assert!(difference(&|_| None).contains("only while a session runs"));
    std::fs::remove_file(place.path().join("e")).expect("removed");
    let gone = difference(&|_| Some(b"sandbox\n".to_vec()));
    assert_eq!(gone, "the host's version cannot be read\n");
    let new = Conflict { host: None, ..conflict.clone() };
    let diff = difference_of(&new, place.path(), &|_| Some(b"sandbox\n".to_vec()));
    assert!(diff.ends_with("+sandbox\n"), "{diff}");
}
