//! The file for a bug report: what was found, the settings, the journal and the end of the log, all
//! without secrets.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::around::Around;
use super::redact::Redactor;
use super::versions::{CONTRACTS, VERSION};
use crate::commands::{Context, profile};
use crate::config::problem::looks_secret;
use crate::error::{CliError, ExitCode};
use crate::session::journal::Journal;
use crate::state;
use crate::ui::status_view::size;
use crate::ui::visible;

/// Lines of a log that are taken along.
const LOG_LINES_MAX: usize = 500;
/// The end of a log in which they are looked for.
const LOG_BYTES_MAX: u64 = 1 << 20;

/// A bundle that was written.
#[derive(Clone, Debug)]
pub(super) struct Bundle {
    file: PathBuf,
    /// Names and sizes of what is in it.
    contents: Vec<(String, u64)>,
}

impl Bundle {
    /// For a person.
    pub(super) fn text(&self) -> String {
        let mut out = format!("wrote `{}` with\n", visible(&self.file.to_string_lossy()));
        for (name, bytes) in &self.contents {
            out += &format!("  {name:<40} {}\n", size(*bytes));
        }
        out + "secrets, your name and your home directory are taken out, as far as they can be told;\n\
               look at it before you send it: tar -xzOf FILE | less\n"
    }

    /// For a program.
    pub(super) fn document(&self) -> Value {
        let one = |(name, bytes): &(String, u64)| json!({ "name": name, "bytes": bytes });
        json!({
            "file": self.file.to_string_lossy(),
            "contents": self.contents.iter().map(one).collect::<Vec<_>>(),
        })
    }
}

/// Nothing that is there is written over; said before anything else is done.
///
/// # Errors
/// If something has that name.
pub(super) fn refuse_existing(file: &Path) -> Result<(), CliError> {
    if file.symlink_metadata().is_err() {
        return Ok(());
    }
    let message = format!("`{}` is there already, and is not written over", file.display());
    Err(CliError::new(ExitCode::Usage, message).hint("name another file, or remove that one"))
}

/// Gathers everything and writes it.
///
/// # Errors
/// If the file cannot be written, or somebody else has made it meanwhile.
pub(super) fn write(
    file: &Path,
    report: &Value,
    around: &Around,
    context: &Context,
) -> Result<Bundle, CliError> {
    let redactor = redactor(around);
    let contents = contents(report, around, context);
    let contents: Vec<(String, String)> =
        contents.into_iter().map(|(name, text)| (name, redactor.text(&text))).collect();
    let bytes = packed(&contents).map_err(|error| {
        CliError::new(ExitCode::Failed, "cannot pack the bundle")
            .because(&error)
            .hint("`skync doctor --json` shows what would be in its report")
    })?;
    state::write_new(file, &bytes, 0o600).map_err(|error| {
        CliError::new(ExitCode::Failed, "cannot write the bundle")
            .because(&error)
            .hint("name a file in a directory of yours")
    })?;
    let sizes = contents.into_iter().map(|(name, text)| (name, text.len() as u64)).collect();
    Ok(Bundle { file: file.to_owned(), contents: sizes })
}

/// Knows the secrets there are: variables with such names, and all that profiles set.
fn redactor(around: &Around) -> Redactor {
    let of_process = around.variables.iter().filter(|(name, _)| looks_secret(name));
    let of_profiles = around.all_profiles().into_iter().flat_map(|profile| &profile.env);
    let values = of_process.chain(of_profiles).map(|(_, value)| value.clone());
    let user = around.variable("USER").or_else(|| around.variable("LOGNAME"));
    Redactor::new(values, around.variable("HOME"), user)
}

/// Names and texts, not redacted but for what only the shape of a document tells.
fn contents(report: &Value, around: &Around, context: &Context) -> Vec<(String, String)> {
    let shape = Redactor::default();
    let pretty = |value: Value| format!("{:#}\n", shape.document(value));
    let profiles: Vec<Value> =
        around.all_profiles().into_iter().map(|one| profile::document(one, context)).collect();
    let mut contents = vec![
        ("report.json".to_owned(), pretty(report.clone())),
        ("versions.txt".to_owned(), versions(around)),
        ("profiles.json".to_owned(), pretty(Value::Array(profiles))),
        ("limits.txt".to_owned(), limits(around)),
        ("mounts.txt".to_owned(), mounts(around)),
    ];
    contents.extend(
        log_tail(&around.places.state.join("session.log"))
            .map(|log| ("session.log".to_owned(), log)),
    );
    // Not made if it is not there: a look leaves nothing.
    let journal = around.places.state.join("journal").is_dir();
    let journal = journal.then(|| Journal::open(&around.places).ok()).flatten();
    let entries = journal.and_then(|journal| journal.list().ok()).unwrap_or_default().0;
    contents.extend(entries.into_iter().map(|entry| {
        let value = serde_json::to_value(&entry).unwrap_or_default();
        (format!("journal/{}.json", entry.id), pretty(value))
    }));
    contents
}

fn versions(around: &Around) -> String {
    let uname = rustix::system::uname();
    let shown = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    format!(
        "skync {VERSION}\ncontracts {CONTRACTS}\n{} {} {} {}\n{}",
        shown(uname.sysname()),
        shown(uname.release()),
        shown(uname.version()),
        shown(uname.machine()),
        around.text("/etc/os-release").unwrap_or_default()
    )
}

fn limits(around: &Around) -> String {
    let number = |name: &str| {
        let value = around.number(&format!("/proc/sys/fs/inotify/{name}"));
        format!("{name} {}\n", value.map_or("unknown".to_owned(), |value| value.to_string()))
    };
    let names = ["max_user_watches", "max_user_instances", "max_queued_events"];
    let inotify: String = names.into_iter().map(number).collect();
    inotify + &around.text("/proc/self/limits").unwrap_or_default()
}

/// The lines of the list of mounts that are ours.
fn mounts(around: &Around) -> String {
    let list = around.text("/proc/self/mountinfo").unwrap_or_default();
    list.split_inclusive('\n').filter(|line| line.contains("skync")).collect()
}

/// The last lines of a log; nothing if there is none.
fn log_tail(file: &Path) -> Option<String> {
    use std::io::{Read, Seek, SeekFrom};
    let mut log = state::open(file).ok()??;
    let length = log.metadata().ok()?.len();
    log.seek(SeekFrom::Start(length.saturating_sub(LOG_BYTES_MAX))).ok()?;
    let mut bytes = Vec::new();
    log.take(LOG_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let first = lines.len().saturating_sub(LOG_LINES_MAX);
    Some(lines[first..].iter().map(|line| format!("{}\n", visible(line))).collect())
}

fn packed(contents: &[(String, String)]) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    for (name, text) in contents {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_cksum();
        archive.append_data(&mut header, format!("skync-report/{name}"), text.as_bytes())?;
    }
    let mut encoder = archive.into_inner()?;
    encoder.flush()?;
    encoder.finish()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own files")]
mod tests {
    use super::*;
    use crate::config::Profile;

    #[test]
    fn nothing_is_written_over_and_nobody_else_can_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let base = tempfile::tempdir().expect("a directory");
        let around = Around::below(base.path());
        let context = Context::below(base.path());
        let file = base.path().join("report.tgz");
        refuse_existing(&file).expect("free");
        write(&file, &json!({}), &around, &context).expect("written");
        let mode = std::fs::metadata(&file).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(refuse_existing(&file).expect_err("taken").code, ExitCode::Usage);
        assert!(write(&file, &json!({}), &around, &context).is_err());
    }

    #[test]
    fn what_is_in_it_has_no_secret_of_the_environment_the_profile_or_the_log() {
        let base = tempfile::tempdir().expect("a directory");
        let mut around = Around::below(base.path());
        let mut profile = Profile::built_in("directory").expect("built in");
        profile.name = "dev".into();
        profile.env.insert("PLAIN".into(), "canary-of-profile".into());
        around.profiles = vec![profile];
        around.variables.insert("MY_TOKEN".into(), "canary-of-environment".into());
        std::fs::create_dir(base.path().join("state")).expect("made");
        let log = "canary-of-profile canary-of-environment\n".repeat(700);
        std::fs::write(base.path().join("state/session.log"), log).expect("written");
        let context = Context::below(base.path());
        let redactor = redactor(&around);
        let report = json!({ "found": "canary-of-environment" });
        let all: String = contents(&report, &around, &context)
            .into_iter()
            .map(|(name, text)| format!("{name}\n{}", redactor.text(&text)))
            .collect();
        assert!(!all.contains("canary"), "{all}");
        assert_eq!(all.matches("*** ***\n").count(), LOG_LINES_MAX);
        assert!(all.contains("\"PLAIN\": \"***\""), "{all}");
    }
}
