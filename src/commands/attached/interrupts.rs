//! What Ctrl-C means, by how often it was pressed. Pure: the present is an argument.

use std::time::{Duration, Instant};

/// A second Ctrl-C within this time stops the command for good.
const AGAIN: Duration = Duration::from_secs(3);

/// What a Ctrl-C is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Interrupt the command.
    Interrupt,
    /// Stop it for good.
    Cancel,
    /// Wait no longer.
    Leave,
}

/// Counts.
#[derive(Debug, Default)]
pub(super) struct Interrupts {
    count: u32,
    last: Option<Instant>,
}

impl Interrupts {
    pub(super) fn press(&mut self, now: Instant) -> Meaning {
        let again = self.last.is_some_and(|last| now.duration_since(last) < AGAIN);
        // Late, it is the command's again; but once it is being stopped, every one is for us.
        self.count = if again || self.count >= 2 { self.count + 1 } else { 1 };
        self.last = Some(now);
        match self.count {
            1 => Meaning::Interrupt,
            2 => Meaning::Cancel,
            _ => Meaning::Leave,
        }
    }

    /// It is being stopped already: the next one leaves.
    pub(super) fn is_cancelled(&mut self, now: Instant) {
        (self.count, self.last) = (self.count.max(2), Some(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_within_three_seconds_stops_it_and_the_one_after_that_leaves() {
        use Meaning::{Cancel, Interrupt, Leave};
        let start = Instant::now();
        let mut interrupts = Interrupts::default();
        for (at, meaning) in
            [(0, Interrupt), (4, Interrupt), (8, Interrupt), (10, Cancel), (100, Leave)]
        {
            assert_eq!(interrupts.press(start + Duration::from_secs(at)), meaning, "at {at} s");
        }
        let mut interrupts = Interrupts::default();
        interrupts.is_cancelled(start);
        assert_eq!(interrupts.press(start + Duration::from_secs(60)), Leave);
    }
}
