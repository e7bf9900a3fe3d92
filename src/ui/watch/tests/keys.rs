//! What keys do.

use super::*;
use crate::sync::decide::Choice;
use crate::ui::watch::model::{Told, Which};

fn shown(path: &str, choice: Choice) -> Effect {
    Effect::Resolve(Which::Shown(path.into()), choice)
}

#[test]
fn a_conflict_is_decided_with_one_key_and_shown_as_being_decided() {
    let mut model = model(busy());
    let effects = press(&mut model, &[Key::Char('h')]);
    assert_eq!(effects, [shown("notes.md", Choice::Host)]);
    assert!(screen(&model, 80, 24).contains("notes.md  deciding: host …"));
    model.handle(Input::Told(Told::Failed("the disk is full".into())), NOW);
    let seen = screen(&model, 80, 24);
    assert!(!seen.contains("deciding") && seen.contains("the disk is full"), "{seen}");
}

#[test]
fn what_is_guarded_is_asked_about_and_only_y_is_yes() {
    for (key, choice, question) in [
        ('s', Choice::Sandbox, "Let what the sandbox did to `.envrc` come to the host?"),
        ('h', Choice::Host, "Discard what the sandbox did to `.envrc`?"),
    ] {
        for no in [Key::Enter, Key::Escape, Key::Char('n'), Key::Char('Y'), Key::Char(key)] {
            let mut model = model(busy());
            assert_eq!(press(&mut model, &[Key::Down, Key::Char(key)]), []);
            assert!(screen(&model, 80, 24).contains(question));
            assert_eq!(press(&mut model, &[no]), [], "{no:?}");
        }
        let mut model = model(busy());
        let effects = press(&mut model, &[Key::Down, Key::Char(key), Key::Char('y')]);
        assert_eq!(effects, [shown(".envrc", choice)]);
    }
}

#[test]
fn all_like_this_are_those_of_the_same_kind() {
    let mut model = model(busy());
    let all = |guarded, choice| Effect::Resolve(Which::AllLike { guarded }, choice);
    let effects = press(&mut model, &[Key::Char('A'), Key::Char('b')]);
    assert_eq!(effects, [all(false, Choice::Both)]);
    assert_eq!(press(&mut model, &[Key::Char('A'), Key::Escape]), []);
    let keys = [Key::Down, Key::Char('A'), Key::Char('s')];
    assert_eq!(press(&mut model, &keys), []);
    assert!(screen(&model, 80, 24).contains("1 guarded paths."));
    assert_eq!(press(&mut model, &[Key::Char('y')]), [all(true, Choice::Sandbox)]);
}

#[test]
fn a_question_about_a_session_that_ended_is_not_answered_for_another() {
    let mut model = model(busy());
    assert_eq!(press(&mut model, &[Key::Down, Key::Char('s')]), []);
    model.handle(Input::Sessions(vec![name("/home/me/another")], 0), NOW);
    model.handle(Input::Status(Box::new(busy())), NOW);
    assert_eq!(press(&mut model, &[Key::Char('y')]), []);
}

#[test]
fn a_choice_beside_a_difference_is_about_what_was_compared() {
    let path = skync_agent::path::SyncPath::parse(b"notes.md").expect("a path");
    let seen = Box::new(crate::sync::plan::Conflict {
        path,
        host: None,
        sandbox: None,
        ancestor: None,
        contents: None,
        kind: crate::sync::plan::ConflictKind::BothChanged,
    });
    let mut model = model(busy());
    assert_eq!(press(&mut model, &[Key::Enter]), [Effect::Difference("notes.md".into())]);
    // Nothing was seen yet.
    assert_eq!(press(&mut model, &[Key::Char('h')]), []);
    let told = Told::Difference("notes.md".into(), Some(seen.clone()), "-a\n+b\n".into());
    model.handle(Input::Told(told), NOW);
    assert!(screen(&model, 80, 24).contains("\n-a\n+b\n"));
    let effects = press(&mut model, &[Key::Char('s')]);
    assert_eq!(effects, [Effect::Resolve(Which::Seen(seen), Choice::Sandbox)]);
}

#[test]
fn the_choice_stays_with_its_conflict_when_the_list_changes() {
    let mut model = model(busy());
    press(&mut model, &[Key::Down]);
    let mut status = busy();
    status.conflicts.insert(0, conflict("another", false));
    model.handle(Input::Status(Box::new(status.clone())), NOW);
    assert_eq!(press(&mut model, &[Key::Enter]), [Effect::Difference(".envrc".into())]);
    press(&mut model, &[Key::Escape]);
    status.conflicts.truncate(1);
    model.handle(Input::Status(Box::new(status)), NOW);
    assert_eq!(press(&mut model, &[Key::Enter]), [Effect::Difference("another".into())]);
}

#[test]
fn a_command_is_stopped_after_a_question_and_its_output_is_followed() {
    let mut model = model(busy());
    assert_eq!(press(&mut model, &[Key::Tab, Key::Char('x')]), []);
    let seen = screen(&model, 80, 24);
    assert!(seen.contains("Stop `train` (abababab) and everything that it started?"), "{seen}");
    assert_eq!(press(&mut model, &[Key::Char('y')]), [Effect::Cancel(vec![0xab; 16])]);
    let effects = press(&mut model, &[Key::Char('j'), Key::Enter]);
    assert_eq!(effects, [Effect::Tail(vec![0xcd; 16])]);
    model.handle(Input::Told(Told::Output(vec![0xcd; 16], b"cc -o x\nld".to_vec())), NOW);
    // Of another one, which is not shown any more.
    model.handle(Input::Told(Told::Output(vec![0xab; 16], b"loss".to_vec())), NOW);
    let seen = screen(&model, 80, 24);
    assert!(seen.contains("\ncc -o x\nld\n") && !seen.contains("loss"), "{seen}");
    assert_eq!(press(&mut model, &[Key::Char('q')]), [Effect::EndTail]);
}

#[test]
fn ctrl_c_leaves_whatever_is_shown_and_q_goes_back_first() {
    for keys in [
        &[][..],
        &[Key::Char('?')],
        &[Key::Enter],
        &[Key::Char('A')],
        &[Key::Down, Key::Char('s')],
        &[Key::Tab, Key::Enter],
    ] {
        let mut model = model(busy());
        press(&mut model, keys);
        assert_eq!(press(&mut model, &[Key::Ctrl('c')]), [Effect::Leave], "{keys:?}");
        if !keys.is_empty() {
            let back = press(&mut model, &[Key::Char('q')]);
            assert!(!back.contains(&Effect::Leave), "{keys:?}");
        }
        assert_eq!(press(&mut model, &[Key::Char('q')]), [Effect::Leave], "{keys:?}");
    }
}

#[test]
fn p_does_what_the_state_needs() {
    let with = |state: State| {
        let mut status = busy();
        status.set_state(state);
        model(status)
    };
    assert_eq!(press(&mut with(State::Watching), &[Key::Char('p')]), [Effect::Pause]);
    assert_eq!(press(&mut with(State::Paused), &[Key::Char('p')]), [Effect::Resume(false)]);
    let mut halted = with(State::Halted);
    assert_eq!(press(&mut halted, &[Key::Char('p')]), []);
    assert_eq!(press(&mut halted, &[Key::Char('y')]), [Effect::Resume(true)]);
    assert_eq!(press(&mut Model::new(false), &[Key::Char('p')]), []);
    assert_eq!(press(&mut halted, &[Key::Char('f')]), [Effect::Flush]);
}

#[test]
fn what_is_quiet_is_looked_at_seldom() {
    let mut model = Model::new(false);
    model.handle(Input::Status(Box::new(StatusReply { link_up: true, ..busy() })), NOW);
    assert_eq!(model.tick_ms(), 10_000);
    model.handle(Input::Operations(vec![operation(1, "", &["make"])]), NOW);
    assert_eq!(model.tick_ms(), 1_000);
    model.handle(Input::Operations(Vec::new()), NOW);
    model.handle(Input::Told(Told::Done("done".into())), NOW);
    assert_eq!(model.tick_ms(), 1_000);
    model.handle(Input::Tick, NOW + 60_000);
    assert_eq!(model.tick_ms(), 10_000);
}
