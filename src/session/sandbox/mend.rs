//! What is done when the way to a sandbox is lost: it is dialled again as long as its agent may be
//! there; one that has stopped is started again; one that is gone is given up.

use std::time::Instant;

use super::{How, State, UNREACHED, broke};
use crate::driver::{Sandbox, SandboxState};
use crate::error::{CliError, ExitCode};
use crate::session::lifecycle::{Lifecycle, Mirror};
use crate::session::server::{Session, now_ms};
use crate::session::view::Activity;

impl Session {
    /// Mends the sandbox's link if it has ended, and starts a sandbox again that has stopped, without
    /// making another one: one that is gone is given up.
    ///
    /// # Errors
    /// If it may be there and does not answer.
    pub(in crate::session) async fn mend_only(&self) -> Result<(), CliError> {
        let mut state = self.state.lock().await;
        self.mend(&mut state).await?;
        if state.stopped.is_some() {
            self.make(&mut state, self.patterns(&[]), &|_| {}).await?;
        }
        Ok(())
    }

    /// The sandbox stayed although nobody used it, and its link ended: brings home what is in it,
    /// and ends the session once nothing keeps it any more. True if it has ended.
    ///
    /// # Errors
    /// If it may be there and does not answer, or cannot be brought home.
    pub(in crate::session) async fn bring_home(&self) -> Result<bool, CliError> {
        let mut state = self.state.lock().await;
        self.mend(&mut state).await?;
        if state.stopped.is_some() {
            self.make(&mut state, self.patterns(&[]), &|_| {}).await?;
        }
        if state.live.is_some() {
            self.carry(&mut state, How::Last, Instant::now(), None).await?;
        }
        drop(state);
        let unused = |life: &mut Lifecycle| {
            life.is_unused() && life.end() == crate::session::lifecycle::Next::End
        };
        if !self.life(unused) {
            return Ok(false);
        }
        self.tear_down().await?;
        Ok(true)
    }

    /// Nobody uses the session any more: brings home what is in its sandbox, and ends it if nothing
    /// keeps it then.
    pub(in crate::session) async fn end_once_home(&self) {
        match self.bring_home().await {
            Ok(true) => self.end(),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%error, "what is in the sandbox could not be brought home");
            }
        }
    }

    pub(super) async fn mend(&self, state: &mut State) -> Result<(), CliError> {
        let State { maker, live: Some(live), has_run, .. } = state else { return Ok(()) };
        if live.is_whole() {
            return Ok(());
        }
        let sandbox = live.sandbox.clone();
        let broke = broke(&sandbox);
        if *has_run {
            self.life(|life| life.synchronised(Some(broke.clone())));
        }
        let is_known = self.show(|view| {
            view.linked(Some(&sandbox.name), false, now_ms());
            let is_known = view.reply.why.starts_with(UNREACHED);
            if !is_known {
                view.act(Activity::Reconnecting(broke.clone()));
            }
            is_known
        });
        let patterns = self.patterns(&[]);
        let spec = maker.spec().clone();
        let host = || self.read_host(&spec, patterns.clone());
        let was_open = live.link().is_open();
        let mended = async {
            maker.dial(live).await?;
            if !was_open {
                // Commands go on at once; files when both sides have been looked at.
                self.ways.open(&live.link(), &sandbox);
                self.show(|view| view.linked(Some(&sandbox.name), true, now_ms()));
            }
            maker.renew(live, host, patterns.clone()).await
        };
        let Err(error) = mended.await else {
            self.show(|view| view.act(Activity::Settled));
            self.tell(format!("{broke}, and is open again"));
            return Ok(());
        };
        if live.link().is_open() {
            return Err(error);
        }
        let found = maker.autopsy(&sandbox, !is_known).await;
        match found.state {
            Some(SandboxState::Gone) => self.lose(state, &sandbox, false, found.words).await,
            Some(SandboxState::Stopped { .. }) => {
                self.lose(state, &sandbox, true, found.words).await
            }
            Some(SandboxState::Running) | None => {
                let why = format!("{UNREACHED}{}", found.words);
                if !is_known {
                    self.tell(why.clone());
                }
                self.ways.in_the_way(&why);
                self.show(|view| view.act(Activity::Reconnecting(why)));
                Err(CliError::new(ExitCode::Unreachable, found.words)
                    .because(&error)
                    .hint("`skync down --discard` gives it up"))
            }
        }
    }

    /// The sandbox does not run any more.
    async fn lose(
        &self,
        state: &mut State,
        sandbox: &Sandbox,
        is_there: bool,
        words: String,
    ) -> Result<(), CliError> {
        let revives = is_there && state.maker.revives();
        let again = self.life(|life| match life.mirror() {
            Mirror::On => true,
            Mirror::Off => life.mounts() > 0,
            Mirror::Paused => false,
        });
        let next = match (again, revives) {
            (true, false) => "; making a new one",
            (true, true) => "; starting it again",
            (false, _) => "",
        };
        let told = format!("{words}{next}");
        self.show(|view| view.act(Activity::Reconnecting(told.clone())));
        self.tell(told);
        if !revives {
            return self.bury(state, sandbox, &words).await;
        }
        // What only it has must not go with its agent.
        self.ways.stopped(&words);
        state.live = None;
        state.stopped = Some(sandbox.clone());
        let unsynced = state.has_run.then_some(words);
        self.life(|life| life.synchronised(unsynced));
        Ok(())
    }

    pub(super) async fn bury(
        &self,
        state: &mut State,
        sandbox: &Sandbox,
        words: &str,
    ) -> Result<(), CliError> {
        let is_live = state.live.as_ref().is_some_and(|live| live.sandbox.id == sandbox.id);
        if is_live || state.live.is_none() {
            state.live = None;
            self.ways.gone(words);
            self.life(Lifecycle::sandbox_gone);
            self.show(|view| view.linked(None, false, now_ms()));
        }
        state.maker.remove(sandbox).await
    }
}
