//! `credential_command`: a program of the user's that prints a key, as `pass show e2b` does.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use super::mask::mask;
use super::{KeyError, Login, Secret, first_of};
use crate::ui::visible;

/// It may ask a person for a password, in a window of its own.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long its output is read after its end.
const REMAINDER: Duration = Duration::from_millis(250);
/// More of what it writes is not read.
const OUTPUT_BYTES_MAX: u64 = 64 << 10;
/// What is shown of its errors.
const ERROR_LINES_MAX: usize = 5;
const ERROR_CHARS_MAX: usize = 600;

/// Runs it and takes the key from what it prints: the first line, or a JSON object as
/// `{"token": "…", "organization": "…"}`.
///
/// It is no shell's: the list is the program and its arguments. It has no input, and what it prints
/// is never shown.
///
/// # Errors
/// If it cannot be started, fails, takes too long or prints no key.
pub(super) async fn run(command: &[String]) -> Result<Login, KeyError> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(KeyError::new("`credential_command` is empty"));
    };
    let shown = visible(program);
    let failed = |why: String| {
        KeyError::new(format!("`credential_command` ({shown}) {why}"))
            .hint("run it in a shell: its first line of output must be the key and nothing else")
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Whatever it starts ends with it, if it takes too long.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(format!("cannot be started: {error}")))?;
    let group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (mut output, mut errors) = (Secret::of(Vec::new()), Secret::of(Vec::new()));
    let ended = tokio::time::timeout(PATIENCE, async {
        let read = async { tokio::join!(all_of(stdout, &mut output), all_of(stderr, &mut errors)) };
        tokio::pin!(read);
        let status = tokio::select! {
            status = child.wait() => status,
            _ = &mut read => return child.wait().await,
        };
        // What it has left behind may hold its output open for ever, as an agent does.
        let _ = tokio::time::timeout(REMAINDER, read).await;
        status
    });
    let Ok(status) = ended.await else {
        return Err(failed(format!("did not end within {} s", PATIENCE.as_secs())));
    };
    group.leave();
    let status = status.map_err(|error| failed(format!("cannot be waited for: {error}")))?;
    if !status.success() {
        let said = last_lines(errors.reveal());
        return Err(failed(format!("failed ({status}){said}")));
    }
    let text = std::str::from_utf8(output.reveal()).map_err(|_| failed("prints no text".into()))?;
    Login::parse(first_of(text)).map_err(|why| failed(format!("prints no key: {why}")))
}

/// The processes of a command, which end with this: if it takes too long, or nobody waits any more.
struct Group(Option<Pid>);

impl Group {
    /// Leaves them alone: the command has ended, and what it has left behind is meant to stay.
    fn leave(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may have gone at this moment.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Reads to the end, and keeps so much as may be of use.
async fn all_of(from: Option<impl AsyncRead + Unpin>, bytes: &mut Secret<Vec<u8>>) {
    if let Some(mut from) = from {
        // What is missing is missed when it is understood.
        let _ = (&mut from).take(OUTPUT_BYTES_MAX).read_to_end(bytes.reveal_mut()).await;
        let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
    }
}

/// The end of what it says is wrong, to be put behind a sentence; empty if it says nothing.
fn last_lines(errors: &[u8]) -> String {
    let text = String::from_utf8_lossy(errors);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let lines = &lines[lines.len().saturating_sub(ERROR_LINES_MAX)..];
    let shown: String = lines.join("; ").chars().take(ERROR_CHARS_MAX).collect();
    if shown.is_empty() { shown } else { format!(": {}", visible(&mask(&shown))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sh(script: &str) -> Result<Login, KeyError> {
        run(&["sh", "-c", script].map(str::to_owned)).await
    }

    #[tokio::test]
    async fn the_first_line_is_the_key() {
        let login = sh("echo the-key-1; echo more; cat").await.expect("a key");
        assert_eq!(login.token.reveal(), "the-key-1");
        let json = r#"printf '{\n "token": "the-key-2", "organization": "o"}'"#;
        let login = sh(json).await.expect("a key");
        assert_eq!(
            (login.token.reveal().as_str(), login.organization.as_deref()),
            ("the-key-2", Some("o"))
        );
    }

    #[tokio::test]
    async fn what_fails_is_told_with_its_own_words_and_without_its_output() {
        let error = sh("echo hidden-output; printf 'no \\033[31mkey' >&2; exit 3").await.err();
        let error = error.expect("it failed");
        assert!(error.message.contains("exit status: 3"), "{}", error.message);
        assert!(error.message.contains("no \\u{1b}[31mkey"), "{}", error.message);
        assert!(!error.message.contains("hidden"), "{}", error.message);
        for (script, why) in [
            ("echo not a key at all", "spaces"),
            ("true", "empty"),
            ("printf '\\377\\376'", "no text"),
            ("printf '{\"token\":'", "JSON"),
        ] {
            let error = sh(script).await.err().expect("no key");
            assert!(error.message.contains(why), "{script}: {}", error.message);
        }
        let missing = run(&["/no/such/program".to_owned()]).await.err().expect("not there");
        assert!(missing.message.contains("cannot be started"), "{}", missing.message);
    }

    #[tokio::test(start_paused = true)]
    async fn what_hangs_is_ended() {
        // The clock of the test goes on by itself as long as nothing else happens.
        let error = sh("sleep 1000 & sleep 1000").await.err().expect("too late");
        assert!(error.message.contains("did not end within 30 s"), "{}", error.message);
    }

    #[tokio::test]
    async fn what_it_leaves_behind_is_not_waited_for() {
        let child = "sleep 40 & echo $! >&2; echo the-key-3";
        let login = sh(&format!("( {child} ) 2>/dev/null")).await.expect("a key");
        assert_eq!(login.token.reveal(), "the-key-3");
    }

    #[tokio::test]
    async fn whatever_it_has_started_ends_with_whoever_waits() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("pid");
        let shown = file.display().to_string();
        let script = format!("sleep 1000 & echo $! > {shown}.new; mv {shown}.new {shown}; wait");
        let running = tokio::spawn(async move { sh(&script).await });
        while !file.exists() {
            tokio::task::yield_now().await;
        }
        let pid = std::fs::read_to_string(&file).expect("written");
        running.abort();
        let has_ended = || {
            let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
            state.is_err() || state.is_ok_and(|state| state.contains(") Z "))
        };
        while !has_ended() {
            tokio::task::yield_now().await;
        }
    }
}
