//! The templates that sandboxes are made of.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::IntoResponse;
use serde_json::json;

use super::error::{Answer, ApiError};
use super::world::World;

type Shared = State<Arc<World>>;

/// `GET /v2/templates`: all on one page.
pub(super) async fn list(State(world): Shared) -> Answer {
    let others = world.options.templates.iter().map(|(name, _)| name.as_str());
    let template = |name: &str| {
        json!({
            "templateID": name,
            "buildID": "00000000-0000-4000-8000-000000000000",
            "names": [name],
            "aliases": [name],
            "public": name == "base",
            "cpuCount": 2,
            "memoryMB": 512,
            "diskSizeMB": 10_240,
            "envdVersion": world.quirks.version(),
            "buildStatus": "ready",
            "createdAt": "2026-01-01T00:00:00Z",
            "updatedAt": "2026-01-01T00:00:00Z",
        })
    };
    let all: Vec<_> = std::iter::once("base").chain(others).map(template).collect();
    Ok(Json(all).into_response())
}

/// `GET /templates/aliases/{alias}`.
pub(super) async fn alias(State(world): Shared, Path(alias): Path<String>) -> Answer {
    let missing = || ApiError::new(404, format!("template alias '{alias}' not found"));
    world.image(&alias).ok_or_else(missing)?;
    Ok(Json(json!({ "templateID": alias, "public": alias == "base" })).into_response())
}
