//! Names that go, names that move, and attributes.

use std::ffi::OsStr;
use std::sync::Arc;
use std::time::Instant;

use super::lookup::NAME_BYTES_MAX;
use super::show::shown;
use super::{Filesystem, Owners, Shown};
use crate::content::FileHandle;
use crate::nodes::{Hold, Name, NodeId};
use crate::source::{Answer, FileKind, SetAttributes, Source, SourceError};

impl<S: Source> Filesystem<S> {
    /// Removes a name: of a directory that is empty, or of anything else.
    pub(crate) async fn remove(
        self: &Arc<Self>,
        parent: NodeId,
        name: &OsStr,
        is_directory: bool,
    ) -> Answer<()> {
        self.may_change()?;
        let name = Name::from(name);
        let (place, node) = {
            let nodes = self.nodes();
            (nodes.place(parent).ok_or(SourceError::NotFound)?, nodes.child(parent, &name))
        };
        if let Some(node) = node {
            self.keep_content(node).await?;
        }
        let epoch = self.epoch();
        let holds = node.map(Hold::Node).into_iter().chain([Hold::Name(parent, name.clone())]);
        let _holding = self.hold(holds.collect());
        let seen = self.source.remove(place, name.to_os_string(), is_directory).await?;
        self.still(epoch)?;
        let notices = self.nodes().removed(parent, &name, seen, Instant::now());
        self.publish(notices);
        Ok(())
    }

    /// Gives an object another name.
    pub(crate) async fn rename(
        self: &Arc<Self>,
        from: (NodeId, &OsStr),
        to: (NodeId, &OsStr),
        no_replace: bool,
    ) -> Answer<()> {
        self.may_change()?;
        if to.1.len() > NAME_BYTES_MAX {
            return Err(SourceError::NameTooLong);
        }
        let (from, to) = ((from.0, Name::from(from.1)), (to.0, Name::from(to.1)));
        let (places, node, over) = {
            let nodes = self.nodes();
            let place = |id| nodes.place(id).ok_or(SourceError::NotFound);
            let places = (place(from.0)?, place(to.0)?);
            (places, nodes.child(from.0, &from.1), nodes.child(to.0, &to.1))
        };
        if let Some(node) = node {
            self.contents.settle(node).await?;
        }
        if let Some(over) = over.filter(|over| Some(*over) != node) {
            self.keep_content(over).await?;
        }
        let names = [Hold::Name(from.0, from.1.clone()), Hold::Name(to.0, to.1.clone())];
        let both = node.into_iter().chain(over).map(Hold::Node);
        let epoch = self.epoch();
        let _holding = self.hold(names.into_iter().chain(both).collect());
        let source_from = (places.0, from.1.to_os_string());
        let source_to = (places.1, to.1.to_os_string());
        let seen = self.source.rename(source_from, source_to, no_replace).await?;
        self.still(epoch)?;
        let now = Instant::now();
        let notices = self.nodes().moved((from.0, &from.1), (to.0, &to.1), seen, now);
        self.publish(notices);
        Ok(())
    }

    /// Sees to it that what is open of a node can be read and written when its last name is gone.
    async fn keep_content(&self, id: NodeId) -> Answer<()> {
        let is_open = {
            let nodes = self.nodes();
            nodes.node(id).is_some_and(|n| {
                n.attributes.kind == FileKind::File && n.handles > 0 && n.names.len() <= 1
            })
        };
        if !is_open {
            return Ok(());
        }
        match self.contents.pin(id).await {
            // It is gone already: then nothing of it can be kept.
            Err(SourceError::NotFound | SourceError::Stale) => Ok(()),
            pinned => pinned,
        }
    }

    /// Changes attributes.
    pub(crate) async fn setattr(
        self: &Arc<Self>,
        id: NodeId,
        fh: Option<FileHandle>,
        change: SetAttributes,
    ) -> Answer<Shown> {
        self.may_change()?;
        let change = self.allowed(change)?;
        if change == SetAttributes::default() {
            return self.getattr(id).await;
        }
        // Before the size or times of a file are set, what was written to it is there.
        self.contents.settle(id).await?;
        let (place, attributes) = {
            let nodes = self.nodes();
            let node = nodes.node(id).ok_or(SourceError::Stale)?;
            (nodes.place(id), node.attributes)
        };
        let open = fh.and_then(|fh| self.contents.handle_of(fh));
        let (place, open) = match place {
            Some(place) => (place, open),
            None => self.nameless(id, &attributes, open)?,
        };
        let epoch = self.epoch();
        let _holding = self.hold(vec![Hold::Node(id)]);
        let seen = self.source.set_attributes(place, open, change).await?;
        self.still(epoch)?;
        if change.size.is_some() {
            self.contents.changed(id);
        }
        let now = Instant::now();
        let (shown, notices) = {
            let mut nodes = self.nodes();
            let notices = nodes.learn(id, seen, now);
            (shown(&nodes, id, now), notices)
        };
        self.publish(notices);
        Ok(self.finish(shown?))
    }

    /// What may be changed of it: where all files are shown as the user's, nobody else can own one.
    fn allowed(&self, mut change: SetAttributes) -> Answer<SetAttributes> {
        if self.policy.owners == Owners::Mine {
            let (uid, gid) = self.policy.me;
            if change.uid.is_some_and(|to| to != uid) || change.gid.is_some_and(|to| to != gid) {
                return Err(SourceError::NotPermitted);
            }
            (change.uid, change.gid) = (None, None);
        }
        Ok(change)
    }
}
