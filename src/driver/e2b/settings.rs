//! Where E2B is: what its SDKs take from the environment, taken the same way.

use std::sync::Arc;

use crate::config::E2bConfig;
use crate::credentials::{Found, Keys, Provider, Surroundings};
use crate::driver::key::Refused;
use crate::driver::{DriverError, key};

/// The port of envd.
pub(super) const ENVD_PORT: u16 = 49983;
/// The domain if nothing else is said.
const DOMAIN: &str = "e2b.app";
/// The template if nothing else is said.
const TEMPLATE: &str = "base";
/// The one sandbox there is with `E2B_DEBUG`, as the SDKs call it.
pub(super) const DEBUG_SANDBOX: &str = "debug_sandbox_id";

/// Where E2B is, and what sandboxes are made of.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) config: E2bConfig,
    keys: Keys,
    refused: Arc<Refused>,
    /// Base of the control plane, without a slash at its end.
    pub(super) api: String,
    /// Base of everything that goes into a sandbox, which is then found by headers.
    sandbox_url: Option<String>,
    domain: String,
    /// There is no control plane: one envd on this machine is the only sandbox.
    pub(super) debug: bool,
}

impl Settings {
    pub(super) fn new(config: &E2bConfig, surroundings: Surroundings) -> Self {
        let text = |name: &str| surroundings.variable(name).map(str::to_owned);
        let debug = text("E2B_DEBUG").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let domain = text("E2B_DOMAIN").unwrap_or_else(|| DOMAIN.to_owned());
        let named = Provider::E2b.address(&surroundings).map(str::to_owned);
        let api = named.unwrap_or_else(|| match debug {
            true => "http://localhost:3000".to_owned(),
            false => format!("https://api.{domain}"),
        });
        let bare = |url: String| url.trim_end_matches('/').to_owned();
        let sandbox_url = text("E2B_SANDBOX_URL").map(bare);
        let (config, api) = (config.clone(), bare(api));
        let keys = Keys::new(Provider::E2b, surroundings);
        let refused = Arc::default();
        Self { config, keys, refused, api, sandbox_url, domain, debug }
    }

    /// The key, looked for anew: who logs in again need not start the session anew.
    ///
    /// # Errors
    /// If there is none, or it cannot be read.
    pub(super) async fn key(&self) -> Result<Found, DriverError> {
        let first = key::first(&self.keys).await?;
        if !self.refused.is_replaced(&first.login.token) {
            return Ok(first);
        }
        Ok(self.keys.another(&first).await.unwrap_or(first))
    }

    /// True if the key stands for one of another place that was refused.
    pub(super) async fn is_replacement(&self, used: &Found) -> bool {
        let first = self.keys.first().await.ok().flatten();
        first.is_some_and(|first| first.source != used.source)
    }

    /// Another key, if that one is refused: the environment of a session is what it was at its
    /// start, and whoever has logged in since has a newer one.
    pub(super) async fn other_key(&self, sent: &Found) -> Option<Found> {
        let current = self.key().await.ok()?;
        // Somebody has a new one since this was sent.
        if current.login.token != sent.login.token && current.source.may_replace(&sent.source) {
            return Some(current);
        }
        self.keys.another(sent).await
    }

    /// What is known of keys that were refused.
    pub(super) fn refused(&self) -> &Refused {
        &self.refused
    }

    /// Has the keychain and the command asked again.
    pub(super) fn forget(&self) {
        self.keys.forget();
    }

    pub(super) fn template(&self) -> &str {
        self.config.template.as_deref().unwrap_or(TEMPLATE)
    }

    /// Where a port of a sandbox is reached, without a slash at its end.
    pub(super) fn port_url(&self, sandbox: &str, domain: Option<&str>, port: u16) -> String {
        match &self.sandbox_url {
            Some(url) => url.clone(),
            None if self.debug => format!("http://localhost:{port}"),
            None => format!("https://{port}-{sandbox}.{}", domain.unwrap_or(&self.domain)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::ErrorKind;

    fn settings(variables: &[(&str, &str)]) -> Settings {
        Settings::new(&E2bConfig::default(), Surroundings::of(variables, None))
    }

    #[tokio::test]
    async fn the_cloud_is_the_default() {
        let plain = settings(&[]);
        assert_eq!(plain.api, "https://api.e2b.app");
        assert_eq!(plain.port_url("ix", None, 49983), "https://49983-ix.e2b.app");
        assert_eq!(plain.port_url("ix", Some("eu.x"), 80), "https://80-ix.eu.x");
        assert!(plain.key().await.err().is_some_and(|error| error.kind == ErrorKind::Auth));
    }

    #[tokio::test]
    async fn the_environment_of_the_sdks_is_honoured() {
        let own = settings(&[("E2B_DOMAIN", "my.cloud"), ("E2B_API_KEY", "k")]);
        assert_eq!(own.api, "https://api.my.cloud");
        assert_eq!(own.port_url("ix", None, 1), "https://1-ix.my.cloud");
        assert_eq!(own.key().await.expect("a key").login.token.reveal(), "k");
        let urls = [("E2B_API_URL", "http://a:1/"), ("E2B_SANDBOX_URL", "http://b:2/")];
        let local = settings(&urls);
        assert_eq!((&*local.api, &*local.port_url("ix", None, 9)), ("http://a:1", "http://b:2"));
        let debug = settings(&[("E2B_DEBUG", "True")]);
        assert_eq!((&*debug.api, debug.debug), ("http://localhost:3000", true));
        assert_eq!(debug.port_url("ix", None, 49983), "http://localhost:49983");
    }
}
