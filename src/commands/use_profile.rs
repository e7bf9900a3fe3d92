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
    let profile = edit::activate(&context.places.config_file(), &args.name)?;
    // The variable still wins over what was just written: say so, or the switch seems broken.
    let (name, why) = choose(&context.config()?, None, context.profile_env.as_deref());
    let overridden = why == Origin::Environment && name != profile.name;
    if context.json {
        let document = json!({
            "schema_version": SCHEMA_VERSION,
            "ok": true,
            "profile": profile.name,
            "driver": profile.driver.name(),
            "overridden_by": overridden.then_some("SKYNC_PROFILE"),
        });
        print(&format!("{document}\n"))?;
        return Ok(ExitCode::Done);
    }
    let driver = profile.driver.name();
    if profile.name == driver {
        context.tell(&format!("now using `{}`", profile.name));
    } else {
        context.tell(&format!("now using `{}` ({driver})", profile.name));
    }
    if overridden {
        let text = format!("SKYNC_PROFILE is set: `{name}` is used as long as it is");
        crate::ui::render::warning(&text, context.style);
    }
    Ok(ExitCode::Done)
}
