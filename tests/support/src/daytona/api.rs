//! The control plane: `/api/…`.

use std::sync::Arc;

use axum::extract::{Path, Request, State as Shared};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post, put};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::errors::ApiError;
use super::model::{Sandbox, State};
use super::world::World;
use super::{changes, create, lifecycle, list, previews};

pub(crate) type Answer = Result<Response, ApiError>;

/// All routes below `/api`.
pub(crate) fn router(world: &Arc<World>) -> Router<Arc<World>> {
    let closed = Router::new()
        .route("/api-keys/current", get(current_key))
        .route("/regions", get(regions))
        .route("/sandbox", post(create::create).get(list::list))
        .route("/sandbox/{name}", get(show).delete(remove))
        .route("/sandbox/{name}/start", post(start))
        .route("/sandbox/{name}/stop", post(stop))
        .route("/sandbox/{name}/pause", post(pause))
        .route("/sandbox/{name}/archive", post(archive))
        .route("/sandbox/{name}/recover", post(recover))
        .route("/sandbox/{name}/resize", post(changes::resize))
        .route("/sandbox/{name}/labels", put(changes::labels))
        .route("/sandbox/{name}/autostop/{minutes}", post(changes::auto_stop))
        .route("/sandbox/{name}/autopause/{minutes}", post(changes::auto_pause))
        .route("/sandbox/{name}/autoarchive/{minutes}", post(changes::auto_archive))
        .route("/sandbox/{name}/autodelete/{minutes}", post(changes::auto_delete))
        .route("/sandbox/{name}/ttl/{minutes}", post(changes::ttl))
        .route("/sandbox/{name}/last-activity", post(changes::last_activity))
        .route("/sandbox/{name}/public/{public}", post(changes::public))
        .route("/sandbox/{name}/toolbox-proxy-url", get(toolbox_url))
        .route("/sandbox/{name}/ports/{port}/preview-url", get(previews::preview_url))
        .route("/sandbox/{name}/ports/{port}/signed-preview-url", get(previews::signed_url))
        .route(
            "/sandbox/{name}/ports/{port}/signed-preview-url/{token}/expire",
            post(previews::expire_signed_url),
        )
        .route("/{*rest}", any(nothing))
        .layer(middleware::from_fn_with_state(Arc::clone(world), authenticate));
    Router::new().route("/config", get(config)).merge(closed)
}

async fn nothing(request: Request) -> ApiError {
    let (method, path) = (request.method(), request.uri().path());
    ApiError::new(StatusCode::NOT_FOUND, format!("Cannot {method} /api{path}"))
}

async fn authenticate(Shared(world): Shared<Arc<World>>, request: Request, next: Next) -> Response {
    let key = world.key();
    if super::bearer(request.headers()) != Some(&*key) {
        return ApiError::unauthorized().into_response();
    }
    // A key belongs to one organization; a JWT, of three parts, belongs to a person who has many.
    let organization = request.headers().get("x-daytona-organization-id");
    if key.matches('.').count() == 2 && organization.is_none_or(|id| id != super::ORGANIZATION) {
        let text = "Organization ID is required";
        return ApiError::new(StatusCode::FORBIDDEN, text).into_response();
    }
    let mut response = next.run(request).await;
    for (name, value) in [
        ("x-daytona-api-version", super::API_VERSION),
        ("x-ratelimit-limit-authenticated", "10000"),
        ("x-ratelimit-remaining-authenticated", "9999"),
        ("x-ratelimit-reset-authenticated", "60"),
    ] {
        response.headers_mut().insert(name, axum::http::HeaderValue::from_static(value));
    }
    response
}

async fn config(Shared(world): Shared<Arc<World>>) -> Json<Value> {
    let base = &world.base;
    Json(json!({
        "version": super::API_VERSION,
        "proxyTemplateUrl": format!("{base}/_preview/{{{{sandboxId}}}}/{{{{PORT}}}}"),
        "proxyToolboxUrl": format!("{base}/toolbox"),
        "defaultSnapshot": create::default_snapshot(),
        "dashboardUrl": format!("{base}/dashboard"),
        "sshGatewayCommand": "ssh -p 2222 {{TOKEN}}@127.0.0.1",
        "maxAutoArchiveInterval": 43200,
        "maintananceMode": false,
        "environment": "test",
        "rateLimit": {
            "authenticated": {"ttl": 60, "limit": 10000},
            "sandboxCreate": {"ttl": 60, "limit": 300},
            "sandboxLifecycle": {"ttl": 60, "limit": 10000},
        },
        "oidc": {"issuer": format!("{base}/oidc"), "clientId": "daytona", "audience": "daytona"},
    }))
}

async fn current_key(Shared(world): Shared<Arc<World>>) -> Json<Value> {
    let permissions = ["write:sandboxes", "delete:sandboxes"];
    let held: Vec<&str> =
        permissions.into_iter().filter(|name| !world.quirks.is_denied(name)).collect();
    Json(json!({
        "name": "test",
        "value": "dtn_********************",
        "createdAt": "2026-01-01T00:00:00.000Z",
        "permissions": held,
        "lastUsedAt": null,
        "expiresAt": null,
        "userId": "test-user",
    }))
}

async fn regions(Shared(world): Shared<Arc<World>>) -> Json<Value> {
    Json(json!([{
        "id": "us",
        "name": "us",
        "organizationId": null,
        "regionType": "shared",
        "createdAt": "2026-01-01T00:00:00.000Z",
        "updatedAt": "2026-01-01T00:00:00.000Z",
        "proxyUrl": world.base,
        "sshGatewayUrl": null,
        "snapshotManagerUrl": null,
    }]))
}

async fn show(Shared(world): Shared<Arc<World>>, Path(name): Path<String>) -> Answer {
    answer(&world, &name)
}

async fn toolbox_url(Shared(world): Shared<Arc<World>>, Path(id): Path<String>) -> Answer {
    world.find_by_id(&id).ok_or_else(|| ApiError::no_sandbox(&id))?;
    Ok(Json(json!({"url": format!("{}/toolbox", world.base)})).into_response())
}

/// The sandbox as it is now.
pub(crate) fn answer(world: &World, name: &str) -> Answer {
    Ok(Json(world.find(name)?.full(&world.base)).into_response())
}

/// The sandbox of a request that wants to change it, if the key may.
pub(crate) fn to_change(world: &World, name: &str, right: &str) -> Result<Sandbox, ApiError> {
    if world.quirks.is_denied(right) {
        return Err(ApiError::new(StatusCode::FORBIDDEN, "Insufficient permissions"));
    }
    world.find(name)
}

/// The sandbox of a request that wants to move it into another state.
fn to_move(world: &World, name: &str, right: &str) -> Result<Sandbox, ApiError> {
    let sandbox = to_change(world, name, right)?;
    if sandbox.state.is_moving() { Err(ApiError::busy()) } else { Ok(sandbox) }
}

async fn start(Shared(world): Shared<Arc<World>>, Path(name): Path<String>) -> Answer {
    let sandbox = to_change(&world, &name, "write:sandboxes")?;
    let id = &sandbox.id;
    if sandbox.state == State::Started {
        return answer(&world, id);
    }
    let awake = lifecycle::begin(&world, id, &[State::Stopped], State::Starting, "started");
    let asleep = [State::Archived, State::Archiving];
    if !awake && !lifecycle::begin(&world, id, &asleep, State::Restoring, "started") {
        return Err(match sandbox.state.is_moving() {
            true => ApiError::busy(),
            false => ApiError::bad("Sandbox is not in valid state"),
        });
    }
    tokio::spawn(lifecycle::start(Arc::clone(&world), id.clone()));
    answer(&world, id)
}

async fn stop(Shared(world): Shared<Arc<World>>, Path(name): Path<String>) -> Answer {
    let sandbox = to_move(&world, &name, "write:sandboxes")?;
    let id = &sandbox.id;
    if !lifecycle::begin(&world, id, &[State::Started], State::Stopping, "stopped") {
        return Err(ApiError::bad("Sandbox is not started"));
    }
    tokio::spawn(lifecycle::stop(Arc::clone(&world), id.clone()));
    answer(&world, id)
}

async fn pause(Shared(world): Shared<Arc<World>>, Path(name): Path<String>) -> Answer {
    to_change(&world, &name, "write:sandboxes")?;
    let text = "Pause is not supported for this sandbox class";
    Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, text))
}

async fn archive(Shared(world): Shared<Arc<World>>, Path(name): Path<String>) -> Answer {
    let sandbox = to_move(&world, &name, "write:sandboxes")?;
    if sandbox.intervals.delete == 0 {
        return Err(ApiError::bad("Ephemeral sandboxes cannot be archived"));
    }
    let id = &sandbox.id;
    if !lifecycle::begin(&world, id, &[State::Stopped], State::Archiving, "archived") {
        return Err(ApiError::bad("Sandbox is not stopped"));
    }
    tokio::spawn(lifecycle::archive(Arc::clone(&world), id.clone()));
    answer(&world, id)
}

async fn recover(
    Shared(world): Shared<Arc<World>>,
    Path(name): Path<String>,
    query: super::Pairs,
) -> Answer {
    let sandbox = to_move(&world, &name, "write:sandboxes")?;
    if sandbox.state != State::Error || !sandbox.recoverable {
        return Err(ApiError::bad("Sandbox is not in an error state that can be recovered"));
    }
    let id = &sandbox.id;
    let stay = query.0.iter().any(|(name, value)| name == "skipStart" && value == "true");
    world.change(id, |sandbox| {
        sandbox.error_reason = None;
        sandbox.recoverable = false;
        sandbox.desired = if stay { "stopped" } else { "started" };
        sandbox.set_state(if stay { State::Stopped } else { State::Starting });
    });
    if !stay {
        tokio::spawn(lifecycle::start(Arc::clone(&world), id.clone()));
    }
    answer(&world, id)
}

async fn remove(Shared(world): Shared<Arc<World>>, Path(name): Path<String>) -> Answer {
    let sandbox = to_move(&world, &name, "delete:sandboxes")?;
    let id = &sandbox.id;
    let all = [State::Started, State::Stopped, State::Archived, State::Error, State::BuildFailed];
    if !lifecycle::begin(&world, id, &all, State::Destroying, "destroyed") {
        return Err(ApiError::busy());
    }
    tokio::spawn(lifecycle::destroy(Arc::clone(&world), id.clone()));
    answer(&world, id)
}
