//! One connection: bytes from the socket to the HTTP server and back, through the switches.

use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::{Plan, Wire, http, lock};

/// Bytes of one read: a cut falls anywhere in it.
const PIECE_BYTES: usize = 16 << 10;
/// Bytes under way in one direction of a slow connection, as large as TCP windows grow.
const HELD_BYTES_MAX: usize = 4 << 20;
/// Without delay, sockets hold this part of it: a byte is charged so often.
const CHARGE_WITHOUT_DELAY: usize = 16;
/// Bytes between the pump and the HTTP server.
const DUPLEX_BYTES: usize = 64 << 10;

/// What is known of one connection.
struct Line {
    wire: Wire,
    plan: watch::Receiver<Plan>,
    /// Random drops: which call the number is of, and how many bytes are left.
    left: Mutex<(u64, u64)>,
    /// When the last byte came, from either side.
    active: Mutex<Instant>,
}

/// Bytes under way.
struct Piece {
    bytes: Vec<u8>,
    due: Instant,
    _held: OwnedSemaphorePermit,
}

#[derive(Clone, Copy)]
enum Way {
    Up,
    Down,
}

/// Serves one connection until either side or a switch ends it.
pub(super) async fn connection(mut socket: TcpStream, router: Router, wire: Wire) {
    let mut plan = wire.shared.plan.subscribe();
    let (number, delay) = {
        let plan = plan.borrow_and_update();
        (plan.number, plan.delay)
    };
    let line = Line {
        wire: wire.clone(),
        plan: plan.clone(),
        left: Mutex::default(),
        active: Mutex::new(Instant::now()),
    };
    let forgotten = tokio::select! {
        () = connected(&mut socket, &line, delay, router) => false,
        _ = plan.wait_for(|plan| plan.number != number) => false,
        () = forgotten(&line) => true,
    };
    if forgotten {
        // The load balancer knows the connection no more: its answer to the next byte is a reset.
        let mut byte = [0];
        tokio::select! {
            _ = socket.read(&mut byte) => {}
            _ = plan.wait_for(|plan| plan.number != number) => {}
        }
    }
}

async fn connected(socket: &mut TcpStream, line: &Line, delay: Duration, router: Router) {
    // TCP's and TLS's round trips, as one: the client may send, but nobody reads yet.
    sleep(delay * 2).await;
    let (near, far) = tokio::io::duplex(DUPLEX_BYTES);
    // It ends when `far` is dropped, and so does whatever took the connection over from HTTP.
    tokio::spawn(Box::pin(http(near, router, line.wire.clone())));
    let (far_reads, far_writes) = tokio::io::split::<DuplexStream>(far);
    let (reads, writes) = socket.split();
    let up = Box::pin(direction(reads, far_writes, line, Way::Up));
    let down = Box::pin(direction(far_reads, writes, line, Way::Down));
    // An orderly end of one direction leaves the other; an error ends both.
    let _ = tokio::try_join!(up, down);
}

/// Waits until the connection had no byte for as long as the plan says.
async fn forgotten(line: &Line) {
    let mut plan = line.plan.clone();
    loop {
        let idle = plan.borrow_and_update().idle;
        let Some(idle) = idle else {
            if plan.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            continue;
        };
        let until = *lock(&line.active) + idle;
        if until <= Instant::now() {
            return;
        }
        tokio::select! {
            () = sleep_until(until) => {}
            _ = plan.changed() => {}
        }
    }
}

async fn direction<R, W>(from: R, to: W, line: &Line, way: Way) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let (sender, receiver) = mpsc::channel(HELD_BYTES_MAX / 256);
    tokio::try_join!(take(from, line, sender), deliver(to, line, way, receiver))?;
    Ok(())
}

async fn take<R>(mut from: R, line: &Line, queue: mpsc::Sender<Piece>) -> io::Result<()>
where
    R: AsyncRead + Unpin,
{
    let room = Arc::new(Semaphore::new(HELD_BYTES_MAX));
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        let count = from.read(&mut buffer).await?;
        let delay = line.plan.borrow().delay;
        let now = Instant::now();
        *lock(&line.active) = now;
        if count == 0 {
            // The end is delayed like a byte.
            sleep(delay).await;
            return Ok(());
        }
        let charge = if delay.is_zero() { count * CHARGE_WITHOUT_DELAY } else { count };
        let held = room.clone().acquire_many_owned(charge as u32).await;
        let Ok(held) = held else { return Err(io::ErrorKind::BrokenPipe.into()) };
        let piece = Piece { bytes: buffer[..count].to_vec(), due: now + delay, _held: held };
        if queue.send(piece).await.is_err() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
    }
}

async fn deliver<W>(
    mut to: W,
    line: &Line,
    way: Way,
    mut queue: mpsc::Receiver<Piece>,
) -> io::Result<()>
where
    W: AsyncWrite + Unpin,
{
    let mut plan = line.plan.clone();
    while let Some(piece) = queue.recv().await {
        sleep_until(piece.due).await;
        if plan.wait_for(|plan| !plan.stalled).await.is_err() {
            break;
        }
        let wanted = line.left(piece.bytes.len() as u64);
        let allowed = line.wire.spend(wanted);
        to.write_all(&piece.bytes[..allowed as usize]).await?;
        line.count(way).fetch_add(allowed, Ordering::Relaxed);
        if line.wire.spent() {
            line.wire.cut();
        }
        if allowed < piece.bytes.len() as u64 {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
    }
    to.shutdown().await
}

impl Line {
    fn count(&self, way: Way) -> &AtomicU64 {
        match way {
            Way::Up => &self.wire.shared.up,
            Way::Down => &self.wire.shared.down,
        }
    }

    /// Returns how many of `bytes` go through before this connection is dropped by chance.
    fn left(&self, bytes: u64) -> u64 {
        let random = self.plan.borrow().random;
        let Some((generation, mean)) = random.filter(|(_, mean)| *mean > 0) else { return bytes };
        let mut left = lock(&self.left);
        if left.0 != generation {
            *left = (generation, self.wire.draw(mean));
        }
        let allowed = bytes.min(left.1);
        left.1 -= allowed;
        allowed
    }
}
