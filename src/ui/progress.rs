//! Tells a waiting person what is going on, on stderr only.
//!
//! On a terminal a line that changes and then vanishes; elsewhere one plain line per step. It
//! decides nothing and never fails: progress that cannot be shown is not shown.

use std::io::IsTerminal;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::render::Style;
use super::status_view::{count, size};
use super::{say, visible};
use crate::commands::Context;

/// How often the spinner turns: fast enough to look alive, slow enough to cost nothing.
const TICK: Duration = Duration::from_millis(120);
/// How often the line is drawn at most, per second.
const DRAW_HZ: u8 = 15;
/// Between two plain lines of one transfer.
const PLAIN_INTERVAL: Duration = Duration::from_secs(10);

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// A line that changes in place.
    Live,
    /// One line per step.
    Plain,
    /// Not at all.
    Silent,
}

/// Shows progress; cheap to call often. What is on the screen vanishes when it is dropped.
pub struct Progress {
    manner: Manner,
    /// Notes that warn are shown all the same: who said `-q` once.
    warns: bool,
    // Drivers report from any task, and what is shown depends on what was shown before.
    shown: Mutex<Shown>,
}

/// What is on the screen.
#[derive(Default)]
struct Shown {
    step: String,
    template: Option<Template>,
    // A new one after each clearing: one that was cleared draws itself when it is reset.
    bar: Option<ProgressBar>,
    // Of a transfer.
    told: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Template {
    Step,
    Bytes,
    BytesOf,
    Files,
    FilesOf,
    Transfer,
    Status,
}

impl Template {
    fn text(self) -> &'static str {
        match self {
            Self::Step => "{spinner} {wide_msg}",
            Self::Bytes => "{spinner} {wide_msg} {bytes} {binary_bytes_per_sec}",
            Self::BytesOf => {
                "{spinner} {wide_msg} {bar:16} {bytes}/{total_bytes} {binary_bytes_per_sec}"
            }
            Self::Files => "{spinner} {wide_msg} {human_pos} files",
            Self::FilesOf => "{spinner} {wide_msg} {bar:16} {human_pos}/{human_len} files",
            Self::Transfer => {
                "{spinner} {wide_msg} {bar:16} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}"
            }
            Self::Status => "{wide_msg}",
        }
    }
}

impl Progress {
    /// Decides by the context and the terminal how progress is shown.
    pub fn new(context: &Context) -> Self {
        let variable = |name: &str| std::env::var(name).ok();
        let terminal = std::io::stderr().is_terminal();
        let manner = manner(context.json, context.quiet, context.verbose, variable, terminal);
        let mut progress = Self::with(manner);
        progress.warns = !context.json && context.quiet == 1;
        progress
    }

    /// Shows nothing.
    pub fn silent() -> Self {
        Self::with(Manner::Silent)
    }

    fn with(manner: Manner) -> Self {
        Self { manner, warns: false, shown: Mutex::default() }
    }

    /// A line can change in place.
    pub fn is_live(&self) -> bool {
        self.manner == Manner::Live
    }

    /// A new thing is being done, as in ``pulling `python:3.12` ``.
    pub fn step(&self, text: &str) {
        let text = visible(text);
        let mut shown = self.shown();
        if shown.step == text {
            return;
        }
        shown.step.clone_from(&text);
        match self.manner {
            Manner::Live => {
                let bar = shown.bar(Template::Step);
                bar.set_message(text);
                bar.set_position(0);
                bar.enable_steady_tick(TICK);
            }
            Manner::Plain => say(&text),
            Manner::Silent => {}
        }
    }

    /// Bytes of the step that are done, and in all if that is known.
    pub fn bytes(&self, done: u64, total: Option<u64>) {
        let template = if total.is_some() { Template::BytesOf } else { Template::Bytes };
        self.count(template, done, total);
    }

    /// Files of the step that are done, and in all if that is known.
    pub fn files(&self, done: u64, total: Option<u64>) {
        let template = if total.is_some() { Template::FilesOf } else { Template::Files };
        self.count(template, done, total);
    }

    /// Files and bytes of a transfer that are over, each as done and in all.
    pub fn transfer(&self, files: (u64, u64), bytes: (u64, u64)) {
        let mut shown = self.shown();
        match self.manner {
            Manner::Live => {
                let text = format!("syncing {}/{} files", count(files.0), count(files.1));
                shown.step.clone_from(&text);
                let bar = shown.bar(Template::Transfer);
                bar.set_length(bytes.1);
                bar.set_position(bytes.0);
                bar.set_message(text);
                bar.enable_steady_tick(TICK);
            }
            Manner::Plain => {
                let now = Instant::now();
                // A transfer that is soon over needs no line.
                if now.duration_since(*shown.told.get_or_insert(now)) >= PLAIN_INTERVAL {
                    shown.told = Some(now);
                    let (done, total) = (size(bytes.0), size(bytes.1));
                    let (files, files_total) = (count(files.0), count(files.1));
                    say(&format!("syncing: {files} of {files_total} files, {done} of {total}"));
                }
            }
            Manner::Silent => {}
        }
    }

    /// How things are, on a line that stays where it is; nothing off a terminal.
    pub fn status(&self, text: &str) {
        if self.manner != Manner::Live {
            return;
        }
        let text = visible(text);
        let mut shown = self.shown();
        shown.step.clone_from(&text);
        let bar = shown.bar(Template::Status);
        // Nothing turns: a view of what is quiet costs nothing.
        bar.disable_steady_tick();
        bar.set_message(text);
        bar.tick();
    }

    /// A line that stays.
    pub fn note(&self, text: &str) {
        let text = visible(text);
        let shown = self.shown();
        match (self.manner, &shown.bar) {
            (Manner::Live, Some(bar)) => bar.suspend(|| say(&text)),
            (Manner::Live, None) | (Manner::Plain, _) => say(&text),
            (Manner::Silent, _) if self.warns && text.starts_with("warning: ") => say(&text),
            (Manner::Silent, _) => {}
        }
    }

    /// A line that stays, of something beside the matter.
    pub fn aside(&self, text: &str, style: Style) {
        let text = style.dim(&visible(text));
        let shown = self.shown();
        match &shown.bar {
            Some(bar) => bar.suspend(|| say(&text)),
            None => say(&text),
        }
    }

    /// Takes away what is on the screen; a later step shows itself again.
    pub fn clear(&self) {
        let shown = std::mem::take(&mut *self.shown());
        if let Some(bar) = shown.bar {
            bar.disable_steady_tick();
            bar.finish_and_clear();
        }
    }

    fn count(&self, template: Template, done: u64, total: Option<u64>) {
        if self.manner != Manner::Live {
            return;
        }
        let mut shown = self.shown();
        let bar = shown.bar(template);
        if let Some(total) = total {
            bar.set_length(total);
        }
        bar.set_position(done);
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Shown {
    /// The bar, looking like this.
    fn bar(&mut self, template: Template) -> &ProgressBar {
        let bar = self.bar.get_or_insert_with(|| {
            let target = ProgressDrawTarget::stderr_with_hz(DRAW_HZ);
            ProgressBar::with_draw_target(None, target)
        });
        if self.template != Some(template) {
            self.template = Some(template);
            // The templates are constants; one that does not parse is seen by the test below.
            if let Ok(style) = ProgressStyle::with_template(template.text()) {
                bar.set_style(style);
            }
        }
        bar
    }
}

/// A program (`json`) and a user who asked for quiet get none; a log (`verbose`, CI, no terminal)
/// gets lines.
fn manner(
    json: bool,
    quiet: u8,
    verbose: u8,
    variable: impl Fn(&str) -> Option<String>,
    terminal: bool,
) -> Manner {
    if json || quiet > 0 {
        Manner::Silent
    } else if terminal && is_movable(variable) && verbose == 0 {
        Manner::Live
    } else {
        Manner::Plain
    }
}

/// By the environment, a person watches, at a terminal on which things can change in place.
pub fn is_movable(variable: impl Fn(&str) -> Option<String>) -> bool {
    let ci = variable("CI").is_some_and(|ci| !matches!(ci.as_str(), "" | "0" | "false"));
    let dumb = variable("TERM").is_some_and(|term| term == "dumb");
    !ci && !dumb
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_for_terminals_only() {
        let none = |_: &str| None;
        let ci = |name: &str| (name == "CI").then(|| "true".to_owned());
        let dumb = |name: &str| (name == "TERM").then(|| "dumb".to_owned());
        assert_eq!(manner(false, 0, 0, none, true), Manner::Live);
        assert_eq!(manner(false, 0, 0, none, false), Manner::Plain);
        assert_eq!(manner(false, 0, 0, ci, true), Manner::Plain);
        assert_eq!(manner(false, 0, 0, dumb, true), Manner::Plain);
        assert_eq!(manner(false, 0, 1, none, true), Manner::Plain);
        assert_eq!(manner(false, 1, 0, none, true), Manner::Silent);
        assert_eq!(manner(true, 0, 0, none, true), Manner::Silent);
    }

    #[test]
    fn every_template_parses() {
        use Template::{Bytes, BytesOf, Files, FilesOf, Status, Step, Transfer};
        for template in [Step, Bytes, BytesOf, Files, FilesOf, Transfer, Status] {
            assert!(ProgressStyle::with_template(template.text()).is_ok(), "{}", template.text());
        }
    }

    #[test]
    fn progress_can_be_shared_and_used_after_it_was_cleared() {
        let progress = Progress::silent();
        std::thread::scope(|threads| {
            threads.spawn(|| progress.step("a"));
            threads.spawn(|| progress.bytes(1, Some(2)));
        });
        progress.clear();
        progress.files(1, None);
        progress.step("b");
        assert_eq!(progress.shown().step, "b");
    }
}
