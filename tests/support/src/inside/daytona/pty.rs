//! Terminals: a login shell each, shown to whoever is attached. What it says while nobody is, is
//! lost.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path as Name, Query, Request, State as Shared};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use rustix::process::{Pid, Signal, kill_process_group};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::tungstenite::Message;

use super::super::reaper::End;
use super::errors::ToolError;
use super::socket::{self, Socket};
use super::{Answer, Daemon, Daemons, needed, parse, shell, value};
use crate::daytona::clock;
use crate::wire::lock;

/// Bytes of one message at most.
const PIECE_BYTES_MAX: usize = 32 << 10;
/// Messages that wait for one client; who lets more wait is dropped.
const QUEUE_MAX: usize = 256;
/// How long the output of a shell that has ended is waited for: another process may hold it.
const DRAIN: Duration = Duration::from_millis(300);
/// Clients that offer it are told of the end in a message, too.
const EXIT_CONTROL: &str = "X-Daytona-Pty-Exit-Control";
const ENVS: &str = "X-Daytona-Pty-Envs~";
const SIZE_MAX: u16 = 1000;

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Create {
    id: String,
    #[serde(default)]
    cwd: Option<String>,
    #[serde(default)]
    envs: Option<BTreeMap<String, String>>,
    #[serde(default)]
    cols: Option<u16>,
    #[serde(default)]
    rows: Option<u16>,
    #[serde(default)]
    lazy_start: bool,
}

#[derive(Clone, Copy, Deserialize)]
struct Size {
    cols: u16,
    rows: u16,
}

/// How a shell ended.
#[derive(Clone, Debug)]
struct Exit {
    code: i32,
    reason: String,
}

/// A terminal.
pub(super) struct Pty {
    what: Create,
    created: SystemTime,
    size: Mutex<Size>,
    running: Mutex<Option<Running>>,
    clients: Mutex<Vec<mpsc::Sender<tokio_tungstenite::tungstenite::Bytes>>>,
    exit: watch::Sender<Option<Exit>>,
}

/// The near side of a terminal that has a shell.
struct Running {
    near: File,
    leader: Pid,
}

pub(super) async fn create(Shared(daemon): Daemons, body: Bytes) -> Answer {
    let pty = add(&daemon, parse(&body)?)?;
    let answer = Json(json!({"sessionId": pty.what.id}));
    Ok((StatusCode::CREATED, answer).into_response())
}

/// Makes a terminal and attaches to it, in one request.
pub(super) async fn create_and_connect(
    Shared(daemon): Daemons,
    Query(pairs): Query<Vec<(String, String)>>,
    request: Request,
) -> Answer {
    let number = |name: &str| value(&pairs, name).map(str::parse).transpose();
    let number = |name: &str| number(name).map_err(|_| ToolError::bad(format!("invalid {name}")));
    let offered = socket::offered(request.headers());
    let envs = offered.iter().find_map(|name| name.strip_prefix(ENVS)).map(|text| {
        let text = URL_SAFE_NO_PAD.decode(text).map_err(ToolError::internal)?;
        serde_json::from_slice(&text).map_err(ToolError::internal)
    });
    let what = Create {
        id: needed(&pairs, "id")?.to_owned(),
        cwd: value(&pairs, "cwd").map(str::to_owned),
        envs: envs.transpose()?,
        cols: number("cols")?,
        rows: number("rows")?,
        lazy_start: false,
    };
    if !socket::is_wanted(request.headers()) {
        return Err(ToolError::bad("this is a WebSocket endpoint"));
    }
    let pty = add(&daemon, Create { lazy_start: true, ..what })?;
    attach(&daemon, pty, request)
}

pub(super) async fn connect(
    Shared(daemon): Daemons,
    Name(id): Name<String>,
    request: Request,
) -> Answer {
    let pty = find(&daemon, &id)?;
    attach(&daemon, pty, request)
}

fn attach(daemon: &Arc<Daemon>, pty: Arc<Pty>, request: Request) -> Answer {
    let tells_exit = socket::offered(request.headers()).iter().any(|name| name == EXIT_CONTROL);
    let (sender, receiver) = mpsc::channel(QUEUE_MAX);
    // Before the shell starts: the first client of a new terminal sees all of it.
    lock(&pty.clients).push(sender);
    ensure_started(daemon, &pty).map_err(ToolError::internal)?;
    if pty.exit.borrow().is_some() {
        return Err(ToolError::gone("GONE", "PTY session has ended"));
    }
    socket::accept(request, move |socket| serve(pty, socket, receiver, tells_exit))
}

fn add(daemon: &Arc<Daemon>, what: Create) -> Result<Arc<Pty>, ToolError> {
    let size = Size { cols: what.cols.unwrap_or(80), rows: what.rows.unwrap_or(24) };
    check(size)?;
    if what.id.is_empty() {
        return Err(ToolError::bad("id is required"));
    }
    let mut ptys = lock(&daemon.ptys);
    if ptys.get(&what.id).is_some_and(|pty| pty.exit.borrow().is_none()) {
        return Err(ToolError::conflict("PTY session already exists"));
    }
    let pty = Arc::new(Pty {
        what,
        created: SystemTime::now(),
        size: Mutex::new(size),
        running: Mutex::default(),
        clients: Mutex::default(),
        exit: watch::Sender::new(None),
    });
    if !pty.what.lazy_start {
        ensure_started(daemon, &pty).map_err(ToolError::internal)?;
    }
    ptys.insert(pty.what.id.clone(), Arc::clone(&pty));
    Ok(pty)
}

fn check(size: Size) -> Result<(), ToolError> {
    let fits = |number: u16| (1..=SIZE_MAX).contains(&number);
    let is_fine = fits(size.cols) && fits(size.rows);
    if is_fine { Ok(()) } else { Err(ToolError::bad("cols and rows must be 1 to 1000")) }
}

fn find(daemon: &Daemon, id: &str) -> Result<Arc<Pty>, ToolError> {
    let pty = lock(&daemon.ptys).get(id).cloned();
    pty.ok_or_else(|| ToolError::not_found("PTY session not found"))
}

/// Starts the shell, unless there is or was one.
fn ensure_started(daemon: &Arc<Daemon>, pty: &Arc<Pty>) -> io::Result<()> {
    let mut running = lock(&pty.running);
    if running.is_some() || pty.exit.borrow().is_some() {
        return Ok(());
    }
    let near = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&near)?;
    unlockpt(&near)?;
    set_size(&near, *lock(&pty.size))?;
    let path = ptsname(&near, Vec::new())?;
    let path = path.to_str().map_err(io::Error::other)?;
    // Held until the shell has it: the near side must not see an end before there is one.
    let far = OpenOptions::new().read(true).write(true).open(path)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["inside", "daytona-terminal", path, &shell::shell(), "-i", "-l"]);
    command.current_dir(daemon.path(pty.what.cwd.as_deref().unwrap_or("")));
    command.env("TERM", "xterm-256color").envs(pty.what.envs.iter().flatten());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let (child, end) = daemon.reaper.spawn(|| command.spawn())?;
    let reads = near.try_clone()?;
    let near = File::from(near);
    *running = Some(Running { near, leader: Pid::from_child(&child) });
    let reader = tokio::task::spawn_blocking({
        let pty = Arc::clone(pty);
        move || show_all(&pty, reads)
    });
    let pty = Arc::clone(pty);
    tokio::spawn(async move {
        // The process between needs the far side to be there until it has opened it itself.
        let end = end.await.unwrap_or(End::Exited(-1));
        drop(far);
        let _ = tokio::time::timeout(DRAIN, reader).await;
        lock(&pty.running).take();
        pty.exit.send_replace(Some(exit(end)));
        lock(&pty.clients).clear();
    });
    Ok(())
}

fn exit(end: End) -> Exit {
    let (code, reason) = match end {
        End::Exited(0) => (0, String::new()),
        End::Exited(code) => (code, "non-zero exit".to_owned()),
        End::Signaled(9) => (137, "SIGKILL".to_owned()),
        End::Signaled(signal) => (128 + signal, format!("signal {signal}")),
    };
    Exit { code, reason }
}

/// Gives all clients what the shell says, until its terminal is closed.
fn show_all(pty: &Pty, near: OwnedFd) {
    let mut near = File::from(near);
    let mut buffer = vec![0; PIECE_BYTES_MAX];
    while let Ok(count @ 1..) = near.read(&mut buffer) {
        let piece = tokio_tungstenite::tungstenite::Bytes::copy_from_slice(&buffer[..count]);
        // Who does not take it is dropped: the end of its queue is how its connection hears of it.
        lock(&pty.clients).retain(|client| client.try_send(piece.clone()).is_ok());
    }
}

fn set_size(terminal: impl std::os::fd::AsFd, size: Size) -> io::Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(terminal, size)?)
}

/// Shows a terminal to one client, and lets it type.
async fn serve(
    pty: Arc<Pty>,
    socket: Socket,
    output: mpsc::Receiver<tokio_tungstenite::tungstenite::Bytes>,
    tells_exit: bool,
) {
    let (mut sink, stream) = socket.split();
    let connected = json!({"type": "control", "status": "connected"}).to_string();
    if sink.send(Message::text(connected)).await.is_err() {
        return;
    }
    let shown = Box::pin(show(&pty, sink, output, tells_exit));
    let typed = Box::pin(type_in(&pty, stream));
    tokio::select! {
        () = shown => {}
        () = typed => {}
    }
}

async fn show(
    pty: &Pty,
    mut sink: SplitSink<Socket, Message>,
    mut output: mpsc::Receiver<tokio_tungstenite::tungstenite::Bytes>,
    tells_exit: bool,
) {
    while let Some(piece) = output.recv().await {
        if sink.send(Message::Binary(piece)).await.is_err() {
            return;
        }
    }
    let exit = pty.exit.borrow().clone();
    let Some(exit) = exit else {
        let _ = sink.send(socket::close(1008, "slow consumer")).await;
        return;
    };
    let mut facts = json!({"exitCode": exit.code});
    if !exit.reason.is_empty() {
        facts["exitReason"] = json!(exit.reason);
    }
    if tells_exit {
        let mut message = facts.clone();
        message["type"] = json!("control");
        message["status"] = json!("exited");
        let _ = sink.send(Message::text(message.to_string())).await;
    }
    let code = if exit.code == 0 { 1000 } else { 1011 };
    let _ = sink.send(socket::close(code, &facts.to_string())).await;
    // The client answers the close; until then the connection has to be there.
    tokio::time::sleep(Duration::from_secs(1)).await;
}

/// Types what a client sends, until it goes away or sends too much at once.
async fn type_in(pty: &Pty, mut stream: SplitStream<Socket>) {
    while let Some(Ok(message)) = stream.next().await {
        if message.is_close() {
            return;
        }
        if !message.is_text() && !message.is_binary() {
            continue;
        }
        let near = lock(&pty.running).as_ref().map(|running| running.near.try_clone());
        let Some(Ok(mut near)) = near else { continue };
        let data = message.into_data();
        // It waits while the program does not read: so does the client, then.
        let typed = tokio::task::spawn_blocking(move || near.write_all(&data));
        if !matches!(typed.await, Ok(Ok(()))) && pty.exit.borrow().is_none() {
            return;
        }
    }
}

pub(super) async fn list(Shared(daemon): Daemons) -> Json<Value> {
    let all: Vec<Value> = lock(&daemon.ptys).values().map(|pty| view(&daemon, pty)).collect();
    Json(json!({"sessions": all}))
}

pub(super) async fn info(Shared(daemon): Daemons, Name(id): Name<String>) -> Answer {
    Ok(Json(view(&daemon, &*find(&daemon, &id)?)).into_response())
}

fn view(daemon: &Daemon, pty: &Pty) -> Value {
    let size = *lock(&pty.size);
    json!({
        "id": pty.what.id,
        "cwd": daemon.path(pty.what.cwd.as_deref().unwrap_or("")),
        "envs": pty.what.envs.clone().unwrap_or_default(),
        "cols": size.cols,
        "rows": size.rows,
        "createdAt": clock::iso(pty.created),
        "active": lock(&pty.running).is_some(),
        "lazyStart": pty.what.lazy_start,
    })
}

pub(super) async fn resize(Shared(daemon): Daemons, Name(id): Name<String>, body: Bytes) -> Answer {
    let size: Size = parse(&body)?;
    check(size)?;
    let pty = find(&daemon, &id)?;
    if pty.exit.borrow().is_some() {
        return Err(ToolError::gone("GONE", "PTY session has ended"));
    }
    if let Some(running) = &*lock(&pty.running) {
        set_size(&running.near, size).map_err(ToolError::internal)?;
    }
    *lock(&pty.size) = size;
    Ok(Json(view(&daemon, &pty)).into_response())
}

/// Kills a terminal's processes and forgets it.
pub(super) async fn remove(Shared(daemon): Daemons, Name(id): Name<String>) -> Answer {
    let pty = find(&daemon, &id)?;
    let leader = lock(&pty.running).as_ref().map(|running| running.leader);
    if let Some(leader) = leader {
        let _ = kill_process_group(leader, Signal::KILL);
        let _ = pty.exit.subscribe().wait_for(Option::is_some).await;
    }
    lock(&daemon.ptys).remove(&id);
    Ok(Json(json!({"message": "PTY session deleted"})).into_response())
}
