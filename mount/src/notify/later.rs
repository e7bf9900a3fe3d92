//! What the kernel is told later, or once more.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::nodes::{Name, NodeId, Notice};

/// How soon a file that is being read is looked at again.
const BUSY_RETRY: Duration = Duration::from_millis(5);

/// A reply that was on its way into the kernel when it was told, with what was true before, has
/// arrived by then: it is told once more.
const SETTLED_AFTER: Duration = Duration::from_millis(100);

/// A notice that says nothing more if it is given twice.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Same {
    Entry(NodeId, Name),
    Attributes(NodeId),
    Content(NodeId),
}

impl Same {
    pub(super) fn of(notice: &Notice) -> Option<Self> {
        match notice {
            Notice::Entry(parent, name) => Some(Self::Entry(*parent, name.clone())),
            Notice::Attributes(node) => Some(Self::Attributes(*node)),
            Notice::Content(node) => Some(Self::Content(*node)),
            Notice::Event(_) => None,
        }
    }
}

/// Pages that are left while somebody reads them.
pub(super) struct Busy {
    pub(super) since: Instant,
    /// How often it is to be told.
    pub(super) count: usize,
}

/// See the module's text. Of everything there is one at most.
#[derive(Default)]
pub(super) struct Later {
    pub(super) busy: HashMap<NodeId, Busy>,
    /// What is told once more, in order of time.
    again: VecDeque<(Instant, Same)>,
    /// And when that is, if it was put off meanwhile.
    due: HashMap<Same, Instant>,
}

impl Later {
    /// When something is to be done.
    pub(super) fn next(&self) -> Option<Instant> {
        let busy = (!self.busy.is_empty()).then(|| Instant::now() + BUSY_RETRY);
        let again = self.again.front().map(|(at, _)| *at);
        busy.into_iter().chain(again).min()
    }

    /// Somebody reads it.
    pub(super) fn put_off(&mut self, node: NodeId, now: Instant) {
        self.busy.entry(node).or_insert(Busy { since: now, count: 0 }).count += 1;
    }

    /// It is told once more.
    pub(super) fn again(&mut self, notice: Same, now: Instant) {
        let at = now + SETTLED_AFTER;
        if self.due.insert(notice.clone(), at).is_none() {
            self.again.push_back((at, notice));
        }
    }

    /// What is told once more now.
    pub(super) fn due(&mut self, now: Instant) -> Option<Same> {
        while let Some((_, notice)) = self.again.pop_front_if(|(at, _)| *at <= now) {
            match self.due.get(&notice).copied() {
                Some(at) if at > now => self.again.push_back((at, notice)),
                _ => {
                    self.due.remove(&notice);
                    return Some(notice);
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_often_is_told_once_more_after_the_last_time() {
        let mut later = Later::default();
        let begun = Instant::now();
        for step in 0..1000 {
            later.again(Same::Attributes(5), begun + SETTLED_AFTER / 1000 * step);
        }
        assert_eq!(later.again.len(), 1);
        assert_eq!(later.due(begun + SETTLED_AFTER), None);
        assert_eq!(later.due(begun + SETTLED_AFTER * 2), Some(Same::Attributes(5)));
        assert_eq!(later.due(begun + SETTLED_AFTER * 9), None);
        assert!(later.due.is_empty() && later.next().is_none());
    }
}
