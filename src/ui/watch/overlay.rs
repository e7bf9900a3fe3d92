//! What lies over the panels: help, a question, a difference, an operation's output.

use ratatui::layout::Rect;

use super::model::{Model, Overlay};
use super::text::{Role, Row};
use crate::ui::status_view::conflict_key;

/// Keys and what they do.
const HELP: [(&str, &str); 17] = [
    ("Tab", "next panel, back with Shift"),
    ("↑ ↓ j k", "choose a line; also PgUp, PgDn, g, G"),
    ("← → 1-9", "another session"),
    ("", "on a conflict:"),
    ("Enter", "how the two versions differ"),
    ("h", "the host's version is wanted; of a guarded path: discard"),
    ("s", "the sandbox's version is wanted; of a guarded path: let it come"),
    ("b", "both are kept, the sandbox's beside the host's"),
    ("A", "the same for all like this one"),
    ("", "on a command:"),
    ("Enter", "what it writes"),
    ("x", "stop it and everything that it started; asks first"),
    ("", "always:"),
    ("p", "pause or go on; when it is halted, asks"),
    ("f", "wait until both sides are the same"),
    ("q Ctrl-C", "leave this view; the session goes on"),
    ("Ctrl-L", "draw all anew"),
];

/// The overlay's title, its lines, and how many of them are scrolled away.
pub(super) fn content(overlay: &Overlay, area: Rect) -> (Row, Vec<Row>, usize) {
    let height = usize::from(area.height.saturating_sub(1));
    match overlay {
        Overlay::Help => (title("keys"), help(), 0),
        Overlay::Confirm(question, _) => {
            let mut rows = vec![Row::new()];
            rows.extend(question.iter().map(|line| Row::plain(line)));
            rows.push(Row::new());
            rows.push(Row::new().with("y", Role::Key).with(" yes, any other key no", Role::Plain));
            (title("sure?"), rows, 0)
        }
        Overlay::All { guarded, count } => {
            let what = if *guarded { "guarded paths" } else { "conflicts" };
            let mut rows = vec![Row::new()];
            let text = format!("Whose version is wanted of all {what} ({count})?");
            rows.push(Row::plain(&text));
            rows.push(Row::new());
            rows.push(choices(*guarded).with(" Esc", Role::Key).with(" none", Role::Plain));
            (title("all like this"), rows, 0)
        }
        Overlay::Difference { path, lines, scroll, .. } => {
            let rows = match lines {
                None => vec![Row::plain("reading both versions …")],
                Some(lines) => lines.iter().map(|line| of_difference(line)).collect(),
            };
            (title(&conflict_key(path)), rows, *scroll)
        }
        Overlay::Tail { title: name, output, up, .. } => {
            let mut lines = output.lines();
            if lines.is_empty() {
                lines.push("nothing yet".to_owned());
            }
            let first = lines.len().saturating_sub(height + up);
            let rows = lines.iter().map(|line| Row::plain(line)).collect();
            (title(&format!("output of {name}")), rows, first)
        }
    }
}

/// What keys do while it is there.
pub(super) fn hint(overlay: &Overlay) -> Row {
    let close = |row: Row| row.with(" Esc", Role::Key).with(" back", Role::Plain);
    match overlay {
        Overlay::Help => Row::new().with("any key", Role::Key).with(" back", Role::Plain),
        Overlay::Confirm(..) => Row::new().with("y", Role::Key).with(" yes", Role::Plain),
        Overlay::All { guarded, .. } => close(choices(*guarded)),
        Overlay::Difference { guarded, seen, .. } => match seen {
            Some(_) => close(choices(*guarded)),
            None => close(Row::new()),
        },
        Overlay::Tail { up, .. } => {
            let where_to = if *up == 0 { "following the end" } else { "G follows the end" };
            close(Row::plain(where_to))
        }
    }
}

pub(super) fn choices(guarded: bool) -> Row {
    let row = Row::new().with("h", Role::Key);
    match guarded {
        true => row
            .with(" discard ", Role::Plain)
            .with("s", Role::Key)
            .with(" let it come ", Role::Plain),
        false => row
            .with(" host ", Role::Plain)
            .with("s", Role::Key)
            .with(" sandbox ", Role::Plain)
            .with("b", Role::Key)
            .with(" both ", Role::Plain),
    }
}

fn title(text: &str) -> Row {
    Row::new().with(text, Role::Strong)
}

fn help() -> Vec<Row> {
    HELP.iter()
        .map(|(key, what)| match *key {
            "" => Row::new().with(what, Role::Strong),
            key => Row::new().column(key, 10, Role::Key).with(what, Role::Plain),
        })
        .collect()
}

fn of_difference(line: &str) -> Row {
    let role = match line.as_bytes().first() {
        Some(b'+') => Role::Good,
        Some(b'-') => Role::Bad,
        Some(b'@') => Role::Key,
        _ => Role::Plain,
    };
    Row::new().with(line, role)
}

impl Model {
    /// The keys that matter where the person is.
    pub(super) fn hint(&self) -> Row {
        use super::model::Panel;
        if let Some(notice) = &self.notice {
            let role = if notice.is_bad { Role::Bad } else { Role::Good };
            return Row::new().with(&notice.text, role);
        }
        if let Some(overlay) = &self.overlay {
            return hint(overlay);
        }
        let row = match (self.panel(), self.chosen_conflict(), self.chosen_operation()) {
            (Panel::Conflicts, Some(conflict), _) => choices(conflict.guarded)
                .with("A", Role::Key)
                .with(" all ", Role::Plain)
                .with("Enter", Role::Key)
                .with(" compare ", Role::Plain),
            (Panel::Operations, _, Some(_)) => Row::new()
                .with("Enter", Role::Key)
                .with(" output ", Role::Plain)
                .with("x", Role::Key)
                .with(" stop ", Role::Plain),
            _ => Row::new(),
        };
        row.with("Tab", Role::Key)
            .with(" panel ", Role::Plain)
            .with("p", Role::Key)
            .with(" pause ", Role::Plain)
            .with("f", Role::Key)
            .with(" flush ", Role::Plain)
            .with("?", Role::Key)
            .with(" help ", Role::Plain)
            .with("q", Role::Key)
            .with(" leave", Role::Plain)
    }
}
