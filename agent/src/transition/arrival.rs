//! Content on its way from the chunks to the transition that needs it.
//!
//! What came is written to the staging store as it comes, whether the bytes are in the chunk or in
//! a file of ours. Every content is checked against its digest as a whole, so a file that was
//! copied from and changed meanwhile is found out: then the content is missing, which is for the
//! sender to mend, and not wrong, which would be the sender's fault.

use std::fs::File as OpenFile;
use std::os::unix::fs::FileExt;

use bytes::Bytes;

use super::{Chunk, Piece, Status, Transition};
use crate::disk::{Kind, Meta, READ_WINDOW_BYTES, Root};
use crate::entry::{Digest, Entry};
use crate::path::SyncPath;
use crate::staging::{Content, INLINE_BYTES_MAX, Staging, StagingError, Writer};

/// The content that came last.
pub(super) struct Arrival<'a> {
    root: &'a Root,
    staging: &'a Staging,
    state: State<'a>,
    /// The file that was copied from last.
    source: Option<(SyncPath, OpenFile)>,
    window: Vec<u8>,
}

enum State<'a> {
    Nothing,
    Part(Writer<'a>, Made),
    Whole(Digest, Content),
    /// It did not come well; told when the transition asks for it.
    Broken(Digest, Status),
}

/// What a content is made of, which decides who is to blame if it is another than announced.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Made {
    OfWhatCame,
    /// In part of what was here.
    OfWhatWasHere,
}

/// Why a piece could not be taken.
enum Lost {
    /// What the sender believed to be here is not.
    NotHere,
    Staging(StagingError),
}

impl From<StagingError> for Lost {
    fn from(error: StagingError) -> Self {
        match error {
            StagingError::NoPart(_) => Self::NotHere,
            error => Self::Staging(error),
        }
    }
}

impl Lost {
    fn status(&self, made: Made) -> Status {
        match self {
            Self::NotHere => Status::Stale,
            Self::Staging(StagingError::WrongDigest) if made == Made::OfWhatWasHere => {
                Status::Stale
            }
            Self::Staging(error) => {
                Status::Failed { problem: error.to_string(), no_space: error.is_no_space() }
            }
        }
    }
}

impl<'a> Arrival<'a> {
    pub(super) fn new(root: &'a Root, staging: &'a Staging) -> Self {
        Self { root, staging, state: State::Nothing, source: None, window: Vec::new() }
    }

    /// Takes the next piece.
    pub(super) fn take(&mut self, chunk: Chunk) {
        let is_small =
            chunk.offset == 0 && chunk.last && chunk.piece.length() <= INLINE_BYTES_MAX as u64;
        let state = std::mem::replace(&mut self.state, State::Nothing);
        self.state = if is_small { self.small(chunk) } else { self.piece(state, chunk) };
    }

    /// The content that a transition needs: what came right before it, or what is staged from an
    /// earlier run. Content may be missing; it is needed only if the path is not yet as `new`
    /// says.
    pub(super) fn content_for(
        &mut self,
        transition: &Transition,
    ) -> Result<Option<Content>, Status> {
        // A file that was copied from is not held open for a removal or replacement of it.
        self.source = None;
        let state = std::mem::replace(&mut self.state, State::Nothing);
        let Some(Entry::File(file)) = &transition.new else {
            return Ok(None);
        };
        match state {
            State::Whole(digest, content) if digest == file.digest => Ok(Some(content)),
            State::Broken(digest, status) if digest == file.digest => Err(status),
            _ if file.size == 0 => Ok(Some(Content::Inline(Bytes::new()))),
            _ => Ok(self.staging.find(&file.digest).map(Content::Staged)),
        }
    }

    /// A small content in one piece stays in memory. Its digest is checked where it is written,
    /// and here too if it is a copy, for then it is not the sender's fault.
    fn small(&mut self, chunk: Chunk) -> State<'a> {
        let digest = chunk.digest;
        match chunk.piece {
            Piece::Data(data) => State::Whole(digest, Content::Inline(data)),
            Piece::Copy { from, offset, length } => {
                let mut data = Vec::new();
                let copied = self.copy(&from, offset, length, &mut |piece| {
                    data.extend_from_slice(piece);
                    Ok(())
                });
                if copied.is_ok() && Digest::of(&data) == digest {
                    State::Whole(digest, Content::Inline(Bytes::from(data)))
                } else {
                    State::Broken(digest, Status::Stale)
                }
            }
        }
    }

    fn piece(&mut self, state: State<'a>, chunk: Chunk) -> State<'a> {
        let Chunk { digest, offset, piece, last } = chunk;
        let (begun, mut made) = match state {
            State::Part(writer, made)
                if writer.digest() == digest && offset == writer.written() =>
            {
                (Ok(writer), made)
            }
            State::Broken(of, status) if of == digest && offset > 0 => {
                return State::Broken(of, status);
            }
            _ if offset == 0 => (self.staging.begin(digest, None), Made::OfWhatCame),
            // Goes on where an interrupted transfer ended; if none ended there, it is a gap.
            _ => (self.staging.resume(digest, offset), Made::OfWhatWasHere),
        };
        if matches!(piece, Piece::Copy { .. }) {
            made = Made::OfWhatWasHere;
        }
        let taken = begun.map_err(Lost::from).and_then(|mut writer| {
            match piece {
                Piece::Data(data) => writer.write(&data)?,
                Piece::Copy { from, offset, length } => {
                    self.copy(&from, offset, length, &mut |piece| writer.write(piece))?;
                }
            }
            Ok(writer)
        });
        let finished = match taken {
            Ok(writer) if !last => return State::Part(writer, made),
            Ok(writer) => writer.finish().map_err(Lost::from),
            Err(lost) => Err(lost),
        };
        match finished {
            Ok(staged) => State::Whole(digest, Content::Staged(staged)),
            Err(lost) => State::Broken(digest, lost.status(made)),
        }
    }

    /// No more comes. What has come of a content is kept: most likely the link broke.
    pub(super) fn end(self) {
        if let State::Part(writer, _) = self.state {
            writer.keep();
        }
    }

    /// Reads a stretch of one of our files.
    fn copy(
        &mut self,
        from: &SyncPath,
        offset: u64,
        length: u64,
        take: &mut dyn FnMut(&[u8]) -> Result<(), StagingError>,
    ) -> Result<(), Lost> {
        if self.source.as_ref().is_none_or(|(path, _)| path != from) {
            self.source = None;
            let file = self.root.open_file(from).map_err(|_| Lost::NotHere)?;
            if !Meta::of(&file).is_ok_and(|meta| meta.kind == Kind::File) {
                return Err(Lost::NotHere);
            }
            self.source = Some((from.clone(), file));
        }
        let Some((_, file)) = &self.source else { return Err(Lost::NotHere) };
        let mut done = 0;
        while done < length {
            let wanted = usize::try_from(length - done).unwrap_or(usize::MAX);
            let wanted = wanted.min(READ_WINDOW_BYTES);
            if self.window.len() < wanted {
                self.window.resize(wanted, 0);
            }
            let window = &mut self.window[..wanted];
            let at = offset.checked_add(done).ok_or(Lost::NotHere)?;
            file.read_exact_at(window, at).map_err(|_| Lost::NotHere)?;
            take(window)?;
            done += wanted as u64;
        }
        Ok(())
    }
}
