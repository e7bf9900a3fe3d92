//! The Docker engine: where it is, whether it answers, whether we may ask it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::around::Around;
use super::check::{Finding, Level};
use super::clock;
use crate::commands::patience::wait;
use crate::config::DriverConfig;
use crate::driver::docker::{self, Engaged, Examined};

/// Less than a check may take, so that what hangs is told with its address.
const PATIENCE: Duration = Duration::from_secs(4);

/// The engine of the profile in use, or of another one, or the one that the environment names.
pub(super) fn look(around: &Around) -> Vec<Finding> {
    let host = around.all_profiles().into_iter().find_map(|profile| match &profile.driver {
        DriverConfig::Docker(docker) => Some(docker.host.clone()),
        _ => None,
    });
    let needed = need(around);
    let host = host.flatten();
    match wait(PATIENCE, docker::examine(host.as_deref())) {
        Some(examined) => said(examined, needed, now()),
        None => {
            let address = docker::engine_address(host.as_deref());
            let found = format!(
                "the engine at {} did not answer within {} s",
                address.unwrap_or_else(|| "an unknown address".to_owned()),
                PATIENCE.as_secs()
            );
            vec![unusable(found, needed).remedy("docker info    says whether it answers at all")]
        }
    }
}

/// How bad it is if there is none.
fn need(around: &Around) -> Level {
    let is_docker = |driver: &DriverConfig| matches!(driver, DriverConfig::Docker(_));
    if around.profile().is_some_and(|profile| is_docker(&profile.driver)) {
        Level::Problem
    } else if around.profiles.iter().any(|profile| is_docker(&profile.driver)) {
        Level::Warning
    } else {
        Level::Skipped
    }
}

fn unusable(found: String, needed: Level) -> Finding {
    let why = match needed {
        Level::Problem => "the profile in use makes its sandboxes there",
        Level::Warning => "a profile that is not in use makes its sandboxes there",
        Level::Skipped | Level::Ok => "no profile needs it",
    };
    Finding::problem("docker", found).why(why).level(needed)
}

fn said(examined: Examined, needed: Level, now: i64) -> Vec<Finding> {
    let engaged = match examined.answer {
        Ok(engaged) => engaged,
        Err(error) => {
            let mut finding = unusable(error.message, needed);
            finding.remedy = error.hints;
            return vec![finding];
        }
    };
    let address = examined.address.unwrap_or_default();
    if let Some(reason) = &engaged.unsuitable {
        let finding = unusable(reason.clone(), needed);
        return vec![finding.remedy("install Docker 20.10 or later, with Linux containers")];
    }
    let mut findings = vec![Finding::ok("docker", words(&engaged, &address))];
    findings.extend(clock::compared("docker", engaged.clock.as_deref(), now));
    findings
}

fn words(engaged: &Engaged, address: &str) -> String {
    let rootless = if engaged.rootless { ", rootless" } else { "" };
    let place = if engaged.local { "" } else { ", over the network" };
    let Engaged { version, api, system, .. } = engaged;
    format!("{version}, API {api}, on {system}{rootless}{place}, at {address}")
}

/// Seconds since 1970.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DockerConfig, Profile};

    fn around(base: &std::path::Path, host: &str) -> Around {
        let docker = DockerConfig {
            image: Some("x".into()),
            host: Some(host.into()),
            ..DockerConfig::default()
        };
        let profile = Profile::new("dev", DriverConfig::Docker(docker));
        Around { selected: Ok((profile, String::new())), ..Around::below(base) }
    }

    #[test]
    fn an_engine_that_is_not_there_is_a_problem_for_who_needs_it() {
        let base = tempfile::tempdir().expect("a directory");
        let socket = base.path().join("no.sock");
        let mut around = around(base.path(), &format!("unix://{}", socket.display()));
        let found = look(&around);
        assert_eq!(found[0].level, Level::Problem);
        assert!(found[0].found.contains("no such socket"), "{found:?}");
        assert!(found[0].remedy[0].contains("systemctl start docker"), "{found:?}");
        let (profile, _) = around.selected.clone().expect("one");
        around.selected = Err("none".into());
        around.profiles = vec![profile];
        assert_eq!(look(&around)[0].level, Level::Warning);
    }

    #[test]
    fn an_engine_that_hangs_is_told_with_its_address() {
        let base = tempfile::tempdir().expect("a directory");
        let socket = base.path().join("hangs.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("bound");
        let found = look(&around(base.path(), &format!("unix://{}", socket.display())));
        assert_eq!(found[0].level, Level::Problem);
        assert!(found[0].found.contains("hangs.sock` (from the profile's `host`)"), "{found:?}");
        assert!(found[0].found.contains("did not answer within"), "{found:?}");
    }

    #[test]
    fn an_engine_that_answers_is_told_with_its_clock() {
        let engaged = Engaged {
            version: "29.1".into(),
            api: "1.52".into(),
            system: "Debian".into(),
            rootless: true,
            local: true,
            clock: Some("1970-01-01T00:10:00Z".into()),
            unsuitable: None,
        };
        let address = Some("`/s` (the default)".to_owned());
        let found = said(Examined { address, answer: Ok(engaged) }, Level::Problem, 0);
        assert_eq!(found[0].found, "29.1, API 1.52, on Debian, rootless, at `/s` (the default)");
        assert_eq!((found[1].level, found[1].what.as_str()), (Level::Warning, "clock of docker"));
    }
}
