//! File systems, as far as it matters whether their changes are told.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};

use crate::disk::{Attributes, DirFd, Root};
use crate::path::SyncPath;

/// What the kernel makes up while it is read: nothing of it is told when it changes.
const VOLATILE: [u64; 18] = [
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x1cd1,      // devpts
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x7472_6163, // tracefs
    0x6462_6720, // debugfs
    0x7363_6673, // securityfs
    0xcafe_4a11, // bpf
    0x6265_6570, // configfs
    0xde5e_81e4, // efivarfs
    0x6165_676c, // pstore
    0x1980_0202, // mqueue
    0x4249_4e4d, // binfmt_misc
    0xf97c_ff8c, // selinuxfs
    0x0187,      // autofs
    0x6573_5543, // fusectl
    0x6e73_6673, // nsfs
];

/// What other machines change without a word to this one.
const SHARED: [u64; 8] = [
    0x6969,      // nfs
    0x517b,      // smb
    0xff53_4d42, // cifs
    0xfe53_4d42, // smb2
    0x00c3_6400, // ceph
    0x5346_414f, // afs
    0x0bd0_0bd0, // lustre
    0x4750_4653, // gpfs
];

/// What may be changed from outside, or may be the sandbox's very own disk: that, where the root is
/// on it.
const OF_A_SERVER: [u64; 2] = [
    0x6573_5546, // fuse, virtiofs
    0x0102_1997, // 9p
];

/// Local disks whose file systems do in memory what can be done there.
const LOCAL: [u64; 7] = [
    0xef53,      // ext2, ext3, ext4
    0x5846_5342, // xfs
    0x9123_683e, // btrfs
    0x0102_1994, // tmpfs
    0x794c_7630, // overlayfs
    0xf2f5_2010, // f2fs
    0x2fc1_2fc1, // zfs
];

/// How a file system behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileSystem {
    /// Its changes are told.
    Told,
    /// Others change it, too.
    Shared,
    /// It is no disk at all.
    Volatile,
}

impl FileSystem {
    pub(super) fn is_followed(self) -> bool {
        self == Self::Told
    }

    /// Whether anything in it is listed before somebody wants it.
    pub(super) fn is_gone_into(self) -> bool {
        self != Self::Volatile
    }
}

/// Those that a mount has met, by their device.
#[derive(Debug, Default)]
pub(super) struct FileSystems(Mutex<HashMap<u64, FileSystem>>);

/// Most that are remembered.
const KNOWN_MAX: usize = 1024;

impl FileSystems {
    /// That of a directory.
    pub(super) fn of(&self, directory: &DirFd, attributes: &Attributes, root: u64) -> FileSystem {
        // Nothing panics under the lock.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(&attributes.device) {
            return *found;
        }
        let Some(magic) = magic_of(directory) else { return FileSystem::Shared };
        let found = behaviour(magic, attributes.device == root);
        if known.len() < KNOWN_MAX {
            known.insert(attributes.device, found);
        }
        found
    }
}

/// Whether the root is on a disk of this machine.
pub(super) fn is_in_memory(root: &Root) -> bool {
    let opened = root.open_object(&SyncPath::root()).ok();
    opened.and_then(magic_of).is_some_and(|magic| LOCAL.contains(&magic))
}

fn magic_of(directory: impl AsFd) -> Option<u64> {
    // Of other types on other machines; it has 32 bits everywhere.
    rustix::fs::fstatfs(directory).ok().map(|stat| u64::from(stat.f_type as u32))
}

fn behaviour(magic: u64, is_of_root: bool) -> FileSystem {
    if VOLATILE.contains(&magic) {
        FileSystem::Volatile
    } else if SHARED.contains(&magic) || (OF_A_SERVER.contains(&magic) && !is_of_root) {
        FileSystem::Shared
    } else {
        FileSystem::Told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_tells_its_changes_is_followed() {
        assert!(behaviour(0xef53, false).is_followed(), "ext4");
        assert!(behaviour(0x794c_7630, true).is_followed(), "overlayfs");
        assert!(!behaviour(0x6969, true).is_followed(), "NFS changes without a word");
        assert!(!behaviour(0x9fa0, false).is_gone_into(), "/proc");
        let virtiofs = 0x6573_5546;
        assert!(behaviour(virtiofs, true).is_followed(), "the disk of a small machine");
        assert!(!behaviour(virtiofs, false).is_followed(), "somebody's sshfs");
    }
}
