//! Changes `config.toml` and keeps what a person wrote in it: comments, order, layout.
//!
//! Every change is made under a lock and put in place in one step; a file with a syntax error is
//! not changed at all.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml_edit::{DocumentMut, Item, Table, TableLike, Value, value};

use super::file::{Config, ConfigError, FILE_BYTES_MAX};
use super::{BUILT_IN, ConfigProblem, Profile};
use crate::state::{self, Lock, StateError};

/// The file may hold variables that are nobody else's business.
const FILE_MODE: u32 = 0o600;

/// A profile as it is to be written; not checked yet.
#[derive(Clone, Debug)]
pub struct NewProfile {
    /// Its name.
    pub name: String,
    /// Its keys in the order in which they are written.
    pub settings: Vec<(&'static str, Value)>,
    /// Its variables.
    pub env: BTreeMap<String, String>,
}

/// What [`add`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Added {
    /// The profile, as it is read from now on.
    pub profile: Profile,
    /// There was one of this name before.
    pub replaced: bool,
    /// It is the first one, and was made the active one.
    pub activated: bool,
}

/// Adds a profile, or replaces one.
///
/// # Errors
/// [`ConfigError::Refused`] with everything that is wrong with it, and nothing is written; also if
/// the file has a syntax error, has a profile of this name (without `replace`), or cannot be
/// written.
pub fn add(file: &Path, new: &NewProfile, replace: bool) -> Result<Added, ConfigError> {
    let profile = check(new)?;
    let mut editing = Editing::begin(file)?;
    let was_there = editing.config.profiles.iter().any(|(name, _)| *name == new.name);
    if was_there && !replace {
        return Err(ConfigError::Exists { name: new.name.clone() });
    }
    let first = editing.config.profiles.is_empty() && editing.config.active.is_none();
    editing.insert(new)?;
    if first {
        editing.set_active(&new.name);
    }
    let written = editing.finish()?;
    match written.profile(&new.name) {
        Some(Ok(found)) if found == profile => {}
        // What is read back is not what was checked: only a defect in the editing can do that.
        Some(_) | None => debug_assert!(false, "the profile that was written is another one"),
    }
    Ok(Added { profile, replaced: was_there, activated: first })
}

/// Removes a profile; if it was the active one, none is named as active any more. Returns the
/// configuration that is left.
///
/// # Errors
/// If there is none of this name, it is built in, or the file cannot be changed.
pub fn remove(file: &Path, name: &str) -> Result<Config, ConfigError> {
    let mut editing = Editing::begin(file)?;
    if !editing.config.profiles.iter().any(|(found, _)| found == name) {
        if BUILT_IN.contains(&name) {
            return Err(ConfigError::BuiltIn { name: name.to_owned() });
        }
        return Err(editing.unknown(name));
    }
    editing.take(name);
    if editing.config.active.as_deref() == Some(name) {
        editing.unset_active();
    }
    editing.finish()
}

/// Makes a profile the active one; built-in ones may be named too.
///
/// # Errors
/// If there is none of this name, it has problems, or the file cannot be changed.
pub fn activate(file: &Path, name: &str) -> Result<Profile, ConfigError> {
    let mut editing = Editing::begin(file)?;
    let profile = match editing.config.profile(name) {
        Some(Ok(profile)) => profile,
        Some(Err(problems)) => {
            let what = format!("cannot use the profile `{name}`");
            return Err(ConfigError::Problems { what, file: file.to_owned(), problems });
        }
        None => return Err(editing.unknown(name)),
    };
    editing.set_active(name);
    editing.finish()?;
    Ok(profile)
}

/// Makes a profile that of one project, whatever the project's own files say. The caller has checked
/// that it can be used there.
///
/// # Errors
/// If the file cannot be changed.
pub fn choose_here(file: &Path, root: &Path, name: &str) -> Result<(), ConfigError> {
    let mut editing = Editing::begin(file)?;
    if let Some(projects) = editing.table_of("projects") {
        let mut project = Table::new();
        project.insert("profile", value(name));
        projects.insert(&root.to_string_lossy(), Item::Table(project));
    }
    editing.finish().map(drop)
}

/// Checks a new profile exactly as one that stands in the file.
///
/// # Errors
/// [`ConfigError::Refused`] with everything that is wrong with it.
pub fn check(new: &NewProfile) -> Result<Profile, ConfigError> {
    let mut document = DocumentMut::new();
    let mut profiles = Table::new();
    profiles.insert(&new.name, Item::Table(table(new)));
    document.insert("profiles", Item::Table(profiles));
    let config = Config::parse(Path::new("command line"), document.to_string().as_bytes());
    let checked = config.profiles.into_iter().find(|(name, _)| *name == new.name);
    match checked {
        Some((_, Ok(profile))) if config.problems.is_empty() => Ok(profile),
        Some((_, Err(problems))) => Err(ConfigError::Refused { name: new.name.clone(), problems }),
        Some((_, Ok(_))) | None => {
            let problems = config.problems;
            Err(ConfigError::Refused { name: new.name.clone(), problems })
        }
    }
}

fn table(new: &NewProfile) -> Table {
    let mut table = Table::new();
    for (key, setting) in &new.settings {
        table.insert(key, Item::Value(setting.clone()));
    }
    if !new.env.is_empty() {
        let mut env = Table::new();
        for (name, text) in &new.env {
            env.insert(name, value(text));
        }
        table.insert("env", Item::Table(env));
    }
    table
}

/// The file between reading and writing; nobody else changes it meanwhile.
struct Editing {
    file: PathBuf,
    /// Where the file really is: a link to it, as dotfile managers make them, stays a link.
    target: PathBuf,
    config: Config,
    document: DocumentMut,
    _lock: Lock,
}

impl Editing {
    fn begin(file: &Path) -> Result<Self, ConfigError> {
        if let Some(directory) = file.parent() {
            state::make_directory(directory)?;
        }
        let lock = state::lock(&file.with_extension("toml.lock"))?;
        let bytes = state::read(file, FILE_BYTES_MAX)?.unwrap_or_default();
        let config = Config::parse(file, &bytes);
        let refuse = |problems: Vec<ConfigProblem>| ConfigError::Problems {
            what: "cannot change the configuration".to_owned(),
            file: file.to_owned(),
            problems,
        };
        if config.partly_hidden {
            return Err(refuse(config.problems));
        }
        let text = String::from_utf8_lossy(&bytes);
        let document = match text.parse::<DocumentMut>() {
            Ok(document) => document,
            Err(_) => return Err(refuse(config.problems)),
        };
        let is_other = |name| document.get(name).is_some_and(|item| !item.is_table_like());
        if ["profiles", "projects"].into_iter().any(is_other) {
            return Err(refuse(config.problems));
        }
        let target = target_of(file)?;
        Ok(Self { file: file.to_owned(), target, config, document, _lock: lock })
    }

    fn finish(self) -> Result<Config, ConfigError> {
        let text = self.document.to_string();
        let written = Config::parse(&self.file, text.as_bytes());
        if written.partly_hidden {
            let what = "cannot change the configuration".to_owned();
            return Err(ConfigError::Problems {
                what,
                file: self.file,
                problems: written.problems,
            });
        }
        state::write_atomic(&self.target, text.as_bytes(), FILE_MODE)?;
        Ok(written)
    }

    fn unknown(&self, name: &str) -> ConfigError {
        let known = self.config.names();
        ConfigError::UnknownProfile { name: name.to_owned(), why: String::new(), known }
    }

    /// A table at the top, made if it is not there.
    fn table_of(&mut self, name: &str) -> Option<&mut dyn TableLike> {
        let table = self.document.entry(name).or_insert_with(|| {
            let mut table = Table::new();
            // Only `[profiles.NAME]` is written, not an empty `[profiles]` above it.
            table.set_implicit(true);
            Item::Table(table)
        });
        table.as_table_like_mut()
    }

    fn insert(&mut self, new: &NewProfile) -> Result<(), ConfigError> {
        let Some(profiles) = self.table_of("profiles") else {
            return Ok(());
        };
        let mut made = table(new);
        if let Some(old) = profiles.get(&new.name).and_then(Item::as_table) {
            // In the place of the old one, below the comment that stands above it.
            *made.decor_mut() = old.decor().clone();
            made.set_position(old.position());
        }
        profiles.insert(&new.name, Item::Table(made));
        Ok(())
    }

    /// Takes a profile out. The comment right above it goes with it; comments that a blank line
    /// sets apart from it are not its own and stay.
    fn take(&mut self, name: &str) {
        let profiles = self.document.get_mut("profiles").and_then(Item::as_table_like_mut);
        let taken = profiles.and_then(|profiles| profiles.remove(name));
        let Some(Item::Table(taken)) = taken else {
            return;
        };
        let prefix = taken.decor().prefix().and_then(|prefix| prefix.as_str()).unwrap_or("");
        let (kept, _) = split_comment(prefix);
        if kept.trim().is_empty() {
            return;
        }
        let position = taken.position();
        let next = tables(self.document.as_table_mut())
            .into_iter()
            .filter(|table| table.position() > position)
            .min_by_key(|table| table.position());
        match next {
            Some(next) => prepend(next, kept),
            None => {
                let trailing = self.document.trailing().as_str().unwrap_or("").to_owned();
                self.document.set_trailing(format!("{kept}{trailing}"));
            }
        }
    }

    /// Takes the line `profile = …` out. The comment above it is about the file as likely as about
    /// the line, so it stays.
    fn unset_active(&mut self) {
        let key = self.document.key("profile");
        let above = key.and_then(|key| key.leaf_decor().prefix()?.as_str()).unwrap_or("");
        let above = above.to_owned();
        let behind = self.document.iter().skip_while(|(name, _)| *name != "profile").skip(1);
        let next =
            behind.filter(|(_, item)| item.is_value()).map(|(name, _)| name.to_owned()).next();
        self.document.remove("profile");
        if above.trim().is_empty() {
            return;
        }
        if let Some(mut next) = next.and_then(|name| self.document.key_mut(&name)) {
            let prefix = next.leaf_decor().prefix().and_then(|prefix| prefix.as_str());
            let prefix = format!("{above}{}", prefix.unwrap_or(""));
            next.leaf_decor_mut().set_prefix(prefix);
            return;
        }
        let tables = tables(self.document.as_table_mut());
        match tables.into_iter().min_by_key(|table| table.position()) {
            // A blank line, so that it does not become the table's own.
            Some(first) => prepend(first, &format!("{above}\n")),
            None => {
                let trailing = self.document.trailing().as_str().unwrap_or("").to_owned();
                self.document.set_trailing(format!("{above}{trailing}"));
            }
        }
    }

    fn set_active(&mut self, name: &str) {
        if let Some(Item::Value(old)) = self.document.get_mut("profile") {
            // Only the value: what stands around it, such as a comment behind it, stays.
            let decor = old.decor().clone();
            *old = Value::from(name);
            *old.decor_mut() = decor;
            return;
        }
        let nothing_before = self.document.iter().all(|(_, item)| !item.is_value());
        self.document.insert("profile", value(name));
        if !nothing_before {
            return;
        }
        // The comment at the head of the file stays at its head, above the new line.
        let first = tables(self.document.as_table_mut()).into_iter().min_by_key(|t| t.position());
        let Some(first) = first else { return };
        let prefix =
            first.decor().prefix().and_then(|prefix| prefix.as_str()).unwrap_or("").to_owned();
        let (head, own) = split_comment(&prefix);
        first.decor_mut().set_prefix(format!("\n{}", own.trim_start_matches(['\r', '\n'])));
        let head = head.to_owned();
        if let Some(mut key) = self.document.key_mut("profile") {
            key.leaf_decor_mut().set_prefix(head);
        }
    }
}

fn target_of(file: &Path) -> Result<PathBuf, StateError> {
    let fail = |source| StateError::Io { verb: "follow the link", path: file.to_owned(), source };
    match std::fs::symlink_metadata(file) {
        Ok(found) if found.is_symlink() => std::fs::canonicalize(file).map_err(fail),
        Ok(_) | Err(_) => Ok(file.to_owned()),
    }
}

/// Splits what stands above a table behind its last blank line.
fn split_comment(prefix: &str) -> (&str, &str) {
    let mut at = 0;
    let mut offset = 0;
    for line in prefix.split_inclusive('\n') {
        offset += line.len();
        if line.trim().is_empty() && line.ends_with('\n') {
            at = offset;
        }
    }
    prefix.split_at(at)
}

fn prepend(table: &mut Table, text: &str) {
    let prefix = table.decor().prefix().and_then(|prefix| prefix.as_str()).unwrap_or("").to_owned();
    table.decor_mut().set_prefix(format!("{text}{}", prefix.trim_start_matches(['\r', '\n'])));
}

/// The tables below this one that have a place of their own in the text.
fn tables(table: &mut Table) -> Vec<&mut Table> {
    let mut found = Vec::new();
    for (_, item) in table.iter_mut() {
        let Item::Table(child) = item else { continue };
        if child.is_implicit() || child.is_dotted() {
            found.extend(tables(child));
        } else if child.position().is_some() {
            // Its own children come behind it, so the first and the next one are never theirs.
            found.push(child);
        }
    }
    found
}

#[cfg(test)]
mod tests;
