//! `skync status OPERATION`: what one operation is, does and uses.

use std::time::Duration;

use serde_json::Value;

use crate::commands::Context;
use crate::commands::attached::seconds;
use crate::commands::exec::say;
use crate::commands::operations::{self, Found, Live, document, lost, now_ms};
use crate::error::{CliError, ExitCode};
use crate::operation::Record;
use crate::session::proto::{Exit, OperationState};
use crate::ui::render::SCHEMA_VERSION;
use crate::ui::status_view;
use crate::ui::status_view::size;
use crate::ui::{print, visible};

/// Shows it.
pub(super) async fn run(text: &str, context: &Context) -> Result<ExitCode, CliError> {
    let (lines, document) = match operations::find(text, context).await? {
        Found::Live(live) => {
            (of_live(&live, now_ms()), document::live(&live.operation, &live.spec))
        }
        Found::Kept(record) => (of_record(&record), document::kept(&record)),
        Found::Orphan(record, _) => {
            let record = lost(*record);
            (of_record(&record), document::kept(&record))
        }
    };
    if context.json {
        let mut whole = serde_json::json!({ "schema_version": SCHEMA_VERSION, "ok": true });
        if let (Some(whole), Value::Object(facts)) = (whole.as_object_mut(), document) {
            whole.extend(facts);
        }
        print(&format!("{whole}\n"))?;
    } else {
        let lines: Vec<_> = lines.iter().map(|line| visible(line)).collect();
        print(&format!("{}\n", lines.join("\n  ")))?;
    }
    Ok(ExitCode::Done)
}

fn time(ms: u64) -> String {
    seconds(Duration::from_millis(ms))
}

fn of_live(live: &Live, now_ms: u64) -> Vec<String> {
    let operation = &live.operation;
    let called = say::called(live.id, &operation.name);
    let state = status_view::operation_word(operation.state());
    let since = time(now_ms.saturating_sub(operation.began_ms));
    let mut lines = vec![
        match &operation.exit {
            Some(exit) => format!("{called}: {state}, {}", say::how(exit)),
            None => format!("{called}: {state}, {since}"),
        },
        format!("command  {}", status_view::words(&operation.argv)),
        format!("project  {} ({})", live.spec.root.display(), live.spec.profile.name),
    ];
    if !operation.sandbox.is_empty() {
        lines.push(format!("sandbox  {}", operation.sandbox));
    }
    if operation.has_usage {
        let processes = match operation.processes {
            1 => "1 process".to_owned(),
            count => format!("{count} processes"),
        };
        let (cpu, memory) = (time(operation.cpu_ms), size(operation.memory_bytes));
        lines.push(format!("uses     {processes}, CPU {cpu}, memory {memory}"));
        let (read, written) = (size(operation.read_bytes), size(operation.written_bytes));
        lines.push(format!("I/O      {read} read, {written} written"));
    }
    lines.push(match operation.lost_bytes {
        0 => format!("output   {} so far", size(operation.output_bytes)),
        lost => format!(
            "output   {} so far, {} of it not kept",
            size(operation.output_bytes),
            size(lost)
        ),
    });
    if operation.link_since_ms > 0 {
        let link = if operation.link_up { "up" } else { "lost" };
        let since = time(now_ms.saturating_sub(operation.link_since_ms));
        lines.push(format!("link     {link} for {since}"));
    }
    lines.push(match (operation.clients, operation.detached) {
        (0, true) => "clients  none; it goes on in the background".to_owned(),
        (0, false) => "clients  none".to_owned(),
        (1, _) => "clients  1".to_owned(),
        (count, _) => format!("clients  {count}"),
    });
    let is_running = operation.state() == OperationState::OperationRunning;
    if is_running && operation.expires_ms > 0 {
        let left = time(operation.expires_ms.saturating_sub(now_ms));
        lines.push(format!("stops in {left}, unless its client comes back: `skync attach` is one"));
    }
    lines
}

fn of_record(record: &Record) -> Vec<String> {
    let called = say::called(record.id, &record.name);
    let exit = record.exit.as_ref().map(Exit::from);
    let mut lines = vec![
        match &exit {
            Some(exit) => format!("{called}: ended, {}", say::how(exit)),
            None => format!("{called}: {}: {}", record.state.word(), record.why),
        },
        format!("command  {}", record.argv.join(" ")),
        format!("project  {} ({})", record.root.display(), record.profile),
    ];
    if let Some(exit) = exit {
        lines.push(format!("took     {}", time(exit.ended_ms.saturating_sub(exit.started_ms))));
        lines.push(match exit.lost_bytes {
            0 => format!("output   {}", size(exit.output_bytes)),
            lost => format!("output   {}, {} of it not kept", size(exit.output_bytes), size(lost)),
        });
        if exit.cancelled || exit.timed_out || exit.survivors > 0 {
            lines.push(say::stopped(exit.stopped, exit.survivors));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DirectoryConfig, DriverConfig, Profile};
    use crate::operation::{ExitRecord, OperationId, RecordState};
    use crate::session::Spec;
    use crate::session::proto::Operation;

    fn id() -> OperationId {
        format!("{:0<32}", "ab12").parse().expect("an id")
    }

    #[test]
    fn an_operation_that_runs_says_what_it_uses_and_when_it_stops() {
        let profile = Profile::new("dev", DriverConfig::Directory(DirectoryConfig::default()));
        let operation = Operation {
            name: "train".into(),
            argv: vec![b"python".to_vec(), b"train.py".to_vec()],
            state: OperationState::OperationRunning as i32,
            began_ms: 1_000,
            has_usage: true,
            processes: 3,
            cpu_ms: 90_000,
            memory_bytes: 12_000_000,
            output_bytes: 2_000,
            lost_bytes: 500,
            link_up: true,
            link_since_ms: 1_000,
            expires_ms: 361_000,
            sandbox: "skync-1".into(),
            ..Operation::default()
        };
        let spec = Spec { id: String::new(), root: "/p".into(), profile };
        let lines = of_live(&Live { operation, id: id(), spec }, 301_000);
        insta::assert_snapshot!(lines.join("\n"), @r"
        train (ab120000): running, 5 min
        command  python train.py
        project  /p (dev)
        sandbox  skync-1
        uses     3 processes, CPU 90 s, memory 12 MB
        I/O      0 B read, 0 B written
        output   2.0 KB so far, 500 B of it not kept
        link     up for 5 min
        clients  none
        stops in 60 s, unless its client comes back: `skync attach` is one
        ");
    }

    #[test]
    fn an_operation_that_is_remembered_says_how_it_ended() {
        let mut record = Record::new(id(), "/p".into(), "dev".into(), &[b"make".to_vec()]);
        record.state = RecordState::Ended;
        record.exit = Some(ExitRecord {
            signal: 15,
            cancelled: true,
            stopped: 7,
            started_ms: 1_000,
            ended_ms: 4_000,
            ..ExitRecord::default()
        });
        insta::assert_snapshot!(of_record(&record).join("\n"), @r"
        ab120000: ended, signal 15, it was cancelled
        command  make
        project  /p (dev)
        took     3 s
        output   0 B
        stopped 7 processes, 0 left
        ");
    }
}
