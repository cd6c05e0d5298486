//! The messages between request handlers, the driver and the instances' tasks.
//!
//! The invoker sends an invocation to `driver`, which hands it to the task of an instance (`instance`) as
//! an order; the task sends the outcome straight to the caller and a report to the driver. This module owns
//! the types alone. All channels that carry them are bounded.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderValue;
use pilotlight_core::ids::{InstanceName, PoolId};
use pilotlight_core::instance::{RequestId, Status};
use pilotlight_core::invoke::pool::InstanceId;
use pilotlight_core::invoke::queue::InvocationId;
pub(crate) use pilotlight_wire::invoke::{Answer, Outcome};
use pilotlight_wire::stream::StreamHead;
use tokio::sync::oneshot;
use tracing::Span;

use crate::answer_stream::{self, AnswerStream, AnswerWriter};
use crate::catalog::{Deployment, PoolKey};
use crate::metrics::{OutcomeLabel, Tally};

/// How many messages may wait for the driver. When it is full, a sender waits for room.
pub(crate) const INBOX_LIMIT: usize = 1024;

/// How many orders may wait for an instance: there is never more than one event and one drain.
pub(crate) const ORDERS_LIMIT: usize = 4;

/// One call of a function.
#[derive(Debug)]
pub(crate) struct Invocation {
    pub(crate) target: PoolId,
    pub(crate) request_id: RequestId,
    pub(crate) payload: Bytes,
    pub(crate) function_arn: HeaderValue,
    /// JSON, no longer encoded in base64.
    pub(crate) client_context: Option<HeaderValue>,
    /// X-Ray's header for the next hop.
    pub(crate) trace: HeaderValue,
    /// The caller's `tracestate`.
    pub(crate) trace_state: Option<HeaderValue>,
    /// Whether the caller wants the end of the log with the answer.
    pub(crate) log_tail: bool,
    /// Whether the answer needs a report for the trace.
    pub(crate) wants_report: bool,
    /// When it arrived at this gateway.
    pub(crate) arrived: Instant,
    /// How many gateways have passed it on.
    pub(crate) hops: u16,
    /// How long it had been without an owner at those gateways.
    pub(crate) waited_before: Duration,
}

/// An invocation that has no outcome yet.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) id: InvocationId,
    pub(crate) invocation: Invocation,
    /// `Some` for a cold start: the invocation goes to an instance that was started while it waited. The
    /// value is the time that it had waited before that start.
    pub(crate) cold: Option<Duration>,
    pub(crate) span: Span,
    pub(crate) tally: Tally,
    pub(crate) placement: oneshot::Sender<Placement>,
}

impl Pending {
    /// Tells the caller how the invocation ended, and counts it. A caller that has gone gets nothing.
    pub(crate) fn end(self, outcome: Outcome) {
        let label = OutcomeLabel::of(&outcome);
        let invocation = &self.invocation;
        let call = (&invocation.request_id, &invocation.trace);
        self.tally.ended_as(label, call);
        let _ = self.placement.send(Placement::Ended(outcome));
    }

    /// Gives the invocation back to the invoker, which may try it elsewhere.
    pub(crate) fn return_unstarted(self) {
        let invocation = Box::new(self.invocation);
        let _ = self.placement.send(Placement::NotStarted(invocation));
    }

    /// Gives the caller the beginning of an answer. The writer passes on the rest, and counts the invocation.
    pub(crate) fn begin(self, head: StreamHead) -> AnswerWriter {
        let tally = self
            .tally
            .of(&self.invocation.request_id, &self.invocation.trace);
        let (writer, stream) = answer_stream::channel(head, Some(tally));
        let _ = self.placement.send(Placement::Began(stream));
        writer
    }
}

/// What an attempt to run an invocation led to.
#[derive(Debug)]
pub(crate) enum Placement {
    Ended(Outcome),
    /// Its answer comes piece by piece, and the outcome after it.
    Began(AnswerStream),
    /// It provably never started, and may be tried elsewhere. Boxed, since this is rare.
    NotStarted(Box<Invocation>),
}

/// What became of an invocation that the invoker was asked to run.
#[derive(Debug)]
pub(crate) enum Invoked {
    Ended(Outcome),
    /// Its answer comes piece by piece, and the outcome after it.
    Began(AnswerStream),
}

/// A message to the driver. `done` is answered when the driver has carried it out.
#[derive(Debug)]
pub(crate) enum Message {
    Invoke {
        pool: PoolKey,
        pending: Pending,
    },
    /// The caller has gone; nobody waits for the outcome any more.
    Abandoned {
        pool: PoolKey,
        invocation: InvocationId,
    },
    Report {
        pool: PoolKey,
        instance: InstanceId,
        report: Report,
    },
    /// Replaces the full set of functions.
    Deploy {
        all: Vec<Deployment>,
        done: oneshot::Sender<()>,
    },
    /// Deletes the functions in `removed` first, then adds or updates those in `set`.
    Change {
        set: Vec<Deployment>,
        removed: Vec<PoolId>,
        done: oneshot::Sender<()>,
    },
    /// Changes which functions this gateway owns (rule 3).
    ChangeOwnership {
        change: OwnershipChange,
        done: oneshot::Sender<()>,
    },
    /// Drains all instances and ends; after `grace` the driver ends them without waiting.
    Shutdown {
        grace: Duration,
        done: oneshot::Sender<()>,
    },
}

/// The functions whose ownership changed.
#[derive(Debug, Default)]
pub(crate) struct OwnershipChange {
    /// Functions that this gateway owns from now on, each with the names of its existing instances.
    pub(crate) gained: Vec<(PoolId, Vec<InstanceName>)>,
    pub(crate) lost: Vec<PoolId>,
}

/// What the driver asks of an instance's task.
#[derive(Debug)]
pub(crate) enum Order {
    Run(Pending),
    /// Take no further lease, finish the current one, end.
    Drain,
    /// Leave the instance to another gateway.
    Release,
}

/// What an instance's task tells the driver.
#[derive(Debug)]
pub(crate) enum Report {
    /// Its supervisor is up.
    Up,
    /// The instance has sent its status.
    Observed(Status),
    Finished(Status),
    NotStarted {
        pending: Pending,
        status: Option<Status>,
    },
}
