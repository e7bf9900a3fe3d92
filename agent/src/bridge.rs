//! Joins standard input and output to the agent's socket: the last metre of a link whose driver
//! can only start a program (an attached `docker exec`).
//!
//! It knows nothing of what it carries. It ends when either side does.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;

/// Capacity asked of a pipe, in bytes: the most an ordinary user may have. The default 64 KiB costs
/// 10 % of the throughput of a docker exec (`reference/crates.md` §3).
pub const PIPE_BYTES: usize = 1 << 20;

/// Bytes carried at a time, each way.
const BUFFER_BYTES: usize = 256 << 10;

/// Carries bytes both ways until one side ends.
///
/// # Errors
/// If the socket is not there or a stream fails.
pub async fn bridge(socket: &Path) -> io::Result<()> {
    let (from_agent, mut to_agent) = UnixStream::connect(socket).await?.into_split();
    let mut from_agent = BufReader::with_capacity(BUFFER_BYTES, from_agent);
    let input = reader(std::io::stdin().as_fd().try_clone_to_owned()?)?;
    let mut input = BufReader::with_capacity(BUFFER_BYTES, input);
    let mut output = writer(std::io::stdout().as_fd().try_clone_to_owned()?)?;
    tokio::select! {
        up = tokio::io::copy_buf(&mut input, &mut to_agent) => up.map(drop),
        down = tokio::io::copy_buf(&mut from_agent, &mut output) => down.map(drop),
    }
}

/// Non-blocking for a pipe: `tokio::io::stdin` hops through a thread for each read.
fn reader(fd: OwnedFd) -> io::Result<Box<dyn AsyncRead + Unpin>> {
    widen(&fd);
    if is_pipe(&fd)? {
        return Ok(Box::new(pipe::Receiver::from_owned_fd(fd)?));
    }
    Ok(Box::new(tokio::io::stdin()))
}

fn writer(fd: OwnedFd) -> io::Result<Box<dyn AsyncWrite + Unpin>> {
    widen(&fd);
    if is_pipe(&fd)? {
        return Ok(Box::new(pipe::Sender::from_owned_fd(fd)?));
    }
    Ok(Box::new(tokio::io::stdout()))
}

fn is_pipe(fd: &OwnedFd) -> io::Result<bool> {
    let mode = rustix::fs::fstat(fd)?.st_mode;
    Ok(rustix::fs::FileType::from_raw_mode(mode).is_fifo())
}

/// Enlarges a pipe. A smaller one only costs speed, so failing is no error.
pub fn widen(fd: &OwnedFd) {
    let _ = rustix::pipe::fcntl_setpipe_size(fd, PIPE_BYTES);
}
