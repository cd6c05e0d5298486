//! What is sent about an event that has ended, and what may become of it.

use bytes::Bytes;
use pilotlight_core::events::retry::EventTime;
use pilotlight_core::ids::FunctionKey;
use thiserror::Error;

use crate::ended;
use crate::event::{EventOutcome, QueuedEvent};

/// How much of an answer is read, in bytes.
pub(super) const ANSWER_LIMIT: usize = 64 * 1024;

/// What is sent about an event that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// That of the CloudEvent: the same for each try.
    pub id: String,
    pub request_id: String,
    pub function: FunctionKey,
    /// When the event ended.
    pub at: EventTime,
    /// X-Ray's header.
    pub trace: String,
    pub record: Bytes,
    pub cloud_event: Bytes,
}

impl Outgoing {
    pub fn of(event: &QueuedEvent, outcome: &EventOutcome) -> Self {
        let head = &event.head;
        Outgoing {
            id: ended::record_id(event, outcome),
            request_id: head.request_id.clone(),
            function: head.target.function.clone(),
            at: outcome.at,
            trace: head.trace.clone(),
            record: ended::record(event, outcome),
            cloud_event: ended::cloud_event(event, outcome),
        }
    }
}

/// Why a receiver has not got what was sent, without credentials and without the words of the receiver.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Undelivered {
    /// It may get it later: it is away, or somebody has to mend credentials.
    #[error("{0}")]
    Later(String),
    /// It refuses this each time.
    #[error("{0}")]
    Never(String),
}
