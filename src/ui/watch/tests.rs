//! What a person sees and what keys do, without a terminal.

mod keys;
mod screens;

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::keys::Key;
use super::model::{Effect, Input, Model, Name};
use super::render::render;
use crate::session::proto::{
    Conflict, LogLine, MountInfo, Moved, Operation, OperationState, Problem, Progress, Side, State,
    StatusReply, Totals,
};

/// The present of all of these.
const NOW: u64 = 1_700_000_000_000;

fn name(root: &str) -> Name {
    Name { root: root.into(), profile: "dev".into() }
}

fn conflict(path: &str, guarded: bool) -> Conflict {
    let reason = match guarded {
        true => "guarded: the sandbox changed what may run on the host",
        false => "changed on both sides",
    };
    Conflict { path: path.into(), reason: reason.into(), guarded }
}

fn moved(path: &str, side: Side, bytes: u64, ago_ms: u64) -> Moved {
    Moved { at_ms: NOW - ago_ms, side: side.into(), path: path.into(), bytes, removed: bytes == 0 }
}

fn operation(id: u8, label: &str, argv: &[&str]) -> Operation {
    Operation {
        id: vec![id; 16],
        name: label.into(),
        argv: argv.iter().map(|word| word.as_bytes().to_vec()).collect(),
        state: OperationState::OperationRunning as i32,
        began_ms: NOW - 125_000,
        has_usage: true,
        cpu_ms: 10_000,
        memory_bytes: 12_300_000,
        ..Operation::default()
    }
}

fn busy() -> StatusReply {
    StatusReply {
        sandbox: "skync-4f1c".into(),
        state: State::Watching.into(),
        link_up: true,
        link_since_ms: NOW - 184_000,
        round_trip_us: 840,
        operations: 2,
        hold: true,
        files: 1_234,
        conflicts: vec![conflict("notes.md", false), conflict(".envrc", true)],
        conflict_count: 2,
        problems: vec![Problem {
            path: "data/pipe".into(),
            side: Side::Sandbox.into(),
            reason: "a pipe is not synchronised".into(),
        }],
        problem_count: 1,
        to_sandbox: Some(Totals { files: 3, bytes: 2_100_000, removed: 0, paths: 3 }),
        to_host: Some(Totals { files: 1, bytes: 500, removed: 1, paths: 2 }),
        lag_us: 42_000,
        lag_max_us: 380_000,
        recent: vec![
            moved("src/main.rs", Side::Sandbox, 2_048, 61_000),
            moved("out/report.txt", Side::Host, 500, 4_000),
            moved("old.txt", Side::Host, 0, 1_000),
        ],
        mounts: vec![MountInfo {
            at: b"/home/me/.remote/dev".to_vec(),
            root: b"/".to_vec(),
            open_files: 2,
            ..MountInfo::default()
        }],
        lease_ms: NOW + 59_000,
        log: vec![LogLine {
            at_ms: NOW - 30_000,
            text: "the link broke, and is open again".into(),
        }],
        ..StatusReply::default()
    }
}

/// A model that knows of everything.
fn model(status: StatusReply) -> Model {
    let mut model = Model::new(false);
    model.handle(Input::Sessions(vec![name("/home/me/project")], 0), NOW);
    model.handle(Input::Status(Box::new(status)), NOW);
    let operations =
        || vec![operation(0xab, "train", &["python", "train.py"]), operation(0xcd, "", &["make"])];
    model.handle(Input::Operations(operations()), NOW - 1_000);
    let mut later = operations();
    later[0].cpu_ms += 1_500;
    model.handle(Input::Operations(later), NOW);
    model
}

fn press(model: &mut Model, keys: &[Key]) -> Vec<Effect> {
    keys.iter().flat_map(|key| model.handle(Input::Key(*key), NOW)).collect()
}

fn screen(model: &Model, columns: u16, rows: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).expect("a terminal");
    terminal
        .draw(|frame| {
            let area = frame.area();
            render(model, area, frame.buffer_mut(), NOW);
        })
        .expect("drawn");
    let buffer = terminal.backend().buffer();
    let lines = buffer.content.chunks(columns.into()).map(|cells| {
        let mut line = String::new();
        let mut skip = 0;
        for cell in cells {
            if skip == 0 {
                line += cell.symbol();
                skip = super::text::cells(cell.symbol()).max(1);
            }
            skip -= 1;
        }
        line.trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn transfer(done: u64, total: u64) -> Option<Progress> {
    let (files, files_total) = (3, 10);
    Some(Progress { step: String::new(), done, total, bytes: true, files, files_total })
}
