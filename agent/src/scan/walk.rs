//! The threads of a scan: a shared queue of directories to read and of batches of files to hash.
//!
//! The queue is a stack, so the walk goes deep first and few descriptors are open at a time. A
//! directory is finished when its files are hashed and its directories are finished; the thread
//! that does the last of it moves it into its parent, so the tree is put together on the way.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::cache::{FileRecord, Group, StatCache};
use super::digest::{DigestError, digest_of};
use super::{Reader, ScanError, Snapshot};
use crate::disk::{DirFd, DiskError, Meta, reason};
use crate::entry::{Directory, Entry, File};
use crate::path::{Name, SyncPath};
use crate::rules::DirectoryRules;
use crate::watch::WatchError;

mod listing;

use listing::Stop;
pub(super) use listing::{read_symlink, too_deep, too_long};

/// A directory that is being read.
struct Node {
    parent: Option<(Arc<Node>, usize)>,
    path: SyncPath,
    depth: usize,
    /// Batches and directories below that are not finished, and one for the listing itself.
    pending: AtomicUsize,
    content: Mutex<Content>,
}

#[derive(Default)]
struct Content {
    directory: Directory,
    /// Names left out by the rules.
    excluded: u64,
    /// What was computed now, by position among the children.
    hashed: Vec<(usize, FileRecord)>,
    /// Number of records of the old group that still hold.
    kept: usize,
}

enum Work {
    Directory { node: Arc<Node>, place: Place, rules: DirectoryRules },
    Hash { node: Arc<Node>, directory: Arc<DirFd>, files: Vec<usize> },
}

/// Where a directory is: few are open at a time, so it is opened when it is read.
enum Place {
    Open(DirFd),
    In(Arc<DirFd>, Name),
}

/// The directory that a walk begins at.
pub(super) struct Top {
    pub(super) path: SyncPath,
    pub(super) directory: DirFd,
    /// As they hold in the directory, its names not counted yet.
    pub(super) rules: DirectoryRules,
}

#[derive(Default)]
struct Queue {
    work: Vec<Work>,
    /// Pieces that are queued or being done.
    open: usize,
    waiting: usize,
}

struct Walk<'a> {
    reader: &'a Reader<'a>,
    cache: &'a StatCache,
    entries: AtomicU64,
    queue: Mutex<Queue>,
    ready: Condvar,
    failed: Mutex<Option<ScanError>>,
    stop: AtomicBool,
    unwatched: Mutex<Option<WatchError>>,
    finished: Mutex<Option<Entry>>,
}

/// What one thread gathers and keeps.
#[derive(Default)]
struct Thread {
    names: Vec<u8>,
    window: Vec<u8>,
    path: Vec<u8>,
    groups: Vec<(SyncPath, Group)>,
    problems: Vec<(SyncPath, String)>,
    temporaries: Vec<SyncPath>,
    files: u64,
    bytes: u64,
    hashed_files: u64,
    hashed_bytes: u64,
    excluded: u64,
}

/// Reads `top` and everything below. `cache` knows the files there from before.
pub(super) fn walk(
    reader: &Reader<'_>,
    cache: &StatCache,
    top: Top,
) -> Result<Snapshot, ScanError> {
    let walk = Walk {
        reader,
        cache,
        entries: AtomicU64::new(1),
        queue: Mutex::default(),
        ready: Condvar::new(),
        failed: Mutex::default(),
        stop: AtomicBool::new(false),
        unwatched: Mutex::default(),
        finished: Mutex::default(),
    };
    let depth = top.path.names().count();
    let node = Node::new(None, top.path, depth);
    let place = Place::Open(top.directory);
    walk.push(vec![Work::Directory { node, place, rules: top.rules }]);
    let mut first = Thread::default();
    // A new directory mostly holds little: no thread is made before there is work for two.
    let threads = if walk.run_alone(&mut first) { reader.threads } else { 1 };
    let gathered: Vec<Thread> = std::thread::scope(|scope| {
        // Fewer do it too: a command may have used up all processes that there may be.
        let other = |_| std::thread::Builder::new().spawn_scoped(scope, || walk.run_new()).ok();
        let others: Vec<_> = (1..threads).map_while(other).collect();
        walk.run(&mut first);
        let mut gathered = vec![first];
        for other in others {
            // A panic in a thread of the scan is a broken invariant of ours: it goes on here.
            gathered.push(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        gathered
    });
    if let Some(error) = lock(&walk.failed).take() {
        return Err(error);
    }
    let entry = lock(&walk.finished).take().ok_or(ScanError::Cancelled)?;
    let unwatched = *lock(&walk.unwatched);
    Ok(gather(entry, gathered, unwatched))
}

fn gather(entry: Entry, threads: Vec<Thread>, unwatched: Option<WatchError>) -> Snapshot {
    let mut snapshot = Snapshot {
        root: Some(entry),
        unwatched,
        cache: StatCache::default(),
        problems: Vec::new(),
        temporaries: Vec::new(),
        files: 0,
        bytes: 0,
        hashed_files: 0,
        hashed_bytes: 0,
        excluded: 0,
    };
    for thread in threads {
        for (path, group) in thread.groups {
            snapshot.cache.insert_group(path, group);
        }
        snapshot.problems.extend(thread.problems);
        snapshot.temporaries.extend(thread.temporaries);
        snapshot.files += thread.files;
        snapshot.bytes += thread.bytes;
        snapshot.hashed_files += thread.hashed_files;
        snapshot.hashed_bytes += thread.hashed_bytes;
        snapshot.excluded += thread.excluded;
    }
    snapshot.problems.sort();
    snapshot.temporaries.sort();
    snapshot
}

impl Node {
    fn new(parent: Option<(Arc<Self>, usize)>, path: SyncPath, depth: usize) -> Arc<Self> {
        Arc::new(Self {
            parent,
            path,
            depth,
            pending: AtomicUsize::new(1),
            content: Mutex::default(),
        })
    }
}

impl Walk<'_> {
    fn run_new(&self) -> Thread {
        let mut thread = Thread::default();
        self.run(&mut thread);
        thread
    }

    fn run(&self, thread: &mut Thread) {
        while let Some(work) = self.pop() {
            self.work(thread, work);
        }
    }

    /// Works until there is more than one piece of work or none; says whether there is.
    fn run_alone(&self, thread: &mut Thread) -> bool {
        while lock(&self.queue).open < 2 {
            match self.pop() {
                Some(work) => self.work(thread, work),
                None => return false,
            }
        }
        true
    }

    fn work(&self, thread: &mut Thread, work: Work) {
        let result = match work {
            Work::Directory { node, place, rules } => {
                self.read_directory(thread, &node, place, &rules)
            }
            Work::Hash { node, directory, files } => self.hash(thread, &node, &directory, &files),
        };
        if let Err(error) = result {
            lock(&self.failed).get_or_insert(error);
            self.stop.store(true, Ordering::Relaxed);
        }
        self.done();
    }

    fn push(&self, work: Vec<Work>) {
        if work.is_empty() {
            return;
        }
        let mut queue = lock(&self.queue);
        queue.open += work.len();
        queue.work.extend(work);
        if queue.waiting > 0 {
            self.ready.notify_all();
        }
    }

    /// The next piece of work; nothing once all is done or the walk failed.
    fn pop(&self) -> Option<Work> {
        let mut queue = lock(&self.queue);
        loop {
            if self.stop.load(Ordering::Relaxed) || queue.open == 0 {
                return None;
            }
            if let Some(work) = queue.work.pop() {
                return Some(work);
            }
            queue.waiting += 1;
            queue = self.ready.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.waiting -= 1;
        }
    }

    fn done(&self) {
        let mut queue = lock(&self.queue);
        queue.open -= 1;
        if queue.open == 0 || self.stop.load(Ordering::Relaxed) {
            self.ready.notify_all();
        }
    }

    fn read_directory(
        &self,
        thread: &mut Thread,
        node: &Arc<Node>,
        place: Place,
        rules: &DirectoryRules,
    ) -> Result<(), ScanError> {
        if self.reader.cancelled.load(Ordering::Relaxed) {
            return Err(ScanError::Cancelled);
        }
        match self.list(thread, node, place, rules) {
            Ok(work) => {
                node.pending.fetch_add(work.len(), Ordering::Relaxed);
                self.push(work);
                self.finish_part(thread, node);
                Ok(())
            }
            Err(Stop::Scan(error)) => Err(error),
            Err(Stop::Directory(problem)) => match &node.parent {
                None if node.path.is_root() => {
                    Err(ScanError::Root(DiskError::new("read", &node.path, problem)))
                }
                None => {
                    *lock(&self.finished) = Some(thread.problem(&node.path, reason(problem)));
                    Ok(())
                }
                Some((above, at)) => {
                    let entry = thread.problem(&node.path, reason(problem));
                    lock(&above.content).directory.children[*at].1 = entry;
                    self.finish_part(thread, above);
                    Ok(())
                }
            },
        }
    }

    fn hash(
        &self,
        thread: &mut Thread,
        node: &Arc<Node>,
        directory: &DirFd,
        files: &[usize],
    ) -> Result<(), ScanError> {
        for &at in files {
            let name = lock(&node.content).directory.children[at].0.clone();
            let (entry, record) =
                match digest_of(directory, &name, &mut thread.window, self.reader.cancelled) {
                    Ok((meta, record)) => {
                        thread.hashed_files += 1;
                        thread.hashed_bytes += meta.size;
                        (thread.file(&meta, &record), Some(record))
                    }
                    Err(DigestError::Cancelled) => return Err(ScanError::Cancelled),
                    Err(error) => (thread.problem(&node.path.join(&name), error.reason()), None),
                };
            let mut content = lock(&node.content);
            content.directory.children[at].1 = entry;
            content.hashed.extend(record.map(|record| (at, record)));
        }
        self.finish_part(thread, node);
        Ok(())
    }

    /// Counts one part of a directory as done; the last one moves it into its parent, and so on
    /// upwards.
    fn finish_part(&self, thread: &mut Thread, node: &Arc<Node>) {
        let mut node = Arc::clone(node);
        while node.pending.fetch_sub(1, Ordering::AcqRel) == 1 {
            let mut content = std::mem::take(&mut *lock(&node.content));
            thread.excluded += content.excluded;
            let old = self.cache.group(&node.path);
            thread.groups.extend(group_of(&mut content, old).map(|g| (node.path.clone(), g)));
            let entry = Entry::Directory(finished(content));
            let Some((parent, at)) = &node.parent else {
                *lock(&self.finished) = Some(entry);
                return;
            };
            lock(&parent.content).directory.children[*at].1 = entry;
            node = Arc::clone(parent);
        }
    }
}

impl Thread {
    fn file(&mut self, meta: &Meta, record: &FileRecord) -> Entry {
        self.files += 1;
        self.bytes += meta.size;
        file_entry(meta, record)
    }

    fn problem(&mut self, path: &SyncPath, reason: String) -> Entry {
        self.problems.push((path.clone(), reason.clone()));
        Entry::Problem(reason)
    }
}

/// The entry of a file that was read.
pub(super) fn file_entry(meta: &Meta, record: &FileRecord) -> Entry {
    Entry::File(File {
        digest: record.digest,
        size: meta.size,
        mode: meta.mode,
        mtime_ns: meta.mtime_ns,
    })
}

/// The records of a directory: the old group itself if nothing in it changed.
fn group_of(content: &mut Content, old: Option<&Group>) -> Option<Group> {
    if content.hashed.is_empty() && content.kept == old.map_or(0, Group::len) {
        return old.cloned();
    }
    content.hashed.sort_unstable_by_key(|(at, _)| *at);
    let mut hashed = content.hashed.iter().peekable();
    let mut records = Vec::with_capacity(content.hashed.len() + content.kept);
    for (at, (name, entry)) in content.directory.children.iter().enumerate() {
        let record = match hashed.next_if(|(hashed_at, _)| *hashed_at == at) {
            Some((_, record)) => Some(record),
            // A file that was not read now is one whose record holds.
            None if entry.as_file().is_some() => {
                old.and_then(|old| old.get(name)).map(|(_, record)| record)
            }
            None => None,
        };
        // The name is shared with the tree.
        records.extend(record.map(|record| (name.clone(), *record)));
    }
    Some(Group::of_sorted(records))
}

/// A directory is only-excluded if something is left out below it and nothing is synchronised.
fn finished(content: Content) -> Directory {
    let mut directory = content.directory;
    let holds_nothing = directory.children.iter().all(|(_, entry)| match entry {
        Entry::Untracked => true,
        Entry::Directory(below) => below.only_excluded,
        Entry::File(_) | Entry::Symlink(_) | Entry::Problem(_) => false,
    });
    directory.only_excluded =
        holds_nothing && (content.excluded > 0 || !directory.children.is_empty());
    directory
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
