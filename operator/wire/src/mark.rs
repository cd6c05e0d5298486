//! `POST /mark`: adds a record to the log, after everything logged before.
//!
//! The gateway's `logs/marks` asks for it and waits for the record ([`crate::log_record::MARK`]).

use crate::lease::is_request_id;

pub const MARK_PATH: &str = "/mark";

/// The mark in the body of a request: a word like a request id. `None` if it is malformed.
pub fn read(body: &[u8]) -> Option<&str> {
    let mark = std::str::from_utf8(body).ok()?;
    is_request_id(mark).then_some(mark)
}
