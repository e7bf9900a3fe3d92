use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;

use super::{DirectorySource, Request};
use crate::source::{
    Change, FileKind, Handle, Make, OpenHow, Owner, Place, Reading, Seek, SetAttributes, SetTime,
    Source, SourceError, Urgency,
};

const OWNER: Owner = Owner { mode: 0o640, ids: None };

struct Bench {
    directory: tempfile::TempDir,
    source: DirectorySource,
    told: Arc<Mutex<Vec<Change>>>,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let source = DirectorySource::new(directory.path()).expect("a source");
        let told: Arc<Mutex<Vec<Change>>> = Arc::default();
        let to = told.clone();
        source.subscribe(Box::new(move |changes| to.lock().expect("a lock").extend(changes)));
        Self { directory, source, told }
    }

    async fn root(&self) -> Place {
        let object = self.source.root().await.expect("the root").what.object;
        Place { path: PathBuf::new(), object }
    }

    async fn place(&self, name: &str) -> Place {
        let entry = self.source.look(self.root().await, name.into()).await.expect("a name");
        Place { path: name.into(), object: entry.what.attributes.object }
    }

    fn told_names(&self) -> Vec<OsString> {
        let told = std::mem::take(&mut *self.told.lock().expect("a lock"));
        let name = |change| match change {
            Change::Entry { name, .. } => name,
            other => OsString::from(format!("{other:?}")),
        };
        told.into_iter().map(name).collect()
    }
}

#[tokio::test]
async fn a_file_is_created_written_read_cut_and_removed() {
    let bench = Bench::new();
    let (source, root) = (&bench.source, bench.root().await);
    let how = OpenHow { read: true, write: true, exclusive: true, ..OpenHow::default() };
    let made = source.create(root.clone(), "a".into(), Handle(1), how, OWNER).await.expect("made");
    assert_eq!(made.what.object.expect("it").mode, 0o640);
    let again = source.create(root.clone(), "a".into(), Handle(2), how, OWNER).await;
    assert_eq!(again, Err(SourceError::Exists));
    let after = source.write(Handle(1), 3, Bytes::from_static(b"hello")).await.expect("written");
    assert_eq!(after.what.size, 8);
    let read = source.read(Reading::Open(Handle(1)), 2, 100, Urgency::Now).await;
    assert_eq!(read.expect("read"), b"\0hello"[..]);
    let cut = SetAttributes { size: Some(4), ..SetAttributes::default() };
    let place = bench.place("a").await;
    let after = source.set_attributes(place.clone(), Some(Handle(1)), cut).await.expect("cut");
    assert_eq!(after.what.size, 4);
    let gone = source.remove(root, "a".into(), false).await.expect("gone");
    assert_eq!(gone.what.object, None);
    assert_eq!(source.attributes(place, Some(Handle(1))).await.expect("open").what.links, 0);
    source.close(Handle(1));
    assert_eq!(source.open_handles(), 0);
    assert_eq!(bench.told_names(), ["a", "a", "a", "a"]);
}

#[tokio::test]
async fn a_tree_is_listed_nearest_first_and_whole_files_are_fetched() {
    let bench = Bench::new();
    bench.source.outside(&[], |root| {
        std::fs::create_dir_all(root.join("a/b/c")).expect("directories");
        std::os::unix::fs::symlink("a/b", root.join("link")).expect("a link");
        std::fs::File::create(root.join("file")).expect("a file").set_len(5).expect("a size");
    });
    let mut listings = bench.source.list(bench.root().await, 100);
    let mut paths = Vec::new();
    let mut links = Vec::new();
    while let Some(listing) = listings.recv().await {
        let listing = listing.expect("a listing").what;
        links.extend(listing.entries.into_iter().filter_map(|entry| entry.target));
        paths.push(listing.path);
    }
    assert_eq!(paths, ["", "a", "a/b", "a/b/c"].map(PathBuf::from));
    assert_eq!(links, ["a/b"]);
    let mut listings = bench.source.list(bench.root().await, 1);
    assert!(listings.recv().await.is_some());
    assert!(listings.recv().await.is_none());

    let places = vec![bench.place("file").await, bench.place("link").await];
    let mut fetched = bench.source.fetch(places);
    let first = fetched.recv().await.expect("an answer");
    assert_eq!(first.content.expect("content").what.1, [0; 5][..]);
    let second = fetched.recv().await.expect("an answer");
    assert_eq!(second.content.expect_err("a link"), SourceError::Loop);
}

#[tokio::test]
async fn what_is_another_object_by_now_is_stale() {
    let bench = Bench::new();
    bench.source.outside(&[], |root| std::fs::File::create(root.join("a")).expect("a file"));
    let before = bench.place("a").await;
    bench.source.outside(&[], |root| {
        std::os::unix::fs::symlink("x", root.join("b")).expect("a link");
        rustix::fs::rename(root.join("b"), root.join("a")).expect("a move");
    });
    let read = bench.source.read(Reading::At(before.clone()), 0, 10, Urgency::Now).await;
    assert_eq!(read, Err(SourceError::Stale));
    assert_eq!(bench.source.attributes(before, None).await, Err(SourceError::Stale));
    let none = bench.source.read(Reading::Open(Handle(9)), 0, 10, Urgency::Now).await;
    assert_eq!(none, Err(SourceError::Stale));
}

#[tokio::test]
async fn names_are_made_linked_moved_and_looked_at() {
    let bench = Bench::new();
    let (source, root) = (&bench.source, bench.root().await);
    let made = source.make(root.clone(), "d".into(), Make::Directory, OWNER).await.expect("made");
    let directory = Place { path: "d".into(), object: made.what.object.expect("it").object };
    let node = Make::Node(FileKind::File, 0);
    source.make(root.clone(), "a".into(), node, OWNER).await.expect("made");
    let place = bench.place("a").await;
    let linked = source.link(place.clone(), directory.clone(), "b".into()).await.expect("linked");
    assert_eq!(linked.what.object.expect("it").links, 2);
    let to = (directory, OsString::from("a"));
    let moved = source.rename((root.clone(), "a".into()), to.clone(), true).await.expect("moved");
    assert_eq!(moved.what.object.expect("it").object, place.object);
    assert!(moved.what.before.is_some());
    source.make(root.clone(), "a".into(), Make::Symlink("x".into()), OWNER).await.expect("made");
    let taken = source.rename((root.clone(), "a".into()), to, true).await;
    assert_eq!(taken, Err(SourceError::Exists));
    let full = source.remove(root.clone(), "d".into(), true).await;
    assert_eq!(full, Err(SourceError::NotEmpty));
    let link = source.look(root, "a".into()).await.expect("a link").what;
    assert_eq!(link.target, Some(OsString::from("x")));
    let long_ago = std::time::SystemTime::UNIX_EPOCH - Duration::from_millis(1500);
    let to = SetAttributes { modified: Some(SetTime::At(long_ago)), ..SetAttributes::default() };
    let set = source.set_attributes(bench.place("a").await, None, to).await.expect("set");
    assert_eq!(set.what.modified, long_ago);
}

#[tokio::test(start_paused = true)]
async fn it_is_slow_fails_and_is_cut_off_as_told() {
    let bench = Bench::new();
    let source = &bench.source;
    source.behave(|to| {
        to.latency = Duration::from_millis(20);
        to.deadline = Duration::from_secs(3);
    });
    let begun = tokio::time::Instant::now();
    source.root().await.expect("the root");
    assert_eq!(begun.elapsed(), Duration::from_millis(20));
    source.fail_next(Request::Root, SourceError::Busy);
    assert_eq!(source.root().await, Err(SourceError::Busy));
    source.outage(true);
    assert_eq!(source.root().await, Err(SourceError::Unreachable));
    let other = source.clone();
    let waiting = tokio::spawn(async move { other.root().await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    source.outage(false);
    assert!(waiting.await.expect("a task").is_ok());
    assert_eq!(source.count(Request::Root), 4);
    assert_eq!(bench.told_names(), ["Missed"]);
}

#[tokio::test]
async fn becoming_another_source_closes_everything() {
    let bench = Bench::new();
    let other = tempfile::tempdir().expect("a directory");
    let how = OpenHow { write: true, ..OpenHow::default() };
    let root = bench.root().await;
    bench.source.create(root, "a".into(), Handle(1), how, OWNER).await.expect("made");
    bench.source.become_another(other.path()).expect("another");
    let write = bench.source.write(Handle(1), 0, Bytes::from_static(b"x")).await;
    assert_eq!(write, Err(SourceError::Stale));
    assert!(matches!(bench.told.lock().expect("a lock").last(), Some(Change::Anew(_))));
    assert_eq!(
        bench.source.seek(Reading::Open(Handle(1)), 0, Seek::Data).await,
        Err(SourceError::Stale)
    );
    assert!(Path::new(bench.directory.path()).join("a").exists());
}
