//! The messages of `process.Process`, for JSON and binary at once.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost::{Enumeration, Message, Oneof};
use serde::{Deserialize, Serialize};

use super::json::{base64_bytes, is_zero, signal};

/// A message without fields.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
pub(super) struct Empty {}

/// What is executed.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ProcessConfig {
    #[prost(string, tag = "1")]
    #[serde(skip_serializing_if = "is_zero")]
    pub cmd: String,
    #[prost(string, repeated, tag = "2")]
    #[serde(skip_serializing_if = "is_zero")]
    pub args: Vec<String>,
    #[prost(map = "string, string", tag = "3")]
    #[serde(skip_serializing_if = "is_zero")]
    pub envs: HashMap<String, String>,
    #[prost(string, optional, tag = "4")]
    #[serde(skip_serializing_if = "is_zero")]
    pub cwd: Option<String>,
}

/// A terminal's size.
#[derive(Clone, Copy, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Size {
    #[prost(uint32, tag = "1")]
    pub cols: u32,
    #[prost(uint32, tag = "2")]
    pub rows: u32,
}

/// A terminal.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Pty {
    #[prost(message, optional, tag = "1")]
    pub size: Option<Size>,
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct StartRequest {
    #[prost(message, optional, tag = "1")]
    pub process: Option<ProcessConfig>,
    #[prost(message, optional, tag = "2")]
    pub pty: Option<Pty>,
    #[prost(string, optional, tag = "3")]
    pub tag: Option<String>,
    /// Absent is true.
    #[prost(bool, optional, tag = "4")]
    pub stdin: Option<bool>,
}

/// A process by its id or its tag.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ProcessSelector {
    #[prost(oneof = "Selector", tags = "1, 2")]
    #[serde(flatten)]
    pub selector: Option<Selector>,
}

#[derive(Clone, PartialEq, Oneof, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Selector {
    #[prost(uint32, tag = "1")]
    Pid(u32),
    #[prost(string, tag = "2")]
    Tag(String),
}

/// Requests that name nothing but a process: Connect and CloseStdin.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct SelectRequest {
    #[prost(message, optional, tag = "1")]
    pub process: Option<ProcessSelector>,
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct UpdateRequest {
    #[prost(message, optional, tag = "1")]
    pub process: Option<ProcessSelector>,
    #[prost(message, optional, tag = "2")]
    pub pty: Option<Pty>,
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct SendInputRequest {
    #[prost(message, optional, tag = "1")]
    pub process: Option<ProcessSelector>,
    #[prost(message, optional, tag = "2")]
    pub input: Option<ProcessInput>,
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ProcessInput {
    #[prost(oneof = "Input", tags = "1, 2")]
    #[serde(flatten)]
    pub input: Option<Input>,
}

#[derive(Clone, PartialEq, Oneof, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Input {
    #[prost(bytes, tag = "1")]
    #[serde(with = "base64_bytes")]
    Stdin(Vec<u8>),
    #[prost(bytes, tag = "2")]
    #[serde(with = "base64_bytes")]
    Pty(Vec<u8>),
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct StreamInputRequest {
    #[prost(oneof = "StreamInput", tags = "1, 2, 3")]
    #[serde(flatten)]
    pub event: Option<StreamInput>,
}

#[derive(Clone, PartialEq, Oneof, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum StreamInput {
    #[prost(message, tag = "1")]
    Start(SelectRequest),
    #[prost(message, tag = "2")]
    Data(StreamData),
    #[prost(message, tag = "3")]
    Keepalive(Empty),
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct StreamData {
    #[prost(message, optional, tag = "2")]
    pub input: Option<ProcessInput>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub(super) enum Signal {
    Unspecified = 0,
    Sigkill = 9,
    Sigterm = 15,
}

impl Signal {
    pub(super) fn as_str_name(self) -> &'static str {
        match self {
            Self::Unspecified => "SIGNAL_UNSPECIFIED",
            Self::Sigkill => "SIGNAL_SIGKILL",
            Self::Sigterm => "SIGNAL_SIGTERM",
        }
    }

    pub(super) fn from_str_name(name: &str) -> Option<Self> {
        [Self::Unspecified, Self::Sigkill, Self::Sigterm]
            .into_iter()
            .find(|value| value.as_str_name() == name)
    }
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct SendSignalRequest {
    #[prost(message, optional, tag = "1")]
    pub process: Option<ProcessSelector>,
    #[prost(enumeration = "Signal", tag = "2")]
    #[serde(with = "signal")]
    pub signal: i32,
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ProcessInfo {
    #[prost(message, optional, tag = "1")]
    pub config: Option<ProcessConfig>,
    #[prost(uint32, tag = "2")]
    pub pid: u32,
    #[prost(string, optional, tag = "3")]
    #[serde(skip_serializing_if = "is_zero")]
    pub tag: Option<String>,
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ListResponse {
    #[prost(message, repeated, tag = "1")]
    #[serde(skip_serializing_if = "is_zero")]
    pub processes: Vec<ProcessInfo>,
}

/// What Start and Connect stream.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
pub(super) struct EventResponse {
    #[prost(message, optional, tag = "1")]
    pub event: Option<ProcessEvent>,
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
pub(super) struct ProcessEvent {
    #[prost(oneof = "Event", tags = "1, 2, 3, 4")]
    #[serde(flatten)]
    pub event: Option<Event>,
}

#[derive(Clone, PartialEq, Oneof, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Event {
    #[prost(message, tag = "1")]
    Start(StartEvent),
    #[prost(message, tag = "2")]
    Data(DataEvent),
    #[prost(message, tag = "3")]
    End(EndEvent),
    #[prost(message, tag = "4")]
    Keepalive(Empty),
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
pub(super) struct StartEvent {
    #[prost(uint32, tag = "1")]
    pub pid: u32,
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
pub(super) struct DataEvent {
    #[prost(oneof = "Output", tags = "1, 2, 3")]
    #[serde(flatten)]
    pub output: Option<Output>,
}

#[derive(Clone, PartialEq, Oneof, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Output {
    #[prost(bytes, tag = "1")]
    #[serde(with = "base64_bytes")]
    Stdout(Vec<u8>),
    #[prost(bytes, tag = "2")]
    #[serde(with = "base64_bytes")]
    Stderr(Vec<u8>),
    #[prost(bytes, tag = "3")]
    #[serde(with = "base64_bytes")]
    Pty(Vec<u8>),
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct EndEvent {
    #[prost(sint32, tag = "1")]
    #[serde(skip_serializing_if = "is_zero")]
    pub exit_code: i32,
    #[prost(bool, tag = "2")]
    #[serde(skip_serializing_if = "is_zero")]
    pub exited: bool,
    #[prost(string, tag = "3")]
    #[serde(skip_serializing_if = "is_zero")]
    pub status: String,
    #[prost(string, optional, tag = "4")]
    #[serde(skip_serializing_if = "is_zero")]
    pub error: Option<String>,
}

impl Event {
    /// Writes output as JSON. Serde would do the same, but looks at each letter of the base64, which
    /// is slow without optimisation.
    pub(super) fn output_json(&self) -> Option<String> {
        let Self::Data(DataEvent { output: Some(output) }) = self else { return None };
        let (name, bytes) = match output {
            Output::Stdout(bytes) => ("stdout", bytes),
            Output::Stderr(bytes) => ("stderr", bytes),
            Output::Pty(bytes) => ("pty", bytes),
        };
        Some(format!(r#"{{"event":{{"data":{{"{name}":"{}"}}}}}}"#, STANDARD.encode(bytes)))
    }

    /// Wraps an event as Start and Connect stream it.
    pub(super) fn response(self) -> EventResponse {
        EventResponse { event: Some(ProcessEvent { event: Some(self) }) }
    }
}
