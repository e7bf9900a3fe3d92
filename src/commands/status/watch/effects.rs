//! What the view wants done: each a task or a thread of its own, which says what became of it.

use tokio::task::AbortHandle;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Streaming;

use super::sessions::follow;
use super::{Event, Told as Tell};
use crate::commands::Context;
use crate::commands::exec::say;
use crate::commands::follow::broken;
use crate::commands::resolve::in_place::Place;
use crate::session::client::Connection;
use crate::session::proto::exec_request::Request;
use crate::session::proto::join::From;
use crate::session::proto::session_event::Event as SessionNews;
use crate::session::proto::{
    CancelRequest, ExecRequest, FlushRequest, Join, PauseRequest, ResumeRequest, SessionEvent,
};
use crate::ui::watch::model::{Effect, Input, Name, Told};

/// Lines of output that are shown of what was written before.
const TAIL_LINES: u64 = 500;

/// Does what the view wants of the session that it shows.
pub(super) struct Effects {
    context: Context,
    tell: Tell,
    name: Option<Name>,
    /// Of the session that is shown: what is told of another one is old.
    number: u64,
    following: Option<AbortHandle>,
    tail: Option<AbortHandle>,
}

/// One thing that is being done, and whom to tell.
#[derive(Clone)]
struct Doing {
    context: Context,
    name: Name,
    number: u64,
    tell: Tell,
}

impl Effects {
    pub(super) fn new(context: Context, tell: Tell) -> Self {
        Self { context, tell, name: None, number: 0, following: None, tail: None }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The session that is shown.
    pub(super) fn name(&self) -> Option<&Name> {
        self.name.as_ref()
    }

    /// Another session is shown from now on.
    pub(super) fn follow(&mut self, name: &Name) {
        self.number += 1;
        for task in [self.following.take(), self.tail.take()].into_iter().flatten() {
            task.abort();
        }
        self.name = Some(name.clone());
        let (context, tell) = (self.context.clone(), self.tell.clone());
        let task = tokio::spawn(follow(context, name.clone(), self.number, tell));
        self.following = Some(task.abort_handle());
    }

    /// Begins to do something; what becomes of it is told.
    pub(super) fn begin(&mut self, effect: Effect) {
        let Some(name) = self.name.clone() else { return };
        let (context, number, tell) = (self.context.clone(), self.number, self.tell.clone());
        let doing = Doing { context, name, number, tell };
        match effect {
            Effect::Pause => drop(tokio::spawn(doing.pause())),
            Effect::Resume(accept) => drop(tokio::spawn(doing.resume(accept))),
            Effect::Flush => drop(tokio::spawn(doing.flush())),
            Effect::Cancel(id) => drop(tokio::spawn(doing.cancel(id))),
            Effect::Tail(id) => {
                let task = tokio::spawn(doing.output(id));
                self.tail = Some(task.abort_handle());
            }
            Effect::EndTail => {
                if let Some(task) = self.tail.take() {
                    task.abort();
                }
            }
            // A disk and a database: a thread that is never joined, since it may wait for long.
            Effect::Difference(path) => drop(std::thread::spawn(move || {
                let (seen, text) = doing.place().compare(&path);
                doing.tell_from_thread(Told::Difference(path, seen.map(Box::new), text));
            })),
            Effect::Resolve(of, choice) => drop(std::thread::spawn(move || {
                let told = match doing.place().decide(&of, choice) {
                    Ok(text) => Told::Done(text),
                    Err(why) => Told::Failed(why),
                };
                doing.tell_from_thread(told);
            })),
            // Of the loop itself.
            Effect::Leave | Effect::Suspend | Effect::Repaint | Effect::Choose(_) => {}
        }
    }
}

impl Doing {
    fn place(&self) -> Place {
        let (root, profile) = (self.name.root.clone(), self.name.profile.clone());
        Place { context: self.context.clone(), root, profile }
    }

    fn event(&self, told: Told) -> (u64, Event) {
        (self.number, Event::Input(Box::new(Input::Told(told))))
    }

    fn tell_from_thread(&self, told: Told) {
        // Whoever is not there any more need not know.
        let _ = self.tell.blocking_send(self.event(told));
    }

    async fn tell(&self, told: Told) {
        let _ = self.tell.send(self.event(told)).await;
    }

    /// Done, or not and why.
    async fn became(&self, result: Result<String, String>) {
        self.tell(match result {
            Ok(text) => Told::Done(text),
            Err(why) => Told::Failed(why),
        })
        .await;
    }

    async fn session(&self) -> Result<Connection, String> {
        let found =
            Connection::find(&self.context.places, &self.name.root, &self.name.profile).await;
        found.ok_or_else(|| "the session does not answer".to_owned())
    }

    async fn pause(self) {
        let paused = async {
            let reply = self.session().await?.client.pause(PauseRequest {}).await;
            match reply.map_err(|status| broken(&status).message)?.into_inner().paused {
                true => Ok("paused: nothing moves until it goes on".to_owned()),
                false => Err("nothing is mirrored, so there is nothing to pause".to_owned()),
            }
        };
        self.became(paused.await).await;
    }

    async fn resume(self, accept: bool) {
        let done = async {
            let events = self.session().await?.client.resume(ResumeRequest { accept }).await;
            the_end(events.map_err(|status| broken(&status).message)?.into_inner()).await
        };
        self.became(done.await).await;
    }

    async fn flush(self) {
        let done = async {
            let events = self.session().await?.client.flush(FlushRequest {}).await;
            the_end(events.map_err(|status| broken(&status).message)?.into_inner()).await
        };
        self.became(done.await).await;
    }

    async fn cancel(self, id: Vec<u8>) {
        let done = async {
            let request = CancelRequest { id, ..CancelRequest::default() };
            let reply = self.session().await?.client.cancel(request).await;
            let reply = reply.map_err(|status| broken(&status).message)?.into_inner();
            match reply.had_ended || !reply.found {
                true => Ok("it had ended before".to_owned()),
                false if reply.survivors > 0 => Err(say::stopped(reply.stopped, reply.survivors)),
                false => Ok(say::stopped(reply.stopped, reply.survivors)),
            }
        };
        self.became(done.await).await;
    }

    /// Follows an operation's output until it ends, or nobody wants it.
    async fn output(self, id: Vec<u8>) {
        let how = match self.output_of(&id).await {
            Ok(()) => "it has ended".to_owned(),
            Err(why) => why,
        };
        self.tell(Told::OutputEnd(id, how)).await;
    }

    async fn output_of(&self, id: &[u8]) -> Result<(), String> {
        let mut connection = self.session().await?;
        let from = Some(From::Lines(TAIL_LINES));
        let join = Join { id: id.to_vec(), from, ..Join::default() };
        // Nothing more is said, but the end of our words would be the end of our interest.
        let (send, receive) = tokio::sync::mpsc::unbounded_channel();
        let _ = send.send(ExecRequest { request: Some(Request::Join(join)) });
        let called = connection.client.exec(UnboundedReceiverStream::new(receive)).await;
        let mut events = called.map_err(|status| broken(&status).message)?.into_inner();
        let mut failed = None;
        while let Some(event) = events.message().await.map_err(|status| broken(&status).message)? {
            match event.event {
                Some(SessionNews::Output(output)) => {
                    self.tell(Told::Output(id.to_vec(), output.data.into())).await;
                }
                Some(SessionNews::Exit(exit)) => failed = Some(say::how(&exit)),
                Some(SessionNews::Failure(failure)) => failed = Some(failure.message),
                Some(SessionNews::Finished(_)) => break,
                Some(_) | None => {}
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

/// Waits for the end of a call that takes time.
async fn the_end(mut events: Streaming<SessionEvent>) -> Result<String, String> {
    let mut failed = None;
    while let Some(event) = events.message().await.map_err(|status| broken(&status).message)? {
        match event.event {
            Some(SessionNews::Failure(failure)) => failed = Some(failure.message),
            Some(SessionNews::Finished(finished)) => {
                let sync = finished.sync.unwrap_or_default();
                let left = sync.conflicts.len() + sync.problems.len();
                let but = match left {
                    0 => String::new(),
                    1 => ", but for 1 path".to_owned(),
                    left => format!(", but for {left} paths"),
                };
                return failed.map_or(Ok(format!("both sides are the same{but}")), Err);
            }
            Some(_) | None => {}
        }
    }
    Err(failed.unwrap_or_else(|| "the session ended meanwhile".to_owned()))
}
