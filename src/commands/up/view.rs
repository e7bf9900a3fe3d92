//! Shows a mirror: on a terminal lines that stay above one that changes in place, elsewhere plain
//! lines, for a program one JSON object per line.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::commands::{Context, follow, setup, status};
use crate::error::CliError;
use crate::session::proto::{MovedBatch, Progress, SetupNews, State, StatusReply};
use crate::ui::{self, print, status_view};

/// Between two reports of progress for a program.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

/// What is shown.
pub(super) struct View<'a> {
    context: &'a Context,
    progress: ui::progress::Progress,
    last: Option<StatusReply>,
    /// A question stands where the line would be.
    is_asking: bool,
    /// The mirror is being ended: what it still does is not its state any more.
    is_ending: bool,
    progress_told: Option<Instant>,
    setup: setup::Lines,
}

impl<'a> View<'a> {
    pub(super) fn new(context: &'a Context) -> Self {
        Self {
            context,
            progress: ui::progress::Progress::new(context),
            last: None,
            is_asking: false,
            is_ending: false,
            progress_told: None,
            setup: setup::Lines::default(),
        }
    }

    pub(super) fn progress(&mut self, progress: &Progress) -> Result<(), CliError> {
        if !self.context.json {
            if !self.is_asking {
                follow::show(&self.progress, progress);
            }
            return Ok(());
        }
        let now = Instant::now();
        let told = self.progress_told.is_some_and(|at| now.duration_since(at) < PROGRESS_INTERVAL);
        if told {
            return Ok(());
        }
        self.progress_told = Some(now);
        event("progress", status::progress(progress))
    }

    pub(super) fn note(&self, text: &str) -> Result<(), CliError> {
        if self.context.json {
            return event("note", json!({ "text": text }));
        }
        self.progress.note(text);
        Ok(())
    }

    pub(super) fn setup(&mut self, news: &SetupNews) -> Result<(), CliError> {
        if self.context.json {
            return event("setup", setup::facts(news));
        }
        self.setup.show(news, &self.progress, self.context);
        Ok(())
    }

    pub(super) fn moved(&self, batch: &MovedBatch) -> Result<(), CliError> {
        if self.context.json {
            let moved: Vec<Value> = batch.moved.iter().map(status::moved).collect();
            return event(
                "moved",
                json!({
                    "took_us": batch.took_us,
                    "to_sandbox": status::totals(batch.to_sandbox),
                    "to_host": status::totals(batch.to_host),
                    "moved": moved,
                }),
            );
        }
        for line in status_view::moved_lines(batch) {
            self.progress.note(&line);
        }
        Ok(())
    }

    pub(super) fn status(&mut self, status: &StatusReply) -> Result<(), CliError> {
        let before = self.last.replace(status.clone());
        if self.context.json {
            return event("status", status::document(status));
        }
        for line in status_view::changes(before.as_ref(), status) {
            self.progress.note(&line);
        }
        let watches = |status: &StatusReply| status.state() == State::Watching;
        if !self.progress.is_live() && watches(status) && before.is_none_or(|b| !has_watched(&b)) {
            // Off a terminal the line is told once, so that a log says when it began.
            self.progress.note(&status_view::line(status));
        }
        if !self.is_asking && !self.is_ending {
            self.progress.status(&status_view::line(status));
        }
        Ok(())
    }

    /// A question needs the line, or does not any more.
    pub(super) fn make_room(&mut self, is_asking: bool) {
        if is_asking && !self.is_asking {
            self.progress.clear();
        }
        self.is_asking = is_asking;
    }

    pub(super) fn ending(&mut self) {
        self.is_ending = true;
        let goes_on = self.last.as_ref().is_some_and(|status| status.hold || status.ups > 1);
        if !self.context.json && !goes_on {
            self.progress.step("bringing results home; Ctrl-C again leaves that to the session");
        }
    }

    pub(super) fn close(&self) {
        self.progress.clear();
    }
}

fn has_watched(status: &StatusReply) -> bool {
    !matches!(status.state(), State::Idle | State::Starting)
}

fn event(name: &str, mut facts: Value) -> Result<(), CliError> {
    facts["schema_version"] = 1.into();
    facts["event"] = name.into();
    print(&format!("{facts}\n"))
}
