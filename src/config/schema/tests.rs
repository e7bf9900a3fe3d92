//! The schema takes and refuses what the checker does, as far as a form can tell.

use std::path::Path;

use super::*;
use crate::config::Config;

/// Walks the constructs that [`document`] uses, and no others.
fn takes(schema: &Value, root: &Value, value: &Value) -> bool {
    let Some(schema) = schema.as_object() else { return schema == &Value::Bool(true) };
    schema.iter().all(|(word, rule)| match word.as_str() {
        "$schema" | "title" | "description" | "$defs" | "else" | "then" => true,
        "$ref" => {
            let path = rule.as_str().and_then(|path| path.strip_prefix('#')).expect("a path");
            takes(root.pointer(path).expect("it is there"), root, value)
        }
        "enum" => rule.as_array().expect("words").contains(value),
        "const" => rule == value,
        "type" => {
            let of = |name: &Value| match name.as_str().expect("a type") {
                "string" => value.is_string(),
                "number" => value.is_number(),
                "integer" => value.is_i64() || value.is_u64(),
                "boolean" => value.is_boolean(),
                "array" => value.is_array(),
                "object" => value.is_object(),
                other => panic!("{other}"),
            };
            rule.as_array().map_or_else(|| of(rule), |all| all.iter().any(of))
        }
        "items" => value.as_array().is_none_or(|all| all.iter().all(|one| takes(rule, root, one))),
        "required" => rule
            .as_array()
            .expect("names")
            .iter()
            .all(|name| value.get(name.as_str().expect("a name")).is_some()),
        "properties" => rule
            .as_object()
            .expect("by name")
            .iter()
            .all(|(name, rule)| value.get(name).is_none_or(|value| takes(rule, root, value))),
        "additionalProperties" => value.as_object().is_none_or(|all| {
            let known = schema.get("properties").and_then(Value::as_object);
            let other = |name: &String| !known.is_some_and(|known| known.contains_key(name));
            all.iter().filter(|(name, _)| other(name)).all(|(_, value)| takes(rule, root, value))
        }),
        "allOf" => rule.as_array().expect("rules").iter().all(|rule| takes(rule, root, value)),
        "if" => !takes(rule, root, value) || takes(&schema["then"], root, value),
        other => panic!("`{other}` is not walked"),
    })
}

fn json_of(item: &toml_edit::Item) -> Value {
    if let Some(table) = item.as_table_like() {
        return table.iter().map(|(name, item)| (name.to_owned(), json_of(item))).collect();
    }
    let value = |value: &toml_edit::Value| match value {
        toml_edit::Value::String(text) => json!(text.value()),
        toml_edit::Value::Integer(number) => json!(number.value()),
        toml_edit::Value::Float(number) => json!(number.value()),
        toml_edit::Value::Boolean(truth) => json!(truth.value()),
        other => panic!("{other}"),
    };
    match item.as_array() {
        Some(entries) => entries.iter().map(value).collect(),
        None => value(item.as_value().expect("a value")),
    }
}

fn check(text: &str, wanted: bool) {
    let config = Config::parse(Path::new("config.toml"), text.as_bytes());
    let problems = config.all_problems();
    assert_eq!(problems.is_empty(), wanted, "the checker: {problems:?}\n{text}");
    let document: toml_edit::DocumentMut = text.parse().expect("TOML");
    let schema = document_value(&document);
    assert_eq!(takes(&super::document(), &super::document(), &schema), wanted, "{text}");
}

fn document_value(document: &toml_edit::DocumentMut) -> Value {
    document.as_table().iter().map(|(name, item)| (name.to_owned(), json_of(item))).collect()
}

#[test]
fn what_the_checker_takes_and_refuses_the_schema_does_too() {
    let docker = "[profiles.a]\ndriver = \"docker\"\nimage = \"a\"\n";
    check("", true);
    check("profile = \"local\"\n[projects.\"/p\"]\nprofile = \"local\"\n", true);
    check("colour = \"red\"\n", false);
    check("profile = 1\n", false);
    check("[projects.\"/p\"]\nx = \"local\"\n", false);
    for line in [
        "memory = \"2GiB\"",
        "memory = 8388608",
        "cpus = 1.5",
        "cpus = 2",
        "pids = 5",
        "exclude = [\"a\"]",
        "gitignore = true",
        "env = { A = \"1\" }",
        "mode = \"one-way-safe\"",
        "max_runtime = \"2h\"",
        "link = \"stdio\"",
        "mount_rw = true",
    ] {
        check(&format!("{docker}{line}\n"), true);
    }
    for line in [
        "memory = true",
        "cpus = \"1\"",
        "pids = 1.5",
        "exclude = \"a\"",
        "exclude = [1]",
        "gitignore = \"true\"",
        "env = { A = 1 }",
        "env = [\"A\"]",
        "mode = \"best\"",
        "max_runtime = 2",
        "link = \"tcp\"",
        "imgae = \"a\"",
        "base = \"/a\"",
        "template = \"a\"",
    ] {
        check(&format!("{docker}{line}\n"), false);
    }
    check("[profiles.a]\ndriver = \"local\"\nexclude = [\"a\"]\n", false);
    check("[profiles.a]\ndriver = \"podman\"\n", false);
    check("[profiles.a]\ndriver = \"e2b\"\ntemplate = \"x\"\ninternet = false\n", true);
}

#[test]
fn the_schema_in_the_repository_is_this_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/skync.schema.json");
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        stored == text(),
        "it is stale: `cargo run -- config schema > schema/skync.schema.json` writes it anew"
    );
}
