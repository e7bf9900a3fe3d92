use skync_agent::path::SyncPath;

use super::*;
use crate::session::lifecycle::User;
use crate::sync::report;

const SOON: Duration = Duration::from_millis(4);

fn mirrored() -> (View, Lifecycle) {
    let mut life = Lifecycle::default();
    life.join(User::Up);
    life.begin_mirror();
    let mut view = View::default();
    view.lived(&life);
    (view, life)
}

fn moved(side: Side, path: &str, bytes: u64) -> report::Moved {
    let path = SyncPath::parse(path.as_bytes()).expect("a path");
    report::Moved { side, path, bytes, removed: false }
}

#[test]
fn what_is_done_shows_as_a_state_with_its_reason() {
    let (mut view, mut life) = mirrored();
    assert_eq!(view.reply.state(), State::Starting);
    view.synchronised(&Report::default(), &Overview::default(), SOON, 1);
    assert_eq!(view.reply.state(), State::Watching);
    life.pause();
    view.lived(&life);
    assert_eq!(view.reply.state(), State::Paused);
    view.act(Activity::Halted("the root is gone".into()));
    assert_eq!((view.reply.state(), view.reply.why.as_str()), (State::Halted, "the root is gone"));
    view.act(Activity::Settled);
    life.leave(User::Up);
    view.lived(&life);
    assert_eq!((view.reply.state(), view.reply.why.as_str()), (State::Idle, ""));
}

#[test]
fn a_full_disk_waits_and_says_where() {
    let (mut view, _) = mirrored();
    let report = Report { no_space: [false, true], open: [0, 2], ..Report::default() };
    view.synchronised(&report, &Overview::default(), SOON, 1);
    let why = "disk full on the sandbox: no room for 2 changes";
    assert_eq!((view.reply.state(), view.reply.why.as_str()), (State::Waiting, why));
}

#[test]
fn what_moved_is_counted_by_direction_and_remembered_up_to_a_limit() {
    let (mut view, _) = mirrored();
    assert!(view.synchronised(&Report::default(), &Overview::default(), SOON, 1).is_none());
    for number in 0..60 {
        let path = format!("f{number}");
        let report = Report {
            sent: (1, 10),
            moved: vec![moved(Side::Sandbox, &path, 10), moved(Side::Host, "link", 0)],
            ..Report::default()
        };
        view.synchronised(&report, &Overview::default(), SOON, 1).expect("a batch");
    }
    let (to_sandbox, to_host) = (view.reply.to_sandbox.unwrap(), view.reply.to_host.unwrap());
    assert_eq!((to_sandbox.files, to_sandbox.bytes, to_sandbox.paths), (60, 600, 60));
    assert_eq!((to_host.files, to_host.bytes, to_host.paths), (0, 0, 60));
    assert_eq!(view.reply.recent.len(), RECENT_MAX);
    assert_eq!(view.reply.recent[RECENT_MAX - 2].path, "f59");
}

#[test]
fn the_longest_lag_is_forgotten_in_time() {
    let (mut view, _) = mirrored();
    let report = Report { moved: vec![moved(Side::Host, "a", 1)], ..Report::default() };
    for took_ms in std::iter::once(900).chain(std::iter::repeat_n(2, LAGS_MAX)) {
        let took = Duration::from_millis(took_ms);
        view.synchronised(&report, &Overview::default(), took, 1);
        assert_eq!(view.reply.lag_us, took_ms * 1000);
    }
    assert_eq!(view.reply.lag_max_us, 2000);
}

#[test]
fn a_link_is_up_or_down_since_it_changed() {
    let (mut view, _) = mirrored();
    view.linked(Some("box"), true, 5);
    view.linked(Some("box"), true, 9);
    assert_eq!((view.reply.link_up, view.reply.link_since_ms), (true, 5));
    view.linked(None, false, 12);
    let reply = &view.reply;
    assert_eq!((reply.sandbox.as_str(), reply.link_up, reply.link_since_ms), ("", false, 12));
}
