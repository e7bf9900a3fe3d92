//! New names.

use std::ffi::{OsStr, OsString};
use std::sync::Arc;
use std::time::Instant;

use super::files::Opened;
use super::lookup::NAME_BYTES_MAX;
use super::show::{shown, ttl};
use super::{Filesystem, Owners, Shown};
use crate::nodes::{Hold, Name, NodeId};
use crate::source::{
    Answer, Changed, Handle, Make, OpenHow, Owner, Place, Seen, Source, SourceError,
};

/// The set-group-id bit: of a directory, new objects in it belong to its group.
const SET_GID: u16 = 0o2000;

/// Who asks for a new object, and with which permission bits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    /// Twelve permission bits; the umask has been applied.
    pub(crate) mode: u16,
    /// User id.
    pub(crate) uid: u32,
    /// Group id.
    pub(crate) gid: u32,
}

/// A file that is being made and opened in the source; closed again if it does not come to that, or
/// if nobody waits for it any more.
struct Opening<'a, S: Source> {
    source: &'a S,
    handle: Option<Handle>,
}

impl<S: Source> Opening<'_, S> {
    fn keep(mut self) {
        self.handle = None;
    }
}

impl<S: Source> Drop for Opening<'_, S> {
    fn drop(&mut self) {
        if let Some(handle) = self.handle {
            self.source.close(handle);
        }
    }
}

impl<S: Source> Filesystem<S> {
    /// Makes a file, unless it is there, and opens it.
    pub(crate) async fn create(
        self: &Arc<Self>,
        parent: NodeId,
        name: &OsStr,
        how: OpenHow,
        caller: Caller,
    ) -> Answer<(Shown, Opened)> {
        let (place, name) = self.new_name(parent, name)?;
        let owner = self.owner(parent, caller, false);
        let epoch = self.epoch();
        let _holding = self.hold(vec![Hold::Name(parent, name.clone())]);
        let handle = self.contents.new_handle();
        let opening = Opening { source: &*self.source, handle: Some(handle) };
        let seen = self.source.create(place, name.to_os_string(), handle, how, owner).await?;
        self.still(epoch)?;
        let shown = self.made(parent, &name, seen, None)?;
        opening.keep();
        self.nodes().opened(shown.node, how.write);
        let handle = self.contents.created(shown.node, handle, how);
        self.keep_open(shown.node, handle);
        Ok((shown, Opened { handle, keeps_cache: true, is_volatile: false }))
    }

    /// Makes something that is not opened.
    pub(crate) async fn make(
        self: &Arc<Self>,
        parent: NodeId,
        name: &OsStr,
        what: Make,
        caller: Caller,
    ) -> Answer<Shown> {
        let (place, name) = self.new_name(parent, name)?;
        let owner = self.owner(parent, caller, what == Make::Directory);
        let target = match &what {
            Make::Symlink(target) => Some(target.clone()),
            Make::Directory | Make::Node(..) => None,
        };
        let epoch = self.epoch();
        let _holding = self.hold(vec![Hold::Name(parent, name.clone())]);
        let is_directory = what == Make::Directory;
        let seen = self.source.make(place, name.to_os_string(), what, owner).await?;
        self.still(epoch)?;
        let made = self.made(parent, &name, seen, target)?;
        if is_directory {
            // Whoever makes one puts something into it, and that takes knowing it.
            self.list_unasked(made.node, 1);
        }
        Ok(made)
    }

    /// Gives an object one more name.
    pub(crate) async fn link(
        self: &Arc<Self>,
        id: NodeId,
        parent: NodeId,
        name: &OsStr,
    ) -> Answer<Shown> {
        let (place, name) = self.new_name(parent, name)?;
        self.contents.settle(id).await?;
        let object = self.nodes().place(id).ok_or(SourceError::NotFound)?;
        let target = self.nodes().node(id).and_then(|node| node.target.clone());
        let epoch = self.epoch();
        let _holding = self.hold(vec![Hold::Name(parent, name.clone()), Hold::Node(id)]);
        let seen = self.source.link(object, place, name.to_os_string()).await?;
        self.still(epoch)?;
        self.made(parent, &name, seen, target.map(|target| target.to_os_string()))
    }

    /// Checks that a name may be made, and says where its directory is.
    fn new_name(&self, parent: NodeId, name: &OsStr) -> Answer<(Place, Name)> {
        self.may_change()?;
        if name.len() > NAME_BYTES_MAX {
            return Err(SourceError::NameTooLong);
        }
        // A directory that is gone takes no names.
        let place = self.nodes().place(parent).ok_or(SourceError::NotFound)?;
        Ok((place, Name::from(name)))
    }

    /// Whose a new object is.
    fn owner(&self, parent: NodeId, caller: Caller, is_directory: bool) -> Owner {
        match self.policy.owners {
            Owners::Mine => Owner { mode: caller.mode, ids: None },
            Owners::AsTheyAre => {
                let nodes = self.nodes();
                let group = nodes
                    .node(parent)
                    .filter(|node| node.attributes.mode & SET_GID != 0)
                    .map(|node| node.attributes.gid);
                let inherited = if is_directory && group.is_some() { SET_GID } else { 0 };
                let ids = Some((caller.uid, group.unwrap_or(caller.gid)));
                Owner { mode: caller.mode | inherited, ids }
            }
        }
    }

    /// Something was made: the kernel counts it as looked up.
    fn made(
        &self,
        parent: NodeId,
        name: &Name,
        seen: Seen<Changed>,
        target: Option<OsString>,
    ) -> Answer<Shown> {
        let now = Instant::now();
        let (made, notices) = {
            let mut nodes = self.nodes();
            let (id, notices) = nodes.made(parent, name, seen, target, now);
            // No ESTALE: the kernel would try again, and find that it exists.
            let made = id.ok_or(SourceError::NotFound).and_then(|id| {
                let mut shown = shown(&nodes, id, now)?;
                shown.entry_ttl = match nodes.used_directory(parent) {
                    Ok(directory) => ttl(directory.believed(now)),
                    Err(_) => std::time::Duration::ZERO,
                };
                nodes.looked_up(id);
                Ok(shown)
            });
            (made, notices)
        };
        self.publish(notices);
        Ok(self.finish(made?))
    }
}
