//! Where E2B is: what its SDKs take from the environment, taken the same way.

use crate::config::E2bConfig;
use crate::credentials::{self, Secret, Surroundings};
use crate::driver::{DriverError, ErrorKind};

/// The port of envd.
pub(super) const ENVD_PORT: u16 = 49983;
/// The domain if nothing else is said.
const DOMAIN: &str = "e2b.app";
/// The template if nothing else is said.
const TEMPLATE: &str = "base";
/// The one sandbox there is with `E2B_DEBUG`, as the SDKs call it.
pub(super) const DEBUG_SANDBOX: &str = "debug_sandbox_id";

/// Where E2B is, and what sandboxes are made of.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) config: E2bConfig,
    surroundings: Surroundings,
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
        let api = text("E2B_API_URL").unwrap_or_else(|| match debug {
            true => "http://localhost:3000".to_owned(),
            false => format!("https://api.{domain}"),
        });
        let bare = |url: String| url.trim_end_matches('/').to_owned();
        let sandbox_url = text("E2B_SANDBOX_URL").map(bare);
        let (config, api) = (config.clone(), bare(api));
        Self { config, surroundings, api, sandbox_url, domain, debug }
    }

    /// The key, read anew: who logs in again need not start the session anew.
    ///
    /// # Errors
    /// If there is none.
    pub(super) fn key(&self) -> Result<Secret, DriverError> {
        credentials::e2b(&self.surroundings).ok_or_else(|| {
            DriverError::new(ErrorKind::Denied, "there is no key for E2B")
                .hint("set E2B_API_KEY, or log in with `e2b auth login`")
                .hint("keys are made at https://e2b.dev/dashboard?tab=keys")
        })
    }

    /// Another key, if the first is not accepted: the environment of a session is what it was at its
    /// start, and whoever has logged in since has a newer one.
    pub(super) fn other_key(&self) -> Option<Secret> {
        let first = credentials::e2b(&self.surroundings)?;
        credentials::e2b_login(&self.surroundings).filter(|other| *other != first)
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

    fn settings(variables: &[(&str, &str)]) -> Settings {
        Settings::new(&E2bConfig::default(), Surroundings::of(variables, None))
    }

    #[test]
    fn the_cloud_is_the_default() {
        let plain = settings(&[]);
        assert_eq!(plain.api, "https://api.e2b.app");
        assert_eq!(plain.port_url("ix", None, 49983), "https://49983-ix.e2b.app");
        assert_eq!(plain.port_url("ix", Some("eu.x"), 80), "https://80-ix.eu.x");
        assert!(plain.key().is_err_and(|error| error.kind == ErrorKind::Denied));
    }

    #[test]
    fn the_environment_of_the_sdks_is_honoured() {
        let own = settings(&[("E2B_DOMAIN", "my.cloud"), ("E2B_API_KEY", "k")]);
        assert_eq!(own.api, "https://api.my.cloud");
        assert_eq!(own.port_url("ix", None, 1), "https://1-ix.my.cloud");
        assert_eq!(own.key().expect("a key"), Secret::new("k"));
        let urls = [("E2B_API_URL", "http://a:1/"), ("E2B_SANDBOX_URL", "http://b:2/")];
        let local = settings(&urls);
        assert_eq!((&*local.api, &*local.port_url("ix", None, 9)), ("http://a:1", "http://b:2"));
        let debug = settings(&[("E2B_DEBUG", "True")]);
        assert_eq!((&*debug.api, debug.debug), ("http://localhost:3000", true));
        assert_eq!(debug.port_url("ix", None, 49983), "http://localhost:49983");
    }
}
