//! E2B's control plane: sandboxes are made, found, kept and ended here.
//!
//! The second version of a route is asked for first. A server that has only the first says 404,
//! and is then asked by the first alone (`reference/e2b.md` §1.3).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{HeaderValue, Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::errors::{gone, refused, unreachable};
use super::settings::Settings;
use crate::config::OnTimeout;
use crate::credentials::Secret;
use crate::driver::http::{Answer, Client, Repeat, Request, encode, host_of, unique};
use crate::driver::{DriverError, ErrorKind, Usage};

/// Making and waking a sandbox can take so long where memory is read from a slow disk.
const SLOW_PATIENCE: Duration = Duration::from_secs(150);
/// Everything else.
const PATIENCE: Duration = Duration::from_secs(30);
/// Sandboxes of one page of a list.
const PAGE: usize = 100;
/// Pages that are read; nobody has more sandboxes.
const PAGES_MAX: usize = 100;
/// A sandbox is paused and woken within this.
const TRANSITION_TRIES: u32 = 15;
const TRANSITION_INTERVAL: Duration = Duration::from_secs(1);
/// The longest time that can be added at once.
const REFRESH_MAX: Duration = Duration::from_secs(3600);

/// What is needed to reach into a sandbox.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Access {
    #[serde(rename = "sandboxID")]
    pub(super) id: String,
    pub(super) envd_version: Option<String>,
    pub(super) domain: Option<String>,
    #[serde(default, deserialize_with = "secret")]
    pub(super) envd_access_token: Option<Secret>,
    /// For every port but envd's, if public traffic is off.
    #[serde(default, deserialize_with = "secret")]
    pub(super) traffic_access_token: Option<Secret>,
}

fn secret<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Secret>, D::Error> {
    Ok(Option::<String>::deserialize(from)?.map(Secret::new))
}

/// What the control plane says of a sandbox.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Detail {
    #[serde(rename = "sandboxID")]
    pub(super) id: String,
    pub(super) state: Option<String>,
    metadata: Option<BTreeMap<String, Value>>,
}

/// What E2B has measured of a sandbox at a time.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metric {
    cpu_count: f64,
    /// Of all of them together.
    cpu_used_pct: f64,
    mem_used: u64,
    mem_total: u64,
    disk_used: u64,
    disk_total: u64,
}

impl From<&Metric> for Usage {
    fn from(metric: &Metric) -> Self {
        // What a float cannot be (negative, not a number) becomes 0.
        let milli = |cpus: f64| (cpus * 1000.0).round() as u64;
        let used = metric.cpu_count * metric.cpu_used_pct / 100.0;
        Self {
            milli_cpus: (milli(used), milli(metric.cpu_count)),
            memory: (metric.mem_used, metric.mem_total),
            disk: (metric.disk_used, metric.disk_total),
        }
    }
}

impl Detail {
    pub(super) fn is_paused(&self) -> bool {
        self.state.as_deref() == Some("paused")
    }

    /// The labels it carries; what another tool has put there and is no text is left out.
    pub(super) fn labels(&self) -> BTreeMap<String, String> {
        let all = self.metadata.iter().flatten();
        all.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
    }
}

/// The control plane.
pub(super) struct Api<'a> {
    pub(super) client: &'a Client,
    pub(super) settings: &'a Settings,
    /// The server has no second version.
    pub(super) first_only: &'a AtomicBool,
}

impl Api<'_> {
    async fn send(&self, doing: &str, request: Request) -> Result<Answer, DriverError> {
        let request = request.header("accept", "application/json");
        let key = self.settings.key().await?;
        let mut answer = self.send_with(doing, &request, &key.login.token).await?;
        let is_replacement = || self.settings.is_replacement(&key);
        if says_gone(&answer) && is_replacement().await {
            return Ok(doubtful(answer));
        }
        if answer.status != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let refused = self.settings.refused();
        if refused.is_news(&key.login.token) {
            // It may have been refused by mistake, and another is not to be used for that.
            answer = self.send_with(doing, &request, &key.login.token).await?;
            if answer.status != StatusCode::UNAUTHORIZED {
                return Ok(answer);
            }
            // Unless somebody else has found a newer one while this was on its way.
            if self.settings.key().await?.login.token == key.login.token {
                self.settings.forget();
            }
        }
        let Some(other) = self.settings.other_key(&key).await else { return Ok(answer) };
        let second = self.send_with(doing, &request, &other.login.token).await?;
        if other.source != key.source && says_gone(&second) {
            return Ok(answer);
        }
        if second.status != StatusCode::UNAUTHORIZED {
            refused.replace(&key.login.token);
        }
        Ok(second)
    }

    /// Sends a request for a sandbox; one that is on its way from one state to another is waited for.
    async fn settled(&self, doing: &str, request: Request) -> Result<Answer, DriverError> {
        for _ in 0..TRANSITION_TRIES {
            let answer = self.send(doing, request.clone()).await?;
            if answer.status != StatusCode::CONFLICT || answer.field("error_code").is_some() {
                return Ok(answer);
            }
            tokio::time::sleep(TRANSITION_INTERVAL).await;
        }
        self.send(doing, request).await
    }

    async fn send_with(
        &self,
        doing: &str,
        request: &Request,
        key: &Secret,
    ) -> Result<Answer, DriverError> {
        let request = request.clone().secret("x-api-key", "", key);
        self.client
            .send(&request)
            .await
            .map_err(|trouble| unreachable(doing, host_of(&self.settings.api), &trouble))
    }

    fn request(&self, method: Method, path: &str) -> Request {
        Request::new(method, format!("{}{path}", self.settings.api)).patience(PATIENCE)
    }

    /// Asks by the second version, or by the first where there is no second: `route` is what
    /// comes behind `/v2`.
    async fn versioned(
        &self,
        doing: &str,
        route: &str,
        request: impl Fn(&str, bool) -> Request,
        is_unknown: impl Fn(&Answer) -> bool,
    ) -> Result<Answer, DriverError> {
        if !self.first_only.load(Ordering::Relaxed) {
            let answer = self.settled(doing, request(&format!("/v2{route}"), false)).await?;
            if !is_unknown(&answer) {
                return Ok(answer);
            }
            let older = self.settled(doing, request(route, true)).await?;
            if older.status.is_success() {
                self.first_only.store(true, Ordering::Relaxed);
            }
            // What a server of the second version says of the first helps nobody.
            return Ok(if is_unknown(&older) { answer } else { older });
        }
        self.settled(doing, request(route, true)).await
    }

    /// Makes a sandbox that lives for `time` if nobody renews it.
    ///
    /// # Errors
    /// What E2B says.
    pub(super) async fn create(
        &self,
        labels: &BTreeMap<String, String>,
        time: Duration,
    ) -> Result<Access, DriverError> {
        let template = self.settings.template();
        let doing = format!("make a sandbox of the template `{template}`");
        let unknown = |answer: &Answer| answer.status == StatusCode::NOT_FOUND;
        // An envd that is too old for it cannot close its ports; the link proves itself in any case.
        for is_closed in [true, false] {
            let key = format!("skync-{}", unique()?);
            let request = |path: &str, first: bool| {
                self.request(Method::POST, path)
                    .patience(SLOW_PATIENCE)
                    // The same for each time that this request is sent.
                    .header("idempotency-key", &key)
                    .repeat(if first { Repeat::Unless } else { Repeat::Always })
                    .json(&self.creation(labels, time, is_closed, first))
            };
            let answer = self.versioned(&doing, "/sandboxes", request, unknown).await?;
            let is_old = answer.words.contains("allowPublicTraffic");
            match answer.status {
                StatusCode::CREATED | StatusCode::OK => return answer.json("a creation"),
                StatusCode::BAD_REQUEST if is_closed && is_old => {}
                StatusCode::NOT_FOUND => {
                    return Err(refused(&doing, &answer)
                        .hint("`e2b template list` shows the templates that the key may use"));
                }
                _ => return Err(refused(&doing, &answer)),
            }
        }
        Err(DriverError::new(ErrorKind::Failed, format!("cannot {doing}")))
    }

    fn creation(
        &self,
        labels: &BTreeMap<String, String>,
        time: Duration,
        is_closed: bool,
        first: bool,
    ) -> Value {
        let config = &self.settings.config;
        let mut body = json!({
            "templateID": self.settings.template(),
            "timeout": time.as_secs(),
            "autoPause": config.on_timeout == OnTimeout::Pause,
            "metadata": labels,
            "envVars": {},
            "allow_internet_access": config.internet,
        });
        if is_closed {
            body["network"] = json!({ "allowPublicTraffic": false });
        }
        if first {
            // The second version always is.
            body["secure"] = Value::Bool(true);
        }
        body
    }

    /// Wakes a sandbox if it is paused, and has it live for `time` at least; what reaches it.
    ///
    /// # Errors
    /// [`ErrorKind::Gone`] if there is none.
    pub(super) async fn connect(&self, id: &str, time: Duration) -> Result<Access, DriverError> {
        let doing = format!("reach the sandbox `{id}`");
        let route = format!("/sandboxes/{id}/connect");
        let mut body = json!({ "timeout": time.as_secs() });
        loop {
            let request = |path: &str, _| {
                let request = self.request(Method::POST, path).patience(SLOW_PATIENCE);
                request.repeat(Repeat::Always).json(&body)
            };
            let unknown = |answer: &Answer| is_route_unknown(answer);
            let answer = self.versioned(&doing, &route, request, unknown).await?;
            let code = answer.field("error_code").unwrap_or_default();
            match answer.status {
                StatusCode::OK | StatusCode::CREATED => return answer.json("a connection"),
                StatusCode::NOT_FOUND if says_gone(&answer) => return Err(gone(id)),
                // Its memory cannot be used any more; its disk can.
                StatusCode::CONFLICT
                    if code == "sandbox_snapshot_guest_agent_unresponsive"
                        && body.get("memory").is_none() =>
                {
                    body["memory"] = Value::Bool(false);
                }
                _ => return Err(refused(&doing, &answer)),
            }
        }
    }

    /// What a sandbox is now; nothing if there is none.
    ///
    /// # Errors
    /// What E2B says.
    pub(super) async fn detail(&self, id: &str) -> Result<Option<(Detail, Access)>, DriverError> {
        let doing = format!("look at the sandbox `{id}`");
        let answer =
            self.send(&doing, self.request(Method::GET, &format!("/sandboxes/{id}"))).await?;
        match answer.status {
            StatusCode::OK => Ok(Some((answer.json("a look")?, answer.json("a look")?))),
            StatusCode::NOT_FOUND if says_gone(&answer) => Ok(None),
            _ => Err(refused(&doing, &answer)),
        }
    }

    /// Has a sandbox end `time` from now, also if that is sooner than it was to.
    ///
    /// # Errors
    /// [`ErrorKind::Gone`] if there is none.
    pub(super) async fn set_time(&self, id: &str, time: Duration) -> Result<(), DriverError> {
        let doing = format!("set the time of the sandbox `{id}`");
        let body = json!({ "timeout": time.as_secs() });
        let request = self.request(Method::POST, &format!("/sandboxes/{id}/timeout"));
        let answer = self.send(&doing, request.repeat(Repeat::Always).json(&body)).await?;
        match answer.status {
            status if status.is_success() => Ok(()),
            StatusCode::NOT_FOUND if says_gone(&answer) => Err(gone(id)),
            _ => Err(refused(&doing, &answer)),
        }
    }

    /// Has a sandbox live for `time` from now on at least.
    ///
    /// # Errors
    /// [`ErrorKind::Gone`] if there is none.
    pub(super) async fn refresh(&self, id: &str, time: Duration) -> Result<(), DriverError> {
        if time > REFRESH_MAX {
            return self.connect(id, time).await.map(drop);
        }
        let doing = format!("keep the sandbox `{id}`");
        let body = json!({ "duration": time.as_secs() });
        let request = self.request(Method::POST, &format!("/sandboxes/{id}/refreshes"));
        let answer = self.send(&doing, request.repeat(Repeat::Always).json(&body)).await?;
        match answer.status {
            status if status.is_success() => Ok(()),
            StatusCode::NOT_FOUND => Err(gone(id)),
            _ => Err(refused(&doing, &answer)),
        }
    }

    /// What a sandbox uses; nothing if that was not measured yet.
    ///
    /// # Errors
    /// What E2B says.
    pub(super) async fn metrics(&self, id: &str) -> Result<Option<Usage>, DriverError> {
        let doing = format!("look at what the sandbox `{id}` uses");
        let request = self.request(Method::GET, &format!("/sandboxes/{id}/metrics"));
        let answer = self.send(&doing, request).await?;
        match answer.status {
            StatusCode::OK => Ok(answer.json::<Vec<Metric>>("a look")?.last().map(Usage::from)),
            StatusCode::NOT_FOUND => Err(gone(id)),
            _ => Err(refused(&doing, &answer)),
        }
    }

    /// Ends a sandbox; one that is gone already is no error.
    ///
    /// # Errors
    /// What E2B says.
    pub(super) async fn kill(&self, id: &str) -> Result<(), DriverError> {
        let doing = format!("remove the sandbox `{id}`");
        let request = self.request(Method::DELETE, &format!("/sandboxes/{id}"));
        let answer = self.settled(&doing, request).await?;
        match answer.status {
            status if status.is_success() || status == StatusCode::NOT_FOUND => Ok(()),
            _ => Err(refused(&doing, &answer)),
        }
    }

    /// The sandboxes that carry all these labels, running or paused.
    ///
    /// # Errors
    /// What E2B says.
    pub(super) async fn list(
        &self,
        labels: &BTreeMap<String, String>,
    ) -> Result<Vec<Detail>, DriverError> {
        let doing = "list the sandboxes";
        let filter = filter(labels);
        let (mut found, mut next) = (Vec::new(), String::new());
        for _ in 0..PAGES_MAX {
            let query = match next.as_str() {
                "" => format!("?metadata={filter}&state=running,paused&limit={PAGE}"),
                next => {
                    let next = encode(next);
                    format!("?metadata={filter}&state=running,paused&limit={PAGE}&nextToken={next}")
                }
            };
            let request = |path: &str, first: bool| {
                let query = if first { format!("?metadata={filter}") } else { query.clone() };
                self.request(Method::GET, &format!("{path}{query}"))
            };
            let unknown = |answer: &Answer| answer.status == StatusCode::NOT_FOUND;
            let answer = self.versioned(doing, "/sandboxes", request, unknown).await?;
            match answer.status {
                status if status.is_success() => {}
                StatusCode::NOT_FOUND => {
                    return Err(refused(doing, &answer).hint(
                        "see whether E2B_API_URL or E2B_DOMAIN is the address of an API of E2B",
                    ));
                }
                _ => return Err(refused(doing, &answer)),
            }
            found.extend(answer.json::<Vec<Detail>>("a list")?);
            let token = answer.headers.get("x-next-token").and_then(|token| token.to_str().ok());
            match token.filter(|token| !token.is_empty()) {
                Some(token) => token.clone_into(&mut next),
                None => break,
            }
        }
        // A server may know nothing of the filter.
        found.retain(|one: &Detail| {
            let own = one.labels();
            labels.iter().all(|(key, value)| own.get(key) == Some(value))
        });
        Ok(found)
    }

    /// Whether a template is there, by its name or id; nothing if that cannot be asked.
    ///
    /// # Errors
    /// What E2B says to the key.
    pub(super) async fn has_template(&self, name: &str) -> Result<Option<bool>, DriverError> {
        let doing = "look at the templates";
        let name = encode(name);
        let request = self.request(Method::GET, &format!("/templates/aliases/{name}"));
        let answer = self.send(doing, request).await?;
        match answer.status {
            StatusCode::OK => Ok(Some(true)),
            StatusCode::UNAUTHORIZED => Err(refused(doing, &answer)),
            // It may be an id, which is no alias.
            StatusCode::NOT_FOUND => self.is_listed(&name).await,
            _ => Ok(None),
        }
    }

    async fn is_listed(&self, name: &str) -> Result<Option<bool>, DriverError> {
        let request = self.request(Method::GET, "/v2/templates?limit=100");
        let answer = self.send("list the templates", request).await?;
        let is_whole = answer.headers.get("x-next-token").is_none_or(HeaderValue::is_empty);
        let Ok(Value::Array(all)) = serde_json::from_slice(&answer.body) else { return Ok(None) };
        let mut ids = all.iter().filter_map(|one| one.get("templateID")?.as_str());
        match (answer.status, ids.any(|id| id == name)) {
            (StatusCode::OK, true) => Ok(Some(true)),
            (StatusCode::OK, false) if is_whole => Ok(Some(false)),
            _ => Ok(None),
        }
    }
}

/// True if it is the control plane that does not know the sandbox, as opposed to something in
/// between that does not know the control plane.
fn says_gone(answer: &Answer) -> bool {
    if answer.status != StatusCode::NOT_FOUND {
        return false;
    }
    let body: Option<Value> = serde_json::from_slice(&answer.body).ok();
    body.is_some_and(|body| body.get("code").and_then(Value::as_u64) == Some(404))
}

/// What is not there for a key that stands for another may be there for that one: it is not gone.
fn doubtful(answer: Answer) -> Answer {
    Answer { status: StatusCode::UNAUTHORIZED, ..answer }
}

/// True if the server does not know the route, as opposed to the sandbox.
fn is_route_unknown(answer: &Answer) -> bool {
    let names_sandbox = answer.words.to_lowercase().contains("sandbox");
    answer.status == StatusCode::NOT_FOUND && !names_sandbox
}

/// Labels as the list takes them: each part is encoded twice, since the server decodes the whole and
/// then the parts, and the whole once more as a part of a query.
fn filter(labels: &BTreeMap<String, String>) -> String {
    let pair = |(key, value): (&String, &String)| {
        format!("{}={}", encode(&encode(key)), encode(&encode(value)))
    };
    encode(&labels.iter().map(pair).collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_encoded_once_for_each_time_it_is_decoded() {
        let labels = BTreeMap::from([("a".to_owned(), "x y".to_owned())]);
        // Query, whole, part.
        assert_eq!(filter(&labels), "a%3Dx%252520y");
    }

    #[test]
    fn tokens_may_be_missing() {
        let json = r#"{"sandboxID":"i1","clientID":"c","envdVersion":"0.6.13","domain":null,
            "envdAccessToken":"abc","trafficAccessToken":null,"later":1}"#;
        let access: Access = serde_json::from_str(json).expect("an access");
        assert!(access.envd_access_token == Some(Secret::new("abc")));
        assert!(access.traffic_access_token.is_none());
    }
}
