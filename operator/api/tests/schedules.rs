//! The type of a Schedule's spec and the API server agree on the table `tests/manifests/schedules.json`, and a file names the
//! field and the place.
//!
//! Here the type gets the table, in `tests/manifests/test_schedules.py` the API server.

use std::path::Path;

use pilotlight_api::{ScheduleSpec, read_all};
use serde_json::{Value, json};

/// The cases that concern the spec, each with whether it is taken.
fn taken(list: &str) -> Vec<(Value, bool)> {
    let table = include_str!("../../../tests/manifests/schedules.json");
    let table: Value = serde_json::from_str(table).expect("the table is JSON");
    let cases = table[list].as_array().expect("a list of cases").iter();
    let cases = cases.filter_map(|case| {
        let field = case["field"].as_str()?.strip_prefix("spec.")?;
        let start = "2027-01-01T00:00:00Z";
        let mut spec = json!({ "function": "hello", "schedule": "rate(1 day)", "start": start });
        spec[field] = case["value"].clone();
        let is_taken = serde_json::from_value::<ScheduleSpec>(spec).is_ok();
        Some((case.clone(), is_taken))
    });
    cases.collect()
}

#[test]
fn what_the_api_server_refuses_no_gateway_could_read() {
    for (case, is_taken) in taken("refused") {
        assert!(!is_taken, "{case}");
    }
}

#[test]
fn what_the_api_server_takes_each_gateway_can_read() {
    for (case, is_taken) in taken("accepted") {
        assert!(is_taken, "{case}");
    }
}

const HEAD: &str = "\
apiVersion: pilotlight.dev/v1alpha1
kind: Schedule
metadata:
  name: nightly
spec:
  function: hello
";

#[test]
fn a_schedule_in_a_file_is_read_with_its_input_as_it_is() {
    let text = format!(
        "{HEAD}  schedule: \"0 3 * * *\"\n  timeZone: Europe/Zurich\n  input: {{b: [1, \"yes\", ~], a: 1.5}}\n"
    );
    let documents = read_all(Path::new("f.yaml"), &text).expect("a schedule");
    let [one] = &documents.schedules[..] else {
        panic!("{documents:?}");
    };
    assert_eq!((one.name_at, one.spec_at.0), ((4, 9), 6));
    let input = one.schedule.spec.input.as_ref().expect("an input");
    assert_eq!(input.to_json(), "{\"a\":1.5,\"b\":[1,\"yes\",null]}");
    let error = one.wrong("spec.timeZone", "there is none".to_owned());
    assert_eq!(
        error.to_string(),
        "f.yaml:6:3: spec.timeZone: there is none"
    );
}

#[test]
fn a_wrong_schedule_in_a_file_is_refused_at_its_field() {
    for (spec, expected) in [
        (
            "  schedule: rate(30 seconds)",
            "7:13: spec.schedule: must be cron(MINUTES HOURS DAY MONTH WEEKDAY YEAR), rate(NUMBER UNIT) such as \
             rate(5 minutes), at(YYYY-MM-DDThh:mm:ss), or five fields of Unix's cron",
        ),
        ("  jitter: 5", "7:3: spec.schedule: is missing: add it"),
        (
            "  schedule: rate(1 day)\n  jitter: 90000",
            "8:11: spec.jitter: must be between 0 and 86400 seconds, got 90000",
        ),
        (
            "  schedule: rate(1 day)\n  suspend: \"no\"",
            "8:12: spec.suspend: must be true or false",
        ),
        (
            "  schedule: rate(1 day)\n  end: soon",
            "8:8: spec.end: must be a time such as `2027-01-31T10:00:00Z` or `2027-01-31T10:00:00+01:00`",
        ),
        (
            "  schedule: rate(1 day)\n  end: 2027-01-01T00:00:00Z\n  start: 2027-01-01T00:00:00Z",
            "6:3: spec: has `end` 2027-01-01T00:00:00Z not after `start` 2027-01-01T00:00:00Z: move one of them",
        ),
        (
            "  schedule: rate(1 day)\n  timezone: UTC",
            "8:3: spec.timezone: is not a field: did you mean `timeZone`? The fields here are function, schedule, timeZone, \
             jitter, input, start, end, suspend, async",
        ),
    ] {
        let errors = read_all(Path::new("f.yaml"), &format!("{HEAD}{spec}\n")).err();
        let errors: Vec<_> = errors
            .unwrap_or_default()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(errors, [format!("f.yaml:{expected}")], "{spec}");
    }
}
