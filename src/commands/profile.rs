//! `skync profile …`: adds, lists, shows, chooses, removes and checks profiles.

mod deep;
mod show;
mod validate;

use std::collections::BTreeMap;
use std::path::Path;

use comfy_table::Table;
use serde_json::json;
use toml_edit::{Array, Value};

use super::{Context, find_project, project_file, use_profile};
use crate::cli::{AddArgs, ProfileCommand, RemoveArgs};
use crate::config::edit::{self, NewProfile};
use crate::config::select::choose;
use crate::config::{
    BUILT_IN, Config, DirectoryConfig, DockerConfig, DriverConfig, Origin, Profile,
    is_never_of_project,
};
use crate::error::{CliError, ExitCode};
use crate::ui::render::SCHEMA_VERSION;
use crate::ui::{print, visible};

/// A profile for programs, as `profile show` has it.
pub(super) fn document(profile: &Profile, context: &Context) -> serde_json::Value {
    show::document(profile, context)
}

/// Runs a verb of `skync profile`.
///
/// # Errors
/// What the verb could not do, with every problem of the configuration that stands in its way.
pub async fn run(command: &ProfileCommand, context: &Context) -> Result<ExitCode, CliError> {
    match command {
        ProfileCommand::Add(args) => add(args, context),
        ProfileCommand::List => print(&list(context)?).map(|()| ExitCode::Done),
        ProfileCommand::Show(args) => print(&show::text(args, context)?).map(|()| ExitCode::Done),
        ProfileCommand::Use(args) => use_profile::run(args, context),
        ProfileCommand::Remove(args) => remove(args, context),
        ProfileCommand::Validate(args) => validate::run(args, context).await,
    }
}

fn add(args: &AddArgs, context: &Context) -> Result<ExitCode, CliError> {
    let new = new_profile(args)?;
    let added = if args.project {
        let root = find_project(None, false)?.root;
        let refused = new.settings.iter().find(|(key, _)| is_never_of_project(key));
        if let Some((key, _)) = refused {
            let message =
                format!("`--{}` cannot be in a file of the project", key.replace('_', "-"));
            return Err(CliError::new(ExitCode::Usage, message)
                .hint("without `--project` it goes into your own configuration"));
        }
        project_file::edit(&root, &context.places, |file| edit::add(file, &new, args.force))?
    } else {
        edit::add(&context.places.config_file(), &new, args.force)?
    };
    let name = &added.profile.name;
    if context.json {
        let document = json!({
            "schema_version": SCHEMA_VERSION,
            "ok": true,
            "profile": show::document(&added.profile, context),
            "replaced": added.replaced,
            "active": added.activated,
        });
        print(&format!("{document}\n"))?;
        return Ok(ExitCode::Done);
    }
    let verb = if added.replaced { "replaced" } else { "added" };
    context.tell(&format!("{verb} `{name}` ({})", what(&added.profile, context)));
    if added.activated {
        context.tell(&format!("`{name}` is used from now on, since it is the first profile"));
    } else {
        let config = context.config()?;
        if choose(&config, None, None).0 != *name {
            context.tell(&format!("`skync profile use {name}` makes it the one that is used"));
        }
    }
    Ok(ExitCode::Done)
}

/// The settings as they would stand in the file, unchecked but for what cannot stand there.
fn new_profile(args: &AddArgs) -> Result<NewProfile, CliError> {
    let mut settings: Vec<(&'static str, Value)> = vec![("driver", Value::from(&args.driver))];
    let number = |text: &String| match (text.parse::<i64>(), text.parse::<f64>()) {
        (Ok(whole), _) => Value::from(whole),
        (Err(_), Ok(number)) if number.is_finite() => Value::from(number),
        _ => Value::from(text),
    };
    let text = |text: &String| Value::from(text);
    let mut set = |key, value: Option<Value>| settings.extend(value.map(|value| (key, value)));
    set("image", args.image.as_ref().map(text));
    set("container", args.container.as_ref().map(text));
    set("memory", args.memory.as_ref().map(text));
    set("cpus", args.cpus.as_ref().map(number));
    set("pids", args.pids.as_ref().map(number));
    set("network", args.network.as_ref().map(text));
    set("user", args.user.as_ref().map(text));
    set("host", args.host.as_ref().map(text));
    set("link", args.link.as_ref().map(text));
    set("template", args.template.as_ref().map(text));
    set("snapshot", args.snapshot.as_ref().map(text));
    set("disk", args.disk.as_ref().map(text));
    set("target", args.target.as_ref().map(text));
    set("timeout", args.timeout.as_ref().map(text));
    set("internet", args.no_internet.then(|| Value::from(false)));
    set("on_timeout", args.on_timeout.as_ref().map(text));
    let command = &args.credential_command;
    set(
        "credential_command",
        (!command.is_empty()).then(|| Value::Array(Array::from_iter(command))),
    );
    set("base", args.base.as_ref().map(text));
    set("mode", args.mode.as_ref().map(text));
    let exclude = (!args.exclude.is_empty()).then(|| Value::Array(Array::from_iter(&args.exclude)));
    set("exclude", exclude);
    set("gitignore", args.gitignore.then(|| Value::from(true)));
    set("root", args.root.as_ref().map(text));
    let setup = (!args.setup.is_empty()).then(|| Value::Array(Array::from_iter(&args.setup)));
    set("setup", setup);
    set("setup_timeout", args.setup_timeout.as_ref().map(text));
    set("setup_image", args.setup_image.then(|| Value::from(true)));
    let mount = &args.mount;
    set("mount", mount.mount.then(|| Value::from(true)));
    set("mount_at", mount.mount_at.as_ref().map(text));
    set("mount_root", mount.mount_root.as_ref().map(text));
    set("mount_rw", mount.mount_rw.then(|| Value::from(true)));
    set("mount_timeout", mount.mount_timeout.as_ref().map(text));
    let mut env = BTreeMap::new();
    for variable in &args.env {
        let Some((name, value)) = variable.split_once('=') else {
            let message = format!("`--env {}` has no value", visible(variable));
            return Err(CliError::new(ExitCode::Usage, message)
                .hint("write `--env NAME=VALUE`; a profile takes nothing from this shell"));
        };
        env.insert(name.to_owned(), value.to_owned());
    }
    Ok(NewProfile { name: args.name.clone(), settings, env })
}

fn remove(args: &RemoveArgs, context: &Context) -> Result<ExitCode, CliError> {
    let file = context.places.config_file();
    let was = choose(&Config::load(&file)?, None, None).0;
    let left = edit::remove(&file, &args.name)?;
    let (now, why) = choose(&left, None, None);
    if context.json {
        let document = json!({
            "schema_version": SCHEMA_VERSION,
            "ok": true,
            "removed": args.name,
            "active": { "name": now, "origin": why.word() },
        });
        print(&format!("{document}\n"))?;
        return Ok(ExitCode::Done);
    }
    context.tell(&format!("removed `{}`", args.name));
    if was != now {
        context.tell(&format!("`{now}` is used from now on, {why}"));
    }
    Ok(ExitCode::Done)
}

/// All profiles: a table, or a document.
fn list(context: &Context) -> Result<String, CliError> {
    let config = context.config()?;
    let (active, why) =
        choose(&config, context.profile_flag.as_deref(), context.profile_env.as_deref());
    let names = config.names();
    // Those of single profiles stand in their rows.
    context.warn(&config.problems);
    if context.json {
        let profiles: Vec<_> = names
            .iter()
            .filter_map(|name| Some((name, config.profile(name)?)))
            .map(|(name, checked)| {
                let places = config.entries(name).iter().filter_map(|entry| entry.place.as_ref());
                let layer = places.map(|place| place.level).max().map(crate::config::Level::word);
                json!({
                    "name": name,
                    "layer": layer,
                    "active": *name == active,
                    "built_in": BUILT_IN.contains(&name.as_str()),
                    "driver": checked.as_ref().ok().map(|profile| profile.driver.name()),
                    "what": checked.as_ref().ok().map(|profile| what(profile, context)),
                    "problems": checked.as_ref().err().map_or(0, Vec::len),
                })
            })
            .collect();
        let document = json!({
            "schema_version": SCHEMA_VERSION,
            "ok": true,
            "profiles": profiles,
            "active": { "name": active, "origin": why.word() },
            "file": config.file.to_string_lossy(),
            "problems": config.all_problems().iter().map(ToString::to_string).collect::<Vec<_>>(),
        });
        return Ok(format!("{document}\n"));
    }
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["", "NAME", "DRIVER", "WHAT"]);
    for name in &names {
        let mark = if *name == active { "*" } else { "" };
        let row = match config.profile(name) {
            Some(Ok(profile)) => [
                mark.to_owned(),
                name.clone(),
                profile.driver.name().to_owned(),
                what(&profile, context),
            ],
            Some(Err(_)) | None => {
                let wrong = "cannot be used, see `skync profile validate --all`".to_owned();
                [mark.to_owned(), visible(name), "?".to_owned(), wrong]
            }
        };
        table.add_row(row);
    }
    let mut out: String = table.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    out += &format!("\n{}\n", active_line(&config, &active, why));
    Ok(out)
}

fn active_line(config: &Config, active: &str, why: Origin) -> String {
    let shown = visible(active);
    if config.profile(active).is_none() {
        return format!("`{shown}` was chosen {why}, and there is no such profile");
    }
    if why == Origin::Environment && config.active.as_deref().is_some_and(|name| name != active) {
        let written = visible(config.active.as_deref().unwrap_or_default());
        return format!(
            "`{shown}` is used {why}, which wins over `{written}` in the configuration"
        );
    }
    format!("`{shown}` is used {why}")
}

/// The settings in force, as `profile show` has them.
pub(super) fn settings(
    profile: &Profile,
    context: &Context,
) -> Vec<(&'static str, serde_json::Value)> {
    show::settings(profile, context)
}

/// A setting's value for a person; nothing of one that is not set and says nothing then.
pub(super) fn words(profile: &Profile, key: &str, value: &serde_json::Value) -> Option<String> {
    show::words(profile, key, value)
}

/// The keys of two profiles that differ and are about the sandbox itself: what is about files and
/// commands holds at once.
pub(super) fn differences(one: &Profile, other: &Profile, context: &Context) -> Vec<String> {
    const AT_ONCE: [&str; 5] =
        ["exclude", "gitignore", "guarded", "reconnect_timeout", "mount_timeout"];
    let (one, other) = (show::values(one, context), show::values(other, context));
    let mut keys: Vec<String> = one
        .keys()
        .chain(other.keys())
        .filter(|key| one.get(*key) != other.get(*key) && !AT_ONCE.contains(&key.as_str()))
        .cloned()
        .collect();
    keys.sort();
    keys.dedup();
    keys
}

/// What a profile is, in a few words.
fn what(profile: &Profile, context: &Context) -> String {
    match &profile.driver {
        DriverConfig::Local => "runs in place, without a sandbox".to_owned(),
        DriverConfig::Directory(DirectoryConfig { base }) => {
            let base = base.clone().unwrap_or_else(|| default_base(context));
            format!("a directory below {}", shown_path(&base))
        }
        DriverConfig::Docker(docker) => docker_words(docker),
        DriverConfig::E2b(e2b) => {
            let template = e2b.template.as_deref().unwrap_or("base");
            format!("template {template}{}", without_internet(e2b.internet))
        }
        DriverConfig::Daytona(daytona) => {
            let what = match (&daytona.snapshot, &daytona.image) {
                (Some(snapshot), _) => format!("snapshot {snapshot}"),
                (None, Some(image)) => format!("image {image}"),
                (None, None) => "the default snapshot".to_owned(),
            };
            format!("{what}{}", without_internet(daytona.internet))
        }
    }
}

fn without_internet(internet: bool) -> &'static str {
    if internet { "" } else { ", no internet" }
}

fn docker_words(docker: &DockerConfig) -> String {
    let mut words = match (&docker.image, &docker.container) {
        (Some(image), _) => vec![format!("image {image}")],
        (None, Some(container)) => vec![format!("container {container}")],
        (None, None) => Vec::new(),
    };
    words.extend(docker.memory.map(|bytes| format!("{} memory", size(bytes))));
    words.extend(docker.milli_cpus.map(|milli| format!("{} CPUs", cpus(milli))));
    words.extend(docker.pids.map(|pids| format!("{pids} processes")));
    words.extend(docker.network.as_ref().map(|network| format!("network {network}")));
    words.extend(docker.user.as_ref().map(|user| format!("user {user}")));
    words.extend(docker.host.as_ref().map(|host| format!("on {host}")));
    words.join(", ")
}

/// Where the directory driver makes sandboxes if the profile does not say.
fn default_base(context: &Context) -> std::path::PathBuf {
    context.places.state.join("sandboxes")
}

fn shown_path(path: &Path) -> String {
    visible(&path.to_string_lossy())
}

/// A number of bytes with the largest unit that gives a whole number.
fn size(bytes: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let whole =
        units.into_iter().find(|(_, shift)| bytes >> shift > 0 && bytes.is_multiple_of(1 << shift));
    match whole {
        Some((unit, shift)) => format!("{}{unit}", bytes >> shift),
        None => format!("{bytes} bytes"),
    }
}

fn cpus(milli: u64) -> String {
    format!("{}", milli as f64 / 1000.0)
}

#[cfg(test)]
mod tests;
