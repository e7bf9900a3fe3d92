//! The files of a sandbox as a [`Source`](skync_mount::Source), over whatever link there is.
//!
//! A mount has four streams over the link (`lane`): what somebody waits for, what somebody may want
//! soon, what is written, and long lists; none of them stands behind another. `redial` opens them
//! over every link that comes, and says what became of the files meanwhile. A request (`ask`) waits
//! for a link, goes out, and is sent again over the next one if it may be; where it may not, `doubt`
//! looks whether it has happened. `wire` believes nothing that comes from the sandbox.
//!
//! Nothing here knows sessions: whoever has the links hands them in as [`MountWay`]s.

mod ask;
mod doubt;
mod lane;
mod many;
mod redial;
mod source;
#[cfg(test)]
mod tests;
mod wire;

use std::path::PathBuf;
use std::time::Duration;

use skync_agent::proto::agent_client::AgentClient;

pub use self::source::LinkSource;
use crate::channel::Channel;

/// How long a request waits for a link, if nobody says otherwise.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How the way to the sandbox is, for a mount.
#[derive(Clone, Debug)]
pub enum MountWay {
    /// A link is open, to the sandbox of this id. It is told once for each link.
    Open(AgentClient<Channel>, String),
    /// It has ended, and is dialled again.
    Lost,
    /// There is no sandbox (any more).
    Gone,
}

/// What is mounted.
#[derive(Clone, Debug)]
pub struct MountSettings {
    /// Absolute path in the sandbox of what is shown. Links in it are followed.
    pub root: PathBuf,
    /// How long a request waits for a link.
    pub patience: Duration,
}
