//! Sessions: one shell each, that takes commands one after another.
//!
//! A command's output goes through two FIFOs line by line into one log, each line behind a marker
//! of its stream. So it is not clean: zero bytes are lost, the last line gets its newline.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path as Name, State as Shared};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::super::reaper::End;
use super::errors::ToolError;
use super::logs::{self, STDERR, STDOUT};
use super::{Answer, Daemon, Daemons, parse, shell};
use crate::daytona::clock;
use crate::wire::lock;

/// Between two looks whether a command has ended.
const POLL: Duration = Duration::from_millis(20);
/// What a session's processes have between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

/// One shell and its commands.
pub(super) struct Session {
    id: String,
    dir: PathBuf,
    group: Pid,
    script: Mutex<std::process::ChildStdin>,
    /// How the shell ended.
    ended: watch::Receiver<Option<i32>>,
    commands: Mutex<Vec<Arc<Command>>>,
}

/// One command of a session.
pub(super) struct Command {
    id: String,
    text: String,
    dir: PathBuf,
    pub(super) code: watch::Sender<Option<i32>>,
    /// The way to its standard input, when it has one.
    input: Option<Mutex<File>>,
    is_quiet: bool,
}

impl Command {
    /// The file of all that it said.
    pub(super) fn log(&self) -> PathBuf {
        self.dir.join("output.log")
    }

    fn view(&self) -> Value {
        let mut value = json!({"id": self.id, "command": self.text});
        if let Some(code) = *self.code.borrow() {
            value["exitCode"] = json!(code);
        }
        value
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Create {
    session_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Exec {
    command: String,
    #[serde(default, alias = "async")]
    run_async: bool,
    #[serde(default)]
    suppress_input_echo: bool,
}

#[derive(Deserialize)]
struct Input {
    data: String,
}

fn find(daemon: &Daemon, id: &str) -> Result<Arc<Session>, ToolError> {
    let session = lock(&daemon.sessions).get(id).cloned();
    session.ok_or_else(|| ToolError::not_found("session not found"))
}

/// Finds a command of a session.
pub(super) fn find_command(
    daemon: &Daemon,
    session: &str,
    id: &str,
) -> Result<Arc<Command>, ToolError> {
    let session = find(daemon, session)?;
    let command = lock(&session.commands).iter().find(|command| command.id == id).cloned();
    command.ok_or_else(|| ToolError::not_found("command not found"))
}

pub(super) async fn create(Shared(daemon): Daemons, body: Bytes) -> Answer {
    let Create { session_id: id } = parse(&body)?;
    if id.is_empty() || id == "entrypoint" || id.contains('/') {
        return Err(ToolError::bad("invalid session ID"));
    }
    let mut sessions = lock(&daemon.sessions);
    if sessions.contains_key(&id) {
        return Err(ToolError::conflict("session already exists"));
    }
    let session = start(&daemon, &id).map_err(ToolError::internal)?;
    sessions.insert(id, session);
    Ok(StatusCode::CREATED.into_response())
}

fn start(daemon: &Daemon, id: &str) -> io::Result<Arc<Session>> {
    let dir = daemon.home.join(".daytona/sessions").join(id);
    fs::create_dir_all(&dir)?;
    let mut command = Process::new(shell::shell());
    command.current_dir(&daemon.home).process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let (mut child, end) = daemon.reaper.spawn(|| command.spawn())?;
    let (told, ended) = watch::channel(None);
    tokio::spawn(async move {
        let code = match end.await {
            Ok(End::Exited(code)) => code,
            Ok(End::Signaled(signal)) => 128 + signal,
            Err(_) => -1,
        };
        told.send_replace(Some(code));
    });
    let script = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
    Ok(Arc::new(Session {
        id: id.to_owned(),
        dir,
        group: Pid::from_child(&child),
        script: Mutex::new(script),
        ended,
        commands: Mutex::default(),
    }))
}

pub(super) async fn list(Shared(daemon): Daemons) -> Json<Value> {
    Json(lock(&daemon.sessions).values().map(|session| view(session)).collect())
}

pub(super) async fn show(Shared(daemon): Daemons, Name(id): Name<String>) -> Answer {
    Ok(Json(view(&*find(&daemon, &id)?)).into_response())
}

fn view(session: &Session) -> Value {
    let commands: Vec<Value> =
        lock(&session.commands).iter().map(|command| command.view()).collect();
    json!({"sessionId": session.id, "commands": commands})
}

pub(super) async fn command(
    Shared(daemon): Daemons,
    Name((session, id)): Name<(String, String)>,
) -> Answer {
    Ok(Json(find_command(&daemon, &session, &id)?.view()).into_response())
}

/// Gives the session's shell a command, and waits for its end unless it is asynchronous.
pub(super) async fn exec(
    Shared(daemon): Daemons,
    Name(id): Name<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let request: Exec = parse(&body)?;
    let session = find(&daemon, &id)?;
    if request.command.trim().is_empty() {
        return Err(ToolError::bad("command cannot be empty"));
    }
    if session.ended.borrow().is_some() {
        return Err(ToolError::gone("SESSION_ENDED", "the session has ended"));
    }
    let is_async = request.run_async;
    let command = tokio::task::spawn_blocking(move || begin(&session, &request))
        .await
        .map_err(ToolError::internal)?
        .map_err(ToolError::internal)?;
    if is_async {
        let answer = Json(json!({"cmdId": command.id}));
        return Ok((StatusCode::ACCEPTED, answer).into_response());
    }
    let mut code = command.code.subscribe();
    let code = code.wait_for(Option::is_some).await.map_err(ToolError::internal)?.unwrap_or(-1);
    let log = fs::read(command.log()).unwrap_or_default();
    let mut answer = logs::split(&log, logs::is_split(&headers));
    answer["cmdId"] = json!(command.id);
    answer["exitCode"] = json!(code);
    Ok(Json(answer).into_response())
}

/// Makes a command's files and tells the shell to run it, once it is done with those before.
fn begin(session: &Arc<Session>, request: &Exec) -> io::Result<Arc<Command>> {
    let id = clock::uuid();
    let dir = session.dir.join(&id);
    fs::create_dir_all(&dir)?;
    let mut text = File::create(dir.join("command.sh"))?;
    writeln!(text, "{}", request.command)?;
    File::create(dir.join("output.log"))?;
    for name in ["in", "out", "err"] {
        mknodat(CWD, dir.join(name), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    }
    // Open both ways: neither end waits for the other, and the command never sees its end.
    let held = || OpenOptions::new().read(true).write(true).open(dir.join("in"));
    let input = if request.run_async { Some(Mutex::new(held()?)) } else { None };
    let command = Arc::new(Command {
        id,
        text: request.command.clone(),
        code: watch::Sender::new(None),
        input,
        is_quiet: request.suppress_input_echo,
        dir: dir.clone(),
    });
    lock(&session.commands).push(Arc::clone(&command));
    let readers = [("out", STDOUT), ("err", STDERR)].map(|(name, marker)| {
        let (fifo, log) = (dir.join(name), command.log());
        tokio::task::spawn_blocking(move || label(&fifo, &log, marker))
    });
    tokio::spawn(Box::pin(finish(Arc::clone(session), Arc::clone(&command), readers)));
    let stdin = if request.run_async { quoted(&dir.join("in")) } else { "/dev/null".to_owned() };
    let [script, out, err, code] =
        ["command.sh", "out", "err", "code"].map(|name| quoted(&dir.join(name)));
    writeln!(
        lock(&session.script),
        "{{ . {script}; }} <{stdin} >{out} 2>{err}; echo $? >{code}.new; mv {code}.new {code}"
    )?;
    Ok(command)
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

/// Copies a stream line by line into the log, behind its marker.
fn label(fifo: &Path, log: &Path, marker: [u8; 3]) -> io::Result<()> {
    let mut from = BufReader::new(File::open(fifo)?);
    let mut log = OpenOptions::new().append(true).open(log)?;
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line)? > 0 {
        line.retain(|byte| *byte != 0);
        if line.last() != Some(&b'\n') {
            line.push(b'\n');
        }
        // One write: the lines of the other stream come before or after it.
        log.write_all(&[&marker[..], &line].concat())?;
        line.clear();
    }
    Ok(())
}

/// Waits for a command's end: both of its streams are closed, and the shell has written its code.
async fn finish(
    session: Arc<Session>,
    command: Arc<Command>,
    readers: [tokio::task::JoinHandle<io::Result<()>>; 2],
) {
    let mut ended = session.ended.clone();
    let shell_ended = async { drop(ended.wait_for(Option::is_some).await) };
    let mut readers = Box::pin(async {
        for reader in readers {
            let _ = reader.await;
        }
    });
    tokio::select! {
        () = &mut readers => {}
        () = shell_ended => {
            // A command that the shell never came to has nobody who opens its streams.
            release(&command.dir);
            // What still holds a stream may hold it for long: the session is over all the same.
            let _ = tokio::time::timeout(GRACE, readers).await;
        }
    }
    loop {
        let written = fs::read_to_string(command.dir.join("code")).ok();
        let written = written.and_then(|text| text.trim().parse().ok());
        // `exit` in a command ends the shell before it writes a code: then it is the shell's.
        if let Some(code) = written.or(*session.ended.borrow()) {
            command.code.send_replace(Some(code));
            return;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Lets the readers of streams that nobody opened see their end.
fn release(dir: &Path) {
    for name in ["out", "err"] {
        let _ = OpenOptions::new().read(true).write(true).open(dir.join(name));
    }
}

/// Types a line into a command.
pub(super) async fn input(
    Shared(daemon): Daemons,
    Name((session, id)): Name<(String, String)>,
    body: Bytes,
) -> Answer {
    let Input { mut data } = parse(&body)?;
    let command = find_command(&daemon, &session, &id)?;
    if command.code.borrow().is_some() {
        let text = "the command has already completed";
        return Err(ToolError::gone("COMMAND_ALREADY_COMPLETED", text));
    }
    if !data.ends_with('\n') {
        data.push('\n');
    }
    let typed = tokio::task::spawn_blocking(move || type_in(&command, &data));
    typed.await.map_err(ToolError::internal)?.map_err(ToolError::internal)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn type_in(command: &Command, data: &str) -> io::Result<()> {
    let Some(input) = &command.input else { return Err(io::ErrorKind::BrokenPipe.into()) };
    lock(input).write_all(data.as_bytes())?;
    if command.is_quiet {
        return Ok(());
    }
    let mut log = OpenOptions::new().append(true).open(command.log())?;
    log.write_all(&[&STDOUT[..], data.as_bytes()].concat())
}

/// Ends a session with all of its processes and logs.
#[expect(clippy::disallowed_methods, reason = "a directory of the daemon's own")]
pub(super) async fn remove(Shared(daemon): Daemons, Name(id): Name<String>) -> Answer {
    let session = find(&daemon, &id)?;
    lock(&daemon.sessions).remove(&id);
    let _ = kill_process_group(session.group, Signal::TERM);
    let mut ended = session.ended.clone();
    let _ = tokio::time::timeout(GRACE, ended.wait_for(Option::is_some)).await;
    let _ = kill_process_group(session.group, Signal::KILL);
    let _ = fs::remove_dir_all(&session.dir);
    Ok(StatusCode::NO_CONTENT.into_response())
}
