//! The background process that serves one project with one profile.
//!
//! It is started by the first command that needs it and ends when nothing does: when the last
//! command and the last `up` have left and nothing was told to go on in the background. The command line
//! talks to it over a unix socket (`proto/session.proto`); it owns the sandbox, the link and the
//! synchronisation. Its parent, the keeper, does nothing but wait: if the session dies of anything,
//! `kill -9` included, the keeper removes what it has made. If both die, the lease inside the
//! sandbox ends it, and `skync gc` removes the rest.
//!
//! A keeper instead of exit handlers, because none runs after `kill -9`; instead of a pipe-watching
//! reaper beside the session, because a parent cannot miss its child's end.

mod archive;
mod attach;
pub mod cleanup;
pub mod client;
mod content;
mod edits;
pub mod errors;
pub mod events;
mod exec;
pub mod journal;
pub mod keeper;
mod lease;
pub mod lifecycle;
pub mod live;
mod mirror;
mod moment;
mod mount_calls;
pub mod mount_place;
mod mount_table;
mod mounting;
mod operations;
mod overview;
pub mod paths;
mod sandbox;
pub mod server;
mod service;
pub mod setup;
mod succession;
mod supervise;
mod up;
pub mod view;
mod ways;
mod wish;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::Profile;
use crate::state::Places;

/// The session contract, generated from `proto/session.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod proto {
    tonic::include_proto!("skync.session.v1");
}

impl proto::OperationState {
    /// Nothing of it runs any more, as far as is known.
    pub fn is_over(self) -> bool {
        matches!(self, Self::OperationEnded | Self::OperationLost)
    }
}

/// What a session is started with; on its standard input, as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spec {
    /// Chosen by the keeper: 16 lower-case hexadecimal digits.
    pub id: String,
    /// The project on the host, absolute and without symbolic links.
    pub root: PathBuf,
    /// The profile.
    pub profile: Profile,
}

/// The name that a project and a profile have among all sessions of a user: 16 hexadecimal digits.
pub fn key(root: &std::path::Path, profile: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(root.as_os_str().as_encoded_bytes()).update(&[0]).update(profile.as_bytes());
    hasher.finalize().to_hex()[..16].to_owned()
}

/// Where the session of that key listens.
pub fn socket(places: &Places, key: &str) -> PathBuf {
    places.runtime.join(format!("{key}.sock"))
}

/// A random id: 16 lower-case hexadecimal digits.
pub fn random_id() -> String {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the kernel gives random bytes");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
