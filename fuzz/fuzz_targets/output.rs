//! What a function prints, in pieces that 0x1e ends.
//!
//! It becomes lines, none lost but for what is past the limit; each is a record of the log, in one
//! line, that is read back as it was.

#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use pilotlight_core::wire::{LogRecord, LogSource};
use pilotlight_supervisor::fuzzing::Thread;

const PIECE: u8 = 0x1e;

thread_local! {
    static THREAD: RefCell<Thread> = RefCell::new(Thread::new());
}

fuzz_target!(|data: &[u8]| {
    let pieces: Vec<&[u8]> = data.split(|byte| *byte == PIECE).collect();
    let lines = THREAD.with_borrow(|thread| thread.lines(&pieces));
    let whole = pieces.concat();
    let mut printed: Vec<_> = whole.split(|byte| *byte == b'\n').collect();
    // What ends with a line's end has no further line.
    printed.pop_if(|last| last.is_empty());
    let printed = printed.into_iter().map(String::from_utf8_lossy);
    assert!(printed.eq(lines.iter().map(String::as_str)), "{lines:?}");
    for text in &lines {
        let record = LogRecord {
            time: "2026-01-31T10:00:00.000001Z",
            source: LogSource::Stdout,
            request_id: Some("8f3c4a1e"),
            text,
        };
        let written = record.to_string();
        assert!(!written.contains('\n'), "{written:?}");
        assert_eq!(LogRecord::parse(&written), Some(record));
    }
});
