//! `skync config …`: what is configured, and where it is said.

use serde_json::{Value, json};

use super::{Context, profile, project_root};
use crate::cli::{ConfigCommand, ConfigShowArgs};
use crate::config::layers::{Found, Layers};
use crate::config::problem::looks_secret;
use crate::config::trust::Verdict;
use crate::config::{Place, schema};
use crate::error::{CliError, ExitCode};
use crate::ui::render::SCHEMA_VERSION;
use crate::ui::{print, visible};

/// Runs a verb of `skync config`.
///
/// # Errors
/// If the configuration cannot be read, or the profile cannot be used.
pub fn run(command: &ConfigCommand, context: &Context) -> Result<ExitCode, CliError> {
    match command {
        ConfigCommand::Show(args) => show(args, context)?,
        ConfigCommand::Path => path(context)?,
        ConfigCommand::Schema if context.json => {
            let schema = schema::document();
            let document =
                json!({ "schema_version": SCHEMA_VERSION, "ok": true, "schema": schema });
            print(&format!("{document}\n"))?;
        }
        ConfigCommand::Schema => print(&schema::text())?,
    }
    Ok(ExitCode::Done)
}

fn show(args: &ConfigShowArgs, context: &Context) -> Result<(), CliError> {
    let flag = args.name.as_deref().or(context.profile_flag.as_deref());
    let config = context.config_of(None, flag)?;
    let selected = config.select(flag, context.profile_env.as_deref())?;
    let name = &selected.profile.name;
    let entries = config.entries(name);
    let mut rows: Vec<(String, Value, Option<Place>, Option<String>)> = Vec::new();
    for (key, value) in profile::settings(&selected.profile, context) {
        let entry = entries.iter().find(|entry| entry.key == key);
        let place = entry.and_then(|entry| entry.place.clone());
        rows.push((key.to_owned(), value, place, entry.and_then(|entry| entry.from.clone())));
    }
    for entry in entries.iter().filter(|entry| entry.key.starts_with("env.")) {
        let value = if looks_secret(&entry.key) { "***" } else { &entry.value };
        rows.push((entry.key.clone(), json!(value), entry.place.clone(), entry.from.clone()));
    }
    if context.json {
        let settings: Vec<Value> = rows
            .iter()
            .map(|(key, value, place, from)| {
                let layer = place.as_ref().map_or("default", |place| place.level.word());
                let place = place.as_ref().map(ToString::to_string);
                json!({ "key": key, "value": value, "layer": layer, "place": place, "from": from })
            })
            .collect();
        let document = json!({
            "schema_version": SCHEMA_VERSION,
            "ok": true,
            "profile": name,
            "origin": selected.why.word(),
            "settings": settings,
        });
        return print(&format!("{document}\n"));
    }
    let mut out = format!("profile = {} ({})\n", visible(name), selected.why);
    for (key, value, place, from) in rows {
        let words = profile::words(&selected.profile, &key, &value);
        out += &format!("{} = {}", visible(&key), words.as_deref().unwrap_or("(not set)"));
        if args.origin {
            let place = place.map_or("default".to_owned(), |place| place.to_string());
            let from = from.map(|from| format!(", by `{}`", visible(&from))).unwrap_or_default();
            out += &format!("    # {place}{from}");
        }
        out.push('\n');
    }
    print(&out)
}

fn path(context: &Context) -> Result<(), CliError> {
    let layers = Layers::read(&context.places, project_root(None).as_deref())?;
    let state = |found: &Found, verdict| match (found, verdict) {
        (Found::Missing, _) => "missing",
        (Found::Unusable(..), _) => "unusable",
        (Found::Content(_), Verdict::Trusted) => "trusted",
        (Found::Content(_), Verdict::Changed) => "changed since it was trusted",
        (Found::Content(_), Verdict::Unknown) => "not trusted",
    };
    if context.json {
        let files: Vec<Value> = layers
            .files
            .iter()
            .map(|layer| {
                json!({
                    "layer": layer.level.word(),
                    "path": layer.path.to_string_lossy(),
                    "exists": layer.found != Found::Missing,
                    "state": state(&layer.found, layer.verdict),
                })
            })
            .collect();
        let document = json!({ "schema_version": SCHEMA_VERSION, "ok": true, "files": files });
        return print(&format!("{document}\n"));
    }
    let row = |layer: &crate::config::layers::FileLayer| {
        let path = visible(&layer.path.to_string_lossy());
        let state = state(&layer.found, layer.verdict);
        format!("{:<13} {path} ({state})\n", layer.level.word())
    };
    print(&layers.files.iter().map(row).collect::<String>())
}
