//! What a test can make go wrong, beside the wire.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::inside::e2b::Quirk;
use crate::record::Log;
use crate::wire::lock;

/// The version of envd that sandboxes behave as when nothing else is said.
const ENVD_VERSION: &str = "0.6.13";

/// Switches of a server. All are off at first.
pub struct Quirks {
    log: Arc<Log>,
    envd: Mutex<BTreeSet<&'static str>>,
    envd_version: Mutex<String>,
    v1_only: AtomicBool,
    port_closed: AtomicBool,
    no_upgrade: AtomicBool,
    plain_cut: AtomicBool,
    guest_unresponsive: AtomicBool,
    transitioning: AtomicU32,
    slow_create: Mutex<Duration>,
    slow_resume: Mutex<Duration>,
}

impl Quirks {
    pub(super) fn new(log: Arc<Log>) -> Self {
        Self {
            log,
            envd: Mutex::default(),
            envd_version: Mutex::new(ENVD_VERSION.to_owned()),
            v1_only: AtomicBool::default(),
            port_closed: AtomicBool::default(),
            no_upgrade: AtomicBool::default(),
            plain_cut: AtomicBool::default(),
            guest_unresponsive: AtomicBool::default(),
            transitioning: AtomicU32::default(),
            slow_create: Mutex::default(),
            slow_resume: Mutex::default(),
        }
    }

    /// Answers the next `times` requests whose `METHOD /path?query` begins with `matcher` so,
    /// whether they are for the API or for a sandbox. They are recorded, and do nothing.
    pub fn fail_next(
        &self,
        matcher: &str,
        status: u16,
        headers: Vec<(String, String)>,
        body: String,
        times: u32,
    ) {
        self.log.fail_next(matcher, status, headers, body, times);
    }

    /// Does what the next `times` requests that begin with `matcher` ask, but drops the connection
    /// in the place of the answer.
    pub fn lose_next(&self, matcher: &str, times: u32) {
        self.log.lose_next(matcher, times);
    }

    /// Answers 404 on all routes under `/v2/sandboxes`, as servers of before do.
    pub fn v1_only(&self, on: bool) {
        self.v1_only.store(on, Ordering::Relaxed);
    }

    pub(super) fn is_v1_only(&self) -> bool {
        self.v1_only.load(Ordering::Relaxed)
    }

    /// Lets no port but envd's be open, whoever listens on it.
    pub fn port_closed(&self, on: bool) {
        self.port_closed.store(on, Ordering::Relaxed);
    }

    pub(super) fn is_port_closed(&self) -> bool {
        self.port_closed.load(Ordering::Relaxed)
    }

    /// Drops `Upgrade` from requests for ports, as an ingress without WebSockets does.
    pub fn no_upgrade(&self, on: bool) {
        self.no_upgrade.store(on, Ordering::Relaxed);
    }

    pub(super) fn is_without_upgrade(&self) -> bool {
        self.no_upgrade.load(Ordering::Relaxed)
    }

    /// Breaks connections off when their sandbox ends: without the `unavailable` at the end of
    /// streams, and without the 502 for what was not answered yet.
    pub fn plain_cut(&self, on: bool) {
        self.plain_cut.store(on, Ordering::Relaxed);
    }

    pub(super) fn is_plain_cut(&self) -> bool {
        self.plain_cut.load(Ordering::Relaxed)
    }

    /// Answers 409 `sandbox_snapshot_guest_agent_unresponsive` to a resume with memory.
    pub fn guest_unresponsive(&self, on: bool) {
        self.guest_unresponsive.store(on, Ordering::Relaxed);
    }

    pub(super) fn is_guest_unresponsive(&self) -> bool {
        self.guest_unresponsive.load(Ordering::Relaxed)
    }

    /// Answers the next so many requests for sandboxes with 409 "still transitioning".
    pub fn transitioning(&self, times: u32) {
        self.transitioning.store(times, Ordering::Relaxed);
    }

    pub(super) fn take_transitioning(&self) -> bool {
        let one_less = |times: u32| times.checked_sub(1);
        self.transitioning.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
    }

    /// Lets a creation take so much longer.
    pub fn slow_create(&self, by: Duration) {
        *lock(&self.slow_create) = by;
    }

    pub(super) fn create_delay(&self) -> Duration {
        *lock(&self.slow_create)
    }

    /// Lets a resume take so much longer.
    pub fn slow_resume(&self, by: Duration) {
        *lock(&self.slow_resume) = by;
    }

    pub(super) fn resume_delay(&self) -> Duration {
        *lock(&self.slow_resume)
    }

    /// Lets sandboxes that are created from now on have this version of envd.
    pub fn envd_version(&self, version: &str) {
        version.clone_into(&mut lock(&self.envd_version));
    }

    pub(super) fn version(&self) -> String {
        lock(&self.envd_version).clone()
    }

    /// Answers StreamInput with `unimplemented`.
    pub fn no_stream_input(&self, on: bool) {
        self.envd_quirk(Quirk::NoStreamInput, on);
    }

    /// Drops all output from streams that begin while it is on; starts and ends still come.
    pub fn lose_output(&self, on: bool) {
        self.envd_quirk(Quirk::LoseOutput, on);
    }

    /// Answers uploads with 507.
    pub fn disk_full(&self, on: bool) {
        self.envd_quirk(Quirk::DiskFull, on);
    }

    /// Answers 415 to binary messages, as clones that speak JSON only.
    pub fn json_only(&self, on: bool) {
        self.envd_quirk(Quirk::JsonOnly, on);
    }

    fn envd_quirk(&self, quirk: Quirk, on: bool) {
        let mut envd = lock(&self.envd);
        if on {
            envd.insert(quirk.name());
        } else {
            envd.remove(quirk.name());
        }
    }

    /// Names what is on of envd's quirks, for the part inside.
    pub(super) fn envd(&self) -> String {
        lock(&self.envd).iter().copied().collect::<Vec<_>>().join(",")
    }
}
