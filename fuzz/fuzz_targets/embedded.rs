//! What a function prints, as metrics: bounds and labels hold, whatever the record says.

#![no_main]

use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use pilotlight_core::metrics::embedded::{
    DIMENSIONS_LIMIT, Embedded, METRICS_LIMIT, NAME_LIMIT, SERIES_LIMIT, VALUES_LIMIT, read,
};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let now = Instant::now();
    let mut embedded = Embedded::default();
    // Each line is a record, of one of two functions.
    for (place, line) in text.lines().enumerate() {
        let Some(reading) = read(line) else {
            continue;
        };
        assert!(reading.values.len() + reading.dropped.len() <= METRICS_LIMIT + 1);
        for (key, values) in &reading.values {
            assert!(values.len() <= VALUES_LIMIT && values.iter().all(|value| value.is_finite()));
            let names = [&key.namespace, &key.metric];
            assert!(
                names
                    .iter()
                    .all(|name| (1..=NAME_LIMIT).contains(&name.len()))
            );
            assert!(key.dimensions.len() <= DIMENSIONS_LIMIT);
            for (name, value) in &key.dimensions {
                let is_allowed = |one: char| one.is_ascii_alphanumeric() || one == '_';
                assert!(!name.is_empty() && name.chars().all(is_allowed), "{name:?}");
                assert!(value.len() <= NAME_LIMIT);
            }
        }
        let now = now + Duration::from_secs(60 * place as u64);
        embedded.add(now, &(place % 2), reading);
    }
    let functions = [0, 1];
    let counts = functions.map(|function| embedded.of(&function).count());
    assert!(counts.iter().all(|count| *count <= SERIES_LIMIT));
    assert_eq!(counts.iter().sum::<usize>(), embedded.total());
    for function in &functions {
        let mut sums = embedded.of(function);
        assert!(sums.all(|(_, sum)| sum.count > 0 && sum.sum.is_finite()));
    }
    embedded.remove(&0);
    embedded.remove(&1);
    assert_eq!(embedded.total(), 0);
});
