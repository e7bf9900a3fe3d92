//! `skync profile validate`: the file first, then the engine; every problem, not the first.

use serde_json::json;

use crate::cli::ValidateArgs;
use crate::commands::Context;
use crate::commands::profile::deep;
use crate::config::select::choose;
use crate::config::{Config, ConfigError, ConfigProblem, DriverConfig, Profile};
use crate::driver::{self, DriverError};
use crate::error::{CliError, ExitCode};
use crate::session::errors::exit_code;
use crate::ui::render::SCHEMA_VERSION;
use crate::ui::{print, visible};

/// Runs the verb.
pub(super) async fn run(args: &ValidateArgs, context: &Context) -> Result<ExitCode, CliError> {
    let config = context.config()?;
    let found = check(args, context, &config).await?;
    if let Some(error) = found.error(&config) {
        return Err(error);
    }
    if args.deep
        && let Some(profile) = found.checked.first()
    {
        if matches!(profile.driver, DriverConfig::Local) {
            return Err(CliError::new(ExitCode::Usage, "`local` has no sandbox to try")
                .hint("without `--deep` the profile is checked all the same"));
        }
        return deep::run(profile, context).await;
    }
    let names: Vec<&str> = found.checked.iter().map(|profile| profile.name.as_str()).collect();
    if context.json {
        let document = json!({
            "schema_version": SCHEMA_VERSION,
            "ok": true,
            "valid": names,
            "online": !args.offline,
        });
        print(&format!("{document}\n"))?;
    } else {
        for name in names {
            context.tell(&format!("`{name}` can be used"));
        }
    }
    Ok(ExitCode::Done)
}

/// What the checks found.
struct Found {
    /// The profiles without a problem in the file.
    checked: Vec<Profile>,
    /// Problems in the file.
    offline: Vec<ConfigProblem>,
    /// Problems beyond it, with the profile's name.
    online: Vec<(String, DriverError)>,
}

async fn check(
    args: &ValidateArgs,
    context: &Context,
    config: &Config,
) -> Result<Found, ConfigError> {
    let mut found = Found { checked: Vec::new(), offline: Vec::new(), online: Vec::new() };
    if args.all {
        found.offline = config.all_problems();
        for name in config.names() {
            // What is not trusted is not asked what it thinks of this either.
            match config.select(Some(&name), None) {
                Ok(selected) => found.checked.push(selected.profile),
                Err(ConfigError::Untrusted { problems, .. }) => found.offline.extend(problems),
                Err(_) => {}
            }
        }
    } else {
        let flag = args.name.as_deref().or(context.profile_flag.as_deref());
        match config.select(flag, context.profile_env.as_deref()) {
            Ok(selected) => {
                context.warn(&selected.warnings);
                found.checked.push(selected.profile);
            }
            Err(ConfigError::Problems { problems, .. }) => found.offline = problems,
            Err(other) => return Err(other),
        }
        // A profile that is broken itself is not all that is said when the choice is not clear.
        let (name, _) = choose(config, flag, context.profile_env.as_deref());
        if let Some(Err(own)) = config.profile(&name) {
            found.offline.extend(
                own.into_iter().filter(|own| !found.offline.contains(own)).collect::<Vec<_>>(),
            );
        }
        found.offline.sort_by_key(|problem| (problem.line, problem.column));
    }
    if args.offline {
        return Ok(found);
    }
    for profile in &found.checked {
        if let Some(driver) = driver::open(profile) {
            let errors = driver.validate().await;
            found.online.extend(errors.into_iter().map(|error| (profile.name.clone(), error)));
        }
    }
    Ok(found)
}

impl Found {
    /// All of it as one error; nothing if nothing is wrong.
    fn error(&self, config: &Config) -> Option<CliError> {
        let count = self.offline.len() + self.online.len();
        let code = match (self.offline.first(), self.online.first()) {
            (Some(_), _) => ExitCode::Config,
            (None, Some((_, error))) => exit_code(error.kind),
            (None, None) => return None,
        };
        let problems = if count == 1 { "problem" } else { "problems" };
        let mut error = CliError::new(code, format!("{count} {problems} found"));
        error.details = self.offline.iter().map(ConfigProblem::render).collect();
        error.details.extend(self.online.iter().map(|(name, error)| online_block(name, error)));
        if let Some(first) = self.offline.first() {
            // A variable or a flag is not corrected in a file, but the rest may be.
            let file = if first.outside { &config.file } else { &first.file };
            let file = visible(&file.to_string_lossy());
            error = error.hint(format!("correct them in `{file}`"));
        }
        Some(error)
    }
}

fn online_block(name: &str, error: &DriverError) -> String {
    let mut block = format!("{name}: {}", visible(&error.message));
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        block += &format!("\n  because: {}", visible(&cause.to_string()));
        source = cause.source();
    }
    for hint in &error.hints {
        block += &format!("\n  = {}", visible(hint));
    }
    block
}
