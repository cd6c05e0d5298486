//! A function's output and log frames, in pieces that end with 0x1e.
//!
//! The bytes become the same records whatever the pieces are. Each record is written to the log as one line, which
//! can be read back. Without frames the records are exactly the lines.

#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use pilotlight_supervisor::fuzzing::Thread;
use pilotlight_wire::log_record::{LogRecord, LogSource};

const PIECE: u8 = 0x1e;
/// Begins a frame.
const FRAME: u8 = 0xa5;

thread_local! {
    static THREAD: RefCell<Thread> = RefCell::new(Thread::new());
}

fuzz_target!(|data: &[u8]| {
    let pieces: Vec<&[u8]> = data.split(|byte| *byte == PIECE).collect();
    let whole = pieces.concat();
    let (records, at_once) = THREAD.with_borrow(|thread| {
        let at_once = thread.records(&[&whole]);
        (thread.records(&pieces), at_once)
    });
    assert_eq!(records, at_once);
    if !whole.contains(&FRAME) {
        are_lines(&whole, &records);
    }
    for text in &records {
        let record = LogRecord {
            time: "2026-01-31T10:00:00.000001Z",
            source: LogSource::Stdout,
            request_id: Some("8f3c4a1e"),
            text: text.into(),
        };
        let written = record.to_string();
        assert!(!written.contains('\n'), "{written:?}");
        assert_eq!(LogRecord::parse(&written), Some(record));
    }
});

fn are_lines(whole: &[u8], records: &[String]) {
    let mut printed: Vec<_> = whole.split(|byte| *byte == b'\n').collect();
    // Output that ends with a line break has no further line.
    printed.pop_if(|last| last.is_empty());
    let printed = printed.into_iter().map(String::from_utf8_lossy);
    assert!(
        printed.eq(records.iter().map(String::as_str)),
        "{records:?}"
    );
}
