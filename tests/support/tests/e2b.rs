//! What E2B's own SDK does not show of the E2B-compatible server: ends of streams, the protocol's
//! other forms, sockets, quirks. Everything else is judged by `sdk/e2b_judge.py`.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use client::{Client, WAIT_MAX, envelope, server};
use serde_json::json;
use test_servers::e2b::SandboxState;

#[path = "e2b/client.rs"]
mod client;

/// A server inside that upgrades, and sends every byte back in capitals.
const UPGRADING: &str = r"
import socket
s = socket.create_server(('127.0.0.1', 8123))
c, _ = s.accept()
c.recv(65536)
c.sendall(b'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n')
while d := c.recv(65536): c.sendall(d.upper())
";

#[test]
fn a_sandbox_ends_at_its_deadline_whatever_goes_on_in_it() {
    let Some(server) = server() else { return };
    let client = Client::new(&server);
    let sandbox = client.create(json!({ "templateID": "base", "timeout": 2 }));
    let mut stream = sandbox.start("while echo x; do sleep 0.1; done", &[]);
    assert!(stream.event().expect("a start")["event"]["start"]["pid"].is_u64());
    let begun = Instant::now();
    let last = stream.last();
    assert!(begun.elapsed() < Duration::from_secs(4), "the deadline is absolute");
    assert_eq!(last["error"]["code"], "unavailable", "{last}");
    let message = last["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("ended before the stream completed"), "{message}");
    let answer = sandbox.envd("GET /health", "", b"");
    assert_eq!(answer.status, 502);
    assert_eq!(
        answer.json(),
        json!({ "sandboxId": sandbox.id, "message": "The sandbox was not found", "code": 502 })
    );
    assert_eq!(client.ask(&format!("GET /sandboxes/{}", sandbox.id), "").status, 404);
    assert!(server.sandboxes().is_empty());
}

#[test]
fn a_killed_sandbox_may_also_just_cut_its_streams() {
    let Some(server) = server() else { return };
    let client = Client::new(&server);
    let sandbox = client.create(json!({ "templateID": "base" }));
    server.quirks().plain_cut(true);
    let mut stream = sandbox.start("sleep 100", &[]);
    stream.event().expect("a start");
    let path = format!("DELETE /sandboxes/{}", sandbox.id);
    assert_eq!(client.ask(&path, "").status, 204);
    assert!(stream.event().is_none(), "no end of the stream is told");
    assert!(stream.is_cut());
}

#[test]
fn input_flows_while_its_request_is_open() {
    let Some(server) = server() else { return };
    let client = Client::new(&server);
    let sandbox = client.create(json!({ "templateID": "base" }));
    let mut output = sandbox.start("cat", &[("Keepalive-Ping-Interval", "1")]);
    let pid = output.event().expect("a start")["event"]["start"]["pid"].clone();
    let select = json!({ "process": { "pid": pid } });
    let mut input = sandbox.open("POST /process.Process/StreamInput", &[]);
    input.send(&envelope(&json!({ "start": select })));
    for text in ["b25l", "dHdv"] {
        input.send(&envelope(&json!({ "data": { "input": { "stdin": text } } })));
        assert_eq!(output.event().expect("an echo")["event"]["data"]["stdout"], text);
    }
    assert_eq!(output.event().expect("a sign of life"), json!({ "event": { "keepalive": {} } }));
    input.finish();
    assert_eq!(input.event(), Some(json!({})));
    assert_eq!(input.last(), json!({}));
    let close = select.to_string();
    assert_eq!(sandbox.call("process.Process/CloseStdin", &close).status, 200);
    // A zero is left out.
    let end = json!({ "event": { "end": { "exited": true, "status": "exit status 0" } } });
    assert_eq!(output.event(), Some(end));
    assert_eq!(output.last(), json!({}));
    server.quirks().no_stream_input(true);
    let mut input = sandbox.open("POST /process.Process/StreamInput", &[]);
    input.finish();
    assert_eq!(input.last()["error"]["code"], "unimplemented");
}

#[test]
fn output_for_nobody_is_lost_and_the_end_is_told_late() {
    let Some(server) = server() else { return };
    let client = Client::new(&server);
    let sandbox = client.create(json!({ "templateID": "base" }));
    let mut stream = sandbox.start("read x; head -c 200000 /dev/zero; echo done >/tmp/done", &[]);
    let pid = stream.event().expect("a start")["event"]["start"]["pid"].clone();
    drop(stream);
    let input = json!({ "process": { "pid": pid }, "input": { "stdin": "Cg==" } }).to_string();
    assert_eq!(sandbox.call("process.Process/SendInput", &input).status, 200);
    // More than a pipe holds: it ends only because somebody reads.
    sandbox.wait_for_done();
    let mut stream = sandbox.connect(&pid);
    assert_eq!(stream.event(), Some(json!({ "event": { "start": { "pid": pid } } })));
    let event = stream.event().expect("the end");
    assert_eq!(event["event"]["end"]["exited"], true, "{event}");
    assert_eq!(stream.last(), json!({}));
}

#[test]
fn messages_may_be_binary() {
    let Some(server) = server() else { return };
    let client = Client::new(&server);
    let sandbox = client.create(json!({ "templateID": "base" }));
    // StartRequest { process: ProcessConfig { cmd: "echo", args: ["hello"] }, stdin: false }
    let start = b"\x0a\x0d\x0a\x04echo\x12\x05hello\x20\x00";
    let mut body = vec![0, 0, 0, 0, start.len() as u8];
    body.extend_from_slice(start);
    let headers = "Content-Type: application/connect+proto\r\n";
    let answer = sandbox.envd("POST /process.Process/Start", headers, &body);
    assert_eq!(answer.status, 200);
    // EventResponse { event: { data: { stdout: "hello\n" } } }
    let data = b"\x00\x00\x00\x00\x0c\x0a\x0a\x12\x08\x0a\x06hello\n";
    assert!(answer.body.windows(data.len()).any(|part| part == data), "{:?}", answer.body);
    assert!(answer.body.ends_with(b"\x02\x00\x00\x00\x02{}"), "{:?}", answer.body);
    server.quirks().json_only(true);
    assert_eq!(sandbox.envd("POST /process.Process/Start", headers, &body).status, 415);
}

#[test]
fn an_upgraded_connection_to_a_port_lasts_until_a_pause() {
    let Some(server) = server() else { return };
    let client = Client::new(&server);
    let network = json!({ "allowPublicTraffic": false });
    let sandbox = client.create(json!({ "templateID": "base", "network": network }));
    let token = sandbox.told["trafficAccessToken"].as_str().expect("a token").to_owned();
    let mut output = sandbox.start(&format!("exec python3 -c \"{UPGRADING}\""), &[]);
    output.event().expect("a start");
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let refused = sandbox.port(8123, "GET /agent", upgrade);
    assert!(refused.head.starts_with("HTTP/1.1 403"), "{}", refused.head);
    let token = format!("e2b-traffic-access-token: {token}\r\n{upgrade}");
    let mut upgraded = sandbox.port(8123, "GET /agent", &token);
    assert!(upgraded.head.starts_with("HTTP/1.1 101"), "{}", upgraded.head);
    upgraded.stream.write_all(b"hello").expect("it is open");
    let mut bytes = [0; 5];
    upgraded.stream.read_exact(&mut bytes).expect("an answer");
    assert_eq!(&bytes, b"HELLO");
    let path = format!("POST /sandboxes/{}/pause", sandbox.id);
    assert_eq!(client.ask(&path, "{}").status, 204);
    assert_eq!(client.ask(&path, "{}").status, 409);
    assert!(matches!(upgraded.stream.read(&mut bytes), Ok(0) | Err(_)), "a pause resets it");
    assert_eq!(server.sandboxes()[0].state, SandboxState::Paused);
}

#[test]
fn a_closed_port_is_told_with_its_number() {
    let Some(server) = server() else { return };
    let client = Client::new(&server);
    let sandbox = client.create(json!({ "templateID": "base" }));
    server.quirks().port_closed(true);
    let closed = sandbox.port(9000, "GET /", "Connection: close\r\n");
    assert!(closed.head.starts_with("HTTP/1.1 502"), "{}", closed.head);
    let message = "The sandbox is running but port is not open";
    let told = json!({ "sandboxId": sandbox.id, "message": message, "code": 502, "port": 9000 });
    assert_eq!(closed.json(), told);
    server.quirks().transitioning(1);
    assert_eq!(sandbox.envd("GET /health", "", b"").status, 409);
    assert_eq!(sandbox.envd("GET /health", "", b"").status, 204);
    assert_eq!(sandbox.envd("GET /init", "", b"").status, 404);
}

#[test]
fn an_older_server_has_the_old_routes_only() {
    let Some(server) = server() else { return };
    let client = Client::new(&server);
    server.quirks().v1_only(true);
    server.quirks().envd_version("0.5.0");
    let create = json!({ "templateID": "base", "secure": true }).to_string();
    assert_eq!(client.ask("POST /v2/sandboxes", &create).status, 404);
    let sandbox = client.create_by("POST /sandboxes", json!({ "templateID": "base" }));
    assert!(sandbox.told.get("envdAccessToken").is_none(), "it did not ask to be secured");
    let ends_at = server.sandboxes()[0].ends_at;
    let path = format!("/sandboxes/{}", sandbox.id);
    assert_eq!(client.ask(&format!("POST {path}/connect"), "{}").status, 400);
    assert_eq!(client.ask(&format!("POST {path}/connect"), r#"{"timeout":2}"#).status, 200);
    assert_eq!(server.sandboxes()[0].ends_at, ends_at, "it is never shortened");
    assert_eq!(client.ask(&format!("POST {path}/refreshes"), r#"{"duration":3601}"#).status, 400);
    assert_eq!(client.ask(&format!("POST {path}/refreshes"), r#"{"duration":60}"#).status, 204);
    assert!(server.sandboxes()[0].ends_at > ends_at + Duration::from_secs(40));
    // It lets processes wait for somebody who reads, and forgets them at their end. The pause is
    // for the server: until it has seen the end of the connection, there is somebody.
    let mut stream = sandbox.start("sleep 0.3; echo kept; echo done >/tmp/done", &[]);
    let pid = stream.event().expect("a start")["event"]["start"]["pid"].clone();
    drop(stream);
    sandbox.wait_for_done();
    let mut stream = sandbox.connect(&pid);
    stream.event().expect("a start");
    assert_eq!(stream.event().expect("output")["event"]["data"]["stdout"], "a2VwdAo=");
    assert_eq!(stream.last(), json!({}));
    assert_eq!(sandbox.connect(&pid).last()["error"]["code"], "not_found");
    let close = r#"{"process":{"pid":1}}"#;
    assert_eq!(sandbox.call("process.Process/CloseStdin", close).status, 501);
    let headers = "Content-Type: application/octet-stream\r\n";
    assert_eq!(sandbox.envd("POST /files?path=/tmp/a", headers, b"x").status, 400);
    server.quirks().fail_next(
        "GET /sandboxes",
        429,
        vec![("Retry-After".into(), "1".into())],
        String::new(),
        1,
    );
    let failed = client.ask("GET /sandboxes", "");
    assert!(failed.status == 429 && failed.head.to_ascii_lowercase().contains("retry-after: 1"));
    assert_eq!(client.ask("GET /sandboxes", "").status, 200);
    server.set_key("another");
    assert_eq!(client.ask("GET /sandboxes", "").status, 401);
}

#[test]
fn a_creation_whose_answer_was_lost_is_asked_for_again() {
    let Some(server) = server() else { return };
    let client = Client::new(&server);
    let request = json!({ "templateID": "base", "metadata": { "a": "b" } });
    server.quirks().lose_next("POST /v2/sandboxes", 1);
    assert!(client.ask_once("POST /v2/sandboxes", "key-1", &request.to_string()).is_none());
    let made = server.sandboxes();
    let again = client.ask_once("POST /v2/sandboxes", "key-1", &request.to_string());
    let again = again.expect("an answer");
    assert_eq!(again.status, 201);
    assert_eq!(again.json()["sandboxID"], made[0].id);
    assert_eq!(server.sandboxes(), made);
    let other = client.ask_once("POST /v2/sandboxes", "key-1", r#"{"templateID":"base"}"#);
    let other = other.expect("an answer");
    assert_eq!(other.status, 422);
    assert_eq!(other.json()["error_code"], "idempotency_request_mismatch");
}

#[test]
fn uploads_fail_on_a_full_disk_and_over_a_running_program() {
    let Some(server) = server() else { return };
    let client = Client::new(&server);
    let sandbox = client.create(json!({ "templateID": "base" }));
    // As root, or envd could not see what runs: it may not trace.
    let root = ("Authorization", "Basic cm9vdDo=");
    let mut stream = sandbox.start("cp /bin/sleep /tmp/own && exec /tmp/own 100", &[root]);
    let pid = stream.event().expect("a start")["event"]["start"]["pid"].clone();
    let program = json!({ "path": format!("/proc/{pid}/exe") }).to_string();
    let deadline = Instant::now() + WAIT_MAX;
    while sandbox.call("filesystem.Filesystem/Stat", &program).json()["entry"]["symlinkTarget"]
        != "/tmp/own"
    {
        assert!(Instant::now() < deadline, "the program does not start");
    }
    let headers = "Content-Type: application/octet-stream\r\n";
    assert_eq!(sandbox.envd("POST /files?path=/tmp/own", headers, b"x").status, 500);
    server.quirks().disk_full(true);
    let body = vec![7; 3_000_000];
    assert_eq!(sandbox.envd("POST /files?path=/tmp/b", headers, &body).status, 507);
}
