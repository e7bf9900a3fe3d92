//! `skync trust`: lets what a project's files say count, as they are now.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Context, find_project};
use crate::cli::TrustArgs;
use crate::config::layers::{FileLayer, Found, Layers};
use crate::config::trust::{Store, digest};
use crate::error::{CliError, ExitCode};
use crate::ui::prompt::{Standard, Terminal};
use crate::ui::render::SCHEMA_VERSION;
use crate::ui::{print, visible};

/// Runs the verb.
///
/// # Errors
/// If there is nothing to trust, nobody can be asked, or the answer is no.
pub fn run(args: &TrustArgs, context: &Context) -> Result<ExitCode, CliError> {
    let store = Store::of(&context.places);
    if args.list {
        return list(&store, context);
    }
    let root = find_project(None, true)?.root;
    if args.revoke {
        let was = store.revoke(&root)?;
        context.tell(if was { "not trusted any more" } else { "it was not trusted" });
        return said(context, json!({ "revoked": was }));
    }
    // What is shown is what is trusted: it is read once.
    let layers = Layers::read(&context.places, Some(&root))?;
    let mut files: Vec<(&FileLayer, &Vec<u8>)> = Vec::new();
    for layer in layers.files.iter().filter(|layer| layer.level.is_of_project()) {
        match &layer.found {
            Found::Content(bytes) => files.push((layer, bytes)),
            Found::Missing => {}
            Found::Unusable(why, what) => {
                return Err(CliError::new(ExitCode::Config, why.clone()).hint(what.clone()));
            }
        }
    }
    if files.is_empty() {
        return Err(CliError::new(ExitCode::NotFound, "the project has no `skync.toml` to trust")
            .hint("`skync config path` says which files are read"));
    }
    if !context.json {
        print(&files.iter().map(|(layer, bytes)| text(layer, bytes)).collect::<String>())?;
    }
    if !args.show {
        if !args.yes && !agreed(context)? {
            return Err(CliError::new(ExitCode::Failed, "nothing was trusted")
                .hint("`--set` and your own configuration say the same without the project"));
        }
        let name = |layer: &FileLayer| {
            layer.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
        };
        let digests: BTreeMap<String, String> =
            files.iter().map(|(layer, bytes)| (name(layer), digest(bytes))).collect();
        store.trust(&root, &digests)?;
        context.tell("trusted, as long as it stays as it is");
    }
    let paths: Vec<_> =
        files.iter().map(|(layer, _)| layer.path.to_string_lossy().into_owned()).collect();
    said(context, json!({ "trusted": !args.show, "files": paths }))
}

/// The whole file, and nothing of it hidden: what it means depends on all of it.
fn text(layer: &FileLayer, bytes: &[u8]) -> String {
    let mut out = format!("{}:\n", visible(&layer.path.to_string_lossy()));
    for (number, line) in String::from_utf8_lossy(bytes).lines().enumerate() {
        out += &format!("{:>4} | {}\n", number + 1, visible(line));
    }
    out
}

fn agreed(context: &Context) -> Result<bool, CliError> {
    if !context.can_ask() {
        let message = "there is nobody to ask whether this is to be trusted";
        return Err(CliError::new(ExitCode::Usage, message)
            .hint("`skync trust --yes` says yes; `--show` shows what it is about"));
    }
    let answer = Standard.ask("let this count? [y/N] ").map_err(|error| {
        CliError::new(ExitCode::Failed, "cannot ask")
            .because(&error)
            .hint("`skync trust --yes` says yes without a question")
    })?;
    Ok(answer.is_some_and(|answer| matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")))
}

fn list(store: &Store, context: &Context) -> Result<ExitCode, CliError> {
    let records = store.list();
    if !context.json {
        for record in &records {
            let names: Vec<&str> = record.files.keys().map(String::as_str).collect();
            let root = visible(&record.root.to_string_lossy());
            print(&format!("{root} ({})\n", visible(&names.join(", "))))?;
        }
    }
    let roots: Vec<_> =
        records.iter().map(|record| record.root.to_string_lossy().into_owned()).collect();
    said(context, json!({ "projects": roots }))
}

fn said(context: &Context, mut facts: serde_json::Value) -> Result<ExitCode, CliError> {
    if context.json {
        facts["schema_version"] = SCHEMA_VERSION.into();
        facts["ok"] = true.into();
        print(&format!("{facts}\n"))?;
    }
    Ok(ExitCode::Done)
}
