//! Files one by one: lists, facts, folders, moves, permissions, removal.

use std::fs::{self, Metadata, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use axum::Json;
use axum::extract::{Query, State as Shared};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde_json::{Value, json};

use super::super::users;
use super::errors::ToolError;
use super::{Answer, Daemons, exists, needed, value};
use crate::daytona::clock;

type Pairs = Query<Vec<(String, String)>>;

/// The entries of a directory, as deep as it is asked for. Symlinks are followed; those that lead
/// nowhere are not there.
pub(super) async fn list(Shared(daemon): Daemons, Query(pairs): Pairs) -> Answer {
    let dir = daemon.path(value(&pairs, "path").unwrap_or(""));
    let depth = value(&pairs, "depth").map_or(Ok(1), str::parse::<u32>);
    let depth = depth.map_err(|_| ToolError::bad("depth must be a positive integer"))?;
    let mut entries = Vec::new();
    gather(&dir, depth.max(1), value(&pairs, "depth").is_some(), &mut entries)?;
    Ok(Json(entries).into_response())
}

fn gather(
    dir: &Path,
    depth: u32,
    with_path: bool,
    entries: &mut Vec<Value>,
) -> Result<(), ToolError> {
    let read = fs::read_dir(dir).map_err(|error| ToolError::of_file(dir, &error))?;
    let mut names: Vec<_> = read.flatten().map(|entry| entry.path()).collect();
    names.sort();
    for path in names {
        let Ok(facts) = fs::metadata(&path) else { continue };
        let mut value = view(&path, &facts);
        if with_path {
            value["path"] = json!(path);
        }
        entries.push(value);
        if facts.is_dir() && depth > 1 {
            gather(&path, depth - 1, with_path, entries)?;
        }
    }
    Ok(())
}

/// The facts of one file.
pub(super) async fn info(Shared(daemon): Daemons, Query(pairs): Pairs) -> Answer {
    let path = daemon.path(needed(&pairs, "path")?);
    let facts = fs::metadata(&path).map_err(|error| ToolError::of_file(&path, &error))?;
    Ok(Json(view(&path, &facts)).into_response())
}

fn view(path: &Path, facts: &Metadata) -> Value {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let changed = facts.modified().map(clock::iso).unwrap_or_default();
    json!({
        "name": name,
        "size": facts.len(),
        "mode": mode_text(facts),
        "modTime": changed,
        "modifiedAt": changed,
        "isDir": facts.is_dir(),
        "owner": facts.uid().to_string(),
        "group": facts.gid().to_string(),
        "permissions": format!("{:04o}", facts.mode() & 0o7777),
    })
}

/// A mode as `ls` and Go write it: `-rw-r--r--`, `drwxr-xr-x`.
fn mode_text(facts: &Metadata) -> String {
    let mode = facts.mode();
    let letters = "rwxrwxrwx".chars().enumerate();
    let kind = if facts.is_dir() { 'd' } else { '-' };
    let bits = letters.map(|(at, letter)| if mode >> (8 - at) & 1 == 1 { letter } else { '-' });
    std::iter::once(kind).chain(bits).collect()
}

/// Makes a directory and those above it.
pub(super) async fn folder(Shared(daemon): Daemons, Query(pairs): Pairs) -> Answer {
    let path = daemon.path(needed(&pairs, "path")?);
    let mode = mode(value(&pairs, "mode").unwrap_or("0755"))?;
    fs::create_dir_all(&path)
        .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(mode)))
        .map_err(|error| ToolError::of_file(&path, &error))?;
    Ok(StatusCode::CREATED.into_response())
}

fn mode(text: &str) -> Result<u32, ToolError> {
    u32::from_str_radix(text, 8).map_err(|_| ToolError::bad("invalid mode"))
}

/// Renames, unless something is in the way.
#[expect(clippy::disallowed_methods, reason = "what the call is for, inside of a sandbox")]
pub(super) async fn rename(Shared(daemon): Daemons, Query(pairs): Pairs) -> Answer {
    let from = daemon.path(needed(&pairs, "source")?);
    let to = daemon.path(needed(&pairs, "destination")?);
    fs::symlink_metadata(&from).map_err(|error| ToolError::of_file(&from, &error))?;
    if exists(&to) {
        return Err(ToolError::conflict("destination already exists"));
    }
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(|error| ToolError::of_file(parent, &error))?;
    }
    fs::rename(&from, &to).map_err(|error| ToolError::of_file(&from, &error))?;
    Ok(StatusCode::OK.into_response())
}

/// Sets mode, owner and group of one path.
pub(super) async fn permissions(Shared(daemon): Daemons, Query(pairs): Pairs) -> Answer {
    let path = daemon.path(needed(&pairs, "path")?);
    let failed = |error: std::io::Error| ToolError::of_file(&path, &error);
    fs::metadata(&path).map_err(failed)?;
    if let Some(text) = value(&pairs, "mode").filter(|text| !text.is_empty()) {
        fs::set_permissions(&path, Permissions::from_mode(mode(text)?)).map_err(failed)?;
    }
    let owner = value(&pairs, "owner").filter(|text| !text.is_empty()).map(number).transpose()?;
    let group = value(&pairs, "group").filter(|text| !text.is_empty()).map(number).transpose()?;
    if owner.is_some() || group.is_some() {
        chown(&path, owner, group).map_err(failed)?;
    }
    Ok(StatusCode::OK.into_response())
}

fn number(name: &str) -> Result<u32, ToolError> {
    let by_name = || users::find(name).map(|user| user.uid);
    name.parse().ok().or_else(by_name).ok_or_else(|| ToolError::bad("invalid owner or group"))
}

/// Removes a file, or a directory when that is said.
#[expect(clippy::disallowed_methods, reason = "what the call is for, inside of a sandbox")]
pub(super) async fn remove(Shared(daemon): Daemons, Query(pairs): Pairs) -> Answer {
    let path = daemon.path(needed(&pairs, "path")?);
    let failed = |error: std::io::Error| ToolError::of_file(&path, &error);
    let facts = fs::symlink_metadata(&path).map_err(failed)?;
    if !facts.is_dir() {
        fs::remove_file(&path).map_err(failed)?;
    } else if value(&pairs, "recursive") == Some("true") {
        fs::remove_dir_all(&path).map_err(failed)?;
    } else {
        return Err(ToolError::bad("cannot delete directory without recursive flag"));
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}
