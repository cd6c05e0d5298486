//! The record of an event that has ended, on its way to the destination of its function.
//!
//! ```text
//! attempt ─► ended (durable) ─► send ─► delivered: gone │ again later │ given up: gone, or a dead letter
//! ```
//!
//! A record takes no place of a function's attempts: a destination that hangs delays no event. What follows is decided by
//! `core::events::delivery`.

use pilotlight_api::{Destination, RecursiveLoop};
use pilotlight_core::events::delivery::{AfterDelivery, Delivery};
use pilotlight_core::events::derived;
use pilotlight_core::events::retry::{EventEnd, Progress};
use pilotlight_core::function::FunctionName;
use pilotlight_core::ids::PoolId;
use pilotlight_core::traces::context::{Fresh, TraceContext, TraceHeaders};
use pilotlight_core::traces::ids::SpanId;
use pilotlight_events::destination::{Outgoing, Undelivered};
use pilotlight_events::ended;
use pilotlight_events::event::{EventHead, EventOutcome, EventOverrides, QueuedEvent};
use pilotlight_events::queue::{QueueError, Settled, Ticket};

use super::shared::{EVENT_LIMIT, Events, News, random};
use crate::catalog::Entry;
use crate::clock;
use crate::destinations::DestinationTarget;

/// Where an event's record goes, with the field that says so. `None`: nowhere.
pub(super) fn destination(
    entry: Option<&Entry>,
    end: EventEnd,
) -> Option<(&'static str, &Destination)> {
    let declared = &entry?.deployment.spec.asynchronous;
    let (field, declared) = match end {
        EventEnd::Success => ("spec.async.onSuccess", &declared.on_success),
        _ => ("spec.async.onFailure", &declared.on_failure),
    };
    Some((field, declared.as_ref()?))
}

impl Events {
    /// Sends the record of an event that this gateway has taken, and settles the event by how that went.
    pub(super) async fn deliver(&self, ticket: Ticket, event: QueuedEvent, outcome: EventOutcome) {
        let head = &event.head;
        let entry = self.runner.functions.get(&head.target);
        let sending = self.sent(entry.as_ref(), &event, &outcome);
        let Some(sent) = self.stop.run_until_cancelled(sending).await else {
            // The next gateway sends it, once more if the destination has it by now.
            let _ = self.queue.settle(ticket, Settled::Untried).await;
            return;
        };
        let delivery = match &sent {
            Ok(()) => Delivery::Delivered,
            Err(Undelivered::Later(_)) => Delivery::Failed,
            Err(Undelivered::Never(_)) => Delivery::Refused,
        };
        if let Err(why) = &sent {
            let (function, request_id) = (head.target.name(), &head.request_id);
            tracing::warn!(%function, request_id, %why, "the record of an event was not delivered");
        }
        let mut progress = head.progress;
        let ended = (outcome.end, outcome.at);
        let after = progress.after_delivery(delivery, ended, self.now(), random(&head.request_id));
        if let Some(entry) = &entry {
            entry.metrics.event_delivery(delivery, after);
        }
        let (settled, due) = match after {
            AfterDelivery::Delivered | AfterDelivery::GivenUp { is_dead: false } => {
                (Settled::Gone, None)
            }
            AfterDelivery::GivenUp { is_dead: true } => (Settled::Dead(outcome), None),
            AfterDelivery::Again(due) => (Settled::Again { progress, due }, Some(due)),
        };
        let settle = || self.queue.settle(ticket, settled.clone());
        let recorded = self.recorded(&head.request_id, settle).await;
        if let Some(due) = due
            && recorded.is_some()
        {
            let waits = News::Waits(head.target.function.clone(), due);
            let _ = self.news.send(waits).await;
        }
    }

    async fn sent(
        &self,
        entry: Option<&Entry>,
        event: &QueuedEvent,
        outcome: &EventOutcome,
    ) -> Result<(), Undelivered> {
        let Some(entry) = entry else {
            // It may come back, as for an attempt.
            return Err(Undelivered::Later("the function is not there".to_owned()));
        };
        let Some((field, destination)) = destination(Some(entry), outcome.end) else {
            return Err(Undelivered::Never(
                "the function has no destination any more".to_owned(),
            ));
        };
        let senders = &self.runner.destinations;
        match senders.target(field, destination).await? {
            DestinationTarget::Function(name) => self.call(name, event, outcome).await,
            DestinationTarget::Receiver(receiver) => {
                let outgoing = Outgoing::of(event, outcome);
                senders.send(&receiver, &outgoing).await
            }
        }
    }

    /// Makes the record an event of another function.
    async fn call(
        &self,
        name: &FunctionName,
        event: &QueuedEvent,
        outcome: &EventOutcome,
    ) -> Result<(), Undelivered> {
        let head = &event.head;
        let target = PoolId::latest(head.target.function.namespace.clone(), name.clone());
        let Some(called) = self.runner.functions.get(&target) else {
            return Err(Undelivered::Later(format!("there is no function {name}")));
        };
        let payload = ended::record(event, outcome);
        if payload.len() > EVENT_LIMIT {
            let length = payload.len();
            return Err(Undelivered::Never(format!(
                "the record has {length} bytes, and an event has {EVENT_LIMIT} at most"
            )));
        }
        let may_loop = called.deployment.spec.recursive_loop == RecursiveLoop::Allow;
        let (trace, is_loop) = trace_of_call(head, &target);
        if is_loop && !may_loop {
            return Err(Undelivered::Never(format!(
                "{name} was called too often in this chain of calls, which goes round in a circle"
            )));
        }
        let accepted = self.accept(QueuedEvent {
            head: EventHead {
                // Whoever sends the record again sends the same event.
                request_id: derived::request_id(&["record", &ended::record_id(event, outcome)]),
                function_arn: arn_beside(&head.function_arn, name),
                target,
                client_context: None,
                trace,
                trace_state: head.trace_state.clone(),
                progress: Progress::new(self.now()),
                outcome: None,
                overrides: EventOverrides::default(),
            },
            payload,
        });
        accepted.await.map_err(|error| match error {
            QueueError::Full(why) | QueueError::Unavailable(why) => Undelivered::Later(why),
        })
    }
}

/// The trace of the event goes on, and its lineage counts the call. The second is whether the call goes round in a circle.
fn trace_of_call(head: &EventHead, target: &PoolId) -> (String, bool) {
    let bits = |place: u8| u64::from(random(&head.request_id)) << 32 | u64::from(place);
    let given = TraceHeaders {
        xray: Some(&head.trace),
        ..TraceHeaders::default()
    };
    let fresh = Fresh {
        seconds: clock::seconds() as u32,
        random: &bits,
    };
    let mut context = TraceContext::of_call(given, fresh);
    let is_loop = context.calls(&target.function);
    let parent = context.parent.unwrap_or_else(|| SpanId::of_random(bits(2)));
    let is_sampled = context.decision == Some(true);
    (context.to_xray(parent, is_sampled), is_loop)
}

/// The ARN of a function beside the one that has this ARN.
fn arn_beside(arn: &str, name: &FunctionName) -> String {
    /// `arn:aws:lambda:REGION:ACCOUNT:function`.
    const BEFORE: usize = 6;
    let before: Vec<&str> = arn.split(':').take(BEFORE).collect();
    format!("{}:{name}", before.join(":"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_beside_another_has_its_account_and_no_qualifier() {
        let name: FunctionName = "other".parse().expect("a name");
        for qualifier in ["", ":$LATEST"] {
            let arn = format!("arn:aws:lambda:eu-west-1:123456789012:function:hello{qualifier}");
            let beside = arn_beside(&arn, &name);
            assert_eq!(
                beside,
                "arn:aws:lambda:eu-west-1:123456789012:function:other"
            );
        }
    }
}
