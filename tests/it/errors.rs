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
/// The cause names what the system refused; `ExitCode::way_forward` says where to look.
const CAUSE: &str = "the cause is told with it, and the code has a way forward";
/// Somebody else's program does what it must not; nobody knows better than `doctor` and the log.
const BROKEN: &str = "the engine or provider broke its contract; the code has a way forward";

/// Errors that have no hint of their own, and why they need none: a file, the beginning of the message,
/// the reason.
const WITHOUT_HINT: &[(&str, &str, &str)] = &[
    ("src/agents.rs", "the agent inside this skync is damaged", CAUSE),
    ("src/commands/attached/client.rs", "cannot use the terminal", CAUSE),
    (
        "src/commands/attached/client.rs",
        "output is missing without a word, from byte {from} to {to}",
        CAUSE,
    ),
    ("src/commands/attached/dial.rs", "the session failed: {}", CAUSE),
    (
        "src/commands/attached/dial.rs",
        "the session of this project is ending and does not end",
        CAUSE,
    ),
    ("src/commands/attached/signals.rs", "cannot handle signals", CAUSE),
    ("src/commands/auth/login.rs", "cannot read the key", CAUSE),
    ("src/commands/conflicts.rs", "cannot read the conflicts of this project", CAUSE),
    ("src/commands/doctor/bundle.rs", "cannot pack the bundle", CAUSE),
    ("src/commands/exec.rs", "cannot find the current directory", CAUSE),
    ("src/commands/gc/kept.rs", "{error}", CAUSE),
    ("src/commands/gc.rs", "cannot read the journal", CAUSE),
    ("src/commands/gc.rs", "cannot remove it", CAUSE),
    ("src/commands/operations/replay.rs", "cannot read the output that is kept of `{id}`", CAUSE),
    ("src/commands/operations/replay.rs", "cannot write the output", CAUSE),
    ("src/commands/operations.rs", "cannot read the journal", CAUSE),
    ("src/commands/profile/deep.rs", "there is no place for a project: {error}", CAUSE),
    ("src/commands/profile/validate.rs", "`local` has no sandbox to try", CAUSE),
    ("src/commands/record.rs", "cannot find the current directory", CAUSE),
    ("src/commands/record.rs", "cannot read what is recorded of this project", CAUSE),
    ("src/commands/record.rs", "this cannot be a path of the project", CAUSE),
    ("src/commands/resolve.rs", "{refused_words}", TOLD),
    ("src/commands/resolve.rs", "cannot use what is recorded of this project", CAUSE),
    ("src/commands/resolve.rs", "cannot ask", CAUSE),
    ("src/commands/session.rs", "the session failed", CAUSE),
    ("src/commands/session.rs", "the profile `local` has no session", CAUSE),
    ("src/commands/status.rs", "cannot read the journal", CAUSE),
    ("src/commands/undo.rs", "cannot use what is kept of this project", CAUSE),
    ("src/commands/undo.rs", "cannot bring back old versions", CAUSE),
    ("src/commands/unmount.rs", "cannot read the journal", CAUSE),
    ("src/commands/up.rs", "cannot handle signals", CAUSE),
    ("src/commands.rs", "cannot find the current directory", CAUSE),
    ("src/commands.rs", "cannot start", CAUSE),
    ("src/config/check.rs", "`{bytes}` is not a size", CORRECT),
    ("src/config/file.rs", "`profile` must be the name of a profile, in quotes", CORRECT),
    ("src/config/syntax.rs", "syntax error: text must be in quotes", CORRECT),
    ("src/config/syntax.rs", "syntax error: {}", CORRECT),
    ("src/config/values.rs", "{bytes} bytes cannot be", CORRECT),
    ("src/config/values.rs", "a command cannot hold a NUL byte", CORRECT),
    ("src/config/values.rs", "an argument cannot hold a NUL byte", CORRECT),
    ("src/config/values.rs", "the value of a variable cannot hold a NUL byte", CORRECT),
    ("src/driver/daytona/api.rs", "cannot {doing}: there is no such sandbox any more", GONE),
    ("src/driver/daytona/create.rs", "the sandbox `{}` is gone", GONE),
    (
        "src/driver/daytona/create.rs",
        "the sandbox `{name}` was removed while it was being made",
        GONE,
    ),
    ("src/driver/daytona/dial.rs", "the sandbox `{name}` was not made by this session", GONE),
    ("src/driver/daytona/dial.rs", "{message}", GONE),
    ("src/driver/daytona.rs", "{message}", GONE),
    (
        "src/driver/directory/record.rs",
        "the sandbox's record cannot be written: a path is not UTF-8",
        BROKEN,
    ),
    ("src/driver/directory.rs", "the sandbox `{}` was not made by this session", GONE),
    ("src/driver/directory.rs", "no agent runs in `{}` any more", GONE),
    ("src/driver/directory.rs", "removing a sandbox's directory was interrupted", BROKEN),
    ("src/driver/directory.rs", "`{}` is no project directory", BROKEN),
    ("src/driver/docker/archive.rs", "cannot put `{}` into an archive", BROKEN),
    ("src/driver/docker/archive.rs", "cannot finish an archive", BROKEN),
    ("src/driver/docker/archive.rs", "the engine sent no readable archive of `{}`", BROKEN),
    (
        "src/driver/docker/archive.rs",
        "`{shown}` in the container is larger than {bytes_max} bytes",
        BROKEN,
    ),
    ("src/driver/docker/command.rs", "cannot {doing}: it did not end within {limit} s", BROKEN),
    ("src/driver/docker/container.rs", "the container `{}` does not run any more", GONE),
    (
        "src/driver/docker/engine.rs",
        "the engine's socket {address} has a name that is not UTF-8",
        BROKEN,
    ),
    ("src/driver/docker/link.rs", "the link's socket to `{}` failed", BROKEN),
    ("src/driver/docker/link.rs", "cannot {doing}: the engine did not attach to it", BROKEN),
    (
        "src/driver/docker/link.rs",
        "the agent in the container `{}` ended at once with exit code {code}",
        GONE,
    ),
    ("src/driver/docker/monitor.rs", "the container `{name}` {}", GONE),
    ("src/driver/docker/named.rs", "cannot write the sandbox's record", BROKEN),
    ("src/driver/docker/named.rs", "our agent in the container `{}` is gone", GONE),
    ("src/driver/docker/named.rs", "nothing says which session in `{}` is meant", BROKEN),
    ("src/driver/docker.rs", "the container `{}` was not made by this session", GONE),
    ("src/driver/e2b/create.rs", "the sandbox has no usable shell: {said}", BROKEN),
    ("src/driver/e2b.rs", "the sandbox `{}` was not made by this session", GONE),
    ("src/driver/e2b.rs", "the sandbox `{}`: {why}", GONE),
    ("src/driver/http.rs", "the provider's answer to {what} cannot be understood", BROKEN),
    ("src/driver/http.rs", "cannot set up connections", BROKEN),
    ("src/driver/http.rs", "the kernel gives no random bytes", BROKEN),
    ("src/driver.rs", "a session's id must be 16 lower-case hexadecimal digits", BROKEN),
    ("src/project.rs", "cannot use `{name}` as the project", BROKEN),
    ("src/session/client.rs", "the session of this project is ending and does not end", CAUSE),
    ("src/session/client.rs", "the session failed: {}", CAUSE),
    ("src/session/client.rs", "cannot start a session", CAUSE),
    ("src/session/errors.rs", "cannot open a link to the sandbox", CAUSE),
    ("src/session/errors.rs", "cannot synchronise", CAUSE),
    ("src/session/exec.rs", "the agent failed: {}", CAUSE),
    ("src/session/exec.rs", "{why}", TOLD),
    ("src/session/exec.rs", "{message}", TOLD),
    ("src/session/live.rs", "the agent in the sandbox does not answer", CAUSE),
    ("src/session/live.rs", "nothing was heard of it for {} s", CAUSE),
    ("src/session/mount_place.rs", "{message}", TOLD),
    ("src/session/mount_table.rs", "there is no sandbox to mount", CAUSE),
    ("src/session/mount_table.rs", "the place of the mount could not be looked at", CAUSE),
    ("src/session/mounting/linux.rs", "cannot mount", CAUSE),
    ("src/session/sandbox.rs", "there is no sandbox", CAUSE),
    ("src/session/succession.rs", "the agent failed: {}", CAUSE),
    ("src/session/wish.rs", "interrupted before {before}", CAUSE),
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
