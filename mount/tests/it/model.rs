//! Random operations, on a mount and on a directory of this machine: both answer the same and look
//! the same. Some are done behind the mount's back.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::support::{World, within};

/// One operation. Names are few, so that they meet.
#[derive(Clone, Debug)]
enum Op {
    Write(&'static str, Content),
    WriteAt(&'static str, u16, Content),
    Append(&'static str, Content),
    Truncate(&'static str, u16),
    Read(&'static str),
    MakeDirectory(&'static str),
    RemoveDirectory(&'static str),
    Remove(&'static str),
    Rename(&'static str, &'static str),
    Link(&'static str, &'static str),
    Symlink(&'static str, &'static str),
    Mode(&'static str, u32),
    Names(&'static str),
    Kind(&'static str),
}

const PATHS: [&str; 9] = ["a", "b", "d", "d/a", "d/b", "d/e", "d/e/a", "c", "c/a"];

/// All paths that there can be: a link leads to any of the names above, beside it.
fn all_paths() -> Vec<String> {
    let names = ["a", "b", "c", "d", "e"];
    let directories = || ["", "c/", "d/", "d/e/"].into_iter().map(str::to_owned);
    let more = names.iter().flat_map(|name| directories().map(move |at| format!("{at}{name}/")));
    let all: std::collections::BTreeSet<String> = directories().chain(more).collect();
    all.iter().flat_map(|at| names.map(|name| format!("{at}{name}"))).collect()
}

fn path() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(&PATHS[..])
}

/// So many of this byte.
#[derive(Clone, Copy, Debug)]
struct Content(u8, usize);

impl Content {
    fn bytes(self) -> Vec<u8> {
        vec![self.0; self.1]
    }
}

fn content() -> impl Strategy<Value = Content> {
    let byte = any::<u8>();
    let length = prop_oneof![0..20usize, 4000..9000usize, 60_000..70_000usize];
    (byte, length).prop_map(|(byte, length)| Content(byte, length))
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (path(), content()).prop_map(|(p, c)| Op::Write(p, c)),
        2 => (path(), any::<u16>(), content()).prop_map(|(p, at, c)| Op::WriteAt(p, at, c)),
        2 => (path(), content()).prop_map(|(p, c)| Op::Append(p, c)),
        2 => (path(), any::<u16>()).prop_map(|(p, size)| Op::Truncate(p, size)),
        4 => path().prop_map(Op::Read),
        4 => path().prop_map(Op::MakeDirectory),
        1 => path().prop_map(Op::RemoveDirectory),
        2 => path().prop_map(Op::Remove),
        3 => (path(), path()).prop_map(|(from, to)| Op::Rename(from, to)),
        2 => (path(), path()).prop_map(|(from, to)| Op::Link(from, to)),
        1 => (path(), path()).prop_map(|(to, at)| Op::Symlink(to, at)),
        1 => (path(), 0o400..0o777u32).prop_map(|(p, mode)| Op::Mode(p, mode | 0o600)),
        2 => path().prop_map(Op::Names),
        2 => path().prop_map(Op::Kind),
    ]
}

impl Op {
    /// Does it below a root; what it says is what there is to compare.
    fn run(&self, root: &Path) -> Result<String, Option<i32>> {
        self.act(root).map_err(|error| error.raw_os_error())
    }

    fn act(&self, root: &Path) -> std::io::Result<String> {
        let at = |path: &str| root.join(path);
        match self {
            Self::Write(path, content) => {
                std::fs::write(at(path), content.bytes()).map(|()| String::new())
            }
            Self::WriteAt(path, offset, content) => {
                let file = std::fs::File::options().write(true).open(at(path))?;
                file.write_all_at(&content.bytes(), u64::from(*offset)).map(|()| String::new())
            }
            Self::Append(path, content) => {
                let mut file = std::fs::File::options().append(true).open(at(path))?;
                file.write_all(&content.bytes()).map(|()| String::new())
            }
            Self::Truncate(path, size) => {
                let file = std::fs::File::options().write(true).open(at(path))?;
                file.set_len(u64::from(*size)).map(|()| String::new())
            }
            Self::Read(path) => Ok(format!("{:?}", summary(&std::fs::read(at(path))?))),
            Self::MakeDirectory(path) => std::fs::create_dir(at(path)).map(|()| String::new()),
            Self::RemoveDirectory(path) => std::fs::remove_dir(at(path)).map(|()| String::new()),
            Self::Remove(path) => std::fs::remove_file(at(path)).map(|()| String::new()),
            Self::Rename(from, to) => std::fs::rename(at(from), at(to)).map(|()| String::new()),
            Self::Link(from, to) => std::fs::hard_link(at(from), at(to)).map(|()| String::new()),
            Self::Symlink(to, path) => {
                let target = Path::new(to).file_name().unwrap_or_default();
                std::os::unix::fs::symlink(target, at(path)).map(|()| String::new())
            }
            Self::Mode(path, mode) => {
                let mode = PermissionsExt::from_mode(*mode);
                std::fs::set_permissions(at(path), mode).map(|()| String::new())
            }
            Self::Names(path) => {
                let mut names = Vec::new();
                for entry in std::fs::read_dir(at(path))? {
                    names.push(entry?.file_name().to_string_lossy().into_owned());
                }
                names.sort();
                Ok(format!("{names:?}"))
            }
            Self::Kind(path) => Ok(format!("{:?}", shape(&std::fs::symlink_metadata(at(path))?))),
        }
    }

    /// Paths that it may have changed.
    fn paths(&self) -> Vec<&'static str> {
        match self {
            Self::Rename(from, to) | Self::Link(from, to) => vec![from, to],
            Self::Symlink(_, path)
            | Self::Write(path, _)
            | Self::WriteAt(path, ..)
            | Self::Append(path, _)
            | Self::Truncate(path, _)
            | Self::MakeDirectory(path)
            | Self::RemoveDirectory(path)
            | Self::Remove(path)
            | Self::Mode(path, _) => vec![path],
            Self::Read(_) | Self::Names(_) | Self::Kind(_) => vec![],
        }
    }
}

fn summary(content: &[u8]) -> (usize, u64) {
    let sum =
        content.iter().fold(0u64, |sum, byte| sum.wrapping_mul(31).wrapping_add((*byte).into()));
    (content.len(), sum)
}

/// What there is to compare of an object. A directory's size and links are its file system's matter.
fn shape(metadata: &std::fs::Metadata) -> (u32, u64, u64) {
    let is_directory = metadata.is_dir();
    let links = if is_directory { 0 } else { metadata.nlink() };
    (metadata.mode(), links, if is_directory { 0 } else { metadata.size() })
}

/// A whole tree: each path, with its shape and content.
fn tree(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let metadata = std::fs::symlink_metadata(&path).unwrap();
            let content = if metadata.is_symlink() {
                format!("{:?}", std::fs::read_link(&path).unwrap())
            } else if metadata.is_file() {
                format!("{:?}", summary(&std::fs::read(&path).unwrap()))
            } else {
                waiting.push(path.clone());
                String::new()
            };
            let below = path.strip_prefix(root).unwrap().to_owned();
            found.insert(below, format!("{:?} {content}", shape(&metadata)));
        }
    }
    found
}

/// Does it behind the mount's back, and tells of each path that is different then: it may be reached
/// by a link, or by another name.
fn outside(world: &World, op: &Op) -> Result<String, Option<i32>> {
    let all = all_paths();
    let state = || -> Vec<_> {
        let of = |path: &String| {
            let seen = std::fs::symlink_metadata(world.under(path)).ok()?;
            Some((shape(&seen), seen.ino(), seen.mtime_nsec(), seen.ctime_nsec()))
        };
        all.iter().map(of).collect()
    };
    let before = state();
    let done = op.run(&world.under(""));
    let after = state();
    let differs = all.iter().enumerate().filter(|(at, _)| before[*at] != after[*at]);
    let mut paths: Vec<&str> = differs.map(|(_, path)| path.as_str()).collect();
    paths.extend(op.paths());
    world.outside(&paths, |_| {});
    done
}

fn check(ops: &[(Op, bool)]) -> Result<(), TestCaseError> {
    let Some(world) = World::new(|_| {}) else { return Ok(()) };
    let model = world.beside("model");
    std::fs::create_dir(&model).unwrap();
    for (step, (op, is_outside)) in ops.iter().enumerate() {
        let expected = op.run(&model);
        let answer = if *is_outside {
            outside(&world, op)
        } else {
            let (op, root) = (op.clone(), world.at(""));
            within(move || op.run(&root))
        };
        prop_assert_eq!(&answer, &expected, "step {}: {:?}", step, op);
    }
    let (root, expected) = (world.at(""), tree(&model));
    prop_assert_eq!(within(move || tree(&root)), expected.clone());
    prop_assert_eq!(tree(&world.under("")), expected);
    Ok(())
}

#[test]
fn a_mount_answers_as_a_directory_does() {
    // `PROPTEST_CASES` asks for more.
    let cases =
        if std::env::var_os("PROPTEST_CASES").is_some() { Config::default().cases } else { 40 };
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let ops = proptest::collection::vec((op(), proptest::bool::weighted(0.3)), 1..60);
    TestRunner::new(config).run(&ops, |ops| check(&ops)).unwrap();
}
