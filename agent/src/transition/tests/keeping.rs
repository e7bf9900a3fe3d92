//! What is destroyed is given to the keeper first, and to nobody where there is none.

use super::*;
use crate::disk::Meta;

/// Keeps by moving, by copying, or not at all.
#[derive(Debug)]
struct Shelf {
    place: DirFd,
    answer: Result<Kept, KeepError>,
    seen: Mutex<Vec<(String, Loss, Vec<u8>)>>,
    rests: Mutex<u32>,
}

impl Shelf {
    fn new(world: &World, answer: Result<Kept, KeepError>) -> Self {
        let place = world.outside.join("shelf");
        std::fs::create_dir_all(&place).expect("made");
        let place = DirFd::open(&place).expect("opened");
        Self { place, answer, seen: Mutex::default(), rests: Mutex::default() }
    }

    fn seen(&self) -> Vec<(String, Loss, Vec<u8>)> {
        self.seen.lock().expect("not poisoned").clone()
    }
}

fn content_of(doomed: &Doomed<'_>) -> Vec<u8> {
    let mut content = Vec::new();
    match doomed.directory.open_file(doomed.name) {
        Ok(mut file) => drop(std::io::Read::read_to_end(&mut file, &mut content).expect("read")),
        Err(_) => content = doomed.directory.read_link(doomed.name).expect("a link").into(),
    }
    content
}

impl Keeper for Shelf {
    fn keep(&self, doomed: &Doomed<'_>) -> Result<Kept, KeepError> {
        let there = doomed.directory.stat(doomed.name).expect("there");
        assert!(Meta::is_same_object(&there, doomed.meta), "what is kept is what was compared");
        let entry = (doomed.path.to_string(), doomed.loss, content_of(doomed));
        let mut seen = self.seen.lock().expect("not poisoned");
        seen.push(entry);
        if self.answer == Ok(Kept::Moved) {
            let name = Name::parse(seen.len().to_string().as_bytes()).expect("a name");
            doomed.directory.rename_new(doomed.name, &self.place, &name).expect("moved");
        }
        self.answer.clone()
    }

    fn rest(&self) {
        *self.rests.lock().expect("not poisoned") += 1;
    }
}

fn apply_with(world: &World, keeper: &Shelf, steps: Vec<Step>) -> Vec<Status> {
    let mut outcomes = Vec::new();
    Applier::new(&world.root, &world.staging, &world.cache, 2)
        .with_keeper(Some(keeper))
        .apply(steps, |outcome| outcomes.push(outcome));
    outcomes.sort_by_key(|outcome| outcome.index);
    outcomes.into_iter().map(|outcome| outcome.status).collect()
}

/// A world with four things, and steps that destroy three of them.
fn doom() -> (World, Vec<Step>) {
    let world = World::new();
    world.put("over", b"old");
    world.put("gone", b"deleted");
    world.put("same", b"same");
    symlink("there", world.at("link")).expect("linked");
    let steps = [
        with_content("over", Some(file(b"old", 0o644)), b"new", 0o644, 10),
        step("gone", Some(file(b"deleted", 0o644)), None),
        step("link", Some(link("there")), Some(link("elsewhere"))),
        // Nothing is lost by these.
        step("same", Some(file(b"same", 0o644)), Some(file(b"same", 0o755))),
        with_content("fresh", None, b"fresh", 0o644, 10),
    ];
    (world, steps.concat())
}

fn lost() -> Vec<(String, Loss, Vec<u8>)> {
    vec![
        ("gone".to_owned(), Loss::Deleted, b"deleted".to_vec()),
        ("link".to_owned(), Loss::Overwritten, b"there".to_vec()),
        ("over".to_owned(), Loss::Overwritten, b"old".to_vec()),
    ]
}

#[test]
fn what_is_destroyed_is_kept_first_and_nothing_else_is() {
    for answer in [Kept::Moved, Kept::Copied] {
        let (world, steps) = doom();
        let shelf = Shelf::new(&world, Ok(answer));
        assert_eq!(apply_with(&world, &shelf, steps), vec![Status::Applied; 5]);
        let mut seen = shelf.seen();
        seen.sort();
        assert_eq!(seen, lost());
        assert_eq!(*shelf.rests.lock().expect("not poisoned"), 1);
        assert_eq!(std::fs::read(world.at("over")).expect("read"), b"new");
        assert!(!world.at("gone").exists());
        let target = std::fs::read_link(world.at("link")).expect("a link");
        assert_eq!(target, Path::new("elsewhere"));
        let count = std::fs::read_dir(world.outside.join("shelf")).expect("listed").count();
        assert_eq!(count, if answer == Kept::Moved { 3 } else { 0 });
        world.assert_clean();
    }
}

#[test]
fn what_cannot_be_kept_is_not_destroyed() {
    for (answer, status) in [
        (
            KeepError::Failed { problem: "full".to_owned(), no_space: true },
            Status::Failed { problem: "full".to_owned(), no_space: true },
        ),
        (KeepError::Changed, Status::Stale),
    ] {
        let (world, steps) = doom();
        let shelf = Shelf::new(&world, Err(answer));
        let statuses = apply_with(&world, &shelf, steps);
        assert_eq!(statuses[..3], vec![status; 3]);
        assert_eq!(std::fs::read(world.at("over")).expect("read"), b"old");
        assert_eq!(std::fs::read(world.at("gone")).expect("read"), b"deleted");
        let target = std::fs::read_link(world.at("link")).expect("a link");
        assert_eq!(target, Path::new("there"));
        world.assert_clean();
    }
}

#[test]
fn a_stale_step_gives_nothing_to_the_keeper() {
    let world = World::new();
    world.put("over", b"another");
    let shelf = Shelf::new(&world, Ok(Kept::Moved));
    let steps = [
        with_content("over", Some(file(b"old", 0o644)), b"new", 0o644, 10),
        step("over", Some(file(b"old", 0o644)), None),
    ];
    assert_eq!(apply_with(&world, &shelf, steps.concat()), vec![Status::Stale; 2]);
    assert_eq!(shelf.seen(), []);
}

#[test]
fn setuid_bits_never_come() {
    let world = World::new();
    world.put("there", b"old");
    let steps = [
        with_content("new", None, b"1", 0o6755, 10),
        with_content("there", Some(file(b"old", 0o644)), b"2", 0o7755, 10),
        step("new", Some(file(b"1", 0o755)), Some(file(b"1", 0o6700))),
    ];
    assert_eq!(world.apply(steps.concat()), vec![Status::Applied; 3]);
    for name in ["new", "there"] {
        let mode = std::fs::metadata(world.at(name)).expect("there").mode() & 0o7777;
        assert_eq!(mode & 0o7000, 0, "{name}: {mode:o}");
        assert_eq!(mode & 0o700, 0o700, "{name}: {mode:o}");
    }
}
