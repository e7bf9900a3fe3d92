//! The threads of a scan: a shared queue of directories to read and of batches of files to hash.
//!
//! The queue is a stack, so the walk goes deep first and few descriptors are open at a time. A
//! directory is finished when its files are hashed and its directories are finished; the thread
//! that does the last of it moves it into its parent, so the tree is put together on the way.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::cache::{FileRecord, Group, StatCache};
use super::digest::{DigestError, digest_of};
use super::{ScanError, Snapshot};
use crate::disk::{DirFd, DiskError, Meta, Root, reason};
use crate::entry::{Directory, Entry, File};
use crate::path::SyncPath;
use crate::rules::{DirectoryRules, Rules};

mod listing;

use listing::Stop;

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
    Directory { node: Arc<Node>, parent: Option<Arc<DirFd>>, rules: DirectoryRules },
    Hash { node: Arc<Node>, directory: Arc<DirFd>, files: Vec<usize> },
}

#[derive(Default)]
struct Queue {
    work: Vec<Work>,
    /// Pieces that are queued or being done.
    open: usize,
    waiting: usize,
}

struct Walk<'a> {
    root: &'a Root,
    rules: &'a Rules,
    cache: &'a StatCache,
    cancelled: &'a AtomicBool,
    entry_count_max: u64,
    entries: AtomicU64,
    queue: Mutex<Queue>,
    ready: Condvar,
    failed: Mutex<Option<ScanError>>,
    stop: AtomicBool,
    finished: Mutex<Option<Directory>>,
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

pub(super) fn walk(
    root: &Root,
    rules: &Rules,
    cache: &StatCache,
    threads: usize,
    cancelled: &AtomicBool,
    entry_count_max: u64,
) -> Result<Snapshot, ScanError> {
    let walk = Walk {
        root,
        rules,
        cache,
        cancelled,
        entry_count_max,
        entries: AtomicU64::new(1),
        queue: Mutex::default(),
        ready: Condvar::new(),
        failed: Mutex::default(),
        stop: AtomicBool::new(false),
        finished: Mutex::default(),
    };
    let top = Node::new(None, SyncPath::root(), 0);
    walk.push(vec![Work::Directory { node: top, parent: None, rules: rules.root() }]);
    let gathered: Vec<Thread> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(|| walk.run())).collect();
        let mut gathered = vec![walk.run()];
        for other in others {
            // A panic in a thread of the scan is a broken invariant of ours: it goes on here.
            gathered.push(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        gathered
    });
    if let Some(error) = lock(&walk.failed).take() {
        return Err(error);
    }
    let directory = lock(&walk.finished).take().ok_or(ScanError::Cancelled)?;
    Ok(gather(directory, gathered))
}

fn gather(directory: Directory, threads: Vec<Thread>) -> Snapshot {
    let mut snapshot = Snapshot {
        root: Some(Entry::Directory(directory)),
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
    fn run(&self) -> Thread {
        let mut thread = Thread::default();
        while let Some(work) = self.pop() {
            let result = match work {
                Work::Directory { node, parent, rules } => {
                    self.read_directory(&mut thread, &node, parent.as_deref(), &rules)
                }
                Work::Hash { node, directory, files } => {
                    self.hash(&mut thread, &node, &directory, &files)
                }
            };
            if let Err(error) = result {
                lock(&self.failed).get_or_insert(error);
                self.stop.store(true, Ordering::Relaxed);
            }
            self.done();
        }
        thread
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
        parent: Option<&DirFd>,
        rules: &DirectoryRules,
    ) -> Result<(), ScanError> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(ScanError::Cancelled);
        }
        match self.list(thread, node, parent, rules) {
            Ok(work) => {
                node.pending.fetch_add(work.len(), Ordering::Relaxed);
                self.push(work);
                self.finish_part(thread, node);
                Ok(())
            }
            Err(Stop::Scan(error)) => Err(error),
            Err(Stop::Directory(problem)) => match &node.parent {
                None => Err(ScanError::Root(DiskError::new("read", &node.path, problem))),
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
                match digest_of(directory, &name, &mut thread.window, self.cancelled) {
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
            let content = std::mem::take(&mut *lock(&node.content));
            thread.excluded += content.excluded;
            let old = self.cache.group(&node.path);
            thread.groups.extend(group_of(&content, old).map(|g| (node.path.clone(), g)));
            let directory = finished(content);
            let Some((parent, at)) = &node.parent else {
                *lock(&self.finished) = Some(directory);
                return;
            };
            lock(&parent.content).directory.children[*at].1 = Entry::Directory(directory);
            node = Arc::clone(parent);
        }
    }
}

impl Thread {
    fn file(&mut self, meta: &Meta, record: &FileRecord) -> Entry {
        self.files += 1;
        self.bytes += meta.size;
        Entry::File(File {
            digest: record.digest,
            size: meta.size,
            mode: meta.mode,
            mtime_ns: meta.mtime_ns,
        })
    }

    fn problem(&mut self, path: &SyncPath, reason: String) -> Entry {
        self.problems.push((path.clone(), reason.clone()));
        Entry::Problem(reason)
    }
}

/// The records of a directory: the old group itself if nothing in it changed.
fn group_of(content: &Content, old: Option<&Group>) -> Option<Group> {
    if content.hashed.is_empty() && content.kept == old.map_or(0, |group| group.len()) {
        return old.cloned();
    }
    let mut group = BTreeMap::new();
    for (name, entry) in &content.directory.children {
        if let (Entry::File(file), Some(record)) = (entry, old.and_then(|old| old.get(name)))
            && file.digest == record.digest
        {
            group.insert(name.clone(), *record);
        }
    }
    for (at, record) in &content.hashed {
        group.insert(content.directory.children[*at].0.clone(), *record);
    }
    Some(Arc::new(group))
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
