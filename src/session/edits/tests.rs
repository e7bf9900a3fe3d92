//! A sandbox that edits the project's files gains nothing.

use super::*;
use crate::config::layers::{FileLayer, Found};
use crate::config::trust::digest;
use crate::config::{DirectoryConfig, DriverConfig, Level};

const TWO: &str =
    "profile = \"p\"\n[profiles.p]\ndriver = \"directory\"\nexclude = [\"a\", \"b\"]\n";
const ONE: &str = "profile = \"p\"\n[profiles.p]\ndriver = \"directory\"\nexclude = [\"a\"]\n";
const THREE: &str =
    "profile = \"p\"\n[profiles.p]\ndriver = \"directory\"\nexclude = [\"!a\", \"b\", \"c\"]\n";
const BAD: &str =
    "profile = \"p\"\n[profiles.p]\ndriver = \"directory\"\nexclude = []\nguarded = []\n";

fn layers(user: &str, project: Option<&str>, verdict: Verdict) -> Layers {
    let content = |text: &str| Found::Content(text.as_bytes().to_vec());
    let user = FileLayer {
        level: Level::User,
        path: "/u/config.toml".into(),
        found: content(user),
        verdict: Verdict::Trusted,
    };
    let project = FileLayer {
        level: Level::Project,
        path: Path::new("/p").join(PROJECT_FILE),
        found: project.map_or(Found::Missing, content),
        verdict,
    };
    Layers { root: Some("/p".into()), files: vec![user, project], ..Layers::default() }
}

/// A session that began with a project's file.
fn began(project: &str, exclude: &[&str]) -> Following {
    let mut profile = Profile::new("p", DriverConfig::Directory(DirectoryConfig::default()));
    profile.exclude = exclude.iter().map(|&one| one.to_owned()).collect();
    if !project.is_empty() {
        profile.project_files.insert(PROJECT_FILE.to_owned(), digest(project.as_bytes()));
    }
    Following::new(&profile)
}

#[test]
fn an_edit_that_is_not_trusted_excludes_more_and_never_less() {
    for verdict in [Verdict::Unknown, Verdict::Changed] {
        let mut following = began(TWO, &["a", "b"]);
        let (_, note) = following.take(layers("", Some(ONE), verdict));
        assert!(note.is_some_and(|note| note.contains("`skync.toml` has changed")));
        assert_eq!(following.profile.exclude, ["a", "b"]);
        // Told once.
        assert_eq!(following.take(layers("", Some(ONE), verdict)).1, None);
        following.take(layers("", Some(BAD), verdict));
        assert_eq!(following.profile.exclude, ["a", "b"]);
        assert_eq!(following.profile.guarded, None);
        let (_, note) = following.take(layers("", None, verdict));
        assert!(note.is_some(), "a file that is gone is an edit");
        assert_eq!(following.profile.exclude, ["a", "b"]);
    }
    let mut following = began(TWO, &["a", "b"]);
    assert!(following.take(layers("", Some(THREE), Verdict::Unknown)).0);
    assert_eq!(following.profile.exclude, ["a", "b", "c"]);
}

#[test]
fn what_is_trusted_holds_at_once() {
    let mut following = began(TWO, &["a", "b"]);
    assert_eq!(following.take(layers("", Some(BAD), Verdict::Trusted)), (true, None));
    assert_eq!(following.profile.exclude, Vec::<String>::new());
    assert_eq!(following.profile.guarded.as_deref(), Some(&[][..]));
    // And from then on is what an edit is measured by.
    let (_, note) = following.take(layers("", Some(TWO), Verdict::Changed));
    assert!(note.is_some());
}

#[test]
fn the_users_own_edit_holds_beside_a_project_file_that_is_as_it_was() {
    let user = "[profiles.q]\ndriver = \"directory\"\nexclude = [\"x\"]\n";
    let project = "";
    let mut following = began(project, &["a"]);
    following.profile.name = "q".to_owned();
    assert_eq!(following.take(layers(user, None, Verdict::Unknown)), (true, None));
    assert_eq!(following.profile.exclude, ["x"]);
    following.profile.fixed = vec!["exclude".to_owned()];
    assert_eq!(
        following.take(layers("[profiles.q]\ndriver = \"directory\"\n", None, Verdict::Unknown)),
        (true, None)
    );
    assert_eq!(following.profile.exclude, ["x"]);
}
