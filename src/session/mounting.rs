//! One mount: the filesystem of [`skync_mount`] over the files of [`crate::mounts`].
//!
//! It is the only place that knows both, and turns their errors into words for a person. Which
//! mounts there are, and why, is in `mount_table`.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use skync_mount::system::{self, Holder};
use skync_mount::{Busy, MountError, Mounted, Options, Owners, SourceError, UnmountError};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::{CliError, ExitCode};
use crate::mounts::{LinkSource, MountSettings, MountWay};
use crate::session::journal::MountRecord;
use crate::session::ways::{Way, Ways};
use crate::ui::visible;

/// Users of a mount that are named in one message.
const HOLDERS_MAX: usize = 5;

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
pub(super) struct Mount {
    mounted: Mounted,
    source: Arc<LinkSource>,
}

/// What it is used for at this time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Used {
    pub(super) open_files: u64,
    pub(super) dirty_bytes: u64,
}

/// Why a mount stays where it is.
pub(super) enum Stays {
    /// These use it.
    InUse(Vec<Holder>),
    /// What was written there is not in the sandbox.
    Unwritten(String),
    /// The system says so.
    Failed(String),
    /// It does not: somebody else takes it away at this moment, whatever is in the way.
    Forced,
}

impl Mount {
    /// Mounts the sandbox as its record says.
    ///
    /// # Errors
    /// What keeps it from being mounted; nothing is there then.
    pub(super) async fn new(
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
    pub(super) async fn gone(&self) {
        self.mounted.gone().await;
    }

    /// Returns when what was written there is in the sandbox, or cannot be.
    pub(super) async fn settle(&self) {
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
    pub(super) async fn unmount(&self, force: bool) -> Result<(), Stays> {
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

    pub(super) fn used(&self) -> Used {
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

impl Stays {
    /// For a person; `otherwise` is what takes it away all the same.
    pub(super) fn error(self, at: &Path, otherwise: &str) -> CliError {
        let at = at.display();
        match self {
            Self::InUse(holders) => {
                let message = format!("the mount at `{at}` is in use{}", who(&holders));
                CliError::new(ExitCode::Conflict, message)
                    .hint("leave it (`cd` elsewhere) and close what is open there")
                    .hint(format!("{otherwise} takes it away under who uses it"))
            }
            Self::Unwritten(why) => {
                let message = format!(
                    "not all that was written to the mount at `{at}` is in the sandbox; what is \
                     not was lost: {why}"
                );
                CliError::new(ExitCode::Conflict, message)
                    .hint("write again what whoever wrote it has heard an error for")
                    .hint(format!("then unmount it again; {otherwise} does not look"))
            }
            Self::Failed(why) => {
                CliError::new(ExitCode::Failed, format!("cannot unmount `{at}`: {why}"))
                    .hint(format!("{otherwise} takes it away whatever is in the way"))
            }
            Self::Forced => CliError::new(
                ExitCode::Conflict,
                format!("`{at}` is taken away by force meanwhile"),
            )
            .hint("`skync status` shows what is mounted"),
        }
    }

    /// In a few words, for a warning.
    pub(super) fn words(&self) -> String {
        match self {
            Self::InUse(holders) => format!("it is in use{}", who(holders)),
            Self::Unwritten(why) => format!("some of what was written there was lost: {why}"),
            Self::Failed(why) => why.clone(),
            Self::Forced => "it is taken away by force meanwhile".to_owned(),
        }
    }
}

/// `: bash (4711) works in it, vim (12) has \`a\` open`.
fn who(holders: &[Holder]) -> String {
    let named = holders.iter().take(HOLDERS_MAX);
    let named = named.map(|who| format!("{} ({}) {}", visible(&who.command), who.pid, who.what));
    let mut text = named.collect::<Vec<_>>().join(", ");
    if let Some(more) = holders.len().checked_sub(HOLDERS_MAX).filter(|more| *more > 0) {
        text.push_str(&format!(" and {more} more"));
    }
    if text.is_empty() { text } else { format!(": {text}") }
}
