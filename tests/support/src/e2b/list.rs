//! Looking at sandboxes: one, all by page, and their metrics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::IntoResponse;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::error::{Answer, ApiError};
use super::world::{Sandbox, SandboxState, World};
use crate::clock::{parse, rfc3339};

/// Sandboxes of one page at most, and when the client names no number.
const PAGE_MAX: usize = 100;
/// Sandboxes whose metrics are asked for at once.
const METRICS_MAX: usize = 100;

type Shared = State<Arc<World>>;
type Parameters = Query<Vec<(String, String)>>;

/// `GET /sandboxes/{id}`: with the token of envd, without that of the ports.
pub(super) async fn one(State(world): Shared, Path(id): Path<String>) -> Answer {
    let sandbox = world.find(&id).ok_or_else(|| ApiError::no_sandbox(&id))?;
    let mut value = listed(&sandbox);
    if let Some(token) = &sandbox.envd_token {
        value["envdAccessToken"] = json!(token);
    }
    value["domain"] = Value::Null;
    if let Some(allowed) = sandbox.wanted.allows_internet {
        value["allowInternetAccess"] = json!(allowed);
    }
    if let Some(network) = &sandbox.wanted.network {
        value["network"] = network.clone();
    }
    value["lifecycle"] = json!({
        "autoResume": sandbox.wanted.auto_resume,
        "onTimeout": if sandbox.wanted.auto_pause { "pause" } else { "kill" },
    });
    let life = sandbox.life();
    if life.state == SandboxState::Paused {
        value["pauseMode"] = json!(if life.is_disk_only { "filesystem" } else { "full" });
    }
    Ok(Json(value).into_response())
}

/// A sandbox without its tokens.
fn listed(sandbox: &Sandbox) -> Value {
    let life = sandbox.life();
    json!({
        "templateID": sandbox.wanted.template,
        "alias": sandbox.wanted.template,
        "sandboxID": sandbox.id,
        "clientID": "6532622b",
        "envdVersion": sandbox.envd_version,
        "startedAt": rfc3339(life.run_since),
        "endAt": rfc3339(life.ends_at),
        "cpuCount": 2,
        "memoryMB": 512,
        "diskSizeMB": 10_240,
        "state": life.state.name(),
        "metadata": sandbox.wanted.metadata,
        "volumeMounts": [],
    })
}

/// Which sandboxes are meant.
struct Filter {
    metadata: BTreeMap<String, String>,
    states: Vec<String>,
    template: Option<String>,
    started_after: Option<SystemTime>,
}

impl Filter {
    fn parse(parameters: &[(String, String)]) -> Result<Self, ApiError> {
        let mut metadata = BTreeMap::new();
        for pair in value(parameters, "metadata").map(unescape).iter().flat_map(|m| m.split('&')) {
            let wrong = || ApiError::new(400, format!("invalid metadata: {pair}"));
            let (key, value) = pair.split_once('=').ok_or_else(wrong)?;
            metadata.insert(unescape(key), unescape(value));
        }
        let states = parameters.iter().filter(|(name, _)| name == "state");
        let states = states.flat_map(|(_, states)| states.split(',')).map(str::to_owned).collect();
        let template = value(parameters, "template").map(str::to_owned);
        let started_after = value(parameters, "startedAfter").and_then(parse);
        Ok(Self { metadata, states, template, started_after })
    }

    fn includes(&self, sandbox: &Sandbox) -> bool {
        let own = &sandbox.wanted.metadata;
        let life = sandbox.life();
        self.metadata.iter().all(|(key, value)| own.get(key) == Some(value))
            && (self.states.is_empty() || self.states.iter().any(|s| s == life.state.name()))
            && self.template.as_ref().is_none_or(|template| *template == sandbox.wanted.template)
            && self.started_after.is_none_or(|after| life.run_since > after)
    }
}

fn value<'a>(parameters: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let mut values = parameters.iter().filter(|(other, value)| other == name && !value.is_empty());
    values.next().map(|(_, value)| value.as_str())
}

/// Decodes what is percent-encoded in a query, once.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let code = tail.get(..2).and_then(|code| std::str::from_utf8(code).ok());
        let code = code.and_then(|code| u8::from_str_radix(code, 16).ok());
        (rest, bytes) = match (first, code) {
            (b'%', Some(code)) => (&tail[2..], [bytes, vec![code]].concat()),
            (b'+', _) => (tail, [bytes, vec![b' ']].concat()),
            _ => (tail, [bytes, vec![first]].concat()),
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `GET /sandboxes`: what runs, all at once.
pub(super) async fn v1(State(world): Shared, Query(parameters): Parameters) -> Answer {
    let filter = Filter::parse(&parameters)?;
    let mut sandboxes = world.all();
    sandboxes.reverse();
    let is_meant = |sandbox: &&Arc<Sandbox>| {
        sandbox.life().state == SandboxState::Running && filter.includes(sandbox)
    };
    let values: Vec<_> = sandboxes.iter().filter(is_meant).map(|s| listed(s)).collect();
    Ok(Json(values).into_response())
}

/// `GET /v2/sandboxes`: running and paused, newest first, by page.
pub(super) async fn v2(State(world): Shared, Query(parameters): Parameters) -> Answer {
    let filter = Filter::parse(&parameters)?;
    let limit = match value(&parameters, "limit").map(str::parse::<usize>) {
        None => PAGE_MAX,
        Some(Ok(limit)) if (1..=PAGE_MAX).contains(&limit) => limit,
        Some(_) => return Err(ApiError::new(400, "limit must be between 1 and 100")),
    };
    let is_ascending = value(&parameters, "order") == Some("asc");
    let mut sandboxes = world.all();
    if !is_ascending {
        sandboxes.reverse();
    }
    let running = |sandbox: &&Arc<Sandbox>| sandbox.life().state == SandboxState::Running;
    let total_running = sandboxes.iter().filter(running).count();
    sandboxes.retain(|sandbox| filter.includes(sandbox));
    // A token names the last sandbox of its page, so that pages stay when others come and go.
    if let Some(token) = value(&parameters, "nextToken") {
        let last = place(token).ok_or_else(|| ApiError::new(400, "invalid nextToken"))?;
        sandboxes.retain(|sandbox| {
            let own = (micros(sandbox), sandbox.id.clone());
            if is_ascending { own > last } else { own < last }
        });
    }
    let is_last = sandboxes.len() <= limit;
    sandboxes.truncate(limit);
    let next = sandboxes
        .last()
        .filter(|_| !is_last)
        .map(|sandbox| URL_SAFE_NO_PAD.encode(format!("{}__{}", micros(sandbox), sandbox.id)));
    let values: Vec<_> = sandboxes.iter().map(|sandbox| listed(sandbox)).collect();
    let headers = [
        ("X-Next-Token", next.unwrap_or_default()),
        ("X-Total-Running", total_running.to_string()),
    ];
    Ok((headers, Json(values)).into_response())
}

fn micros(sandbox: &Sandbox) -> u128 {
    sandbox.life().created.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros())
}

fn place(token: &str) -> Option<(u128, String)> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
    let (micros, id) = text.split_once("__")?;
    Some((micros.parse().ok()?, id.to_owned()))
}

/// `GET /sandboxes/{id}/metrics`: one sample, of now. A paused sandbox has none.
pub(super) async fn metrics(State(world): Shared, Path(id): Path<String>) -> Answer {
    let sandbox = world.find(&id).ok_or_else(|| ApiError::no_sandbox(&id))?;
    let is_running = sandbox.life().state == SandboxState::Running;
    let samples: Vec<_> = is_running.then(sample).into_iter().collect();
    Ok(Json(samples).into_response())
}

/// `GET /sandboxes/metrics?sandbox_ids=a,b`.
pub(super) async fn all_metrics(State(world): Shared, Query(parameters): Parameters) -> Answer {
    let ids: Vec<_> = value(&parameters, "sandbox_ids").unwrap_or_default().split(',').collect();
    if ids.len() > METRICS_MAX {
        return Err(ApiError::new(400, format!("at most {METRICS_MAX} sandboxes at once")));
    }
    let found = ids.into_iter().filter(|id| world.find(id).is_some());
    let samples: serde_json::Map<_, _> = found.map(|id| (id.to_owned(), sample())).collect();
    Ok(Json(json!({ "sandboxes": samples })).into_response())
}

fn sample() -> Value {
    let now = SystemTime::now();
    let since = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    json!({
        "timestamp": rfc3339(now),
        "timestampUnix": since.as_secs(),
        "cpuCount": 2,
        "cpuUsedPct": 1.5,
        "memUsed": 64 << 20,
        "memTotal": 512 << 20,
        "memCache": 32 << 20,
        "diskUsed": 1_u64 << 30,
        "diskTotal": 10_u64 << 30,
    })
}
