//! The repository's own rules, as far as a program can see them.
//!
//! The reader of Rust here is a rough one: it knows comments, strings and braces and no more.

use std::path::PathBuf;

use crate::support::sources::{files, root};

/// Lines of the longest file.
const FILE_LINES_MAX: usize = 600;
/// Files that are longer, and why.
const FILE_EXCEPTIONS: [(&str, &str); 0] = [];
/// Lines of the longest function, its signature and last brace included.
const FUNCTION_LINES_MAX: usize = 70;
/// Functions that are longer, and why.
const FUNCTION_EXCEPTIONS: [(&str, &str, &str); 0] = [];

/// The rules of who may know whom: files that begin with this may not name that.
const ONE_WAY: [(&str, &[&str]); 9] = [
    ("src/operation", &["session", "sync", "commands", "driver", "link", "config"]),
    ("src/driver", &["session", "sync", "commands", "link"]),
    ("src/link", &["session", "sync", "commands"]),
    ("src/sync", &["session", "commands", "driver", "link"]),
    ("src/mounts", &["session", "sync", "commands", "driver", "config", "operation"]),
    ("src/session", &["commands"]),
    ("src/config", &["session", "sync", "commands", "driver", "link"]),
    ("src/state", &["session", "sync", "commands", "driver", "link", "config"]),
    ("src/error", &["session", "sync", "commands", "driver", "link", "config", "state"]),
];

/// Modules that decide and do nothing else.
const PURE: [&str; 30] = [
    "src/link/heartbeat.rs",
    "src/ui/terminal/escape.rs",
    "agent/src/delta.rs",
    "src/sync/transfer/reuse.rs",
    "src/sync/agree.rs",
    "src/sync/core.rs",
    "src/sync/dirty.rs",
    "src/sync/decide.rs",
    "src/sync/guard.rs",
    "src/sync/plan.rs",
    "src/sync/reconcile.rs",
    "src/sync/safety.rs",
    "src/sync/ancestor.rs",
    "src/session/lifecycle.rs",
    "src/session/view.rs",
    "src/ui/status_view.rs",
    "agent/src/entry.rs",
    "agent/src/path.rs",
    "agent/src/watch/settle.rs",
    "mount/src/nodes.rs",
    "mount/src/nodes/apply.rs",
    "mount/src/nodes/directory.rs",
    "mount/src/nodes/following.rs",
    "mount/src/nodes/hold.rs",
    "mount/src/nodes/identity.rs",
    "mount/src/nodes/look.rs",
    "mount/src/nodes/own.rs",
    "mount/src/nodes/recent.rs",
    "mount/src/nodes/reset.rs",
    "mount/src/filesystem/symlinks.rs",
];

/// Where `unsafe` may stand, each block with its reason.
const UNSAFE: [&str; 4] =
    ["agent/src/own.rs", "agent/src/disk.rs", "agent/src/disk/", "mount/src/notify/alone.rs"];

/// A file of Rust.
struct Source {
    /// From the root of the repository.
    path: String,
    text: String,
    /// The text with blanks where comments and literals were.
    code: String,
}

fn sources() -> Vec<Source> {
    let all = files(&["src", "agent/src", "mount/src", "tests"], "rs");
    assert!(all.len() > 100, "only {} files found", all.len());
    all.into_iter().map(source).collect()
}

fn source(path: PathBuf) -> Source {
    let text = std::fs::read_to_string(&path).expect("text");
    let code = code_of(&text);
    let path = path.strip_prefix(root()).expect("below").to_string_lossy().into_owned();
    Source { path, text, code }
}

/// Blanks out comments, strings and characters, keeping every line where it is.
fn code_of(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text.as_bytes()[at..];
        let length = literal_length(rest);
        if length == 0 {
            at += 1;
            continue;
        }
        for byte in &mut out[at..at + length] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at += length;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Bytes of the comment or literal that begins here; 0 if none does.
fn literal_length(rest: &[u8]) -> usize {
    let until = |from: usize, end: &[u8]| {
        let found = rest[from..].windows(end.len()).position(|window| window == end);
        found.map_or(rest.len(), |at| from + at + end.len())
    };
    let raw = rest.iter().skip(1).take_while(|byte| **byte == b'#').count();
    match rest {
        [b'/', b'/', ..] => until(0, b"\n") - 1,
        [b'/', b'*', ..] => until(2, b"*/"),
        [b'r', ..] if rest.get(1 + raw) == Some(&b'"') => {
            until(2 + raw, &[&b"\""[..], &vec![b'#'; raw]].concat())
        }
        [b'"', ..] => quoted_length(rest, b'"'),
        [b'\'', b'\\', ..] => quoted_length(rest, b'\''),
        [b'\'', _, b'\'', ..] => 3,
        _ => 0,
    }
}

fn quoted_length(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// True if `word` stands in the code, not as a part of a longer one.
fn has_word(code: &str, word: &str) -> bool {
    let bytes = code.as_bytes();
    code.match_indices(word).any(|(at, _)| {
        let before = at.checked_sub(1).is_some_and(|at| is_word(bytes[at]));
        let after = bytes.get(at + word.len()).is_some_and(|byte| is_word(*byte));
        !before && !after
    })
}

/// Name, line and length in lines of every function with a body.
fn functions(code: &str) -> Vec<(String, usize, usize)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        if at > 0 && is_word(code.as_bytes()[at - 1]) {
            continue;
        }
        let name: String = code[at + 3..].chars().take_while(|c| is_word(*c as u8)).collect();
        let rest = &code[at..];
        // A signature that ends in `;` has no body; `[u8; 32]` in it is no end.
        let mut brackets = 0;
        let start = rest.bytes().position(|byte| {
            brackets += i32::from(byte == b'[') - i32::from(byte == b']');
            byte == b'{' || (byte == b';' && brackets == 0)
        });
        let Some(start) = start.filter(|start| rest.as_bytes()[*start] == b'{') else { continue };
        let mut depth = 0;
        let end = rest[start..].bytes().position(|byte| {
            depth += i32::from(byte == b'{') - i32::from(byte == b'}');
            depth == 0
        });
        let end = start + end.expect("braces that match");
        if !name.is_empty() {
            let line = 1 + code[..at].matches('\n').count();
            found.push((name, line, 1 + rest[..end].matches('\n').count()));
        }
    }
    found
}

#[track_caller]
fn assert_none(found: &[String]) {
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn every_module_of_the_integration_tests_runs() {
    let mut lost = Vec::new();
    for path in files(&["tests/it"], "rs") {
        let stem = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let directory = path.parent().expect("a directory");
        let parent = match directory == root().join("tests/it") {
            true if stem == "main" => continue,
            true => directory.join("main.rs"),
            false => directory.with_extension("rs"),
        };
        let code = code_of(&std::fs::read_to_string(&parent).expect("the module above"));
        if !has_word(&code, &format!("mod {stem};")[..4 + stem.len()]) {
            lost.push(format!("{}: not in {}", path.display(), parent.display()));
        }
    }
    assert_none(&lost);
}

#[test]
fn files_and_functions_are_short() {
    let mut long = Vec::new();
    for source in sources() {
        let lines = source.text.lines().count();
        let excepted = FILE_EXCEPTIONS.iter().any(|(path, _)| *path == source.path);
        if lines > FILE_LINES_MAX && !excepted {
            long.push(format!("{}: {lines} lines", source.path));
        }
        for (name, line, lines) in functions(&source.code) {
            let excepted =
                FUNCTION_EXCEPTIONS.iter().any(|(path, f, _)| *path == source.path && *f == name);
            if lines > FUNCTION_LINES_MAX && !excepted {
                long.push(format!("{}:{line}: `{name}` has {lines} lines", source.path));
            }
        }
    }
    assert_none(&long);
}

#[test]
fn the_reader_of_functions_sees_them() {
    let code = "fn a() {\n  {}\n}\nfn b(x: [u8; 2])\n{\n}\ntrait T { fn c(); }\nlet f: fn (u8);\n";
    let expected = [("a".to_owned(), 1, 3), ("b".to_owned(), 4, 3)];
    assert_eq!(functions(&code_of(code)), expected);
    let quoted = "\"fn x() {\" /* { */ '{' '\\'' r#\"{\"# // {\nend";
    assert_eq!(code_of(quoted).trim(), "end");
}

#[test]
fn nothing_is_left_undone_or_switched_off() {
    // In two parts each, so that this file does not hold them.
    let macros = ["todo", "unimplemented", "dbg"].map(|name| format!("{name}!"));
    let others = [["FIX", "ME"], ["XX", "X"], ["#[ign", "ore"], ["#[should_", "panic"]];
    let words: Vec<String> = macros.into_iter().chain(others.map(|parts| parts.concat())).collect();
    let mut found = Vec::new();
    for source in sources() {
        for word in &words {
            // Comments count: that is where such notes stand.
            if has_word(&source.text, word) {
                found.push(format!("{}: {word}", source.path));
            }
        }
    }
    assert_none(&found);
}

#[test]
fn no_module_is_called_after_nothing() {
    let banned = ["utils", "util", "helpers", "helper", "common", "misc", "manager", "mod"];
    let is_banned = |source: &&Source| {
        let path = source.path.trim_end_matches(".rs");
        path.split('/').any(|part| banned.contains(&part))
    };
    let all = sources();
    assert_none(&all.iter().filter(is_banned).map(|s| s.path.clone()).collect::<Vec<_>>());
}

#[test]
fn every_file_says_first_what_it_is_for() {
    // A test module's file is for the tests of what it is named after.
    let is_test = |path: &str| path.ends_with("/tests.rs");
    let silent = |source: &&Source| !source.text.starts_with("//! ") && !is_test(&source.path);
    let all = sources();
    assert_none(&all.iter().filter(silent).map(|s| s.path.clone()).collect::<Vec<_>>());
}

#[test]
fn unsafe_code_stands_where_it_is_allowed() {
    let elsewhere = |source: &&Source| {
        has_word(&source.code, "unsafe") && !UNSAFE.iter().any(|at| source.path.starts_with(at))
    };
    let all = sources();
    assert_none(&all.iter().filter(elsewhere).map(|s| s.path.clone()).collect::<Vec<_>>());
}

#[test]
fn pure_modules_touch_no_disk_know_no_time_and_do_not_log() {
    let impure = ["std::fs", "tokio", "tracing", "Instant::now", "SystemTime::now", "rustix"];
    let mut found = Vec::new();
    for path in PURE {
        let source = source(root().join(path));
        for word in impure {
            if has_word(&source.code, word) {
                found.push(format!("{path}: {word}"));
            }
        }
    }
    assert_none(&found);
}

#[test]
fn imports_go_one_way() {
    let mut found = Vec::new();
    for source in sources() {
        let of_agent = source.path.starts_with("agent/") && has_word(&source.code, "skync::");
        let of_mount = source.path.starts_with("mount/")
            && (has_word(&source.code, "skync") || has_word(&source.code, "skync_agent"));
        if of_agent || of_mount {
            found.push(format!("{} knows the host", source.path));
        }
        if source.code.contains("use crate::{") {
            found.push(format!(
                "{}: one `use` for each module, so that this can be read",
                source.path
            ));
        }
        let rules = ONE_WAY.iter().filter(|(from, _)| source.path.starts_with(from));
        for module in rules.flat_map(|(_, banned)| *banned) {
            if has_word(&source.code, &format!("crate::{module}")) {
                found.push(format!("{} knows crate::{module}", source.path));
            }
        }
    }
    assert_none(&found);
}

#[test]
fn every_message_and_field_of_the_contracts_has_a_comment() {
    let mut bare = Vec::new();
    for path in files(&["proto", "agent/proto"], "proto") {
        let text = std::fs::read_to_string(&path).expect("text");
        let mut commented = false;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            let begins =
                ["message ", "enum ", "service ", "rpc "].iter().any(|w| line.starts_with(w));
            let is_field = line.contains(" = ") && line.ends_with(';') && !line.starts_with("//");
            if (begins || is_field) && !commented && !line.contains("//") {
                bare.push(format!("{}:{}: {line}", path.display(), number + 1));
            }
            // A section's line of dashes is no comment of what follows.
            commented = line.starts_with("//") && !line.starts_with("// ---");
        }
    }
    assert_none(&bare);
}
