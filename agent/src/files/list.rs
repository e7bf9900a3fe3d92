//! Listing: a directory and, nearest first, what is below it.
//!
//! A directory is watched before it is read, so what is changed while it is read is told as a
//! change afterwards.

use std::collections::VecDeque;
use std::ffi::CStr;
use std::ops::ControlFlow;
use std::sync::Arc;

use rustix::fs::FileType;

use super::answer::{Send, failed};
use super::mount::Mount;
use super::place::{Place, is_ours, to_wire};
use super::problem::Problem;
use super::watch::Watch;
use crate::disk::{Attributes, DirFd};
use crate::path::{Name, SyncPath};
use crate::proto::files_reply::Reply;
use crate::proto::{FilesEntry, FilesList, FilesListing, FilesReply};

/// Most entries of one reply.
const PIECE_COUNT_MAX: usize = 2000;
/// Bytes of names and targets after which a reply is sent: with two thousand times what entries
/// cost besides, it stays below 1 MiB.
const PIECE_BYTES_MAX: usize = 512 << 10;
/// Most entries that are listed ahead, whatever is asked for.
const ENTRIES_MAX: usize = 1 << 20;

impl Mount {
    pub(super) fn list(&self, list: &FilesList, send: Send<'_>) {
        let place = match Place::parse(list.directory.as_ref()) {
            Ok(place) => place,
            Err(problem) => {
                send(failed(&problem));
                return;
            }
        };
        if place.path.is_root() {
            self.check_in_place();
        }
        let mut lister = Lister {
            mount: self,
            watch: self.watch(),
            send,
            is_wanted: true,
            held: None,
            count: 0,
            waiting: VecDeque::new(),
            device: None,
            buffer: Vec::new(),
        };
        if let Err(problem) = lister.whole(&place, list.entries_max as usize) {
            send(failed(&problem));
        }
    }
}

/// A listing under way.
struct Lister<'a> {
    mount: &'a Mount,
    watch: Option<Arc<Watch>>,
    send: Send<'a>,
    /// Somebody still takes what is sent.
    is_wanted: bool,
    /// The last reply, until it is known whether more follow.
    held: Option<FilesReply>,
    /// Entries so far.
    count: usize,
    /// Directories to go into.
    waiting: VecDeque<SyncPath>,
    /// What is on another one is not gone into.
    device: Option<u64>,
    buffer: Vec<u8>,
}

impl Lister<'_> {
    fn whole(&mut self, place: &Place, entries_max: usize) -> Result<(), Problem> {
        self.directory(place)?;
        while self.is_wanted
            && self.count < entries_max.min(ENTRIES_MAX)
            && let Some(path) = self.waiting.pop_front()
        {
            let place = Place::any(path);
            let waiting = self.waiting.len();
            if let Err(problem) = self.directory(&place) {
                // It was read ahead only: who wants it will ask, and be told. But a half of it must
                // not look like all of it.
                let is_half_told = self.held.as_ref().is_some_and(is_unfinished);
                if is_half_told {
                    return Err(problem);
                }
                self.waiting.truncate(waiting);
            }
        }
        if let Some(last) = self.held.take() {
            (self.send)(last);
        }
        Ok(())
    }

    /// Lists one directory.
    fn directory(&mut self, place: &Place) -> Result<(), Problem> {
        let stamp = self.mount.stamps.next();
        let directory = self.mount.root.open_to_list(&place.path)?;
        let attributes = Attributes::of(&directory)?;
        place.check(&attributes)?;
        let device = *self.device.get_or_insert(attributes.device);
        if attributes.device != device {
            // Something was mounted there since its name was looked at.
            return Ok(());
        }
        let system = self.mount.file_system(&directory, &attributes);
        let watch = self.watch.as_ref().filter(|_| system.is_followed());
        let followed = watch.is_some_and(|watch| watch.add(&place.path, &directory));
        // Again, as it may have changed just before it was watched.
        let attributes = Attributes::of(&directory)?;
        let mut piece = FilesListing {
            path: place.path.as_bytes().to_vec(),
            attributes: Some(to_wire(&attributes)),
            entries: Vec::new(),
            followed,
            unfinished: false,
        };
        let mut bytes = 0;
        let mut buffer = std::mem::take(&mut self.buffer);
        let listed = directory.each_name(&mut buffer, &mut |name| {
            let Some(entry) = entry(&directory, name) else { return ControlFlow::Continue(()) };
            if piece.entries.len() >= PIECE_COUNT_MAX || bytes >= PIECE_BYTES_MAX {
                bytes = 0;
                let rest = next_piece(&piece);
                let full = std::mem::replace(&mut piece, rest);
                self.tell(stamp, FilesListing { unfinished: true, ..full });
            }
            bytes += entry.name.len() + entry.target.len();
            self.count += 1;
            let is_below = system.is_gone_into()
                && entry.attributes.is_some_and(|a| a.device == device && is_directory(a.mode));
            if is_below && let Ok(name) = Name::parse(&entry.name) {
                self.waiting.push_back(place.path.join(&name));
            }
            piece.entries.push(entry);
            if self.is_wanted { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        self.buffer = buffer;
        listed?;
        self.tell(stamp, piece);
        Ok(())
    }

    /// Holds a reply back, and sends the one before it.
    fn tell(&mut self, stamp: u64, piece: FilesListing) {
        let reply = Some(Reply::Listing(piece));
        let before = self.held.replace(FilesReply { stamp, reply, ..Default::default() });
        if let Some(before) = before {
            self.is_wanted &= (self.send)(FilesReply { more: true, ..before });
        }
    }
}

/// The next piece of the same directory, without entries.
fn next_piece(piece: &FilesListing) -> FilesListing {
    FilesListing { path: piece.path.clone(), entries: Vec::new(), ..*piece }
}

fn is_unfinished(reply: &FilesReply) -> bool {
    matches!(&reply.reply, Some(Reply::Listing(listing)) if listing.unfinished)
}

fn is_directory(mode: u32) -> bool {
    FileType::from_raw_mode(mode) == FileType::Directory
}

/// One name; nothing if it is gone by now, whose change is told, or none of a mount's business.
fn entry(directory: &DirFd, name: &CStr) -> Option<FilesEntry> {
    if is_ours(name.to_bytes()) {
        return None;
    }
    let attributes = Attributes::of_name(directory, name).ok()?;
    let target = match attributes.kind() {
        FileType::Symlink => directory.target_of(name).unwrap_or_default(),
        _ => Vec::new(),
    };
    let (name, attributes) = (name.to_bytes().to_vec(), Some(to_wire(&attributes)));
    Some(FilesEntry { name, attributes, target })
}
