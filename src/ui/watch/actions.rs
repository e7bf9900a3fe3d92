//! What a key means, by what it is about.

use super::keys::Key;
use super::model::{Effect, Model, Overlay, Panel, Which};
use super::output::Output;
use crate::session::proto::{Conflict, Operation, State};
use crate::sync::decide::Choice;

/// Lines of one page.
const PAGE: usize = 10;

impl Model {
    /// A key was pressed.
    pub(super) fn key(&mut self, key: Key, now_ms: u64) -> Vec<Effect> {
        match key {
            // Whatever is shown: a person who wants out gets out.
            Key::Ctrl('c') => return vec![Effect::Leave],
            Key::Ctrl('z') => return vec![Effect::Suspend],
            Key::Ctrl('l') => return vec![Effect::Repaint],
            _ => {}
        }
        match self.overlay.take() {
            Some(overlay) => self.overlay_key(overlay, key),
            None => self.panel_key(key, now_ms),
        }
    }

    fn overlay_key(&mut self, overlay: Overlay, key: Key) -> Vec<Effect> {
        let is_end = matches!(key, Key::Escape | Key::Char('q'));
        match overlay {
            Overlay::Help => {}
            Overlay::Confirm(_, then) => {
                if key == Key::Char('y') {
                    return self.begin(then);
                }
            }
            Overlay::All { guarded, count } => {
                if let Some(choice) = choice(key) {
                    return self.decide_all(guarded, count, choice);
                }
            }
            Overlay::Difference { path, guarded, seen, lines, mut scroll } if !is_end => {
                if let (Some(choice), Some(seen)) = (choice(key), &seen) {
                    return self.decide(&path, guarded, Which::Seen(seen.clone()), choice);
                }
                let last = lines.as_ref().map_or(0, |lines| lines.len().saturating_sub(1));
                scroll = scrolled(scroll, key, last);
                self.overlay = Some(Overlay::Difference { path, guarded, seen, lines, scroll });
            }
            Overlay::Tail { id, title, output, up } if !is_end => {
                let last = output.len().saturating_sub(1);
                // Its end is at 0: the same keys, seen from there.
                let up = last - scrolled(last.saturating_sub(up), key, last);
                self.overlay = Some(Overlay::Tail { id, title, output, up });
            }
            Overlay::Difference { .. } => {}
            Overlay::Tail { .. } => return vec![Effect::EndTail],
        }
        Vec::new()
    }

    fn panel_key(&mut self, key: Key, now_ms: u64) -> Vec<Effect> {
        let panels = Panel::ALL.len();
        let panel = self.panel();
        match key {
            Key::Char('q') => return vec![Effect::Leave],
            Key::Char('?') => self.overlay = Some(Overlay::Help),
            Key::Tab => self.focus = (self.focus + 1) % panels,
            Key::BackTab => self.focus = (self.focus + panels - 1) % panels,
            Key::Left => return self.choose(self.shown.checked_sub(1)),
            Key::Right => return self.choose(Some(self.shown + 1)),
            Key::Char(digit @ '1'..='9') => {
                return self.choose(Some(digit as usize - '1' as usize));
            }
            Key::Char('p') => return self.pause(now_ms),
            Key::Char('f') => {
                self.notify("waiting until both sides are the same …".to_owned(), false, now_ms);
                return vec![Effect::Flush];
            }
            Key::Enter => return self.open(panel),
            Key::Char('x') if panel == Panel::Operations => self.ask_to_cancel(now_ms),
            Key::Char('A') if panel == Panel::Conflicts => self.ask_for_all(),
            _ => {
                if let (Some(choice), Panel::Conflicts) = (choice(key), panel) {
                    return self.decide_chosen(choice);
                }
                let last = self.rows(panel).saturating_sub(1);
                let cursor = &mut self.cursor[panel as usize];
                *cursor = scrolled(*cursor, key, last);
            }
        }
        Vec::new()
    }

    /// The conflict that keys are about.
    pub(super) fn chosen_conflict(&self) -> Option<&Conflict> {
        self.status.as_ref()?.conflicts.get(self.cursor[Panel::Conflicts as usize])
    }

    /// The operation that keys are about.
    pub(super) fn chosen_operation(&self) -> Option<&Operation> {
        self.operations.get(self.cursor[Panel::Operations as usize])
    }

    fn choose(&mut self, at: Option<usize>) -> Vec<Effect> {
        match at.filter(|at| *at < self.sessions.len() && *at != self.shown) {
            Some(at) => {
                self.shown = at;
                self.forget();
                vec![Effect::Choose(at)]
            }
            None => Vec::new(),
        }
    }

    fn pause(&mut self, now_ms: u64) -> Vec<Effect> {
        let Some(status) = &self.status else { return Vec::new() };
        match status.state() {
            State::Paused => {
                self.notify("going on …".to_owned(), false, now_ms);
                vec![Effect::Resume(false)]
            }
            State::Halted => {
                let question = vec![
                    format!("halted: {}", status.why),
                    "Is it meant? Then it is carried out, once.".to_owned(),
                ];
                self.overlay = Some(Overlay::Confirm(question, Effect::Resume(true)));
                Vec::new()
            }
            State::Idle
            | State::Starting
            | State::Syncing
            | State::Watching
            | State::Waiting
            | State::Reconnecting => vec![Effect::Pause],
        }
    }

    fn open(&mut self, panel: Panel) -> Vec<Effect> {
        if let (Panel::Conflicts, Some(conflict)) = (panel, self.chosen_conflict()) {
            let (path, guarded) = (conflict.path.clone(), conflict.guarded);
            let effect = Effect::Difference(path.clone());
            self.overlay =
                Some(Overlay::Difference { path, guarded, seen: None, lines: None, scroll: 0 });
            return vec![effect];
        }
        if let (Panel::Operations, Some(operation)) = (panel, self.chosen_operation()) {
            let (id, title) = (operation.id.clone(), called(operation));
            let output = Output::default();
            self.overlay = Some(Overlay::Tail { id: id.clone(), title, output, up: 0 });
            return vec![Effect::Tail(id)];
        }
        Vec::new()
    }

    fn ask_to_cancel(&mut self, now_ms: u64) {
        let Some(operation) = self.chosen_operation() else { return };
        if operation.state().is_over() {
            return self.notify("that command has ended".to_owned(), false, now_ms);
        }
        let question = vec![
            format!("Stop {} and everything that it started?", called(operation)),
            crate::ui::status_view::words(&operation.argv),
        ];
        let effect = Effect::Cancel(operation.id.clone());
        self.overlay = Some(Overlay::Confirm(question, effect));
    }

    fn ask_for_all(&mut self) {
        let (Some(chosen), Some(status)) = (self.chosen_conflict(), &self.status) else { return };
        let guarded = chosen.guarded;
        let listed = status.conflicts.iter().filter(|other| other.guarded == guarded).count();
        // Those that are only counted may be of either kind.
        let count = listed + status.conflict_count as usize - status.conflicts.len();
        self.overlay = Some(Overlay::All { guarded, count });
    }

    fn decide_chosen(&mut self, choice: Choice) -> Vec<Effect> {
        let Some(conflict) = self.chosen_conflict() else { return Vec::new() };
        let (path, guarded) = (conflict.path.clone(), conflict.guarded);
        self.decide(&path, guarded, Which::Shown(path.clone()), choice)
    }

    /// What is guarded is asked about once more.
    fn decide(&mut self, path: &str, guarded: bool, of: Which, choice: Choice) -> Vec<Effect> {
        let question = match choice {
            Choice::Sandbox => format!("Let what the sandbox did to `{path}` come to the host?"),
            Choice::Host => format!("Discard what the sandbox did to `{path}`?"),
            // It is refused, and why is told.
            Choice::Both => String::new(),
        };
        let effect = Effect::Resolve(of, choice);
        if guarded && !question.is_empty() {
            let why = "It is guarded: it may decide what runs on this machine.".to_owned();
            self.overlay = Some(Overlay::Confirm(vec![question, why], effect));
            return Vec::new();
        }
        self.begin(effect)
    }

    fn decide_all(&mut self, guarded: bool, count: usize, choice: Choice) -> Vec<Effect> {
        let effect = Effect::Resolve(Which::AllLike { guarded }, choice);
        if !guarded || choice == Choice::Both {
            return self.begin(effect);
        }
        let question = match choice {
            Choice::Sandbox => "Let what the sandbox did there come to the host?",
            Choice::Host | Choice::Both => "Discard what the sandbox did there?",
        };
        let lines = vec![format!("{count} guarded paths."), question.to_owned()];
        self.overlay = Some(Overlay::Confirm(lines, effect));
        Vec::new()
    }

    /// Remembers what is under way, so that it shows at once.
    fn begin(&mut self, effect: Effect) -> Vec<Effect> {
        if let Effect::Resolve(of, choice) = &effect {
            let conflicts = self.status.as_ref().map(|status| status.conflicts.as_slice());
            let is_meant = |conflict: &&Conflict| match of {
                Which::Shown(path) => conflict.path == *path,
                Which::Seen(seen) => conflict.path == seen.path.to_string(),
                Which::AllLike { guarded } => conflict.guarded == *guarded,
            };
            let meant = conflicts.unwrap_or_default().iter().filter(is_meant);
            self.deciding.extend(meant.map(|conflict| (conflict.path.clone(), *choice)));
        }
        vec![effect]
    }
}

/// Its name, or what a person types of its id.
pub(super) fn called(operation: &Operation) -> String {
    let short = super::panels::short_id(&operation.id);
    match operation.name.as_str() {
        "" => format!("`{short}`"),
        name => format!("`{name}` ({short})"),
    }
}

fn choice(key: Key) -> Option<Choice> {
    match key {
        Key::Char('h') => Some(Choice::Host),
        Key::Char('s') => Some(Choice::Sandbox),
        Key::Char('b') => Some(Choice::Both),
        _ => None,
    }
}

fn scrolled(at: usize, key: Key, last: usize) -> usize {
    match key {
        Key::Up | Key::Char('k') => at.saturating_sub(1),
        Key::Down | Key::Char('j') => at + 1,
        Key::PageUp => at.saturating_sub(PAGE),
        Key::PageDown | Key::Char(' ') => at + PAGE,
        Key::Home | Key::Char('g') => 0,
        Key::End | Key::Char('G') => last,
        _ => at,
    }
    .min(last)
}
