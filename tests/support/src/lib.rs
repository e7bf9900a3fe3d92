//! Servers that speak a provider's protocol on loopback, for tests of the drivers.
//!
//! # Layout
//!
//! - [`wire`]: the listener, and what goes wrong with its connections.
//! - [`e2b`], [`daytona`]: a provider's API and edge, outside of the sandboxes.
//! - [`inside`]: what a provider runs in each sandbox: processes, files, terminals, ports.
//! - [`container`], [`proxy`]: a sandbox as a container, and the way into it.
//! - [`record`]: what was asked, and answers that a test put in the place of the right ones.
//!
//! Nothing here knows skync: the providers' own SDKs judge the servers, see `sdk/`.

use std::process::ExitCode;

pub mod clock;
pub mod container;
pub mod daytona;
pub mod e2b;
pub mod inside;
pub mod program;
pub mod proxy;
pub mod record;
pub mod wire;

/// The program `test-servers`.
pub fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["inside", "daytona-terminal", rest @ ..] => inside::daytona::terminal_main(rest),
        ["inside", kind, rest @ ..] => inside::main(kind, rest),
        ["daytona", rest @ ..] => daytona::main(rest),
        ["e2b", rest @ ..] => e2b::main(rest),
        ["--help" | "-h", ..] => {
            print!("{}", program::HELP);
            ExitCode::SUCCESS
        }
        _ => {
            eprint!("{}", program::HELP);
            ExitCode::from(2)
        }
    }
}
