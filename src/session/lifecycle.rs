//! When a session ends, and whether it mirrors: a pure state machine.
//!
//! Who uses a session: commands (`exec`, `flush`, `resume`) and foreground `up`s. A *hold* (`up -d`)
//! is no user: nobody waits for it, and `down` may end it. Nor is a *mount*: whoever is in it is not
//! known here, and whoever takes it away has looked. What is written to one has no other way home than
//! the sandbox, so a writable one has the mirror run. A session ends when its last user leaves and
//! there is neither, unless the sandbox has something that is not on the host; then it stays, and
//! says why, until that is home or a person gives it up (`skync down --discard`).
//! Sandboxes with unsynced changes are never deleted by us on our own.
//!
//! It mirrors from the first synchronisation of an `up`, or a writable mount, until the last `up` has
//! left and there is no hold and no such mount. A pause ends with the mirror: it must never keep results from coming home.

#[cfg(test)]
mod tests;

/// Who uses a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// A call that runs to its own end.
    Command,
    /// A foreground `up`.
    Up,
}

/// Whether changes are carried over as they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mirror {
    /// Only commands synchronise.
    #[default]
    Off,
    /// They are.
    On,
    /// A person wants nothing to move.
    Paused,
}

/// A session's life.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lifecycle {
    commands: u32,
    ups: u32,
    hold: bool,
    mounts: u32,
    /// Of these.
    writable_mounts: u32,
    mirror: Mirror,
    /// Why the sandbox must stay although nobody uses it.
    kept: Option<String>,
    /// A signal asked for the end: nobody new, and the last to leave ends it.
    closed: bool,
    ending: bool,
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Go on: others use it, or a hold or a mount keeps it.
    Stay,
    /// Go on, although nobody uses it, and why.
    Keep(String),
    /// Remove the sandbox and end.
    End,
}

impl Lifecycle {
    /// A user comes; false if the session ends and cannot take one.
    pub fn join(&mut self, user: User) -> bool {
        let open = !self.closed && !self.ending;
        if open {
            *self.count(user) += 1;
        }
        open
    }

    /// The first synchronisation of an `up` is done.
    pub fn begin_mirror(&mut self) {
        if self.mirror == Mirror::Off && self.mirror_is_wanted() {
            self.mirror = Mirror::On;
        }
    }

    /// Stays without users, until `down`.
    pub fn hold(&mut self) {
        self.hold = true;
    }

    /// The sandbox is shown as a directory: it stays without users, until the last such place is
    /// gone. What is written there is mirrored.
    pub fn mounted(&mut self, is_writable: bool) {
        self.mounts += 1;
        self.writable_mounts += u32::from(is_writable);
        self.begin_mirror();
    }

    /// One such place is gone, and with it perhaps the only one who knows that something was
    /// written there. Nothing ends by that alone: whoever took it away brings home what
    /// was written there, and then leaves, or ends it.
    pub fn unmounted(&mut self, is_writable: bool, unsynced: Option<String>) {
        self.mounts = self.mounts.saturating_sub(1);
        self.writable_mounts = self.writable_mounts.saturating_sub(u32::from(is_writable));
        if self.kept.is_none() {
            self.kept = unsynced;
        }
        if !self.mirror_is_wanted() {
            self.mirror = Mirror::Off;
        }
    }

    /// Nothing is to move until [`Lifecycle::resume`]. False if nothing is mirrored.
    pub fn pause(&mut self) -> bool {
        if self.mirror == Mirror::On {
            self.mirror = Mirror::Paused;
            // Whoever leaves now has not brought home what the sandbox holds.
            let kept = "the mirror is paused, and what changed since is not on the host";
            self.kept.get_or_insert_with(|| kept.to_owned());
        }
        self.mirror == Mirror::Paused
    }

    /// The pause ends. False if nothing was paused.
    pub fn resume(&mut self) -> bool {
        let paused = self.mirror == Mirror::Paused;
        if paused {
            self.mirror = Mirror::On;
        }
        paused
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
    pub fn leave(&mut self, user: User) -> Next {
        let count = self.count(user);
        *count = count.saturating_sub(1);
        if !self.mirror_is_wanted() {
            self.mirror = Mirror::Off;
        }
        let held = self.stays() && !self.closed;
        match (self.users(), &self.kept) {
            (1.., _) => Next::Stay,
            (0, _) if held => Next::Stay,
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

    /// A person wants it to end. Refused, and why, while others use it or something is unsynced. What
    /// is mounted is to be taken away before.
    ///
    /// # Errors
    /// The reason.
    pub fn down(&mut self, discard: bool) -> Result<(), String> {
        match (self.commands, self.ups, &self.kept) {
            (1, _, _) => Err("a command is running".to_owned()),
            (commands @ 2.., _, _) => Err(format!("{commands} commands are running")),
            (0, 1, _) => Err("`skync up` is running in a terminal".to_owned()),
            (0, ups @ 2.., _) => Err(format!("`skync up` is running in {ups} terminals")),
            (0, 0, _) if self.mounts > 0 && !discard => Err("the sandbox is mounted".to_owned()),
            (0, 0, Some(why)) if !discard => Err(why.clone()),
            (0, 0, _) => {
                self.ending = true;
                Ok(())
            }
        }
    }

    /// A signal wants it to end: no new users, and a hold or a mount does not count. If it is used, or ends
    /// already, whoever leaves last sees to it.
    pub fn end(&mut self) -> Next {
        match (self.users(), &self.kept) {
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

    /// True if the one user there is takes everything along when it leaves.
    pub fn is_last(&self) -> bool {
        self.users() == 1 && !self.stays()
    }

    /// It goes on without users: it is held, or something is mounted.
    pub fn stays(&self) -> bool {
        self.hold || self.mounts > 0
    }

    /// Nobody uses it, and nothing has it go on.
    pub fn is_unused(&self) -> bool {
        self.users() == 0 && !self.stays()
    }

    /// Commands and foreground `up`s now.
    pub fn users(&self) -> u32 {
        self.commands + self.ups
    }

    /// Commands now.
    pub fn commands(&self) -> u32 {
        self.commands
    }

    /// Foreground `up`s now.
    pub fn ups(&self) -> u32 {
        self.ups
    }

    /// Places where the sandbox is mounted now.
    pub fn mounts(&self) -> u32 {
        self.mounts
    }

    /// It stays without users, whether something is mounted or not.
    pub fn is_held(&self) -> bool {
        self.hold
    }

    /// Whether changes are carried over as they come.
    pub fn mirror(&self) -> Mirror {
        self.mirror
    }

    /// Why the sandbox must stay although nobody uses it.
    pub fn kept(&self) -> Option<&str> {
        self.kept.as_deref()
    }

    /// It ends: nothing is to be begun any more.
    pub fn is_ending(&self) -> bool {
        self.ending
    }

    fn mirror_is_wanted(&self) -> bool {
        self.ups > 0 || self.hold || self.writable_mounts > 0
    }

    fn count(&mut self, user: User) -> &mut u32 {
        match user {
            User::Command => &mut self.commands,
            User::Up => &mut self.ups,
        }
    }
}
