//! What is run in a sandbox by its own shell before our agent is there, and what comes back.
//!
//! Daytona pipes the command to a shell that it chooses itself, zsh on some images: each script is
//! handed on to `/bin/sh`, with an empty standard input so that nothing eats the rest of it. Only
//! what any small image has is used. A script may be run twice.

use super::super::launch::Place;
use crate::driver::excerpt::Tail;

/// Below this directory of the user's home is everything of ours.
const DIRECTORY: &str = ".skync";

/// A word of a shell's command line.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A script as the command that Daytona is to run.
pub(super) fn command(script: &str) -> String {
    format!("exec /bin/sh -c {} </dev/null", quote(script))
}

/// Makes the session's directory, for its user alone, and tells what is there.
pub(super) fn prepare(session: &str) -> String {
    format!(
        r#"umask 077
for home in "$HOME" /tmp; do
  d="$home/{DIRECTORY}/{session}"
  [ -n "$home" ] && mkdir -p "$d/state" && chmod 700 "$d" "$d/state" && [ -w "$d" ] && break
  d=
done 2>/dev/null
if [ -z "$d" ]; then
  echo "neither its home '$HOME' nor /tmp can be written"
  exit 1
fi
echo "skync machine $(uname -m)"
echo "skync home $home"
for f in "$d"/skync-agent-*; do
  [ -f "$f" ] && echo "skync agent $(wc -c <"$f") ${{f##*/}}"
done
exit 0"#
    )
}

/// What [`prepare`] told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Prepared {
    /// `uname -m`.
    pub(super) machine: String,
    /// Where the session's directory is.
    pub(super) home: String,
    /// Agents that are there: file name and bytes.
    pub(super) agents: Vec<(String, u64)>,
}

impl Prepared {
    /// Reads it from among all that was written; nothing if it is not there.
    pub(super) fn read(output: &str) -> Option<Self> {
        let mut prepared = Self::default();
        for line in output.lines() {
            let Some((what, value)) = line.strip_prefix("skync ").and_then(|l| l.split_once(' '))
            else {
                continue;
            };
            match what {
                "machine" => prepared.machine = value.trim().to_owned(),
                "home" => prepared.home = value.trim_end_matches('/').to_owned(),
                "agent" => {
                    let (bytes, name) = value.trim().split_once(' ')?;
                    prepared.agents.push((name.to_owned(), bytes.parse().ok()?));
                }
                _ => {}
            }
        }
        let is_whole = !prepared.machine.is_empty() && prepared.home.starts_with('/');
        is_whole.then_some(prepared)
    }

    /// The session's directory.
    pub(super) fn directory(&self, session: &str) -> String {
        format!("{}/{DIRECTORY}/{session}", self.home)
    }
}

/// Starts the agent in its place. It ends another one that is there, and answers a second time as
/// it did the first.
pub(super) fn launch(place: &Place, arguments: &[String]) -> String {
    let (executable, state) = (quote(&place.executable), quote(&place.state()));
    let arguments: Vec<String> = arguments.iter().map(|word| quote(word)).collect();
    let arguments = arguments.join(" ");
    // The agent takes the secret's file away.
    format!(
        "chmod 600 {state}/secret 2>/dev/null\n\
         chmod 700 {executable} && exec {executable} {arguments} 2>&1"
    )
}

/// Looks whether the agent of a session lives.
pub(super) fn probe(session: &str) -> String {
    format!(
        r#"for home in "$HOME" /tmp; do
  d="$home/{DIRECTORY}/{session}"
  [ -d "$d/state" ] && break
done
alive=no there=no oom=0
[ -d "$d/state" ] && there=yes
{{
  read -r pid <"$d/state/agent.pid"
  read -r port <"$d/state/port"
  while read -r name count; do
    [ "$name" = oom_kill ] && oom=$count
  done </sys/fs/cgroup/memory.events
}} 2>/dev/null
for f in "$d"/skync-agent-*; do
  [ -n "$pid" ] && [ "/proc/$pid/exe" -ef "$f" ] && alive=yes
done
echo "skync alive=$alive there=$there port=${{port:-0}} oom=$oom"
[ $alive = yes ] || tail -c 2000 "$d/state/agent.log" 2>/dev/null
exit 0"#
    )
}

/// What [`probe`] told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Probed {
    /// It lives, and serves WebSockets there.
    Alive { port: u16 },
    /// It does not run any more.
    Dead {
        /// What is known of why.
        reason: String,
        /// Something in the sandbox was ended for want of memory.
        out_of_memory: bool,
    },
}

impl Probed {
    /// Reads it from among all that was written; nothing if it is not there.
    pub(super) fn read(output: &str) -> Option<Self> {
        let (at, line) = output
            .lines()
            .enumerate()
            .find_map(|(at, line)| Some((at, line.strip_prefix("skync alive=")?)))?;
        let field = |name: &str| {
            line.split_whitespace().find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
        };
        if line.starts_with("yes") {
            return Some(Self::Alive { port: field("port")?.parse().ok().filter(|p| *p != 0)? });
        }
        let mut tail = Tail::default();
        for said in output.lines().skip(at + 1) {
            tail.push(said.as_bytes());
            tail.push(b"\n");
        }
        // An agent whose time was over has taken its files with it.
        let is_there = field("there") == Some("yes");
        let reason = match (is_there, tail.lines()) {
            (false, _) => "its agent has ended, and taken its files with it".to_owned(),
            (true, said) if said.is_empty() => "its agent does not run".to_owned(),
            (true, said) => format!("its agent does not run; it said last: {said}"),
        };
        let killed = field("oom").and_then(|count| count.parse::<u64>().ok()).unwrap_or(0);
        Some(Self::Dead { reason, out_of_memory: is_there && killed > 0 })
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const SESSION: &str = "0123456789abcdef";

    fn run(script: &str, home: &str) -> String {
        let output = Command::new("/bin/sh")
            .args(["-c", &command(script)])
            .env("HOME", home)
            .output()
            .expect("a shell");
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    #[test]
    fn any_word_comes_through_two_shells() {
        let word = "a b'c\"d$e`f\\g\n!h*";
        assert_eq!(run(&format!("printf %s {}", quote(word)), "/"), word);
    }

    #[test]
    fn a_directory_is_made_that_nobody_else_reads() {
        use std::os::unix::fs::PermissionsExt;
        let home = tempfile::tempdir().expect("a directory");
        let home = home.path().to_str().expect("text");
        let prepared = Prepared::read(&run(&prepare(SESSION), home)).expect("an answer");
        assert_eq!((prepared.home.as_str(), prepared.agents.len()), (home, 0));
        let directory = prepared.directory(SESSION);
        for path in [directory.clone(), format!("{directory}/state"), format!("{home}/.skync")] {
            let mode = std::fs::metadata(&path).expect("made").permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{path}");
        }
        std::fs::copy("/bin/true", format!("{directory}/skync-agent-12")).expect("a copy");
        let again = Prepared::read(&run(&prepare(SESSION), home)).expect("an answer");
        let bytes = std::fs::metadata("/bin/true").expect("there").len();
        assert_eq!(again.agents, [("skync-agent-12".to_owned(), bytes)]);
    }

    #[test]
    fn a_home_that_cannot_be_written_is_passed_over() {
        let prepared = Prepared::read(&run(&prepare(SESSION), "/proc/none")).expect("an answer");
        assert_eq!(prepared.home, "/tmp");
        std::fs::remove_dir(format!("/tmp/.skync/{SESSION}/state")).expect("made by this test");
        std::fs::remove_dir(format!("/tmp/.skync/{SESSION}")).expect("made by this test");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test's own files")]
    fn whether_the_agent_lives_is_told_by_its_executable() {
        let home = tempfile::tempdir().expect("a directory");
        let text = home.path().to_str().expect("text");
        let probed = |text: &str| Probed::read(&run(&probe(SESSION), text)).expect("an answer");
        let gone = Probed::Dead {
            reason: "its agent has ended, and taken its files with it".to_owned(),
            out_of_memory: false,
        };
        assert_eq!(probed(text), gone);

        run(&prepare(SESSION), text);
        let directory = home.path().join(".skync").join(SESSION);
        let agent = directory.join("skync-agent-12");
        std::fs::copy("/bin/sleep", &agent).expect("a copy");
        let mut child = Command::new(&agent).arg("60").spawn().expect("started");
        std::fs::write(directory.join("state/agent.pid"), child.id().to_string()).expect("written");
        std::fs::write(directory.join("state/port"), "4711").expect("written");
        // Until it runs its own executable.
        let found = (0..500)
            .map(|_| probed(text))
            .find(|found| *found != gone.clone() && matches!(found, Probed::Alive { .. }));
        assert_eq!(found, Some(Probed::Alive { port: 4711 }));

        child.kill().expect("killed");
        child.wait().expect("ended");
        std::fs::write(directory.join("state/agent.log"), "one\nlast\n").expect("written");
        let Probed::Dead { reason, .. } = probed(text) else { panic!("it is dead") };
        assert_eq!(reason, "its agent does not run; it said last: one | last");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test's own files")]
    fn an_agent_is_started_with_its_words_whole_as_often_as_it_is_asked_for() {
        let home = tempfile::Builder::new().prefix("it's ").tempdir().expect("a directory");
        let text = home.path().to_str().expect("text");
        let prepared = Prepared { home: text.into(), ..Prepared::default() };
        let place = Place::new(prepared.directory(SESSION), "new");
        run(&prepare(SESSION), text);
        let agent = "#!/bin/sh\nrm -f \"${0%/*}/state/secret\"\nprintf '<%s>' \"$@\" >&2\n";
        for (name, content) in [("state/secret", "s"), ("new", agent)] {
            std::fs::write(format!("{}/{name}", place.directory), content).expect("written");
        }
        let script = launch(&place, &["a b".into(), "it's".into()]);
        for _ in 0..2 {
            assert_eq!(run(&script, text), "<a b><it's>");
        }
        let mut left: Vec<_> = std::fs::read_dir(&place.directory)
            .expect("there")
            .map(|entry| entry.expect("there").file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["new", "state"]);
    }
}
