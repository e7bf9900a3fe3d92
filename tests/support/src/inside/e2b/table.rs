//! The processes that clients started: running, attached to, and just ended.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, mpsc, oneshot};

use super::connect::{ConnectError, Outcome};
use super::process_messages::{
    DataEvent, EndEvent, Event, Input, Output, ProcessConfig, ProcessInfo, ProcessSelector,
    Selector, StartEvent,
};
use super::spawn::{self, Spawned, Stdin};
use crate::inside::reaper::{End, Reaper};
use crate::inside::users::User;
use crate::wire::lock;

/// How long the end of a process is told to who comes late.
const ENDED_KEPT: Duration = Duration::from_secs(30);
/// Events that wait for one subscriber. Then it holds all others up, and the process: as envd.
const EVENTS_MAX: usize = 64;
/// Bytes of one event of a pipe.
const PIPE_BYTES: usize = 32 << 10;
/// Bytes of one event of a terminal.
const PTY_BYTES: usize = 16 << 10;

/// All processes by id. A clone is the same.
#[derive(Clone)]
pub(super) struct Table {
    processes: Arc<Mutex<HashMap<u32, Arc<Process>>>>,
    reaper: Reaper,
    manners: Manners,
}

/// What changed over the versions of envd.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manners {
    /// Output for nobody is discarded. Before, the process waited for somebody.
    pub discards_output: bool,
    /// The end of a process is told to who comes late.
    pub keeps_ends: bool,
}

/// One process.
pub(super) struct Process {
    pub pid: u32,
    config: ProcessConfig,
    tag: Option<String>,
    /// Serialises input; none after it was closed.
    stdin: tokio::sync::Mutex<Stdin>,
    terminal: Option<pty_process::blocking::Pty>,
    /// Who gets the events. It is held while an event is handed out, so a subscriber that does not
    /// read keeps everybody waiting, newcomers too: that is how envd is.
    subscribers: tokio::sync::Mutex<Subscribers>,
    /// Somebody subscribed.
    subscribed: Notify,
    manners: Manners,
}

#[derive(Default)]
struct Subscribers {
    senders: Vec<mpsc::Sender<Event>>,
    end: Option<EndEvent>,
}

impl Table {
    pub(super) fn new(reaper: Reaper, manners: Manners) -> Self {
        Self { processes: Arc::default(), reaper, manners }
    }

    /// Starts a process and returns it with the events of its first subscriber.
    pub(super) async fn start(
        &self,
        command: spawn::Command,
        tag: Option<String>,
        user: &User,
    ) -> Outcome<(Arc<Process>, mpsc::Receiver<Event>)> {
        let config = command.config.clone();
        let Spawned { pid, end, stdin, outputs, terminal } =
            spawn::spawn(&self.reaper, command, user)?;
        let stdin = tokio::sync::Mutex::new(stdin);
        let process = Process {
            pid,
            config,
            tag,
            stdin,
            terminal,
            subscribers: Default::default(),
            subscribed: Notify::new(),
            manners: self.manners,
        };
        let process = Arc::new(process);
        let events = process.subscribe().await;
        lock(&self.processes).insert(pid, process.clone());
        tokio::spawn(run(self.clone(), process.clone(), outputs, end));
        Ok((process, events))
    }

    /// Returns what runs.
    pub(super) async fn list(&self) -> Vec<ProcessInfo> {
        let processes: Vec<_> = lock(&self.processes).values().cloned().collect();
        let mut running = Vec::new();
        for process in processes {
            if process.is_running() {
                running.push(ProcessInfo {
                    config: Some(process.config.clone()),
                    pid: process.pid,
                    tag: process.tag.clone(),
                });
            }
        }
        running.sort_by_key(|process| process.pid);
        running
    }

    fn forget(&self, process: &Arc<Process>) {
        let mut processes = lock(&self.processes);
        // The id may be that of a newer process by now.
        if processes.get(&process.pid).is_some_and(|other| Arc::ptr_eq(other, process)) {
            processes.remove(&process.pid);
        }
    }

    /// Finds a process, running or just ended.
    pub(super) fn find(&self, selector: Option<ProcessSelector>) -> Outcome<Arc<Process>> {
        let missing = || ConnectError::new("invalid_argument", "no process is selected");
        let selector = selector.and_then(|selector| selector.selector).ok_or_else(missing)?;
        let processes = lock(&self.processes);
        let found = match &selector {
            Selector::Pid(pid) => processes.get(pid),
            Selector::Tag(tag) => {
                processes.values().find(|process| process.tag.as_deref() == Some(tag))
            }
        };
        let missing = match selector {
            Selector::Pid(pid) => format!("process with pid {pid} not found"),
            Selector::Tag(tag) => format!("process with tag {tag} not found"),
        };
        found.cloned().ok_or_else(|| ConnectError::new("not_found", missing))
    }
}

/// Hands out everything that a process writes, and its end when all is closed.
async fn run(
    table: Table,
    process: Arc<Process>,
    outputs: Vec<spawn::Output>,
    end: oneshot::Receiver<End>,
) {
    let mut pumps = tokio::task::JoinSet::new();
    for output in outputs {
        pumps.spawn(pump(process.clone(), output));
    }
    let end = end.await.unwrap_or(End::Exited(-1));
    while pumps.join_next().await.is_some() {}
    if table.manners.keeps_ends {
        process.ended(end).await;
        tokio::time::sleep(ENDED_KEPT).await;
        table.forget(&process);
    } else {
        table.forget(&process);
        process.ended(end).await;
    }
}

async fn pump(process: Arc<Process>, output: spawn::Output) {
    match output {
        spawn::Output::Stdout(pipe) => read(&process, pipe, PIPE_BYTES, Output::Stdout).await,
        spawn::Output::Stderr(pipe) => read(&process, pipe, PIPE_BYTES, Output::Stderr).await,
        spawn::Output::Pty(file) => read(&process, file, PTY_BYTES, Output::Pty).await,
    }
}

async fn read<R>(process: &Process, mut from: R, bytes_max: usize, wrap: fn(Vec<u8>) -> Output)
where
    R: AsyncRead + Unpin,
{
    let mut buffer = vec![0; bytes_max];
    // A terminal whose last process is gone gives an error in the place of an end.
    while let Ok(count) = from.read(&mut buffer).await
        && count > 0
    {
        if !process.manners.discards_output {
            process.wait_for_subscriber().await;
        }
        let output = Some(wrap(buffer[..count].to_vec()));
        process.publish(Event::Data(DataEvent { output })).await;
    }
}

impl Process {
    /// Subscribes to the events from now on: there is no replay. The first one is the start.
    pub(super) async fn subscribe(&self) -> mpsc::Receiver<Event> {
        let (sender, receiver) = mpsc::channel(EVENTS_MAX);
        let mut subscribers = self.subscribers.lock().await;
        // There is room: the channel is new.
        let _ = sender.try_send(Event::Start(StartEvent { pid: self.pid }));
        match &subscribers.end {
            Some(end) => drop(sender.try_send(Event::End(end.clone()))),
            None => subscribers.senders.push(sender),
        }
        self.subscribed.notify_waiters();
        receiver
    }

    async fn wait_for_subscriber(&self) {
        loop {
            let subscribed = self.subscribed.notified();
            let mut subscribers = self.subscribers.lock().await;
            subscribers.senders.retain(|sender| !sender.is_closed());
            if !subscribers.senders.is_empty() {
                return;
            }
            drop(subscribers);
            subscribed.await;
        }
    }

    async fn publish(&self, event: Event) {
        let mut subscribers = self.subscribers.lock().await;
        let mut kept = Vec::with_capacity(subscribers.senders.len());
        for sender in subscribers.senders.drain(..) {
            if sender.send(event.clone()).await.is_ok() {
                kept.push(sender);
            }
        }
        subscribers.senders = kept;
    }

    async fn ended(&self, end: End) {
        let status = match end {
            End::Exited(code) => format!("exit status {code}"),
            End::Signaled(signal) => format!("signal: {}", signal_text(signal)),
        };
        let event = EndEvent {
            exit_code: if let End::Exited(code) = end { code } else { -1 },
            exited: matches!(end, End::Exited(_)),
            error: (end != End::Exited(0)).then(|| status.clone()),
            status,
        };
        self.publish(Event::End(event.clone())).await;
        let mut subscribers = self.subscribers.lock().await;
        // Who came between gets the end here.
        for sender in subscribers.senders.drain(..) {
            let _ = sender.try_send(Event::End(event.clone()));
        }
        subscribers.end = Some(event);
    }

    fn is_running(&self) -> bool {
        // Locked means that an event is under way, so it has not ended.
        self.subscribers.try_lock().map_or(true, |subscribers| subscribers.end.is_none())
    }

    /// Writes input; it blocks while the pipe is full.
    pub(super) async fn input(&self, input: Input) -> Outcome<()> {
        self.running()?;
        let mut stdin = self.stdin.lock().await;
        let written = match (&mut *stdin, input) {
            (Stdin::Pipe(pipe), Input::Stdin(bytes)) => pipe.write_all(&bytes).await,
            (Stdin::Pty(file), Input::Pty(bytes)) => match file.write_all(&bytes).await {
                Ok(()) => file.flush().await,
                error => error,
            },
            (Stdin::Closed, Input::Stdin(_)) => {
                let closed = "error writing to stdin: stdin not enabled or closed";
                return Err(ConnectError::new("internal", closed));
            }
            (Stdin::Pty(_), Input::Stdin(_)) => {
                return Err(ConnectError::new("internal", "the process has a terminal"));
            }
            (Stdin::Pipe(_) | Stdin::Closed, Input::Pty(_)) => {
                return Err(ConnectError::new("internal", "the process has no terminal"));
            }
        };
        written.map_err(|error| ConnectError::new("internal", format!("error writing: {error}")))
    }

    /// Closes standard input; again is no error.
    pub(super) async fn close_stdin(&self) -> Outcome<()> {
        self.running()?;
        let mut stdin = self.stdin.lock().await;
        if matches!(*stdin, Stdin::Pty(_)) {
            let message = "cannot close stdin of a terminal: send 0x04";
            return Err(ConnectError::new("failed_precondition", message));
        }
        *stdin = Stdin::Closed;
        Ok(())
    }

    /// Sends a signal to the one process, not to its children.
    pub(super) fn signal(&self, signal: Signal) -> Outcome<()> {
        self.running()?;
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let pid = pid.expect("the kernel gave the id");
        kill_process(pid, signal).map_err(|error| ConnectError::new("internal", error.to_string()))
    }

    /// Changes the size of its terminal.
    pub(super) fn resize(&self, size: pty_process::Size) -> Outcome<()> {
        self.running()?;
        let missing = || ConnectError::new("failed_precondition", "the process has no terminal");
        let resized = self.terminal.as_ref().ok_or_else(missing)?.resize(size);
        resized.map_err(|error| ConnectError::new("internal", error.to_string()))
    }

    fn running(&self) -> Outcome<()> {
        let gone = format!("process with pid {} not found", self.pid);
        self.is_running().then_some(()).ok_or_else(|| ConnectError::new("not_found", gone))
    }
}

/// Names a signal as Go does.
fn signal_text(signal: i32) -> String {
    let text = match signal {
        1 => "hangup",
        2 => "interrupt",
        3 => "quit",
        4 => "illegal instruction",
        5 => "trace/breakpoint trap",
        6 => "aborted",
        7 => "bus error",
        8 => "floating point exception",
        9 => "killed",
        10 => "user defined signal 1",
        11 => "segmentation fault",
        12 => "user defined signal 2",
        13 => "broken pipe",
        14 => "alarm clock",
        15 => "terminated",
        other => return format!("signal {other}"),
    };
    text.to_owned()
}
