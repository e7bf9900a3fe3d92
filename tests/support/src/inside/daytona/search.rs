//! Names and texts that are looked for, and texts that are replaced.

use std::fs;
use std::path::{Path, PathBuf};

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Query, State as Shared};
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Value, json};

use super::errors::ToolError;
use super::{Answer, Daemons, needed, parse};

type Pairs = Query<Vec<(String, String)>>;

/// All paths below a directory, or the path itself.
fn below(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![path.to_owned()];
    while let Some(path) = left.pop() {
        if fs::symlink_metadata(&path).is_ok_and(|facts| facts.is_dir()) {
            let entries = fs::read_dir(&path).into_iter().flatten().flatten();
            left.extend(entries.map(|entry| entry.path()));
        }
        found.push(path);
    }
    found.sort();
    found
}

/// Paths whose name matches a pattern of `*` and `?`.
pub(super) async fn search(Shared(daemon): Daemons, Query(pairs): Pairs) -> Answer {
    let dir = daemon.path(needed(&pairs, "path")?);
    let pattern = needed(&pairs, "pattern")?;
    fs::metadata(&dir).map_err(|error| ToolError::of_file(&dir, &error))?;
    let matches = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        fits(pattern.as_bytes(), name.as_bytes())
    };
    let files: Vec<PathBuf> = below(&dir).into_iter().filter(matches).collect();
    Ok(Json(json!({"files": files})).into_response())
}

fn fits(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern, name) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => (0..=name.len()).any(|at| fits(rest, &name[at..])),
        ([b'?', rest @ ..], [_, name @ ..]) => fits(rest, name),
        ([one, rest @ ..], [other, name @ ..]) if one == other => fits(rest, name),
        _ => false,
    }
}

/// Lines that have a text in them.
pub(super) async fn find(Shared(daemon): Daemons, Query(pairs): Pairs) -> Answer {
    let dir = daemon.path(needed(&pairs, "path")?);
    let pattern = needed(&pairs, "pattern")?;
    fs::metadata(&dir).map_err(|error| ToolError::of_file(&dir, &error))?;
    let mut found = Vec::new();
    for path in below(&dir) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let lines = text.lines().zip(1..).filter(|(line, _)| line.contains(pattern));
        found.extend(lines.map(|(line, at)| json!({"file": path, "line": at, "content": line})));
    }
    Ok(Json(found).into_response())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Replace {
    files: Vec<String>,
    pattern: String,
    new_value: String,
}

/// Replaces a text in files, and says of each how it went.
pub(super) async fn replace(Shared(daemon): Daemons, body: Bytes) -> Answer {
    let request: Replace = parse(&body)?;
    let results = request.files.iter().map(|name| {
        let path = daemon.path(name);
        match replace_in(&path, &request) {
            Ok(()) => json!({"file": name, "success": true}),
            Err(error) => json!({"file": name, "success": false, "error": error.to_string()}),
        }
    });
    Ok(Json(results.collect::<Vec<Value>>()).into_response())
}

#[expect(clippy::disallowed_methods, reason = "what the call is for, inside of a sandbox")]
fn replace_in(path: &Path, request: &Replace) -> std::io::Result<()> {
    let text = fs::read_to_string(path)?;
    fs::write(path, text.replace(&request.pattern, &request.new_value))
}
