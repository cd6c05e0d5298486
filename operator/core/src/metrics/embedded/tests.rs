//! What is read of embedded records, and what the bounds keep out.

use serde_json::json;

use super::*;

fn record(extra: Value) -> String {
    let mut record = json!({
        "_aws": {
            "Timestamp": 1_574_109_732_004_u64,
            "CloudWatchMetrics": [{
                "Namespace": "shop",
                "Dimensions": [["service", "Function-Version"], ["service"]],
                "Metrics": [
                    {"Name": "time", "Unit": "Milliseconds", "StorageResolution": 60},
                    {"Name": "orders"},
                ],
            }],
        },
        "service": "checkout",
        "Function-Version": "$LATEST",
        "time": 100,
        "orders": [1, 2.5],
        "requestId": "989ffbf8-9ace-4817-a57c-e4dd734019ee",
    });
    let (Value::Object(record), Value::Object(extra)) = (&mut record, extra) else {
        unreachable!("both are objects");
    };
    record.extend(extra);
    Value::Object(record.clone()).to_string()
}

fn reading(extra: Value) -> EmbeddedValues {
    read(&record(extra)).expect("an embedded record")
}

fn with_metrics(metrics: Value) -> Value {
    json!({"_aws": {"CloudWatchMetrics": [{"Namespace": "n", "Metrics": metrics}]}})
}

fn key_of(metric: &str) -> Key {
    let mut reading = reading(json!({}));
    let mut keys = std::mem::take(&mut reading.values).into_keys();
    keys.find(|key| key.metric == metric).expect("the metric")
}

#[test]
fn a_record_has_its_metrics_with_units_and_the_union_of_its_dimensions() {
    let EmbeddedValues { values, dropped } = reading(json!({}));
    assert_eq!(dropped, []);
    let read: Vec<_> = values
        .iter()
        .map(|(key, values)| (key.metric.as_str(), key.unit, values.as_slice()))
        .collect();
    assert_eq!(
        read,
        [
            ("orders", "None", [1.0, 2.5].as_slice()),
            ("time", "Milliseconds", &[100.0])
        ]
    );
    let key = key_of("time");
    assert_eq!(key.namespace, "shop");
    let labels: Vec<_> = key
        .dimensions
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        labels,
        [("Function_Version", "$LATEST"), ("service", "checkout")]
    );
}

#[test]
fn an_ordinary_record_is_not_read() {
    for text in [
        "hello",
        "{}",
        "{\"_aws\"",
        r#"{"message": "\"_aws\""}"#,
        r#"{"a": {"_aws": 1}}"#,
        r#"{"_aws": {"Timestamp": 1}}"#,
        r#"["_aws"]"#,
    ] {
        assert_eq!(read(text), None, "{text}");
    }
}

#[test]
fn what_is_not_as_the_format_says_is_dropped_alone() {
    for (extra, dropped, left) in [
        (json!({"time": "fast"}), Dropped::Malformed, 1),
        (json!({"time": [1, "fast"]}), Dropped::Malformed, 1),
        (json!({"time": 1e120}), Dropped::Malformed, 1),
        (
            json!({"time": vec![1; VALUES_LIMIT + 1]}),
            Dropped::TooLarge,
            1,
        ),
    ] {
        let reading = reading(extra.clone());
        assert_eq!(
            (reading.dropped, reading.values.len()),
            (vec![dropped], left),
            "{extra}"
        );
    }
    for (extra, dropped) in [
        (json!({"service": 7}), vec![Dropped::Malformed; 2]),
        (
            json!({"service": "x".repeat(NAME_LIMIT + 1)}),
            vec![Dropped::TooLarge; 2],
        ),
        (
            with_metrics(json!([{"Name": "time", "Unit": "Parsecs"}])),
            vec![Dropped::Malformed],
        ),
        (
            with_metrics(json!([{"Name": ""}])),
            vec![Dropped::Malformed],
        ),
        (
            with_metrics(json!([{"Name": "x".repeat(NAME_LIMIT + 1)}])),
            vec![Dropped::TooLarge],
        ),
        (
            with_metrics(json!([{"Unit": "Count"}])),
            vec![Dropped::Malformed],
        ),
        (with_metrics(json!({})), vec![Dropped::Malformed]),
    ] {
        let reading = reading(extra.clone());
        assert_eq!(
            (reading.dropped, reading.values.len()),
            (dropped, 0),
            "{extra}"
        );
    }
}

#[test]
fn a_record_has_at_most_so_many_metrics_and_dimensions() {
    let many: Vec<_> = (0..METRICS_LIMIT + 5)
        .map(|_| json!({"Name": "time"}))
        .collect();
    let reading = reading(with_metrics(json!(many)));
    // Those within the bound are one and the same.
    assert_eq!(
        (reading.values.len(), reading.dropped),
        (1, vec![Dropped::TooLarge])
    );
    let names: Vec<_> = (0..=DIMENSIONS_LIMIT).map(|n| format!("d{n}")).collect();
    let mut record = json!({"_aws": {"CloudWatchMetrics": [{
        "Namespace": "n", "Dimensions": [names], "Metrics": [{"Name": "v"}]}]}, "v": 1});
    for name in &names {
        record[name] = json!("x");
    }
    let reading = read(&record.to_string()).expect("an embedded record");
    assert_eq!(
        (reading.values.len(), reading.dropped),
        (0, vec![Dropped::TooLarge])
    );
}

#[test]
fn two_dimensions_that_become_one_label_are_refused_unless_they_agree() {
    let record = |one: &str, other: &str| {
        let record = json!({"_aws": {"CloudWatchMetrics": [{"Namespace": "n",
            "Dimensions": [["a-b"], ["a.b"]], "Metrics": [{"Name": "v"}]}]},
            "v": 1, "a-b": one, "a.b": other});
        read(&record.to_string())
            .expect("an embedded record")
            .dropped
    };
    assert_eq!(record("1", "1"), []);
    assert_eq!(record("1", "2"), [Dropped::Malformed]);
}

#[test]
fn values_are_added_up_and_the_last_is_kept() {
    let mut embedded = Embedded::default();
    let now = Instant::now();
    for _ in 0..2 {
        assert_eq!(embedded.add(now, &"hello", reading(json!({}))), []);
    }
    let sums: Vec<_> = embedded
        .of(&"hello")
        .map(|(_, sum)| (sum.count, sum.sum, sum.last))
        .collect();
    assert_eq!(sums, [(4, 7.0, 2.5), (2, 200.0, 100.0)]);
    embedded.remove(&"hello");
    assert_eq!((embedded.of(&"hello").count(), embedded.total()), (0, 0));
}

fn of_service(service: usize) -> EmbeddedValues {
    let mut reading = reading(json!({"service": format!("s{service}")}));
    reading.values.retain(|key, _| key.metric == "time");
    reading
}

#[test]
fn a_function_has_so_many_sums_and_stale_ones_make_room() {
    let mut embedded = Embedded::default();
    let start = Instant::now();
    for service in 0..SERIES_LIMIT {
        assert_eq!(embedded.add(start, &"hello", of_service(service)), []);
    }
    assert_eq!(
        embedded.add(start, &"hello", of_service(SERIES_LIMIT)),
        [Dropped::TooManySeries]
    );
    // What exists goes on, and so does another function.
    assert_eq!(embedded.add(start, &"hello", of_service(0)), []);
    assert_eq!(embedded.add(start, &"other", of_service(0)), []);
    let later = start + STALE_AFTER;
    assert_eq!(embedded.add(later, &"hello", of_service(SERIES_LIMIT)), []);
    assert_eq!(
        (embedded.of(&"hello").count(), embedded.total()),
        (SERIES_LIMIT, SERIES_LIMIT + 1)
    );
}

#[test]
fn a_gateway_has_so_many_sums() {
    let mut embedded = Embedded::default();
    let now = Instant::now();
    for function in 0..GATEWAY_SERIES_LIMIT / SERIES_LIMIT {
        for service in 0..SERIES_LIMIT {
            assert_eq!(embedded.add(now, &function, of_service(service)), []);
        }
    }
    assert_eq!(
        embedded.add(now, &usize::MAX, of_service(0)),
        [Dropped::TooManySeries]
    );
    embedded.remove(&0);
    assert_eq!(embedded.add(now, &usize::MAX, of_service(0)), []);
}
