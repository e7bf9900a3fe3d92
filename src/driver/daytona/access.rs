//! Who we are to Daytona, and where it is.
//!
//! Read anew for each request: who logs in again while a session runs need not start it anew.

use crate::credentials::{self, Daytona, Secret, Surroundings};
use crate::driver::http::Request;
use crate::driver::{DriverError, ErrorKind};

/// Where Daytona itself is.
const API: &str = "https://app.daytona.io/api";
/// Says for which organisation a login asks.
const ORGANIZATION_HEADER: &str = "x-daytona-organization-id";

/// How it is to be spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Access {
    token: Secret,
    organization: Option<String>,
    /// The address that all paths of the control plane are appended to.
    pub(super) api: String,
}

impl Access {
    /// As the environment and a login say at this time.
    ///
    /// # Errors
    /// Without a key, or if the address is none.
    pub(super) fn of(surroundings: &Surroundings) -> Result<Self, DriverError> {
        let login = credentials::daytona(surroundings).ok_or_else(|| {
            DriverError::new(ErrorKind::Denied, "there is no key for Daytona")
                .hint("set DAYTONA_API_KEY, or run `daytona login`")
        })?;
        Self::with(surroundings, login)
    }

    /// Another way to be let in by the same server, if the first is refused: the environment of a
    /// session is what it was at its start, and whoever has logged in since has a newer key.
    pub(super) fn other(surroundings: &Surroundings, first: &Self) -> Option<Self> {
        let login = credentials::daytona_login(surroundings)?;
        let other = Self::with(surroundings, login).ok()?;
        (other.api == first.api && other.token != first.token).then_some(other)
    }

    fn with(surroundings: &Surroundings, login: Daytona) -> Result<Self, DriverError> {
        let variable = |name| surroundings.variable(name).map(str::to_owned);
        let api = variable("DAYTONA_API_URL")
            .or_else(|| variable("DAYTONA_SERVER_URL"))
            .or(login.api)
            .unwrap_or_else(|| API.to_owned());
        if !(api.starts_with("https://") || api.starts_with("http://")) {
            let message = format!("the address of Daytona's API, `{api}`, is no URL");
            return Err(DriverError::new(ErrorKind::Invalid, message)
                .hint(format!("unset DAYTONA_API_URL, or set it to one as `{API}`")));
        }
        let api = api.trim_end_matches('/').to_owned();
        let access = Self { token: login.token, organization: login.organization, api };
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

/// Takes from a request what says who asks.
pub(super) fn withdraw(request: &mut Request) {
    request.headers.remove("authorization");
    request.headers.remove(ORGANIZATION_HEADER);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::http::encode;

    fn access(variables: &[(&str, &str)]) -> Result<Access, DriverError> {
        Access::of(&Surroundings::of(variables, None))
    }

    #[test]
    fn the_address_is_the_environments_or_daytonas_own() {
        let key = ("DAYTONA_API_KEY", "dtn_1");
        assert_eq!(access(&[key]).expect("a key").api, "https://app.daytona.io/api");
        let found = access(&[key, ("DAYTONA_SERVER_URL", "http://x/api/")]).expect("a key");
        assert_eq!(found.api, "http://x/api");
        let both = [key, ("DAYTONA_SERVER_URL", "http://x"), ("DAYTONA_API_URL", "http://y")];
        assert_eq!(access(&both).expect("a key").api, "http://y");
        let wrong = access(&[key, ("DAYTONA_API_URL", "app.daytona.io")]).expect_err("no URL");
        assert_eq!(wrong.kind, ErrorKind::Invalid);
    }

    #[test]
    fn without_a_key_it_says_how_to_get_one() {
        let error = access(&[]).expect_err("no key");
        assert_eq!(error.kind, ErrorKind::Denied);
        assert!(error.hints[0].contains("DAYTONA_API_KEY"), "{error:?}");
    }

    #[test]
    fn a_login_needs_its_organisation() {
        let token = ("DAYTONA_JWT_TOKEN", "eyJhbGciOi");
        assert_eq!(access(&[token]).expect_err("no organisation").kind, ErrorKind::Invalid);
        let found = access(&[token, ("DAYTONA_ORGANIZATION_ID", "o")]).expect("both");
        let signed = found.sign(Request::new(http::Method::GET, "http://x"));
        assert_eq!(signed.headers["x-daytona-organization-id"], "o");
        assert!(signed.headers["authorization"].is_sensitive());
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test's own files")]
    fn a_login_is_another_way_in_only_at_the_same_server() {
        let home = tempfile::tempdir().expect("a directory");
        std::fs::create_dir_all(home.path().join(".config/daytona")).expect("made");
        let content = r#"{"activeProfile":"a","profiles":[
            {"id":"a","name":"a","api":{"url":"https://a/api","key":"new"}}]}"#;
        std::fs::write(home.path().join(".config/daytona/config.json"), content).expect("written");
        let other = |variables: &[(&str, &str)]| {
            let surroundings = Surroundings::of(variables, Some(home.path()));
            let first = Access::of(&surroundings).expect("a key");
            Access::other(&surroundings, &first).map(|other| other.token)
        };
        let here = ("DAYTONA_API_URL", "https://a/api");
        assert_eq!(other(&[here, ("DAYTONA_API_KEY", "old")]), Some(Secret::new("new")));
        assert_eq!(other(&[here, ("DAYTONA_API_KEY", "new")]), None);
        assert_eq!(other(&[here]), None);
        // The key is for Daytona's own server, the login for another.
        assert_eq!(other(&[("DAYTONA_API_KEY", "old")]), None);

        let organization = ("DAYTONA_ORGANIZATION_ID", "o");
        let token = access(&[("DAYTONA_JWT_TOKEN", "eyJ"), organization]).expect("both");
        let signed = token.sign(Request::new(http::Method::GET, "http://x"));
        let key = access(&[("DAYTONA_API_KEY", "k")]).expect("a key");
        let signed = key.sign_anew(signed);
        assert_eq!(signed.headers["authorization"], "Bearer k");
        assert!(!signed.headers.contains_key("x-daytona-organization-id"));
    }

    #[test]
    fn a_key_does_not_travel_in_the_open_if_it_need_not() {
        let cloud = access(&[("DAYTONA_API_KEY", "k")]).expect("a key");
        assert!(cloud.may_go_to("https://proxy.app.daytona.io/toolbox"));
        assert!(!cloud.may_go_to("http://proxy.app.daytona.io/toolbox"));
        assert!(!cloud.may_go_to("file:///x"));
    }

    #[test]
    fn any_text_can_be_in_a_url() {
        assert_eq!(encode("a/b c\"é"), "a%2Fb%20c%22%C3%A9");
    }
}
