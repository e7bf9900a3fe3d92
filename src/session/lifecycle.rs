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
        if !self.ending {
            self.users += 1;
        }
        !self.ending
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
            (0, Some(why)) => Next::Keep(why.clone()),
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
            (users @ 1.., _) => Err(format!("{users} commands are running")),
            (0, Some(why)) if !discard => Err(why.clone()),
            (0, _) => {
                self.ending = true;
                Ok(())
            }
        }
    }

    /// A signal says so: no new users.
    pub fn end(&mut self) {
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
    fn a_sandbox_that_is_gone_keeps_nothing() {
        let mut life = Lifecycle::default();
        life.join();
        life.synchronised(Some("conflict".into()));
        life.sandbox_gone();
        assert_eq!(life.leave(), Next::End);
    }
}
