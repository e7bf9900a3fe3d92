//! Where our own files are, and the one way they are written, locked and removed.
//!
//! Our own files are the configuration, the state of sessions and the sockets in the runtime
//! directory. This module must never be used for a file of the user's project: those are changed
//! by the agent's `disk` module alone, which checks what it replaces.
#![expect(
    clippy::disallowed_methods,
    reason = "one of the two modules that may write: every path here is ours, none is synchronised"
)]

mod lock;

use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use tempfile::NamedTempFile;

pub use lock::{Lock, lock, try_lock};

/// Longest runtime directory, in bytes: a socket's whole path must fit in 107, and the names below
/// it (a session's 16 digits, a file name) need the rest.
pub(crate) const RUNTIME_BYTES_MAX: usize = 70;

/// What went wrong with a file of ours.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// There is nothing to derive our directories from.
    #[error("the home directory is not known")]
    NoHome,
    /// A system call failed.
    #[error("cannot {verb} `{}`", path.display())]
    Io {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A private directory is not private: someone else could have put files there.
    #[error("`{}` is not safe to use: {reason}", path.display())]
    Unsafe {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Another process held a lock for longer than we wait.
    #[error("timed out waiting for the lock `{}`", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// No socket could be made below the runtime directory.
    #[error("the runtime directory `{}` is too long for the path of a socket", path.display())]
    TooLong {
        /// The directory.
        path: PathBuf,
    },
}

impl StateError {
    fn io(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { verb, path: path.to_owned(), source }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoHome => Some("set HOME".to_owned()),
            Self::Io { path, source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => Some(format!(
                    "it must be yours to read and write: `ls -ld {}` says whose it is",
                    path.display()
                )),
                io::ErrorKind::ReadOnlyFilesystem => {
                    Some("the file system is read-only; XDG_CONFIG_HOME and XDG_STATE_HOME choose other places".to_owned())
                }
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    Some("make room on its disk".to_owned())
                }
                _ => None,
            },
            Self::Unsafe { path, .. } => Some(format!(
                "look at `{}`; if it is not needed, remove it",
                path.display()
            )),
            Self::Locked { .. } => Some("is another skync waiting for something?".to_owned()),
            Self::TooLong { .. } => Some("set XDG_RUNTIME_DIR to a shorter path".to_owned()),
        }
    }
}

/// Where our own files are. Nothing is created until it is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// Settings that a person writes: `$XDG_CONFIG_HOME/skync`.
    pub config: PathBuf,
    /// Sessions, journals, sandboxes of the directory driver: `$XDG_STATE_HOME/skync`.
    pub state: PathBuf,
    /// Sockets and locks of running sessions: `$XDG_RUNTIME_DIR/skync` or what stands in for it.
    pub runtime: PathBuf,
    /// The administrator's configuration files, the most important first: `skync/config.toml` below
    /// each of `$XDG_CONFIG_DIRS`.
    pub system: Vec<PathBuf>,
}

impl Places {
    /// Asks the environment, by the XDG rules on every platform.
    ///
    /// # Errors
    /// If there is neither a home directory nor an entry for this user that names one.
    pub fn discover() -> Result<Self, StateError> {
        let xdg = etcetera::base_strategy::Xdg::new().map_err(|_| StateError::NoHome)?;
        let state = xdg.state_dir().ok_or(StateError::NoHome)?;
        if xdg.config_dir().is_relative() || state.is_relative() {
            return Err(StateError::NoHome);
        }
        let uid = rustix::process::geteuid().as_raw();
        let parents = [xdg.runtime_dir(), Some(PathBuf::from(format!("/run/user/{uid}")))];
        // A parent that another user owns (XDG_RUNTIME_DIR kept through `sudo`) is passed over: we
        // would leave files there that its owner cannot remove.
        let parent = parents.into_iter().flatten().find(|parent| is_own_directory(parent));
        Ok(Self {
            config: xdg.config_dir().join("skync"),
            state: state.join("skync"),
            runtime: match parent {
                Some(parent) => parent.join("skync"),
                None => PathBuf::from(format!("/tmp/skync-{uid}")),
            },
            system: system_files(),
        })
    }

    /// Everything below one directory; for tests and trial runs.
    pub fn below(directory: &Path) -> Self {
        Self {
            config: directory.join("config"),
            state: directory.join("state"),
            runtime: directory.join("run"),
            system: Vec::new(),
        }
    }

    /// The file with the profiles.
    pub fn config_file(&self) -> PathBuf {
        self.config.join("config.toml")
    }

    /// The state directory, made (mode 0700) if it is not there.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn state_dir(&self) -> Result<&Path, StateError> {
        make_directory(&self.state)?;
        Ok(&self.state)
    }

    /// The directory for sockets, made (mode 0700) if it is not there.
    ///
    /// # Errors
    /// If it cannot be made, belongs to someone else, is a symbolic link, or can be entered by
    /// others: whoever could write there could answer in a session's place.
    pub fn runtime_dir(&self) -> Result<&Path, StateError> {
        if self.runtime.as_os_str().len() > RUNTIME_BYTES_MAX {
            return Err(StateError::TooLong { path: self.runtime.clone() });
        }
        make_private_directory(&self.runtime)?;
        Ok(&self.runtime)
    }
}

fn system_files() -> Vec<PathBuf> {
    let directories = std::env::var_os("XDG_CONFIG_DIRS").filter(|list| !list.is_empty());
    let directories = directories.unwrap_or_else(|| "/etc/xdg".into());
    let absolute = std::env::split_paths(&directories).filter(|path| path.is_absolute());
    absolute.map(|path| path.join("skync/config.toml")).collect()
}

fn is_own_directory(path: &Path) -> bool {
    path.is_absolute()
        && std::fs::metadata(path)
            .is_ok_and(|found| found.is_dir() && found.uid() == rustix::process::geteuid().as_raw())
}

/// Makes a directory of ours and what is missing above it, mode 0700. One that is there stays as
/// it is.
///
/// # Errors
/// If it cannot be made, or something else has its name.
pub fn make_directory(path: &Path) -> Result<(), StateError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(StateError::io("make the directory", path))
}

/// Makes a directory that only this user can enter, or checks that the one there is such.
///
/// # Errors
/// If it cannot be made, is not a directory (a symbolic link is none), belongs to someone else or
/// is open to others.
pub fn make_private_directory(path: &Path) -> Result<(), StateError> {
    if let Some(parent) = path.parent() {
        make_directory(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(StateError::io("make the directory", path)(error));
        }
        Ok(()) | Err(_) => {}
    }
    let found = std::fs::symlink_metadata(path).map_err(StateError::io("look at", path))?;
    let uid = rustix::process::geteuid().as_raw();
    match unsafe_because(&found, uid) {
        None => Ok(()),
        Some(reason) => Err(StateError::Unsafe { path: path.to_owned(), reason }),
    }
}

fn unsafe_because(found: &Metadata, uid: u32) -> Option<&'static str> {
    if found.is_symlink() {
        Some("it is a symbolic link")
    } else if !found.is_dir() {
        Some("it is not a directory")
    } else if found.uid() != uid {
        Some("it belongs to another user")
    } else if found.mode() & 0o077 != 0 {
        Some("other users can enter it")
    } else {
        None
    }
}

/// Reads a file of ours; nothing if there is none.
///
/// # Errors
/// If it cannot be read, is not a plain file, or has more than `bytes_max` bytes.
pub fn read(path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>, StateError> {
    let fail = || StateError::io("read", path);
    let Some(file) = open(path)? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(fail())?;
    if bytes.len() as u64 > bytes_max {
        return Err(fail()(io::Error::other(format!("it has more than {bytes_max} bytes"))));
    }
    Ok(Some(bytes))
}

/// Opens a file of ours for reading; nothing if there is none.
///
/// # Errors
/// If it cannot be opened, or is not a plain file (a FIFO would block for ever).
pub fn open(path: &Path) -> Result<Option<File>, StateError> {
    let fail = || StateError::io("read", path);
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = match OpenOptions::new().read(true).custom_flags(nonblocking).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail()(error)),
    };
    if !file.metadata().map_err(fail())?.is_file() {
        return Err(fail()(io::Error::other("it is not a file")));
    }
    Ok(Some(file))
}

/// Makes an empty file of ours that only this user can read; what was there is replaced.
///
/// # Errors
/// If it cannot be made.
pub fn create(path: &Path) -> Result<File, StateError> {
    remove_file(path)?;
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    made.map_err(StateError::io("make", path))
}

/// Puts a file in place: readers see the old content or the new, also after a power cut.
///
/// # Errors
/// If the directory cannot be written; the old content is then still there.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<(), StateError> {
    put(path, bytes, mode, true)
}

/// Puts a file in place as [`write_atomic`] does, but without waiting for the disk: it outlives
/// every process, not the machine. For what is of no use once the machine has gone down.
///
/// # Errors
/// If the directory cannot be written; the old content is then still there.
pub fn write_atomic_in_cache(path: &Path, bytes: &[u8], mode: u32) -> Result<(), StateError> {
    put(path, bytes, mode, false)
}

fn put(path: &Path, bytes: &[u8], mode: u32, durable: bool) -> Result<(), StateError> {
    let fail = || StateError::io("write", path);
    let file = beside(path, bytes, mode, durable).map_err(fail())?;
    file.persist(path).map_err(|error| fail()(error.error))?;
    if durable { sync_directory(directory_of(path)).map_err(fail()) } else { Ok(()) }
}

/// Puts a new file in place that only its owner can read, unless `mode` says otherwise; what is there
/// already is never replaced.
///
/// # Errors
/// If something is there already ([`io::ErrorKind::AlreadyExists`]), or it cannot be written.
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), StateError> {
    let fail = || StateError::io("make", path);
    let file = beside(path, bytes, mode, true).map_err(fail())?;
    file.persist_noclobber(path).map(drop).map_err(|error| fail()(error.error))
}

/// All of a file, in the directory where `path` will be, under a name that nobody looks for.
fn beside(path: &Path, bytes: &[u8], mode: u32, durable: bool) -> io::Result<NamedTempFile> {
    let mut file = tempfile::Builder::new()
        .prefix(".skync-")
        .suffix(".tmp")
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(directory_of(path))?;
    file.write_all(bytes)?;
    // Set on the file rather than at creation, where the umask would have its say.
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    if durable {
        file.as_file().sync_all()?;
    }
    Ok(file)
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    }
}

/// Takes a file or directory of ours away from other users: mode 0600 or 0700.
///
/// # Errors
/// If it is not there, is a symbolic link, or is another user's.
pub fn make_private(path: &Path) -> Result<(), StateError> {
    let found = std::fs::symlink_metadata(path).map_err(StateError::io("look at", path))?;
    let refuse = |reason| StateError::Unsafe { path: path.to_owned(), reason };
    if found.is_symlink() {
        return Err(refuse("it is a symbolic link"));
    }
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err(refuse("it belongs to another user"));
    }
    let mode = if found.is_dir() { 0o700 } else { 0o600 };
    std::fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(StateError::io("change the mode of", path))
}

/// Removes a file of ours; one that is gone already is no error.
///
/// # Errors
/// If it is there and cannot be removed.
pub fn remove_file(path: &Path) -> Result<(), StateError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StateError::io("remove", path)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Removes a directory of ours with all that is in it; one that is gone already is no error.
///
/// Symbolic links in it are removed, never followed. Directories without write permission, which
/// tools leave in their caches, are opened up first.
///
/// # Errors
/// If something in it cannot be removed, or the path is so short or so loose that it cannot be
/// ours.
pub fn remove_tree(path: &Path) -> Result<(), StateError> {
    use std::path::Component;
    let plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
    if !path.is_absolute() || !path.components().all(plain) || path.components().count() < 3 {
        let path = path.to_owned();
        return Err(StateError::Unsafe { path, reason: "it cannot be a directory of ours" });
    }
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(StateError::io("remove", path)(error)),
        Ok(found) if !found.is_dir() => {
            let path = path.to_owned();
            return Err(StateError::Unsafe { path, reason: "it is not a directory" });
        }
        Ok(_) => {}
    }
    let removed = std::fs::remove_dir_all(path).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        io::ErrorKind::PermissionDenied => {
            open_up(path)?;
            std::fs::remove_dir_all(path)
        }
        _ => Err(error),
    });
    removed.map_err(StateError::io("remove", path))
}

/// Gives this user all rights to every directory of a tree.
fn open_up(root: &Path) -> io::Result<()> {
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        std::fs::set_permissions(&directory, Permissions::from_mode(0o700))?;
        for entry in std::fs::read_dir(&directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                pending.push(entry.path());
            }
        }
    }
    Ok(())
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests;
