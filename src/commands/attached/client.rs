//! The loop of a client: one thing happens, and is answered, at a time. What a person does is answered
//! in [`person`], what the session says here.

mod person;

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::dial::{Backoff, Line, Said, dial};
use super::input::Stdin;
use super::interrupts::Interrupts;
use super::link::{Broken, LinkTalk, Told};
use super::output::{Piece, TOLD_INTERVAL, Writer};
use super::signals::{Signalled, Signals};
use super::{First, Left, Outcome, Role, Wanted, terminal_size, voice};
use crate::commands::{Context, follow, setup};
use crate::error::{CliError, ExitCode, MISTAKE};
use crate::session::Spec;
use crate::session::proto::exec_request::Request;
use crate::session::proto::join::From;
use crate::session::proto::session_event::Event;
use crate::session::proto::{
    ControlRequest, Finished, Gap, Join, LinkNews, Output, Progress as Step, SetupNews, Started,
};
use crate::ui::progress::Progress;
use crate::ui::terminal::escape::Escapes;
use crate::ui::terminal::screen::Screen;
use crate::ui::terminal::{RawMode, StatusLine};
use crate::ui::{say, visible};

/// A step that takes longer is told, also off a terminal.
const LONG: Duration = Duration::from_secs(2);
/// How often a session that ends before the command has started is followed by another one.
const BEGINNINGS_MAX: u32 = 3;

/// Is a client until the command has ended, or the client leaves.
///
/// # Errors
/// What kept it from ever being one.
pub(in crate::commands) async fn run(
    context: &Context,
    spec: &Spec,
    wanted: Wanted,
) -> Result<Outcome, CliError> {
    let mut signals = Signals::new()?;
    let mut client = Client::new(context, spec, wanted);
    let over = client.follow(&mut signals).await;
    client.finish(over?, &mut signals).await
}

/// What ended the loop.
enum Over {
    Finished(Box<Finished>),
    Left(Left),
}

/// What happens.
enum Happening {
    Signal(Signalled),
    Said(Said),
    Typed(Option<Vec<u8>>),
    Written,
    Answer(String),
    Tick,
}

struct Client<'a> {
    context: &'a Context,
    spec: &'a Spec,
    wanted: Wanted,
    line: Line,
    backoff: Backoff,
    /// The command has started, and this session has said so.
    is_attached: bool,
    started: Option<Started>,
    /// All output below this offset has been received.
    received: u64,
    exit: Option<crate::session::proto::Exit>,
    failure: Option<CliError>,
    stdin: Stdin,
    writer: Writer,
    raw: Option<RawMode>,
    /// What the command has switched on at the terminal.
    screen: Screen,
    interrupts: Interrupts,
    /// Wishes for a session that was not there.
    unsaid: Vec<ControlRequest>,
    /// We were told to end before.
    is_told: bool,
    progress: Progress,
    status: StatusLine,
    talk: LinkTalk,
    /// A step that is told once it has taken long. Off a terminal stderr is the command's own, and
    /// a script that reads it should not find our talk there without need.
    pending: Option<(Instant, String)>,
    /// Steps are told as they begin: on a terminal they vanish again, and with `-v` they are wanted.
    at_once: bool,
    /// When what was written out is told at the latest.
    taken_at: Option<Instant>,
    setup: setup::Lines,
    answers: (mpsc::UnboundedSender<String>, mpsc::UnboundedReceiver<String>),
}

impl<'a> Client<'a> {
    fn new(context: &'a Context, spec: &'a Spec, wanted: Wanted) -> Self {
        let status = StatusLine::new(!context.json && context.quiet == 0);
        let talk = LinkTalk::new(status.is_live());
        let first = first(&wanted);
        Self {
            context,
            spec,
            line: Line::Dialling(dial(&context.places, spec, first, Duration::ZERO)),
            backoff: Backoff::new(wanted.reconnect),
            wanted,
            is_attached: false,
            started: None,
            received: 0,
            exit: None,
            failure: None,
            stdin: Stdin::new(),
            writer: Writer::start(),
            raw: None,
            screen: Screen::default(),
            interrupts: Interrupts::default(),
            unsaid: Vec::new(),
            is_told: false,
            progress: Progress::new(context),
            status,
            talk,
            pending: None,
            at_once: io::stderr().is_terminal() || context.verbose > 0,
            taken_at: None,
            setup: setup::Lines::default(),
            answers: mpsc::unbounded_channel(),
        }
    }

    async fn follow(&mut self, signals: &mut Signals) -> Result<Over, CliError> {
        loop {
            let over = match self.next(signals).await {
                Happening::Signal(signal) => self.signalled(signal),
                Happening::Said(said) => self.said(said, signals)?,
                Happening::Typed(piece) => self.typed(piece).await,
                Happening::Written => self.written(),
                Happening::Answer(line) => {
                    say(&line);
                    None
                }
                Happening::Tick => self.tick(),
            };
            if let Some(over) = over {
                return Ok(over);
            }
        }
    }

    async fn next(&mut self, signals: &mut Signals) -> Happening {
        let now = Instant::now();
        let pending = self.pending.as_ref().map(|(at, _)| *at);
        let times = [pending, self.talk.next_tick(now), self.taken_at];
        let tick = times.into_iter().flatten().min();
        let (types, is_full) = (self.stdin.is_wanted(), self.writer.is_full());
        tokio::select! {
            // Signals first: output may never pause, and its reader may have stopped.
            biased;
            signal = signals.next() => Happening::Signal(signal),
            typed = self.stdin.next(), if types => Happening::Typed(typed),
            () = self.writer.written() => Happening::Written,
            said = self.line.next(), if !is_full => Happening::Said(said),
            Some(answer) = self.answers.1.recv() => Happening::Answer(answer),
            () = until(tick) => Happening::Tick,
        }
    }

    /// What the session, or the lack of one, says.
    fn said(&mut self, said: Said, signals: &mut Signals) -> Result<Option<Over>, CliError> {
        match said {
            Said::Opened(Ok(open)) => {
                self.line = Line::Open(open);
                Ok(None)
            }
            // The first call of all: what is wrong is worth more than another try.
            Said::Opened(Err(error)) if self.started.is_none() => Err(error),
            Said::Opened(Err(error)) => Ok(self.redial(&error.to_string())),
            Said::Broken => {
                self.is_attached = false;
                Ok(self.redial(""))
            }
            Said::Event(event) => match event.event {
                Some(Event::Finished(finished)) => Ok(Some(Over::Finished(Box::new(finished)))),
                Some(event) => self.event(event, signals),
                None => Ok(None),
            },
        }
    }

    /// Looks for another session. The same first words come again: they say the same.
    fn redial(&mut self, why: &str) -> Option<Over> {
        let lost = Some(Over::Left(Left::Lost));
        let has_started = self.started.is_some();
        if self.wanted.detach && has_started {
            return lost;
        }
        if !has_started && self.backoff.tries() >= BEGINNINGS_MAX {
            return lost;
        }
        let mut random = [0; 8];
        let _ = getrandom::fill(&mut random);
        let now = Instant::now();
        let Some(wait) = self.backoff.next(now, u64::from_ne_bytes(random)) else { return lost };
        let request = if has_started { self.rejoin() } else { first(&self.wanted) };
        self.line = Line::Dialling(dial(&self.context.places, self.spec, request, wait));
        if has_started {
            let lost_for = self.talk.lost_for(now).unwrap_or_default();
            self.link_news(
                Broken::Session,
                &LinkNews {
                    up: false,
                    lost_ms: crate::config::quantity::milliseconds(lost_for),
                    retry_ms: crate::config::quantity::milliseconds(wait),
                    why: why.to_owned(),
                },
            );
        }
        None
    }

    /// Joins where this client is.
    fn rejoin(&self) -> Request {
        let (attachment, terminal) = match &self.wanted.first {
            First::Begin(begin) => (begin.attachment, begin.terminal),
            First::Join(join) => (join.attachment, join.terminal),
        };
        Request::Join(Join {
            id: self.wanted.id.to_vec(),
            from: Some(From::Offset(self.received)),
            input: self.wanted.role == Role::Owner,
            terminal: terminal.map(|_| terminal_size()),
            wait: self.wanted.role == Role::Waiter,
            attachment,
            ..Join::default()
        })
    }

    fn event(&mut self, event: Event, signals: &mut Signals) -> Result<Option<Over>, CliError> {
        match event {
            Event::Progress(progress) => self.step(progress),
            Event::Started(started) => self.attached(started, signals)?,
            Event::Output(output) => return Ok(self.output(output)),
            Event::Gap(gap) => self.gap(&gap),
            Event::Exit(exit) => {
                self.exit = Some(exit);
                self.raw_until_written();
            }
            Event::Failure(failure) => self.failure = Some(follow::error_of(failure)),
            Event::Note(text) => self.note(&text),
            Event::Setup(news) => self.setup(&news),
            Event::InputTaken(offset) => self.stdin.arrived(offset),
            Event::Link(news) => self.link_news(Broken::Link, &news),
            Event::Evicted(true) => self.evicted(),
            Event::Evicted(false) | Event::Finished(_) | Event::Status(_) | Event::Moved(_) => {}
        }
        Ok(None)
    }

    fn step(&mut self, step: Step) {
        // The command has the terminal.
        if self.raw.is_some() {
            return;
        }
        if !step.step.is_empty() {
            let at = Instant::now() + if self.at_once { Duration::ZERO } else { LONG };
            let is_known = self.pending.as_ref().is_some_and(|(_, known)| *known == step.step);
            if !is_known {
                self.pending = Some((at, step.step));
            }
        }
        if step.total > 0 || step.done > 0 {
            self.progress.bytes(step.done, (step.total > 0).then_some(step.total));
        }
    }

    /// The command runs, and we are attached to it; for the first time, or again.
    fn attached(&mut self, started: Started, signals: &mut Signals) -> Result<(), CliError> {
        self.pending = None;
        self.progress.clear();
        self.is_attached = true;
        self.backoff.reset();
        let told = self.talk.found(Instant::now());
        self.tell(told);
        let is_first = self.started.is_none();
        if is_first {
            self.received = started.output_offset;
            self.writer.begin(started.output_offset);
            if self.context.json {
                self.document(&voice::started(&started, self.wanted.id));
            }
            if self.wanted.role == Role::Owner && !self.wanted.detach {
                self.take_terminal(&started, signals)?;
            }
        } else {
            if self.raw.is_some() {
                self.line.say(Request::Resize(terminal_size()));
            }
            for input in self.stdin.again(started.input_offset) {
                self.line.say(Request::Input(input));
            }
            for stream in self.writer.closed_again() {
                self.line.say(Request::Close(stream));
            }
            self.say_unsaid();
        }
        self.started = Some(started);
        Ok(())
    }

    /// From here on standard input is the command's.
    fn take_terminal(&mut self, started: &Started, signals: &mut Signals) -> Result<(), CliError> {
        let is_terminal = io::stdin().is_terminal();
        if started.terminal && is_terminal {
            signals.take_stop()?;
            let raw = RawMode::enter().map_err(|error| {
                CliError::new(ExitCode::Failed, "cannot use the terminal")
                    .because(&error)
                    .hint("`skync ps` shows what runs, `skync logs -f` what it says")
                    .hint("`skync exec --no-tty` takes no terminal")
            });
            self.raw = Some(raw?);
            // It may have changed since it was sent.
            self.line.say(Request::Resize(terminal_size()));
            self.talk.has_escapes(true);
        }
        // A person without a raw terminal has lines, and may want to leave too.
        let escapes = is_terminal.then(|| Escapes::new(self.raw.is_none()));
        self.stdin.start(started.input_offset, escapes);
        Ok(())
    }

    fn output(&mut self, mut output: Output) -> Option<Over> {
        let end = output.offset + output.data.len() as u64;
        if output.offset > self.received {
            let (from, to) = (self.received, output.offset);
            let message = format!("output is missing without a word, from byte {from} to {to}");
            self.failure = Some(CliError::new(ExitCode::OutcomeUnknown, message).hint(MISTAKE));
            return Some(Over::Left(Left::Lost));
        }
        let known = usize::try_from(self.received - output.offset).unwrap_or(usize::MAX);
        if known >= output.data.len() {
            return None;
        }
        output.data = output.data.split_off(known);
        output.offset = self.received;
        self.received = end;
        if self.raw.is_some() {
            self.screen.see(&output.data);
        }
        if self.context.json {
            let line = format!("{}\n", voice::output(&output));
            // The line is its output: what a program has read of it, it has.
            let piece = Piece::Output { stream: 0, data: line.into(), end };
            self.writer.push(piece);
        } else {
            self.writer.push(Piece::Output { stream: output.stream, data: output.data, end });
        }
        None
    }

    fn gap(&mut self, gap: &Gap) {
        if gap.to <= self.received {
            return;
        }
        let missing = gap.to - gap.from.max(self.received);
        self.received = gap.to;
        if self.context.json {
            self.document(&voice::gap(gap));
        } else {
            let line = format!("[skync: {missing} bytes of output were not kept]\n");
            self.writer.push(Piece::Output { stream: 1, data: line.into(), end: gap.to });
        }
    }

    fn note(&mut self, text: &str) {
        if self.context.json {
            self.document(&voice::note(text));
        } else if self.context.quiet < 2 {
            self.progress.clear();
            say(&visible(text));
        }
    }

    fn setup(&mut self, news: &SetupNews) {
        self.pending = None;
        if self.context.json {
            self.document(&setup::document(news));
        } else {
            self.setup.show(news, &self.progress, self.context);
        }
    }

    fn link_news(&mut self, what: Broken, news: &LinkNews) {
        let now = Instant::now();
        if self.context.json {
            let is_new = self.talk.lost_for(now).is_none();
            let word = match (news.up, is_new) {
                (true, _) => "resumed",
                (false, true) => "lost",
                (false, false) => "retry",
            };
            self.document(&voice::link(word, news));
        }
        let told = if news.up {
            self.talk.found(now)
        } else {
            let ms = Duration::from_millis;
            self.talk.lost(what, ms(news.lost_ms), ms(news.retry_ms), &visible(&news.why), now);
            self.talk.tick(now)
        };
        self.tell(told);
    }

    fn tell(&mut self, told: Option<Told>) {
        match told {
            Some(Told::Shown(text)) => self.status.show(&text),
            Some(Told::Cleared) => self.status.clear(),
            // A program was told in its own way.
            Some(Told::Line(text)) if !self.context.json && self.context.quiet == 0 => say(&text),
            Some(Told::Line(_)) | None => {}
        }
    }

    fn evicted(&mut self) {
        self.stdin.stop();
        self.leave_terminal();
        self.wanted.role = Role::Viewer;
        self.talk.has_escapes(false);
        self.note("another client has the input now; this one only watches, Ctrl-C leaves");
    }

    fn document(&mut self, document: &serde_json::Value) {
        // Who only starts it wants one document, at the end.
        if self.wanted.detach {
            return;
        }
        self.writer.push(Piece::Line(format!("{document}\n")));
    }

    /// Something was written out.
    fn written(&mut self) -> Option<Over> {
        if self.wanted.role == Role::Owner {
            for stream in self.writer.closed() {
                self.line.say(Request::Close(stream));
            }
        } else if !self.writer.closed().is_empty() {
            // Who only watches has seen enough.
            return Some(Over::Left(Left::Interrupted));
        }
        self.tell_taken(false);
        if self.writer.has_news() && self.taken_at.is_none() {
            self.taken_at = Some(Instant::now() + TOLD_INTERVAL);
        }
        if self.exit.is_some() {
            self.raw_until_written();
        }
        None
    }

    fn tell_taken(&mut self, all: bool) {
        // Who only watches takes nothing away from anybody. What is not told to a session that is
        // gone is told to the next with the first thing that is written then.
        if let Some(offset) = self.writer.taken(all) {
            self.taken_at = None;
            if self.wanted.role == Role::Owner {
                self.line.say(Request::Taken(offset));
            }
        }
    }

    /// The command has ended: the terminal is ours again once all that it wrote is out.
    fn raw_until_written(&mut self) {
        if self.writer.is_through() {
            self.leave_terminal();
        }
    }

    /// The terminal is the shell's again, as it was: a command that is left, or was killed, in the
    /// middle of a full-screen program does not see to that.
    fn leave_terminal(&mut self) {
        if self.raw.take().is_some() {
            let undo = self.screen.undo();
            let mut out = io::stdout().lock();
            let _ = out.write_all(undo.as_bytes()).and_then(|()| out.flush());
        }
    }

    fn tick(&mut self) -> Option<Over> {
        let now = Instant::now();
        let is_due = |at: Instant| at <= now;
        if let Some((_, step)) = self.pending.take_if(|(at, _)| is_due(*at)) {
            self.progress.step(&step);
        }
        if self.taken_at.take_if(|at| is_due(*at)).is_some() {
            self.tell_taken(true);
        }
        let told = self.talk.tick(now);
        self.tell(told);
        None
    }

    /// All that the command wrote is out before anything else is said.
    async fn finish(mut self, over: Over, signals: &mut Signals) -> Result<Outcome, CliError> {
        self.progress.clear();
        self.status.clear();
        let (finished, left) = match over {
            Over::Finished(finished) => (Some(*finished), None),
            Over::Left(left) => (None, Some(left)),
        };
        if matches!(left, None | Some(Left::Lost)) {
            tokio::select! {
                () = self.writer.finish() => self.tell_taken(true),
                // The command is through; only who reads its output is not.
                () = signals.told_to_go() => {}
            }
        }
        self.leave_terminal();
        if let Line::Open(open) = self.line {
            // The session that ends waits for the end of our words.
            drop((open.requests, open.controls, open.events));
            if let Some(finished) = &finished {
                open.connection.goodbye(&finished.ending).await;
            }
        }
        let (started, exit, failure) = (self.started, self.exit, self.failure);
        Ok(Outcome { id: self.wanted.id, started, exit, failure, finished, left })
    }
}

/// The first words, with the size that the terminal has now.
fn first(wanted: &Wanted) -> Request {
    match &wanted.first {
        First::Begin(begin) => {
            let mut begin = (**begin).clone();
            begin.terminal = begin.terminal.map(|_| terminal_size());
            Request::Begin(begin)
        }
        First::Join(join) => {
            let mut join = (**join).clone();
            join.terminal = join.terminal.map(|_| terminal_size());
            Request::Join(join)
        }
    }
}

/// Returns at that time; never, if there is none.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
