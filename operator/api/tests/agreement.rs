//! The file reader and the API server agree on the table `tests/manifests/functions.json`.
//!
//! Here the reader gets it, in `tests/manifests/test_apply.py` the API server. The reader's exact
//! words are in `refused_manifests`; here only that it names the same field.

use std::path::Path;

use pilotlight_api::read;
use serde_json::{Map, Value, json};

fn cases(list: &str) -> Vec<Value> {
    let table = include_str!("../../../tests/manifests/functions.json");
    let table: Value = serde_json::from_str(table).expect("the table is JSON");
    table[list].as_array().expect("a list of cases").clone()
}

/// A valid manifest but for the case's field, written as JSON, which is YAML too.
fn manifest(case: &Value) -> String {
    let mut function = json!({
        "apiVersion": "pilotlight.dev/v1alpha1",
        "kind": "Function",
        "metadata": { "name": "tested" },
        "spec": { "runtime": "python3.11", "code": { "inline": { "lambda_function.py": "1" } } },
    });
    let mut place = &mut function;
    for name in case["field"].as_str().expect("a field").split('.') {
        let fields = place.as_object_mut().expect("an object on the way");
        place = fields
            .entry(name)
            .or_insert_with(|| Value::Object(Map::new()));
    }
    *place = case["value"].clone();
    function.to_string()
}

#[test]
fn what_the_api_server_refuses_is_refused_in_a_file_at_the_same_field() {
    let disagreements: Vec<_> = cases("refused")
        .into_iter()
        .filter_map(|case| {
            let errors = read(Path::new("f.yaml"), &manifest(&case))
                .err()
                .unwrap_or_default();
            let named = case["named"].as_str().expect("a field");
            let fields: Vec<_> = errors.iter().map(|error| error.field.as_str()).collect();
            let agrees = matches!(fields[..], [field] if field.starts_with(named));
            (!agrees).then(|| format!("{case}\nrefused: {errors:?}"))
        })
        .collect();
    assert!(disagreements.is_empty(), "{}", disagreements.join("\n"));
}

#[test]
fn what_the_api_server_takes_is_taken_from_a_file() {
    for case in cases("accepted") {
        if let Err(errors) = read(Path::new("f.yaml"), &manifest(&case)) {
            panic!("{case}\nrefused: {errors:?}");
        }
    }
}
