//! Every kind of request, with the agent's own code at the other end.
#![expect(clippy::disallowed_methods, reason = "the tests are the user whose files are shown")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use skync_agent::files::Files;
use skync_mount::source::{
    Allocate, Attributes, Change, FileKind, Handle, Listing, Make, OpenHow, Owner, Place, Reading,
    Seek, SetAttributes, SetTime, Urgency,
};
use skync_mount::{Source as _, SourceError};
use tokio::sync::mpsc;

use super::link::Links;
use crate::mounts::{LinkSource, MountSettings};

/// Nothing here takes longer, except on a machine that is much too busy.
const PATIENCE: Duration = Duration::from_secs(30);
const OWNER: Owner = Owner { mode: 0o640, ids: None };
const READ: OpenHow =
    OpenHow { read: true, write: false, append: false, truncate: false, exclusive: false };
const WRITE: OpenHow = OpenHow { write: true, ..READ };

/// A directory, an agent that shows it, and a source over a link to that agent.
pub(super) struct World {
    pub(super) source: Arc<LinkSource>,
    pub(super) links: Links,
    agent: Arc<Mutex<Arc<Files>>>,
    changes: mpsc::UnboundedReceiver<Change>,
    pub(super) root: PathBuf,
    _base: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let mut world = Self::without_link();
        world.links.open("box").await;
        world
    }

    /// A world whose link is still to be opened.
    pub(super) fn without_link() -> Self {
        let base = tempfile::tempdir().expect("a directory");
        let root = base.path().canonicalize().expect("a path").join("root");
        fs::create_dir(&root).expect("made");
        let agent = Arc::new(Mutex::new(Files::new()));
        let serving = Arc::clone(&agent);
        let (links, ways) = Links::new(move |requests| {
            let files = serving.lock().unwrap_or_else(PoisonError::into_inner).clone();
            Box::pin(async move { files.serve(requests).await })
        });
        let settings = MountSettings { root: root.clone(), patience: PATIENCE };
        let source = Arc::new(LinkSource::new(settings, ways).expect("random numbers"));
        let (tell, changes) = mpsc::unbounded_channel();
        source.subscribe(Box::new(move |told| {
            for change in told {
                let _ = tell.send(change);
            }
        }));
        Self { source, links, agent, changes, root, _base: base }
    }

    /// Cuts the link and opens another one.
    async fn relink(&mut self) {
        self.links.cut();
        self.links.open("box").await;
    }

    /// The next change that is not one of a name.
    async fn great_change(&mut self) -> Change {
        loop {
            match self.change().await {
                Change::Entry { .. } => {}
                other => return other,
            }
        }
    }

    async fn change(&mut self) -> Change {
        let next = tokio::time::timeout(PATIENCE, self.changes.recv());
        next.await.expect("a change in time").expect("a source")
    }

    fn write(&self, path: &str, content: &[u8]) {
        fs::write(self.root.join(path), content).expect("written");
    }

    pub(super) fn read(&self, path: &str) -> Vec<u8> {
        fs::read(self.root.join(path)).expect("a file")
    }

    /// The root.
    pub(super) async fn here(&self) -> Place {
        let root = self.source.root().await.expect("a root");
        Place { path: PathBuf::new(), object: root.what.object }
    }

    /// What is at this path of one name.
    pub(super) async fn at(&self, name: &str) -> Place {
        let found = self.source.look(self.here().await, name.into()).await.expect("it is there");
        Place { path: name.into(), object: found.what.attributes.object }
    }

    /// All directories of a list, by path.
    async fn list(&self, entries_max: usize) -> BTreeMap<PathBuf, Listing> {
        let mut list = self.source.list(self.here().await, entries_max);
        let mut listed = BTreeMap::new();
        while let Some(answer) = list.recv().await {
            let listing = answer.expect("a list").what;
            listed.insert(listing.path.clone(), listing);
        }
        listed
    }
}

fn names(listing: &Listing) -> Vec<String> {
    let name = |name: &OsString| name.to_string_lossy().into_owned();
    let mut names: Vec<_> = listing.entries.iter().map(|entry| name(&entry.name)).collect();
    names.sort();
    names
}

fn is_of(attributes: &Attributes, path: &std::path::Path) -> bool {
    let real = fs::symlink_metadata(path).expect("it is there");
    let modified = UNIX_EPOCH
        + Duration::new(u64::try_from(real.mtime()).expect("now"), real.mtime_nsec() as u32);
    (attributes.object.inode, attributes.object.device, u32::from(attributes.mode))
        == (real.ino(), real.dev(), real.mode() & 0o7777)
        && (attributes.size, attributes.links, attributes.modified)
            == (real.len(), u32::try_from(real.nlink()).expect("few"), modified)
}

#[tokio::test]
async fn a_tree_is_listed_with_all_that_is_in_it() {
    let world = World::new().await;
    fs::create_dir_all(world.root.join("a/b")).expect("made");
    world.write("a/b/deep", b"1");
    world.write("top", b"22");
    std::os::unix::fs::symlink("a/b", world.root.join("link")).expect("made");
    let listed = world.list(100).await;
    let paths: Vec<_> = listed.keys().map(|path| path.to_string_lossy().into_owned()).collect();
    assert_eq!(paths, ["", "a", "a/b"]);
    let top = &listed[&PathBuf::new()];
    assert_eq!(names(top), ["a", "link", "top"]);
    assert!(top.followed);
    for entry in &top.entries {
        assert!(is_of(&entry.attributes, &world.root.join(&entry.name)), "{entry:?}");
        let target = (entry.name == "link").then(|| "a/b".into());
        assert_eq!(entry.target, target);
    }
    // With little room there is the directory itself.
    assert_eq!(world.list(1).await.len(), 1);
    let gone = Place { path: "gone".into(), ..world.here().await };
    let mut list = world.source.list(gone, 10);
    let answer = list.recv().await.expect("an answer");
    assert_eq!(answer.map(|_| ()), Err(SourceError::NotFound));
}

#[tokio::test]
async fn names_and_objects_are_looked_at() {
    let world = World::new().await;
    world.write("f", b"four");
    let place = world.at("f").await;
    let attributes = world.source.attributes(place.clone(), None).await.expect("attributes");
    assert!(is_of(&attributes.what, &world.root.join("f")));
    let missing = world.source.look(world.here().await, "g".into()).await;
    assert_eq!(missing.map(|_| ()), Err(SourceError::NotFound));
    // Another object has the name.
    world.write("g", b"");
    fs::rename(world.root.join("g"), world.root.join("f")).expect("moved");
    let stale = world.source.attributes(place, None).await;
    assert_eq!(stale.map(|_| ()), Err(SourceError::Stale));
    let space = world.source.space().await.expect("room");
    assert!(space.blocks > 0 && space.block_bytes > 0 && space.name_bytes_max == 255);
}

#[tokio::test]
async fn a_file_is_read_in_one_piece_or_many() {
    let world = World::new().await;
    let content: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    world.write("big", &content);
    let place = world.at("big").await;
    let reads = [
        (Reading::At(place.clone()), 0, 1 << 20, Urgency::Now),
        (Reading::OpenAs(Handle(3), place), 5, 1000, Urgency::Now),
        (Reading::Open(Handle(3)), 2_500_000, 1 << 20, Urgency::Ahead),
        (Reading::Open(Handle(3)), 3_000_000, 10, Urgency::Ahead),
    ];
    for (file, offset, length, urgency) in reads {
        let data = world.source.read(file.clone(), offset, length, urgency).await.expect("data");
        let end = content.len().min((offset + u64::from(length)) as usize);
        assert_eq!(data, &content[offset as usize..end], "{file:?} {offset}");
    }
    world.source.close(Handle(3));
    let closed = async || {
        let read = world.source.read(Reading::Open(Handle(3)), 0, 1, Urgency::Now).await;
        read == Err(SourceError::Stale)
    };
    tokio::time::timeout(PATIENCE, async { while !closed().await {} }).await.expect("closed");
    let too_much = world.source.read(Reading::Open(Handle(3)), 0, 2 << 20, Urgency::Now).await;
    assert_eq!(too_much, Err(SourceError::Invalid));
}

#[tokio::test]
async fn small_files_are_fetched_at_once() {
    let world = World::new().await;
    let mut places = Vec::new();
    for n in 0..300 {
        let name = format!("f{n}");
        world.write(&name, name.repeat(n).as_bytes());
        places.push(world.at(&name).await);
    }
    fs::remove_file(world.root.join("f7")).expect("removed");
    let mut fetched = world.source.fetch(places.clone());
    let mut count = 0;
    while let Some(one) = fetched.recv().await {
        count += 1;
        let name = format!("f{}", one.index);
        match one.content {
            Ok(seen) => {
                let (attributes, data) = seen.what;
                assert!(is_of(&attributes, &world.root.join(&name)));
                assert_eq!(data, name.repeat(one.index));
            }
            Err(error) => assert_eq!((one.index, error), (7, SourceError::NotFound)),
        }
    }
    assert_eq!(count, places.len());
}

#[tokio::test]
async fn files_are_made_written_and_changed() {
    let world = World::new().await;
    let here = world.here().await;
    let source = &world.source;
    let exclusive = OpenHow { exclusive: true, ..WRITE };
    let made = source.create(here.clone(), "f".into(), Handle(3), exclusive, OWNER).await;
    let made = made.expect("made").what;
    assert!(is_of(&made.object.expect("a file"), &world.root.join("f")));
    assert!(is_of(&made.directory, &world.root));
    let again = source.create(here.clone(), "f".into(), Handle(4), exclusive, OWNER).await;
    assert_eq!(again.map(|_| ()), Err(SourceError::Exists));
    let big = Bytes::from(vec![7; 1 << 20]);
    source.write(Handle(3), 0, big.clone()).await.expect("written");
    let last = source.write(Handle(3), 1 << 20, Bytes::from_static(b"end")).await.expect("written");
    assert!(last.what.size == (1 << 20) + 3 && world.read("f").ends_with(b"\x07end"));
    assert!(source.sync(Handle(3), true).await.is_ok());
    let place = world.at("f").await;
    let change = SetAttributes {
        mode: Some(0o4711),
        size: Some(5),
        modified: Some(SetTime::At(UNIX_EPOCH + Duration::new(86_400, 77))),
        accessed: Some(SetTime::Now),
        ..SetAttributes::default()
    };
    let set = source.set_attributes(place.clone(), Some(Handle(3)), change).await.expect("set");
    assert!(is_of(&set.what, &world.root.join("f")));
    assert_eq!((set.what.mode, set.what.size), (0o4711, 5));
    assert!(set.what.accessed > SystemTime::now() - Duration::from_secs(3600));
    // To the end, whatever the offset.
    let append = OpenHow { write: true, append: true, ..OpenHow::default() };
    source.open(place, Handle(5), append).await.expect("open");
    source.write(Handle(5), 0, Bytes::from_static(b"!")).await.expect("written");
    assert_eq!(world.read("f"), b"\x07\x07\x07\x07\x07!");
}

#[tokio::test]
async fn room_is_made_and_holes_are_found() {
    let world = World::new().await;
    let (here, source) = (world.here().await, &world.source);
    source.create(here, "f".into(), Handle(3), WRITE, OWNER).await.expect("made");
    let size = 1 << 20;
    let grown = source.allocate(Handle(3), Allocate::Extend, 0, size).await;
    if grown == Err(SourceError::Unsupported) {
        // Not every file system can.
        return;
    }
    assert_eq!(grown.expect("room").what.size, size);
    source.write(Handle(3), 0, Bytes::from(vec![1; size as usize])).await.expect("written");
    source.allocate(Handle(3), Allocate::Hole, 65_536, 65_536).await.expect("a hole");
    let open = || Reading::Open(Handle(3));
    assert_eq!(source.seek(open(), 0, Seek::Hole).await, Ok(65_536));
    assert_eq!(source.seek(open(), 65_536, Seek::Data).await, Ok(131_072));
    assert_eq!(source.seek(open(), size, Seek::Data).await, Err(SourceError::Nothing));
}

#[tokio::test]
async fn what_is_no_file_is_made_linked_moved_and_removed() {
    let world = World::new().await;
    let (here, source) = (world.here().await, &world.source);
    let owner = Owner { mode: 0o750, ids: None };
    let make = |name: &str, what| source.make(here.clone(), name.into(), what, owner);
    make("d", Make::Directory).await.expect("made");
    make("s", Make::Symlink("some/where".into())).await.expect("made");
    make("p", Make::Node(FileKind::Fifo, 0)).await.expect("made");
    make("f", Make::Node(FileKind::File, 0)).await.expect("made");
    let real = |name: &str| fs::symlink_metadata(world.root.join(name)).expect("it is there");
    assert!(real("d").is_dir() && real("d").permissions().mode() & 0o7777 == 0o750);
    assert!(real("p").file_type().is_fifo() && real("f").is_file());
    assert_eq!(fs::read_link(world.root.join("s")).expect("a link"), PathBuf::from("some/where"));
    let linked = source.link(world.at("f").await, here.clone(), "g".into()).await.expect("linked");
    assert_eq!(linked.what.object.map(|object| object.links), Some(2));
    let d = world.at("d").await;
    let (from, to) = ((here.clone(), "g".into()), (d.clone(), "h".into()));
    let moved = source.rename(from, to, true).await.expect("moved").what;
    assert!(is_of(&moved.directory, &world.root.join("d")));
    assert!(is_of(&moved.before.expect("from somewhere"), &world.root));
    let (from, to) = ((here.clone(), "f".into()), (d.clone(), "h".into()));
    let taken = source.rename(from, to, true).await;
    assert_eq!(taken.map(|_| ()), Err(SourceError::Exists));
    let full = source.remove(here.clone(), "d".into(), true).await;
    assert_eq!(full.map(|_| ()), Err(SourceError::NotEmpty));
    source.remove(d, "h".into(), false).await.expect("removed");
    source.remove(here.clone(), "d".into(), true).await.expect("removed");
    assert!(!world.root.join("d").exists());
}

#[tokio::test]
async fn what_happens_in_the_sandbox_is_told() {
    let mut world = World::new().await;
    world.list(100).await;
    world.write("new", b"content");
    let told = loop {
        if let Change::Entry { name, entry: Some(entry), directory, .. } = world.change().await
            && entry.attributes.size == 7
        {
            break (directory, name);
        }
    };
    assert_eq!(told, (PathBuf::new(), "new".into()));
    fs::remove_file(world.root.join("new")).expect("removed");
    loop {
        if let Change::Entry { name, entry: None, .. } = world.change().await {
            assert_eq!(name, "new");
            break;
        }
    }
}

#[tokio::test]
async fn open_files_survive_a_cut() {
    let mut world = World::new().await;
    let here = world.here().await;
    world.source.create(here, "f".into(), Handle(3), WRITE, OWNER).await.expect("made");
    fs::remove_file(world.root.join("f")).expect("removed");
    world.relink().await;
    let data = Bytes::from_static(b"still here");
    world.source.write(Handle(3), 0, data.clone()).await.expect("written");
    let read = world.source.read(Reading::Open(Handle(3)), 0, 100, Urgency::Now).await;
    assert_eq!(read, Ok(data));
    assert_eq!(world.great_change().await, Change::Missed);
    // It is followed again once it is listed again.
    world.list(100).await;
    world.write("new", b"");
    while !matches!(world.change().await, Change::Entry { name, .. } if name == "new") {}
}

#[tokio::test]
async fn an_agent_that_was_started_again_has_nothing_open() {
    let mut world = World::new().await;
    let here = world.here().await;
    world.source.create(here, "f".into(), Handle(3), WRITE, OWNER).await.expect("made");
    *world.agent.lock().expect("not poisoned") = Files::new();
    world.relink().await;
    let Change::Anew(root) = world.great_change().await else { panic!("not anew") };
    assert!(is_of(&root.what, &world.root));
    let write = world.source.write(Handle(3), 0, Bytes::from_static(b"lost")).await;
    assert_eq!(write.map(|_| ()), Err(SourceError::Stale));
    let here = world.here().await;
    let looked = world.source.look(here, "f".into()).await.expect("it is there");
    assert!(looked.stamp > root.stamp);
}

#[tokio::test]
async fn another_root_in_the_same_place_is_anew() {
    let mut world = World::new().await;
    world.here().await;
    fs::rename(&world.root, world.root.with_extension("old")).expect("moved");
    fs::create_dir(&world.root).expect("made");
    world.relink().await;
    assert!(matches!(world.great_change().await, Change::Anew(_)));
}

#[tokio::test]
async fn the_end_of_a_mount_closes_its_files() {
    let world = World::new().await;
    let here = world.here().await;
    world.source.create(here, "f".into(), Handle(3), WRITE, OWNER).await.expect("made");
    let open = || {
        let is_it = |entry: std::io::Result<fs::DirEntry>| {
            fs::read_link(entry.ok()?.path()).ok().filter(|to| *to == world.root.join("f"))
        };
        fs::read_dir("/proc/self/fd").expect("descriptors").filter_map(is_it).count()
    };
    assert_eq!(open(), 1);
    world.source.end().await;
    let closed = async {
        while open() > 0 {
            tokio::task::yield_now().await
        }
    };
    tokio::time::timeout(PATIENCE, closed).await.expect("closed");
}
