//! The errors as a set: every one that the sources construct, with its way forward, in `errors.txt`.
//!
//! The catalogue is made from the sources, so that whoever changes an error sees it beside the others.
//! `SKYNC_UPDATE_ERRORS=1` writes it anew. What a function is given, and what a driver says of a
//! provider's answer, stands there as `{…}`.

mod catalogue;

use std::path::Path;

use crate::support::sources::{files, root};
use catalogue::{Found, of_file};

/// It stands below a line and column of the file, and all of them above "correct them in".
const CORRECT: &str = "the file is shown with the place, and named";
/// A sandbox that is gone is no end: the session makes another, or `exec` says that its outcome is not
/// known.
const GONE: &str = "the session mends it, or says what became of the command";
/// What is filled in says it.
const TOLD: &str = "the text that is filled in is the reason, and who fills it in gives the hint";
/// It is what a person has asked for.
const ASKED: &str = "Ctrl-C is no mistake to mend";
/// No person brings it about, and nobody knows better than `doctor` and the log.
const BROKEN: &str =
    "it cannot be but by a mistake of ours or the kernel's; the code has a way forward";

/// Errors that have no hint of their own, and why they need none: a file, the beginning of the message,
/// the reason.
const WITHOUT_HINT: &[(&str, &str, &str)] = &[
    ("src/commands/gc/kept.rs", "{error}", TOLD),
    ("src/commands/resolve.rs", "{refused_words}", TOLD),
    ("src/config/file.rs", "`profile` must be the name of a profile, in quotes", CORRECT),
    ("src/config/syntax.rs", "syntax error: text must be in quotes", CORRECT),
    ("src/config/syntax.rs", "syntax error: {}", CORRECT),
    ("src/config/values.rs", "{bytes} bytes cannot be", CORRECT),
    ("src/config/values.rs", "a command cannot hold a NUL byte", CORRECT),
    ("src/config/values.rs", "an argument cannot hold a NUL byte", CORRECT),
    ("src/config/values.rs", "the value of a variable cannot hold a NUL byte", CORRECT),
    ("src/driver/daytona/api.rs", "cannot {doing}: there is no such sandbox any more", GONE),
    ("src/driver/daytona/create.rs", "the sandbox `{}` is gone", GONE),
    ("src/driver/daytona/dial.rs", "the sandbox `{name}` was not made by this session", GONE),
    ("src/driver/daytona/dial.rs", "{message}", GONE),
    ("src/driver/daytona.rs", "{message}", GONE),
    ("src/driver/directory.rs", "the sandbox `{}` was not made by this session", GONE),
    ("src/driver/directory.rs", "no agent runs in `{}` any more", GONE),
    ("src/driver/docker/archive.rs", "cannot finish an archive", BROKEN),
    ("src/driver/docker/archive.rs", "cannot put `{}` into an archive", BROKEN),
    ("src/driver/docker/container.rs", "the container `{}` does not run any more", GONE),
    ("src/driver/docker/monitor.rs", "the container `{name}` {}", GONE),
    ("src/driver/docker/named.rs", "our agent in the container `{}` is gone", GONE),
    ("src/driver/docker.rs", "the container `{}` was not made by this session", GONE),
    ("src/driver/e2b.rs", "the sandbox `{}` was not made by this session", GONE),
    ("src/driver/e2b.rs", "the sandbox `{}`: {why}", GONE),
    ("src/driver/http.rs", "the kernel gives no random bytes", BROKEN),
    ("src/driver.rs", "a session's id must be 16 lower-case hexadecimal digits", BROKEN),
    ("src/session/exec.rs", "{why}", TOLD),
    ("src/session/mount_place.rs", "{message}", TOLD),
    ("src/session/mounting/linux.rs", "cannot mount", BROKEN),
    ("src/session/wish.rs", "interrupted before {before}", ASKED),
];

fn all() -> Vec<(String, Vec<Found>)> {
    // Nobody is told what a test says.
    let is_test = |name: &Path| name.iter().any(|part| part == "tests" || part == "tests.rs");
    ["src", "agent/src", "mount/src"]
        .into_iter()
        .flat_map(|below| files(&[below], "rs"))
        .filter_map(|path| {
            let name = path.strip_prefix(root()).expect("below");
            let text = || std::fs::read_to_string(&path).expect("text");
            (!is_test(name)).then(|| (name.to_string_lossy().into_owned(), of_file(&text())))
        })
        .filter(|(_, found)| !found.is_empty())
        .collect()
}

fn catalogue(all: &[(String, Vec<Found>)]) -> String {
    let mut out = String::from(
        "# Every error that the sources construct: its kind and message, and what to do.\n\
         # `cause` is what another error is because of. Made by tests/it/errors.rs, which compares it;\n\
         # SKYNC_UPDATE_ERRORS=1 writes it anew.\n",
    );
    for (file, found) in all {
        out += &format!("\n{file}\n");
        for error in found {
            out += &format!("  {}: {}\n", error.kind, error.message);
            for hint in &error.hints {
                out += &format!("      hint: {hint}\n");
            }
        }
    }
    out
}

#[test]
fn the_catalogue_of_errors_is_what_the_sources_say() {
    let path = root().join("tests/it/errors.txt");
    let made = catalogue(&all());
    if std::env::var_os("SKYNC_UPDATE_ERRORS").is_some() {
        let mut file = std::fs::File::create(&path).expect("made");
        std::io::Write::write_all(&mut file, made.as_bytes()).expect("written");
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    let difference = similar::TextDiff::from_lines(&known, &made);
    let difference = difference.unified_diff().context_radius(2).to_string();
    assert!(
        difference.is_empty(),
        "look at what has changed, then run with SKYNC_UPDATE_ERRORS=1:\n{difference}"
    );
}

#[test]
fn no_error_is_without_a_way_forward() {
    let (mut lost, mut used) = (Vec::new(), vec![false; WITHOUT_HINT.len()]);
    for (file, found) in all() {
        for error in found.iter().filter(|found| found.hints.is_empty() && found.kind != "cause") {
            let excused = WITHOUT_HINT
                .iter()
                .position(|(path, message, _)| *path == file && error.message.starts_with(message));
            match excused {
                Some(at) => used[at] = true,
                None => lost.push(format!("{file}: {}: {}", error.kind, error.message)),
            }
        }
    }
    assert!(lost.is_empty(), "no hint, and no reason in WITHOUT_HINT:\n{}", lost.join("\n"));
    let stale = WITHOUT_HINT.iter().zip(used).filter(|(_, used)| !used);
    let stale: Vec<_> = stale.map(|((file, message, _), _)| format!("{file}: {message}")).collect();
    assert!(stale.is_empty(), "excused and not there:\n{}", stale.join("\n"));
}

#[test]
fn messages_begin_small_and_end_without_a_stop() {
    let mut odd = Vec::new();
    for (file, found) in all() {
        for error in &found {
            for text in std::iter::once(&error.message).chain(&error.hints) {
                let first = text.split([' ', '`', '{']).next().unwrap_or_default();
                // Names in capitals are names: HOME, E2B, /etc, ERROR_CODE.
                let is_name = first.chars().filter(|c| c.is_uppercase()).count() > 1
                    || ["Docker", "Daytona", "Ctrl-C", "Linux"]
                        .iter()
                        .any(|n| first.starts_with(n));
                let is_large = first.starts_with(char::is_uppercase) && !is_name;
                if is_large || (text.ends_with('.') && !text.ends_with("...")) {
                    odd.push(format!("{file}: {text}"));
                }
            }
        }
    }
    assert!(odd.is_empty(), "{}", odd.join("\n"));
}
