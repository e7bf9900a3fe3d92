//! Profiles of one name from all layers as one table, and what they take from others (`extends`).
//!
//! A more specific layer wins, key by key; variables of `env` one by one; lists are replaced. What a
//! profile says itself, in whichever layer, wins over what it inherits. Every item keeps its place.

use std::collections::BTreeMap;

use toml_edit::{Item, Key, Table, TableLike};

use super::problem::{Bad, ConfigProblem};
use super::sources::Sources;
use super::{BUILT_IN, list, nearest};
use crate::ui::visible;

/// Most profiles in a row that take something from the next.
const DEPTH_MAX: usize = 8;

/// One profile, as all layers together say it.
#[derive(Clone, Debug, Default)]
pub(super) struct Merged {
    pub(super) table: Table,
    /// From which profile a key is, if it is inherited; `env.NAME` of a variable.
    pub(super) from: BTreeMap<String, String>,
}

impl Merged {
    /// Puts a table over what is there.
    pub(super) fn put(&mut self, over: &dyn TableLike, from: Option<&str>) {
        let note = |path: String, notes: &mut BTreeMap<String, String>| match from {
            Some(from) => drop(notes.insert(path, from.to_owned())),
            None => drop(notes.remove(&path)),
        };
        for (name, item) in over.iter() {
            let made = Key::new(name);
            let key = over.key(name).unwrap_or(&made);
            let is_table = self.table.get(name).is_some_and(Item::is_table_like);
            if let ("env", Some(variables), true) = (name, item.as_table_like(), is_table) {
                let mut env = self.table.get("env").map_or_else(Table::new, plain);
                for (name, item) in variables.iter() {
                    let made = Key::new(name);
                    env.insert_formatted(variables.key(name).unwrap_or(&made), item.clone());
                    note(format!("env.{name}"), &mut self.from);
                }
                self.table.insert_formatted(key, Item::Table(env));
                continue;
            }
            match item.as_table_like() {
                Some(variables) if name == "env" => variables
                    .iter()
                    .for_each(|(name, _)| note(format!("env.{name}"), &mut self.from)),
                Some(_) | None => note(name.to_owned(), &mut self.from),
            }
            self.table.insert_formatted(key, item.clone());
        }
    }

    /// The same, without the keys that are none of this layer's: whoever inherits from the profile must
    /// not get them either.
    pub(super) fn put_but(&mut self, over: &dyn TableLike, is_refused: impl Fn(&str) -> bool) {
        let mut kept = Table::new();
        for (name, item) in over.iter().filter(|(name, _)| !is_refused(name)) {
            let made = Key::new(name);
            kept.insert_formatted(over.key(name).unwrap_or(&made), item.clone());
        }
        self.put(&kept, None);
    }

    /// Each key with its item; the variables of `env` one by one, as `env.NAME`.
    pub(super) fn entries(&self) -> Vec<(String, &Item)> {
        let mut entries = Vec::new();
        for (name, item) in self.table.iter() {
            match item.as_table_like() {
                Some(env) if name == "env" => {
                    entries.extend(env.iter().map(|(name, item)| (format!("env.{name}"), item)));
                }
                Some(_) | None => entries.push((name.to_owned(), item)),
            }
        }
        entries
    }
}

fn plain(item: &Item) -> Table {
    let mut table = Table::new();
    if let Some(all) = item.as_table_like() {
        for (name, item) in all.iter() {
            let made = Key::new(name);
            table.insert_formatted(all.key(name).unwrap_or(&made), item.clone());
        }
    }
    table
}

/// A profile with everything that it inherits, and what is wrong with how it does.
pub(super) fn inherit(
    name: &str,
    own: &BTreeMap<String, Merged>,
    sources: &Sources,
) -> (Merged, Vec<ConfigProblem>) {
    let mut row: Vec<&str> = vec![name];
    let mut problems = Vec::new();
    let mut last = own.get(name);
    while let Some(item) = last.and_then(|merged| merged.table.get("extends")) {
        // What is no text is the checker's to report.
        let Some(wanted) = item.as_str() else { break };
        let bad = match own.get_key_value(wanted) {
            Some((known, _)) if row.contains(&known.as_str()) => {
                let way = list(row.iter().copied().chain([known.as_str()]));
                Bad::new(format!("`extends` goes round in a circle: {way}"))
                    .hint("one of them must not extend another")
            }
            Some(_) if row.len() > DEPTH_MAX => {
                Bad::new(format!("`extends` goes over more than {DEPTH_MAX} profiles"))
                    .hint("extend one that says more itself")
            }
            Some((known, merged)) => {
                row.push(known);
                last = Some(merged);
                continue;
            }
            None => unknown(wanted, own),
        };
        problems.push(sources.problem(item.span(), bad));
        break;
    }
    let mut merged = Merged::default();
    for (depth, name) in row.iter().enumerate().rev() {
        let Some(one) = own.get(*name) else { continue };
        let mut table = one.table.clone();
        if depth > 0 {
            table.remove("extends");
        }
        merged.put(&table, (depth > 0).then_some(*name));
    }
    (merged, problems)
}

fn unknown(wanted: &str, own: &BTreeMap<String, Merged>) -> Bad {
    let shown = visible(wanted);
    if BUILT_IN.contains(&wanted) {
        return Bad::new(format!("`extends`: `{shown}` is built in and says nothing else"))
            .hint(format!("write `driver = \"{shown}\"`"));
    }
    let bad = Bad::new(format!("`extends`: there is no profile `{shown}`"));
    match nearest(wanted, own.keys().map(String::as_str)) {
        Some(near) => bad.hint(format!("did you mean `{near}`?")),
        None => bad.hint("name one that `skync profile list` shows"),
    }
}
