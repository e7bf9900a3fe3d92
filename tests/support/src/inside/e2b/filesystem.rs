//! `filesystem.Filesystem`: the calls by which clients look at files and move them.

use std::path::{Path, PathBuf};

use axum::body::Body;
use axum::extract::Request;
use http::Response;

use super::connect::{self, ConnectError, Outcome};
use super::entry::{connect_error, describe, make_dirs};
use super::file_messages::{
    EntryInfo, EntryResponse, ListDirRequest, ListDirResponse, MoveRequest, PathRequest,
};
use super::process_messages::Empty;
use super::spawn::resolve;
use super::user;

pub(super) async fn stat(request: Request) -> Response<Body> {
    let headers = request.headers().clone();
    connect::unary(request, async move |message: PathRequest| {
        let path = resolve(&message.path, &user(&headers)?);
        entry(&path)
    })
    .await
}

fn entry(path: &Path) -> Outcome<EntryResponse> {
    let entry = describe(path).map_err(|error| connect_error(&error, path))?;
    Ok(EntryResponse { entry: Some(entry) })
}

pub(super) async fn make_dir(request: Request) -> Response<Body> {
    let headers = request.headers().clone();
    connect::unary(request, async move |message: PathRequest| {
        let user = user(&headers)?;
        let path = resolve(&message.path, &user);
        if path.is_dir() {
            let message = format!("directory already exists: {}", path.display());
            return Err(ConnectError::new("already_exists", message));
        }
        if path.exists() {
            let message = format!("path already exists but it is not a directory: {path:?}");
            return Err(ConnectError::new("invalid_argument", message));
        }
        make_dirs(&path, user.uid, user.gid).map_err(|error| connect_error(&error, &path))?;
        entry(&path)
    })
    .await
}

pub(super) async fn list_dir(request: Request) -> Response<Body> {
    let headers = request.headers().clone();
    connect::unary(request, async move |message: ListDirRequest| {
        let path = resolve(&message.path, &user(&headers)?);
        let metadata = std::fs::metadata(&path).map_err(|error| connect_error(&error, &path))?;
        if !metadata.is_dir() {
            let message = format!("path is not a directory: {}", path.display());
            return Err(ConnectError::new("invalid_argument", message));
        }
        let mut entries = Vec::new();
        list(&path, message.depth.max(1), &mut entries)?;
        Ok(ListDirResponse { entries })
    })
    .await
}

/// Lists a directory in the order of its names, each directory before what is in it.
fn list(path: &Path, depth: u32, entries: &mut Vec<EntryInfo>) -> Outcome<()> {
    let read = std::fs::read_dir(path).map_err(|error| connect_error(&error, path))?;
    let mut paths: Vec<PathBuf> = read.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    for path in paths {
        // What is removed meanwhile is left out.
        let Ok(entry) = describe(&path) else { continue };
        let is_dir = std::fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir());
        entries.push(entry);
        if is_dir && depth > 1 {
            list(&path, depth - 1, entries)?;
        }
    }
    Ok(())
}

pub(super) async fn rename(request: Request) -> Response<Body> {
    let headers = request.headers().clone();
    connect::unary(request, async move |message: MoveRequest| {
        let user = user(&headers)?;
        let source = resolve(&message.source, &user);
        let destination = resolve(&message.destination, &user);
        if let Some(parent) = destination.parent() {
            make_dirs(parent, user.uid, user.gid).map_err(|error| connect_error(&error, parent))?;
        }
        let renamed = tokio::fs::rename(&source, &destination).await;
        renamed.map_err(|error| connect_error(&error, &source))?;
        entry(&destination)
    })
    .await
}

pub(super) async fn remove(request: Request) -> Response<Body> {
    let headers = request.headers().clone();
    connect::unary(request, async move |message: PathRequest| {
        let path = resolve(&message.path, &user(&headers)?);
        let removed = match std::fs::symlink_metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(metadata) if metadata.is_dir() => tokio::fs::remove_dir_all(&path).await,
            Ok(_) => tokio::fs::remove_file(&path).await,
        };
        removed.map_err(|error| connect_error(&error, &path))?;
        Ok(Empty {})
    })
    .await
}
