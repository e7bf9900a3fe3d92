//! What a session does with its sandbox: makes it, synchronises it, mends its link, removes it.
//!
//! A link that has ended is dialled again as long as the agent may be there; nothing is removed
//! because it does not answer. A sandbox that is gone is made anew, and its replica with it: the
//! ancestor is empty then (I9), so nothing of the host is taken for deleted.

mod mend;

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use skync_agent::proto::StateNumber;
use tokio::task::spawn_blocking;

use crate::config::Profile;
use crate::driver::{Progress, Sandbox, SandboxState};
use crate::error::{CliError, ExitCode};
use crate::link::Link;
use crate::session::Spec;
use crate::session::errors::sync_error;
use crate::session::events::{Events, notes_of, progress_to_client, with_progress};
use crate::session::key;
use crate::session::lifecycle::Mirror;
use crate::session::live::{Adopted, HostTask, Live, Maker, state_directory};
use crate::session::proto::session_event::Event;
use crate::session::server::{News, Session, now_ms};
use crate::session::view::Activity;
use crate::sync::engine::{Engine, SyncError};
use crate::sync::host::Host;
use crate::sync::inbox::Inbox;
use crate::sync::manifest::{Manifest, Owner};
use crate::sync::report::Report;

/// The sandbox of a session, and what makes it.
pub(super) struct State {
    pub(super) maker: Maker,
    live: Option<Live>,
    /// One that has stopped and still holds its files.
    stopped: Option<Sandbox>,
    /// A command may have run in the sandbox: it may hold something that the host has not.
    has_run: bool,
}

impl State {
    pub(super) fn new(maker: Maker) -> Self {
        Self { maker, live: None, stopped: None, has_run: false }
    }
}

/// The end of a link shows within this after a call over it has failed.
const LINK_END_SHOWS: Duration = Duration::from_millis(50);

/// Begins why a link is not open yet.
const UNREACHED: &str = "trying to reach it again: ";

/// How a session's sandbox is, for the mirror.
pub(super) enum Condition {
    /// There is none.
    Missing,
    /// Its link has ended, or it has stopped.
    Broken,
    /// It can be synchronised.
    Whole {
        /// Where changes show.
        inbox: Arc<Inbox>,
        /// Its end is to be noticed.
        link: Box<Link>,
    },
}

/// A state of the sandbox that the agent tells; nothing if it cannot.
pub(super) type Told = Pin<Box<dyn Future<Output = Option<StateNumber>> + Send>>;

/// How to synchronise.
pub(super) enum How {
    /// What is known to have changed.
    Step,
    /// Everything that was done before.
    Whole,
    /// The same; in the sandbox, before the state that is told.
    After(Told),
    /// The same, after which nothing comes: what no watcher is told of is looked for, too.
    Last,
    /// The same, and what was halted may be carried out.
    Accepted,
}

impl Session {
    /// Makes the sandbox if there is none, while the project is being read; mends the one there is.
    ///
    /// # Errors
    /// What keeps it from being made; nothing is left behind.
    pub(super) async fn ensure_live(
        &self,
        exclude: &[String],
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<(), CliError> {
        let mut state = self.state.lock().await;
        self.mend(&mut state).await?;
        let patterns = self.patterns(exclude);
        if state.live.is_none() {
            self.make(&mut state, patterns.clone(), progress).await?;
        }
        // It can be lost once more meanwhile.
        self.prepare_again(&mut state).await?;
        match &mut state.live {
            Some(live) => live.set_command_line(patterns),
            None => self.make(&mut state, patterns, progress).await?,
        }
        Ok(())
    }

    /// The same, and shows how it goes to whoever looks, and to this client.
    ///
    /// # Errors
    /// As [`Session::ensure_live`].
    pub(super) async fn ensure_live_shown(&self, events: Option<&Events>) -> Result<(), CliError> {
        let tell = |progress: Progress| {
            let progress = progress_to_client(progress);
            self.show(|view| view.progress(Some(progress.clone())));
            if let Some(events) = events {
                events.offer(Event::Progress(progress));
            }
        };
        let _shown = ProgressShown(self);
        match events {
            Some(events) => self.with_setup(events, self.ensure_live(&[], &tell)).await,
            None => self.ensure_live(&[], &tell).await,
        }
    }

    async fn make(
        &self,
        state: &mut State,
        patterns: Vec<String>,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<(), CliError> {
        let host = self.read_host(state.maker.spec(), patterns.clone());
        let stopped = state.stopped.clone();
        let revive = stopped.is_some();
        if state.maker.may_have_left() && !revive {
            // One that nobody waited for to the end.
            state.maker.remove_all().await?;
        }
        let live = match state.maker.make(host, patterns, revive, progress).await {
            Ok(live) => live,
            Err(error) => {
                if let Some(stopped) = stopped {
                    self.give_up_if_gone(state, &stopped).await?;
                }
                return Err(error);
            }
        };
        state.stopped = None;
        state.has_run = revive;
        self.settle_in(state, live);
        Ok(())
    }

    /// A sandbox that was taken over, or started again, may have been prepared in another way than the
    /// profile says now.
    async fn prepare_again(&self, state: &mut State) -> Result<(), CliError> {
        let State { maker, live: Some(live), .. } = state else { return Ok(()) };
        if maker.is_prepared() {
            return Ok(());
        }
        let was_open = live.link();
        let prepared = maker.prepare_live(live).await;
        if !was_open.is_open() && live.link().is_open() {
            // It was dialled again meanwhile.
            self.ways.open(&live.link(), &live.sandbox);
            self.mend(state).await?;
        }
        prepared
    }

    /// A sandbox that was to be started again may be gone: then it cannot be waited for.
    async fn give_up_if_gone(&self, state: &mut State, stopped: &Sandbox) -> Result<(), CliError> {
        let found = state.maker.autopsy(stopped, false).await;
        if matches!(found.state, Some(SandboxState::Gone)) {
            state.stopped = None;
            self.tell(found.words.clone());
            self.bury(state, stopped, &found.words).await?;
        }
        Ok(())
    }

    fn settle_in(&self, state: &mut State, live: Live) {
        self.show(|view| view.linked(Some(&live.sandbox.name), true, now_ms()));
        self.ways.open(&live.link(), &live.sandbox);
        state.live = Some(live);
    }

    /// Takes over the sandbox of an earlier process of this session that died. False if there is
    /// none any more: the session begins as any other then.
    ///
    /// # Errors
    /// If it may be there and cannot be reached, or the project cannot be read.
    pub(super) async fn adopt(&self) -> Result<bool, CliError> {
        let mut state = self.state.lock().await;
        let patterns = self.patterns(&[]);
        let host = self.read_host(state.maker.spec(), patterns.clone());
        match state.maker.adopt(host, patterns).await? {
            Adopted::Live(live) => {
                let words = "the session ended without a word, and its successor brings home what \
                             is in the sandbox";
                state.has_run = true;
                self.life(|life| life.synchronised(Some(words.to_owned())));
                self.settle_in(&mut state, *live);
                Ok(true)
            }
            Adopted::Stopped(sandbox) => {
                let words = format!("the sandbox `{}` has stopped", sandbox.name);
                state.has_run = true;
                state.stopped = Some(sandbox);
                self.ways.stopped(&words);
                self.life(|life| life.synchronised(Some(words)));
                Ok(true)
            }
            Adopted::Gone => {
                state.maker.remove_all().await?;
                Ok(false)
            }
        }
    }

    /// The patterns of the command lines that hold for one synchronisation.
    fn patterns(&self, exclude: &[String]) -> Vec<String> {
        let mut patterns = self.mirror_exclude().clone();
        patterns.extend(exclude.iter().cloned());
        patterns
    }

    /// A command with patterns of its own is through.
    pub(super) async fn restore_patterns(&self) {
        let patterns = self.patterns(&[]);
        if let Some(live) = &mut self.state.lock().await.live {
            live.set_command_line(patterns);
        }
    }

    fn read_host(&self, spec: &Spec, patterns: Vec<String>) -> HostTask {
        let profile = &spec.profile;
        let settings = Maker::settings(spec, PathBuf::new(), false);
        let (root, name) = (self.spec.root.clone(), profile.name.clone());
        let directory = state_directory(&self.places, &key(&root, &name));
        spawn_blocking(move || -> Result<Host, SyncError> {
            let owner = Owner { root: root.clone(), profile: name };
            let manifest = Manifest::open(&directory.join("manifest.db"), owner)?;
            let mut host = Host::open(&root, &directory.join("staging"), manifest)?;
            host.warm_up(&settings, &patterns)?;
            Ok(host)
        })
    }

    /// The profile was edited: what it says of files holds from now on.
    pub(super) async fn take_over(&self, profile: &Profile) {
        let mut state = self.state.lock().await;
        state.maker.take_over(profile);
        if let Some(engine) = state.live.as_mut().and_then(Live::engine) {
            engine.set_profile(&profile.exclude, profile.gitignore, profile.guarded.as_deref());
        }
    }

    /// Looks how the sandbox is; waits for what is being done with it.
    pub(super) async fn condition(&self) -> Condition {
        let mut state = self.state.lock().await;
        let stopped = state.stopped.is_some();
        match &mut state.live {
            None if stopped => Condition::Broken,
            None => Condition::Missing,
            Some(live) => {
                let link = Box::new(live.link());
                let is_whole = live.is_whole();
                match live.engine().map(|engine| engine.inbox()) {
                    Some(inbox) if is_whole => Condition::Whole { inbox, link },
                    _ => Condition::Broken,
                }
            }
        }
    }

    /// The link to the sandbox, if there is one.
    pub(super) async fn link(&self) -> Option<Link> {
        self.state.lock().await.live.as_ref().map(Live::link)
    }

    /// True if there is a sandbox that can be reached.
    pub(super) async fn is_live(&self) -> bool {
        self.state.lock().await.live.as_ref().is_some_and(Live::is_whole)
    }

    /// True if there is a sandbox, whether it can be reached or not.
    pub(super) async fn is_there(&self) -> bool {
        let state = self.state.lock().await;
        state.live.is_some() || state.stopped.is_some()
    }

    /// True if a person wants nothing to move.
    pub(super) fn is_paused(&self) -> bool {
        self.life(|life| life.mirror()) == Mirror::Paused
    }

    /// Makes both sides the same, and remembers what that leaves in the sandbox alone.
    ///
    /// # Errors
    /// If a side as a whole cannot be read or written.
    pub(super) async fn synchronise(
        &self,
        events: Option<&Events>,
        how: How,
    ) -> Result<(Report, Link, Sandbox), CliError> {
        let mut state = self.state.lock().await;
        let report = self.carry(&mut state, how, Instant::now(), events).await?;
        let live = state.live.as_ref().ok_or_else(no_sandbox)?;
        Ok((report, live.link(), live.sandbox.clone()))
    }

    /// Carries over what was seen to have changed at `seen`.
    ///
    /// # Errors
    /// If a side as a whole cannot be read or written.
    pub(super) async fn step(&self, seen: Instant) -> Result<Report, CliError> {
        let mut state = self.state.lock().await;
        // It may have been paused, or have come to its end, before it was this one's turn.
        if self.life(|life| life.mirror() != Mirror::On || life.is_ending()) {
            return Ok(Report::default());
        }
        self.carry(&mut state, How::Step, seen, None).await
    }

    /// Looks at everything, after a failure in which changes may have been missed.
    ///
    /// # Errors
    /// If a side as a whole cannot be read or written.
    pub(super) async fn again(&self) -> Result<(), CliError> {
        let mut state = self.state.lock().await;
        if self.life(|life| life.mirror() != Mirror::On || life.is_ending()) {
            return Ok(());
        }
        self.carry(&mut state, How::Whole, Instant::now(), None).await.map(|_| ())
    }

    async fn carry(
        &self,
        state: &mut State,
        how: How,
        seen: Instant,
        events: Option<&Events>,
    ) -> Result<Report, CliError> {
        let has_run = state.has_run;
        let is_step = matches!(how, How::Step);
        let live = state.live.as_mut().ok_or_else(no_sandbox)?;
        let counters = live.counters();
        let _shown = ProgressShown(self);
        let engine = live.engine().ok_or_else(no_sandbox)?;
        let tell = |progress: crate::session::proto::Progress| {
            self.show(|view| view.progress(Some(progress.clone())));
            if let Some(events) = events {
                events.offer(Event::Progress(progress));
            }
        };
        let result = with_progress(&counters, tell, carry_out(engine, how)).await;
        let overview = engine.overview();
        let halted = overview.halted.as_ref().map(ToString::to_string);
        let link = live.link();
        state.has_run = true;
        let report = match result.map_err(sync_error) {
            Ok(report) => report,
            Err(error) => {
                // Before a command has run, all that is in the sandbox is on the host.
                let unsynced = has_run.then(|| error.to_string());
                self.life(|life| life.synchronised(unsynced));
                // A call over a link that breaks fails a moment before the end of the link shows.
                let broken = tokio::time::timeout(LINK_END_SHOWS, link.closed()).await.is_ok();
                let activity = match halted {
                    Some(why) => Activity::Halted(why),
                    None if broken => Activity::Reconnecting(broke(&live.sandbox)),
                    None => Activity::Failed(error.to_string()),
                };
                self.show(|view| view.act(activity));
                return Err(error);
            }
        };
        // A step need not look at what was in conflict or in the way before.
        let whole = Report { conflicts: overview.conflicts.clone(), ..report.clone() };
        match whole.unsynced() {
            None if is_step && !overview.problems.is_empty() => {}
            unsynced => self.life(|life| life.synchronised(unsynced)),
        }
        let moved = self.show(|view| {
            view.progress(None);
            view.synchronised(&report, &overview, seen.elapsed(), now_ms())
        });
        // Nobody need listen.
        if let Some(moved) = moved {
            let _ = self.news.send(News::Moved(Arc::new(moved)));
        }
        if is_step {
            notes_of(&report).into_iter().for_each(|note| self.tell(note));
        }
        Ok(report)
    }

    /// Tells every `up` a line.
    pub(super) fn tell(&self, note: String) {
        tracing::info!(note);
        self.moment.log(&note);
        let _ = self.news.send(News::Note(note));
    }

    /// Writes down whether the session goes on without users.
    pub(super) async fn record_hold(&self) {
        let (hold, exclude) = (self.life(|life| life.is_held()), self.mirror_exclude().clone());
        if let Err(error) = self.state.lock().await.maker.record_hold(hold, &exclude) {
            tracing::warn!(%error, "a successor of this session would not know that it goes on");
        }
    }

    /// Removes the sandbox at the session's end.
    ///
    /// # Errors
    /// If it is still there.
    pub(super) async fn remove_sandbox(&self, state: &mut State) -> Result<(), CliError> {
        if state.maker.may_have_left() {
            state.maker.remove_all().await?;
        }
        self.ways.close();
        if let Some(stopped) = state.stopped.take() {
            state.maker.remove(&stopped).await?;
        }
        let Some(live) = state.live.take() else { return Ok(()) };
        let sandbox = live.sandbox.clone();
        let closed = live.close().await;
        state.maker.remove(&sandbox).await?;
        if let Err(error) = closed {
            // Only a cache and the ancestor of a sandbox that is gone.
            tracing::warn!(%error, "the last record could not be written");
        }
        Ok(())
    }
}

async fn carry_out(engine: &mut Engine, how: How) -> Result<Report, SyncError> {
    match how {
        How::Step => engine.step().await,
        How::Whole => engine.synchronise().await,
        How::After(told) => engine.synchronise_after(told.await).await,
        How::Last => engine.synchronise_all().await,
        How::Accepted => {
            engine.accept();
            engine.synchronise().await
        }
    }
}

fn broke(sandbox: &Sandbox) -> String {
    format!("the link to the sandbox `{}` broke", sandbox.name)
}

fn no_sandbox() -> CliError {
    CliError::new(ExitCode::NotFound, "there is no sandbox")
        .hint("`skync up` and `skync exec` make one")
}

/// Takes progress away from what clients are shown, also if what made it is given up.
struct ProgressShown<'a>(&'a Session);

impl Drop for ProgressShown<'_> {
    fn drop(&mut self) {
        self.0.show(|view| view.progress(None));
    }
}
