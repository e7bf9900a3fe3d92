//! A command on a terminal.

use super::*;

async fn on_terminal(world: &World, script: &str) -> (Arc<Operation>, Client) {
    let mut request = world.request(script);
    request.terminal = Some(size(31, 97));
    let operation = world.start(request).await;
    let begin = AttachBegin { input: true, terminal: Some(size(31, 97)), ..AttachBegin::default() };
    let client = Client::attach(&operation, begin).await;
    assert!(client.attached.terminal);
    (operation, client)
}

#[tokio::test]
async fn it_has_its_size_from_the_start_and_hears_of_another() {
    let world = World::new();
    let script = "trap 'stty size' WINCH; tty >&2; stty size; while :; do sleep 0.01; done";
    let (operation, mut client) = on_terminal(&world, script).await;
    client.expect("31 97\r\n").await;
    assert!(client.text().contains("/dev/pts/") && client.err.is_empty());
    client.say(Request::Resize(size(40, 100))).await;
    client.expect("40 100\r\n").await;
    // Another client with a terminal of the same size: it is told to draw all the same.
    let begin =
        AttachBegin { input: true, terminal: Some(size(40, 100)), ..AttachBegin::default() };
    let mut second = Client::attach(&operation, begin).await;
    second.expect("40 99\r\n").await;
    second.expect("40 100\r\n").await;
    assert_eq!(cancel(&operation, 9, 0).await.survivors, 0);
}

#[tokio::test]
async fn what_is_typed_is_echoed_and_ends() {
    let world = World::new();
    let (_operation, mut client) = on_terminal(&world, "read line; echo got $line; cat").await;
    client.input(0, b"hello\n", false).await;
    client.expect("hello\r\ngot hello\r\n").await;
    // In the middle of a line, the end has to be said twice.
    client.input(6, b"rest", false).await;
    client.input(10, b"", true).await;
    let exit = client.exit().await;
    assert_eq!((exit.code, exit.signal), (0, 0));
    assert!(client.text().ends_with("restrest"), "{:?}", client.text());
}

#[tokio::test]
async fn control_c_and_signals_reach_the_foreground() {
    let world = World::new();
    let (_operation, mut client) = on_terminal(&world, "echo on; exec sleep 600").await;
    client.expect("on").await;
    client.input(0, &[3], false).await;
    assert_eq!(client.exit().await.signal, 2);

    // A shell with job control gives its job a group of its own.
    let script = "set -m; trap 'echo shell' TERM; sh -c 'trap \"echo job; exit\" TERM; echo on; \
                  while :; do :; done'; echo over";
    let (operation, mut client) = on_terminal(&world, script).await;
    client.expect("on\r\n").await;
    let request = skync_agent::proto::SignalRequest { id: Vec::new(), signal: 15 };
    operation.signal(request).await.expect("sent");
    client.exit().await;
    assert_eq!(client.text(), "on\r\njob\r\nover\r\n");
}

#[tokio::test]
async fn a_terminal_that_is_lost_with_its_leader_ends_the_output() {
    let world = World::new();
    let (_operation, mut client) = on_terminal(&world, "printf 'last words'; exit 3").await;
    assert_eq!(client.exit().await.code, 3);
    assert_eq!(client.text(), "last words");
}

#[tokio::test]
async fn a_lot_goes_through_a_raw_terminal_both_ways() {
    let world = World::new();
    let script = "stty raw -echo; echo ready; head -c 3000000 | sha256sum; seq 200000";
    let (_operation, mut client) = on_terminal(&world, script).await;
    client.expect("ready\n").await;
    let data = noise(5, 3_000_000);
    for (index, piece) in data.chunks(64 << 10).enumerate() {
        let offset = (index * (64 << 10)) as u64;
        while offset + piece.len() as u64 > client.input_taken + (1 << 20) {
            assert_eq!(client.step().await, Some(None));
        }
        client.input(offset, piece, false).await;
    }
    assert_eq!(client.exit().await.code, 0);
    use sha2::Digest;
    let digest = sha2::Sha256::digest(&data);
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let numbers: String = (1..=200_000).map(|n| format!("{n}\n")).collect();
    assert!(client.text() == format!("ready\n{digest}  -\n{numbers}"));
}
