//! `skync profile show`: every setting of a profile with the value that is in force.

use serde_json::{Map, Value, json};

use super::{cpus, default_base, size};
use crate::cli::ShowArgs;
use crate::commands::Context;
use crate::config::problem::looks_secret;
use crate::config::quantity::duration_text;
use crate::config::{ConfigError, DriverConfig, LinkKind, Profile, SyncMode};
use crate::error::CliError;
use crate::session::setup;
use crate::ui::render::SCHEMA_VERSION;
use crate::ui::visible;

/// What stands in the place of a value that may be a secret.
const HIDDEN: &str = "***";

/// The profile as text, or as a document.
pub(super) fn text(args: &ShowArgs, context: &Context) -> Result<String, CliError> {
    let (profile, why) = match &args.name {
        Some(name) => (named(name, context)?, None),
        None => {
            let selected = context.select()?;
            (selected.profile, Some(selected.why))
        }
    };
    if context.json {
        let document = json!({
            "schema_version": SCHEMA_VERSION,
            "ok": true,
            "profile": document(&profile, context),
            "origin": why.map(|why| why.word()),
        });
        return Ok(format!("{document}\n"));
    }
    let mut out = match why {
        Some(why) => format!("{} ({why})\n", profile.name),
        None => format!("{}\n", profile.name),
    };
    let kept = ("setup_kept", json!(kept(&profile, context)));
    for (key, value) in settings(&profile, context).into_iter().chain([kept]) {
        if let Some(words) = words(&profile, key, &value) {
            out += &format!("  {key:<17} {words}\n");
        }
    }
    for (name, value) in variables(&profile) {
        out += &format!("  env               {name}={}\n", visible(&value));
    }
    Ok(out)
}

fn named(name: &str, context: &Context) -> Result<Profile, CliError> {
    let config = context.config()?;
    match config.profile(name) {
        Some(Ok(profile)) => Ok(profile),
        Some(Err(problems)) => {
            let what = format!("cannot show the profile `{}`", visible(name));
            Err(ConfigError::Problems { what, file: config.file, problems }.into())
        }
        None => {
            let (name, why, known) = (name.to_owned(), String::new(), config.names());
            Err(ConfigError::UnknownProfile { name, why, known }.into())
        }
    }
}

/// A value for a person; nothing of one that is not set and says nothing then.
pub(super) fn words(profile: &Profile, key: &str, value: &Value) -> Option<String> {
    match value {
        Value::Null => default_words(profile, key).map(str::to_owned),
        Value::String(text) => Some(visible(text)),
        Value::Array(entries) if entries.is_empty() => Some("nothing".to_owned()),
        other => Some(visible(&other.to_string())),
    }
}

/// The profile for programs: what is in force, and what is kept of its preparation.
pub(super) fn document(profile: &Profile, context: &Context) -> Value {
    let mut map = values(profile, context);
    map.insert("setup_kept".to_owned(), json!(kept(profile, context)));
    Value::Object(map)
}

/// The keys of the file, defaults filled in.
pub(super) fn values(profile: &Profile, context: &Context) -> Map<String, Value> {
    let mut map = Map::new();
    map.insert("name".to_owned(), json!(profile.name));
    map.extend(settings(profile, context).into_iter().map(|(key, value)| (key.to_owned(), value)));
    if let DriverConfig::Docker(docker) = &profile.driver {
        map.insert("memory".to_owned(), json!(docker.memory));
        map.insert("cpus".to_owned(), json!(docker.milli_cpus.map(|milli| milli as f64 / 1000.0)));
    }
    map.insert("env".to_owned(), variables(profile).into_iter().collect());
    map
}

/// The settings in the order of the file.
pub(super) fn settings(profile: &Profile, context: &Context) -> Vec<(&'static str, Value)> {
    let mut settings = vec![("driver", json!(profile.driver.name()))];
    match &profile.driver {
        DriverConfig::Local => return settings,
        DriverConfig::Directory(directory) => {
            let base = directory.base.clone().unwrap_or_else(|| default_base(context));
            settings.push(("base", json!(base.to_string_lossy())));
        }
        DriverConfig::Docker(docker) => settings.extend([
            ("image", json!(docker.image)),
            ("container", json!(docker.container)),
            ("host", json!(docker.host)),
            ("memory", json!(docker.memory.map(size))),
            ("cpus", json!(docker.milli_cpus.map(cpus))),
            ("pids", json!(docker.pids)),
            ("network", json!(docker.network)),
            ("user", json!(docker.user)),
            ("link", json!(link_word(docker.link))),
            ("setup_image", json!(docker.setup_image)),
        ]),
        DriverConfig::E2b(e2b) => settings.extend([
            ("template", json!(e2b.template.as_deref().unwrap_or("base"))),
            ("timeout", json!(e2b.timeout.map(duration_text))),
            ("internet", json!(e2b.internet)),
            ("on_timeout", json!(e2b.on_timeout)),
            ("user", json!(e2b.user)),
            ("link", json!(e2b.link)),
            ("credential_command", json!(profile.credential_command)),
        ]),
        DriverConfig::Daytona(daytona) => settings.extend([
            ("snapshot", json!(daytona.snapshot)),
            ("image", json!(daytona.image)),
            ("cpus", json!(daytona.cpus)),
            ("memory", json!(daytona.memory_gib.map(|gib| format!("{gib}GiB")))),
            ("disk", json!(daytona.disk_gib.map(|gib| format!("{gib}GiB")))),
            ("target", json!(daytona.target)),
            ("timeout", json!(daytona.timeout.map(duration_text))),
            ("internet", json!(daytona.internet)),
            ("credential_command", json!(profile.credential_command)),
        ]),
    }
    settings.extend([
        ("mode", json!(mode_word(profile.mode))),
        ("exclude", json!(profile.exclude)),
        ("gitignore", json!(profile.gitignore)),
        ("guarded", json!(profile.guarded)),
        ("root", json!(profile.root.as_ref().map(|root| root.to_string_lossy()))),
        ("max_runtime", json!(profile.max_runtime.map(duration_text))),
        ("on_disconnect", json!(profile.on_disconnect.map(|what| what.to_string()))),
        ("reconnect_timeout", json!(profile.reconnect_timeout.map(duration_text))),
        ("setup", json!(profile.setup.commands)),
        ("setup_timeout", json!(profile.setup.timeout.map(duration_text))),
        ("mount", json!(profile.mount.with_up)),
        ("mount_at", json!(profile.mount.at.as_ref().map(|at| at.to_string_lossy()))),
        ("mount_root", json!(profile.mount.root.as_ref().map(|root| root.to_string_lossy()))),
        ("mount_rw", json!(profile.mount.writable)),
        ("mount_timeout", json!(profile.mount.timeout.map(duration_text))),
    ]);
    settings
}

/// Under which name the prepared sandbox of a profile is kept, if it is.
fn kept(profile: &Profile, context: &Context) -> Option<String> {
    let key = setup::key(profile)?;
    let all = setup::records::kept(&context.places).into_iter();
    let mut its = all.filter(|record| record.key == key && record.driver == profile.driver);
    its.next().map(|record| record.name)
}

/// What holds for a setting that is not set.
fn default_words(profile: &Profile, key: &str) -> Option<&'static str> {
    match key {
        "user" if matches!(profile.driver, DriverConfig::E2b(_)) => Some("(the template's)"),
        "host" => Some("(DOCKER_HOST, the docker context, or the default socket)"),
        "memory" | "cpus" if matches!(profile.driver, DriverConfig::Daytona(_)) => {
            Some("(the snapshot's, or the provider's default)")
        }
        "memory" | "cpus" | "pids" => Some("(no limit)"),
        "network" => Some("(the engine's default)"),
        "user" => Some("(the image's)"),
        "timeout" => Some("(as `reconnect_timeout`)"),
        "snapshot" => Some("(the organisation's default, unless there is an image)"),
        "target" => Some("(DAYTONA_TARGET, or the organisation's default)"),
        "disk" => Some("(the provider's default)"),
        "root" => Some("(where the project is here)"),
        "max_runtime" => Some("(no limit)"),
        "on_disconnect" | "reconnect_timeout" => Some("(10m)"),
        "mount_at" => Some("(~/.remote and the profile's name)"),
        "mount_root" => Some("(the project)"),
        "mount_timeout" => Some("(30s)"),
        "setup_timeout" => Some("(30m)"),
        "guarded" => Some("(what git, direnv, husky and VS Code would run, and rule files)"),
        _ => None,
    }
}

fn variables(profile: &Profile) -> Vec<(String, String)> {
    let shown = |(name, value): (&String, &String)| {
        let value = if looks_secret(name) { HIDDEN.to_owned() } else { value.clone() };
        (name.clone(), value)
    };
    profile.env.iter().map(shown).collect()
}

fn mode_word(mode: SyncMode) -> &'static str {
    match mode {
        SyncMode::TwoWaySafe => "two-way-safe",
        SyncMode::TwoWayResolved => "two-way-resolved",
        SyncMode::OneWaySafe => "one-way-safe",
        SyncMode::OneWayReplica => "one-way-replica",
    }
}

fn link_word(link: LinkKind) -> &'static str {
    match link {
        LinkKind::Auto => "auto",
        LinkKind::Socket => "socket",
        LinkKind::Stdio => "stdio",
    }
}
