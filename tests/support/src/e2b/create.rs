//! Creating sandboxes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::{Answer, ApiError, body};
use super::world::{Sandbox, Wanted, World};
use crate::wire::lock;

/// Seconds when `POST /v2/sandboxes` names none.
const TIMEOUT_V2: i64 = 300;
/// Seconds when `POST /sandboxes` names none.
const TIMEOUT_V1: i64 = 15;

#[derive(Clone, Debug, Deserialize)]
struct Create {
    #[serde(rename = "templateID")]
    template_id: String,
    timeout: Option<i64>,
    #[serde(rename = "autoPause", default)]
    auto_pause: bool,
    #[serde(rename = "autoPauseMemory")]
    auto_pause_memory: Option<bool>,
    #[serde(rename = "autoResume")]
    auto_resume: Option<AutoResume>,
    secure: Option<bool>,
    allow_internet_access: Option<bool>,
    network: Option<Value>,
    #[serde(default)]
    metadata: Option<BTreeMap<String, String>>,
    #[serde(rename = "envVars", default)]
    env: Option<HashMap<String, String>>,
}

#[derive(Clone, Debug, Deserialize)]
struct AutoResume {
    enabled: bool,
}

/// `POST /v2/sandboxes`: always secured.
pub(super) async fn v2(
    State(world): State<Arc<World>>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Answer {
    let create: Create = body(&bytes)?;
    let wanted = wanted(&world, Create { secure: Some(true), ..create }, TIMEOUT_V2)?;
    let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok());
    let sandbox = match key {
        Some(key) => once(&world, key, &bytes, wanted).await?,
        None => create_now(&world, wanted).await?,
    };
    Ok(created(&sandbox))
}

/// `POST /sandboxes`: secured when the client says so.
pub(super) async fn v1(State(world): State<Arc<World>>, bytes: Bytes) -> Answer {
    let wanted = wanted(&world, body(&bytes)?, TIMEOUT_V1)?;
    let sandbox = create_now(&world, wanted).await?;
    Ok(created(&sandbox))
}

fn wanted(world: &World, create: Create, timeout_default: i64) -> Result<Wanted, ApiError> {
    let bad = |message: &str| ApiError::new(400, message);
    let timeout = u64::try_from(create.timeout.unwrap_or(timeout_default)).unwrap_or(0);
    let timeout = Duration::from_secs(timeout);
    if timeout.is_zero() {
        return Err(bad("Timeout must be greater than 0"));
    }
    if timeout > world.options.running_max {
        let hours = world.options.running_max.as_secs() / 3600;
        return Err(bad(&format!("Timeout cannot be greater than {hours} hours")));
    }
    let auto_resume = create.auto_resume.is_some_and(|auto_resume| auto_resume.enabled);
    if auto_resume && !create.auto_pause {
        return Err(bad("autoResume needs autoPause"));
    }
    if create.auto_pause_memory == Some(false) && (!create.auto_pause || auto_resume) {
        return Err(bad("autoPauseMemory needs autoPause, and excludes autoResume"));
    }
    let is_secure = create.secure.unwrap_or(false);
    let public =
        create.network.as_ref().and_then(|network| network["allowPublicTraffic"].as_bool());
    if public == Some(false) && !is_secure {
        return Err(bad("allowPublicTraffic needs a secured sandbox"));
    }
    let image = world.image(&create.template_id);
    let missing = || ApiError::new(404, format!("template '{}' not found", create.template_id));
    Ok(Wanted {
        image: image.ok_or_else(missing)?,
        template: create.template_id,
        timeout,
        auto_pause: create.auto_pause,
        auto_pause_memory: create.auto_pause_memory.unwrap_or(true),
        auto_resume,
        is_secure,
        is_private: public == Some(false),
        allows_internet: create.allow_internet_access,
        network: create.network,
        metadata: create.metadata.unwrap_or_default(),
        env: create.env.unwrap_or_default(),
    })
}

async fn create_now(world: &Arc<World>, wanted: Wanted) -> Result<Arc<Sandbox>, ApiError> {
    let world = world.clone();
    // On a task of its own: who goes away meanwhile has a sandbox all the same, as with E2B.
    let created = tokio::spawn(async move {
        tokio::time::sleep(world.quirks.create_delay()).await;
        Box::pin(world.create(wanted)).await
    });
    let created = created.await.map_err(|error| ApiError::new(500, error.to_string()))?;
    created.map_err(|error| ApiError::new(500, error.to_string()).named("sandbox_create_failed"))
}

/// Creates a sandbox, unless one was created under this key.
async fn once(
    world: &Arc<World>,
    key: &str,
    bytes: &Bytes,
    wanted: Wanted,
) -> Result<Arc<Sandbox>, ApiError> {
    let before = lock(&world.idempotent).get(key).cloned();
    if let Some((request, id)) = before {
        if request != *bytes {
            let message = "the key was used for another request";
            return Err(ApiError::new(422, message).named("idempotency_request_mismatch"));
        }
        return world.find(&id).ok_or_else(|| {
            ApiError::new(409, "the sandbox is gone").named("idempotency_outcome_unknown")
        });
    }
    let sandbox = create_now(world, wanted).await?;
    lock(&world.idempotent).insert(key.to_owned(), (bytes.to_vec(), sandbox.id.clone()));
    Ok(sandbox)
}

fn created(sandbox: &Sandbox) -> Response {
    (StatusCode::CREATED, Json(sandbox_json(sandbox))).into_response()
}

/// A sandbox as creating and connecting answer it, with its tokens.
pub(super) fn sandbox_json(sandbox: &Sandbox) -> Value {
    let mut value = json!({
        "templateID": sandbox.wanted.template,
        "sandboxID": sandbox.id,
        "clientID": "6532622b",
        "envdVersion": sandbox.envd_version,
        "trafficAccessToken": sandbox.traffic_token,
        "domain": null,
    });
    if let Some(token) = &sandbox.envd_token {
        value["envdAccessToken"] = json!(token);
    }
    value
}
