//! What the errors of the client mean for a queue, in words for its operator.
//!
//! The client hides the server's code as a cause of its own errors. Here it is found again; nothing is decided by the texts
//! of servers.

use std::error::Error;

use async_nats::jetstream::{self, ErrorCode};

/// An error with its causes.
pub(super) fn words(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let more = next.to_string();
        // The client repeats them.
        if !text.contains(&more) {
            text += &format!(": {more}");
        }
        cause = next.source();
    }
    text
}

/// The server's code, if JetStream has refused.
pub(super) fn code(error: &(dyn Error + 'static)) -> Option<ErrorCode> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(refused) = error.downcast_ref::<jetstream::Error>() {
            return Some(refused.error_code());
        }
        next = error.source();
    }
    None
}

/// Whether there is no room: in a stream, or for one.
pub(super) fn is_full(code: ErrorCode) -> bool {
    [
        // A message beyond the bound of its stream. Other reasons have no answer at all.
        ErrorCode::STREAM_STORE_FAILED,
        ErrorCode::ACCOUNT_RESOURCES_EXCEEDED,
        ErrorCode::INSUFFICIENT_RESOURCES,
        ErrorCode::STORAGE_RESOURCES_EXCEEDED,
        ErrorCode::STREAM_MAX_STREAM_BYTES_EXCEEDED,
        ErrorCode::MAXIMUM_STREAMS_LIMIT,
    ]
    .contains(&code)
}
