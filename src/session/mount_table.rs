//! Where a session's sandbox is mounted: how a mount comes, and how it goes.
//!
//! A mount is written down before it is there, so that whoever finds the session dead can take it
//! away. It keeps the session (`lifecycle`); it goes before results come home, and the sandbox
//! after them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, watch};
use tokio::task::spawn_blocking;

use crate::config::DriverConfig;
use crate::error::{CliError, ExitCode, MISTAKE};
use crate::session::journal::MountRecord;
use crate::session::mount_place::{self, Found, Surroundings};
use crate::session::mounting::{Mount, Stays};
use crate::session::proto::MountInfo;
use crate::session::server::{Session, now_ms};
use crate::session::ways::Way;

/// Mounts of one session: each has two streams to the agent.
const MOUNTS_MAX: usize = 8;

/// The mounts of a session.
#[derive(Default)]
pub(super) struct MountTable {
    rows: Mutex<Vec<Row>>,
    /// Those that stay although the session ends: they remain written down, for the keeper.
    left: Mutex<Vec<MountRecord>>,
    /// One comes or goes at a time. Whoever has it may take the lock on the sandbox; never the other
    /// way round.
    turn: Arc<AsyncMutex<()>>,
    /// How often somebody wanted mounts gone whatever is in the way: who waits for writes to end
    /// with the turn in its hand then lets go.
    forces: watch::Sender<u64>,
}

/// The right to have mounts come and go, until it is dropped.
pub(super) type Turn = OwnedMutexGuard<()>;

/// One mount.
#[derive(Clone)]
struct Row {
    record: MountRecord,
    since_ms: u64,
    /// It goes with this `Up`; none of them: with one that has yet to come back.
    of_up: Option<Vec<u8>>,
    mount: Arc<Mount>,
}

/// What became of a wish for a mount.
pub(super) struct Came {
    pub(super) info: MountInfo,
    /// It was there before.
    pub(super) had: bool,
    /// Something a person should know of it.
    pub(super) note: Option<String>,
}

/// Which mounts are to go.
pub(super) enum Which<'a> {
    All,
    /// At these places.
    At(&'a [PathBuf]),
    /// That came with this `Up`.
    OfUp(&'a [u8]),
    /// That came with an `Up` which has not come back.
    OfNobody,
}

impl MountTable {
    fn rows(&self) -> MutexGuard<'_, Vec<Row>> {
        // Each change is one call.
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where they are.
    pub(super) fn places(&self) -> Vec<PathBuf> {
        self.rows().iter().map(|row| row.record.at.clone()).collect()
    }

    fn left(&self) -> MutexGuard<'_, Vec<MountRecord>> {
        // Each change is one call.
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn records(&self) -> Vec<MountRecord> {
        let mut records: Vec<_> = self.rows().iter().map(|row| row.record.clone()).collect();
        records.extend(self.left().iter().cloned());
        records
    }

    /// Waits until nothing else comes or goes.
    pub(super) async fn turn(&self) -> Turn {
        Arc::clone(&self.turn).lock_owned().await
    }

    /// An `up` whose session has died has come back.
    fn belongs_to(&self, at: &Path, up: &[u8]) {
        let mut rows = self.rows();
        let row = rows.iter_mut().find(|row| row.record.at == at);
        if let Some(row) = row
            && row.of_up.as_ref().is_some_and(Vec::is_empty)
        {
            row.of_up = Some(up.to_vec());
        }
    }

    /// What came with an `Up` stays without it from now on; whether there is such a one.
    fn outlives_its_up(&self, at: &Path) -> bool {
        let mut rows = self.rows();
        let row = rows.iter_mut().find(|row| row.record.at == at && row.of_up.is_some());
        let is_there = row.is_some();
        if let Some(row) = row {
            (row.of_up, row.record.with_up) = (None, false);
        }
        is_there
    }

    fn infos(&self) -> Vec<MountInfo> {
        self.rows().iter().map(Row::info).collect()
    }

    /// Adds what changes from moment to moment to what clients are shown.
    pub(super) fn measure(&self, infos: &mut [MountInfo], is_lost: bool) {
        let used: HashMap<Vec<u8>, _> =
            self.rows().iter().map(|row| (bytes(&row.record.at), row.mount.used())).collect();
        for info in infos {
            let used = used.get(&info.at).copied().unwrap_or_default();
            (info.open_files, info.dirty_bytes) = (used.open_files, used.dirty_bytes);
            info.waiting = is_lost;
        }
    }
}

impl Row {
    fn info(&self) -> MountInfo {
        MountInfo {
            at: bytes(&self.record.at),
            root: bytes(&self.record.root),
            writable: self.record.writable,
            since_ms: self.since_ms,
            ..MountInfo::default()
        }
    }
}

impl Session {
    /// Checks the place of a mount and clears it of what a crash left, before a sandbox is made for
    /// it. A line for a person, if there was something. What waits there for the `Up` of this id, whose
    /// session died, is that one's.
    ///
    /// # Errors
    /// Why nothing can be mounted there.
    pub(super) async fn check_mount(
        &self,
        wanted: &MountRecord,
        of_up: Option<&[u8]>,
    ) -> Result<Option<String>, CliError> {
        let _turn = self.mounts.turn().await;
        if self.mounted_alike(wanted)?.is_some() {
            of_up.iter().for_each(|up| self.mounts.belongs_to(&wanted.at, up));
            return Ok(None);
        }
        self.prepare(wanted).await
    }

    async fn prepare(&self, wanted: &MountRecord) -> Result<Option<String>, CliError> {
        let (wanted, at) = (wanted.clone(), wanted.at.clone());
        let (project, state) = (self.root(), self.places.state.clone());
        let journal = self.journal.clone();
        let found = spawn_blocking(move || {
            let around = Surroundings { project: &project, state: &state, journal: &journal };
            mount_place::prepare(&wanted, &around)
        });
        let note = || format!("a mount that a crash had left at `{}` was taken away", at.display());
        Ok((found.await.unwrap_or_else(|_| Err(no_thread()))? == Found::Stale).then(note))
    }

    /// What is mounted at this place, if it is by this session and the same.
    fn mounted_alike(&self, wanted: &MountRecord) -> Result<Option<MountInfo>, CliError> {
        let rows = self.mounts.rows();
        let Some(row) = rows.iter().find(|row| row.record.at == wanted.at) else {
            return Ok(None);
        };
        let root = self.shown_root(&wanted.root);
        let wanted =
            MountRecord { root: root.unwrap_or_else(|| row.record.root.clone()), ..wanted.clone() };
        if row.record.is_like(&wanted) {
            return Ok(Some(row.info()));
        }
        let message =
            format!("`{}` shows this sandbox already, in another way", wanted.at.display());
        Err(CliError::new(ExitCode::Conflict, message)
            .hint(format!("`skync unmount {}` takes it away", wanted.at.display())))
    }

    /// The directory of the sandbox that is meant; nothing without a sandbox.
    fn shown_root(&self, root: &Path) -> Option<PathBuf> {
        let sandbox = match self.ways.now() {
            Way::Open(open) => open.1.root,
            Way::None | Way::Lost(_) | Way::Gone(_) => {
                return root.is_absolute().then(|| root.to_owned());
            }
        };
        // Without a slash at its end.
        Some(sandbox.join(root).components().collect())
    }

    /// Mounts the sandbox that is there; with `of_up` until that one ends. Given up in between it is
    /// either mounted or not, as if it had been waited for.
    ///
    /// # Errors
    /// What keeps it from being mounted; nothing is left then.
    pub(super) async fn mount(
        self: &Arc<Self>,
        wanted: MountRecord,
        of_up: Option<Vec<u8>>,
    ) -> Result<Came, CliError> {
        // Whoever takes it away again waits for this turn.
        let turn = self.mounts.turn().await;
        let session = Arc::clone(self);
        let mounting = tokio::spawn(async move { session.mount_in(turn, wanted, of_up).await });
        mounting.await.unwrap_or_else(|_| Err(no_thread()))
    }

    async fn mount_in(
        self: &Arc<Self>,
        _turn: Turn,
        wanted: MountRecord,
        of_up: Option<Vec<u8>>,
    ) -> Result<Came, CliError> {
        if let Some(info) = self.mounted_alike(&wanted)? {
            match of_up {
                Some(up) => self.mounts.belongs_to(&wanted.at, &up),
                // Whoever asks for it by itself has it stay.
                None => self.keep_mount(&wanted.at).await,
            }
            return Ok(Came { info, had: true, note: None });
        }
        if self.mounts.rows().len() >= MOUNTS_MAX {
            let message = format!("a sandbox can be mounted at {MOUNTS_MAX} places");
            return Err(CliError::new(ExitCode::Exhausted, message)
                .hint("`skync unmount --at DIR` takes one away"));
        }
        let note = self.prepare(&wanted).await?;
        let Some(root) = self.shown_root(&wanted.root) else {
            return Err(CliError::new(ExitCode::Unreachable, "there is no sandbox to mount")
                .hint("its sandbox has just gone: the same command makes another"));
        };
        self.shows_itself(&wanted.at, &root)?;
        let made = mount_place::make(&wanted.at, &self.journal)?;
        let record = MountRecord { root, made, with_up: of_up.is_some(), ..wanted };
        let info = self.put_there(record, of_up).await?;
        Ok(Came { info, had: false, note })
    }

    /// What is mounted there does not go with the `Up` that it came with.
    pub(super) async fn keep_mount(&self, at: &Path) {
        if self.mounts.outlives_its_up(at) {
            self.record_mounts().await;
        }
    }

    /// A sandbox on this machine must not show the mount of itself.
    fn shows_itself(&self, at: &Path, root: &Path) -> Result<(), CliError> {
        let is_here = matches!(self.profile().driver, DriverConfig::Directory(_));
        if !is_here || !at.starts_with(root) {
            return Ok(());
        }
        let message = format!("`{}` would show the mount itself", root.display());
        Err(CliError::new(ExitCode::Usage, message)
            .hint("mount it outside of what is shown (`--at`), or show less (`--root`)"))
    }

    /// Writes it down, mounts it, and has it looked after.
    async fn put_there(
        self: &Arc<Self>,
        record: MountRecord,
        of_up: Option<Vec<u8>>,
    ) -> Result<MountInfo, CliError> {
        let mut records = self.mounts.records();
        records.push(record.clone());
        let there = async {
            self.state.lock().await.maker.record_mounts(records)?;
            Mount::new(&record, &self.profile().name, &self.ways).await
        };
        let mount = match there.await {
            Ok(mount) => Arc::new(mount),
            Err(error) => {
                record.remove_made();
                self.record_mounts().await;
                return Err(error);
            }
        };
        let row = Row { record, since_ms: now_ms(), of_up, mount: Arc::clone(&mount) };
        let (info, at, is_writable) = (row.info(), row.record.at.clone(), row.record.writable);
        self.mounts.rows().push(row);
        self.life(|life| life.mounted(is_writable));
        self.show_mounts();
        let session = Arc::clone(self);
        tokio::spawn(async move {
            mount.gone().await;
            session.was_taken_away(&at, &mount).await;
        });
        Ok(info)
    }

    /// Somebody may have taken a mount away with the system's means: as if it was unmounted here.
    async fn was_taken_away(&self, at: &Path, mount: &Arc<Mount>) {
        {
            let _turn = self.mounts.turn().await;
            let known = self.mounts.rows().iter().any(|row| Arc::ptr_eq(&row.mount, mount));
            if !known {
                return;
            }
            self.tell(format!("`{}` was unmounted from outside", at.display()));
            // What was written there may still be on its way.
            if let Err(stays) = mount.unmount(true).await {
                tracing::debug!(why = stays.words(), "the rest of a mount");
            }
            self.forget(at).await;
        }
        if !self.life(|life| life.is_unused()) {
            return;
        }
        self.end_once_home().await;
    }

    /// Takes mounts away: puts what was written there into the sandbox, then unmounts. Those that
    /// went are told also if one after them stays.
    pub(super) async fn unmount(
        &self,
        which: Which<'_>,
        force: bool,
    ) -> (Vec<PathBuf>, Result<(), (PathBuf, Stays)>) {
        let mut forces = self.mounts.forces.subscribe();
        if force {
            self.mounts.forces.send_modify(|count| *count += 1);
            forces.mark_unchanged();
        }
        let _turn = self.mounts.turn().await;
        let rows: Vec<Row> =
            self.mounts.rows().iter().filter(|row| which.has(row)).cloned().collect();
        let mut gone = Vec::new();
        for row in rows {
            let at = row.record.at;
            let unmounted = tokio::select! {
                biased;
                unmounted = row.mount.unmount(force) => unmounted,
                // It is taken away all the same, and nobody need wait for what is in the way.
                _ = forces.changed(), if !force => Err(Stays::Forced),
            };
            if let Err(stays) = unmounted {
                return (gone, Err((at, stays)));
            }
            self.forget(&at).await;
            gone.push(at);
        }
        (gone, Ok(()))
    }

    /// Takes all mounts away, whoever uses them, because the session ends. What cannot be taken away
    /// is left for the keeper.
    pub(super) async fn unmount_all(&self) {
        while let (_, Err((at, stays))) = self.unmount(Which::All, true).await {
            let at_shown = at.display().to_string();
            tracing::error!(at = at_shown, why = stays.words(), "a mount is left for the keeper");
            let _turn = self.mounts.turn().await;
            if let Some(row) = self.take_row(&at) {
                self.mounts.left().push(row.record);
            }
        }
    }

    /// Something is mounted that could not be taken away.
    pub(super) fn has_left_mounts(&self) -> bool {
        !self.mounts.left().is_empty()
    }

    /// A mount is gone, and with it what was made for it.
    async fn forget(&self, at: &Path) {
        let Some(row) = self.take_row(at) else { return };
        row.record.remove_made();
        self.record_mounts().await;
    }

    fn take_row(&self, at: &Path) -> Option<Row> {
        let row = {
            let mut rows = self.mounts.rows();
            let index = rows.iter().position(|row| row.record.at == at)?;
            rows.remove(index)
        };
        let is_writable = row.record.writable;
        // With the sandbox gone there is nothing to be brought home.
        let is_there = matches!(self.ways.now(), Way::Open(_) | Way::Lost(_));
        let unsynced = (is_writable && is_there).then(|| {
            format!("what was written to the mount at `{}` is not home yet", at.display())
        });
        self.life(|life| life.unmounted(is_writable, unsynced));
        self.show_mounts();
        Some(row)
    }

    /// What an earlier process of this session had mounted is gone for good.
    pub(super) async fn forget_mounts(&self) {
        self.record_mounts().await;
    }

    async fn record_mounts(&self) {
        let records = self.mounts.records();
        if let Err(error) = self.state.lock().await.maker.record_mounts(records) {
            // What is written down too much is looked for in vain.
            tracing::warn!(%error, "that a mount is gone could not be written down");
        }
    }

    /// Returns when what was written to mounts is in the sandbox, as far as it can be.
    pub(super) async fn settle_mounts(&self) {
        let rows: Vec<Row> = self.mounts.rows().clone();
        for row in rows.into_iter().filter(|row| row.mount.used().dirty_bytes > 0) {
            row.mount.settle().await;
        }
    }

    fn show_mounts(&self) {
        let infos = self.mounts.infos();
        self.show(|view| view.reply.mounts = infos);
    }

    /// Mounts again what an earlier process of this session had mounted; what cannot be is
    /// forgotten.
    pub(super) async fn mount_again(self: &Arc<Self>, _turn: Turn, records: Vec<MountRecord>) {
        for record in records {
            let at = record.at.clone();
            if self.mounts.places().contains(&at) {
                continue;
            }
            match self.put_again(record).await {
                Ok(()) => tracing::info!(at = %at.display(), "mounted again"),
                Err(error) => {
                    tracing::warn!(%error, at = %at.display(), "it cannot be mounted again");
                    self.tell(format!(
                        "warning: `{}` is not mounted any more: {error}",
                        at.display()
                    ));
                }
            }
        }
        self.record_mounts().await;
    }

    async fn put_again(self: &Arc<Self>, record: MountRecord) -> Result<(), CliError> {
        // Much may have happened there since.
        self.prepare(&record).await.inspect_err(|_| record.remove_made())?;
        let of_up = record.with_up.then(Vec::new);
        self.put_there(record, of_up).await.map(drop)
    }
}

impl Which<'_> {
    fn has(&self, row: &Row) -> bool {
        match self {
            Self::All => true,
            Self::At(places) => places.contains(&row.record.at),
            Self::OfUp(id) => row.of_up.as_deref() == Some(id),
            Self::OfNobody => row.of_up.as_deref() == Some(&[]),
        }
    }
}

fn bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_encoded_bytes().to_vec()
}

fn no_thread() -> CliError {
    CliError::new(ExitCode::Failed, "the place of the mount could not be looked at").hint(MISTAKE)
}
