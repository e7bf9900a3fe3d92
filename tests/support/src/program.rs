//! The program `test-servers`: one server from the command line, until a signal ends it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::wire::Wire;

/// The help text.
pub const HELP: &str = "\
Servers that speak a provider's protocol on loopback. Sandboxes are containers of this machine.

Usage: test-servers e2b|daytona [--port N] [--key KEY] [--image IMAGE] [--delay-ms N]

  --port N        the port on 127.0.0.1 (default: any)
  --key KEY       the API key that is accepted (default: test-key)
  --image IMAGE   the image of all sandboxes (default: skync-test/speckit:1.2.3)
  --delay-ms N    how long each byte is on its way, one way (default: 0)

It prints `listening on http://127.0.0.1:PORT`, serves until SIGTERM or SIGINT, then removes all
sandboxes and prints what went over the wire. `GET /_test/counts` tells that, too.

`test-servers inside …` is what it runs in each sandbox.
";

/// The image of sandboxes when nothing else is said.
pub const IMAGE: &str = "skync-test/speckit:1.2.3";
/// The API key when nothing else is said.
pub const KEY: &str = "test-key";

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Program {
    /// This program, which is run in each sandbox.
    pub program: PathBuf,
    /// The port, or 0 for any.
    pub port: u16,
    /// The accepted API key.
    pub key: String,
    /// The image of all sandboxes.
    pub image: String,
    /// One-way delay of all bytes.
    pub delay: Duration,
}

impl Program {
    fn parse(arguments: &[&str]) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let (key, image) = (KEY.to_owned(), IMAGE.to_owned());
        let mut parsed = Self { program, port: 0, key, image, delay: Duration::ZERO };
        let mut words = arguments.iter();
        while let Some(&name) = words.next() {
            let value =
                *words.next().ok_or_else(|| format!("a value is missing after `{name}`"))?;
            let wrong = |_| format!("`{value}` is no number for `{name}`");
            match name {
                "--port" => parsed.port = value.parse().map_err(wrong)?,
                "--key" => value.clone_into(&mut parsed.key),
                "--image" => value.clone_into(&mut parsed.image),
                "--delay-ms" => parsed.delay = Duration::from_millis(value.parse().map_err(wrong)?),
                _ => return Err(format!("there is no option `{name}`")),
            }
        }
        Ok(parsed)
    }
}

/// Runs a server until SIGTERM or SIGINT. `start` returns what is dropped at the end, the URL and
/// the wire.
pub fn run<S>(arguments: &[&str], start: impl FnOnce(&Program) -> (S, String, Wire)) -> ExitCode {
    let program = match Program::parse(arguments) {
        Ok(program) => program,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    let (server, url, wire) = start(&program);
    wire.delay(program.delay);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let waited = runtime.and_then(|runtime| {
        runtime.block_on(async {
            let mut term = signal(SignalKind::terminate())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            println!("listening on {url}");
            tokio::select! {
                _ = term.recv() => {}
                _ = interrupt.recv() => {}
            }
            Ok(())
        })
    });
    drop(server);
    eprintln!("{:?}", wire.counts());
    match waited {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: cannot wait for signals: {error}");
            ExitCode::FAILURE
        }
    }
}
