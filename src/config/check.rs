//! One profile's table in, a checked [`Profile`] or everything that is wrong with it out.
//!
//! This is the only place that makes a profile from text; `profile add` comes through here too.
//! It asks nobody: whether an image exists is the driver's business.

mod clouds;
mod mount;
mod setup;

use std::collections::BTreeMap;
use std::ops::Range;

use toml_edit::{Item, Key, TableLike, Value};

use super::keys::{
    DRIVERS, KEYS_DOCKER, KEYS_MOUNT, KEYS_NEW_CONTAINER, KEYS_OPERATIONS, KEYS_SETUP, KEYS_SYNC,
    Kind, owners, slips, unknown_driver,
};
use super::problem::{Bad, ConfigProblem};
use super::sources::Sources;
use super::{
    DirectoryConfig, DockerConfig, DriverConfig, LinkKind, Profile, list, nearest, values,
};
use crate::ui::visible;

/// Checks the merged table of one profile.
///
/// `complete` is false if lines of it could not be read: then nothing is said to be missing. A
/// built-in profile has settings only where a variable or a flag says some.
pub(super) fn profile(
    source: &Sources,
    key: &Key,
    table: &dyn TableLike,
    complete: bool,
) -> Result<Profile, Vec<ConfigProblem>> {
    let name = key.get();
    let fallback = key.span();
    let mut checker =
        Checker { source, problems: Vec::new(), complete, meant: Vec::new(), fallback };
    checker.meant = slips(table);
    let kind = checker.kind(table, key);
    checker.keys(table, kind);
    // Followed where tables are merged; here it only has to be text.
    checker.text(table, "extends", |text| Ok(text.to_owned()));
    let mut profile = Profile::new(name, DriverConfig::Local);
    profile.env = checker.env(table);
    profile.mode = checker
        .text(table, "mode", |text| values::one_of("mode", text, &values::MODES))
        .unwrap_or_default();
    profile.exclude = checker.patterns(table, "exclude").unwrap_or_default();
    profile.guarded = checker.patterns(table, "guarded");
    profile.gitignore =
        checker.value(table, "gitignore", "true or false", Value::as_bool).unwrap_or(false);
    profile.root = checker.text(table, "root", values::absolute_path);
    profile.max_runtime = checker.text(table, "max_runtime", values::duration);
    profile.on_disconnect = checker.text(table, "on_disconnect", values::on_disconnect);
    profile.reconnect_timeout = checker.text(table, "reconnect_timeout", values::duration);
    profile.mount = checker.mount(table);
    profile.setup = checker.setup(table);
    // The values of every known key are checked, whichever driver is meant, so that nothing new
    // turns up once the driver is put right; a foreign key was reported as such already.
    let base = checker.text(table, "base", values::absolute_path);
    let docker = checker.docker(table, kind, key);
    let cloud = checker.cloud(table);
    profile.credential_command = checker.command(table, "credential_command");
    let e2b = checker.e2b(table, kind, &cloud);
    let daytona = checker.daytona(table, kind, &cloud, &docker);
    profile.driver = match kind {
        Kind::Local | Kind::Unknown => DriverConfig::Local,
        Kind::Directory => DriverConfig::Directory(DirectoryConfig { base }),
        Kind::Docker => DriverConfig::Docker(docker),
        Kind::E2b => DriverConfig::E2b(e2b),
        Kind::Daytona => DriverConfig::Daytona(daytona),
    };
    if checker.problems.is_empty() { Ok(profile) } else { Err(checker.problems) }
}

struct Checker<'a> {
    source: &'a Sources,
    problems: Vec<ConfigProblem>,
    complete: bool,
    /// What the unknown keys are probably slips of: these are not missing as well.
    meant: Vec<&'static str>,
    /// Where the profile begins: the place of what has none of its own.
    fallback: Option<Range<usize>>,
}

impl Checker<'_> {
    fn report(&mut self, span: Option<Range<usize>>, bad: Bad) {
        let span = span.or_else(|| self.fallback.clone());
        let problem = self.source.problem(span, bad);
        self.problems.push(problem);
    }

    fn meant_one_of(&self, keys: [&str; 2]) -> bool {
        self.meant.iter().any(|meant| keys.contains(meant))
    }

    /// Reads `driver`.
    fn kind(&mut self, table: &dyn TableLike, profile: &Key) -> Kind {
        let Some(item) = table.get("driver") else {
            if self.complete && !self.meant.contains(&"driver") {
                let name = visible(profile.get());
                let driver = if KEYS_DOCKER.iter().any(|key| table.contains_key(key)) {
                    "docker"
                } else {
                    "directory"
                };
                let bad = Bad::new(format!("the profile `{name}` has no `driver`"))
                    .hint(format!("add `driver = \"{driver}\"`; there is {}", list(DRIVERS)));
                self.report(profile.span(), bad);
            }
            return Kind::Unknown;
        };
        match self.as_text("driver", item) {
            Some("local") => Kind::Local,
            Some("directory") => Kind::Directory,
            Some("docker") => Kind::Docker,
            Some("e2b") => Kind::E2b,
            Some("daytona") => Kind::Daytona,
            Some(other) => {
                self.report(item.span(), unknown_driver(other));
                Kind::Unknown
            }
            None => Kind::Unknown,
        }
    }

    /// Reports every key that does not belong here.
    fn keys(&mut self, table: &dyn TableLike, kind: Kind) {
        let known = kind.keys();
        let all = Kind::Unknown.keys();
        for (name, item) in table.iter() {
            if known.contains(&name) {
                continue;
            }
            let shown = visible(name);
            let bad = if kind == Kind::Local && KEYS_SYNC.contains(&name) {
                Bad::new(format!("`{shown}` has no effect with the driver `local`"))
                    .hint("`local` runs in place: there is nothing to synchronise")
            } else if kind == Kind::Local && KEYS_OPERATIONS.contains(&name) {
                Bad::new(format!("`{shown}` has no effect with the driver `local`"))
                    .hint("`local` runs in place: the command is a child of your shell")
            } else if kind == Kind::Local && KEYS_MOUNT.contains(&name) {
                Bad::new(format!("`{shown}` has no effect with the driver `local`"))
                    .hint("`local` runs in place: there is nothing to mount")
            } else if kind == Kind::Local && KEYS_SETUP.contains(&name) {
                Bad::new(format!("`{shown}` has no effect with the driver `local`"))
                    .hint("`local` runs in place: there is no sandbox to prepare")
            } else if all.contains(&name) {
                let owners = owners(name);
                let of = if owners.len() == 1 { "driver" } else { "drivers" };
                Bad::new(format!("`{shown}` belongs to the {of} {}", list(owners)))
                    .hint(format!("this profile has `driver = \"{}\"`", kind.name()))
            } else {
                let bad = Bad::new(format!("unknown key `{shown}`"));
                match nearest(name, known.iter().copied()) {
                    Some(near) => bad.hint(format!("did you mean `{near}`?")),
                    None => bad.hint(format!("there is {}", list(known.iter().copied()))),
                }
            };
            let span = table.key(name).and_then(Key::span).or_else(|| item.span());
            self.report(span, bad);
        }
    }

    /// Reads a key of one type; nothing if it is missing or of another type, which is reported.
    fn value<T>(
        &mut self,
        table: &dyn TableLike,
        key: &str,
        wanted: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        let item = table.get(key)?;
        let found = item.as_value().and_then(read);
        if found.is_none() {
            self.report(item.span(), wrong_type(key, wanted, item));
        }
        found
    }

    fn as_text<'v>(&mut self, key: &str, item: &'v Item) -> Option<&'v str> {
        let text = item.as_str();
        if text.is_none() {
            self.report(item.span(), wrong_type(key, "text", item));
        }
        text
    }

    /// Reads a key that holds text and makes a value of it.
    fn text<T>(
        &mut self,
        table: &dyn TableLike,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, Bad>,
    ) -> Option<T> {
        let item = table.get(key)?;
        let parsed = parse(self.as_text(key, item)?);
        self.checked(key, item, parsed)
    }

    fn checked<T>(&mut self, key: &str, item: &Item, parsed: Result<T, Bad>) -> Option<T> {
        match parsed {
            Ok(value) => Some(value),
            Err(mut bad) => {
                bad.message = format!("`{key}`: {}", bad.message);
                self.report(item.span(), bad);
                None
            }
        }
    }

    fn env(&mut self, table: &dyn TableLike) -> BTreeMap<String, String> {
        let mut env = BTreeMap::new();
        let Some(item) = table.get("env") else {
            return env;
        };
        let Some(variables) = item.as_table_like() else {
            self.report(item.span(), wrong_type("env", "a table", item));
            return env;
        };
        for (name, item) in variables.iter() {
            if let Err(bad) = values::env_name(name) {
                let span = variables.key(name).and_then(Key::span);
                self.report(span.or_else(|| item.span()), bad);
            }
            let key = format!("env.{}", visible(name));
            if let Some(text) = self.as_text(&key, item)
                && let Some(value) = self.checked(&key, item, values::env_value(text))
            {
                env.insert(name.to_owned(), value);
            }
        }
        env
    }

    /// Reads a list of patterns; nothing if there is none.
    fn patterns(&mut self, table: &dyn TableLike, key: &str) -> Option<Vec<String>> {
        let item = table.get(key)?;
        let Some(entries) = item.as_array() else {
            self.report(item.span(), wrong_type(key, "a list", item));
            return None;
        };
        let mut patterns = Vec::new();
        for entry in entries {
            let parsed = match entry.as_str() {
                Some(text) => values::pattern(text),
                None => {
                    Err(Bad::new(format!("{} is not a pattern", with_article(entry.type_name())))
                        .hint("write every pattern in quotes"))
                }
            };
            match parsed {
                Ok(pattern) => patterns.push(pattern),
                Err(bad) => {
                    let bad = Bad { message: format!("`{key}`: {}", bad.message), ..bad };
                    self.report(entry.span(), bad);
                }
            }
        }
        Some(patterns)
    }

    fn docker(&mut self, table: &dyn TableLike, kind: Kind, profile: &Key) -> DockerConfig {
        let config = DockerConfig {
            image: self.text(table, "image", values::image),
            container: self.text(table, "container", values::container),
            host: self.text(table, "host", values::host),
            memory: self.memory(table),
            milli_cpus: self
                .value(table, "cpus", "a number", |value| {
                    value.as_float().or_else(|| value.as_integer().map(|cpus| cpus as f64))
                })
                .and_then(|cpus| {
                    self.checked("cpus", table.get("cpus")?, values::milli_cpus(cpus))
                }),
            pids: self
                .value(table, "pids", "a whole number", Value::as_integer)
                .and_then(|pids| self.checked("pids", table.get("pids")?, values::pids(pids))),
            network: self.text(table, "network", values::network),
            user: self.text(table, "user", values::user),
            link: if kind == Kind::E2b {
                LinkKind::Auto
            } else {
                self.text(table, "link", |text| values::one_of("link", text, &values::LINKS))
                    .unwrap_or_default()
            },
            setup_image: self.setup_image(table),
        };
        if kind == Kind::Docker {
            self.docker_together(table, &config, profile);
        }
        config
    }

    fn memory(&mut self, table: &dyn TableLike) -> Option<u64> {
        let item = table.get("memory")?;
        let parsed = match (item.as_str(), item.as_integer()) {
            (Some(text), _) => values::memory(text),
            (None, Some(bytes)) => match u64::try_from(bytes) {
                Ok(bytes) => values::memory_bytes(bytes),
                Err(_) => Err(Bad::new(format!("`{bytes}` is not a size"))
                    .hint("write it as in `512MiB`, `2GiB`")),
            },
            (None, None) => {
                self.report(item.span(), wrong_type("memory", "a size", item));
                return None;
            }
        };
        self.checked("memory", item, parsed)
    }

    /// What settings of the docker driver say together.
    fn docker_together(&mut self, table: &dyn TableLike, config: &DockerConfig, profile: &Key) {
        let key_span = |key: &str| table.key(key).and_then(Key::span);
        match (table.contains_key("image"), table.contains_key("container")) {
            (true, true) => {
                let bad = Bad::new("`image` and `container` exclude each other").hint(
                    "`image` makes a new container, `container` names one that runs; keep one",
                );
                self.report(key_span("container"), bad);
            }
            (false, false) if self.complete && !self.meant_one_of(["image", "container"]) => {
                let name = visible(profile.get());
                let bad = Bad::new(format!("the profile `{name}` has neither `image` nor `container`"))
                    .hint("add an image, as in `image = \"python:3.12\"`, or the name of a running container");
                self.report(profile.span(), bad);
            }
            (false, true) => {
                for key in KEYS_NEW_CONTAINER.into_iter().filter(|key| table.contains_key(key)) {
                    let bad = Bad::new(format!("`{key}` has no effect together with `container`"))
                        .hint("a container that runs has the limits that it was started with");
                    self.report(key_span(key), bad);
                }
                if config.setup_image {
                    let bad = Bad::new("`setup_image` has no effect together with `container`")
                        .hint("a container that runs keeps what `setup` did in it by itself");
                    self.report(key_span("setup_image"), bad);
                }
                if config.link == LinkKind::Socket {
                    let bad = Bad::new("`link = \"socket\"` cannot be together with `container`")
                        .hint(
                            "a container that runs cannot be given a socket; use `auto` or `stdio`",
                        );
                    self.report(key_span("link"), bad);
                }
            }
            (true, false) | (false, false) => {}
        }
    }
}

fn wrong_type(key: &str, wanted: &str, found: &Item) -> Bad {
    let bad =
        Bad::new(format!("`{key}` must be {wanted}, not {}", with_article(found.type_name())));
    let plain =
        found.as_value().filter(|value| value.is_integer() || value.is_bool() || value.is_float());
    match (wanted, plain, found.as_str()) {
        ("text", Some(value), _) => {
            bad.hint(format!("put it in quotes: `\"{}\"`", visible(value.to_string().trim())))
        }
        ("a list", _, Some(text)) => {
            bad.hint(format!("put it in brackets: `[\"{}\"]`", visible(text)))
        }
        ("a number" | "a whole number", _, Some(text)) if text.parse::<f64>().is_ok() => {
            bad.hint("write it without quotes")
        }
        ("true or false", _, Some("true" | "false")) => bad.hint("write it without quotes"),
        _ => bad,
    }
}

/// What is wrong with the name of a profile, or with something that is no table.
pub(super) fn head(source: &Sources, key: &Key, item: &Item) -> Vec<ConfigProblem> {
    let name = key.get();
    let mut problems = Vec::new();
    if let Err(bad) = values::profile_name(name) {
        problems.push(source.problem(key.span(), bad));
    }
    if !item.is_table_like() {
        let (shown, found) = (visible(name), with_article(item.type_name()));
        let bad = Bad::new(format!("`profiles.{shown}` is {found}, not a table"))
            .hint(format!("begin it with `[profiles.{shown}]`"));
        problems.push(source.problem(item.span(), bad));
    }
    problems
}

fn with_article(type_name: &str) -> String {
    match type_name {
        "string" => "text".to_owned(),
        "integer" | "array" | "array of tables" | "inline table" => format!("an {type_name}"),
        other => format!("a {other}"),
    }
}
