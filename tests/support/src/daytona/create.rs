//! `POST /sandbox`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::body::Bytes;
use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use axum::{Json, http::StatusCode};
use serde::Deserialize;
use serde_json::Value;

use super::clock;
use super::errors::ApiError;
use super::lifecycle;
use super::model::{Intervals, Sandbox, State};
use super::world::World;

/// The snapshots that there are: cpu, gpu, memory, disk of each. The first is the default.
const SNAPSHOTS: [(&str, [u64; 4]); 3] = [
    ("daytona-small", [1, 0, 1, 3]),
    ("daytona-medium", [2, 0, 4, 8]),
    ("daytona-large", [4, 0, 8, 10]),
];
/// What one sandbox may have at most: cpu, gpu, memory, disk.
const RESOURCES_MAX: [u64; 4] = [4, 0, 8, 10];
/// The longest that a create request is held.
const HELD_MAX: Duration = Duration::from_secs(30);

/// The name of the snapshot that a request gets that names none.
pub(crate) fn default_snapshot() -> &'static str {
    SNAPSHOTS[0].0
}

/// The body of a request; what this server does not do is not looked at.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct CreateSandbox {
    name: Option<String>,
    snapshot: Option<String>,
    user: Option<String>,
    env: Option<BTreeMap<String, String>>,
    labels: Option<BTreeMap<String, String>>,
    public: Option<bool>,
    target: Option<String>,
    cpu: Option<u64>,
    gpu: Option<u64>,
    memory: Option<u64>,
    disk: Option<u64>,
    auto_stop_interval: Option<i64>,
    auto_pause_interval: Option<i64>,
    auto_archive_interval: Option<i64>,
    auto_delete_interval: Option<i64>,
    ttl_minutes: Option<i64>,
    build_info: Option<Value>,
}

pub(crate) async fn create(
    Shared(world): Shared<Arc<World>>,
    body: Bytes,
) -> Result<Response, ApiError> {
    if world.quirks.is_denied("write:sandboxes") {
        return Err(ApiError::new(StatusCode::FORBIDDEN, "Insufficient permissions"));
    }
    let request: CreateSandbox =
        serde_json::from_slice(&body).map_err(|error| ApiError::bad(error.to_string()))?;
    let sandbox = plan(&world, request)?;
    let answer = sandbox.full(&world.base);
    let id = sandbox.id.clone();
    world.insert(sandbox)?;
    tokio::spawn(lifecycle::create(Arc::clone(&world), id.clone()));
    if world.quirks.create_delay().is_some() {
        let _ = tokio::time::timeout(HELD_MAX, world.settled(&id)).await;
        if let Some(Sandbox { error_reason: Some(reason), .. }) = world.find_by_id(&id) {
            return Err(ApiError::bad(format!("Sandbox failed to start: {reason}")));
        }
    }
    if world.quirks.has_warm_pool() {
        world.settled(&id).await;
        return super::api::answer(&world, &id);
    }
    Ok(Json(answer).into_response())
}

/// Turns a request into the sandbox that it is for, or says what is wrong with it.
fn plan(world: &World, request: CreateSandbox) -> Result<Sandbox, ApiError> {
    let wanted = [request.cpu, request.gpu, request.memory, request.disk];
    let (image, snapshot, resources) = match &request.build_info {
        None => {
            let name = request.snapshot.as_deref().unwrap_or(default_snapshot());
            let known = SNAPSHOTS.iter().find(|(known, _)| *known == name);
            let Some((_, resources)) = known else {
                let hint = "Did you add it through the Daytona Dashboard?";
                return Err(ApiError::bad(format!("Snapshot {name} not found. {hint}")));
            };
            if wanted.iter().any(Option::is_some) {
                let text = "Cannot specify Sandbox resources when using a snapshot";
                return Err(ApiError::bad(text));
            }
            (world.options.image.clone(), Some(name.to_owned()), *resources)
        }
        Some(_) if request.snapshot.is_some() => {
            return Err(ApiError::bad("Cannot specify both a snapshot and a build info entry"));
        }
        Some(build) => (image_of(build)?, None, resources(wanted)?),
    };
    let intervals = intervals(&request)?;
    let id = clock::uuid();
    let (now, now_at) = (SystemTime::now(), Instant::now());
    let state = match &request.build_info {
        Some(_) => State::PendingBuild,
        None if world.quirks.pulls() => State::PullingSnapshot,
        None => State::Creating,
    };
    Ok(Sandbox {
        name: request.name.filter(|name| !name.is_empty()).unwrap_or_else(|| id.clone()),
        user: request.user.unwrap_or_else(|| "daytona".to_owned()),
        env: request.env.unwrap_or_default(),
        labels: request.labels.unwrap_or_default(),
        public: request.public.unwrap_or(false),
        resources,
        target: request.target.unwrap_or_else(|| "us".to_owned()),
        snapshot,
        build_info: request.build_info,
        state,
        desired: "started",
        error_reason: None,
        recoverable: false,
        intervals,
        created: now,
        created_at: now_at,
        updated: now,
        active: now,
        active_at: now_at,
        state_since: now_at,
        listed_from: now_at + world.quirks.list_delay(),
        token: clock::random_hex::<16>(),
        image,
        container: None,
        toolbox_failures: (0, 502),
        id,
    })
}

fn intervals(request: &CreateSandbox) -> Result<Intervals, ApiError> {
    let intervals = Intervals {
        stop: request.auto_stop_interval.unwrap_or(15),
        pause: request.auto_pause_interval.unwrap_or(0),
        archive: request.auto_archive_interval.unwrap_or(7 * 24 * 60),
        delete: request.auto_delete_interval.unwrap_or(-1),
        ttl: request.ttl_minutes.unwrap_or(0),
    };
    if intervals.stop < 0 || intervals.archive < 0 || intervals.ttl < 0 {
        return Err(ApiError::bad("Auto-stop interval must be non-negative"));
    }
    Ok(intervals)
}

/// The image of a Dockerfile that has nothing but its `FROM`: there is nothing here that builds.
fn image_of(build: &Value) -> Result<String, ApiError> {
    let text = build["dockerfileContent"].as_str().unwrap_or_default();
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    match lines[..] {
        [line] => match line.split_whitespace().collect::<Vec<_>>()[..] {
            [from, image] if from.eq_ignore_ascii_case("from") => Ok(image.to_owned()),
            _ => Err(ApiError::bad("dockerfileContent has no FROM")),
        },
        _ => Err(ApiError::bad("this server builds nothing: dockerfileContent must be one FROM")),
    }
}

fn resources(wanted: [Option<u64>; 4]) -> Result<[u64; 4], ApiError> {
    let default = SNAPSHOTS[0].1;
    let mut resources = [0; 4];
    for (at, name) in ["CPU", "GPU", "Memory", "Disk"].into_iter().enumerate() {
        resources[at] = wanted[at].unwrap_or(default[at]);
        if resources[at] > RESOURCES_MAX[at] {
            let (got, max) = (resources[at], RESOURCES_MAX[at]);
            let text = format!("{name} request {got} exceeds maximum allowed per sandbox ({max})");
            return Err(ApiError::bad(text));
        }
    }
    Ok(resources)
}
