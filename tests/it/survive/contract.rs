//! The session's contract as a program has it, without the command line.

use std::path::Path;

use skync::session::client::Connection;
use skync::session::proto::exec_request::Request;
use skync::session::proto::session_event::Event;
use skync::session::proto::{Begin, CancelRequest, ExecRequest, Input, Join, OperationsRequest};
use skync::state::Places;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{keep, runs};
use crate::support::client::Client;
use crate::support::fault::FaultySession;
use crate::support::{PATIENCE, World, pair};

/// A session, and a program that talks to it.
struct Program {
    runtime: Runtime,
    connection: Connection,
    _kept: Client,
    session: FaultySession,
    world: World,
}

/// One call of `Exec`: what is said, and what is told.
struct Call {
    requests: mpsc::Sender<ExecRequest>,
    events: Streaming<skync::session::proto::SessionEvent>,
}

/// What was told until the end of a call.
#[derive(Debug, Default)]
struct Told {
    output: String,
    offsets: Vec<u64>,
    code: Option<u32>,
    failure: Option<(u32, String)>,
    started: usize,
    finished: bool,
}

impl Program {
    fn new() -> Self {
        let world = World::new();
        let session = FaultySession::start(&world);
        let kept = keep(&world);
        let runtime = pair::runtime();
        let places = Places {
            config: world.path("c/skync"),
            state: world.path("s/skync"),
            runtime: world.path("r/skync"),
            system: Vec::new(),
        };
        let found = Connection::find(&places, world.project(), "directory");
        let connection = runtime.block_on(found).expect("the session listens");
        Self { runtime, connection, _kept: kept, session, world }
    }

    fn call(&self, first: Request) -> Call {
        let mut client = self.connection.client.clone();
        let (requests, from) = mpsc::channel(64);
        let sent = requests.try_send(ExecRequest { request: Some(first) });
        assert!(sent.is_ok(), "there is room");
        let reply = self.runtime.block_on(client.exec(ReceiverStream::new(from)));
        Call { requests, events: reply.expect("a stream").into_inner() }
    }

    fn say(&self, call: &Call, request: Request) {
        let sent = call.requests.send(ExecRequest { request: Some(request) });
        self.runtime.block_on(sent).expect("the call goes on");
    }

    /// All that is told until the end, or until the output is this.
    fn told(&self, call: &mut Call, until: Option<&str>) -> Told {
        let mut told = Told::default();
        let all = async {
            while let Ok(Some(event)) = call.events.message().await {
                match event.event {
                    Some(Event::Output(output)) => {
                        told.output.push_str(&String::from_utf8_lossy(&output.data));
                        told.offsets.push(output.offset);
                    }
                    Some(Event::Exit(exit)) => told.code = Some(exit.code),
                    Some(Event::Failure(failure)) => {
                        told.failure = Some((failure.code, failure.message));
                    }
                    Some(Event::Started(_)) => told.started += 1,
                    Some(Event::Finished(_)) => told.finished = true,
                    _ => {}
                }
                if until.is_some_and(|until| told.output == until) {
                    return;
                }
            }
        };
        let ended = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, all).await });
        assert!(ended.is_ok(), "it does not end: {told:?}");
        told
    }
}

fn begin(id: u8, script: &str) -> Request {
    Request::Begin(Begin {
        id: vec![id; 16],
        argv: ["sh", "-c", script].map(|word| word.as_bytes().to_vec()).to_vec(),
        ..Begin::default()
    })
}

const COUNTED: &str = "echo run >> runs; echo up; read x; echo \"<$x>\"; exit 7";

#[test]
fn the_same_command_with_the_same_id_runs_once_and_both_are_told() {
    let program = Program::new();
    let mut first = program.call(begin(1, COUNTED));
    assert_eq!(program.told(&mut first, Some("up\n")).started, 1);
    let mut second = program.call(begin(1, COUNTED));
    let input = Input { data: "word\n".into(), offset: 0, eof: true };
    program.say(&second, Request::Input(input));
    let told = program.told(&mut second, None);
    assert_eq!((told.code, told.finished), (Some(7), true), "{told:?}");
    assert!(told.output.ends_with("<word>\n"), "{told:?}");
    let told = program.told(&mut first, None);
    assert_eq!((told.output.as_str(), told.code), ("<word>\n", Some(7)));
    // And after its end.
    let mut third = program.call(begin(1, COUNTED));
    assert_eq!(program.told(&mut third, None).code, Some(7));
    assert_eq!(runs(&program.world), 1);
}

#[test]
fn another_command_with_the_same_id_is_refused() {
    let program = Program::new();
    let mut first = program.call(begin(2, COUNTED));
    program.told(&mut first, Some("up\n"));
    let mut other = program.call(begin(2, "echo run >> runs; echo other"));
    let told = program.told(&mut other, None);
    assert_eq!((told.code, told.output.as_str()), (None, ""), "{told:?}");
    let (code, message) = told.failure.expect("a failure");
    assert_eq!(code, 125, "{message}");
    program.say(&first, Request::Input(Input { data: "".into(), offset: 0, eof: true }));
    assert_eq!(program.told(&mut first, None).code, Some(7));
    assert_eq!(runs(&program.world), 1);
}

#[test]
fn input_that_comes_again_counts_once_and_a_gap_is_ignored() {
    let program = Program::new();
    let mut call = program.call(begin(3, "while read x; do echo \"<$x>\"; done"));
    let input = |offset: u64, text: &str, eof: bool| {
        Request::Input(Input { data: text.to_owned().into(), offset, eof })
    };
    program.say(&call, input(0, "one\n", false));
    program.told(&mut call, Some("<one>\n"));
    program.say(&call, input(0, "one\ntwo\n", false));
    program.say(&call, input(2, "e\ntwo\n", false));
    program.say(&call, input(100, "lost\n", false));
    program.say(&call, input(8, "three\n", true));
    let told = program.told(&mut call, None);
    assert_eq!((told.output.as_str(), told.code), ("<two>\n<three>\n", Some(0)));
}

#[test]
fn who_joins_says_where_the_output_begins() {
    let program = Program::new();
    let script = "printf 'one\\ntwo\\nthree\\n'; read x; exit 3";
    let mut call = program.call(begin(4, script));
    program.told(&mut call, Some("one\ntwo\nthree\n"));
    use skync::session::proto::join::From;
    let join = |from: From| {
        let join = Join { id: vec![4; 16], from: Some(from), no_follow: true, ..Join::default() };
        let mut call = program.call(Request::Join(join));
        let told = program.told(&mut call, None);
        assert!(told.finished && told.failure.is_none(), "{told:?}");
        (told.output, told.offsets.first().copied())
    };
    assert_eq!(join(From::Offset(0)), ("one\ntwo\nthree\n".into(), Some(0)));
    assert_eq!(join(From::Offset(4)), ("two\nthree\n".into(), Some(4)));
    assert_eq!(join(From::Offset(14)), (String::new(), None));
    assert_eq!(join(From::Lines(1)), ("three\n".into(), Some(8)));
    assert_eq!(join(From::Lines(100)), ("one\ntwo\nthree\n".into(), Some(0)));
    program.say(&call, Request::Input(Input { data: "".into(), offset: 0, eof: true }));
    assert_eq!(program.told(&mut call, None).code, Some(3));
}

#[test]
fn what_is_not_known_is_said_to_be_so() {
    let program = Program::new();
    let mut call = program.call(Request::Join(Join { id: vec![9; 16], ..Join::default() }));
    let told = program.told(&mut call, None);
    assert!(told.failure.is_some() && told.finished && told.code.is_none(), "{told:?}");
    let mut client = program.connection.client.clone();
    let cancel = CancelRequest { id: vec![9; 16], ..CancelRequest::default() };
    let reply = program.runtime.block_on(client.cancel(cancel)).expect("an answer");
    assert!(!reply.into_inner().found);
    for id in [vec![], vec![1; 15], vec![1; 17]] {
        let begin = Begin { id, argv: vec![b"true".to_vec()], ..Begin::default() };
        let mut client = program.connection.client.clone();
        let (requests, from) = mpsc::channel(1);
        let first = ExecRequest { request: Some(Request::Begin(begin)) };
        assert!(requests.try_send(first).is_ok());
        let refused = program.runtime.block_on(async {
            match client.exec(ReceiverStream::new(from)).await {
                Err(_) => true,
                Ok(reply) => match reply.into_inner().message().await {
                    Err(_) => true,
                    Ok(event) => {
                        let event = event.and_then(|event| event.event);
                        matches!(event, Some(Event::Failure(_)))
                    }
                },
            }
        });
        assert!(refused);
    }
}

#[test]
fn an_operation_is_listed_with_its_link_and_what_it_uses() {
    let program = Program::new();
    let mut call = program.call(begin(5, COUNTED));
    program.told(&mut call, Some("up\n"));
    let list = || {
        let mut client = program.connection.client.clone();
        let request = OperationsRequest { id: vec![5; 16] };
        let reply = program.runtime.block_on(client.operations(request)).expect("an answer");
        reply.into_inner().operations
    };
    let [operation] = &list()[..] else { panic!("one") };
    assert!(operation.link_up && operation.pid > 0 && operation.processes >= 1, "{operation:?}");
    assert_eq!((operation.clients, operation.output_bytes, operation.terminal), (1, 3, false));
    assert!(Path::new(&format!("/proc/{}", operation.pid)).exists());
    program.session.faults.refuse();
    program.session.faults.cut();
    crate::support::wait_until("the link is seen to be down", || !list()[0].link_up);
    program.session.faults.accept();
    crate::support::wait_until("the link is up again", || list()[0].link_up);
    program.say(&call, Request::Input(Input { data: "".into(), offset: 0, eof: true }));
    assert_eq!(program.told(&mut call, None).code, Some(7));
}
