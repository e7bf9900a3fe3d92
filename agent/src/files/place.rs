//! Where a request points, checked: paths, names, and whether what is there is what is meant.

use std::os::fd::OwnedFd;

use super::problem::Problem;
use crate::disk::{Attributes, DirFd, Root};
use crate::path::{Name, SyncPath};
use crate::proto::{FilesAt, FilesAttributes, FilesError};
use crate::staging::TEMP_PREFIX;

/// Where a request points.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) path: SyncPath,
    device: u64,
    inode: u64,
    /// An open file instead; 0: none.
    pub(super) handle: u64,
}

impl Place {
    pub(super) fn parse(at: Option<&FilesAt>) -> Result<Self, Problem> {
        let at = at.ok_or_else(|| Problem::invalid("a place is missing"))?;
        let path = SyncPath::parse(&at.path)?;
        if path.names().any(is_ours) {
            return Err(FilesError::NotFound.into());
        }
        Ok(Self { path, device: at.device, inode: at.inode, handle: at.handle })
    }

    /// Where whatever is there is meant.
    pub(super) fn any(path: SyncPath) -> Self {
        Self { path, device: 0, inode: 0, handle: 0 }
    }

    /// STALE if another object is there than is meant.
    pub(super) fn check(&self, found: &Attributes) -> Result<(), Problem> {
        let is_any = (self.device, self.inode) == (0, 0);
        match is_any || (self.device, self.inode) == (found.device, found.inode) {
            true => Ok(()),
            false => Err(FilesError::Stale.into()),
        }
    }

    /// Opens what is there as a mere place.
    pub(super) fn object(&self, root: &Root) -> Result<(OwnedFd, Attributes), Problem> {
        let object = root.open_object(&self.path)?;
        let attributes = Attributes::of(&object)?;
        self.check(&attributes)?;
        Ok((object, attributes))
    }

    /// Opens the directory that is there as a mere place, for what is done with its names.
    pub(super) fn directory(&self, root: &Root) -> Result<DirFd, Problem> {
        let directory = root.open_place(&self.path)?;
        if (self.device, self.inode) != (0, 0) {
            self.check(&Attributes::of(&directory)?)?;
        }
        Ok(directory)
    }
}

/// The name of something that is there.
pub(super) fn name(bytes: &[u8]) -> Result<Name, Problem> {
    match is_ours(bytes) {
        true => Err(FilesError::NotFound.into()),
        false => Ok(Name::parse(bytes)?),
    }
}

/// A name for something.
pub(super) fn new_name(bytes: &[u8]) -> Result<Name, Problem> {
    match is_ours(bytes) {
        true => Err(FilesError::NotPermitted.into()),
        false => Ok(Name::parse(bytes)?),
    }
}

/// The temporary files of a synchronisation: there is nothing of that name for a mount.
pub(super) fn is_ours(name: &[u8]) -> bool {
    name.starts_with(TEMP_PREFIX.as_bytes())
}

/// Attributes as a message.
pub(super) fn to_wire(attributes: &Attributes) -> FilesAttributes {
    FilesAttributes {
        device: attributes.device,
        inode: attributes.inode,
        born_ns: attributes.born_ns,
        mode: attributes.mode,
        links: attributes.links,
        uid: attributes.uid,
        gid: attributes.gid,
        rdev: attributes.rdev,
        size: attributes.size,
        blocks: attributes.blocks,
        atime_ns: attributes.accessed_ns,
        mtime_ns: attributes.modified_ns,
        ctime_ns: attributes.changed_ns,
    }
}
