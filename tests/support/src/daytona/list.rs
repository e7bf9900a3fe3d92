//! `GET /sandbox`: filters, order, pages.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{Query, State as Shared};
use axum::response::IntoResponse;
use serde_json::{Value, json};

use super::Pairs;
use super::api::Answer;
use super::errors::ApiError;
use super::model::{Sandbox, State};
use super::world::World;

/// The most that one page has.
const LIMIT_MAX: usize = 200;

/// What a request asks for.
#[derive(Default)]
struct Wanted {
    limit: usize,
    from: usize,
    name: String,
    id: String,
    labels: BTreeMap<String, String>,
    states: Vec<String>,
    snapshots: Vec<String>,
    sort: String,
    ascending: bool,
}

pub(crate) async fn list(Shared(world): Shared<Arc<World>>, Query(pairs): Pairs) -> Answer {
    let wanted = parse(pairs)?;
    let mut all: Vec<Sandbox> =
        world.all().into_iter().filter(|sandbox| is_wanted(sandbox, &wanted)).collect();
    all.sort_by(|one, other| match &*wanted.sort {
        "name" => one.name.cmp(&other.name),
        "lastActivityAt" => one.active.cmp(&other.active),
        _ => one.created.cmp(&other.created),
    });
    if !wanted.ascending {
        all.reverse();
    }
    let end = wanted.from.saturating_add(wanted.limit);
    let next = if end < all.len() { json!(format!("c{end}")) } else { Value::Null };
    let page = all.iter().skip(wanted.from).take(wanted.limit);
    let items: Vec<Value> = page.map(|sandbox| sandbox.item(&world.base)).collect();
    Ok(Json(json!({"items": items, "nextCursor": next})).into_response())
}

fn parse(pairs: Vec<(String, String)>) -> Result<Wanted, ApiError> {
    let mut wanted = Wanted { limit: 100, ..Wanted::default() };
    for (name, value) in pairs {
        match &*name {
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
                wanted.limit = limit.ok_or_else(|| ApiError::bad("limit must be 1 to 200"))?;
            }
            "cursor" => {
                let from = value.strip_prefix('c').and_then(|from| from.parse().ok());
                wanted.from = from.ok_or_else(|| ApiError::bad("Invalid cursor"))?;
            }
            "name" => wanted.name = value,
            "id" => wanted.id = value,
            "labels" => {
                let labels = serde_json::from_str(&value);
                wanted.labels = labels.map_err(|_| ApiError::bad("Invalid labels JSON"))?;
            }
            "states" => wanted.states.push(value),
            "snapshots" => wanted.snapshots.push(value),
            "sort" => wanted.sort = value,
            "order" => wanted.ascending = value == "asc",
            _ => {}
        }
    }
    Ok(wanted)
}

fn is_wanted(sandbox: &Sandbox, wanted: &Wanted) -> bool {
    let has = |(name, value): (&String, &String)| sandbox.labels.get(name) == Some(value);
    let states = &wanted.states;
    let snapshots = &wanted.snapshots;
    sandbox.state != State::Destroyed
        && sandbox.listed_from <= Instant::now()
        && sandbox.name.starts_with(&wanted.name)
        && sandbox.id.starts_with(&wanted.id)
        && wanted.labels.iter().all(has)
        && (states.is_empty() || states.iter().any(|state| state == sandbox.state.as_str()))
        && (snapshots.is_empty() || sandbox.snapshot.iter().any(|name| snapshots.contains(name)))
}
