//! Content, and what the receiver holds of it.

use super::{WireError, digest, path};
use crate::delta::Signature;
use crate::proto;
use crate::transition::{Chunk, Held, Piece};

/// Longest piece of content in one chunk, in bytes.
pub const CHUNK_BYTES_MAX: usize = 1 << 20;

/// A piece of content, as a message.
pub fn chunk_to_wire(chunk: Chunk) -> proto::Chunk {
    let Chunk { digest, offset, piece, last } = chunk;
    let base = proto::Chunk { digest: digest.0.to_vec(), offset, last, ..proto::Chunk::default() };
    match piece {
        Piece::Data(data) => proto::Chunk { data, ..base },
        Piece::Copy { from, offset, length } => {
            let copy = proto::Copy { path: from.as_bytes().to_vec(), offset, length };
            proto::Chunk { copy: Some(copy), ..base }
        }
    }
}

/// A piece of content, from a message.
///
/// # Errors
/// If it is too large, or a copy that ends nowhere.
pub fn chunk_from_wire(chunk: proto::Chunk) -> Result<Chunk, WireError> {
    let proto::Chunk { offset, data, last, copy, .. } = chunk;
    let piece = match copy {
        None if data.len() > CHUNK_BYTES_MAX => return Err(WireError::Chunk),
        None => Piece::Data(data),
        Some(copy) => {
            copy.offset.checked_add(copy.length).ok_or(WireError::Chunk)?;
            Piece::Copy { from: path(&copy.path)?, offset: copy.offset, length: copy.length }
        }
    };
    let chunk = Chunk { digest: digest(&chunk.digest)?, offset, piece, last };
    chunk.offset.checked_add(chunk.piece.length()).ok_or(WireError::Chunk)?;
    Ok(chunk)
}

/// What is held of a content, as a message: so many bytes of its beginning, and the signature of a
/// file of that size.
pub fn signed_to_wire(prefix: u64, signed: Option<(u64, Vec<u8>)>) -> proto::Held {
    let (size, signature) = signed.unwrap_or_default();
    proto::Held { whole: false, prefix, signature, size }
}

/// What the receiver holds of a content of `size` bytes, from a message.
///
/// # Errors
/// If the signature is not one.
pub fn held_from_wire(held: proto::Held, size: u64) -> Result<Held, WireError> {
    let signature = match held.signature.is_empty() {
        true => None,
        false => Some(Signature::parse(&held.signature, held.size)?),
    };
    // A part that is longer than the whole is a part of something else.
    let prefix = if held.prefix <= size { held.prefix } else { 0 };
    Ok(Held { prefix, signature })
}
