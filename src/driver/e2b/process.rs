//! The messages of envd's `process.Process`, in both encodings that it offers: protobuf, which
//! carries bytes as they are, and JSON, which every server that is compatible with E2B speaks.
//!
//! JSON leaves out what is zero, so an exit code of 0 is one that is not there. Field numbers and
//! names: `reference/e2b.md` §2.3.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use prost::Message as _;
use serde_json::{Value, json};

use super::connect::ConnectError;

/// How messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codec {
    /// Protobuf.
    Proto,
    /// JSON.
    Json,
}

impl Codec {
    /// The content type of a unary call.
    pub(super) fn unary(self) -> &'static str {
        match self {
            Self::Proto => "application/proto",
            Self::Json => "application/json",
        }
    }

    /// The content type of a stream.
    pub(super) fn streaming(self) -> &'static str {
        match self {
            Self::Proto => "application/connect+proto",
            Self::Json => "application/connect+json",
        }
    }
}

/// A program to start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Program<'a> {
    pub(super) command: &'a str,
    pub(super) arguments: &'a [String],
    /// Its standard input stays open.
    pub(super) input: bool,
}

/// What happens to a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Started(u32),
    Output(Bytes),
    Error(Bytes),
    /// Its exit code; nothing if a signal ended it, and in words how it ended.
    Ended(Option<i32>, String),
    /// Nothing, or something that a later envd says.
    Other,
}

/// The protobuf messages, by hand: they are few, and the provider's own files need a compiler.
mod wire {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct StartRequest {
        #[prost(message, optional, tag = "1")]
        pub(super) process: Option<ProcessConfig>,
        #[prost(bool, optional, tag = "4")]
        pub(super) stdin: Option<bool>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ProcessConfig {
        #[prost(string, tag = "1")]
        pub(super) cmd: String,
        #[prost(string, repeated, tag = "2")]
        pub(super) args: Vec<String>,
        #[prost(string, optional, tag = "4")]
        pub(super) cwd: Option<String>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct StartResponse {
        #[prost(message, optional, tag = "1")]
        pub(super) event: Option<ProcessEvent>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ProcessEvent {
        #[prost(oneof = "Kind", tags = "1, 2, 3")]
        pub(super) kind: Option<Kind>,
    }
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub(super) enum Kind {
        #[prost(message, tag = "1")]
        Start(Started),
        #[prost(message, tag = "2")]
        Data(Data),
        #[prost(message, tag = "3")]
        End(End),
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Started {
        #[prost(uint32, tag = "1")]
        pub(super) pid: u32,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Data {
        #[prost(oneof = "Piece", tags = "1, 2")]
        pub(super) piece: Option<Piece>,
    }
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub(super) enum Piece {
        #[prost(bytes = "bytes", tag = "1")]
        Stdout(bytes::Bytes),
        #[prost(bytes = "bytes", tag = "2")]
        Stderr(bytes::Bytes),
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct End {
        #[prost(sint32, tag = "1")]
        pub(super) exit_code: i32,
        #[prost(bool, tag = "2")]
        pub(super) exited: bool,
        #[prost(string, tag = "3")]
        pub(super) status: String,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Selector {
        #[prost(uint32, optional, tag = "1")]
        pub(super) pid: Option<u32>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Input {
        #[prost(bytes = "bytes", optional, tag = "1")]
        pub(super) stdin: Option<bytes::Bytes>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct SendInput {
        #[prost(message, optional, tag = "1")]
        pub(super) process: Option<Selector>,
        #[prost(message, optional, tag = "2")]
        pub(super) input: Option<Input>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct StreamInput {
        #[prost(oneof = "StreamKind", tags = "1, 2, 3")]
        pub(super) kind: Option<StreamKind>,
    }
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub(super) enum StreamKind {
        #[prost(message, tag = "1")]
        Start(StreamStart),
        #[prost(message, tag = "2")]
        Data(StreamData),
        #[prost(message, tag = "3")]
        Keepalive(Keepalive),
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct StreamStart {
        #[prost(message, optional, tag = "1")]
        pub(super) process: Option<Selector>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct StreamData {
        #[prost(message, optional, tag = "2")]
        pub(super) input: Option<Input>,
    }
    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(super) struct Keepalive {}
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct SendSignal {
        #[prost(message, optional, tag = "1")]
        pub(super) process: Option<Selector>,
        #[prost(int32, tag = "2")]
        pub(super) signal: i32,
    }
}

/// `SIGNAL_SIGKILL`.
const SIGKILL: i32 = 9;

fn selector(pid: u32) -> Option<wire::Selector> {
    Some(wire::Selector { pid: Some(pid) })
}

/// The request of `Start`.
pub(super) fn start(codec: Codec, program: &Program<'_>) -> Vec<u8> {
    let Program { command, arguments, input } = *program;
    match codec {
        Codec::Proto => wire::StartRequest {
            process: Some(wire::ProcessConfig {
                cmd: command.to_owned(),
                args: arguments.to_vec(),
                cwd: Some("/".to_owned()),
            }),
            stdin: Some(input),
        }
        .encode_to_vec(),
        Codec::Json => {
            let process = json!({ "cmd": command, "args": arguments, "cwd": "/" });
            json!({ "process": process, "stdin": input }).to_string().into_bytes()
        }
    }
}

/// The request of `SendInput`.
pub(super) fn send_input(codec: Codec, pid: u32, bytes: &Bytes) -> Vec<u8> {
    match codec {
        Codec::Proto => {
            let input = Some(wire::Input { stdin: Some(bytes.clone()) });
            wire::SendInput { process: selector(pid), input }.encode_to_vec()
        }
        Codec::Json => {
            let input = json!({ "stdin": STANDARD.encode(bytes) });
            json!({ "process": { "pid": pid }, "input": input }).to_string().into_bytes()
        }
    }
}

/// The first message of `StreamInput`: data before it crashes the server's handler.
pub(super) fn stream_start(codec: Codec, pid: u32) -> Vec<u8> {
    match codec {
        Codec::Proto => {
            let kind = wire::StreamKind::Start(wire::StreamStart { process: selector(pid) });
            wire::StreamInput { kind: Some(kind) }.encode_to_vec()
        }
        Codec::Json => json!({ "start": { "process": { "pid": pid } } }).to_string().into_bytes(),
    }
}

/// A message of `StreamInput` with input.
pub(super) fn stream_data(codec: Codec, bytes: &Bytes) -> Vec<u8> {
    match codec {
        Codec::Proto => {
            let input = Some(wire::Input { stdin: Some(bytes.clone()) });
            let kind = wire::StreamKind::Data(wire::StreamData { input });
            wire::StreamInput { kind: Some(kind) }.encode_to_vec()
        }
        Codec::Json => {
            let input = json!({ "stdin": STANDARD.encode(bytes) });
            json!({ "data": { "input": input } }).to_string().into_bytes()
        }
    }
}

/// A message of `StreamInput` that only says that it lives.
pub(super) fn stream_keepalive(codec: Codec) -> Vec<u8> {
    match codec {
        Codec::Proto => {
            let kind = wire::StreamKind::Keepalive(wire::Keepalive {});
            wire::StreamInput { kind: Some(kind) }.encode_to_vec()
        }
        Codec::Json => br#"{"keepalive":{}}"#.to_vec(),
    }
}

/// The request of `SendSignal` that kills a process.
pub(super) fn kill(codec: Codec, pid: u32) -> Vec<u8> {
    match codec {
        Codec::Proto => {
            wire::SendSignal { process: selector(pid), signal: SIGKILL }.encode_to_vec()
        }
        Codec::Json => {
            let body = json!({ "process": { "pid": pid }, "signal": "SIGNAL_SIGKILL" });
            body.to_string().into_bytes()
        }
    }
}

/// Reads a message of `Start`'s or `Connect`'s answer.
///
/// # Errors
/// If it is none.
pub(super) fn event(codec: Codec, message: &Bytes) -> Result<Event, ConnectError> {
    let broken = || ConnectError::new("internal", "envd sends an event that cannot be understood");
    match codec {
        Codec::Proto => {
            let response = wire::StartResponse::decode(message.clone()).map_err(|_| broken())?;
            Ok(match response.event.and_then(|event| event.kind) {
                Some(wire::Kind::Start(started)) => Event::Started(started.pid),
                Some(wire::Kind::Data(data)) => match data.piece {
                    Some(wire::Piece::Stdout(bytes)) => Event::Output(bytes),
                    Some(wire::Piece::Stderr(bytes)) => Event::Error(bytes),
                    None => Event::Other,
                },
                Some(wire::Kind::End(end)) => {
                    Event::Ended(end.exited.then_some(end.exit_code), end.status)
                }
                None => Event::Other,
            })
        }
        Codec::Json => {
            let value: Value = serde_json::from_slice(message).map_err(|_| broken())?;
            json_event(&value["event"]).ok_or_else(broken)
        }
    }
}

fn json_event(event: &Value) -> Option<Event> {
    let bytes = |value: &Value| STANDARD.decode(value.as_str()?).ok().map(Bytes::from);
    if let Some(start) = event.get("start") {
        let pid = u32::try_from(start.get("pid")?.as_u64()?).ok()?;
        return Some(Event::Started(pid));
    }
    if let Some(data) = event.get("data") {
        return match (data.get("stdout"), data.get("stderr")) {
            (Some(output), _) => Some(Event::Output(bytes(output)?)),
            (None, Some(error)) => Some(Event::Error(bytes(error)?)),
            (None, None) => Some(Event::Other),
        };
    }
    let Some(end) = event.get("end") else { return Some(Event::Other) };
    let code = end.get("exitCode").and_then(Value::as_i64).unwrap_or(0);
    let exited = end.get("exited").and_then(Value::as_bool).unwrap_or(false);
    let status = end.get("status").and_then(Value::as_str).unwrap_or_default().to_owned();
    Some(Event::Ended(exited.then_some(i32::try_from(code).ok()?), status))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Event {
        event(Codec::Json, &Bytes::copy_from_slice(json.as_bytes())).expect("an event")
    }

    #[test]
    fn the_samples_of_the_reference_are_understood() {
        assert_eq!(read(r#"{"event":{"start":{"pid":812}}}"#), Event::Started(812));
        let output = Event::Output(Bytes::from("hey\0"));
        assert_eq!(read(r#"{"event":{"data":{"stdout":"aGV5AA=="}}}"#), output);
        assert_eq!(read(r#"{"event":{"keepalive":{}}}"#), Event::Other);
        let status = |text: &str| text.to_owned();
        assert_eq!(
            read(r#"{"event":{"end":{"exited":true,"status":"exit status 0"}}}"#),
            Event::Ended(Some(0), status("exit status 0"))
        );
        let seven = r#"{"event":{"end":{"exitCode":7,"exited":true,"status":"exit status 7","error":"e"}}}"#;
        assert_eq!(read(seven), Event::Ended(Some(7), status("exit status 7")));
        let killed = r#"{"event":{"end":{"exitCode":-1,"status":"signal: killed"}}}"#;
        assert_eq!(read(killed), Event::Ended(None, status("signal: killed")));
    }

    #[test]
    fn requests_are_the_samples_of_the_reference() {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        let bytes = Bytes::from_static(&[0, 1, 2]);
        let sent: Value =
            serde_json::from_slice(&send_input(Codec::Json, 812, &bytes)).expect("JSON");
        assert_eq!(sent, json!({"process":{"pid":812},"input":{"stdin":"AAEC"}}));
        assert_eq!(text(stream_start(Codec::Json, 812)), r#"{"start":{"process":{"pid":812}}}"#);
        let data = text(stream_data(Codec::Json, &bytes));
        assert_eq!(data, r#"{"data":{"input":{"stdin":"AAEC"}}}"#);
        // Fields 1 and 2, and below these 1 and 1: by the numbers of the reference.
        let proto = send_input(Codec::Proto, 812, &bytes);
        assert_eq!(proto, [0x0a, 3, 0x08, 0xac, 0x06, 0x12, 5, 0x0a, 3, 0, 1, 2]);
        let proto = stream_data(Codec::Proto, &bytes);
        assert_eq!(proto, [0x12, 7, 0x12, 5, 0x0a, 3, 0, 1, 2]);
    }

    #[test]
    fn an_event_of_protobuf_is_understood() {
        let ended = [0x0a, 6, 0x1a, 4, 0x08, 14, 0x10, 1];
        let ended = event(Codec::Proto, &Bytes::copy_from_slice(&ended)).expect("an event");
        assert_eq!(ended, Event::Ended(Some(7), String::new()));
        let keepalive = event(Codec::Proto, &Bytes::copy_from_slice(&[0x0a, 2, 0x22, 0]));
        assert_eq!(keepalive.expect("an event"), Event::Other);
        assert!(event(Codec::Proto, &Bytes::from_static(&[0x0a, 200])).is_err());
    }
}
