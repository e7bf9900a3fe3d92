//! Operations as tables and documents show them.

use serde_json::{Value, json};

use crate::commands::attached::voice;
use crate::operation::{Record, RecordState};
use crate::session::proto::{Exit, Operation};
use crate::ui::status_view::operation_word;

/// Characters of a command in a table.
const COMMAND_MAX: usize = 40;

/// As much of a command as fits into a table.
pub(in crate::commands) fn short(command: &str) -> String {
    if command.chars().count() <= COMMAND_MAX {
        return command.to_owned();
    }
    command.chars().take(COMMAND_MAX - 1).chain(['…']).collect()
}

/// An operation that a session has, for programs.
pub(in crate::commands) fn live(operation: &Operation, spec: &crate::session::Spec) -> Value {
    let id = crate::operation::OperationId::from_bytes(&operation.id);
    let argv: Vec<_> = operation.argv.iter().map(|word| String::from_utf8_lossy(word)).collect();
    let usage = operation.has_usage.then(|| {
        json!({
            "processes": operation.processes,
            "cpu_ms": operation.cpu_ms,
            "memory_bytes": operation.memory_bytes,
            "read_bytes": operation.read_bytes,
            "written_bytes": operation.written_bytes,
        })
    });
    json!({
        "id": id.map(|id| id.to_string()),
        "name": operation.name,
        "state": operation_word(operation.state()),
        "command": argv,
        "project": spec.root.to_string_lossy(),
        "profile": spec.profile.name,
        "sandbox": operation.sandbox,
        "detached": operation.detached,
        "terminal": operation.terminal,
        "began_ms": operation.began_ms,
        "exit": operation.exit.as_ref().map(voice::exit),
        "why": "",
        "pid": operation.pid,
        "clients": operation.clients,
        "usage": usage,
        "output_bytes": operation.output_bytes,
        "lost_bytes": operation.lost_bytes,
        "link": { "up": operation.link_up, "since_ms": operation.link_since_ms },
        "expires_ms": (operation.expires_ms > 0).then_some(operation.expires_ms),
    })
}

/// An operation that is only remembered, for programs; the same keys, as far as they are known.
pub(in crate::commands) fn kept(record: &Record) -> Value {
    let exit = record.exit.as_ref().map(Exit::from);
    json!({
        "id": record.id.to_string(),
        "name": record.name,
        "state": record.state.word(),
        "command": record.argv,
        "project": record.root.to_string_lossy(),
        "profile": record.profile,
        "sandbox": record.sandbox,
        "detached": record.detached,
        "terminal": record.terminal,
        "began_ms": record.began_ms,
        "ended_ms": (record.ended_ms > 0).then_some(record.ended_ms),
        "exit": exit.as_ref().map(voice::exit),
        "why": record.why,
        "pid": null,
        "clients": 0,
        "usage": null,
        "output_bytes": exit.as_ref().map(|exit| exit.output_bytes),
        "lost_bytes": exit.as_ref().map(|exit| exit.lost_bytes),
        "link": null,
        "expires_ms": null,
    })
}

/// How a remembered operation stands, in a word or two.
pub(in crate::commands) fn outcome(record: &Record) -> String {
    match (&record.exit, record.state) {
        (Some(exit), _) if exit.timed_out => "timed out".to_owned(),
        (Some(exit), _) if exit.signal > 0 => format!("signal {}", exit.signal),
        (Some(exit), _) => format!("exit {}", exit.code),
        (None, RecordState::Running) => "lost".to_owned(),
        (None, state) => state.word().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_command_is_cut() {
        assert_eq!(short("make all"), "make all");
        let cut = short(&"ä".repeat(100));
        assert!(cut.chars().count() == COMMAND_MAX && cut.ends_with('…'));
        assert_eq!(crate::ui::status_view::words(&[&b"a"[..], &[0xff]]), "a \u{fffd}");
    }

    #[test]
    fn what_runs_and_what_is_remembered_have_the_same_keys() {
        use crate::config::{DirectoryConfig, DriverConfig, Profile};
        let profile = Profile::new("dev", DriverConfig::Directory(DirectoryConfig::default()));
        let spec = crate::session::Spec { id: String::new(), root: "/p".into(), profile };
        let id = crate::operation::OperationId::random();
        let record = Record::new(id, "/p".into(), "dev".into(), &[b"make".to_vec()]);
        let operation = Operation { id: id.to_vec(), ..Operation::default() };
        let (live, kept) = (live(&operation, &spec), kept(&record));
        for key in live.as_object().expect("an object").keys() {
            assert!(kept.get(key).is_some(), "{key}");
        }
        assert_eq!(live["id"], kept["id"]);
    }
}
