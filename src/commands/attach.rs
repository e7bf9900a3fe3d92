//! `skync attach`: be the client of an operation that runs; or see how it ended.

use std::io::{self, IsTerminal};
use std::time::Duration;

use crate::cli::AttachArgs;
use crate::commands::attached::{self, First, Role, Wanted, attachment, terminal_size, voice};
use crate::commands::exec::{report, say};
use crate::commands::operations::replay::{Start, replay};
use crate::commands::operations::{self, Found, document, no_outcome};
use crate::commands::{Context, runtime};
use crate::error::{CliError, ExitCode};
use crate::operation::{OperationId, Record};
use crate::session::Spec;
use crate::session::proto::join::From;
use crate::session::proto::{Exit, Join};
use crate::ui::{print, render};

/// How long a session that is gone is looked for; as `exec` does.
const RECONNECT: Duration = Duration::from_secs(600);

/// Attaches; the code is the operation's.
///
/// # Errors
/// If there is no such operation, or its outcome is not known.
pub fn run(args: &AttachArgs, context: &Context) -> Result<u8, CliError> {
    let runtime = runtime()?;
    let code = runtime.block_on(async {
        match operations::find(&args.operation, context).await? {
            Found::Live(live) => {
                let is_terminal = live.operation.terminal;
                let words = words(&live.operation.argv);
                join(args, (live.id, is_terminal), &live.spec, words, context).await
            }
            Found::Orphan(record, spec) => {
                let words = record.argv.iter().map(Into::into).collect();
                join(args, (record.id, record.terminal), &spec, words, context).await
            }
            Found::Kept(record) => ended(&record, context),
        }
    });
    // A read of standard input may be under way in a thread: it must not hold us.
    runtime.shutdown_background();
    code
}

fn words(argv: &[Vec<u8>]) -> Vec<std::ffi::OsString> {
    use std::os::unix::ffi::OsStringExt;
    argv.iter().map(|word| std::ffi::OsString::from_vec(word.clone())).collect()
}

async fn join(
    args: &AttachArgs,
    (id, has_terminal): (OperationId, bool),
    spec: &Spec,
    command: Vec<std::ffi::OsString>,
    context: &Context,
) -> Result<u8, CliError> {
    let is_person = io::stdin().is_terminal() && io::stdout().is_terminal();
    let role = if args.read_only { Role::Viewer } else { Role::Owner };
    let shows_terminal = has_terminal && is_person && role == Role::Owner;
    let limit = spec.profile.reconnect_timeout;
    let join = Join {
        id: id.to_vec(),
        from: Some(From::Untaken(true)),
        input: role == Role::Owner,
        terminal: shows_terminal.then(terminal_size),
        attachment: Some(attachment(shows_terminal, None)),
        ..Join::default()
    };
    let wanted = Wanted {
        id,
        first: First::Join(Box::new(join)),
        role,
        detach: false,
        reconnect: (!shows_terminal).then_some(limit.unwrap_or(RECONNECT)),
    };
    let outcome = attached::run(context, spec, wanted).await?;
    let (code, error) = outcome.code(false);
    if context.json {
        let facts = report::of(&outcome, &command, code, error.as_ref());
        print(&format!("{}\n", report::event(facts)))?;
    }
    say::ended(&outcome, context);
    match error {
        Some(error) if outcome.exit.is_some() => {
            render::error(&error, context.json, context.style);
            Ok(code)
        }
        Some(error) => Err(error),
        None => Ok(code),
    }
}

/// Shows what no client has seen of an operation that has ended, and how it ended.
fn ended(record: &Record, context: &Context) -> Result<u8, CliError> {
    replay(record, Start::Offset(record.taken), None, context)?;
    let Some(exit) = record.exit.as_ref().map(Exit::from) else {
        return Err(no_outcome(record));
    };
    if context.json {
        let mut document = document::kept(record);
        document["schema_version"] = render::SCHEMA_VERSION.into();
        document["event"] = "finished".into();
        let facts = voice::exit(&exit);
        document["code"] = facts["code"].clone();
        print(&format!("{document}\n"))?;
    } else {
        let called = say::called(record.id, &record.name);
        context.tell(&format!("{called} has ended: {}", say::how(&exit)));
    }
    let code = attached::Outcome::command_code(&exit);
    let least = if exit.survivors > 0 { ExitCode::Failed as u8 } else { 0 };
    Ok(code.max(least))
}
