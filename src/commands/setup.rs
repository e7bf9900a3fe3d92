//! What a client shows of the commands that prepare a sandbox: each line of theirs on stderr, apart
//! from what its own command writes; or one JSON object for each piece of news.

use serde_json::{Value, json};

use crate::commands::Context;
use crate::session::proto::SetupNews;
use crate::ui::progress::Progress;
use crate::ui::render::SCHEMA_VERSION;

/// Longest line that is waited for, in bytes; a longer one is shown in pieces.
const LINE_BYTES_MAX: usize = 4096;

/// The lines of what comes in pieces.
#[derive(Debug, Default)]
pub(super) struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    /// Shows what is to be shown of a piece of news; nothing for a program, which has the documents.
    pub(super) fn show(&mut self, news: &SetupNews, progress: &Progress, context: &Context) {
        let lines = self.take(news);
        if context.json || context.quiet > 0 {
            return;
        }
        for line in lines {
            progress.aside(&format!("setup: {line}"), context.style);
        }
    }

    /// The lines that are whole now.
    fn take(&mut self, news: &SetupNews) -> Vec<String> {
        let mut lines = Vec::new();
        for byte in &news.data {
            // A bar that is drawn over and over is as many lines.
            let is_end = matches!(byte, b'\n' | b'\r');
            if !is_end {
                self.rest.push(*byte);
            }
            if is_end || self.rest.len() >= LINE_BYTES_MAX {
                self.end(&mut lines);
            }
        }
        if news.data.is_empty() {
            self.end(&mut lines);
        }
        if !news.command.is_empty() {
            lines.push(format!("[{} of {}] {}", news.number, news.total, news.command));
        }
        lines.extend(Some(&news.note).filter(|note| !note.is_empty()).cloned());
        lines
    }

    fn end(&mut self, lines: &mut Vec<String>) {
        let line = std::mem::take(&mut self.rest);
        if !line.is_empty() {
            lines.push(String::from_utf8_lossy(&line).into_owned());
        }
    }
}

/// A piece of news for a program.
pub(super) fn document(news: &SetupNews) -> Value {
    let mut document = facts(news);
    document["schema_version"] = SCHEMA_VERSION.into();
    document["event"] = "setup".into();
    document
}

/// The same, without what every event has.
pub(super) fn facts(news: &SetupNews) -> Value {
    let (number, total) = (news.number, news.total);
    if !news.note.is_empty() {
        json!({ "what": "note", "text": news.note })
    } else if let Some(code) = news.code {
        json!({ "what": "ended", "number": number, "total": total, "code": code })
    } else if !news.command.is_empty() {
        json!({ "what": "started", "number": number, "total": total, "command": news.command })
    } else {
        let text = String::from_utf8_lossy(&news.data);
        json!({ "what": "output", "number": number, "total": total, "text": text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(data: &[u8]) -> SetupNews {
        SetupNews { data: data.to_vec(), ..SetupNews::default() }
    }

    #[test]
    fn pieces_become_lines_and_what_is_left_comes_with_the_end() {
        let mut lines = Lines::default();
        assert_eq!(lines.take(&output(b"one\ntw")), ["one"]);
        assert_eq!(lines.take(&output(b"o\r\n50%\r100%")), ["two", "50%"]);
        let ended = SetupNews { code: Some(0), ..SetupNews::default() };
        assert_eq!(lines.take(&ended), ["100%"]);
        let begins = SetupNews { command: "x".into(), number: 1, total: 2, ..ended };
        assert_eq!(lines.take(&begins), ["[1 of 2] x"]);
        let long = vec![b'x'; LINE_BYTES_MAX + 1];
        assert_eq!(lines.take(&output(&long)).len(), 1);
    }
}
