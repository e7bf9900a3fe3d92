//! What the view knows, and what becomes of it: inputs in, effects out. The time is an argument.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;

use super::keys::Key;
use super::output::Output;
use crate::session::proto::{LogLine, Operation, StatusReply};
use crate::sync::decide::Choice;
use crate::sync::plan::Conflict;
use crate::ui::status_view;

/// How long what became of something is shown, milliseconds.
const NOTICE_MS: u64 = 8_000;
/// Lines of the log that are kept.
const LOG_MAX: usize = 200;
/// Looks at a transfer that its rate is taken from.
const SAMPLES_MAX: usize = 20;
/// What changes with the time alone is drawn again this often: something runs, or is waited for …
const TICK_BUSY_MS: u64 = 1_000;
/// … or nothing is.
const TICK_MS: u64 = 10_000;

/// A session, as a person tells it from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The project.
    pub root: PathBuf,
    /// The profile's name.
    pub profile: String,
}

/// What is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Panel {
    /// Where the sides disagree.
    Conflicts,
    /// Commands.
    Operations,
    /// What is, and was, carried over.
    Transfers,
    /// Where the sandbox is mounted.
    Mounts,
    /// What is left out.
    Problems,
    /// What happened.
    Log,
}

impl Panel {
    /// In the order in which Tab goes through them.
    pub const ALL: [Self; 6] = [
        Self::Conflicts,
        Self::Operations,
        Self::Transfers,
        Self::Mounts,
        Self::Problems,
        Self::Log,
    ];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Conflicts => "conflicts",
            Self::Operations => "commands",
            Self::Transfers => "transfers",
            Self::Mounts => "mounts",
            Self::Problems => "problems",
            Self::Log => "log",
        }
    }
}

/// Something that the view hears of.
#[derive(Clone, Debug)]
pub enum Input {
    /// A key.
    Key(Key),
    /// The sessions that there are, the project's own first, and which of them is shown.
    Sessions(Vec<Name>, usize),
    /// The session answers.
    Connected,
    /// The session has hung up, and is dialled again.
    Lost,
    /// What the session is and does.
    Status(Box<StatusReply>),
    /// What its operations are and use.
    Operations(Vec<Operation>),
    /// What became of an effect.
    Told(Told),
    /// Nothing but the time.
    Tick,
}

/// What became of an effect.
#[derive(Clone, Debug)]
pub enum Told {
    /// It is done; a sentence.
    Done(String),
    /// It is not, and why.
    Failed(String),
    /// How the versions of that conflict differ; the conflict as it was compared.
    Difference(String, Option<Box<Conflict>>, String),
    /// That operation has written this.
    Output(Vec<u8>, Vec<u8>),
    /// There is no more of it, and why.
    OutputEnd(Vec<u8>, String),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// The view is left.
    Leave,
    /// This process is stopped, as Ctrl-Z does.
    Suspend,
    /// All is drawn anew.
    Repaint,
    /// Nothing is to move.
    Pause,
    /// It goes on; with `true` what was halted is carried out.
    Resume(bool),
    /// All is to be carried over.
    Flush,
    /// The two versions of this path are compared.
    Difference(String),
    /// Conflicts are decided.
    Resolve(Which, Choice),
    /// The output of this operation is followed.
    Tail(Vec<u8>),
    /// No output is followed any more.
    EndTail,
    /// This operation is stopped.
    Cancel(Vec<u8>),
    /// Another session is shown.
    Choose(usize),
}

/// Which conflicts are decided.
#[derive(Clone, Debug, PartialEq)]
pub enum Which {
    /// The one at this path, as it is recorded now.
    Shown(String),
    /// Just this one: its versions were looked at.
    Seen(Box<Conflict>),
    /// All that are held back, or all that are not.
    AllLike {
        /// They are held back.
        guarded: bool,
    },
}

/// What lies over the panels.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Overlay {
    Help,
    /// A question that only `y` answers with yes.
    Confirm(Vec<String>, Effect),
    /// Whose version of all like the one that was chosen.
    All {
        guarded: bool,
        count: usize,
    },
    Difference {
        path: String,
        guarded: bool,
        seen: Option<Box<Conflict>>,
        /// Nothing until it is there.
        lines: Option<Vec<String>>,
        scroll: usize,
    },
    Tail {
        id: Vec<u8>,
        title: String,
        output: Output,
        /// Lines above the last one; the end is followed at 0.
        up: usize,
    },
}

/// What became of something, for a while.
#[derive(Clone, Debug)]
pub(super) struct Notice {
    pub(super) text: String,
    pub(super) is_bad: bool,
    until_ms: u64,
}

/// An operation's use of processors.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cpu {
    cpu_ms: u64,
    at_ms: u64,
    /// Of one processor; nothing before it was looked at twice.
    pub(super) percent: Option<u64>,
}

/// What the view knows.
#[derive(Debug, Default)]
pub struct Model {
    /// Colours are used.
    pub(super) is_colored: bool,
    pub(super) sessions: Vec<Name>,
    pub(super) shown: usize,
    /// Nothing before the first word.
    pub(super) status: Option<Box<StatusReply>>,
    /// Since when the session has not been reached, if it is not.
    pub(super) lost_ms: Option<u64>,
    pub(super) operations: Vec<Operation>,
    pub(super) cpu: BTreeMap<Vec<u8>, Cpu>,
    pub(super) log: VecDeque<LogLine>,
    pub(super) focus: usize,
    pub(super) cursor: [usize; Panel::ALL.len()],
    pub(super) overlay: Option<Overlay>,
    pub(super) notice: Option<Notice>,
    /// What is being decided.
    pub(super) deciding: BTreeMap<String, Choice>,
    /// When, and bytes of the transfer that were over.
    samples: VecDeque<(u64, u64)>,
    /// The newest line of the session's own log that was taken over.
    logged_ms: u64,
}

impl Model {
    /// Knows nothing yet.
    pub fn new(is_colored: bool) -> Self {
        Self { is_colored, ..Self::default() }
    }

    /// Takes an input; what is to be done, in order. `now_ms` since 1970.
    pub fn handle(&mut self, input: Input, now_ms: u64) -> Vec<Effect> {
        if self.notice.as_ref().is_some_and(|notice| notice.until_ms <= now_ms) {
            self.notice = None;
        }
        match input {
            Input::Key(key) => return self.key(key, now_ms),
            Input::Sessions(sessions, shown) => {
                let shown = shown.min(sessions.len().saturating_sub(1));
                // An open question must not be answered for another session.
                if self.sessions.get(self.shown) != sessions.get(shown) {
                    self.forget();
                }
                self.shown = shown;
                self.sessions = sessions;
            }
            Input::Connected => self.lost_ms = None,
            Input::Lost => {
                self.lost_ms.get_or_insert(now_ms);
            }
            Input::Status(status) => self.status_came(status, now_ms),
            Input::Operations(operations) => self.operations_came(operations, now_ms),
            Input::Told(told) => self.told(told, now_ms),
            Input::Tick => {}
        }
        Vec::new()
    }

    /// When the time alone changes what is shown, milliseconds from now.
    pub fn tick_ms(&self) -> u64 {
        let runs = |operation: &Operation| !operation.state().is_over();
        let link_is_lost =
            self.status.as_ref().is_some_and(|status| !status.link_up && status.link_since_ms > 0);
        let is_busy = self.operations.iter().any(runs)
            || self.notice.is_some()
            || self.lost_ms.is_some()
            || link_is_lost;
        if is_busy { TICK_BUSY_MS } else { TICK_MS }
    }

    /// A transfer, in bytes a second; nothing if there is none, or it has only begun.
    pub(super) fn rate(&self) -> Option<u64> {
        let (first, last) = (self.samples.front()?, self.samples.back()?);
        let ms = last.0.saturating_sub(first.0);
        (ms >= 200).then(|| last.1.saturating_sub(first.1).saturating_mul(1000) / ms)
    }

    /// What is known of the session that was shown is not true of another one.
    pub(super) fn forget(&mut self) {
        let Self { is_colored, sessions, shown, focus, notice, .. } = std::mem::take(self);
        *self = Self { is_colored, sessions, shown, focus, notice, ..Self::default() };
    }

    /// What the session said last; it is forgotten here.
    pub fn take_status(&mut self) -> Option<Box<StatusReply>> {
        self.status.take()
    }

    pub(super) fn panel(&self) -> Panel {
        Panel::ALL[self.focus]
    }

    /// Lines of a panel that can be chosen.
    pub(super) fn rows(&self, panel: Panel) -> usize {
        let of = |count: fn(&StatusReply) -> usize| self.status.as_deref().map_or(0, count);
        match panel {
            Panel::Conflicts => of(|status| status.conflicts.len()),
            Panel::Operations => self.operations.len(),
            Panel::Transfers => of(|status| status.recent.len()),
            Panel::Mounts => of(|status| status.mounts.len()),
            Panel::Problems => of(|status| status.problems.len()),
            Panel::Log => self.log.len(),
        }
    }

    pub(super) fn notify(&mut self, text: String, is_bad: bool, now_ms: u64) {
        self.notice = Some(Notice { text, is_bad, until_ms: now_ms + NOTICE_MS });
    }

    fn status_came(&mut self, status: Box<StatusReply>, now_ms: u64) {
        let chosen = self.chosen_conflict().map(|conflict| conflict.path.clone());
        let known = self.logged_ms;
        for line in status.log.iter().filter(|line| line.at_ms > known) {
            self.logged_ms = self.logged_ms.max(line.at_ms);
            self.log(line.clone());
        }
        for text in status_view::changes(self.status.as_deref(), &status) {
            self.log(LogLine { at_ms: now_ms, text });
        }
        match &status.progress {
            Some(progress) if progress.files_total > 0 || progress.bytes => {
                // Another transfer has begun.
                if self.samples.back().is_some_and(|last| last.1 > progress.done) {
                    self.samples.clear();
                }
                if self.samples.len() == SAMPLES_MAX {
                    self.samples.pop_front();
                }
                self.samples.push_back((now_ms, progress.done));
            }
            Some(_) | None => self.samples.clear(),
        }
        let still = |path: &String| status.conflicts.iter().any(|found| found.path == *path);
        self.deciding.retain(|path, _| still(path));
        if let Some(at) =
            chosen.and_then(|path| status.conflicts.iter().position(|found| found.path == path))
        {
            self.cursor[Panel::Conflicts as usize] = at;
        }
        self.status = Some(status);
        self.clamp();
    }

    fn operations_came(&mut self, operations: Vec<Operation>, now_ms: u64) {
        let chosen = self.chosen_operation().map(|operation| operation.id.clone());
        let mut cpu = BTreeMap::new();
        for operation in operations.iter().filter(|operation| operation.has_usage) {
            let before = self.cpu.get(&operation.id).copied();
            let percent = before.and_then(|before| {
                let ms = now_ms.saturating_sub(before.at_ms);
                let used = operation.cpu_ms.saturating_sub(before.cpu_ms);
                // Two looks at the same moment say nothing.
                if ms < 100 { before.percent } else { Some(used * 100 / ms) }
            });
            let now = Cpu { cpu_ms: operation.cpu_ms, at_ms: now_ms, percent };
            let is_same = before.filter(|before| now_ms.saturating_sub(before.at_ms) < 100);
            cpu.insert(operation.id.clone(), is_same.unwrap_or(now));
        }
        self.cpu = cpu;
        if let Some(at) =
            chosen.and_then(|id| operations.iter().position(|operation| operation.id == id))
        {
            self.cursor[Panel::Operations as usize] = at;
        }
        self.operations = operations;
        self.clamp();
    }

    fn told(&mut self, told: Told, now_ms: u64) {
        match told {
            Told::Done(text) => {
                self.deciding.clear();
                self.notify(text, false, now_ms);
            }
            Told::Failed(text) => {
                self.deciding.clear();
                self.notify(text, true, now_ms);
            }
            Told::Difference(of, as_seen, text) => {
                if let Some(Overlay::Difference { path, seen, lines, .. }) = &mut self.overlay
                    && *path == of
                {
                    *seen = as_seen;
                    *lines = Some(text.lines().map(|line| line.replace('\t', "    ")).collect());
                }
            }
            Told::Output(of, data) => {
                if let Some(Overlay::Tail { id, output, .. }) = &mut self.overlay
                    && *id == of
                {
                    output.add(&data);
                }
            }
            Told::OutputEnd(of, how) => {
                if let Some(Overlay::Tail { id, output, .. }) = &mut self.overlay
                    && *id == of
                {
                    output.push(format!("[skync: {how}]"));
                }
            }
        }
    }

    fn log(&mut self, line: LogLine) {
        if self.log.len() == LOG_MAX {
            self.log.pop_front();
        }
        // What two sources say at once is said once.
        let is_known = self.log.iter().rev().take(8).any(|known| known.text == line.text);
        if !is_known {
            self.log.push_back(line);
        }
    }

    fn clamp(&mut self) {
        for panel in Panel::ALL {
            let last = self.rows(panel).saturating_sub(1);
            let cursor = &mut self.cursor[panel as usize];
            *cursor = (*cursor).min(last);
        }
    }
}
