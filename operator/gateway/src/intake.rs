//! What this gateway holds of callers: bytes of events, bytes of answers, places of connections.
//!
//! The handlers in `http` read events through it, `instance` and `cluster::peers` take room for answers, and
//! `http::server` asks it for each request and connection. `core::intake` decides. Bytes return to their budget
//! when the last copy of a body is dropped, whoever holds it. Nothing here knows a function.

mod paced;

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::Body as _;
use pilotlight_core::instance::failure::PAYLOAD_LIMIT;
use pilotlight_core::intake::bytes::{ByteBudget, Share};
use pilotlight_core::intake::limits::IntakeLimits;
use pilotlight_net::body::{self, Whole};
use tokio::sync::Notify;

use self::paced::Paced;
pub(crate) use self::paced::Unread;
pub(crate) use crate::metrics::intake::{IntakeMetrics, Listener, Refusal};

/// What a request and its answer cost beside the event, in bytes. An answer of up to this size has no share of
/// its own.
pub(crate) const REQUEST_BYTES: usize = 16 * 1024;

/// See the module. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub(crate) struct Intake {
    pub(crate) limits: IntakeLimits,
    pub(crate) metrics: IntakeMetrics,
    events: ByteBudget,
    answers: ByteBudget,
    /// Room for answers may have come.
    room: Arc<Notify>,
}

/// Room for an answer, which returns when it is dropped. `None` for a small answer.
#[derive(Debug)]
pub(crate) struct Room(Option<(Share, Arc<Notify>)>);

/// A body with its share of a budget.
struct Held<T> {
    bytes: Bytes,
    _share: T,
}

impl<T> AsRef<[u8]> for Held<T> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Intake {
    pub(crate) fn new(limits: IntakeLimits, metrics: IntakeMetrics) -> Self {
        metrics.limits(&limits);
        Intake {
            limits,
            metrics,
            events: ByteBudget::new(limits.event_bytes),
            answers: ByteBudget::new(limits.answer_bytes),
            room: Arc::default(),
        }
    }

    pub(crate) fn is_short(&self) -> bool {
        self.events.is_short() || self.answers.is_short()
    }

    /// Bytes in use of events and of answers.
    pub(crate) fn used(&self) -> [usize; 2] {
        [self.events.used(), self.answers.used()]
    }

    /// The share of a request on a connection that carries many.
    pub(crate) fn request(&self) -> Option<Share> {
        let share = self.events.take(REQUEST_BYTES);
        if share.is_none() {
            self.metrics.refused(Refusal::request_bytes);
        }
        share
    }

    /// Reads an event of at most `PAYLOAD_LIMIT` bytes. The share must live as long as the event is used. Of a
    /// body that is refused it discards up to `discard` bytes, so that the sender gets to read the answer.
    pub(crate) async fn read_event(
        &self,
        body: Body,
        discard: usize,
    ) -> Result<(Bytes, Option<Share>), Unread> {
        self.read(body, PAYLOAD_LIMIT, discard).await
    }

    /// The same for a body of at most `limit` bytes.
    pub(crate) async fn read(
        &self,
        body: Body,
        limit: usize,
        discard: usize,
    ) -> Result<(Bytes, Option<Share>), Unread> {
        let read = self.read_within_budget(body, limit, discard).await;
        let refusal = match read {
            Err(Unread::NoRoom) => Refusal::event_bytes,
            Err(Unread::TooSlow) => Refusal::slow_body,
            _ => return read,
        };
        self.metrics.refused(refusal);
        read
    }

    async fn read_within_budget(
        &self,
        body: Body,
        limit: usize,
        discard: usize,
    ) -> Result<(Bytes, Option<Share>), Unread> {
        let size = body.size_hint().exact();
        let size = size.map(|size| usize::try_from(size).unwrap_or(usize::MAX));
        if size.is_some_and(|size| size > limit) {
            self.discard(body, discard).await;
            return Err(Unread::TooLarge);
        }
        let Some(share) = self.events.take(size.unwrap_or(0)) else {
            self.discard(body, discard).await;
            return Err(Unread::NoRoom);
        };
        // Without a length, the share grows with the body.
        let is_growing = size.is_none();
        let mut body = Paced::new(body, &self.events, Some(share), is_growing);
        match body::read(&mut body, limit, discard).await {
            Whole::Complete(bytes) => {
                let share = body.into_share().ok_or(Unread::NoRoom)?;
                Ok(held(bytes, share))
            }
            Whole::TooLarge => Err(Unread::TooLarge),
            Whole::Broken(Unread::NoRoom) => {
                self.discard(body.into_body(), discard).await;
                Err(Unread::NoRoom)
            }
            Whole::Broken(unread) => Err(unread),
        }
    }

    /// Reads a body that nobody needs, within bounds, so that its sender gets to read the answer.
    pub(crate) async fn discard(&self, body: Body, limit: usize) {
        let body = Paced::new(body, &self.events, None, false);
        body::discard(body, limit).await;
    }

    /// Waits for room for an answer of so many bytes, at most `PAYLOAD_LIMIT`. There will be room: readers of
    /// answers that take nothing are disconnected.
    pub(crate) async fn room(&self, bytes: usize) -> Room {
        let bytes = bytes.min(PAYLOAD_LIMIT);
        if bytes <= REQUEST_BYTES {
            return Room(None);
        }
        loop {
            let returned = self.room.notified();
            if let Some(share) = self.answers.take(bytes) {
                return Room(Some((share, self.room.clone())));
            }
            returned.await;
        }
    }

    /// Waits for room for the answer that this body is.
    pub(crate) async fn room_for(&self, body: &impl hyper::body::Body) -> Room {
        let size = body.size_hint().exact();
        let size = size.and_then(|size| usize::try_from(size).ok());
        self.room(size.unwrap_or(PAYLOAD_LIMIT)).await
    }
}

impl Room {
    /// The answer that was read into this room. The room returns with its last copy.
    pub(crate) fn hold(mut self, bytes: Bytes) -> Bytes {
        let Some((share, room)) = &mut self.0 else {
            return bytes;
        };
        share.shrink_to(bytes.len());
        room.notify_waiters();
        if bytes.len() <= REQUEST_BYTES {
            return bytes;
        }
        let _share = self;
        Bytes::from_owner(Held { bytes, _share })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some((share, room)) = self.0.take() {
            drop(share);
            room.notify_waiters();
        }
    }
}

/// A large event keeps its bytes of the budget as long as anybody holds a copy of it. A small one keeps them as long
/// as the caller of `read_event` holds the share, which costs no allocation.
fn held(bytes: Bytes, share: Share) -> (Bytes, Option<Share>) {
    if share.bytes() <= REQUEST_BYTES {
        return (bytes, Some(share));
    }
    let _share = share;
    (Bytes::from_owner(Held { bytes, _share }), None)
}
