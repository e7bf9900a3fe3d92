//! Variables that hold a path of the project, for a sandbox where the project is elsewhere.
//!
//! Without this a command would write outside the synchronised tree and say that all is well
//! (`reference/spec-kit.md` §3.5). Only a value that as a whole is a path of the project is touched;
//! where the root is the same on both sides, nothing is.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The value for a sandbox with this root: a path at or below the host's root becomes the same
/// path below the sandbox's.
pub fn map(value: &[u8], host: &Path, sandbox: &Path) -> Vec<u8> {
    if host == sandbox {
        return value.to_vec();
    }
    match Path::new(OsStr::from_bytes(value)).strip_prefix(host) {
        Ok(rest) if rest.as_os_str().is_empty() => sandbox.as_os_str().as_bytes().to_vec(),
        Ok(rest) => sandbox.join(rest).as_os_str().as_bytes().to_vec(),
        Err(_) => value.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_below_the_root_are_mapped() {
        let map = |value: &str| {
            String::from_utf8(map(value.as_bytes(), Path::new("/p/a"), Path::new("/s")))
                .expect("utf-8")
        };
        assert_eq!(map("/p/a/specs/1"), "/s/specs/1");
        assert_eq!(map("/p/a"), "/s");
        assert_eq!(map("/p/ab"), "/p/ab");
        assert_eq!(map("specs/1"), "specs/1");
        assert_eq!(map("x=/p/a"), "x=/p/a");
    }
}
