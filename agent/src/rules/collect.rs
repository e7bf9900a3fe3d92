//! Gathers the rules of the host's tree, in one walk that never enters what is excluded.

use std::io::Read;

use super::{DEFAULTS, DirectoryRules, GIT_RULE_FILE, RULE_FILE, RuleFile, RuleSet, Rules};
use crate::disk::{DirFd, DiskError, Kind, Root};
use crate::path::{Name, SyncPath};

/// Largest rule file, bytes. Larger than any that a person writes; past it collecting fails, since
/// half of the rules would synchronise what the other half excludes.
const RULE_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Deepest directory that is looked into; the scan stops there as well.
const DEPTH_MAX: usize = crate::scan::DEPTH_MAX;

/// Why the rules of a tree could not be gathered.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CollectError {
    /// A rule file or the root could not be read. Going on without it would synchronise what it
    /// excludes.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A rule file is absurdly large.
    #[error("the rule file `{0}` is larger than {RULE_FILE_BYTES_MAX} bytes")]
    TooLarge(SyncPath),
}

impl RuleSet {
    /// Reads the `.skyncignore` files of the tree, and its `.gitignore` files if `gitignore` says
    /// so. As in git, a rule file below an excluded directory is not read, nor one that is a
    /// symbolic link. A directory that cannot be read is left to the scan, which reports it.
    ///
    /// # Errors
    /// A rule file that is there and cannot be read.
    pub fn collect(
        root: &Root,
        profile: &[String],
        gitignore: bool,
        command_line: &[String],
    ) -> Result<Self, CollectError> {
        let defaults: Vec<String> = DEFAULTS.iter().map(ToString::to_string).collect();
        let known = Self::new(
            defaults.clone(),
            Vec::new(),
            profile.to_vec(),
            Vec::new(),
            command_line.to_vec(),
        );
        let mut walk = Walk {
            rules: Rules::compile(&known).0,
            gitignore,
            buffer: Vec::new(),
            git_files: Vec::new(),
            own_files: Vec::new(),
        };
        let directory = root.open_directory(&SyncPath::root())?;
        let above = walk.rules.root();
        walk.enter(&directory, &SyncPath::root(), &above, 0)?;
        Ok(Self::new(
            defaults,
            walk.git_files,
            profile.to_vec(),
            walk.own_files,
            command_line.to_vec(),
        ))
    }
}

struct Walk {
    rules: Rules,
    gitignore: bool,
    buffer: Vec<u8>,
    git_files: Vec<RuleFile>,
    own_files: Vec<RuleFile>,
}

impl Walk {
    /// `above` is for the parent directory (for the root: itself, without its files).
    fn enter(
        &mut self,
        directory: &DirFd,
        path: &SyncPath,
        above: &DirectoryRules,
        depth: usize,
    ) -> Result<(), CollectError> {
        let Ok(mut names) = directory.list(&mut self.buffer) else {
            return Ok(());
        };
        names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let has =
            |wanted: &[u8]| names.binary_search_by(|(name, _)| name.as_bytes().cmp(wanted)).is_ok();
        // These problems are told of when the set is compiled for use.
        let mut problems = Vec::new();
        if self.gitignore
            && has(GIT_RULE_FILE.as_bytes())
            && let Some(file) = read_rule_file(directory, path, GIT_RULE_FILE)?
        {
            self.rules.add_gitignore(&file, &mut problems);
            self.git_files.push(file);
        }
        if has(RULE_FILE.as_bytes())
            && let Some(file) = read_rule_file(directory, path, RULE_FILE)?
        {
            self.rules.add_skyncignore(&file, &mut problems);
            self.own_files.push(file);
        }
        let mut rules = self.rules.child(above, path);
        self.rules.with_names(&mut rules, has);
        if depth == DEPTH_MAX {
            return Ok(());
        }
        for (name, kind) in &names {
            let kind = kind.or_else(|| directory.stat_listed(name).ok().map(|meta| meta.kind));
            if kind != Some(Kind::Directory) {
                continue;
            }
            let below = path.join(name);
            if self.rules.is_excluded_in(&rules, below.as_bytes(), true) {
                continue;
            }
            if let Ok(child) = directory.open_directory(name) {
                self.enter(&child, &below, &rules, depth + 1)?;
            }
        }
        Ok(())
    }
}

fn read_rule_file(
    directory: &DirFd,
    path: &SyncPath,
    name: &str,
) -> Result<Option<RuleFile>, CollectError> {
    let Ok(name) = Name::parse(name.as_bytes()) else {
        return Ok(None);
    };
    let whole = path.join(&name);
    let fail = |errno| DiskError::new("read", &whole, errno);
    if !directory.stat(&name).is_ok_and(|meta| meta.kind == Kind::File) {
        return Ok(None);
    }
    let file = directory.open_file(&name).map_err(fail)?;
    let mut bytes = Vec::new();
    file.take(RULE_FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| {
        fail(rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO))
    })?;
    if bytes.len() as u64 > RULE_FILE_BYTES_MAX {
        return Err(CollectError::TooLarge(whole));
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(Some(RuleFile { directory: path.clone(), text }))
}
