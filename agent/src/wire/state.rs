//! The states of a followed tree on the wire: what changed, and the outcomes of steps.

use super::tree::{Entries, TREE_ENTRIES_MAX, TreeBuilder};
use super::{WireError, outcome_from_wire, outcome_to_wire, path};
use crate::entry::Entry;
use crate::path::SyncPath;
use crate::proto::{self, FollowReply};
use crate::transition::Outcome;

/// Most entries, changes and outcomes of one message.
const ITEMS_PER_MESSAGE_MAX: usize = 2000;
/// Most bytes of names, paths and targets in one message, about.
const BYTES_PER_MESSAGE_MAX: usize = 512 << 10;

/// Writes one state as messages that are not too large.
pub struct StateWriter<'a> {
    send: &'a mut dyn FnMut(FollowReply) -> bool,
    reply: FollowReply,
    items: usize,
    bytes: usize,
    is_open: bool,
}

impl<'a> StateWriter<'a> {
    /// Calls `send` with the messages of a state until it says no.
    pub fn new(send: &'a mut dyn FnMut(FollowReply) -> bool) -> Self {
        Self { send, reply: FollowReply::default(), items: 0, bytes: 0, is_open: true }
    }

    /// Writes what became of a step.
    pub fn outcome(&mut self, call: u64, outcome: Outcome) {
        self.room(64);
        let outcome = Some(outcome_to_wire(outcome));
        self.reply.outcomes.push(proto::CallOutcome { call, outcome });
    }

    /// Writes what is at a path now.
    pub fn change(&mut self, path: &SyncPath, entry: Option<&Entry>) {
        let path = path.as_bytes().to_vec();
        self.room(path.len());
        self.reply.changes.push(proto::Change { path: path.clone(), ..Default::default() });
        let Some(entry) = entry else { return };
        for item in Entries::of(entry) {
            let wire = item.to_wire();
            let targets = wire.entry.as_ref().map_or(0, |e| e.target.len() + e.problem.len());
            if self.is_full() {
                if let Some(change) = self.reply.changes.last_mut() {
                    change.unfinished = true;
                }
                self.flush(true);
                let rest = proto::Change { path: path.clone(), ..Default::default() };
                self.reply.changes.push(rest);
            }
            self.items += 1;
            self.bytes += wire.name.len() + targets;
            if let Some(change) = self.reply.changes.last_mut() {
                change.entries.push(wire);
            }
            if !self.is_open {
                return;
            }
        }
    }

    /// Writes the end of the state. False if `send` said no before or now.
    pub fn finish(mut self, seq: u64, lost: String, unwatched: String) -> bool {
        self.reply.seq = seq;
        self.reply.lost = lost;
        self.reply.unwatched = unwatched;
        self.flush(false);
        self.is_open
    }

    fn is_full(&self) -> bool {
        self.items >= ITEMS_PER_MESSAGE_MAX || self.bytes >= BYTES_PER_MESSAGE_MAX
    }

    fn room(&mut self, bytes: usize) {
        if self.is_full() {
            self.flush(true);
        }
        self.items += 1;
        self.bytes += bytes;
    }

    fn flush(&mut self, more: bool) {
        let reply = std::mem::take(&mut self.reply);
        (self.items, self.bytes) = (0, 0);
        self.is_open = self.is_open && (self.send)(FollowReply { more, ..reply });
    }
}

/// A state of the other end's tree, as the difference to the one before.
#[derive(Debug, Default)]
pub struct TreeState {
    /// Its number.
    pub seq: u64,
    /// What became of steps, by the number of their call, in order; before the changes.
    pub outcomes: Vec<(u64, Outcome)>,
    /// What is at the paths that changed, with everything below.
    pub changes: Vec<(SyncPath, Option<Entry>)>,
    /// Why the root cannot be read any more, if so.
    pub lost: Option<String>,
    /// Why not everything is watched, if so.
    pub unwatched: Option<String>,
}

/// Puts the parts of states together.
#[derive(Debug, Default)]
pub struct StateReader {
    state: TreeState,
    open: Option<(SyncPath, TreeBuilder)>,
    items: u64,
}

impl StateReader {
    /// Takes the next message; gives a state once all of it is there.
    ///
    /// # Errors
    /// If it breaks the contract, or a state would be larger than any tree may be.
    pub fn push(&mut self, reply: FollowReply) -> Result<Option<TreeState>, WireError> {
        let count = |change: &proto::Change| 1 + change.entries.len();
        let items = reply.outcomes.len() + reply.changes.iter().map(count).sum::<usize>();
        self.items += items as u64;
        if self.items > TREE_ENTRIES_MAX {
            return Err(WireError::Tree("it is too large"));
        }
        for proto::CallOutcome { call, outcome } in reply.outcomes {
            let outcome = outcome_from_wire(outcome.ok_or(WireError::Empty)?);
            self.state.outcomes.push((call, outcome));
        }
        for change in reply.changes {
            self.change(change)?;
        }
        if reply.more {
            return Ok(None);
        }
        if self.open.is_some() {
            return Err(WireError::Tree("it has no end"));
        }
        self.items = 0;
        let text = |text: String| (!text.is_empty()).then_some(text);
        let mut state = std::mem::take(&mut self.state);
        state.seq = reply.seq;
        state.lost = text(reply.lost);
        state.unwatched = text(reply.unwatched);
        Ok(Some(state))
    }

    fn change(&mut self, change: proto::Change) -> Result<(), WireError> {
        let at = path(&change.path)?;
        let (at, mut builder) = match self.open.take() {
            Some((open, builder)) if open == at => (at, builder),
            Some(_) => return Err(WireError::Tree("it has no end")),
            None if change.entries.is_empty() && !change.unfinished => {
                self.state.changes.push((at, None));
                return Ok(());
            }
            None => {
                let depth = at.names().count();
                (at, TreeBuilder::below(u32::try_from(depth).unwrap_or(u32::MAX)))
            }
        };
        for entry in change.entries {
            builder.push(entry)?;
        }
        if change.unfinished {
            self.open = Some((at, builder));
        } else {
            self.state.changes.push((at, Some(builder.finish()?)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Digest, Directory, File};
    use crate::path::Name;
    use crate::transition::Status;

    fn tree(count: usize) -> Entry {
        let file = |n: usize| {
            let digest = Digest::of(&n.to_be_bytes());
            Entry::File(File { digest, size: 8, mode: 0o644, mtime_ns: 1 })
        };
        let name = |n: usize| Name::parse(format!("{n:06}").as_bytes()).expect("a name");
        let children = (0..count).map(|n| (name(n), file(n))).collect();
        Entry::Directory(Directory { mode: 0o755, only_excluded: false, children })
    }

    fn at(text: &str) -> SyncPath {
        SyncPath::parse(text.as_bytes()).expect("a path")
    }

    fn written(write: impl FnOnce(&mut StateWriter<'_>)) -> Vec<FollowReply> {
        let mut replies = Vec::new();
        let mut send = |reply| {
            replies.push(reply);
            true
        };
        let mut writer = StateWriter::new(&mut send);
        write(&mut writer);
        assert!(writer.finish(7, String::new(), "why".to_owned()));
        replies
    }

    #[test]
    fn a_state_of_any_size_comes_through() {
        let (big, small) = (tree(4500), tree(2));
        let replies = written(|writer| {
            writer.outcome(3, Outcome { index: 1, status: Status::Stale });
            writer.change(&at("a/big"), Some(&big));
            writer.change(&at("gone"), None);
            writer.change(&at("s"), Some(&small));
        });
        assert!(replies.len() >= 3 && replies.iter().all(|reply| reply.changes.len() <= 4));
        let mut reader = StateReader::default();
        let mut states = Vec::new();
        for reply in replies {
            states.extend(reader.push(reply).expect("valid"));
        }
        let [state] = &states[..] else { panic!("one state") };
        assert_eq!(state.seq, 7);
        assert_eq!(state.unwatched.as_deref(), Some("why"));
        assert_eq!(state.outcomes, [(3, Outcome { index: 1, status: Status::Stale })]);
        let expected = [(at("a/big"), Some(big)), (at("gone"), None), (at("s"), Some(small))];
        assert_eq!(state.changes, expected);
    }

    #[test]
    fn a_state_that_breaks_the_contract_is_refused() {
        let change = |path: &[u8], unfinished| proto::Change {
            path: path.to_vec(),
            entries: Entries::of(&tree(1)).map(|item| item.to_wire()).collect(),
            unfinished,
        };
        let push = |changes: Vec<proto::Change>| {
            StateReader::default().push(FollowReply { changes, ..FollowReply::default() })
        };
        assert!(push(vec![change(b"a", false)]).is_ok());
        assert!(push(vec![change(b"../a", false)]).is_err());
        assert!(push(vec![change(b"a", true)]).is_err(), "it has no end");
        assert!(push(vec![change(b"a", true), change(b"b", false)]).is_err());
        let deep = "d/".repeat(500) + "x";
        assert!(push(vec![change(deep.as_bytes(), false)]).is_err(), "too deep");
    }
}
