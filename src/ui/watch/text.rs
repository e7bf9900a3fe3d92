//! Text on its way to cells: made harmless, cut and filled by the width that a terminal gives it.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Span;

use crate::ui::visible;

/// What a piece of text is, beside its words: a colour says nothing that the words do not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Role {
    #[default]
    Plain,
    /// Less important.
    Dim,
    /// A title.
    Strong,
    /// As it should be.
    Good,
    /// Somebody should look.
    Warn,
    /// Something is wrong.
    Bad,
    /// A key to press, or a name.
    Key,
}

impl Role {
    pub(super) fn style(self, is_colored: bool) -> Style {
        let style = Style::default();
        let paint = |color: Color| if is_colored { style.fg(color) } else { style };
        match self {
            Self::Plain => style,
            Self::Dim => style.add_modifier(Modifier::DIM),
            Self::Strong => style.add_modifier(Modifier::BOLD),
            Self::Good => paint(Color::Green),
            Self::Warn => paint(Color::Yellow),
            Self::Bad => paint(Color::Red).add_modifier(Modifier::BOLD),
            Self::Key => paint(Color::Cyan),
        }
    }
}

/// One line: pieces of harmless text.
#[derive(Clone, Debug, Default)]
pub(super) struct Row(Vec<(String, Role)>);

impl Row {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn plain(text: &str) -> Self {
        Self::new().with(text, Role::Plain)
    }

    /// Adds a piece; anything in it that could command a terminal is spelt out.
    pub(super) fn with(mut self, text: &str, role: Role) -> Self {
        self.0.push((visible(text), role));
        self
    }

    /// Adds a piece of just this width.
    pub(super) fn column(mut self, text: &str, width: usize, role: Role) -> Self {
        self.0.push((fit(&visible(text), width), role));
        self
    }

    pub(super) fn width(&self) -> usize {
        self.0.iter().map(|(text, _)| cells(text)).sum()
    }
}

/// A part of the screen, filled from above.
pub(super) struct Canvas<'a> {
    buffer: &'a mut Buffer,
    area: Rect,
    y: u16,
    is_colored: bool,
}

impl<'a> Canvas<'a> {
    pub(super) fn new(buffer: &'a mut Buffer, area: Rect, is_colored: bool) -> Self {
        let area = area.intersection(buffer.area);
        Self { buffer, area, y: area.y, is_colored }
    }

    pub(super) fn width(&self) -> usize {
        self.area.width.into()
    }

    /// Draws a line, cut to the width; nothing below the end.
    pub(super) fn row(&mut self, row: &Row) {
        self.draw(row, Style::default());
    }

    /// As [`Canvas::row`], and it is the one that keys are about.
    pub(super) fn selected(&mut self, row: &Row) {
        let y = self.y;
        self.draw(row, Style::default());
        if y < self.area.bottom() {
            let line = Rect { y, height: 1, ..self.area };
            self.buffer.set_style(line, Style::default().add_modifier(Modifier::REVERSED));
        }
    }

    fn draw(&mut self, row: &Row, style: Style) {
        if self.y >= self.area.bottom() {
            return;
        }
        let width = self.width();
        let (mut x, mut left) = (self.area.x, width);
        let is_cut = row.width() > width;
        for (text, role) in &row.0 {
            let is_last = is_cut && cells(text) >= left;
            let text = if is_last { cut_short(text, left) } else { text.clone() };
            let style = style.patch(role.style(self.is_colored));
            let (next, _) = self.buffer.set_stringn(x, self.y, &text, left, style);
            left = left.saturating_sub(usize::from(next - x));
            x = next;
            if left == 0 || is_last {
                break;
            }
        }
        self.y += 1;
    }
}

/// Cells of a terminal that the text takes.
pub(super) fn cells(text: &str) -> usize {
    Span::raw(text).width()
}

/// As much of the text as fits, and a sign that there is more of it.
pub(super) fn cut(text: &str, width: usize) -> String {
    if cells(text) <= width { text.to_owned() } else { cut_short(text, width) }
}

fn cut_short(text: &str, width: usize) -> String {
    let mut out = String::new();
    let mut left = width.saturating_sub(1);
    let mut buffer = [0; 4];
    for c in text.chars() {
        let needs = cells(c.encode_utf8(&mut buffer));
        if needs > left {
            break;
        }
        left -= needs;
        out.push(c);
    }
    if width > 0 {
        out.push('…');
    }
    out
}

/// The text in just so many cells.
fn fit(text: &str, width: usize) -> String {
    let mut text = cut(text, width);
    let missing = width.saturating_sub(cells(&text));
    text.extend(std::iter::repeat_n(' ', missing));
    text
}

/// A time in two units at most: `4 s`, `3 min 04 s`, `2 h 05 min`, `3 days 4 h`.
pub(super) fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        3_600..172_800 => format!("{} h {:02} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} days {} h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// A time in one short unit, for a column.
pub(super) fn short_span(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..100 => format!("{seconds} s"),
        100..6_000 => format!("{} min", seconds / 60),
        6_000..360_000 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_by_cells_and_not_by_characters() {
        for (text, width, expected) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("世界世界", 5, "世界…"),
            ("世界世界", 4, "世…"),
            ("e\u{301}e\u{301}e\u{301}", 3, "e\u{301}e\u{301}e\u{301}"),
            ("abc", 1, "…"),
            ("abc", 0, ""),
        ] {
            assert_eq!(cut(text, width), expected, "{text} in {width}");
        }
        assert_eq!(fit("世", 4), "世  ");
    }

    #[test]
    fn a_time_is_short_and_never_wrong_by_much() {
        let spans = [4_900, 184_000, 7_500_000, 273_600_000].map(span);
        assert_eq!(spans, ["4 s", "3 min 04 s", "2 h 05 min", "3 days 4 h"]);
        let short = [99_000, 100_000, 7_200_000, 864_000_000].map(short_span);
        assert_eq!(short, ["99 s", "1 min", "2 h", "10 days"]);
    }
}
