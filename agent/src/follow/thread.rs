//! The thread of a follower: waits for events, lets them settle, reads what may have changed.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use super::{Mark, Shared, State};
use crate::disk::{Kind, Meta};
use crate::entry::{Entry, differences};
use crate::path::SyncPath;
use crate::scan::{FileRecord, RACY_NS, ScanError};
use crate::watch::settle::{Dirt, Settle};
use crate::watch::{Event, Watcher};

/// Between two scans of the whole tree where everything is watched.
const RESCAN_INTERVAL: Duration = Duration::from_secs(600);
/// Between two scans where not everything is; more if a scan takes long.
const UNWATCHED_INTERVAL: Duration = Duration::from_secs(2);
/// A scan of an unwatched tree may take this part of the time.
const UNWATCHED_SHARE: u32 = 20;
/// A file is looked at again so long after its last change that no other change can hide behind
/// the same time.
const VERIFY_AFTER_NS: u64 = RACY_NS.unsigned_abs() + 100_000_000;
/// Files that wait to be looked at again; more are left to the next full scan.
const VERIFY_COUNT_MAX: usize = 100_000;

pub(super) fn run(shared: &Shared) {
    let mut thread = Thread {
        shared,
        settle: Settle::default(),
        verify: VecDeque::new(),
        told: HashSet::new(),
        clock: Instant::now(),
        scanned: Instant::now(),
        scan_took: Duration::ZERO,
    };
    while thread.turn() {}
}

struct Thread<'a> {
    shared: &'a Shared,
    settle: Settle,
    /// Files that are taken for what they were by their times alone, and when these can be trusted.
    verify: VecDeque<(u64, SyncPath)>,
    /// Paths that are told even if they are the same.
    told: HashSet<SyncPath>,
    clock: Instant,
    /// When the whole tree was scanned last, and how long it took.
    scanned: Instant,
    scan_took: Duration,
}

impl Thread<'_> {
    fn now_ns(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Waits for something to do and does it. False at the end.
    fn turn(&mut self) -> bool {
        self.wait();
        let (requests, is_quiet, incomplete) = {
            let mut state = self.shared.state();
            let requests = super::Requests {
                marks: std::mem::take(&mut state.requests.marks),
                rescan: std::mem::take(&mut state.requests.rescan),
                ..state.requests
            };
            (requests, state.applying == 0, state.is_incomplete())
        };
        if requests.stop {
            return false;
        }
        let is_flush = requests.flushes > *self.shared.flushed.borrow();
        self.read_events();
        if is_quiet {
            // Their events were in the queue before it was read.
            self.shared.state().echoes.clear();
        }
        for mark in requests.marks {
            if mark.tell {
                self.told.insert(mark.path.clone());
            }
            self.settle.mark(Dirt { path: mark.path, below: mark.below });
        }
        let interval = self.interval(incomplete);
        let is_late = incomplete || !Watcher::TELLS_AT_ONCE;
        if requests.rescan || (is_flush && is_late) || self.scanned.elapsed() >= interval {
            self.settle.mark(Dirt { path: SyncPath::root(), below: true });
        }
        let due = if is_flush { self.settle.all() } else { self.settle.due(self.now_ns()) };
        self.read_again(due);
        self.look_at_echoes(is_flush);
        if is_flush {
            self.shared.flushed.send_replace(requests.flushes);
        }
        true
    }

    fn interval(&self, incomplete: bool) -> Duration {
        if incomplete {
            UNWATCHED_INTERVAL.max(self.scan_took * UNWATCHED_SHARE)
        } else {
            RESCAN_INTERVAL
        }
    }

    fn wait(&mut self) {
        let (incomplete, asked) = {
            let state = self.shared.state();
            let asked = !state.requests.marks.is_empty() || state.requests.stop;
            (state.is_incomplete(), asked)
        };
        if asked {
            // What came while the last turn read: its wake may have been taken already.
            return;
        }
        let rescan = self.interval(incomplete).saturating_sub(self.scanned.elapsed());
        let now = self.now_ns();
        let due = [self.settle.next_due_ns(), self.verify.front().map(|(at, _)| *at)];
        let due = due.into_iter().flatten().min();
        let due = due.map(|at| Duration::from_nanos(at.saturating_sub(now)));
        let timeout = Some(due.unwrap_or(rescan).min(rescan));
        let waited = match &self.shared.watcher {
            Some(watcher) => watcher.wait(self.shared.wake.as_fd(), timeout),
            None => wait_for(self.shared.wake.as_fd(), timeout),
        };
        if let Err(error) = waited {
            // Nothing sensible is left to wait for: it goes on by scanning.
            self.shared.state().unwatched.get_or_insert(error.to_string());
            std::thread::sleep(UNWATCHED_INTERVAL);
        }
        self.shared.wake.take();
    }

    fn read_events(&mut self) {
        let Some(watcher) = &self.shared.watcher else { return };
        let mut events = Vec::new();
        if let Err(error) = watcher.read(&mut |event| events.push(event)) {
            self.shared.state().unwatched.get_or_insert(error.to_string());
            events.push(Event::Overflow);
        }
        if events.is_empty() {
            return;
        }
        let now = self.now_ns();
        let state = self.shared.state();
        for event in events {
            let Some(path) = event.path() else {
                self.settle.event(event, true, now);
                continue;
            };
            if is_echo(&state, &event, path) {
                put_off(&mut self.verify, now, path);
                continue;
            }
            // A listing may have met a name that was gone again: then its two events say nothing.
            if let Some((parent, name)) = path.split()
                && self.shared.endpoint.rules().is_beside(name.as_bytes())
            {
                self.settle.mark(Dirt { path: parent, below: true });
            }
            if let Some(event) = self.judged(&state, event) {
                let is_known = event.path().is_some_and(|path| state.tree.find(path).is_some());
                self.settle.event(event, is_known, now);
            }
        }
    }

    /// The event, unless it is of something excluded; then it matters only to a directory that holds
    /// nothing else, and is that directory's.
    fn judged(&self, state: &State, event: Event) -> Option<Event> {
        let path = event.path()?;
        let rules = self.shared.endpoint.rules();
        let has = |directory: &SyncPath, name: &[u8]| has(&state.tree, directory, name);
        let is_excluded = |is_directory| rules.is_excluded(path, is_directory, has);
        let excluded = match &event {
            Event::Appeared { is_directory, .. } | Event::Gone { is_directory, .. } => {
                is_excluded(*is_directory)
            }
            Event::Attributes(_) => is_excluded(false) && is_excluded(true),
            Event::Writing(_) | Event::Written(_) | Event::Overflow | Event::RootGone => {
                is_excluded(false)
            }
        };
        if !excluded {
            return Some(event);
        }
        let (parent, _) = path.split()?;
        let matters = matches!(&event, Event::Appeared { .. } | Event::Gone { .. })
            && state.tree.find(&parent).is_some_and(holds_nothing);
        matters.then_some(Event::Appeared { path: parent, is_directory: true, moved: true })
    }

    /// Reads what is due, and puts it into the tree.
    fn read_again(&mut self, due: Vec<Dirt>) {
        if due.is_empty() {
            return;
        }
        let due = {
            let mut state = self.shared.state();
            state.touched = Some(BTreeSet::new());
            scoped(&state, self.shared.endpoint.rules(), due)
        };
        let mut looks = Vec::with_capacity(due.len());
        for dirt in due {
            if !self.told.contains(&dirt.path) && self.is_as_known(&dirt) {
                continue;
            }
            let is_root = dirt.path.is_root();
            let begun = Instant::now();
            let look = self.look(&dirt.path);
            if is_root {
                self.scanned = Instant::now();
                self.scan_took = begun.elapsed();
            }
            looks.push((dirt, look));
        }
        self.put(looks);
    }

    fn look(&self, path: &SyncPath) -> Result<Option<Entry>, ScanError> {
        let tree = self.shared.state().tree.clone();
        let look = self.shared.endpoint.look(
            path,
            &|directory, name| has(&tree, directory, name),
            self.shared.watcher.as_ref(),
            &AtomicBool::new(false),
        )?;
        let mut state = self.shared.state();
        if let Some(error) = look.unwatched {
            state.unwatched.get_or_insert(error.to_string());
        } else if path.is_root() && self.shared.watcher.is_some() {
            // A whole scan that could watch everything: room was made.
            state.unwatched = None;
        }
        Ok(look.entry)
    }

    /// Takes what was read into the tree, unless a step changed the path meanwhile (I3).
    fn put(&mut self, looks: Vec<(Dirt, Result<Option<Entry>, ScanError>)>) {
        let mut state = self.shared.state();
        let touched = state.touched.take().unwrap_or_default();
        let before = state.changed.len();
        let mut lost = state.lost.take();
        let was_lost = lost.clone();
        for (dirt, look) in looks {
            match look {
                Ok(entry) => {
                    if dirt.path.is_root() {
                        lost = None;
                    }
                    let tell = self.told.remove(&dirt.path);
                    take_over(&mut state, &touched, &dirt.path, entry.as_ref(), tell);
                }
                Err(error) => lost = Some(error),
            }
        }
        let news = state.changed.len() > before || lost != was_lost;
        state.lost = lost;
        if news {
            let seq = state.next();
            drop(state);
            self.shared.seq.send_replace(seq);
        }
    }

    /// True if the stat of a path says that it is what the tree has.
    fn is_as_known(&mut self, dirt: &Dirt) -> bool {
        let entry = self.shared.state().tree.find(&dirt.path).map(Entry::shallow);
        let Ok((directory, name)) = self.shared.endpoint.root().parent_of(&dirt.path) else {
            return entry.is_none();
        };
        let meta = match directory.stat(&name) {
            Ok(meta) => meta,
            Err(Errno::NOENT) => return entry.is_none(),
            Err(_) => return false,
        };
        match entry {
            Some(Entry::Directory(_)) => !dirt.below && meta.kind == Kind::Directory,
            Some(Entry::File(file)) => {
                let record = self.shared.endpoint.cache().get(&dirt.path).copied();
                let Some(record) = record.filter(|record| {
                    record.digest == file.digest
                        && is_stat_of(record, &meta)
                        && crate::entry::File { mode: meta.mode, ..file.clone() } == file
                }) else {
                    return false;
                };
                if !record.holds_for(&meta) {
                    let now = self.now_ns();
                    put_off(&mut self.verify, now, &dirt.path);
                }
                true
            }
            Some(Entry::Symlink(_) | Entry::Untracked | Entry::Problem(_)) | None => false,
        }
    }

    /// Looks again at files that were taken for what they were by their times: by their content
    /// once these can be trusted, and by their times at a flush.
    fn look_at_echoes(&mut self, is_flush: bool) {
        let now = self.now_ns();
        let ripe = self.verify.iter().take_while(|(at, _)| *at <= now).count();
        let ripe: HashSet<SyncPath> = self.verify.drain(..ripe).map(|(_, path)| path).collect();
        let dirt = |path: SyncPath| Dirt { path, below: false };
        if !ripe.is_empty() {
            let suspects = ripe.into_iter().map(dirt).collect();
            self.read_again_by_content(suspects);
        }
        if is_flush && !self.verify.is_empty() {
            let waiting: HashSet<SyncPath> =
                self.verify.iter().map(|(_, path)| path.clone()).collect();
            let kept = std::mem::take(&mut self.verify);
            self.read_again(waiting.into_iter().map(dirt).collect());
            self.verify = kept;
        }
    }

    fn read_again_by_content(&mut self, due: Vec<Dirt>) {
        self.shared.state().touched = Some(BTreeSet::new());
        let looks = due.into_iter().map(|dirt| {
            let look = self.look(&dirt.path);
            (dirt, look)
        });
        let looks = looks.collect();
        self.put(looks);
    }
}

/// Blocks until `wake` is readable or the time is over.
fn wait_for(wake: BorrowedFd<'_>, timeout: Option<Duration>) -> std::io::Result<()> {
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    let mut fds = [PollFd::from_borrowed_fd(wake, PollFlags::IN)];
    match rustix::event::poll(&mut fds, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// An event of a step's own change. What somebody else did to the same path at the same moment is
/// found when the path is looked at again.
fn is_echo(state: &State, event: &Event, path: &SyncPath) -> bool {
    matches!(event, Event::Appeared { .. } | Event::Attributes(_)) && state.echoes.contains(path)
}

fn put_off(verify: &mut VecDeque<(u64, SyncPath)>, now_ns: u64, path: &SyncPath) {
    if verify.len() < VERIFY_COUNT_MAX {
        verify.push_back((now_ns + VERIFY_AFTER_NS, path.clone()));
    }
}

fn is_stat_of(record: &FileRecord, meta: &Meta) -> bool {
    meta.kind == Kind::File
        && record.size == meta.size
        && record.mtime_ns == meta.mtime_ns
        && record.ctime_ns == meta.ctime_ns
        && record.inode == meta.inode
}

fn has(tree: &Entry, directory: &SyncPath, name: &[u8]) -> bool {
    let directory = tree.find(directory).and_then(Entry::as_directory);
    directory.is_some_and(|directory| directory.child(name).is_some())
}

/// What is to be read for what is due: the highest path that is not in the tree, if the path's
/// directory is not; the whole directory, if a name that rules look at came or went.
fn scoped(state: &State, rules: &crate::rules::Rules, due: Vec<Dirt>) -> Vec<Dirt> {
    let mut all: Vec<Dirt> = Vec::with_capacity(due.len());
    for dirt in due {
        let Some((parent, name)) = dirt.path.split() else {
            return vec![dirt];
        };
        let is_directory = |path: &SyncPath| {
            state.tree.find(path).is_some_and(|entry| entry.as_directory().is_some())
        };
        if rules.is_beside(name.as_bytes()) {
            all.push(Dirt { path: parent, below: true });
        } else if is_directory(&parent) {
            all.push(dirt);
        } else {
            let mut path = dirt.path;
            while let Some((parent, _)) = path.split()
                && !is_directory(&parent)
            {
                path = parent;
            }
            all.push(Dirt { path, below: true });
        }
    }
    all.sort_by(|one, other| one.path.cmp(&other.path).then(other.below.cmp(&one.below)));
    all.dedup_by(|next, kept| next.path == kept.path);
    all
}

/// True if a step has changed the path, or something above or below it, since it was read, or does so
/// now. Nothing is copied for it: there may be thousands of steps.
fn overlaps(
    active: &BTreeMap<SyncPath, u32>,
    touched: &BTreeSet<SyncPath>,
    path: &SyncPath,
) -> bool {
    if active.is_empty() && touched.is_empty() {
        return false;
    }
    let concerns = |first: &SyncPath| first == path || first.is_below(path);
    active.range(path..).next().is_some_and(|(first, _)| concerns(first))
        || touched.range(path..).next().is_some_and(concerns)
        || std::iter::successors(path.split(), |(parent, _)| parent.split())
            .any(|(parent, _)| active.contains_key(&parent) || touched.contains(&parent))
}

/// Puts what was read into the tree, only where it differs, so that the rest stays shared. Where a
/// step changed something meanwhile it is read again instead (I3).
fn take_over(
    state: &mut State,
    touched: &BTreeSet<SyncPath>,
    path: &SyncPath,
    entry: Option<&Entry>,
    tell: bool,
) {
    let mut found = Vec::new();
    differences(path, state.tree.find(path), entry, &mut found);
    for differing in &found {
        if overlaps(&state.active, touched, differing) {
            let path = differing.clone();
            state.requests.marks.push(Mark { path, below: true, tell: false });
            continue;
        }
        let new = differing.relative_to(path).and_then(|below| entry?.find(&below).cloned());
        state.tree.put(differing, new);
        state.changed.insert(differing.clone());
    }
    if tell {
        state.changed.insert(path.clone());
    }
    // A directory that was emptied may hold something excluded: only reading it tells.
    if let (Some((parent, _)), None) = (path.split(), entry)
        && !found.is_empty()
        && !parent.is_root()
        && state.tree.find(&parent).is_some_and(holds_nothing)
    {
        state.requests.marks.push(Mark { path: parent, below: true, tell: false });
    }
}

fn holds_nothing(entry: &Entry) -> bool {
    entry.as_directory().is_some_and(|directory| directory.children.is_empty())
}
