//! The permission bits that a written file gets. Pure.
//!
//! Two classes take part in a file's equality: executable by the owner, and private. They always
//! come out as the entry says, for a file that is not what the ancestor will record would look
//! changed on this side and travel back. All other bits are this side's own: the umask's for a new
//! file, the old ones for a replaced one. Setuid, setgid and sticky never appear (invariant I14).

use crate::entry::File;

/// Every bit that group and others can have.
const SHARED: u16 = 0o077;

/// The bits of a new file: as sent, less the umask. The owner's bits are kept as sent. An entry
/// that is not private stays so even under a umask that hides every file from others.
pub(super) fn for_new(new: &File, umask: u16) -> u16 {
    opened(new.mode & 0o777 & (!umask | 0o700), new, umask)
}

/// The bits of a file that had `existing` and becomes `new`: as they were but for the classes.
pub(super) fn for_existing(existing: u16, new: &File, umask: u16) -> u16 {
    let mut mode = existing & 0o777;
    if !new.is_executable() {
        mode &= !0o111;
    } else if mode & 0o100 == 0 {
        // Whoever may read it may execute it, as `chmod +x` does.
        mode |= 0o100 | (((mode & 0o044) >> 2) & !umask);
    }
    if new.is_private() {
        mode &= !SHARED;
    }
    opened(mode, new, umask)
}

/// `mode`, with bits for group and others if the entry is not private and `mode` has none.
fn opened(mode: u16, new: &File, umask: u16) -> u16 {
    if new.is_private() || mode & SHARED != 0 {
        return mode;
    }
    let sent = new.mode & SHARED;
    let allowed = sent & !umask;
    mode | if allowed == 0 { sent } else { allowed }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Digest;

    fn file(mode: u16) -> File {
        File { digest: Digest::of(b""), size: 0, mode, mtime_ns: 0 }
    }

    #[test]
    fn modes_follow_the_entry_in_class_and_this_side_in_the_rest() {
        for (sent, umask, wanted) in [
            (0o644, 0o022, 0o644),
            (0o664, 0o022, 0o644),
            (0o777, 0o027, 0o750),
            (0o600, 0o022, 0o600),
            (0o400, 0o022, 0o400),
            (0o4755, 0o022, 0o755),
            (0o644, 0o077, 0o644),
            (0o755, 0o177, 0o755),
        ] {
            assert_eq!(for_new(&file(sent), umask), wanted, "new {sent:o} under {umask:o}");
        }
        for (existing, sent, umask, wanted) in [
            (0o640, 0o644, 0o022, 0o640),
            (0o640, 0o755, 0o022, 0o750),
            (0o755, 0o644, 0o022, 0o644),
            (0o664, 0o600, 0o022, 0o600),
            (0o600, 0o644, 0o022, 0o644),
            (0o600, 0o755, 0o022, 0o755),
            (0o711, 0o755, 0o022, 0o711),
            (0o444, 0o755, 0o027, 0o554),
        ] {
            let mode = for_existing(existing, &file(sent), umask);
            assert_eq!(mode, wanted, "{existing:o} becomes {sent:o} under {umask:o}");
        }
    }

    #[test]
    fn the_classes_always_come_out_as_sent() {
        for umask in [0o000, 0o022, 0o027, 0o077, 0o177, 0o777] {
            for sent in 0..=0o777 {
                let new = file(sent);
                let made = file(for_new(&new, umask));
                assert_eq!(made, new, "new {sent:o} under {umask:o}");
                for existing in [0o000, 0o400, 0o600, 0o644, 0o755, 0o711, 0o070, 0o777] {
                    let made = file(for_existing(existing, &new, umask));
                    assert_eq!(made, new, "{existing:o} becomes {sent:o} under {umask:o}");
                }
            }
        }
    }
}
