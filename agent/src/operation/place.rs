//! The directory of one operation: its supervisor's socket and what does not stay in memory of its
//! output.
//!
//! What the operation was asked to be is not here: its environment may hold secrets, and an
//! operation must start where the disk is full, if only to remove something.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use prost::Message;
use rustix::fs::{Mode, OFlags};
use tokio::net::{UnixListener, UnixStream};

use crate::own;
use crate::proto::StartRequest;

/// The supervisor listens here.
const SOCKET: &str = "socket";
/// Asked of a socket, in bytes: several pieces of output fit. The system may give less.
const SOCKET_BYTES: usize = 1 << 20;
/// Between two tries to connect while the supervisor has not taken those who came before.
const CONNECT_INTERVAL: Duration = Duration::from_millis(10);

/// The directory of one operation.
#[derive(Debug, Clone)]
pub struct Place(PathBuf);

/// What an operation was asked to be: a digest of the start request.
pub type Specification = [u8; 32];

impl Place {
    /// A directory that is there.
    pub fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Makes the directory, and those above it, for their owner alone.
    ///
    /// # Errors
    /// What the system says; also if it is there already.
    pub fn create(path: &Path) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        std::fs::DirBuilder::new().mode(0o700).create(path)?;
        Ok(Self(path.to_owned()))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Removes the directory with all that is in it; the socket last, by which it is found.
    ///
    /// # Errors
    /// What the system says.
    pub fn remove(&self) -> io::Result<()> {
        own::removal::remove(&self.0, SOCKET)
    }

    /// Listens for the agent.
    ///
    /// # Errors
    /// What the system says.
    pub fn listen(&self) -> io::Result<UnixListener> {
        let (_held, socket) = self.socket()?;
        let listener = UnixListener::bind(&socket)?;
        std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    }

    /// Connects to the supervisor.
    ///
    /// # Errors
    /// If it is not there.
    pub async fn connect(&self) -> io::Result<UnixStream> {
        let (_held, socket) = self.socket()?;
        loop {
            match UnixStream::connect(&socket).await {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    tokio::time::sleep(CONNECT_INTERVAL).await;
                }
                other => return other.inspect(enlarge),
            }
        }
    }

    /// The socket's path, by way of a descriptor: a socket's path has at most 107 bytes, and a
    /// state directory may be deep.
    fn socket(&self) -> io::Result<(OwnedFd, PathBuf)> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(&self.0, flags, Mode::empty())?;
        let socket = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd()));
        Ok((directory, socket))
    }
}

/// Whether a connection failed because nobody is at the other end any more.
pub fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotFound, UnexpectedEof};
    let kinds = [NotFound, ConnectionRefused, ConnectionReset, BrokenPipe, UnexpectedEof];
    kinds.contains(&error.kind())
}

/// Enlarges what a socket holds. A smaller one only costs speed, so failing is no error.
pub fn enlarge(socket: &impl AsFd) {
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(socket, SOCKET_BYTES);
}

/// The digest by which two start requests are the same.
pub fn specification(request: &StartRequest) -> Specification {
    blake3::hash(&request.encode_to_vec()).into()
}
