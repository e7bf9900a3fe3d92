//! `skync status`: the sessions of this user, and what each does.

use serde_json::json;

use crate::commands::Context;
use crate::error::{CliError, ExitCode};
use crate::session::client::Connection;
use crate::session::journal::Journal;
use crate::session::proto::{StatusReply, StatusRequest};
use crate::ui::{print, visible};

/// Shows the sessions.
///
/// # Errors
/// If the journal cannot be read.
pub async fn run(context: &Context) -> Result<ExitCode, CliError> {
    let journal = Journal::open(&context.places)?;
    let (entries, _) = journal.list().map_err(|error| {
        CliError::new(ExitCode::Failed, "cannot read the journal").because(&error)
    })?;
    let (mut lines, mut documents) = (Vec::new(), Vec::new());
    for entry in entries {
        let (root, profile) = (entry.root.display().to_string(), &entry.profile.name);
        let reply = ask(context, &entry.root, profile).await;
        let state = reply.as_ref().map_or_else(|| "left over: run `skync gc`".to_owned(), words);
        lines.push(visible(&format!("{root} ({profile}): {state}")));
        documents.push(json!({
            "root": root,
            "profile": profile,
            "session": entry.id,
            "alive": reply.is_some(),
            "pid": reply.as_ref().map(|reply| reply.pid),
            "sandbox": reply.as_ref().map(|reply| &reply.sandbox),
            "operations": reply.as_ref().map_or(0, |reply| reply.operations),
            "kept": reply.as_ref().map(|reply| &reply.kept),
        }));
    }
    if context.json {
        let document = json!({ "schema_version": 1, "ok": true, "sessions": documents });
        print(&format!("{document}\n"))?;
    } else if lines.is_empty() {
        print("no sessions\n")?;
    } else {
        print(&format!("{}\n", lines.join("\n")))?;
    }
    Ok(ExitCode::Done)
}

async fn ask(context: &Context, root: &std::path::Path, profile: &str) -> Option<StatusReply> {
    let mut connection = Connection::find(&context.places, root, profile).await?;
    Some(connection.client.status(StatusRequest {}).await.ok()?.into_inner())
}

fn words(reply: &StatusReply) -> String {
    let sandbox = match reply.sandbox.as_str() {
        "" => "no sandbox yet".to_owned(),
        name => format!("sandbox {name}"),
    };
    let commands = match reply.operations {
        1 => "1 command".to_owned(),
        count => format!("{count} commands"),
    };
    match reply.kept.as_str() {
        "" => format!("{sandbox}, {commands}"),
        why => format!("{sandbox}, {commands}; kept: {why}"),
    }
}
