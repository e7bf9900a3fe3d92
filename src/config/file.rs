//! The configuration: the layers merged, its profiles, each checked, and everything else that is wrong.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml_edit::{Document, Item, Key, Table, TableLike};

use super::layers::{FileLayer, Found, Layers, line};
use super::merge::{Merged, inherit};
use super::problem::{Bad, ConfigProblem};
use super::select::{Choice, Origin, choose};
use super::settings::is_never_of_project;
use super::sources::{Level, Place, Sources};
use super::syntax::parse_what_can_be;
use super::trust::Verdict;
use super::{BUILT_IN, Profile, check, list, nearest};
use crate::state;
use crate::ui::visible;

pub use super::error::ConfigError;

/// Longest configuration file, in bytes; what is longer is something else.
pub(super) const FILE_BYTES_MAX: u64 = 1 << 20;

/// The profile of one name: usable, or all that is wrong with it.
pub type Checked = Result<Profile, Vec<ConfigProblem>>;

/// The profiles of all layers in the order in which they come, with what is wrong with their names.
type Named = Vec<(Key, Vec<ConfigProblem>)>;

/// One thing that a profile says, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key; `env.NAME` of a variable.
    pub key: String,
    /// Its value, as it stands there.
    pub value: String,
    /// Where it stands; nothing if that is known by itself.
    pub place: Option<Place>,
    /// The profile from which it is inherited.
    pub from: Option<String>,
    /// The place among all texts, for a problem.
    pub(super) span: Option<std::ops::Range<usize>>,
}

/// A configuration as far as it can be understood: one file, or all layers.
///
/// A problem in one profile leaves the others usable; what nothing can be concluded from is in
/// `problems`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The user's own file, which need not exist.
    pub file: PathBuf,
    /// What `profile use` wrote there.
    pub active: Option<String>,
    /// The profiles, in the order in which the layers name them.
    pub profiles: Vec<(String, Checked)>,
    /// What is wrong outside the profiles: syntax, keys at the top.
    pub problems: Vec<ConfigProblem>,
    /// Syntax errors hide a part of a file. No profile is used then: what is hidden could be its
    /// limits.
    pub partly_hidden: bool,
    /// What the files say about which profile is meant, the strongest first.
    pub choices: Vec<Choice>,
    /// What was read.
    pub layers: Layers,
    /// What each profile says.
    pub(super) entries: BTreeMap<String, Vec<Entry>>,
    /// Profiles that others extend and that say too little to be used themselves.
    pub(super) bases: Vec<String>,
    /// The profiles among which a sole one is used: those that the project's files do not name first,
    /// or all if there are no others. What a project adds must not change which one is used.
    pub(super) named: Vec<String>,
    /// What holds where nothing counts that is not trusted, if something is not.
    pub(super) trusted: Option<Box<Config>>,
    pub(super) sources: Sources,
    /// What is wrong with choices that others outrank.
    outranked: Vec<ConfigProblem>,
}

impl Config {
    /// Reads a file; a missing one is an empty one.
    ///
    /// # Errors
    /// If it is there and cannot be read. What is wrong in it is no error here.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        Ok(Self::parse(file, &state::read(file, FILE_BYTES_MAX)?.unwrap_or_default()))
    }

    /// Reads what is in a file.
    pub fn parse(file: &Path, bytes: &[u8]) -> Self {
        let layer = FileLayer {
            level: Level::User,
            path: file.to_owned(),
            found: Found::Content(bytes.to_owned()),
            verdict: Verdict::Trusted,
        };
        Self::gather(Layers { files: vec![layer], ..Layers::default() }, None, None)
    }

    /// Merges all layers. Variables and flags are about the profile that is chosen, with `flag` and
    /// `env` as in [`Config::select`].
    pub fn gather(layers: Layers, flag: Option<&str>, env: Option<&str>) -> Self {
        let mut config = Self::default();
        let mut documents = Vec::new();
        for layer in &layers.files {
            if layer.level == Level::User {
                config.file.clone_from(&layer.path);
            }
            if let Some(document) = config.read_layer(layer) {
                documents.push((layer, document));
            }
        }
        let trusted = layers.trusted();
        config.trusted = trusted.map(|layers| Box::new(Self::gather(layers, None, None)));
        let (mut tables, mut order) = (BTreeMap::new(), Vec::new());
        for (layer, document) in &documents {
            config.read_top(layer, &layers, document, (&mut tables, &mut order));
        }
        config.layers = layers;
        config.choices.reverse();
        let complete = !config.partly_hidden;
        if config.named.is_empty() {
            config.named = order.iter().map(|(key, _)| key.get().to_owned()).collect();
        }
        let (chosen, _) = choose(&config, flag, env);
        let over = config.read_overrides();
        config.check_all(&tables, order, (&chosen, &over), complete);
        config.check_choices(complete);
        config
    }

    /// Reads the text of one file.
    fn read_layer(&mut self, layer: &FileLayer) -> Option<Document<String>> {
        let bytes = match &layer.found {
            Found::Missing => return None,
            Found::Content(bytes) => bytes,
            Found::Unusable(why, what) => {
                self.sources.add(layer.level, &layer.path, "");
                let at = self.sources.last_start();
                self.partly_hidden = true;
                let bad = Bad::new(why).hint(what);
                self.problems.push(self.sources.problem(Some(at..at), bad));
                return None;
            }
        };
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
            Err(error) => {
                self.sources.add(layer.level, &layer.path, &String::from_utf8_lossy(bytes));
                let at = self.sources.last_start() + error.valid_up_to();
                let bad = Bad::new("the file is not UTF-8").hint("save it as UTF-8");
                self.partly_hidden = true;
                self.problems.push(self.sources.problem(Some(at..at + 1), bad));
                return None;
            }
        };
        let padded = self.sources.add(layer.level, &layer.path, text);
        let (document, syntax) = parse_what_can_be(&self.sources, padded);
        self.partly_hidden |= !syntax.is_empty();
        self.problems.extend(syntax);
        document
    }

    fn report(&mut self, span: Option<std::ops::Range<usize>>, bad: Bad) {
        let problem = self.sources.problem(span, bad);
        self.problems.push(problem);
    }

    fn read_top(
        &mut self,
        layer: &FileLayer,
        layers: &Layers,
        document: &Document<String>,
        (tables, order): (&mut BTreeMap<String, Merged>, &mut Named),
    ) {
        let root = document.as_table();
        for (name, item) in root.iter() {
            let key_span = root.key(name).and_then(Key::span);
            match (name, item.as_table_like()) {
                ("profiles", Some(profiles)) => self.read_profiles(layer, profiles, tables, order),
                ("profiles", None) => {
                    let bad = Bad::new("`profiles` must be a table")
                        .hint("begin a profile with `[profiles.NAME]`");
                    self.report(item.span(), bad);
                }
                ("profile", Some(_)) => {
                    let bad = Bad::new("`profile` is the name of the profile in use")
                        .hint("did you mean `[profiles.NAME]`?");
                    self.report(key_span.or_else(|| item.span()), bad);
                }
                ("profile", None) => self.read_choice(layer.level, item, Origin::of(layer.level)),
                ("projects", Some(projects)) if layer.level == Level::User => {
                    self.read_projects(layers, projects);
                }
                ("projects", _) => {
                    let bad = Bad::new("`projects` is a table of your own configuration").hint(
                        "there it says, as in `[projects.\"/path\"]`, which profile a project has",
                    );
                    self.report(key_span, bad);
                }
                _ => self.report(key_span, unknown_top_key(name, item)),
            }
        }
    }

    fn read_choice(&mut self, level: Level, item: &Item, why: Origin) {
        let Some(name) = item.as_str() else {
            let bad = Bad::new("`profile` must be the name of a profile, in quotes");
            return self.report(item.span(), bad);
        };
        if why == Origin::Active {
            self.active = Some(name.to_owned());
        }
        let place = item.span().and_then(|span| self.sources.place(span.start));
        self.choices.push(Choice { name: name.to_owned(), why, level, place, span: item.span() });
    }

    /// The user's own choices for single projects; those of others only have to have the right form.
    fn read_projects(&mut self, layers: &Layers, projects: &dyn TableLike) {
        for (path, item) in projects.iter() {
            let Some(settings) = item.as_table_like() else {
                let bad = Bad::new(format!("`projects.{}` must be a table", visible(path)))
                    .hint("write `[projects.\"/path\"]`, and below it `profile = \"NAME\"`");
                self.report(item.span(), bad);
                continue;
            };
            for (name, item) in settings.iter() {
                if name != "profile" {
                    let bad = Bad::new(format!("unknown key `{}`", visible(name)));
                    let span = settings.key(name).and_then(Key::span).or_else(|| item.span());
                    self.report(span, bad.hint("there is `profile`"));
                } else if layers.root.as_deref() == Some(Path::new(path)) {
                    self.read_choice(Level::User, item, Origin::ChosenHere);
                }
            }
        }
    }

    fn read_profiles(
        &mut self,
        layer: &FileLayer,
        profiles: &dyn TableLike,
        tables: &mut BTreeMap<String, Merged>,
        order: &mut Named,
    ) {
        for (name, item) in profiles.iter() {
            // A key of a parsed table is always there; a missing one has no place.
            let made = Key::new(name);
            let key = profiles.key(name).unwrap_or(&made);
            if !layer.level.is_of_project() && !self.named.iter().any(|known| known == name) {
                self.named.push(name.to_owned());
            }
            let mut problems = check::head(&self.sources, key, item);
            let merged = tables.entry(name.to_owned()).or_default();
            if let Some(table) = item.as_table_like() {
                if layer.level.is_of_project() {
                    problems.extend(never(&self.sources, table));
                    merged.put_but(table, is_never_of_project);
                } else {
                    merged.put(table, None);
                }
            }
            match order.iter_mut().find(|(known, _)| known.get() == name) {
                Some((_, known)) => known.extend(problems),
                None => order.push((key.clone(), problems)),
            }
        }
    }

    /// What variables and flags say, as one table.
    fn read_overrides(&mut self) -> Merged {
        let mut texts = Vec::new();
        for (name, key, value) in &self.layers.variables {
            texts.push((Level::Variable, name.clone(), key.clone(), value.clone()));
        }
        for set in &self.layers.sets {
            let (key, value) = set.split_once('=').unwrap_or((set, ""));
            let name = format!("--set {}=…", visible(key));
            texts.push((Level::Flag, name, key.to_owned(), value.to_owned()));
        }
        let mut merged = Merged::default();
        for (level, name, key, value) in texts {
            let padded = self.sources.add(level, Path::new(&name), &line(&key, &value));
            // A key that is none in TOML is an unknown one all the more.
            let Ok(document) = Document::parse(padded) else { continue };
            merged.put(document.as_table(), None);
        }
        merged
    }

    fn check_all(
        &mut self,
        tables: &BTreeMap<String, Merged>,
        order: Named,
        (chosen, over): (&str, &Merged),
        complete: bool,
    ) {
        let extended = |name: &str| {
            let extends =
                tables.values().filter_map(|merged| merged.table.get("extends")?.as_str());
            extends.into_iter().any(|other| other == name)
        };
        for (key, mut problems) in order {
            let name = key.get();
            let (mut merged, wrong) = inherit(name, tables, &self.sources);
            problems.extend(wrong);
            if name == chosen {
                merged.put(&over.table, None);
            }
            let is_table = !merged.table.is_empty() || problems.is_empty();
            let check = |complete| check::profile(&self.sources, &key, &merged.table, complete);
            let checked = match check(complete) {
                _ if !is_table => Err(Vec::new()),
                Err(missing) if extended(name) && check(false).is_ok() => {
                    self.bases.push(name.to_owned());
                    Err(missing)
                }
                checked => checked,
            };
            self.note_entries(name, &merged);
            let checked = match checked {
                Ok(mut profile) if problems.is_empty() => {
                    profile.fixed = fixed(name == chosen, over);
                    Ok(profile)
                }
                Ok(_) => Err(problems),
                Err(wrong) => Err(problems.into_iter().chain(wrong).collect()),
            };
            self.profiles.push((name.to_owned(), checked));
        }
        if BUILT_IN.contains(&chosen)
            && !over.table.is_empty()
            && !self.profiles.iter().any(|(name, _)| name == chosen)
        {
            self.check_built_in(chosen, over);
        }
    }

    /// A built-in profile of which variables or flags say something.
    fn check_built_in(&mut self, name: &str, over: &Merged) {
        let mut merged = Merged::default();
        let mut table = Table::new();
        table.insert("driver", toml_edit::value(name));
        merged.put(&table, None);
        merged.put(&over.table, None);
        let checked = check::profile(&self.sources, &Key::new(name), &merged.table, true);
        self.note_entries(name, &merged);
        let checked = checked.map(|mut profile| {
            profile.fixed = fixed(true, over);
            profile
        });
        self.profiles.push((name.to_owned(), checked));
    }

    fn note_entries(&mut self, name: &str, merged: &Merged) {
        let entry = |(key, item): (String, &Item)| Entry {
            value: item.as_str().map_or_else(|| item.to_string().trim().to_owned(), str::to_owned),
            place: item.span().and_then(|span| self.sources.place(span.start)),
            from: merged.from.get(&key).cloned(),
            span: item.span(),
            key,
        };
        let entries = merged.entries().into_iter().map(entry).collect();
        self.entries.insert(name.to_owned(), entries);
    }

    /// The names in `profile` must be those of profiles.
    fn check_choices(&mut self, complete: bool) {
        let names = self.names();
        for (rank, choice) in self.choices.iter().enumerate() {
            if !complete || names.contains(&choice.name) {
                continue;
            }
            let bad = Bad::new(format!("there is no profile `{}`", visible(&choice.name)));
            let bad = match nearest(&choice.name, names.iter().map(String::as_str)) {
                Some(near) => bad.hint(format!("did you mean `{near}`?")),
                None => bad.hint(format!("there is {}", list(names.iter().map(String::as_str)))),
            };
            let problem = self.sources.problem(choice.span.clone(), bad);
            if rank == 0 { self.problems.push(problem) } else { self.outranked.push(problem) }
        }
    }

    /// The profile of this name, built-in ones included; `None` if there is none.
    pub fn profile(&self, name: &str) -> Option<Checked> {
        let found = self.profiles.iter().find(|(found, _)| found == name);
        if let Some(built_in) = Profile::built_in(name)
            && (found.is_none() || self.is_redefined(name))
        {
            return Some(Ok(built_in));
        }
        let (_, checked) = found?;
        if !self.partly_hidden || BUILT_IN.contains(&name) {
            return Some(checked.clone());
        }
        let own = checked.as_ref().err().into_iter().flatten();
        Some(Err(self.problems.iter().chain(own).cloned().collect()))
    }

    /// A file has a profile of a built-in one's name, which counts for nothing.
    fn is_redefined(&self, name: &str) -> bool {
        let entries = self.entries.get(name).into_iter().flatten();
        let driver = entries.into_iter().find(|entry| entry.key == "driver");
        driver.is_none_or(|driver| {
            driver.place.as_ref().is_some_and(|place| place.level < Level::Variable)
        })
    }

    /// What a profile says, and where.
    pub fn entries(&self, name: &str) -> &[Entry] {
        self.entries.get(name).map_or(&[], Vec::as_slice)
    }

    /// True if the profile is only there for others to extend.
    pub fn is_base(&self, name: &str) -> bool {
        self.bases.iter().any(|base| base == name)
    }

    /// The names of all profiles: the files' in their order, then the built-in ones.
    pub fn names(&self) -> Vec<String> {
        let own = self.profiles.iter().map(|(name, _)| name.as_str());
        let own = own.filter(|name| !BUILT_IN.contains(name));
        own.chain(BUILT_IN).map(str::to_owned).collect()
    }

    /// Everything that is wrong, in the order of the layers and their lines.
    pub fn all_problems(&self) -> Vec<ConfigProblem> {
        let usable = self.profiles.iter().filter(|(name, _)| !self.is_base(name));
        let of_profiles = usable.filter_map(|(_, checked)| checked.as_ref().err()).flatten();
        let all = self.problems.iter().chain(&self.outranked).chain(of_profiles);
        let mut all: Vec<_> = all.cloned().collect();
        all.sort_by_key(|problem| problem.at);
        // What is inherited is wrong in each profile that inherits it.
        let mut told = Vec::new();
        all.retain(|problem| {
            !told.contains(problem) && {
                told.push(problem.clone());
                true
            }
        });
        all
    }
}

/// What holds as long as a command runs, whatever becomes of the files.
fn fixed(is_chosen: bool, over: &Merged) -> Vec<String> {
    let keys = over.table.iter().map(|(key, _)| key.to_owned());
    if is_chosen { keys.collect() } else { Vec::new() }
}

/// What no project may say at all.
fn never(sources: &Sources, table: &dyn TableLike) -> Vec<ConfigProblem> {
    let refused = table.iter().filter(|(name, _)| is_never_of_project(name));
    let problem = |(name, item): (&str, &Item)| {
        let bad = Bad::new(format!("`{name}` cannot be in a file of the project")).hint(
            "whoever writes the project could run commands here; put it in your own configuration",
        );
        let span = table.key(name).and_then(Key::span).or_else(|| item.span());
        sources.problem(span, bad)
    };
    refused.map(problem).collect()
}

fn unknown_top_key(name: &str, item: &Item) -> Bad {
    let bad = Bad::new(format!("unknown key `{}`", visible(name)));
    match nearest(name, ["profile", "profiles", "projects"]) {
        Some("profile") if item.is_table_like() => bad.hint("did you mean `profiles`?"),
        Some(near) => bad.hint(format!("did you mean `{near}`?")),
        None if item.is_table_like() => {
            bad.hint(format!("the table of a profile begins with `[profiles.{}]`", visible(name)))
        }
        None => {
            bad.hint("there is `profile` and `profiles`; settings belong below `[profiles.NAME]`")
        }
    }
}

#[cfg(test)]
mod tests;
