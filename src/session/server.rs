//! The session process: its users, its end, and the socket they come through.
//!
//! What it does with its sandbox is in `sandbox`, its calls are in `service`.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use skync_agent::sizes::{
    FRAME_BYTES_MAX, LINK_WINDOW_BYTES, MESSAGE_BYTES_MAX, STREAM_WINDOW_BYTES,
};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Mutex as AsyncMutex, Notify, broadcast, watch};

use crate::config::Profile;
use crate::driver::Driver;
use crate::error::CliError;
use crate::operation::{OperationId, Store};
use crate::session::errors::state_error;
use crate::session::journal::{Entry, Journal};
use crate::session::lifecycle::{Lifecycle, Mirror, Next, User};
use crate::session::live::{Maker, Setup};
use crate::session::moment::Moment;
use crate::session::mount_table::MountTable;
use crate::session::operations::{Operation, Operations};
use crate::session::proto::session_server::SessionServer;
use crate::session::proto::{MovedBatch, StatusReply};
use crate::session::sandbox::{How, State};
use crate::session::service::Service;
use crate::session::setup::show::{self, Show};
use crate::session::view::View;
use crate::session::ways::Ways;
use crate::session::wish::Wishes;
use crate::session::{Spec, cleanup, edits, key, lease, mirror, socket, succession};
use crate::state::{self, Lock, Places};

/// Pieces of news that wait for a slow `up`; then it is told how many it has missed.
const NEWS_WAITING_MAX: usize = 64;
/// How long commands have to end when the session is told to.
const END_PATIENCE: Duration = Duration::from_secs(20);
/// How long who has started a session may take to say what for.
const UNUSED_PATIENCE: Duration = Duration::from_secs(10);
/// How long somebody may take to look whether a session lives.
const CLAIM_PATIENCE: Duration = Duration::from_millis(500);
const CLAIM_INTERVAL: Duration = Duration::from_millis(10);
/// Between two looks whether they have.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// One project, one profile, at most one sandbox.
pub struct Session {
    pub(super) spec: Spec,
    /// To ask it what needs no lock on the sandbox.
    pub(super) driver: Arc<dyn Driver>,
    pub(super) places: Places,
    pub(super) journal: Journal,
    socket: PathBuf,
    /// The sandbox and what makes it. Held while something is synchronised, so that only one
    /// synchronisation runs at a time; commands run without it.
    pub(super) state: AsyncMutex<State>,
    life: Mutex<Lifecycle>,
    wishes: Mutex<Wishes>,
    /// The way to the sandbox, for whoever has something to do there.
    pub(super) ways: Ways,
    /// The operations there are.
    pub(super) operations: Operations,
    /// What is written down of operations.
    pub(super) store: Store,
    /// Where the sandbox is mounted.
    pub(super) mounts: MountTable,
    /// Clients at whose terminal a person sits.
    persons: watch::Sender<u32>,
    /// Patterns of the command lines of all `up`s.
    mirror_exclude: Mutex<Vec<String>>,
    /// What the mirror is to do; follows `life`.
    pub(super) duty: watch::Sender<Duty>,
    /// What clients are shown.
    pub(super) view: watch::Sender<View>,
    /// What is added to it when they are told.
    pub(super) moment: Moment,
    /// What every `up` is told once.
    pub(super) news: broadcast::Sender<News>,
    /// What is told of how the sandbox is prepared.
    pub(super) setup: Arc<Show>,
    ending: Notify,
}

/// What the mirror is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Duty {
    /// Carry changes over.
    pub(super) mirror: Mirror,
    /// The sandbox stays although nobody uses it: see that its link stays open.
    pub(super) kept: bool,
    /// Commands need the link.
    pub(super) busy: bool,
    /// Whoever is in a mount needs it, and a sandbox.
    pub(super) mounted: bool,
    /// The sandbox has what the host has not.
    pub(super) unsynced: bool,
    /// Nothing any more.
    pub(super) ending: bool,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub(super) enum News {
    /// Changes were carried over.
    Moved(Arc<MovedBatch>),
    /// A line for a person.
    Note(String),
}

/// How a user left.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// Why the sandbox is kept, if it is.
    pub(super) kept: Option<String>,
    /// Why the session goes on without that; empty if it does not.
    pub(super) goes_on: String,
    /// The processes that end now.
    pub(super) ending: Vec<u32>,
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
    let (key, id) = (key(&spec.root, &spec.profile.name), spec.id.clone());
    let runtime_dir = places.runtime_dir().map_err(io::Error::other)?.to_owned();
    let busy = || io::Error::from(io::ErrorKind::WouldBlock);
    // First of all: whoever finds the id unclaimed may remove what it stands for.
    let journal = Journal::open(&places).map_err(io::Error::other)?;
    let _lives = claim(&journal, &spec.id).await?.ok_or_else(busy)?;
    // One session for each project and profile; the lock goes with the process.
    let lock =
        state::try_lock(&runtime_dir.join(format!("{key}.lock"))).map_err(io::Error::other)?;
    let _only = lock.ok_or_else(busy)?;
    let (session, listener, former) =
        open(places, spec, driver, journal, &runtime_dir.join(&id), &key)?;
    tokio::spawn(lease::run(Arc::clone(&session)));
    tokio::spawn(mirror::run(Arc::clone(&session)));
    tokio::spawn(edits::run(Arc::clone(&session)));
    tokio::spawn(show::run(Arc::clone(&session)));
    if let Some(former) = former {
        let taken = succession::take_over(&session, &former).await;
        taken.map_err(|error| io::Error::new(io::ErrorKind::NotConnected, error.to_string()))?;
    }
    ready();
    tokio::spawn(end_unused(Arc::clone(&session), UNUSED_PATIENCE));
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        () = accept(listener, &session) => {}
        () = session.ending.notified() => {}
        () = ended_by_signal(&session, &mut term, &mut int) => {}
    }
    Ok(())
}

/// The session with its files and its socket; what an earlier process of it had, if one died.
fn open(
    places: Places,
    spec: Spec,
    driver: Arc<dyn Driver>,
    journal: Journal,
    runtime: &Path,
    key: &str,
) -> io::Result<(Arc<Session>, UnixListener, Option<Entry>)> {
    state::make_private_directory(runtime).map_err(io::Error::other)?;
    let socket = socket(&places, key);
    // One that died may have left a sandbox, with commands that run in it.
    let former = journal.find(&spec.id);
    let entry = former.clone().unwrap_or_else(|| {
        Entry::new(spec.id.clone(), &spec.root, &spec.profile, runtime, &socket)
    });
    // A session killed before its keeper could clean up may have left one.
    state::remove_file(&socket).map_err(io::Error::other)?;
    let listener = UnixListener::bind(&socket)?;
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600))?;
    // From here on the keeper knows what there is to remove.
    journal.write(&entry).map_err(io::Error::other)?;
    let owner = owner();
    let persons = watch::Sender::new(0);
    let person = is_person(&persons);
    let setup = Setup { places: places.clone(), show: Arc::default() };
    let show = Arc::clone(&setup.show);
    let maker =
        Maker::new(spec.clone(), Arc::clone(&driver), journal.clone(), entry, owner, person, setup);
    let store = Store::open(&places).map_err(io::Error::other)?;
    let facts = StatusReply {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        profile: spec.profile.name.clone(),
        root: spec.root.as_os_str().as_encoded_bytes().to_vec(),
        ..StatusReply::default()
    };
    let session = Arc::new(Session {
        spec,
        driver,
        places,
        journal,
        socket,
        state: AsyncMutex::new(State::new(maker)),
        life: Mutex::default(),
        wishes: Mutex::default(),
        ways: Ways::default(),
        operations: Operations::default(),
        store,
        mounts: MountTable::default(),
        persons,
        mirror_exclude: Mutex::default(),
        duty: watch::Sender::default(),
        view: watch::Sender::new(View::new(facts)),
        moment: Moment::default(),
        news: broadcast::Sender::new(NEWS_WAITING_MAX),
        setup: show,
        ending: Notify::new(),
    });
    Ok((session, listener, former))
}

/// Ends a session that nobody uses after a while: whoever started it has gone, or only asked for what
/// is not there any more.
pub(super) async fn end_unused(session: Arc<Session>, patience: Duration) {
    tokio::time::sleep(patience).await;
    let is_unused =
        session.life(|life| life.is_unused() && !life.is_ending() && life.end() == Next::End);
    if !is_unused {
        return;
    }
    if let Err(error) = session.tear_down().await {
        tracing::error!(%error, "something is left for the keeper to remove");
    }
    session.end();
}

/// Says that the session of this id lives; nothing if another one says so. Who only looks whether it
/// lives holds the claim for a moment.
async fn claim(journal: &Journal, id: &str) -> io::Result<Option<Lock>> {
    let deadline = tokio::time::Instant::now() + CLAIM_PATIENCE;
    loop {
        let claimed = journal.claim(id).map_err(io::Error::other)?;
        if claimed.is_some() || tokio::time::Instant::now() >= deadline {
            return Ok(claimed);
        }
        tokio::time::sleep(CLAIM_INTERVAL).await;
    }
}

/// Whether there is any person.
fn is_person(persons: &watch::Sender<u32>) -> watch::Receiver<bool> {
    let (tell, person) = watch::channel(false);
    let mut persons = persons.subscribe();
    tokio::spawn(async move {
        while persons.changed().await.is_ok() {
            let any = *persons.borrow_and_update() > 0;
            tell.send_if_modified(|before| std::mem::replace(before, any) != any);
        }
    });
    person
}

/// A person who sits at a terminal, until the value is dropped.
pub(super) struct Person(watch::Sender<u32>);

impl Drop for Person {
    fn drop(&mut self) {
        self.0.send_modify(|persons| *persons -= 1);
    }
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
pub fn owner() -> String {
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

    /// Looks at the session's life, or changes it; whoever follows it is told.
    pub(super) fn life<R>(&self, change: impl FnOnce(&mut Lifecycle) -> R) -> R {
        // Each change is one call on a small value: it is whole after any panic. It is told under
        // the lock, so that no older state is told after a newer one.
        let mut life = self.life.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut life);
        let duty = Duty {
            mirror: life.mirror(),
            kept: life.users() == 0 && life.kept().is_some(),
            busy: life.commands() > 0,
            mounted: life.mounts() > 0,
            unsynced: life.kept().is_some(),
            ending: life.is_ending(),
        };
        self.duty.send_if_modified(|old| std::mem::replace(old, duty) != duty);
        self.show(|view| view.lived(&life));
        if life.ups() == 0 && !life.is_held() {
            self.mirror_exclude().clear();
        }
        result
    }

    /// Changes what clients are shown; they are told if they would see a difference.
    pub(super) fn show<R>(&self, change: impl FnOnce(&mut View) -> R) -> R {
        let mut result = None;
        self.view.send_if_modified(|view| {
            let before = view.reply.clone();
            result = Some(change(view));
            // That nothing has changed, once more, is no news.
            view.reply != StatusReply { synced_ms: view.reply.synced_ms, ..before }
        });
        result.expect("the change was called")
    }

    /// Patterns of the command lines of all `up`s.
    pub(super) fn mirror_exclude(&self) -> MutexGuard<'_, Vec<String>> {
        self.mirror_exclude.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn wishes(&self) -> MutexGuard<'_, Wishes> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An `Exec` has ended: nobody can wish anything of it.
    pub fn forget_wish(&self, id: &[u8]) {
        self.wishes().remove(id);
    }

    /// The operations there are.
    pub(super) fn operations(&self) -> MutexGuard<'_, BTreeMap<OperationId, Arc<Operation>>> {
        // Each change is one call.
        self.operations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An operation is over, and its clients have heard so.
    pub(super) fn forget_operation(&self, id: OperationId) {
        self.operations().remove(&id);
        self.forget_wish(&id.to_vec());
    }

    /// A person sits at a terminal of this session until the value is dropped.
    pub(super) fn person_comes(&self) -> Person {
        self.persons.send_modify(|persons| *persons += 1);
        Person(self.persons.clone())
    }

    /// A user goes; if it was the last one, so does everything else.
    ///
    /// # Errors
    /// If something could not be removed: the keeper tries again.
    pub(super) async fn leave(&self, user: User) -> (Left, Result<(), CliError>) {
        let mounts = self.mounts.places();
        let (next, goes_on) = self.life(|life| (life.leave(user), goes_on(life, &mounts)));
        match next {
            Next::Stay => (Left { goes_on, ..Left::default() }, Ok(())),
            Next::Keep(why) => (Left { kept: Some(why), ..Left::default() }, Ok(())),
            Next::End => {
                let done = self.tear_down().await;
                (Left { ending: Self::processes(), ..Left::default() }, done)
            }
        }
    }

    pub(super) fn processes() -> Vec<u32> {
        let parent = rustix::process::getppid();
        let keeper = parent.map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
        std::iter::once(std::process::id()).chain(keeper.filter(|pid| *pid > 1)).collect()
    }

    /// Removes the sandbox and everything else of this session; only what follows the end of a
    /// life calls it.
    pub(super) async fn tear_down(&self) -> Result<(), CliError> {
        // A command that comes now starts a session of its own, which waits for our lock.
        state::remove_file(&self.socket).map_err(|error| state_error(&error))?;
        self.unmount_all().await;
        let mut state = self.state.lock().await;
        self.remove_sandbox(&mut state).await?;
        if self.has_left_mounts() {
            // The keeper takes them away, and then forgets the session.
            return Ok(());
        }
        cleanup::remove_files(&self.journal, state.maker.entry())
            .map_err(|error| state_error(&error))
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
        // What nobody waits for is brought home here; users see to theirs.
        let (users, loose) =
            self.life(|life| (life.users(), life.stays() || life.kept().is_some()));
        self.unmount_all().await;
        if users == 0
            && loose
            && let Err(error) = self.synchronise(None, How::Last).await
        {
            tracing::warn!(%error, "what is only in the sandbox could not be brought home");
        }
        match self.life(Lifecycle::end) {
            Next::End => {}
            Next::Keep(why) => {
                tracing::warn!(why, "the session stays although a signal asked it to end");
                return false;
            }
            Next::Stay => match self.last_user_has_left().await {
                Some(ended) => return ended,
                None => self.life(Lifecycle::abandon),
            },
        }
        if let Err(error) = self.tear_down().await {
            tracing::error!(%error, "something is left for the keeper to remove");
        }
        true
    }

    /// Cancels all users and waits for the last one to leave, which ends the session once its
    /// client has heard of it. False if it had to leave the sandbox; nothing if it takes too long.
    async fn last_user_has_left(&self) -> Option<bool> {
        for wish in self.wishes().values() {
            wish.send_modify(|wish| wish.cancel = true);
        }
        let kept = async {
            while !self.life(|life| life.users() == 0 && life.kept().is_some()) {
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

/// Why a session goes on although a user has left it, for that user.
fn goes_on(life: &Lifecycle, mounts: &[PathBuf]) -> String {
    if let (Some(at), false, 0) = (mounts.first(), life.is_held(), life.users()) {
        let more = mounts.len() - 1;
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        return format!("the sandbox is mounted at `{}`{more}", at.display());
    }
    match (life.is_held(), life.ups(), life.commands()) {
        (true, _, _) => "it mirrors in the background until `skync down`".to_owned(),
        (false, 1.., _) => "another `skync up` still mirrors".to_owned(),
        (false, 0, _) => "a command still runs in the sandbox, and ends it".to_owned(),
    }
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
