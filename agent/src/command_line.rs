//! The agent's command line, which is no interface for people.

use std::ffi::OsString;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use skync_agent::{bridge, launch, operation, own, serve, stop};

const USAGE: &str = "skync-agent is started by skync, not by hand:
  skync-agent serve --state DIR --lease-ms N [--dial SOCKET] [--socket SOCKET] [--cleanup DIR] [--listen] [--setsid]
      [--web ADDRESS:FIRST-LAST]
  skync-agent launch --state DIR --lease-ms N --root DIR [--fallback DIR] [--web ADDRESS:FIRST-LAST] [--cleanup DIR]
  skync-agent bridge --state DIR [--socket SOCKET]
  skync-agent stop --state DIR [--socket SOCKET]
  skync-agent clean --dir DIR
  skync-agent version";

/// It lives 45 s without a session: longer than an outage of 30 s, short enough for clean-up
/// within 60 s.
const LEASE_MS_DEFAULT: u64 = 45_000;

/// Threads for what blocks stay once they are made, a handful: where a command has used up all
/// processes that there may be, new ones cannot be had, and without any the runtime panics.
const THREAD_LIFE: Duration = Duration::from_secs(365 * 24 * 60 * 60);

#[derive(Default)]
struct Arguments {
    state: Option<PathBuf>,
    socket: Option<PathBuf>,
    dial: Option<PathBuf>,
    cleanup: Option<PathBuf>,
    dir: Option<PathBuf>,
    root: Option<PathBuf>,
    fallback: Option<PathBuf>,
    web: Option<Web>,
    lease_ms: Option<u64>,
    setsid: bool,
}

/// Where to listen for WebSockets: an address, and the ports to choose from.
type Web = (IpAddr, RangeInclusive<u16>);

/// Does what the arguments say.
pub(super) fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let verb = arguments.next().unwrap_or_default();
    let result = match verb.to_str() {
        Some("supervise") => supervise(arguments),
        Some("version") => {
            println!("skync-agent {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        Some(verb @ ("serve" | "launch" | "bridge" | "stop" | "clean")) => match parse(arguments) {
            Some(arguments) => run(verb, arguments),
            None => return usage(),
        },
        _ => return usage(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("skync-agent {}: {error}", verb.to_string_lossy());
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}

fn parse(mut from: impl Iterator<Item = OsString>) -> Option<Arguments> {
    let mut arguments = Arguments::default();
    while let Some(flag) = from.next() {
        match flag.to_str()? {
            "--state" => arguments.state = Some(from.next()?.into()),
            "--socket" => arguments.socket = Some(from.next()?.into()),
            "--dial" => arguments.dial = Some(from.next()?.into()),
            "--cleanup" => arguments.cleanup = Some(from.next()?.into()),
            "--dir" => arguments.dir = Some(from.next()?.into()),
            "--root" => arguments.root = Some(from.next()?.into()),
            "--fallback" => arguments.fallback = Some(from.next()?.into()),
            "--web" => arguments.web = Some(web(from.next()?.to_str()?)?),
            "--lease-ms" => arguments.lease_ms = Some(from.next()?.to_str()?.parse().ok()?),
            "--setsid" => arguments.setsid = true,
            // It always does; the driver says what it relies on.
            "--listen" => {}
            _ => return None,
        }
    }
    Some(arguments)
}

fn web(text: &str) -> Option<Web> {
    let (address, ports) = text.rsplit_once(':')?;
    let (first, last) = ports.split_once('-')?;
    Some((address.parse().ok()?, first.parse().ok()?..=last.parse().ok()?))
}

fn run(verb: &str, arguments: Arguments) -> std::io::Result<()> {
    let missing = |flag: &str| std::io::Error::other(format!("`{flag}` is missing"));
    if verb == "clean" {
        let dir = arguments.dir.ok_or_else(|| missing("--dir"))?;
        return own::remove_place(&dir);
    }
    let state = arguments.state.ok_or_else(|| missing("--state"))?;
    if verb == "stop" {
        return stop::stop(&state);
    }
    let lease_ms = arguments.lease_ms.unwrap_or(LEASE_MS_DEFAULT);
    if verb == "launch" {
        let root = arguments.root.ok_or_else(|| missing("--root"))?;
        let mut passed: Vec<OsString> = vec!["--lease-ms".into(), lease_ms.to_string().into()];
        if let Some((address, ports)) = arguments.web {
            let web = format!("{address}:{}-{}", ports.start(), ports.end());
            passed.extend(["--web".into(), web.into()]);
        }
        if let Some(cleanup) = arguments.cleanup {
            passed.extend(["--cleanup".into(), cleanup.into()]);
        }
        let fallback = arguments.fallback;
        let options = launch::Options { state, root, fallback, arguments: passed };
        return launch::tell(&launch::launch(&options)?);
    }
    if arguments.setsid {
        // Fails only for one that leads a group already, which is as good.
        let _ = rustix::process::setsid();
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_keep_alive(THREAD_LIFE)
        .build()?;
    if verb == "bridge" {
        let socket = arguments.socket.unwrap_or_else(|| state.join("agent.sock"));
        let result = runtime.block_on(bridge::bridge(&socket));
        // A read of standard input may be under way in a thread: it must not hold us.
        runtime.shutdown_background();
        return result;
    }
    let lease = Duration::from_millis(lease_ms);
    let Arguments { socket, dial, cleanup, web, .. } = arguments;
    let options = serve::Options { state, lease, dial, socket, web, cleanup };
    let result = runtime.block_on(serve::serve(options));
    runtime.shutdown_background();
    result
}

/// The agent starts itself as the supervisor of an operation, with a socket as descriptor N, the
/// operation's directory, and how many milliseconds to live without an agent.
fn supervise(mut arguments: impl Iterator<Item = OsString>) -> std::io::Result<()> {
    let missing = || std::io::Error::other("it needs a descriptor, a directory and a lease");
    let mut number = || arguments.next()?.to_str()?.parse().ok();
    let descriptor: i32 = number().ok_or_else(missing)?;
    let directory = PathBuf::from(arguments.next().ok_or_else(missing)?);
    let lease_ms = arguments.next().and_then(|text| text.to_str()?.parse().ok());
    let lease = Duration::from_millis(lease_ms.ok_or_else(missing)?);
    let control: OwnedFd = own::inherited(descriptor)?;
    operation::supervisor::supervise(control, &directory, lease)
}
