//! Starting the agent in a sandbox where a program can only be run to its end: what is said to
//! `skync-agent launch`, and what it says back.

use std::path::PathBuf;

use crate::driver::excerpt::printable;
use crate::driver::{DriverError, ErrorKind, SandboxSpec};

/// Begins the line in which the agent says where it listens.
const ANSWER: &str = "skync-agent launched ";

/// Where the agent is in a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// A directory of its own: everything of ours is in it.
    pub(crate) directory: String,
    /// Its executable.
    pub(crate) executable: String,
}

impl Place {
    /// The place in `directory` of an agent whose file has that name.
    pub(crate) fn new(directory: String, file_name: &str) -> Self {
        Self { executable: format!("{directory}/{file_name}"), directory }
    }

    /// Its state directory.
    pub(crate) fn state(&self) -> String {
        format!("{}/state", self.directory)
    }

    /// The arguments that start it. `web` is `ADDRESS:FIRST-LAST`; `home` is where the project goes
    /// if it cannot be where the host has it.
    ///
    /// # Errors
    /// If the project's path cannot be said to a provider, whose texts are UTF-8, or would hold the
    /// agent.
    pub(crate) fn arguments(
        &self,
        spec: &SandboxSpec,
        web: &str,
        home: &str,
    ) -> Result<Vec<String>, DriverError> {
        let plain = |path: &&str| !path.chars().any(char::is_control);
        let Some(root) = spec.root.to_str().filter(plain) else {
            let message = format!("the path `{}` is no plain text", spec.root.display());
            return Err(DriverError::new(ErrorKind::Invalid, message)
                .hint("set `root` in the profile to where the project is to be in the sandbox"));
        };
        if std::path::Path::new(&self.directory).starts_with(&spec.root) {
            let message = format!("the root `{root}` holds the agent's own directory");
            return Err(DriverError::new(ErrorKind::Invalid, message)
                .hint("set `root` in the profile to a directory below it"));
        }
        let name = spec.root.file_name().and_then(|name| name.to_str()).unwrap_or("project");
        let fallback = format!("{}/{name}", home.trim_end_matches('/'));
        let lease = spec.lease.as_millis().to_string();
        let state = self.state();
        let all = [
            "launch",
            "--state",
            &state,
            "--lease-ms",
            &lease,
            "--root",
            root,
            "--fallback",
            &fallback,
            "--web",
            web,
            "--cleanup",
            &self.directory,
        ];
        Ok(all.map(str::to_owned).to_vec())
    }
}

/// What a started agent says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Launched {
    /// Where it serves WebSockets.
    pub(crate) port: u16,
    /// The project's root, which exists.
    pub(crate) root: PathBuf,
}

/// Reads the answer from among all that was written.
///
/// # Errors
/// What the program said in place of an answer.
pub(crate) fn answer(output: &str) -> Result<Launched, DriverError> {
    let read = || {
        let line = output.lines().find_map(|line| line.trim_end().strip_prefix(ANSWER))?;
        let (port, root) = line.strip_prefix("port=")?.split_once(" root=")?;
        let (port, root) = (port.parse().ok()?, PathBuf::from(root));
        root.is_absolute().then_some(Launched { port, root })
    };
    read().ok_or_else(|| {
        let message = format!("the agent does not start in the sandbox: {}", printable(output));
        let error = DriverError::new(ErrorKind::Failed, message);
        if output.contains("project's root") {
            return error.hint("set `root` in the profile to a directory that its user can make");
        }
        error
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn spec(root: &str) -> SandboxSpec {
        SandboxSpec {
            session: "0123456789abcdef".to_owned(),
            labels: std::collections::BTreeMap::new(),
            root: root.into(),
            lease: Duration::from_secs(600),
            runtime: "/run/x".into(),
            preparation: None,
        }
    }

    #[test]
    fn the_answer_is_found_among_other_lines() {
        let output = "warning: x\nskync-agent launched port=4711 root=/work/a b\n";
        let found = answer(output).expect("an answer");
        assert_eq!(found, Launched { port: 4711, root: "/work/a b".into() });
    }

    #[test]
    fn what_came_instead_of_an_answer_is_told() {
        let error = answer("sh: 1: exec: format error").expect_err("none");
        assert!(error.message.contains("format error"), "{error}");
        let error = answer("cannot make the project's root `/x`").expect_err("none");
        assert!(error.hints[0].contains("`root`"), "{error:?}");
        assert!(answer("skync-agent launched port=x root=/").is_err());
    }

    #[test]
    fn a_root_that_holds_the_agent_is_refused() {
        let place = Place::new("/home/user/.skync/0123".to_owned(), "skync-agent-1");
        let refused = place.arguments(&spec("/home/user"), "127.0.0.1:1-2", "/home/user");
        assert_eq!(refused.expect_err("refused").kind, ErrorKind::Invalid);
        let all = place.arguments(&spec("/work/p"), "127.0.0.1:1-2", "/home/user").expect("fine");
        assert!(all.contains(&"/home/user/p".to_owned()), "{all:?}");
    }
}
