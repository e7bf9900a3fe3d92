//! `skync status --watch` at a terminal: feeds the view ([`crate::ui::watch`]), and does what it wants.
//!
//! One loop owns everything and waits for nothing but the next event: whatever takes time is a task
//! or a thread of its own, which the end of the process ends. So a key that leaves does so at once,
//! whatever the session does.

mod effects;
mod screen;
mod sessions;

use std::io::IsTerminal;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::cli::StatusArgs;
use crate::commands::attached::signals::{Signalled, Signals, stop_here};
use crate::commands::operations::now_ms;
use crate::commands::{Context, find_project, no_session};
use crate::error::{CliError, ExitCode};
use crate::session::proto::StatusReply;
use crate::ui::watch::keys::Keys;
use crate::ui::watch::model::{Effect, Input, Model, Name};
use crate::ui::{print, progress, status_view, visible};
use effects::Effects;
use screen::Screen;

/// Events that wait for the loop.
const EVENTS_WAITING_MAX: usize = 64;
/// A look for other sessions keeps nobody from leaving for longer.
const LOOK_PATIENCE: Duration = Duration::from_millis(500);
/// A key that begins like a longer one is itself when nothing has followed for so long.
const ESCAPE_PATIENCE: Duration = Duration::from_millis(50);

/// Something that a task has to say.
pub(super) enum Event {
    /// For the view.
    Input(Box<Input>),
    /// The session has ended for good.
    Ended,
}

/// Events, each with the number of the session that it is about: the view may show another one by
/// now.
type Told = mpsc::Sender<(u64, Event)>;

/// Whether this is to be a view: a person sits at a terminal, and wants no lines.
pub(super) fn is_wanted(args: &StatusArgs, context: &Context) -> bool {
    let is_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let wants_lines = args.plain || context.json || context.quiet > 0 || context.verbose > 0;
    is_terminal && !wants_lines && progress::is_movable(|name| std::env::var(name).ok())
}

/// Shows the view until it is left, or the session has ended.
///
/// # Errors
/// If there is no session, or the terminal cannot be used.
pub(super) async fn run(args: &StatusArgs, context: &Context) -> Result<ExitCode, CliError> {
    let own = Name {
        profile: context.profile_name(args.root.as_deref())?,
        root: find_project(args.root.as_deref(), true)?.root,
    };
    let names = sessions::all(context, &own).await?;
    let is_own = names.first() == Some(&own);
    if names.is_empty() || (args.root.is_some() && !is_own) {
        return Err(no_session());
    }
    let failed = |error: std::io::Error| {
        CliError::new(ExitCode::Failed, "cannot use the terminal")
            .because(&error)
            .hint("`--plain` shows lines instead")
    };
    let mut signals = Signals::new()?;
    signals.take_stop()?;
    let screen = Screen::open(context.style.color).map_err(failed)?;
    let (tell, events) = mpsc::channel(EVENTS_WAITING_MAX);
    let view = View {
        context,
        own,
        model: Model::new(context.style.color),
        screen,
        keys: Keys::default(),
        signals,
        effects: Effects::new(context.clone(), tell),
        events,
        names,
        is_hurt: false,
    };
    let end = view.run().await;
    // The terminal is as it was.
    match end {
        End::Left => Ok(ExitCode::Done),
        End::Signalled => Ok(ExitCode::Interrupted),
        End::Gone(status) => {
            if let Some((name, status)) = status {
                let line = status_view::line(&status);
                let head = format!("{} ({})", name.root.display(), name.profile);
                print(&format!("{}\n", visible(&format!("{head}: {line}"))))?;
            }
            context.tell("the session has ended");
            Ok(ExitCode::Done)
        }
        End::Broken => {
            Err(CliError::new(ExitCode::Failed, "the view failed; this is a mistake in skync")
                .hint("`skync status --watch --plain` shows lines instead"))
        }
    }
}

/// Why the view is over.
enum End {
    /// A person has left it, or closed the terminal.
    Left,
    /// A signal ended it.
    Signalled,
    /// The session has ended; what it said last.
    Gone(Option<(Name, Box<StatusReply>)>),
    /// There was a panic somewhere.
    Broken,
}

/// The view and all that it needs.
struct View<'a> {
    context: &'a Context,
    own: Name,
    model: Model,
    screen: Screen,
    keys: Keys,
    signals: Signals,
    effects: Effects,
    events: mpsc::Receiver<(u64, Event)>,
    names: Vec<Name>,
    /// What is shown is not what is known.
    is_hurt: bool,
}

impl View<'_> {
    async fn run(mut self) -> End {
        self.model.handle(Input::Sessions(self.names.clone(), 0), now_ms());
        self.effects.follow(&self.names[0]);
        self.is_hurt = true;
        let mut tick = Instant::now();
        loop {
            if !self.screen.is_on() {
                return End::Broken;
            }
            if std::mem::take(&mut self.is_hurt) {
                self.screen.draw(&self.model, now_ms());
            }
            let due = tick + Duration::from_millis(self.model.tick_ms());
            let key_due = async {
                match self.keys.is_open() {
                    true => tokio::time::sleep(ESCAPE_PATIENCE).await,
                    false => std::future::pending().await,
                }
            };
            let end = tokio::select! {
                typed = self.screen.typed() => match typed {
                    Some(bytes) => self.pressed(&bytes),
                    None => Some(End::Left),
                },
                () = key_due => {
                    let key = self.keys.rest();
                    key.and_then(|key| self.feed(Input::Key(key)))
                }
                is_there = self.screen.written() => {
                    self.is_hurt |= self.screen.is_late();
                    (!is_there).then_some(End::Left)
                }
                signal = self.signals.next() => self.signalled(signal),
                Some((number, event)) = self.events.recv() => self.heard(number, event).await,
                () = tokio::time::sleep_until(due) => {
                    tick = Instant::now();
                    self.feed(Input::Tick)
                }
            };
            if let Some(end) = end {
                return end;
            }
        }
    }

    fn pressed(&mut self, bytes: &[u8]) -> Option<End> {
        for key in self.keys.feed(bytes) {
            let end = self.feed(Input::Key(key));
            if end.is_some() {
                return end;
            }
        }
        None
    }

    async fn heard(&mut self, number: u64, event: Event) -> Option<End> {
        if number != self.effects.number() {
            return None;
        }
        match event {
            Event::Input(input) => self.feed(*input),
            Event::Ended => {
                let ended = self.effects.name().cloned();
                // Others go on, and may be what a person wants to see now.
                let others = sessions::all(self.context, &self.own);
                let others = tokio::time::timeout(LOOK_PATIENCE, others).await;
                let names = others.map(Result::unwrap_or_default).unwrap_or_default();
                let is_first = ended.as_ref() == Some(&self.own);
                if is_first || names.is_empty() {
                    return Some(End::Gone(ended.zip(self.model.take_status())));
                }
                self.names = names;
                self.model.handle(Input::Sessions(self.names.clone(), 0), now_ms());
                self.choose(0);
                None
            }
        }
    }

    fn signalled(&mut self, signal: Signalled) -> Option<End> {
        match signal {
            Signalled::Interrupted => return Some(End::Left),
            Signalled::Told(_) | Signalled::Pass(_) => return Some(End::Signalled),
            Signalled::Resized => self.screen.resized(),
            Signalled::Continued => self.screen.resume(),
            Signalled::Stop => {
                self.screen.pause();
                stop_here();
                self.screen.resume();
            }
        }
        self.is_hurt = true;
        None
    }

    fn choose(&mut self, at: usize) {
        if let Some(name) = self.names.get(at) {
            self.effects.follow(name);
        }
    }

    /// Gives the view an input, and does what it wants.
    fn feed(&mut self, input: Input) -> Option<End> {
        self.is_hurt = true;
        for effect in self.model.handle(input, now_ms()) {
            match effect {
                Effect::Leave => return Some(End::Left),
                Effect::Suspend => suspend(),
                Effect::Repaint => self.screen.repaint(),
                Effect::Choose(at) => self.choose(at),
                other => self.effects.begin(other),
            }
        }
        None
    }
}

/// Does what Ctrl-Z does at a terminal that is not raw: the whole job stops; we do when we are told,
/// as the others. Where no shell looks after jobs, nobody could let us go on.
fn suspend() {
    use rustix::process::{Signal, getpid, getppid, getsid, kill_current_process_group};
    let session = getsid(None).ok();
    let of_parent = getppid().and_then(|parent| getsid(Some(parent)).ok());
    if session != Some(getpid()) && session == of_parent {
        let _ = kill_current_process_group(Signal::TSTP);
    }
}
