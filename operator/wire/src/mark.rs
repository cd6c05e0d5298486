//! `POST /mark`: adds a record to the log, after everything logged before.
//!
//! The gateway's `log_marks` asks for it and waits for the record ([`crate::log_record::MARK`]).

pub const MARK_PATH: &str = "/mark";
