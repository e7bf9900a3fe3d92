//! Prepares a sandbox: has the commands of the profile's `setup` run in it, each an operation of the
//! agent, before anything else is done there.
//!
//! A link that ends is dialled again, and the command goes on meanwhile (`command`). A preparation
//! that is given up goes with its sandbox. Nothing is undone and nothing skipped: whatever came in
//! between, the list begins again from its start, so its commands should bear to be repeated.
//!
//! They run in the project's root where there is one already, as in a container that was there before,
//! else in `/`. What is to be kept for other projects is prepared in `/`, without that root. Only a
//! sandbox that was just made is kept, or is taken for prepared because it was made of what was kept: in
//! any other there are files of the project, and its labels tell of another time.

mod command;
mod hold;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use self::command::{Ended, Running};
use self::hold::hold;
use super::{Line, Live, Maker};
use crate::config::quantity::{duration_text, milliseconds};
use crate::config::{SETUP_TIMEOUT, SetupCommand};
use crate::driver::{Sandbox, label};
use crate::error::{CliError, ExitCode};
use crate::session::errors::state_error;
use crate::session::proto::SetupNews;
use crate::session::server::now_ms;
use crate::session::setup::log::Log;
use crate::session::setup::records::{self, KeptRecord};
use crate::session::setup::show::{Now, Show};
use crate::session::setup::{environment, key};
use crate::state::{Lock, Places};

/// Between two looks whether another session has prepared the same container.
const TURN_INTERVAL: Duration = Duration::from_millis(100);

/// What preparing needs beside the sandbox.
pub(in crate::session) struct Setup {
    /// Where logs and records go.
    pub(in crate::session) places: Places,
    /// Who is told.
    pub(in crate::session) show: Arc<Show>,
}

impl Maker {
    /// True if nothing is to be done in the sandbox before it is used.
    pub(in crate::session) fn is_prepared(&self) -> bool {
        let key = key(&self.spec.profile);
        key.is_none() || self.entry.prepared == key
    }

    /// True if a sandbox that was just made, or found, is to be prepared.
    pub(super) fn is_to_be_prepared(&self, sandbox: &Sandbox) -> bool {
        let key = key(&self.spec.profile);
        key.is_some() && kept_as(sandbox, label::KEPT).is_none() && self.mark(sandbox) != key
    }

    /// How a sandbox that was there before is prepared.
    fn mark(&self, sandbox: &Sandbox) -> Option<String> {
        if sandbox.ephemeral {
            return None;
        }
        records::mark(&self.setup.places, self.spec.profile.driver.name(), sandbox)
    }

    /// Prepares a sandbox that was taken over or started again, and keeps its link open.
    ///
    /// # Errors
    /// Which command failed and how; what is in the sandbox stays there.
    pub(in crate::session) async fn prepare_live(
        &mut self,
        live: &mut Live,
    ) -> Result<(), CliError> {
        self.setup.show.note("the profile's `setup` has changed, so it is done again".to_owned());
        let (link, secret, epoch) = (live.link.clone(), live.secret.clone(), live.epoch);
        let mut line = Line { link, secret, epoch };
        let prepared = match key(&self.spec.profile) {
            Some(key) => Box::pin(self.carry_out(&key, &live.sandbox, &mut line, None)).await,
            None => Ok(()),
        };
        if line.epoch != live.epoch {
            (live.link, live.epoch, live.is_stale) = (line.link, line.epoch, true);
        }
        prepared
    }

    /// Does what the profile's `setup` says in a sandbox that was just made, unless it was made of what
    /// was kept.
    ///
    /// # Errors
    /// Which command failed and how; then the sandbox is not to be used.
    pub(super) async fn prepare(
        &mut self,
        sandbox: &Sandbox,
        line: &mut Line,
    ) -> Result<(), CliError> {
        let Some(key) = key(&self.spec.profile) else { return Ok(()) };
        if let Some(name) = kept_as(sandbox, label::KEPT) {
            // That it is of use is worth no failure.
            let _ = self.record_kept(name, &key);
            return self.settle(&key, sandbox, format!("done, as it is kept in `{name}`"));
        }
        let keep = kept_as(sandbox, label::KEEP).map(str::to_owned);
        if let Some(why) = kept_as(sandbox, label::UNKEPT) {
            self.setup.show.note(format!("what is prepared is kept for no other sandbox: {why}"));
        }
        // One that was taken over has a session that does this.
        let (driver, show) = (Arc::clone(&self.driver), Arc::clone(&self.setup.show));
        let held = hold(&*driver, sandbox, self.spec.profile.outlives(), &show);
        tokio::select! {
            done = self.carry_out(&key, sandbox, line, keep.as_deref()) => done,
            never = held => match never {},
        }
    }

    /// Has the commands run and what came of it kept under a name, unless another session did so.
    async fn carry_out(
        &mut self,
        key: &str,
        sandbox: &Sandbox,
        line: &mut Line,
        keep: Option<&str>,
    ) -> Result<(), CliError> {
        let turn = self.turn(sandbox).await?;
        let done = self.in_turn(key, sandbox, line, keep).await;
        if let Some(turn) = turn {
            // One that stays excludes nobody.
            let _ = turn.remove();
        }
        done
    }

    /// Waits until no other session prepares the same container; the lock is for its end.
    async fn turn(&self, sandbox: &Sandbox) -> Result<Option<Lock>, CliError> {
        if sandbox.ephemeral {
            return Ok(None);
        }
        let (places, driver) = (&self.setup.places, self.spec.profile.driver.name());
        let mut is_told = false;
        loop {
            let turn = records::try_turn(places, driver, sandbox);
            let turn = turn.map_err(|error| state_error(&error))?;
            if turn.is_some() {
                return Ok(turn);
            }
            if !std::mem::replace(&mut is_told, true) {
                let name = &sandbox.name;
                self.setup.show.note(format!("waiting: another session prepares `{name}`"));
            }
            tokio::time::sleep(TURN_INTERVAL).await;
        }
    }

    async fn in_turn(
        &mut self,
        key: &str,
        sandbox: &Sandbox,
        line: &mut Line,
        keep: Option<&str>,
    ) -> Result<(), CliError> {
        let mark = self.mark(sandbox);
        if mark.as_deref() == Some(key) {
            return self.settle(key, sandbox, "done before, by an earlier session".to_owned());
        }
        if mark.is_some() {
            let note = format!(
                "the profile's `setup` has changed since `{}` was prepared, so it is done again",
                sandbox.name
            );
            self.setup.show.note(note);
        }
        let began = Instant::now();
        let mut log = Log::begin(&self.setup.places, &self.spec.id);
        let directory = if keep.is_some() { PathBuf::from("/") } else { sandbox.root.clone() };
        let ran = self.run_all(sandbox, line, &mut log, &directory).await;
        if let Err(error) = ran {
            self.setup.show.settle(Now::Nothing);
            return Err(error);
        }
        let mut words = format!("done in {}", seconds(began.elapsed()));
        if let Some(name) = keep
            && self.keep(sandbox, name, key).await
        {
            words += &format!(", and kept as `{name}`");
        }
        self.settle(key, sandbox, words)
    }

    /// Writes down that it is prepared.
    fn settle(&mut self, key: &str, sandbox: &Sandbox, words: String) -> Result<(), CliError> {
        if !sandbox.ephemeral {
            let driver = self.spec.profile.driver.name();
            let marked = records::set_mark(&self.setup.places, driver, sandbox, key);
            marked.map_err(|error| state_error(&error))?;
        }
        (self.entry.prepared, self.entry.preparing) = (Some(key.to_owned()), false);
        self.journal.write(&self.entry).map_err(|error| state_error(&error))?;
        self.setup.show.settle(Now::Done(words));
        Ok(())
    }

    /// The sandbox was taken over: what is known of how it is prepared.
    pub(super) fn show_prepared(&self) {
        if self.entry.prepared.is_some() && self.is_prepared() {
            self.setup.show.settle(Now::Done("done".to_owned()));
        }
    }

    fn record_kept(&self, name: &str, key: &str) -> Result<KeptRecord, CliError> {
        let record = KeptRecord::new(name, &self.spec.profile, key, now_ms());
        record.write(&self.setup.places).map_err(|error| state_error(&error))?;
        Ok(record)
    }

    /// Has the driver keep what is prepared; false if it cannot, which ends nothing.
    async fn keep(&self, sandbox: &Sandbox, name: &str, key: &str) -> bool {
        self.setup.show.note(format!("keeping what is prepared as `{name}`"));
        // Written down before it is made.
        let record = self.record_kept(name, key);
        let kept = match &record {
            Ok(_) => self.driver.keep_prepared(sandbox).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let Err(error) = kept else { return true };
        let warning = format!("warning: the next sandbox is prepared from the start: {error}");
        self.setup.show.note(warning);
        if let Ok(record) = record
            && matches!(self.driver.kept_bytes(name).await, Ok(None))
        {
            // Nothing is there to be found by it.
            let _ = record.forget(&self.setup.places);
        }
        false
    }

    async fn run_all(
        &self,
        sandbox: &Sandbox,
        line: &mut Line,
        log: &mut Log,
        directory: &Path,
    ) -> Result<(), CliError> {
        let setup = &self.spec.profile.setup;
        let limit = setup.timeout.unwrap_or(SETUP_TIMEOUT);
        let deadline = Instant::now() + limit;
        let total = u32::try_from(setup.commands.len()).unwrap_or(u32::MAX);
        for (number, command) in (1..).zip(&setup.commands) {
            log.next();
            log.line(&format!("$ {command}"));
            log.next();
            let begins =
                SetupNews { number, total, command: command.to_string(), ..SetupNews::default() };
            self.setup.show.tell(begins);
            let left = deadline.saturating_duration_since(Instant::now());
            let mut running =
                Running { maker: self, sandbox, line: &mut *line, log: &mut *log, number, total };
            let left = Duration::from_millis(milliseconds(left).max(1));
            let environment = environment(&self.spec.profile);
            let ended = running.run(command.argv(), directory, environment, left).await?;
            let code = match &ended {
                Ended::Exited(exit) => Some(exit.code),
                Ended::NotFound(_) => Some(ExitCode::CommandNotFound as u32),
                Ended::NotStarted(_) | Ended::Unknown | Ended::Gone(..) => None,
            };
            let code = code.or(Some(ExitCode::NotStarted as u32));
            self.setup.show.tell(SetupNews { number, total, code, ..SetupNews::default() });
            if !ended.is_good() {
                let which = Which { command, number, total, limit };
                return Err(self.failed(&which, &ended, sandbox, log));
            }
        }
        Ok(())
    }

    /// What a person needs to know of a preparation that failed.
    fn failed(
        &self,
        which: &Which<'_>,
        ended: &Ended,
        sandbox: &Sandbox,
        log: &mut Log,
    ) -> CliError {
        let Which { command, number, total, .. } = which;
        let full = log.says("no space left on device");
        let code = match ended {
            Ended::Exited(exit) if exit.out_of_memory => ExitCode::Exhausted,
            Ended::Exited(_) if full => ExitCode::Exhausted,
            Ended::Exited(exit) if exit.timed_out => ExitCode::TimedOut,
            Ended::Gone(_, true) => ExitCode::Exhausted,
            Ended::Exited(_)
            | Ended::NotFound(_)
            | Ended::NotStarted(_)
            | Ended::Unknown
            | Ended::Gone(..) => ExitCode::Failed,
        };
        let words = which.words(ended, full);
        let of = if *total > 1 { format!(" ({number} of {total})") } else { String::new() };
        let mut error = CliError::new(code, format!("the setup command `{command}`{of} {words}"));
        let lines = log.last_lines();
        if !lines.is_empty() {
            error.details.push(format!("the end of its output:\n{}", lines.join("\n")));
        }
        for hint in which.hints(ended, full) {
            error = error.hint(hint);
        }
        if let Some(path) = log.keep() {
            error = error.hint(format!("all output of setup is in `{}`", path.display()));
        }
        let profile = &self.spec.profile.name;
        let place = match sandbox.ephemeral {
            true => "begins anew in a fresh sandbox".to_owned(),
            false => format!("begins anew in `{}`", sandbox.name),
        };
        error.hint(format!("change `setup` in the profile `{profile}` and try again: it {place}"))
    }
}

/// A command that failed.
struct Which<'a> {
    command: &'a SetupCommand,
    number: u32,
    total: u32,
    limit: Duration,
}

impl Which<'_> {
    fn words(&self, ended: &Ended, full: bool) -> String {
        let is_line = matches!(self.command, SetupCommand::Line(_));
        match ended {
            Ended::NotFound(_) if is_line => {
                "cannot run: there is no /bin/sh in the sandbox".to_owned()
            }
            Ended::NotFound(why) | Ended::NotStarted(why) => format!("cannot run: {why}"),
            Ended::Unknown => {
                "has ended, and its supervisor in the sandbox was killed: how is not known"
                    .to_owned()
            }
            Ended::Gone(why, _) => format!("could not be ended: {why}"),
            Ended::Exited(exit) if exit.out_of_memory => {
                let limit = match exit.memory_limit {
                    0 => String::new(),
                    bytes => format!(" of {} MiB", bytes >> 20),
                };
                format!("was killed: the sandbox ran out of its memory{limit}")
            }
            Ended::Exited(exit) if exit.timed_out => {
                format!("was stopped: setup may take {} in all", duration_text(self.limit))
            }
            Ended::Exited(_) if full => "failed: the sandbox's disk is full".to_owned(),
            Ended::Exited(exit) if exit.signal != 0 => {
                format!("was killed by signal {}", exit.signal)
            }
            Ended::Exited(exit) => format!("failed with exit code {}", exit.code),
        }
    }

    fn hints(&self, ended: &Ended, full: bool) -> Vec<&'static str> {
        let is_line = matches!(self.command, SetupCommand::Line(_));
        match ended {
            Ended::NotFound(_) if is_line => vec![
                "a command can be a list of words, which needs no shell: \
                 `setup = [[\"/usr/bin/tool\", \"--install\"]]`",
            ],
            Ended::Exited(exit) if exit.out_of_memory => {
                vec!["the profile's `memory` gives the sandbox more"]
            }
            Ended::Gone(_, true) => vec!["the profile's `memory` gives the sandbox more"],
            Ended::Exited(exit) if exit.timed_out => {
                vec!["the profile's `setup_timeout` gives it more time"]
            }
            Ended::Exited(_) if full => vec!["give the sandbox more room, or install less"],
            Ended::Exited(exit) if exit.code == ExitCode::CommandNotFound as u32 => {
                vec!["a program that it names is not in the sandbox"]
            }
            Ended::Exited(_)
            | Ended::NotFound(_)
            | Ended::NotStarted(_)
            | Ended::Unknown
            | Ended::Gone(..) => Vec::new(),
        }
    }
}

fn kept_as<'a>(sandbox: &'a Sandbox, label: &str) -> Option<&'a str> {
    sandbox.labels.get(label).map(String::as_str).filter(|name| !name.is_empty())
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f32())
}
