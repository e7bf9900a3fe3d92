//! Who we are to Daytona, and where it is.
//!
//! Read anew for each request: who logs in again while a session runs need not start it anew.

use crate::credentials::{Found, Keys, Login, Provider, Secret, Source, Surroundings};
use crate::driver::http::Request;
use crate::driver::{DriverError, ErrorKind, key};

/// Where Daytona itself is.
const API: &str = "https://app.daytona.io/api";
/// Says for which organisation a login asks.
const ORGANIZATION_HEADER: &str = "x-daytona-organization-id";

/// How it is to be spoken to.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Access {
    token: Secret,
    organization: Option<String>,
    /// The address that all paths of the control plane are appended to.
    pub(super) api: String,
    source: Source,
    is_replacement: bool,
}

impl Access {
    /// As the environment and a login say at this time.
    ///
    /// # Errors
    /// Without a key, or if the address is none.
    pub(super) async fn of(keys: &Keys) -> Result<Self, DriverError> {
        Self::with(keys.surroundings(), key::first(keys).await?)
    }

    /// Another way to be let in by the same server, if this one is refused.
    pub(super) async fn other(&self, keys: &Keys) -> Option<Self> {
        let login = Login::of(self.token.clone());
        let refused = Found { login, source: self.source.clone() };
        let mut other = Self::with(keys.surroundings(), keys.another(&refused).await?).ok()?;
        other.is_replacement = self.is_replacement || other.source != self.source;
        other.may_replace(self).then_some(other)
    }

    /// True if it may be used where that one was refused.
    pub(super) fn may_replace(&self, refused: &Self) -> bool {
        self.api == refused.api && self.source.may_replace(&refused.source)
    }

    /// True if it stands for one of another place that was refused.
    pub(super) fn is_replacement(&self) -> bool {
        self.is_replacement
    }

    /// True if the request is signed with it.
    pub(super) fn has_signed(&self, request: &Request) -> bool {
        let sent = request.headers.get("authorization").map(|value| value.as_bytes());
        let token = sent.and_then(|sent| sent.strip_prefix(b"Bearer "));
        token == Some(self.token.reveal().as_bytes())
    }

    fn with(surroundings: &Surroundings, found: Found) -> Result<Self, DriverError> {
        let Found { login, source } = found;
        let api = address(surroundings, login.api);
        if !(api.starts_with("https://") || api.starts_with("http://")) {
            let message = format!("the address of Daytona's API, `{api}`, is no URL");
            return Err(DriverError::new(ErrorKind::Invalid, message)
                .hint(format!("unset DAYTONA_API_URL, or set it to one as `{API}`")));
        }
        let api = api.trim_end_matches('/').to_owned();
        let (token, organization) = (login.token, login.organization);
        let access = Self { token, organization, api, source, is_replacement: false };
        if access.is_login() && access.organization.is_none() {
            let message = "the token of a Daytona login says nothing without its organisation";
            return Err(DriverError::new(ErrorKind::Invalid, message)
                .hint("set DAYTONA_ORGANIZATION_ID, or use DAYTONA_API_KEY"));
        }
        Ok(access)
    }

    pub(super) fn token(&self) -> &Secret {
        &self.token
    }

    /// True with the token of a person's login, false with an API key.
    pub(super) fn is_login(&self) -> bool {
        self.organization.is_some() || self.token.reveal().starts_with("eyJ")
    }

    /// For which organisation a login speaks.
    pub(super) fn organization(&self) -> Option<&str> {
        self.organization.as_deref()
    }

    /// Adds to a request who asks.
    pub(super) fn sign(&self, request: Request) -> Request {
        let request = request
            .secret("authorization", "Bearer ", &self.token)
            .header("x-daytona-source", "skync");
        match &self.organization {
            Some(organization) => request.header(ORGANIZATION_HEADER, organization),
            None => request,
        }
    }

    /// The same request of somebody else.
    pub(super) fn sign_anew(&self, mut request: Request) -> Request {
        withdraw(&mut request);
        self.sign(request)
    }

    /// True if the key may be sent to an address that Daytona has named: it must not travel in the
    /// open where the API itself is encrypted.
    pub(super) fn may_go_to(&self, url: &str) -> bool {
        url.starts_with("https://")
            || (url.starts_with("http://") && self.api.starts_with("http://"))
    }
}

/// Where the API is: the environment, a login, or where Daytona itself is.
pub(super) fn address(surroundings: &Surroundings, of_login: Option<String>) -> String {
    let named = Provider::Daytona.address(surroundings).map(str::to_owned);
    named.or(of_login).unwrap_or_else(|| API.to_owned())
}

/// Takes from a request what says who asks.
pub(super) fn withdraw(request: &mut Request) {
    request.headers.remove("authorization");
    request.headers.remove(ORGANIZATION_HEADER);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::Provider;
    use crate::driver::http::encode;

    fn keys(variables: &[(&str, &str)], home: Option<&std::path::Path>) -> Keys {
        Keys::new(Provider::Daytona, Surroundings::of(variables, home))
    }

    async fn access(variables: &[(&str, &str)]) -> Result<Access, DriverError> {
        Access::of(&keys(variables, None)).await
    }

    async fn error(variables: &[(&str, &str)]) -> DriverError {
        access(variables).await.err().expect("no access")
    }

    #[tokio::test]
    async fn the_address_is_the_environments_or_daytonas_own() {
        let key = ("DAYTONA_API_KEY", "dtn_1");
        assert_eq!(access(&[key]).await.expect("a key").api, "https://app.daytona.io/api");
        let found = access(&[key, ("DAYTONA_SERVER_URL", "http://x/api/")]).await.expect("a key");
        assert_eq!(found.api, "http://x/api");
        let both = [key, ("DAYTONA_SERVER_URL", "http://x"), ("DAYTONA_API_URL", "http://y")];
        assert_eq!(access(&both).await.expect("a key").api, "http://y");
        let wrong = error(&[key, ("DAYTONA_API_URL", "app.daytona.io")]).await;
        assert_eq!(wrong.kind, ErrorKind::Invalid);
    }

    #[tokio::test]
    async fn without_a_key_it_says_how_to_get_one() {
        let error = error(&[]).await;
        assert_eq!(error.kind, ErrorKind::Auth);
        assert!(error.hints[0].contains("DAYTONA_API_KEY"), "{error:?}");
    }

    #[tokio::test]
    async fn a_login_needs_its_organisation() {
        let token = ("DAYTONA_JWT_TOKEN", "eyJhbGciOi");
        assert_eq!(error(&[token]).await.kind, ErrorKind::Invalid);
        let found = access(&[token, ("DAYTONA_ORGANIZATION_ID", "o")]).await.expect("both");
        let signed = found.sign(Request::new(http::Method::GET, "http://x"));
        assert_eq!(signed.headers["x-daytona-organization-id"], "o");
        assert!(signed.headers["authorization"].is_sensitive());
    }

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "a test's own files")]
    async fn a_login_is_another_way_in_only_at_the_same_server() {
        let home = tempfile::tempdir().expect("a directory");
        std::fs::create_dir_all(home.path().join(".config/daytona")).expect("made");
        let content = r#"{"activeProfile":"a","profiles":[
            {"id":"a","name":"a","api":{"url":"https://a/api","key":"new"}}]}"#;
        std::fs::write(home.path().join(".config/daytona/config.json"), content).expect("written");
        let other = async |variables: &[(&str, &str)]| {
            let keys = keys(variables, Some(home.path()));
            let first = Access::of(&keys).await.expect("a key");
            first.other(&keys).await.map(|other| other.token.reveal().clone())
        };
        let here = ("DAYTONA_API_URL", "https://a/api");
        assert_eq!(other(&[here, ("DAYTONA_API_KEY", "old")]).await.as_deref(), Some("new"));
        assert_eq!(other(&[here, ("DAYTONA_API_KEY", "new")]).await, None);
        assert_eq!(other(&[here]).await, None);
        // The key is for Daytona's own server, the login for another.
        assert_eq!(other(&[("DAYTONA_API_KEY", "old")]).await, None);

        let organization = ("DAYTONA_ORGANIZATION_ID", "o");
        let token = access(&[("DAYTONA_JWT_TOKEN", "eyJ"), organization]).await.expect("both");
        let signed = token.sign(Request::new(http::Method::GET, "http://x"));
        let key = access(&[("DAYTONA_API_KEY", "k")]).await.expect("a key");
        let signed = key.sign_anew(signed);
        assert_eq!(signed.headers["authorization"], "Bearer k");
        assert!(!signed.headers.contains_key("x-daytona-organization-id"));
    }

    #[tokio::test]
    async fn a_key_does_not_travel_in_the_open_if_it_need_not() {
        let cloud = access(&[("DAYTONA_API_KEY", "k")]).await.expect("a key");
        assert!(cloud.may_go_to("https://proxy.app.daytona.io/toolbox"));
        assert!(!cloud.may_go_to("http://proxy.app.daytona.io/toolbox"));
        assert!(!cloud.may_go_to("file:///x"));
    }

    #[test]
    fn any_text_can_be_in_a_url() {
        assert_eq!(encode("a/b c\"é"), "a%2Fb%20c%22%C3%A9");
    }
}
