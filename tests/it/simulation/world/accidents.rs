//! What happens to disks, links, sessions and sandboxes.

use skync_agent::path::SyncPath;

use super::{End, Mutation, World, follower};
use crate::simulation::disk::{Disk, Node};
use crate::simulation::users::tree;

impl World {
    pub(super) fn deny(&mut self, side: usize) {
        if self.ends[side].disk.denied.is_some() {
            return;
        }
        let mut found = Vec::new();
        self.ends[side].disk.root.leaves(&SyncPath::root(), &mut |path, _| {
            let parent = path.split().map(|(parent, _)| parent);
            found.extend(parent.filter(|parent| !parent.is_root()));
            found.push(path);
        });
        if found.is_empty() {
            return;
        }
        let path = found[self.random.below(found.len())].clone();
        self.note(|| format!("denied {side}: {path}"));
        let End { disk, follower, .. } = &mut self.ends[side];
        disk.denied = Some(path.clone());
        follower.events.push(path);
    }

    pub(super) fn heal(&mut self, side: usize) {
        self.note(|| format!("healed {side}"));
        let End { disk, follower, .. } = &mut self.ends[side];
        disk.full = false;
        follower.events.extend(disk.denied.take());
    }

    /// Whatever is in the middle of an instant ends; what has not begun never will.
    fn stop_steps(&mut self, side: usize) {
        self.ends[side].applier.clear();
        while self.ends[side].applier.is_busy() {
            self.apply(side);
        }
    }

    pub(super) fn cut(&mut self) {
        self.note(|| "cut".to_owned());
        self.connected = false;
        for side in 0..2 {
            self.stop_steps(side);
        }
        // The host's outcomes are known; the sandbox's are lost with the link.
        while !self.ends[0].outbox.is_empty() {
            self.message(0);
        }
        self.ends[1].outbox.clear();
        self.engine.cut(self.now_ns);
    }

    pub(super) fn connect(&mut self) {
        self.note(|| "connected".to_owned());
        self.connected = true;
        self.ends[1].outbox.clear();
        self.tell_whole(1);
    }

    /// The host's side of everything begins anew; the agent lives on.
    pub(super) fn session_dies(&mut self) {
        self.note(|| "the session dies".to_owned());
        for side in 0..2 {
            self.stop_steps(side);
        }
        self.engine.restart();
        self.begin_side(0);
        self.connect();
    }

    /// Follower and watcher of a side begin anew, with a scan.
    fn begin_side(&mut self, side: usize) {
        let end = &mut self.ends[side];
        end.follower = follower(&end.disk, self.mutation);
        end.outbox.clear();
        self.tell_whole(side);
    }

    pub(super) fn power_cut(&mut self, side: usize) {
        self.note(|| format!("power cut {side}"));
        for side in 0..2 {
            self.stop_steps(side);
        }
        let end = &mut self.ends[side];
        let before = end.disk.root.clone();
        end.disk.crash(&mut self.random);
        end.users.forget();
        self.ledger.lost(&before, &end.disk);
        let root = self.ends[side].disk.root.clone();
        self.ledger.held(side, &SyncPath::root(), &root);
        self.note(|| format!("left on {side}: {root:?}"));
        if side == 0 {
            self.engine.restart();
            self.begin_side(0);
        } else if self.mutation == Some(Mutation::CoreOutlivesCrash) {
            self.engine.cut(self.now_ns);
        } else {
            // What the session knows leads the disk as it is now: the record does not.
            self.engine.restart();
            self.ends[0].outbox.clear();
            self.tell_whole(0);
        }
        if side == 1 {
            self.begin_side(1);
        }
        self.connect();
    }

    /// Another sandbox comes: as the old one once was, as an image is, or empty.
    pub(super) fn replace(&mut self) {
        for side in 0..2 {
            self.stop_steps(side);
        }
        let (conditional, old) = (self.ends[1].disk.conditional, self.ends[1].disk.root.clone());
        let root = match self.random.below(3) {
            0 => self.ends[1].backup.clone(),
            1 => tree(&mut self.random, &mut self.fresh, false),
            _ => Node::directory(),
        };
        self.note(|| format!("the sandbox is replaced by {root:?}"));
        self.ends[1].disk = Disk::new(root, false, conditional);
        self.ends[1].users.forget();
        let [host, sandbox] = &self.ends;
        self.ledger.replaced(&old, &host.disk, &sandbox.disk);
        self.engine.forget();
        self.begin_side(0);
        self.begin_side(1);
        self.connected = true;
    }
}
