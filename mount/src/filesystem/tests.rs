//! The filesystem over a directory, without a kernel.

#![expect(clippy::disallowed_methods, reason = "what is written here is a test's")]

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::*;
use crate::nodes::ROOT;
use crate::source::{Change, FileKind, SetAttributes};
use crate::testing::{DirectorySource, Request};

struct World {
    filesystem: Arc<Filesystem<DirectorySource>>,
    source: DirectorySource,
    outbox: Arc<Outbox>,
    directory: TempDir,
}

async fn world(fill: impl FnOnce(&Path)) -> World {
    world_of(fill, LISTED_COUNT_MAX).await
}

async fn world_of(fill: impl FnOnce(&Path), listed_count_max: usize) -> World {
    let directory = TempDir::new().unwrap();
    fill(directory.path());
    let source = DirectorySource::new(directory.path()).unwrap();
    let policy = Policy {
        writable: true,
        owners: Owners::Mine,
        me: (1000, 1000),
        raw_symlinks: false,
        source_root: directory.path().to_owned(),
        listed_count_max,
    };
    let outbox = Arc::new(Outbox::default());
    let runtime = tokio::runtime::Handle::current();
    let filesystem =
        Filesystem::new(Arc::new(source.clone()), policy, Arc::clone(&outbox), runtime)
            .await
            .unwrap();
    source.forget_counts();
    World { filesystem, source, outbox, directory }
}

impl World {
    async fn find(&self, parent: NodeId, name: &str) -> Answer<Shown> {
        match self.filesystem.lookup(parent, OsStr::new(name)).await? {
            Found::Node(shown) => Ok(shown),
            Found::Absent(_) => Err(SourceError::NotFound),
        }
    }

    async fn names(&self, id: NodeId) -> Answer<Vec<String>> {
        let handle = self.filesystem.opendir(id).await?;
        let mut names = Vec::new();
        // A few at a time, as a kernel with a small buffer.
        let mut offset = 0;
        loop {
            let mut room = 3;
            let (before, from) = (names.len(), offset);
            let take = |row: &Row| {
                room -= 1;
                if room >= 0 {
                    names.push(row.name.to_string_lossy().into_owned());
                    offset = row.offset;
                }
                room >= 0
            };
            self.filesystem.readdir(handle, from, true, take).await?;
            if names.len() == before {
                break;
            }
        }
        self.filesystem.releasedir(handle);
        Ok(names)
    }
}

fn tree(directories: usize, files: usize) -> impl Fn(&Path) {
    move |root| {
        for directory in 0..directories {
            let path = root.join(format!("d{directory:03}"));
            std::fs::create_dir(&path).unwrap();
            for file in 0..files {
                std::fs::File::create(path.join(format!("f{file:03}"))).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn who_needs_the_same_directory_waits_for_one_listing() {
    let world = world(tree(2, 3)).await;
    let (a, b, c) = tokio::join!(
        world.find(ROOT, "d000"),
        world.find(ROOT, "d001"),
        world.find(ROOT, "nothing"),
    );
    assert!(a.is_ok() && b.is_ok());
    assert_eq!(c.unwrap_err(), SourceError::NotFound);
    assert_eq!(world.source.count(Request::List), 1);
    assert_eq!(world.source.round_trips(), 1);
}

#[tokio::test]
async fn a_directory_is_read_in_pieces() {
    let world = world(tree(10, 0)).await;
    let mut expected = vec![".".to_owned(), "..".to_owned()];
    expected.extend((0..10).map(|directory| format!("d{directory:03}")));
    assert_eq!(world.names(ROOT).await.unwrap(), expected);
    // What did not fit is not counted as looked up.
    let id = world.find(ROOT, "d004").await.unwrap().node;
    let lookups = world.filesystem.nodes().node(id).unwrap().lookups;
    assert_eq!(lookups, 2);
}

#[tokio::test(start_paused = true)]
async fn a_recursive_reader_waits_for_few_listings() {
    let world = world(tree(100, 100)).await;
    world.source.behave(|behaviour| behaviour.latency = Duration::from_millis(20));
    let begin = tokio::time::Instant::now();
    for name in world.names(ROOT).await.unwrap().into_iter().skip(2) {
        let directory = world.find(ROOT, &name).await.unwrap().node;
        assert_eq!(world.names(directory).await.unwrap().len(), 102);
    }
    let waited = begin.elapsed();
    assert!(waited < Duration::from_millis(200), "{waited:?}");
}

#[tokio::test]
async fn names_are_forgotten_when_there_are_too_many() {
    let world = world_of(tree(20, 20), 100).await;
    for round in 0..3 {
        for directory in 0..20 {
            let name = format!("d{directory:03}");
            let id = world.find(ROOT, &name).await.unwrap().node;
            assert_eq!(world.names(id).await.unwrap().len(), 22, "round {round}");
            let looked_up = world.filesystem.nodes().node(id).unwrap().lookups;
            world.filesystem.forget([(id, looked_up)].into_iter());
        }
    }
    let until = Instant::now() + Duration::from_secs(30);
    while world.filesystem.nodes().listed() > 100 {
        assert!(Instant::now() < until);
        tokio::task::yield_now().await;
    }
    assert!(world.source.count(Request::Forget) > 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_known_needs_no_source() {
    let world = world(tree(1, 1)).await;
    let directory = world.find(ROOT, "d000").await.unwrap().node;
    let file = world.find(directory, "f000").await.unwrap();
    world.source.behave(|behaviour| behaviour.deadline = Duration::from_millis(10));
    world.source.outage(true);
    assert_eq!(world.find(directory, "f000").await.unwrap().node, file.node);
    assert_eq!(world.find(directory, "other").await.unwrap_err(), SourceError::NotFound);
    assert_eq!(world.names(directory).await.unwrap(), [".", "..", "f000"]);
    assert!(world.filesystem.getattr(file.node).await.is_ok());
    let change = SetAttributes { mode: Some(0o600), ..SetAttributes::default() };
    let changed = world.filesystem.setattr(file.node, None, change).await;
    assert_eq!(changed.unwrap_err(), SourceError::Unreachable);
}

#[tokio::test]
async fn a_listing_that_fails_is_told_and_tried_again() {
    let world = world(tree(1, 1)).await;
    world.source.fail_next(Request::List, SourceError::Denied);
    assert_eq!(world.find(ROOT, "d000").await.unwrap_err(), SourceError::Denied);
    assert!(world.find(ROOT, "d000").await.is_ok());
}

#[tokio::test]
async fn all_files_are_the_users() {
    let world = world(tree(1, 0)).await;
    let shown = world.find(ROOT, "d000").await.unwrap();
    assert_eq!((shown.attributes.uid, shown.attributes.gid), (1000, 1000));
    assert_eq!(shown.attributes.kind, FileKind::Directory);
    let own = SetAttributes { uid: Some(1000), gid: Some(1000), ..SetAttributes::default() };
    assert!(world.filesystem.setattr(shown.node, None, own).await.is_ok());
    assert_eq!(world.source.count(Request::SetAttributes), 0);
    let other = SetAttributes { uid: Some(1), ..SetAttributes::default() };
    let refused = world.filesystem.setattr(shown.node, None, other).await;
    assert_eq!(refused.unwrap_err(), SourceError::NotPermitted);
}

#[tokio::test]
async fn what_was_not_told_is_found_by_who_opens() {
    let world = world(|root| std::fs::write(root.join("f"), "old").unwrap()).await;
    let file = world.find(ROOT, "f").await.unwrap();
    std::fs::write(world.directory.path().join("f"), "newer").unwrap();
    world.source.behave(|behaviour| behaviour.followed = false);
    world.source.tell(Change::Below("".into()));
    let how = crate::source::OpenHow { read: true, ..Default::default() };
    let opened = world.filesystem.open(file.node, how).await.unwrap();
    assert!(!opened.keeps_cache, "the kernel still has what was there before");
    let read = world.filesystem.read(opened.handle, 0, 100).await.unwrap();
    assert_eq!(&read[..], b"newer");
    assert!(world.outbox.is_waiting(file.node));
}

#[tokio::test]
async fn a_directory_that_is_gone_is_empty() {
    let world = world(tree(1, 0)).await;
    let id = world.find(ROOT, "d000").await.unwrap().node;
    world.filesystem.remove(ROOT, OsStr::new("d000"), true).await.unwrap();
    assert_eq!(world.find(id, "x").await.unwrap_err(), SourceError::NotFound);
    assert!(world.filesystem.opendir(id).await.is_ok());
    let made = world.filesystem.make(
        id,
        OsStr::new("x"),
        crate::source::Make::Directory,
        Caller { mode: 0o755, uid: 0, gid: 0 },
    );
    assert_eq!(made.await.unwrap_err(), SourceError::NotFound);
}

#[tokio::test]
async fn a_symbolic_link_with_several_names_is_told_only_if_it_cannot_lead_out() {
    let world = world(|root| {
        std::fs::create_dir(root.join("d")).unwrap();
        for (target, at) in [("../a", "d/up"), ("a", "d/down"), ("../a", "d/single")] {
            std::os::unix::fs::symlink(target, root.join(at)).unwrap();
        }
        std::fs::hard_link(root.join("d/up"), root.join("up")).unwrap();
        std::fs::hard_link(root.join("d/down"), root.join("down")).unwrap();
    })
    .await;
    let directory = world.find(ROOT, "d").await.unwrap().node;
    let read = async |name| {
        let id = world.find(directory, name).await.unwrap().node;
        world.filesystem.readlink(id).await
    };
    assert_eq!(read("up").await, Err(SourceError::NotPermitted));
    assert_eq!(read("down").await, Ok("a".into()));
    assert_eq!(read("single").await, Ok("../a".into()));
}

#[tokio::test]
async fn a_directory_that_is_not_known_is_never_read_in_part() {
    let world = world(tree(1, 3)).await;
    let id = world.find(ROOT, "d000").await.unwrap().node;
    world.find(id, "f001").await.unwrap();
    let handle = world.filesystem.opendir(id).await.unwrap();
    let directory = lock(&world.filesystem.directories).get(&handle).cloned().unwrap();
    // Forgotten, but for what the kernel holds, between the listing and the look at it.
    world.filesystem.nodes().unknown(id);
    assert!(world.filesystem.snapshot_of_known(&directory, true).unwrap().is_none());
    let mut names = 0;
    let count = |_: &Row| {
        names += 1;
        true
    };
    world.filesystem.readdir(handle, 0, true, count).await.unwrap();
    assert_eq!(names, 5);
}

#[tokio::test]
async fn a_file_that_is_made_and_not_opened_is_closed() {
    let world = world(|_| ()).await;
    let how = crate::source::OpenHow { write: true, ..Default::default() };
    let caller = Caller { mode: 0o644, uid: 0, gid: 0 };
    world.source.behave(|behaviour| behaviour.latency = Duration::from_millis(1));
    let create = world.filesystem.create(ROOT, OsStr::new("f"), how, caller);
    let another = async { world.filesystem.epoch.fetch_add(1, Ordering::AcqRel) };
    let (created, _) = tokio::join!(create, another);
    assert_eq!(created.unwrap_err(), SourceError::Stale);
    assert_eq!(world.source.open_handles(), 0);
}

#[tokio::test]
async fn a_file_with_another_name_is_not_shown_as_gone() {
    let world = world(|root| {
        std::fs::write(root.join("a"), "").unwrap();
        std::fs::hard_link(root.join("a"), root.join("b")).unwrap();
    })
    .await;
    let id = world.find(ROOT, "a").await.unwrap().node;
    let gone = world.filesystem.nodes().gone(id).unwrap();
    assert_ne!(world.filesystem.show_gone(&gone).node, id);
    world.filesystem.remove(ROOT, OsStr::new("a"), false).await.unwrap();
    world.filesystem.remove(ROOT, OsStr::new("b"), false).await.unwrap();
    assert_eq!(world.filesystem.show_gone(&gone).node, id);
}

#[tokio::test]
async fn who_has_a_file_without_a_name_open_changes_it_by_that() {
    let world = world(|root| std::fs::write(root.join("f"), "content").unwrap()).await;
    let id = world.find(ROOT, "f").await.unwrap().node;
    let open = async |write| {
        let how = crate::source::OpenHow { read: true, write, ..Default::default() };
        world.filesystem.open(id, how).await.unwrap().handle
    };
    let (_reader, writer) = (open(false).await, open(true).await);
    world.filesystem.remove(ROOT, OsStr::new("f"), false).await.unwrap();
    // The first one that is open cannot do it.
    let change = SetAttributes { size: Some(3), ..SetAttributes::default() };
    let shown = world.filesystem.setattr(id, Some(writer), change).await.unwrap();
    assert_eq!(shown.attributes.size, 3);
}

#[tokio::test]
async fn what_others_write_while_a_file_is_written_here_counts_once_that_is_done() {
    let world = world(|root| std::fs::write(root.join("f"), "").unwrap()).await;
    let id = world.find(ROOT, "f").await.unwrap().node;
    let how = crate::source::OpenHow { write: true, ..Default::default() };
    let handle = world.filesystem.open(id, how).await.unwrap().handle;
    world.filesystem.write(handle, 0, bytes::Bytes::from_static(b"ours")).await.unwrap();
    let write = |root: &Path| std::fs::write(root.join("f"), "theirs, which is longer");
    world.source.outside(&["f"], write).unwrap();
    assert!(!world.outbox.is_waiting(id));
    world.filesystem.flush(handle).await.unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    while !world.outbox.is_waiting(id) {
        assert!(Instant::now() < until);
        tokio::task::yield_now().await;
    }
}
