//! The agent's life in a sandbox: it takes links, serves them, reaps what dies, and ends when its
//! lease runs out.
//!
//! One thread runs all of it; reading and changing trees happens on blocking threads. As process 1
//! of a container its exit ends the container.

use std::io;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, Semaphore};
use tokio::task::AbortHandle;

use crate::files::Files;
use crate::follow::Follower;
use crate::handshake;
use crate::lease::Lease;
use crate::operation::Operations;
use crate::operation::processes::kill_all;
use crate::own;
use crate::proto::AgentInfo;
use crate::proto::agent_server::AgentServer;
use crate::service::Service;
use crate::sizes::{FRAME_BYTES_MAX, LINK_WINDOW_BYTES, MESSAGE_BYTES_MAX, STREAM_WINDOW_BYTES};
use crate::websocket::{self, WebSocket};

/// A quiet link is asked this often whether it is alive …
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// … and given up if it does not answer for this long.
const PING_PATIENCE: Duration = Duration::from_secs(15);
/// A handshake that takes longer is none.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries to reach the session's socket.
const DIAL_INTERVAL: Duration = Duration::from_millis(100);
/// Most WebSockets at a time that have not proved yet to be the session's.
const STRANGERS_MAX: usize = 64;
/// … each for so long before it has asked for anything.
const STRANGER_PATIENCE: Duration = Duration::from_secs(3);
/// Given to operations when the agent ends by itself.
const LAST_GRACE: Duration = Duration::from_secs(5);

/// How the agent is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// A directory of the agent's own; it holds `secret` (32 bytes), which is read and removed.
    pub state: PathBuf,
    /// How long it lives without a session.
    pub lease: Duration,
    /// The session's socket, to dial out to.
    pub dial: Option<PathBuf>,
    /// Where to listen for a bridge; `agent.sock` in the state directory if not given.
    pub socket: Option<PathBuf>,
    /// Where to listen for WebSockets; the port goes into the file `port` of the state directory.
    pub web: Option<(IpAddr, RangeInclusive<u16>)>,
    /// A directory to remove at the end: the sandbox's own place.
    pub cleanup: Option<PathBuf>,
}

/// Serves links until the lease runs out, a session says so, or a signal comes.
///
/// # Errors
/// If the state directory, the secret or the socket cannot be used.
pub async fn serve(options: Options) -> io::Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    // The one that is there for ever, see `main`.
    tokio::task::spawn_blocking(|| ());
    let secret = take_secret(&options.state)?;
    let state = options.state.clone();
    write_pid(&state)?;
    let ending = Arc::new(Notify::new());
    let operations = Operations::new(&state, Path::new("/proc/self/exe"), options.lease);
    operations.adopt().await;
    let links = Arc::new(Links {
        secret,
        info: info(&state)?,
        lease: Lease::new(options.lease),
        operations: Arc::new(operations),
        staging: state.join("staging"),
        follower: Arc::default(),
        files: Files::new(),
        current: Mutex::new((0, None)),
        ending: Arc::clone(&ending),
    });
    let socket = options.socket.clone().unwrap_or_else(|| state.join("agent.sock"));
    let listener = listen(&socket)?;
    tokio::spawn(accept(listener, Arc::clone(&links)));
    if let Some((address, ports)) = options.web {
        let listener = websocket::listen(address, ports).await?;
        let port = listener.local_addr()?.port();
        tokio::spawn(accept_web(listener, websocket::path_of(&secret), Arc::clone(&links)));
        own::write_file(&state.join("port"), port.to_string().as_bytes())?;
    }
    if let Some(session) = options.dial {
        tokio::spawn(dial(session, Arc::clone(&links)));
    }
    tokio::spawn(reap(signal(SignalKind::child())?));
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        () = links.lease.expired() => {}
        () = ending.notified() => {}
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    links.operations.stop_all(LAST_GRACE).await;
    kill_all(rustix::process::getpid(), &[].into());
    let _ = own::remove_file(&socket);
    if let Some(place) = options.cleanup {
        own::remove_place(&place)?;
    }
    Ok(())
}

/// The secret is read once and does not stay on the disk of the sandbox.
fn take_secret(state: &Path) -> io::Result<[u8; 32]> {
    let file = state.join("secret");
    let secret = std::fs::read(&file)?;
    own::remove_file(&file)?;
    secret.try_into().map_err(|_| io::Error::other("the secret has not 32 bytes"))
}

/// For `skync-agent stop`, and for drivers that start the agent as a process.
fn write_pid(state: &Path) -> io::Result<()> {
    own::write_file(&state.join("agent.pid"), std::process::id().to_string().as_bytes())
}

fn info(state: &Path) -> io::Result<AgentInfo> {
    let uname = rustix::system::uname();
    Ok(AgentInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        sha256: Sha256::digest(std::fs::read("/proc/self/exe")?).to_vec(),
        machine: uname.machine().to_string_lossy().into_owned(),
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
        replica_id: replica_id(state)?,
        pid: std::process::id(),
    })
}

/// The sandbox's identity (I9): made once, kept beside the staging store, gone with the sandbox.
fn replica_id(state: &Path) -> io::Result<Vec<u8>> {
    let file = state.join("replica");
    match std::fs::read(&file) {
        Ok(id) if id.len() == 16 => Ok(id),
        _ => {
            let mut id = [0; 16];
            getrandom::fill(&mut id).map_err(io::Error::other)?;
            own::write_file(&file, &id)?;
            Ok(id.to_vec())
        }
    }
}

fn listen(socket: &Path) -> io::Result<UnixListener> {
    // A socket left by an agent that was killed.
    let _ = own::remove_file(socket);
    let listener = UnixListener::bind(socket)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn accept(listener: UnixListener, links: Arc<Links>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(Arc::clone(&links).serve_stream(stream));
            }
            // Out of descriptors, most likely: they come back.
            Err(_) => tokio::time::sleep(DIAL_INTERVAL).await,
        }
    }
}

/// Whoever is in the sandbox can come here, so few may be on their way in at a time.
async fn accept_web(listener: TcpListener, path: String, links: Arc<Links>) {
    let doors = Arc::new(Semaphore::new(STRANGERS_MAX));
    loop {
        let Ok(door) = Arc::clone(&doors).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(_) => {
                tokio::time::sleep(DIAL_INTERVAL).await;
                continue;
            }
        };
        // Small frames go out at once: a keystroke is one.
        let _ = stream.set_nodelay(true);
        let (path, links) = (path.clone(), Arc::clone(&links));
        tokio::spawn(async move {
            let accepted = WebSocket::accept(stream, &path);
            let Ok(Ok(mut stream)) = tokio::time::timeout(STRANGER_PATIENCE, accepted).await else {
                return;
            };
            let Some(epoch) = links.meet(&mut stream).await else { return };
            drop(door);
            links.serve_link(Box::new(stream), epoch).await;
        });
    }
}

/// Keeps one stream to the session open, dialling again whenever it ends.
async fn dial(session: PathBuf, links: Arc<Links>) {
    loop {
        if let Ok(stream) = UnixStream::connect(&session).await {
            Arc::clone(&links).serve_stream(stream).await;
        }
        tokio::time::sleep(DIAL_INTERVAL).await;
    }
}

/// Waits for every child, the agent's own and what was reparented to it: it may be process 1.
async fn reap(mut children: tokio::signal::unix::Signal) {
    use rustix::process::{WaitOptions, wait};
    loop {
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        if children.recv().await.is_none() {
            return;
        }
    }
}

/// Whatever a link comes over. One type for all, so that HTTP/2 is in the agent once.
trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// What all links share.
pub(crate) struct Links {
    secret: [u8; 32],
    info: AgentInfo,
    lease: Lease,
    pub(crate) operations: Arc<Operations>,
    pub(crate) staging: PathBuf,
    pub(crate) follower: Arc<Mutex<Option<Arc<Follower>>>>,
    pub(crate) files: Arc<Files>,
    /// The highest epoch so far, and the link that has it.
    current: Mutex<(u64, Option<AbortHandle>)>,
    pub(crate) ending: Arc<Notify>,
}

impl Links {
    /// Of an agent that nobody can come to, with these mounts.
    #[cfg(test)]
    pub(crate) fn of_nobody(state: &Path, files: Arc<Files>) -> Arc<Self> {
        let lease = Duration::from_secs(60);
        Arc::new(Self {
            secret: [0; 32],
            info: AgentInfo::default(),
            lease: Lease::new(lease),
            operations: Arc::new(Operations::new(state, Path::new("/proc/self/exe"), lease)),
            staging: state.join("staging"),
            follower: Arc::default(),
            files,
            current: Mutex::new((0, None)),
            ending: Arc::default(),
        })
    }

    async fn serve_stream(self: Arc<Self>, mut stream: UnixStream) {
        if let Some(epoch) = self.meet(&mut stream).await {
            self.serve_link(Box::new(stream), epoch).await;
        }
    }

    /// The link's epoch, if the other end is the session.
    async fn meet<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: &mut S) -> Option<u64> {
        let epoch_min = self.lock().0;
        let meeting = handshake::answer(stream, &self.secret, self.info.clone(), epoch_min);
        tokio::time::timeout(HANDSHAKE_PATIENCE, meeting).await.ok()?.ok()
    }

    async fn serve_link(self: Arc<Self>, stream: Box<dyn ByteStream>, epoch: u64) {
        // A newer link evicts the older one: a half-open connection must not take part.
        let (link, older) = {
            let mut current = self.lock();
            if epoch < current.0 {
                // The newer one was through with its handshake first.
                return;
            }
            let link = tokio::spawn(Arc::clone(&self).serve_http(stream));
            current.0 = epoch;
            let older = current.1.replace(link.abort_handle());
            (link, older)
        };
        if let Some(older) = older {
            older.abort();
        }
        let _ = link.await;
    }

    async fn serve_http(self: Arc<Self>, stream: Box<dyn ByteStream>) {
        let _held = self.lease.hold();
        let service = AgentServer::new(Service::new(Arc::clone(&self)))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        // An error here is the end of the link, and that is the session's to notice.
        let _ = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(LINK_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES_MAX)
            .max_send_buf_size(1 << 20)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_PATIENCE)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
            .await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (u64, Option<AbortHandle>)> {
        // Both fields are set in one go, so they fit each other after any panic.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
