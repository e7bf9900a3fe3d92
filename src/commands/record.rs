//! What is recorded of a project, for commands that work with and without its session.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use skync_agent::path::SyncPath;

use super::{Context, current_directory};
use crate::error::{CliError, ExitCode};
use crate::project::Project;
use crate::session::key;
use crate::session::live::state_directory;
use crate::sync::manifest::{Manifest, Owner};
use crate::ui::visible;

/// What to do if the record of a project cannot be used. A session that finds it damaged sets it aside
/// itself.
pub(super) const RECORD: &str = "it is in the state directory (`skync doctor` names it), which must be \
                                 yours and have room; a session sets a damaged one aside and \
                                 compares both sides anew";
/// Names that are told when one is not found.
const NEAREST_MAX: usize = 3;
/// How alike two paths must be for one to be a slip of the other.
const SIMILARITY_MIN: f64 = 0.5;

/// A project, as a command finds it.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// The project on the host.
    pub(super) project: Project,
}

impl Record {
    /// Finds the project around the current directory, or at `root`.
    ///
    /// # Errors
    /// If there is no such directory.
    pub(super) fn find(root: Option<&Path>) -> Result<Self, CliError> {
        let current = current_directory()?;
        let home = std::env::var_os("HOME").map(PathBuf::from);
        // Nothing is synchronised by this: the home directory, once forced, has a record too.
        Ok(Self { project: Project::find(&current, root, home.as_deref(), true)? })
    }

    /// Where the session with that profile keeps its things.
    pub(super) fn directory(&self, context: &Context, profile: &str) -> PathBuf {
        state_directory(&context.places, &key(&self.project.root, profile))
    }

    /// The manifest of the session with that profile; nothing if there never was one.
    ///
    /// # Errors
    /// If it cannot be used.
    pub(super) fn manifest(
        &self,
        context: &Context,
        profile: &str,
    ) -> Result<Option<Manifest>, CliError> {
        let path = self.directory(context, profile).join("manifest.db");
        let owner = Owner { root: self.project.root.clone(), profile: profile.to_owned() };
        Manifest::join(&path, owner).map_err(|error| {
            CliError::new(ExitCode::Failed, "cannot read what is recorded of this project")
                .because(&error)
                .hint(RECORD)
        })
    }

    /// The path of the project that a person means, from where the person is. It need not be there,
    /// and no link in it is followed.
    ///
    /// # Errors
    /// If it is outside the project.
    pub(super) fn path(&self, given: &Path) -> Result<SyncPath, CliError> {
        let outside = || {
            let message = format!("`{}` is not in the project", visible(&given.to_string_lossy()));
            CliError::new(ExitCode::Usage, message)
                .hint(format!("the project is `{}`", self.project.root.display()))
        };
        let Project { root, inside } = &self.project;
        let (below, given) = match given.strip_prefix(root) {
            Ok(below) => (Path::new(""), below),
            Err(_) if given.is_absolute() => return Err(outside()),
            Err(_) => (inside.as_path(), given),
        };
        let mut names: Vec<&OsStr> = Vec::new();
        for part in below.components().chain(given.components()) {
            match part {
                Component::Normal(name) => names.push(name),
                Component::ParentDir => drop(names.pop().ok_or_else(outside)?),
                Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
            }
        }
        let bytes: Vec<&[u8]> = names.into_iter().map(OsStr::as_bytes).collect();
        SyncPath::parse(&bytes.join(&b'/')).map_err(|error| {
            CliError::new(ExitCode::Usage, "this cannot be a path of the project")
                .because(&error)
                .hint("name it from the current directory, as `ls` shows it")
        })
    }
}

/// The known paths that a path is most likely a slip of, the most likely first: those that are
/// around it, that end in the same name, or that read alike.
pub(super) fn nearest<'a>(
    path: &SyncPath,
    known: impl IntoIterator<Item = &'a SyncPath>,
) -> Vec<String> {
    let text = path.to_string();
    let rank = |other: &'a SyncPath| {
        let alike = strsim::normalized_damerau_levenshtein(&text, &other.to_string());
        let (is_around, is_namesake) =
            (path.is_within(other), path.names().last() == other.names().last());
        let rank = alike + f64::from(u8::from(is_around)) * 2.0 + f64::from(u8::from(is_namesake));
        (rank, other)
    };
    let mut near: Vec<_> =
        known.into_iter().map(rank).filter(|(rank, _)| *rank >= SIMILARITY_MIN).collect();
    near.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    near.dedup_by(|(_, one), (_, other)| one == other);
    near.into_iter().take(NEAREST_MAX).map(|(_, path)| path.to_string()).collect()
}

/// Adds what may have been meant to an error.
pub(super) fn hint_nearest(error: CliError, near: &[String]) -> CliError {
    match near {
        [] => error,
        near => {
            let near = crate::config::list(near.iter().map(String::as_str));
            error.hint(format!("did you mean {near}?"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> SyncPath {
        SyncPath::parse(text.as_bytes()).expect("a path")
    }

    #[test]
    fn a_path_is_meant_from_where_the_person_is() {
        let project = Project { root: "/home/me/p".into(), inside: "src/deep".into() };
        let record = Record { project };
        for (given, meant) in [
            ("a", "src/deep/a"),
            ("./a//b/", "src/deep/a/b"),
            ("../a", "src/a"),
            ("../..", ""),
            (".", "src/deep"),
            ("/home/me/p/x/y", "x/y"),
            ("/home/me/p", ""),
        ] {
            assert_eq!(record.path(Path::new(given)).expect("inside"), path(meant), "{given}");
        }
        for outside in ["../../..", "/home/me", "/home/me/p2", "/etc/passwd", "/home/me/p/.."] {
            let error = record.path(Path::new(outside)).expect_err(outside);
            assert_eq!(error.code, ExitCode::Usage);
        }
    }

    #[test]
    fn slips_of_the_pen_and_of_the_directory_are_found() {
        let known = ["src/main.rs", "docs/notes.md", "notes.md", "a", "d"].map(path);
        let near = |text: &str| nearest(&path(text), &known);
        assert_eq!(near("src/mian.rs")[0], "src/main.rs");
        assert_eq!(near("notes.md")[0], "notes.md");
        assert!(near("x/notes.md").contains(&"docs/notes.md".to_owned()));
        assert_eq!(near("d/e/f"), ["d"]);
        assert_eq!(near("completely/other"), Vec::<String>::new());
    }
}
