//! The calls that change a sandbox's record and not its state.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State as Shared};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::json;

use super::api::{Answer, answer, to_change};
use super::errors::ApiError;
use super::model::{Intervals, State};
use super::world::World;

type TwoNames = Path<(String, String)>;

#[derive(Deserialize)]
struct Labels {
    labels: BTreeMap<String, String>,
}

/// Takes the place of all labels.
pub(crate) async fn labels(
    Shared(world): Shared<Arc<World>>,
    Path(name): Path<String>,
    body: Bytes,
) -> Answer {
    let sandbox = to_change(&world, &name, "write:sandboxes")?;
    let Labels { labels } =
        serde_json::from_slice(&body).map_err(|error| ApiError::bad(error.to_string()))?;
    world.change(&sandbox.id, |sandbox| sandbox.labels.clone_from(&labels));
    Ok(Json(json!({"labels": labels})).into_response())
}

#[derive(Deserialize)]
struct Resize {
    cpu: Option<u64>,
    memory: Option<u64>,
    disk: Option<u64>,
}

/// Changes the numbers; the container has no limits that would change with them.
pub(crate) async fn resize(
    Shared(world): Shared<Arc<World>>,
    Path(name): Path<String>,
    body: Bytes,
) -> Answer {
    let sandbox = to_change(&world, &name, "write:sandboxes")?;
    let wanted: Resize =
        serde_json::from_slice(&body).map_err(|error| ApiError::bad(error.to_string()))?;
    let [cpu, gpu, memory, disk] = sandbox.resources;
    let new = [
        wanted.cpu.unwrap_or(cpu),
        gpu,
        wanted.memory.unwrap_or(memory),
        wanted.disk.unwrap_or(disk),
    ];
    let runs = sandbox.state == State::Started;
    if runs && (new[0] < cpu || new[2] < memory || new[3] != disk) || new[3] < disk {
        return Err(ApiError::bad("Sandbox cannot be resized like this in its state"));
    }
    world.change(&sandbox.id, |sandbox| sandbox.resources = new);
    answer(&world, &sandbox.id)
}

pub(crate) async fn auto_stop(shared: Shared<Arc<World>>, path: TwoNames) -> Answer {
    set_interval(&shared, &path, 0, |intervals| &mut intervals.stop)
}

pub(crate) async fn auto_pause(_: Shared<Arc<World>>, _: TwoNames) -> Answer {
    let text = "Auto-pause is not supported for this sandbox class";
    Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, text))
}

pub(crate) async fn auto_archive(shared: Shared<Arc<World>>, path: TwoNames) -> Answer {
    set_interval(&shared, &path, 0, |intervals| &mut intervals.archive)
}

pub(crate) async fn auto_delete(shared: Shared<Arc<World>>, path: TwoNames) -> Answer {
    set_interval(&shared, &path, i64::MIN, |intervals| &mut intervals.delete)
}

pub(crate) async fn ttl(shared: Shared<Arc<World>>, path: TwoNames) -> Answer {
    set_interval(&shared, &path, 0, |intervals| &mut intervals.ttl)
}

fn set_interval(
    world: &World,
    path: &(String, String),
    least: i64,
    place: fn(&mut Intervals) -> &mut i64,
) -> Answer {
    let sandbox = to_change(world, &path.0, "write:sandboxes")?;
    let minutes = path.1.parse::<i64>().ok().filter(|minutes| *minutes >= least);
    let minutes =
        minutes.ok_or_else(|| ApiError::bad("Interval must be a non-negative integer"))?;
    world.change(&sandbox.id, |sandbox| *place(&mut sandbox.intervals) = minutes);
    answer(world, &sandbox.id)
}

/// Begins the idle time anew. By id only.
pub(crate) async fn last_activity(
    Shared(world): Shared<Arc<World>>,
    Path(id): Path<String>,
) -> Answer {
    world.find_by_id(&id).ok_or_else(|| ApiError::no_sandbox(&id))?;
    world.change(&id, super::model::Sandbox::touch);
    Ok(StatusCode::CREATED.into_response())
}

pub(crate) async fn public(
    Shared(world): Shared<Arc<World>>,
    Path((name, public)): TwoNames,
) -> Answer {
    let sandbox = to_change(&world, &name, "write:sandboxes")?;
    let public = public.parse::<bool>().map_err(|error| ApiError::bad(error.to_string()))?;
    world.change(&sandbox.id, |sandbox| sandbox.public = public);
    answer(&world, &sandbox.id)
}
