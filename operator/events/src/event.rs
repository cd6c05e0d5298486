//! One event: what the function gets, and how far it has come.
//!
//! The payload is stored beside the rest, which is JSON: later versions add fields to it, and ignore those that they do not
//! know.

use bytes::Bytes;
use pilotlight_core::events::retry::Progress;
use pilotlight_core::ids::PoolId;
use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct QueuedEvent {
    pub head: EventHead,
    /// JSON.
    pub payload: Bytes,
}

/// An event without its payload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventHead {
    /// The same for all attempts.
    pub request_id: String,
    pub target: PoolId,
    /// As the caller has named the function.
    pub function_arn: String,
    /// JSON, no longer encoded in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_context: Option<String>,
    /// X-Ray's header.
    pub trace: String,
    /// W3C's `tracestate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_state: Option<String>,
    pub progress: Progress,
}

impl QueuedEvent {
    /// Its part of a queue's bound, in bytes.
    pub fn size(&self) -> usize {
        let EventHead {
            request_id,
            function_arn,
            client_context,
            trace,
            trace_state,
            ..
        } = &self.head;
        let optional =
            [client_context, trace_state].map(|text| text.as_ref().map_or(0, String::len));
        // The fields of the progress, and what a row takes besides.
        const ROW: usize = 200;
        ROW + self.payload.len()
            + request_id.len()
            + function_arn.len()
            + trace.len()
            + optional.iter().sum::<usize>()
    }
}
