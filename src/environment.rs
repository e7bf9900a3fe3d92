//! Which variables a command in the sandbox gets.
//!
//! An allow-list, never the whole environment: PATH, HOME and secrets of the host mean nothing or
//! too much in a sandbox. Git's identity and `safe.directory` go by `GIT_CONFIG_*`, which needs no
//! file and reaches every git below (`reference/spec-kit.md` §3.1–2).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::{CliError, ExitCode};

/// Passed on if they are set.
const PASSED: &[&str] = &[
    "GIT_AUTHOR_NAME",
    "GIT_AUTHOR_EMAIL",
    "GIT_AUTHOR_DATE",
    "GIT_COMMITTER_NAME",
    "GIT_COMMITTER_EMAIL",
    "GIT_COMMITTER_DATE",
    "GIT_BRANCH_NAME",
    "TERM",
    "COLORTERM",
    "NO_COLOR",
    "FORCE_COLOR",
    "CI",
    "TZ",
];
/// Everything that begins so is passed on.
const PASSED_PREFIXES: &[&str] = &["SPECIFY_", "SPECKIT_"];
/// Without it python tools cannot print what they do (`UnicodeEncodeError`).
const LOCALE: &str = "C.UTF-8";

/// A variable for the sandbox.
pub type Variable = (OsString, OsString);

/// The variables of the host that go along, and those we add; the user's own come last and win.
///
/// # Errors
/// If one of `asked` is no variable.
pub fn collect(
    host: impl Iterator<Item = Variable>,
    asked: &[String],
    git: &[(String, String)],
) -> Result<Vec<Variable>, CliError> {
    let host: Vec<Variable> = host.collect();
    let mut variables: Vec<Variable> = Vec::new();
    // Not the host's locale, which the sandbox may not have: this one is everywhere.
    variables.push(("LANG".into(), LOCALE.into()));
    variables.push(("LC_CTYPE".into(), LOCALE.into()));
    variables.push(("SKYNC".into(), "1".into()));
    variables.extend(host.iter().filter(|(name, _)| is_passed(name)).cloned());
    let count = git.len().to_string();
    variables.push(("GIT_CONFIG_COUNT".into(), count.into()));
    for (index, (key, value)) in git.iter().enumerate() {
        variables.push((format!("GIT_CONFIG_KEY_{index}").into(), key.into()));
        variables.push((format!("GIT_CONFIG_VALUE_{index}").into(), value.into()));
    }
    for wish in asked {
        variables.extend(asked_for(wish, &host)?);
    }
    Ok(variables)
}

/// `NAME=VALUE`, or `NAME` to take it from the host. Only the first `=` counts.
fn asked_for(wish: &str, host: &[Variable]) -> Result<Option<Variable>, CliError> {
    let (name, value) = match wish.split_once('=') {
        Some((name, value)) => (name, Some(OsString::from(value))),
        None => (wish, None),
    };
    if name.is_empty() || name.contains('\0') {
        let message = format!("`--env {wish}` names no variable");
        return Err(CliError::new(ExitCode::Usage, message).hint("write NAME=VALUE, or NAME"));
    }
    let value = value
        .or_else(|| host.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone()));
    Ok(value.map(|value| (name.into(), value)))
}

fn is_passed(name: &OsStr) -> bool {
    PASSED.iter().any(|passed| name == *passed)
        || PASSED_PREFIXES.iter().any(|prefix| name.as_bytes().starts_with(prefix.as_bytes()))
}

/// Variables by which spec-kit is told a directory. One that is not in the project means nothing in
/// the sandbox: what is written there would be lost, and the exit code would say that all is well.
const DIRECTORIES: &[&str] = &["SPECIFY_INIT_DIR", "SPECIFY_FEATURE_DIRECTORY"];

/// Checks that no variable sends the command's work outside the project.
///
/// # Errors
/// Names the variable.
pub fn check_directories(variables: &[Variable], root: &Path) -> Result<(), CliError> {
    for (name, value) in variables {
        let path = Path::new(value);
        let is_ours = DIRECTORIES.iter().any(|directory| name == *directory);
        if is_ours && path.is_absolute() && !path.starts_with(root) {
            let (name, path) = (name.to_string_lossy(), path.display());
            let message =
                format!("{name} is `{path}`, which is outside the project `{}`", root.display());
            return Err(CliError::new(ExitCode::NotStarted, message)
                .hint(format!("unset {name}, or give it a directory of the project")));
        }
    }
    Ok(())
}

/// What git is told in the sandbox: who the user is, and that the project is to be trusted although
/// another user may own it there.
pub fn git_settings(project: &std::path::Path) -> Vec<(String, String)> {
    let mut settings = vec![("safe.directory".to_owned(), "*".to_owned())];
    let output = Command::new("git")
        .args(["config", "--get-regexp", "^user\\.(name|email)$"])
        .current_dir(project)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    // A host without git, or a user without a name, is no error: the command may never need it.
    let text = output.map(|output| output.stdout).unwrap_or_default();
    for line in String::from_utf8_lossy(&text).lines() {
        if let Some((key, value)) = line.split_once(' ') {
            settings.retain(|(other, _)| other != key);
            settings.push((key.to_owned(), value.to_owned()));
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Vec<Variable> {
        [
            ("PATH", "/host/bin"),
            ("HOME", "/home/me"),
            ("AWS_SECRET_ACCESS_KEY", "s3cret"),
            ("SPECIFY_FEATURE", "001-x"),
            ("TERM", "xterm"),
            ("LANG", "C"),
            ("TOKEN", "t=1"),
        ]
        .map(|(name, value)| (name.into(), value.into()))
        .to_vec()
    }

    fn value<'a>(variables: &'a [Variable], name: &str) -> Option<&'a OsStr> {
        variables.iter().rev().find(|(other, _)| other == name).map(|(_, value)| &**value)
    }

    #[test]
    fn only_what_is_allowed_goes_along() {
        let variables = collect(host().into_iter(), &[], &[]).expect("variables");
        for name in ["PATH", "HOME", "AWS_SECRET_ACCESS_KEY", "TOKEN"] {
            assert_eq!(value(&variables, name), None, "{name}");
        }
        assert_eq!(value(&variables, "SPECIFY_FEATURE"), Some("001-x".as_ref()));
        assert_eq!(value(&variables, "TERM"), Some("xterm".as_ref()));
        assert_eq!(value(&variables, "LANG"), Some("C.UTF-8".as_ref()));
    }

    #[test]
    fn asked_for_variables_win_and_keep_every_equals_sign_but_the_first() {
        let asked = ["TERM=a=b=c".into(), "TOKEN".into(), "MISSING".into(), "EMPTY=".into()];
        let variables = collect(host().into_iter(), &asked, &[]).expect("variables");
        assert_eq!(value(&variables, "TERM"), Some("a=b=c".as_ref()));
        assert_eq!(value(&variables, "TOKEN"), Some("t=1".as_ref()));
        assert_eq!(value(&variables, "MISSING"), None);
        assert_eq!(value(&variables, "EMPTY"), Some("".as_ref()));
        assert!(collect(host().into_iter(), &["=x".into()], &[]).is_err());
    }

    #[test]
    fn work_is_never_sent_outside_the_project() {
        let check = |value: &str| {
            let variables = [("SPECIFY_FEATURE_DIRECTORY".into(), value.into())];
            check_directories(&variables, Path::new("/p"))
        };
        assert!(check("/p/specs/1").is_ok() && check("specs/1").is_ok());
        let error = check("/other").expect_err("refused");
        assert!(error.to_string().contains("SPECIFY_FEATURE_DIRECTORY"), "{error}");
    }

    #[test]
    fn git_is_told_by_numbered_variables() {
        let git = [("user.name".to_owned(), "A B".to_owned())];
        let variables = collect(host().into_iter(), &[], &git).expect("variables");
        assert_eq!(value(&variables, "GIT_CONFIG_COUNT"), Some("1".as_ref()));
        assert_eq!(value(&variables, "GIT_CONFIG_VALUE_0"), Some("A B".as_ref()));
    }
}
