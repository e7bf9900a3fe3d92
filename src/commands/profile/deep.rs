//! `skync profile validate --deep`: what a user relies on, tried for real with a sandbox of the
//! profile.
//!
//! It is this same program that is run, in a project of its own that is removed at the end, so that
//! what is tried is what a user would do. A property that does not hold does not keep the next
//! from being tried.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::commands::Context;
use crate::config::Profile;
use crate::driver::{self, label};
use crate::error::{CliError, ExitCode};
use crate::state;
use crate::ui::render::SCHEMA_VERSION;
use crate::ui::{print, visible};

/// One step may pull an image.
const STEP_PATIENCE: Duration = Duration::from_secs(900);
/// An edit that takes longer has not arrived.
const EDIT_PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of the large file and of the large input.
const LARGE_BYTES: usize = 2 << 20;
/// Small files that go there and back.
const SMALL_FILES: usize = 100;

/// What was tried, and what came of it.
struct Tried {
    property: &'static str,
    problem: Option<String>,
    took: Duration,
}

/// Tries all properties of one profile.
///
/// # Errors
/// If one does not hold, or there is no place to try it in.
pub(super) async fn run(profile: &Profile, context: &Context) -> Result<ExitCode, CliError> {
    let place = tempfile::Builder::new().prefix("skync-validate-").tempdir().map_err(|error| {
        CliError::new(ExitCode::Failed, "there is no place for a project to try it with")
            .because(&error)
            .hint("TMPDIR names a directory that can be written")
    })?;
    let root = place.path().canonicalize().unwrap_or_else(|_| place.path().to_owned());
    let trial = Trial { root: &root, profile };
    let mut all = Vec::new();
    let first = trial.sandbox_is_made().await;
    let is_made = first.problem.is_none();
    tell(&first, context);
    all.push(first);
    if is_made {
        for property in 0..PROPERTIES {
            let tried = trial.property(property).await;
            tell(&tried, context);
            all.push(tried);
        }
    }
    let last = trial.nothing_is_left().await;
    tell(&last, context);
    all.push(last);
    let failed = all.iter().filter(|tried| tried.problem.is_some()).count();
    if context.json {
        let properties: Vec<Value> = all.iter().map(document).collect();
        let document = json!({
            "schema_version": SCHEMA_VERSION,
            "ok": failed == 0,
            "profile": profile.name,
            "properties": properties,
        });
        print(&format!("{document}\n"))?;
    }
    match failed {
        0 => Ok(ExitCode::Done),
        _ => {
            let (count, all) = (failed, all.len());
            let what = format!("{count} of {all} properties do not hold for `{}`", profile.name);
            Err(CliError::new(ExitCode::Failed, what).hint(
                "`session.log` in the state directory says more; `skync gc` removes what is left",
            ))
        }
    }
}

fn tell(tried: &Tried, context: &Context) {
    let Tried { property, problem, took } = tried;
    let ms = took.as_millis();
    match problem {
        None => context.tell(&format!("ok      {property} ({ms} ms)")),
        Some(problem) => context.tell(&format!("FAILED  {property}: {problem}")),
    }
}

fn document(tried: &Tried) -> Value {
    json!({
        "property": tried.property,
        "ok": tried.problem.is_none(),
        "problem": tried.problem,
        "ms": u64::try_from(tried.took.as_millis()).unwrap_or(u64::MAX),
    })
}

struct Trial<'a> {
    root: &'a Path,
    profile: &'a Profile,
}

/// How many properties there are between the first and the last.
const PROPERTIES: usize = 8;

impl Trial<'_> {
    async fn sandbox_is_made(&self) -> Tried {
        let work = async { expect(self.skync(&["up", "-d"], None).await?, 0, "").map(drop) };
        timed("a sandbox is made, with the agent in it, and mirrors the project", work).await
    }

    async fn property(&self, number: usize) -> Tried {
        match number {
            0 => timed("exit codes and both streams pass unchanged", self.streams()).await,
            1 => timed("input arrives byte for byte", self.input()).await,
            2 => timed("a command that is not there is told as such", self.missing()).await,
            3 => timed("files go there and back as they are", self.files()).await,
            4 => timed("an edit arrives while a command runs", self.edit()).await,
            5 => timed("a command outlives its client, and its output is kept", self.left()).await,
            6 => timed("a command that is cancelled leaves no process", self.cancelled()).await,
            _ => timed("a command in a session that is up starts at once", self.again()).await,
        }
    }

    async fn streams(&self) -> Result<(), String> {
        let script = "printf '%s' \"$1\"; printf problem >&2; exit 37";
        let output = self.exec(&["sh", "-c", script, "sh", "two  words"], None).await?;
        let output = expect(output, 37, "two  words")?;
        match output.stderr.as_slice() {
            b"problem" => Ok(()),
            other => Err(format!("stderr was {:?}", String::from_utf8_lossy(other))),
        }
    }

    async fn input(&self) -> Result<(), String> {
        let bytes = noise(LARGE_BYTES, 1);
        let output = self.exec(&["cat"], Some(bytes.clone())).await?;
        let came = output.stdout.len();
        (output.stdout == bytes).then_some(()).ok_or_else(|| format!("{came} bytes came back"))
    }

    async fn missing(&self) -> Result<(), String> {
        expect(self.exec(&["skync-no-such-command"], None).await?, 127, "").map(drop)
    }

    async fn files(&self) -> Result<(), String> {
        let large = noise(LARGE_BYTES, 2);
        let write = |name: &str, content: &[u8], mode| {
            let path = self.root.join(name);
            state::write_atomic(&path, content, mode).map_err(|error| error.to_string())
        };
        write("large", &large, 0o644)?;
        write("run", b"#!/bin/sh\ncp large copy\nrm small0\nmkdir -p made/deep\n", 0o755)?;
        for number in 0..SMALL_FILES {
            write(&format!("small{number}"), number.to_string().as_bytes(), 0o644)?;
        }
        let script = "./run && ls small* | wc -l";
        let output = expect(self.exec(&["sh", "-c", script], None).await?, 0, "")?;
        let counted = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if counted != (SMALL_FILES - 1).to_string() {
            return Err(format!("{counted} small files were there"));
        }
        let back = std::fs::read(self.root.join("copy")).map_err(|error| error.to_string())?;
        let is_gone = !self.root.join("small0").exists();
        let is_made = self.root.join("made/deep").is_dir();
        match (back == large, is_gone, is_made) {
            (true, true, true) => Ok(()),
            (false, ..) => Err("a large file came back changed".to_owned()),
            (_, false, _) => Err("a removed file is still here".to_owned()),
            (.., false) => Err("a directory did not come back".to_owned()),
        }
    }

    async fn edit(&self) -> Result<(), String> {
        let script = "touch ready; until [ -e edited ]; do sleep 0.05; done; echo seen > answer";
        let words = ["sh", "-c", script];
        let command = self.exec(&words, None);
        let edit = async {
            self.until("ready").await?;
            let path = self.root.join("edited");
            state::write_atomic(&path, b"", 0o644).map_err(|error| error.to_string())?;
            self.until("answer").await
        };
        let (output, edited) = tokio::join!(tokio::time::timeout(EDIT_PATIENCE * 2, command), edit);
        edited?;
        let output = output.map_err(|_| "the command did not end".to_owned())??;
        expect(output, 0, "").map(drop)
    }

    async fn until(&self, name: &str) -> Result<(), String> {
        let deadline = Instant::now() + EDIT_PATIENCE;
        while !self.root.join(name).exists() {
            if Instant::now() >= deadline {
                let seconds = EDIT_PATIENCE.as_secs();
                return Err(format!("`{name}` was not here within {seconds} s"));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    async fn left(&self) -> Result<(), String> {
        let script = "sleep 0.2; echo said; exit 5";
        let start = ["exec", "-d", "--name", "validate-left", "--", "sh", "-c", script];
        expect(self.skync(&start, None).await?, 0, "")?;
        expect(self.skync(&["wait", "validate-left"], None).await?, 5, "")?;
        expect(self.skync(&["logs", "validate-left"], None).await?, 0, "said\n").map(drop)
    }

    async fn cancelled(&self) -> Result<(), String> {
        let script = "trap '' INT TERM; setsid sleep 98765 & touch cancellable; \
                      while :; do sleep 0.1; done";
        let start = ["exec", "-d", "--name", "validate-cancel", "--", "sh", "-c", script];
        expect(self.skync(&start, None).await?, 0, "")?;
        self.until("cancellable").await?;
        let cancel = ["cancel", "validate-cancel", "--grace", "100ms"];
        expect(self.skync(&cancel, None).await?, 0, "")?;
        let look =
            "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -c 'sleep 9876[5]'; :";
        expect(self.exec(&["sh", "-c", look], None).await?, 0, "0\n").map(drop)
    }

    async fn again(&self) -> Result<(), String> {
        expect(self.exec(&["true"], None).await?, 0, "").map(drop)
    }

    async fn nothing_is_left(&self) -> Tried {
        let work = async {
            self.skync(&["down", "--discard"], None).await?;
            let Some(driver) = driver::open(self.profile) else { return Ok(()) };
            let project = self.root.to_string_lossy().into_owned();
            let labels = [(label::PROJECT.to_owned(), project)].into();
            let left = driver.find(&labels).await.map_err(|error| error.to_string())?;
            match left.first() {
                None => Ok(()),
                Some(sandbox) => Err(format!("the sandbox `{}` is still there", sandbox.name)),
            }
        };
        timed("nothing is left", work).await
    }

    async fn exec(&self, command: &[&str], input: Option<Vec<u8>>) -> Result<Output, String> {
        self.skync(&[&["exec", "--"], command].concat(), input).await
    }

    /// Runs this program in the project.
    async fn skync(&self, arguments: &[&str], input: Option<Vec<u8>>) -> Result<Output, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command = Command::new(program);
        command
            .args(["--profile", &self.profile.name, "-q"])
            .args(arguments)
            .current_dir(self.root)
            .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let stdin = child.stdin.take();
        let write = async {
            if let (Some(mut stdin), Some(bytes)) = (stdin, input) {
                // A command that does not read all of it breaks the pipe; its output tells.
                let _ = stdin.write_all(&bytes).await;
            }
        };
        let both = async { tokio::join!(write, child.wait_with_output()).1 };
        let output = tokio::time::timeout(STEP_PATIENCE, both).await;
        let output = output.map_err(|_| "it did not end".to_owned())?;
        output.map_err(|error| error.to_string())
    }
}

async fn timed(property: &'static str, work: impl Future<Output = Result<(), String>>) -> Tried {
    let begun = Instant::now();
    let problem = work.await.err().map(|problem| visible(problem.trim()));
    Tried { property, problem, took: begun.elapsed() }
}

/// A command must have ended with this code, and have said this if it is not empty.
fn expect(output: Output, code: i32, said: &str) -> Result<Output, String> {
    let stdout = String::from_utf8_lossy(&output.stdout);
    if output.status.code() == Some(code) && (said.is_empty() || stdout == said) {
        return Ok(output);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(format!("{}, and it said {stdout:?} {}", output.status, stderr.trim()))
}

/// Bytes that do not compress.
fn noise(length: usize, seed: u8) -> Vec<u8> {
    let blocks = (0_u64..).map(|number| {
        Sha256::new().chain_update([seed]).chain_update(number.to_be_bytes()).finalize()
    });
    blocks.flatten().take(length).collect()
}
