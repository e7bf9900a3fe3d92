//! What would be written, and how it gets into its file: by the editing that `profile add` uses, which
//! keeps what a person wrote there.
//!
//! A draft is made in a copy, so that what is shown before is what is written after.

use std::path::{Path, PathBuf};

use toml_edit::{Array, Value};

use super::questions::{Answers, Place};
use crate::commands::project_file;
use crate::config::edit::{self, NewProfile};
use crate::config::layers::PROJECT_FILE;
use crate::config::{Config, ConfigError, Profile};
use crate::error::{CliError, ExitCode};
use crate::state::{self, Places};
use crate::ui::difference;

/// What stands at the head of a new one.
const HEAD: &str =
    "# How skync runs this project; `skync config schema` prints what may stand here.\n\n";
/// Longest settings file, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Names that are tried before that is given up.
const NAMES_MAX: u32 = 100;

/// What would be written.
#[derive(Debug)]
pub(super) struct Draft {
    /// Into which file.
    pub(super) file: PathBuf,
    /// The profile.
    pub(super) profile: Profile,
    /// What is in the file now; nothing if it is not there.
    old: Option<String>,
    /// What will be.
    pub(super) new: String,
    /// The profile will be the one in use, as far as this file says.
    pub(super) is_active: bool,
    /// All of it is there already.
    pub(super) is_there: bool,
    made: NewProfile,
    place: Place,
}

/// Drafts a profile with these settings.
///
/// # Errors
/// If the settings are wrong, a file has mistakes, or the name that was asked for is taken.
pub(super) fn draft(
    answers: &Answers,
    name: Option<&str>,
    places: &Places,
    project: Option<&Path>,
) -> Result<Draft, CliError> {
    let of_project = project.map(|root| root.join(PROJECT_FILE));
    let of_user = places.config_file();
    let file = match (answers.place, &of_project) {
        (Place::Project, Some(file)) => file.clone(),
        _ => of_user.clone(),
    };
    if answers.place == Place::Project && file.is_symlink() {
        let message = format!("`{}` is a link, and is not written through", file.display());
        return Err(CliError::new(ExitCode::Usage, message).hint("`--user` writes elsewhere"));
    }
    let configs = [Some(of_user), of_project].into_iter().flatten();
    let configs: Vec<Config> = configs.map(|file| Config::load(&file)).collect::<Result<_, _>>()?;
    if let Some(broken) = configs.iter().find(|config| config.file == file && config.partly_hidden)
    {
        let (what, file) = ("cannot change the configuration".to_owned(), broken.file.clone());
        return Err(ConfigError::Problems { what, file, problems: broken.problems.clone() }.into());
    }
    let mut made = NewProfile {
        name: name.map_or_else(|| usual_name(&answers.driver), str::to_owned),
        settings: settings(answers),
        env: std::collections::BTreeMap::new(),
    };
    let here = configs.iter().find(|config| config.file == file);
    if let Some(same) = here.and_then(|config| like(config, &made, name)) {
        let text = read(&file)?.unwrap_or_default();
        let is_active = here.is_some_and(|config| config.active.as_ref() == Some(&same.name));
        let (old, new, place) = (Some(text.clone()), text, answers.place);
        return Ok(Draft { file, profile: same, old, new, is_active, is_there: true, made, place });
    }
    made.name = free_name(made.name, name, &configs)?;
    in_copy(file, made, answers.place)
}

/// Drivers whose names are those of built-in profiles need another one.
fn usual_name(driver: &str) -> String {
    if Profile::built_in(driver).is_some() { "copy".to_owned() } else { driver.to_owned() }
}

fn settings(answers: &Answers) -> Vec<(&'static str, Value)> {
    let mut settings = vec![("driver", Value::from(answers.driver.as_str()))];
    if let Some(image) = &answers.image {
        let key = if answers.driver == "e2b" { "template" } else { "image" };
        settings.push((key, Value::from(image.as_str())));
    }
    if !answers.exclude.is_empty() {
        settings.push(("exclude", Value::Array(Array::from_iter(&answers.exclude))));
    }
    settings
}

/// A profile of the file that has these settings and no others, under a name that could be its own.
fn like(config: &Config, made: &NewProfile, name: Option<&str>) -> Option<Profile> {
    let candidates = config.profiles.iter().filter(|(found, _)| match name {
        Some(name) => found == name,
        None => *found == made.name || found.starts_with(&format!("{}-", made.name)),
    });
    candidates.filter_map(|(_, checked)| checked.as_ref().ok()).find_map(|profile| {
        let same = NewProfile { name: profile.name.clone(), ..made.clone() };
        edit::check(&same).is_ok_and(|checked| checked == *profile).then(|| profile.clone())
    })
}

fn free_name(usual: String, asked: Option<&str>, configs: &[Config]) -> Result<String, CliError> {
    let is_taken = |name: &str| {
        Profile::built_in(name).is_some()
            || configs.iter().any(|config| config.profiles.iter().any(|(found, _)| found == name))
    };
    match asked {
        Some(name) if is_taken(name) => {
            let message = format!("the profile `{}` is there already", crate::ui::visible(name));
            Err(CliError::new(ExitCode::Config, message).hint(
                "`--name NAME` gives it another name; `skync profile list` shows those there are",
            ))
        }
        Some(_) => Ok(usual),
        None => {
            let numbered = (2..NAMES_MAX).map(|number| format!("{usual}-{number}"));
            let free = std::iter::once(usual.clone()).chain(numbered).find(|name| !is_taken(name));
            free.ok_or_else(|| {
                CliError::new(
                    ExitCode::Config,
                    format!("`{usual}` and the names after it are taken"),
                )
                .hint("`--name NAME` gives it another name")
            })
        }
    }
}

/// Makes the change in a copy of the file.
fn in_copy(file: PathBuf, made: NewProfile, place: Place) -> Result<Draft, CliError> {
    let old = read(&file)?;
    let change = |copy: &Path| {
        let added = edit::add(copy, &made, false)?;
        if place == Place::Project && Config::load(copy)?.active.is_none() {
            edit::activate(copy, &made.name)?;
            return Ok((added.profile, true));
        }
        Ok((added.profile, added.activated))
    };
    let ((profile, is_active), text) =
        project_file::in_copy(old.as_deref().map(str::as_bytes), change)?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let is_new = old.as_deref().unwrap_or_default().trim().is_empty();
    let new = match place {
        Place::Project if is_new => format!("{HEAD}{text}"),
        Place::Project | Place::User => text,
    };
    Ok(Draft { file, profile, old, new, is_active, is_there: false, made, place })
}

/// The text of a settings file; nothing if it is not there.
fn read(file: &Path) -> Result<Option<String>, CliError> {
    let bytes = state::read(file, FILE_BYTES_MAX)?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

impl Draft {
    /// What changes in the file, for a person.
    pub(super) fn shown(&self) -> String {
        let name = self.file.display().to_string();
        match self.old.as_deref().filter(|old| !old.is_empty()) {
            None => {
                let lines =
                    self.new.lines().map(|line| format!("  {}\n", crate::ui::visible(line)));
                format!(
                    "`{}`, which is new:\n{}",
                    crate::ui::visible(&name),
                    lines.collect::<String>()
                )
            }
            Some(old) => {
                let whole = difference::unified(&name, old.as_bytes(), self.new.as_bytes());
                // The names of the two versions say nothing here.
                let lines = whole.lines().skip_while(|line| !line.starts_with("@@"));
                let lines = lines.map(|line| format!("  {line}\n"));
                format!("`{}`:\n{}", crate::ui::visible(&name), lines.collect::<String>())
            }
        }
    }

    /// Writes it. What the user was shown and wanted counts: a project's file is trusted from then on,
    /// unless there was something in it that is not.
    ///
    /// # Errors
    /// If somebody has changed the file meanwhile, or it cannot be written.
    pub(super) fn write(&self, places: &Places) -> Result<(), CliError> {
        if read(&self.file)? != self.old {
            let message =
                format!("`{}` was changed meanwhile, so nothing was written", self.file.display());
            return Err(CliError::new(ExitCode::Failed, message).hint("run `skync init` again"));
        }
        match self.place {
            // Under the lock that all who change it take.
            Place::User => edit::add(&self.file, &self.made, false).map(drop)?,
            Place::Project => {
                let old = self.old.as_deref().map(str::as_bytes);
                project_file::write(&self.file, old, self.new.as_bytes(), places)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own files")]
mod tests {
    use super::*;

    fn answers(place: Place) -> Answers {
        Answers {
            driver: "docker".into(),
            image: Some("python:3.12".into()),
            exclude: vec!["/data/".into()],
            place,
        }
    }

    fn world() -> (tempfile::TempDir, Places, PathBuf) {
        let base = tempfile::tempdir().expect("a directory");
        let project = base.path().join("p");
        std::fs::create_dir(&project).expect("made");
        let places = Places::below(base.path());
        (base, places, project)
    }

    #[test]
    fn a_new_project_file_says_what_it_is_and_is_not_written_before() {
        let (_base, places, project) = world();
        let draft =
            draft(&answers(Place::Project), None, &places, Some(&project)).expect("a draft");
        assert_eq!(std::fs::read_dir(&project).expect("there").count(), 0);
        insta::assert_snapshot!(draft.new, @r#"
        # How skync runs this project; `skync config schema` prints what may stand here.

        profile = "docker"

        [profiles.docker]
        driver = "docker"
        image = "python:3.12"
        exclude = ["/data/"]
        "#);
        draft.write(&places).expect("written");
        let names: Vec<_> = std::fs::read_dir(&project).expect("there").flatten().collect();
        assert_eq!(names.len(), 1, "{names:?}");
        assert!(draft.write(&places).is_err(), "it is not written over");
    }

    #[test]
    fn what_a_person_wrote_in_a_project_file_stays() {
        let (_base, places, project) = world();
        let file = project.join(PROJECT_FILE);
        let old = "# ours\nprofile = \"mine\"\n\n[profiles.mine]\ndriver = \"directory\" # so\n";
        std::fs::write(&file, old).expect("written");
        let draft =
            draft(&answers(Place::Project), None, &places, Some(&project)).expect("a draft");
        assert!(draft.new.starts_with(old) && !draft.is_active, "{}", draft.new);
        assert!(draft.shown().contains("  +[profiles.docker]\n"), "{}", draft.shown());
        std::fs::write(&file, "# another\n").expect("written");
        assert!(
            draft.write(&places).expect_err("changed").message.contains("was changed meanwhile")
        );
    }

    #[test]
    fn a_name_that_is_taken_in_either_file_is_not_taken_again() {
        let (_base, places, project) = world();
        std::fs::create_dir_all(&places.config).expect("made");
        std::fs::write(places.config_file(), "[profiles.docker]\ndriver = \"directory\"\n")
            .expect("written");
        let answers = answers(Place::Project);
        let of = |name| draft(&answers, name, &places, Some(&project));
        assert_eq!(of(None).expect("a draft").profile.name, "docker-2");
        assert_eq!(of(Some("docker")).expect_err("taken").code, ExitCode::Config);
        assert_eq!(of(Some("mine")).expect("a draft").profile.name, "mine");
    }

    #[test]
    fn the_same_once_more_changes_nothing() {
        let (_base, places, project) = world();
        let answers = answers(Place::User);
        let first = draft(&answers, None, &places, Some(&project)).expect("a draft");
        first.write(&places).expect("written");
        let again = draft(&answers, None, &places, Some(&project)).expect("a draft");
        assert!(again.is_there && again.is_active);
        assert_eq!(again.profile, first.profile);
    }

    #[test]
    fn wrong_settings_and_broken_files_are_refused_with_all_that_is_wrong() {
        let (_base, places, project) = world();
        let wrong = Answers {
            image: Some("../x y".into()),
            driver: "dokcer".into(),
            ..answers(Place::User)
        };
        let error = draft(&wrong, None, &places, Some(&project)).expect_err("refused");
        assert_eq!(error.code, ExitCode::Config);
        std::fs::write(project.join(PROJECT_FILE), "a = [").expect("written");
        let error =
            draft(&answers(Place::Project), None, &places, Some(&project)).expect_err("refused");
        assert_eq!(error.code, ExitCode::Config);
        std::os::unix::fs::symlink("/dev/null", project.join("link")).expect("made");
    }
}
