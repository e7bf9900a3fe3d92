//! No mount: what `mount_table` asks of one, where there is never one to ask.

use super::{Stays, Used};
use crate::error::CliError;
use crate::session::journal::MountRecord;
use crate::session::mount_place;
use crate::session::ways::Ways;

/// There is none.
pub(in crate::session) enum Mount {}

impl Mount {
    /// Mounts nothing.
    ///
    /// # Errors
    /// Always: what this system has not.
    pub(in crate::session) async fn new(
        _record: &MountRecord,
        _profile: &str,
        _ways: &Ways,
    ) -> Result<Self, CliError> {
        Err(mount_place::not_here())
    }

    pub(in crate::session) async fn gone(&self) {
        match *self {}
    }

    pub(in crate::session) async fn settle(&self) {
        match *self {}
    }

    pub(in crate::session) async fn unmount(&self, _force: bool) -> Result<(), Stays> {
        match *self {}
    }

    pub(in crate::session) fn used(&self) -> Used {
        match *self {}
    }
}
