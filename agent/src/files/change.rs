//! Changes of what is there: opening and making files, attributes, names.

use std::os::fd::OwnedFd;

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use super::answer::{Answer, checked, found};
use super::mount::Mount;
use super::place::{Place, name, new_name, to_wire};
use super::problem::Problem;
use crate::disk::{Attributes, DirFd, Made, Root, SetTime, set_owner, set_times};
use crate::path::{Name, PATH_BYTES_MAX, SyncPath};
use crate::proto::files_reply::Reply;
use crate::proto::{
    FilesChanged, FilesCreate, FilesError, FilesLink, FilesMake, FilesOpen, FilesOpenHow,
    FilesOwner, FilesRemove, FilesRename, FilesSet, FilesTime,
};

/// How often a file is made or opened while others make and remove it.
const CREATE_COUNT_MAX: u32 = 8;
/// Bytes of the largest file whose room is given back in no time.
const QUICK_BYTES_MAX: u64 = 16 << 20;
/// What is made in a directory with this bit gets its group, and a directory the bit.
const SET_GROUP_ID: u32 = 0o2000;

impl Mount {
    pub(super) fn open_file(&self, root: &Root, open: &FilesOpen) -> Answer {
        let place = Place::parse(open.file.as_ref())?;
        let how = open.how.unwrap_or_default();
        let file = root.open_carefully(&place.path, access(&how))?;
        self.take(root, file, &place, open.handle, &how)?;
        self.found_open(&*self.file(open.handle)?)
    }

    /// Keeps an opened file, after a look at what it is: only then is it made empty.
    fn take(
        &self,
        root: &Root,
        file: OwnedFd,
        place: &Place,
        handle: u64,
        how: &FilesOpenHow,
    ) -> Result<(), Problem> {
        let (file, attributes) = checked(file, place)?;
        if how.truncate {
            check_quick(root, &attributes)?;
            rustix::fs::ftruncate(&file.file, 0)?;
        }
        self.keep(handle, file)
    }

    pub(super) fn create(&self, root: &Root, create: &FilesCreate) -> Answer {
        let place = Place::parse(create.directory.as_ref())?;
        let directory = place.directory(root)?;
        let name = new_name(&create.name)?;
        let how = create.how.unwrap_or_default();
        let owner = create.owner.unwrap_or_default();
        self.check_room(create.handle)?;
        for _ in 0..CREATE_COUNT_MAX {
            match directory.make_file(&name, access(&how), owner.mode) {
                Err(Errno::EXIST) if !how.exclusive => {}
                Err(errno) => return Err(errno.into()),
                Ok(file) => {
                    if let Err(problem) = self.give(&directory, &name, &file, &owner) {
                        unmake(&directory, &name, &file);
                        return Err(problem);
                    }
                    self.take(
                        root,
                        file,
                        &Place::any(SyncPath::root()),
                        create.handle,
                        &FilesOpenHow::default(),
                    )?;
                    return self.created(&directory, create.handle);
                }
            }
            check_quick_name(root, &place.path, &name)?;
            match directory.open_carefully(&name, access(&how)) {
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno.into()),
                Ok(file) => {
                    self.take(root, file, &Place::any(SyncPath::root()), create.handle, &how)?;
                    return self.created(&directory, create.handle);
                }
            }
        }
        Err(FilesError::Busy.into())
    }

    /// A file was made, or found, and opened. Its name may mean something else by now.
    fn created(&self, directory: &DirFd, handle: u64) -> Answer {
        let (stamp, mut changed) = self.look_after(directory, None, None)?;
        let file = self.file(handle)?;
        changed.object = Some(to_wire(&Attributes::of(&file.file)?));
        Ok((stamp, Reply::Changed(changed)))
    }

    /// Gives what was just made the owner and the mode that are wanted, which the umask may have
    /// reduced.
    fn give(
        &self,
        directory: &DirFd,
        name: &Name,
        object: &OwnedFd,
        owner: &FilesOwner,
    ) -> Result<(), Problem> {
        let mut made = Attributes::of(object)?;
        let inherits = || Ok::<_, Problem>(Attributes::of(directory)?.mode & SET_GROUP_ID != 0);
        if owner.has_ids {
            let gid = if inherits()? { made.gid } else { owner.gid };
            if (made.uid, made.gid) != (owner.uid, gid) {
                set_owner(object, Some(owner.uid), Some(gid))?;
                made = Attributes::of(object)?;
            }
        }
        let mut mode = owner.mode & 0o7777;
        match made.kind() {
            FileType::Symlink => return Ok(()),
            FileType::Directory if inherits()? => mode |= SET_GROUP_ID,
            _ => {}
        }
        if made.mode & 0o7777 == mode {
            return Ok(());
        }
        match directory.set_mode(name, object, mode) {
            // Without `/proc` there is no way for sockets and devices: they have what the umask left.
            Err(Errno::OPNOTSUPP) => Ok(()),
            other => Ok(other?),
        }
    }

    pub(super) fn set(&self, root: &Root, set: &FilesSet) -> Answer {
        let place = Place::parse(set.at.as_ref())?;
        let open = match place.handle {
            0 => None,
            handle => Some(self.file(handle)?),
        };
        if let Some(size) = set.size {
            match &open {
                Some(open) => {
                    check_quick(root, &Attributes::of(&open.file)?)?;
                    rustix::fs::ftruncate(&open.file, size)?;
                }
                None => {
                    let file = root.open_carefully(&place.path, OFlags::WRONLY)?;
                    let (file, attributes) = checked(file, &place)?;
                    check_quick(root, &attributes)?;
                    rustix::fs::ftruncate(&file.file, size)?;
                }
            }
        }
        let at_place;
        let object = match &open {
            Some(open) => &open.file,
            None => {
                at_place = place.object(root)?.0;
                &at_place
            }
        };
        // The owner first: a change of it clears bits of the mode.
        if set.uid.is_some() || set.gid.is_some() {
            set_owner(object, set.uid, set.gid)?;
        }
        if let Some(mode) = set.mode {
            root.set_mode(&place.path, object, mode & 0o7777)?;
        }
        if set.atime.is_some() || set.mtime.is_some() {
            set_times(object, time(set.atime), time(set.mtime))?;
        }
        let stamp = self.stamps.next();
        Ok((stamp, found(&Attributes::of(object)?)))
    }

    pub(super) fn make(&self, root: &Root, make: &FilesMake) -> Answer {
        let directory = Place::parse(make.directory.as_ref())?.directory(root)?;
        let name = new_name(&make.name)?;
        let owner = make.owner.unwrap_or_default();
        let kind = FileType::from_raw_mode(make.r#type);
        let what = match kind {
            FileType::Directory => Made::Directory,
            FileType::Symlink if make.target.len() > PATH_BYTES_MAX => {
                return Err(FilesError::NameTooLong.into());
            }
            FileType::Symlink => Made::Symlink(&make.target),
            FileType::Unknown => return Err(Problem::invalid("there is no such type")),
            other => Made::Node(other, make.rdev),
        };
        directory.make(&name, what, owner.mode)?;
        let object = directory.open_object(&name)?;
        // Nothing that somebody put into its place.
        if Attributes::of(&object)?.kind() != kind {
            return Err(FilesError::Stale.into());
        }
        if let Err(problem) = self.give(&directory, &name, &object, &owner) {
            unmake(&directory, &name, &object);
            return Err(problem);
        }
        self.changed(&directory, Some(&name), None)
    }

    pub(super) fn link(&self, root: &Root, link: &FilesLink) -> Answer {
        let place = Place::parse(link.object.as_ref())?;
        let (parent, old_name) = place.path.split().ok_or(FilesError::NotPermitted)?;
        let from = root.open_place(&parent)?;
        place.check(&Attributes::of_name(&from, old_name.as_os_str())?)?;
        let directory = Place::parse(link.directory.as_ref())?.directory(root)?;
        let name = new_name(&link.name)?;
        from.link_new(&old_name, &directory, &name)?;
        self.changed(&directory, Some(&name), None)
    }

    pub(super) fn rename(&self, root: &Root, rename: &FilesRename) -> Answer {
        let from = Place::parse(rename.from.as_ref())?.directory(root)?;
        let place = Place::parse(rename.to.as_ref())?;
        let to = place.directory(root)?;
        let (old, new) = (name(&rename.from_name)?, new_name(&rename.to_name)?);
        check_quick_name(root, &place.path, &new)?;
        match rename.no_replace {
            true => from.move_new(&old, &to, &new)?,
            false => from.rename_over(&old, &to, &new)?,
        }
        self.changed(&to, Some(&new), Some(&from))
    }

    pub(super) fn remove(&self, root: &Root, remove: &FilesRemove) -> Answer {
        let place = Place::parse(remove.directory.as_ref())?;
        let directory = place.directory(root)?;
        let name = name(&remove.name)?;
        // Held, so that there is something to ask how many names are left.
        check_quick_name(root, &place.path, &name)?;
        let object = directory.open_object(&name)?;
        match remove.is_directory {
            true => directory.remove_directory(&name)?,
            false => directory.remove_file(&name)?,
        }
        let (stamp, mut changed) = self.look_after(&directory, None, None)?;
        let left = Attributes::of(&object)?;
        if !remove.is_directory && (left.links > 0 || self.has_open(&left)) {
            changed.object = Some(to_wire(&left));
        }
        Ok((stamp, Reply::Changed(changed)))
    }

    fn changed(&self, directory: &DirFd, name: Option<&Name>, before: Option<&DirFd>) -> Answer {
        let (stamp, changed) = self.look_after(directory, name, before)?;
        Ok((stamp, Reply::Changed(changed)))
    }

    fn look_after(
        &self,
        directory: &DirFd,
        name: Option<&Name>,
        before: Option<&DirFd>,
    ) -> Result<(u64, FilesChanged), Problem> {
        let stamp = self.stamps.next();
        // Somebody else may have removed it again.
        let object = name.and_then(|n| Attributes::of_name(directory, n.as_os_str()).ok());
        let before = before.map(Attributes::of).transpose()?;
        let changed = FilesChanged {
            object: object.as_ref().map(to_wire),
            directory: Some(to_wire(&Attributes::of(directory)?)),
            before: before.as_ref().map(to_wire),
        };
        Ok((stamp, changed))
    }
}

/// The same for what a name means, which may also be a mount point.
fn check_quick_name(root: &Root, directory: &SyncPath, name: &Name) -> Result<(), Problem> {
    if !root.is_near() {
        return Ok(());
    }
    match root.open_object(&directory.join(name)) {
        Ok(object) => check_quick(root, &Attributes::of(object)?),
        Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// What takes long is not done where nobody may wait: giving back the room of a large file.
fn check_quick(root: &Root, attributes: &Attributes) -> Result<(), Problem> {
    match root.is_near() && attributes.size > QUICK_BYTES_MAX {
        true => Err(FilesError::OtherDevice.into()),
        false => Ok(()),
    }
}

/// Removes what was just made, unless its name means something else by now.
fn unmake(directory: &DirFd, name: &Name, object: &OwnedFd) {
    let named = Attributes::of_name(directory, name.as_os_str());
    let (Ok(made), Ok(named)) = (Attributes::of(object), named) else { return };
    if made.is_same_object(&named) {
        // Whoever asked hears why it was not made as it should be.
        let _ = match made.kind() {
            FileType::Directory => directory.remove_directory(name),
            _ => directory.remove_file(name),
        };
    }
}

fn access(how: &FilesOpenHow) -> OFlags {
    let access = match (how.read, how.write || how.append || how.truncate) {
        (true, true) => OFlags::RDWR,
        (false, true) => OFlags::WRONLY,
        (_, false) => OFlags::RDONLY,
    };
    if how.append { access | OFlags::APPEND } else { access }
}

fn time(time: Option<FilesTime>) -> SetTime {
    match time {
        None => SetTime::Leave,
        Some(FilesTime { now: true, .. }) => SetTime::Now,
        Some(FilesTime { now: false, ns }) => SetTime::At(ns),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "the tests are the user whose files are shown")]

    use std::fs;

    use super::*;

    #[test]
    fn what_took_the_place_of_something_that_was_made_stays() {
        let base = tempfile::tempdir().expect("a directory");
        let root = Root::open(base.path()).expect("a root");
        let directory = root.open_place(&SyncPath::root()).expect("opened");
        let name = new_name(b"file").expect("a name");
        let make = || directory.make_file(&name, OFlags::WRONLY, 0o644).expect("made");
        let first = make();
        fs::rename(base.path().join("file"), base.path().join("other")).expect("renamed");
        let second = make();
        unmake(&directory, &name, &first);
        assert!(base.path().join("file").exists());
        unmake(&directory, &name, &second);
        assert!(!base.path().join("file").exists());
        let make = |name| directory.make(name, Made::Directory, 0o755).expect("made");
        make(&name);
        let made = directory.open_object(&name).expect("opened");
        unmake(&directory, &name, &made);
        assert!(!base.path().join("file").exists());
    }

    #[test]
    fn a_file_that_was_made_is_told_although_its_name_is_another_ones() {
        let base = tempfile::tempdir().expect("a directory");
        let root = Root::open(base.path()).expect("a root");
        let stamps = std::sync::Arc::new(crate::files::Stamps::new());
        let mount = Mount::new(Root::open(base.path()).expect("a root"), stamps);
        let directory = root.open_place(&SyncPath::root()).expect("opened");
        let name = new_name(b"file").expect("a name");
        let file = directory.make_file(&name, OFlags::WRONLY, 0o644).expect("made");
        let made = Attributes::of(&file).expect("attributes");
        let place = Place::any(SyncPath::root());
        assert!(mount.take(&root, file, &place, 7, &FilesOpenHow::default()).is_ok());
        fs::rename(base.path().join("file"), base.path().join("other")).expect("renamed");
        fs::write(base.path().join("file"), "another").expect("written");
        let Ok((_, Reply::Changed(changed))) = mount.created(&directory, 7) else {
            panic!("it was not told")
        };
        assert_eq!(changed.object.map(|object| object.inode), Some(made.inode));
    }
}
