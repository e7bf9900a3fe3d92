//! `skync auth status`: where the keys come from, and whether the providers take them. Never a key.

use std::time::Duration;

use comfy_table::Table;
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::Target;
use crate::cli::AuthStatusArgs;
use crate::commands::Context;
use crate::credentials::{Found, Provider};
use crate::driver::{self, ErrorKind};
use crate::error::{CliError, ExitCode};
use crate::ui::render::SCHEMA_VERSION;
use crate::ui::{print, rows, visible};

/// How long a provider may take to say whether a key is good.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a provider says of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Accepted,
    Refused,
    /// It was not asked, or did not answer.
    Unknown,
}

/// What is known of one key.
struct Row {
    target: Target,
    account: String,
    host: String,
    found: Option<Found>,
    verdict: Verdict,
    organization: Option<String>,
    /// Why it cannot be read, or was not accepted.
    problem: Option<String>,
    hints: Vec<String>,
}

/// Runs the verb.
pub(super) async fn run(args: &AuthStatusArgs, context: &Context) -> Result<ExitCode, CliError> {
    let (targets, wanted) = targets(args, context)?;
    let looked = targets.into_iter().map(|target| look(target, args.offline, context));
    let all = join_all(looked).await;
    let is_bad = |row: &&Row| row.found.is_none() || row.verdict == Verdict::Refused;
    let bad =
        all.iter().filter(|row| wanted.as_ref() == Some(&row.target.profile.name)).find(is_bad);
    if context.json {
        let keys: Vec<Value> = all.iter().map(document).collect();
        let document =
            json!({ "schema_version": SCHEMA_VERSION, "ok": bad.is_none(), "keys": keys });
        print(&format!("{document}\n"))?;
    } else {
        print(&table(&all))?;
        for row in all.iter().filter(|row| row.problem.is_some() || is_bad(row)) {
            tell(row, context);
        }
    }
    Ok(if bad.is_none() { ExitCode::Done } else { ExitCode::Auth })
}

/// Whose keys are looked at, and the name of the one that has to have one.
fn targets(
    args: &AuthStatusArgs,
    context: &Context,
) -> Result<(Vec<Target>, Option<String>), CliError> {
    if let Some(what) = &args.what {
        let target = Target::of(Some(what), context)?;
        let name = target.profile.name.clone();
        return Ok((vec![target], Some(name)));
    }
    let config = context.config()?;
    // Nobody is asked whom only a project names that is not trusted.
    let usable = |name: String| Some(config.select(Some(&name), None).ok()?.profile);
    let profiles = config.names().into_iter().filter_map(usable);
    let mut all: Vec<Target> = profiles.filter_map(Target::of_profile).collect();
    all.extend(Provider::ALL.map(Target::of_driver));
    // A configuration that selects nothing has keys all the same.
    let used = context.select().ok().and_then(|selected| Target::of_profile(selected.profile));
    Ok((all, used.map(|target| target.profile.name)))
}

async fn look(target: Target, offline: bool, context: &Context) -> Row {
    let around = target.surroundings(context);
    let mut row = Row {
        account: target.account(context),
        host: target.provider.host(&around),
        found: None,
        verdict: Verdict::Unknown,
        organization: None,
        problem: None,
        hints: Vec::new(),
        target,
    };
    match row.target.keys(context).first().await {
        Ok(found) => row.found = found,
        Err(error) => (row.problem, row.hints) = (Some(error.message), error.hints),
    }
    let Some(found) = row.found.clone().filter(|_| !offline) else { return row };
    row.organization.clone_from(&found.login.organization);
    // That key alone: another one that is accepted would say nothing about it.
    let Some(driver) = driver::open_in(&row.target.profile, around.only(found.login)) else {
        return row;
    };
    match tokio::time::timeout(PATIENCE, driver.account()).await {
        Ok(Ok(organization)) => {
            row.verdict = Verdict::Accepted;
            row.organization = organization.or(row.organization);
        }
        Ok(Err(error)) => {
            let is_refused = matches!(error.kind, ErrorKind::Auth | ErrorKind::Denied);
            row.verdict = if is_refused { Verdict::Refused } else { Verdict::Unknown };
            (row.problem, row.hints) = (Some(error.message), error.hints);
        }
        Err(_) => {
            let name = row.target.provider.name();
            row.problem = Some(format!("{name} did not answer within {} s", PATIENCE.as_secs()));
        }
    }
    row
}

fn document(row: &Row) -> Value {
    json!({
        "profile": (!row.target.is_driver()).then_some(&row.target.profile.name),
        "driver": row.target.provider.driver(),
        "host": row.host,
        "account": row.account,
        "source": row.found.as_ref().map(|found| found.source.word()),
        "accepted": match row.verdict {
            Verdict::Accepted => Some(true),
            Verdict::Refused => Some(false),
            Verdict::Unknown => None,
        },
        "organization": row.organization,
        "problem": row.problem,
        "hints": row.hints,
    })
}

fn table(all: &[Row]) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["PROFILE", "DRIVER", "HOST", "KEY", "STATE", "ORGANISATION"]);
    for row in all {
        let profile = if row.target.is_driver() { "(all)" } else { &row.target.profile.name };
        let key = match &row.found {
            Some(found) => found.source.words(),
            None if row.problem.is_some() => "cannot be read".to_owned(),
            None => "none".to_owned(),
        };
        let state = match (&row.found, row.verdict) {
            (None, _) => "-",
            (Some(_), Verdict::Accepted) => "accepted",
            (Some(_), Verdict::Refused) => "refused",
            (Some(_), Verdict::Unknown) => "not known",
        };
        table.add_row([
            profile.to_owned(),
            row.target.provider.driver().to_owned(),
            visible(&row.host),
            visible(&key),
            state.to_owned(),
            visible(row.organization.as_deref().unwrap_or("-")),
        ]);
    }
    rows(&table)
}

/// What is wrong with a key, and what to do.
fn tell(row: &Row, context: &Context) {
    let (name, driver) = (row.target.words(), row.target.provider.driver());
    match &row.problem {
        Some(problem) => {
            context.tell(&format!("\n{name}: {}", visible(problem)));
            for hint in &row.hints {
                context.tell(&format!("  {}", visible(hint)));
            }
        }
        // That a driver nobody uses has no key is no news.
        None if row.target.is_driver() => {}
        None => {
            context.tell(&format!("\n{name} has no key: log in with `skync auth login {driver}`"))
        }
    }
}
