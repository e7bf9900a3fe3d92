//! Worlds whose sandboxes are at a provider: at a test server of ours that speaks its protocol, and
//! that the provider's own SDK takes for it (`providers`).

use std::path::PathBuf;

use test_servers::daytona::{Daytona, State};
use test_servers::e2b::E2b;
use test_servers::wire::Wire;

use super::{World, docker_is_there};

/// The key that the servers accept. Long enough to be looked for in whatever is written.
pub const KEY: &str = "e2b_9c41d07a55be4f1e8a3392cf";

/// A provider.
pub enum Cloud {
    /// E2B.
    E2b(Box<E2b>),
    /// Daytona.
    Daytona(Box<Daytona>),
}

/// The program that runs inside of the servers' sandboxes. It is an example of this package, and so
/// built with the tests.
pub fn test_servers() -> PathBuf {
    let own = std::env::current_exe().expect("a path");
    let target = own.parent().and_then(|deps| deps.parent()).expect("target/PROFILE");
    let program = target.join("examples/test-servers");
    assert!(program.exists(), "`{}` is not there: build the examples", program.display());
    program
}

impl World {
    /// A world whose profile `cloud` is used, with an E2B server of its own.
    pub fn with_e2b() -> Option<Self> {
        Self::with_e2b_options(&[])
    }

    /// The same, with more options for `profile add`.
    pub fn with_e2b_options(options: &[&str]) -> Option<Self> {
        if !docker_is_there() {
            return None;
        }
        let mut server = test_servers::e2b::Options::new(test_servers());
        KEY.clone_into(&mut server.key);
        let server = E2b::start(server);
        let mut world = Self::new();
        let url = server.url();
        world.env = [("E2B_API_KEY", KEY), ("E2B_API_URL", &url), ("E2B_SANDBOX_URL", &url)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec();
        world.cloud = Some(Cloud::E2b(Box::new(server)));
        world.run(&[&["profile", "add", "cloud", "--driver", "e2b"], options].concat());
        Some(world)
    }

    /// A world whose profile `cloud` is used, with a Daytona server of its own.
    pub fn with_daytona() -> Option<Self> {
        Self::with_daytona_options(&[], |_| {})
    }

    /// The same, with more options for `profile add` and other ones of the server.
    pub fn with_daytona_options(
        options: &[&str],
        change: impl FnOnce(&mut test_servers::daytona::Options),
    ) -> Option<Self> {
        if !docker_is_there() {
            return None;
        }
        let mut server = test_servers::daytona::Options::new(test_servers());
        KEY.clone_into(&mut server.key);
        change(&mut server);
        let server = Daytona::start(server);
        let mut world = Self::new();
        world.env = [("DAYTONA_API_KEY", KEY), ("DAYTONA_API_URL", &server.api_url())]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec();
        world.cloud = Some(Cloud::Daytona(Box::new(server)));
        world.run(&[&["profile", "add", "cloud", "--driver", "daytona"], options].concat());
        Some(world)
    }

    /// Adds a variable.
    pub fn set(&mut self, name: &str, value: &str) {
        self.env.retain(|(own, _)| own != name);
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// Its E2B.
    pub fn e2b(&self) -> &E2b {
        match &self.cloud {
            Some(Cloud::E2b(server)) => server,
            _ => panic!("a world of E2B"),
        }
    }

    /// Its Daytona.
    pub fn daytona(&self) -> &Daytona {
        match &self.cloud {
            Some(Cloud::Daytona(server)) => server,
            _ => panic!("a world of Daytona"),
        }
    }

    /// The connections to its provider.
    pub fn wire(&self) -> &Wire {
        match &self.cloud {
            Some(Cloud::E2b(server)) => server.wire(),
            Some(Cloud::Daytona(server)) => server.wire(),
            None => panic!("a world of a provider"),
        }
    }

    /// What its provider has of it, for a list of what is left.
    pub fn in_the_cloud(&self) -> Vec<String> {
        match &self.cloud {
            Some(Cloud::E2b(server)) => {
                server.sandboxes().iter().map(|one| format!("sandbox {}", one.id)).collect()
            }
            Some(Cloud::Daytona(server)) => {
                let mut all = server.sandboxes();
                // It remembers these.
                all.retain(|one| one.state != State::Destroyed);
                all.iter().map(|one| format!("sandbox {}", one.id)).collect()
            }
            None => Vec::new(),
        }
    }
}
