//! The questions, and what stands for an answer. Who is asked is a [`Terminal`], so a test can be the
//! person.

use std::io;

use super::look::Found;
use super::propose::images;
use crate::cli::InitArgs;
use crate::ui::prompt::Terminal;
use crate::ui::status_view::{count, size};
use crate::ui::visible;

/// How often an answer that means nothing is asked for again.
const TRIES_MAX: u32 = 5;

/// Where the profile is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In the user's own configuration.
    User,
    /// In `skync.toml` in the project.
    Project,
}

/// What is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answers {
    pub(super) driver: String,
    /// The image, or the template.
    pub(super) image: Option<String>,
    pub(super) exclude: Vec<String>,
    pub(super) place: Place,
}

/// What came of a question.
#[derive(Debug)]
pub(super) enum Asked<T> {
    Answer(T),
    /// The input has ended, or nothing that was said means anything.
    End,
}

/// The answers that flags and proposals give.
pub(super) fn proposed(args: &InitArgs, found: &Found) -> Answers {
    let driver = args.driver.clone().unwrap_or_else(|| driver(found).to_owned());
    let image = args.image.clone().or_else(|| proposed_image(&driver, found));
    // Whoever is not asked wants all of it there: a command that lacks a file fails.
    let exclude = args.exclude.clone();
    let place = if args.project { Place::Project } else { Place::User };
    Answers { driver, image, exclude, place }
}

fn driver(found: &Found) -> &'static str {
    match (&found.docker, found.keys) {
        (Ok(_), _) => "docker",
        (Err(_), [true, _]) => "e2b",
        (Err(_), [false, true]) => "daytona",
        (Err(_), [false, false]) => "directory",
    }
}

fn proposed_image(driver: &str, found: &Found) -> Option<String> {
    (driver == "docker").then(|| of_docker(found).swap_remove(0).0)
}

fn of_docker(found: &Found) -> Vec<(String, String)> {
    images(found.kind, found.devcontainer.as_deref(), &found.images)
}

/// Asks for everything that no flag says.
///
/// # Errors
/// If the terminal fails.
pub(super) fn ask(
    args: &InitArgs,
    found: &Found,
    terminal: &mut dyn Terminal,
) -> io::Result<Asked<Answers>> {
    let mut answers = proposed(args, found);
    if args.driver.is_none() {
        let Asked::Answer(driver) = ask_driver(found, terminal)? else { return Ok(Asked::End) };
        answers.driver = driver;
        answers.image = args.image.clone().or_else(|| proposed_image(&answers.driver, found));
    }
    if args.image.is_none() {
        let Asked::Answer(image) = ask_image(&answers.driver, found, terminal)? else {
            return Ok(Asked::End);
        };
        answers.image = image;
    }
    if args.exclude.is_empty() && !found.large.is_empty() {
        let Asked::Answer(exclude) = ask_exclude(found, terminal)? else { return Ok(Asked::End) };
        answers.exclude = exclude;
    }
    if !args.project && !args.user && found.project.is_ok() {
        let choices = [
            ("user".to_owned(), "your own configuration: for all your projects".to_owned()),
            (
                "project".to_owned(),
                "`skync.toml` in the project: for all who work on it".to_owned(),
            ),
        ];
        let question = "Where is this to be kept?";
        let Asked::Answer(place) = choose(question, &choices, 0, false, terminal)? else {
            return Ok(Asked::End);
        };
        answers.place = if place == "project" { Place::Project } else { Place::User };
    }
    Ok(Asked::Answer(answers))
}

fn ask_driver(found: &Found, terminal: &mut dyn Terminal) -> io::Result<Asked<String>> {
    let key = |there: bool| if there { "a key is there" } else { "no key is here yet" };
    let docker = match &found.docker {
        Ok(version) => format!("a container; the engine answers ({version})"),
        Err(why) => format!("a container; {why}"),
    };
    let choices = [
        ("docker", docker),
        ("e2b", format!("a sandbox at E2B; {}", key(found.keys[0]))),
        ("daytona", format!("a sandbox at Daytona; {}", key(found.keys[1]))),
        ("directory", "another directory of this machine, which keeps nothing out".to_owned()),
    ];
    let choices = choices.map(|(name, words)| (name.to_owned(), words));
    let usual = choices.iter().position(|(name, _)| name == driver(found)).unwrap_or(0);
    choose("Where shall the code run?", &choices, usual, false, terminal)
}

fn ask_image(
    driver: &str,
    found: &Found,
    terminal: &mut dyn Terminal,
) -> io::Result<Asked<Option<String>>> {
    let (question, choices) = match driver {
        "docker" => ("Which image? (a number, or any name)", of_docker(found)),
        "e2b" => (
            "Which template? (a number, or any name)",
            vec![("base".to_owned(), "E2B's own".to_owned())],
        ),
        "daytona" => (
            "Which image? (a number, or any name)",
            vec![("default".to_owned(), "your organisation's default snapshot".to_owned())],
        ),
        _ => return Ok(Asked::Answer(None)),
    };
    let asked = choose(question, &choices, 0, true, terminal)?;
    Ok(match asked {
        Asked::End => Asked::End,
        // What is taken anyway need not be written.
        Asked::Answer(image) if driver != "docker" && image == choices[0].0 => Asked::Answer(None),
        Asked::Answer(image) => Asked::Answer(Some(image)),
    })
}

fn ask_exclude(found: &Found, terminal: &mut dyn Terminal) -> io::Result<Asked<Vec<String>>> {
    terminal.show("\nThese are large. What does the sandbox not need?\n")?;
    for (at, (path, files, bytes)) in found.large.iter().enumerate() {
        let shown = visible(&path.to_string_lossy());
        let line = format!("  {}  {shown}/  {} files, {}\n", at + 1, count(*files), size(*bytes));
        terminal.show(&line)?;
    }
    for _ in 0..TRIES_MAX {
        let Some(line) = terminal.ask("Numbers, `all`, or Enter for none: ")? else {
            return Ok(Asked::End);
        };
        if let Some(chosen) = numbers(line.trim(), found.large.len()) {
            let pattern = |at: usize| pattern(&found.large[at].0.to_string_lossy());
            return Ok(Asked::Answer(chosen.into_iter().map(pattern).collect()));
        }
        terminal.show("numbers from the list are meant\n")?;
    }
    Ok(Asked::End)
}

/// Which ones of so many are meant; nothing if that cannot be told.
fn numbers(line: &str, count: usize) -> Option<Vec<usize>> {
    match line {
        "" | "none" | "n" => return Some(Vec::new()),
        "all" | "a" => return Some((0..count).collect()),
        _ => {}
    }
    let words = line.split([' ', ',']).filter(|word| !word.is_empty());
    words.map(|word| word.parse::<usize>().ok()?.checked_sub(1).filter(|at| *at < count)).collect()
}

/// The pattern for this directory and no other.
fn pattern(directory: &str) -> String {
    let mut out = "/".to_owned();
    for c in directory.chars() {
        if matches!(c, '*' | '?' | '[' | '\\' | ' ') {
            out.push('\\');
        }
        out.push(c);
    }
    out + "/"
}

/// Has a person choose one of several, by its number or its name; with `any`, any other name is an
/// answer, too.
fn choose(
    question: &str,
    choices: &[(String, String)],
    usual: usize,
    any: bool,
    terminal: &mut dyn Terminal,
) -> io::Result<Asked<String>> {
    terminal.show(&format!("\n{question}\n"))?;
    let width = choices.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for (at, (name, words)) in choices.iter().enumerate() {
        let (name, words) = (visible(name), visible(words));
        terminal.show(&format!("  {}  {name:<width$}  {words}\n", at + 1))?;
    }
    for _ in 0..TRIES_MAX {
        let Some(line) = terminal.ask(&format!("[{}] ", usual + 1))? else { return Ok(Asked::End) };
        let line = line.trim();
        let number = match line {
            "" => Some(usual),
            _ => line.parse::<usize>().ok().and_then(|number| number.checked_sub(1)),
        };
        let by_number = number.and_then(|at| choices.get(at));
        let chosen = by_number.or_else(|| choices.iter().find(|(name, _)| name == line));
        match chosen {
            Some((name, _)) => return Ok(Asked::Answer(name.clone())),
            None if any && number.is_none() => return Ok(Asked::Answer(line.to_owned())),
            None => terminal.show(&format!("a number from 1 to {} is meant\n", choices.len()))?,
        }
    }
    Ok(Asked::End)
}

/// Asks for the last word; Enter is a yes.
///
/// # Errors
/// If the terminal fails.
pub(super) fn confirm(terminal: &mut dyn Terminal) -> io::Result<bool> {
    let Some(line) = terminal.ask("Write it? [Y/n] ")? else { return Ok(false) };
    Ok(matches!(line.trim().to_lowercase().as_str(), "" | "y" | "yes"))
}

#[cfg(test)]
mod tests;
