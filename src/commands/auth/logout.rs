//! `skync auth logout`: removes what `auth login` has stored, wherever it did.

use serde_json::json;

use super::{Target, key_error, keychain_error};
use crate::cli::LogoutArgs;
use crate::commands::Context;
use crate::credentials::keychain::{self, Trouble};
use crate::credentials::{Provider, Surroundings, file};
use crate::error::{CliError, ExitCode};
use crate::ui::render::SCHEMA_VERSION;
use crate::ui::{print, visible};

/// Runs the verb.
pub(super) async fn run(args: &LogoutArgs, context: &Context) -> Result<ExitCode, CliError> {
    let targets = match args.all {
        true => Provider::ALL.map(Target::of_driver).to_vec(),
        false => vec![Target::of(args.what.as_deref(), context)?],
    };
    let (mut removed, mut errors) = (Vec::new(), Vec::new());
    let named: Vec<String> = targets.iter().map(|target| target.account(context)).collect();
    // The file first: a keychain that does not open must not keep a key in plain text.
    from_file(args.all, &named, &mut removed, &mut errors);
    from_keychain(args.all, named, context, &mut removed, &mut errors).await;
    for (account, place) in &removed {
        context.tell(&format!("removed `{}` from the {place}", visible(account)));
    }
    if let Some(error) = all_of(errors) {
        return Err(error);
    }
    if removed.is_empty() {
        context.tell("nothing was stored");
    }
    let mut left = Vec::new();
    for target in &targets {
        if let Ok(Some(found)) = target.keys(context).first().await {
            let words = found.source.words();
            context.tell(&format!("{} still has a key: {words}", target.words()));
            left.push(json!({
                "driver": target.provider.driver(),
                "profile": (!target.is_driver()).then_some(&target.profile.name),
                "source": found.source.word(),
            }));
        }
    }
    if context.json {
        let removed = removed.iter();
        let removed: Vec<_> =
            removed.map(|(account, from)| json!({ "account": account, "from": from })).collect();
        let document = json!({
            "schema_version": SCHEMA_VERSION, "ok": true, "removed": removed, "left": left,
        });
        print(&format!("{document}\n"))?;
    }
    Ok(ExitCode::Done)
}

/// An account, and from where it was removed.
type Removed = Vec<(String, &'static str)>;

/// Removes these accounts from the file, or all that it has.
fn from_file(all: bool, named: &[String], removed: &mut Removed, errors: &mut Vec<CliError>) {
    let around = Surroundings::of_process();
    let accounts = match all {
        true => file::accounts(&around),
        false => Ok(named.to_vec()),
    };
    let accounts = accounts.unwrap_or_else(|error| {
        errors.push(key_error(error));
        Vec::new()
    });
    for account in accounts {
        match file::remove(&around, &account) {
            Ok(true) => removed.push((account, "file")),
            Ok(false) => {}
            Err(error) => errors.push(key_error(error)),
        }
    }
}

/// Removes these accounts from the keychain. With `all` also what it lists, and what the profiles may
/// have there, since not every keychain says what it has.
async fn from_keychain(
    all: bool,
    mut accounts: Vec<String>,
    context: &Context,
    removed: &mut Removed,
    errors: &mut Vec<CliError>,
) {
    if all {
        match keychain::accounts(super::manner(context)).await {
            Ok(listed) => accounts.extend(listed),
            Err(Trouble::Absent(_)) => return,
            Err(trouble) => errors.push(keychain_error("see what the keychain has", &trouble)),
        }
        match context.config() {
            Ok(config) => {
                let names = config.names().into_iter();
                let profiles = names.filter_map(|name| config.profile(&name)?.ok());
                let targets = profiles.filter_map(Target::of_profile);
                accounts.extend(targets.map(|target| target.account(context)));
            }
            Err(error) => errors.push(error),
        }
        accounts.sort();
        accounts.dedup();
    }
    for account in accounts {
        match keychain::remove(super::manner(context), account.clone()).await {
            Ok(true) => removed.push((account, "keychain")),
            Ok(false) => {}
            Err(Trouble::Absent(_)) => return,
            Err(trouble) => {
                let doing = format!("remove `{}`", visible(&account));
                errors.push(keychain_error(&doing, &trouble));
                if matches!(trouble, Trouble::TimedOut(_)) {
                    return;
                }
            }
        }
    }
}

/// The first error, with what else went wrong.
fn all_of(errors: Vec<CliError>) -> Option<CliError> {
    let mut errors = errors.into_iter();
    let first = errors.next()?;
    Some(errors.fold(first, |first, other| first.hint(format!("also: {other}"))))
}
