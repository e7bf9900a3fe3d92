//! Whether the providers of the profiles can be reached. Nobody else is asked anything.

use std::collections::BTreeMap;
use std::time::Duration;

use super::around::Around;
use super::check::{Finding, Level};
use super::clock;
use super::engine::now;
use crate::commands::patience::wait;
use crate::credentials::Surroundings;
use crate::driver;
use crate::driver::reach::{self, Reached};

/// Less than a check may take, so that what hangs is told with its address.
const PATIENCE: Duration = Duration::from_secs(4);
/// The variables that send requests another way.
const PROXIES: [&str; 8] = [
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
];

/// Every provider that a profile uses, each address once.
pub(super) fn look(around: &Around) -> Vec<Finding> {
    let surroundings = surroundings(around);
    // The profile in use comes first, and its need counts.
    let mut wanted: BTreeMap<String, (String, Level)> = BTreeMap::new();
    for profile in around.all_profiles() {
        let Some(url) = driver::provider(profile, &surroundings) else { continue };
        let is_used = Some(profile) == around.profile();
        let level = if is_used { Level::Problem } else { Level::Warning };
        wanted.entry(url).or_insert_with(|| (profile.driver.name().to_owned(), level));
    }
    if wanted.is_empty() {
        return vec![Finding::skipped("providers", "no profile uses one")];
    }
    let proxies = proxies(around);
    let asked = async {
        let ask = wanted.keys().map(|url| reach::reach(url, PATIENCE));
        futures_util::future::join_all(ask).await
    };
    let answers = wait(PATIENCE + Duration::from_millis(500), asked);
    let late = || Err(format!("no answer within {} s", PATIENCE.as_secs()));
    let answers = answers.unwrap_or_else(|| wanted.keys().map(|_| late()).collect());
    let each = wanted.iter().zip(answers);
    each.flat_map(|((url, (name, level)), answer)| said(name, url, answer, *level, &proxies))
        .collect()
}

/// What the credentials of this process are taken from.
fn surroundings(around: &Around) -> Surroundings {
    let variables: Vec<(&str, &str)> = around
        .variables
        .iter()
        .filter(|(name, _)| name.starts_with("E2B_") || name.starts_with("DAYTONA_"))
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    Surroundings::of(&variables, around.variable("HOME").map(std::path::Path::new))
}

/// The proxies that are set, by their names: an address may hold a password.
fn proxies(around: &Around) -> String {
    let set: Vec<&str> =
        PROXIES.into_iter().filter(|name| around.variable(name).is_some()).collect();
    if set.is_empty() { String::new() } else { format!(" ({} set)", set.join(", ")) }
}

fn said(
    name: &str,
    url: &str,
    answer: Result<Reached, String>,
    level: Level,
    proxies: &str,
) -> Vec<Finding> {
    let host = reach::host(url);
    match answer {
        Ok(reached) => {
            let found = format!("`{host}` answers (HTTP {}){proxies}", reached.status);
            let finding = match reached.status {
                407 => Finding::problem(
                    name,
                    format!("a proxy before `{host}` wants a login{proxies}"),
                )
                .why("no request gets to the provider")
                .remedy("export HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT")
                .level(level),
                500.. => Finding::warning(name, found)
                    .why("the provider has trouble of its own")
                    .remedy(format!("curl -sI {url}    and the provider's status page")),
                _ => Finding::ok(name, found),
            };
            let clock = clock::compared(name, reached.date.as_deref(), now());
            [Some(finding), clock].into_iter().flatten().collect()
        }
        Err(why) => {
            let finding =
                Finding::problem(name, format!("`{host}` cannot be reached: {why}{proxies}"))
                    .why("no sandbox can be made, found or removed there")
                    .remedy(format!(
                        "curl -sSI {url}    shows where it ends: name, proxy, certificate"
                    ))
                    .level(level);
            vec![finding]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DriverConfig, E2bConfig, Profile};
    use std::io::{Read, Write};
    use std::net::TcpListener;

    fn around(base: &std::path::Path, url: &str) -> Around {
        let profile = Profile::new("cloud", DriverConfig::E2b(E2bConfig::default()));
        let mut around = Around { selected: Ok((profile, String::new())), ..Around::below(base) };
        around.variables.insert("E2B_API_URL".into(), url.into());
        around
    }

    #[test]
    fn nobody_is_asked_whom_no_profile_uses() {
        let base = tempfile::tempdir().expect("a directory");
        assert_eq!(look(&Around::below(base.path()))[0].level, Level::Skipped);
    }

    #[test]
    fn a_provider_that_answers_is_there_whatever_it_says_and_shows_its_clock() {
        let base = tempfile::tempdir().expect("a directory");
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut request = [0; 4096];
            let length = stream.read(&mut request).expect("read");
            let answer = "HTTP/1.1 401 No\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answer.as_bytes()).expect("written");
            String::from_utf8_lossy(&request[..length]).to_lowercase()
        });
        let mut around = around(base.path(), &url);
        around.variables.insert("E2B_API_KEY".into(), "e2b_canary".into());
        let found = look(&around);
        assert_eq!(found[0].level, Level::Ok, "{found:?}");
        assert_eq!(found[1].level, Level::Warning, "{found:?}");
        assert!(!server.join().expect("it ends").contains("canary"), "a key was sent");
    }

    #[test]
    fn a_provider_that_cannot_be_reached_is_told_with_the_proxies_by_name() {
        let base = tempfile::tempdir().expect("a directory");
        let free = TcpListener::bind("127.0.0.1:0").expect("bound").local_addr().expect("one");
        let mut around = around(base.path(), &format!("http://{free}"));
        around.variables.insert("NO_PROXY".into(), "secret.example".into());
        let found = look(&around);
        assert_eq!(found[0].level, Level::Problem);
        assert!(found[0].found.ends_with("(NO_PROXY set)"), "{found:?}");
        assert!(!found[0].found.contains("secret"), "{found:?}");
    }
}
