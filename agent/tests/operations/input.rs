//! What the command reads: by offset, from one client at a time.

use super::*;

#[tokio::test]
async fn input_is_taken_once_whatever_comes_twice_or_too_early() {
    let world = World::new();
    let (operation, mut client) = world.run("cat").await;
    assert_eq!(client.attached.input_offset, 0);
    client.input(0, b"one ", false).await;
    client.input(0, b"one two ", false).await;
    client.input(20, b"lost", false).await;
    client.expect("one two ").await;
    // The link breaks; the next one does not know what arrived.
    drop(client);
    let begin = AttachBegin { input: true, from: Some(Begin::Offset(0)), ..AttachBegin::default() };
    let mut client = Client::attach(&operation, begin).await;
    assert_eq!(client.attached.input_offset, 8);
    client.input(4, b"two three", false).await;
    client.input(13, b"", true).await;
    let exit = client.exit().await;
    assert_eq!(client.text(), "one two three");
    assert_eq!((exit.code, exit.input_bytes), (0, 13));
}

#[tokio::test]
async fn a_lot_of_input_comes_whole() {
    let world = World::new();
    let data = noise(3, 20 << 20);
    let (_operation, mut client) = world.run("sha256sum").await;
    for (index, piece) in data.chunks(64 << 10).enumerate() {
        let offset = (index * (64 << 10)) as u64;
        while offset + piece.len() as u64 > client.input_taken + (1 << 20) {
            assert_eq!(client.step().await, Some(None));
        }
        client.input(offset, piece, false).await;
    }
    client.input(data.len() as u64, b"", true).await;
    let exit = client.exit().await;
    use sha2::Digest;
    let digest = sha2::Sha256::digest(&data);
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(client.text(), format!("{digest}  -\n"));
    assert_eq!(exit.input_bytes, 20 << 20);
}

#[tokio::test]
async fn without_input_the_command_reads_the_end_at_once() {
    let world = World::new();
    let mut request = world.request("cat; echo over");
    request.no_input = true;
    let operation = world.start(request).await;
    let mut client = Client::writer(&operation).await;
    client.input(0, b"not read", false).await;
    client.exit().await;
    assert_eq!(client.text(), "over\n");
}

#[tokio::test]
async fn input_that_the_command_does_not_read_counts_as_taken() {
    let world = World::new();
    let (_operation, mut client) = world.run("exec <&-; echo closed; sleep 1").await;
    client.expect("closed").await;
    for index in 0..16 {
        client.input(index * (64 << 10), &[0; 64 << 10], false).await;
    }
    while client.input_taken < 1 << 20 {
        assert_eq!(client.step().await, Some(None));
    }
}

#[tokio::test]
async fn who_takes_the_input_evicts_who_had_it() {
    let world = World::new();
    let (operation, mut first) = world.run("cat").await;
    first.input(0, b"first ", false).await;
    first.expect("first ").await;
    let mut second = Client::writer(&operation).await;
    assert_eq!(second.attached.input_offset, 6);
    while !first.evicted {
        assert_eq!(first.step().await, Some(None));
    }
    first.input(6, b"ignored ", true).await;
    first.say(Request::Taken(6)).await;
    second.input(6, b"second", true).await;
    second.exit().await;
    first.exit().await;
    assert_eq!(first.text(), "first second");
    assert!(!second.evicted);
}
