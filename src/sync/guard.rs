//! What the sandbox may not change on the host without a yes (invariant I14). Pure.
//!
//! A command in the sandbox is not trusted with the host. What the host would *run* because it came
//! home is therefore held back: the hooks and the configuration of git repositories, `.envrc`,
//! the tasks of VS Code, `.husky`. So is a symbolic link that leads out of the project, through which
//! a tool on the host would read or write what is not the project's.
//!
//! [`take_out_guarded`] takes such changes out of a plan and puts each among its conflicts, at the
//! highest path that is guarded as a whole; everything around it goes on. `skync conflicts` lists
//! them as guarded; `skync resolve PATH --sandbox` is the yes, `--host` brings the host's state back
//! to the sandbox. A yes is for what was seen: a hook that changes again is held again.
//!
//! What `git init` in the sandbox looks like: the repository comes home and git works in it, without
//! `.git/config` and `.git/hooks`, which are held as two paths. Git takes defaults for the first
//! and does not need the samples in the second; one `skync resolve --all --sandbox` brings both.
//!
//! A symbolic link may come home if its target is of the form `../../name/name` and so many `..` do
//! not leave the project; or absolute, at or below the project's root on the host, with no `..` in
//! it. A `..` behind a name is refused, for the name may be a link itself: only the two forms cannot
//! be combined, by several links, into a way out. Whether the target exists does not matter.
//!
//! Names are compared without regard to case, and without the characters that macOS ignores in
//! names: there `.GIT/config` is `.git/config`.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use skync_agent::entry::{Directory, Entry};
use skync_agent::path::{Name, SyncPath};
use skync_agent::rules::GIT_RULE_FILE;

use super::decide::Decisions;
use super::plan::{Change, Plan};

mod sieve;

#[cfg(test)]
mod tests;

/// What is guarded unless the profile says otherwise, gitignore syntax, matched at every level.
///
/// A `.git` that is not a directory points to the directory that git takes for it, and `commondir`
/// in it to another one: with either, any file could become a repository's configuration.
///
/// What says what is left out is guarded too: a sandbox that took a line out of it would be sent, by the
/// next session, what was kept from it. So are `.gitignore` files where they say it; where they do not,
/// tools in the sandbox write them freely.
pub const DEFAULT_PATTERNS: [&str; 19] = [
    ".skyncignore",
    "/skync.toml",
    "/skync.local.toml",
    ".git",
    "!.git/",
    "**/.git/hooks",
    "**/.git/config",
    "**/.git/config.worktree",
    "**/.git/commondir",
    "**/.git/modules/**/hooks",
    "**/.git/modules/**/config",
    "**/.git/modules/**/commondir",
    "**/.git/worktrees/**/config.worktree",
    "**/.git/worktrees/**/commondir",
    ".envrc",
    ".husky",
    ".vscode",
    "!.vscode/",
    "**/.vscode/tasks.json",
];

/// What is guarded in one project.
#[derive(Clone, Debug)]
pub struct Guards {
    patterns: Gitignore,
    /// The project on the host.
    root: PathBuf,
}

impl Guards {
    /// The guards of the project at `root` (on the host); `patterns` take the place of the default, to
    /// which `.gitignore` files belong if they say what is left out (`gitignore`).
    ///
    /// A pattern that is not one is left out: the profile's were checked when it was read.
    pub fn new(root: &Path, patterns: Option<&[String]>, gitignore: bool) -> Self {
        let mut builder = GitignoreBuilder::new("/");
        // On every host: what is caught too much is only asked about.
        let _ = builder.case_insensitive(true);
        match patterns {
            Some(patterns) => patterns.iter().for_each(|line| drop(builder.add_line(None, line))),
            None => {
                let rules = gitignore.then_some(GIT_RULE_FILE);
                let lines = DEFAULT_PATTERNS.into_iter().chain(rules);
                lines.for_each(|line| drop(builder.add_line(None, line)));
            }
        }
        let patterns = builder.build().unwrap_or_else(|_| Gitignore::empty());
        Self { patterns, root: root.to_owned() }
    }

    /// True if the path itself is guarded; one below a guarded directory is as well, see
    /// [`Guards::covers`].
    fn matches(&self, path: &SyncPath, is_directory: bool) -> bool {
        !path.is_root() && self.patterns.matched(folded(path), is_directory).is_ignore()
    }

    /// True if the path is guarded or below something that is.
    pub fn covers(&self, path: &SyncPath, is_directory: bool) -> bool {
        let above = std::iter::successors(path.split(), |(parent, _)| parent.split());
        self.matches(path, is_directory) || above.into_iter().any(|(at, _)| self.matches(&at, true))
    }

    /// True if a symbolic link at `path` would lead out of the project.
    pub fn leaves_root(&self, path: &SyncPath, target: &[u8]) -> bool {
        let is_name = |part: &&[u8]| !part.is_empty() && *part != b".";
        if target.starts_with(b"/") {
            let below = Path::new(OsStr::from_bytes(target)).strip_prefix(&self.root);
            return below.map_or(true, |_| target.split(|b| *b == b'/').any(|part| part == b".."));
        }
        let mut parts = target.split(|byte| *byte == b'/').filter(is_name).peekable();
        let mut depth = path.names().count().saturating_sub(1);
        while parts.next_if_eq(&&b".."[..]).is_some() {
            match depth.checked_sub(1) {
                Some(higher) => depth = higher,
                None => return true,
            }
        }
        parts.any(|part| part == b"..")
    }
}

/// The path as a disk sees it that ignores more than ours: without the characters that HFS+ leaves
/// out of a comparison, as git's own protection has it.
fn folded(path: &SyncPath) -> PathBuf {
    let Ok(text) = std::str::from_utf8(path.as_bytes()) else {
        return path.as_path().to_owned();
    };
    let is_ignored = |c: char| matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}');
    text.chars().filter(|c| !is_ignored(*c)).collect::<String>().into()
}

/// Takes out of a plan's changes to the host what is guarded, unless a person said yes to it, and
/// puts it among the plan's conflicts. Where a person said no, the sandbox gets back what the host
/// has.
pub fn take_out_guarded(plan: &mut Plan, guards: &Guards, decisions: &Decisions) {
    let already: BTreeSet<_> = plan.decided.iter().cloned().collect();
    for change in std::mem::take(&mut plan.host) {
        let found = sieve::sift(&change, guards, decisions);
        plan.conflicts.extend(found.conflicts);
        plan.decided.extend(found.decided.into_iter().filter(|path| !already.contains(path)));
        plan.sandbox.extend(found.back);
        let Change { path, old, mut new } = change;
        for at in found.held {
            keep(&path, old.as_ref(), &mut new, &at);
        }
        if old != new {
            plan.host.push(Change { path, old, new });
        }
    }
    take_out_copies(plan, guards);
}

/// A version that is guarded under its new name too cannot be kept beside: its conflict is open
/// again. It is all or nothing, as a copy with something missing would never be the whole version.
fn take_out_copies(plan: &mut Plan, guards: &Guards) {
    for copy in std::mem::take(&mut plan.copies) {
        if sieve::sift(&copy.change, guards, &Decisions::none()).held.is_empty() {
            plan.copies.push(copy);
        } else {
            plan.decided.retain(|path| *path != copy.conflict.path);
            plan.conflicts.push(copy.conflict);
        }
    }
}

/// Makes `new` at `at` what `old` is there, both being what is at `root`. Directories on the way
/// that `new` does not have come from `old`, with nothing else in them.
fn keep(root: &SyncPath, old: Option<&Entry>, new: &mut Option<Entry>, at: &SyncPath) {
    let names = at.names().skip(root.names().count());
    let names: Vec<Name> = names.filter_map(|name| Name::parse(name).ok()).collect();
    let Some((last, above)) = names.split_last() else {
        *new = old.cloned();
        return;
    };
    let mut from = old;
    let mut place = new.get_or_insert_with(|| hollow(from));
    for name in above {
        let Entry::Directory(directory) = place else { return };
        from = child_of(from, name);
        let found = directory.children.binary_search_by(|(other, _)| other.cmp(name));
        let at = found.unwrap_or_else(|at| {
            directory.children.insert(at, (name.clone(), hollow(from)));
            at
        });
        place = &mut directory.children[at].1;
    }
    if let Entry::Directory(directory) = place {
        put(directory, last, child_of(from, last).cloned());
    }
}

fn child_of<'a>(entry: Option<&'a Entry>, name: &Name) -> Option<&'a Entry> {
    entry.and_then(Entry::as_directory).and_then(|directory| directory.child(name.as_bytes()))
}

/// The same directory with nothing in it.
fn hollow(entry: Option<&Entry>) -> Entry {
    let mode = entry.and_then(Entry::as_directory).map_or(0o755, |directory| directory.mode);
    Entry::Directory(Directory { mode, ..Directory::default() })
}

fn put(directory: &mut Directory, name: &Name, entry: Option<Entry>) {
    let at = directory.children.binary_search_by(|(other, _)| other.cmp(name));
    match (at, entry) {
        (Ok(at), Some(entry)) => directory.children[at].1 = entry,
        (Ok(at), None) => drop(directory.children.remove(at)),
        (Err(at), Some(entry)) => directory.children.insert(at, (name.clone(), entry)),
        (Err(_), None) => {}
    }
}
