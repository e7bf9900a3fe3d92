//! The logins of the providers' own tools: files that these write, and that we only read.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Login, Provider, Secret, Surroundings};

/// A file of another tool that is larger is not read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What the provider's own tool has written at its login.
pub(super) fn of(provider: Provider, surroundings: &Surroundings) -> Option<Login> {
    match provider {
        Provider::E2b => e2b(surroundings),
        Provider::Daytona => daytona(surroundings),
    }
}

/// What `e2b auth login` has written. It does not say for which server, so it is E2B's own key and
/// sent nowhere else, but to this machine, which it does not leave.
fn e2b(surroundings: &Surroundings) -> Option<Login> {
    let host = Provider::E2b.host(surroundings);
    let name = host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok());
    let name = name.map_or(host.as_str(), |(name, _)| name);
    if !matches!(name, "e2b.app" | "api.e2b.app" | "localhost" | "127.0.0.1" | "[::1]") {
        return None;
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct File {
        #[serde(alias = "teamApiKey")]
        project_api_key: Option<String>,
    }
    let file: File = read(&surroundings.home.as_ref()?.join(".e2b/config.json"))?;
    let key = file.project_api_key.filter(|key| !key.is_empty())?;
    Some(Login::of(Secret::new(key)))
}

/// What `daytona login` has written, if it is for the server that the environment names.
fn daytona(surroundings: &Surroundings) -> Option<Login> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct File {
        active_profile: String,
        profiles: Vec<FileProfile>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct FileProfile {
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
    let file: File = read(&directory.join("config.json"))?;
    let profile = file.profiles.into_iter().find(|profile| profile.id == file.active_profile)?;
    let Api { url, key, token } = profile.api;
    if let Some(named) = Provider::Daytona.address(surroundings) {
        let own = url.as_deref().unwrap_or("https://app.daytona.io/api");
        if own.trim_end_matches('/') != named.trim_end_matches('/') {
            return None;
        }
    }
    let (token, organization) = match (key.filter(|key| !key.is_empty()), token) {
        (Some(key), _) => (key, None),
        (None, Some(token)) => (token.access_token, profile.active_organization_id),
        (None, None) => return None,
    };
    Some(Login { token: Secret::new(token), organization, api: url })
}

fn read<T: for<'a> Deserialize<'a>>(path: &Path) -> Option<T> {
    let length = std::fs::metadata(path).ok()?.len();
    let bytes = (length <= FILE_BYTES_MAX).then(|| std::fs::read(path).ok())??;
    serde_json::from_slice(Secret::of(bytes).reveal()).ok()
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
    fn a_login_of_e2b_of_any_age_is_read() {
        for content in [r#"{"projectApiKey":"k"}"#, r#"{"teamApiKey":"k","email":"x@y"}"#] {
            let home = home(".e2b/config.json", content);
            let found = e2b(&Surroundings::of(&[], Some(home.path()))).expect("a login");
            assert_eq!(found.token.reveal(), "k");
        }
        assert!(e2b(&Surroundings::of(&[], None)).is_none());
        let home = home(".e2b/config.json", r#"{"projectApiKey":"k"}"#);
        for (name, value, is_used) in [
            ("E2B_DOMAIN", "evil.example", false),
            ("E2B_DOMAIN", "127.0.0.1.example", false),
            ("E2B_API_URL", "https://evil.example/e2b.app", false),
            ("E2B_API_URL", "https://api.e2b.app", true),
            ("E2B_API_URL", "http://127.0.0.1:3000", true),
        ] {
            let around = Surroundings::of(&[(name, value)], Some(home.path()));
            assert_eq!(e2b(&around).is_some(), is_used, "{value}");
        }
    }

    #[test]
    fn a_daytona_login_gives_its_active_profile() {
        let content = r#"{"activeProfile":"b","profiles":[
            {"id":"a","name":"a","api":{"url":"https://a/api","key":"ka"}},
            {"id":"b","name":"b","api":{"url":"https://b/api","token":{"accessToken":"tb"}},
             "activeOrganizationId":"org"}]}"#;
        let home = home(".config/daytona/config.json", content);
        let found = daytona(&Surroundings::of(&[], Some(home.path()))).expect("a login");
        assert_eq!(found.token.reveal(), "tb");
        assert_eq!(found.organization.as_deref(), Some("org"));
        assert_eq!(found.api.as_deref(), Some("https://b/api"));
        for (url, is_used) in [("https://b/api/", true), ("https://evil.example/api", false)] {
            let around = Surroundings::of(&[("DAYTONA_API_URL", url)], Some(home.path()));
            assert_eq!(daytona(&around).is_some(), is_used, "{url}");
        }
    }
}
