//! The JSON Schema of the configuration files (draft 2020-12), made from the tables that the checker
//! goes by, so that an editor knows the same keys.

use serde_json::{Map, Value, json};

use super::keys::{DRIVERS, Kind};
use super::settings::{Form, setting};

/// The schema.
pub fn document() -> Value {
    let drivers = DRIVERS.iter().filter_map(|name| Kind::named(name));
    // What a driver does not have is refused where the driver is said.
    let conditions: Vec<Value> = drivers
        .map(|kind| {
            let keys = kind.keys();
            let foreign: Map<String, Value> = Kind::Unknown
                .keys()
                .into_iter()
                .filter(|key| !keys.contains(key))
                .map(|key| (key.to_owned(), Value::Bool(false)))
                .collect();
            json!({
                "if": { "properties": { "driver": { "const": kind.name() } }, "required": ["driver"] },
                "then": { "properties": foreign },
            })
        })
        .collect();
    let properties: Map<String, Value> =
        Kind::Unknown.keys().into_iter().map(|key| (key.to_owned(), property(key))).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "skync configuration",
        "description": "config.toml, skync.toml and skync.local.toml",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "profile": { "type": "string", "description": "the profile that is used" },
            "profiles": {
                "type": "object",
                "description": "kinds of sandboxes by name",
                "additionalProperties": { "$ref": "#/$defs/profile" },
            },
            "projects": {
                "type": "object",
                "description": "which profile a project has; in the user's own file only",
                "additionalProperties": {
                    "type": "object",
                    "additionalProperties": false,
                    "properties": { "profile": { "type": "string" } },
                },
            },
        },
        "$defs": {
            "profile": {
                "type": "object",
                "additionalProperties": false,
                "properties": properties,
                "allOf": conditions,
            },
        },
    })
}

/// The schema as it stands in `schema/skync.schema.json`.
pub fn text() -> String {
    format!("{:#}\n", document())
}

fn property(key: &str) -> Value {
    let Some(setting) = setting(key) else { return Value::Bool(true) };
    let mut value = match setting.form {
        Form::Text | Form::Time => json!({ "type": "string" }),
        Form::Words(words) => json!({ "enum": words }),
        Form::Number => json!({ "type": "number" }),
        Form::Whole => json!({ "type": "integer" }),
        Form::Size => json!({ "type": ["string", "integer"] }),
        Form::Truth => json!({ "type": "boolean" }),
        Form::List => json!({ "type": "array", "items": { "type": "string" } }),
        Form::Commands => json!({
            "type": ["string", "array"],
            "items": { "type": ["string", "array"], "items": { "type": "string" } },
        }),
        Form::Table => json!({
            "type": "object",
            "additionalProperties": { "type": "string" },
        }),
    };
    value["description"] = setting.about.into();
    value
}

#[cfg(test)]
mod tests;
