//! The agent's side of operations: starting each under a supervisor of its own, finding those that
//! an agent before this one has left, and stopping all.
//!
//! It holds next to nothing: what an operation is, has said and was told is its supervisor's to
//! know, and each call is a connection to it. What passes through is never kept here.

pub mod frame;
pub mod memory;
pub mod place;
pub mod processes;
pub mod program;
pub mod spool;
pub mod supervisor;

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{OnceCell, watch};

use crate::operation::frame::{Frame, Frames};
use crate::operation::place::{Place, Specification, is_gone, specification};
use crate::operation::processes::{Swept, kill_all};
use crate::proto::{
    AttachRequest, CancelReply, CancelRequest, Exit, OperationInfo, SignalRequest, StartFailure,
    StartReply, StartRequest,
};

/// A reply of the supervisor that takes longer than this beyond its own grace is not coming.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);
/// A supervisor that was told to end and has nothing left is killed after this.
const END_PATIENCE: Duration = Duration::from_secs(1);

/// A client-chosen name of an operation.
pub type OperationId = [u8; 16];

/// Why an operation could not be started, found or dropped.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    /// The same id with another specification.
    #[error("an operation with this id and another specification is known already")]
    Conflict,
    /// No operation of that id.
    #[error("no such operation")]
    Unknown,
    /// It cannot be dropped yet.
    #[error("the operation has not ended")]
    Running,
    /// The supervisor could not be started or went away.
    #[error("the operation's supervisor failed")]
    Supervisor(#[from] io::Error),
}

/// All operations of this agent.
#[derive(Debug)]
pub struct Operations {
    /// Each operation has a directory here.
    directory: PathBuf,
    /// This binary, which is the supervisor too.
    program: PathBuf,
    /// How long a supervisor lives without an agent.
    lease: Duration,
    known: Mutex<HashMap<OperationId, Slot>>,
}

/// Empty while it is being started.
type Slot = Arc<OnceCell<Arc<Operation>>>;

/// One operation.
#[derive(Debug)]
pub struct Operation {
    id: OperationId,
    place: Place,
    specification: Specification,
    argv: Vec<Vec<u8>>,
    started: StartReply,
    supervisor: Option<Pid>,
    state: watch::Sender<State>,
}

#[derive(Debug, Clone, Default)]
struct State {
    exit: Option<Exit>,
    /// It was dropped, and is there only until nothing of it lives.
    forgotten: bool,
    /// The supervisor is gone.
    gone: bool,
}

/// Why there is no operation to be had.
enum NotStarted {
    Refused(StartReply),
    Failed(OperationError),
}

impl NotStarted {
    fn refused(what: &str, error: &io::Error) -> Self {
        Self::Refused(program::refusal(StartFailure::StartFailed, format!("{what}: {error}")))
    }
}

impl From<io::Error> for NotStarted {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl Operations {
    /// The operations below the agent's state directory, run by `program`. None is known yet: see
    /// [`Operations::adopt`].
    pub fn new(state: &Path, program: &Path, lease: Duration) -> Self {
        let (directory, program) = (state.join("operations"), program.to_owned());
        Self { directory, program, lease, known: Mutex::default() }
    }

    /// Finds what an agent before this one has left, and removes what is left of dead supervisors.
    pub async fn adopt(&self) {
        let Ok(entries) = std::fs::read_dir(&self.directory) else { return };
        let found = entries.flatten().filter_map(|entry| {
            let id = id_of(entry.file_name().to_str()?)?;
            Some((id, Place::at(&entry.path())))
        });
        let adopted = join_all(found.map(|(id, place)| async move {
            match tokio::time::timeout(ANSWER_PATIENCE, Operation::adopt(id, &place)).await {
                Ok(Ok(operation)) => Some(operation),
                Ok(Err(_)) => {
                    // It stays if it cannot be removed; nothing looks for it.
                    let _ = place.remove();
                    None
                }
                // Somebody has stopped it; when it goes on, it ends for want of an agent.
                Err(_) => None,
            }
        }));
        for operation in adopted.await.into_iter().flatten() {
            let id = operation.id;
            self.lock().insert(id, Arc::new(OnceCell::new_with(Some(Arc::new(operation)))));
        }
    }

    /// Starts an operation, or says again how it started if it is known. It goes on if the caller
    /// does not wait for the answer.
    ///
    /// A reply that refuses (`failure`) is no error of this function.
    ///
    /// # Errors
    /// [`OperationError::Conflict`], or a supervisor that does not answer.
    pub async fn start(
        self: &Arc<Self>,
        id: OperationId,
        request: StartRequest,
    ) -> Result<StartReply, OperationError> {
        let all = Arc::clone(self);
        let start = tokio::spawn(async move { all.start_once(id, request).await });
        start.await.map_err(io::Error::other)?
    }

    async fn start_once(
        &self,
        id: OperationId,
        request: StartRequest,
    ) -> Result<StartReply, OperationError> {
        let specification = specification(&request);
        let slot = Arc::clone(self.lock().entry(id).or_default());
        let made = slot.get_or_try_init(|| async {
            let path = self.directory.join(name_of(id));
            let place = Place::create(&path).map_err(|error| {
                NotStarted::refused(&format!("cannot make `{}`", path.display()), &error)
            })?;
            let made = self.make(id, place.clone(), specification, request).await;
            if made.is_err() {
                let _ = place.remove();
            }
            made.map(Arc::new)
        });
        let error = match made.await {
            Ok(operation) if operation.specification != specification => {
                return Err(OperationError::Conflict);
            }
            Ok(operation) => return Ok(operation.started.clone()),
            Err(error) => error,
        };
        let mut known = self.lock();
        // Unless somebody else tries in this moment.
        if Arc::strong_count(&slot) == 2 {
            known.remove(&id);
        }
        match error {
            NotStarted::Refused(reply) => Ok(reply),
            NotStarted::Failed(error) => Err(error),
        }
    }

    async fn make(
        &self,
        id: OperationId,
        place: Place,
        specification: Specification,
        request: StartRequest,
    ) -> Result<Operation, NotStarted> {
        let (control, far) = std::os::unix::net::UnixStream::pair()?;
        control.set_nonblocking(true)?;
        let supervisor = self.spawn_supervisor(far.into(), place.path()).map_err(|error| {
            NotStarted::refused("cannot start the command's supervisor", &error)
        })?;
        let argv = request.argv.clone();
        let (from, mut to) = UnixStream::from_std(control)?.into_split();
        Frame::Start(request).write(&mut to).await?;
        let (started, state) = watch(Frames::new(from), to).await?;
        if started.failure() != StartFailure::StartOk {
            return Err(NotStarted::Refused(started));
        }
        Ok(Operation { id, place, specification, argv, started, supervisor, state })
    }

    /// Starts this binary again as a supervisor.
    fn spawn_supervisor(&self, control: OwnedFd, directory: &Path) -> io::Result<Option<Pid>> {
        // Every other descriptor closes on exec. The agent has one thread that starts processes, so
        // this one cannot leak into another child before it is closed here.
        rustix::io::fcntl_setfd(&control, rustix::io::FdFlags::empty())?;
        // Reaped with all other children: see `serve`.
        let child = Command::new(&self.program)
            .arg0("skync-agent")
            .arg("supervise")
            .arg(control.as_raw_fd().to_string())
            .arg(directory)
            .arg(self.lease.as_millis().to_string())
            // What is sent to the agent's group is not for it: it outlives the agent.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(i32::try_from(child.id()).ok().and_then(Pid::from_raw))
    }

    /// The operation of that id.
    ///
    /// # Errors
    /// [`OperationError::Unknown`].
    pub fn find(&self, id: OperationId) -> Result<Arc<Operation>, OperationError> {
        let found = self.lock().get(&id).and_then(|slot| slot.get().cloned());
        found.filter(|operation| !operation.is_forgotten()).ok_or(OperationError::Unknown)
    }

    /// What there is: all operations, or that one if it is there.
    pub async fn list(&self, only: Option<OperationId>) -> Vec<OperationInfo> {
        let mut all = self.all();
        all.retain(|found| !found.is_forgotten() && only.is_none_or(|id| found.id == id));
        join_all(all.iter().map(|operation| operation.info())).await
    }

    /// Drops an ended operation; one that is not there is no error.
    ///
    /// # Errors
    /// [`OperationError::Running`], or a supervisor that does not answer.
    pub async fn forget(&self, id: OperationId) -> Result<(), OperationError> {
        let Ok(operation) = self.find(id) else { return Ok(()) };
        operation.forget().await?;
        // Those of which something lives stay: they are to be stopped when the agent ends.
        self.lock().retain(|_, slot| !slot.get().is_some_and(|known| known.is_over()));
        Ok(())
    }

    /// Stops all operations, each with everything that descends from it, and drops them.
    pub async fn stop_all(&self, grace: Duration) -> Swept {
        let all = self.all();
        let stops = join_all(all.iter().map(|operation| operation.stop(grace))).await;
        self.lock().clear();
        let mut total = Swept::default();
        for swept in stops {
            total.stopped += swept.stopped;
            total.survivors += swept.survivors;
        }
        total
    }

    fn all(&self) -> Vec<Arc<Operation>> {
        self.lock().values().filter_map(|slot| slot.get().cloned()).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<OperationId, Slot>> {
        // The map is whole after any panic: each change is one call.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Operation {
    async fn adopt(id: OperationId, place: &Place) -> io::Result<Self> {
        let control = place.connect().await?;
        let supervisor = rustix::net::sockopt::socket_peercred(&control)?.pid;
        let (from, mut to) = control.into_split();
        Frame::Watch.write(&mut to).await?;
        let mut frames = Frames::new(from);
        let Some(Frame::Specified(specification)) = frames.next().await? else {
            return Err(io::Error::other("the supervisor does not say what it runs"));
        };
        let (started, state) = watch(frames, to).await?;
        let (place, supervisor) = (place.clone(), Some(supervisor));
        let mut adopted =
            Self { id, place, specification, argv: Vec::new(), started, supervisor, state };
        adopted.argv = adopted.info().await.argv;
        Ok(adopted)
    }

    fn is_forgotten(&self) -> bool {
        self.state.borrow().forgotten
    }

    /// It was dropped, and nothing of it is left.
    fn is_over(&self) -> bool {
        let state = self.state.borrow();
        state.forgotten && state.gone
    }

    /// Joins it as a client: what comes from it, and where to send what goes to it. Both are to be
    /// held as long as the client is there.
    ///
    /// # Errors
    /// If the supervisor is gone.
    pub async fn attach(
        &self,
        first: AttachRequest,
    ) -> io::Result<(Frames<OwnedReadHalf>, OwnedWriteHalf)> {
        let (from, mut to) = self.place.connect().await?.into_split();
        Frame::Attach(first).write(&mut to).await?;
        Ok((Frames::new(from), to))
    }

    /// Waits for its end.
    pub async fn wait(&self) -> Exit {
        let mut state = self.state.subscribe();
        let ended = state.wait_for(|state| state.exit.is_some() || state.gone).await;
        let known = ended.ok().and_then(|state| state.exit);
        known.unwrap_or_else(unknown_exit)
    }

    /// Sends a signal to the process group; nothing is left to signal if its supervisor is gone.
    ///
    /// # Errors
    /// If the supervisor does not answer.
    pub async fn signal(&self, request: SignalRequest) -> io::Result<()> {
        self.ask(Frame::Signal(request), ANSWER_PATIENCE).await.map(drop)
    }

    /// Stops the command and everything that descends from it.
    ///
    /// # Errors
    /// If the supervisor does not answer; then what survived is unknown.
    pub async fn cancel(&self, request: CancelRequest) -> io::Result<CancelReply> {
        let grace = Duration::from_millis(request.grace_ms.into());
        match self.ask(Frame::Cancel(request), grace * 2 + ANSWER_PATIENCE).await? {
            Some(Frame::Cancelled(reply)) => Ok(reply),
            // The supervisor ends by itself only when nothing is left.
            _ => Ok(CancelReply::default()),
        }
    }

    /// From now on nobody waits for its output.
    ///
    /// # Errors
    /// If the supervisor does not answer.
    pub async fn detach(&self) -> io::Result<()> {
        self.ask(Frame::Detach, ANSWER_PATIENCE).await.map(drop)
    }

    /// What it is and uses.
    pub async fn info(&self) -> OperationInfo {
        match self.ask(Frame::Status, ANSWER_PATIENCE).await {
            Ok(Some(Frame::Info(info))) => info,
            _ => OperationInfo {
                id: self.id.to_vec(),
                argv: self.argv.clone(),
                pid: self.started.pid,
                exit: self.state.borrow().exit.or_else(|| Some(unknown_exit())),
                ..OperationInfo::default()
            },
        }
    }

    async fn forget(&self) -> Result<(), OperationError> {
        if let Some(Frame::Refused) = self.ask(Frame::Forget, ANSWER_PATIENCE).await? {
            return Err(OperationError::Running);
        }
        self.state.send_modify(|state| state.forgotten = true);
        if self.state.borrow().gone {
            // It did not come to that itself.
            let _ = self.place.remove();
        }
        Ok(())
    }

    /// Stops it, drops it, and sees to it that the supervisor ends.
    async fn stop(&self, grace: Duration) -> Swept {
        let grace_ms = u32::try_from(grace.as_millis()).unwrap_or(u32::MAX);
        let request = CancelRequest { id: self.id.to_vec(), signal: 15, grace_ms };
        if let Some(supervisor) = self.supervisor.filter(|_| !self.state.borrow().gone) {
            // Somebody may have stopped it.
            let _ = kill_process(supervisor, Signal::CONT);
        }
        // Nobody will read what is left, so it must not wait to be read.
        let _ = self.detach().await;
        let stopped = self.cancel(request).await.unwrap_or_default();
        let mut swept = Swept { stopped: stopped.stopped, survivors: stopped.survivors };
        let ended = async {
            // What the streams still hold is read before the exit is known.
            self.wait().await;
            let _ = self.forget().await;
            let mut state = self.state.subscribe();
            let _ = state.wait_for(|state| state.gone).await;
        };
        if tokio::time::timeout(END_PATIENCE, ended).await.is_err()
            && !self.state.borrow().gone
            && let Some(supervisor) = self.supervisor
        {
            let rest = kill_all(supervisor, &[].into());
            let _ = kill_process(supervisor, Signal::KILL);
            swept.stopped += rest.stopped;
            swept.survivors = rest.survivors;
        }
        let _ = self.place.remove();
        swept
    }

    /// Asks the supervisor; nothing if it is gone.
    async fn ask(&self, asked: Frame, patience: Duration) -> io::Result<Option<Frame>> {
        if self.state.borrow().gone {
            return Ok(None);
        }
        let answer = async {
            let (from, mut to) = self.place.connect().await?.into_split();
            asked.write(&mut to).await?;
            Frames::new(from).next().await
        };
        let late = |_| io::Error::other("the operation's supervisor does not answer");
        match tokio::time::timeout(patience, answer).await.map_err(late)? {
            Err(error) if is_gone(&error) => Ok(None),
            answered => answered,
        }
    }
}

/// How an operation ended that took what is known with it.
pub fn unknown_exit() -> Exit {
    Exit { unknown: true, ..Exit::default() }
}

/// Begins to watch, and follows what the supervisor says until it goes away.
async fn watch(
    mut frames: Frames<OwnedReadHalf>,
    held: OwnedWriteHalf,
) -> io::Result<(StartReply, watch::Sender<State>)> {
    let Some(Frame::Started(started)) = frames.next().await? else {
        return Err(io::Error::other("the supervisor ended before it began"));
    };
    let state = watch::Sender::new(State::default());
    tokio::spawn(follow(frames, held, state.clone()));
    Ok((started, state))
}

async fn follow(
    mut frames: Frames<OwnedReadHalf>,
    held: OwnedWriteHalf,
    state: watch::Sender<State>,
) {
    while let Ok(Some(frame)) = frames.next().await {
        match frame {
            Frame::Exited(exit) => state.send_modify(|state| state.exit = Some(exit)),
            Frame::Forgotten => state.send_modify(|state| state.forgotten = true),
            _ => {}
        }
    }
    drop(held);
    state.send_modify(|state| state.gone = true);
}

fn name_of(id: OperationId) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn id_of(name: &str) -> Option<OperationId> {
    let mut id = [0; 16];
    if name.len() != 2 * id.len() || !name.is_ascii() {
        return None;
    }
    for (index, byte) in id.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&name[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(id)
}
