//! One event: what the function gets, and how far it has come.
//!
//! The payload is stored beside the rest, which is JSON: later versions add fields to it, and ignore those that they do not
//! know.

use std::time::Duration;

use bytes::Bytes;
use pilotlight_core::events::retry::{EventEnd, EventPolicy, EventTime, Progress};
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
    /// Absent until it has ended. It stays in its queue until its destination has the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<EventOutcome>,
    /// What its schedule declares in place of the function.
    #[serde(default, skip_serializing_if = "EventOverrides::is_empty")]
    pub overrides: EventOverrides,
}

/// How an event has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventOutcome {
    pub end: EventEnd,
    pub at: EventTime,
    /// How many attempts have begun.
    pub attempts: u32,
    /// Absent if no attempt ran when it ended, if its instance was lost, or if the queue has no room for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<EventResponse>,
}

/// How the last attempt was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventResponse {
    pub payload: String,
    /// `$LATEST`, or a number.
    pub version: String,
    /// `Unhandled`, unless it succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function_error: Option<String>,
}

/// What is declared for one event, in place of what its function declares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EventOverrides {
    /// In seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<u8>,
}

impl EventOverrides {
    fn is_empty(&self) -> bool {
        *self == EventOverrides::default()
    }

    /// The policy of the event. `function`: what its function declares.
    pub fn over(&self, function: EventPolicy) -> EventPolicy {
        let max_age = self.max_age.map(u64::from).map(Duration::from_secs);
        EventPolicy {
            max_age: max_age.unwrap_or(function.max_age),
            retries: self.retries.unwrap_or(function.retries),
        }
    }
}

impl QueuedEvent {
    /// Its part of a queue's bound, in bytes.
    pub fn size(&self) -> usize {
        self.head.size() + self.payload.len()
    }
}

impl EventHead {
    pub(crate) fn size(&self) -> usize {
        let EventHead {
            request_id,
            function_arn,
            client_context,
            trace,
            trace_state,
            outcome,
            ..
        } = self;
        let response = outcome
            .as_ref()
            .and_then(|outcome| outcome.response.as_ref());
        let response = response.map(|response| &response.payload);
        let optional = [client_context.as_ref(), trace_state.as_ref(), response];
        // The fields of the progress, and what a row takes besides.
        const ROW: usize = 200;
        ROW + request_id.len()
            + function_arn.len()
            + trace.len()
            + optional
                .into_iter()
                .flatten()
                .map(String::len)
                .sum::<usize>()
    }
}
