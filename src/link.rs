//! The authenticated connection between a session and the agent in its sandbox.

use std::time::Duration;

use skync_agent::handshake::{HandshakeError, greet};
use skync_agent::proto::AgentInfo;
use skync_agent::proto::agent_client::AgentClient;
use skync_agent::serve::MESSAGE_BYTES_MAX;

use crate::channel::{Channel, origin};
use crate::driver::{Driver, DriverError, LinkSecret, Sandbox};

/// A new agent answers within this; a machine under heavy load takes its time.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The driver has no byte stream.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// The two ends do not agree.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The agent does not answer.
    #[error("the agent did not answer within {} s", PATIENCE.as_secs())]
    Silent,
    /// It is another binary than the one we put there.
    #[error("the agent that answers is not the one that was installed (its SHA-256 differs)")]
    Impostor,
    /// HTTP/2 did not start.
    #[error("the connection to the agent failed")]
    Http(#[from] hyper::Error),
}

/// An open link.
#[derive(Clone, Debug)]
pub struct Link {
    /// The agent's calls.
    pub client: AgentClient<Channel>,
    /// What it said of itself.
    pub agent: AgentInfo,
    channel: Channel,
}

impl Link {
    /// Dials the agent of `sandbox` and proves both ends to each other.
    ///
    /// `sha256` is what was installed, if that is known.
    ///
    /// # Errors
    /// Anything that keeps the link from being open.
    pub async fn open(
        driver: &dyn Driver,
        sandbox: &Sandbox,
        secret: &LinkSecret,
        epoch: u64,
        sha256: Option<[u8; 32]>,
    ) -> Result<Self, LinkError> {
        let mut stream = driver.dial(sandbox, PATIENCE).await?;
        let greeting = greet(&mut stream, &secret.0, epoch);
        let agent =
            tokio::time::timeout(PATIENCE, greeting).await.map_err(|_| LinkError::Silent)??;
        if sha256.is_some_and(|sha256| agent.sha256 != sha256) {
            return Err(LinkError::Impostor);
        }
        let channel = Channel::open(stream).await?;
        let client = AgentClient::with_origin(channel.clone(), origin())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        Ok(Self { client, agent, channel })
    }

    /// False once the link has ended.
    pub fn is_open(&self) -> bool {
        self.channel.is_open()
    }

    /// Returns when the link has ended.
    pub async fn closed(&self) {
        self.channel.closed().await;
    }
}
