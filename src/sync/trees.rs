//! Small trees to write tests with, and a way to read them: `dir([("a", file("1"))])` is `{a: 1}`.

use skync_agent::entry::{Children, Digest, Directory, Entry, File};
use skync_agent::path::{Name, SyncPath};

/// A file whose digest is its content, so that a test can read it back; at most 32 bytes.
pub(super) fn file(content: &str) -> Entry {
    file_with_mode(content, 0o644)
}

pub(super) fn script(content: &str) -> Entry {
    file_with_mode(content, 0o755)
}

pub(super) fn file_with_mode(content: &str, mode: u16) -> Entry {
    let mut digest = [0; 32];
    digest[..content.len()].copy_from_slice(content.as_bytes());
    let size = content.len() as u64;
    Entry::File(File { digest: Digest(digest), size, mode, mtime_ns: 1 })
}

pub(super) fn link(target: &str) -> Entry {
    Entry::Symlink(target.as_bytes().into())
}

pub(super) fn dir<const N: usize>(children: [(&str, Entry); N]) -> Entry {
    dir_of(children.into_iter().map(|(name, entry)| (name.to_owned(), entry)))
}

pub(super) fn dir_of(children: impl IntoIterator<Item = (String, Entry)>) -> Entry {
    let mut children: Vec<_> =
        children.into_iter().map(|(text, entry)| (name(&text), entry)).collect();
    children.sort_by(|(one, _), (other, _)| one.cmp(other));
    Entry::Directory(Directory { mode: 0o755, only_excluded: false, children: children.into() })
}

/// A directory with excluded content and nothing else.
pub(super) fn husk() -> Entry {
    Entry::Directory(Directory { mode: 0o755, only_excluded: true, children: Children::default() })
}

/// A socket or the like.
pub(super) fn special() -> Entry {
    Entry::Untracked
}

pub(super) fn unreadable() -> Entry {
    Entry::Problem("no permission".to_owned())
}

pub(super) fn name(text: &str) -> Name {
    Name::parse(text.as_bytes()).expect("a name")
}

pub(super) fn path(text: &str) -> SyncPath {
    SyncPath::parse(text.as_bytes()).expect("a path")
}

/// `nothing`, `1` for a file, `1*` for an executable one, `@t` for a link, `{a: 1}`.
pub(super) fn show(entry: Option<&Entry>) -> String {
    match entry {
        None => "nothing".to_owned(),
        Some(Entry::File(file)) => {
            let length = file.digest.0.iter().position(|byte| *byte == 0).unwrap_or(32);
            let mark = if file.is_executable() { "*" } else { "" };
            format!("{}{mark}", String::from_utf8_lossy(&file.digest.0[..length]))
        }
        Some(Entry::Symlink(target)) => format!("@{}", String::from_utf8_lossy(target)),
        Some(Entry::Untracked) => "special".to_owned(),
        Some(Entry::Problem(_)) => "unreadable".to_owned(),
        Some(Entry::Directory(directory)) => {
            let children = directory.children.iter();
            let children: Vec<_> =
                children.map(|(name, child)| format!("{name}: {}", show(Some(child)))).collect();
            format!("{{{}}}", children.join(", "))
        }
    }
}
