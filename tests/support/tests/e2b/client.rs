//! The least of an HTTP client, so that tests see what is on the wire.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use test_servers::e2b::{E2b, Options};

/// How long a condition may take until it holds.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(20);

/// Starts a server; none without docker.
pub(crate) fn server() -> Option<E2b> {
    let docker = Command::new("docker").arg("version").stdout(Stdio::null()).status();
    if !docker.is_ok_and(|status| status.success()) {
        let required = std::env::var("SKYNC_REQUIRE").unwrap_or_default();
        assert!(!required.contains("docker"), "there is no docker");
        println!("skipped: there is no docker");
        return None;
    }
    Some(E2b::start(Options::new(env!("CARGO_BIN_EXE_test-servers"))))
}

/// Writes one message of a stream.
pub(crate) fn envelope(message: &Value) -> Vec<u8> {
    let message = message.to_string();
    let mut bytes = vec![0];
    bytes.extend_from_slice(&(message.len() as u32).to_be_bytes());
    bytes.extend_from_slice(message.as_bytes());
    bytes
}

/// An HTTP answer, and its connection.
pub(crate) struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
    pub stream: TcpStream,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

/// A client of a server's API.
pub(crate) struct Client {
    address: String,
    key: String,
}

/// A sandbox that was created.
pub(crate) struct Sandbox {
    address: String,
    pub id: String,
    pub told: Value,
}

impl Client {
    pub(crate) fn new(server: &E2b) -> Self {
        Self { address: server.url().replace("http://", ""), key: server.key() }
    }

    /// Asks the API: a method and a path, and JSON.
    pub(crate) fn ask(&self, line: &str, body: &str) -> Answer {
        let headers = format!("X-API-Key: {}\r\nContent-Type: application/json\r\n", self.key);
        answer(send(&self.address, line, &headers, body.as_bytes()))
    }

    /// Asks the API under an idempotency key; none when the answer is lost.
    pub(crate) fn ask_once(&self, line: &str, key: &str, body: &str) -> Option<Answer> {
        let mut headers = format!("X-API-Key: {}\r\nIdempotency-Key: {key}\r\n", self.key);
        headers += "Content-Type: application/json\r\n";
        let stream = send(&self.address, line, &headers, body.as_bytes());
        let is_answered = matches!(stream.peek(&mut [0]), Ok(1..));
        is_answered.then(|| answer(stream))
    }

    pub(crate) fn create(&self, request: Value) -> Sandbox {
        self.create_by("POST /v2/sandboxes", request)
    }

    pub(crate) fn create_by(&self, line: &str, request: Value) -> Sandbox {
        let answer = self.ask(line, &request.to_string());
        assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
        let told = answer.json();
        let id = told["sandboxID"].as_str().expect("an id").to_owned();
        Sandbox { address: self.address.clone(), id, told }
    }
}

impl Sandbox {
    fn headers(&self, port: u16) -> String {
        let mut headers = format!("E2b-Sandbox-Id: {}\r\nE2b-Sandbox-Port: {port}\r\n", self.id);
        if let Some(token) = self.told["envdAccessToken"].as_str() {
            headers += &format!("X-Access-Token: {token}\r\n");
        }
        headers
    }

    /// Asks envd.
    pub(crate) fn envd(&self, line: &str, headers: &str, body: &[u8]) -> Answer {
        answer(send(&self.address, line, &(self.headers(49983) + headers), body))
    }

    /// Makes a unary call.
    pub(crate) fn call(&self, name: &str, body: &str) -> Answer {
        let headers = "Content-Type: application/json\r\n";
        self.envd(&format!("POST /{name}"), headers, body.as_bytes())
    }

    /// Asks a port; of an upgraded connection, the rest is in `stream`.
    pub(crate) fn port(&self, port: u16, line: &str, headers: &str) -> Answer {
        answer(send(&self.address, line, &(self.headers(port) + headers), b""))
    }

    /// Runs a shell command.
    pub(crate) fn start(&self, command: &str, headers: &[(&str, &str)]) -> Stream {
        let mut stream = self.open("POST /process.Process/Start", headers);
        let process = json!({ "cmd": "/bin/sh", "args": ["-c", command] });
        stream.send(&envelope(&json!({ "process": process })));
        stream.finish();
        stream
    }

    /// Waits until something inside has written `done` to `/tmp/done`.
    pub(crate) fn wait_for_done(&self) {
        let deadline = Instant::now() + WAIT_MAX;
        while self.envd("GET /files?path=/tmp/done", "", b"").body != b"done\n" {
            assert!(Instant::now() < deadline, "the process does not go on");
        }
    }

    /// Follows a process.
    pub(crate) fn connect(&self, pid: &Value) -> Stream {
        let mut stream = self.open("POST /process.Process/Connect", &[]);
        stream.send(&envelope(&json!({ "process": { "pid": pid } })));
        stream.finish();
        stream
    }

    /// Opens a call whose request is a stream.
    pub(crate) fn open(&self, line: &str, headers: &[(&str, &str)]) -> Stream {
        let mut stream = connect(&self.address);
        let mut head = format!("{line} HTTP/1.1\r\nHost: {}\r\n", self.address);
        head += &self.headers(49983);
        head += "Content-Type: application/connect+json\r\nTransfer-Encoding: chunked\r\n";
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        stream.write_all((head + "\r\n").as_bytes()).expect("it is open");
        let reader = BufReader::new(stream.try_clone().expect("a second handle"));
        Stream { stream, reader, body: Vec::new(), has_head: false, is_over: false }
    }
}

/// A call with streams.
pub(crate) struct Stream {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
    body: Vec<u8>,
    has_head: bool,
    is_over: bool,
}

impl Stream {
    /// Sends a part of the request.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
        chunk.extend_from_slice(bytes);
        chunk.extend_from_slice(b"\r\n");
        self.stream.write_all(&chunk).expect("it is open");
    }

    /// Ends the request.
    pub(crate) fn finish(&mut self) {
        self.stream.write_all(b"0\r\n\r\n").expect("it is open");
    }

    /// Returns the next message, or none at the end, told or not.
    pub(crate) fn event(&mut self) -> Option<Value> {
        match self.next()? {
            (0, message) => Some(message),
            (_, message) => panic!("the stream ended: {message}"),
        }
    }

    /// Skips messages, and returns what the end says.
    pub(crate) fn last(&mut self) -> Value {
        loop {
            match self.next() {
                Some((0, _)) => {}
                Some((_, message)) => return message,
                None => panic!("the stream was cut"),
            }
        }
    }

    /// Whether the answer broke off.
    pub(crate) fn is_cut(&self) -> bool {
        !self.is_over
    }

    fn next(&mut self) -> Option<(u8, Value)> {
        if !self.has_head {
            let head = head(&mut self.reader);
            assert!(head.starts_with("HTTP/1.1 200"), "{head}");
            self.has_head = true;
        }
        while self.body.len() < 5 || self.body.len() < 5 + length(&self.body) {
            let piece = chunk(&mut self.reader)?;
            self.is_over = piece.is_empty();
            if self.is_over {
                return None;
            }
            self.body.extend_from_slice(&piece);
        }
        let rest = self.body.split_off(5 + length(&self.body));
        let whole = std::mem::replace(&mut self.body, rest);
        Some((whole[0], serde_json::from_slice(&whole[5..]).expect("JSON")))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

fn length(envelope: &[u8]) -> usize {
    u32::from_be_bytes([envelope[1], envelope[2], envelope[3], envelope[4]]) as usize
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the server listens");
    stream.set_read_timeout(Some(WAIT_MAX)).expect("a timeout can be set");
    stream
}

fn send(address: &str, line: &str, headers: &str, body: &[u8]) -> TcpStream {
    let mut stream = connect(address);
    let length = body.len();
    let head = format!("{line} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n");
    stream.write_all((head + headers + "\r\n").as_bytes()).expect("it is open");
    stream.write_all(body).expect("it is open");
    stream
}

fn answer(stream: TcpStream) -> Answer {
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    let head = head(&mut reader);
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let lower = head.to_ascii_lowercase();
    let mut body = Vec::new();
    if lower.contains("transfer-encoding: chunked") {
        while let Some(piece) = chunk(&mut reader).filter(|piece| !piece.is_empty()) {
            body.extend_from_slice(&piece);
        }
    } else if let Some((_, rest)) = lower.split_once("content-length: ") {
        let length = rest.split("\r\n").next().and_then(|text| text.parse().ok());
        body.resize(length.expect("a number"), 0);
        reader.read_exact(&mut body).expect("a whole body");
    }
    Answer { status, head, body, stream }
}

fn head(reader: &mut BufReader<TcpStream>) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).expect("an answer") > 0, "no answer: {head}");
    }
    head
}

/// Reads one chunk; an empty one is the end, and none a cut.
fn chunk(reader: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut line = String::new();
    if reader.read_line(&mut line).ok()? == 0 {
        return None;
    }
    let mut bytes = vec![0; usize::from_str_radix(line.trim(), 16).expect("a length")];
    reader.read_exact(&mut bytes).ok()?;
    reader.read_exact(&mut [0; 2]).ok()?;
    Some(bytes)
}
