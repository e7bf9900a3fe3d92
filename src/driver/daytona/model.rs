//! What Daytona says of a sandbox. Read leniently: its servers are newer than what is written here.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;

use crate::driver::excerpt::printable;
use crate::driver::{self, label};

/// Where a sandbox is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    PendingBuild,
    BuildingSnapshot,
    PullingSnapshot,
    Creating,
    Restoring,
    Starting,
    Resuming,
    Started,
    Resizing,
    Snapshotting,
    Forking,
    Stopping,
    Stopped,
    Pausing,
    Paused,
    Archiving,
    Archived,
    Destroying,
    Destroyed,
    Error,
    BuildFailed,
    /// One that Daytona has not settled on, or that is newer than this.
    #[default]
    #[serde(other)]
    Unknown,
}

impl State {
    /// What is being done with it, for a person who waits.
    pub(super) fn step(self) -> &'static str {
        match self {
            Self::PendingBuild => "waiting for the image's build",
            Self::BuildingSnapshot => "building the image",
            Self::PullingSnapshot => "pulling the snapshot",
            Self::Restoring | Self::Archiving | Self::Archived => "restoring the sandbox",
            Self::Starting | Self::Resuming | Self::Started | Self::Stopped | Self::Paused => {
                "starting the sandbox"
            }
            Self::Stopping | Self::Pausing => "waiting for the sandbox to stop",
            Self::Destroying | Self::Destroyed => "waiting for the sandbox to go",
            Self::Creating
            | Self::Resizing
            | Self::Snapshotting
            | Self::Forking
            | Self::Error
            | Self::BuildFailed
            | Self::Unknown => "creating the sandbox",
        }
    }

    /// It takes minutes: an image or a whole disk is moved.
    pub(super) fn is_long(self) -> bool {
        matches!(
            self,
            Self::PendingBuild
                | Self::BuildingSnapshot
                | Self::PullingSnapshot
                | Self::Restoring
                | Self::Archiving
        )
    }
}

/// A sandbox.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Sandbox {
    pub(super) id: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    labels: Option<BTreeMap<String, Value>>,
    #[serde(default)]
    state: Option<State>,
    #[serde(default)]
    error_reason: Option<String>,
    #[serde(default)]
    recoverable: Option<bool>,
    #[serde(default)]
    toolbox_proxy_url: Option<String>,
    #[serde(default)]
    auto_stop_interval: Option<f64>,
    #[serde(default)]
    auto_delete_interval: Option<f64>,
}

impl Sandbox {
    pub(super) fn state(&self) -> State {
        self.state.unwrap_or_default()
    }

    pub(super) fn name(&self) -> &str {
        self.name.as_deref().filter(|name| !name.is_empty()).unwrap_or(&self.id)
    }

    /// What Daytona says went wrong.
    pub(super) fn reason(&self) -> Option<String> {
        self.error_reason.as_deref().map(printable).filter(|reason| !reason.is_empty())
    }

    /// It is in an error that Daytona can get it out of.
    pub(super) fn is_recoverable(&self) -> bool {
        self.recoverable == Some(true)
    }

    /// The address below which its toolbox is, under its id.
    pub(super) fn toolbox(&self) -> Option<String> {
        let url = self.toolbox_proxy_url.as_deref().filter(|url| !url.is_empty())?;
        Some(format!("{}/{}", url.trim_end_matches('/'), self.id))
    }

    /// Minutes without use after which Daytona stops it; nothing if never.
    pub(super) fn auto_stop(&self) -> Option<u64> {
        let minutes = self.auto_stop_interval.filter(|minutes| (1.0..1e9).contains(minutes))?;
        // In these bounds it is a number of minutes.
        Some(minutes.ceil() as u64)
    }

    /// Daytona destroys it as soon as it has stopped.
    pub(super) fn is_ephemeral(&self) -> bool {
        self.auto_delete_interval == Some(0.0)
    }

    pub(super) fn label(&self, name: &str) -> Option<&str> {
        self.labels.as_ref()?.get(name)?.as_str()
    }

    /// We made it, for this session.
    pub(super) fn is_of(&self, session: &str) -> bool {
        self.label(label::VERSION).is_some() && self.label(label::SESSION) == Some(session)
    }

    /// It carries all these labels, and is ours.
    pub(super) fn carries(&self, labels: &BTreeMap<String, String>) -> bool {
        self.label(label::VERSION).is_some()
            && labels.iter().all(|(name, value)| self.label(name) == Some(value))
    }

    /// For the rest of the program.
    pub(super) fn into_sandbox(self) -> driver::Sandbox {
        let name = self.name().to_owned();
        let root = self.label(label::PROJECT).map_or_else(|| PathBuf::from("/"), PathBuf::from);
        let labels = self.labels.unwrap_or_default().into_iter();
        let labels = labels
            .filter(|(name, _)| name.starts_with("skync."))
            .filter_map(|(name, value)| Some((name, value.as_str()?.to_owned())))
            .collect();
        driver::Sandbox { id: self.id, name, root, ephemeral: true, labels }
    }
}

/// A page of a list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page {
    #[serde(default)]
    pub(super) items: Vec<Sandbox>,
    #[serde(default)]
    pub(super) next_cursor: Option<String>,
}

/// What a key is.
#[derive(Debug, Deserialize)]
pub(super) struct Key {
    #[serde(default)]
    pub(super) permissions: Option<Vec<String>>,
}

/// A region.
#[derive(Debug, Deserialize)]
pub(super) struct Region {
    #[serde(default)]
    pub(super) id: String,
    #[serde(default)]
    pub(super) name: String,
}

/// Where a port is to be seen from outside.
#[derive(Deserialize)]
pub(super) struct Preview {
    pub(super) url: String,
    /// A secret.
    pub(super) token: String,
}

/// An address.
#[derive(Debug, Deserialize)]
pub(super) struct Address {
    pub(super) url: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Sandbox {
        serde_json::from_str(text).expect("a sandbox")
    }

    #[test]
    fn what_is_newer_or_missing_is_no_error() {
        let found = read(r#"{"id":"i","state":"dreaming","kvm":true,"labels":null,"cpu":1.5}"#);
        assert_eq!((found.state(), found.name()), (State::Unknown, "i"));
        assert_eq!((found.auto_stop(), found.is_ephemeral(), found.toolbox()), (None, false, None));
        assert_eq!(read(r#"{"id":"i","state":null}"#).state(), State::Unknown);
        assert_eq!(read(r#"{"id":"i","state":"build_failed"}"#).state(), State::BuildFailed);
    }

    #[test]
    fn what_is_ours_is_told_by_its_labels() {
        let found = read(
            r#"{"id":"i","name":"n","labels":{"skync.v":"1","skync.session":"a","x":"y"},
                "autoStopInterval":2,"autoDeleteInterval":0,"toolboxProxyUrl":"http://p/toolbox/"}"#,
        );
        assert!(found.is_of("a") && !found.is_of("b"));
        let wanted = |name: &str, value: &str| BTreeMap::from([(name.into(), value.into())]);
        assert!(found.carries(&wanted("x", "y")) && !found.carries(&wanted("x", "z")));
        assert_eq!(found.toolbox().as_deref(), Some("http://p/toolbox/i"));
        assert_eq!((found.auto_stop(), found.is_ephemeral()), (Some(2), true));
        let labels = found.into_sandbox().labels;
        assert_eq!(labels.into_keys().collect::<Vec<_>>(), ["skync.session", "skync.v"]);
        assert!(!read(r#"{"id":"i","labels":{"skync.session":"a"}}"#).is_of("a"));
    }
}
