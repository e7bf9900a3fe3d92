//! What a profile says about preparing its sandbox.

use toml_edit::{Array, TableLike, Value};

use super::super::problem::Bad;
use super::super::{SetupCommand, SetupConfig, values};
use super::{Checker, with_article, wrong_type};

impl Checker<'_> {
    /// Reads the keys about preparing a sandbox.
    pub(super) fn setup(&mut self, table: &dyn TableLike) -> SetupConfig {
        let timeout = self.text(table, "setup_timeout", values::duration);
        SetupConfig { commands: self.setup_commands(table), timeout }
    }

    /// Reads `setup_image`, which is nothing without `setup`.
    pub(super) fn setup_image(&mut self, table: &dyn TableLike) -> bool {
        let wanted =
            self.value(table, "setup_image", "true or false", Value::as_bool).unwrap_or(false);
        if wanted && self.complete && !table.contains_key("setup") && !self.meant.contains(&"setup")
        {
            let bad = Bad::new("`setup_image` has no effect without `setup`")
                .hint("`setup` says what is done in a new sandbox before it is kept");
            let span = table.key("setup_image").and_then(toml_edit::Key::span);
            self.report(span, bad);
        }
        wanted
    }

    /// One text, a list of texts, or a list of lists of words.
    fn setup_commands(&mut self, table: &dyn TableLike) -> Vec<SetupCommand> {
        let Some(item) = table.get("setup") else { return Vec::new() };
        if let Some(line) = item.as_str() {
            let line = self.checked("setup", item, values::setup_line(line));
            return line.into_iter().map(SetupCommand::Line).collect();
        }
        let Some(entries) = item.as_array() else {
            self.report(item.span(), wrong_type("setup", "a list", item));
            return Vec::new();
        };
        let mut commands = Vec::new();
        for entry in entries {
            match command(entry) {
                Ok(command) => commands.push(command),
                Err(bad) => {
                    let bad = Bad { message: format!("`setup`: {}", bad.message), ..bad };
                    self.report(entry.span(), bad);
                }
            }
        }
        commands
    }
}

fn command(entry: &Value) -> Result<SetupCommand, Bad> {
    match (entry.as_str(), entry.as_array()) {
        (Some(line), _) => values::setup_line(line).map(SetupCommand::Line),
        (None, Some(words)) => argv(words).map(SetupCommand::Argv),
        (None, None) => {
            Err(Bad::new(format!("{} is not a command", with_article(entry.type_name())))
                .hint("write every command in quotes"))
        }
    }
}

fn argv(words: &Array) -> Result<Vec<String>, Bad> {
    let argv: Option<Vec<String>> =
        words.iter().map(|word| word.as_str().map(str::to_owned)).collect();
    let usable = |argv: &Vec<String>| {
        argv.first().is_some_and(|program| !program.is_empty())
            && argv.iter().all(|word| !word.contains('\0'))
    };
    argv.filter(usable).ok_or_else(|| {
        Bad::new("a command that is a list has a program and its words, each in quotes")
            .hint("as in `[\"/usr/bin/tool\", \"--install\"]`")
    })
}
