//! Draws the view into cells: a header, panels below each other or in two columns, a line of keys.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::header;
use super::model::{Model, Panel};
use super::overlay;
use super::panels;
use super::text::{Canvas, Role, Row};

/// From this many cells on there are two columns.
const WIDE: u16 = 110;
/// Below this many lines the header is the two lines that say most.
const LOW: u16 = 14;
/// The panels of the two columns.
const COLUMNS: [&[Panel]; 2] = [
    &[Panel::Conflicts, Panel::Operations, Panel::Problems],
    &[Panel::Transfers, Panel::Mounts, Panel::Log],
];

/// Draws all of it. Any size will do, down to nothing. `now_ms` since 1970.
pub fn render(model: &Model, area: Rect, buffer: &mut Buffer, now_ms: u64) {
    let area = area.intersection(buffer.area);
    if area.is_empty() {
        return;
    }
    let mut header = header::rows(model, area.width.into(), now_ms);
    if area.height < LOW && header.len() > 2 {
        // Whose it is, and how it is.
        let state = header.len().saturating_sub(3).max(1);
        header.swap(1, state);
        header.truncate(2);
    }
    let top = (header.len() as u16).min(area.height);
    let footer = u16::from(area.height > top);
    let mut canvas = Canvas::new(buffer, Rect { height: top, ..area }, model.is_colored);
    header.iter().for_each(|row| canvas.row(row));
    let body = Rect { y: area.y + top, height: area.height - top - footer, ..area };
    match &model.overlay {
        Some(over) => {
            let (title, rows, skip) = overlay::content(over, body);
            let mut canvas = Canvas::new(buffer, body, model.is_colored);
            canvas.row(&ruled(title, body.width));
            rows.iter().skip(skip).for_each(|row| canvas.row(row));
        }
        None if area.width >= WIDE => {
            let left = body.width / 2;
            let columns = [
                Rect { width: left, ..body },
                Rect { x: body.x + left + 1, width: body.width - left - 1, ..body },
            ];
            for (panels, column) in COLUMNS.into_iter().zip(columns) {
                stack(model, panels, column, buffer, now_ms);
            }
        }
        None => stack(model, &Panel::ALL, body, buffer, now_ms),
    }
    let last = Rect { y: area.bottom() - footer, height: footer, ..area };
    Canvas::new(buffer, last, model.is_colored).row(&model.hint());
}

/// Draws panels below each other.
fn stack(model: &Model, panels: &[Panel], area: Rect, buffer: &mut Buffer, now_ms: u64) {
    let width = usize::from(area.width);
    let listed: Vec<_> =
        panels.iter().map(|panel| panels::rows(model, *panel, width, now_ms)).collect();
    let wanted: Vec<usize> = listed.iter().map(|listed| listed.rows.len()).collect();
    let focus = panels.iter().position(|panel| *panel == model.panel());
    let heights = heights(area.height.into(), &wanted, focus);
    let mut y = area.y;
    for ((panel, listed), height) in panels.iter().zip(&listed).zip(heights) {
        let part = Rect { y, height: height as u16, ..area };
        y += height as u16;
        let mut canvas = Canvas::new(buffer, part, model.is_colored);
        if height == 0 {
            continue;
        }
        let is_focus = *panel == model.panel();
        canvas.row(&title(model, *panel, is_focus, area.width));
        let room = height - 1;
        // As far down as it takes to see the chosen line.
        let skip = if room == 0 { 0 } else { (listed.chosen + 1).saturating_sub(room) };
        for (at, row) in listed.rows.iter().enumerate().skip(skip).take(room) {
            if is_focus && at == listed.chosen {
                canvas.selected(row);
            } else {
                canvas.row(row);
            }
        }
    }
}

fn title(model: &Model, panel: Panel, is_focus: bool, width: u16) -> Row {
    let mark = if is_focus { "▸ " } else { "  " };
    let number = panels::number(model, panel);
    let role = match (panel, number) {
        (Panel::Conflicts | Panel::Problems, 1..) => Role::Warn,
        _ if is_focus => Role::Strong,
        _ => Role::Dim,
    };
    let row = Row::new().with(mark, Role::Strong).with(panel.title(), role);
    let words = if number == 0 { " none".to_owned() } else { format!(" {number}") };
    ruled(row.with(&words, role), width)
}

/// With a line to the right edge.
fn ruled(row: Row, width: u16) -> Row {
    let left = usize::from(width).saturating_sub(row.width() + 1);
    row.with(" ", Role::Dim).with(&"─".repeat(left), Role::Dim)
}

/// The lines that each panel gets, its title with them, of so many; none for those that are not
/// shown. The one that a person is in comes first, then all get what they want line by line.
fn heights(room: usize, wanted: &[usize], focus: Option<usize>) -> Vec<usize> {
    let mut heights = vec![0; wanted.len()];
    let focus = focus.unwrap_or(0);
    if room < wanted.len() + 2 {
        if let Some(height) = heights.get_mut(focus) {
            *height = room;
        }
        return heights;
    }
    heights.fill(1);
    let mut left = room - wanted.len();
    let own = wanted[focus].min(left.div_ceil(2));
    heights[focus] += own;
    left -= own;
    while left > 0 {
        let mut is_any = false;
        for (height, wanted) in heights.iter_mut().zip(wanted) {
            if left > 0 && *height <= *wanted {
                *height += 1;
                left -= 1;
                is_any = true;
            }
        }
        if !is_any {
            // Nobody wants more: the last one has the rest.
            if let Some(last) = heights.last_mut() {
                *last += left;
            }
            break;
        }
    }
    heights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_go_where_a_person_looks_and_none_is_lost() {
        for (room, wanted, focus, expected) in [
            (20, &[0, 0, 0][..], Some(0), [1, 1, 18]),
            (20, &[5, 3, 2], Some(0), [6, 4, 10]),
            (10, &[50, 50, 50], Some(1), [2, 6, 2]),
            (4, &[5, 5, 5], Some(2), [0, 0, 4]),
            (4, &[5, 5, 5], None, [4, 0, 0]),
            (0, &[5, 5, 5], Some(1), [0, 0, 0]),
        ] {
            let found = heights(room, wanted, focus);
            assert_eq!(found, expected, "{room} {wanted:?} {focus:?}");
        }
    }
}
