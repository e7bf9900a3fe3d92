//! A sandbox as the control plane keeps it, and as it shows it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use serde_json::{Value, json};

use super::clock;
use crate::container::Container;

/// Where a sandbox is in its life. Only the states that this server passes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the API's own")]
pub enum State {
    PendingBuild,
    BuildingSnapshot,
    PullingSnapshot,
    Creating,
    Started,
    Stopping,
    Stopped,
    Starting,
    Archiving,
    Archived,
    Restoring,
    Destroying,
    Destroyed,
    Error,
    BuildFailed,
}

impl State {
    /// The state's name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PendingBuild => "pending_build",
            Self::BuildingSnapshot => "building_snapshot",
            Self::PullingSnapshot => "pulling_snapshot",
            Self::Creating => "creating",
            Self::Started => "started",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Archiving => "archiving",
            Self::Archived => "archived",
            Self::Restoring => "restoring",
            Self::Destroying => "destroying",
            Self::Destroyed => "destroyed",
            Self::Error => "error",
            Self::BuildFailed => "build_failed",
        }
    }

    /// Whether a change is under way, so that another one has to wait.
    pub(crate) fn is_moving(self) -> bool {
        match self {
            Self::PendingBuild
            | Self::BuildingSnapshot
            | Self::PullingSnapshot
            | Self::Creating
            | Self::Stopping
            | Self::Starting
            | Self::Archiving
            | Self::Restoring
            | Self::Destroying => true,
            Self::Started
            | Self::Stopped
            | Self::Archived
            | Self::Destroyed
            | Self::Error
            | Self::BuildFailed => false,
        }
    }
}

/// The four intervals of a sandbox, in minutes, as the API counts them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Intervals {
    /// Without activity for so long it is stopped; 0 is never.
    pub(crate) stop: i64,
    pub(crate) pause: i64,
    /// Stopped for so long it is archived.
    pub(crate) archive: i64,
    /// Stopped for so long it is destroyed; 0 is at once, below 0 is never.
    pub(crate) delete: i64,
    /// Destroyed so long after its creation; 0 is never.
    pub(crate) ttl: i64,
}

/// One sandbox.
#[derive(Clone)]
pub(crate) struct Sandbox {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) user: String,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) public: bool,
    /// cpu, gpu, memory, disk.
    pub(crate) resources: [u64; 4],
    pub(crate) target: String,
    pub(crate) snapshot: Option<String>,
    pub(crate) build_info: Option<Value>,
    pub(crate) state: State,
    pub(crate) desired: &'static str,
    pub(crate) error_reason: Option<String>,
    pub(crate) recoverable: bool,
    pub(crate) intervals: Intervals,
    pub(crate) created: SystemTime,
    pub(crate) created_at: Instant,
    pub(crate) updated: SystemTime,
    pub(crate) active: SystemTime,
    pub(crate) active_at: Instant,
    /// When it came into the state it is in.
    pub(crate) state_since: Instant,
    /// Lists do not show it earlier.
    pub(crate) listed_from: Instant,
    /// The preview token; another one at each start.
    pub(crate) token: String,
    pub(crate) image: String,
    pub(crate) container: Option<Arc<Container>>,
    /// How many requests to the toolbox fail yet after the start, and with what.
    pub(crate) toolbox_failures: (u32, u16),
}

impl Sandbox {
    pub(crate) fn set_state(&mut self, state: State) {
        self.state = state;
        self.state_since = Instant::now();
        self.updated = SystemTime::now();
        self.touch();
    }

    /// Begins its idle time anew.
    pub(crate) fn touch(&mut self) {
        self.active = SystemTime::now();
        self.active_at = Instant::now();
    }

    /// The whole of it, as most calls answer.
    pub(crate) fn full(&self, base: &str) -> Value {
        let mut value = self.item(base);
        value["env"] = json!(self.env);
        value["volumes"] = json!([]);
        if let Some(build) = &self.build_info {
            value["buildInfo"] = json!({
                "dockerfileContent": build["dockerfileContent"],
                "contextHashes": build.get("contextHashes").cloned().unwrap_or_else(|| json!([])),
                "createdAt": clock::iso(self.created),
                "updatedAt": clock::iso(self.updated),
                "snapshotRef": format!("daytona/{}", self.id),
            });
        }
        value
    }

    /// What a list shows of it.
    pub(crate) fn item(&self, base: &str) -> Value {
        let [cpu, gpu, memory, disk] = self.resources;
        let mut value = json!({
            "id": self.id,
            "organizationId": super::ORGANIZATION,
            "name": self.name,
            "user": self.user,
            "labels": self.labels,
            "public": self.public,
            "networkBlockAll": false,
            "target": self.target,
            "cpu": cpu,
            "gpu": gpu,
            "memory": memory,
            "disk": disk,
            "toolboxProxyUrl": format!("{base}/toolbox"),
            "state": self.state.as_str(),
            "desiredState": self.desired,
            "recoverable": self.recoverable,
            "autoStopInterval": self.intervals.stop,
            "autoPauseInterval": self.intervals.pause,
            "autoArchiveInterval": self.intervals.archive,
            "autoDeleteInterval": self.intervals.delete,
            "createdAt": clock::iso(self.created),
            "updatedAt": clock::iso(self.updated),
            "lastActivityAt": clock::iso(self.active),
            "sandboxClass": "container",
            "daemonVersion": super::DAEMON_VERSION,
            "runnerId": "runner-1",
            "spot": false,
            "kvm": false,
        });
        if let Some(snapshot) = &self.snapshot {
            value["snapshot"] = json!(snapshot);
        }
        if let Some(reason) = &self.error_reason {
            value["errorReason"] = json!(reason);
        }
        value
    }
}
