//! `skync up`: mirrors the project until Ctrl-C, or in the background.

mod question;
mod view;

use std::time::{Duration, Instant};

use serde_json::json;
use tonic::Streaming;

use self::question::Question;
use self::view::View;
use crate::cli::UpArgs;
use crate::commands::ends::Ends;
use crate::commands::{Context, find_project, follow, mount, running};
use crate::config::DriverConfig;
use crate::error::{CliError, ExitCode};
use crate::session::Spec;
use crate::session::client::Connection;
use crate::session::proto::session_event::Event;
use crate::session::proto::{
    ControlRequest, Finished, ResumeRequest, SessionEvent, State, StatusReply, UpRequest,
};
use crate::ui::{print, visible};

/// How long another session may take to go on when one has died …
const REJOIN_PATIENCE: Duration = Duration::from_secs(30);
/// … and how often it is looked for.
const REJOIN_INTERVAL: Duration = Duration::from_millis(250);

/// Mirrors; returns when the mirror has ended, or with `-d` once it has begun.
///
/// # Errors
/// What keeps it from beginning, or what went wrong at its end.
pub async fn run(args: &UpArgs, context: &Context) -> Result<ExitCode, CliError> {
    let profile = context.select_in(args.root.as_deref())?.profile;
    if matches!(profile.driver, DriverConfig::Local) {
        let message = format!("the profile `{}` runs commands in place", profile.name);
        return Err(CliError::new(
            ExitCode::Usage,
            format!("{message}: there is nothing to mirror"),
        )
        .hint("`skync profile list` shows the others, `--profile NAME` uses one"));
    }
    let project = find_project(args.root.as_deref(), args.force)?;
    if let Some(warning) = project.warning() {
        context.caution(&warning);
    }
    running::warn_of_older(context, &project.root, &profile);
    let spec = Spec { id: String::new(), root: project.root, profile };
    let mut id = vec![0; 16];
    getrandom::fill(&mut id).expect("the kernel gives random bytes");
    let mount = mount::of_up(&args.mount, &spec.profile)?;
    let request = UpRequest { id, exclude: args.exclude.clone(), hold: args.detach, mount };
    // From here on Ctrl-C is for us to handle: what was begun is to be ended, not left.
    let signals = Ends::new()?;
    let ask = async |connection: &mut Connection| connection.client.up(request.clone()).await;
    let (connection, events) = Connection::ask(&context.places, &spec, ask).await?;
    Up::new(context, spec, connection, request, signals).follow(events.into_inner()).await
}

struct Up<'a> {
    context: &'a Context,
    spec: Spec,
    connection: Connection,
    request: UpRequest,
    signals: Ends,
    view: View<'a>,
    question: Question,
    failure: Option<CliError>,
    /// It has been asked to end.
    ending: bool,
}

impl<'a> Up<'a> {
    fn new(
        context: &'a Context,
        spec: Spec,
        connection: Connection,
        request: UpRequest,
        signals: Ends,
    ) -> Self {
        let (view, question) = (View::new(context), Question::new(context));
        let (failure, ending) = (None, false);
        Self { context, spec, connection, request, signals, view, question, failure, ending }
    }

    async fn follow(mut self, mut events: Streaming<SessionEvent>) -> Result<ExitCode, CliError> {
        loop {
            tokio::select! {
                biased;
                () = self.signals.next() => {
                    if self.ending {
                        return Ok(self.leave());
                    }
                    self.end().await;
                }
                accepted = self.question.answered() => self.accept(accepted).await,
                event = events.message() => match event.map(|event| event.and_then(|e| e.event)) {
                    Ok(Some(Event::Finished(finished))) => {
                        drop(events);
                        return self.finish(finished).await;
                    }
                    Ok(Some(event)) => self.handle(event)?,
                    Ok(None) | Err(_) => match self.rejoin().await {
                        Some(rejoined) => events = rejoined,
                        None => return Err(self.lost()),
                    },
                },
            }
        }
    }

    /// The session died: its keeper has started another one, which goes on with the sandbox.
    /// Nothing if the mirror was to end, or there is none in time.
    async fn rejoin(&mut self) -> Option<Streaming<SessionEvent>> {
        if self.ending || self.failure.is_some() {
            return None;
        }
        let deadline = Instant::now() + REJOIN_PATIENCE;
        while Instant::now() < deadline {
            let found = Connection::find_or_start(&self.context.places, &self.spec);
            let found = tokio::select! {
                found = found => found,
                () = self.signals.next() => return None,
            };
            if let Ok(mut connection) = found
                && let Ok(events) = connection.client.up(self.request.clone()).await
            {
                self.connection = connection;
                let text = "the session ended without a word; its successor goes on";
                let _ = self.view.note(text);
                return Some(events.into_inner());
            }
            tokio::time::sleep(REJOIN_INTERVAL).await;
        }
        None
    }

    fn handle(&mut self, event: Event) -> Result<(), CliError> {
        match event {
            Event::Progress(progress) => self.view.progress(&progress),
            Event::Note(text) => self.view.note(&text),
            Event::Setup(news) => self.view.setup(&news),
            Event::Moved(batch) => self.view.moved(&batch),
            Event::Status(status) => {
                self.view.status(&status)?;
                self.ask(&status);
                Ok(())
            }
            Event::Failure(failure) => {
                self.failure = Some(follow::error_of(failure));
                Ok(())
            }
            Event::Started(_)
            | Event::Output(_)
            | Event::Exit(_)
            | Event::Finished(_)
            | Event::Gap(_)
            | Event::InputTaken(_)
            | Event::Link(_)
            | Event::Evicted(_) => Ok(()),
        }
    }

    /// A person at a terminal is asked about what was halted, once for each halt.
    fn ask(&mut self, status: &StatusReply) {
        let halted = status.state() == State::Halted && !self.ending;
        let asked = self.question.about(halted.then_some(status.why.as_str()));
        self.view.make_room(asked);
    }

    async fn accept(&mut self, accepted: bool) {
        self.view.make_room(false);
        if !accepted {
            return;
        }
        // What comes of it shows in the state.
        if let Err(status) = self.connection.client.resume(ResumeRequest { accept: true }).await {
            let _ = self.view.note(&format!("warning: {}", follow::broken(&status)));
        }
    }

    /// The first Ctrl-C: leaves the mirror, which ends it if nobody else needs it.
    async fn end(&mut self) {
        self.ending = true;
        self.view.make_room(false);
        self.view.ending();
        let request = ControlRequest {
            id: self.request.id.clone(),
            cancel: true,
            ..ControlRequest::default()
        };
        // A session that is gone shows in its events.
        let _ = self.connection.client.control(request).await;
    }

    /// The second Ctrl-C: the session ends by itself, and its keeper sees to the rest.
    fn leave(&mut self) -> ExitCode {
        let text = "left: the session still brings results home and removes the sandbox by itself; \
                    `skync status` shows whether it is there";
        let _ = self.view.note(text);
        self.view.close();
        ExitCode::Interrupted
    }

    async fn finish(self, finished: Finished) -> Result<ExitCode, CliError> {
        self.view.close();
        follow::say_kept(&finished, self.context);
        self.connection.goodbye(&finished.ending).await;
        if let Some(error) = self.failure {
            return Err(error);
        }
        if self.context.json {
            let document = json!({
                "schema_version": 1,
                "event": "finished",
                "ok": true,
                "ended": !finished.ending.is_empty(),
                "kept": finished.kept,
                "goes_on": finished.goes_on,
            });
            print(&format!("{document}\n"))?;
        } else if !finished.goes_on.is_empty() {
            self.context.tell(&visible(&finished.goes_on));
        } else if !finished.ending.is_empty() {
            self.context.tell("the mirror has ended and its sandbox is gone");
        }
        Ok(if finished.kept.is_empty() { ExitCode::Done } else { ExitCode::Conflict })
    }

    fn lost(self) -> CliError {
        self.view.close();
        self.failure.unwrap_or_else(|| {
            CliError::new(ExitCode::Failed, "the session ended under the mirror")
                .hint(
                    "both sides are as they were last carried over; `skync up` goes on from there",
                )
                .hint("its log is `session.log` in the state directory")
        })
    }
}
