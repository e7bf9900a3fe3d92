//! The signals that a client takes, and what each is for.

use tokio::signal::unix::{Signal, SignalKind};

use crate::commands::ends::hear;
use crate::error::CliError;

/// Linux numbers, as messages have them.
pub(in crate::commands) const SIGINT: u32 = 2;
pub(in crate::commands) const SIGCONT: u32 = 18;
const SIGHUP: u32 = 1;
const SIGQUIT: u32 = 3;
const SIGUSR1: u32 = 10;
const SIGUSR2: u32 = 12;
const SIGTERM: u32 = 15;

/// What a signal is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::commands) enum Signalled {
    /// Ctrl-C.
    Interrupted,
    /// We are to end: TERM, HUP.
    Told(u32),
    /// The command's.
    Pass(u32),
    /// We were stopped and go on.
    Continued,
    /// The terminal has another size.
    Resized,
    /// We are to stop.
    Stop,
}

/// All signals that a client takes.
pub(in crate::commands) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    quit: Signal,
    user1: Signal,
    user2: Signal,
    resume: Signal,
    resize: Signal,
    /// Only while the terminal is raw: else the system stops us as it should.
    stop: Option<Signal>,
}

impl Signals {
    pub(in crate::commands) fn new() -> Result<Self, CliError> {
        Ok(Self {
            interrupt: hear(SignalKind::interrupt())?,
            terminate: hear(SignalKind::terminate())?,
            hangup: hear(SignalKind::hangup())?,
            quit: hear(SignalKind::quit())?,
            user1: hear(SignalKind::user_defined1())?,
            user2: hear(SignalKind::user_defined2())?,
            resume: hear(SignalKind::from_raw(rustix::process::Signal::CONT.as_raw()))?,
            resize: hear(SignalKind::window_change())?,
            stop: None,
        })
    }

    /// The terminal is raw from now on.
    pub(in crate::commands) fn take_stop(&mut self) -> Result<(), CliError> {
        if self.stop.is_none() {
            let kind = SignalKind::from_raw(rustix::process::Signal::TSTP.as_raw());
            self.stop = Some(hear(kind)?);
        }
        Ok(())
    }

    pub(in crate::commands) async fn next(&mut self) -> Signalled {
        let stop = async {
            match &mut self.stop {
                Some(stop) => stop.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => Signalled::Interrupted,
            _ = self.terminate.recv() => Signalled::Told(SIGTERM),
            _ = self.hangup.recv() => Signalled::Told(SIGHUP),
            _ = self.quit.recv() => Signalled::Pass(SIGQUIT),
            _ = self.user1.recv() => Signalled::Pass(SIGUSR1),
            _ = self.user2.recv() => Signalled::Pass(SIGUSR2),
            _ = self.resume.recv() => Signalled::Continued,
            _ = self.resize.recv() => Signalled::Resized,
            _ = stop => Signalled::Stop,
        }
    }

    /// Returns when a signal says that nobody wants to wait any longer.
    pub(in crate::commands) async fn told_to_go(&mut self) {
        while !matches!(self.next().await, Signalled::Interrupted | Signalled::Told(_)) {}
    }
}

/// Stops this process as Ctrl-Z would have; returns when it goes on.
pub(in crate::commands) fn stop_here() {
    // Not TSTP, which we handle. The whole group was told; each of it stops itself.
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::STOP);
}
