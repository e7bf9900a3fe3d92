//! Limits of the system that a large project meets.

use rustix::process::{Resource, getrlimit};

use super::around::Around;
use super::check::{Finding, Level};
use crate::ui::status_view::count;

/// Fewer files than this are not enough for a link, a mirror and a mount.
const OPEN_FILES_MIN: u64 = 1024;
/// Fewer are soon used up by editors and other tools.
const INSTANCES_MIN: u64 = 64;

/// What watches the project for changes.
pub(super) fn watches(around: &Around) -> Vec<Finding> {
    const WATCHES: &str = "inotify watches";
    let limit = |name: &str| around.number(&format!("/proc/sys/fs/inotify/{name}"));
    let Some(watches_max) = limit("max_user_watches") else {
        return vec![Finding::skipped(WATCHES, "the system does not say its limit")];
    };
    let needed = around.survey().map(|survey| (survey.directories, survey.complete));
    let mut findings = vec![of_project(watches_max, needed)];
    if let Some(instances) = limit("max_user_instances") {
        findings.push(of_instances(instances));
    }
    findings
}

fn raise(name: &str, value: u64) -> String {
    format!(
        "echo fs.inotify.{name}={value} | sudo tee /etc/sysctl.d/60-skync.conf && sudo sysctl --system"
    )
}

fn of_project(limit: u64, needed: Option<(u64, bool)>) -> Finding {
    const WHAT: &str = "inotify watches";
    let Some((needed, complete)) = needed else {
        return Finding::ok(WHAT, format!("{} at most", count(limit)));
    };
    let at_least = if complete { "" } else { "at least " };
    let found = format!("this project needs {at_least}{} of {}", count(needed), count(limit));
    let remedy = || raise("max_user_watches", (needed * 4).max(524_288));
    let why = "a directory that is not watched is seen by the next full scan only";
    if needed > limit {
        let less = "or leave out what is not needed, with `exclude` in the profile";
        Finding::problem(WHAT, found).why(why).remedy(remedy()).remedy(less)
    } else if needed * 4 > limit * 3 || !complete && limit < 100_000 {
        // Editors and other tools of the same user watch, too.
        Finding::warning(WHAT, found).why(why).remedy(remedy())
    } else {
        Finding::ok(WHAT, found)
    }
}

fn of_instances(limit: u64) -> Finding {
    let found = format!("{} at most", count(limit));
    if limit >= INSTANCES_MIN {
        return Finding::ok("inotify instances", found);
    }
    Finding::warning("inotify instances", found)
        .why("each session takes one, and so does each editor")
        .remedy(raise("max_user_instances", 512))
}

/// How many files a process may have open.
pub(super) fn open_files(_: &Around) -> Vec<Finding> {
    vec![of_files(getrlimit(Resource::Nofile).current)]
}

fn of_files(limit: Option<u64>) -> Finding {
    const WHAT: &str = "open files";
    match limit {
        None => Finding::ok(WHAT, "no limit"),
        Some(limit) if limit >= OPEN_FILES_MIN => {
            Finding::ok(WHAT, format!("{} at most", count(limit)))
        }
        Some(limit) => Finding::warning(WHAT, format!("{} at most", count(limit)))
            .why("a link, a mirror and a mount need more at the same time")
            .remedy("ulimit -n 4096    in this shell; for good in /etc/security/limits.conf")
            .level(if limit < 128 { Level::Problem } else { Level::Warning }),
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own files")]
mod tests {
    use super::*;

    #[test]
    fn a_project_that_needs_more_than_there_is_is_a_problem() {
        for (limit, needed, complete, level) in [
            (8192, 100, true, Level::Ok),
            (8192, 7000, true, Level::Warning),
            (8192, 9000, true, Level::Problem),
            (8192, 100, false, Level::Warning),
        ] {
            let found = of_project(limit, Some((needed, complete)));
            assert_eq!(found.level, level, "{needed} of {limit}");
        }
        let found = of_project(10, Some((11, false)));
        assert_eq!(found.found, "this project needs at least 11 of 10");
        assert!(found.remedy[0].contains("max_user_watches=524288"), "{found:?}");
    }

    #[test]
    fn the_limits_of_proc_are_read_and_without_them_nothing_is_said() {
        let base = tempfile::tempdir().expect("a directory");
        let around = Around::below(base.path());
        assert_eq!(watches(&around)[0].level, Level::Skipped);
        let place = base.path().join("proc/sys/fs/inotify");
        std::fs::create_dir_all(&place).expect("made");
        std::fs::write(place.join("max_user_watches"), "65536\n").expect("written");
        std::fs::write(place.join("max_user_instances"), "8\n").expect("written");
        let found = watches(&around);
        assert_eq!(found[0].found, "65,536 at most");
        assert_eq!(found[1].level, Level::Warning);
    }

    #[test]
    fn few_files_are_told() {
        assert_eq!(of_files(None).level, Level::Ok);
        assert_eq!(of_files(Some(1024)).level, Level::Ok);
        assert_eq!(of_files(Some(256)).level, Level::Warning);
        assert_eq!(of_files(Some(20)).level, Level::Problem);
    }
}
