//! The format of a run's records, one JSON object in a line. README.md lists them.
//!
//! Clients, the journal of the handlers and the harness write records; `account` reads them.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Microseconds since the epoch of the run's clock, which is a virtual one in the simulation.
pub type At = u64;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "camelCase")]
pub enum Record {
    /// A client sends an invocation.
    Sent {
        at: At,
        id: String,
        function: String,
    },
    /// The client has the outcome of its invocation.
    Answered {
        at: At,
        id: String,
        #[serde(flatten)]
        outcome: CallOutcome,
    },
    /// The calls of a function are asynchronous, and its events are tried so often at most.
    Events {
        at: At,
        function: String,
        attempts: usize,
    },
    /// The client has 202 for its event, with this request id.
    Accepted { at: At, id: String, request: String },
    /// A handler begins with an event of this request id. `began` says where.
    Attempted { at: At, id: String, request: String },
    /// So many dead letters of a function have become events again.
    Replayed {
        at: At,
        function: String,
        count: usize,
    },
    /// A handler begins with an event.
    Began {
        at: At,
        id: String,
        instance: String,
        /// The function's revision; a later one has a higher number.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        revision: Option<u64>,
    },
    /// The handler is about to answer.
    Ended {
        at: At,
        id: String,
        instance: String,
    },
    /// The instance, or the process in it, is gone: an invocation in it ended without an answer.
    Gone { at: At, instance: String },
    /// The number of a function's instances from now on.
    Instances {
        at: At,
        function: String,
        live: usize,
        limit: usize,
    },
    /// How many invocations of a function may wait besides those that run; 0 without this record.
    Queue {
        at: At,
        function: String,
        size: usize,
    },
    /// Something that should not exist after the end of the run.
    Left { at: At, what: String },
    /// A fault begins: from now on callers may get the kinds of outcomes in `allows`. `events:KIND` allows a kind for
    /// asynchronous calls alone, and `redelivery` that an event runs once more.
    Fault {
        at: At,
        fault: String,
        allows: Vec<String>,
    },
    /// The effects of the fault are over.
    Over { at: At, fault: String },
    /// The harness failed and ended the run early: its records prove nothing about the platform.
    Aborted { at: At, reason: String },
}

/// The outcome of an invocation, as its caller sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "camelCase")]
pub enum CallOutcome {
    Success {
        answer: String,
    },
    /// The function's own error, or its runtime's.
    FunctionError {
        kind: String,
        message: String,
    },
    /// The Invoke API's error.
    Error {
        kind: String,
        message: String,
    },
    /// The connection broke under the invocation.
    Broken {
        message: String,
    },
    /// No connection was made, or the invocation provably never left.
    NotSent {
        message: String,
    },
}

/// The only error of the Invoke API for an invocation that may have taken effect.
const MAY_HAVE_RUN: &str = "ServiceException";
/// In the `allows` of a fault: what was under way may be given out again.
pub(crate) const REDELIVERY: &str = "redelivery";
/// Kinds of outcomes without an answer.
pub(crate) const BROKEN: &str = "broken";
pub(crate) const NOT_SENT: &str = "notSent";

impl CallOutcome {
    /// Its name in the `allows` of a fault.
    pub fn kind(&self) -> &str {
        match self {
            CallOutcome::Success { .. } => "success",
            CallOutcome::FunctionError { kind, .. } | CallOutcome::Error { kind, .. } => kind,
            CallOutcome::Broken { .. } => BROKEN,
            CallOutcome::NotSent { .. } => NOT_SENT,
        }
    }

    pub fn message(&self) -> &str {
        match self {
            CallOutcome::Success { .. } => "",
            CallOutcome::FunctionError { message, .. }
            | CallOutcome::Error { message, .. }
            | CallOutcome::Broken { message }
            | CallOutcome::NotSent { message } => message,
        }
    }

    /// Whether the outcome promises that the handler never began.
    pub fn is_refusal(&self) -> bool {
        match self {
            CallOutcome::Error { kind, .. } => kind != MAY_HAVE_RUN,
            CallOutcome::NotSent { .. } => true,
            _ => false,
        }
    }
}

pub fn now() -> At {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros() as u64)
}
