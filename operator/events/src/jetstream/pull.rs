//! Takes messages from the consumer of a function.
//!
//! A message that is no event of this version stays in its stream, and is looked at again later. Nothing here remembers what
//! was taken.

use std::time::Duration;

use async_nats::Subject;
use async_nats::jetstream::{self, AckKind};
use futures_util::StreamExt;
use pilotlight_core::ids::FunctionKey;
use serde_json::json;

use super::link::Session;
use super::record;
use super::server::Server;
use crate::event::QueuedEvent;
use crate::queue::QueueError;

/// The pause before an event is looked at again that this version cannot read.
const UNREADABLE_PAUSE: Duration = Duration::from_secs(600);

/// A message of a consumer.
pub(super) struct Delivery {
    pub(super) event: QueuedEvent,
    pub(super) sequence: u64,
    pub(super) deliveries: u64,
    pub(super) reply: Subject,
}

/// Events could not be taken.
pub(super) enum PullError {
    NoConsumer,
    Failed(QueueError),
}

/// What the function's consumer has to give out now, `count` at most, within the time that a request may take.
pub(super) async fn pull(
    server: &Server,
    session: &Session,
    function: &FunctionKey,
    count: usize,
    limit: Duration,
) -> Result<Vec<Delivery>, PullError> {
    let client = &session.client;
    let stream = server.prefix.events_stream(&function.namespace);
    let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{}", function.name);
    let request = json!({"batch": count, "no_wait": true}).to_string();
    let failed = |error: &dyn std::error::Error| {
        PullError::Failed(server.link.unavailable("events cannot be taken", error))
    };
    let inbox = client.new_inbox();
    let mut answers = client
        .subscribe(inbox.clone())
        .await
        .map_err(|error| failed(&error))?;
    client
        .publish_with_reply(subject, inbox, request.into())
        .await
        .map_err(|error| failed(&error))?;
    let mut deliveries = Vec::new();
    let mut seen = 0;
    let end = tokio::time::sleep(limit);
    tokio::pin!(end);
    while seen < count {
        let answer = tokio::select! {
            answer = answers.next() => answer,
            () = &mut end => None,
        };
        let Some(answer) = answer else {
            // What has come is given out. The rest comes again when nobody says that they have it.
            if deliveries.is_empty() {
                let why = format!("the NATS server gave no answer within {limit:?}");
                return Err(PullError::Failed(QueueError::Unavailable(why)));
            }
            break;
        };
        match answer.status.map(|status| status.as_u16()) {
            None | Some(200) => {
                seen += 1;
                deliveries.extend(delivery(session, answer).await);
            }
            // No more messages.
            Some(404 | 408) => break,
            // Nobody listens there, or no longer.
            Some(503 | 409) if seen == 0 => return Err(PullError::NoConsumer),
            Some(status) => {
                tracing::debug!(
                    status,
                    description = answer.description,
                    "events are taken no further"
                );
                break;
            }
        }
    }
    Ok(deliveries)
}

/// The event of a message. One that cannot be read is looked at again later.
async fn delivery(session: &Session, message: async_nats::Message) -> Option<Delivery> {
    let message = jetstream::Message {
        message,
        context: session.jetstream.clone(),
    };
    let info = message.info().ok()?;
    let (sequence, deliveries) = (info.stream_sequence, info.delivered);
    let reply = message.reply.clone()?;
    match record::decode(&message.payload) {
        Ok(event) => Some(Delivery {
            event,
            sequence,
            deliveries: u64::try_from(deliveries).unwrap_or(1),
            reply,
        }),
        Err(error) => {
            let subject = message.subject.as_str();
            tracing::error!(subject, sequence, %error, "an event cannot be read, and stays in its stream");
            let later = AckKind::Nak(Some(UNREADABLE_PAUSE));
            let _ = session.client.publish(reply, later.into()).await;
            None
        }
    }
}
