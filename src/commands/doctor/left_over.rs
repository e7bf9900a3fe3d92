//! What crashes have left: mounts, sessions, sockets, locks. `--fix` takes it away as `gc` does.

use std::path::{Path, PathBuf};

use skync_mount::system::{self, Health, MountPoint};

use super::around::{Around, shown};
use super::check::{Finding, Level};
use super::fix::Fix;
use crate::session::journal::{Entry, Journal};

/// Findings of one kind that are told one by one; `gc` takes all.
const TOLD_MAX: usize = 10;

/// Mounts of ours that nobody answers for.
pub(super) fn mounts(_: &Around) -> Vec<Finding> {
    let mounts = system::mounts().unwrap_or_default();
    let each = mounts.into_iter().map(|mount| {
        let health = system::health(&mount.at);
        (mount, health)
    });
    of_mounts(each.collect())
}

fn of_mounts(mounts: Vec<(MountPoint, Health)>) -> Vec<Finding> {
    let alive = mounts.iter().filter(|(_, health)| *health == Health::Alive).count();
    let bad = |(mount, health): (MountPoint, Health)| {
        let at = mount.at;
        match health {
            Health::Alive => None,
            Health::Dead => Some(
                Finding::warning("mounts", format!("nobody serves {} any more", shown(&at)))
                    .why("whoever looks there gets an error")
                    .remedy("skync gc")
                    .fix(Fix::Bury(at)),
            ),
            Health::Hangs => Some(
                Finding::warning("mounts", format!("{} does not answer", shown(&at)))
                    .why("whoever looks there waits: its session is stuck, or its link is lost")
                    .remedy(format!("skync unmount --force {}", at.display())),
            ),
        }
    };
    let found: Vec<Finding> = mounts.into_iter().filter_map(bad).take(TOLD_MAX).collect();
    if !found.is_empty() {
        return found;
    }
    let words = match alive {
        0 => "none".to_owned(),
        1 => "1, and it answers".to_owned(),
        count => format!("{count}, and all answer"),
    };
    vec![Finding::ok("mounts", words)]
}

/// Sessions that have died and left a sandbox or files.
pub(super) fn sessions(around: &Around) -> Vec<Finding> {
    const WHAT: &str = "sessions";
    if !around.places.state.join("journal").is_dir() {
        return vec![Finding::ok(WHAT, "none")];
    }
    let listed = Journal::open(&around.places).ok().and_then(|journal| {
        let (entries, unreadable) = journal.list().ok()?;
        Some((journal, entries, unreadable))
    });
    let Some((journal, entries, unreadable)) = listed else {
        let finding = Finding::problem(WHAT, "the journal cannot be read")
            .why("nothing can be cleaned up without it")
            .remedy(format!("ls -la {}/journal", around.places.state.display()));
        return vec![finding];
    };
    let is_dead = |entry: &&Entry| journal.claim(&entry.id).is_ok_and(|claim| claim.is_some());
    let count = entries.len();
    let mut findings: Vec<Finding> =
        entries.iter().filter(is_dead).take(TOLD_MAX).map(dead).collect();
    findings.extend(unreadable.iter().take(TOLD_MAX).map(|id| {
        Finding::warning(WHAT, format!("the journal entry {id} cannot be read"))
            .why("what it announces is kept: it may be of a newer skync")
            .remedy(format!("cat {}/journal/{id}.json", around.places.state.display()))
    }));
    if findings.is_empty() {
        let words = if count == 0 { "none".to_owned() } else { format!("{count}, all alive") };
        findings.push(Finding::ok(WHAT, words));
    }
    findings
}

fn dead(entry: &Entry) -> Finding {
    let what = match &entry.sandbox {
        Some(sandbox) => format!("its sandbox `{}` may still be there", sandbox.name),
        None => "only files of it are left".to_owned(),
    };
    let found = format!(
        "the session {} of {} ({}) has died: {what}",
        entry.id,
        shown(&entry.root),
        entry.profile.name
    );
    Finding::warning("sessions", found)
        .why("a sandbox that nobody uses takes room, and money where it is paid for")
        .remedy("skync gc")
        .fix(Fix::Release(entry.id.clone()))
}

/// Sockets that nobody listens at, and locks of sessions that are gone.
pub(super) fn files(around: &Around) -> Vec<Finding> {
    let sockets = named(&around.places.runtime, "sock");
    let dead = sockets.into_iter().filter(|path| {
        let error = std::os::unix::net::UnixStream::connect(path).err();
        error.is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
    });
    let mut findings: Vec<Finding> = dead
        .take(TOLD_MAX)
        .map(|path| {
            Finding::warning("sockets", format!("nobody listens at {}", shown(&path)))
                .why("it is of a session that has died")
                .remedy(format!("rm {}", path.display()))
                .fix(Fix::RemoveSocket(path))
        })
        .collect();
    let locks = named(&around.places.state.join("journal"), "lock");
    let without = locks.into_iter().filter(|lock| !lock.with_extension("json").exists());
    findings.extend(without.take(TOLD_MAX).map(|lock| {
        Finding::warning("locks", format!("{} is of no session", shown(&lock)))
            .why("it keeps nobody out, and is of no use")
            .level(Level::Ok)
            .fix(Fix::RemoveLock(lock))
    }));
    if findings.is_empty() {
        findings.push(Finding::ok("sockets and locks", "none is left over"));
    }
    findings
}

fn named(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    let mut found: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|found| found == extension)).collect();
    found.sort();
    found
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own files")]
mod tests {
    use super::*;
    use crate::config::Profile;

    #[test]
    fn dead_and_stuck_mounts_are_told_with_what_helps() {
        let mount = |at: &str| MountPoint { at: at.into(), name: "skync:dev".into() };
        let all = vec![
            (mount("/a"), Health::Alive),
            (mount("/b"), Health::Dead),
            (mount("/c"), Health::Hangs),
        ];
        let found = of_mounts(all);
        assert_eq!(found[0].fix, Some(Fix::Bury("/b".into())));
        assert_eq!(found[1].remedy, ["skync unmount --force /c"]);
        assert_eq!(of_mounts(vec![(mount("/a"), Health::Alive)])[0].found, "1, and it answers");
    }

    #[test]
    fn a_session_that_has_died_is_told_and_one_that_lives_is_not() {
        let base = tempfile::tempdir().expect("a directory");
        let around = Around::below(base.path());
        assert_eq!(sessions(&around)[0].found, "none");
        assert!(!base.path().join("state").exists(), "a look makes nothing");
        let journal = Journal::open(&around.places).expect("a journal");
        let profile = Profile::built_in("directory").expect("built in");
        let id = "0123456789abcdef";
        let entry =
            Entry::new(id.into(), Path::new("/p"), &profile, Path::new("/r"), Path::new("/s"));
        journal.write(&entry).expect("written");
        let found = sessions(&around);
        assert_eq!(
            (found[0].level, found[0].fix.clone()),
            (Level::Warning, Some(Fix::Release(id.into())))
        );
        let _lives = journal.claim(id).expect("a lock").expect("free");
        assert_eq!(sessions(&around)[0].found, "1, all alive");
    }

    #[test]
    fn sockets_without_a_listener_and_locks_without_a_session_are_left_over() {
        let base = tempfile::tempdir().expect("a directory");
        let around = Around::below(base.path());
        assert_eq!(files(&around)[0].level, Level::Ok);
        std::fs::create_dir_all(base.path().join("run")).expect("made");
        std::fs::create_dir_all(base.path().join("state/journal")).expect("made");
        let live = std::os::unix::net::UnixListener::bind(base.path().join("run/live.sock"));
        let dead = base.path().join("run/dead.sock");
        drop(std::os::unix::net::UnixListener::bind(&dead).expect("bound"));
        let lock = base.path().join("state/journal/x.lock");
        std::fs::write(&lock, "").expect("written");
        let found: Vec<_> = files(&around).into_iter().map(|finding| finding.fix).collect();
        assert_eq!(found, [Some(Fix::RemoveSocket(dead)), Some(Fix::RemoveLock(lock))]);
        drop(live);
    }
}
