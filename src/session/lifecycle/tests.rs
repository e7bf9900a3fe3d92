use super::*;

#[test]
fn it_ends_with_its_last_user() {
    let mut life = Lifecycle::default();
    assert!(life.join(User::Command) && life.join(User::Up));
    assert_eq!(life.leave(User::Command), Next::Stay);
    assert_eq!(life.leave(User::Up), Next::End);
    assert!(!life.join(User::Command), "an ending session takes nobody");
}

#[test]
fn unsynced_changes_keep_it_until_they_are_home() {
    let mut life = Lifecycle::default();
    life.join(User::Command);
    life.synchronised(Some("disk full".into()));
    assert_eq!(life.leave(User::Command), Next::Keep("disk full".into()));
    assert_eq!(life.down(false), Err("disk full".into()));
    life.join(User::Command);
    life.synchronised(None);
    assert_eq!(life.leave(User::Command), Next::End);
}

#[test]
fn a_person_may_give_unsynced_changes_up_but_not_stop_a_user() {
    for user in [User::Command, User::Up] {
        let mut life = Lifecycle::default();
        life.join(user);
        life.synchronised(Some("conflict".into()));
        assert!(life.down(true).is_err());
        life.leave(user);
        assert_eq!(life.down(true), Ok(()));
    }
}

#[test]
fn a_signal_ends_it_with_its_last_user_and_takes_no_other() {
    let mut life = Lifecycle::default();
    life.join(User::Command);
    assert_eq!(life.end(), Next::Stay);
    assert!(!life.join(User::Up));
    assert_eq!(life.leave(User::Command), Next::End);
    assert_eq!(life.end(), Next::Stay, "who left last sees to it");
    assert_eq!(Lifecycle::default().end(), Next::End);
}

#[test]
fn a_signal_does_not_give_unsynced_changes_up() {
    let mut life = Lifecycle::default();
    life.join(User::Command);
    life.end();
    life.synchronised(Some("disk full".into()));
    assert_eq!(life.leave(User::Command), Next::Keep("disk full".into()));
    assert_eq!(life.end(), Next::Keep("disk full".into()));
    assert!(life.join(User::Command), "the next command can bring them home");
}

#[test]
fn a_sandbox_that_is_gone_keeps_nothing() {
    let mut life = Lifecycle::default();
    life.join(User::Command);
    life.synchronised(Some("conflict".into()));
    life.sandbox_gone();
    assert_eq!(life.leave(User::Command), Next::End);
}

/// What `up -d` does once its first synchronisation is done.
fn held() -> Lifecycle {
    let mut life = Lifecycle::default();
    life.join(User::Up);
    life.hold();
    life.begin_mirror();
    assert_eq!(life.leave(User::Up), Next::Stay);
    life
}

#[test]
fn a_hold_outlives_its_users_until_down() {
    let mut life = held();
    assert_eq!(life.mirror(), Mirror::On);
    life.join(User::Command);
    assert!(life.down(false).is_err());
    assert_eq!(life.leave(User::Command), Next::Stay);
    assert_eq!(life.down(false), Ok(()));
    assert!(!life.join(User::Up));
}

#[test]
fn a_hold_that_is_added_to_a_foreground_up_stays_when_that_leaves() {
    let mut life = Lifecycle::default();
    life.join(User::Up);
    life.begin_mirror();
    life.join(User::Up);
    life.hold();
    assert_eq!(life.leave(User::Up), Next::Stay);
    assert_eq!(life.leave(User::Up), Next::Stay, "the hold keeps it");
    assert_eq!(life.mirror(), Mirror::On);
}

#[test]
fn the_mirror_ends_with_the_last_up_although_a_command_goes_on() {
    let mut life = Lifecycle::default();
    life.join(User::Up);
    assert_eq!(life.mirror(), Mirror::Off, "not before the first synchronisation");
    life.begin_mirror();
    life.join(User::Command);
    assert_eq!(life.leave(User::Up), Next::Stay);
    assert_eq!(life.mirror(), Mirror::Off);
    assert_eq!(life.leave(User::Command), Next::End);
}

#[test]
fn a_signal_ends_a_hold() {
    assert_eq!(held().end(), Next::End);
    let mut used = held();
    used.join(User::Command);
    assert_eq!(used.end(), Next::Stay);
    assert_eq!(used.leave(User::Command), Next::End);
}

#[test]
fn a_pause_keeps_the_sandbox_and_ends_with_the_mirror() {
    let mut life = Lifecycle::default();
    assert!(!life.pause(), "nothing is mirrored");
    life.join(User::Up);
    life.begin_mirror();
    assert!(life.pause() && life.pause());
    life.join(User::Command);
    assert_eq!(life.leave(User::Up), Next::Stay);
    assert_eq!(life.mirror(), Mirror::Off);
    assert!(matches!(life.leave(User::Command), Next::Keep(_)), "nothing was brought home");
    let mut life = held();
    life.pause();
    assert!(life.resume() && !life.resume());
    assert_eq!(life.mirror(), Mirror::On);
}

/// What `skync mount` leaves.
fn mounted() -> Lifecycle {
    let mut life = Lifecycle::default();
    life.join(User::Command);
    life.mounted(false);
    assert_eq!(life.leave(User::Command), Next::Stay);
    life
}

#[test]
fn a_mount_outlives_its_command_and_mirrors_nothing() {
    let mut life = mounted();
    assert!(life.stays() && !life.is_unused() && !life.is_held());
    assert_eq!((life.users(), life.mounts(), life.mirror()), (0, 1, Mirror::Off));
    life.join(User::Command);
    assert!(!life.is_last(), "what was mounted outlives this command");
    assert_eq!(life.leave(User::Command), Next::Stay);
}

#[test]
fn it_ends_with_who_takes_the_last_mount_away() {
    let mut life = mounted();
    life.mounted(false);
    for last in [false, true] {
        life.join(User::Command);
        life.unmounted(false, None);
        assert_eq!(life.is_last(), last);
        assert_eq!(life.leave(User::Command) == Next::End, last);
    }
}

#[test]
fn what_was_written_there_and_is_not_home_keeps_it() {
    let mut life = mounted();
    life.join(User::Command);
    life.unmounted(true, None);
    life.synchronised(Some("conflict".into()));
    assert_eq!(life.leave(User::Command), Next::Keep("conflict".into()));
}

#[test]
fn down_takes_mounts_away_first_or_gives_them_up() {
    let mut life = mounted();
    assert_eq!(life.down(false), Err("the sandbox is mounted".to_owned()));
    let mut given_up = life.clone();
    assert_eq!(given_up.down(true), Ok(()));
    life.unmounted(false, None);
    assert_eq!(life.down(false), Ok(()));
}

#[test]
fn a_signal_does_not_wait_for_a_mount() {
    assert_eq!(mounted().end(), Next::End);
    let mut life = mounted();
    life.join(User::Command);
    assert_eq!(life.end(), Next::Stay);
    assert_eq!(life.leave(User::Command), Next::End);
}

#[test]
fn more_mounts_going_than_came_is_none() {
    let mut life = mounted();
    life.unmounted(false, None);
    life.unmounted(false, None);
    assert!(life.is_unused());
}

/// What `skync mount --rw` leaves.
fn mounted_to_write() -> Lifecycle {
    let mut life = Lifecycle::default();
    life.join(User::Command);
    life.mounted(true);
    assert_eq!(life.leave(User::Command), Next::Stay);
    life
}

#[test]
fn a_mount_that_can_be_written_to_has_the_mirror_run_until_it_goes() {
    let mut life = mounted_to_write();
    assert_eq!(life.mirror(), Mirror::On);
    life.mounted(false);
    life.join(User::Up);
    life.leave(User::Up);
    assert_eq!(life.mirror(), Mirror::On);
    life.unmounted(true, None);
    assert_eq!((life.mirror(), life.mounts()), (Mirror::Off, 1));
}

#[test]
fn a_mount_ends_no_mirror_that_others_want() {
    let mut life = held();
    life.mounted(true);
    life.pause();
    life.unmounted(true, None);
    assert_eq!(life.mirror(), Mirror::Paused);
}

#[test]
fn what_may_have_been_written_there_keeps_it_until_both_sides_are_the_same() {
    let mut life = mounted_to_write();
    life.join(User::Command);
    life.unmounted(true, Some("not home".into()));
    let mut lost = life.clone();
    assert_eq!(lost.leave(User::Command), Next::Keep("not home".into()));
    assert_eq!(lost.down(false), Err("not home".into()));
    assert_eq!(lost.down(true), Ok(()));
    life.synchronised(None);
    assert_eq!(life.leave(User::Command), Next::End);
}

#[test]
fn why_it_is_kept_already_is_not_forgotten_for_a_mount() {
    let mut life = mounted_to_write();
    life.synchronised(Some("conflict".into()));
    life.unmounted(true, Some("not home".into()));
    assert_eq!(life.kept(), Some("conflict"));
}
