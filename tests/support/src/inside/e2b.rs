//! E2B's envd, inside of a sandbox: processes and files for whoever has the sandbox's token.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, Response, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::reaper::Reaper;
use super::users::{self, User};
use connect::{ConnectError, Outcome};

mod connect;
mod entry;
mod file_messages;
mod files;
mod filesystem;
mod json;
mod process;
mod process_messages;
mod spawn;
mod table;
mod upload;
mod watch;

/// Names the quirks that are on, separated by commas. The part outside sets it on each request.
pub const QUIRKS_HEADER: &str = "x-inside-quirks";
/// The account that commands run as when the client names none.
const DEFAULT_USER: &str = "user";

/// What the part outside tells the part inside.
#[derive(Debug, Serialize, Deserialize)]
pub struct Config {
    /// What `X-Access-Token` has to be; none is asked for when it is absent.
    pub token: Option<String>,
    /// The version of envd that this one behaves as.
    pub version: String,
    /// Environment of all processes.
    pub env: HashMap<String, String>,
    /// Where commands run when the client does not say; the user's home when it is absent.
    pub workdir: Option<PathBuf>,
}

/// Deviations of envd that can be switched per request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quirk {
    /// StreamInput is not implemented.
    NoStreamInput,
    /// Streams carry no output, though the client is attached.
    LoseOutput,
    /// The disk is full: uploads end in 507.
    DiskFull,
    /// Only JSON is understood, as with clones of E2B: binary messages get 415.
    JsonOnly,
}

impl Quirk {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::NoStreamInput, Self::LoseOutput, Self::DiskFull, Self::JsonOnly];

    /// Returns its name in [`QUIRKS_HEADER`].
    pub fn name(self) -> &'static str {
        match self {
            Self::NoStreamInput => "no-stream-input",
            Self::LoseOutput => "lose-output",
            Self::DiskFull => "disk-full",
            Self::JsonOnly => "json-only",
        }
    }

    fn is_on(self, headers: &HeaderMap) -> bool {
        let names = headers.get(QUIRKS_HEADER).and_then(|names| names.to_str().ok());
        names.unwrap_or_default().split(',').any(|name| name == self.name())
    }
}

/// What all requests share.
struct Envd {
    token: Option<String>,
    version: (u32, u32, u32),
    env: HashMap<String, String>,
    workdir: Option<PathBuf>,
    table: table::Table,
    watchers: watch::Watchers,
}

impl Envd {
    fn is_at_least(&self, version: (u32, u32, u32)) -> bool {
        self.version >= version
    }
}

/// Returns the service that the part outside forwards to.
pub(super) fn router(config: Config, reaper: Reaper) -> io::Result<Router> {
    users::ensure(DEFAULT_USER, 1000, "/home/user")?;
    let version = version(&config.version);
    let manners = table::Manners {
        discards_output: version >= (0, 5, 19),
        keeps_ends: version >= (0, 6, 12),
    };
    let envd = Arc::new(Envd {
        token: config.token,
        version,
        env: config.env,
        workdir: config.workdir,
        table: table::Table::new(reaper, manners),
        watchers: watch::Watchers::default(),
    });
    let router = Router::new()
        .route("/health", get(StatusCode::NO_CONTENT))
        .route("/metrics", get(metrics))
        .route("/envs", get(envs))
        .route("/files", get(files::download).post(upload::upload))
        .route("/files/compose", post(upload::compose))
        .route("/process.Process/List", post(process::list))
        .route("/process.Process/Start", post(process::start))
        .route("/process.Process/Connect", post(process::connect))
        .route("/process.Process/Update", post(process::update))
        .route("/process.Process/SendInput", post(process::send_input))
        .route("/process.Process/StreamInput", post(process::stream_input))
        .route("/process.Process/SendSignal", post(process::send_signal))
        .route("/process.Process/CloseStdin", post(process::close_stdin))
        .route("/filesystem.Filesystem/Stat", post(filesystem::stat))
        .route("/filesystem.Filesystem/MakeDir", post(filesystem::make_dir))
        .route("/filesystem.Filesystem/ListDir", post(filesystem::list_dir))
        .route("/filesystem.Filesystem/Move", post(filesystem::rename))
        .route("/filesystem.Filesystem/Remove", post(filesystem::remove))
        .route("/filesystem.Filesystem/WatchDir", post(watch::watch_dir))
        .route("/filesystem.Filesystem/CreateWatcher", post(watch::create))
        .route("/filesystem.Filesystem/GetWatcherEvents", post(watch::events))
        .route("/filesystem.Filesystem/RemoveWatcher", post(watch::remove));
    // There is no limit for uploads.
    let router = router.layer(DefaultBodyLimit::disable());
    Ok(router.layer(middleware::from_fn_with_state(envd.clone(), guard)).with_state(envd))
}

/// Lets through what carries the sandbox's token.
async fn guard(State(envd): State<Arc<Envd>>, request: Request, next: Next) -> Response<Body> {
    let headers = request.headers();
    let given = headers.get("x-access-token").and_then(|token| token.to_str().ok());
    let is_open = request.uri().path() == "/health";
    if !is_open && envd.token.is_some() && given != envd.token.as_deref() {
        let message = "unauthorized access, please provide a valid access token or method \
                       signing if supported";
        return error(StatusCode::UNAUTHORIZED, message);
    }
    let path = request.uri().path();
    let needs_user = path == "/process.Process/Start" || path.starts_with("/filesystem.");
    if needs_user && !envd.is_at_least((0, 4, 0)) && !headers.contains_key(header::AUTHORIZATION) {
        return ConnectError::new("unauthenticated", "no user specified").unary();
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    if Quirk::JsonOnly.is_on(headers) && kind.is_some_and(|kind| kind.ends_with("proto")) {
        return StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response();
    }
    next.run(request).await
}

/// An error of what is not a Connect call: its code is a number.
fn error(status: StatusCode, message: &str) -> Response<Body> {
    let body = json!({ "code": status.as_u16(), "message": message });
    (status, axum::Json(body)).into_response()
}

/// Finds the account that a call is made for.
fn user(headers: &HeaderMap) -> Outcome<User> {
    let basic = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let basic = basic.and_then(|value| value.strip_prefix("Basic "));
    let decoded = basic.and_then(|value| STANDARD.decode(value.trim()).ok());
    let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    let name = text.as_deref().and_then(|text| text.split(':').next()).filter(|s| !s.is_empty());
    named_user(name)
}

fn named_user(name: Option<&str>) -> Outcome<User> {
    let name = name.unwrap_or(DEFAULT_USER);
    let unknown = || ConnectError::new("unauthenticated", format!("invalid username: '{name}'"));
    users::find(name).ok_or_else(unknown)
}

fn version(text: &str) -> (u32, u32, u32) {
    let mut numbers = text.split('.').map(|number| number.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    (next(), next(), next())
}

async fn envs(State(envd): State<Arc<Envd>>) -> Response<Body> {
    axum::Json(&envd.env).into_response()
}

async fn metrics() -> Response<Body> {
    let field = |name: &str| {
        let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name)).map(str::to_owned);
        let number = line.and_then(|line| line.split_ascii_whitespace().nth(1)?.parse().ok());
        number.unwrap_or(0_u64) * 1024
    };
    let (total, available, cache) = (field("MemTotal"), field("MemAvailable"), field("Cached"));
    let used = total.saturating_sub(available);
    let disk = rustix::fs::statvfs("/").ok();
    let blocks = |count: u64| disk.as_ref().map_or(0, |disk| count * disk.f_frsize);
    let (disk_total, disk_free) =
        disk.as_ref().map_or((0, 0), |disk| (blocks(disk.f_blocks), blocks(disk.f_bfree)));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let body = json!({
        "ts": now.map_or(0, |now| now.as_secs()),
        "cpu_count": std::thread::available_parallelism().map_or(1, usize::from),
        "cpu_used_pct": 1.5,
        "mem_total": total, "mem_used": used, "mem_cache": cache,
        "mem_total_mib": total >> 20, "mem_used_mib": used >> 20,
        "disk_total": disk_total, "disk_used": disk_total - disk_free,
    });
    axum::Json(body).into_response()
}
