//! The definitions (CRDs) keep to rules by which two versions can run side by side.

#![cfg(feature = "cluster")]

use pilotlight_api::resource::{function_definition, schedule_definition, warm_pool_definition};
use serde_json::Value;

/// The fields with a default in the definition. The list never grows: the API server shows the default of a new field in
/// every object, also to parts of an earlier version, and these cannot read a field that they do not know.
const WITH_DEFAULT: &[&str] = &[
    ".concurrency",
    ".concurrency.queue",
    ".ephemeralStorage",
    ".errors",
    ".keepAlive",
    ".logging",
    ".logging.enabled",
    ".logging.format",
    ".memory",
    ".pod.tolerations[].operator",
    ".timeout",
    ".tolerations[].operator",
];

fn collect(schema: &Value, place: &str, found: &mut Vec<String>) {
    if schema.get("default").is_some() {
        found.push(place.to_owned());
    }
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        for (name, field) in properties {
            collect(field, &format!("{place}.{name}"), found);
        }
    }
    if let Some(items) = schema.get("items") {
        collect(items, &format!("{place}[]"), found);
    }
}

#[test]
fn no_new_field_has_a_default_that_parts_of_an_earlier_version_would_see() {
    let mut found = Vec::new();
    for definition in [
        function_definition(),
        warm_pool_definition(),
        schedule_definition(),
    ] {
        let definition = serde_json::to_value(definition).expect("JSON");
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        collect(&schema["properties"]["spec"], "", &mut found);
    }
    found.sort();
    found.dedup();
    assert_eq!(found, WITH_DEFAULT);
}
