//! Files into and out of a container by the engine's archive interface: works before the first
//! start, and with nothing at all in the image.
//!
//! An entry for a directory changes the mode and the owner of one that exists; so entries are
//! made only for directories that are ours or that were seen to be missing.

use std::io::Read;
use std::path::{Component, Path, PathBuf};

use bollard::query_parameters::{
    ContainerArchiveInfoOptionsBuilder, DownloadFromContainerOptionsBuilder,
    UploadToContainerOptionsBuilder,
};
use bytes::Bytes;
use futures_util::StreamExt;

use super::engine::{Engine, LOOK, status};
use super::user::Ids;
use crate::driver::{DriverError, ErrorKind};

/// Most bytes of a text file that is read out of a container: an `/etc/passwd` has a few thousand.
const TEXT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Most symbolic links that are followed to a file.
const LINKS_MAX: usize = 8;

/// What a path of a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A directory, or a symbolic link, which the engine follows on the way to what is below.
    Directory,
    /// Anything else.
    Other,
}

/// A tar archive in the making.
pub(super) struct Archive(tar::Builder<Vec<u8>>);

impl Archive {
    /// An empty archive.
    pub(super) fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    /// Adds a directory; `path` is relative.
    pub(super) fn directory(
        &mut self,
        path: impl AsRef<Path>,
        mode: u32,
        owner: Ids,
    ) -> Result<(), DriverError> {
        self.add(path.as_ref(), tar::EntryType::Directory, mode, owner, &[])
    }

    /// Adds a file; `path` is relative.
    pub(super) fn file(
        &mut self,
        path: impl AsRef<Path>,
        mode: u32,
        owner: Ids,
        content: &[u8],
    ) -> Result<(), DriverError> {
        self.add(path.as_ref(), tar::EntryType::Regular, mode, owner, content)
    }

    fn add(
        &mut self,
        path: &Path,
        kind: tar::EntryType,
        mode: u32,
        owner: Ids,
        content: &[u8],
    ) -> Result<(), DriverError> {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner.uid.into());
        header.set_gid(owner.gid.into());
        header.set_size(content.len() as u64);
        self.0.append_data(&mut header, path, content).map_err(|error| {
            let message = format!("cannot put `{}` into an archive", path.display());
            DriverError::new(ErrorKind::Invalid, message).source(error)
        })
    }

    /// Unpacks it in the existing directory `place` of `container`.
    ///
    /// # Errors
    /// What the engine said; something may have been unpacked.
    pub(super) async fn upload(
        self,
        engine: &Engine,
        container: &str,
        place: &str,
    ) -> Result<(), DriverError> {
        let bytes = self.0.into_inner().map_err(|error| {
            DriverError::new(ErrorKind::Failed, "cannot finish an archive").source(error)
        })?;
        let options = UploadToContainerOptionsBuilder::new().path(place).build();
        let body = bollard::body_full(Bytes::from(bytes));
        let call = engine.api.upload_to_container(container, Some(options), body);
        engine.call(&format!("put files into the container under `{place}`"), call).await
    }
}

/// What is at `path`; `None` if nothing is.
pub(super) async fn look(
    engine: &Engine,
    container: &str,
    path: &str,
) -> Result<Option<Kind>, DriverError> {
    // Bits of Go's file modes, which are not those of the kernel.
    const DIRECTORY: u32 = 1 << 31;
    const SYMLINK: u32 = 1 << 27;
    let options = ContainerArchiveInfoOptionsBuilder::new().path(path).build();
    match engine.try_call(engine.api.get_container_archive_info(container, Some(options))).await {
        Ok(found) if found.file_mode & (DIRECTORY | SYMLINK) != 0 => Ok(Some(Kind::Directory)),
        Ok(_) => Ok(Some(Kind::Other)),
        Err(error) if status(&error) == Some(404) => Ok(None),
        Err(error) => Err(engine.error(&format!("look at `{path}` in the container"), error)),
    }
}

/// Makes `path` with those of its ancestors that are missing; only `path` itself gets `owner`.
///
/// What exists stays as it is, `path` too.
///
/// # Errors
/// [`ErrorKind::Invalid`] if something on the way is no directory.
pub(super) async fn make_directories(
    engine: &Engine,
    container: &str,
    path: &Path,
    owner: Ids,
) -> Result<(), DriverError> {
    let plain = path.is_absolute()
        && path.components().skip(1).all(|part| matches!(part, Component::Normal(_)));
    if !plain || path.to_str().is_none() {
        let message = format!("`{}` cannot be made in a container", path.display());
        return Err(DriverError::new(ErrorKind::Invalid, message)
            .hint("set `root` in the profile to an absolute path of plain names"));
    }
    let mut place = PathBuf::from("/");
    let mut rest = path.components().skip(1).peekable();
    while let Some(part) = rest.peek() {
        let next = place.join(part);
        match look(engine, container, &next.to_string_lossy()).await? {
            Some(Kind::Directory) => place = next,
            Some(Kind::Other) => {
                let message = format!(
                    "`{}` cannot be made in the container: `{}` is no directory there",
                    path.display(),
                    next.display()
                );
                return Err(DriverError::new(ErrorKind::Invalid, message)
                    .hint("set `root` in the profile to a place that can be made"));
            }
            None => break,
        }
        rest.next();
    }
    if rest.peek().is_none() {
        return Ok(());
    }
    let mut archive = Archive::new();
    let mut made = PathBuf::new();
    while let Some(part) = rest.next() {
        made.push(part);
        let owner = if rest.peek().is_none() { owner } else { Ids::ROOT };
        archive.directory(&made, 0o755, owner)?;
    }
    archive.upload(engine, container, &place.to_string_lossy()).await
}

/// The text of a file, symbolic links followed; `None` if there is none.
///
/// # Errors
/// [`ErrorKind::Invalid`] if it is larger than any such file is.
pub(super) async fn read_text(
    engine: &Engine,
    container: &str,
    path: &str,
) -> Result<Option<String>, DriverError> {
    let bytes = read(engine, container, path, TEXT_BYTES_MAX).await?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// The content of a file of at most `bytes_max`, symbolic links followed; `None` if there is none.
pub(super) async fn read(
    engine: &Engine,
    container: &str,
    path: &str,
    bytes_max: usize,
) -> Result<Option<Vec<u8>>, DriverError> {
    let mut path = PathBuf::from(path);
    for _ in 0..LINKS_MAX {
        let Some(bytes) = download(engine, container, &path, bytes_max).await? else {
            return Ok(None);
        };
        match first_entry(&bytes) {
            Ok(First::File(content)) => return Ok(Some(content)),
            // The engine reads a path within the container, so this cannot lead out of it.
            Ok(First::Link(target)) => path = path.parent().unwrap_or(Path::new("/")).join(target),
            Ok(First::Other) => return Ok(None),
            Err(error) => {
                let message =
                    format!("the engine sent no readable archive of `{}`", path.display());
                return Err(DriverError::new(ErrorKind::Failed, message).source(error).hint(LOOK));
            }
        }
    }
    Ok(None)
}

async fn download(
    engine: &Engine,
    container: &str,
    path: &Path,
    bytes_max: usize,
) -> Result<Option<Vec<u8>>, DriverError> {
    let shown = path.to_string_lossy();
    let options = DownloadFromContainerOptionsBuilder::new().path(&shown).build();
    let mut chunks = std::pin::pin!(engine.api.download_from_container(container, Some(options)));
    let mut bytes = Vec::new();
    loop {
        let next = async { chunks.next().await.transpose() };
        match engine.try_call(next).await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) => return Ok(Some(bytes)),
            Err(error) if status(&error) == Some(404) => return Ok(None),
            Err(error) => {
                return Err(engine.error(&format!("read `{shown}` from the container"), error));
            }
        }
        // An archive of one file adds a few blocks to it.
        if bytes.len() > bytes_max.saturating_add(64 * 1024) {
            let message = format!("`{shown}` in the container is larger than {bytes_max} bytes");
            return Err(DriverError::new(ErrorKind::Invalid, message)
                .hint("it is not as usual: look at it there, or try another image"));
        }
    }
}

/// What the first entry of an archive is.
enum First {
    File(Vec<u8>),
    Link(PathBuf),
    Other,
}

fn first_entry(archive: &[u8]) -> std::io::Result<First> {
    let mut archive = tar::Archive::new(archive);
    let Some(entry) = archive.entries()?.next() else {
        return Ok(First::Other);
    };
    let mut entry = entry?;
    match entry.header().entry_type() {
        tar::EntryType::Regular => {
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            Ok(First::File(content))
        }
        tar::EntryType::Symlink => {
            Ok(entry.link_name()?.map_or(First::Other, |target| First::Link(target.into_owned())))
        }
        _ => Ok(First::Other),
    }
}
