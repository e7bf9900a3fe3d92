//! What the command writes: whole, in order, from any offset, and exactly what is lost.
#![expect(clippy::disallowed_methods, reason = "files of the test's own")]

use super::*;

#[tokio::test]
async fn exit_codes_and_signals_are_told() {
    let world = World::new();
    for (script, code, signal) in [("exit 0", 0, 0), ("exit 7", 7, 0), ("kill -9 $$", 0, 9)] {
        let (operation, mut client) = world.run(script).await;
        let exit = client.exit().await;
        assert_eq!((exit.code, exit.signal), (code, signal), "{script}");
        assert!(exit.started_ms > 0 && exit.ended_ms >= exit.started_ms);
        assert_eq!(within(operation.wait()).await, exit);
        // And again, for one that comes late.
        assert_eq!(Client::writer(&operation).await.exit().await, exit);
    }
}

#[tokio::test]
async fn both_streams_are_told_in_order_with_offsets() {
    let world = World::new();
    let script = "for i in 1 2 3; do echo out $i; sleep 0.02; echo err $i >&2; sleep 0.02; done; \
                  printf 'no end'";
    let (operation, mut client) = world.run(script).await;
    let exit = client.exit().await;
    assert_eq!(client.text(), "out 1\nout 2\nout 3\nno end");
    assert_eq!(client.err, b"err 1\nerr 2\nerr 3\n");
    assert_eq!(exit.output_bytes, client.offset);
    // From any byte on, the rest is the same.
    let whole = "out 1\nerr 1\nout 2\nerr 2\nout 3\nerr 3\nno end";
    for offset in 0..=whole.len() {
        let mut later = Client::reader(&operation, Begin::Offset(offset as u64)).await;
        assert_eq!(later.attached.output_offset, offset as u64);
        later.exit().await;
        assert_eq!(later.out.len() + later.err.len(), whole.len() - offset);
        assert!(client.out.ends_with(&later.out) && client.err.ends_with(&later.err));
    }
    // The last lines, of both or of one.
    for (lines, only, expected) in [
        (0, None, ""),
        (1, None, "no end"),
        (2, None, "err 3\nno end"),
        (2, Some(Stream::Stdout), "out 3\nno end"),
        (1, Some(Stream::Stderr), "err 3\n"),
        (9, Some(Stream::Stderr), "err 1\nerr 2\nerr 3\n"),
    ] {
        let from = Some(Begin::Lines(lines));
        let only = only.map(i32::from);
        let begin = AttachBegin { from, only, no_follow: true, ..AttachBegin::default() };
        let mut client = Client::attach(&operation, begin).await;
        client.exit().await;
        let mut both = client.err.clone();
        both.extend_from_slice(&client.out);
        assert_eq!(String::from_utf8_lossy(&both), expected, "{lines} {only:?}");
    }
}

#[tokio::test]
async fn a_look_ends_where_the_output_is_so_far() {
    let world = World::new();
    let (operation, mut client) = world.run("echo early; read go; echo late").await;
    client.expect("early\n").await;
    let from = Some(Begin::Offset(0));
    let begin = AttachBegin { from, no_follow: true, ..AttachBegin::default() };
    let mut look = Client::attach(&operation, begin).await;
    while look.step().await.is_some() {}
    assert_eq!(look.text(), "early\n");
    // What is written in one moment has one time.
    tokio::time::sleep(Duration::from_millis(60)).await;
    let now = milliseconds();
    client.input(0, b"\n", true).await;
    client.exit().await;
    let mut since = Client::reader(&operation, Begin::SinceMs(now)).await;
    since.exit().await;
    assert_eq!(since.text(), "late\n");
}

fn milliseconds() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    u64::try_from(now.expect("after 1970").as_millis()).expect("not so late")
}

#[tokio::test]
async fn a_lot_of_output_comes_whole_through_links_that_break_anywhere() {
    let world = World::new();
    let seed = seed();
    let data = noise(seed, 64 << 20);
    std::fs::write(world.state.path().join("data"), &data).expect("written");
    let (operation, mut client) = world.run("cat data").await;
    client.takes = false;
    let (mut got, mut cut) = (Vec::new(), seed);
    let exit = loop {
        cut = cut.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let length = (cut >> 33) as usize % (8 << 20);
        let mut exit = None;
        while client.out.len() < length && exit.is_none() {
            exit = client.step().await.expect("no end before the exit");
        }
        // What came after the cut is lost with the link.
        client.out.truncate(length.max(1));
        got.extend_from_slice(&client.out);
        if let Some(exit) = exit
            && got.len() == data.len()
        {
            break exit;
        }
        assert!(client.gaps.is_empty());
        let from = Some(Begin::Offset(got.len() as u64));
        let begin = AttachBegin { input: true, from, ..AttachBegin::default() };
        client = Client::attach(&operation, begin).await;
        // What is taken is what really came.
        client.takes = false;
        client.say(Request::Taken(got.len() as u64)).await;
    };
    assert!(got == data, "{} bytes came", got.len());
    assert_eq!((exit.output_bytes, exit.lost_bytes), (64 << 20, 0));
}

#[tokio::test]
async fn a_command_whose_output_nobody_takes_waits_at_the_cap_and_goes_on() {
    let world = World::new();
    let mut request = world.request("head -c 30000000 /dev/zero; echo > made");
    request.spool_bytes = 8 << 20;
    let operation = world.start(request).await;
    let mut last = 0;
    let mut quiet = 0;
    wait_until("it waits", async || {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = operation.info().await.output_bytes;
        quiet = if now == last { quiet + 1 } else { 0 };
        last = now;
        quiet > 10
    })
    .await;
    assert!((8 << 20..12 << 20).contains(&last), "{last} bytes");
    assert!(!world.state.path().join("made").exists());
    let mut client = Client::writer(&operation).await;
    let exit = client.exit().await;
    assert_eq!((exit.output_bytes, exit.lost_bytes), (30_000_000, 0));
    assert!(client.gaps.is_empty() && client.out.len() == 30_000_000);
}

#[tokio::test]
async fn a_command_that_is_stopped_ends_although_nobody_takes_what_it_wrote() {
    let world = World::new();
    let mut request = world.request("exec yes 0123456789abcdef");
    request.spool_bytes = 8 << 20;
    let operation = world.start(request).await;
    // Nobody is attached: the disk is used up to the cap, and what the pipe holds waits in it.
    wait_until("it waits", async || operation.info().await.output_bytes > 8 << 20).await;
    cancel(&operation, 2, 1000).await;
    let exit = within(operation.wait()).await;
    assert_eq!((exit.signal, exit.lost_bytes), (2, 0));
    let mut client = Client::writer(&operation).await;
    assert_eq!(client.exit().await, exit);
    assert_eq!(client.out.len() as u64, exit.output_bytes);
}

#[tokio::test]
async fn a_detached_command_goes_on_and_what_is_lost_is_told_exactly() {
    let world = World::new();
    let data = noise(7, 30 << 20);
    std::fs::write(world.state.path().join("data"), &data).expect("written");
    let mut request = world.request("cat data; printf end >&2");
    (request.spool_bytes, request.detached) = (8 << 20, true);
    let operation = world.start(request).await;
    let exit = within(operation.wait()).await;
    assert_eq!(exit.output_bytes, (30 << 20) + 3);
    assert!(exit.lost_bytes > 18 << 20 && exit.lost_bytes < 25 << 20, "{}", exit.lost_bytes);
    let mut client = Client::reader(&operation, Begin::Offset(0)).await;
    assert_eq!(client.exit().await, exit);
    assert_eq!(client.gaps, [(0, exit.lost_bytes)]);
    assert!(client.out == data[exit.lost_bytes as usize..] && client.err == b"end");
}

#[tokio::test]
async fn without_a_disk_the_command_waits_earlier_and_nothing_is_lost() {
    let world = World::new();
    let operation = world.start(world.request("read go; head -c 9000000 /dev/zero")).await;
    let mut client = Client::writer(&operation).await;
    // Root may write anywhere, so the directory has to go.
    let place = world.state.path().join("operations");
    let moved = world.state.path().join("moved");
    std::fs::rename(&place, &moved).expect("moved");
    client.input(0, b"\n", true).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    std::fs::rename(&moved, &place).expect("moved back");
    let before = operation.info().await.output_bytes;
    assert!(before < 4 << 20, "{before} bytes without a disk");
    let exit = client.exit().await;
    assert_eq!((exit.output_bytes, exit.lost_bytes, client.out.len()), (9_000_000, 0, 9_000_000));
}

#[tokio::test]
async fn a_stream_that_is_closed_ends_who_writes_to_it() {
    let world = World::new();
    let (_operation, mut client) = world.run("echo on >&2; exec yes").await;
    client.expect("y\n").await;
    client.say(Request::Close(Stream::Stdout.into())).await;
    assert_eq!(client.exit().await.signal, 13);
}

#[tokio::test]
async fn something_in_the_background_does_not_hold_the_command() {
    let world = World::new();
    let mark = "987.125";
    let (operation, mut client) = world.run(&format!("setsid sleep {mark} & echo done")).await;
    let begun = std::time::Instant::now();
    assert_eq!(client.exit().await.code, 0);
    assert_eq!(client.text(), "done\n");
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert_eq!(World::marked(mark).len(), 1, "it lives on");
    assert_eq!(operation.info().await.processes, 1);
    assert_eq!(cancel(&operation, 15, 1000).await.stopped, 1);
    assert_eq!(World::marked(mark), []);
}
