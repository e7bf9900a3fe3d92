//! How long sandboxes live: connecting, timeouts, pausing, killing.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::{Path, State};
use axum::response::IntoResponse;
use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;

use super::create::sandbox_json;
use super::error::{Answer, ApiError, body};
use super::world::{Sandbox, SandboxState, World};

/// Seconds when `POST /v2/sandboxes/{id}/connect` names none.
const CONNECT_DEFAULT: u64 = 300;
/// The least that a refresh gives.
const REFRESH_MIN: Duration = Duration::from_secs(15);
/// The most seconds that a refresh may ask for.
const REFRESH_MAX: i64 = 3600;

type Shared = State<Arc<World>>;

fn find(world: &World, id: &str) -> Result<Arc<Sandbox>, ApiError> {
    world.find(id).ok_or_else(|| ApiError::no_sandbox(id))
}

pub(super) async fn kill(State(world): Shared, Path(id): Path<String>) -> Answer {
    let sandbox = find(&world, &id)?;
    tokio::spawn(async move { world.kill(&sandbox).await })
        .await
        .map_err(|error| ApiError::new(500, error.to_string()))??;
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[derive(Deserialize)]
struct Connect {
    timeout: Option<u64>,
    memory: Option<bool>,
}

pub(super) async fn connect_v2(
    State(world): Shared,
    Path(id): Path<String>,
    bytes: Bytes,
) -> Answer {
    let request: Connect = body(&bytes)?;
    let timeout = request.timeout.unwrap_or(CONNECT_DEFAULT);
    connect(&world, &id, timeout, request.memory.unwrap_or(true)).await
}

pub(super) async fn connect_v1(
    State(world): Shared,
    Path(id): Path<String>,
    bytes: Bytes,
) -> Answer {
    let request: Connect = body(&bytes)?;
    let missing = || ApiError::new(400, "property \"timeout\" is missing");
    connect(&world, &id, request.timeout.ok_or_else(missing)?, true).await
}

/// `POST /sandboxes/{id}/resume`, which connecting took the place of.
pub(super) async fn resume(State(world): Shared, Path(id): Path<String>, bytes: Bytes) -> Answer {
    let request: Connect = body(&bytes)?;
    if find(&world, &id)?.life().state == SandboxState::Running {
        return Err(ApiError::new(409, format!("Sandbox {id} is already running")));
    }
    let timeout = request.timeout.unwrap_or(15);
    connect(&world, &id, timeout, request.memory.unwrap_or(true)).await
}

async fn connect(world: &Arc<World>, id: &str, timeout: u64, with_memory: bool) -> Answer {
    let sandbox = find(world, id)?;
    let timeout = Duration::from_secs(timeout);
    if timeout > world.options.running_max {
        return Err(ApiError::new(400, "Timeout is longer than the plan allows"));
    }
    if sandbox.life().state == SandboxState::Paused {
        if with_memory && world.quirks.is_guest_unresponsive() {
            let message = "the sandbox was paused while its guest agent did not respond";
            let error = ApiError::new(409, message);
            return Err(error.named("sandbox_snapshot_guest_agent_unresponsive"));
        }
        tokio::time::sleep(world.quirks.resume_delay()).await;
        let resumed = {
            let sandbox = sandbox.clone();
            tokio::spawn(async move { sandbox.resume(timeout, with_memory).await }).await
        };
        let resumed = resumed.map_err(|error| ApiError::new(500, error.to_string()))?;
        match resumed {
            Ok(true) => {
                return Ok((StatusCode::CREATED, Json(sandbox_json(&sandbox))).into_response());
            }
            // Somebody else was faster.
            Ok(false) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(ApiError::no_sandbox(id));
            }
            Err(error) => return Err(error.into()),
        }
    }
    extend(world, &sandbox, timeout)?;
    Ok((StatusCode::OK, Json(sandbox_json(&sandbox))).into_response())
}

/// Moves the deadline of a running sandbox away, never nearer.
fn extend(world: &World, sandbox: &Sandbox, by: Duration) -> Result<(), ApiError> {
    let ends_at = clamp(world, sandbox, by)?;
    if ends_at > sandbox.life().ends_at {
        sandbox.end_at(ends_at);
    }
    Ok(())
}

/// Returns the deadline so long from now, but not past what the plan allows.
fn clamp(world: &World, sandbox: &Sandbox, by: Duration) -> Result<SystemTime, ApiError> {
    let latest = sandbox.life().run_since + world.options.running_max;
    let now = SystemTime::now();
    if now >= latest {
        return Err(ApiError::new(400, "Max instance length exceeded"));
    }
    Ok((now + by).min(latest))
}

#[derive(Deserialize)]
struct Timeout {
    timeout: i64,
}

/// `POST /sandboxes/{id}/timeout`: the deadline is set, nearer or farther.
pub(super) async fn timeout(State(world): Shared, Path(id): Path<String>, bytes: Bytes) -> Answer {
    let request: Timeout = body(&bytes)?;
    let seconds = u64::try_from(request.timeout);
    let seconds = seconds.map_err(|_| ApiError::new(400, "Timeout must not be negative"))?;
    let sandbox = running(&world, &id)?;
    sandbox.end_at(clamp(&world, &sandbox, Duration::from_secs(seconds))?);
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[derive(Deserialize)]
struct Refresh {
    duration: Option<i64>,
}

/// `POST /sandboxes/{id}/refreshes`: the deadline is moved away, never nearer.
pub(super) async fn refresh(State(world): Shared, Path(id): Path<String>, bytes: Bytes) -> Answer {
    let request: Refresh = body(&bytes)?;
    let seconds = request.duration.unwrap_or(0);
    if !(0..=REFRESH_MAX).contains(&seconds) {
        return Err(ApiError::new(400, format!("duration must be between 0 and {REFRESH_MAX}")));
    }
    let sandbox = running(&world, &id)?;
    extend(&world, &sandbox, Duration::from_secs(seconds.unsigned_abs()).max(REFRESH_MIN))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// A paused sandbox has no deadline to change.
fn running(world: &World, id: &str) -> Result<Arc<Sandbox>, ApiError> {
    let sandbox = find(world, id)?;
    let is_running = sandbox.life().state == SandboxState::Running;
    is_running.then_some(sandbox).ok_or_else(|| ApiError::no_sandbox(id))
}

#[derive(Deserialize)]
struct Pause {
    memory: Option<bool>,
}

pub(super) async fn pause(State(world): Shared, Path(id): Path<String>, bytes: Bytes) -> Answer {
    let request: Pause = body(&bytes)?;
    let sandbox = find(&world, &id)?;
    let with_memory = request.memory.unwrap_or(true);
    let paused = tokio::spawn(async move { sandbox.pause(with_memory).await }).await;
    match paused.map_err(|error| ApiError::new(500, error.to_string()))?? {
        true => Ok(StatusCode::NO_CONTENT.into_response()),
        false => Err(ApiError::new(409, format!("Sandbox {id} is already paused"))),
    }
}
