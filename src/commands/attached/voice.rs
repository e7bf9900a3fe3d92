//! What a program is told about an operation, one JSON object per line.

use serde_json::{Value, json};

use crate::operation::OperationId;
use crate::session::proto::{Exit, Gap, LinkNews, Output, Started, SyncSummary};
use crate::ui::render::SCHEMA_VERSION;

/// The command runs.
pub(in crate::commands) fn started(started: &Started, id: OperationId) -> Value {
    json!({
        "schema_version": SCHEMA_VERSION,
        "event": "started",
        "id": id.to_string(),
        "name": started.name,
        "pid": started.pid,
        "sandbox": started.sandbox,
        "terminal": started.terminal,
    })
}

/// A piece of output: `text` if it is UTF-8, else `base64`.
pub(in crate::commands) fn output(output: &Output) -> Value {
    let mut document = json!({
        "schema_version": SCHEMA_VERSION,
        "event": "output",
        "stream": if output.stream == 0 { "stdout" } else { "stderr" },
        "offset": output.offset,
        "time_ms": output.time_ms,
    });
    match std::str::from_utf8(&output.data) {
        Ok(text) => document["text"] = text.into(),
        Err(_) => document["base64"] = base64(&output.data).into(),
    }
    document
}

/// Output that was not kept.
pub(in crate::commands) fn gap(gap: &Gap) -> Value {
    json!({
        "schema_version": SCHEMA_VERSION,
        "event": "gap",
        "from": gap.from,
        "to": gap.to,
    })
}

/// What becomes of the link; `what` is `lost`, `retry` or `resumed`.
pub(super) fn link(what: &str, news: &LinkNews) -> Value {
    json!({
        "schema_version": SCHEMA_VERSION,
        "event": "link",
        "what": what,
        "lost_ms": news.lost_ms,
        "retry_ms": news.retry_ms,
        "why": news.why,
    })
}

/// A line for a person.
pub(super) fn note(text: &str) -> Value {
    json!({ "schema_version": SCHEMA_VERSION, "event": "note", "text": text })
}

/// How a command ended, for programs.
pub(in crate::commands) fn exit(exit: &Exit) -> Value {
    json!({
        "code": super::Outcome::command_code(exit),
        "signal": (exit.signal != 0).then_some(exit.signal),
        "timed_out": exit.timed_out,
        "cancelled": exit.cancelled,
        "out_of_memory": exit.out_of_memory,
        "started_ms": exit.started_ms,
        "ended_ms": exit.ended_ms,
        "output_bytes": exit.output_bytes,
        "lost_bytes": exit.lost_bytes,
        "input_bytes": exit.input_bytes,
        "stopped": exit.stopped,
        "survivors": exit.survivors,
    })
}

/// What synchronising did, for programs.
pub(in crate::commands) fn sync(sync: &SyncSummary) -> Value {
    json!({
        "files_sent": sync.files_sent,
        "bytes_sent": sync.bytes_sent,
        "files_received": sync.files_received,
        "bytes_received": sync.bytes_received,
        "removed_in_sandbox": sync.removed_in_sandbox,
        "removed_on_host": sync.removed_on_host,
        "conflicts": sync.conflicts,
        "problems": sync.problems,
    })
}

/// Bytes as text, by RFC 4648.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let of = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = of(0) << 16 | of(1) << 8 | of(2);
        for digit in 0..4 {
            if digit <= group.len() {
                text.push(char::from(DIGITS[(bits >> (18 - 6 * digit) & 63) as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_that_is_no_text_is_base64() {
        for (bytes, expected) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"foob", "Zm9vYg=="),
            (&[0xff, 0xfe, 0xfd, 0x00], "//79AA=="),
        ] {
            assert_eq!(base64(bytes), expected);
        }
        let of = |data: &'static [u8]| output(&Output { data: data.into(), ..Output::default() });
        assert_eq!(of(b"a\n")["text"], "a\n");
        assert_eq!(of(&[0xff])["base64"], "/w==");
        assert!(of(&[0xff]).get("text").is_none());
    }
}
