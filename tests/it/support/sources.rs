//! The repository's own files, for tests that read them.

use std::path::{Path, PathBuf};

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files with this extension below these directories of it, in order.
pub fn files(below: &[&str], extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting: Vec<PathBuf> = below.iter().map(|name| root().join(name)).collect();
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(&directory).unwrap_or_else(|e| panic!("{directory:?}: {e}"))
        {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|e| e == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
