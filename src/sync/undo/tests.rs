#![expect(clippy::disallowed_methods, reason = "tests write files of their own")]

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use super::*;
use crate::sync::trees::path;

/// A project, and a trash that keeps what steps destroy in it.
struct Project {
    place: tempfile::TempDir,
    trash: Arc<Trash>,
}

impl Project {
    fn new() -> Self {
        let place = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(place.path().join("p")).expect("made");
        let trash = Arc::new(Trash::open(&place.path().join("trash")).expect("a trash"));
        Self { place, trash }
    }

    fn root(&self) -> PathBuf {
        self.place.path().join("p")
    }

    fn at(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    fn put(&self, name: &str, content: &[u8]) {
        std::fs::create_dir_all(self.at(name).parent().expect("a parent")).expect("made");
        std::fs::write(self.at(name), content).expect("written");
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.at(name)).unwrap_or_else(|error| error.to_string().into())
    }

    /// Deletes a path as the sandbox would, with directories that are empty then.
    fn delete(&self, at: &str) {
        let (rules, version) = (RuleSet::of_defaults(), RuleSet::of_defaults().version);
        let root = Root::open(&self.root()).expect("opened");
        let (compiled, _) = Rules::compile(&rules);
        let staging = self.place.path().join("staging");
        let endpoint = Endpoint::open(root, &staging, compiled, version, None)
            .expect("an endpoint")
            .keep_with(self.trash.clone());
        let expected = endpoint.entry_at(&path(at)).expect("read");
        let transition = Transition { path: path(at), expected, new: None };
        let mut status = None;
        let steps = [Step::Transition(transition)].into_iter();
        endpoint.apply(steps, &mut |outcome| status = Some(outcome.status));
        assert_eq!(status, Some(Status::Applied), "{at}");
    }

    fn undo(&self, meant: &Meant) -> Vec<Outcome> {
        // Each undo is a command of its own: it begins a batch.
        let trash = Arc::new(Trash::open(self.trash.path()).expect("a trash"));
        let lost = trash.list().expect("listed");
        let staging = self.place.path().join("undo");
        restore(&self.root(), &staging, trash, &meant.choose(&lost)).expect("it can be undone")
    }
}

fn at(text: &str) -> Meant {
    Meant::Path(path(text))
}

#[test]
fn what_was_deleted_comes_back_as_it_was() {
    let project = Project::new();
    let large = vec![5; 700_001];
    project.put("d/e/script", &large);
    std::fs::set_permissions(project.at("d/e/script"), PermissionsExt::from_mode(0o700))
        .expect("chmod");
    let before = std::fs::metadata(project.at("d/e/script")).expect("there");
    project.put("empty", b"");
    symlink("../x", project.at("d/link")).expect("linked");
    for name in ["d/e/script", "d/e", "d/link", "d", "empty"] {
        project.delete(name);
    }
    assert_eq!(project.undo(&Meant::Last), vec![Outcome::Restored; 3]);
    assert_eq!(project.read("d/e/script"), large);
    assert_eq!(project.read("empty"), b"");
    let after = std::fs::metadata(project.at("d/e/script")).expect("there");
    assert_eq!(after.permissions().mode() & 0o7777, 0o700);
    assert_eq!(after.modified().expect("a time"), before.modified().expect("a time"));
    assert_eq!(std::fs::read_link(project.at("d/link")).expect("a link"), Path::new("../x"));
    assert_eq!(project.undo(&Meant::Last), vec![Outcome::Already; 3]);
    let left = std::fs::read_dir(project.place.path().join("undo")).expect("listed").count();
    assert_eq!(left, 0, "nothing is left in the staging directory");
}

#[test]
fn an_undo_can_be_undone() {
    let project = Project::new();
    project.put("a", b"first");
    project.delete("a");
    project.put("a", b"second");
    for content in ["first", "second", "first", "second"] {
        assert_eq!(project.undo(&at("a")), [Outcome::Restored]);
        assert_eq!(project.read("a"), content.as_bytes());
    }
}

#[test]
fn of_a_burst_the_first_version_is_meant_and_of_a_path_the_newest() {
    let project = Project::new();
    for content in ["1", "2", "3"] {
        project.put("a", content.as_bytes());
        project.delete("a");
    }
    assert_eq!(project.undo(&at("a")), [Outcome::Restored]);
    assert_eq!(project.read("a"), b"3");
    std::fs::remove_file(project.at("a")).expect("removed");
    assert_eq!(project.undo(&Meant::Last), [Outcome::Restored]);
    assert_eq!(project.read("a"), b"1");
}

#[test]
fn a_directory_brings_back_what_was_lost_below_it() {
    let project = Project::new();
    for name in ["d/a", "d/e/b", "f", "d-e"] {
        project.put(name, name.as_bytes());
        project.delete(name);
    }
    std::fs::remove_dir_all(project.at("d")).expect("removed");
    assert_eq!(project.undo(&at("d")), vec![Outcome::Restored; 2]);
    assert_eq!((project.read("d/a"), project.read("d/e/b")), (b"d/a".to_vec(), b"d/e/b".to_vec()));
    assert!(!project.at("f").exists() && !project.at("d-e").exists());
    assert_eq!(project.undo(&at("nothing")), []);
}

#[test]
fn what_is_in_the_way_and_would_be_lost_is_left() {
    let project = Project::new();
    for name in ["a", "b/c", "ok"] {
        project.put(name, b"1");
        project.delete(name);
    }
    std::fs::create_dir(project.at("a")).expect("made");
    std::fs::remove_dir(project.at("b")).expect("removed");
    project.put("b", b"a file");
    let outcomes = project.undo(&Meant::Last);
    let failed = |text: &str| Outcome::Failed(text.to_owned());
    let expected = [
        failed("a directory is there now; move it away first"),
        failed("`b` is a file now; move it away first"),
        Outcome::Restored,
    ];
    assert_eq!(outcomes, expected);
    assert!(project.at("a").is_dir());
    assert_eq!(project.read("b"), b"a file");
}

#[test]
fn a_link_in_the_way_is_not_followed() {
    let project = Project::new();
    project.put("d/a", b"1");
    project.delete("d/a");
    std::fs::remove_dir(project.at("d")).expect("removed");
    std::fs::create_dir(project.place.path().join("outside")).expect("made");
    symlink("../outside", project.at("d")).expect("linked");
    let outcomes = project.undo(&Meant::Last);
    let text = "`d` is a symbolic link now; move it away first".to_owned();
    assert_eq!(outcomes, [Outcome::Failed(text)]);
    assert!(!project.place.path().join("outside/a").exists());
}
