//! One request, over as many links as it takes: it waits for one, goes out, and goes out again if
//! the link ends before the reply.

use std::ffi::OsString;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use skync_agent::proto::files_reply::Reply;
use skync_agent::proto::files_request::Request;
use skync_agent::proto::{FilesAttributes, FilesClose, FilesReply};
use skync_mount::source::{Attributes, Change, Changed, Entry, Handle, Seen};
use skync_mount::{Answer, SourceError};
use tokio::sync::watch;
use tokio::time::Instant;

use super::lane::{Broken, Got, Lane};
use super::wire;

/// How long a request may take once it need not wait for a link any more.
const REPLY_PATIENCE: Duration = Duration::from_secs(5);

/// The streams of a mount over one link.
pub(super) struct Lanes {
    /// For what somebody waits for; changes come here.
    pub(super) now: Arc<Lane>,
    /// For what somebody may want soon.
    pub(super) ahead: Arc<Lane>,
    /// For what is written: large, and somebody waits for something small behind it.
    pub(super) writes: Arc<Lane>,
    /// For many directories at once.
    pub(super) lists: Arc<Lane>,
}

/// Which lane.
#[derive(Clone, Copy, Debug)]
pub(super) enum Which {
    /// What somebody waits for.
    Now,
    /// What somebody may want.
    Ahead,
    /// What is written.
    Writes,
    /// Many directories.
    Lists,
}

impl Lanes {
    /// The lane for this.
    pub(super) fn of(&self, which: Which) -> &Arc<Lane> {
        match which {
            Which::Now => &self.now,
            Which::Ahead => &self.ahead,
            Which::Writes => &self.writes,
            Which::Lists => &self.lists,
        }
    }

    /// All of them.
    pub(super) fn all(&self) -> [&Arc<Lane>; 4] {
        [&self.now, &self.ahead, &self.writes, &self.lists]
    }
}

/// Whether the files can be reached.
#[derive(Clone)]
pub(super) enum Reach {
    /// Not for now, since then.
    Lost(Instant),
    /// Yes.
    Open(Arc<Lanes>),
    /// The agent does not show them; it is asked again now and then.
    Refused(SourceError),
    /// No more.
    Gone,
}

/// What all requests share.
pub(super) struct Shared {
    pub(super) patience: Duration,
    /// Whether the files can be reached, and how often they have become other ones.
    pub(super) state: watch::Sender<(Reach, u64)>,
    /// The root as it was found by the first and every later stream.
    pub(super) root: RwLock<Option<Seen<Attributes>>>,
    /// What the sandbox's clock has shown at least, nanoseconds since 1970.
    newest_ns: AtomicI64,
    /// Files that were closed while there was no link.
    closes: Mutex<Vec<Handle>>,
    tell: RwLock<Option<Arc<Tell>>>,
}

/// Who is told of changes.
pub(super) type Tell = dyn Fn(Vec<Change>) + Send + Sync;

/// How long a request may take, and which files it is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Term {
    era: u64,
    link_until: Instant,
    until: Instant,
}

impl Shared {
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            patience,
            state: watch::Sender::new((Reach::Lost(Instant::now()), 0)),
            root: RwLock::default(),
            newest_ns: AtomicI64::new(i64::MIN),
            closes: Mutex::default(),
            tell: RwLock::default(),
        }
    }

    /// The term of a request that begins now.
    pub(super) fn term(&self) -> Term {
        let link_until = Instant::now() + self.patience;
        Term { era: self.state.borrow().1, link_until, until: link_until + REPLY_PATIENCE }
    }

    /// The streams, as soon as there are any.
    pub(super) async fn lanes(&self, term: &Term) -> Answer<Arc<Lanes>> {
        if let Some(lanes) = self.lanes_now(&self.state.borrow(), term)? {
            return Ok(lanes);
        }
        let mut states = self.state.subscribe();
        loop {
            if let Some(lanes) = self.lanes_now(&states.borrow_and_update(), term)? {
                return Ok(lanes);
            }
            let changed = tokio::time::timeout_at(term.link_until, states.changed()).await;
            changed.map_err(|_| SourceError::Unreachable)?.map_err(|_| SourceError::Unreachable)?;
        }
    }

    fn lanes_now(&self, (reach, era): &(Reach, u64), term: &Term) -> Answer<Option<Arc<Lanes>>> {
        if *era != term.era {
            // What it is about was in files that are gone.
            return Err(SourceError::Stale);
        }
        match reach {
            Reach::Open(lanes) => Ok(Some(Arc::clone(lanes))),
            // Whoever comes late in an outage need not wait as well.
            Reach::Lost(since) if since.elapsed() >= self.patience => Err(SourceError::Unreachable),
            Reach::Lost(_) => Ok(None),
            Reach::Refused(why) => Err(why.clone()),
            Reach::Gone => Err(SourceError::Unreachable),
        }
    }

    /// Asks once more if the link ends before the reply: for what may be done twice.
    pub(super) async fn ask(
        &self,
        which: Which,
        make: impl Fn() -> Request + Send + Sync,
    ) -> Answer<FilesReply> {
        self.ask_in(&self.term(), which, make).await
    }

    /// As [`Shared::ask`], as a part of a longer request.
    pub(super) async fn ask_in(
        &self,
        term: &Term,
        which: Which,
        make: impl Fn() -> Request + Send + Sync,
    ) -> Answer<FilesReply> {
        loop {
            if let Some(reply) = self.ask_once(term, which, &make).await? {
                return Ok(reply);
            }
        }
    }

    /// Nothing if the link ended and it may or may not have been carried out.
    pub(super) async fn ask_once(
        &self,
        term: &Term,
        which: Which,
        make: impl Fn() -> Request + Send + Sync,
    ) -> Answer<Option<FilesReply>> {
        let got = self.ask_for_data(term, which, make, 0).await?;
        Ok(got.map(|got| got.reply))
    }

    /// As [`Shared::ask_once`], for a reply with so much data.
    pub(super) async fn ask_for_data(
        &self,
        term: &Term,
        which: Which,
        make: impl Fn() -> Request + Send + Sync,
        data_max: usize,
    ) -> Answer<Option<Got>> {
        loop {
            let lanes = self.lanes(term).await?;
            let asked = lanes.of(which).ask(make(), data_max);
            match tokio::time::timeout_at(term.until, asked).await {
                Ok(Ok(got)) => return Ok(Some(got)),
                Ok(Err(Broken::Unknown)) => return Ok(None),
                Ok(Err(Broken::Unsent)) => {
                    let passed = tokio::time::timeout_at(term.until, self.passed(&lanes)).await;
                    passed.map_err(|_| SourceError::Unreachable)?;
                }
                Err(_) => return Err(SourceError::Unreachable),
            }
        }
    }

    /// Returns once these streams, which have ended, are not the ones that are offered.
    pub(super) async fn passed(&self, lanes: &Arc<Lanes>) {
        let mut states = self.state.subscribe();
        let is_past = |state: &(Reach, u64)| match &state.0 {
            Reach::Open(open) => !Arc::ptr_eq(open, lanes),
            Reach::Lost(_) | Reach::Refused(_) | Reach::Gone => true,
        };
        // The sender is in `self`.
        let _ = states.wait_for(is_past).await;
    }

    /// Attributes that were asked for.
    pub(super) fn found(&self, reply: FilesReply) -> Answer<Seen<Attributes>> {
        if let Some(Reply::Found(found)) = &reply.reply {
            self.saw(found.attributes.as_ref());
        }
        wire::found(reply)
    }

    /// A name that was asked for.
    pub(super) fn looked_up(&self, reply: FilesReply, name: &OsString) -> Answer<Seen<Entry>> {
        if let Some(Reply::Found(found)) = &reply.reply {
            self.saw(found.attributes.as_ref());
        }
        wire::looked_up(reply, name)
    }

    /// What a change has led to.
    pub(super) fn changed(&self, reply: FilesReply) -> Answer<Seen<Changed>> {
        if let Some(Reply::Changed(changed)) = &reply.reply {
            self.saw(changed.directory.as_ref());
            self.saw(changed.object.as_ref());
        }
        wire::changed(reply)
    }

    fn saw(&self, attributes: Option<&FilesAttributes>) {
        if let Some(attributes) = attributes {
            self.saw_at(wire::newest(attributes));
        }
    }

    /// The sandbox's clock has shown this.
    pub(super) fn saw_at(&self, ns: i64) {
        self.newest_ns.fetch_max(ns, Ordering::Relaxed);
    }

    /// The latest time that the sandbox's clock has shown.
    pub(super) fn newest_ns(&self) -> i64 {
        self.newest_ns.load(Ordering::Relaxed)
    }

    /// Who is told of changes from now on.
    pub(super) fn subscribe(&self, tell: Arc<Tell>) {
        *self.tell.write().unwrap_or_else(PoisonError::into_inner) = Some(tell);
    }

    /// Tells changes.
    pub(super) fn tell(&self, changes: Vec<Change>) {
        for change in &changes {
            if let Change::Entry { directory_attributes, entry, .. } = change {
                let told = [directory_attributes.as_ref(), entry.as_ref().map(|e| &e.attributes)];
                for attributes in told.into_iter().flatten() {
                    self.saw_at(wire::nanoseconds(attributes.changed));
                }
            }
        }
        // Not under the lock: it is their code.
        let tell = self.tell.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(tell) = tell {
            tell(changes);
        }
    }

    /// The root as it was last found.
    pub(super) fn root_now(&self) -> Option<Seen<Attributes>> {
        *self.root.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// They are other files: nothing is open.
    pub(super) fn forget_closes(&self) {
        self.closes_kept().clear();
    }

    /// The root was found to be this.
    pub(super) fn set_root(&self, root: Seen<Attributes>) {
        *self.root.write().unwrap_or_else(PoisonError::into_inner) = Some(root);
    }

    /// Closes a file, now or when there is a link again.
    pub(super) fn close(&self, handle: Handle) {
        // Held, so that what is closed is either told over these streams or kept for the next ones.
        let state = self.state.borrow();
        match &state.0 {
            Reach::Open(lanes) => lanes.now.tell(Request::Close(FilesClose { handle: handle.0 })),
            Reach::Lost(_) | Reach::Refused(_) | Reach::Gone => self.closes_kept().push(handle),
        }
    }

    /// Lets requests through, and closes what was closed meanwhile or may not have been told.
    pub(super) fn let_through(&self, lanes: &Arc<Lanes>, untold: Vec<Handle>) {
        let mut closes = untold;
        self.state.send_modify(|(reach, _)| {
            closes.append(&mut self.closes_kept());
            *reach = Reach::Open(Arc::clone(lanes));
        });
        for Handle(handle) in closes {
            lanes.now.tell(Request::Close(FilesClose { handle }));
        }
    }

    fn closes_kept(&self) -> std::sync::MutexGuard<'_, Vec<Handle>> {
        // A push or a take: it is whole after any panic.
        self.closes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The files are reachable, or not.
    pub(super) fn publish(&self, reach: Reach) {
        self.state.send_modify(|state| state.0 = reach);
    }
}

impl Term {
    /// Something came: what is left of the request may take as long again.
    pub(super) fn renew(&mut self, patience: Duration) {
        self.link_until = Instant::now() + patience;
        self.until = self.link_until + REPLY_PATIENCE;
    }

    /// When it must have ended.
    pub(super) fn until(&self) -> Instant {
        self.until
    }
}
