//! Daytona, whose server is unwell in each of the ways that the real one is known for.

mod creation;
mod life;

use std::ops::Deref;

use test_servers::daytona::{Options, SandboxView, State};

use crate::support::World;

/// A world with a server of Daytona's kind.
struct Cloud(World);

impl Deref for Cloud {
    type Target = World;

    fn deref(&self) -> &World {
        &self.0
    }
}

impl Cloud {
    /// With these flags of the profile; none without an engine.
    fn with(profile: &[&str], change: impl FnOnce(&mut Options)) -> Option<Self> {
        World::with_daytona_options(profile, change).map(Self)
    }

    fn new() -> Option<Self> {
        Self::with(&[], |_| {})
    }

    /// The sandboxes that are not gone.
    fn living(&self) -> Vec<SandboxView> {
        let all = self.daytona().sandboxes().into_iter();
        all.filter(|sandbox| sandbox.state != State::Destroyed).collect()
    }

    /// How many sandboxes were ever made.
    fn made(&self) -> usize {
        self.daytona().sandboxes().len()
    }

    /// The one sandbox that lives.
    fn sandbox(&self) -> SandboxView {
        let mut living = self.living();
        assert_eq!(living.len(), 1, "{living:?}");
        living.remove(0)
    }

    /// Runs a script beside the agent, as its user, unknown to everybody.
    fn inside(&self, script: &str) -> String {
        let container = self.sandbox().container.expect("it runs");
        let run = ["exec", "--user", "daytona", &container, "sh", "-c", script];
        let output = std::process::Command::new("docker").args(run).output().expect("docker runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Nothing of ours is at the server or on the host.
    #[track_caller]
    fn expect_clean(&self) {
        let living = self.living();
        assert!(living.is_empty(), "{living:?}");
        self.expect_nothing_left();
    }

    /// The problems that `profile validate` finds.
    fn problems(&self) -> String {
        let outcome = self.run(&["profile", "validate", "cloud"]);
        format!("{}{}", outcome.stdout, outcome.stderr)
    }
}

/// A body as the control plane writes errors.
fn error_body(status: u16, message: &str) -> String {
    serde_json::json!({ "statusCode": status, "error": "x", "message": message }).to_string()
}

/// A command that counts, until the file `/tmp/end` is in its sandbox.
const UNTIL_END: [&str; 3] = [
    "sh",
    "-c",
    "echo ready; n=0
     while [ ! -e /tmp/end ]; do n=$((n + 1)); echo $n; sleep 0.1; done
     echo made > made",
];
