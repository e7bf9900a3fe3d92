//! Getting to know directories.
//!
//! Who needs a directory that is not known waits for one listing of it, which brings what is below
//! as well, as far as a budget goes. Who goes on to directories that are not known either gets more
//! each time: the budget doubles, and the directories that come next are asked for at once, so that
//! a recursive reader does not wait for one round trip after another.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{Filesystem, lock};
use crate::nodes::NodeId;
use crate::source::{Answer, Place, Source, SourceError};

/// Names that a first listing brings: most directories with all that is below them.
const BUDGET_COUNT_MIN: usize = 2_048;
/// Names that one listing brings at most.
const BUDGET_COUNT_MAX: usize = 65_536;
/// Directories that are listed ahead of a recursive reader, the first time and at most.
const AHEAD_COUNT_MIN: usize = 8;
const AHEAD_COUNT_MAX: usize = 512;
/// After this without a miss, whoever reads next is another reader.
const QUIET: Duration = Duration::from_secs(60);

/// Listings on their way, and how much they bring.
#[derive(Default)]
pub(super) struct Listings {
    /// Who waits for each.
    in_flight: HashMap<NodeId, Vec<oneshot::Sender<Answer<()>>>>,
    /// How often in a row somebody went on to a directory that was not known.
    streak: u32,
    last: Option<(PathBuf, Instant)>,
}

impl Listings {
    /// A directory that is needed is not known: how many names to ask for, and how many directories
    /// that come after it.
    fn miss(&mut self, path: &std::path::Path, now: Instant) -> (usize, usize) {
        let goes_on = self.last.as_ref().is_some_and(|(last, at)| {
            let is_near = path.starts_with(last)
                || path.parent().is_some_and(|parent| last.starts_with(parent));
            is_near && now < *at + QUIET
        });
        self.streak = if goes_on { (self.streak + 1).min(16) } else { 0 };
        self.last = Some((path.to_owned(), now));
        let budget = (BUDGET_COUNT_MIN << self.streak).min(BUDGET_COUNT_MAX);
        let ahead = match self.streak {
            0 => 0,
            streak => (AHEAD_COUNT_MIN << streak).min(AHEAD_COUNT_MAX),
        };
        (budget, ahead)
    }
}

impl<S: Source> Filesystem<S> {
    /// Waits until all names of a directory are known.
    pub(super) async fn known(self: &Arc<Self>, id: NodeId) -> Answer<()> {
        let now = Instant::now();
        let (place, is_first) = {
            let mut nodes = self.nodes();
            if !nodes.needs_listing(id, now)? {
                return Ok(());
            }
            // One that is gone has no names, and gets none.
            let Some(place) = nodes.place(id) else { return Ok(()) };
            (place, !nodes.knows(id))
        };
        let (wake, woken) = oneshot::channel();
        let asked = {
            let mut listings = lock(&self.listings);
            match listings.in_flight.get_mut(&id) {
                Some(waiting) => {
                    waiting.push(wake);
                    None
                }
                None => {
                    listings.in_flight.insert(id, vec![wake]);
                    // One that is not followed is listed again and again, without going on.
                    let again = (1, 0);
                    Some(if is_first { listings.miss(&place.path, now) } else { again })
                }
            }
        };
        if let Some((budget, ahead)) = asked {
            self.begin_listing(id, place, budget);
            self.list_ahead(id, ahead, budget);
        }
        woken.await.unwrap_or(Err(SourceError::Unreachable))
    }

    /// Gets to know the root before somebody asks.
    pub(crate) fn warm_up(self: &Arc<Self>) {
        self.list_unasked(crate::nodes::ROOT, BUDGET_COUNT_MIN);
    }

    /// Lists a directory that nobody waits for.
    pub(super) fn list_unasked(self: &Arc<Self>, id: NodeId, budget: usize) {
        let Some(place) = self.nodes().place(id) else { return };
        let is_new = {
            let mut listings = lock(&self.listings);
            let is_new = !listings.in_flight.contains_key(&id);
            listings.in_flight.entry(id).or_default();
            is_new
        };
        if is_new {
            self.begin_listing(id, place, budget);
        }
    }

    fn list_ahead(self: &Arc<Self>, id: NodeId, count: usize, budget: usize) {
        if count == 0 {
            return;
        }
        let next = self.nodes().unknown_after(id, count);
        let each = (budget / next.len().max(1)).max(1);
        for directory in next {
            self.list_unasked(directory, each);
        }
    }

    fn begin_listing(self: &Arc<Self>, id: NodeId, place: Place, budget: usize) {
        let filesystem = Arc::clone(self);
        // Before anything is asked, so that no change is missed that is told meanwhile.
        self.nodes().listing_begins();
        self.runtime.spawn(async move {
            let listed = filesystem.list(id, place, budget).await;
            filesystem.nodes().listing_ends();
            if let Err(error) = listed {
                tracing::debug!(%error, "a directory cannot be listed");
                filesystem.wake(id, &Err(error));
            }
            filesystem.shrink();
        });
    }

    /// Lists a directory and what is below it. Those who wait go on as soon as it is known itself.
    pub(super) async fn list(&self, id: NodeId, place: Place, budget: usize) -> Answer<()> {
        let epoch = self.epoch();
        let mut listings = self.source.list(place, budget);
        let mut is_first = true;
        while let Some(listing) = listings.recv().await {
            self.still(epoch)?;
            let notices = match listing {
                Ok(listing) => self.nodes().list(listing, Instant::now()),
                // What was listed is good.
                Err(error) if !is_first => {
                    tracing::debug!(%error, "a listing ends early");
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            self.publish(notices);
            if is_first {
                is_first = false;
                self.wake(id, &Ok(()));
            }
        }
        if is_first { Err(SourceError::Failed("nothing was listed".to_owned())) } else { Ok(()) }
    }

    fn wake(&self, id: NodeId, answer: &Answer<()>) {
        let waiting = lock(&self.listings).in_flight.remove(&id);
        for wake in waiting.into_iter().flatten() {
            // Whoever does not wait any more has given up.
            let _ = wake.send(answer.clone());
        }
    }

    /// Forgets directories if there are too many.
    fn shrink(&self) {
        if self.nodes().listed() <= self.policy.listed_count_max {
            return;
        }
        let unused = self.nodes().unused(self.policy.listed_count_max / 10 * 9);
        if unused.is_empty() {
            return;
        }
        let (ids, paths): (Vec<NodeId>, Vec<PathBuf>) = unused.into_iter().unzip();
        // First of all: whoever needs one again asks for it after that, so that it is followed.
        self.source.forget(paths);
        let notices = self.nodes().forget_directories(&ids);
        self.publish(notices);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn who_goes_on_gets_more_and_who_comes_later_gets_less() {
        let mut listings = Listings::default();
        let begin = Instant::now();
        assert_eq!(listings.miss(Path::new(""), begin), (2_048, 0));
        assert_eq!(listings.miss(Path::new("a"), begin), (4_096, 16));
        assert_eq!(listings.miss(Path::new("a/x"), begin), (8_192, 32));
        assert_eq!(listings.miss(Path::new("b"), begin), (16_384, 64));
        assert_eq!(listings.miss(Path::new("c/d/e"), begin), (2_048, 0));
        assert_eq!(listings.miss(Path::new("c/d/f"), begin), (4_096, 16));
        assert_eq!(listings.miss(Path::new("c/d/g"), begin + QUIET), (2_048, 0));
    }

    #[test]
    fn there_is_an_upper_limit() {
        let mut listings = Listings::default();
        let now = Instant::now();
        let last = (0..40).map(|_| listings.miss(Path::new("a"), now)).last();
        assert_eq!(last, Some((BUDGET_COUNT_MAX, AHEAD_COUNT_MAX)));
    }
}
