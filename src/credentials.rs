//! Keys of providers: where they come from, and how they are kept from being shown.
//!
//! In the order environment, then the file that the provider's own command line writes at its login.
//! The file is read at each use: who logs in again while a session runs need not start it anew.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// A file of another tool that is larger is not read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for whoever sends it to where it belongs.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The environment and the home directory, or what a test has in their place.
#[derive(Clone, Debug)]
pub struct Surroundings {
    variables: Vec<(String, String)>,
    home: Option<PathBuf>,
    config: Option<PathBuf>,
}

impl Surroundings {
    /// Those of this process.
    pub fn of_process() -> Self {
        let text = |name: std::ffi::OsString| name.into_string().ok();
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            let name = text(name).filter(|n| n.starts_with("E2B_") || n.starts_with("DAYTONA_"))?;
            Some((name, text(value)?))
        });
        let path = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
        let home = path("HOME");
        let config =
            path("XDG_CONFIG_HOME").or_else(|| home.as_ref().map(|home| home.join(".config")));
        Self { variables: variables.collect(), home, config }
    }

    /// These alone.
    pub fn of(variables: &[(&str, &str)], home: Option<&Path>) -> Self {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self {
            variables: variables.iter().map(own).collect(),
            home: home.map(Path::to_owned),
            config: home.map(|home| home.join(".config")),
        }
    }

    /// A variable that is set and not empty.
    pub fn variable(&self, name: &str) -> Option<&str> {
        let found = self.variables.iter().find(|(own, _)| own == name);
        found.map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
    }
}

/// The key for E2B: `E2B_API_KEY`, or what `e2b auth login` has written.
pub fn e2b(surroundings: &Surroundings) -> Option<Secret> {
    let own = surroundings.variable("E2B_API_KEY").map(Secret::new);
    own.or_else(|| e2b_login(surroundings))
}

/// What `e2b auth login` has written.
pub fn e2b_login(surroundings: &Surroundings) -> Option<Secret> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Login {
        #[serde(alias = "teamApiKey")]
        project_api_key: Option<String>,
    }
    let login: Login = read(&surroundings.home.as_ref()?.join(".e2b/config.json"))?;
    login.project_api_key.filter(|key| !key.is_empty()).map(Secret::new)
}

/// How to speak to Daytona.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daytona {
    /// An API key, or the token of a login.
    pub token: Secret,
    /// With the token of a login.
    pub organization: Option<String>,
    /// The API that the key is for, if a login says so.
    pub api: Option<String>,
}

/// The key for Daytona: `DAYTONA_API_KEY`, else `DAYTONA_JWT_TOKEN`, else what `daytona login` has
/// written. Never from a `.env` file: a project could send the key elsewhere.
pub fn daytona(surroundings: &Surroundings) -> Option<Daytona> {
    if let Some(key) = surroundings.variable("DAYTONA_API_KEY") {
        return Some(Daytona { token: Secret::new(key), organization: None, api: None });
    }
    if let Some(token) = surroundings.variable("DAYTONA_JWT_TOKEN") {
        let organization = surroundings.variable("DAYTONA_ORGANIZATION_ID").map(str::to_owned);
        return Some(Daytona { token: Secret::new(token), organization, api: None });
    }
    daytona_login(surroundings)
}

/// What `daytona login` has written.
pub fn daytona_login(surroundings: &Surroundings) -> Option<Daytona> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Login {
        active_profile: String,
        profiles: Vec<LoginProfile>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct LoginProfile {
        id: String,
        api: Api,
        active_organization_id: Option<String>,
    }
    #[derive(Deserialize)]
    struct Api {
        url: Option<String>,
        key: Option<String>,
        token: Option<Token>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Token {
        access_token: String,
    }
    let directory = match surroundings.variable("DAYTONA_CONFIG_DIR") {
        Some(directory) => PathBuf::from(directory),
        None => surroundings.config.as_ref()?.join("daytona"),
    };
    let login: Login = read(&directory.join("config.json"))?;
    let profile = login.profiles.into_iter().find(|profile| profile.id == login.active_profile)?;
    let Api { url, key, token } = profile.api;
    let (token, organization) = match (key.filter(|key| !key.is_empty()), token) {
        (Some(key), _) => (key, None),
        (None, Some(token)) => (token.access_token, profile.active_organization_id),
        (None, None) => return None,
    };
    Some(Daytona { token: Secret::new(token), organization, api: url })
}

fn read<T: for<'a> Deserialize<'a>>(path: &Path) -> Option<T> {
    let length = std::fs::metadata(path).ok()?.len();
    let bytes = (length <= FILE_BYTES_MAX).then(|| std::fs::read(path).ok())??;
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own files")]
mod tests {
    use super::*;

    fn home(file: &str, content: &str) -> tempfile::TempDir {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join(file);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        std::fs::write(path, content).expect("written");
        home
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(format!("{:?}", Secret::new("e2b_123")), "Secret(…)");
    }

    #[test]
    fn the_environment_wins_over_a_login() {
        let home = home(".e2b/config.json", r#"{"projectApiKey":"file","projectName":"x"}"#);
        let both = Surroundings::of(&[("E2B_API_KEY", "env")], Some(home.path()));
        assert_eq!(e2b(&both), Some(Secret::new("env")));
        let empty = Surroundings::of(&[("E2B_API_KEY", " ")], Some(home.path()));
        assert_eq!(e2b(&empty), Some(Secret::new("file")));
        assert_eq!(e2b(&Surroundings::of(&[], None)), None);
    }

    #[test]
    fn a_login_of_an_older_e2b_is_read_too() {
        let home = home(".e2b/config.json", r#"{"teamApiKey":"old","email":"x@y"}"#);
        assert_eq!(e2b(&Surroundings::of(&[], Some(home.path()))), Some(Secret::new("old")));
    }

    #[test]
    fn a_daytona_login_gives_its_active_profile() {
        let content = r#"{"activeProfile":"b","profiles":[
            {"id":"a","name":"a","api":{"url":"https://a/api","key":"ka"}},
            {"id":"b","name":"b","api":{"url":"https://b/api","token":{"accessToken":"tb"}},
             "activeOrganizationId":"org"}]}"#;
        let home = home(".config/daytona/config.json", content);
        let found = daytona(&Surroundings::of(&[], Some(home.path()))).expect("a login");
        assert_eq!(found.token, Secret::new("tb"));
        assert_eq!(found.organization.as_deref(), Some("org"));
        assert_eq!(found.api.as_deref(), Some("https://b/api"));
    }

    #[test]
    fn an_api_key_wins_over_a_token() {
        let all = [("DAYTONA_JWT_TOKEN", "t"), ("DAYTONA_API_KEY", "k")];
        let found = daytona(&Surroundings::of(&all, None)).expect("a key");
        assert_eq!((found.token, found.organization), (Secret::new("k"), None));
    }
}
