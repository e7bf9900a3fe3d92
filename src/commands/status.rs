//! `skync status`: the sessions of this user, and what each does.

mod operation;
mod watch;

use serde_json::{Value, json};

use crate::cli::StatusArgs;
use crate::commands::operations::listed;
use crate::commands::{Context, follow, mount, no_session};
use crate::error::{CliError, ExitCode};
use crate::session::client::Connection;
use crate::session::journal::{Entry, Journal};
use crate::session::proto::{
    Moved, Side, State, StatusReply, StatusRequest, Totals, Usage, UsageRequest,
};
use crate::ui::progress::Progress;
use crate::ui::{print, status_view, visible};

/// Shows the sessions.
///
/// # Errors
/// If the journal cannot be read; if there is no such operation; with `--watch` if there is no session of the project.
pub async fn run(args: &StatusArgs, context: &Context) -> Result<ExitCode, CliError> {
    if let Some(text) = &args.operation {
        return operation::run(text, context).await;
    }
    if args.watch && watch::is_wanted(args, context) {
        return watch::run(args, context).await;
    }
    if args.watch {
        return follow_plainly(args, context).await;
    }
    let journal = Journal::open(&context.places)?;
    let (entries, _) = listed(&journal)?;
    let (mut lines, mut documents) = (Vec::new(), Vec::new());
    let same = |a: &Entry, b: &Entry| a.root == b.root && a.profile.name == b.profile.name;
    for entry in &entries {
        let is_alone = entries.iter().filter(|other| same(other, entry)).count() == 1;
        let reply = ask(context, entry).await.filter(|reply| is_alone || is_of(reply, entry));
        let usage = match &reply {
            Some(_) => used(context, entry).await,
            None => None,
        };
        lines.push(text(entry, reply.as_ref(), usage));
        documents.push(document_of(entry, reply.as_ref(), usage));
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

/// Shows one session whenever something changes, until it ends.
async fn follow_plainly(args: &StatusArgs, context: &Context) -> Result<ExitCode, CliError> {
    let mut connection =
        context.find_session(args.root.as_deref()).await?.ok_or_else(no_session)?;
    let replies = connection.client.watch_status(StatusRequest {}).await;
    let mut replies = replies.map_err(|status| follow::broken(&status))?.into_inner();
    let progress = Progress::new(context);
    let mut before = None;
    // A session that ends hangs up in the middle of it, which is no failure here.
    while let Ok(Some(reply)) = replies.message().await {
        if context.json {
            let mut document = document(&reply);
            document["schema_version"] = 1.into();
            document["event"] = "status".into();
            print(&format!("{document}\n"))?;
        } else {
            show(&progress, before.as_ref(), &reply)?;
        }
        before = Some(reply);
    }
    progress.clear();
    context.tell("the session has ended");
    Ok(ExitCode::Done)
}

fn show(
    progress: &Progress,
    before: Option<&StatusReply>,
    now: &StatusReply,
) -> Result<(), CliError> {
    let line = visible(&status_view::line(now));
    if progress.is_live() {
        for change in status_view::changes(before, now) {
            progress.note(&change);
        }
        progress.status(&line);
    } else if before.map(status_view::line).as_ref() != Some(&line) {
        print(&format!("{line}\n"))?;
    }
    Ok(())
}

async fn ask(context: &Context, entry: &Entry) -> Option<StatusReply> {
    let profile = &entry.profile.name;
    let mut connection = Connection::find(&context.places, &entry.root, profile).await?;
    Some(connection.client.status(StatusRequest {}).await.ok()?.into_inner())
}

/// What the sandbox uses, if its provider measures it.
async fn used(context: &Context, entry: &Entry) -> Option<Usage> {
    let profile = &entry.profile.name;
    let mut connection = Connection::find(&context.places, &entry.root, profile).await?;
    connection.client.usage(UsageRequest {}).await.ok()?.into_inner().usage
}

fn usage_line(usage: &Usage) -> String {
    let cpus = |milli: u64| milli as f64 / 1000.0;
    format!(
        "the sandbox uses {:.2} of {} CPUs, {} of {} memory, {} of {} disk",
        cpus(usage.milli_cpus),
        cpus(usage.milli_cpus_max),
        status_view::size(usage.memory),
        status_view::size(usage.memory_max),
        status_view::size(usage.disk),
        status_view::size(usage.disk_max),
    )
}

/// What a crash has left has the same socket as the session that runs now; its sandbox is another.
fn is_of(reply: &StatusReply, entry: &Entry) -> bool {
    reply.sandbox == entry.sandbox.as_ref().map_or("", |sandbox| &sandbox.name)
}

fn text(entry: &Entry, reply: Option<&StatusReply>, usage: Option<Usage>) -> String {
    let head = format!("{} ({})", entry.root.display(), entry.profile.name);
    let Some(reply) = reply else {
        return visible(&format!("{head}: left over: run `skync gc`"));
    };
    let mut lines = vec![format!("{head}: {}", words(reply))];
    lines.extend(status_view::changes(None, reply).into_iter().filter(|line| {
        // The state is in the first line.
        line.starts_with("warning: ") || line.starts_with('…')
    }));
    lines.extend(reply.mounts.iter().map(status_view::mount_line));
    if !reply.setup.is_empty() {
        lines.push(format!("setup: {}", reply.setup));
    }
    lines.extend(usage.as_ref().map(usage_line));
    if reply.state() == State::Halted {
        lines.push("`skync resume --accept` carries out what was halted".to_owned());
    }
    lines.iter().map(|line| visible(line)).collect::<Vec<_>>().join("\n  ")
}

fn words(reply: &StatusReply) -> String {
    let mut parts = Vec::new();
    match reply.state() {
        State::Idle => {}
        _ => parts.push(status_view::line(reply)),
    }
    parts.push(match reply.sandbox.as_str() {
        "" => "no sandbox yet".to_owned(),
        name => format!("sandbox {name}"),
    });
    let mut users = vec![match reply.operations {
        1 => "1 command".to_owned(),
        count => format!("{count} commands"),
    }];
    match reply.ups {
        0 => {}
        1 => users.push("`skync up` in a terminal".to_owned()),
        count => users.push(format!("`skync up` in {count} terminals")),
    }
    if reply.hold {
        users.push("in the background".to_owned());
    }
    match reply.mounts.len() {
        0 => {}
        1 => users.push("1 mount".to_owned()),
        count => users.push(format!("{count} mounts")),
    }
    parts.push(users.join(", "));
    let text = parts.join(", ");
    // As long as somebody uses it, nothing need keep it.
    let is_used = reply.operations > 0 || reply.ups > 0 || reply.hold || !reply.mounts.is_empty();
    match reply.kept.as_str() {
        why if !why.is_empty() && !is_used => format!("{text}; kept: {why}"),
        _ => text,
    }
}

fn document_of(entry: &Entry, reply: Option<&StatusReply>, usage: Option<Usage>) -> Value {
    let mut session = json!({
        "root": entry.root.display().to_string(),
        "profile": entry.profile.name,
        "session": entry.id,
        "alive": reply.is_some(),
        "operations": 0,
        "pid": null,
        "sandbox": null,
        "kept": null,
        "mounts": [],
        "usage": usage.map(|usage| json!({
            "milli_cpus": [usage.milli_cpus, usage.milli_cpus_max],
            "memory": [usage.memory, usage.memory_max],
            "disk": [usage.disk, usage.disk_max],
        })),
    });
    if let (Some(session), Some(Value::Object(facts))) =
        (session.as_object_mut(), reply.map(document))
    {
        session.extend(facts);
    }
    session
}

/// What a session says of itself, for programs.
pub(super) fn document(reply: &StatusReply) -> Value {
    let conflicts = reply.conflicts.iter();
    let problems = reply.problems.iter();
    json!({
        "pid": reply.pid,
        "sandbox": reply.sandbox,
        "operations": reply.operations,
        "ups": reply.ups,
        "hold": reply.hold,
        "kept": reply.kept,
        "state": status_view::state_word(reply.state()),
        "why": reply.why,
        "link": { "up": reply.link_up, "since_ms": reply.link_since_ms },
        "files": reply.files,
        "conflict_count": reply.conflict_count,
        "conflicts": conflicts
            .map(|conflict| json!({ "path": conflict.path, "reason": conflict.reason }))
            .collect::<Vec<_>>(),
        "problem_count": reply.problem_count,
        "problems": problems
            .map(|problem| json!({
                "path": problem.path,
                "side": status_view::word(problem.side()),
                "reason": problem.reason,
            }))
            .collect::<Vec<_>>(),
        "to_sandbox": totals(reply.to_sandbox),
        "to_host": totals(reply.to_host),
        "lag_us": reply.lag_us,
        "lag_max_us": reply.lag_max_us,
        "synced_ms": reply.synced_ms,
        "watching": { "host": reply.watching_host, "sandbox": reply.watching_sandbox },
        "recent": reply.recent.iter().map(moved).collect::<Vec<_>>(),
        "progress": reply.progress.as_ref().map(progress),
        "setup": reply.setup,
        "mounts": reply.mounts.iter().map(mount::document).collect::<Vec<_>>(),
    })
}

/// What one side received, for programs.
pub(super) fn totals(totals: Option<Totals>) -> Value {
    let Totals { files, bytes, removed, paths } = totals.unwrap_or_default();
    json!({ "files": files, "bytes": bytes, "removed": removed, "paths": paths })
}

/// One path that was changed, for programs.
pub(super) fn moved(moved: &Moved) -> Value {
    let to = match moved.side() {
        Side::Host => "host",
        Side::Sandbox => "sandbox",
    };
    json!({
        "at_ms": moved.at_ms,
        "to": to,
        "path": moved.path,
        "bytes": moved.bytes,
        "removed": moved.removed,
    })
}

/// How far something is, for programs.
pub(super) fn progress(progress: &crate::session::proto::Progress) -> Value {
    json!({
        "step": progress.step,
        "done": progress.done,
        "total": progress.total,
        "unit": if progress.bytes { "bytes" } else { "files" },
        "files": progress.files,
        "files_total": progress.files_total,
    })
}
