//! The switches, on a listener that echoes what is posted.

use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::routing::post;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::{Wire, serve};

/// How long anything may take.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// How long a thing that must not happen is waited for.
const NEVER: Duration = Duration::from_millis(150);

async fn echoing() -> (Wire, std::net::SocketAddr) {
    let router = Router::new().route("/", post(|body: Body| async { body }));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("there are ports");
    let address = listener.local_addr().expect("it is bound");
    let wire = Wire::new();
    tokio::spawn(serve(listener, router, wire.clone()));
    (wire, address)
}

/// Posts so many bytes, and returns how many bytes came back until the end of the connection or
/// of the answer.
async fn post_bytes(stream: &mut TcpStream, count: usize) -> usize {
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {count}\r\n\r\n");
    let (mut reads, mut writes) = stream.split();
    let send = async {
        let _ = writes.write_all(head.as_bytes()).await;
        let _ = writes.write_all(&vec![b'x'; count]).await;
    };
    let receive = async {
        let mut bytes = vec![0; 64 << 10];
        let (mut all, mut last) = (0, Vec::new());
        while let Ok(read @ 1..) = reads.read(&mut bytes).await {
            all += read;
            last.extend_from_slice(&bytes[..read]);
            let from = last.len().saturating_sub(5);
            last.drain(..from);
            if all > count && last.ends_with(b"x") {
                break;
            }
        }
        all
    };
    let (all, ()) = timeout(WAIT_MAX, async { tokio::join!(receive, send) }).await.expect("an end");
    all
}

#[tokio::test]
async fn slow_bytes_come_one_after_the_other_all_the_same() {
    let (wire, address) = echoing().await;
    wire.delay(Duration::from_millis(40));
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let begun = Instant::now();
    assert!(post_bytes(&mut stream, 1000).await > 1000);
    let first = begun.elapsed();
    assert!(first >= Duration::from_millis(160), "set-up and one round trip: {first:?}");
    let begun = Instant::now();
    assert!(post_bytes(&mut stream, 2_000_000).await > 2_000_000);
    let many = begun.elapsed();
    assert!(many >= Duration::from_millis(80) && many < Duration::from_secs(5), "{many:?}");
    let counts = wire.counts();
    assert_eq!((counts.connections, counts.requests), (1, 2));
    assert!(counts.bytes_up > 2_001_000 && counts.bytes_down > 2_001_000, "{counts:?}");
}

#[tokio::test]
async fn a_cut_comes_after_exactly_so_many_bytes() {
    let (wire, address) = echoing().await;
    let mut first = TcpStream::connect(address).await.expect("it listens");
    let mut other = TcpStream::connect(address).await.expect("it listens");
    assert!(post_bytes(&mut other, 10).await > 10);
    let before = wire.counts();
    wire.cut_after(300_000);
    post_bytes(&mut first, 1_000_000).await;
    let after = wire.counts();
    let through = after.bytes_up + after.bytes_down - before.bytes_up - before.bytes_down;
    assert_eq!(through, 300_000);
    let end = timeout(WAIT_MAX, other.read(&mut [0])).await.expect("an end");
    assert!(matches!(end, Ok(0) | Err(_)), "all connections are cut");
    let mut next = TcpStream::connect(address).await.expect("it listens");
    assert!(post_bytes(&mut next, 1_000_000).await > 1_000_000);
    wire.cut_randomly(7, 100_000);
    assert!(post_bytes(&mut next, 5_000_000).await < 5_000_000);
    wire.cut_randomly(7, 0);
    wire.refuse(true);
    let mut refused = TcpStream::connect(address).await.expect("it is accepted first");
    assert_eq!(post_bytes(&mut refused, 10).await, 0);
}

#[tokio::test]
async fn nobody_is_told_of_a_stall_or_of_being_forgotten() {
    let (wire, address) = echoing().await;
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    assert!(post_bytes(&mut stream, 10).await > 10);
    wire.stall(true);
    assert!(timeout(NEVER, post_bytes(&mut stream, 10)).await.is_err());
    wire.stall(false);
    assert!(timeout(WAIT_MAX, stream.read(&mut [0; 1024])).await.expect("an answer").is_ok());
    let mut idle = TcpStream::connect(address).await.expect("it listens");
    assert!(post_bytes(&mut idle, 10).await > 10);
    wire.idle_cut(Some(Duration::from_millis(20)));
    assert!(timeout(NEVER, idle.read(&mut [0])).await.is_err(), "it hears nothing");
    assert_eq!(post_bytes(&mut idle, 10).await, 0, "and then it is reset");
}
