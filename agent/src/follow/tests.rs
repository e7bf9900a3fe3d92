//! A follower's tree beside a fresh scan of the same disk.
#![expect(clippy::disallowed_methods, reason = "the tests are the user whose files are followed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::disk::Root;
use crate::entry::File;
use crate::rules::{RuleSet, Rules};
use crate::transition::{Chunk, Piece, Transition};

struct Project {
    root: PathBuf,
    base: tempfile::TempDir,
    follower: Follower,
    reader: Reader,
    runtime: tokio::runtime::Runtime,
}

fn endpoint(root: &Path, staging: &Path) -> Endpoint {
    let rules = RuleSet::new(
        vec!["*.o".into(), "target/ beside Cargo.toml".into()],
        Vec::new(),
        Vec::new(),
        Vec::new(),
        Vec::new(),
    );
    let (compiled, _) = Rules::compile(&rules);
    let root = Root::open(root).expect("a root");
    Endpoint::open(root, staging, compiled, rules.version, None).expect("an endpoint")
}

impl Project {
    fn new() -> Self {
        let base = tempfile::tempdir().expect("a directory");
        let root = base.path().join("root");
        fs::create_dir(&root).expect("made");
        let endpoint = endpoint(&root, &base.path().join("staging"));
        let follower = Follower::start(Arc::new(endpoint)).expect("a follower");
        let reader = follower.reader(1);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Self { root, base, follower, reader, runtime: runtime.expect("a runtime") }
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.root.join(path), text).expect("written");
    }

    fn flush(&self) -> Taken {
        self.runtime.block_on(self.follower.flush(false));
        self.reader.take().expect("the only reader")
    }

    /// Waits for a state in which `is_so`, without a flush.
    fn wait(&self, is_so: impl Fn(&Entry) -> bool) -> Entry {
        let mut seq = self.follower.seq();
        self.runtime.block_on(async {
            let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
            loop {
                let taken = self.reader.take().expect("the only reader");
                let tree = taken.tree.expect("a tree");
                if is_so(&tree) {
                    return tree;
                }
                let changed = tokio::time::timeout_at(deadline, seq.wait_for(|at| *at > taken.seq));
                changed.await.expect("it changes in time").expect("the follower runs");
            }
        })
    }

    /// What a scan by somebody else finds.
    fn scanned(&self) -> Entry {
        let staging = self.base.path().join("other");
        let snapshot = endpoint(&self.root, &staging).snapshot(None, &false.into());
        snapshot.expect("a scan").root.expect("a tree")
    }
}

fn path(text: &str) -> SyncPath {
    SyncPath::parse(text.as_bytes()).expect("a path")
}

fn content(tree: &Entry, at: &str) -> Option<Digest> {
    tree.find(&path(at)).and_then(Entry::as_file).map(|file| file.digest)
}

fn new_file(at: &str, text: &str, expected: Option<Entry>) -> [Step; 2] {
    let digest = Digest::of(text.as_bytes());
    let data = bytes::Bytes::copy_from_slice(text.as_bytes());
    let file = File { digest, size: text.len() as u64, mode: 0o644, mtime_ns: 0 };
    let new = Some(Entry::File(file));
    [
        Step::Chunk(Chunk { digest, offset: 0, piece: Piece::Data(data), last: true }),
        Step::Transition(Transition { path: path(at), expected, new }),
    ]
}

#[test]
fn changes_are_told_as_they_happen() {
    let project = Project::new();
    fs::create_dir_all(project.root.join("a/b/c")).expect("made");
    project.write("a/b/c/deep", "1");
    project.wait(|tree| content(tree, "a/b/c/deep") == Some(Digest::of(b"1")));
    project.write("a/b/c/deep", "2");
    project.wait(|tree| content(tree, "a/b/c/deep") == Some(Digest::of(b"2")));
    fs::rename(project.root.join("a/b"), project.root.join("moved")).expect("moved");
    let tree = project.wait(|tree| tree.find(&path("moved/c/deep")).is_some());
    assert!(tree.find(&path("a/b")).is_none());
    project.write("moved/c/deep", "3");
    project.wait(|tree| content(tree, "moved/c/deep") == Some(Digest::of(b"3")));
    fs::remove_dir_all(project.root.join("moved")).expect("removed");
    project.wait(|tree| tree.find(&path("moved")).is_none());
}

#[test]
fn a_flush_shows_all_that_was_done_before() {
    let project = Project::new();
    let seed = 0x5eed_u64;
    println!("seed {seed:#x}");
    let mut random = Random(seed);
    for round in 0..150 {
        for _ in 0..=random.below(12) {
            random.change(&project.root);
        }
        let taken = project.flush();
        assert_eq!(taken.tree, Some(project.scanned()), "round {round}");
    }
}

#[test]
fn what_steps_change_is_in_the_tree_when_it_is_reported() {
    let project = Project::new();
    let directory = Entry::Directory(crate::entry::Directory { mode: 0o755, ..Default::default() });
    let made = Transition { path: path("d"), expected: None, new: Some(directory) };
    let steps: Vec<Step> = std::iter::once(Step::Transition(made))
        .chain((0..50).flat_map(|n| new_file(&format!("d/{n:02}"), &n.to_string(), None)))
        .collect();
    let mut reported = 0;
    project.follower.apply(Some(9), steps.into_iter(), &mut |outcome| {
        assert_eq!(outcome.status, Status::Applied);
        reported += 1;
    });
    let taken = project.reader.take().expect("the only reader");
    assert_eq!((reported, taken.outcomes.len()), (51, 51));
    assert!(taken.outcomes.iter().all(|(call, _)| *call == 9));
    let tree = taken.tree.expect("a tree");
    assert_eq!(tree, project.scanned());
    // Its own events tell nothing new, and the new directory is watched.
    assert_eq!(project.flush().changed, []);
    project.write("d/07", "by somebody else");
    project.wait(|tree| content(tree, "d/07") == Some(Digest::of(b"by somebody else")));
}

#[test]
fn what_somebody_else_does_right_after_a_step_is_not_taken_for_its_echo() {
    let project = Project::new();
    for round in 0..100 {
        let name = format!("f{round}");
        let steps = new_file(&name, "step", None).into_iter();
        let other = project.root.join("other.o");
        fs::write(&other, "else").expect("written");
        project.follower.apply(None, steps, &mut |_| {});
        fs::rename(&other, project.root.join(&name)).expect("renamed over");
        let tree = project.flush().tree.expect("a tree");
        assert_eq!(content(&tree, &name), Some(Digest::of(b"else")), "round {round}");
    }
}

#[test]
fn a_stale_step_has_its_path_told_again() {
    let project = Project::new();
    project.write("f", "mine");
    project.flush();
    let gone = new_file("f", "theirs", None);
    let mut status = None;
    project.follower.apply(None, gone.into_iter(), &mut |outcome| status = Some(outcome.status));
    assert_eq!(status, Some(Status::Stale));
    let taken = project.flush();
    assert_eq!(taken.changed, [path("f")], "though it is what the tree says");
}

#[test]
fn excluded_content_costs_nothing_but_keeps_its_directory() {
    let project = Project::new();
    fs::create_dir(project.root.join("d")).expect("made");
    project.write("d/f", "1");
    project.write("d/x.o", "excluded");
    project.flush();
    project.write("d/x.o", "again");
    assert_eq!(project.flush().changed, []);
    fs::remove_file(project.root.join("d/f")).expect("removed");
    project.flush();
    let taken = project.flush();
    assert_eq!(taken.tree, Some(project.scanned()));
    let directory = taken.tree.as_ref().and_then(|tree| tree.find(&path("d")));
    assert!(directory.and_then(Entry::as_directory).is_some_and(|d| d.only_excluded));
}

#[test]
fn a_manifest_beside_it_excludes_a_directory_that_was_there() {
    let project = Project::new();
    fs::create_dir(project.root.join("target")).expect("made");
    project.write("target/out", "1");
    assert!(project.flush().tree.is_some_and(|tree| tree.find(&path("target/out")).is_some()));
    project.write("Cargo.toml", "");
    assert!(project.flush().tree.is_some_and(|tree| tree.find(&path("target")).is_none()));
    fs::remove_file(project.root.join("Cargo.toml")).expect("removed");
    assert!(project.flush().tree.is_some_and(|tree| tree.find(&path("target/out")).is_some()));
}

#[test]
fn a_root_that_is_gone_is_said_and_the_tree_stays() {
    let project = Project::new();
    project.write("f", "1");
    project.flush();
    fs::rename(&project.root, project.base.path().join("elsewhere")).expect("moved");
    let taken = project.flush();
    assert!(taken.lost.is_some());
    assert!(taken.tree.is_some_and(|tree| tree.find(&path("f")).is_some()));
    fs::rename(project.base.path().join("elsewhere"), &project.root).expect("moved back");
    assert_eq!(project.flush().lost, None, "it is looked for");
}

/// Random changes to a few names, so that they meet often.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn place(&mut self, root: &Path) -> PathBuf {
        let names = ["a", "b", "c", "x.o", "target", "Cargo.toml"];
        let depth = 1 + self.below(3);
        (0..depth).fold(root.to_owned(), |path, _| path.join(names[self.below(6) as usize]))
    }

    /// What fails (no parent, a directory in the way) is no change.
    fn change(&mut self, root: &Path) {
        let (place, other) = (self.place(root), self.place(root));
        let text = self.below(4).to_string();
        match self.below(8) {
            0 | 1 => drop(fs::write(&place, text)),
            2 => drop(fs::create_dir_all(&place)),
            3 => drop(fs::remove_file(&place)),
            4 => drop(fs::remove_dir_all(&place)),
            5 => drop(fs::rename(&place, &other)),
            6 => drop(std::os::unix::fs::symlink(text, &place)),
            _ => {
                let temporary = root.join("tmp.o");
                drop(fs::write(&temporary, text).and_then(|()| fs::rename(&temporary, &place)));
            }
        }
    }
}
