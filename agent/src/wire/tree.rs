//! A whole tree on the wire: depth first, the names of each directory in order.

use super::{WireError, entry_from_wire, entry_to_wire};
use crate::entry::{Directory, Entry};
use crate::path::Name;
use crate::proto;
use crate::scan::DEPTH_MAX;

/// Most entries of a whole tree that this end will hold: 10 million, about 2 GB.
pub const TREE_ENTRIES_MAX: u64 = 10_000_000;
/// Deepest entry of a tree: what a scan finds in the deepest directory that it reads. A tree from
/// the other end that goes deeper could be written here, and never be read again.
const TREE_DEPTH_MAX: u32 = DEPTH_MAX as u32 + 1;

/// One entry of a tree, and where it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item<'a> {
    depth: u32,
    name: &'a [u8],
    entry: &'a Entry,
}

impl Item<'_> {
    pub(super) fn to_wire(self) -> proto::ScanEntry {
        let entry = Some(entry_to_wire(Some(self.entry)));
        proto::ScanEntry { depth: self.depth, name: self.name.to_vec(), entry }
    }
}

/// The entries of a tree, depth first; the tree's own has no name.
pub(super) struct Entries<'a> {
    root: Option<&'a Entry>,
    open: Vec<std::slice::Iter<'a, (Name, Entry)>>,
}

impl<'a> Entries<'a> {
    pub(super) fn of(root: &'a Entry) -> Self {
        Self { root: Some(root), open: Vec::new() }
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        let item = match self.root.take() {
            Some(entry) => Item { depth: 0, name: &[], entry },
            None => loop {
                let depth = u32::try_from(self.open.len()).unwrap_or(u32::MAX);
                match self.open.last_mut()?.next() {
                    Some((name, entry)) => break Item { depth, name: name.as_bytes(), entry },
                    None => drop(self.open.pop()),
                }
            },
        };
        if let Entry::Directory(directory) = item.entry {
            self.open.push(directory.children.iter());
        }
        Some(item)
    }
}

/// Builds a tree from its entries.
#[derive(Debug)]
pub(super) struct TreeBuilder {
    /// The open directories, the root first, each with its name.
    open: Vec<(Option<Name>, Directory)>,
    done: Option<Entry>,
    count: u64,
    count_max: u64,
    depth_max: u32,
}

impl TreeBuilder {
    /// A builder for what is `depth` levels below the root.
    pub(super) fn below(depth: u32) -> Self {
        let depth_max = TREE_DEPTH_MAX.saturating_sub(depth);
        // Where nothing may be, not even the tree's own entry fits.
        let count_max = if depth > TREE_DEPTH_MAX { 0 } else { TREE_ENTRIES_MAX };
        Self { open: Vec::new(), done: None, count: 0, count_max, depth_max }
    }

    /// Takes the next entry, in depth-first order.
    ///
    /// # Errors
    /// If it is out of order or breaks the contract; the tree is of no use then.
    pub(super) fn push(&mut self, entry: proto::ScanEntry) -> Result<(), WireError> {
        self.count += 1;
        if self.count > self.count_max || entry.depth > self.depth_max {
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
    pub(super) fn finish(mut self) -> Result<Entry, WireError> {
        while !self.open.is_empty() {
            self.close();
        }
        self.done.ok_or(WireError::Empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Digest, File};
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
        Entries::of(tree).map(Item::to_wire).collect()
    }

    fn build(entries: Vec<proto::ScanEntry>) -> Result<Entry, WireError> {
        let mut builder = TreeBuilder::below(0);
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
            let mut builder = TreeBuilder { count_max, ..TreeBuilder::below(0) };
            all.iter().try_for_each(|entry| builder.push(entry.clone()))
        };
        assert_eq!(build(count), Ok(()));
        assert_eq!(build(count - 1), Err(WireError::Tree("it is too large")));
        let directory = all[0].entry.clone();
        let mut builder = TreeBuilder::below(0);
        for depth in 0..=TREE_DEPTH_MAX + 1 {
            let name = if depth == 0 { Vec::new() } else { b"d".to_vec() };
            let pushed = builder.push(proto::ScanEntry { depth, name, entry: directory.clone() });
            assert_eq!(pushed.is_ok(), depth <= TREE_DEPTH_MAX, "{depth}");
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
