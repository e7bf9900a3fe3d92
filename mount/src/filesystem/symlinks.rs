//! Where symbolic links may lead to.
//!
//! The sandbox is not trusted, and whoever follows one of its links does so on the host: a link out
//! of the mount would make a program on the host read or write any file there (as CVE-2026-47187 of
//! sshfs). So a link leads to somewhere below the root, or cannot be read.

use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};

/// What to tell as the target of a link in `directory` (below the root), in a source whose root is
/// at `source_root`. Nothing: it leaves the root.
///
/// A relative target is told as it is. An absolute one below the root of the source is told as it is
/// seen from where the link is. `..` after a name is taken out: that name may be a link itself, and
/// `..` lead to somewhere else than it seems to.
pub(super) fn contained(directory: &Path, target: &OsStr, source_root: &Path) -> Option<OsString> {
    let path = Path::new(target);
    if path.is_absolute() {
        let below = path.strip_prefix(source_root).ok()?;
        let (ups, names) = simplified(below);
        if ups > 0 {
            return None;
        }
        let mut relative: PathBuf = directory.components().map(|_| Component::ParentDir).collect();
        relative.extend(names.components());
        let is_empty = relative.as_os_str().is_empty();
        return Some(if is_empty { ".".into() } else { relative.into() });
    }
    let (ups, names) = simplified(path);
    if ups > directory.components().count() {
        return None;
    }
    if is_plain(path) {
        return Some(target.to_owned());
    }
    let mut simple: PathBuf = (0..ups).map(|_| Component::ParentDir).collect();
    simple.extend(names.components());
    let is_empty = simple.as_os_str().is_empty();
    Some(if is_empty { ".".into() } else { simple.into() })
}

/// The same for a link with several names, if it is the same from all of them.
pub(super) fn contained_in_all(
    directories: &[PathBuf],
    target: &OsStr,
    source_root: &Path,
) -> Option<OsString> {
    let mut all = directories.iter().map(|at| contained(at, target, source_root));
    let first = all.next()??;
    all.all(|other| other.as_ref() == Some(&first)).then_some(first)
}

/// Whether a link may lead out from one place and not from another. One with several names, of which
/// not all may be known, had better not.
pub(super) fn depends_on_place(target: &OsStr) -> bool {
    let path = Path::new(target);
    path.is_absolute() || path.components().any(|part| part == Component::ParentDir)
}

/// How far a path goes up, and which names follow, with no `..` among them.
fn simplified(path: &Path) -> (usize, PathBuf) {
    let mut ups = 0;
    let mut names = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => names.push(name),
            Component::ParentDir => {
                if !names.pop() {
                    ups += 1;
                }
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    (ups, names)
}

/// Whether there is no `..` after a name.
fn is_plain(path: &Path) -> bool {
    let is_up = |part: &Component<'_>| *part == Component::ParentDir;
    let is_name = |part: &Component<'_>| matches!(part, Component::Normal(_));
    !path.components().skip_while(|part| !is_name(part)).any(|part| is_up(&part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(directory: &str, target: &str, expect: Option<&str>) {
        let told = contained(Path::new(directory), OsStr::new(target), Path::new("/work/p"));
        assert_eq!(told.as_deref(), expect.map(OsStr::new), "{target} in {directory}");
    }

    #[test]
    fn a_relative_link_inside_is_told_as_it_is() {
        check("", "a", Some("a"));
        check("", "./a/", Some("./a/"));
        check("x/y", "../../a//b", Some("../../a//b"));
        check("x", "..", Some(".."));
        check("x", ".", Some("."));
        check("x", "...", Some("..."));
    }

    #[test]
    fn a_link_that_leaves_the_root_is_not_told() {
        check("", "..", None);
        check("", "../p", None);
        check("x", "../../etc/passwd", None);
        check("x", "./.././../etc", None);
        check("", "/etc/passwd", None);
        check("", "/work/pp/a", None);
        check("", "/work/p/../q", None);
        check("", "/", None);
    }

    #[test]
    fn an_absolute_link_below_the_root_is_told_from_where_it_is() {
        check("", "/work/p/a/b", Some("a/b"));
        check("x/y", "/work/p/a", Some("../../a"));
        check("x", "/work/p", Some(".."));
        check("", "/work/p", Some("."));
        check("", "/work/p/a/../b", Some("b"));
    }

    #[test]
    fn a_link_with_several_names_is_the_same_from_all_of_them() {
        let told = |target: &str| {
            let directories = [PathBuf::from("x/y"), PathBuf::from("z")];
            contained_in_all(&directories, OsStr::new(target), Path::new("/work/p"))
        };
        assert_eq!(told("a"), Some("a".into()));
        assert_eq!(told(".."), Some("..".into()));
        assert_eq!(told("../../a"), None);
        assert_eq!(told("/work/p/a"), None);
        assert!(depends_on_place(OsStr::new("a/../b")) && depends_on_place(OsStr::new("/a")));
        assert!(!depends_on_place(OsStr::new("a/..b")));
        assert_eq!(contained_in_all(&[], OsStr::new("a"), Path::new("/work/p")), None);
    }

    #[test]
    fn names_that_may_be_links_themselves_do_not_help_to_get_out() {
        // With `l` a link to `.`, each `l/..` goes one up.
        check("x", "l/l/../../../a", Some("../a"));
        check("", "l/..", Some("."));
        check("x", "l/../../..", None);
    }
}
