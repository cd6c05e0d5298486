//! One event that was taken: an attempt, and what it means for the event.
//!
//! ```text
//! attempt ─► again later
//!        └─► ended: gone, a dead letter, or to be delivered (deliver)
//! ```
//!
//! What follows is decided by `core::events`. Whatever becomes of an event is in the queue before anybody else learns of it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use pilotlight_api::AsyncSpec;
use pilotlight_core::events::delivery::AfterEnd;
use pilotlight_core::events::retry::{Attempt, EventEnd, EventTime, Next, Progress};
use pilotlight_core::function::Concurrency;
use pilotlight_core::ids::FunctionKey;
use pilotlight_core::traces::context;
use pilotlight_events::event::{EventHead, EventOutcome, EventResponse, QueuedEvent};
use pilotlight_events::queue::{QueueError, Settled, Ticket};
use tracing::Instrument;

use super::deliver::destination;
use super::places::Place;
use super::shared::{Events, News, QUEUE_PAUSE, Runner, random};
use crate::catalog::Entry;
use crate::clock;
use crate::message::{Answer, Invocation, Invoked, Outcome};
use crate::span;
use crate::traces::{Recording, Trigger, fresh_bits};

/// What became of an attempt.
enum Tried {
    /// The gateway ends, and the function has not run.
    Untried,
    Again {
        progress: Progress,
        due: EventTime,
        has_begun: bool,
    },
    Ended {
        progress: Progress,
        outcome: EventOutcome,
        has_begun: bool,
    },
}

/// What an attempt means for the dispatcher, and what is still to be done.
struct Turn {
    has_begun: bool,
    /// When the event is tried again.
    due: Option<EventTime>,
    /// It has ended, and its destination wants to know.
    to_deliver: Option<(Place, EventOutcome)>,
}

impl Turn {
    fn over(has_begun: bool, due: Option<EventTime>) -> Self {
        Turn {
            has_begun,
            due,
            to_deliver: None,
        }
    }
}

/// See the module.
pub(super) async fn attempt(events: Events, ticket: Ticket, mut event: QueuedEvent) {
    let span = span::open(&event.head.request_id);
    let attempt = async {
        let Some(turn) = turn(&events, ticket, &mut event).await else {
            return;
        };
        let ended = News::Ended {
            function: event.head.target.function.clone(),
            has_begun: turn.has_begun,
            due: turn.due,
        };
        // The dispatcher has ended with the gateway.
        let _ = events.news.send(ended).await;
        if let Some((_place, outcome)) = turn.to_deliver {
            events.deliver(ticket, event, outcome).await;
        }
    };
    attempt.instrument(span).await;
}

/// `None`: the gateway ends.
async fn turn(events: &Events, ticket: Ticket, event: &mut QueuedEvent) -> Option<Turn> {
    let function = event.head.target.function.clone();
    if let Some(outcome) = event.head.outcome.take() {
        let place = events.place(ticket, &function).await?;
        return Some(Turn {
            to_deliver: Some((place, outcome)),
            ..Turn::over(true, None)
        });
    }
    let entry = events.runner.functions.get(&event.head.target);
    let request_id = event.head.request_id.clone();
    let settle = async |settled: Settled| {
        let settle = || events.queue.settle(ticket, settled.clone());
        events.recorded(&request_id, settle).await
    };
    let (progress, outcome, has_begun) = match try_event(events, entry.as_ref(), event).await {
        Tried::Untried => {
            // The next gateway finds the event as it is: at once, or when nobody has it any more.
            let _ = events.queue.settle(ticket, Settled::Untried).await;
            return None;
        }
        Tried::Again {
            progress,
            due,
            has_begun,
        } => {
            settle(Settled::Again { progress, due }).await?;
            return Some(Turn::over(has_begun, Some(due)));
        }
        Tried::Ended {
            progress,
            outcome,
            has_begun,
        } => (progress, outcome, has_begun),
    };
    let (end, attempts) = (outcome.end, outcome.attempts);
    let has_destination = destination(entry.as_ref(), end).is_some();
    let mut to_deliver = None;
    match end.then(has_destination) {
        AfterEnd::Gone => settle(Settled::Gone).await?,
        AfterEnd::Dead => settle(Settled::Dead(outcome)).await?,
        AfterEnd::Deliver => {
            // First of all: whatever becomes of the record, the function does not run again.
            let end = || events.queue.end(ticket, progress, outcome.clone());
            events.recorded(&request_id, end).await?;
            event.head.progress = progress;
            to_deliver = Some((events.place(ticket, &function).await?, outcome));
        }
    }
    if let Some(entry) = &entry {
        entry.metrics.event_ended(end, has_destination);
    }
    log_end(&event.head, end, attempts);
    Some(Turn {
        to_deliver,
        ..Turn::over(has_begun, None)
    })
}

async fn try_event(events: &Events, entry: Option<&Entry>, event: &QueuedEvent) -> Tried {
    let (runner, head) = (&events.runner, &event.head);
    let (policy, reserved) = match entry {
        Some(entry) => {
            let spec = &entry.deployment.spec;
            let reserved = spec.concurrency.reserved.map(Concurrency::get);
            (spec.asynchronous.policy(), reserved)
        }
        // The function may come back until the event is too old.
        None => (AsyncSpec::default().policy(), None),
    };
    let policy = head.overrides.over(policy);
    let mut progress = head.progress;
    let mut response = None;
    let (next, has_begun) = match progress.before(events.now(), &policy, reserved) {
        Some(end) => (Next::End(end), false),
        None => {
            let Some((attempt, answer)) = runner.run(head, event.payload.clone()).await else {
                return Tried::Untried;
            };
            if let Some(entry) = entry {
                entry.metrics.event_attempt(attempt);
            }
            response = answer.map(|answer| EventResponse {
                payload: String::from_utf8_lossy(&answer.body).into_owned(),
                version: head.target.qualifier.as_str().to_owned(),
                function_error: answer.is_error.then(|| "Unhandled".to_owned()),
            });
            let next = progress.after(attempt, events.now(), &policy, random(&head.request_id));
            (next, attempt != Attempt::NotBegun)
        }
    };
    match next {
        Next::Again(due) => Tried::Again {
            progress,
            due,
            has_begun,
        },
        Next::End(end) => Tried::Ended {
            progress: progress.to_deliver(),
            outcome: EventOutcome {
                end,
                at: events.now(),
                attempts: progress.attempts(Some(end)),
                response,
            },
            has_begun,
        },
    }
}

fn log_end(head: &EventHead, end: EventEnd, attempts: u32) {
    let (condition, function, request_id) = (end.condition(), head.target.name(), &head.request_id);
    match end {
        EventEnd::Success => {
            tracing::debug!(%function, request_id, condition, attempts, "an event has ended");
        }
        _ => {
            tracing::warn!(%function, request_id, condition, attempts, "an event has ended without an answer");
        }
    }
}

impl Events {
    /// A place for the record of an event that has ended. `None`: the gateway ends before there is one.
    async fn place(&self, ticket: Ticket, function: &FunctionKey) -> Option<Place> {
        let place = self.stop.run_until_cancelled(self.places.take(function));
        let place = place.await;
        if place.is_none() {
            let _ = self.queue.settle(ticket, Settled::Untried).await;
        }
        place
    }

    /// Asks the queue until it has recorded what became of an event. `None`: the gateway ends before that.
    pub(super) async fn recorded<Asked>(
        &self,
        request_id: &str,
        ask: impl Fn() -> Asked,
    ) -> Option<()>
    where
        Asked: Future<Output = Result<(), QueueError>>,
    {
        while let Err(error) = ask().await {
            tracing::warn!(request_id, %error, "an attempt cannot be recorded");
            if self.stop.is_cancelled() {
                return None;
            }
            tokio::time::sleep(QUEUE_PAUSE).await;
        }
        Some(())
    }
}

impl Runner {
    /// How an attempt went, with the function's answer if there is one. `None`: the gateway ends, and the function has not run.
    async fn run(&self, head: &EventHead, payload: Bytes) -> Option<(Attempt, Option<Answer>)> {
        let recording = self.record(head);
        let trace = recording.as_ref().map(|attempt| attempt.header_of_run());
        let value = |text: &String| HeaderValue::try_from(text.as_str()).ok();
        let trace = value(trace.as_ref().unwrap_or(&head.trace));
        let (Some(function_arn), Some(trace)) = (value(&head.function_arn), trace) else {
            // The file was changed by another program: the event ends when it is too old.
            return Some((Attempt::NotBegun, None));
        };
        let invoked = self.invoker.call(Invocation {
            target: head.target.clone(),
            request_id: Arc::from(head.request_id.as_str()),
            payload,
            function_arn,
            client_context: head.client_context.as_ref().and_then(value),
            trace,
            trace_state: head.trace_state.as_ref().and_then(value),
            log_tail: false,
            wants_report: recording.is_some(),
            arrived: clock::now(),
            hops: 0,
            waited_before: Duration::ZERO,
        });
        let mut outcome = match invoked.await {
            Invoked::Ended(outcome) => outcome,
            Invoked::Began(stream) => stream.collect(&self.intake).await,
        };
        if let Some(recording) = recording {
            recording.end(&mut outcome);
        }
        match outcome {
            Outcome::Answered(answer) => {
                let attempt = match answer.is_error {
                    true => Attempt::Failed,
                    false => Attempt::Succeeded,
                };
                Some((attempt, Some(answer)))
            }
            // It may have done its work.
            Outcome::Lost => Some((Attempt::Failed, None)),
            Outcome::Throttled(_)
            | Outcome::NotReady(_)
            | Outcome::NotFound
            | Outcome::NotPlaced
            | Outcome::Invalid(_) => Some((Attempt::NotBegun, None)),
            Outcome::Stopping => None,
        }
    }

    /// The span of an attempt that begins now, below that of the call that has brought the event.
    fn record(&self, head: &EventHead) -> Option<Box<Recording>> {
        let traces = self.traces.as_ref()?;
        let mut context = context::of_xray(&head.trace)?;
        context.state = head.trace_state.clone();
        let request_id = Arc::from(head.request_id.as_str());
        // Each attempt has ids of its own.
        let (call, bits) = ((&request_id, clock::now()), fresh_bits);
        let mut recording = Recording::begin(traces, context, call, Trigger::Event, bits);
        recording.calls(&head.target);
        Some(recording)
    }
}
