//! The addresses by which a port of a sandbox is reached.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{Path, Query, State as Shared};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde_json::json;

use super::api::Answer;
use super::errors::ApiError;
use super::world::{SignedLink, World};
use super::{Pairs, clock};

fn port(text: &str) -> Result<u16, ApiError> {
    let port = text.parse().ok().filter(|port| *port > 0);
    port.ok_or_else(|| ApiError::bad("Invalid port: must be between 1 and 65535"))
}

/// The sandbox's address of a port. Its token is another one after the next start.
pub(crate) async fn preview_url(
    Shared(world): Shared<Arc<World>>,
    Path((name, number)): Path<(String, String)>,
) -> Answer {
    let port = port(&number)?;
    let sandbox = world.find(&name)?;
    let url = format!("{}/_preview/{}/{port}", world.base, sandbox.id);
    let answer = json!({"sandboxId": sandbox.id, "url": url, "token": sandbox.token});
    Ok(Json(answer).into_response())
}

/// An address that lets in whoever has it, for a time.
pub(crate) async fn signed_url(
    Shared(world): Shared<Arc<World>>,
    Path((name, number)): Path<(String, String)>,
    Query(pairs): Pairs,
) -> Answer {
    let port = port(&number)?;
    let sandbox = world.find(&name)?;
    let asked = pairs.iter().find(|(name, _)| name == "expiresInSeconds");
    let seconds = asked.map_or(Some(60), |(_, value)| value.parse().ok());
    let seconds = seconds.filter(|seconds| (1..=86_400).contains(seconds));
    let seconds = seconds.ok_or_else(|| ApiError::bad("expiresInSeconds must be 1 to 86400"))?;
    let token = clock::random_hex::<12>();
    let until = Instant::now() + Duration::from_secs(seconds);
    world.add_link(token.clone(), SignedLink { sandbox: sandbox.id.clone(), port, until });
    let url = format!("{}/_preview/{token}/{port}", world.base);
    let answer = json!({"sandboxId": sandbox.id, "port": port, "token": token, "url": url});
    Ok(Json(answer).into_response())
}

pub(crate) async fn expire_signed_url(
    Shared(world): Shared<Arc<World>>,
    Path((name, _, token)): Path<(String, String, String)>,
) -> Answer {
    world.find(&name)?;
    world.remove_link(&token);
    Ok(StatusCode::OK.into_response())
}
