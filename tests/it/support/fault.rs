//! A session whose link breaks when a test says so: cut, half-open, slow, not to be dialled.
//!
//! It runs in the test's own process, with the driver of the world's profile behind [`Faulty`], on
//! the socket where the command line looks for it. There is no keeper: what such a session leaves
//! is removed with its value.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use skync::config::{Config, DirectoryConfig, DriverConfig, Profile};
use skync::credentials::Surroundings;
use skync::driver::{
    AgentSource, ByteStream, Driver, DriverError, ErrorKind, LinkSecret, Progress, Sandbox,
    SandboxSpec, SandboxState,
};
use skync::session::{Spec, random_id, server};
use skync::state::Places;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::{World, pair, wait_until};

/// Bytes of one read: a cut falls anywhere in it.
const PIECE_BYTES: usize = 16 << 10;
/// Bytes that a stalled or slow direction holds, as a socket's buffers would.
const HELD_BYTES_MAX: usize = 256 << 10;

/// What goes wrong now.
#[derive(Clone, Debug, Default)]
struct Plan {
    /// Streams of an older number are cut.
    number: u64,
    /// The next cut is after so many more bytes, of both directions together.
    budget: Option<u64>,
    /// Nothing goes either way, and nobody is told.
    stalled: bool,
    /// Each byte is so long on its way.
    delay: Duration,
    /// Until then a dial fails.
    refused: Option<Instant>,
    /// Until [`Faults::accept`] a dial fails.
    refusing: bool,
}

/// The handle by which a test breaks the link of a [`Faulty`] driver.
#[derive(Clone)]
pub struct Faults {
    plan: watch::Sender<Plan>,
    dials: Arc<AtomicU64>,
    cuts: Arc<AtomicU64>,
    bytes: Arc<AtomicU64>,
    trips: Trips,
}

/// The longest chain of trips over the link, each begun after the one before it had arrived, that
/// has come to each end so far. It counts what waits for what, and no time.
#[derive(Clone, Default)]
struct Trips([Arc<AtomicU64>; 2]);

/// The ends of a link.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Host,
    Sandbox,
}

impl End {
    fn other(self) -> Self {
        match self {
            Self::Host => Self::Sandbox,
            Self::Sandbox => Self::Host,
        }
    }
}

impl Trips {
    /// How many trips lie before what is sent from this end now.
    fn before(&self, end: End) -> u64 {
        self.0[end as usize].load(Ordering::SeqCst)
    }

    /// Something has arrived at this end, with so many trips before its own.
    fn arrived(&self, end: End, before: u64) {
        self.0[end as usize].fetch_max(before + 1, Ordering::SeqCst);
    }
}

impl Faults {
    fn new() -> Self {
        let (dials, cuts, bytes) = (Arc::default(), Arc::default(), Arc::default());
        let trips = Trips::default();
        Self { plan: watch::Sender::default(), dials, cuts, bytes, trips }
    }

    /// Cuts all streams now: both ends see the end of the connection, and what was on its way is
    /// lost.
    pub fn cut(&self) {
        self.plan.send_modify(|plan| {
            plan.number += 1;
            plan.budget = None;
        });
        self.cuts.fetch_add(1, Ordering::Relaxed);
    }

    /// Cuts all streams after exactly so many more bytes, both directions together. Later calls
    /// take the place of earlier ones; a cut ends it.
    pub fn cut_after(&self, bytes: u64) {
        self.plan.send_modify(|plan| plan.budget = Some(bytes));
    }

    /// Lets nothing through from now on, while every connection stays open: nobody is told.
    pub fn stall(&self) {
        self.plan.send_modify(|plan| plan.stalled = true);
    }

    /// Ends a stall. What was held goes on, in order.
    pub fn release(&self) {
        self.plan.send_modify(|plan| plan.stalled = false);
    }

    /// Every byte arrives so much later, in each direction.
    pub fn delay(&self, delay: Duration) {
        self.plan.send_modify(|plan| plan.delay = delay);
    }

    /// Dials fail for so long, at once.
    pub fn refuse_for(&self, time: Duration) {
        self.plan.send_modify(|plan| plan.refused = Some(Instant::now() + time));
    }

    /// Dials fail until [`Faults::accept`].
    pub fn refuse(&self) {
        self.plan.send_modify(|plan| plan.refusing = true);
    }

    /// Dials are let through again.
    pub fn accept(&self) {
        self.plan.send_modify(|plan| (plan.refusing, plan.refused) = (false, None));
    }

    /// How often the link was dialled, with and without success.
    pub fn dials(&self) -> u64 {
        self.dials.load(Ordering::Relaxed)
    }

    /// How often it was cut.
    pub fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::Relaxed)
    }

    /// Bytes that went through so far, both directions together.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The longest chain of trips that has come home so far: two are a round trip.
    pub fn trips(&self) -> u64 {
        self.trips.before(End::Host)
    }

    /// Waits until nothing has been on its way for so long.
    pub fn wait_for_quiet(&self, quiet: Duration) {
        let mut seen = (self.bytes(), Instant::now());
        wait_until("nothing is on its way", || {
            if self.bytes() != seen.0 {
                seen = (self.bytes(), Instant::now());
            }
            seen.1.elapsed() >= quiet
        });
    }

    /// Waits until so many more bytes have gone through.
    #[track_caller]
    pub fn wait_for_bytes(&self, bytes: u64) {
        let end = self.bytes() + bytes;
        wait_until(&format!("{bytes} more bytes have gone through"), || self.bytes() >= end);
    }

    /// Of `length` bytes, how many may still go through; if it is not all, the streams are cut after
    /// them.
    fn admit(&self, length: usize) -> usize {
        let mut admitted = length;
        self.plan.send_if_modified(|plan| {
            let Some(budget) = plan.budget else { return false };
            let length = length as u64;
            // Of what comes after the last byte, from either side, nothing goes through.
            plan.budget = Some(budget.saturating_sub(length));
            if budget < length {
                admitted = usize::try_from(budget).expect("it is the smaller one");
            }
            false
        });
        self.bytes.fetch_add(admitted as u64, Ordering::Relaxed);
        admitted
    }

    fn refuses(&self) -> bool {
        let plan = self.plan.borrow();
        plan.refusing || plan.refused.is_some_and(|until| Instant::now() < until)
    }

    /// A stream through which all of `inner` goes, until it is cut.
    fn wrap(&self, inner: Box<dyn ByteStream>) -> Box<dyn ByteStream> {
        let (near, far) = tokio::io::duplex(HELD_BYTES_MAX);
        let (far_reader, far_writer) = tokio::io::split(far);
        let (reader, writer) = tokio::io::split(inner);
        let number = self.plan.borrow().number;
        tokio::spawn(self.clone().carry_both(number, (reader, far_writer), (far_reader, writer)));
        Box::new(near)
    }

    async fn carry_both<A: ByteStream, B: ByteStream>(
        self,
        number: u64,
        home: (ReadHalf<A>, WriteHalf<B>),
        out: (ReadHalf<B>, WriteHalf<A>),
    ) {
        let mut plan = self.plan.subscribe();
        let cut = async { drop(plan.wait_for(|plan| plan.number != number).await) };
        // Both directions end together, and with them both connections.
        tokio::select! {
            biased;
            () = cut => {}
            () = self.carry(home.0, home.1, End::Host) => {}
            () = self.carry(out.0, out.1, End::Sandbox) => {}
        }
    }

    /// Carries one direction to its end.
    async fn carry<A: ByteStream, B: ByteStream>(
        &self,
        mut from: ReadHalf<A>,
        mut to: WriteHalf<B>,
        end: End,
    ) {
        let mut plan = self.plan.subscribe();
        let mut waiting: VecDeque<(Instant, u64, Vec<u8>)> = VecDeque::new();
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let held: usize = waiting.iter().map(|(.., piece)| piece.len()).sum();
            let due = waiting.front().map(|(due, ..)| *due);
            let stalled = plan.borrow_and_update().stalled;
            tokio::select! {
                changed = plan.changed() => if changed.is_err() { return },
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now).into()),
                    if due.is_some() && !stalled =>
                {
                    let (_, before, bytes) = waiting.pop_front().expect("it is due");
                    self.trips.arrived(end, before);
                    let admitted = self.admit(bytes.len());
                    let written = to.write_all(&bytes[..admitted]).await.is_ok();
                    if !written || to.flush().await.is_err() {
                        return;
                    }
                    if admitted < bytes.len() || self.plan.borrow().budget == Some(0) {
                        // What came after it must not follow a gap.
                        return self.cut();
                    }
                }
                read = from.read(&mut piece), if held < HELD_BYTES_MAX && !stalled => {
                    let Ok(length @ 1..) = read else { return };
                    let due = Instant::now() + plan.borrow().delay;
                    waiting.push_back((due, self.trips.before(end.other()), piece[..length].to_vec()));
                }
            }
        }
    }
}

/// Any driver, with a link that can be broken.
pub struct Faulty {
    inner: Box<dyn Driver>,
    faults: Faults,
}

impl Faulty {
    /// A driver, and the handle that breaks its link.
    pub fn new(inner: Box<dyn Driver>) -> (Self, Faults) {
        let faults = Faults::new();
        (Self { inner, faults: faults.clone() }, faults)
    }
}

#[async_trait]
impl Driver for Faulty {
    async fn validate(&self) -> Vec<DriverError> {
        self.inner.validate().await
    }

    async fn create(
        &self,
        spec: &SandboxSpec,
        secret: &LinkSecret,
        agents: &dyn AgentSource,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Sandbox, DriverError> {
        self.inner.create(spec, secret, agents, progress).await
    }

    async fn dial(
        &self,
        sandbox: &Sandbox,
        patience: Duration,
    ) -> Result<Box<dyn ByteStream>, DriverError> {
        self.faults.dials.fetch_add(1, Ordering::Relaxed);
        if self.faults.refuses() {
            return Err(DriverError::new(ErrorKind::Unreachable, "the test refuses the dial"));
        }
        let stream = self.inner.dial(sandbox, patience).await?;
        Ok(self.faults.wrap(stream))
    }

    async fn adopt(&self, sandbox: &Sandbox, spec: &SandboxSpec) -> Result<(), DriverError> {
        self.inner.adopt(sandbox, spec).await
    }

    async fn state(&self, sandbox: &Sandbox) -> Result<SandboxState, DriverError> {
        self.inner.state(sandbox).await
    }

    fn revives(&self) -> bool {
        self.inner.revives()
    }

    async fn remove(&self, sandbox: &Sandbox) -> Result<(), DriverError> {
        self.inner.remove(sandbox).await
    }

    fn is_remote(&self) -> bool {
        self.inner.is_remote()
    }

    async fn renew(
        &self,
        sandbox: &Sandbox,
        time: Duration,
    ) -> Result<Option<Duration>, DriverError> {
        self.inner.renew(sandbox, time).await
    }

    async fn find(&self, labels: &BTreeMap<String, String>) -> Result<Vec<Sandbox>, DriverError> {
        self.inner.find(labels).await
    }
}

/// The session of a world, with a link that can be broken. It must be dropped before its world.
pub struct FaultySession {
    runtime: Option<Runtime>,
    /// Breaks the link.
    pub faults: Faults,
}

impl FaultySession {
    /// Serves this world's project with the profile that its command line uses.
    pub fn start(world: &World) -> Self {
        // What it has to say is shown if the test fails.
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .with_ansi(false)
            .try_init();
        let places = Places {
            config: world.path("c/skync"),
            state: world.path("s/skync"),
            runtime: world.path("r/skync"),
            system: Vec::new(),
        };
        let config = Config::load(&places.config_file()).expect("a configuration");
        let mut profile: Profile = config.select(None, None).expect("a profile").profile;
        if let DriverConfig::Directory(DirectoryConfig { base: base @ None }) = &mut profile.driver
        {
            // This process has the test's environment, not the world's.
            *base = Some(world.path("s/skync/sandboxes"));
        }
        let variables: Vec<_> = world.env().iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let surroundings = Surroundings::of(&variables, Some(&world.path("home")));
        let driver = skync::driver::open_in(&profile, surroundings).expect("a driver with a link");
        let (driver, faults) = Faulty::new(driver);
        let root = world.project().canonicalize().expect("a path");
        let spec = Spec { id: random_id(), root, profile };
        let runtime = pair::runtime();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let failed = Arc::new(Mutex::new(None));
        let failure = Arc::clone(&failed);
        runtime.spawn(async move {
            let said = ready.clone();
            let served = server::serve(places, spec, Arc::new(driver), move || {
                said.send(()).expect("the test waits")
            });
            if let Err(error) = Box::pin(served).await {
                *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
            }
        });
        let ready = is_ready.recv_timeout(super::PATIENCE);
        assert!(ready.is_ok(), "the session does not start: {:?}", failed.lock());
        Self { runtime: Some(runtime), faults }
    }
}

impl Drop for FaultySession {
    fn drop(&mut self) {
        // As after `kill -9`: what is left is found in the journal, and `gc` of the world removes
        // it.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(2));
        }
    }
}
