//! Starting the agent where a driver can only run a program to its end: it makes the project's
//! root, starts `serve` as a process that outlives its parent, waits until that listens, and says
//! where on standard output.
//!
//! The secret comes on standard input, so that it stands neither in an argument nor in the
//! environment, unless a driver has put it into the state directory.

use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::Access;

use crate::own;
use crate::stop;

/// A new agent listens within this.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between two looks whether it does.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);
/// Most bytes of its log in an error.
const LOG_BYTES: usize = 2000;

/// What to start.
#[derive(Debug, Clone)]
pub struct Options {
    /// The agent's state directory; it is made.
    pub state: PathBuf,
    /// The project's root, if it can be made …
    pub root: PathBuf,
    /// … and the one that is made otherwise.
    pub fallback: Option<PathBuf>,
    /// Arguments of `serve`.
    pub arguments: Vec<std::ffi::OsString>,
}

/// Starts the agent and returns what to tell the driver: `port=N root=PATH`.
///
/// An agent that runs on this state already is ended first; its operations go on. Asked twice, because
/// the answer was lost, it says the same again: the secret is there only once.
///
/// # Errors
/// If there can be no root, or the agent does not come to listen; then what it said.
pub fn launch(options: &Options) -> io::Result<String> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&options.state)?;
    let secret = read_secret()?;
    // Who asks a second time while the first is under way waits for it; nobody inherits the lock.
    let turn = own::new_file(&options.state.join("launch.lock"))?;
    turn.lock()?;
    if secret.is_none() && !options.state.join("secret").exists() {
        return launched_before(options);
    }
    stop::end_agent_alone(&options.state)?;
    if let Some(secret) = secret {
        own::write_file(&options.state.join("secret"), &secret)?;
    }
    let root = make_root(options)?;
    let port = options.state.join("port");
    own::remove_file(&port)?;
    let log = options.state.join("agent.log");
    let mut child = Command::new("/proc/self/exe")
        .arg("serve")
        .args(["--setsid".as_ref(), "--state".as_ref(), options.state.as_os_str()])
        .args(&options.arguments)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(own::new_file(&log)?)
        .spawn()?;
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Ok(port) = std::fs::read_to_string(&port) {
            return Ok(format!("port={port} root={}", root.display()));
        }
        if let Some(status) = child.try_wait()? {
            return Err(io::Error::other(format!("the agent ended with {status}: {}", said(&log))));
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
    child.kill()?;
    child.wait()?;
    Err(io::Error::other(format!("the agent does not listen: {}", said(&log))))
}

fn said(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    String::from_utf8_lossy(&text[text.len().saturating_sub(LOG_BYTES)..]).trim().to_owned()
}

fn launched_before(options: &Options) -> io::Result<String> {
    let port = std::fs::read_to_string(options.state.join("port")).ok();
    match port.filter(|_| stop::is_running(&options.state)) {
        Some(port) => Ok(format!("port={port} root={}", make_root(options)?.display())),
        None => {
            Err(io::Error::other("there is no secret, neither given nor in the state directory"))
        }
    }
}

/// The secret from standard input; nothing if that is empty. No end of it is waited for: not every
/// driver can bring it about.
fn read_secret() -> io::Result<Option<[u8; 32]>> {
    let mut secret = [0; 32];
    let mut filled = 0;
    while filled < secret.len() {
        match io::stdin().read(&mut secret[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    match filled {
        32 => Ok(Some(secret)),
        0 => Ok(None),
        length => Err(io::Error::other(format!("the secret has {length} bytes instead of 32"))),
    }
}

fn make_root(options: &Options) -> io::Result<PathBuf> {
    let error = match make_writable(&options.root) {
        Ok(()) => return Ok(options.root.clone()),
        Err(error) => error,
    };
    if let Some(fallback) = &options.fallback
        && make_writable(fallback).is_ok()
    {
        return Ok(fallback.clone());
    }
    let root = options.root.display();
    Err(io::Error::new(error.kind(), format!("cannot make the project's root `{root}`: {error}")))
}

/// Makes a directory that this user can write to; with `sudo` if that is what it takes, and only
/// what was not there before is given to this user.
fn make_writable(path: &Path) -> io::Result<()> {
    let writable = || rustix::fs::access(path, Access::WRITE_OK | Access::EXEC_OK);
    match std::fs::create_dir_all(path) {
        Ok(()) => return Ok(writable()?),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        Err(error) => return Err(error),
    }
    let owner =
        format!("{}:{}", rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    sudo(&["mkdir".as_ref(), "-p".as_ref(), "--".as_ref(), path.as_os_str()])?;
    sudo(&["chown".as_ref(), owner.as_ref(), "--".as_ref(), path.as_os_str()])?;
    Ok(writable()?)
}

fn sudo(arguments: &[&std::ffi::OsStr]) -> io::Result<()> {
    let status = Command::new("sudo")
        .arg("-n")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(_) | Err(_) => Err(io::Error::from(io::ErrorKind::PermissionDenied)),
    }
}

/// Prints the answer of [`launch`].
///
/// # Errors
/// If standard output cannot be written.
pub fn tell(answer: &str) -> io::Result<()> {
    let mut output = io::stdout();
    writeln!(output, "skync-agent launched {answer}")?;
    output.flush()
}
