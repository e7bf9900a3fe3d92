//! What the agent and an operation's supervisor say to each other over the supervisor's socket.
//!
//! Both are the same binary, so this is no contract with anyone else: a type byte, a length
//! (u32, big endian), a payload, which is mostly a message of the wire contract. Each connection
//! is one call, and its first frame says which.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::operation::place::Specification;
use crate::proto::{AttachReply, AttachRequest, CancelReply, CancelRequest, Exit, OperationInfo};
use crate::proto::{OutputFrame, SignalRequest, StartReply, StartRequest, attach_reply};

/// A start request can carry a large environment; Linux itself allows about 2 MiB of it.
const PAYLOAD_BYTES_MAX: u32 = 8 << 20;
/// Bytes before the payload.
const HEADER_BYTES: usize = 5;
/// Bytes of an output frame's payload before its data: stream, offset, time.
const OUTPUT_HEADER_BYTES: usize = 17;
/// Bytes asked of the socket at a time.
const READ_BYTES: usize = 64 << 10;

/// One message.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// Agent: run this. Only over the socket that the supervisor inherits, which is a `Watch` from
    /// then on.
    Start(StartRequest),
    /// Supervisor: it runs, or why not. The answer to `Start`, and the second one to `Watch`.
    Started(StartReply),
    /// Supervisor: what it was asked to run, as a digest. The first answer to `Watch`.
    Specified(Specification),
    /// Agent: it is there, as long as this connection is. `Exited` follows when it is so.
    Watch,
    /// Supervisor: the operation was forgotten and only stays because something of it lives.
    Forgotten,
    /// Agent: a client's request; the first one begins the call.
    Attach(AttachRequest),
    /// Supervisor: a reply for that client.
    Reply(AttachReply),
    /// Supervisor: the reply with output, without a detour through its encoding.
    Output(OutputFrame),
    /// Supervisor: that was all that the client wanted.
    End,
    /// Agent: say when it has ended.
    Wait,
    /// Supervisor: the operation has ended.
    Exited(Exit),
    /// Agent: send this signal.
    Signal(SignalRequest),
    /// Agent: stop every process of the operation.
    Cancel(CancelRequest),
    /// Supervisor: a cancel is through.
    Cancelled(CancelReply),
    /// Agent: how is it?
    Status,
    /// Supervisor: it is so.
    Info(OperationInfo),
    /// Agent: nobody waits for its output any more.
    Detach,
    /// Agent: drop it.
    Forget,
    /// Supervisor: it is done.
    Done,
    /// Supervisor: it is not done, because the operation runs.
    Refused,
}

impl Frame {
    fn parts(&self) -> (u8, Vec<u8>) {
        match self {
            Self::Start(request) => (1, request.encode_to_vec()),
            Self::Started(reply) => (2, reply.encode_to_vec()),
            Self::Watch => (3, Vec::new()),
            Self::Forgotten => (4, Vec::new()),
            Self::Attach(request) => (5, request.encode_to_vec()),
            Self::Reply(reply) => (6, reply.encode_to_vec()),
            Self::Output(output) => (7, [&output_header(output), &output.data[..]].concat()),
            Self::End => (8, Vec::new()),
            Self::Wait => (9, Vec::new()),
            Self::Exited(exit) => (10, exit.encode_to_vec()),
            Self::Signal(request) => (11, request.encode_to_vec()),
            Self::Cancel(request) => (12, request.encode_to_vec()),
            Self::Cancelled(reply) => (13, reply.encode_to_vec()),
            Self::Status => (14, Vec::new()),
            Self::Info(info) => (15, info.encode_to_vec()),
            Self::Detach => (16, Vec::new()),
            Self::Forget => (17, Vec::new()),
            Self::Done => (18, Vec::new()),
            Self::Refused => (19, Vec::new()),
            Self::Specified(digest) => (20, digest.to_vec()),
        }
    }

    fn from_parts(kind: u8, payload: Bytes) -> io::Result<Self> {
        Ok(match kind {
            1 => Self::Start(decode(payload)?),
            2 => Self::Started(decode(payload)?),
            3 => Self::Watch,
            4 => Self::Forgotten,
            5 => Self::Attach(decode(payload)?),
            6 => Self::Reply(decode(payload)?),
            7 => Self::Output(output_from(payload)?),
            8 => Self::End,
            9 => Self::Wait,
            10 => Self::Exited(decode(payload)?),
            11 => Self::Signal(decode(payload)?),
            12 => Self::Cancel(decode(payload)?),
            13 => Self::Cancelled(decode(payload)?),
            14 => Self::Status,
            15 => Self::Info(decode(payload)?),
            16 => Self::Detach,
            17 => Self::Forget,
            18 => Self::Done,
            19 => Self::Refused,
            20 => Self::Specified(payload[..].try_into().map_err(|_| malformed())?),
            _ => return Err(malformed()),
        })
    }

    /// The frame's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, payload) = self.parts();
        let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len());
        bytes.push(kind);
        bytes.put_u32(u32::try_from(payload.len()).unwrap_or(u32::MAX));
        bytes.extend_from_slice(&payload);
        bytes
    }

    /// Writes the frame.
    ///
    /// # Errors
    /// If the other end is gone.
    pub async fn write(&self, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let Self::Output(output) = self else { return to.write_all(&self.encode()).await };
        // The data is not copied: the kernel takes it from where it is.
        let mut header = BytesMut::with_capacity(HEADER_BYTES + OUTPUT_HEADER_BYTES);
        header.put_u8(7);
        let length = OUTPUT_HEADER_BYTES + output.data.len();
        header.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
        header.put_slice(&output_header(output));
        to.write_all_buf(&mut header.chain(output.data.clone())).await
    }

    /// As a client's reply, if it is one.
    pub fn into_reply(self) -> Option<AttachReply> {
        let reply = match self {
            Self::Reply(reply) => return Some(reply),
            Self::Output(output) => attach_reply::Reply::Output(output),
            Self::Exited(exit) => attach_reply::Reply::Exit(exit),
            _ => return None,
        };
        Some(AttachReply { reply: Some(reply) })
    }
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a malformed supervisor frame")
}

fn decode<M: Message + Default>(payload: Bytes) -> io::Result<M> {
    M::decode(payload).map_err(|_| malformed())
}

fn output_header(output: &OutputFrame) -> [u8; OUTPUT_HEADER_BYTES] {
    let mut header = [0; OUTPUT_HEADER_BYTES];
    header[0] = u8::try_from(output.stream).unwrap_or(u8::MAX);
    header[1..9].copy_from_slice(&output.offset.to_be_bytes());
    header[9..].copy_from_slice(&output.time_ms.to_be_bytes());
    header
}

fn output_from(mut payload: Bytes) -> io::Result<OutputFrame> {
    if payload.len() < OUTPUT_HEADER_BYTES {
        return Err(malformed());
    }
    let stream = payload.get_u8().into();
    let (offset, time_ms) = (payload.get_u64(), payload.get_u64());
    Ok(OutputFrame { stream, offset, time_ms, data: payload })
}

/// The frames that come over a socket. Their data is where it was read to, without a copy.
#[derive(Debug)]
pub struct Frames<S> {
    from: S,
    buffer: BytesMut,
}

impl<S: AsyncRead + Unpin> Frames<S> {
    /// Nothing is read yet.
    pub fn new(from: S) -> Self {
        Self { from, buffer: BytesMut::new() }
    }

    /// The next frame; `None` at a clean end of the stream. Safe to cancel.
    ///
    /// # Errors
    /// If the stream breaks inside a frame or carries none.
    pub async fn next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            let needed = match self.buffer.first_chunk::<HEADER_BYTES>() {
                None => HEADER_BYTES,
                Some(&[kind, length @ ..]) => {
                    let length = payload_length(length)?;
                    if self.buffer.len() >= HEADER_BYTES + length {
                        self.buffer.advance(HEADER_BYTES);
                        let payload = self.buffer.split_to(length).freeze();
                        return Frame::from_parts(kind, payload).map(Some);
                    }
                    HEADER_BYTES + length
                }
            };
            self.buffer.reserve((needed - self.buffer.len()).max(READ_BYTES));
            if self.from.read_buf(&mut self.buffer).await? == 0 {
                let clean = self.buffer.is_empty();
                return if clean { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
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

    #[tokio::test]
    async fn frames_come_back_as_they_went() {
        let output =
            OutputFrame { stream: 1, offset: 1 << 40, data: "data".into(), time_ms: 1 << 41 };
        let frames = [
            Frame::Start(StartRequest { argv: vec![b"a".to_vec()], ..StartRequest::default() }),
            Frame::Started(StartReply { pid: 7, ..StartReply::default() }),
            Frame::Watch,
            Frame::Specified([7; 32]),
            Frame::Signal(SignalRequest { id: vec![7; 16], signal: 2 }),
            Frame::Cancelled(CancelReply { stopped: 3, survivors: 0 }),
            Frame::Output(output),
            Frame::Exited(Exit { code: 3, ..Exit::default() }),
        ];
        let mut bytes = Vec::new();
        for frame in &frames {
            frame.write(&mut bytes).await.expect("memory");
        }
        assert_eq!(bytes, frames.iter().flat_map(Frame::encode).collect::<Vec<u8>>());
        let mut stream = Frames::new(&bytes[..]);
        for frame in &frames {
            assert_eq!(stream.next().await.expect("a frame").as_ref(), Some(frame));
        }
        assert_eq!(stream.next().await.expect("the end"), None);
        assert!(Frames::new(&bytes[..bytes.len() - 1]).next().await.is_ok());
    }

    #[tokio::test]
    async fn a_frame_that_is_too_long_is_refused_unread() {
        let bytes = [3, 0xff, 0xff, 0xff, 0xff];
        assert!(Frames::new(&bytes[..]).next().await.is_err());
    }
}
