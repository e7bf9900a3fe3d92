//! Both sides read by the same rules: what happens when these change.

use std::sync::Arc;

use skync_agent::proto::agent_client::AgentClient;
use skync_agent::proto::{FollowRequest, PrepareRequest};
use skync_agent::wire::{self, StateReader};

use super::{Engine, SyncError};
use crate::channel::Channel;
use crate::sync::inbox::Inbox;
use crate::sync::replay::{Progress, Replay};
use crate::sync::safety::Folds;

impl Engine {
    /// Reads the rules anew if they may have changed, and has both sides read by them.
    ///
    /// What is excluded from now on is in neither tree, and so leaves the ancestor without being
    /// deleted anywhere.
    pub(super) async fn refresh_rules(&mut self) -> Result<(), SyncError> {
        if !self.rules_dirty {
            return Ok(());
        }
        let (settings, patterns) = (&self.settings, &self.command_line);
        let host = &mut self.host;
        let was_read = tokio::task::block_in_place(|| host.refresh(settings, patterns))?;
        if was_read || self.following.is_none() {
            self.follow_sandbox().await?;
            for task in self.listening.drain(..) {
                task.abort();
            }
            let (follower, _) = self.host.following()?;
            self.listening.push(self.inbox.listen(follower.seq()));
            self.core.touch_all();
        }
        self.rules_dirty = false;
        Ok(())
    }

    async fn follow_sandbox(&mut self) -> Result<(), SyncError> {
        let rules = self.host.rules();
        let request = PrepareRequest {
            root: self.settings.sandbox_root.as_os_str().as_encoded_bytes().to_vec(),
            create: true,
            rules: Some(wire::rules_to_wire(rules)),
        };
        let reply = self.sandbox.prepare(request).await?.into_inner();
        let case = reply.case_insensitive;
        self.folds[1] = Folds { case, form: case };
        if let Some(before) = self.following.take() {
            before.abort();
        }
        let name = random_name();
        let request = FollowRequest { rules_version: rules.version.0.to_vec(), name };
        self.replay = Arc::new(Replay::of(name));
        let (client, replay) = (self.sandbox.clone(), Arc::clone(&self.replay));
        let task = tokio::spawn(follow(client, request, replay, Arc::clone(&self.inbox)));
        self.following = Some(task.abort_handle());
        let first = self.replay.progress();
        let mut first = first;
        let first = first.wait_for(|progress| *progress != Progress::At(0)).await;
        match first.map(|progress| progress.clone()) {
            Ok(Progress::Ended(why)) => Err(tonic::Status::unavailable(why).into()),
            Ok(Progress::At(_)) | Err(_) => Ok(()),
        }
    }
}

/// No other stream has it, whoever followed before: see `StateNumber` in the contract.
fn random_name() -> u64 {
    let mut name = [0; 8];
    getrandom::fill(&mut name).expect("the kernel gives random bytes");
    u64::from_be_bytes(name).max(1)
}

/// Replays what the agent tells, until the link ends.
async fn follow(
    mut client: AgentClient<Channel>,
    request: FollowRequest,
    replay: Arc<Replay>,
    inbox: Arc<Inbox>,
) {
    let why = async {
        let mut replies = client.follow(request).await?.into_inner();
        let mut reader = StateReader::default();
        while let Some(reply) = replies.message().await? {
            if let Some(state) = reader.push(reply).map_err(broken)? {
                replay.replay(state).map_err(broken)?;
                inbox.wake();
            }
        }
        Err::<(), _>(tonic::Status::unavailable("the agent tells no more of the sandbox"))
    };
    if let Err(status) = why.await {
        replay.end(status.message().to_owned());
        inbox.wake();
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn broken(error: wire::WireError) -> tonic::Status {
    tonic::Status::data_loss(format!("the agent sent something malformed: {error}"))
}
