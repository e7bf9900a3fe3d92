//! What the agent and an operation's supervisor say to each other over their socket.
//!
//! Both are the same binary, so this is no contract with anyone else: a type byte, a length
//! (u32, big endian), a payload. Output and input do not travel here; they are pipes.

use std::io::{self, Read, Write};

use prost::Message;

use crate::proto::{Exit, StartReply, StartRequest};

/// A start request can carry a large environment; Linux itself allows about 2 MiB of it.
const PAYLOAD_BYTES_MAX: u32 = 8 << 20;

/// One message.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// Agent: run this. The first frame.
    Start(StartRequest),
    /// Supervisor: it runs, or why not.
    Started(StartReply),
    /// Agent: send this signal to the process group.
    Signal(u32),
    /// Agent: stop every process of the operation.
    Cancel {
        /// Sent first.
        signal: u32,
        /// Time between the steps of the ladder.
        grace_ms: u32,
    },
    /// Supervisor: a cancel is through.
    Cancelled {
        /// Processes that were stopped.
        stopped: u32,
        /// Processes that are still there.
        survivors: u32,
    },
    /// Supervisor: the program has ended.
    Exited(Exit),
}

impl Frame {
    fn parts(&self) -> (u8, Vec<u8>) {
        let pair = |a: u32, b: u32| [a.to_be_bytes(), b.to_be_bytes()].concat();
        match self {
            Self::Start(request) => (1, request.encode_to_vec()),
            Self::Started(reply) => (2, reply.encode_to_vec()),
            Self::Signal(signal) => (3, signal.to_be_bytes().to_vec()),
            Self::Cancel { signal, grace_ms } => (4, pair(*signal, *grace_ms)),
            Self::Cancelled { stopped, survivors } => (5, pair(*stopped, *survivors)),
            Self::Exited(exit) => (6, exit.encode_to_vec()),
        }
    }

    fn from_parts(kind: u8, payload: &[u8]) -> io::Result<Self> {
        let bad = || io::Error::new(io::ErrorKind::InvalidData, "a malformed supervisor frame");
        let number = |at: usize| -> io::Result<u32> {
            let bytes = payload.get(at..at + 4).ok_or_else(bad)?;
            Ok(u32::from_be_bytes(bytes.try_into().map_err(|_| bad())?))
        };
        Ok(match kind {
            1 => Self::Start(StartRequest::decode(payload).map_err(|_| bad())?),
            2 => Self::Started(StartReply::decode(payload).map_err(|_| bad())?),
            3 => Self::Signal(number(0)?),
            4 => Self::Cancel { signal: number(0)?, grace_ms: number(4)? },
            5 => Self::Cancelled { stopped: number(0)?, survivors: number(4)? },
            6 => Self::Exited(Exit::decode(payload).map_err(|_| bad())?),
            _ => return Err(bad()),
        })
    }

    /// The frame's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, payload) = self.parts();
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(5 + payload.len());
        bytes.push(kind);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&payload);
        bytes
    }

    /// Writes the frame in one call, so that two writers do not interleave.
    ///
    /// # Errors
    /// If the other end is gone.
    pub fn write(&self, mut stream: impl Write) -> io::Result<()> {
        stream.write_all(&self.encode())
    }

    /// Reads one frame; `None` at a clean end of the stream.
    ///
    /// # Errors
    /// If the stream breaks inside a frame or carries none.
    pub fn read(mut stream: impl Read) -> io::Result<Option<Self>> {
        let mut kind = [0; 1];
        if stream.read(&mut kind)? == 0 {
            return Ok(None);
        }
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let mut payload = vec![0; payload_length(length)?];
        stream.read_exact(&mut payload)?;
        Self::from_parts(kind[0], &payload).map(Some)
    }

    /// As [`Frame::read`], for the agent's side.
    ///
    /// # Errors
    /// If the stream breaks inside a frame or carries none.
    pub async fn read_async(
        stream: &mut (impl tokio::io::AsyncRead + Unpin),
    ) -> io::Result<Option<Self>> {
        use tokio::io::AsyncReadExt;
        let mut kind = [0; 1];
        if stream.read(&mut kind).await? == 0 {
            return Ok(None);
        }
        let mut length = [0; 4];
        stream.read_exact(&mut length).await?;
        let mut payload = vec![0; payload_length(length)?];
        stream.read_exact(&mut payload).await?;
        Self::from_parts(kind[0], &payload).map(Some)
    }
}

fn payload_length(bytes: [u8; 4]) -> io::Result<usize> {
    match u32::from_be_bytes(bytes) {
        length if length <= PAYLOAD_BYTES_MAX => Ok(length as usize),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "a supervisor frame is too long")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_as_they_went() {
        let frames = [
            Frame::Start(StartRequest { argv: vec![b"a".to_vec()], ..StartRequest::default() }),
            Frame::Started(StartReply { pid: 7, ..StartReply::default() }),
            Frame::Signal(2),
            Frame::Cancel { signal: 15, grace_ms: 5000 },
            Frame::Cancelled { stopped: 3, survivors: 0 },
            Frame::Exited(Exit { code: 3, ..Exit::default() }),
        ];
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
        let mut stream = &bytes[..];
        for frame in &frames {
            assert_eq!(Frame::read(&mut stream).expect("a frame").as_ref(), Some(frame));
        }
        assert_eq!(Frame::read(&mut stream).expect("the end"), None);
    }

    #[test]
    fn a_frame_that_is_too_long_is_refused_unread() {
        let bytes = [3, 0xff, 0xff, 0xff, 0xff];
        assert!(Frame::read(&bytes[..]).is_err());
    }
}
