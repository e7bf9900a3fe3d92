//! An ordinary user's mount, in a namespace of the test's own: nothing is changed for the machine.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::world;
use crate::support::{Outcome, World};

/// The user who has nothing.
const NOBODY: &str = "65534";

/// Runs a script as a user to whom the kernel's device is open, as it is on most machines; in it
/// `skync` is ours. Says why not, and returns nothing, if that cannot be had here.
fn as_nobody(world: &World, script: &str) -> Option<Outcome> {
    let has = |program: &str| Path::new("/usr/bin").join(program).exists();
    if !rustix::process::geteuid().is_root()
        || !["setpriv", "unshare", "fusermount3"].into_iter().all(has)
    {
        eprintln!("skipped: needs root, setpriv, unshare and fusermount3");
        return None;
    }
    let base = world.base();
    let open = |path: &Path| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).expect("set");
        rustix::fs::chown(path, Some(rustix::fs::Uid::from_raw(65534)), None).expect("given");
    };
    for name in ["", "c", "s", "home", "project"] {
        open(&base.join(name));
    }
    rustix::fs::chown(base.join("r"), Some(rustix::fs::Uid::from_raw(65534)), None).expect("given");
    let skync = base.join("skync");
    std::fs::copy(env!("CARGO_BIN_EXE_skync"), &skync).expect("copied");
    let device = "mkdir -p dev && mknod dev/fuse c 10 229 && chmod 666 dev/fuse && \
                  mount --bind dev/fuse /dev/fuse";
    let user = format!("setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups sh -c \"$1\"");
    let whole = format!("cd '{}' && {device} && cd project && {user}", base.display());
    let script = format!("skync() {{ '{}' \"$@\"; }}; {script}", skync.display());
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "private", "sh", "-ec", &whole, "sh", &script]);
    for (name, directory) in [
        ("XDG_CONFIG_HOME", "c"),
        ("XDG_STATE_HOME", "s"),
        ("XDG_RUNTIME_DIR", "r"),
        ("HOME", "home"),
    ] {
        command.env(name, base.join(directory));
    }
    Some(Outcome::of(command.output().expect("unshare runs")))
}

#[test]
fn a_user_mounts_reads_writes_and_unmounts() {
    let Some(world) = world() else { return };
    world.write("a", "1");
    let script = "set -e; echo x > b; at=$(skync mount --rw); cat $at/a; echo; \
                  echo written > $at/c; stat -c %u $at/a; skync unmount; cat c; \
                  test -z \"$(ls -A ~)\" && echo clean";
    let Some(outcome) = as_nobody(&world, script) else { return };
    let outcome = outcome.expect_code(0);
    assert_eq!(outcome.stdout, format!("1\n{NOBODY}\nwritten\nclean\n"), "{}", outcome.stderr);
}

#[test]
fn who_uses_a_users_mount_is_named() {
    let Some(world) = world() else { return };
    world.write("a", "1");
    let script = "p=$PWD; at=$(skync mount -q); cd $at; (cd $p && skync unmount); echo $?; \
                  cd $p; skync unmount; echo $?";
    let Some(outcome) = as_nobody(&world, script) else { return };
    let outcome = outcome.expect_code(0);
    assert_eq!(outcome.stdout, "6\n0\n", "{}", outcome.stderr);
    assert!(outcome.stderr.contains("is in use: sh ("), "{}", outcome.stderr);
}

#[test]
fn a_users_mount_that_died_is_replaced_and_that_is_said() {
    let Some(world) = world() else { return };
    world.write("a", "1");
    let script = "at=$(skync mount -q); pid=$(skync --json status | grep -o '\"pid\":[0-9]*' | tr -dc 0-9); \
                  kill -9 $(cut -d' ' -f4 /proc/$pid/stat) $pid; \
                  until ! ls $at > /dev/null 2>&1; do :; done; \
                  skync mount -q; cat $at/a; skync unmount -q; echo $?";
    let Some(outcome) = as_nobody(&world, script) else { return };
    let outcome = outcome.expect_code(0);
    assert!(outcome.stdout.ends_with("\n10\n"), "{}\n{}", outcome.stdout, outcome.stderr);
}

#[test]
fn other_users_need_the_administrators_word() {
    let Some(world) = world() else { return };
    world.write("a", "1");
    let Some(outcome) = as_nobody(&world, "skync mount --allow-other; echo $?") else { return };
    let allowed = std::fs::read_to_string("/etc/fuse.conf").unwrap_or_default();
    if allowed.lines().any(|line| line.trim() == "user_allow_other") {
        return;
    }
    let outcome = outcome.expect_code(0);
    assert_eq!(outcome.stdout, "1\n");
    assert!(outcome.stderr.contains("needs `user_allow_other`"), "{}", outcome.stderr);
}

#[test]
fn without_the_device_it_is_said_what_is_missing() {
    let Some(world) = world() else { return };
    world.write("a", "1");
    let script = "PATH=/nosuch skync mount; echo $?";
    let Some(outcome) = as_nobody(&world, script) else { return };
    let outcome = outcome.expect_code(0);
    assert_eq!(outcome.stdout, "1\n");
    assert!(outcome.stderr.contains("there is no `fusermount3`"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("`fuse3`"), "{}", outcome.stderr);
}
