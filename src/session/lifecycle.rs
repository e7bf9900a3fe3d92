//! When a session ends: a pure state machine.
//!
//! It ends when its last user leaves, unless the sandbox holds something that is not on the host;
//! then it stays, and says why, until that is home or a person gives it up (`skync down
//! --discard`). Sandboxes with unsynced changes are never deleted by us on our own.

/// A session's life.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lifecycle {
    users: u32,
    /// Why the sandbox must stay although nobody uses it.
    kept: Option<String>,
    /// A signal asked for the end: nobody new, and the last to leave ends it.
    closed: bool,
    ending: bool,
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Go on: others use it.
    Stay,
    /// Go on, although nobody uses it, and why.
    Keep(String),
    /// Remove the sandbox and end.
    End,
}

impl Lifecycle {
    /// A user comes; false if the session ends and cannot take one.
    pub fn join(&mut self) -> bool {
        let open = !self.closed && !self.ending;
        if open {
            self.users += 1;
        }
        open
    }

    /// What the last synchronisation left in the sandbox alone.
    pub fn synchronised(&mut self, unsynced: Option<String>) {
        self.kept = unsynced;
    }

    /// There is no sandbox any more, so nothing in it either.
    pub fn sandbox_gone(&mut self) {
        self.kept = None;
    }

    /// A user goes.
    pub fn leave(&mut self) -> Next {
        self.users = self.users.saturating_sub(1);
        match (self.users, &self.kept) {
            (1.., _) => Next::Stay,
            (0, Some(why)) => {
                self.closed = false;
                Next::Keep(why.clone())
            }
            (0, None) => {
                self.ending = true;
                Next::End
            }
        }
    }

    /// A person wants it to end. Refused, and why, while others use it or something is unsynced.
    ///
    /// # Errors
    /// The reason.
    pub fn down(&mut self, discard: bool) -> Result<(), String> {
        match (self.users, &self.kept) {
            (1, _) => Err("a command is running".to_owned()),
            (users @ 2.., _) => Err(format!("{users} commands are running")),
            (0, Some(why)) if !discard => Err(why.clone()),
            (0, _) => {
                self.ending = true;
                Ok(())
            }
        }
    }

    /// A signal wants it to end: no new users. If it is used, or ends already, whoever leaves last
    /// sees to it.
    pub fn end(&mut self) -> Next {
        match (self.users, &self.kept) {
            (_, _) if self.ending => Next::Stay,
            (1.., _) => {
                self.closed = true;
                Next::Stay
            }
            (0, Some(why)) => Next::Keep(why.clone()),
            (0, None) => {
                self.ending = true;
                Next::End
            }
        }
    }

    /// Nothing more is waited for: it ends, whoever uses it.
    pub fn abandon(&mut self) {
        self.ending = true;
    }

    /// Users now, and why it is kept.
    pub fn state(&self) -> (u32, Option<&str>) {
        (self.users, self.kept.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_with_its_last_user() {
        let mut life = Lifecycle::default();
        assert!(life.join() && life.join());
        assert_eq!(life.leave(), Next::Stay);
        assert_eq!(life.leave(), Next::End);
        assert!(!life.join(), "an ending session takes nobody");
    }

    #[test]
    fn unsynced_changes_keep_it_until_they_are_home() {
        let mut life = Lifecycle::default();
        life.join();
        life.synchronised(Some("disk full".into()));
        assert_eq!(life.leave(), Next::Keep("disk full".into()));
        assert_eq!(life.down(false), Err("disk full".into()));
        life.join();
        life.synchronised(None);
        assert_eq!(life.leave(), Next::End);
    }

    #[test]
    fn a_person_may_give_unsynced_changes_up_but_not_stop_a_command() {
        let mut life = Lifecycle::default();
        life.join();
        life.synchronised(Some("conflict".into()));
        assert!(life.down(true).is_err());
        life.leave();
        assert_eq!(life.down(true), Ok(()));
    }

    #[test]
    fn a_signal_ends_it_with_its_last_user_and_takes_no_other() {
        let mut life = Lifecycle::default();
        life.join();
        assert_eq!(life.end(), Next::Stay);
        assert!(!life.join());
        assert_eq!(life.leave(), Next::End);
        assert_eq!(life.end(), Next::Stay, "who left last sees to it");
        assert_eq!(Lifecycle::default().end(), Next::End);
    }

    #[test]
    fn a_signal_does_not_give_unsynced_changes_up() {
        let mut life = Lifecycle::default();
        life.join();
        life.end();
        life.synchronised(Some("disk full".into()));
        assert_eq!(life.leave(), Next::Keep("disk full".into()));
        assert_eq!(life.end(), Next::Keep("disk full".into()));
        assert!(life.join(), "the next command can bring them home");
    }

    #[test]
    fn a_sandbox_that_is_gone_keeps_nothing() {
        let mut life = Lifecycle::default();
        life.join();
        life.synchronised(Some("conflict".into()));
        life.sandbox_gone();
        assert_eq!(life.leave(), Next::End);
    }
}
