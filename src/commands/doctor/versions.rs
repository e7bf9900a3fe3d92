//! What runs here: skync, its agents, the system.

use std::path::{Path, PathBuf};

use super::around::{Around, shown, version_said};
use super::check::Finding;
use crate::agents;

/// The version of this skync.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The contract between a session and its agent, and between a command and its session.
pub(super) const CONTRACTS: &str = "skync.v1, skync.session.v1";
/// The first kernel with `openat2`, without which no path can be followed safely.
const KERNEL_MIN: (u32, u32) = (5, 6);

/// Which skync this is, and whom it can send.
pub(super) fn own(around: &Around) -> Vec<Finding> {
    let machines = agents::machines();
    let own = format!("{VERSION}, contracts {CONTRACTS}");
    let mut findings = vec![Finding::ok("skync", own), carried(&machines)];
    if let Some(directory) = around.variable(agents::DIRECTORY_VARIABLE) {
        let found = format!("agents are taken from `{directory}` ({})", agents::DIRECTORY_VARIABLE);
        findings[1] = match Path::new(directory).is_dir() {
            true => Finding::ok("agents", found),
            false => Finding::problem("agents", format!("{found}, which is no directory"))
                .why("no sandbox can be made without an agent")
                .remedy(format!("unset {}", agents::DIRECTORY_VARIABLE)),
        };
    }
    findings
}

fn carried(machines: &[&str]) -> Finding {
    if machines.is_empty() {
        return Finding::problem("agents", "this skync carries no agent")
            .why("no sandbox can be made without one")
            .remedy(format!(
                "scripts/build-agents DIR    and set {}=DIR, or install skync again",
                agents::DIRECTORY_VARIABLE
            ));
    }
    Finding::ok("agents", format!("for {}", machines.join(", ")))
}

/// The system, and whether it is one that skync works on.
pub(super) fn system(around: &Around) -> Vec<Finding> {
    let release = around.text("/etc/os-release").unwrap_or_default();
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    let name = name.map_or("unknown", |name| name.trim_matches('"'));
    let uname = rustix::system::uname();
    let machine = uname.machine().to_string_lossy().into_owned();
    let kernel = around
        .text("/proc/sys/kernel/osrelease")
        .unwrap_or_else(|| uname.release().to_string_lossy().into_owned());
    let found = format!("{name}, {machine}");
    vec![Finding::ok("system", found), self::kernel(kernel.trim())]
}

fn kernel(release: &str) -> Finding {
    if !cfg!(target_os = "linux") {
        return Finding::skipped("kernel", format!("{release}, which is not Linux"));
    }
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = numbers.next().zip(numbers.next());
    match version {
        Some(version) if version < KERNEL_MIN => {
            Finding::problem("kernel", format!("{release}, and 5.6 is the oldest that works"))
                .why("older ones cannot open a path without following links out of the project")
                .remedy("use a newer system")
        }
        Some(_) => Finding::ok("kernel", release),
        None => Finding::warning("kernel", format!("`{release}` says no version"))
            .why("5.6 is the oldest that works"),
    }
}

/// Whether the search path has another skync that a script could meet.
pub(super) fn others(around: &Around) -> Vec<Finding> {
    let real = |path: &PathBuf| path.canonicalize().ok();
    let own = around.program.as_ref().and_then(real);
    let mut seen: Vec<PathBuf> = Vec::new();
    let mut others = Vec::new();
    for program in around.programs("skync") {
        let Some(path) = real(&program) else { continue };
        if Some(&path) == own.as_ref() || seen.contains(&path) {
            continue;
        }
        seen.push(path);
        let said = version_of(&program);
        if said.as_deref() != Some(VERSION) {
            let said = said.unwrap_or_else(|| "a version that it does not say".to_owned());
            others.push((program, said));
        }
    }
    if others.is_empty() {
        return vec![Finding::ok("search path", "no other skync")];
    }
    let finding = |(program, said): (PathBuf, String)| {
        let found = format!("{} is {said}, and this one is {VERSION}", shown(&program));
        Finding::warning("search path", found)
            .why("a session and a command of different versions do not understand each other")
            .remedy(format!("rm {}", program.display()))
    };
    others.into_iter().map(finding).collect()
}

/// The version that a skync says it is.
fn version_of(program: &Path) -> Option<String> {
    Some(version_said(program)?.strip_prefix("skync ")?.to_owned())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own files")]
mod tests {
    use super::super::check::Level;
    use super::*;

    #[test]
    fn a_kernel_that_is_too_old_is_a_problem() {
        for (release, level) in [
            ("6.1.0-13-amd64", Level::Ok),
            ("5.6", Level::Ok),
            ("5.5.19", Level::Problem),
            ("3.10.0-1160.el7", Level::Problem),
            ("odd", Level::Warning),
        ] {
            assert_eq!(kernel(release).level, level, "{release}");
        }
    }

    #[test]
    fn a_skync_without_an_agent_is_a_problem() {
        assert_eq!(carried(&[]).level, Level::Problem);
        assert_eq!(carried(&["x86_64", "aarch64"]).found, "for x86_64, aarch64");
    }

    #[test]
    fn another_skync_on_the_path_is_told_with_its_version() {
        use std::os::unix::fs::PermissionsExt;
        let base = tempfile::tempdir().expect("a directory");
        let mut around = Around::below(base.path());
        let script = |version: &str| format!("#!/bin/sh\necho skync {version}\n");
        for (place, version) in [("old", "0.0.1"), ("same", VERSION)] {
            let directory = base.path().join(place);
            std::fs::create_dir(&directory).expect("made");
            std::fs::write(directory.join("skync"), script(version)).expect("written");
            let mode = PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(directory.join("skync"), mode).expect("set");
        }
        let at = |name: &str| base.path().join(name).display().to_string();
        around.variables.insert("PATH".into(), format!("{}:{}", at("same"), at("old")));
        let found = others(&around);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].found.contains("old/skync` is 0.0.1"), "{found:?}");
        around.variables.insert("PATH".into(), at("same"));
        assert_eq!(others(&around)[0].level, Level::Ok);
    }
}
