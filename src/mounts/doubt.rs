//! Changes that must not happen twice: if the link ends before the reply, the directories show
//! whether one has happened.
//!
//! What can be told: a file was made if its handle is open; a name was given if it means the object;
//! it was taken away if it means nothing. An object that was born before the request left is not of
//! its making, and one that was born later is not the one it was to remove. What cannot be told is
//! [`SourceError::Unreachable`], and not tried again.

use std::ffi::OsString;
use std::path::Path;

use skync_agent::proto::files_request::Request;
use skync_agent::proto::{FilesCreate, FilesLink, FilesLook, FilesMake, FilesRemove, FilesRename};
use skync_mount::source::{
    Attributes, Changed, Entry, FileKind, Handle, Make, ObjectId, OpenHow, Owner, Place, Seen,
};
use skync_mount::{Answer, SourceError};

use super::ask::{Shared, Term, Which};
use super::wire;

/// The clock for the times of files goes forward in steps of this at most, nanoseconds.
const TICK_NS: i64 = 10_000_000;

/// A change of a directory.
pub(super) enum Changing {
    /// A file is made and opened.
    Create { directory: Place, name: OsString, handle: Handle, how: OpenHow, owner: Owner },
    /// Something is made.
    Make { directory: Place, name: OsString, what: Make, owner: Owner },
    /// An object gets one more name.
    Link { object: Place, directory: Place, name: OsString },
    /// An object gets another name.
    Rename { from: (Place, OsString), to: (Place, OsString), no_replace: bool },
    /// A name is removed.
    Remove { directory: Place, name: OsString, is_directory: bool },
}

/// What the directories show.
enum Verdict {
    /// It has happened, with this result.
    Happened(Box<Seen<Changed>>),
    /// It has not.
    Missing,
    /// It has not, and cannot any more.
    Refused(SourceError),
}

impl Shared {
    /// Carries out a change, once.
    pub(super) async fn change(&self, change: Changing) -> Answer<Seen<Changed>> {
        let term = self.term();
        let before_ns = self.newest_ns();
        let mut in_doubt = false;
        loop {
            let reply = self.ask_once(&term, Which::Now, || change.request()).await?;
            let error = match reply.map(|reply| self.changed(reply)) {
                Some(Ok(changed)) => return Ok(changed),
                // What was in doubt may have happened only after it was looked at.
                Some(Err(error)) if in_doubt && change.may_be_its_own(&error) => Some(error),
                Some(Err(error)) => return Err(error),
                None => None,
            };
            in_doubt = true;
            match (self.verdict(&change, before_ns, &term).await?, error) {
                (Verdict::Happened(changed), _) => return Ok(*changed),
                (_, Some(error)) | (Verdict::Refused(error), None) => return Err(error),
                (Verdict::Missing, None) => {}
            }
        }
    }

    /// Opens a file, once: the handle shows whether it is open.
    pub(super) async fn open_once(
        &self,
        handle: Handle,
        make: impl Fn() -> Request + Send + Sync,
    ) -> Answer<Seen<Attributes>> {
        let term = self.term();
        loop {
            if let Some(reply) = self.ask_once(&term, Which::Now, &make).await? {
                return self.found(reply);
            }
            match self.opened(handle, &term).await {
                Err(SourceError::Stale) => {}
                answer => return answer,
            }
        }
    }

    async fn verdict(&self, change: &Changing, before_ns: i64, term: &Term) -> Answer<Verdict> {
        match change {
            Changing::Create { directory, handle, .. } => match self.opened(*handle, term).await {
                Ok(object) => self.happened(object, directory, term).await,
                Err(SourceError::Stale) => Ok(Verdict::Missing),
                Err(error) => Err(error),
            },
            Changing::Make { directory, name, what, owner } => {
                match self.name(directory, name, term).await? {
                    None => Ok(Verdict::Missing),
                    Some(found) if is_older(found.what.attributes.object, before_ns) => {
                        Ok(Verdict::Refused(SourceError::Exists))
                    }
                    Some(found) if is_made(&found.what, what, *owner) => {
                        self.happened(attributes_of(&found), directory, term).await
                    }
                    Some(_) => Err(SourceError::Unreachable),
                }
            }
            Changing::Link { object, directory, name } => {
                match self.name(directory, name, term).await? {
                    None => Ok(Verdict::Missing),
                    Some(found) if is_same(found.what.attributes.object, object.object) => {
                        self.happened(attributes_of(&found), directory, term).await
                    }
                    Some(_) => Ok(Verdict::Refused(SourceError::Exists)),
                }
            }
            Changing::Rename { from, to, .. } => self.is_renamed(from, to, before_ns, term).await,
            Changing::Remove { directory, name, .. } => {
                match self.name(directory, name, term).await? {
                    None => self.removed(directory, term).await,
                    Some(found) if is_born_after(found.what.attributes.object, before_ns) => {
                        Err(SourceError::Unreachable)
                    }
                    Some(_) => Ok(Verdict::Missing),
                }
            }
        }
    }

    async fn is_renamed(
        &self,
        from: &(Place, OsString),
        to: &(Place, OsString),
        before_ns: i64,
        term: &Term,
    ) -> Answer<Verdict> {
        if let Some(found) = self.name(&from.0, &from.1, term).await? {
            // Another one has the name by now: it is not the one to move.
            return match is_born_after(found.what.attributes.object, before_ns) {
                true => Err(SourceError::Unreachable),
                false => Ok(Verdict::Missing),
            };
        }
        let Some(found) = self.name(&to.0, &to.1, term).await? else {
            return Ok(Verdict::Refused(SourceError::NotFound));
        };
        if is_born_after(found.what.attributes.object, before_ns) {
            return Err(SourceError::Unreachable);
        }
        let before = self.at(&from.0, term).await?;
        Ok(match self.happened(attributes_of(&found), &to.0, term).await? {
            Verdict::Happened(mut changed) => {
                changed.what.before = Some(before.what);
                changed.stamp = changed.stamp.min(before.stamp);
                Verdict::Happened(changed)
            }
            other => other,
        })
    }

    /// The result of a change that has happened, to this object in this directory.
    async fn happened(
        &self,
        object: Seen<Attributes>,
        directory: &Place,
        term: &Term,
    ) -> Answer<Verdict> {
        let directory = self.at(directory, term).await?;
        // Both looks count as one: as old as the older one.
        let stamp = object.stamp.min(directory.stamp);
        let what = Changed { object: Some(object.what), directory: directory.what, before: None };
        Ok(Verdict::Happened(Box::new(Seen { stamp, what })))
    }

    async fn removed(&self, directory: &Place, term: &Term) -> Answer<Verdict> {
        let directory = self.at(directory, term).await?;
        let what = Changed { object: None, directory: directory.what, before: None };
        Ok(Verdict::Happened(Box::new(Seen { stamp: directory.stamp, what })))
    }

    /// What a name means now, if anything.
    async fn name(
        &self,
        directory: &Place,
        name: &OsString,
        term: &Term,
    ) -> Answer<Option<Seen<Entry>>> {
        let look = || {
            let (directory, name) = (Some(wire::at(directory)), wire::name_to_wire(name));
            Request::Look(FilesLook { directory, name })
        };
        let reply = self.ask_in(term, Which::Now, look).await?;
        match self.looked_up(reply, name) {
            Ok(found) => Ok(Some(found)),
            Err(SourceError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The attributes of an open file.
    async fn opened(&self, handle: Handle, term: &Term) -> Answer<Seen<Attributes>> {
        let ask = || Request::Attributes(wire::opened(handle));
        self.found(self.ask_in(term, Which::Now, ask).await?)
    }

    async fn at(&self, place: &Place, term: &Term) -> Answer<Seen<Attributes>> {
        let ask = || Request::Attributes(wire::at(place));
        self.found(self.ask_in(term, Which::Now, ask).await?)
    }
}

impl Changing {
    fn request(&self) -> Request {
        let at = |place: &Place| Some(wire::at(place));
        match self {
            Self::Create { directory, name, handle, how, owner } => Request::Create(FilesCreate {
                directory: at(directory),
                name: wire::name_to_wire(name),
                handle: handle.0,
                how: Some(wire::how_to_wire(*how)),
                owner: Some(wire::owner_to_wire(*owner)),
            }),
            Self::Make { directory, name, what, owner } => {
                let (kind, target, rdev) = match what {
                    Make::Directory => (FileKind::Directory, Vec::new(), 0),
                    Make::Symlink(target) => {
                        (FileKind::Symlink, wire::path_to_wire(Path::new(target)), 0)
                    }
                    Make::Node(kind, rdev) => (*kind, Vec::new(), *rdev),
                };
                Request::Make(FilesMake {
                    directory: at(directory),
                    name: wire::name_to_wire(name),
                    r#type: wire::kind_to_wire(kind),
                    target,
                    rdev,
                    owner: Some(wire::owner_to_wire(*owner)),
                })
            }
            Self::Link { object, directory, name } => Request::Link(FilesLink {
                object: at(object),
                directory: at(directory),
                name: wire::name_to_wire(name),
            }),
            Self::Rename { from, to, no_replace } => Request::Rename(FilesRename {
                from: at(&from.0),
                from_name: wire::name_to_wire(&from.1),
                to: at(&to.0),
                to_name: wire::name_to_wire(&to.1),
                no_replace: *no_replace,
            }),
            Self::Remove { directory, name, is_directory } => Request::Remove(FilesRemove {
                directory: at(directory),
                name: wire::name_to_wire(name),
                is_directory: *is_directory,
            }),
        }
    }

    /// True if a second try fails like this where the first one did not.
    fn may_be_its_own(&self, error: &SourceError) -> bool {
        match self {
            Self::Create { .. } | Self::Make { .. } | Self::Link { .. } => {
                matches!(error, SourceError::Exists)
            }
            Self::Rename { .. } => matches!(error, SourceError::NotFound | SourceError::Exists),
            Self::Remove { .. } => matches!(error, SourceError::NotFound),
        }
    }
}

fn attributes_of(found: &Seen<Entry>) -> Seen<Attributes> {
    Seen { stamp: found.stamp, what: found.what.attributes }
}

/// True unless it is known to have been there at that time.
fn is_born_after(object: ObjectId, ns: i64) -> bool {
    object.born_ns == 0 || object.born_ns > ns
}

/// True if it is known to have been there before that time.
fn is_older(object: ObjectId, ns: i64) -> bool {
    object.born_ns != 0 && object.born_ns.saturating_add(TICK_NS) < ns
}

/// An object may be born anew when it is first changed: on an overlay it is copied then.
fn is_same(found: ObjectId, object: ObjectId) -> bool {
    (found.device, found.inode) == (object.device, object.inode)
}

/// True if this is what was to be made, as far as it shows.
fn is_made(found: &Entry, what: &Make, owner: Owner) -> bool {
    let attributes = &found.attributes;
    let is_kind = match what {
        Make::Directory => attributes.kind == FileKind::Directory,
        // Links have no mode of their own.
        Make::Symlink(target) => return found.target.as_ref() == Some(target),
        Make::Node(kind, rdev) => {
            let is_device = matches!(kind, FileKind::BlockDevice | FileKind::CharDevice);
            attributes.kind == *kind && (!is_device || attributes.rdev == *rdev)
        }
    };
    // A directory has the set-group-ID bit of the one that it is in, asked for or not.
    let is_mode = attributes.mode & 0o5777 == owner.mode & 0o5777;
    is_kind && is_mode && owner.ids.is_none_or(|ids| ids == (attributes.uid, attributes.gid))
}
