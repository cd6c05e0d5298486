//! One event that was taken: an attempt, and what it means for the event.
//!
//! ```text
//! attempt ─► again later
//!        └─► ended: gone, or a dead letter
//! ```
//!
//! What follows is decided by `core::events`. Whatever becomes of an event is in the queue before anybody else learns of it.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use pilotlight_api::AsyncSpec;
use pilotlight_core::events::delivery::AfterEnd;
use pilotlight_core::events::retry::{Attempt, EventEnd, EventTime, Next, Progress};
use pilotlight_core::function::Concurrency;
use pilotlight_events::event::{EventHead, EventOutcome, EventResponse, QueuedEvent};
use pilotlight_events::queue::{QueueError, Settled, Ticket};
use tracing::Instrument;

use super::{Events, News, QUEUE_PAUSE, Runner};
use crate::catalog::Entry;
use crate::clock;
use crate::message::{Answer, Invocation, Invoked, Outcome};
use crate::span;

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
        outcome: EventOutcome,
        has_begun: bool,
    },
}

/// See the module.
pub(super) async fn attempt(events: Events, ticket: Ticket, event: QueuedEvent) {
    let span = span::open(&event.head.request_id);
    let function = event.head.target.function.clone();
    let Some((has_begun, due)) = turn(&events, ticket, event).instrument(span).await else {
        return;
    };
    let ended = News::Ended {
        function,
        has_begun,
        due,
    };
    // The dispatcher has ended with the gateway.
    let _ = events.news.send(ended).await;
}

/// Whether the function ran, and when the event is tried again. `None`: the gateway ends.
async fn turn(
    events: &Events,
    ticket: Ticket,
    event: QueuedEvent,
) -> Option<(bool, Option<EventTime>)> {
    let entry = events.runner.functions.get(&event.head.target);
    let settle = async |settled: Settled| {
        let settle = || events.queue.settle(ticket, settled.clone());
        events.recorded(&event.head.request_id, settle).await
    };
    match try_event(events, entry.as_ref(), &event).await {
        Tried::Untried => {
            // The next gateway finds the event as it is: at once, or when nobody has it any more.
            let _ = events.queue.settle(ticket, Settled::Untried).await;
            None
        }
        Tried::Again {
            progress,
            due,
            has_begun,
        } => {
            settle(Settled::Again { progress, due }).await?;
            Some((has_begun, Some(due)))
        }
        Tried::Ended { outcome, has_begun } => {
            let (end, attempts) = (outcome.end, outcome.attempts);
            settle(match end.then(false) {
                AfterEnd::Gone | AfterEnd::Deliver => Settled::Gone,
                AfterEnd::Dead => Settled::Dead(outcome),
            })
            .await?;
            if let Some(entry) = &entry {
                entry.metrics.event_ended(end);
            }
            log_end(&event.head, end, attempts);
            Some((has_begun, None))
        }
    }
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

/// Spreads attempts. It need not be secret.
fn random(request_id: &str) -> u32 {
    RandomState::new().hash_one(request_id) as u32
}

impl Events {
    /// Asks the queue until it has recorded what became of an event. `None`: the gateway ends before that.
    async fn recorded<Asked>(&self, request_id: &str, ask: impl Fn() -> Asked) -> Option<()>
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
        let value = |text: &String| HeaderValue::try_from(text.as_str()).ok();
        let (Some(function_arn), Some(trace)) = (value(&head.function_arn), value(&head.trace))
        else {
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
            wants_report: false,
            arrived: clock::now(),
            hops: 0,
            waited_before: Duration::ZERO,
        });
        let outcome = match invoked.await {
            Invoked::Ended(outcome) => outcome,
            Invoked::Began(stream) => stream.collect(&self.intake).await,
        };
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
}
