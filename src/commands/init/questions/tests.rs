use super::*;
use crate::commands::init::propose::Kind;
use crate::error::{CliError, ExitCode};
use crate::ui::prompt::person::Person;

fn found() -> Found {
    Found {
        docker: Ok("29.1".into()),
        images: vec!["node:22".into()],
        keys: [false, false],
        project: Ok("/p".into()),
        kind: Kind::Node,
        is_empty: false,
        devcontainer: None,
        large: vec![("data".into(), 3, 5_000_000_000), ("old [1]".into(), 20_000, 1)],
    }
}

fn asked(args: &InitArgs, found: &Found, answers: &[&'static str]) -> (Option<Answers>, String) {
    let mut person = Person::with(answers);
    let answers = match ask(args, found, &mut person).expect("asked") {
        Asked::Answer(answers) => Some(answers),
        Asked::End => None,
    };
    assert!(person.answers.is_empty(), "not asked for: {:?}", person.answers);
    (answers, person.said)
}

#[test]
fn four_questions_have_proposals_that_enter_takes() {
    let (answers, said) = asked(&InitArgs::default(), &found(), &["", "", "", ""]);
    let answers = answers.expect("answers");
    assert_eq!(answers, proposed(&InitArgs::default(), &found()));
    assert_eq!(answers.image.as_deref(), Some("node:22"));
    insta::assert_snapshot!(said.trim(), @r"
    Where shall the code run?
      1  docker     a container; the engine answers (29.1)
      2  e2b        a sandbox at E2B; no key is here yet
      3  daytona    a sandbox at Daytona; no key is here yet
      4  directory  another directory of this machine, which keeps nothing out
    [1] 

    Which image? (a number, or any name)
      1  node:22  for a Node project; it is on this machine
    [1] 

    These are large. What does the sandbox not need?
      1  data/  3 files, 5.0 GB
      2  old [1]/  20,000 files, 1 B
    Numbers, `all`, or Enter for none: 

    Where is this to be kept?
      1  user     your own configuration: for all your projects
      2  project  `skync.toml` in the project: for all who work on it
    [1]
    ");
}

#[test]
fn answers_are_numbers_or_names() {
    let (answers, _) = asked(&InitArgs::default(), &found(), &["1", "my:image", "1, 2", "project"]);
    let expected = Answers {
        driver: "docker".into(),
        image: Some("my:image".into()),
        exclude: vec!["/data/".into(), "/old\\ \\[1]/".into()],
        place: Place::Project,
    };
    assert_eq!(answers, Some(expected));
    let (answers, _) = asked(&InitArgs::default(), &found(), &["e2b", "1", "all", "1"]);
    let answers = answers.expect("answers");
    assert_eq!((answers.driver.as_str(), answers.image, answers.exclude.len()), ("e2b", None, 2));
}

#[test]
fn what_a_flag_says_is_not_asked() {
    let args = InitArgs {
        driver: Some("directory".into()),
        exclude: vec!["x/".into()],
        user: true,
        ..InitArgs::default()
    };
    let (answers, said) = asked(&args, &found(), &[]);
    assert_eq!((answers.expect("answers").image, said.as_str()), (None, ""));
}

#[test]
fn what_is_there_decides_what_is_proposed() {
    let mut found = found();
    for (docker, keys, expected) in [
        (true, [true, true], "docker"),
        (false, [true, true], "e2b"),
        (false, [false, true], "daytona"),
        (false, [false, false], "directory"),
    ] {
        found.docker = if docker { Ok("1".into()) } else { Err("none".into()) };
        found.keys = keys;
        assert_eq!(proposed(&InitArgs::default(), &found).driver, expected);
    }
    found.project = Err(CliError::new(ExitCode::Usage, "none"));
    found.large.clear();
    let (answers, _) = asked(&InitArgs::default(), &found, &[""]);
    assert_eq!(answers.expect("answers").place, Place::User);
}

#[test]
fn the_end_of_the_input_and_nonsense_without_end_are_no_answers() {
    let args = InitArgs::default();
    assert_eq!(asked(&args, &found(), &["1", "2"]).0, None);
    assert_eq!(asked(&args, &found(), &["9", "x", "0", "docker?", "-1"]).0, None);
    assert!(!confirm(&mut Person::with(&[])).expect("asked"));
    assert!(confirm(&mut Person::with(&[""])).expect("asked"));
    assert!(!confirm(&mut Person::with(&["no"])).expect("asked"));
}
