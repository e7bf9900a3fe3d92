//! What there is here: kinds of sandboxes, the project, what in it is large.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::propose::{Kind, devcontainer_image};
use crate::cli::InitArgs;
use crate::commands::find_project;
use crate::commands::patience::{bounded, wait};
use crate::commands::survey::survey;
use crate::credentials::{Keys, Provider, Surroundings};
use crate::driver::docker;
use crate::error::CliError;

/// How long an engine, or a slow disk, may take to answer.
const PATIENCE: Duration = Duration::from_secs(4);
/// Whoever has so much in one directory may not want it in the sandbox.
const LARGE_BYTES: u64 = 100 << 20;
const LARGE_FILES: u64 = 10_000;
/// Large directories that are proposed.
const LARGE_MAX: usize = 8;
/// A settings file of an editor that is larger is none.
const SETTINGS_BYTES_MAX: u64 = 1 << 20;

/// What was found.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// The version of the engine that answers; or why none does.
    pub(super) docker: Result<String, String>,
    /// The images that it has.
    pub(super) images: Vec<String>,
    /// There is a key for E2B, and one for Daytona.
    pub(super) keys: [bool; 2],
    /// The project's directory; or why there is none.
    pub(super) project: Result<PathBuf, CliError>,
    pub(super) kind: Kind,
    /// There is nothing in the project yet.
    pub(super) is_empty: bool,
    /// The image that a devcontainer.json names.
    pub(super) devcontainer: Option<String>,
    /// Large directories, with files and bytes.
    pub(super) large: Vec<(PathBuf, u64, u64)>,
}

/// Looks for what `args` leave open; `asks` says whether a person will be asked. It asks nobody but this
/// machine's engine and keychain.
pub(super) fn around(args: &InitArgs, asks: bool) -> Found {
    let driver = args.driver.as_deref();
    let (docker, images) = match (driver, &args.image) {
        (None, _) | (Some("docker"), None) => engine(),
        _ => (Err("nobody needs it".to_owned()), Vec::new()),
    };
    let project = find_project(None, false).map(|project| project.root);
    let root = project.as_ref().ok().cloned();
    let names = root.as_deref().map(names).unwrap_or_default();
    let counted = root.clone().filter(|_| asks && args.exclude.is_empty());
    let large = counted.and_then(|root| bounded(PATIENCE * 2, move || large(&root)));
    Found {
        docker,
        images,
        keys: ["e2b", "daytona"].map(|of| driver.is_some_and(|driver| driver != of) || has_key(of)),
        project,
        kind: Kind::of(&names),
        is_empty: names.iter().all(|name| name == ".git"),
        devcontainer: root.as_deref().and_then(devcontainer),
        large: large.unwrap_or_default(),
    }
}

fn engine() -> (Result<String, String>, Vec<String>) {
    let asked = async {
        let answer = docker::examine(None).await.answer;
        let images = if answer.is_ok() { docker::local_images(None).await } else { Vec::new() };
        (answer, images)
    };
    match wait(PATIENCE, asked) {
        None => (Err("the engine does not answer".to_owned()), Vec::new()),
        Some((Err(error), _)) => (Err(error.to_string()), Vec::new()),
        Some((Ok(engaged), images)) => match engaged.unsuitable {
            Some(reason) => (Err(reason), Vec::new()),
            None => (Ok(engaged.version), images),
        },
    }
}

/// Whether there is a key for the provider of this driver.
pub(super) fn has_key(driver: &str) -> bool {
    let provider = match driver {
        "e2b" => Provider::E2b,
        "daytona" => Provider::Daytona,
        _ => return true,
    };
    let keys = Keys::new(provider, Surroundings::of_process());
    // One that cannot be read, as behind a locked keychain, is there.
    wait(PATIENCE, async { keys.first().await.map_or(true, |found| found.is_some()) })
        .unwrap_or(true)
}

fn names(root: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(root) else { return Vec::new() };
    let name = |entry: std::fs::DirEntry| entry.file_name().into_string().ok();
    entries.flatten().filter_map(name).collect()
}

fn devcontainer(root: &Path) -> Option<String> {
    let read = |name: &str| {
        let path = root.join(name);
        let is_settings = std::fs::metadata(&path)
            .is_ok_and(|found| found.is_file() && found.len() <= SETTINGS_BYTES_MAX);
        is_settings.then(|| std::fs::read_to_string(path).ok()).flatten()
    };
    let text =
        [".devcontainer/devcontainer.json", ".devcontainer.json"].into_iter().find_map(read)?;
    devcontainer_image(&text)
}

/// Large directories, the largest first; of one in another only the outer one.
fn large(root: &Path) -> Vec<(PathBuf, u64, u64)> {
    let sizes = survey(root, &[], false, PATIENCE).sizes;
    let is_large = |(files, bytes): (u64, u64)| files >= LARGE_FILES || bytes >= LARGE_BYTES;
    let mut found: Vec<(PathBuf, u64, u64)> = Vec::new();
    // Outer ones come before what is in them.
    for (path, (files, bytes)) in sizes {
        // Without its history a repository is none.
        let is_git = path.components().any(|part| part.as_os_str() == ".git");
        let inside = found.iter().any(|(outer, ..)| path.starts_with(outer));
        if is_large((files, bytes)) && !is_git && !inside {
            found.push((path, files, bytes));
        }
    }
    found.sort_by_key(|(_, _, bytes)| std::cmp::Reverse(*bytes));
    found.truncate(LARGE_MAX);
    found
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own files")]
mod tests {
    use super::*;

    #[test]
    fn large_directories_are_found_once_and_history_is_none_of_them() {
        let base = tempfile::tempdir().expect("a directory");
        for name in ["data/raw/x", ".git/objects/y", "src/z"] {
            let path = base.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            let file = std::fs::File::create(path).expect("made");
            let length = if name.starts_with("src") { 1 } else { LARGE_BYTES };
            file.set_len(length).expect("sparse");
        }
        assert_eq!(large(base.path()), [(PathBuf::from("data"), 1, LARGE_BYTES)]);
    }

    #[test]
    fn a_devcontainer_is_read_from_both_its_places() {
        let base = tempfile::tempdir().expect("a directory");
        assert_eq!(devcontainer(base.path()), None);
        std::fs::write(base.path().join(".devcontainer.json"), r#"{"image":"a"}"#)
            .expect("written");
        assert_eq!(devcontainer(base.path()).as_deref(), Some("a"));
    }
}
