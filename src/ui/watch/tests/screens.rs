//! What is drawn, at sizes that people have and at those that nobody has.

use super::*;
use crate::ui::watch::model::Told;

#[test]
fn at_80_columns_panels_stand_below_each_other() {
    insta::assert_snapshot!(screen(&model(busy()), 80, 24), @r"
    skync /home/me/project (dev)
    watching · 1,234 files · 2 conflicts · 1 problem
    link up for 3 min 04 s · round trip 0.8 ms · lag 42 ms, at most 380 ms · → 3, 2…
    sandbox skync-4f1c · goes with `skync down` · lease 59 s, renewed
    ▸ conflicts 2 ──────────────────────────────────────────────────────────────────
    notes.md  changed on both sides
    .envrc    guarded: the sandbox changed what may run on the host
      commands 2 ───────────────────────────────────────────────────────────────────
    abababab train       running   2 min   150 %  12 MB   python train.py
    cdcdcdcd             running   2 min   0 %    12 MB   make
      transfers 3 ──────────────────────────────────────────────────────────────────
    ← host    old.txt  removed  just now
    ← host    out/report.txt  500 B  just now
    → sandbox src/main.rs  2.0 KB  1 min ago
      mounts 1 ─────────────────────────────────────────────────────────────────────
    mounted at /home/me/.remote/dev: / of the sandbox, read-only, 2 open files
      problems 1 ───────────────────────────────────────────────────────────────────
    data/pipe (sandbox): a pipe is not synchronised
      log 4 ────────────────────────────────────────────────────────────────────────
    just now    warning: not synced: data/pipe (sandbox): a pipe is not synchronised
    just now    warning: conflict: .envrc: guarded: the sandbox changed what may ru…
    just now    warning: conflict: notes.md: changed on both sides; both versions a…
    30 s ago    the link broke, and is open again
    h host s sandbox b both A all Enter compare Tab panel p pause f flush ? help q …
    ");
}

#[test]
fn at_120_columns_there_are_two_columns() {
    insta::assert_snapshot!(screen(&model(busy()), 120, 40), @r"
    skync /home/me/project (dev)
    watching · 1,234 files · 2 conflicts · 1 problem
    link up for 3 min 04 s · round trip 0.8 ms · lag 42 ms, at most 380 ms · → 3, 2.1 MB · ← 2, 500 B
    sandbox skync-4f1c · goes with `skync down` · lease 59 s, renewed
    ▸ conflicts 2 ──────────────────────────────────────────────   transfers 3 ─────────────────────────────────────────────
    notes.md  changed on both sides                              ← host    old.txt  removed  just now
    .envrc    guarded: the sandbox changed what may run on the … ← host    out/report.txt  500 B  just now
      commands 2 ─────────────────────────────────────────────── → sandbox src/main.rs  2.0 KB  1 min ago
    abababab running   2 min   150 %  12 MB   python train.py      mounts 1 ────────────────────────────────────────────────
    cdcdcdcd running   2 min   0 %    12 MB   make               mounted at /home/me/.remote/dev: / of the sandbox, read-on…
      problems 1 ───────────────────────────────────────────────   log 4 ───────────────────────────────────────────────────
    data/pipe (sandbox): a pipe is not synchronised              just now    warning: not synced: data/pipe (sandbox): a pi…
                                                                 just now    warning: conflict: .envrc: guarded: the sandbo…
                                                                 just now    warning: conflict: notes.md: changed on both s…
                                                                 30 s ago    the link broke, and is open again
























    h host s sandbox b both A all Enter compare Tab panel p pause f flush ? help q leave
    ");
}

#[test]
fn at_40_columns_and_10_lines_there_is_one_panel() {
    insta::assert_snapshot!(screen(&model(busy()), 40, 10), @r"
    skync /home/me/project (dev)
    watching · 1,234 files · 2 conflicts · …
    ▸ conflicts 2 ──────────────────────────
    notes.md  changed on both sides
    .envrc    guarded: the sandbox changed …




    h host s sandbox b both A all Enter com…
    ");
}

#[test]
fn what_stands_still_says_why() {
    let mut status = StatusReply { link_up: false, retry_ms: NOW + 4_200, ..busy() };
    status.set_state(State::Halted);
    status.why = "30 of 30 files were deleted in the sandbox".into();
    status.log.clear();
    let seen = screen(&model(status), 100, 6);
    insta::assert_snapshot!(seen, @r"
    skync /home/me/project (dev)
    halted: 30 of 30 files were deleted in the sandbox (`p` asks) · 1,234 files · 2 conflicts · 1 probl…
    ▸ conflicts 2 ──────────────────────────────────────────────────────────────────────────────────────
    notes.md  changed on both sides
    .envrc    guarded: the sandbox changed what may run on the host
    h host s sandbox b both A all Enter compare Tab panel p pause f flush ? help q leave
    ");
    let mut paused = busy();
    paused.set_state(State::Paused);
    assert!(screen(&model(paused), 80, 24).contains("paused: nothing moves, `p` goes on"));
}

#[test]
fn a_transfer_shows_how_far_and_how_fast_it_is() {
    let mut model = model(busy());
    for (at, done) in [(0, 1_000_000), (500, 2_000_000), (1_000, 3_000_000)] {
        let status = StatusReply { progress: transfer(done, 12_000_000), ..busy() };
        model.handle(Input::Status(Box::new(status)), NOW + at);
    }
    let seen = screen(&model, 100, 30);
    let line = "… syncing 3 of 10 files · 3.0 MB of 12 MB (25 %) · 2.0 MB/s";
    assert!(seen.contains(line), "{seen}");
}

#[test]
fn a_session_that_hangs_up_is_said_to_be_looked_for() {
    let mut model = model(busy());
    model.handle(Input::Lost, NOW - 3_000);
    let seen = screen(&model, 80, 24);
    assert!(seen.contains("the session does not answer for 3 s; it is looked for"), "{seen}");
    model.handle(Input::Connected, NOW);
    assert!(screen(&model, 80, 24).contains("watching"), "{seen}");
}

#[test]
fn several_sessions_are_tabs() {
    let mut model = Model::new(false);
    model.handle(Input::Sessions(vec![name("/p/one"), name("/p/two")], 0), NOW);
    let seen = screen(&model, 80, 24);
    assert!(seen.contains("[1 one (dev)] 2 two (dev)"), "{seen}");
    assert_eq!(press(&mut model, &[Key::Right, Key::Right]), [Effect::Choose(1)]);
    assert!(screen(&model, 80, 24).contains(" 1 one (dev) [2 two (dev)]"));
    assert_eq!(press(&mut model, &[Key::Char('1'), Key::Char('9')]), [Effect::Choose(0)]);
}

/// Text that would command a terminal, or reorder what it shows.
const HOSTILE: &str =
    "\u{1b}[2J\u{1b}]0;x\u{7}\r\n\u{202e}gnp.exe\u{2066}\u{9b}31m\0世界🦀e\u{301}";

fn hostile() -> Model {
    let text = HOSTILE.to_owned();
    let mut status = busy();
    status.sandbox.clone_from(&text);
    status.why.clone_from(&text);
    status.kept.clone_from(&text);
    status.hold = false;
    status.watching_host.clone_from(&text);
    status.conflicts[0] = Conflict { path: text.clone(), reason: text.clone(), guarded: false };
    status.problems[0].path.clone_from(&text);
    status.problems[0].reason.clone_from(&text);
    status.recent[0].path.clone_from(&text);
    status.mounts[0].at = text.clone().into_bytes();
    status.log[0].text.clone_from(&text);
    let step = text.clone();
    status.progress = Some(Progress { step, done: 1, ..Progress::default() });
    let mut model = model(status);
    model.handle(Input::Sessions(vec![name(HOSTILE), name(HOSTILE)], 0), NOW);
    let operations = vec![operation(1, HOSTILE, &[HOSTILE, "\t"])];
    model.handle(Input::Operations(operations), NOW);
    model
}

#[track_caller]
fn expect_harmless(model: &Model) {
    for (columns, rows) in [(1, 1), (2, 3), (7, 50), (40, 10), (80, 24), (120, 40), (300, 5)] {
        let seen = screen(model, columns, rows);
        let is_harmful = |c: char| {
            (c.is_control() && c != '\n')
                || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        };
        assert!(!seen.contains(is_harmful), "{columns}x{rows}: {seen:?}");
        assert_eq!(seen.lines().count().max(1), seen.split('\n').count());
        for line in seen.lines() {
            assert!(super::super::text::cells(line) <= columns.into(), "{columns}: {line:?}");
        }
    }
}

#[test]
fn nothing_that_comes_from_elsewhere_commands_the_terminal() {
    let mut model = hostile();
    expect_harmless(&model);
    press(&mut model, &[Key::Enter]);
    let text = crate::ui::difference::unified(HOSTILE, HOSTILE.as_bytes(), b"x\ty\n");
    model.handle(Input::Told(Told::Difference(HOSTILE.into(), None, text)), NOW);
    expect_harmless(&model);
    press(&mut model, &[Key::Escape, Key::Tab, Key::Char('x')]);
    expect_harmless(&model);
    press(&mut model, &[Key::Char('n'), Key::Enter]);
    let output = HOSTILE.as_bytes().to_vec();
    model.handle(Input::Told(Told::Output(vec![1; 16], output)), NOW);
    model.handle(Input::Told(Told::OutputEnd(vec![1; 16], HOSTILE.into())), NOW);
    expect_harmless(&model);
    model.handle(Input::Told(Told::Failed(HOSTILE.into())), NOW);
    expect_harmless(&model);
}

#[test]
fn every_size_can_be_drawn_with_everything_on_it() {
    let mut models = vec![Model::new(true), model(busy()), hostile()];
    for keys in [
        &[Key::Char('?')][..],
        &[Key::Enter],
        &[Key::Char('A')],
        &[Key::Tab, Key::Enter],
        &[Key::Tab, Key::Char('x')],
        &[Key::BackTab, Key::End],
    ] {
        let mut model = model(busy());
        press(&mut model, keys);
        models.push(model);
    }
    for model in &models {
        for columns in (1..20).chain([39, 64, 109, 110, 250]) {
            for rows in (1..18).chain([24, 60]) {
                let _ = screen(model, columns, rows);
            }
        }
    }
}

#[test]
fn the_chosen_line_is_always_seen() {
    let mut status = busy();
    status.conflicts = (0..100).map(|n| conflict(&format!("file{n:03}"), false)).collect();
    status.conflict_count = 250;
    let mut model = model(status);
    press(&mut model, &[Key::End]);
    for (columns, rows) in [(40, 10), (80, 24), (120, 40), (80, 7)] {
        let seen = screen(&model, columns, rows);
        assert!(seen.contains("file099"), "{columns}x{rows}\n{seen}");
    }
    assert!(screen(&model, 80, 24).contains("conflicts 250"));
}
