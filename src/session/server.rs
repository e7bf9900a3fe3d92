//! The session process: its one sandbox, its users, and the socket they come through.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::Stream;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use skync_agent::serve::{
    FRAME_BYTES_MAX, LINK_WINDOW_BYTES, MESSAGE_BYTES_MAX, STREAM_WINDOW_BYTES,
};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Mutex as AsyncMutex, Notify, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::config::Profile;
use crate::driver::{Driver, Progress, Sandbox};
use crate::error::{CliError, ExitCode};
use crate::link::Link;
use crate::session::events::{Events, with_progress};
use crate::session::exec::{self, Wish, Wishes};
use crate::session::journal::{Entry, Journal};
use crate::session::lifecycle::{Lifecycle, Next};
use crate::session::live::{Live, Maker, state_directory};
use crate::session::proto::exec_event::Event;
use crate::session::proto::session_server::SessionServer;
use crate::session::proto::{self, ExecEvent, ExecRequest};
use crate::session::{Spec, cleanup, key, socket};
use crate::state::{self, Places};
use crate::sync::engine::SyncError;
use crate::sync::host::Host;
use crate::sync::manifest::{Manifest, Owner};
use crate::sync::report::Report;

/// Events that wait for a client; output waits in the sandbox.
const EVENTS_WAITING_MAX: usize = 16;
/// How long commands have to end when the session is told to.
const END_PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks whether they have.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// One project, one profile, at most one sandbox.
pub struct Session {
    spec: Spec,
    places: Places,
    journal: Journal,
    socket: PathBuf,
    /// The sandbox and what makes it. Held while something is synchronised, so that only one
    /// synchronisation runs at a time; commands run without it.
    state: AsyncMutex<State>,
    life: Mutex<Lifecycle>,
    wishes: Mutex<Wishes>,
    ending: Notify,
}

struct State {
    maker: Maker,
    live: Option<Live>,
    /// A command has run in the sandbox: it may hold something that the host has not.
    has_run: bool,
}

/// Serves until the last user has left.
///
/// `ready` is called once the socket is there.
///
/// # Errors
/// If the session's own files or its socket cannot be used.
pub async fn serve(
    places: Places,
    spec: Spec,
    driver: Arc<dyn Driver>,
    ready: impl FnOnce(),
) -> io::Result<()> {
    let key = key(&spec.root, &spec.profile.name);
    let runtime_dir = places.runtime_dir().map_err(io::Error::other)?;
    // One session for each project and profile; the lock goes with the process.
    let lock =
        state::try_lock(&runtime_dir.join(format!("{key}.lock"))).map_err(io::Error::other)?;
    let Some(_only) = lock else { return Err(io::Error::from(io::ErrorKind::WouldBlock)) };
    let journal = Journal::open(&places).map_err(io::Error::other)?;
    let _lives = journal.claim(&spec.id).map_err(io::Error::other)?;
    let runtime = runtime_dir.join(&spec.id);
    state::make_private_directory(&runtime).map_err(io::Error::other)?;
    let socket = socket(&places, &key);
    let entry = Entry::new(spec.id.clone(), &spec.root, &spec.profile, &runtime, &socket);
    // A session killed before its keeper could clean up may have left one.
    state::remove_file(&socket).map_err(io::Error::other)?;
    let listener = UnixListener::bind(&socket)?;
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600))?;
    // From here on the keeper knows what there is to remove.
    journal.write(&entry).map_err(io::Error::other)?;
    let owner = owner();
    let maker = Maker::new(spec.clone(), driver, journal.clone(), entry, owner);
    let session = Arc::new(Session {
        spec,
        places,
        journal,
        socket,
        state: AsyncMutex::new(State { maker, live: None, has_run: false }),
        life: Mutex::default(),
        wishes: Mutex::default(),
        ending: Notify::new(),
    });
    ready();
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        () = accept(listener, &session) => {}
        () = session.ending.notified() => {}
        () = ended_by_signal(&session, &mut term, &mut int) => {}
    }
    Ok(())
}

/// Returns when a signal has ended the session.
async fn ended_by_signal(session: &Arc<Session>, term: &mut Signal, int: &mut Signal) {
    loop {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        if session.end_now().await {
            return;
        }
    }
}

/// Who makes things: a hash of user and machine, so that labels tell nobody a name.
fn owner() -> String {
    let machine = std::fs::read("/etc/machine-id").unwrap_or_default();
    let mut hasher = blake3::Hasher::new();
    hasher.update(&rustix::process::geteuid().as_raw().to_be_bytes()).update(&machine);
    hasher.finalize().to_hex()[..16].to_owned()
}

async fn accept(listener: UnixListener, session: &Arc<Session>) {
    let own = rustix::process::geteuid().as_raw();
    loop {
        match listener.accept().await {
            // The directory is private already; this is the second lock on the door.
            Ok((stream, _)) if stream.peer_cred().is_ok_and(|peer| peer.uid() == own) => {
                tokio::spawn(connection(stream, Arc::clone(session)));
            }
            Ok(_) => tracing::warn!("another user tried to connect"),
            Err(error) => {
                tracing::warn!(%error, "cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: UnixStream, session: Arc<Session>) {
    let service = SessionServer::new(Service(session))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let served = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(LINK_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_send_buf_size(1 << 20)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a client's connection ended");
    }
}

impl Session {
    /// The profile it was started with.
    pub fn profile(&self) -> &Profile {
        &self.spec.profile
    }

    /// The project on the host.
    pub fn root(&self) -> PathBuf {
        self.spec.root.clone()
    }

    fn life(&self) -> MutexGuard<'_, Lifecycle> {
        // Each change is one call on a small value: it is whole after any panic.
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wishes(&self) -> MutexGuard<'_, Wishes> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An `Exec` has ended: nobody can wish anything of it.
    pub fn forget_wish(&self, id: &[u8]) {
        self.wishes().remove(id);
    }

    /// Makes the sandbox if there is none, while the project is being read.
    ///
    /// # Errors
    /// What keeps it from being made; nothing is left behind.
    pub async fn ensure_live(
        &self,
        exclude: Vec<String>,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<(), CliError> {
        let mut state = self.state.lock().await;
        if let Some(live) = &mut state.live {
            if live.link().is_open() {
                live.set_command_line(exclude);
                return Ok(());
            }
            let sandbox = live.sandbox.clone();
            self.bury(&mut state, &sandbox).await?;
        }
        let settings = state.maker.settings(PathBuf::new(), false);
        let (root, patterns) = (self.spec.root.clone(), exclude.clone());
        let directory = state_directory(&self.places, &key(&root, &self.spec.profile.name));
        let profile = self.spec.profile.name.clone();
        let host = tokio::task::spawn_blocking(move || -> Result<Host, SyncError> {
            let owner = Owner { root: root.clone(), profile };
            let manifest = Manifest::open(&directory.join("manifest.db"), owner)?;
            let mut host = Host::open(&root, &directory.join("staging"), manifest)?;
            host.warm_up(&settings, &patterns)?;
            Ok(host)
        });
        state.has_run = false;
        state.live = Some(state.maker.make(host, exclude, progress).await?);
        Ok(())
    }

    /// True if there is a sandbox that can be reached.
    pub async fn is_live(&self) -> bool {
        self.state.lock().await.live.as_ref().is_some_and(|live| live.link().is_open())
    }

    /// Makes both sides the same, and remembers what that leaves in the sandbox alone.
    ///
    /// # Errors
    /// If a side as a whole cannot be read or written.
    pub async fn synchronise(
        &self,
        events: Option<&Events>,
    ) -> Result<(Report, Link, Sandbox), CliError> {
        let mut state = self.state.lock().await;
        let has_run = state.has_run;
        let Some(live) = state.live.as_mut() else {
            return Err(CliError::new(ExitCode::NotFound, "there is no sandbox"));
        };
        let counters = live.counters();
        let result = with_progress(events, &counters, live.synchronise()).await;
        let unsynced = match &result {
            Ok(report) => report.unsynced(),
            // Before a command has run, all that is in the sandbox is on the host.
            Err(error) => has_run.then(|| error.to_string()),
        };
        self.life().synchronised(unsynced);
        let (link, sandbox) = (live.link(), live.sandbox.clone());
        state.has_run = true;
        Ok((result?, link, sandbox))
    }

    /// The link to a sandbox has ended by itself: finds out why, and removes what is left of it.
    pub async fn sandbox_lost(&self, sandbox: &Sandbox) -> String {
        let mut state = self.state.lock().await;
        let why = state.maker.autopsy(sandbox).await;
        if let Err(error) = self.bury(&mut state, sandbox).await {
            tracing::warn!(%error, "what is left of a sandbox could not be removed");
        }
        why
    }

    async fn bury(&self, state: &mut State, sandbox: &Sandbox) -> Result<(), CliError> {
        if state.live.as_ref().is_some_and(|live| live.sandbox.id == sandbox.id) {
            state.live = None;
            self.life().sandbox_gone();
        }
        state.maker.remove(sandbox).await
    }

    /// A user goes; if it was the last one, so does everything else.
    ///
    /// Returns why the sandbox is kept, and the processes that end now.
    ///
    /// # Errors
    /// If something could not be removed: the keeper tries again.
    pub async fn leave(&self) -> (Result<Option<String>, CliError>, Vec<u32>) {
        let next = self.life().leave();
        match next {
            Next::Stay => (Ok(None), Vec::new()),
            Next::Keep(why) => (Ok(Some(why)), Vec::new()),
            Next::End => (self.tear_down().await.map(|()| None), Self::processes()),
        }
    }

    fn processes() -> Vec<u32> {
        let parent = rustix::process::getppid();
        let keeper = parent.map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
        std::iter::once(std::process::id()).chain(keeper.filter(|pid| *pid > 1)).collect()
    }

    async fn tear_down(&self) -> Result<(), CliError> {
        // A command that comes now starts a session of its own, which waits for our lock.
        state::remove_file(&self.socket).map_err(|error| super::live::state_error(&error))?;
        let mut state = self.state.lock().await;
        if let Some(live) = state.live.take() {
            let sandbox = live.sandbox.clone();
            let closed = live.close().await;
            state.maker.remove(&sandbox).await?;
            if let Err(error) = closed {
                // Only a cache and the ancestor of a sandbox that is gone.
                tracing::warn!(%error, "the last record could not be written");
            }
        }
        cleanup::remove_files(&self.journal, state.maker.entry())
            .map_err(|error| super::live::state_error(&error))
    }

    /// Lets `serve` return.
    pub fn end(&self) {
        self.ending.notify_one();
    }

    /// A signal says so: commands are cancelled, results come home, everything goes.
    ///
    /// False if it stays: something in the sandbox could not be brought home, and is not given up
    /// on a signal's word.
    async fn end_now(&self) -> bool {
        let kept = self.life().state().1.is_some();
        if kept && let Err(error) = self.synchronise(None).await {
            tracing::warn!(%error, "what is only in the sandbox could not be brought home");
        }
        let next = self.life().end();
        match next {
            Next::End => {}
            Next::Keep(why) => {
                tracing::warn!(why, "the session stays although a signal asked it to end");
                return false;
            }
            Next::Stay => match self.last_user_has_left().await {
                Some(ended) => return ended,
                None => self.life().abandon(),
            },
        }
        if let Err(error) = self.tear_down().await {
            tracing::error!(%error, "something is left for the keeper to remove");
        }
        true
    }

    /// Cancels all commands and waits for the last one to leave, which ends the session once its
    /// client has heard of it. False if it had to leave the sandbox; nothing if it takes too long.
    async fn last_user_has_left(&self) -> Option<bool> {
        for wish in self.wishes().values() {
            wish.send_modify(|wish| wish.cancel = true);
        }
        let kept = async {
            while !matches!(self.life().state(), (0, Some(_))) {
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        };
        tokio::select! {
            () = self.ending.notified() => Some(true),
            () = kept => Some(false),
            () = tokio::time::sleep(END_PATIENCE) => None,
        }
    }
}

struct Service(Arc<Session>);

type EventStream = Pin<Box<dyn Stream<Item = Result<ExecEvent, Status>> + Send>>;

#[tonic::async_trait]
impl proto::session_server::Session for Service {
    type ExecStream = EventStream;

    async fn exec(
        &self,
        request: Request<Streaming<ExecRequest>>,
    ) -> Result<Response<EventStream>, Status> {
        let mut requests = request.into_inner();
        let first = requests.message().await?.and_then(|request| request.request);
        let Some(proto::exec_request::Request::Begin(begin)) = first else {
            return Err(Status::invalid_argument("the first request has `begin`"));
        };
        if !self.0.life().join() {
            return Err(Status::unavailable("the session is ending"));
        }
        let (wish, wishes) = watch::channel(Wish::default());
        self.0.wishes().insert(begin.id.clone(), wish);
        let (send, receive) = mpsc::channel(EVENTS_WAITING_MAX);
        let session = Arc::clone(&self.0);
        tokio::spawn(exec::run(session, begin, requests, wishes, Events::new(send)));
        Ok(Response::new(Box::pin(ReceiverStream::new(receive))))
    }

    async fn control(
        &self,
        request: Request<proto::ControlRequest>,
    ) -> Result<Response<proto::ControlReply>, Status> {
        let request = request.into_inner();
        let wishes = self.0.wishes();
        let wish = wishes.get(&request.id);
        if let Some(wish) = wish {
            wish.send_modify(|wish| {
                wish.cancel |= request.cancel;
                if request.signal != 0 {
                    wish.count += 1;
                    wish.signal = request.signal;
                }
            });
        }
        Ok(Response::new(proto::ControlReply { found: wish.is_some() }))
    }

    async fn status(
        &self,
        _request: Request<proto::StatusRequest>,
    ) -> Result<Response<proto::StatusReply>, Status> {
        // Not waiting for a synchronisation that is under way.
        let sandbox = self
            .0
            .state
            .try_lock()
            .ok()
            .and_then(|state| state.live.as_ref().map(|live| live.sandbox.name.clone()));
        let (users, kept) = {
            let life = self.0.life();
            let (users, kept) = life.state();
            (users, kept.unwrap_or_default().to_owned())
        };
        Ok(Response::new(proto::StatusReply {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            profile: self.0.spec.profile.name.clone(),
            root: self.0.spec.root.as_os_str().as_encoded_bytes().to_vec(),
            sandbox: sandbox.unwrap_or_default(),
            operations: users,
            kept,
        }))
    }

    type DownStream = EventStream;

    async fn down(
        &self,
        request: Request<proto::DownRequest>,
    ) -> Result<Response<EventStream>, Status> {
        let discard = request.into_inner().discard;
        let (send, receive) = mpsc::channel(EVENTS_WAITING_MAX);
        let (session, events) = (Arc::clone(&self.0), Events::new(send));
        tokio::spawn(async move { down(&session, &events, discard).await });
        Ok(Response::new(Box::pin(ReceiverStream::new(receive))))
    }
}

/// Brings home what it can, then ends the session unless that would lose something.
async fn down(session: &Arc<Session>, events: &Events, discard: bool) {
    let failure = |error: CliError| {
        let (code, message) = (error.code as u32, error.to_string());
        Event::Failure(proto::Failure { code, message, hints: error.hints })
    };
    if !discard
        && session.is_live().await
        && let Err(error) = session.synchronise(Some(events)).await
    {
        tracing::warn!(%error, "the last synchronisation failed");
    }
    let allowed = session.life().down(discard);
    if let Err(why) = allowed {
        let error = CliError::new(ExitCode::Conflict, format!("the session stays: {why}"))
            .hint("`skync down --discard` gives up what is only in the sandbox");
        events.send(failure(error)).await;
        return;
    }
    match session.tear_down().await {
        Ok(()) => {
            let ending = Session::processes();
            let finished = proto::Finished { ending, ..proto::Finished::default() };
            events.send(Event::Finished(finished)).await
        }
        Err(error) => events.send(failure(error)).await,
    };
    events.read_to_the_end().await;
    session.end();
}
