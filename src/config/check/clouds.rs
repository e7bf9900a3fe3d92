//! The keys of the drivers whose sandboxes are somebody else's: e2b and daytona.

use std::time::Duration;

use toml_edit::{Key, TableLike, Value};

use super::super::keys::Kind;
use super::super::problem::Bad;
use super::super::{DaytonaConfig, DockerConfig, E2bConfig, values};
use super::Checker;
use crate::ui::visible;

/// A provider counts in whole minutes or keeps a sandbox a while for itself: less means nothing.
const TIMEOUT_MIN: Duration = Duration::from_secs(60);
/// No provider keeps a sandbox for longer without a word.
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// The unit in which Daytona sells memory and disks, bytes.
const GIB: u64 = 1 << 30;

/// What both have.
pub(super) struct Cloud {
    timeout: Option<Duration>,
    internet: bool,
}

impl Checker<'_> {
    /// Reads a list of a program and its arguments.
    pub(super) fn command(&mut self, table: &dyn TableLike, key: &str) -> Option<Vec<String>> {
        let list = "a list of a program and its arguments";
        let words = self.value(table, key, list, |value| {
            value.as_array()?.iter().map(|word| word.as_str().map(str::to_owned)).collect()
        })?;
        self.checked(key, table.get(key)?, values::command(words))
    }

    pub(super) fn cloud(&mut self, table: &dyn TableLike) -> Cloud {
        let internet = self.value(table, "internet", "true or false", Value::as_bool);
        Cloud { timeout: self.text(table, "timeout", timeout), internet: internet.unwrap_or(true) }
    }

    pub(super) fn e2b(&mut self, table: &dyn TableLike, kind: Kind, cloud: &Cloud) -> E2bConfig {
        let mut config = E2bConfig {
            template: self.text(table, "template", |text| values::cloud_name("template", text)),
            timeout: cloud.timeout,
            internet: cloud.internet,
            on_timeout: self
                .text(table, "on_timeout", |text| {
                    values::one_of("way to end", text, &values::ON_TIMEOUT)
                })
                .unwrap_or_default(),
            ..E2bConfig::default()
        };
        if kind == Kind::E2b {
            // What is wrong with it as a name was said already.
            config.user = table.get("user").and_then(|item| values::user(item.as_str()?).ok());
            config.link = self
                .text(table, "link", |text| values::one_of("link", text, &values::E2B_LINKS))
                .unwrap_or_default();
            if config.user.as_ref().is_some_and(|user| user.contains(':')) {
                let span = table.key("user").and_then(Key::span);
                let bad = Bad::new("`user`: the driver `e2b` takes no group")
                    .hint("write the name of a user of the template, as in `root`");
                self.report(span, bad);
            }
        }
        config
    }

    pub(super) fn daytona(
        &mut self,
        table: &dyn TableLike,
        kind: Kind,
        cloud: &Cloud,
        common: &DockerConfig,
    ) -> DaytonaConfig {
        let gib = |bytes: u64| u32::try_from(bytes / GIB).ok();
        let disk = self.text(table, "disk", values::memory);
        if kind == Kind::Daytona {
            self.daytona_together(table, common, disk);
        }
        DaytonaConfig {
            snapshot: self.text(table, "snapshot", |text| values::cloud_name("snapshot", text)),
            image: common.image.clone(),
            cpus: common.milli_cpus.and_then(|milli| u32::try_from(milli / 1000).ok()),
            memory_gib: common.memory.and_then(gib),
            disk_gib: disk.and_then(gib),
            target: self.text(table, "target", |text| values::cloud_name("target", text)),
            timeout: cloud.timeout,
            internet: cloud.internet,
        }
    }

    /// What settings of the daytona driver say together.
    fn daytona_together(
        &mut self,
        table: &dyn TableLike,
        common: &DockerConfig,
        disk: Option<u64>,
    ) {
        let span = |key: &str| table.key(key).and_then(Key::span);
        if table.contains_key("image") && table.contains_key("snapshot") {
            let bad = Bad::new("`image` and `snapshot` exclude each other")
                .hint("a snapshot is an image that is built already; keep one");
            self.report(span("snapshot"), bad);
        }
        for key in ["cpus", "memory", "disk"] {
            if table.contains_key(key) && !table.contains_key("image") {
                let bad = Bad::new(format!("`{key}` has no effect without `image`"))
                    .hint("a snapshot has the size that it was made with");
                self.report(span(key), bad);
            }
        }
        if common.milli_cpus.is_some_and(|milli| milli % 1000 != 0) {
            let bad = Bad::new("`cpus`: Daytona has whole CPUs only").hint("write `1`, `2` or `4`");
            self.report(span("cpus"), bad);
        }
        for (key, bytes) in [("memory", common.memory), ("disk", disk)] {
            if bytes.is_some_and(|bytes| !bytes.is_multiple_of(GIB)) {
                let bad = Bad::new(format!("`{key}`: Daytona has whole GiB only"))
                    .hint("write `1GiB`, `2GiB` or `4GiB`");
                self.report(span(key), bad);
            }
        }
    }
}

fn timeout(text: &str) -> Result<Duration, Bad> {
    let timeout = values::duration(text)?;
    if (TIMEOUT_MIN..=TIMEOUT_MAX).contains(&timeout) {
        return Ok(timeout);
    }
    Err(Bad::new(format!("`{}` is not between one minute and one day", visible(text)))
        .hint("it is how long the sandbox outlives its session at most; `10m` is the default"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Config, DriverConfig, E2bLink, OnTimeout, Profile};

    fn read(driver: &str, lines: &str) -> Result<Profile, Vec<String>> {
        let text = format!("[profiles.x]\ndriver = \"{driver}\"\n{lines}");
        let config = Config::parse(Path::new("config.toml"), text.as_bytes());
        let checked = config.profile("x").expect("it is there");
        checked.map_err(|problems| problems.into_iter().map(|one| one.message).collect())
    }

    #[test]
    fn what_can_be_set_for_e2b_is_read() {
        let lines = "template = \"team/py:v2\"\ntimeout = \"2h\"\ninternet = false\n\
                     on_timeout = \"pause\"\nuser = \"root\"\nlink = \"stream\"\n";
        let profile = read("e2b", lines).expect("good");
        assert_eq!(profile.outlives(), Duration::from_secs(7200));
        let expected = E2bConfig {
            template: Some("team/py:v2".to_owned()),
            timeout: Some(Duration::from_secs(7200)),
            internet: false,
            on_timeout: OnTimeout::Pause,
            user: Some("root".to_owned()),
            link: E2bLink::Stream,
        };
        assert_eq!(profile.driver, DriverConfig::E2b(expected));
        let plain = read("e2b", "").expect("nothing need be set");
        assert_eq!(plain.driver, DriverConfig::E2b(E2bConfig::default()));
    }

    #[test]
    fn what_can_be_set_for_daytona_is_read() {
        let lines = "image = \"python:3.12\"\ncpus = 2\nmemory = \"4GiB\"\ndisk = \"10g\"\n\
                     target = \"eu\"\n";
        let expected = DaytonaConfig {
            image: Some("python:3.12".to_owned()),
            cpus: Some(2),
            memory_gib: Some(4),
            disk_gib: Some(10),
            target: Some("eu".to_owned()),
            ..DaytonaConfig::default()
        };
        assert_eq!(read("daytona", lines).expect("good").driver, DriverConfig::Daytona(expected));
    }

    #[test]
    fn what_cannot_be_is_named() {
        for (driver, line, wanted) in [
            ("e2b", "timeout = \"5s\"", "`timeout`: `5s` is not between one minute and one day"),
            ("e2b", "user = \"1:1\"", "`user`: the driver `e2b` takes no group"),
            ("e2b", "link = \"socket\"", "`link`: `socket` is not a link"),
            ("e2b", "on_timeout = \"stop\"", "`on_timeout`: `stop` is not a way to end"),
            ("e2b", "image = \"a\"", "`image` belongs to the drivers `docker`, `daytona`"),
            ("e2b", "snapshot = \"a\"", "`snapshot` belongs to the driver `daytona`"),
            (
                "e2b",
                "credential_command = \"pass show e2b\"",
                "`credential_command` must be a list of a program and its arguments, not text",
            ),
            ("daytona", "credential_command = []", "`credential_command`: it names no program"),
            (
                "e2b",
                "credential_command = [\"bin/key\"]",
                "`credential_command`: `bin/key` is a relative path",
            ),
            ("e2b", "template = \"a b\"", "`template`: `a b` cannot be the name of a template"),
            ("daytona", "cpus = 2", "`cpus` has no effect without `image`"),
            ("daytona", "image = \"a\"\ncpus = 1.5", "`cpus`: Daytona has whole CPUs only"),
            ("daytona", "image = \"a\"\nmemory = \"512m\"", "`memory`: Daytona has whole GiB only"),
            (
                "daytona",
                "image = \"a\"\nsnapshot = \"b\"",
                "`image` and `snapshot` exclude each other",
            ),
            (
                "docker",
                "image = \"a\"\ntimeout = \"2m\"",
                "`timeout` belongs to the drivers `e2b`, `daytona`",
            ),
            ("docker", "image = \"a\"\nlink = \"stream\"", "`link`: `stream` is not a link"),
        ] {
            assert_eq!(read(driver, line), Err(vec![wanted.to_owned()]), "{driver}: {line}");
        }
    }
}
