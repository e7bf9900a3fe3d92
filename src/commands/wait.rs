//! `skync wait`: returns when an operation has ended, with its exit code.

use serde_json::{Value, json};

use crate::cli::WaitArgs;
use crate::commands::attached::{self, First, Outcome, Role, Wanted, attachment, voice};
use crate::commands::exec::say;
use crate::commands::operations::{self, Found, no_outcome};
use crate::commands::{Context, runtime};
use crate::config::RECONNECT_TIMEOUT;
use crate::error::CliError;
use crate::operation::{OperationId, Record};
use crate::session::Spec;
use crate::session::proto::{Exit, Join};
use crate::ui::print;
use crate::ui::render::{self, SCHEMA_VERSION};

/// Waits; the code is the operation's.
///
/// # Errors
/// If there is no such operation, or its outcome is not known.
pub fn run(args: &WaitArgs, context: &Context) -> Result<u8, CliError> {
    runtime()?.block_on(async {
        match operations::find(&args.operation, context).await? {
            Found::Live(live) => wait(live.id, &live.spec, context).await,
            Found::Orphan(record, spec) => wait(record.id, &spec, context).await,
            Found::Kept(record) => ended(&record, context),
        }
    })
}

async fn wait(id: OperationId, spec: &Spec, context: &Context) -> Result<u8, CliError> {
    let limit = spec.profile.reconnect_timeout.unwrap_or(RECONNECT_TIMEOUT);
    let join = Join {
        id: id.to_vec(),
        wait: true,
        attachment: Some(attachment(false, spec.profile.reconnect_timeout)),
        ..Join::default()
    };
    let wanted = Wanted {
        id,
        first: First::Join(Box::new(join)),
        role: Role::Waiter,
        detach: false,
        reconnect: Some(limit),
    };
    // Its events are `attach`'s to tell; here there is one document.
    let silent = Context {
        quiet: context.quiet.max(u8::from(context.json) * 2),
        json: false,
        ..context.clone()
    };
    let outcome = attached::run(&silent, spec, wanted).await?;
    let (code, error) = outcome.code(false);
    match (error, &outcome.exit) {
        (Some(error), None) => Err(error),
        (error, Some(exit)) => {
            if let Some(error) = &error {
                render::error(error, context.json, context.style);
            } else {
                tell(id, code, exit, context)?;
            }
            Ok(code)
        }
        (None, None) => Ok(code),
    }
}

fn ended(record: &Record, context: &Context) -> Result<u8, CliError> {
    let Some(exit) = record.exit.as_ref().map(Exit::from) else {
        return Err(no_outcome(record));
    };
    let code = Outcome::command_code(&exit);
    tell(record.id, code, &exit, context)?;
    Ok(code)
}

fn tell(id: OperationId, code: u8, exit: &Exit, context: &Context) -> Result<(), CliError> {
    if context.json {
        let mut document =
            json!({ "schema_version": SCHEMA_VERSION, "ok": true, "id": id.to_string() });
        if let (Some(facts), Value::Object(of_exit)) = (document.as_object_mut(), voice::exit(exit))
        {
            facts.extend(of_exit);
        }
        document["code"] = code.into();
        return print(&format!("{document}\n"));
    }
    if context.verbose > 0 {
        context.tell(&format!("{} has ended: {}", id.short(), say::how(exit)));
    }
    Ok(())
}
