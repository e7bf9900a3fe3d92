//! A command line that a test talks to while it runs.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{World, wait_until};

/// `skync exec` of a shell's script, without skync's own talk.
pub fn shell(world: &World, script: &str) -> Command {
    world.skync(["-q", "exec", "--", "sh", "-c", script])
}

/// Bytes as text, whatever they are.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The length and the SHA-256 of all that comes.
pub fn digest(mut from: impl Read) -> (u64, String) {
    use sha2::Digest;
    let (mut hasher, mut length) = (sha2::Sha256::new(), 0);
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = from.read(&mut buffer).expect("readable");
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        length += read as u64;
    }
    (length, hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A client that runs; stopped with the value, if it still does.
pub struct Client {
    /// The process.
    pub child: Child,
    /// Its output, until somebody takes it.
    pub output: Option<BufReader<std::process::ChildStdout>>,
}

impl Client {
    /// Starts it with pipes for input and output.
    pub fn start(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("skync runs");
        let output = child.stdout.take().map(BufReader::new);
        Self { child, output }
    }

    /// The next line of its output, without its end.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.as_mut().expect("piped").read_line(&mut line).expect("readable");
        line.trim_end().to_owned()
    }

    /// Everything that is left of its output.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.output.as_mut().expect("piped").read_to_end(&mut rest).expect("readable");
        rest
    }

    /// Writes to its input.
    pub fn say(&mut self, bytes: &[u8]) {
        self.child.stdin.as_mut().expect("piped").write_all(bytes).expect("written");
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Waits for its end, and says how long that took.
    #[track_caller]
    pub fn ended(&mut self) -> (ExitStatus, Duration) {
        let begun = Instant::now();
        let mut status = None;
        wait_until("the command has ended", || {
            status = self.child.try_wait().expect("ours");
            status.is_some()
        });
        (status.expect("just seen"), begun.elapsed())
    }

    /// Waits for its end, which must be with this code.
    #[track_caller]
    pub fn expect_code(&mut self, code: i32) {
        assert_eq!(self.ended().0.code(), Some(code));
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Keeps the session and its sandbox of a world, so that what runs meanwhile need not make them.
pub struct Kept(Client);

impl Kept {
    /// Starts the command that waits.
    pub fn start(world: &World) -> Self {
        let mut client = Client::start(&mut shell(world, "echo up; cat"));
        assert_eq!(client.line(), "up");
        Self(client)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        drop(self.0.child.stdin.take());
        let _ = self.0.child.wait();
    }
}
