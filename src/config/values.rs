//! The values of single settings: text in, checked value or what is wrong with it out.
//!
//! No function here knows where its text stands or which other settings there are.

use ignore::gitignore::GitignoreBuilder;

use super::problem::Bad;
use super::quantity::{self, OnDisconnect};
use super::{E2bLink, LinkKind, OnTimeout, SyncMode, nearest};
use crate::ui::visible;

/// Least memory that Docker gives a container, in bytes.
const MEMORY_BYTES_MIN: u64 = 6 << 20;
/// Least and most of a CPU, in thousandths: Docker's own lower bound, and a machine nobody has.
const MILLI_CPUS: std::ops::RangeInclusive<u64> = 10..=1_000_000;
/// Longest name of a profile, in bytes; it is part of labels and file names.
const NAME_BYTES_MAX: usize = 64;

/// Checks the name of a profile.
pub(super) fn profile_name(name: &str) -> Result<(), Bad> {
    let shown = visible(name);
    if super::BUILT_IN.contains(&name) {
        return Err(Bad::new(format!("the profile `{shown}` is built in and cannot be redefined"))
            .hint("choose another name"));
    }
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.len() > NAME_BYTES_MAX || !starts_well || !name.chars().all(fits) {
        return Err(Bad::new(format!("`{shown}` cannot be the name of a profile")).hint(
            "a name has up to 64 letters, digits, `.`, `_` and `-`, and starts with a letter or digit",
        ));
    }
    Ok(())
}

/// A memory size: bytes, or a number with a unit; units are powers of 1024, as Docker has them.
pub(super) fn memory(text: &str) -> Result<u64, Bad> {
    let wrong = || {
        Bad::new(format!("`{}` is not a size", visible(text)))
            .hint("write `512MiB`, `2g` or a number of bytes")
    };
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(wrong()),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    // At most 9 digits behind the point: more than a byte of a tebibyte has no meaning here.
    let usable = !fraction.is_empty() && fraction.len() <= 9 && !fraction.contains('.');
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let part: u64 = fraction.parse().map_err(|_| wrong())?;
    if !usable {
        return Err(wrong());
    }
    let part = (u128::from(part) << shift) / 10_u128.pow(fraction.len() as u32);
    let bytes = (u128::from(whole) << shift) + part;
    memory_bytes(u64::try_from(bytes).map_err(|_| wrong())?)
}

/// A memory size in bytes, within what an engine accepts.
pub(super) fn memory_bytes(bytes: u64) -> Result<u64, Bad> {
    match bytes {
        ..MEMORY_BYTES_MIN => {
            Err(Bad::new(format!("{bytes} bytes of memory are too few")).hint("6MiB are the least"))
        }
        _ if bytes > i64::MAX as u64 => Err(Bad::new(format!("{bytes} bytes cannot be"))),
        _ => Ok(bytes),
    }
}

/// A number of CPUs, in thousandths.
pub(super) fn milli_cpus(cpus: f64) -> Result<u64, Bad> {
    let thousandths = (cpus * 1000.0).round();
    // NaN and infinity fail the comparison as well; the cast is exact within the range.
    let in_range =
        thousandths >= *MILLI_CPUS.start() as f64 && thousandths <= *MILLI_CPUS.end() as f64;
    if in_range {
        return Ok(thousandths as u64);
    }
    Err(Bad::new(format!("`{cpus}` is not a number of CPUs"))
        .hint("write `1.5`; 0.01 is the least"))
}

/// A limit on the number of processes.
pub(super) fn pids(count: i64) -> Result<u64, Bad> {
    u64::try_from(count).ok().filter(|&count| count > 0).ok_or_else(|| {
        Bad::new(format!("`{count}` is not a number of processes")).hint("1 is the least")
    })
}

/// The name of an image: `[registry/]name[:tag][@digest]`.
pub(super) fn image(text: &str) -> Result<String, Bad> {
    let wrong = Bad::new(format!("`{}` cannot be the name of an image", visible(text)));
    let fits = |c: char| c.is_ascii_alphanumeric() || "._/:@-".contains(c);
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) || !text.chars().all(fits) {
        return Err(wrong.hint("write it as `docker pull` takes it: `python:3.12`"));
    }
    let name = text.split('@').next().unwrap_or(text);
    let tag = name.rfind(':').filter(|&at| !name[at..].contains('/'));
    let repository = &name[..tag.unwrap_or(name.len())];
    // The registry is a host name, where case does not matter.
    let path = match repository.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => rest,
        _ => repository,
    };
    if path.chars().any(|c| c.is_ascii_uppercase()) {
        return Err(wrong.hint("the name of an image is lower case, only its tag may be other"));
    }
    Ok(text.to_owned())
}

/// The name or id of a container.
pub(super) fn container(text: &str) -> Result<String, Bad> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) || !text.chars().all(fits) {
        return Err(Bad::new(format!("`{}` cannot be the name of a container", visible(text)))
            .hint("write what `docker ps` shows under NAMES"));
    }
    Ok(text.to_owned())
}

/// A network's name.
pub(super) fn network(text: &str) -> Result<String, Bad> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | ':');
    if text.is_empty() || !text.chars().all(fits) {
        return Err(Bad::new(format!("`{}` cannot be the name of a network", visible(text)))
            .hint("write `none`, `bridge` or what `docker network ls` shows"));
    }
    Ok(text.to_owned())
}

/// `uid[:gid]` or names.
pub(super) fn user(text: &str) -> Result<String, Bad> {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '$'))
    };
    if text.split(':').count() > 2 || !text.split(':').all(part) {
        return Err(Bad::new(format!("`{}` is not a user", visible(text)))
            .hint("write `1000`, `1000:1000` or a name"));
    }
    Ok(text.to_owned())
}

/// The address of an engine.
pub(super) fn host(text: &str) -> Result<String, Bad> {
    let wrong = Bad::new(format!("`{}` is not the address of an engine", visible(text)));
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(wrong);
    }
    match text.split_once("://") {
        Some(("unix", path)) if path.starts_with('/') && path.len() > 1 => Ok(text.to_owned()),
        Some(("tcp" | "http", address)) if !address.is_empty() => Ok(text.to_owned()),
        Some(("ssh", _)) => Err(wrong.hint(
            "an engine behind ssh is not supported; forward its socket with `ssh -L` and use `unix://…`",
        )),
        _ => Err(wrong.hint("write `unix:///path/to/docker.sock` or `tcp://host:2375`")),
    }
}

/// An absolute path without `..`.
pub(super) fn absolute_path(text: &str) -> Result<std::path::PathBuf, Bad> {
    let shown = visible(text);
    let path = std::path::Path::new(text);
    if text.starts_with('~') {
        return Err(Bad::new(format!("`{shown}` is not an absolute path"))
            .hint("`~` is not expanded; write the whole path"));
    }
    if path.is_relative() {
        return Err(
            Bad::new(format!("`{shown}` is not an absolute path")).hint("start it with `/`")
        );
    }
    let climbs = path.components().any(|part| part == std::path::Component::ParentDir);
    if climbs || text.chars().any(char::is_control) {
        return Err(Bad::new(format!("`{shown}` is not a plain path"))
            .hint("write it without `..` and control characters"));
    }
    if path.parent().is_none() {
        return Err(Bad::new("`/` is the whole machine").hint("choose a directory below it"));
    }
    Ok(path.to_owned())
}

/// A time.
pub(super) fn duration(text: &str) -> Result<std::time::Duration, Bad> {
    quantity::duration(text).map_err(|_| {
        Bad::new(format!("`{}` is not a time", visible(text)))
            .hint("write `90s`, `10m`, `1h30m`, `2d` or `500ms`")
    })
}

/// What becomes of a command whose client has gone.
pub(super) fn on_disconnect(text: &str) -> Result<OnDisconnect, Bad> {
    quantity::on_disconnect(text).map_err(|_| {
        Bad::new(format!("`{}` is neither `keep` nor `cancel` nor a time", visible(text)))
            .hint("write `keep`, `cancel`, or a time such as `90s` or `10m`")
    })
}

/// The name of an environment variable.
pub(super) fn env_name(name: &str) -> Result<(), Bad> {
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts_well || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(Bad::new(format!("`{}` cannot be the name of a variable", visible(name)))
            .hint("a name has letters, digits and `_`, and does not start with a digit"));
    }
    Ok(())
}

/// The value of an environment variable.
pub(super) fn env_value(value: &str) -> Result<String, Bad> {
    if value.contains('\0') {
        return Err(Bad::new("the value of a variable cannot hold a NUL byte"));
    }
    Ok(value.to_owned())
}

/// A line for a shell, run to prepare a sandbox.
pub(super) fn setup_line(text: &str) -> Result<String, Bad> {
    if text.trim().is_empty() {
        return Err(Bad::new("an empty line is not a command").hint("leave it out"));
    }
    if text.contains('\0') {
        return Err(Bad::new("a command cannot hold a NUL byte"));
    }
    Ok(text.to_owned())
}

/// A pattern of gitignore syntax.
pub(super) fn pattern(text: &str) -> Result<String, Bad> {
    let shown = visible(text);
    if text.contains(['\n', '\r', '\0']) {
        return Err(Bad::new(format!("the pattern `{shown}` is more than one line"))
            .hint("write one pattern per entry"));
    }
    let mut builder = GitignoreBuilder::new("/");
    let compiled = builder.add_line(None, text).and_then(|builder| builder.build());
    match compiled {
        Err(error) => Err(Bad::new(format!("`{shown}` is not a pattern: {}", reason(&error)))
            .hint("patterns have the syntax of .gitignore")),
        Ok(rules) if rules.is_empty() => {
            Err(Bad::new(format!("the pattern `{shown}` matches nothing"))
                .hint("remove it; a `#` at its start is written `\\#`"))
        }
        Ok(_) => Ok(text.to_owned()),
    }
}

/// Why a pattern did not compile, without the pattern, which the message has already.
fn reason(error: &ignore::Error) -> String {
    match error {
        ignore::Error::Glob { err, .. } => err.clone(),
        other => visible(&other.to_string()),
    }
}

/// A program and its arguments.
pub(super) fn command(words: Vec<String>) -> Result<Vec<String>, Bad> {
    let Some(program) = words.first().filter(|program| !program.is_empty()) else {
        return Err(Bad::new("it names no program")
            .hint("write the program and its arguments, as in `[\"pass\", \"show\", \"e2b\"]`"));
    };
    if program.contains('/') && !program.starts_with('/') {
        // It would be another program in each directory.
        return Err(Bad::new(format!("`{}` is a relative path", visible(program)))
            .hint("write the name of a program in PATH, or an absolute path"));
    }
    if words.iter().any(|word| word.contains('\0')) {
        return Err(Bad::new("an argument cannot hold a NUL byte"));
    }
    Ok(words)
}

/// The names of [`SyncMode`].
pub(super) const MODES: [(&str, SyncMode); 4] = [
    ("two-way-safe", SyncMode::TwoWaySafe),
    ("two-way-resolved", SyncMode::TwoWayResolved),
    ("one-way-safe", SyncMode::OneWaySafe),
    ("one-way-replica", SyncMode::OneWayReplica),
];

/// The names alone.
pub(super) const MODE_WORDS: [&str; 4] = [MODES[0].0, MODES[1].0, MODES[2].0, MODES[3].0];

/// The names of [`LinkKind`].
pub(super) const LINKS: [(&str, LinkKind); 3] =
    [("auto", LinkKind::Auto), ("socket", LinkKind::Socket), ("stdio", LinkKind::Stdio)];

/// The names of [`OnTimeout`].
pub(super) const ON_TIMEOUT: [(&str, OnTimeout); 2] =
    [("kill", OnTimeout::Kill), ("pause", OnTimeout::Pause)];

/// The names of [`E2bLink`].
pub(super) const E2B_LINKS: [(&str, E2bLink); 3] =
    [("auto", E2bLink::Auto), ("websocket", E2bLink::WebSocket), ("stream", E2bLink::Stream)];

/// What a provider calls a template, a snapshot or a region: `what`.
pub(super) fn cloud_name(what: &str, text: &str) -> Result<String, Bad> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._/:-@".contains(c);
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) || !text.chars().all(fits) {
        return Err(Bad::new(format!("`{}` cannot be the name of a {what}", visible(text)))
            .hint("write it as the provider's dashboard shows it"));
    }
    Ok(text.to_owned())
}

/// One of several words.
pub(super) fn one_of<T: Copy>(what: &str, text: &str, words: &[(&str, T)]) -> Result<T, Bad> {
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let bad = Bad::new(format!("`{}` is not a {what}", visible(text)));
    Err(match nearest(text, words.iter().map(|(word, _)| *word)) {
        Some(word) => bad.hint(format!("did you mean `{word}`?")),
        None => bad.hint(format!("there is {}", super::list(words.iter().map(|(word, _)| *word)))),
    })
}
