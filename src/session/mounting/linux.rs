//! A mount that is there: the only place that knows both the filesystem and the files, and turns
//! their errors into words for a person.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use skync_mount::system;
use skync_mount::{Busy, MountError, Mounted, Options, Owners, SourceError, UnmountError};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Stays, Used};
use crate::error::{CliError, ExitCode};
use crate::mounts::{LinkSource, MountSettings, MountWay};
use crate::session::journal::MountRecord;
use crate::session::ways::{Way, Ways};

/// Who gives up what cannot be written waits so long for a link that is lost.
const GIVE_UP_PATIENCE: Duration = Duration::from_secs(2);
/// And so long for what is being written over one that is open.
const FORCE_PATIENCE: Duration = Duration::from_secs(10);
/// That a mount is gone shows within this.
const GONE_SHOWS: Duration = Duration::from_secs(1);
/// Who synchronises waits so long for what was just written to a mount.
const SETTLE_PATIENCE: Duration = Duration::from_secs(5);
/// A mount that is in use, nobody knows by whom, is asked for again for so long.
const UNNAMED_PATIENCE: Duration = Duration::from_secs(2);
const UNNAMED_INTERVAL: Duration = Duration::from_millis(50);

/// A mount that is there, until it is taken away.
pub(in crate::session) struct Mount {
    mounted: Mounted,
    source: Arc<LinkSource>,
}

impl Mount {
    /// Mounts the sandbox as its record says.
    ///
    /// # Errors
    /// What keeps it from being mounted; nothing is there then.
    pub(in crate::session) async fn new(
        record: &MountRecord,
        profile: &str,
        ways: &Ways,
    ) -> Result<Self, CliError> {
        let options = Options {
            at: record.at.clone(),
            name: format!("{}{profile}", system::NAME_PREFIX),
            source_root: record.root.clone(),
            writable: record.writable,
            owners: if record.own_ids { Owners::AsTheyAre } else { Owners::Mine },
            allow_other: record.allow_other,
            raw_symlinks: record.raw_symlinks,
            replay: record.replay,
            deadline: record.timeout,
        };
        let settings = MountSettings { root: record.root.clone(), patience: record.timeout };
        let source = LinkSource::new(settings, ways_of(ways))
            .map_err(|error| CliError::new(ExitCode::Failed, "cannot mount").because(&error))?;
        let source = Arc::new(source);
        let mounted = Mounted::new(Arc::clone(&source), options).await;
        let mounted = mounted.map_err(|error| cannot(record, &error))?;
        Ok(Self { mounted, source })
    }

    /// Returns when somebody else has taken it away.
    pub(in crate::session) async fn gone(&self) {
        self.mounted.gone().await;
    }

    /// Returns when what was written there is in the sandbox, or cannot be.
    pub(in crate::session) async fn settle(&self) {
        match tokio::time::timeout(SETTLE_PATIENCE, self.mounted.settle()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "what was written to a mount"),
            Err(_) => tracing::warn!("what was written to a mount is still on its way"),
        }
    }

    /// Takes it away, after what was written there is in the sandbox. With `force` also if somebody uses
    /// it, or that cannot be.
    ///
    /// # Errors
    /// Why it stays.
    pub(in crate::session) async fn unmount(&self, force: bool) -> Result<(), Stays> {
        let unmounted = if force { self.force().await } else { self.ask().await };
        let (is_gone, result) = match unmounted {
            Ok(()) => (true, Ok(())),
            Err(UnmountError::InUse(holders)) => (false, Err(Stays::InUse(holders))),
            // A person has to hear of it, also if there is nothing to unmount any more.
            Err(UnmountError::Unsettled(lost)) => {
                (lost.unmounted, Err(Stays::Unwritten(lost.why.to_string())))
            }
            Err(UnmountError::Other(error)) => (false, Err(Stays::Failed(error.to_string()))),
        };
        if is_gone {
            self.source.end().await;
        }
        result
    }

    /// Who looks at a mount for a moment, as `gc` does, is gone when it is looked for.
    async fn ask(&self) -> Result<(), UnmountError> {
        let deadline = Instant::now() + UNNAMED_PATIENCE;
        loop {
            let unmounted = self.mounted.unmount(Busy::Refuse).await;
            let is_unnamed =
                matches!(&unmounted, Err(UnmountError::InUse(holders)) if holders.is_empty());
            if !is_unnamed || Instant::now() >= deadline {
                return unmounted;
            }
            tokio::time::sleep(UNNAMED_INTERVAL).await;
        }
    }

    async fn force(&self) -> Result<(), UnmountError> {
        let patience = if self.source.is_waiting() { GIVE_UP_PATIENCE } else { FORCE_PATIENCE };
        match tokio::time::timeout(patience, self.mounted.unmount(Busy::Detach)).await {
            // Who asked before may have had it unmounted at the same moment.
            Ok(Err(UnmountError::Other(_))) if self.is_gone_within(GONE_SHOWS).await => Ok(()),
            Ok(unmounted) => unmounted,
            Err(_) => self.detach().await.map_err(UnmountError::Other),
        }
    }

    /// What was written there is given up.
    async fn detach(&self) -> io::Result<()> {
        if self.is_gone_within(Duration::ZERO).await {
            return Ok(());
        }
        tracing::warn!(at = %self.mounted.at().display(), "what was written to a mount is given up");
        match self.mounted.detach().await {
            Err(_) if self.is_gone_within(GONE_SHOWS).await => Ok(()),
            detached => detached,
        }
    }

    async fn is_gone_within(&self, patience: Duration) -> bool {
        tokio::time::timeout(patience, self.mounted.gone()).await.is_ok()
    }

    pub(in crate::session) fn used(&self) -> Used {
        let usage = self.mounted.usage();
        Used { open_files: usage.open_files as u64, dirty_bytes: usage.dirty_bytes }
    }
}

/// The way to the sandbox, as a mount needs it, as long as it listens.
fn ways_of(ways: &Ways) -> watch::Receiver<MountWay> {
    let mut ways = ways.subscribe();
    let (tell, told) = watch::channel(way_of(&ways.borrow_and_update()));
    tokio::spawn(async move {
        loop {
            tokio::select! {
                changed = ways.changed() => if changed.is_err() { return },
                () = tell.closed() => return,
            }
            let way = way_of(&ways.borrow_and_update());
            // An outage has news of its own, and each is still the same one.
            tell.send_if_modified(|before| {
                let is_same = matches!(
                    (&*before, &way),
                    (MountWay::Lost, MountWay::Lost) | (MountWay::Gone, MountWay::Gone)
                );
                *before = way;
                !is_same
            });
        }
    });
    told
}

fn way_of(way: &Way) -> MountWay {
    match way {
        Way::Open(open) => MountWay::Open(open.0.client.clone(), open.1.id.clone()),
        Way::Lost(_) => MountWay::Lost,
        Way::None | Way::Gone(_) => MountWay::Gone,
    }
}

/// It could not be mounted: why, and what to do.
fn cannot(record: &MountRecord, error: &MountError) -> CliError {
    let root = record.root.display();
    match error {
        MountError::Source(SourceError::NotFound) => {
            let message = format!("there is no directory `{root}` in the sandbox");
            return CliError::new(ExitCode::NotFound, message)
                .hint("`--root DIR` shows another one; without it the project is shown");
        }
        MountError::Source(error) => {
            let message = format!("the directory `{root}` of the sandbox cannot be shown");
            return CliError::new(ExitCode::Failed, message).because(error);
        }
        MountError::NoDevice
        | MountError::NoFusermount
        | MountError::NotAllowed(_)
        | MountError::Other(_) => {}
    }
    let message = format!("cannot mount at `{}`", record.at.display());
    let shown = CliError::new(ExitCode::Failed, message).because(error);
    match error.hint() {
        Some(hint) => shown.hint(hint),
        None => shown,
    }
}
