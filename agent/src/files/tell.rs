//! Tells the session what changed: events become looks, and looks become changes.
//!
//! What happens to the same name meanwhile becomes one change, so a file that is written all the
//! time costs one look in a while, and a reader that is slow is told less and not more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::mount::Mount;
use super::outbox::Outbox;
use super::place::to_wire;
use super::watch::{Mark, Watch};
use super::{answer, problem::Problem};
use crate::disk::{Attributes, DirFd};
use crate::path::{Name, SyncPath};
use crate::proto::files_change::Change;
use crate::proto::files_reply::Reply;
use crate::proto::{
    FilesChange, FilesChanges, FilesEntry, FilesEntryChange, FilesError, FilesReply,
};

/// Between two messages of changes: what happens meanwhile to the same name is one change.
const TELL_INTERVAL: Duration = Duration::from_millis(5);
/// While the reader has more than enough to read.
const FULL_INTERVAL: Duration = Duration::from_millis(20);
/// Bytes of names and attributes after which a message of changes is sent.
const BATCH_BYTES_MAX: usize = 256 << 10;
/// What a change costs besides its names, about.
const CHANGE_BYTES: usize = 256;
/// Most names that wait. Past it nothing is known any more of anything.
const WAITING_COUNT_MAX: usize = 1 << 16;
/// Most directories of which nothing is known, in the same way.
const BELOW_COUNT_MAX: usize = 256;

/// Tells until the watching ends.
pub(super) fn tell(mount: &Mount, watch: &Watch, outbox: &Outbox) {
    let mut waiting = Waiting::default();
    let mut next = Instant::now();
    while !watch.has_ended() {
        let now = Instant::now();
        let patience = match waiting.is_empty() {
            true => None,
            false => Some(next.saturating_duration_since(now)),
        };
        if patience != Some(Duration::ZERO) {
            watch.wait(patience);
        }
        if watch.read(&mut |mark| waiting.add(mark)).is_err() {
            // It is not expected ever. What is not told must not look as if nothing happened.
            waiting.lose();
        }
        if waiting.is_empty() || Instant::now() < next {
            continue;
        }
        if !outbox.has_room() {
            next = Instant::now() + FULL_INTERVAL;
            continue;
        }
        let changes = waiting.look(mount, watch);
        let reply = Some(Reply::Changes(FilesChanges { changes }));
        outbox.put(FilesReply { reply, ..Default::default() });
        let is_behind = !waiting.is_empty();
        next = Instant::now() + if is_behind { Duration::ZERO } else { TELL_INTERVAL };
    }
}

/// What is to be looked at.
#[derive(Debug, Default)]
struct Waiting {
    names: BTreeMap<Arc<SyncPath>, BTreeMap<Name, What>>,
    count: usize,
    below: BTreeSet<SyncPath>,
}

/// What happened to a name.
#[derive(Clone, Copy, Debug, Default)]
struct What {
    content: bool,
    moved: bool,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.count == 0 && self.below.is_empty()
    }

    fn add(&mut self, mark: Mark) {
        match mark {
            Mark::Below(path) => {
                self.below.insert(path);
            }
            Mark::Name { directory, name, content, moved } => {
                let names = self.names.entry(directory).or_default();
                let before = names.len();
                let what = names.entry(name).or_default();
                what.content |= content;
                what.moved |= moved;
                self.count += names.len() - before;
            }
        }
        if self.count > WAITING_COUNT_MAX || self.below.len() > BELOW_COUNT_MAX {
            self.lose();
        }
    }

    fn lose(&mut self) {
        *self = Self::default();
        self.below.insert(SyncPath::root());
    }

    /// Looks at what waits, as much as goes into a message.
    fn look(&mut self, mount: &Mount, watch: &Watch) -> Vec<FilesChange> {
        let mut told = Told { below: std::mem::take(&mut self.below), ..Told::default() };
        while !told.is_full()
            && let Some((directory, mut names)) = self.names.pop_first()
        {
            let before = names.len();
            told.look(mount, watch, &directory, &mut names);
            self.count -= before - names.len();
            if !names.is_empty() {
                self.names.insert(directory, names);
            }
        }
        told.changes()
    }
}

/// What was seen.
#[derive(Debug, Default)]
struct Told {
    gone: Vec<FilesEntryChange>,
    there: Vec<FilesEntryChange>,
    below: BTreeSet<SyncPath>,
    bytes: usize,
}

impl Told {
    fn is_full(&self) -> bool {
        self.bytes >= BATCH_BYTES_MAX || self.below.len() > BELOW_COUNT_MAX
    }

    /// Looks at names of a directory, and takes those that it has looked at.
    fn look(
        &mut self,
        mount: &Mount,
        watch: &Watch,
        directory: &SyncPath,
        names: &mut BTreeMap<Name, What>,
    ) {
        let stamp = mount.stamps.next();
        let opened = mount.root.open_place(directory).and_then(|opened| {
            let attributes = Attributes::of(&opened)?;
            Ok((opened, attributes))
        });
        let Ok((opened, attributes)) = opened else {
            // The directory is not there: what is known of it is wrong.
            watch.prune(directory, stamp);
            self.below.insert(directory.clone());
            names.clear();
            return;
        };
        while !self.is_full()
            && let Some((name, what)) = names.pop_first()
        {
            let change = FilesEntryChange {
                directory: directory.as_bytes().to_vec(),
                directory_attributes: Some(to_wire(&attributes)),
                entry: None,
                content: what.content,
                stamp,
            };
            self.name(watch, directory, &opened, &name, what, change);
        }
    }

    fn name(
        &mut self,
        watch: &Watch,
        directory: &SyncPath,
        opened: &DirFd,
        name: &Name,
        what: What,
        change: FilesEntryChange,
    ) {
        let path = || directory.join(name);
        self.bytes += CHANGE_BYTES + change.directory.len() + name.as_bytes().len();
        // A link leads where it led before if only its attributes are others.
        match answer::entry(opened, name, what.content) {
            Ok(entry) => {
                if what.moved {
                    self.below.insert(path());
                }
                self.bytes += entry.target.len();
                self.there.push(FilesEntryChange { entry: Some(entry), ..change });
            }
            Err(Problem { error: FilesError::NotFound, .. }) => {
                if what.moved {
                    watch.prune(&path(), change.stamp);
                }
                let entry = FilesEntry { name: name.as_bytes().to_vec(), ..Default::default() };
                self.gone.push(FilesEntryChange { entry: Some(entry), ..change });
            }
            // It cannot be said what it is.
            Err(_) => {
                self.below.insert(directory.clone());
            }
        }
    }

    /// First what is gone: what was moved is not at two places in between.
    fn changes(self) -> Vec<FilesChange> {
        let entries = self.gone.into_iter().chain(self.there).map(Change::Entry);
        let below = self.below.into_iter().map(|path| Change::Below(path.as_bytes().to_vec()));
        entries.chain(below).map(|change| FilesChange { change: Some(change) }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(directory: &str, name: &str, content: bool) -> Mark {
        let directory = Arc::new(SyncPath::parse(directory.as_bytes()).expect("a path"));
        let name = Name::parse(name.as_bytes()).expect("a name");
        Mark::Name { directory, name, content, moved: false }
    }

    #[test]
    fn what_happens_to_a_name_again_is_one_look() {
        let mut waiting = Waiting::default();
        waiting.add(mark("d", "a", true));
        waiting.add(mark("d", "a", false));
        waiting.add(mark("d", "b", false));
        assert_eq!(waiting.count, 2);
        let names = waiting.names.pop_first().expect("a directory").1;
        assert_eq!(names.values().map(|what| what.content).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn past_the_limit_nothing_is_known() {
        let mut waiting = Waiting::default();
        for n in 0..=WAITING_COUNT_MAX {
            waiting.add(mark("d", &n.to_string(), true));
        }
        assert_eq!(waiting.count, 0);
        assert_eq!(waiting.below, BTreeSet::from([SyncPath::root()]));
    }
}
