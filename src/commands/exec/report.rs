//! How an operation went, as a document for programs: `--report`, and the last line of `--json`.

use std::ffi::OsString;
use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::commands::attached::{Left, Outcome, voice};
use crate::error::{CliError, ExitCode};
use crate::session::proto::Finished;
use crate::ui::render::{SCHEMA_VERSION, error_document};
use crate::ui::visible;

/// Where a report is to be written.
pub(super) struct Report(PathBuf);

impl Report {
    /// Makes sure that it can be written: afterwards would be too late to say that it cannot.
    pub(super) fn new(path: &Path) -> Result<Self, CliError> {
        let report = Self(path.to_owned());
        report.check().map_err(|error| report.failed(&error).not_started())?;
        Ok(report)
    }

    fn check(&self) -> io::Result<()> {
        match std::fs::metadata(&self.0) {
            Ok(found) if found.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
            // A device or a pipe is written as it is.
            Ok(found) if !found.is_file() => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Err(_) => {}
        }
        self.temporary().map(drop)
    }

    /// Readers see the whole report or none.
    pub(super) fn write(&self, report: &Value) -> Result<(), CliError> {
        let text = format!("{report:#}\n");
        let written = match std::fs::metadata(&self.0) {
            Ok(found) if !found.is_file() => std::fs::OpenOptions::new()
                .write(true)
                .open(&self.0)
                .and_then(|mut file| file.write_all(text.as_bytes())),
            Ok(_) | Err(_) => self.replace(&text),
        };
        written.map_err(|error| self.failed(&error))
    }

    fn replace(&self, text: &str) -> io::Result<()> {
        let mut file = self.temporary()?;
        file.write_all(text.as_bytes())?;
        file.persist(&self.0).map_err(|error| error.error)?;
        Ok(())
    }

    fn temporary(&self) -> io::Result<tempfile::NamedTempFile> {
        let directory = match self.0.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            Some(_) | None => Path::new("."),
        };
        tempfile::Builder::new()
            .prefix(".skync-")
            .suffix(".tmp")
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(directory)
    }

    fn failed(&self, error: &io::Error) -> CliError {
        let message = format!("cannot write the report `{}`", visible(&self.0.to_string_lossy()));
        CliError::new(ExitCode::Failed, message)
            .because(error)
            .hint("name a file in a directory that you may write: `--report FILE`")
    }
}

/// The report of what ran, or may have.
pub(in crate::commands) fn of(
    outcome: &Outcome,
    command: &[OsString],
    code: u8,
    error: Option<&CliError>,
) -> Value {
    let words: Vec<_> = command.iter().map(|word| word.to_string_lossy()).collect();
    let mut report = json!({
        "schema_version": SCHEMA_VERSION,
        "id": outcome.id.to_string(),
        "name": outcome.started.as_ref().map_or("", |started| &started.name),
        "command": words,
        "origin": origin(outcome, error),
        "code": code,
        "started": outcome.started.is_some(),
        "left": outcome.left.map(left_word),
        "signal": null,
        "timed_out": false,
        "cancelled": false,
    });
    if let (Some(facts), Some(exit)) = (report.as_object_mut(), &outcome.exit)
        && let Value::Object(of_exit) = voice::exit(exit)
    {
        facts.extend(of_exit);
        facts.insert("code".to_owned(), code.into());
    }
    if let Some(Finished { sync, kept, .. }) = &outcome.finished {
        report["sync"] = sync.as_ref().map_or(Value::Null, voice::sync);
        if !kept.is_empty() {
            report["kept"] = kept.as_str().into();
        }
    }
    if let Some(error) = error {
        report["error"] = error_document(error)["error"].take();
    }
    report
}

/// Why the client went before the end, for programs.
fn left_word(left: Left) -> &'static str {
    match left {
        Left::Detached(_) => "detached",
        Left::Interrupted => "interrupted",
        Left::Lost => "lost",
    }
}

/// Whose the exit code is.
fn origin(outcome: &Outcome, error: Option<&CliError>) -> &'static str {
    match (&outcome.exit, error) {
        (Some(exit), _) if exit.timed_out => "skync",
        (Some(exit), _) if exit.signal != 0 => "signal",
        // The command's own success that we had to turn into a failure.
        (Some(exit), Some(_)) if exit.code == 0 => "skync",
        (Some(_), _) => "command",
        (None, _) => "skync",
    }
}

/// The report of what never ran.
pub(super) fn failed(command: &[OsString], error: &CliError) -> Value {
    let words: Vec<_> = command.iter().map(|word| word.to_string_lossy()).collect();
    let is_ours = (error.code as u8) < ExitCode::OutcomeUnknown as u8;
    let code = if is_ours { ExitCode::NotStarted } else { error.code };
    json!({
        "schema_version": SCHEMA_VERSION,
        "id": null,
        "command": words,
        "origin": "skync",
        "code": code as u8,
        "started": false,
        "error": error_document(error)["error"].take(),
    })
}

/// The report as the last of the events.
pub(in crate::commands) fn event(mut report: Value) -> Value {
    report["event"] = "finished".into();
    report
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::OperationId;
    use crate::session::proto::{Exit, Started};

    fn outcome(exit: Option<Exit>) -> Outcome {
        Outcome {
            id: OperationId::random(),
            started: Some(Started::default()),
            exit,
            failure: None,
            finished: Some(Finished::default()),
            left: None,
        }
    }

    fn report(exit: Option<Exit>) -> Value {
        let outcome = outcome(exit);
        let (code, error) = outcome.code(false);
        of(&outcome, &["make".into()], code, error.as_ref())
    }

    #[test]
    fn a_report_says_whose_the_code_is() {
        let exit = Exit { code: 3, output_bytes: 7, stopped: 2, ..Exit::default() };
        let found = report(Some(exit));
        assert_eq!((&found["origin"], &found["code"]), (&json!("command"), &json!(3)));
        assert_eq!((&found["output_bytes"], &found["stopped"]), (&json!(7), &json!(2)));
        assert_eq!(found["command"], json!(["make"]));
        let found = report(Some(Exit { signal: 9, ..Exit::default() }));
        assert_eq!((&found["origin"], &found["code"]), (&json!("signal"), &json!(137)));
        let found = report(Some(Exit { timed_out: true, signal: 9, ..Exit::default() }));
        assert_eq!((&found["origin"], &found["code"]), (&json!("skync"), &json!(124)));
        let found = report(Some(Exit { survivors: 1, ..Exit::default() }));
        assert_eq!((&found["origin"], &found["code"]), (&json!("skync"), &json!(1)));
        let found = report(None);
        assert_eq!((&found["origin"], &found["code"]), (&json!("skync"), &json!(123)));
        assert_eq!(found["error"]["kind"], "outcome-unknown");
    }

    #[test]
    fn a_report_is_written_whole_and_refused_where_it_cannot_be() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("report.json");
        let report = Report::new(&path).expect("writable");
        assert!(!path.exists());
        report.write(&json!({ "code": 1 })).expect("written");
        let text = std::fs::read_to_string(&path).expect("there");
        assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), json!({ "code": 1 }));
        let missing = Report::new(&directory.path().join("no/report.json")).err();
        assert_eq!(missing.expect("refused").code, ExitCode::NotStarted);
        assert!(Report::new(directory.path()).is_err());
        assert!(Report::new(Path::new("/dev/null")).expect("writable").write(&json!(1)).is_ok());
    }
}
