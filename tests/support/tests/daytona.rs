//! What Daytona's own SDK does not show of the Daytona-compatible server: clocks, lost replies,
//! sockets. Everything else is judged by `sdk/daytona_judge.py`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use test_servers::daytona::{Daytona, Options, State};

/// How long a condition may take until it holds.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// Starts a server whose minutes are short; none without docker.
fn server(minute: Duration) -> Option<Daytona> {
    let docker = Command::new("docker").arg("version").stdout(Stdio::null()).status();
    if !docker.is_ok_and(|status| status.success()) {
        let required = std::env::var("SKYNC_REQUIRE").unwrap_or_default();
        assert!(!required.contains("docker"), "there is no docker");
        println!("skipped: there is no docker");
        return None;
    }
    let mut options = Options::new(env!("CARGO_BIN_EXE_test-servers"));
    options.minute = minute;
    Some(Daytona::start(options))
}

/// An HTTP answer.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

fn open(server: &Daytona, line: &str, headers: &str, body: &str) -> TcpStream {
    let address = server.url().replace("http://", "");
    let mut stream = TcpStream::connect(&address).expect("the server listens");
    stream.set_read_timeout(Some(WAIT_MAX)).expect("a timeout can be set");
    let key = server.key();
    write!(
        stream,
        "{line} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {key}\r\n{headers}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("the request is sent");
    stream
}

/// Sends a request on a connection of its own; none when that ends without an answer.
fn ask(server: &Daytona, line: &str, body: &str) -> Option<Answer> {
    let mut stream = open(server, line, "Connection: close\r\n", body);
    let mut bytes = Vec::new();
    // A reset is no answer either.
    let _ = stream.read_to_end(&mut bytes);
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, head, body: bytes.split_off(end + 4) })
}

fn create(server: &Daytona, what: &Value) -> String {
    let answer = ask(server, "POST /api/sandbox", &what.to_string()).expect("an answer");
    assert_eq!(answer.status, 200, "{answer:?}");
    let id = answer.json()["id"].as_str().expect("an id").to_owned();
    until(|| state(server, &id) == State::Started);
    id
}

/// Opens a terminal's WebSocket.
fn terminal(server: &Daytona, id: &str) -> TcpStream {
    let headers = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let line = format!("GET /toolbox/{id}/process/pty/create-connect?id=t&cols=80&rows=24");
    open(server, &line, headers, "")
}

fn state(server: &Daytona, id: &str) -> State {
    let all = server.sandboxes();
    all.into_iter().find(|sandbox| sandbox.id == id).expect("the sandbox is known").state
}

#[track_caller]
fn until(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + WAIT_MAX;
    while !holds() {
        assert!(Instant::now() < deadline, "it does not become so");
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

#[test]
fn an_idle_sandbox_is_stopped_and_one_with_an_open_request_is_not() {
    let minute = Duration::from_millis(600);
    let Some(server) = server(minute) else { return };
    let id = create(&server, &json!({"autoStopInterval": 1}));
    let begun = Instant::now();
    let line = format!("POST /toolbox/{id}/process/execute");
    let answer = ask(&server, &line, r#"{"command": "sleep 2; echo done"}"#).expect("an answer");
    assert!(begun.elapsed() > minute * 3, "the request was open for longer than the interval");
    assert_eq!(state(&server, &id), State::Started);
    assert_eq!(answer.json()["result"], "done\n", "{answer:?}");
    // So does a WebSocket over which nothing goes.
    let open = terminal(&server, &id);
    let begun = Instant::now();
    until(|| begun.elapsed() > minute * 3);
    assert_eq!(state(&server, &id), State::Started);
    drop(open);
    until(|| state(&server, &id) == State::Stopped);

    let ephemeral = create(&server, &json!({"autoStopInterval": 1, "autoDeleteInterval": 0}));
    until(|| state(&server, &ephemeral) == State::Destroyed);
    let gone = ask(&server, &format!("GET /api/sandbox/{ephemeral}"), "").expect("an answer");
    assert_eq!(gone.status, 404, "{gone:?}");
}

#[test]
fn a_creation_whose_reply_is_lost_has_its_name_all_the_same() {
    let Some(server) = server(Duration::from_secs(60)) else { return };
    server.quirks().lose_create_reply(1);
    let body = r#"{"name": "mine"}"#;
    assert!(ask(&server, "POST /api/sandbox", body).is_none(), "the reply is lost");
    let again = ask(&server, "POST /api/sandbox", body).expect("an answer");
    assert_eq!(again.status, 409, "{again:?}");
    let found = ask(&server, "GET /api/sandbox/mine", "").expect("an answer");
    assert_eq!(found.json()["name"], "mine", "{found:?}");
    let lost: Vec<u16> = server.requests().iter().map(|request| request.status).collect();
    assert_eq!(lost, [0, 409, 200]);

    server.quirks().rate_limit("GET /api/sandbox", 3, 1);
    let limited = ask(&server, "GET /api/sandbox/mine", "").expect("an answer");
    assert_eq!(limited.status, 429, "{limited:?}");
    assert!(limited.head.contains("retry-after: 3"), "{limited:?}");
    server.quirks().fail_create(Some(("no runner", false)));
    let failed = ask(&server, "POST /api/sandbox", "{}").expect("an answer");
    let id = failed.json()["id"].as_str().expect("an id").to_owned();
    until(|| state(&server, &id) == State::Error);
    let failed = ask(&server, &format!("GET /api/sandbox/{id}"), "").expect("an answer");
    assert_eq!(failed.json()["errorReason"], "no runner", "{failed:?}");
}

/// Answers one upgrade and gives back what comes over it.
const ECHO: &str = r#"
import socket
listener = socket.create_server(("127.0.0.1", 8000))
while True:
    peer, _ = listener.accept()
    head = b""
    while b"\r\n\r\n" not in head:
        head += peer.recv(4096)
    if b"pgrade" not in head:
        peer.sendall(b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n")
        peer.close()
        continue
    peer.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    while data := peer.recv(4096):
        peer.sendall(data)
    peer.close()
"#;

#[test]
fn a_port_is_reached_by_upgrade_and_by_both_ways() {
    let Some(server) = server(Duration::from_secs(60)) else { return };
    server.quirks().toolbox_late(Some((2, 502)));
    let id = create(&server, &json!({}));
    let version = format!("GET /toolbox/{id}/version");
    let mut statuses = Vec::new();
    until(|| {
        statuses.push(ask(&server, &version, "").expect("an answer").status);
        statuses.last() == Some(&200)
    });
    assert_eq!(statuses, [502, 502, 200], "the toolbox is late");
    let command = format!("cat > echo.py <<'END'\n{ECHO}\nEND\nsetsid python3 echo.py >&- 2>&- &");
    let line = format!("POST /toolbox/{id}/process/execute");
    ask(&server, &line, &json!({"command": command}).to_string()).expect("an answer");
    let route = format!("/toolbox/{id}/proxy/8000/");
    until(|| ask(&server, &format!("GET {route}"), "").is_some_and(|it| it.status == 426));
    let link = ask(&server, &format!("GET /api/sandbox/{id}/ports/8000/preview-url"), "");
    let link = link.expect("an answer").json();
    let link = link["url"].as_str().expect("a url").replace(&server.url(), "");
    for way in [route, link] {
        let headers = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
        let mut stream = open(&server, &format!("GET {way}"), headers, "");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("the head of an answer");
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
        stream.write_all(b"\x00any bytes\xff").expect("it is open");
        let mut back = [0; 11];
        stream.read_exact(&mut back).expect("the same bytes");
        assert_eq!(&back, b"\x00any bytes\xff");
    }
    server.kill_daemon(&id);
    until(|| ask(&server, &version, "").is_some_and(|it| it.status == 502 && it.body.is_empty()));
    assert_eq!(state(&server, &id), State::Started);
}

#[test]
fn a_terminal_drops_who_does_not_read_it() {
    let Some(server) = server(Duration::from_secs(60)) else { return };
    let id = create(&server, &json!({}));
    let mut stream = terminal(&server, &id);
    // One frame of a client: final, text, masked with zeros.
    let typed = b"yes 0123456789012345678901234567890123456789; exit\n";
    let mask = [0x81, 0x80 | u8::try_from(typed.len()).expect("it is short"), 0, 0, 0, 0];
    stream.write_all(&[&mask[..], typed].concat()).expect("it is open");
    let before = server.wire().counts().bytes_down;
    until(|| server.wire().counts().bytes_down > before + (256 << 10));
    let mut last = server.wire().counts().bytes_down;
    let mut since = Instant::now();
    until(|| {
        let now = server.wire().counts().bytes_down;
        if now != last {
            (last, since) = (now, Instant::now());
        }
        since.elapsed() > Duration::from_millis(500)
    });
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    let end = [&[0x88, 15, 0x03, 0xf0][..], b"slow consumer"].concat();
    assert!(all.ends_with(&end), "{:?}", &all[all.len().saturating_sub(40)..]);
}
