//! A foreground `skync up` that runs beside a test.

use std::path::PathBuf;

use serde_json::Value;

use super::json;
use crate::support::processes::signal;
use crate::support::{Outcome, World, wait_until};

/// A foreground `up`; killed with the value.
pub(crate) struct Up {
    child: std::process::Child,
    streams: [PathBuf; 2],
}

impl World {
    /// Starts `skync up` with these flags, and waits until it watches.
    #[track_caller]
    pub(crate) fn start_up(&self, flags: &[&str]) -> Up {
        let up = self.spawn_up(flags);
        up.says("watching · ");
        up
    }

    /// Starts `skync up` with these flags, and waits for nothing.
    pub(crate) fn spawn_up(&self, flags: &[&str]) -> Up {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let streams = ["up-out", "up-err"].map(|name| self.path(&format!("{name}-{number}")));
        let [out, err] =
            streams.each_ref().map(|path| std::fs::File::create(path).expect("a file"));
        let arguments = [&["up"], flags].concat();
        let child = self.skync(arguments).stdout(out).stderr(err).spawn().expect("skync runs");
        Up { child, streams }
    }

    /// The project in the one sandbox that there is; of the directory driver only.
    #[track_caller]
    pub(crate) fn sandbox(&self) -> PathBuf {
        let sandboxes = std::fs::read_dir(self.path("s/skync/sandboxes")).expect("a sandbox");
        let sandboxes: Vec<PathBuf> = sandboxes.map(|entry| entry.expect("one").path()).collect();
        assert_eq!(sandboxes.len(), 1, "{sandboxes:?}");
        let path = sandboxes[0].join("root/project");
        path.canonicalize().expect("the project in the sandbox")
    }

    /// What `skync status --json` says of the one session that there is.
    #[track_caller]
    pub(crate) fn status(&self) -> Value {
        let document = json(&self.run(&["status", "--json"]).expect_code(0).stdout);
        assert_eq!(document["sessions"].as_array().map(Vec::len), Some(1), "{document}");
        document["sessions"][0].clone()
    }
}

impl Up {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn read(&self, stream: usize) -> String {
        let bytes = std::fs::read(&self.streams[stream]).expect("output");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// What it has written to standard output.
    pub(crate) fn stdout(&self) -> String {
        self.read(0)
    }

    /// Waits until it has said this on standard error.
    #[track_caller]
    pub(crate) fn says(&self, part: &str) {
        self.says_one_of(&[part]);
    }

    /// Waits until it has said one of these on standard error.
    #[track_caller]
    pub(crate) fn says_one_of(&self, parts: &[&str]) {
        let deadline = std::time::Instant::now() + crate::support::PATIENCE;
        while !parts.iter().any(|part| self.read(1).contains(part)) {
            assert!(std::time::Instant::now() < deadline, "no {parts:?} in:\n{}", self.read(1));
            std::thread::park_timeout(std::time::Duration::from_millis(20));
        }
    }

    /// Ctrl-C, and waits for its end.
    #[track_caller]
    pub(crate) fn interrupt(self) -> Outcome {
        self.signal("INT")
    }

    /// A signal, and waits for its end.
    #[track_caller]
    pub(crate) fn signal(self, name: &str) -> Outcome {
        signal(name, &[self.pid()]);
        self.finish()
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Outcome {
        let mut status = None;
        wait_until("`skync up` ends", || {
            status = self.child.try_wait().expect("waited");
            status.is_some()
        });
        let code = status.and_then(|status| status.code()).unwrap_or(-1);
        Outcome { code, stdout: self.read(0), stderr: self.read(1) }
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
