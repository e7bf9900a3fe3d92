//! From the text of a rule set to matchers.

use std::collections::HashMap;
use std::sync::Arc;

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::{Conditional, GIT_RULE_FILE, RULE_FILE, RuleFile, RuleSet, Rules};
use crate::path::{Name, SyncPath};

/// How many conditional patterns there may be: one bit each in a `u64`. The rest are problems.
const CONDITIONAL_COUNT_MAX: usize = 64;

/// A pattern that is not used, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: the pattern `{pattern}` is not used: {reason}")]
pub struct RuleProblem {
    /// Where it stands: `src/.skyncignore:3`, `the profile`, `the command line`.
    pub origin: String,
    /// The pattern.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Rules {
    /// Compiles a set. A bad pattern is left out and told of; the others hold.
    pub fn compile(set: &RuleSet) -> (Self, Vec<RuleProblem>) {
        let mut problems = Vec::new();
        let (conditional, defaults): (Vec<_>, Vec<_>) =
            set.defaults.iter().map(String::as_str).partition(|line| line.contains(" beside "));
        let mut rules = Self {
            version: Some(set.version),
            defaults: Some(patterns(defaults, &named("the built-in patterns"), &mut problems)),
            profile: Some(patterns(lines(&set.profile), &named("the profile"), &mut problems)),
            command_line: Some(patterns(
                lines(&set.command_line),
                &named("the command line"),
                &mut problems,
            )),
            ..Self::default()
        };
        rules.add_conditional(&conditional, &mut problems);
        for file in &set.gitignore {
            rules.add_gitignore(file, &mut problems);
        }
        for file in &set.skyncignore {
            rules.add_skyncignore(file, &mut problems);
        }
        (rules, problems)
    }

    pub(super) fn add_gitignore(&mut self, file: &RuleFile, problems: &mut Vec<RuleProblem>) {
        add_file(&mut self.gitignore, file, GIT_RULE_FILE, problems);
    }

    pub(super) fn add_skyncignore(&mut self, file: &RuleFile, problems: &mut Vec<RuleProblem>) {
        add_file(&mut self.skyncignore, file, RULE_FILE, problems);
    }

    fn add_conditional(&mut self, conditional: &[&str], problems: &mut Vec<RuleProblem>) {
        let origin = named("the built-in patterns");
        for &line in conditional {
            let Some((pattern, beside)) = line.split_once(" beside ") else {
                continue;
            };
            if self.conditional.len() == CONDITIONAL_COUNT_MAX {
                problems.push(RuleProblem {
                    origin: origin(0),
                    pattern: line.to_owned(),
                    reason: format!("there are more than {CONDITIONAL_COUNT_MAX} of its kind"),
                });
                continue;
            }
            self.conditional.push(Conditional {
                pattern: patterns([pattern], &origin, problems),
                beside: beside.split_whitespace().map(|name| name.as_bytes().to_vec()).collect(),
            });
        }
    }
}

fn add_file(
    files: &mut HashMap<SyncPath, Arc<Gitignore>>,
    file: &RuleFile,
    name: &str,
    problems: &mut Vec<RuleProblem>,
) {
    let path = Name::parse(name.as_bytes())
        .map_or_else(|_| name.to_owned(), |name| file.directory.join(&name).to_string());
    let origin = move |line: usize| format!("{path}:{}", line + 1);
    let text = file.text.strip_prefix('\u{feff}').unwrap_or(&file.text);
    let compiled = patterns(text.lines(), &origin, problems);
    files.insert(file.directory.clone(), Arc::new(compiled));
}

fn lines(patterns: &[String]) -> impl Iterator<Item = &str> {
    patterns.iter().map(String::as_str)
}

fn named(origin: &str) -> impl Fn(usize) -> String {
    let origin = origin.to_owned();
    move |_| origin.clone()
}

fn patterns<'a>(
    lines: impl IntoIterator<Item = &'a str>,
    origin: &dyn Fn(usize) -> String,
    problems: &mut Vec<RuleProblem>,
) -> Gitignore {
    // The paths to be matched are relative, so no prefix is ever cut off by the matcher.
    let mut builder = GitignoreBuilder::new("");
    // In git, a class without its `]` matches nothing; here the user is told.
    builder.allow_unclosed_class(false);
    for (at, line) in lines.into_iter().enumerate() {
        let added = check(line).and_then(|()| {
            builder.add_line(None, &literal_braces(line)).map(|_| ()).map_err(|error| match error {
                ignore::Error::Glob { err, .. } => err,
                other => other.to_string(),
            })
        });
        if let Err(reason) = added {
            problems.push(RuleProblem { origin: origin(at), pattern: line.to_owned(), reason });
        }
    }
    builder.build().unwrap_or_else(|error| {
        problems.push(RuleProblem {
            origin: origin(0),
            pattern: "(all)".to_owned(),
            reason: error.to_string(),
        });
        Gitignore::empty()
    })
}

fn check(line: &str) -> Result<(), String> {
    if line.starts_with('#') {
        Ok(())
    } else if line.contains('\u{fffd}') {
        Err("it is not UTF-8".to_owned())
    } else if line.contains("[[:") {
        Err("named classes such as `[[:alpha:]]` are not supported".to_owned())
    } else {
        Ok(())
    }
}

/// Escapes `{` and `}`: to git they are letters, to the matcher alternatives.
fn literal_braces(line: &str) -> std::borrow::Cow<'_, str> {
    if !line.contains(['{', '}']) {
        return line.into();
    }
    let mut escaped = String::with_capacity(line.len() + 4);
    let (mut is_escaped, mut in_class) = (false, false);
    for c in line.chars() {
        match c {
            '{' | '}' if !is_escaped && !in_class => escaped.push('\\'),
            '[' if !is_escaped => in_class = true,
            ']' if !is_escaped => in_class = false,
            _ => {}
        }
        is_escaped = c == '\\' && !is_escaped;
        escaped.push(c);
    }
    escaped.into()
}
