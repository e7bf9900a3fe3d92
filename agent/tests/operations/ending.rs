//! How operations end: cancelled, out of time, forgotten, left alone, adopted.

use super::*;
use skync_agent::operation::OperationError;

/// A shell that makes 207 processes of the worst kind: forked twice, in sessions of their own, deaf
/// to everything that can be ignored.
fn hostile(mark: &str) -> String {
    format!(
        "trap '' INT TERM HUP; i=0; while [ $i -lt 206 ]; do \
         (setsid sh -c 'trap \"\" INT TERM HUP; sleep {mark} & wait; sleep {mark}' &) ; \
         i=$((i+1)); done; echo made; while :; do sleep 1; done"
    )
}

#[tokio::test]
async fn a_cancel_leaves_nothing_of_the_worst() {
    let world = World::new();
    let mark = "986.25";
    let (operation, mut client) = world.run(&hostile(mark)).await;
    client.expect("made").await;
    wait_until("all are there", async || operation.info().await.processes >= 207).await;
    let begun = std::time::Instant::now();
    let reply = cancel(&operation, 2, 100).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(reply.stopped >= 207, "{reply:?}");
    assert_eq!((reply.survivors, World::marked(mark)), (0, vec![]));
    let exit = client.exit().await;
    assert_eq!((exit.signal, exit.cancelled, exit.survivors), (9, true, 0));
    assert_eq!((exit.stopped, exit.timed_out), (reply.stopped, false));
}

#[tokio::test]
async fn a_cancel_begins_gently_and_reaches_what_is_stopped() {
    let world = World::new();
    let script = "trap 'echo bye; exit 5' INT; echo on; while :; do sleep 0.01; done";
    let (operation, mut client) = world.run(script).await;
    client.expect("on").await;
    cancel(&operation, 2, 20_000).await;
    let exit = client.exit().await;
    assert_eq!((exit.code, exit.cancelled, client.text().ends_with("bye\n")), (5, true, true));

    let (operation, mut client) = world.run("echo on; kill -STOP $$; echo never").await;
    client.expect("on").await;
    wait_until("it is stopped", async || {
        let pid = operation.info().await.pid;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
        stat.contains(") T ")
    })
    .await;
    let begun = std::time::Instant::now();
    cancel(&operation, 15, 20_000).await;
    assert_eq!(client.exit().await.signal, 15);
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_second_cancel_joins_the_first_and_makes_it_harder() {
    let world = World::new();
    let script = "trap '' INT TERM; echo on; while :; do sleep 0.01; done";
    let (operation, mut client) = world.run(script).await;
    client.expect("on").await;
    let begun = std::time::Instant::now();
    let first = cancel(&operation, 2, 60_000);
    let second = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        cancel(&operation, 9, 0).await
    };
    let (first, second) = tokio::join!(first, second);
    assert_eq!(first, second);
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(client.exit().await.signal, 9);
}

#[tokio::test]
async fn a_command_that_runs_too_long_is_stopped() {
    let world = World::new();
    let mut request = world.request("trap '' INT; echo on; while :; do sleep 0.01; done");
    (request.timeout_ms, request.grace_ms) = (100, 50);
    let operation = world.start(request).await;
    let exit = Client::writer(&operation).await.exit().await;
    assert_eq!((exit.signal, exit.timed_out, exit.cancelled), (15, true, true));
    // One that is fast enough is not.
    let mut request = world.request("true");
    request.timeout_ms = 20_000;
    let operation = world.start(request).await;
    let exit = Client::writer(&operation).await.exit().await;
    assert_eq!((exit.code, exit.timed_out, exit.cancelled), (0, false, false));
}

#[tokio::test]
async fn the_same_request_again_starts_nothing_and_another_is_refused() {
    let world = World::new();
    let mut request = world.request("echo >> made; sleep 600");
    let id = id_of(&request);
    let both = tokio::join!(
        world.operations.start(id, request.clone()),
        world.operations.start(id, request.clone())
    );
    let (first, second) = (both.0.expect("started"), both.1.expect("started"));
    assert_eq!(first, second);
    request.argv.push(b"more".to_vec());
    let conflict = world.operations.start(id, request).await;
    assert!(matches!(conflict, Err(OperationError::Conflict)));
    let operation = world.operations.find(id).expect("it is known");
    cancel(&operation, 9, 0).await;
    assert_eq!(std::fs::read(world.state.path().join("made")).expect("made"), b"\n");
}

#[tokio::test]
async fn a_command_that_cannot_run_leaves_nothing() {
    let world = World::new();
    let mut request = world.request("");
    request.argv = vec![b"/no/such/program".to_vec()];
    let id = id_of(&request);
    let reply = within(world.operations.start(id, request)).await.expect("a reply");
    assert_eq!(reply.failure(), skync_agent::proto::StartFailure::StartNotFound);
    assert!(world.operations.find(id).is_err());
    let left = std::fs::read_dir(world.state.path().join("operations")).expect("made").count();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn only_what_has_ended_is_forgotten_and_then_nothing_is_left() {
    let world = World::new();
    let request = world.request("read go");
    let id = id_of(&request);
    let operation = world.start(request).await;
    assert!(matches!(world.operations.forget(id).await, Err(OperationError::Running)));
    let mut client = Client::writer(&operation).await;
    client.input(0, b"", true).await;
    client.exit().await;
    let infos = world.operations.list(None).await;
    assert_eq!((infos.len(), infos[0].exit.is_some()), (1, true));
    world.operations.forget(id).await.expect("forgotten");
    world.operations.forget(id).await.expect("again");
    assert!(world.operations.list(None).await.is_empty());
    let place = world.state.path().join("operations");
    wait_until("its directory is gone", async || {
        std::fs::read_dir(&place).expect("there").count() == 0
    })
    .await;
}

/// An agent that starts this operation and is then killed, as far as its supervisor can tell.
fn agent_that_goes(state: &Path, request: StartRequest, until: impl AsyncFnMut() -> bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let operations = Arc::new(World::agent(state, Duration::from_millis(300)));
        let reply = operations.start(id_of(&request), request).await.expect("a reply");
        assert_eq!(reply.failure, 0, "{}", reply.message);
        wait_until("it has begun", until).await;
    });
}

#[test]
fn without_an_agent_everything_ends_after_the_lease() {
    let mark = "985.5";
    let state = tempfile::tempdir().expect("a directory");
    let request = StartRequest {
        id: random_id().to_vec(),
        argv: ["sh", "-c", &format!("trap '' TERM; setsid sleep {mark} & sleep {mark}")]
            .map(|word| word.as_bytes().to_vec())
            .to_vec(),
        directory: b"/".to_vec(),
        ..StartRequest::default()
    };
    agent_that_goes(state.path(), request, async || World::marked(mark).len() >= 2);
    let deadline = std::time::Instant::now() + PATIENCE;
    let place = state.path().join("operations");
    while std::fs::read_dir(&place).expect("there").count() > 0 {
        assert!(std::time::Instant::now() < deadline, "it lives on");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(World::marked(mark), []);
}

#[tokio::test]
async fn an_agent_finds_what_the_one_before_it_left() {
    let world = World::new();
    let (operation, mut client) = world.run("echo before; read go; echo after; exit 4").await;
    client.expect("before\n").await;
    let mut request = world.request("true");
    request.id = vec![9; 16];
    let dead = world.state.path().join("operations").join("09".repeat(16));
    std::fs::create_dir(&dead).expect("made");
    let second = Arc::new(World::agent(world.state.path(), LEASE));
    second.adopt().await;
    assert!(!dead.exists(), "what is left of a dead one goes");
    let infos = second.list(None).await;
    assert_eq!(infos.len(), 1);
    assert_eq!(infos[0].argv[2], b"echo before; read go; echo after; exit 4");
    let id = infos[0].id[..].try_into().expect("16 bytes");
    let adopted = second.find(id).expect("it is known");
    let begin = AttachBegin { input: true, from: Some(Begin::Offset(0)), ..AttachBegin::default() };
    let mut client = Client::attach(&adopted, begin).await;
    client.input(0, b"\n", true).await;
    let exit = client.exit().await;
    assert_eq!((exit.code, client.text().as_str()), (4, "before\nafter\n"));
    assert_eq!(within(operation.wait()).await, exit);
}

#[tokio::test]
async fn an_operation_whose_supervisor_was_killed_is_unknown() {
    let world = World::new();
    let request = world.request("exec sleep 984.5");
    let id = id_of(&request);
    let operation = world.start(request).await;
    let pid = operation.info().await.pid;
    let parent = parent_of(pid);
    let kill = |pid: i32| {
        let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
    };
    kill(parent);
    assert!(within(operation.wait()).await.unknown);
    kill(pid.cast_signed());
    assert!(operation.attach(AttachRequest::default()).await.is_err());
    assert!(operation.info().await.exit.expect("ended").unknown);
    world.operations.forget(id).await.expect("forgotten");
    assert!(world.operations.find(id).is_err());
}

fn parent_of(pid: u32) -> i32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
    let after = stat.rsplit(')').next().expect("a name");
    after.split_ascii_whitespace().nth(1).and_then(|field| field.parse().ok()).expect("a parent")
}

#[tokio::test]
async fn stopping_all_leaves_nothing() {
    let world = World::new();
    let mark = "983.75";
    for script in [format!("sleep {mark}"), format!("setsid sleep {mark} & exit 0"), hostile(mark)]
    {
        world.start(world.request(&script)).await;
    }
    wait_until("all are there", async || World::marked(mark).len() > 100).await;
    let swept = within(world.operations.stop_all(Duration::from_millis(100))).await;
    assert!(swept.stopped > 100 && swept.survivors == 0, "{swept:?}");
    assert_eq!(World::marked(mark), []);
    let left = std::fs::read_dir(world.state.path().join("operations")).expect("there").count();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn stopping_all_waits_for_no_reader_and_no_supervisor_that_stands_still() {
    let world = World::new();
    let mut request = world.request("exec head -c 100000000 /dev/zero");
    request.spool_bytes = 1 << 20;
    let full = world.start(request).await;
    wait_until("it waits for a reader", async || full.info().await.output_bytes > 1 << 20).await;
    let mark = "982.25";
    let operation = world.start(world.request(&format!("exec sleep {mark}"))).await;
    let supervisor = parent_of(operation.info().await.pid);
    let supervisor = rustix::process::Pid::from_raw(supervisor).expect("a pid");
    rustix::process::kill_process(supervisor, rustix::process::Signal::STOP).expect("stopped");
    let begun = std::time::Instant::now();
    let swept = within(world.operations.stop_all(Duration::from_millis(100))).await;
    assert_eq!((swept.stopped, swept.survivors), (2, 0));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(World::marked(mark), []);
}

#[tokio::test]
async fn what_is_left_of_a_forgotten_operation_is_stopped_at_the_end() {
    let world = World::new();
    let mark = "981.25";
    let request = world.request(&format!("setsid sleep {mark} > /dev/null 2>&1 & echo done"));
    let id = id_of(&request);
    let operation = world.start(request).await;
    Client::writer(&operation).await.exit().await;
    world.operations.forget(id).await.expect("forgotten");
    assert!(world.operations.find(id).is_err());
    assert!(world.operations.list(None).await.is_empty());
    // Another agent knows it as what it is.
    let second = World::agent(world.state.path(), LEASE);
    second.adopt().await;
    assert!(second.list(None).await.is_empty());
    assert_eq!(World::marked(mark).len(), 1);
    let swept = within(second.stop_all(Duration::from_millis(100))).await;
    assert_eq!((swept.stopped, World::marked(mark)), (1, vec![]));
}
