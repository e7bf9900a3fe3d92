//! An object under a temporary name, whole and checked, before it gets its place.

use super::*;

/// Removed again when it is dropped, unless it was placed.
pub(super) struct Temp<'a> {
    pub(super) home: &'a DirFd,
    pub(super) name: Name,
    /// A file, open; nothing for a link.
    pub(super) file: Option<OpenFile>,
    /// What a link is.
    link: Option<Meta>,
    /// A rename from its home may not reach the place.
    pub(super) is_in_staging: bool,
    /// The name is no longer ours to remove.
    pub(super) is_placed: bool,
}

impl Drop for Temp<'_> {
    fn drop(&mut self) {
        if !self.is_placed {
            // What cannot be removed now is swept later.
            let _ = self.home.remove_file(&self.name);
        }
    }
}

fn write_failed(errno: Errno) -> Stop {
    Stop::Errno("write", errno)
}

impl<'a> Temp<'a> {
    fn of_file(home: &'a DirFd, name: Name, file: OpenFile, is_in_staging: bool) -> Self {
        Self { home, name, file: Some(file), link: None, is_in_staging, is_placed: false }
    }

    pub(super) fn of_link(place: &Place<'a>, target: &[u8]) -> Result<Self, Stop> {
        let (home, is_in_staging) = place.home();
        Self::link_in(place, target, home, is_in_staging)
    }

    fn link_in(
        place: &Place<'a>,
        target: &[u8],
        home: &'a DirFd,
        is_in_staging: bool,
    ) -> Result<Self, Stop> {
        let name = place.change.staging.temp_name();
        home.make_symlink(&name, target).map_err(write_failed)?;
        let meta = home.stat(&name).map_err(write_failed)?;
        Ok(Self { home, name, file: None, link: Some(meta), is_in_staging, is_placed: false })
    }

    pub(super) fn move_link_beside(self, place: &Place<'a>) -> Result<Self, Stop> {
        place.change.staging.set_apart();
        let target = self.home.read_link(&self.name).map_err(write_failed)?;
        Self::link_in(place, &target, place.directory, false)
    }
}

impl<'a> Place<'a> {
    /// Where a temporary object is made, and whether that is the staging directory.
    fn home(&self) -> (&'a DirFd, bool) {
        let staging = self.change.staging;
        if staging.is_apart() { (self.directory, false) } else { (staging.directory(), true) }
    }

    /// Writes checked content under a temporary name, with its mode.
    pub(super) fn write_temp(
        &self,
        file: &File,
        content: Content,
        mode: u16,
    ) -> Result<Temp<'a>, Stop> {
        let is_right = match &content {
            Content::Inline(data) => {
                data.len() as u64 == file.size && Digest::of(data) == file.digest
            }
            Content::Staged(staged) => staged.size == file.size && staged.digest == file.digest,
        };
        if !is_right {
            return Err(Stop::Told("the content that came is not what was announced".to_owned()));
        }
        let (home, is_in_staging) = self.home();
        match content {
            Content::Inline(data) => {
                let mut temp = self.make_temp(home, is_in_staging, mode)?;
                if let Some(open) = &mut temp.file {
                    open.write_all(&data).map_err(|error| {
                        write_failed(Errno::from_io_error(&error).unwrap_or(Errno::IO))
                    })?;
                }
                Ok(temp)
            }
            Content::Staged(staged) if is_in_staging => {
                let name = self.change.staging.take(&staged).map_err(write_failed)?;
                let open = match home.open_file(&name) {
                    Ok(open) => open,
                    Err(errno) => {
                        let _ = home.remove_file(&name);
                        return Err(write_failed(errno));
                    }
                };
                let temp = Temp::of_file(home, name, open, true);
                temp.set_mode(mode)?;
                Ok(temp)
            }
            Content::Staged(staged) => {
                let mut from = self.change.staging.open_staged(&staged).map_err(write_failed)?;
                let temp = self.copy_beside(&mut from, file, mode)?;
                self.change.staging.forget(&staged);
                Ok(temp)
            }
        }
    }

    fn make_temp(&self, home: &'a DirFd, is_in_staging: bool, mode: u16) -> Result<Temp<'a>, Stop> {
        let name = self.change.staging.temp_name();
        let open = home.create_file(&name, mode).map_err(write_failed)?;
        let temp = Temp::of_file(home, name, open, is_in_staging);
        if mode & self.change.root.umask() != 0 {
            // The system took bits that the entry's class needs.
            temp.set_mode(mode)?;
        }
        Ok(temp)
    }

    /// The staging directory turned out to be on another file system: the content is copied beside
    /// its place.
    pub(super) fn move_beside(
        &self,
        temp: Temp<'a>,
        file: &File,
        mode: u16,
        mtime_ns: Option<i64>,
    ) -> Result<Temp<'a>, Stop> {
        self.change.staging.set_apart();
        // Opened before the mode was set, so a mode without read permission is no obstacle.
        let mut from = match &temp.file {
            Some(open) => open
                .try_clone()
                .map_err(|error| write_failed(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?,
            None => return Err(bad_plan()),
        };
        let beside = self.copy_beside(&mut from, file, mode)?;
        if let (Some(open), Some(mtime_ns)) = (&beside.file, mtime_ns) {
            set_mtime(open, mtime_ns).map_err(write_failed)?;
        }
        Ok(beside)
    }

    fn copy_beside(&self, from: &mut OpenFile, file: &File, mode: u16) -> Result<Temp<'a>, Stop> {
        let mut temp = self.make_temp(self.directory, false, mode)?;
        let staged = crate::staging::Staged { digest: file.digest, size: file.size };
        let is_right = match &mut temp.file {
            Some(open) => copy_checked(from, open, &staged).map_err(write_failed)?,
            None => false,
        };
        if is_right {
            Ok(temp)
        } else {
            Err(Stop::Told("the content that was staged is damaged".to_owned()))
        }
    }
}

impl Temp<'_> {
    /// Whether `out` is the object that this was made as.
    pub(super) fn is_made_as(&self, out: &Meta) -> bool {
        let made = match &self.file {
            Some(open) => Meta::of(open).ok(),
            None => self.link,
        };
        made.is_some_and(|made| made.is_same_object(out))
    }

    fn set_mode(&self, mode: u16) -> Result<(), Stop> {
        self.file.as_ref().map_or(Ok(()), |open| set_mode(open, mode).map_err(write_failed))
    }
}
