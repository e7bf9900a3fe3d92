//! `skync ps`: the commands that run, of all sessions of this user, and with `-a` those that ended.

use std::collections::BTreeSet;
use std::time::Duration;

use comfy_table::Table;
use serde_json::json;

use crate::cli::PsArgs;
use crate::commands::Context;
use crate::commands::attached::seconds;
use crate::commands::operations::{self, Live, document, lost, now_ms};
use crate::error::{CliError, ExitCode};
use crate::operation::{Record, RecordState, Store};
use crate::ui::render::SCHEMA_VERSION;
use crate::ui::status_view;
use crate::ui::status_view::size;
use crate::ui::{print, rows, visible};

/// Shows the operations.
///
/// # Errors
/// If the journal or the records cannot be read.
pub async fn run(args: &PsArgs, context: &Context) -> Result<ExitCode, CliError> {
    let mut live = operations::all(context).await?;
    let is_over = |live: &Live| live.operation.state().is_over();
    let mut kept = Vec::new();
    if args.all {
        let records = Store::open(&context.places)?.list()?;
        let written: BTreeSet<_> = records
            .iter()
            .filter(|record| record.state != RecordState::Running)
            .map(|record| record.id)
            .collect();
        // What has ended is in both for a while; the record stays.
        live.retain(|live| !is_over(live) || !written.contains(&live.id));
        let known: BTreeSet<_> = live.iter().map(|live| live.id).collect();
        kept.extend(records.into_iter().filter(|record| !known.contains(&record.id)).map(
            |record| match record.state {
                RecordState::Running => lost(record),
                RecordState::Ended | RecordState::Lost | RecordState::Refused => record,
            },
        ));
    } else {
        live.retain(|live| !is_over(live));
    }
    print(&if context.json {
        let live = live.iter().map(|live| document::live(&live.operation, &live.spec));
        let operations: Vec<_> = kept.iter().map(document::kept).chain(live).collect();
        let document =
            json!({ "schema_version": SCHEMA_VERSION, "ok": true, "operations": operations });
        format!("{document}\n")
    } else if live.is_empty() && kept.is_empty() {
        "no commands\n".to_owned()
    } else {
        table(&live, &kept, now_ms())
    })?;
    Ok(ExitCode::Done)
}

/// Oldest first, what has ended before what runs: the newest is above the prompt.
fn table(live: &[Live], kept: &[Record], now_ms: u64) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["ID", "NAME", "STATE", "ELAPSED", "CPU", "MEM", "COMMAND", "PROJECT"]);
    let time = |ms: u64| seconds(Duration::from_millis(ms));
    for record in kept {
        let end = record.exit.as_ref().map_or(record.ended_ms, |exit| exit.ended_ms);
        table.add_row([
            record.id.short(),
            visible(&record.name),
            document::outcome(record),
            time(end.saturating_sub(record.began_ms)),
            "-".to_owned(),
            "-".to_owned(),
            visible(&document::short(&record.argv.join(" "))),
            visible(&record.root.to_string_lossy()),
        ]);
    }
    for Live { operation, id, spec } in live {
        let end = operation.exit.as_ref().map_or(now_ms, |exit| exit.ended_ms);
        let usage = |text: String| if operation.has_usage { text } else { "-".to_owned() };
        table.add_row([
            id.short(),
            visible(&operation.name),
            status_view::operation_word(operation.state()).to_owned(),
            time(end.saturating_sub(operation.began_ms)),
            usage(time(operation.cpu_ms)),
            usage(size(operation.memory_bytes)),
            visible(&document::short(&status_view::words(&operation.argv))),
            visible(&spec.root.to_string_lossy()),
        ]);
    }
    rows(&table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DirectoryConfig, DriverConfig, Profile};
    use crate::operation::{ExitRecord, OperationId};
    use crate::session::Spec;
    use crate::session::proto::Operation;
    use crate::session::proto::OperationState;

    #[test]
    fn what_has_ended_stands_above_what_runs() {
        let id = |text: &str| format!("{text:0<32}").parse::<OperationId>().expect("an id");
        let argv = [b"make".to_vec(), b"all".to_vec()];
        let mut record = Record::new(id("ab12"), "/p".into(), "dev".into(), &argv);
        (record.state, record.name, record.began_ms) = (RecordState::Ended, "build".into(), 1_000);
        record.exit = Some(ExitRecord { code: 2, ended_ms: 61_000, ..ExitRecord::default() });
        let profile = Profile::new("dev", DriverConfig::Directory(DirectoryConfig::default()));
        let operation = Operation {
            argv: vec![b"pytest".to_vec()],
            state: OperationState::OperationRunning as i32,
            began_ms: 1_000,
            has_usage: true,
            cpu_ms: 5_000,
            memory_bytes: 12_000_000,
            ..Operation::default()
        };
        let spec = Spec { id: String::new(), root: "/q".into(), profile };
        let live = Live { operation, id: id("cd34"), spec };
        insta::assert_snapshot!(table(&[live], &[record], 301_000), @r"
        ID        NAME   STATE    ELAPSED  CPU  MEM    COMMAND   PROJECT
        ab120000  build  exit 2   60 s     -    -      make all  /p
        cd340000         running  5 min    5 s  12 MB  pytest    /q
        ");
    }
}
