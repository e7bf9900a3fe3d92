//! One command that prepares a sandbox: started once, followed to its end over as many links as it takes.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use skync_agent::proto::agent_client::AgentClient;
use skync_agent::proto::attach_begin::From;
use skync_agent::proto::attach_reply::Reply;
use skync_agent::proto::attach_request::Request;
use skync_agent::proto::{
    AttachBegin, AttachRequest, CancelRequest, Exit, ForgetRequest, StartFailure, StartReply,
    StartRequest, Variable,
};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::super::{Line, Maker, REDIAL_PATIENCE, epoch_after};
use crate::channel::Channel;
use crate::config::RECONNECT_TIMEOUT;
use crate::config::quantity::milliseconds;
use crate::driver::{Sandbox, SandboxState};
use crate::error::{CliError, ExitCode};
use crate::operation::OperationId;
use crate::session::exec::GRACE_MS;
use crate::session::proto::SetupNews;
use crate::session::setup::log::Log;
use crate::session::supervise::{LINK_END_SHOWS, SIGTERM};

/// Requests on their way to the agent.
const REQUESTS_WAITING_MAX: usize = 4;
/// Between two tries to dial a link again.
const REDIAL_INTERVAL: Duration = Duration::from_millis(500);

/// How a command ended.
pub(super) enum Ended {
    /// By itself, or stopped by its limits.
    Exited(Exit),
    /// There is no such program.
    NotFound(String),
    /// It cannot be started.
    NotStarted(String),
    /// Nobody knows.
    Unknown,
    /// Its sandbox has gone, how, and whether for want of memory.
    Gone(String, bool),
}

impl Ended {
    /// It did what it was to do.
    pub(super) fn is_good(&self) -> bool {
        match self {
            Self::Exited(exit) => {
                let is_stopped = exit.timed_out || exit.cancelled || exit.out_of_memory;
                exit.code == 0 && exit.signal == 0 && !is_stopped
            }
            Self::NotFound(_) | Self::NotStarted(_) | Self::Unknown | Self::Gone(..) => false,
        }
    }
}

/// What following it over one link came to.
enum Followed {
    Ended(Ended),
    /// There is no such directory.
    NoDirectory,
    /// The link has ended.
    Broken,
    /// The agent says that it is not possible.
    Failed(Status),
}

/// A command that runs, and what it needs.
pub(super) struct Running<'a> {
    pub(super) maker: &'a Maker,
    pub(super) sandbox: &'a Sandbox,
    pub(super) line: &'a mut Line,
    pub(super) log: &'a mut Log,
    pub(super) number: u32,
    pub(super) total: u32,
}

impl Running<'_> {
    /// Runs it to its end, for at most `limit`.
    ///
    /// # Errors
    /// If the sandbox may be there and cannot be reached.
    pub(super) async fn run(
        &mut self,
        argv: Vec<String>,
        directory: &Path,
        environment: Vec<Variable>,
        limit: Duration,
    ) -> Result<Ended, CliError> {
        let mut request = StartRequest {
            id: OperationId::random().to_vec(),
            argv: argv.into_iter().map(String::into_bytes).collect(),
            directory: directory.as_os_str().as_bytes().to_vec(),
            environment,
            // Nobody is there to answer what it may ask.
            no_input: true,
            timeout_ms: milliseconds(limit),
            grace_ms: GRACE_MS,
            ..StartRequest::default()
        };
        let mut taken = 0;
        loop {
            let guard = Guard::new(self.line.link.client.clone(), request.id.clone());
            let followed = self.follow(&request, &mut taken).await;
            match followed {
                Followed::Ended(ended) => {
                    guard.forget();
                    return Ok(ended);
                }
                Followed::NoDirectory if request.directory != b"/" => {
                    guard.forget();
                    request.directory = b"/".to_vec();
                    request.id = OperationId::random().to_vec();
                }
                Followed::NoDirectory => {
                    guard.forget();
                    return Ok(Ended::NotStarted("there is no directory for it".to_owned()));
                }
                Followed::Failed(status) => {
                    return Ok(Ended::NotStarted(format!(
                        "the agent failed: {}",
                        status.message()
                    )));
                }
                Followed::Broken => {
                    // It goes on meanwhile.
                    guard.leave();
                    if let Some(gone) = self.redial().await? {
                        return Ok(gone);
                    }
                }
            }
        }
    }

    async fn follow(&mut self, request: &StartRequest, taken: &mut u64) -> Followed {
        let link = self.line.link.clone();
        let (send, receive) = mpsc::channel(REQUESTS_WAITING_MAX);
        let begin = AttachBegin {
            id: request.id.clone(),
            from: Some(From::Offset(*taken)),
            input: true,
            // The same again starts nothing.
            start: Some(request.clone()),
            ..AttachBegin::default()
        };
        // The channel is new and has room.
        let _ = send.try_send(AttachRequest { request: Some(Request::Begin(begin)) });
        let mut client = link.client.clone();
        let replies = tokio::select! {
            replies = client.attach(ReceiverStream::new(receive)) => replies,
            () = link.closed() => return Followed::Broken,
        };
        let mut replies = match replies {
            Ok(replies) => replies.into_inner(),
            Err(status) => return self.unanswered(status).await,
        };
        loop {
            let reply = tokio::select! {
                reply = replies.message() => reply,
                () = link.closed() => return Followed::Broken,
            };
            match reply.map(|reply| reply.and_then(|reply| reply.reply)) {
                Ok(Some(Reply::Started(started))) => {
                    if let Some(refused) = refused(started) {
                        return refused;
                    }
                }
                Ok(Some(Reply::Output(frame))) => {
                    let end = frame.offset + frame.data.len() as u64;
                    let known = usize::try_from(taken.saturating_sub(frame.offset));
                    let known = known.unwrap_or(usize::MAX).min(frame.data.len());
                    self.say(&frame.data[known..]);
                    *taken = end.max(*taken);
                    // If there is no room now, a later one says so, too.
                    let _ = send.try_send(AttachRequest { request: Some(Request::Taken(*taken)) });
                }
                Ok(Some(Reply::Gap(gap))) => *taken = gap.to.max(*taken),
                Ok(Some(Reply::Exit(exit))) if exit.unknown => {
                    return Followed::Ended(Ended::Unknown);
                }
                Ok(Some(Reply::Exit(exit))) => return Followed::Ended(Ended::Exited(exit)),
                Ok(Some(Reply::Attached(_) | Reply::InputTaken(_) | Reply::Evicted(_))) => {}
                Ok(None) => {
                    let status = Status::unavailable("it does not say how the command ends");
                    return self.unanswered(status).await;
                }
                Err(status) => return self.unanswered(status).await,
            }
        }
    }

    /// A call over a link that breaks fails a moment before the end of the link shows.
    async fn unanswered(&self, status: Status) -> Followed {
        match tokio::time::timeout(LINK_END_SHOWS, self.line.link.closed()).await {
            Ok(()) => Followed::Broken,
            Err(_) => Followed::Failed(status),
        }
    }

    fn say(&mut self, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        self.log.write(data);
        let (number, total, data) = (self.number, self.total, data.to_vec());
        self.maker.setup.show.tell(SetupNews { number, total, data, ..SetupNews::default() });
    }

    /// Dials until there is a link again; how the sandbox has gone, if it has.
    async fn redial(&mut self) -> Result<Option<Ended>, CliError> {
        let patience = self.maker.spec.profile.reconnect_timeout.unwrap_or(RECONNECT_TIMEOUT);
        let deadline = Instant::now() + patience;
        let mut just_now = true;
        loop {
            let found = self.maker.autopsy(self.sandbox, just_now).await;
            match found.state {
                Some(SandboxState::Gone) => return Ok(Some(Ended::Gone(found.words, false))),
                Some(SandboxState::Stopped { out_of_memory, .. }) => {
                    return Ok(Some(Ended::Gone(found.words, out_of_memory)));
                }
                Some(SandboxState::Running) | None => {}
            }
            if just_now {
                self.maker.setup.show.note(format!(
                    "the link to the sandbox `{}` broke; the command goes on, and it is dialled again",
                    self.sandbox.name
                ));
            }
            just_now = false;
            self.line.epoch = epoch_after(self.line.epoch);
            let (secret, epoch) = (&self.line.secret, self.line.epoch);
            let dial = self.maker.open(self.sandbox, secret, epoch, REDIAL_PATIENCE);
            if let Ok(Ok(link)) = tokio::time::timeout(REDIAL_PATIENCE, dial).await {
                self.line.link = link;
                return Ok(None);
            }
            if Instant::now() >= deadline {
                return Err(CliError::new(ExitCode::Unreachable, found.words)
                    .hint("it was being prepared; the next try begins from the start"));
            }
            tokio::time::sleep(REDIAL_INTERVAL).await;
        }
    }
}

fn refused(started: StartReply) -> Option<Followed> {
    match started.failure() {
        StartFailure::StartOk => None,
        StartFailure::StartNotFound => Some(Followed::Ended(Ended::NotFound(started.message))),
        StartFailure::StartNoDirectory => Some(Followed::NoDirectory),
        StartFailure::StartNotExecutable | StartFailure::StartFailed => {
            Some(Followed::Ended(Ended::NotStarted(started.message)))
        }
    }
}

/// Stops the command with everything that descends from it if nobody waits for it any more.
struct Guard(Option<(AgentClient<Channel>, Vec<u8>)>);

impl Guard {
    fn new(client: AgentClient<Channel>, id: Vec<u8>) -> Self {
        Self(Some((client, id)))
    }

    /// It has ended, and its output is here.
    fn forget(mut self) {
        if let Some((mut client, id)) = self.0.take() {
            tokio::spawn(async move { client.forget(ForgetRequest { id }).await });
        }
    }

    /// It goes on.
    fn leave(mut self) {
        self.0 = None;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some((mut client, id)) = self.0.take() {
            let request = CancelRequest { id, signal: SIGTERM, grace_ms: GRACE_MS };
            tokio::spawn(async move { client.cancel(request).await });
        }
    }
}
