//! `skync use NAME`: chooses the profile that is used from now on.

use serde_json::json;

use super::Context;
use crate::cli::UseArgs;
use crate::config::select::choose;
use crate::config::{Origin, edit};
use crate::error::{CliError, ExitCode};
use crate::ui::print;
use crate::ui::render::SCHEMA_VERSION;

/// Runs `skync use` and `skync profile use`.
///
/// # Errors
/// If there is no such profile, it has problems, or the configuration cannot be changed.
pub fn run(args: &UseArgs, context: &Context) -> Result<ExitCode, CliError> {
    let file = context.places.config_file();
    // Where the project has a choice of its own, another one for everywhere would change nothing.
    let config = context.config_of(None, Some(&args.name))?;
    let root = config.layers.root.clone();
    let has_own = config
        .choices
        .iter()
        .any(|choice| choice.why == Origin::ChosenHere || choice.level.is_of_project());
    let here = root.clone().filter(|_| args.here || (has_own && !args.everywhere));
    let profile = match &here {
        Some(root) => {
            // To choose it is not to trust it: that is asked for when it is used.
            let profile = match config.profile(&args.name) {
                Some(Ok(profile)) => profile,
                Some(Err(_)) | None => config.select(Some(&args.name), None)?.profile,
            };
            edit::choose_here(&file, root, &args.name)?;
            profile
        }
        None => edit::activate(&file, &args.name)?,
    };
    tell_of_others(root.as_deref(), &profile.name, context);
    // The variable still wins over what was just written: say so, or the switch seems broken.
    let (name, why) = choose(&config, None, context.profile_env.as_deref());
    let overridden = why == Origin::Environment && name != profile.name;
    if context.json {
        let document = json!({
            "schema_version": SCHEMA_VERSION,
            "ok": true,
            "profile": profile.name,
            "driver": profile.driver.name(),
            "here": here.is_some(),
            "overridden_by": overridden.then_some("SKYNC_PROFILE"),
        });
        print(&format!("{document}\n"))?;
        return Ok(ExitCode::Done);
    }
    let driver = profile.driver.name();
    if here.is_some() {
        context.tell("for this project; elsewhere nothing has changed");
    }
    if profile.name == driver {
        context.tell(&format!("now using `{}`", profile.name));
    } else {
        context.tell(&format!("now using `{}` ({driver})", profile.name));
    }
    if overridden {
        let text = format!("SKYNC_PROFILE is set: `{name}` is used as long as it is");
        context.caution(&text);
    }
    Ok(ExitCode::Done)
}

/// Sessions of this project that run with another profile go on: they are not ours to end.
fn tell_of_others(root: Option<&std::path::Path>, name: &str, context: &Context) {
    let entries = root.map(|root| super::running::of_project(context, root));
    for entry in entries.into_iter().flatten().filter(|entry| entry.profile.name != name) {
        let other = crate::ui::visible(&entry.profile.name);
        let mirror = if entry.hold { ", which mirrors in the background," } else { "" };
        context.tell(&format!(
            "the session of `{other}`{mirror} goes on; `skync --profile {other} down` ends it"
        ));
    }
}
