//! The committed JSON Schema.

use serde_json::Value;

use crate::{Kind, json_schema};

/// Rewritten, and so accepted, when the test runs with `UPDATE_SCHEMA=1`.
#[test]
fn the_committed_schema_is_current() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../docs/vintner.schema.json"
    );
    let current = serde_json::to_string_pretty(&json_schema()).unwrap() + "\n";
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(path, &current).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == current,
        "docs/vintner.schema.json is not current; run this test with UPDATE_SCHEMA=1"
    );
}

#[test]
fn the_schema_and_the_reading_functions_know_the_same_fields() {
    let schema = json_schema();
    for kind in Kind::ALL {
        let definition = &schema["definitions"][kind.name()];
        let properties: Vec<&str> = definition["properties"]
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let mut fields: Vec<&str> = kind.fields().iter().map(|field| field.name).collect();
        let mut properties_sorted = properties.clone();
        fields.sort_unstable();
        properties_sorted.sort_unstable();
        assert_eq!(properties_sorted, fields, "{kind}");
        let is_required = |name: &str| {
            let required = definition["required"].as_array().unwrap();
            required.contains(&Value::from(name))
        };
        for field in kind.fields() {
            let want = field.required || field.name == "kind";
            assert_eq!(is_required(field.name), want, "{kind} {}", field.name);
        }
        assert_eq!(definition["additionalProperties"], false, "{kind}");
    }
}
