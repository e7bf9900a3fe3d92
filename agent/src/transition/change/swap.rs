//! Puts new content over old, and takes it back if the old was not what was compared.

use rustix::io::Errno;

use super::temp::Temp;
use super::{Kept, Loss, Place, Status, Stop, bad_plan};
use crate::disk::Meta;
use crate::entry::File;
use crate::path::Name;
use crate::scan::now_ns;

/// How often something swapped out by mistake is swapped back, if the path changes each time.
const RESTORE_COUNT_MAX: u32 = 8;

impl<'a> Place<'a> {
    /// Puts `temp` where `meta` is. The two are swapped in one step and what came out is looked
    /// at: if it is not what was compared (it changed in the instant between), they are swapped
    /// back. Where the file system cannot swap, a rename follows the last look.
    pub(super) fn swap_in(
        &self,
        meta: &Meta,
        mut temp: Temp<'a>,
        file: Option<(&File, u16)>,
    ) -> Result<Status, Stop> {
        let fail = |errno| Stop::Errno("replace", errno);
        loop {
            match temp.home.exchange(&temp.name, self.directory, self.name) {
                Ok(true) => {
                    let out = temp.home.stat(&temp.name);
                    if !out.is_ok_and(|out| is_same_version(&out, meta)) {
                        return self.restore(temp);
                    }
                    match self.keep(meta, temp.home, &temp.name, Loss::Overwritten, false) {
                        Ok(Kept::Moved) => temp.is_placed = true,
                        // What is under the temporary name goes with it.
                        Ok(Kept::Copied) => {}
                        Err(stop) => {
                            self.restore(temp)?;
                            return Err(stop);
                        }
                    }
                    break;
                }
                Ok(false) => {
                    match self.directory.stat(self.name) {
                        Ok(now) if now == *meta => {}
                        Ok(_) | Err(_) => return Ok(Status::Stale),
                    }
                    self.keep(meta, self.directory, self.name, Loss::Overwritten, true)?;
                    if !self.is_unchanged(meta) {
                        return Ok(Status::Stale);
                    }
                    temp.home.rename_over(&temp.name, self.directory, self.name).map_err(fail)?;
                    temp.is_placed = true;
                    break;
                }
                Err(Errno::NOENT) => return Ok(Status::Stale),
                Err(Errno::XDEV) if temp.is_in_staging => {
                    temp = match file {
                        Some((file, mode)) => self.move_beside(temp, file, mode, None)?,
                        None => temp.move_link_beside(self)?,
                    };
                }
                Err(errno) => return Err(fail(errno)),
            }
        }
        match file {
            Some((file, _)) => self.record(&temp, file.digest),
            None => drop(self.change.cache().remove(self.path)),
        }
        Ok(Status::Applied)
    }

    /// Swaps back what was swapped out although it should not have been.
    fn restore(&self, mut temp: Temp<'_>) -> Result<Status, Stop> {
        for _ in 0..RESTORE_COUNT_MAX {
            match temp.home.exchange(&temp.name, self.directory, self.name) {
                Ok(_) => {
                    let out = temp.home.stat(&temp.name);
                    if out.is_ok_and(|out| temp.is_made_as(&out)) {
                        return Ok(Status::Stale);
                    }
                    // Somebody was faster again: theirs goes back next.
                }
                Err(Errno::NOENT) => {
                    if temp.home.rename_new(&temp.name, self.directory, self.name).is_ok() {
                        temp.is_placed = true;
                        return Ok(Status::Stale);
                    }
                }
                Err(_) => break,
            }
        }
        // What is in our hands is not ours and must not be swept.
        temp.is_placed = true;
        let short = &self.name.as_bytes()[..self.name.as_bytes().len().min(200)];
        let mut saved = short.to_vec();
        saved.extend_from_slice(format!(".skync-saved-{}", now_ns()).as_bytes());
        let saved = Name::parse(&saved).map_err(|_| bad_plan())?;
        temp.home
            .rename_new(&temp.name, self.directory, &saved)
            .map_err(|errno| Stop::Errno("put back", errno))?;
        Err(Stop::Told(format!(
            "it kept changing while it was replaced; one version was saved beside it as `{saved}`"
        )))
    }
}

/// The same object with the same content. Renaming changes the ctime, so that is not compared.
pub(super) fn is_same_version(a: &Meta, b: &Meta) -> bool {
    a.is_same_object(b) && (a.kind, a.size, a.mtime_ns) == (b.kind, b.size, b.mtime_ns)
}
