//! The parameters of a caller who reads a log, and a record of a function: a line is `NAME=VALUE`, and the text of the record
//! follows an empty line.
//!
//! What is accepted is within its bounds, and an error repeats little of what was sent. A record that is admitted has what the
//! parameters say, and a cursor names the place that it was made of.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use pilotlight_core::ids::FunctionKey;
use pilotlight_logs::entry::{Entry, Origin, Position};
use pilotlight_logs::parameters::Reading;
use pilotlight_logs::query::{PAGE_LIMIT, TEXT_LIMIT};

/// The longest error: a whole regular expression, and where it is wrong.
const ERROR_LIMIT: usize = 16 * TEXT_LIMIT;

static ORIGIN: LazyLock<Origin> = LazyLock::new(|| Origin {
    function: "shop/hello".parse::<FunctionKey>().expect("a key"),
    qualifier: Default::default(),
    instance: "i1".to_owned(),
});

fuzz_target!(|input: &str| {
    let (parameters, text) = input.split_once("\n\n").unwrap_or((input, ""));
    let pairs = parameters.lines().filter_map(|line| line.split_once('='));
    let reading = match Reading::of(ORIGIN.function.clone(), pairs) {
        Ok(reading) => reading,
        Err(error) => {
            assert!(error.to_string().len() <= ERROR_LIMIT, "{error}");
            return;
        }
    };
    let query = &reading.query;
    assert_eq!(query.function, ORIGIN.function);
    assert!((1..=PAGE_LIMIT).contains(&query.limit));
    let selection = &query.selection;
    assert!(selection.contains.len() <= 16 && selection.fields.len() <= 16);
    for text in &selection.contains {
        assert!((1..=TEXT_LIMIT).contains(&text.len()));
    }
    if let Some(after) = &query.after {
        let read = Position::of_cursor(&after.cursor());
        assert_eq!(read.as_ref(), Some(after));
    }
    let line = format!("2026-01-31T10:00:00.123456Z stdout 8f3c {text}");
    let record = Entry::of_line(&ORIGIN, 1, &line, Default::default());
    if query.admits(&record) {
        assert!(
            selection
                .contains
                .iter()
                .all(|part| record.text.contains(part))
        );
        assert!(
            selection
                .level
                .is_none_or(|level| record.level >= Some(level))
        );
        assert!(
            selection
                .source
                .is_none_or(|source| source == record.source)
        );
        assert!(selection.since.is_none_or(|since| since <= record.time));
    }
});
