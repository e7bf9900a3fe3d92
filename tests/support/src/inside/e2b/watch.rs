//! Watching directories: as a stream, or by a watcher that is asked.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use http::Response;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use super::connect::{self, ConnectError, Outcome};
use super::entry::{connect_error, describe};
use super::file_messages::{
    EventType, FilesystemEvent, WatchDirRequest, WatchDirResponse, WatchEvent, WatcherEvents,
    WatcherId,
};
use super::process_messages::Empty;
use super::spawn::resolve;
use super::{Envd, user};
use crate::wire::lock;

/// Silence after which a stream says that it lives, when the client names no interval.
const KEEPALIVE: Duration = Duration::from_secs(90);
/// Events that wait for a stream's client.
const EVENTS_MAX: usize = 64;

/// Between two looks for events: waiting for the descriptor would take `unsafe`.
const POLL: Duration = Duration::from_millis(20);

/// Watchers that are asked, by id.
#[derive(Default)]
pub(super) struct Watchers {
    all: Mutex<HashMap<String, Watcher>>,
}

struct Watcher {
    events: Arc<Mutex<Vec<FilesystemEvent>>>,
    task: tokio::task::JoinHandle<()>,
}

type Shared = State<Arc<Envd>>;

pub(super) async fn watch_dir(request: Request) -> Response<Body> {
    let headers = request.headers().clone();
    connect::server_stream(request, async move |codec, message: WatchDirRequest| {
        let interval = headers.get("keepalive-ping-interval");
        let interval = interval.and_then(|value| value.to_str().ok()?.parse().ok());
        let keepalive = interval.map_or(KEEPALIVE, Duration::from_secs);
        let mut watch = open(&message, &headers)?;
        let (sender, receiver) = mpsc::channel(EVENTS_MAX);
        tokio::spawn(async move {
            let mut event = WatchEvent::Start(Empty {});
            // Ends with the client, at the latest with the next sign of life.
            while sender.send(WatchDirResponse { event: Some(event) }).await.is_ok() {
                event = tokio::select! {
                    next = watch.next() => WatchEvent::Filesystem(Box::new(next)),
                    () = tokio::time::sleep(keepalive) => WatchEvent::Keepalive(Empty {}),
                    () = sender.closed() => return,
                };
            }
        });
        let events = ReceiverStream::new(receiver).map(move |event| codec.envelope(&event));
        Ok(events.chain(tokio_stream::once(connect::end_of_stream(None))))
    })
    .await
}

pub(super) async fn create(State(envd): Shared, request: Request) -> Response<Body> {
    let headers = request.headers().clone();
    connect::unary(request, async move |message: WatchDirRequest| {
        let mut watch = open(&message, &headers)?;
        let events: Arc<Mutex<Vec<_>>> = Arc::default();
        let seen = events.clone();
        let task = tokio::spawn(async move {
            loop {
                let event = watch.next().await;
                lock(&seen).push(event);
            }
        });
        let mut all = lock(&envd.watchers.all);
        let watcher_id = format!("watcher-{}", all.len());
        all.insert(watcher_id.clone(), Watcher { events, task });
        Ok(WatcherId { watcher_id })
    })
    .await
}

pub(super) async fn events(State(envd): Shared, request: Request) -> Response<Body> {
    connect::unary(request, async move |message: WatcherId| {
        let all = lock(&envd.watchers.all);
        let watcher = all.get(&message.watcher_id).ok_or_else(|| unknown(&message))?;
        let events = std::mem::take(&mut *lock(&watcher.events));
        Ok(WatcherEvents { events })
    })
    .await
}

pub(super) async fn remove(State(envd): Shared, request: Request) -> Response<Body> {
    connect::unary(request, async move |message: WatcherId| {
        let removed = lock(&envd.watchers.all).remove(&message.watcher_id);
        removed.ok_or_else(|| unknown(&message))?.task.abort();
        Ok(Empty {})
    })
    .await
}

fn unknown(watcher: &WatcherId) -> ConnectError {
    ConnectError::new("not_found", format!("watcher with id {} not found", watcher.watcher_id))
}

/// One watched directory, with those below it.
struct Watch {
    root: PathBuf,
    fd: OwnedFd,
    directories: HashMap<i32, PathBuf>,
    is_recursive: bool,
    has_entries: bool,
    waiting: std::collections::VecDeque<FilesystemEvent>,
}

fn open(message: &WatchDirRequest, headers: &http::HeaderMap) -> Outcome<Watch> {
    let root = resolve(&message.path, &user(headers)?);
    let metadata = std::fs::metadata(&root).map_err(|error| connect_error(&error, &root))?;
    if !metadata.is_dir() {
        let message = format!("path is not a directory: {}", root.display());
        return Err(ConnectError::new("invalid_argument", message));
    }
    let opened = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
    let opened = opened.map_err(io::Error::from);
    let internal = |error: io::Error| ConnectError::new("internal", error.to_string());
    let mut watch = Watch {
        root: root.clone(),
        fd: opened.map_err(internal)?,
        directories: HashMap::new(),
        is_recursive: message.recursive,
        has_entries: message.include_entry,
        waiting: Default::default(),
    };
    watch.add(&root).map_err(internal)?;
    Ok(watch)
}

impl Watch {
    fn add(&mut self, directory: &Path) -> io::Result<()> {
        let flags = WatchFlags::CREATE
            | WatchFlags::MODIFY
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::ATTRIB;
        let number = inotify::add_watch(&self.fd, directory, flags)?;
        self.directories.insert(number, directory.to_owned());
        if self.is_recursive {
            for entry in std::fs::read_dir(directory)?.flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    let _ = self.add(&entry.path());
                }
            }
        }
        Ok(())
    }

    async fn next(&mut self) -> FilesystemEvent {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return event;
            }
            tokio::time::sleep(POLL).await;
            self.read();
        }
    }

    fn read(&mut self) {
        let mut buffer = [MaybeUninit::uninit(); 8192];
        let mut seen = Vec::new();
        let mut reader = inotify::Reader::new(&self.fd, &mut buffer);
        while let Ok(event) = reader.next() {
            let name = event.file_name().map(|name| name.to_string_lossy().into_owned());
            seen.push((event.wd(), event.events(), name));
        }
        for (number, flags, name) in seen {
            let (Some(directory), Some(name)) = (self.directories.get(&number), name) else {
                continue;
            };
            let path = directory.join(name);
            if flags.contains(ReadFlags::CREATE | ReadFlags::ISDIR) && self.is_recursive {
                let _ = self.add(&path);
            }
            let kind = kind(flags);
            let name = path.strip_prefix(&self.root).unwrap_or(&path).to_string_lossy();
            let entry = self.has_entries.then(|| describe(&path).ok()).flatten();
            let event = FilesystemEvent { name: name.into_owned(), kind: kind.into(), entry };
            self.waiting.push_back(event);
        }
    }
}

fn kind(flags: ReadFlags) -> EventType {
    if flags.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO) {
        EventType::Create
    } else if flags.contains(ReadFlags::MODIFY) {
        EventType::Write
    } else if flags.contains(ReadFlags::DELETE) {
        EventType::Remove
    } else if flags.contains(ReadFlags::MOVED_FROM) {
        EventType::Rename
    } else if flags.contains(ReadFlags::ATTRIB) {
        EventType::Chmod
    } else {
        EventType::Unspecified
    }
}
