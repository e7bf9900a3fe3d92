//! Requests with many replies: directories, and contents of small files.

use std::sync::Arc;

use skync_agent::proto::files_reply::Reply;
use skync_agent::proto::files_request::Request;
use skync_agent::proto::{FilesFetch, FilesList, FilesReply};
use skync_mount::source::{Fetched, Listing, Place, Seen, Stamp};
use skync_mount::{Answer, SourceError};
use tokio::sync::mpsc;

use super::ask::{Shared, Term, Which};
use super::lane::{Broken, Replies};
use super::wire::{self, Gather};

/// Bytes, about, of one message that asks for files: far below what a message may have.
const ASKED_BYTES_MAX: usize = 1 << 20;
/// Entries of a list that may stand before something that somebody waits for; a longer one does not.
const SHORT_ENTRIES_MAX: usize = 4096;
/// Bytes, about, of what is asked of a file beside its path.
const FILE_BYTES: usize = 32;

/// Lists a directory and what is below it, for as long as somebody listens.
pub(super) async fn list(
    shared: Arc<Shared>,
    directory: Place,
    entries_max: usize,
    send: mpsc::Sender<Answer<Seen<Listing>>>,
) {
    let listed = async {
        if let Err(error) = list_all(&shared, &directory, entries_max, &send).await {
            let _ = send.send(Err(error)).await;
        }
    };
    tokio::select! {
        () = listed => {}
        () = send.closed() => {}
    }
}

async fn list_all(
    shared: &Shared,
    directory: &Place,
    entries_max: usize,
    send: &mpsc::Sender<Answer<Seen<Listing>>>,
) -> Answer<()> {
    let mut term = shared.term();
    let request = || {
        let entries_max = u32::try_from(entries_max).unwrap_or(u32::MAX);
        Request::List(FilesList { directory: Some(wire::at(directory)), entries_max })
    };
    let which = if entries_max > SHORT_ENTRIES_MAX { Which::Lists } else { Which::Now };
    // What was listed before a link ended comes again: it is newer then.
    loop {
        let mut gather = Gather::new(&directory.path, entries_max);
        let mut replies = shared.ask_many(&term, which, request).await?;
        // Of a directory in parts, the first look counts.
        let mut stamp = None;
        while let Some(reply) = next(&mut replies, &term).await? {
            let more = reply.more;
            let began = *stamp.get_or_insert(Stamp(reply.stamp));
            let Reply::Listing(part) = part(reply)? else {
                return Err(wire::bad("it is one to another request"));
            };
            let (listing, newest_ns) = gather.take(part)?;
            shared.saw_at(newest_ns);
            if let Some(what) = listing {
                stamp = None;
                if send.send(Ok(Seen { stamp: began, what })).await.is_err() {
                    return Ok(());
                }
            }
            if !more {
                let is_whole = gather.is_whole();
                return if is_whole { Ok(()) } else { Err(wire::bad("a list that breaks off")) };
            }
            term.renew(shared.patience);
        }
    }
}

/// Fetches files, for as long as somebody listens.
pub(super) async fn fetch(shared: Arc<Shared>, files: Vec<Place>, send: mpsc::Sender<Fetched>) {
    let fetched = async {
        let mut left: Vec<usize> = (0..files.len()).rev().collect();
        while !left.is_empty() {
            let part = take_part(&files, &mut left);
            if let Err((error, missing)) = fetch_part(&shared, &files, part, &send).await {
                for index in missing.into_iter().chain(left.drain(..).rev()) {
                    if send.send(Fetched { index, content: Err(error.clone()) }).await.is_err() {
                        return;
                    }
                }
            }
        }
    };
    tokio::select! {
        () = fetched => {}
        () = send.closed() => {}
    }
}

/// As many as one message may ask for.
fn take_part(files: &[Place], left: &mut Vec<usize>) -> Vec<usize> {
    let (mut part, mut bytes) = (Vec::new(), 0);
    while let Some(&index) = left.last() {
        bytes += files[index].path.as_os_str().len() + FILE_BYTES;
        if bytes > ASKED_BYTES_MAX && !part.is_empty() {
            break;
        }
        part.push(index);
        left.pop();
    }
    part
}

/// Fetches these files; or why not, and which are missing.
async fn fetch_part(
    shared: &Shared,
    files: &[Place],
    mut missing: Vec<usize>,
    send: &mpsc::Sender<Fetched>,
) -> Result<(), (SourceError, Vec<usize>)> {
    let mut term = shared.term();
    while !missing.is_empty() {
        let mut came = vec![false; missing.len()];
        let fetched = fetch_once(shared, files, &missing, &mut came, send, &mut term).await;
        let mut came = came.into_iter();
        missing.retain(|_| came.next() != Some(true));
        fetched.map_err(|error| (error, missing.clone()))?;
    }
    Ok(())
}

/// Fetches over one link, and marks what came.
async fn fetch_once(
    shared: &Shared,
    files: &[Place],
    asked: &[usize],
    came: &mut [bool],
    send: &mpsc::Sender<Fetched>,
    term: &mut Term,
) -> Answer<()> {
    let request = || {
        let files = asked.iter().map(|index| wire::at(&files[*index])).collect();
        Request::Fetch(FilesFetch { files })
    };
    let mut replies = shared.ask_many(term, Which::Ahead, request).await?;
    while let Some(reply) = next(&mut replies, term).await? {
        let more = reply.more;
        let Reply::Contents(contents) = part(reply)? else {
            return Err(wire::bad("it is one to another request"));
        };
        for content in contents.contents {
            let fetched = wire::content(content, asked.len())?;
            let at = fetched.index;
            if std::mem::replace(&mut came[at], true) {
                return Err(wire::bad("a content that has come already"));
            }
            let _ = send.send(Fetched { index: asked[at], ..fetched }).await;
        }
        if !more {
            let is_all = came.iter().all(|came| *came);
            return if is_all { Ok(()) } else { Err(wire::bad("a file is missing")) };
        }
        term.renew(shared.patience);
    }
    Ok(())
}

impl Shared {
    /// Asks for many replies; it may be done twice.
    async fn ask_many(
        &self,
        term: &Term,
        which: Which,
        make: impl Fn() -> Request + Send + Sync,
    ) -> Answer<Replies> {
        loop {
            let lanes = self.lanes(term).await?;
            let asked = lanes.of(which).ask_many(make());
            match tokio::time::timeout_at(term.until(), asked).await {
                Ok(Ok(replies)) => return Ok(replies),
                Ok(Err(Broken::Unsent | Broken::Unknown)) => self.passed(&lanes).await,
                Err(_) => return Err(SourceError::Unreachable),
            }
        }
    }
}

/// The next reply; nothing if the link has ended.
async fn next(replies: &mut Replies, term: &Term) -> Answer<Option<FilesReply>> {
    let next = tokio::time::timeout_at(term.until(), replies.next()).await;
    next.map_err(|_| SourceError::Unreachable)?
}

/// What a reply of several says.
fn part(mut reply: FilesReply) -> Answer<Reply> {
    reply.more = false;
    wire::whole(reply)
}
