//! Trees as values, to be compared and shown.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::Metadata;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

/// Every path below a root and what is there, in words that differ if it does.
pub type Tree = BTreeMap<String, String>;

/// What synchronisation is to carry: kinds, contents, modes, targets, times of files.
pub fn carried(root: &Path) -> Tree {
    describe(root, &|metadata| match metadata.is_file() {
        true => format!("{:o} {}.{}", mode(metadata), metadata.mtime(), metadata.mtime_nsec()),
        false if metadata.is_dir() => format!("{:o}", mode(metadata)),
        false => String::new(),
    })
}

/// As [`carried`], without the times.
pub fn carried_but_times(root: &Path) -> Tree {
    describe(root, &|metadata| match metadata.is_symlink() {
        true => String::new(),
        false => format!("{:o}", mode(metadata)),
    })
}

/// Kinds, contents, targets, and whether a file is executable or private: what two sides agree on.
pub fn agreed(root: &Path) -> Tree {
    describe(root, &|metadata| match metadata.is_file() {
        true => format!(
            "{}{}",
            if mode(metadata) & 0o100 == 0 { '-' } else { 'x' },
            if mode(metadata) & 0o077 == 0 { 'p' } else { '-' },
        ),
        false => String::new(),
    })
}

/// All of that and what any write would change: inodes, times of change.
pub fn untouched(root: &Path) -> Tree {
    describe(root, &|m| {
        format!(
            "{:o} {} {} {}.{} {}.{}",
            m.mode(),
            m.ino(),
            m.nlink(),
            m.mtime(),
            m.mtime_nsec(),
            m.ctime(),
            m.ctime_nsec()
        )
    })
}

fn mode(metadata: &Metadata) -> u32 {
    metadata.permissions().mode() & 0o7777
}

fn describe(root: &Path, more: &dyn Fn(&Metadata) -> String) -> Tree {
    let mut tree = Tree::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(directory) = waiting.pop() {
        let listing =
            std::fs::read_dir(&directory).unwrap_or_else(|e| panic!("{directory:?}: {e}"));
        for entry in listing {
            let path = entry.expect("an entry").path();
            let metadata = path.symlink_metadata().expect("there");
            let kind = metadata.file_type();
            let what = if kind.is_dir() {
                waiting.push(path.clone());
                "directory".to_owned()
            } else if kind.is_symlink() {
                format!("link to {:?}", std::fs::read_link(&path).expect("a link"))
            } else if kind.is_file() {
                let mut hasher = blake3::Hasher::new();
                let mut file = std::fs::File::open(&path).expect("readable");
                std::io::copy(&mut file, &mut hasher).expect("read");
                format!("file {} {}", metadata.len(), &hasher.finalize().to_hex()[..16])
            } else {
                format!("special {}", if kind.is_fifo() { "fifo" } else { "other" })
            };
            let name = path.strip_prefix(root).expect("below").to_owned();
            tree.insert(shown(name.into_os_string()), format!("{what} {}", more(&metadata)));
        }
    }
    tree
}

fn shown(name: OsString) -> String {
    name.into_vec().escape_ascii().to_string()
}

/// Fails, and names the paths, if two trees differ.
#[track_caller]
pub fn assert_same(left: &Tree, right: &Tree) {
    let names: std::collections::BTreeSet<_> = left.keys().chain(right.keys()).collect();
    let differences: Vec<String> = names
        .into_iter()
        .filter(|name| left.get(*name) != right.get(*name))
        .map(|name| format!("{name}: {:?} / {:?}", left.get(name), right.get(name)))
        .collect();
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
}
