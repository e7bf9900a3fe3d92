//! Switches for what the real service does only at times.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The switches of a server. All are off at the start; each setter holds from the next request on.
#[derive(Debug, Default)]
pub struct Quirks {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    planned: Vec<Planned>,
    slow_create: Option<Duration>,
    pull: bool,
    warm_pool: bool,
    fail_build: Option<String>,
    fail_create: Option<(String, bool)>,
    list_late: Duration,
    toolbox_late: Option<(u32, u16)>,
    no_port_proxy: bool,
    denied: Vec<String>,
}

/// Something that happens to the next requests that match.
#[derive(Debug)]
struct Planned {
    matcher: String,
    left: u32,
    fate: Fate,
}

/// What becomes of a request.
#[derive(Clone, Debug)]
pub(crate) enum Fate {
    /// It is not looked at; this is the answer.
    Fail { status: u16, headers: Vec<(String, String)>, body: String },
    /// It is done, and the connection ends in place of a reply.
    LoseReply,
    /// It is done twice.
    Replay,
    /// The connection ends and nothing was done.
    Drop,
}

impl Quirks {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers the next so many requests that match with this. The matcher is the beginning of
    /// `METHOD /path?query`, where `*` stands for anything; it ends with `$` to match the whole.
    pub fn fail_next(
        &self,
        matcher: &str,
        status: u16,
        headers: Vec<(String, String)>,
        body: String,
        times: u32,
    ) {
        self.plan(matcher, times, Fate::Fail { status, headers, body });
    }

    /// Does what the next so many requests that match want, and drops the connection in place of
    /// the reply.
    pub fn lose_reply(&self, matcher: &str, times: u32) {
        self.plan(matcher, times, Fate::LoseReply);
    }

    /// Drops the connection of the next so many requests that match; nothing is done.
    pub fn drop_next(&self, matcher: &str, times: u32) {
        self.plan(matcher, times, Fate::Drop);
    }

    /// Does twice what the next so many requests that match want, one after the other, and gives the
    /// second answer: as the proxy does with a small request over a connection that went stale.
    pub fn replay(&self, matcher: &str, times: u32) {
        self.plan(matcher, times, Fate::Replay);
    }

    /// Creates the next so many sandboxes and drops the connection in place of the reply.
    pub fn lose_create_reply(&self, times: u32) {
        self.lose_reply("POST /api/sandbox$", times);
    }

    /// Answers the next so many changes of a sandbox (start, stop, delete, labels, …) with 409
    /// "Sandbox state change in progress".
    pub fn busy(&self, times: u32) {
        let body = r#"{"statusCode":409,"error":"Conflict","message":"Sandbox state change in progress","code":"CONFLICT","source":"DAYTONA_API"}"#;
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        let fate = Fate::Fail { status: 409, headers, body: body.to_owned() };
        self.plan("!GET /api/sandbox/*", times, fate);
    }

    /// Answers the next so many requests that match with 429 and all that comes with it.
    pub fn rate_limit(&self, matcher: &str, retry_after_s: u32, times: u32) {
        let body = r#"{"statusCode":429,"error":"Too Many Requests","message":"Rate limit exceeded","code":"TOO_MANY_REQUESTS","source":"DAYTONA_API"}"#;
        let seconds = retry_after_s.to_string();
        let headers = [
            ("content-type", "application/json"),
            ("retry-after", &seconds),
            ("retry-after-authenticated", &seconds),
            ("x-ratelimit-limit-authenticated", "10000"),
            ("x-ratelimit-remaining-authenticated", "0"),
            ("x-ratelimit-reset-authenticated", &seconds),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        self.plan(matcher, times, Fate::Fail { status: 429, headers, body: body.to_owned() });
    }

    /// A sandbox comes up so much later, and the create request is held until then, at most 30 s;
    /// what it answers is still the sandbox as it was before the wait. `None`: at once.
    pub fn slow_create(&self, extra: Option<Duration>) {
        self.inner().slow_create = extra;
    }

    /// A creation from a snapshot answers when the sandbox is already `started`.
    pub fn warm_pool(&self, on: bool) {
        self.inner().warm_pool = on;
    }

    /// A creation from a snapshot passes `pulling_snapshot`.
    pub fn pull(&self, on: bool) {
        self.inner().pull = on;
    }

    /// Creations from an image end in `build_failed` with this reason.
    pub fn fail_build(&self, reason: Option<&str>) {
        self.inner().fail_build = reason.map(str::to_owned);
    }

    /// Creations and starts end in `error` with this reason; whether it is recoverable.
    pub fn fail_create(&self, reason: Option<(&str, bool)>) {
        self.inner().fail_create = reason.map(|(text, can)| (text.to_owned(), can));
    }

    /// Lists show a sandbox so long after its creation only.
    pub fn list_late(&self, delay: Duration) {
        self.inner().list_late = delay;
    }

    /// After each start the toolbox answers its first so many requests with this status: 502 (empty),
    /// 400 or 404.
    pub fn toolbox_late(&self, requests: Option<(u32, u16)>) {
        self.inner().toolbox_late = requests;
    }

    /// The toolbox knows no `/proxy/{port}`: 404, as if the path had gone away.
    pub fn no_port_proxy(&self, on: bool) {
        self.inner().no_port_proxy = on;
    }

    /// The API key lacks these permissions, of `write:sandboxes` and `delete:sandboxes`: 403.
    pub fn deny(&self, permissions: &[&str]) {
        self.inner().denied = permissions.iter().map(|&name| name.to_owned()).collect();
    }

    fn plan(&self, matcher: &str, left: u32, fate: Fate) {
        self.inner().planned.push(Planned { matcher: matcher.to_owned(), left, fate });
    }

    /// Takes the fate that is planned for a request.
    pub(crate) fn take_fate(&self, request: &str) -> Option<Fate> {
        let mut inner = self.inner();
        let at = inner
            .planned
            .iter()
            .position(|planned| planned.left > 0 && matches(&planned.matcher, request))?;
        let planned = &mut inner.planned[at];
        planned.left -= 1;
        let fate = planned.fate.clone();
        inner.planned.retain(|planned| planned.left > 0);
        Some(fate)
    }

    pub(crate) fn create_delay(&self) -> Option<Duration> {
        self.inner().slow_create
    }

    pub(crate) fn has_warm_pool(&self) -> bool {
        self.inner().warm_pool
    }

    pub(crate) fn pulls(&self) -> bool {
        self.inner().pull
    }

    pub(crate) fn build_failure(&self) -> Option<String> {
        self.inner().fail_build.clone()
    }

    pub(crate) fn create_failure(&self) -> Option<(String, bool)> {
        self.inner().fail_create.clone()
    }

    pub(crate) fn list_delay(&self) -> Duration {
        self.inner().list_late
    }

    pub(crate) fn toolbox_failures(&self) -> (u32, u16) {
        self.inner().toolbox_late.unwrap_or((0, 502))
    }

    pub(crate) fn has_port_proxy(&self) -> bool {
        !self.inner().no_port_proxy
    }

    pub(crate) fn is_denied(&self, permission: &str) -> bool {
        self.inner().denied.iter().any(|name| name == permission)
    }
}

/// Whether a request (`METHOD /path?query`) begins as the matcher says. `!GET` is every other
/// method.
fn matches(matcher: &str, request: &str) -> bool {
    let (matcher, request) = match matcher.strip_prefix('!') {
        None => (matcher, request),
        Some(rest) => {
            let (not, pattern) = rest.split_once(' ').unwrap_or((rest, ""));
            let (method, path) = request.split_once(' ').unwrap_or((request, ""));
            if method == not {
                return false;
            }
            (pattern, path)
        }
    };
    let (matcher, whole) = match matcher.strip_suffix('$') {
        Some(matcher) => (matcher, true),
        None => (matcher, false),
    };
    let mut parts = matcher.split('*');
    let Some(mut rest) = request.strip_prefix(parts.next().unwrap_or("")) else {
        return false;
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    !whole || rest.is_empty() || matcher.ends_with('*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matcher_is_a_beginning_with_stars() {
        assert!(matches("POST /api/sandbox", "POST /api/sandbox/x/start"));
        assert!(!matches("POST /api/sandbox$", "POST /api/sandbox/x/start"));
        assert!(matches("GET /toolbox/*/version", "GET /toolbox/abc/version?x=1"));
        assert!(!matches("GET /toolbox/*/version", "GET /toolbox/abc/work-dir"));
        assert!(matches("!GET /api/sandbox/*", "DELETE /api/sandbox/abc"));
        assert!(!matches("!GET /api/sandbox/*", "GET /api/sandbox/abc"));
    }
}
