//! Whether a profile can work: every problem, not the first.

use bollard::models::SystemInfo;

use super::engine::{Engine, status};
use super::image::{self, ImageName};
use super::running;
use super::user::UserName;
use crate::config::{DockerConfig, LinkKind};
use crate::driver::excerpt::{nearest, printable};
use crate::driver::{DriverError, ErrorKind};

/// The least memory that an engine allows a container, bytes.
const MEMORY_MIN: u64 = 6 * 1024 * 1024;

/// The least part of a CPU that an engine allows, in thousandths.
const MILLI_CPUS_MIN: u64 = 10;

/// The fewest processes with which an operation can run beside the agent.
const PIDS_MIN: u64 = 8;

/// What is wrong with the settings themselves; asks nobody.
pub(super) fn offline(config: &DockerConfig) -> Vec<DriverError> {
    let mut problems = Vec::new();
    let mut invalid = |message: String, hint: &str| {
        problems.push(DriverError::new(ErrorKind::Invalid, message).hint(hint));
    };
    match (&config.image, &config.container) {
        (None, None) => {
            invalid(
                "the profile names neither an image nor a container".into(),
                "set `image` or `container`",
            );
        }
        (Some(_), Some(_)) => {
            invalid(
                "the profile names both an image and a container".into(),
                "set one of `image` and `container`",
            );
        }
        _ => {}
    }
    if let Some(memory) = config.memory.filter(|memory| *memory < MEMORY_MIN) {
        invalid(
            format!("`memory` is {memory} bytes, and an engine allows no less than 6 MiB"),
            "set `memory` to `512m`, or leave it out",
        );
    }
    if let Some(cpus) = config.milli_cpus.filter(|cpus| *cpus < MILLI_CPUS_MIN) {
        invalid(
            format!("`cpus` is {cpus} thousandths, and an engine allows no less than 10"),
            "set `cpus` to `1`, or leave it out",
        );
    }
    if let Some(pids) = config.pids.filter(|pids| *pids < PIDS_MIN) {
        invalid(
            format!("`pids` is {pids}, with which nothing can run beside the agent"),
            "set `pids` to `512`, or leave it out",
        );
    }
    if config.container.is_some() {
        let limits = [
            ("memory", config.memory.is_some()),
            ("cpus", config.milli_cpus.is_some()),
            ("pids", config.pids.is_some()),
            ("network", config.network.is_some()),
        ];
        for (name, _) in limits.into_iter().filter(|(_, set)| *set) {
            invalid(
                format!("`{name}` is set, and a container that already runs is not changed"),
                "remove it, or set `image` instead of `container`",
            );
        }
        if config.link == LinkKind::Socket {
            invalid(
                "`link` is `socket`, and a container that already runs gets no socket".into(),
                "set `link` to `stdio`, or leave it out",
            );
        }
    }
    problems.extend(config.user.as_deref().and_then(|user| UserName::parse(user).err()));
    problems.extend(config.image.as_deref().and_then(|image| ImageName::parse(image).err()));
    problems.extend(config.container.as_deref().and_then(|name| running::check_name(name).err()));
    problems
}

/// What is wrong with them on this engine.
pub(super) async fn online(engine: &Engine, config: &DockerConfig) -> Vec<DriverError> {
    let info = match engine.info().await {
        Ok(info) => info,
        Err(error) => return vec![error],
    };
    let mut problems: Vec<DriverError> = engine.unsuitable(&info).into_iter().collect();
    problems.extend(limits(config, &info));
    if config.link == LinkKind::Socket && !engine.is_local() {
        let message = format!(
            "`link` is `socket`, and the engine at {} is not on this machine",
            engine.address
        );
        problems.push(
            DriverError::new(ErrorKind::Invalid, message)
                .hint("set `link` to `stdio`, or leave it out"),
        );
    }
    if let Some(image) = config.image.as_deref() {
        problems.extend(check_image(engine, image).await.err());
    }
    if let Some(name) = config.container.as_deref().filter(|name| running::check_name(name).is_ok())
    {
        problems.extend(running::running(engine, name).await.err());
    } else if let Some(network) = config.network.as_deref() {
        problems.extend(check_network(engine, network).await.err());
    }
    problems
}

fn limits(config: &DockerConfig, info: &SystemInfo) -> Vec<DriverError> {
    let mut problems = Vec::new();
    let known = |value: Option<i64>| {
        value.and_then(|value| u64::try_from(value).ok()).filter(|value| *value > 0)
    };
    if let (Some(memory), Some(total)) = (config.memory, known(info.mem_total))
        && memory > total
    {
        let message = format!(
            "`memory` is {} MiB, and the engine's machine has {} MiB",
            memory >> 20,
            total >> 20
        );
        problems.push(DriverError::new(ErrorKind::Invalid, message).hint("set `memory` to less"));
    }
    if let (Some(cpus), Some(total)) = (config.milli_cpus, known(info.ncpu))
        && cpus > total.saturating_mul(1000)
    {
        let asked = cpus as f64 / 1000.0;
        let message = format!("`cpus` is {asked}, and the engine's machine has {total}");
        problems.push(DriverError::new(ErrorKind::Invalid, message).hint("set `cpus` to less"));
    }
    problems
}

async fn check_image(engine: &Engine, image: &str) -> Result<(), DriverError> {
    // A bad name was reported offline.
    let Ok(name) = ImageName::parse(image) else {
        return Ok(());
    };
    match image::find(engine, &name).await? {
        Some(found) => {
            let architecture = found.architecture.unwrap_or_default();
            image::machine(&architecture, &format!("the image `{image}`")).map(|_| ())
        }
        None => {
            image::check_registry(engine, &name).await?;
            tracing::info!(image, "the image would be pulled");
            Ok(())
        }
    }
}

async fn check_network(engine: &Engine, network: &str) -> Result<(), DriverError> {
    if matches!(network, "" | "none" | "host" | "bridge" | "default") {
        return Ok(());
    }
    if let Some(container) = network.strip_prefix("container:") {
        return running::running(engine, container).await.map(|_| ());
    }
    let plain = network.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if plain && !network.starts_with('.') {
        match engine.try_call(engine.api.inspect_network(network, None)).await {
            Ok(_) => return Ok(()),
            Err(error) if status(&error) == Some(404) => {}
            Err(error) => {
                return Err(engine.error(&format!("look at the network `{network}`"), error));
            }
        }
    }
    let listed = engine.try_call(engine.api.list_networks(None)).await.unwrap_or_default();
    let names: Vec<String> = listed.into_iter().filter_map(|network| network.name).collect();
    let message = format!("there is no network `{}`", printable(network));
    let mut error = DriverError::new(ErrorKind::NotFound, message);
    let near = nearest(network, names.iter().map(String::as_str));
    if !near.is_empty() {
        error = error.hint(format!("did you mean `{}`?", near.join("`, `")));
    }
    Err(error.hint("`docker network ls` lists those there are"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_reported_and_not_only_the_first() {
        let config = DockerConfig {
            image: Some("../x".into()),
            container: Some("a b".into()),
            memory: Some(1024),
            milli_cpus: Some(1),
            pids: Some(1),
            user: Some("a b".into()),
            link: LinkKind::Socket,
            ..DockerConfig::default()
        };
        let problems = offline(&config);
        assert_eq!(problems.len(), 11, "{problems:#?}");
        assert!(problems.iter().all(|problem| problem.kind == ErrorKind::Invalid));
        assert!(problems.iter().all(|problem| !problem.hints.is_empty()));
    }

    #[test]
    fn plain_settings_have_no_problem() {
        let config = DockerConfig { image: Some("python:3.12".into()), ..DockerConfig::default() };
        assert!(offline(&config).is_empty());
    }

    #[test]
    fn more_than_the_machine_has_is_a_problem() {
        let info = SystemInfo { mem_total: Some(1 << 30), ncpu: Some(2), ..SystemInfo::default() };
        let config = DockerConfig {
            memory: Some(2 << 30),
            milli_cpus: Some(2500),
            ..DockerConfig::default()
        };
        let problems = limits(&config, &info);
        assert_eq!(
            problems[0].message,
            "`memory` is 2048 MiB, and the engine's machine has 1024 MiB"
        );
        assert_eq!(problems[1].message, "`cpus` is 2.5, and the engine's machine has 2");
        assert!(limits(&config, &SystemInfo::default()).is_empty());
    }
}
