//! The first process: it makes the account, starts the daemon, and hands it every request.

use std::fs;
use std::io;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State as Shared};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::UnixStream;

use super::super::reaper::Reaper;
use super::super::users;
use super::{HOME, KILL_PATH};
use crate::proxy;

/// Between this process and the daemon.
const DIR: &str = "/run/daytona";
const SOCKET: &str = "/run/daytona/daemon.sock";
const USER: &str = "daytona";
/// How long the daemon may take until it listens.
const READY_MAX: Duration = Duration::from_secs(10);
const READY_POLL: Duration = Duration::from_millis(2);

/// Starts the daemon and waits until it listens.
pub(super) fn router(reaper: &Reaper) -> io::Result<Router> {
    let user = users::ensure(USER, 1000, HOME)?;
    fs::create_dir_all(DIR)?;
    chown(DIR, Some(user.uid), Some(user.gid))?;
    let (child, _) = reaper.spawn(|| {
        Command::new(std::env::current_exe()?)
            .args(["inside", "daytona-daemon", "--socket", SOCKET])
            .args(["--config", "/run/ts/config.json"])
            .env("HOME", &user.home)
            .env("USER", USER)
            .env("LOGNAME", USER)
            .env("SHELL", "/bin/bash")
            .current_dir(&user.home)
            .uid(user.uid)
            .gid(user.gid)
            .spawn()
    })?;
    let pid = Pid::from_child(&child);
    let deadline = Instant::now() + READY_MAX;
    // A socket of the run before is in the way until the new daemon removes it: only a connection
    // shows that it listens. Nobody dials this process yet, so nothing waits for this.
    while std::os::unix::net::UnixStream::connect(SOCKET).is_err() {
        if Instant::now() > deadline {
            return Err(io::Error::other("the daemon does not listen"));
        }
        std::thread::sleep(READY_POLL);
    }
    Ok(Router::new().route(KILL_PATH, post(kill)).fallback(hand_over).with_state(pid))
}

/// Kills the daemon, as the real one's OOM does, and leaves the sandbox without.
async fn kill(Shared(pid): Shared<Pid>) -> StatusCode {
    let _ = kill_process(pid, Signal::KILL);
    StatusCode::OK
}

async fn hand_over(request: Request) -> Response {
    let nobody = || StatusCode::BAD_GATEWAY.into_response();
    let Ok(stream) = UnixStream::connect(SOCKET).await else { return nobody() };
    match Box::pin(proxy::forward(stream, request, proxy::Cord::uncut())).await {
        Ok(response) => response,
        Err(_) => nobody(),
    }
}
