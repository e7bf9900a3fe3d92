//! A link that is cut after any number of bytes: what was answered is true, and nothing happened
//! twice.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use skync_mount::source::{Handle, Make, OpenHow, Owner, Place, Reading, Urgency};
use skync_mount::{Source as _, SourceError};

use super::kinds::World;
use crate::mounts::LinkSource;

/// Between two places of cuts, bytes: no multiple of what a frame has, so that they fall anywhere.
const STEP_BYTES: u64 = 61;

const FILE: Owner = Owner { mode: 0o644, ids: None };
const DIRECTORY: Owner = Owner { mode: 0o755, ids: None };
const NEW: OpenHow =
    OpenHow { read: true, write: true, append: false, truncate: false, exclusive: true };
const APPEND: OpenHow =
    OpenHow { read: false, write: true, append: true, truncate: false, exclusive: true };

/// Does one of each, and returns what was written to the end of a file as far as it is known.
async fn do_all(source: &LinkSource, here: &Place) -> Vec<Result<(), SourceError>> {
    let data = |text: &'static str| Bytes::from_static(text.as_bytes());
    let name = |name: &str| name.into();
    let made = source.create(here.clone(), name("f"), Handle(1), NEW, FILE).await.expect("f");
    let object = made.what.object.expect("f is there").object;
    source.write(Handle(1), 4, data("5678")).await.expect("written");
    source.write(Handle(1), 0, data("1234")).await.expect("written");
    source.create(here.clone(), name("log"), Handle(2), APPEND, FILE).await.expect("log");
    let mut appended = Vec::new();
    for text in ["a", "b", "c"] {
        appended.push(source.write(Handle(2), 0, data(text)).await.map(|_| ()));
    }
    let read = source.read(Reading::Open(Handle(1)), 0, 100, Urgency::Now).await;
    assert_eq!(read, Ok(data("12345678")));
    let made = source.make(here.clone(), name("d"), Make::Directory, DIRECTORY).await.expect("d");
    let object_of_d = made.what.object.expect("d is there").object;
    let d = Place { path: "d".into(), object: object_of_d };
    source.make(d.clone(), name("s"), Make::Symlink("x".into()), FILE).await.expect("s");
    let f = Place { path: "f".into(), object };
    source.link(f, d.clone(), name("hard")).await.expect("linked");
    let (from, to) = ((here.clone(), name("f")), (d.clone(), name("g")));
    let moved = source.rename(from, to, false).await.expect("moved");
    assert_eq!(moved.what.object.map(|object| object.object), Some(object));
    source.remove(d.clone(), name("hard"), false).await.expect("removed");
    source.make(d.clone(), name("empty"), Make::Directory, DIRECTORY).await.expect("empty");
    source.remove(d, name("empty"), true).await.expect("removed");
    source.sync(Handle(1), false).await.expect("durable");
    appended
}

/// Does it over a link that ends after so many bytes; true if it was not needed any more by then.
async fn is_done_within(bytes: u64) -> bool {
    let mut world = World::without_link();
    let root = fs::metadata(&world.root).expect("a root");
    world.links.open_for("box", bytes).await;
    let source = Arc::clone(&world.source);
    let mut done = tokio::spawn(async move {
        let here = source.root().await.expect("a root");
        let here = Place { path: PathBuf::new(), object: here.what.object };
        do_all(&source, &here).await
    });
    let (appended, is_early) = tokio::select! {
        appended = &mut done => (appended, true),
        () = world.links.ended() => {
            world.links.open("box").await;
            (done.await, false)
        }
    };
    let appended = appended.expect("no panic");
    let unknown = appended.iter().filter(|written| written.is_err()).count();
    assert!(unknown <= 1, "{appended:?}");
    let log = world.read("log");
    let (mut possible, mut all) = (Vec::new(), Vec::new());
    for (written, text) in appended.iter().zip(b"abc") {
        all.push(*text);
        if written.is_ok() {
            possible.push(*text);
        }
    }
    assert!(log == possible || log == all, "cut after {bytes}: {log:?}, {appended:?}");
    let mut names: Vec<_> = fs::read_dir(world.root.join("d"))
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["g", "s"]);
    assert_eq!(world.read("d/g"), b"12345678");
    assert_eq!(root.ino(), fs::metadata(&world.root).expect("a root").ino());
    is_early
}

#[tokio::test]
async fn wherever_the_link_is_cut_everything_happens_once() {
    let mut bytes = 1;
    while !is_done_within(bytes).await {
        bytes += STEP_BYTES;
    }
    assert!(bytes > 40 * STEP_BYTES, "the link was hardly ever cut");
}
