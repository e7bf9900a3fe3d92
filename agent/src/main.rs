//! `skync-agent`: what skync puts into a sandbox.
//!
//! A static binary that runs in an empty image: no libc, no shell, no user database, no name
//! service is needed. It is small because every `skync` carries it for each machine type; that is
//! why it has no argument parser of its own size.
//!
//! Sandboxes are Linux. On another system there is only this, so that the workspace builds there.

#[cfg(target_os = "linux")]
mod command_line;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    command_line::main()
}

#[cfg(not(target_os = "linux"))]
fn main() -> std::process::ExitCode {
    eprintln!("error: skync-agent runs in Linux sandboxes alone, and this is another system");
    std::process::ExitCode::FAILURE
}
