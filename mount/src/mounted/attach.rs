//! Attaching a filesystem to a directory: by the system call where that is allowed (to root), else by
//! `fusermount3`, which may do it for everybody and hands the kernel's end back.
//!
//! The kernel's library could do this too. It unmounts whatever is at the place when it ends, though,
//! also when that is another mount by then.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::Stdio;

use rustix::io::{Errno, FdFlags};
use rustix::mount::MountFlags;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType,
};

use super::MountError;
use crate::system::fusermount;

/// Where the kernel's end is.
const DEVICE: &str = "/dev/fuse";
/// What the kernel lists the file system as.
const KIND: &str = "fuse.skync";

/// How it is attached.
pub(super) struct Attach<'a> {
    pub(super) at: &'a Path,
    /// What the kernel lists as its source.
    pub(super) name: &'a str,
    pub(super) allow_other: bool,
}

/// Attaches. The kernel's first request is waiting in what is returned.
pub(super) fn attach(attach: &Attach<'_>) -> Result<OwnedFd, MountError> {
    let device = match File::options().read(true).write(true).open(DEVICE) {
        Ok(device) => OwnedFd::from(device),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(MountError::NotAllowed(format!("`{DEVICE}` may not be opened: {error}")));
        }
        Err(_) => return Err(MountError::NoDevice),
    };
    let mut options = format!(
        "fd={},rootmode=40000,user_id={},group_id={},default_permissions",
        device.as_raw_fd(),
        rustix::process::getuid().as_raw(),
        rustix::process::getgid().as_raw(),
    );
    if attach.allow_other {
        options.push_str(",allow_other");
    }
    let options = CString::new(options).map_err(io::Error::from)?;
    let flags = MountFlags::NODEV | MountFlags::NOSUID;
    let name = plain(attach.name);
    match rustix::mount::mount(name.as_str(), attach.at, KIND, flags, options.as_c_str()) {
        Ok(()) => Ok(device),
        Err(Errno::PERM) => by_fusermount(attach, &name),
        Err(Errno::NODEV) => Err(MountError::NoDevice),
        Err(error) => Err(MountError::Other(error.into())),
    }
}

/// A name without what means something in lists of options.
fn plain(name: &str) -> String {
    let is_odd = |c: char| c == ',' || c == '\\' || c.is_control();
    name.chars().map(|c| if is_odd(c) { '_' } else { c }).collect()
}

fn by_fusermount(attach: &Attach<'_>, name: &str) -> Result<OwnedFd, MountError> {
    let mut options = format!("nosuid,nodev,default_permissions,fsname={name},subtype=skync");
    if attach.allow_other {
        options.push_str(",allow_other");
    }
    let none = SocketFlags::empty();
    // The one that is handed over must stay open in the child: it is closed here right after.
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, none, None)
            .map_err(io::Error::from)?;
    rustix::io::fcntl_setfd(&ours, FdFlags::CLOEXEC).map_err(io::Error::from)?;
    let child = fusermount()
        .args(["-o", &options, "--"])
        .arg(attach.at)
        .env("_FUSE_COMMFD", theirs.as_raw_fd().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    drop(theirs);
    let child = match child {
        Ok(child) => child,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(MountError::NoFusermount);
        }
        Err(error) => return Err(MountError::Other(error)),
    };
    // First its end: another child of this process may have the other end of the pair open as well,
    // and nothing would ever come then. What was sent is there by now.
    let output = child.wait_with_output()?;
    match receive(&ours)? {
        Some(device) if output.status.success() => {
            rustix::io::fcntl_setfd(&device, FdFlags::CLOEXEC).map_err(io::Error::from)?;
            Ok(device)
        }
        _ => Err(refused(&String::from_utf8_lossy(&output.stderr))),
    }
}

/// What `fusermount3` says, as an error.
fn refused(said: &str) -> MountError {
    let said = said.trim().trim_start_matches("fusermount3: ").to_owned();
    let is_refusal = ["user_allow_other", "permission", "Permission", "not permitted"]
        .iter()
        .any(|part| said.contains(part));
    match said {
        said if said.contains("device not found") => {
            tracing::debug!(said, "fusermount3 finds no device");
            MountError::NoDevice
        }
        said if is_refusal => MountError::NotAllowed(said),
        said => MountError::Other(io::Error::other(said)),
    }
}

/// The descriptor that the other end has sent, if it has.
fn receive(from: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0u8; 1];
    loop {
        let mut into = [IoSliceMut::new(&mut byte)];
        match rustix::net::recvmsg(from, &mut into, &mut control, RecvFlags::DONTWAIT) {
            Ok(_) => break,
            Err(Errno::AGAIN) => return Ok(None),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let descriptors = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    Ok(descriptors.flatten().next())
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

    use super::*;

    fn pair() -> (OwnedFd, OwnedFd) {
        let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
        rustix::net::socketpair(family, kind, SocketFlags::CLOEXEC, None).expect("a pair")
    }

    #[test]
    fn what_was_not_sent_is_not_waited_for_even_if_the_other_end_is_open_somewhere() {
        let (ours, theirs) = pair();
        assert!(receive(&ours).expect("received").is_none());
        drop(theirs);
        assert!(receive(&ours).expect("received").is_none());
    }

    #[test]
    fn what_was_sent_is_there_after_the_sender_has_ended() {
        let (ours, theirs) = pair();
        let file = File::open("/dev/null").expect("opened");
        let descriptors = [std::os::fd::AsFd::as_fd(&file)];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
        let (byte, none) = ([IoSlice::new(b"x")], SendFlags::empty());
        rustix::net::sendmsg(&theirs, &byte, &mut control, none).expect("sent");
        drop(theirs);
        assert!(receive(&ours).expect("received").is_some());
    }

    #[test]
    fn a_name_cannot_add_options() {
        assert_eq!(plain("skync:dev,suid\\,x\n"), "skync:dev_suid__x_");
    }

    #[test]
    fn what_fusermount_refuses_is_told_as_a_refusal() {
        let said = "fusermount3: option allow_other only allowed if 'user_allow_other' is set in \
                    /etc/fuse.conf\n";
        assert!(matches!(refused(said), MountError::NotAllowed(why) if why.starts_with("option")));
        let said = "fusermount3: fuse device not found, try 'modprobe fuse' first\n";
        assert!(matches!(refused(said), MountError::NoDevice));
        assert!(matches!(refused("fusermount3: bad mount point"), MountError::Other(_)));
    }
}
