//! The type of a WarmPool's spec and the API server agree on the table `tests/manifests/warmpools.json`.
//!
//! Here the type gets it, in `tests/manifests/test_warm_pools.py` the API server.

use pilotlight_api::WarmPoolSpec;
use serde_json::{Value, json};

/// The cases that concern the spec, each with whether it is taken.
fn taken(list: &str) -> Vec<(Value, bool)> {
    let table = include_str!("../../../tests/manifests/warmpools.json");
    let table: Value = serde_json::from_str(table).expect("the table is JSON");
    let cases = table[list].as_array().expect("a list of cases").iter();
    let cases = cases.filter_map(|case| {
        let field = case["field"].as_str()?.strip_prefix("spec.")?;
        let mut spec = json!({ "runtime": "python3.11", "size": 2 });
        spec[field] = case["value"].clone();
        let is_taken = serde_json::from_value::<WarmPoolSpec>(spec).is_ok();
        Some((case.clone(), is_taken))
    });
    cases.collect()
}

#[test]
fn what_the_api_server_refuses_the_controller_could_not_read() {
    for (case, is_taken) in taken("refused") {
        assert!(!is_taken, "{case}");
    }
}

#[test]
fn what_the_api_server_takes_the_controller_can_read() {
    for (case, is_taken) in taken("accepted") {
        assert!(is_taken, "{case}");
    }
}
