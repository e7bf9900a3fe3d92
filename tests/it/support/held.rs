//! A session that is held open by a command which waits on its standard input.

use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};

use super::{Outcome, World};

/// Says where it is, then waits for the end of its input.
const WAIT: &str = "pwd; exec cat >/dev/null";

/// A first `skync exec` that waits: as long as it does, the session and its sandbox stay.
pub struct Held<'a> {
    world: &'a World,
    child: Child,
    input: Option<ChildStdin>,
    sandbox: PathBuf,
}

impl World {
    /// Starts a command that holds the session, and waits until it runs.
    pub fn hold(&self) -> Held<'_> {
        self.hold_with(&[])
    }

    /// As [`World::hold`], with options of `exec`.
    pub fn hold_with(&self, options: &[&str]) -> Held<'_> {
        let arguments = [&["exec"], options, &["--", "sh", "-c", WAIT]].concat();
        let mut command = self.skync(arguments);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("skync runs");
        let input = child.stdin.take();
        let mut line = Vec::new();
        let stdout = child.stdout.as_mut().expect("a pipe");
        BufReader::new(stdout).read_until(b'\n', &mut line).expect("read");
        if line.pop() != Some(b'\n') {
            let output = child.wait_with_output().expect("skync ends");
            panic!("the holding command did not start: {:?}", Outcome::of(output));
        }
        let sandbox = std::ffi::OsString::from_vec(line).into();
        Held { world: self, child, input, sandbox }
    }
}

impl Held<'_> {
    /// The project in the sandbox; a path of this machine with the directory driver only.
    pub fn sandbox(&self) -> &Path {
        &self.sandbox
    }

    /// Synchronises, by a command that does nothing.
    #[track_caller]
    pub fn sync(&self) -> Outcome {
        self.world.run(&["-v", "exec", "true"]).expect_code(0)
    }

    /// Lets the first command end, and everything with it.
    #[track_caller]
    pub fn release(mut self) {
        drop(self.input.take());
        let status = self.child.wait().expect("skync ends");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // After a failure nothing else would end it.
        drop(self.input.take());
        let _ = self.child.wait();
    }
}
