//! One mount: the filesystem of [`skync_mount`] over the files of `crate::mounts`, and what keeps it
//! from going, for a person. Which mounts there are, and why, is in `mount_table`.
//!
//! Only Linux has mounts (`linux`); elsewhere there is never one (`nowhere`).

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod nowhere;

use std::path::Path;

use skync_mount::system::Holder;

#[cfg(target_os = "linux")]
pub(super) use linux::Mount;
#[cfg(not(target_os = "linux"))]
pub(super) use nowhere::Mount;

use crate::error::{CliError, ExitCode};
use crate::ui::visible;

/// Users of a mount that are named in one message.
const HOLDERS_MAX: usize = 5;

/// What it is used for at this time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Used {
    pub(super) open_files: u64,
    pub(super) dirty_bytes: u64,
}

/// Why a mount stays where it is.
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "no mount, so none that stays"))]
pub(super) enum Stays {
    /// These use it.
    InUse(Vec<Holder>),
    /// What was written there is not in the sandbox.
    Unwritten(String),
    /// The system says so.
    Failed(String),
    /// It does not: somebody else takes it away at this moment, whatever is in the way.
    Forced,
}

impl Stays {
    /// For a person; `otherwise` is what takes it away all the same.
    pub(super) fn error(self, at: &Path, otherwise: &str) -> CliError {
        let at = at.display();
        match self {
            Self::InUse(holders) => {
                let message = format!("the mount at `{at}` is in use{}", who(&holders));
                CliError::new(ExitCode::Conflict, message)
                    .hint("leave it (`cd` elsewhere) and close what is open there")
                    .hint(format!("{otherwise} takes it away under who uses it"))
            }
            Self::Unwritten(why) => {
                let message = format!(
                    "not all that was written to the mount at `{at}` is in the sandbox; what is \
                     not was lost: {why}"
                );
                CliError::new(ExitCode::Conflict, message)
                    .hint("write again what whoever wrote it has heard an error for")
                    .hint(format!("then unmount it again; {otherwise} does not look"))
            }
            Self::Failed(why) => {
                CliError::new(ExitCode::Failed, format!("cannot unmount `{at}`: {why}"))
                    .hint(format!("{otherwise} takes it away whatever is in the way"))
            }
            Self::Forced => CliError::new(
                ExitCode::Conflict,
                format!("`{at}` is taken away by force meanwhile"),
            )
            .hint("`skync status` shows what is mounted"),
        }
    }

    /// In a few words, for a warning.
    pub(super) fn words(&self) -> String {
        match self {
            Self::InUse(holders) => format!("it is in use{}", who(holders)),
            Self::Unwritten(why) => format!("some of what was written there was lost: {why}"),
            Self::Failed(why) => why.clone(),
            Self::Forced => "it is taken away by force meanwhile".to_owned(),
        }
    }
}

/// `: bash (4711) works in it, vim (12) has \`a\` open`.
fn who(holders: &[Holder]) -> String {
    let named = holders.iter().take(HOLDERS_MAX);
    let named = named.map(|who| format!("{} ({}) {}", visible(&who.command), who.pid, who.what));
    let mut text = named.collect::<Vec<_>>().join(", ");
    if let Some(more) = holders.len().checked_sub(HOLDERS_MAX).filter(|more| *more > 0) {
        text.push_str(&format!(" and {more} more"));
    }
    if text.is_empty() { text } else { format!(": {text}") }
}
