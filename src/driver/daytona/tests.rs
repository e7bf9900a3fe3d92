//! What is said to Daytona where what a session has is at stake: against a server that answers as
//! each test says, since no real one can be had into these states.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::credentials::{EVERY_PROFILE, Login, Secret, file};
use crate::driver::AgentBinary;

const SESSION: &str = "0123456789abcdef";
const NAME: &str = "skync-0123456789abcdef";

/// A request that came.
#[derive(Clone, Debug)]
struct Asked {
    /// Its method and path.
    what: String,
    /// The key that it came with.
    key: String,
    body: Value,
}

/// A status and a body; nothing where the connection is to break.
type Said = Option<(u16, String)>;

/// A server that speaks as it is told to.
struct Server {
    url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    async fn start(answer: impl Fn(&str, &Asked) -> Said + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (own, all, answer) = (url.clone(), Arc::clone(&asked), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (own, all, answer) = (own.clone(), Arc::clone(&all), Arc::clone(&answer));
                tokio::spawn(async move {
                    let _ = Self::serve(stream, &all, |one| answer(&own, one)).await;
                });
            }
        });
        Self { url, asked }
    }

    async fn serve(
        mut stream: TcpStream,
        all: &Mutex<Vec<Asked>>,
        answer: impl Fn(&Asked) -> Said,
    ) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        let (head, body) = loop {
            if stream.read_buf(&mut bytes).await? == 0 {
                return Ok(());
            }
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = field(head, "content-length").parse().unwrap_or(0);
            if body.len() >= length {
                break (head.to_owned(), body.to_owned());
            }
        };
        let what = head.lines().next().unwrap_or_default();
        let one = Asked {
            what: what.trim_end_matches(" HTTP/1.1").to_owned(),
            key: field(&head, "authorization").trim_start_matches("Bearer ").to_owned(),
            body: serde_json::from_str(&body).unwrap_or_default(),
        };
        let said = answer(&one);
        all.lock().unwrap_or_else(PoisonError::into_inner).push(one);
        let Some((status, body)) = said else { return Ok(()) };
        let length = body.len();
        let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n");
        stream.write_all(format!("{head}Connection: close\r\n\r\n{body}").as_bytes()).await
    }

    /// A driver that speaks with it, and with `home` as where logins are.
    fn driver(&self, home: Option<&Path>) -> Daytona {
        let url = format!("{}/api", self.url);
        let variables = [("DAYTONA_API_KEY", "key"), ("DAYTONA_API_URL", &url)];
        Daytona::new(&DaytonaConfig::default(), Surroundings::of(&variables, home))
    }

    /// How often something was asked, by its beginning.
    fn count(&self, what: &str) -> usize {
        self.asked().iter().filter(|one| one.what.starts_with(what)).count()
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn field<'a>(head: &'a str, name: &str) -> &'a str {
    let pairs = head.lines().filter_map(|line| line.split_once(": "));
    pairs.into_iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
}

/// An error as the API writes it.
fn error(status: u16, message: &str) -> Said {
    let body = json!({ "statusCode": status, "error": "x", "message": message });
    Some((status, body.to_string()))
}

/// The session's sandbox, with further labels.
fn sandbox(url: &str, labels: &Value) -> Value {
    let mut all = labels.clone();
    all[label::VERSION] = "1".into();
    all[label::SESSION] = SESSION.into();
    json!({ "id": "old", "name": NAME, "state": "started", "labels": all,
        "autoDeleteInterval": 0, "toolboxProxyUrl": format!("{url}/toolbox") })
}

fn old(url: &str) -> Said {
    Some((200, sandbox(url, &json!({})).to_string()))
}

struct NoAgents;

impl AgentSource for NoAgents {
    fn agent(&self, _: &str) -> Result<AgentBinary, DriverError> {
        Err(DriverError::new(ErrorKind::NoAgent, "none"))
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's own files")]
fn spec(runtime: &Path) -> SandboxSpec {
    std::fs::write(runtime.join("secret"), [7; 32]).expect("written");
    let labels = [(label::VERSION, "1"), (label::SESSION, SESSION)];
    SandboxSpec {
        session: SESSION.to_owned(),
        labels: labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        root: "/work/p".into(),
        lease: Duration::from_secs(60),
        runtime: runtime.to_owned(),
        preparation: None,
    }
}

fn recorded(spec: &SandboxSpec) -> Sandbox {
    let (labels, root) = (spec.labels.clone(), spec.root.clone());
    Sandbox { id: "old".to_owned(), name: NAME.to_owned(), root, ephemeral: true, labels }
}

async fn create(driver: &Daytona, spec: &SandboxSpec) -> DriverError {
    let made = driver.create(spec, &LinkSecret([7; 32]), &NoAgents, &|_| {}).await;
    made.expect_err("there is no agent")
}

#[tokio::test]
async fn a_refusal_does_not_cost_the_sandbox_that_was_there() {
    for (status, message) in [
        (403, "Total CPU limit exceeded. Maximum allowed: 10."),
        (400, "Snapshot x not found. Did you add it?"),
    ] {
        let server = Server::start(move |url, asked| match asked.what.as_str() {
            "POST /api/sandbox" => error(status, message),
            _ => old(url),
        });
        let server = server.await;
        let runtime = tempfile::tempdir().expect("a directory");
        let error = create(&server.driver(None), &spec(runtime.path())).await;
        assert!(error.message.contains(message.trim_end_matches('.')), "{error}");
        assert_eq!(server.count("DELETE"), 0);
    }
}

#[tokio::test]
async fn what_was_there_before_an_unclear_creation_is_not_taken_for_what_it_made() {
    // What is found is older, or of this very creation.
    for is_of_it in [false, true] {
        // The connection breaks, or the server does.
        for status in [None, Some(500)] {
            let posted: Arc<Mutex<Value>> = Arc::default();
            let server = Server::start(move |url, asked| {
                let mut posted = posted.lock().expect("not poisoned");
                match asked.what.split_once(' ').expect("a method") {
                    ("POST", "/api/sandbox") => {
                        *posted = asked.body["labels"].clone();
                        status.map(|status| (status, String::new()))
                    }
                    ("DELETE", _) => error(500, "not now"),
                    (_, path) if path.starts_with("/toolbox") => error(401, "no"),
                    _ if is_of_it => Some((200, sandbox(url, &posted).to_string())),
                    _ => old(url),
                }
            });
            let server = server.await;
            let runtime = tempfile::tempdir().expect("a directory");
            let error = create(&server.driver(None), &spec(runtime.path())).await;
            assert_eq!(error.kind, ErrorKind::Auth, "{error}");
            assert_eq!(server.count("DELETE"), usize::from(is_of_it));
            assert_eq!(server.count("POST /api/sandbox"), 1);
            // Either is left: the session looks for it.
            assert!(error.unclear, "{error}");
            assert_eq!(error.hints.concat().contains("left behind"), is_of_it, "{error:?}");
        }
    }
}

#[tokio::test]
async fn a_sandbox_that_was_taken_over_in_vain_is_not_replaced_without_a_word() {
    let is_there = Arc::new(Mutex::new(old as fn(&str) -> Said));
    let look = Arc::clone(&is_there);
    let server = Server::start(move |url, asked| match asked.what.as_str() {
        "POST /api/sandbox" => error(403, "Total CPU limit exceeded"),
        "POST /toolbox/old/process/execute" => {
            let result = "skync alive=no there=yes port=0 oom=0\n";
            Some((200, json!({ "exitCode": 0, "result": result }).to_string()))
        }
        _ => look.lock().expect("not poisoned")(url),
    });
    let server = server.await;
    let runtime = tempfile::tempdir().expect("a directory");
    let (driver, spec) = (server.driver(None), spec(runtime.path()));
    let sandbox = recorded(&spec);
    let dead = driver.adopt(&sandbox, &spec).await.expect_err("its agent is dead");
    assert_eq!(dead.kind, ErrorKind::Gone);
    // It gets its agent back, or that is tried.
    create(&driver, &spec).await;
    assert_eq!(server.count("POST /api/sandbox"), 0);

    // Something in between is no proof.
    *is_there.lock().expect("not poisoned") = |_| Some((404, "<html>".to_owned()));
    let away = create(&driver, &spec).await;
    assert_eq!(away.kind, ErrorKind::Unreachable, "{away}");
    assert_eq!(driver.state(&sandbox).await.expect_err("away").kind, ErrorKind::Unreachable);

    *is_there.lock().expect("not poisoned") = |_| error(404, "Sandbox not found");
    for _ in 0..2 {
        let gone = create(&driver, &spec).await;
        assert_eq!(gone.kind, ErrorKind::Gone, "{gone}");
    }
    assert_eq!(server.count("POST /api/sandbox"), 0);
    assert_eq!(server.count("DELETE"), 0);
    // The session has seen it, and begins anew.
    assert_eq!(driver.state(&sandbox).await.expect("an answer"), SandboxState::Gone);
    assert_eq!(create(&driver, &spec).await.kind, ErrorKind::Exhausted);
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a test's own files")]
async fn a_newer_login_is_used_when_the_key_of_the_environment_is_refused() {
    let server = Server::start(|_, asked| match asked.key.as_str() {
        "new" => Some((200, json!({ "items": [] }).to_string())),
        _ => error(401, "Invalid credentials"),
    });
    let server = server.await;
    let home = tempfile::tempdir().expect("a directory");
    let driver = server.driver(Some(home.path()));
    let none = BTreeMap::new();
    assert_eq!(driver.find(&none).await.expect_err("refused").kind, ErrorKind::Auth);
    let login = json!({ "activeProfile": "a", "profiles": [
        { "id": "a", "name": "a", "api": { "url": format!("{}/api", server.url), "key": "new" } }] });
    std::fs::create_dir_all(home.path().join(".config/daytona")).expect("made");
    let file = home.path().join(".config/daytona/config.json");
    std::fs::write(file, login.to_string()).expect("written");
    for _ in 0..3 {
        driver.find(&none).await.expect("let in");
    }
    let keys: Vec<String> = server.asked().into_iter().map(|one| one.key).collect();
    // Who asks with a bad key again and again is shut out.
    assert_eq!(keys, ["key", "key", "key", "new", "new", "new"]);
}

#[tokio::test]
async fn a_key_that_is_refused_by_mistake_is_used_again() {
    let count = Mutex::new(0);
    let server = Server::start(move |_, _| {
        let mut count = count.lock().expect("not poisoned");
        *count += 1;
        match *count {
            1 => error(401, "Invalid credentials"),
            _ => Some((200, json!({ "items": [] }).to_string())),
        }
    });
    let server = server.await;
    server.driver(None).find(&BTreeMap::new()).await.expect("let in");
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a test's own files")]
async fn what_another_login_does_not_know_is_not_gone() {
    let server = Server::start(|_, asked| match asked.key.as_str() {
        "new" if asked.what.contains("/sandbox/") => error(404, "Sandbox not found"),
        "new" => Some((200, json!({ "items": [] }).to_string())),
        _ => error(401, "Invalid credentials"),
    });
    let server = server.await;
    let home = tempfile::tempdir().expect("a directory");
    let login = json!({ "activeProfile": "a", "profiles": [
        { "id": "a", "name": "a", "api": { "url": format!("{}/api", server.url), "key": "new" } }] });
    std::fs::create_dir_all(home.path().join(".config/daytona")).expect("made");
    let file = home.path().join(".config/daytona/config.json");
    std::fs::write(file, login.to_string()).expect("written");
    let driver = server.driver(Some(home.path()));
    let runtime = tempfile::tempdir().expect("a directory");
    let sandbox = recorded(&spec(runtime.path()));
    for _ in 0..2 {
        let error = driver.state(&sandbox).await.expect_err("nobody knows");
        assert_eq!(error.kind, ErrorKind::Auth, "{error}");
        // From now on it is this login that is used.
        driver.find(&BTreeMap::new()).await.expect("let in");
    }
}

#[tokio::test]
async fn a_key_that_came_while_the_old_one_was_refused_is_not_blamed() {
    let home = tempfile::tempdir().expect("a directory");
    let around = move |url: &str, home: &Path| {
        Surroundings::of(&[("DAYTONA_API_URL", &format!("{url}/api"))], Some(home))
    };
    let put = move |url: &str, home: &Path, key: &str| {
        let around = around(url, home);
        let account = Provider::Daytona.account(&around, EVERY_PROFILE);
        file::put(&around, &account, &Login::of(Secret::new(key))).expect("written");
    };
    let place = home.path().to_owned();
    let server = Server::start(move |url, asked| match asked.key.as_str() {
        "new" => Some((200, json!({ "items": [] }).to_string())),
        _ => {
            put(url, &place, "new");
            error(401, "Invalid credentials")
        }
    });
    let server = server.await;
    put(&server.url, home.path(), "old");
    let driver = Daytona::new(&DaytonaConfig::default(), around(&server.url, home.path()));
    for _ in 0..2 {
        driver.find(&BTreeMap::new()).await.expect("let in");
    }
    let keys: Vec<String> = server.asked().into_iter().map(|one| one.key).collect();
    assert_eq!(keys, ["old", "old", "new", "new"]);
}

#[tokio::test]
async fn the_time_of_a_sandbox_becomes_shorter_again() {
    let server = Server::start(|url, asked| match asked.what.as_str() {
        "POST /toolbox/old/process/execute" => {
            let result = "skync alive=yes there=yes port=3000 oom=0\n";
            Some((200, json!({ "exitCode": 0, "result": result }).to_string()))
        }
        _ => old(url),
    });
    let server = server.await;
    let runtime = tempfile::tempdir().expect("a directory");
    let (driver, spec) = (server.driver(None), spec(runtime.path()));
    let sandbox = recorded(&spec);
    driver.adopt(&sandbox, &spec).await.expect("taken over");
    for minutes in [1, 10, 10, 1, 1] {
        let promised = driver.renew(&sandbox, Duration::from_secs(60 * minutes)).await;
        assert_eq!(promised.expect("renewed"), Some(Duration::from_secs(60 * minutes)));
    }
    let asked = server.asked().into_iter();
    let set = asked.filter_map(|one| Some(one.what.split_once("/autostop/")?.1.to_owned()));
    assert_eq!(set.collect::<Vec<_>>(), ["1", "10", "1"]);
    assert_eq!(server.count("POST /api/sandbox/old/last-activity"), 5);
}

#[test]
fn a_time_is_rounded_up_to_minutes() {
    for (ms, expected) in [(0, 1), (1, 1), (60_000, 1), (60_001, 2), (119_000, 2), (600_000, 10)] {
        assert_eq!(minutes(Duration::from_millis(ms)), expected, "{ms}");
    }
}
