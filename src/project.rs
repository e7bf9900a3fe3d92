//! Which directory is the project, and which must not be one.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::{CliError, ExitCode};

/// A project's directory and where in it the user is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// Absolute, without symbolic links.
    pub root: PathBuf,
    /// The current directory, relative to the root; empty if it is not inside.
    pub inside: PathBuf,
}

impl Project {
    /// The project of `current`: `root` if it is given, else the nearest directory above that holds
    /// `.git`, else the nearest one with a `skync.toml`, else `current` itself.
    ///
    /// The whole repository, because tools look upward for its root and for `.git`. The home
    /// directory and `/` are never found this way: a dotfiles repository in `$HOME` must not make
    /// all of it the project.
    ///
    /// # Errors
    /// If it is no directory, or one that is synchronised by mistake more likely than on purpose
    /// and `force` is not given.
    pub fn find(
        current: &Path,
        root: Option<&Path>,
        home: Option<&Path>,
        force: bool,
    ) -> Result<Self, CliError> {
        let current = real(current)?;
        let home = home.and_then(|home| home.canonicalize().ok());
        let too_much = |path: &Path| path.parent().is_none() || Some(path) == home.as_deref();
        let found = match root {
            Some(root) => real(&current.join(root))?,
            None => current
                .ancestors()
                .take_while(|path| !too_much(path))
                .find(|path| path.join(".git").exists())
                .or_else(|| {
                    let above = current.ancestors().take_while(|path| !too_much(path));
                    above.into_iter().find(|path| is_marked(path))
                })
                .unwrap_or(&current)
                .to_owned(),
        };
        if too_much(&found) && !force {
            let what =
                if found.parent().is_none() { "the whole machine" } else { "the home directory" };
            let message = format!("the project would be `{}`, {what}", found.display());
            return Err(CliError::new(ExitCode::Usage, message)
                .hint("go to the project's directory, or name it with `--root DIR`")
                .hint("`--force` takes it all the same"));
        }
        let inside = current.strip_prefix(&found).unwrap_or(Path::new("")).to_owned();
        Ok(Self { root: found, inside })
    }

    /// What a person should know of this project: a work tree whose repository is elsewhere.
    pub fn warning(&self) -> Option<String> {
        let git = self.root.join(".git");
        let is_file = git.symlink_metadata().is_ok_and(|found| found.is_file());
        is_file.then(|| {
            format!(
                "`{}` is a file: the repository is outside the project, so git does not work in \
                 the sandbox",
                git.display()
            )
        })
    }
}

/// A `skync.toml` makes a directory a project; not where everybody may put one, as in `/tmp`.
fn is_marked(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let is_public = path.metadata().is_ok_and(|found| found.permissions().mode() & 0o002 != 0);
    !is_public && path.join("skync.toml").is_file()
}

fn real(path: &Path) -> Result<PathBuf, CliError> {
    let name = path.display();
    let found = path.canonicalize().map_err(|error| {
        let message = format!("cannot use `{name}` as the project");
        let code = if error.kind() == io::ErrorKind::NotFound {
            ExitCode::NotFound
        } else {
            ExitCode::Failed
        };
        CliError::new(code, message)
            .because(&error)
            .hint("name the project's directory with `--root DIR`")
    })?;
    if !found.is_dir() {
        let message = format!("cannot use `{name}` as the project: it is not a directory");
        return Err(CliError::new(ExitCode::Usage, message)
            .hint("name the project's directory with `--root DIR`"));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(directories: &[&str]) -> (tempfile::TempDir, PathBuf) {
        let base = tempfile::tempdir().expect("a directory");
        for directory in directories {
            std::fs::create_dir_all(base.path().join(directory)).expect("made");
        }
        let path = base.path().canonicalize().expect("a path");
        (base, path)
    }

    #[test]
    fn the_repository_around_the_current_directory_is_the_project() {
        let (_base, path) = tree(&["p/.git", "p/src/deep"]);
        let project = Project::find(&path.join("p/src/deep"), None, None, false).expect("found");
        assert_eq!(project.root, path.join("p"));
        assert_eq!(project.inside, Path::new("src/deep"));
    }

    #[test]
    fn without_a_repository_the_current_directory_is_the_project() {
        let (_base, path) = tree(&["p/src"]);
        let project = Project::find(&path.join("p/src"), None, None, false).expect("found");
        assert_eq!((project.root, project.inside), (path.join("p/src"), PathBuf::new()));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "fixtures below a temporary directory")]
    fn without_a_repository_the_directory_with_a_configuration_is_the_project() {
        use std::os::unix::fs::PermissionsExt;
        let (_base, path) = tree(&["p/src/deep", "r/.git", "r/sub"]);
        std::fs::write(path.join("p/skync.toml"), "").expect("written");
        std::fs::write(path.join("r/sub/skync.toml"), "").expect("written");
        let find = |at: &str| Project::find(&path.join(at), None, None, false).expect("found").root;
        assert_eq!(find("p/src/deep"), path.join("p"));
        assert_eq!(find("r/sub"), path.join("r"));
        let public = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(path.join("p"), public).expect("set");
        assert_eq!(find("p/src"), path.join("p/src"));
    }

    #[test]
    fn home_is_refused_unless_forced_and_never_found_by_its_git() {
        let (_base, path) = tree(&["home/.git", "home/p"]);
        let home = path.join("home");
        let project = Project::find(&home.join("p"), None, Some(&home), false).expect("found");
        assert_eq!(project.root, home.join("p"));
        let error = Project::find(&home, None, Some(&home), false).expect_err("refused");
        assert_eq!(error.code, ExitCode::Usage);
        assert!(Project::find(&home, None, Some(&home), true).is_ok());
        assert!(Project::find(Path::new("/"), None, Some(&home), false).is_err());
    }

    #[test]
    fn a_file_or_nothing_is_no_project() {
        let (_base, path) = tree(&["p"]);
        let find = |root: &str| Project::find(&path, Some(Path::new(root)), None, false);
        assert_eq!(find("nothing").expect_err("refused").code, ExitCode::NotFound);
        let file = find("/proc/self/stat").expect_err("refused");
        assert!(file.to_string().contains("not a directory"), "{file}");
    }
}
