//! What a person at a client does: types, presses Ctrl-C, stops it, changes the terminal's size.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use super::{Client, Over};
use crate::commands::attached::input::Typing;
use crate::commands::attached::interrupts::Meaning;
use crate::commands::attached::signals::{SIGCONT, SIGINT, Signalled, stop_here};
use crate::commands::attached::{Left, Role, query, terminal_size};
use crate::session::proto::ControlRequest;
use crate::session::proto::exec_request::Request;
use crate::ui::say;
use crate::ui::terminal::escape::{HELP, Wish};

/// How long a session may take to hear that this client leaves.
const FAREWELL: Duration = Duration::from_secs(2);

impl Client<'_> {
    pub(super) async fn typed(&mut self, piece: Option<Vec<u8>>) -> Option<Over> {
        for typing in self.stdin.typed(piece) {
            match typing {
                Typing::Send(input) if self.is_attached => self.line.say(Request::Input(input)),
                // It is kept, and sent when somebody takes it.
                Typing::Send(_) => {}
                Typing::Wish(Wish::Detach) => return Some(Over::Left(self.detach().await)),
                Typing::Wish(Wish::Cancel) => {
                    self.interrupts.is_cancelled(Instant::now());
                    say("stopping the command and everything that it started");
                    self.control(0, true);
                }
                Typing::Wish(Wish::Status) => self.ask(),
                Typing::Wish(Wish::Help) => say(&HELP.join("\n")),
            }
        }
        None
    }

    fn ask(&self) {
        let Some(open) = self.line.open() else {
            return say("the session is gone; its successor is looked for");
        };
        let (client, id) = (open.connection.client.clone(), self.wanted.id);
        let send = self.answers.0.clone();
        tokio::spawn(async move {
            let _ = send.send(query::status(client, id).await);
        });
    }

    /// Leaves, and has the command go on.
    async fn detach(&mut self) -> Left {
        // Whoever attaches next begins where this one was.
        self.tell_taken(true);
        let Some(open) = self.line.open() else { return Left::Detached(false) };
        let mut client = open.connection.client.clone();
        let id = self.wanted.id.to_vec();
        let request = ControlRequest { id, detach: true, ..ControlRequest::default() };
        let told = tokio::time::timeout(FAREWELL, client.control(request)).await;
        Left::Detached(told.is_ok_and(|told| told.is_ok_and(|reply| reply.get_ref().found)))
    }

    pub(super) fn signalled(&mut self, signal: Signalled) -> Option<Over> {
        match signal {
            Signalled::Resized | Signalled::Continued | Signalled::Stop => self.terminal(signal),
            Signalled::Pass(number) => self.control(number, false),
            Signalled::Interrupted | Signalled::Told(_) if self.wanted.role != Role::Owner => {
                return Some(Over::Left(Left::Interrupted));
            }
            Signalled::Interrupted => return self.interrupted(),
            // Whoever says it twice does not want to wait; and before the start there is nothing that
            // could be told.
            Signalled::Told(_) if self.is_told || self.is_nowhere() => {
                return Some(Over::Left(Left::Interrupted));
            }
            // A workflow pauses cleanly on INT and never on TERM: INT first, then the ladder.
            Signalled::Told(number) => {
                self.is_told = true;
                self.control(number, true);
            }
        }
        None
    }

    fn terminal(&mut self, signal: Signalled) {
        let Some(raw) = &self.raw else {
            if signal == Signalled::Continued {
                self.control(SIGCONT, false);
            }
            return;
        };
        match signal {
            Signalled::Stop => {
                self.status.clear();
                raw.pause();
                stop_here();
                raw.resume();
            }
            Signalled::Continued => raw.resume(),
            _ => {}
        }
        self.line.say(Request::Resize(terminal_size()));
    }

    /// Ctrl-C: the first goes to the command, the second stops it for good, the third leaves.
    fn interrupted(&mut self) -> Option<Over> {
        let meaning = self.interrupts.press(Instant::now());
        let leaves = Some(Over::Left(Left::Interrupted));
        if self.is_nowhere() {
            return leaves;
        }
        if self.line.open().is_none() {
            if meaning != Meaning::Interrupt {
                return leaves;
            }
            let text = "the session is gone: the command is told as soon as there is another; \
                        Ctrl-C again leaves it";
            self.note(text);
        }
        match meaning {
            Meaning::Interrupt => self.control(SIGINT, false),
            Meaning::Cancel => self.control(0, true),
            Meaning::Leave => return leaves,
        }
        let is_told = self.context.quiet == 0 && io::stderr().is_terminal();
        if meaning == Meaning::Interrupt && self.started.is_some() && is_told {
            self.progress.note("interrupted; Ctrl-C again to stop it for good");
        }
        None
    }

    /// There is no command yet, and no session that could be told.
    fn is_nowhere(&self) -> bool {
        self.started.is_none() && self.line.open().is_none()
    }

    fn control(&mut self, signal: u32, cancel: bool) {
        if self.wanted.role != Role::Owner {
            return;
        }
        let id = self.wanted.id.to_vec();
        let request = ControlRequest { id, signal, cancel, detach: false };
        if self.line.open().is_some() {
            self.line.control(request);
        } else {
            self.unsaid.push(request);
        }
    }

    /// What was wished while nobody listened.
    pub(super) fn say_unsaid(&mut self) {
        for request in std::mem::take(&mut self.unsaid) {
            self.line.control(request);
        }
    }
}
