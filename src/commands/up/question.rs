//! Asks a person at a terminal whether what was halted may be carried out.

use std::io::{self, BufRead, Write};

use tokio::sync::mpsc;

use crate::commands::Context;

/// One question at a time, each asked once.
pub(super) struct Question {
    /// There is somebody to ask.
    is_possible: bool,
    /// What the question that stands is about.
    about: Option<String>,
    /// The last one that was answered: the same halt is not asked about again.
    settled: Option<String>,
    lines: Option<mpsc::Receiver<String>>,
}

impl Question {
    pub(super) fn new(context: &Context) -> Self {
        let is_possible = context.can_ask() && context.quiet == 0;
        Self { is_possible, about: None, settled: None, lines: None }
    }

    /// Asks about this, if that is new; true while a question stands.
    pub(super) fn about(&mut self, why: Option<&str>) -> bool {
        let Some(why) = why.filter(|_| self.is_possible) else {
            self.about = None;
            self.settled = None;
            return false;
        };
        if self.settled.as_deref() == Some(why) {
            return false;
        }
        if self.about.as_deref() != Some(why) {
            self.about = Some(why.to_owned());
            // What it is about stands in the line above. There is nobody to tell if it fails.
            let mut stderr = io::stderr().lock();
            let _ = stderr
                .write_all(b"carry it out all the same? [y/N] ")
                .and_then(|()| stderr.flush());
            self.lines.get_or_insert_with(read_lines);
        }
        true
    }

    /// The answer, once there is one.
    pub(super) async fn answered(&mut self) -> bool {
        let Some(lines) = &mut self.lines else { return std::future::pending().await };
        let Some(line) = lines.recv().await else {
            // Standard input has ended: nobody will answer any more.
            self.is_possible = false;
            self.lines = None;
            return false;
        };
        self.settled = self.about.take();
        // A line that was typed before there was a question is no answer.
        self.settled.is_some() && matches!(line.trim(), "y" | "Y" | "yes")
    }
}

/// Reads lines in a thread, which goes with the process: a read of a terminal cannot be given up.
fn read_lines() -> mpsc::Receiver<String> {
    let (send, lines) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if send.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}
