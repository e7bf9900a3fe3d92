//! `skync auth login`: reads a key, asks the provider about it, and stores it.

use std::io::{ErrorKind, IsTerminal, Read};
use std::time::Duration;

use serde_json::json;

use super::{Target, key_error, keychain_error};
use crate::cli::LoginArgs;
use crate::commands::Context;
use crate::commands::ends::Ends;
use crate::credentials::keychain::{self, Trouble};
use crate::credentials::{self, Login, Provider, Secret, file};
use crate::driver;
use crate::error::{CliError, ExitCode};
use crate::session::errors::driver_error;
use crate::ui::render::{self, SCHEMA_VERSION};
use crate::ui::terminal::Restored;
use crate::ui::{print, visible};

/// A key has fewer.
const INPUT_BYTES_MAX: u64 = 64 << 10;
/// How long the provider may take to say whether a key is good.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the verb.
pub(super) async fn run(args: &LoginArgs, context: &Context) -> Result<ExitCode, CliError> {
    // Whatever ends this, keys are echoed again: `apart` restores that as it is dropped.
    let mut ends = Ends::new()?;
    tokio::select! {
        done = log_in(args, context) => done,
        () = ends.next() => Err(interrupted()),
    }
}

fn interrupted() -> CliError {
    CliError::new(ExitCode::Interrupted, "interrupted")
        .hint("`skync auth status` says which keys are stored")
}

async fn log_in(args: &LoginArgs, context: &Context) -> Result<ExitCode, CliError> {
    let target = Target::of(args.what.as_deref(), context)?;
    let provider = target.provider;
    let text = read(args, context, provider).await?;
    let login = Login::parse(text.reveal()).map_err(|why| {
        CliError::new(ExitCode::Auth, format!("that is no key for {}: {why}", provider.name()))
            .hint(format!("keys are made at {}", provider.keys_page()))
    })?;
    check(provider, &login)?;
    let organization = if args.offline { None } else { ask(&target, &login, context).await? };
    let account = target.account(context);
    let (place, word) = match args.insecure_storage {
        true => (put_in_file(&target, &account, &login, context).await?, "file"),
        false => (put_in_keychain(&target, &account, &login, context).await?, "keychain"),
    };
    let shadow = target.keys(context).variable();
    if context.json {
        let document = json!({
            "schema_version": SCHEMA_VERSION,
            "ok": true,
            "driver": provider.driver(),
            "account": account,
            "stored": word,
            "checked": !args.offline,
            "organization": organization,
            "hidden_by": shadow,
        });
        print(&format!("{document}\n"))?;
        return Ok(ExitCode::Done);
    }
    context.tell(&format!("stored the key for {} in {place}, as `{account}`", target.words()));
    if let Some(variable) = shadow {
        let text = format!("{variable} is set, and wins over it as long as it is");
        render::warning(&text, context.style);
    }
    Ok(ExitCode::Done)
}

/// The key: typed by a person who does not see it, or the first line of standard input.
async fn read(args: &LoginArgs, context: &Context, provider: Provider) -> Result<Secret, CliError> {
    let failed = |error: std::io::Error, hint: String| {
        CliError::new(ExitCode::Failed, "cannot read the key").because(&error).hint(hint)
    };
    let piped = format!(
        "`skync auth login {} --with-token` reads it from standard input",
        args.what.as_deref().map_or_else(|| provider.driver().to_owned(), visible),
    );
    let is_terminal = std::io::stdin().is_terminal();
    if is_terminal && !context.json {
        let prompt = format!("key for {} (it is not shown): ", provider.name());
        // At Ctrl-C it raises the signal, before it restores anything.
        let typed = apart(move || rpassword::prompt_password(prompt).map(Secret::of)).await;
        return typed.map_err(|error| match error.kind() {
            ErrorKind::Interrupted => interrupted(),
            _ => failed(error, piped),
        });
    }
    if !args.with_token || is_terminal {
        let message = "a key is asked for on a terminal only";
        return Err(CliError::new(ExitCode::Usage, message).hint(piped));
    }
    let given = || {
        let mut text = String::new();
        std::io::stdin().lock().take(INPUT_BYTES_MAX).read_to_string(&mut text)?;
        Ok(Secret::of(text))
    };
    let text = apart(given).await;
    let text = text.map_err(|error| failed(error, "it is text, in the first line".to_owned()))?;
    Ok(Secret::of(credentials::first_of(text.reveal()).to_owned()))
}

/// Reads in a thread of its own, which is left behind if this is dropped: nothing else stops it. What is
/// done to the terminal meanwhile is undone.
async fn apart<T: Send + 'static>(
    read: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    let _as_it_was = Restored::as_now();
    let (tell, told) = tokio::sync::oneshot::channel();
    let read = move || drop(tell.send(read()));
    std::thread::Builder::new().name("key".to_owned()).spawn(read)?;
    told.await.unwrap_or_else(|_| Err(std::io::Error::other("its thread failed")))
}

/// What a person may have taken for the key.
fn check(provider: Provider, login: &Login) -> Result<(), CliError> {
    let token = login.token.reveal();
    let wrong = |what: &str| {
        let message = format!("that is {what}, not a key for {}", provider.name());
        Err(CliError::new(ExitCode::Auth, message)
            .hint(format!("keys are made at {}", provider.keys_page())))
    };
    match provider {
        Provider::E2b if token.starts_with("dtn_") => wrong("a key for Daytona"),
        Provider::E2b if token.starts_with("sk_e2b_") => wrong("an access token of E2B"),
        Provider::Daytona if token.starts_with("e2b_") => wrong("a key for E2B"),
        Provider::Daytona if token.starts_with("eyJ") && login.organization.is_none() => {
            let message = "the token of a Daytona login says nothing without its organisation";
            Err(CliError::new(ExitCode::Auth, message).hint(
                "give `{\"token\": \"…\", \"organization\": \"…\"}` to `--with-token`, or use an API key",
            ))
        }
        Provider::E2b | Provider::Daytona => Ok(()),
    }
}

/// Asks the provider whether it takes the key; the organisation if that is known.
async fn ask(
    target: &Target,
    login: &Login,
    context: &Context,
) -> Result<Option<String>, CliError> {
    let only = target.surroundings(context).only(login.clone());
    let Some(driver) = driver::open_in(&target.profile, only) else { return Ok(None) };
    let hint = "the key was not stored; `--offline` stores it without asking";
    match tokio::time::timeout(PATIENCE, driver.account()).await {
        Ok(Ok(organization)) => Ok(organization),
        Ok(Err(error)) => {
            let is_refused = error.is_refusal();
            let mut error = driver_error(error);
            if is_refused {
                error.hints.clear();
                error = error.hint(format!(
                    "the key was not stored: make one at {}",
                    target.provider.keys_page()
                ));
                return Err(error);
            }
            Err(error.hint(hint))
        }
        Err(_) => {
            let name = target.provider.name();
            let message = format!("{name} did not answer within {} s", PATIENCE.as_secs());
            Err(CliError::new(ExitCode::Unreachable, message).hint(hint))
        }
    }
}

async fn put_in_keychain(
    target: &Target,
    account: &str,
    login: &Login,
    context: &Context,
) -> Result<String, CliError> {
    let put = keychain::put(super::manner(context), account.to_owned(), login.text()).await;
    put.map_err(|trouble| {
        let name = target.provider.driver();
        let variable = target.provider.variable();
        keychain_error("store the key", &trouble)
            .hint(format!("set {variable}, or `credential_command` in the profile"))
            .hint(format!(
                "`skync auth login {name} --insecure-storage` stores it in plain text, in a file \
                 that only you can read"
            ))
    })?;
    // An older one must not stay behind in plain text.
    file::remove(&target.surroundings(context), account).map_err(key_error)?;
    Ok(keychain::NAME.to_owned())
}

async fn put_in_file(
    target: &Target,
    account: &str,
    login: &Login,
    context: &Context,
) -> Result<String, CliError> {
    let path = file::put(&target.surroundings(context), account, login).map_err(key_error)?;
    let shown = visible(&path.to_string_lossy());
    if !context.json {
        let text = format!("the key is in plain text in `{shown}`: whoever reads it has the key");
        render::warning(&text, context.style);
    }
    // What is in the keychain would win over it.
    match keychain::remove(super::manner(context), account.to_owned()).await {
        Ok(_) | Err(Trouble::Absent(_)) => {}
        Err(trouble) => {
            let text = format!(
                "what the keychain has for `{account}` wins over it, and cannot be removed: {}",
                trouble.message()
            );
            render::warning(&text, context.style);
        }
    }
    Ok(format!("`{shown}`"))
}
