//! Which paths are excluded: left alone on both sides.
//!
//! The host gathers a [`RuleSet`], versions it and sends it; both ends compile the same text with
//! the same code, so they judge alike (invariant I8). The syntax and the meaning are those of
//! `.gitignore`: the last pattern that matches decides within a file, a file deeper in the tree
//! over one above it, and nothing re-includes a path whose parent directory is excluded. From weak
//! to strong: built-in defaults, `.gitignore` files (if the profile asks for them), the profile's
//! `exclude`, `.skyncignore` files, the command line.
//!
//! # Patterns that look beside them
//! A default may end in ` beside NAME NAME…`: it counts only in a directory that holds one of
//! those names. `target/` is a build directory beside a `Cargo.toml` and an ordinary one elsewhere.
//! So exclusion is a function of a path *and of the names in its directory*. Those names can differ
//! between the two sides until they are synchronised, and a directory that one side excludes and
//! the other does not looks deleted. The host's `sync::agree` removes that: it judges by the names
//! of both sides together and takes what is excluded out before anything is compared.
//!
//! This module reads no file except in [`RuleSet::collect`], and writes none.

mod collect;
mod compile;

use std::collections::HashMap;
use std::sync::Arc;

use ignore::Match;
use ignore::gitignore::Gitignore;

pub use collect::CollectError;
pub use compile::RuleProblem;

use crate::entry::Digest;
use crate::path::{Name, SyncPath};
use crate::staging::TEMP_PREFIX;

/// Name of the project's own rule files.
pub const RULE_FILE: &str = ".skyncignore";
/// Name of git's rule files.
pub const GIT_RULE_FILE: &str = ".gitignore";

/// The built-in patterns: what a tool makes again, what belongs to one platform, and secrets.
/// A pattern with ` beside ` counts only next to one of the names after it.
pub const DEFAULTS: &[&str] = &[
    "node_modules/",
    ".venv/",
    "venv/",
    "__pycache__/",
    "*.pyc",
    "target/ beside Cargo.toml pom.xml",
    ".gradle/",
    ".next/",
    ".nuxt/",
    ".tox/",
    ".mypy_cache/",
    ".pytest_cache/",
    ".ruff_cache/",
    ".cache/",
    "coverage/",
    ".terraform/",
    ".DS_Store",
    "**/.specify/extensions/.cache",
    ".env",
    ".env.*",
    "!.env.example",
    "!.env.sample",
    "!.env.template",
];

/// Text of one ignore file of the host's tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleFile {
    /// The directory that the patterns are relative to.
    pub directory: SyncPath,
    /// The file's content.
    pub text: String,
}

/// Everything that decides about exclusion, as text, and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleSet {
    /// BLAKE3 of all the other fields.
    pub version: Digest,
    /// Built-in patterns, the weakest.
    pub defaults: Vec<String>,
    /// `.gitignore` files, if the profile asks for them.
    pub gitignore: Vec<RuleFile>,
    /// The profile's `exclude`.
    pub profile: Vec<String>,
    /// `.skyncignore` files.
    pub skyncignore: Vec<RuleFile>,
    /// From the command line, the strongest.
    pub command_line: Vec<String>,
}

impl RuleSet {
    /// Puts a set together and computes its version.
    pub fn new(
        defaults: Vec<String>,
        gitignore: Vec<RuleFile>,
        profile: Vec<String>,
        skyncignore: Vec<RuleFile>,
        command_line: Vec<String>,
    ) -> Self {
        let mut hasher = blake3::Hasher::new();
        let mut add = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_be_bytes());
            hasher.update(bytes);
        };
        let mut add_patterns = |patterns: &[String]| {
            add(&(patterns.len() as u64).to_be_bytes());
            patterns.iter().for_each(|pattern| add(pattern.as_bytes()));
        };
        let texts = |files: &[RuleFile]| -> Vec<String> {
            files.iter().map(|file| file.text.clone()).collect()
        };
        for patterns in [&defaults, &profile, &command_line] {
            add_patterns(patterns);
        }
        for files in [&gitignore, &skyncignore] {
            add_patterns(&texts(files));
        }
        for file in gitignore.iter().chain(&skyncignore) {
            add(file.directory.as_bytes());
        }
        let version = Digest(*hasher.finalize().as_bytes());
        Self { version, defaults, gitignore, profile, skyncignore, command_line }
    }

    /// The built-in patterns and nothing else.
    pub fn of_defaults() -> Self {
        let defaults = DEFAULTS.iter().map(ToString::to_string).collect();
        Self::new(defaults, Vec::new(), Vec::new(), Vec::new(), Vec::new())
    }
}

/// A pattern that counts only in a directory that holds one of some names.
#[derive(Debug)]
struct Conditional {
    pattern: Gitignore,
    beside: Vec<Vec<u8>>,
}

/// A compiled [`RuleSet`]; judging is read-only and may be done by many threads.
#[derive(Debug, Default)]
pub struct Rules {
    version: Option<Digest>,
    defaults: Option<Gitignore>,
    /// Stronger than `defaults`, weaker than everything else; at most 64 of them.
    conditional: Vec<Conditional>,
    profile: Option<Gitignore>,
    command_line: Option<Gitignore>,
    gitignore: HashMap<SyncPath, Arc<Gitignore>>,
    skyncignore: HashMap<SyncPath, Arc<Gitignore>>,
}

/// The rules as they hold in one directory: what came from above, what its own rule files say and
/// which conditional patterns its names switch on.
///
/// It is made for a directory that is not excluded itself and answers for the names in it, so
/// whoever walks a tree with it never asks about parents.
#[derive(Clone, Debug)]
pub struct DirectoryRules {
    /// With the length of the directory's path that is cut off before matching; deepest last.
    gitignore: Arc<[(usize, Arc<Gitignore>)]>,
    skyncignore: Arc<[(usize, Arc<Gitignore>)]>,
    conditional_on: u64,
}

impl Rules {
    /// The version of the set that these were compiled from; nothing for rules that exclude
    /// nothing but our own temporary files.
    pub fn version(&self) -> Option<Digest> {
        self.version
    }

    /// The rules as they hold in the root.
    pub fn root(&self) -> DirectoryRules {
        let empty =
            DirectoryRules { gitignore: [].into(), skyncignore: [].into(), conditional_on: 0 };
        self.child(&empty, &SyncPath::root())
    }

    /// The rules as they hold in `path`, a directory right below the one that `parent` is for.
    /// Its names are not known yet: [`Rules::with_names`].
    pub fn child(&self, parent: &DirectoryRules, path: &SyncPath) -> DirectoryRules {
        let extend = |files: &HashMap<SyncPath, Arc<Gitignore>>,
                      inherited: &Arc<[(usize, Arc<Gitignore>)]>| {
            match files.get(path) {
                None => Arc::clone(inherited),
                Some(own) => {
                    let cut = if path.is_root() { 0 } else { path.as_bytes().len() + 1 };
                    inherited.iter().cloned().chain([(cut, Arc::clone(own))]).collect()
                }
            }
        };
        DirectoryRules {
            gitignore: extend(&self.gitignore, &parent.gitignore),
            skyncignore: extend(&self.skyncignore, &parent.skyncignore),
            conditional_on: 0,
        }
    }

    /// Switches the conditional patterns on by the names in the directory; `has` says whether a
    /// name is there.
    pub fn with_names(&self, rules: &mut DirectoryRules, has: impl Fn(&[u8]) -> bool) {
        rules.conditional_on = 0;
        for (at, conditional) in self.conditional.iter().enumerate() {
            if conditional.beside.iter().any(|name| has(name)) {
                rules.conditional_on |= 1 << at;
            }
        }
    }

    /// Judges one name in the directory of `rules`. `path` is the whole path below the root, as
    /// bytes. A symbolic link is no directory.
    pub fn is_excluded_in(&self, rules: &DirectoryRules, path: &[u8], is_directory: bool) -> bool {
        let name = path.rsplit(|&b| b == b'/').next().unwrap_or(path);
        if name.starts_with(TEMP_PREFIX.as_bytes()) {
            return true;
        }
        let judge = |patterns: &Gitignore, cut: usize| -> Option<bool> {
            use std::os::unix::ffi::OsStrExt;
            let relative = std::ffi::OsStr::from_bytes(path.get(cut..)?);
            match patterns.matched(relative, is_directory) {
                Match::None => None,
                Match::Ignore(_) => Some(true),
                Match::Whitelist(_) => Some(false),
            }
        };
        let whole = |patterns: &Option<Gitignore>| judge(patterns.as_ref()?, 0);
        let nested = |files: &[(usize, Arc<Gitignore>)]| {
            files.iter().rev().find_map(|(cut, patterns)| judge(patterns, *cut))
        };
        let conditional = || {
            let on = |at: &usize| rules.conditional_on & (1 << at) != 0;
            (0..self.conditional.len())
                .rev()
                .filter(on)
                .find_map(|at| judge(&self.conditional[at].pattern, 0))
        };
        whole(&self.command_line)
            .or_else(|| nested(&rules.skyncignore))
            .or_else(|| whole(&self.profile))
            .or_else(|| nested(&rules.gitignore))
            .or_else(conditional)
            .or_else(|| whole(&self.defaults))
            .unwrap_or(false)
    }

    /// Judges one path from the root down. `has` says whether a directory holds a name; only the
    /// patterns that look beside them ask it.
    pub fn is_excluded(
        &self,
        path: &SyncPath,
        is_directory: bool,
        has: impl Fn(&SyncPath, &[u8]) -> bool,
    ) -> bool {
        let mut rules = self.root();
        let mut directory = SyncPath::root();
        let bytes = path.as_bytes();
        let mut end = 0;
        for name in path.names() {
            end += name.len() + usize::from(end > 0);
            let is_last = end == bytes.len();
            self.with_names(&mut rules, |beside| has(&directory, beside));
            if self.is_excluded_in(&rules, &bytes[..end], is_directory || !is_last) {
                return true;
            }
            if !is_last {
                // Parts of a checked path are checked.
                let Ok(name) = Name::parse(name) else {
                    return false;
                };
                directory = directory.join(&name);
                rules = self.child(&rules, &directory);
            }
        }
        false
    }

    /// True if some pattern looks at the names beside it.
    pub fn has_conditional(&self) -> bool {
        !self.conditional.is_empty()
    }

    /// True if a name switches a conditional pattern on: once it comes or goes, its whole directory
    /// is to be judged again.
    pub fn is_beside(&self, name: &[u8]) -> bool {
        self.conditional.iter().any(|conditional| conditional.beside.iter().any(|b| b == name))
    }
}

impl DirectoryRules {
    /// Which conditional patterns its names switch on.
    pub fn switches(&self) -> u64 {
        self.conditional_on
    }
}

#[cfg(test)]
mod tests;
