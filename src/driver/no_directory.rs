//! The driver `directory` where there is no agent for this system: it makes nothing, and says so.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;

use crate::config::DirectoryConfig;
use crate::driver::{
    AgentSource, ByteStream, Driver, DriverError, ErrorKind, LinkSecret, Progress, Sandbox,
    SandboxSpec, SandboxState,
};

/// The directory driver, without directories.
pub(super) struct Directory;

impl Directory {
    /// A driver; no setting makes a difference.
    pub(super) fn new(_config: &DirectoryConfig) -> Self {
        Self
    }
}

fn not_here() -> DriverError {
    let message = "the driver `directory` runs skync's agent on this machine, and that is a Linux \
                   program";
    DriverError::new(ErrorKind::Invalid, message)
        .hint("`skync profile add NAME --driver docker --image IMAGE` makes a profile that works here")
        .hint("`skync use local` runs commands in place, without a sandbox")
}

#[async_trait]
impl Driver for Directory {
    async fn validate(&self) -> Vec<DriverError> {
        vec![not_here()]
    }

    async fn create(
        &self,
        _spec: &SandboxSpec,
        _secret: &LinkSecret,
        _agents: &dyn AgentSource,
        _progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Sandbox, DriverError> {
        Err(not_here())
    }

    async fn dial(
        &self,
        _sandbox: &Sandbox,
        _patience: Duration,
    ) -> Result<Box<dyn ByteStream>, DriverError> {
        Err(not_here())
    }

    async fn adopt(&self, _sandbox: &Sandbox, _spec: &SandboxSpec) -> Result<(), DriverError> {
        Err(not_here())
    }

    async fn state(&self, _sandbox: &Sandbox) -> Result<SandboxState, DriverError> {
        Ok(SandboxState::Gone)
    }

    async fn remove(&self, _sandbox: &Sandbox) -> Result<(), DriverError> {
        Ok(())
    }

    async fn find(&self, _labels: &BTreeMap<String, String>) -> Result<Vec<Sandbox>, DriverError> {
        Ok(Vec::new())
    }
}
