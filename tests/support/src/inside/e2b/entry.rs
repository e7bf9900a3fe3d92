//! What is told of one file.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use super::connect::ConnectError;
use super::file_messages::{EntryInfo, FileType, Timestamp};
use crate::inside::users;

/// Describes the file at a path. A symlink is described as its target, and its text is lost, as
/// with envd.
pub(super) fn describe(path: &Path) -> io::Result<EntryInfo> {
    let own = fs::symlink_metadata(path)?;
    let (kind, mode, symlink_target) = if own.is_symlink() {
        match (fs::metadata(path), fs::canonicalize(path)) {
            (Ok(target), Ok(resolved)) => (file_type(&target), target.mode(), Some(resolved)),
            _ => (FileType::Symlink, own.mode(), fs::read_link(path).ok()),
        }
    } else {
        (file_type(&own), own.mode(), None)
    };
    let name = path.file_name().map_or_else(|| "/".into(), |name| name.to_string_lossy());
    Ok(EntryInfo {
        name: name.into_owned(),
        kind: kind.into(),
        path: path.to_string_lossy().into_owned(),
        size: own.size() as i64,
        mode: mode & 0o7777,
        permissions: permissions(kind, mode),
        owner: users::user_name(own.uid()),
        group: users::group_name(own.gid()),
        modified_time: Some(Timestamp { seconds: own.mtime(), nanos: own.mtime_nsec() as i32 }),
        symlink_target: symlink_target.map(|target| target.to_string_lossy().into_owned()),
        metadata: Default::default(),
    })
}

fn file_type(metadata: &Metadata) -> FileType {
    if metadata.is_dir() {
        FileType::Directory
    } else if metadata.is_file() {
        FileType::File
    } else {
        FileType::Unspecified
    }
}

fn permissions(kind: FileType, mode: u32) -> String {
    let mut text = String::from(match kind {
        FileType::Directory => "d",
        FileType::Symlink => "L",
        FileType::File | FileType::Unspecified => "-",
    });
    for shift in (0..9).rev() {
        let letter = ['x', 'w', 'r'][shift % 3];
        text.push(if mode >> shift & 1 == 1 { letter } else { '-' });
    }
    text
}

/// Whether a file may not be overwritten by an upload: it is a directory.
pub(super) fn is_dir(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

/// Makes the directories that are missing down to `path`, for a user.
pub(super) fn make_dirs(path: &Path, uid: u32, gid: u32) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_dirs(parent, uid, gid)?;
    }
    fs::create_dir(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    std::os::unix::fs::chown(path, Some(uid), Some(gid))
}

/// Says an error of the filesystem as Connect does.
pub(super) fn connect_error(error: &io::Error, path: &Path) -> ConnectError {
    let code = match error.kind() {
        io::ErrorKind::NotFound => "not_found",
        io::ErrorKind::AlreadyExists => "already_exists",
        io::ErrorKind::NotADirectory | io::ErrorKind::InvalidInput => "invalid_argument",
        io::ErrorKind::StorageFull => "resource_exhausted",
        _ => "internal",
    };
    ConnectError::new(code, format!("{}: {error}", path.display()))
}
