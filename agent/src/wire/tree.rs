//! A whole tree on the wire: depth first, the names of each directory in order.

use super::{WireError, entry_from_wire, entry_to_wire};
use crate::entry::{Digest, Directory, Entry};
use crate::path::Name;
use crate::proto;
use crate::scan::DEPTH_MAX;

/// Most entries of one message of a scan.
const ENTRIES_PER_MESSAGE_MAX: usize = 2000;
/// Most bytes of names and targets in one message of a scan.
const NAME_BYTES_PER_MESSAGE_MAX: usize = 512 << 10;
/// Most entries of a whole tree that this end will hold: 10 million, about 2 GB.
const TREE_ENTRIES_MAX: u64 = 10_000_000;
/// Deepest entry of a tree: what a scan finds in the deepest directory that it reads. A tree from
/// the other end that goes deeper could be written here, and never be read again.
const TREE_DEPTH_MAX: u32 = DEPTH_MAX as u32 + 1;

/// Calls `send` with the messages of a whole tree until it says no.
///
/// Returns false if `send` did.
pub fn tree_to_wire(root: &Entry, send: &mut impl FnMut(proto::ScanReply) -> bool) -> bool {
    let mut batch = Batch::default();
    batch.walk(0, &[], root, send) && batch.flush(send)
}

/// A fingerprint of everything that [`tree_to_wire`] would send.
pub fn fingerprint(root: &Entry) -> Digest {
    let mut hasher = blake3::Hasher::new();
    add_to_fingerprint(&mut hasher, &[], root);
    Digest(*hasher.finalize().as_bytes())
}

fn add_to_fingerprint(hasher: &mut blake3::Hasher, name: &[u8], entry: &Entry) {
    let mut add = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_be_bytes());
        hasher.update(bytes);
    };
    add(name);
    match entry {
        Entry::Directory(directory) => {
            add(&[b'd', u8::from(directory.only_excluded)]);
            add(&directory.mode.to_be_bytes());
            add(&(directory.children.len() as u64).to_be_bytes());
            for (name, child) in &directory.children {
                add_to_fingerprint(hasher, name.as_bytes(), child);
            }
        }
        Entry::File(file) => {
            add(b"f");
            hasher.update(&file.digest.0);
            hasher.update(&file.size.to_be_bytes());
            hasher.update(&file.mode.to_be_bytes());
            hasher.update(&file.mtime_ns.to_be_bytes());
        }
        Entry::Symlink(target) => {
            add(b"l");
            add(target);
        }
        Entry::Untracked => add(b"u"),
        Entry::Problem(problem) => {
            add(b"p");
            add(problem.as_bytes());
        }
    }
}

#[derive(Default)]
struct Batch {
    entries: Vec<proto::ScanEntry>,
    bytes: usize,
}

impl Batch {
    fn walk(
        &mut self,
        depth: u32,
        name: &[u8],
        entry: &Entry,
        send: &mut impl FnMut(proto::ScanReply) -> bool,
    ) -> bool {
        let wire = entry_to_wire(Some(entry));
        self.bytes += name.len() + wire.target.len() + wire.problem.len();
        self.entries.push(proto::ScanEntry { depth, name: name.to_vec(), entry: Some(wire) });
        let full = self.entries.len() >= ENTRIES_PER_MESSAGE_MAX
            || self.bytes >= NAME_BYTES_PER_MESSAGE_MAX;
        if full && !self.flush(send) {
            return false;
        }
        let Entry::Directory(directory) = entry else { return true };
        directory
            .children
            .iter()
            .all(|(name, child)| self.walk(depth + 1, name.as_bytes(), child, send))
    }

    fn flush(&mut self, send: &mut impl FnMut(proto::ScanReply) -> bool) -> bool {
        self.bytes = 0;
        self.entries.is_empty()
            || send(proto::ScanReply {
                entries: std::mem::take(&mut self.entries),
                ..proto::ScanReply::default()
            })
    }
}

/// Builds a tree from the messages of a scan.
#[derive(Debug)]
pub struct TreeBuilder {
    /// The open directories, the root first, each with its name.
    open: Vec<(Option<Name>, Directory)>,
    done: Option<Entry>,
    count: u64,
    count_max: u64,
}

impl Default for TreeBuilder {
    fn default() -> Self {
        Self::limited(TREE_ENTRIES_MAX)
    }
}

impl TreeBuilder {
    fn limited(count_max: u64) -> Self {
        Self { open: Vec::new(), done: None, count: 0, count_max }
    }

    /// Takes the next entry, in depth-first order.
    ///
    /// # Errors
    /// If it is out of order or breaks the contract; the tree is of no use then.
    pub fn push(&mut self, entry: proto::ScanEntry) -> Result<(), WireError> {
        self.count += 1;
        if self.count > self.count_max || entry.depth > TREE_DEPTH_MAX {
            return Err(WireError::Tree("it is too large"));
        }
        let value = entry_from_wire(entry.entry.ok_or(WireError::Empty)?)?;
        let value = value.ok_or(WireError::Kind)?;
        if entry.depth == 0 {
            return self.push_root(&entry.name, value);
        }
        let name = Name::parse(&entry.name)?;
        let depth = entry.depth as usize;
        if depth > self.open.len() {
            return Err(WireError::Tree("a parent is missing"));
        }
        while self.open.len() > depth {
            self.close();
        }
        let Some((_, parent)) = self.open.last_mut() else {
            return Err(WireError::Tree("a parent is missing"));
        };
        if parent.children.last().is_some_and(|(last, _)| *last >= name) {
            return Err(WireError::Tree("names are out of order"));
        }
        match value {
            Entry::Directory(directory) => self.open.push((Some(name), directory)),
            value => parent.children.push((name, value)),
        }
        Ok(())
    }

    fn push_root(&mut self, name: &[u8], value: Entry) -> Result<(), WireError> {
        if self.count != 1 || !name.is_empty() {
            return Err(WireError::Tree("it has two roots"));
        }
        match value {
            Entry::Directory(directory) => self.open.push((None, directory)),
            value => self.done = Some(value),
        }
        Ok(())
    }

    /// Moves the innermost open directory into its parent.
    fn close(&mut self) {
        let Some((name, directory)) = self.open.pop() else { return };
        let entry = Entry::Directory(directory);
        match (name, self.open.last_mut()) {
            // Its order was checked against what came before when it was opened, and nothing
            // came after: later siblings close it first.
            (Some(name), Some((_, parent))) => parent.children.push((name, entry)),
            _ => self.done = Some(entry),
        }
    }

    /// The whole tree.
    ///
    /// # Errors
    /// If there was no root.
    pub fn finish(mut self) -> Result<Entry, WireError> {
        while !self.open.is_empty() {
            self.close();
        }
        self.done.ok_or(WireError::Empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::File;
    use crate::path::SyncPath;

    fn tree() -> Entry {
        let file = |text: &str| {
            Entry::File(File {
                digest: Digest::of(text.as_bytes()),
                size: text.len() as u64,
                mode: 0o644,
                mtime_ns: 5,
            })
        };
        let name = |name: &str| Name::parse(name.as_bytes()).expect("a name");
        let directory = |children: Vec<(Name, Entry)>| {
            let children = children.into();
            Entry::Directory(Directory { mode: 0o755, children, ..Directory::default() })
        };
        directory(vec![
            (name("a"), directory(vec![(name("x"), file("x")), (name("y"), directory(vec![]))])),
            (name("a-b"), file("z")),
            (name("l"), Entry::Symlink((*b"a/x").into())),
            (name("p"), Entry::Problem("denied".into())),
            (name("s"), Entry::Untracked),
        ])
    }

    fn entries(tree: &Entry) -> Vec<proto::ScanEntry> {
        let mut entries = Vec::new();
        assert!(tree_to_wire(tree, &mut |reply| {
            entries.extend(reply.entries);
            true
        }));
        entries
    }

    fn build(entries: Vec<proto::ScanEntry>) -> Result<Entry, WireError> {
        let mut builder = TreeBuilder::default();
        entries.into_iter().try_for_each(|entry| builder.push(entry))?;
        builder.finish()
    }

    #[test]
    fn a_tree_comes_back_as_it_went() {
        let tree = tree();
        assert_eq!(build(entries(&tree)), Ok(tree));
    }

    #[test]
    fn a_tree_with_hostile_names_or_order_is_refused() {
        for name in [&b".."[..], b"a/b", b"", b"a\0", &[b'x'; 256]] {
            let mut hostile = entries(&tree());
            hostile[2].name = name.to_vec();
            assert!(build(hostile).is_err(), "{name:?} was taken");
        }
        let mut swapped = entries(&tree());
        swapped.swap(1, 4);
        assert!(build(swapped).is_err());
        let mut twice = entries(&tree());
        let last = twice[6].clone();
        twice.push(last);
        assert!(build(twice).is_err());
        let mut deep = entries(&tree());
        deep[1].depth = 7;
        assert!(build(deep).is_err());
    }

    #[test]
    fn a_tree_that_is_too_large_or_too_deep_is_refused() {
        let all = entries(&tree());
        let count = all.len() as u64;
        let build = |count_max| {
            let mut builder = TreeBuilder::limited(count_max);
            all.iter().try_for_each(|entry| builder.push(entry.clone()))
        };
        assert_eq!(build(count), Ok(()));
        assert_eq!(build(count - 1), Err(WireError::Tree("it is too large")));
        let directory = all[0].entry.clone();
        let mut builder = TreeBuilder::default();
        for depth in 0..=TREE_DEPTH_MAX + 1 {
            let name = if depth == 0 { Vec::new() } else { b"d".to_vec() };
            let pushed = builder.push(proto::ScanEntry { depth, name, entry: directory.clone() });
            assert_eq!(pushed.is_ok(), depth <= TREE_DEPTH_MAX, "{depth}");
        }
    }

    #[test]
    fn any_change_of_a_tree_changes_its_fingerprint() {
        let first = tree();
        assert_eq!(fingerprint(&first), fingerprint(&tree()));
        let changed = |at: usize, change: &dyn Fn(&mut proto::Entry)| {
            let mut entries = entries(&first);
            change(entries[at].entry.as_mut().expect("an entry"));
            fingerprint(&build(entries).expect("a tree"))
        };
        type Change<'a> = (usize, &'a dyn Fn(&mut proto::Entry));
        let changes: [Change<'_>; 7] = [
            (0, &|entry| entry.mode = 0o700),
            (1, &|entry| entry.only_excluded = true),
            (2, &|entry| entry.digest[0] ^= 1),
            (2, &|entry| entry.size += 1),
            (2, &|entry| entry.mtime_ns += 1),
            (5, &|entry| entry.target.push(b'x')),
            (6, &|entry| entry.problem.push('x')),
        ];
        for (at, change) in changes {
            assert_ne!(fingerprint(&first), changed(at, change), "entry {at}");
        }
    }

    #[test]
    fn setuid_does_not_cross() {
        let mut hostile = entries(&tree());
        if let Some(entry) = hostile[2].entry.as_mut() {
            entry.mode = 0o6755;
        }
        let tree = build(hostile).expect("a tree");
        let path = SyncPath::parse(b"a/x").expect("a path");
        let file = tree.find(&path).and_then(Entry::as_file).expect("a file");
        assert_eq!(file.mode, 0o755);
    }
}
