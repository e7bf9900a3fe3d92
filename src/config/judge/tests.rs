//! What a project's file may say unasked, and what not.

use std::path::Path;

use super::super::layers::{FileLayer, Layers};
use super::*;

fn layer(level: Level, path: &str, text: &str, verdict: Verdict) -> FileLayer {
    FileLayer { level, path: path.into(), found: Found::Content(text.into()), verdict }
}

fn config(user: &str, project: &str, verdict: Verdict) -> Config {
    let files = vec![
        layer(Level::User, "/u/config.toml", user, Verdict::Trusted),
        layer(Level::Project, "/p/skync.toml", project, verdict),
    ];
    let layers = Layers { root: Some("/p".into()), files, ..Layers::default() };
    Config::gather(layers, None, None)
}

#[track_caller]
fn judged(user: &str, project: &str) -> Result<(), ConfigError> {
    config(user, project, Verdict::Unknown).select(None, None).map(drop)
}

#[track_caller]
fn free(user: &str, project: &str) {
    judged(user, project).unwrap_or_else(|error| panic!("{error}: {error:?}\n{user}\n{project}"));
}

#[track_caller]
fn asks(user: &str, project: &str, key: &str) {
    match judged(user, project) {
        Err(ConfigError::Untrusted { file, changed: false, problems, .. }) => {
            assert_eq!(file, Path::new("/p/skync.toml"));
            let named = |problem: &ConfigProblem| problem.message.contains(&format!("`{key}`"));
            assert!(problems.iter().any(named), "{key}: {problems:?}");
        }
        other => panic!("{other:?}\n{user}\n{project}"),
    }
    let trusted = config(user, project, Verdict::Trusted).select(None, None);
    trusted.unwrap_or_else(|error| panic!("trusted: {error:?}\n{project}"));
}

const DOCKER: &str = "profile = \"d\"\n[profiles.d]\ndriver = \"docker\"\nimage = \"a\"\n";
const MINE: &str = "profile = \"m\"\n[profiles.m]\ndriver = \"docker\"\nimage = \"m\"\n";
const CLOUD: &str = "profile = \"c\"\n[profiles.c]\ndriver = \"e2b\"\n";

#[test]
fn what_a_project_may_say_unasked() {
    free("", DOCKER);
    free("", "profile = \"x\"\n[profiles.x]\ndriver = \"directory\"\nexclude = [\"a\"]\n");
    free(MINE, "[profiles.m]\nimage = \"other\"\nmemory = \"1GiB\"\nexclude = [\"a\"]\n");
    free(CLOUD, "[profiles.c]\ntemplate = \"t\"\n");
}

#[test]
fn what_could_hurt_needs_trust() {
    for line in [
        "host = \"tcp://elsewhere:1\"",
        "network = \"host\"",
        "user = \"root\"",
        "guarded = []",
        "mode = \"two-way-resolved\"",
        "setup = \"make\"",
        "root = \"/w\"",
        "on_disconnect = \"keep\"",
        "reconnect_timeout = \"9h\"",
        "link = \"stdio\"",
        "mount = true",
        "mount_at = \"/home/me/.ssh\"",
        "mount_root = \"/\"",
        "mount_rw = true",
        "mount_timeout = \"9m\"",
        "env = { PATH = \"/p\" }",
    ] {
        let key = line.split(' ').next().expect("a key");
        let key = if key == "env" { "env.PATH" } else { key };
        asks("", &format!("{DOCKER}{line}\n"), key);
    }
    asks(
        "",
        "profile = \"d\"\n[profiles.d]\ndriver = \"docker\"\ncontainer = \"db\"\n",
        "container",
    );
    asks("", "profile = \"local\"\n", "profile");
    asks(MINE, "profile = \"directory\"\n", "profile");
    asks("", CLOUD, "driver");
    asks(CLOUD, DOCKER, "driver");
    asks(CLOUD, "[profiles.c]\ntimeout = \"23h\"\n", "timeout");
    asks(CLOUD, "[profiles.c]\ninternet = true\n", "internet");
}

#[test]
fn no_trust_lets_a_project_run_commands_of_the_host() {
    let text = format!("{CLOUD}credential_command = [\"sh\"]\n");
    for verdict in [Verdict::Unknown, Verdict::Trusted] {
        let error = config("", &text, verdict).select(None, None).map(drop);
        assert!(matches!(error, Err(ConfigError::Problems { .. })), "{error:?}");
    }
}

#[test]
fn limits_and_exclusions_of_the_user_hold() {
    let user = format!("{MINE}exclude = [\"a\", \"b\"]\nmemory = \"1GiB\"\ngitignore = true\n");
    free(&user, "[profiles.m]\nexclude = [\"x\", \"a\", \"b\"]\n");
    for exclude in ["[\"a\"]", "[]", "[\"a\", \"b\", \"!a\"]", "[\"b\", \"a\"]"] {
        asks(&user, &format!("[profiles.m]\nexclude = {exclude}\n"), "exclude");
    }
    asks(&user, "[profiles.m]\nmemory = \"64GiB\"\n", "memory");
    asks(&user, "[profiles.m]\ngitignore = false\n", "gitignore");
    // Nor does another profile in its place take them away, or another to extend.
    asks(&user, DOCKER, "profile");
    let user = "profile = \"m\"\n[profiles.m]\nextends = \"base\"\n[profiles.base]\n\
        driver = \"docker\"\nimage = \"a\"\nnetwork = \"none\"\n";
    let other = "[profiles.m]\nextends = \"o\"\n[profiles.o]\ndriver = \"docker\"\nimage = \"a\"\n";
    asks(user, other, "extends");
}

#[test]
fn a_profile_that_the_user_made_for_something_else_is_not_taken() {
    let user =
        format!("{MINE}[profiles.secret]\ndriver = \"docker\"\nimage = \"a\"\nenv.TOKEN = \"1\"\n");
    asks(&user, "profile = \"secret\"\n", "profile");
    asks(&user, "profile = \"x\"\n[profiles.x]\nextends = \"secret\"\n", "extends");
    free(
        &format!("{MINE}[profiles.plain]\ndriver = \"docker\"\nimage = \"a\"\n"),
        "profile = \"plain\"\n",
    );
}

#[test]
fn a_file_that_changed_or_went_since_it_was_trusted_stops_everything() {
    let changed = config("", DOCKER, Verdict::Changed).select(None, None).map(drop);
    assert!(matches!(changed, Err(ConfigError::Untrusted { changed: true, gone: false, .. })));
    let mut layers = config("", DOCKER, Verdict::Changed).layers;
    layers.files[1].found = Found::Missing;
    let config = Config::gather(layers, None, None);
    let gone = config.select(None, None).map(drop);
    assert!(matches!(gone, Err(ConfigError::Untrusted { gone: true, .. })));
    config.select(Some("local"), None).expect("nothing of the project's is in it");
}

#[test]
fn a_file_that_is_not_trusted_does_not_weaken_one_that_is() {
    let local = "[profiles.d]\nexclude = []\nmemory = \"64GiB\"\n";
    let project = format!("{DOCKER}exclude = [\"a\"]\nmemory = \"1GiB\"\n");
    let mut layers = config("", &project, Verdict::Trusted).layers;
    layers.files.push(layer(Level::ProjectLocal, "/p/skync.local.toml", local, Verdict::Unknown));
    let refused = Config::gather(layers, None, None).select(None, None).map(drop);
    let Err(ConfigError::Untrusted { file, problems, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(file, Path::new("/p/skync.local.toml"));
    assert_eq!(problems.len(), 2, "{problems:?}");
}
