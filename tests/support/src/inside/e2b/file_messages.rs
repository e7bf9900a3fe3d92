//! The messages of `filesystem.Filesystem`, for JSON and binary at once.

use std::collections::HashMap;

use prost::{Enumeration, Message, Oneof};
use serde::{Deserialize, Serialize};

use super::json::{event_type, file_type, is_zero, text_number, timestamp};
use super::process_messages::Empty;

/// Requests that name nothing but a path: Stat, MakeDir and Remove.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct PathRequest {
    #[prost(string, tag = "1")]
    pub path: String,
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ListDirRequest {
    #[prost(string, tag = "1")]
    pub path: String,
    #[prost(uint32, tag = "2")]
    pub depth: u32,
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct MoveRequest {
    #[prost(string, tag = "1")]
    pub source: String,
    #[prost(string, tag = "2")]
    pub destination: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Timestamp {
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub(super) enum FileType {
    Unspecified = 0,
    File = 1,
    Directory = 2,
    Symlink = 3,
}

impl FileType {
    pub(super) fn as_str_name(self) -> &'static str {
        match self {
            Self::Unspecified => "FILE_TYPE_UNSPECIFIED",
            Self::File => "FILE_TYPE_FILE",
            Self::Directory => "FILE_TYPE_DIRECTORY",
            Self::Symlink => "FILE_TYPE_SYMLINK",
        }
    }

    pub(super) fn from_str_name(name: &str) -> Option<Self> {
        [Self::Unspecified, Self::File, Self::Directory, Self::Symlink]
            .into_iter()
            .find(|value| value.as_str_name() == name)
    }
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct EntryInfo {
    #[prost(string, tag = "1")]
    #[serde(skip_serializing_if = "is_zero")]
    pub name: String,
    #[prost(enumeration = "FileType", tag = "2")]
    #[serde(rename = "type", with = "file_type", skip_serializing_if = "is_zero")]
    pub kind: i32,
    #[prost(string, tag = "3")]
    #[serde(skip_serializing_if = "is_zero")]
    pub path: String,
    #[prost(int64, tag = "4")]
    #[serde(with = "text_number", skip_serializing_if = "is_zero")]
    pub size: i64,
    #[prost(uint32, tag = "5")]
    #[serde(skip_serializing_if = "is_zero")]
    pub mode: u32,
    #[prost(string, tag = "6")]
    #[serde(skip_serializing_if = "is_zero")]
    pub permissions: String,
    #[prost(string, tag = "7")]
    #[serde(skip_serializing_if = "is_zero")]
    pub owner: String,
    #[prost(string, tag = "8")]
    #[serde(skip_serializing_if = "is_zero")]
    pub group: String,
    #[prost(message, optional, tag = "9")]
    #[serde(with = "timestamp", skip_serializing_if = "is_zero")]
    pub modified_time: Option<Timestamp>,
    #[prost(string, optional, tag = "10")]
    #[serde(skip_serializing_if = "is_zero")]
    pub symlink_target: Option<String>,
    #[prost(map = "string, string", tag = "11")]
    #[serde(skip_serializing_if = "is_zero")]
    pub metadata: HashMap<String, String>,
}

/// What Stat, MakeDir and Move answer.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
pub(super) struct EntryResponse {
    #[prost(message, optional, tag = "1")]
    pub entry: Option<EntryInfo>,
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ListDirResponse {
    #[prost(message, repeated, tag = "1")]
    #[serde(skip_serializing_if = "is_zero")]
    pub entries: Vec<EntryInfo>,
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct WatchDirRequest {
    #[prost(string, tag = "1")]
    pub path: String,
    #[prost(bool, tag = "2")]
    pub recursive: bool,
    #[prost(bool, tag = "3")]
    pub include_entry: bool,
    #[prost(bool, tag = "4")]
    pub allow_network_mounts: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub(super) enum EventType {
    Unspecified = 0,
    Create = 1,
    Write = 2,
    Remove = 3,
    Rename = 4,
    Chmod = 5,
}

impl EventType {
    pub(super) fn as_str_name(self) -> &'static str {
        match self {
            Self::Unspecified => "EVENT_TYPE_UNSPECIFIED",
            Self::Create => "EVENT_TYPE_CREATE",
            Self::Write => "EVENT_TYPE_WRITE",
            Self::Remove => "EVENT_TYPE_REMOVE",
            Self::Rename => "EVENT_TYPE_RENAME",
            Self::Chmod => "EVENT_TYPE_CHMOD",
        }
    }

    pub(super) fn from_str_name(name: &str) -> Option<Self> {
        [Self::Unspecified, Self::Create, Self::Write, Self::Remove, Self::Rename, Self::Chmod]
            .into_iter()
            .find(|value| value.as_str_name() == name)
    }
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct FilesystemEvent {
    #[prost(string, tag = "1")]
    #[serde(skip_serializing_if = "is_zero")]
    pub name: String,
    #[prost(enumeration = "EventType", tag = "2")]
    #[serde(rename = "type", with = "event_type", skip_serializing_if = "is_zero")]
    pub kind: i32,
    #[prost(message, optional, tag = "3")]
    #[serde(skip_serializing_if = "is_zero")]
    pub entry: Option<EntryInfo>,
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
pub(super) struct WatchDirResponse {
    #[prost(oneof = "WatchEvent", tags = "1, 2, 3")]
    #[serde(flatten)]
    pub event: Option<WatchEvent>,
}

#[derive(Clone, PartialEq, Oneof, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum WatchEvent {
    #[prost(message, tag = "1")]
    Start(Empty),
    #[prost(message, boxed, tag = "2")]
    Filesystem(Box<FilesystemEvent>),
    #[prost(message, tag = "3")]
    Keepalive(Empty),
}

/// A watcher that is asked, and not a stream.
#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct WatcherId {
    #[prost(string, tag = "1")]
    pub watcher_id: String,
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct WatcherEvents {
    #[prost(message, repeated, tag = "1")]
    #[serde(skip_serializing_if = "is_zero")]
    pub events: Vec<FilesystemEvent>,
}
