//! A person at a terminal: the real `skync` on a real pseudo-terminal, its screen, and its keys.

use std::io::{ErrorKind, Read, Write};
use std::num::NonZeroU16;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pty_process::Size;
use pty_process::blocking::Pty;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{LocalModes, Termios, tcgetattr};

use super::{PATIENCE, World};

/// What the terminal's own shell does: it keeps the terminal as it was left, so that a test can
/// see it. A session leader's end would reset it.
const LEADER: &str = r#""$@"; printf '[ended with %s]' $?; exec sleep 1000"#;
/// How often what has come is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
/// Ctrl-C.
pub const CTRL_C: &str = "\x03";
/// Ctrl-D.
pub const CTRL_D: &str = "\x04";
/// Ctrl-Z.
pub const CTRL_Z: &str = "\x1a";
/// The key with the arrow that points down.
pub const DOWN: &str = "\x1b[B";
/// The key Enter.
pub const ENTER: &str = "\r";

/// `skync` on a terminal of its own; killed with the value.
pub struct Terminal {
    leader: Child,
    pty: Option<Arc<Pty>>,
    shown: Arc<Mutex<Shown>>,
    stop: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
    before: Termios,
}

/// All that was written to the terminal.
struct Shown {
    parser: vt100::Parser,
    bytes: Vec<u8>,
}

impl World {
    /// Starts `skync` with these arguments on a terminal of 24 lines and 80 columns.
    pub fn terminal(&self, arguments: &[&str]) -> Terminal {
        Terminal::start(&self.skync(arguments), 24, 80)
    }
}

impl Terminal {
    /// Starts a command on a terminal of that size. Its streams are all the terminal.
    pub fn start(command: &Command, rows: u16, columns: u16) -> Self {
        Self::start_below(command, LEADER, rows, columns)
    }

    /// As [`Terminal::start`], by this script, which has the command as its arguments.
    pub fn start_below(command: &Command, script: &str, rows: u16, columns: u16) -> Self {
        let (pty, pts) = pty_process::blocking::open().expect("a terminal");
        pty.resize(Size::new(rows, columns)).expect("sized");
        // A write to a terminal that nobody reads must not hold the test.
        rustix::io::ioctl_fionbio(&pty, true).expect("set");
        let before = tcgetattr(&pty).expect("a terminal's modes");
        let mut leader = Command::new("sh");
        leader.args(["-c", script, "sh"]).arg(command.get_program()).args(command.get_args());
        // A real one is of a known kind, wherever the tests run.
        leader.env("TERM", "xterm-256color").env_remove("NO_COLOR").env_remove("COLORTERM");
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => leader.env(name, value),
                None => leader.env_remove(name),
            };
        }
        if let Some(directory) = command.get_current_dir() {
            leader.current_dir(directory);
        }
        let leader = pty_process::blocking::Command::from(leader).spawn(pts).expect("it starts");
        let number = |of: u16| NonZeroU16::new(of).expect("a size");
        let parser = vt100::Parser::new(number(rows), number(columns), 1000);
        let shown = Arc::new(Mutex::new(Shown { parser, bytes: Vec::new() }));
        let (pty, stop) = (Arc::new(pty), Arc::new(AtomicBool::new(false)));
        let reader = {
            let (pty, shown, stop) = (Arc::clone(&pty), Arc::clone(&shown), Arc::clone(&stop));
            std::thread::spawn(move || read(&pty, &shown, &stop))
        };
        Self { leader, pty: Some(pty), shown, stop, reader: Some(reader), before }
    }

    fn pty(&self) -> &Pty {
        self.pty.as_ref().expect("it was not hung up")
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a person sees now, without what was scrolled away.
    pub fn screen(&self) -> String {
        self.shown().parser.screen().contents()
    }

    /// Looks at the screen: colours, modes, cells.
    pub fn look<R>(&self, look: impl FnOnce(&vt100::Screen) -> R) -> R {
        look(self.shown().parser.screen())
    }

    /// All bytes that were written to the terminal so far, as text.
    pub fn written(&self) -> String {
        String::from_utf8_lossy(&self.shown().bytes).into_owned()
    }

    /// How often this was written so far.
    pub fn count(&self, part: &str) -> usize {
        self.written().matches(part).count()
    }

    /// Waits until a person sees this.
    #[track_caller]
    pub fn expect(&self, part: &str) {
        self.until(&format!("`{part}` is seen"), || self.screen().contains(part));
    }

    /// Waits until a person sees this line, and nothing else on it.
    #[track_caller]
    pub fn expect_line(&self, line: &str) {
        let is_there = || self.screen().lines().any(|found| found.trim_end() == line);
        self.until(&format!("the line `{line}` is seen"), is_there);
    }

    /// Waits until this was written, wherever it is now.
    #[track_caller]
    pub fn expect_written(&self, part: &str) {
        self.until(&format!("`{part}` is written"), || self.written().contains(part));
    }

    /// Waits until `condition` holds; else shows what a person sees.
    #[track_caller]
    pub fn until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE / 2;
        while !condition() {
            assert!(
                Instant::now() < deadline,
                "still not: {what}; on the screen:\n{}",
                self.screen()
            );
            std::thread::park_timeout(LOOK_INTERVAL);
        }
    }

    /// Presses these keys.
    pub fn keys(&self, keys: &str) {
        self.keys_of(keys.as_bytes());
    }

    /// As [`Terminal::keys`], for what is no text.
    pub fn keys_of(&self, mut keys: &[u8]) {
        // A terminal that nobody reads takes no more; a test must end all the same.
        let deadline = Instant::now() + PATIENCE / 2;
        while !keys.is_empty() {
            assert!(Instant::now() < deadline, "nobody reads the keys");
            let mut polled = [PollFd::new(self.pty(), PollFlags::OUT)];
            let ready = poll(&mut polled, Some(&Timespec { tv_sec: 1, tv_nsec: 0 }));
            if ready.is_ok_and(|ready| ready == 1) {
                let mut to = self.pty();
                // Few at a time: a write of more could wait.
                match to.write(&keys[..keys.len().min(256)]) {
                    Ok(length) => keys = &keys[length..],
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        std::thread::park_timeout(LOOK_INTERVAL);
                    }
                    Err(error) => panic!("the terminal takes no keys: {error}"),
                }
            }
        }
    }

    /// Makes the terminal another size; programs are told by SIGWINCH.
    pub fn resize(&self, rows: u16, columns: u16) {
        self.pty().resize(Size::new(rows, columns)).expect("sized");
        let number = |of: u16| NonZeroU16::new(of).expect("a size");
        self.shown().parser.set_size(number(rows), number(columns));
    }

    /// True while keys are passed on as they are: no line is edited here, nothing is echoed here,
    /// Ctrl-C is a byte.
    pub fn is_raw(&self) -> bool {
        let modes = tcgetattr(self.pty()).expect("a terminal's modes").local_modes;
        !modes.intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    /// Fails unless the terminal's modes are what they were at the start, all of them.
    #[track_caller]
    pub fn expect_restored(&self) {
        let now = tcgetattr(self.pty()).expect("a terminal's modes");
        let modes = |of: &Termios| {
            let flags = (of.input_modes, of.output_modes, of.control_modes, of.local_modes);
            format!("{flags:?}")
        };
        assert_eq!(modes(&now), modes(&self.before));
        let shown = self.shown();
        let screen = shown.parser.screen();
        assert!(!screen.hide_cursor(), "the cursor is hidden");
        assert!(!screen.alternate_screen(), "the alternate screen is on");
    }

    /// The process of `skync` itself.
    pub fn pid(&self) -> u32 {
        let own = self.leader.id();
        let file = format!("/proc/{own}/task/{own}/children");
        let mut found = None;
        self.until("skync runs", || {
            let children = std::fs::read_to_string(&file).unwrap_or_default();
            found = children.split_whitespace().next().and_then(|pid| pid.parse().ok());
            found.is_some()
        });
        found.expect("just seen")
    }

    /// Waits for the end of `skync`, and says its exit code as a shell has it.
    #[track_caller]
    pub fn ended(&self) -> i32 {
        self.expect_written("[ended with ");
        let code = || {
            let written = self.written();
            let (_, rest) = written.rsplit_once("[ended with ")?;
            rest.split_once(']')?.0.parse().ok()
        };
        self.until("the whole code is written", || code().is_some());
        code().expect("just seen")
    }

    /// Waits for the end of `skync`; it must be this code, and the terminal as it was.
    #[track_caller]
    pub fn expect_end(&self, code: i32) {
        assert_eq!(self.ended(), code, "on the screen:\n{}", self.screen());
        self.expect_restored();
    }

    /// The window is closed, or the connection to this machine breaks: all get SIGHUP.
    pub fn hang_up(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            reader.join().expect("it only reads");
        }
        drop(self.pty.take());
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let children = format!("/proc/{0}/task/{0}/children", self.leader.id());
        let children = std::fs::read_to_string(children).unwrap_or_default();
        self.hang_up();
        let pids: Vec<u32> = children.split_whitespace().flat_map(str::parse).collect();
        // One that a failing test left deaf to the hang-up.
        if !pids.is_empty() {
            super::processes::signal("KILL", &pids);
        }
        let _ = self.leader.kill();
        let _ = self.leader.wait();
    }
}

fn read(pty: &Pty, shown: &Mutex<Shown>, stop: &AtomicBool) {
    let mut buffer = vec![0; 1 << 16];
    let interval = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    while !stop.load(Ordering::Relaxed) {
        let mut polled = [PollFd::new(pty, PollFlags::IN)];
        if poll(&mut polled, Some(&interval)).is_ok_and(|ready| ready == 0) {
            continue;
        }
        let mut from: &Pty = pty;
        match from.read(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            // The last process has closed it.
            Ok(0) | Err(_) => return,
            Ok(length) => {
                let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
                shown.parser.process(&buffer[..length]);
                shown.bytes.extend_from_slice(&buffer[..length]);
            }
        }
    }
}
