//! What the messages of the streams contain.
//!
//! An event is its head, which is one line of JSON, and its payload as it is. How far it has come is stored beside it, as JSON.
//! Readers ignore fields that they do not know. Everything here may have been written by another version, or by another
//! program, so nothing is trusted: what cannot be read is an error, and never a panic.

use bytes::{BufMut, Bytes, BytesMut};
use pilotlight_core::events::retry::{EventTime, Progress};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::event::{EventHead, EventOutcome, QueuedEvent};

/// A message is no event that this version can read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UnreadableEvent {
    #[error("it has no line with a head")]
    NoHead,
    #[error("its head: {0}")]
    Head(String),
}

/// How far an event has come since it was stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredProgress {
    /// Whose progress it is: a stream that is made anew counts its messages from 1 again.
    pub request_id: String,
    pub progress: Progress,
    /// Not before this time.
    pub due: EventTime,
    /// How often the event had been given out by then.
    pub deliveries: u64,
    /// Absent until the event has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<EventOutcome>,
}

pub fn encode(event: &QueuedEvent) -> Bytes {
    let head = serde_json::to_vec(&event.head).expect("a head is plain data");
    let mut text = BytesMut::with_capacity(head.len() + 1 + event.payload.len());
    text.put_slice(&head);
    text.put_u8(b'\n');
    text.put_slice(&event.payload);
    text.freeze()
}

/// # Errors
/// If it is no event.
pub fn decode(text: &Bytes) -> Result<QueuedEvent, UnreadableEvent> {
    let end = text.iter().position(|byte| *byte == b'\n');
    let end = end.ok_or(UnreadableEvent::NoHead)?;
    let head: EventHead = serde_json::from_slice(&text[..end])
        .map_err(|error| UnreadableEvent::Head(error.to_string()))?;
    Ok(QueuedEvent {
        head,
        payload: text.slice(end + 1..),
    })
}

impl StoredProgress {
    /// The progress of an event that has ended while it is given out. The first delivery of its record that fails is the
    /// next time that the server counts.
    pub fn ended(
        request_id: &str,
        progress: Progress,
        deliveries: u64,
        outcome: EventOutcome,
    ) -> Self {
        StoredProgress {
            request_id: request_id.to_owned(),
            progress,
            due: outcome.at,
            deliveries: deliveries.saturating_sub(1),
            outcome: Some(outcome),
        }
    }

    pub fn encode(&self) -> Bytes {
        serde_json::to_vec(self).expect("it is plain data").into()
    }

    /// `None`: it is the progress of another event, or cannot be read.
    pub fn decode(text: &[u8], request_id: &str) -> Option<Self> {
        let stored: StoredProgress = serde_json::from_slice(text).ok()?;
        (stored.request_id == request_id).then_some(stored)
    }
}

/// The progress of an event that is given out for the `deliveries`-th time. The server counts; an attempt that did not begin
/// is stored nowhere else.
pub fn progress_now(head: &Progress, stored: Option<&StoredProgress>, deliveries: u64) -> Progress {
    let (known, before) = match stored {
        Some(stored) => (stored.progress, stored.deliveries),
        None => (*head, 0),
    };
    let since = deliveries.saturating_sub(before).saturating_sub(1);
    let since = u16::try_from(since).unwrap_or(u16::MAX);
    Progress {
        refusals: known.refusals.saturating_add(since),
        // Nothing changes when it was accepted.
        accepted: head.accepted,
        ..known
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::event;

    const NOW: EventTime = EventTime(1_800_000_000_000);

    #[test]
    fn an_event_is_read_back_whatever_its_payload() {
        for payload in ["", "1", "{\n}", "\n\n", "{\"a\":\"\u{2028}ü\"}"] {
            let mut sent = event("a", "r1", NOW);
            sent.head.client_context = Some("{\"a\":\n1}".to_owned());
            sent.payload = Bytes::from_static(payload.as_bytes());
            assert_eq!(decode(&encode(&sent)), Ok(sent));
        }
    }

    #[test]
    fn fields_of_later_versions_are_ignored_and_other_texts_refused() {
        let sent = event("a", "r1", NOW);
        let text = String::from_utf8(encode(&sent).to_vec()).expect("text");
        let later = text.replacen('{', "{\"hops\":{\"n\":3},", 1);
        assert_eq!(decode(&Bytes::from(later)), Ok(sent));
        for odd in ["", "{}", "{}\n", "null\n1", "\n{}"] {
            assert!(
                decode(&Bytes::from_static(odd.as_bytes())).is_err(),
                "{odd}"
            );
        }
    }

    #[test]
    fn attempts_that_did_not_begin_are_counted_by_the_server() {
        let head = Progress::new(NOW);
        assert_eq!(progress_now(&head, None, 1), head);
        assert_eq!(progress_now(&head, None, 4).refusals, 3);
        let failed = Progress {
            failures: 1,
            ..head
        };
        let stored = StoredProgress {
            request_id: "r1".to_owned(),
            progress: failed,
            due: NOW,
            deliveries: 4,
            outcome: None,
        };
        assert_eq!(progress_now(&head, Some(&stored), 5), failed);
        let refused = progress_now(&head, Some(&stored), 7);
        assert_eq!((refused.failures, refused.refusals), (1, 2));
        // A server that has lost its count starts again.
        assert_eq!(progress_now(&head, Some(&stored), 1), failed);
        let read = StoredProgress::decode(&stored.encode(), "r1");
        assert_eq!(read.as_ref(), Some(&stored));
        assert_eq!(StoredProgress::decode(&stored.encode(), "r2"), None);
    }
}
