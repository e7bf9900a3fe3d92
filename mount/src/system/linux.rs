//! What Linux tells of mounts, by `/proc`, and how it takes them away.

mod own;

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::mount::UnmountFlags;

pub(crate) use own::Own;

use super::{Health, Holder, MountPoint, NAME_PREFIX};

/// The kernel's name for our kind of filesystem.
const KIND: &str = "fuse.skync";
/// How long a mount may take to say how it is. One that works says it in microseconds.
const HEALTH_PATIENCE: Duration = Duration::from_secs(2);
/// Users of a mount that are named; nobody reads more.
const HOLDERS_MAX: usize = 20;
/// Mapped files of one process that are looked at.
const MAPS_BYTES_MAX: u64 = 8 << 20;

/// The mounts of ours, of all users, in the order in which they were made.
///
/// # Errors
/// If the list cannot be read.
pub fn mounts() -> io::Result<Vec<MountPoint>> {
    Ok(listed(&std::fs::read("/proc/self/mountinfo")?))
}

/// True if anything at all is mounted there, ours or not. Asks nobody but the list.
pub fn is_mount_point(at: &Path) -> bool {
    let list = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    lines(&list).any(|line| line.at == at)
}

/// How what is at a place is; returns in a few seconds, whatever it is.
pub fn health(at: &Path) -> Health {
    let (tell, told) = mpsc::channel();
    let place = at.to_owned();
    // `stat` may be answered from what the kernel remembers; this never is.
    let look = move || {
        let gone = matches!(rustix::fs::statfs(&place), Err(Errno::NOTCONN | Errno::CONNABORTED));
        let _ = tell.send(gone);
    };
    if std::thread::Builder::new().name("mount-health".to_owned()).spawn(look).is_err() {
        return Health::Hangs;
    }
    match told.recv_timeout(HEALTH_PATIENCE) {
        Ok(true) => Health::Dead,
        Ok(false) => Health::Alive,
        Err(_) => Health::Hangs,
    }
}

/// Takes a mount of ours from its place, whoever uses it: they keep what they have open, and
/// nobody else finds it. Whichever is there: one that this process made goes by
/// [`Mounted::detach`](crate::Mounted::detach).
///
/// # Errors
/// If there is none there, or it is another user's.
pub fn detach(at: &Path) -> io::Result<()> {
    take_away(at, Taking::Detach)
}

/// Takes a mount of ours away that nobody answers for any more. That somebody else was quicker is no
/// error: it is gone.
///
/// # Errors
/// If it is another user's.
pub fn bury(at: &Path) -> io::Result<()> {
    match detach(at) {
        Err(_) if mounts().is_ok_and(|all| all.iter().all(|mount| mount.at != at)) => Ok(()),
        other => other,
    }
}

/// Takes a mount of ours away if nobody uses it.
///
/// # Errors
/// [`io::ErrorKind::ResourceBusy`] if somebody does; if there is none there, or it is another
/// user's.
pub fn unmount(at: &Path) -> io::Result<()> {
    take_away(at, Taking::Unused)
}

/// Who keeps a mount from going, as far as this user may see; not this process itself.
///
/// Found by the names that the kernel has for what they have open: nothing below the mount is
/// looked at, so it works for one that hangs.
pub fn holders(at: &Path) -> Vec<Holder> {
    let list = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    let device = lines(&list).filter(|line| line.at == at).last().map(|line| line.device);
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let mut found: Vec<Holder> = processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != std::process::id())
        .filter_map(|pid| holder(pid, at, device))
        .take(HOLDERS_MAX)
        .collect();
    found.sort_by_key(|holder| holder.pid);
    found
}

/// Under which condition a mount is taken away.
#[derive(Clone, Copy, Debug)]
enum Taking {
    /// None: whoever uses it keeps what they have open.
    Detach,
    /// Nobody uses it.
    Unused,
}

impl Taking {
    fn flags(self) -> UnmountFlags {
        match self {
            Self::Detach => UnmountFlags::DETACH,
            Self::Unused => UnmountFlags::empty(),
        }
    }

    /// The same for `fusermount3`.
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Detach => &["-u", "-z", "--"],
            Self::Unused => &["-u", "--"],
        }
    }
}

fn take_away(at: &Path, taking: Taking) -> io::Result<()> {
    // Another mount may be on top of it, or in its place.
    let list = std::fs::read("/proc/self/mountinfo")?;
    let is_ours = lines(&list).filter(|line| line.at == at).last().is_some_and(|line| line.is_ours);
    if !is_ours {
        let text = "no mount of skync is there";
        return Err(io::Error::new(io::ErrorKind::NotFound, text));
    }
    by_system(at, taking)
}

fn by_system(at: &Path, taking: Taking) -> io::Result<()> {
    match rustix::mount::unmount(at, taking.flags() | UnmountFlags::NOFOLLOW) {
        Err(Errno::PERM) => by_program(at, taking),
        other => other.map_err(io::Error::from),
    }
}

/// The program that mounts and unmounts for whoever is not root: `fusermount3`, or what FUSERMOUNT_PATH
/// names.
pub(crate) fn fusermount() -> Command {
    Command::new(std::env::var_os("FUSERMOUNT_PATH").unwrap_or_else(|| "fusermount3".into()))
}

fn by_program(at: &Path, taking: Taking) -> io::Result<()> {
    let output = fusermount()
        .args(taking.arguments())
        .arg(at)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| io::Error::new(error.kind(), format!("fusermount3: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let kind = if said.contains("busy") {
        io::ErrorKind::ResourceBusy
    } else {
        io::ErrorKind::PermissionDenied
    };
    Err(io::Error::new(kind, said.trim().to_owned()))
}

fn listed(list: &[u8]) -> Vec<MountPoint> {
    let ours = lines(list).filter(|line| line.is_ours);
    ours.map(|line| MountPoint { at: line.at, name: line.name }).collect()
}

/// A line of the list of mounts.
struct Line {
    /// Of the mount; that of the device may be mounted more than once.
    number: u32,
    at: PathBuf,
    name: String,
    /// As `/proc/PID/maps` shows it, but for leading zeros.
    device: (u32, u32),
    is_ours: bool,
}

fn lines(list: &[u8]) -> impl Iterator<Item = Line> {
    list.split(|byte| *byte == b'\n').filter_map(line)
}

/// `36 35 0:33 / /mnt rw,nosuid shared:1 - fuse.skync skync:dev rw,user_id=0`: see proc(5). The
/// number of fields before the dash varies.
fn line(text: &[u8]) -> Option<Line> {
    let mut fields = text.split(|byte| *byte == b' ');
    let number = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let device = std::str::from_utf8(fields.nth(1)?).ok()?;
    let (major, minor) = device.split_once(':')?;
    let device = (major.parse().ok()?, minor.parse().ok()?);
    let at = PathBuf::from(unescaped(fields.nth(1)?));
    let mut rest = fields.skip_while(|field| *field != b"-").skip(1);
    let kind = rest.next()?;
    let name = unescaped(rest.next()?).to_string_lossy().into_owned();
    let is_ours = kind == KIND.as_bytes() || (kind == b"fuse" && name.starts_with(NAME_PREFIX));
    Some(Line { number, at, name, device, is_ours })
}

/// Blanks, tabs, line feeds and backslashes are three octal digits there.
fn unescaped(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match byte.filter(|_| *first == b'\\') {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[3..];
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    OsString::from_vec(bytes)
}

/// What one process has below a mount; nothing if it has nothing, or may not be looked at.
fn holder(pid: u32, at: &Path, device: Option<(u32, u32)>) -> Option<Holder> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let below = |link: &str| {
        let target = std::fs::read_link(process.join(link)).ok()?;
        Some(target.strip_prefix(at).ok()?.to_owned())
    };
    let what = below("cwd")
        .map(|path| format!("works in {}", shown(&path)))
        .or_else(|| below("exe").map(|path| format!("is the program {}", shown(&path))))
        .or_else(|| below("root").map(|path| format!("has its root in {}", shown(&path))))
        .or_else(|| open_file(&process, at).map(|path| format!("has {} open", shown(&path))))
        .or_else(|| {
            mapped(&process, at, device).map(|path| format!("has {} mapped", shown(&path)))
        })?;
    let command = std::fs::read(process.join("comm")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).trim_end().to_owned();
    Some(Holder { pid, command, what })
}

fn open_file(process: &Path, at: &Path) -> Option<PathBuf> {
    let files = std::fs::read_dir(process.join("fd")).ok()?;
    files
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .find_map(|target| Some(target.strip_prefix(at).ok()?.to_owned()))
}

/// A file of the mount that is mapped. By its device: what was closed and removed since has an odd
/// name.
fn mapped(process: &Path, at: &Path, device: Option<(u32, u32)>) -> Option<PathBuf> {
    use std::io::Read;
    let (major, minor) = device?;
    let mut maps = Vec::new();
    let file = std::fs::File::open(process.join("maps")).ok()?;
    file.take(MAPS_BYTES_MAX).read_to_end(&mut maps).ok()?;
    maps.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ').filter(|field| !field.is_empty());
        let found = std::str::from_utf8(fields.nth(3)?).ok()?;
        let (a, b) = found.split_once(':')?;
        let found = (u32::from_str_radix(a, 16).ok()?, u32::from_str_radix(b, 16).ok()?);
        // Behind it: the inode and the name, in which there may be blanks.
        let name = line.iter().position(|byte| *byte == b'/').map(|start| &line[start..]);
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(name.unwrap_or_default()));
        let path = path.strip_prefix(at).map(Path::to_owned).unwrap_or(path);
        (found == (major, minor)).then_some(path)
    })
}

/// A path below the mount, for a person.
fn shown(path: &Path) -> String {
    if path.as_os_str().is_empty() {
        return "it".to_owned();
    }
    let printable = |c: char| if c.is_control() { '?' } else { c };
    let text: String = path.to_string_lossy().chars().map(printable).collect();
    format!("`{text}`")
}

#[cfg(test)]
mod tests;
