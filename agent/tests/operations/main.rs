//! Operations under real supervisors: the binary's own, started and asked as an agent does it.

mod bomb;
mod ending;
mod input;
mod output;
mod terminal;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use skync_agent::operation::frame::{Frame, Frames};
use skync_agent::operation::{Operation, OperationId, Operations};
use skync_agent::proto::attach_begin::From as Begin;
use skync_agent::proto::attach_reply::Reply;
use skync_agent::proto::attach_request::Request;
use skync_agent::proto::{
    AttachBegin, AttachRequest, Attached, CancelReply, CancelRequest, Exit, InputFrame,
    StartRequest, Stream, TerminalSize,
};
use tempfile::TempDir;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

/// Nothing here takes longer, except on a machine that is much too busy.
const PATIENCE: Duration = Duration::from_secs(30);
/// What a test leaves behind is gone so long after its end.
const LEASE: Duration = Duration::from_secs(5);

/// An agent's operations in a directory of their own.
struct World {
    state: TempDir,
    operations: Arc<Operations>,
}

impl World {
    fn new() -> Self {
        Self::with_lease(LEASE)
    }

    fn with_lease(lease: Duration) -> Self {
        let state = tempfile::tempdir().expect("a directory");
        let operations = Arc::new(Self::agent(state.path(), lease));
        Self { state, operations }
    }

    /// Another agent on the same directory.
    fn agent(state: &Path, lease: Duration) -> Operations {
        Operations::new(state, Path::new(env!("CARGO_BIN_EXE_skync-agent")), lease)
    }

    fn request(&self, script: &str) -> StartRequest {
        StartRequest {
            id: random_id().to_vec(),
            argv: ["sh", "-c", script].map(|word| word.as_bytes().to_vec()).to_vec(),
            directory: self.state.path().as_os_str().as_encoded_bytes().to_vec(),
            ..StartRequest::default()
        }
    }

    async fn start(&self, request: StartRequest) -> Arc<Operation> {
        let id = id_of(&request);
        let reply = within(self.operations.start(id, request)).await.expect("a reply");
        assert_eq!(reply.failure, 0, "{}", reply.message);
        self.operations.find(id).expect("it is known")
    }

    /// Starts a shell script and attaches to it, with its input.
    async fn run(&self, script: &str) -> (Arc<Operation>, Client) {
        let operation = self.start(self.request(script)).await;
        let client = Client::writer(&operation).await;
        (operation, client)
    }

    /// The pids of living processes that have this in their command line.
    fn marked(mark: &str) -> Vec<i32> {
        let all = std::fs::read_dir("/proc").expect("/proc").flatten();
        let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let is_marked = |pid: &i32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.windows(mark.len()).any(|part| part == mark.as_bytes())
        };
        pids.filter(is_marked).collect()
    }
}

fn random_id() -> OperationId {
    let mut id = [0; 16];
    getrandom::fill(&mut id).expect("random bytes");
    id
}

fn id_of(request: &StartRequest) -> OperationId {
    request.id[..].try_into().expect("16 bytes")
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it does not take so long")
}

async fn wait_until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(tokio::time::Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A client of an operation.
struct Client {
    frames: Frames<OwnedReadHalf>,
    to: OwnedWriteHalf,
    attached: Attached,
    /// Of the next byte of output.
    offset: u64,
    out: Vec<u8>,
    err: Vec<u8>,
    gaps: Vec<(u64, u64)>,
    input_taken: u64,
    evicted: bool,
    /// It says how far it has come.
    takes: bool,
}

impl Client {
    async fn writer(operation: &Operation) -> Self {
        let begin = AttachBegin { input: true, ..AttachBegin::default() };
        Self::attach(operation, begin).await
    }

    async fn reader(operation: &Operation, from: Begin) -> Self {
        let begin = AttachBegin { from: Some(from), ..AttachBegin::default() };
        Self::attach(operation, begin).await
    }

    async fn attach(operation: &Operation, begin: AttachBegin) -> Self {
        let takes = begin.input;
        let first = AttachRequest { request: Some(Request::Begin(begin)) };
        let (mut frames, to) = operation.attach(first).await.expect("a supervisor");
        let reply = within(frames.next()).await.expect("a frame").and_then(Frame::into_reply);
        let Some(Reply::Attached(attached)) = reply.and_then(|reply| reply.reply) else {
            panic!("attached comes first")
        };
        Self {
            frames,
            to,
            attached,
            offset: attached.output_offset,
            out: Vec::new(),
            err: Vec::new(),
            gaps: Vec::new(),
            input_taken: attached.input_offset,
            evicted: false,
            takes,
        }
    }

    async fn say(&mut self, request: Request) {
        // It may have ended.
        let _ = Frame::Attach(AttachRequest { request: Some(request) }).write(&mut self.to).await;
    }

    async fn input(&mut self, offset: u64, data: &[u8], eof: bool) {
        let data = data.to_vec().into();
        self.say(Request::Input(InputFrame { offset, data, eof })).await;
    }

    /// Takes in the next reply; the exit, if it is that; nothing at the end of a look.
    async fn step(&mut self) -> Option<Option<Exit>> {
        let frame = within(self.frames.next()).await.expect("a frame")?;
        if frame == Frame::End {
            return None;
        }
        match frame.into_reply().expect("a reply").reply.expect("one of them") {
            Reply::Started(_) | Reply::Attached(_) => panic!("it comes once"),
            Reply::Output(output) => {
                assert!(output.offset >= self.offset, "{} after {}", output.offset, self.offset);
                self.offset = output.offset + output.data.len() as u64;
                let is_error = output.stream() == Stream::Stderr;
                let sink = if is_error { &mut self.err } else { &mut self.out };
                sink.extend_from_slice(&output.data);
                if self.takes {
                    self.say(Request::Taken(self.offset)).await;
                }
            }
            Reply::Gap(gap) => {
                assert_eq!(gap.from, self.offset);
                self.gaps.push((gap.from, gap.to));
                self.offset = gap.to;
            }
            Reply::InputTaken(offset) => self.input_taken = offset,
            Reply::Evicted(evicted) => self.evicted = evicted,
            Reply::Exit(exit) => return Some(Some(exit)),
        }
        Some(None)
    }

    /// Takes in everything until the exit.
    async fn exit(&mut self) -> Exit {
        loop {
            match self.step().await {
                Some(Some(exit)) => return exit,
                Some(None) => {}
                None => panic!("no exit"),
            }
        }
    }

    /// Takes in output until it has this.
    async fn expect(&mut self, text: &str) {
        while !self.text().contains(text) {
            let step = self.step().await;
            assert_eq!(step, Some(None), "`{text}` is not in `{}`", self.text());
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }
}

async fn cancel(operation: &Operation, signal: u32, grace_ms: u32) -> CancelReply {
    let request = CancelRequest { id: Vec::new(), signal, grace_ms };
    within(operation.cancel(request)).await.expect("an answer")
}

/// Numbers that look random, and are the same for the same seed.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..bytes.div_ceil(8)).flat_map(|_| next()).take(bytes).collect()
}

fn seed() -> u64 {
    let seed = u64::from_le_bytes(random_id()[..8].try_into().expect("8 bytes"));
    println!("seed {seed}");
    seed
}

fn size(rows: u32, columns: u32) -> TerminalSize {
    TerminalSize { rows, columns }
}
