//! A mount's requests, at the object behind the RPC.
#![expect(clippy::disallowed_methods, reason = "the tests are the user whose files are shown")]

mod changes;
mod hostile;
mod requests;
mod streams;

use std::fs;
use std::path::{Path, PathBuf};

use super::at_once::AtOnce;
use super::*;
use crate::proto::{FilesAt, FilesAttributes, FilesChanged, FilesEntry, FilesListing};

/// Nothing here takes longer, except on a machine that is much too busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// A mount on a directory of its own.
struct World {
    root: PathBuf,
    _base: tempfile::TempDir,
    mount: Mount,
    at_once: bool,
}

impl World {
    /// One in which all is done by threads, one without `openat2`, and one in which is done on the
    /// spot what can be.
    fn each() -> [Self; 3] {
        let of = |change: fn(Root) -> Root, at_once| {
            let base = tempfile::tempdir().expect("a directory");
            let root = base.path().join("root");
            fs::create_dir(&root).expect("made");
            let opened = change(Root::open(&root).expect("a root"));
            let mount = Mount::new(opened, Arc::new(Stamps::new()));
            Self { root, _base: base, mount, at_once }
        };
        [of(|root| root, false), of(Root::without_openat2, false), of(|root| root, true)]
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(path), content).expect("written");
    }

    /// All replies to a request.
    fn all(&self, request: Request) -> Vec<FilesReply> {
        if self.at_once
            && let Some(reply) = AtOnce::default().answer(&self.mount, &request)
        {
            return vec![reply];
        }
        let mut replies = Vec::new();
        self.mount.answer(Some(&request), self.mount.stamps.next(), &mut |reply| {
            replies.push(reply);
            true
        });
        if let Some((last, others)) = replies.split_last() {
            assert!(!last.more && others.iter().all(|reply| reply.more), "{replies:?}");
        }
        replies
    }

    /// The only reply.
    fn ask(&self, request: Request) -> Reply {
        let mut replies = self.all(request);
        assert_eq!(replies.len(), 1, "{replies:?}");
        replies.remove(0).reply.expect("a reply")
    }

    fn error(&self, request: Request) -> FilesError {
        match self.all(request).pop().and_then(|last| last.reply) {
            Some(Reply::Problem(problem)) => problem.error(),
            other => panic!("it was done: {other:?}"),
        }
    }

    fn found(&self, request: Request) -> FilesAttributes {
        self.entry(request).attributes.expect("attributes")
    }

    fn entry(&self, request: Request) -> FilesEntry {
        match self.ask(request) {
            Reply::Found(entry) => entry,
            other => panic!("not found: {other:?}"),
        }
    }

    fn changed(&self, request: Request) -> FilesChanged {
        match self.ask(request) {
            Reply::Changed(changed) => changed,
            other => panic!("not changed: {other:?}"),
        }
    }

    fn data(&self, request: Request) -> Vec<u8> {
        let mut bytes = Vec::new();
        for reply in self.all(request) {
            match reply.reply {
                Some(Reply::Data(data)) => bytes.extend_from_slice(&data),
                other => panic!("no data: {other:?}"),
            }
        }
        bytes
    }

    fn listings(&self, request: Request) -> Vec<FilesListing> {
        let listing = |reply: FilesReply| match reply.reply {
            Some(Reply::Listing(listing)) => listing,
            other => panic!("no listing: {other:?}"),
        };
        self.all(request).into_iter().map(listing).collect()
    }
}

/// Whatever is at a path.
fn at(path: impl AsRef<Path>) -> Option<FilesAt> {
    let path = path.as_ref().as_os_str().as_encoded_bytes().to_vec();
    Some(FilesAt { path, ..FilesAt::default() })
}

/// This object at a path.
fn object(path: &str, attributes: &FilesAttributes) -> Option<FilesAt> {
    let FilesAttributes { device, inode, .. } = *attributes;
    at(path).map(|at| FilesAt { device, inode, ..at })
}

/// An open file.
fn handle(handle: u64) -> Option<FilesAt> {
    Some(FilesAt { handle, ..FilesAt::default() })
}
