//! The project: what is mirrored, what is not, and where its files are.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::around::{Around, shown, version_said};
use super::check::Finding;
use crate::commands::survey::Survey;
use crate::ui::status_view::{count, size};

/// A project that is larger takes a while to be read, and is a mistake more often than not.
const FILES_MANY: u64 = 200_000;
const BYTES_MANY: u64 = 10 << 30;
/// Excluded names that are told.
const TOLD_MAX: usize = 6;

/// Its directory, its size, and what is left out.
pub(super) fn tree(around: &Around) -> Vec<Finding> {
    const WHAT: &str = "project";
    let project = match &around.project {
        Ok(project) => project,
        Err(why) => return vec![Finding::skipped(WHAT, why.clone())],
    };
    let has_git = project.root.join(".git").exists();
    let what = if has_git { "a git repository" } else { "no git repository" };
    let mut findings = vec![Finding::ok(WHAT, format!("{}, {what}", shown(&project.root)))];
    if let Some(warning) = project.warning() {
        findings.push(
            Finding::warning(WHAT, warning)
                .why("a work tree or submodule keeps its history in another directory")
                .remedy("run skync in the main repository, or clone it"),
        );
    }
    if let Some(survey) = around.survey() {
        findings.extend(counted(survey));
    }
    findings
}

fn counted(survey: &Survey) -> Vec<Finding> {
    let more = if survey.complete { "" } else { "more than " };
    let found = format!(
        "{more}{} files in {} directories, {}",
        count(survey.files),
        count(survey.directories),
        size(survey.bytes)
    );
    let is_large = survey.files > FILES_MANY || survey.bytes > BYTES_MANY || !survey.complete;
    let first = if is_large {
        let largest = survey.sizes.iter().max_by_key(|(_, (_, bytes))| *bytes);
        let largest =
            largest.map_or("data/".to_owned(), |(path, _)| format!("{}/", path.display()));
        Finding::warning("size", found)
            .why("all of it is read once and sent to each new sandbox")
            .remedy(format!("echo '{largest}' >> .skyncignore    if the sandbox does not need it"))
    } else {
        Finding::ok("size", found)
    };
    let mut findings = vec![first];
    let names = survey.excluded.iter().take(TOLD_MAX).map(|path| shown(path));
    let names: Vec<String> = names.collect();
    findings.push(match survey.excluded_count {
        0 => Finding::ok("left out", "nothing"),
        all => {
            let rest = all.saturating_sub(names.len() as u64);
            let rest = if rest > 0 { format!(" and {} more", count(rest)) } else { String::new() };
            Finding::ok("left out", format!("{}{rest}", names.join(", ")))
        }
    });
    if let Some(first) = survey.unreadable.first() {
        let found = format!(
            "{} directories cannot be read, such as {}",
            survey.unreadable.len(),
            shown(first)
        );
        findings.push(
            Finding::warning("rights", found)
                .why("what is in them is not in the sandbox")
                .remedy(format!("chmod u+rx {}    or leave it out", first.display())),
        );
    }
    findings
}

/// What the file system is like.
pub(super) fn file_system(around: &Around) -> Vec<Finding> {
    const WHAT: &str = "file system";
    let Ok(project) = &around.project else {
        return vec![Finding::skipped(WHAT, "there is no project here")];
    };
    let kind = rustix::fs::statfs(&project.root).ok();
    let kind = kind.and_then(|found| network_name(u64::try_from(found.f_type).ok()?));
    let mut findings = Vec::new();
    if let Some(name) = kind {
        findings.push(
            Finding::warning(WHAT, format!("{name}, which is served by somebody else"))
                .why("changes that others make there are not told: only the next full scan, every 10 min, sees them")
                .remedy("skync flush    takes over what was changed; a project on a local disk needs none"),
        );
    }
    if ignores_case(&project.root) {
        findings.push(
            Finding::warning(WHAT, "`A` and `a` are the same name here")
                .why("of two such files in the sandbox only one can come home; the other is a problem that is told")
                .remedy("skync conflicts    names them"),
        );
    }
    if findings.is_empty() {
        findings.push(Finding::ok(WHAT, "tells of changes, and tells `A` from `a`"));
    }
    findings
}

/// The name of a file system whose changes the kernel does not hear of.
fn network_name(number: u64) -> Option<&'static str> {
    Some(match number & 0xffff_ffff {
        0x6969 => "NFS",
        0xff53_4d42 | 0xfe53_4d42 | 0x517b => "SMB",
        0x0102_1997 => "9p (a virtual machine's share)",
        0x786f_4256 => "a share of VirtualBox",
        0x00c3_6400 => "Ceph",
        0x5346_414f => "AFS",
        0x6573_5546 => "a FUSE mount",
        _ => return None,
    })
}

/// True if a name that is there is found in other letters, too. Nothing is written to see that.
fn ignores_case(root: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(root) else { return false };
    let swap = |byte: u8| {
        if byte.is_ascii_lowercase() {
            byte.to_ascii_uppercase()
        } else {
            byte.to_ascii_lowercase()
        }
    };
    entries
        .flatten()
        .find_map(|entry| {
            let name = entry.file_name();
            let other: Vec<u8> = name.as_bytes().iter().copied().map(swap).collect();
            if other == name.as_bytes() {
                return None;
            }
            let own = std::fs::symlink_metadata(entry.path()).ok()?;
            let other = std::fs::symlink_metadata(root.join(OsStr::from_bytes(&other))).ok();
            Some(other.is_some_and(|other| (own.dev(), own.ino()) == (other.dev(), other.ino())))
        })
        .unwrap_or(false)
}

/// Git here, which knows what the sandbox is told of it.
pub(super) fn git(around: &Around) -> Vec<Finding> {
    const WHAT: &str = "git";
    let Some(program) = around.programs("git").into_iter().next() else {
        return vec![Finding::skipped(WHAT, "there is none here; the sandbox may have its own")];
    };
    let said = version_said(&program).unwrap_or_else(|| "it says no version".to_owned());
    let found = format!("{said}; `safe.directory` need not be set, skync does it in the sandbox");
    let mut findings = vec![Finding::ok(WHAT, found)];
    let owner = around.project.as_ref().ok();
    let owner = owner.and_then(|project| std::fs::metadata(project.root.join(".git")).ok());
    if let Some(owner) = owner.filter(|owner| owner.uid() != around.uid) {
        let found = format!("the repository belongs to user {}, not to you", owner.uid());
        findings.push(
            Finding::warning(WHAT, found)
                .why("git refuses it here as of dubious ownership; in the sandbox it works")
                .remedy("git config --global --add safe.directory \"$PWD\""),
        );
    }
    findings
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own files")]
mod tests {
    use super::super::check::Level;
    use super::*;
    use crate::project::Project;

    fn around(base: &Path) -> Around {
        let root = base.join("p");
        std::fs::create_dir_all(root.join("sub")).expect("made");
        let project = Project { root, inside: "".into() };
        Around { project: Ok(project), ..Around::below(base) }
    }

    #[test]
    fn a_project_is_counted_and_what_is_left_out_is_named() {
        let base = tempfile::tempdir().expect("a directory");
        let around = around(base.path());
        std::fs::write(base.path().join("p/.env"), "X=1").expect("written");
        std::fs::write(base.path().join("p/.git"), "gitdir: elsewhere").expect("written");
        let found = tree(&around);
        let whats: Vec<_> = found.iter().map(|one| (one.what.as_str(), one.level)).collect();
        assert_eq!(
            whats,
            [
                ("project", Level::Ok),
                ("project", Level::Warning),
                ("size", Level::Ok),
                ("left out", Level::Ok)
            ]
        );
        assert_eq!(found[3].found, "`.env`");
    }

    #[test]
    fn a_large_project_is_told_what_it_could_leave_out() {
        let mut survey = Survey { bytes: 20 << 30, complete: true, ..Survey::default() };
        survey.sizes.insert("data".into(), (1, 19 << 30));
        survey.sizes.insert("src".into(), (9, 1 << 20));
        let found = counted(&survey);
        assert_eq!(found[0].level, Level::Warning);
        assert!(found[0].remedy[0].starts_with("echo 'data/' >> .skyncignore"), "{found:?}");
    }

    #[test]
    fn file_systems_of_others_are_known_by_their_numbers() {
        assert_eq!(network_name(0x6969), Some("NFS"));
        assert_eq!(network_name(0xffff_ffff_ff53_4d42), Some("SMB"));
        assert_eq!(network_name(0xef53), None);
    }

    #[test]
    fn letters_count_where_they_do() {
        let base = tempfile::tempdir().expect("a directory");
        std::fs::write(base.path().join("a"), "").expect("written");
        assert!(!ignores_case(base.path()));
        std::fs::hard_link(base.path().join("a"), base.path().join("A")).expect("linked");
        // As it looks where they do not.
        assert!(ignores_case(base.path()));
    }

    #[test]
    fn without_a_project_nothing_is_said() {
        let base = tempfile::tempdir().expect("a directory");
        let around = Around::below(base.path());
        assert_eq!(tree(&around)[0].level, Level::Skipped);
        assert_eq!(file_system(&around)[0].level, Level::Skipped);
    }

    #[test]
    fn a_repository_of_another_user_is_told() {
        let base = tempfile::tempdir().expect("a directory");
        let mut around = Around { uid: 4711, ..around(base.path()) };
        assert_eq!(git(&around)[0].level, Level::Skipped);
        std::fs::create_dir(base.path().join("p/.git")).expect("made");
        around.variables.insert("PATH".into(), "/usr/bin:/bin".into());
        let found = git(&around);
        assert_eq!(found[1].level, Level::Warning, "{found:?}");
    }
}
