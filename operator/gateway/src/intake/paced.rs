//! A body that has to make progress, and whose share grows with it.
//!
//! Wraps the body of a request while `intake` reads it. `core::intake::pace` decides whether it is too slow. A body
//! that is there already costs no timer.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use pilotlight_core::intake::bytes::{ByteBudget, Share};
use pilotlight_core::intake::pace::{BODY, CHECK_INTERVAL, Pace, SHORT};
use tokio::time::{Interval, MissedTickBehavior, interval_at};

use crate::clock;

/// Why a body was not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unread {
    #[error("the bytes that wait have reached their limit")]
    NoRoom,
    #[error("it is too large")]
    TooLarge,
    #[error("it came too slowly")]
    TooSlow,
    #[error("{0}")]
    Broken(#[source] axum::Error),
}

/// See the module.
pub(super) struct Paced {
    body: Body,
    budget: ByteBudget,
    share: Option<Share>,
    is_growing: bool,
    pace: Pace,
    /// `Some` once it had to be waited for.
    checks: Option<Interval>,
}

/// What a body without a length takes for each byte: the buffer that it is collected in doubles when it is full.
const GROWTH: usize = 2;

impl Paced {
    pub(super) fn new(
        body: Body,
        budget: &ByteBudget,
        share: Option<Share>,
        is_growing: bool,
    ) -> Self {
        Paced {
            body,
            budget: budget.clone(),
            share,
            is_growing,
            pace: Pace::new(clock::now()),
            checks: None,
        }
    }

    pub(super) fn into_share(self) -> Option<Share> {
        self.share
    }

    pub(super) fn into_body(self) -> Body {
        self.body
    }

    fn take(&mut self, bytes: usize) -> Result<(), Unread> {
        self.pace.moved(bytes);
        if self.is_growing {
            let share = self.share.take();
            self.share = share.and_then(|share| share.grown(bytes.saturating_mul(GROWTH)));
            if self.share.is_none() {
                return Err(Unread::NoRoom);
            }
        }
        Ok(())
    }

    fn poll_too_slow(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let checks = self.checks.get_or_insert_with(|| {
            let first = tokio::time::Instant::now() + CHECK_INTERVAL;
            let mut checks = interval_at(first, CHECK_INTERVAL);
            checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            checks
        });
        while checks.poll_tick(context).is_ready() {
            let tempo = match self.budget.is_short() {
                true => SHORT,
                false => BODY,
            };
            if self.pace.is_too_slow(clock::now(), tempo) {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }
}

impl HttpBody for Paced {
    type Data = Bytes;
    type Error = Unread;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Unread>>> {
        let this = self.get_mut();
        let frame = match Pin::new(&mut this.body).poll_frame(context) {
            Poll::Pending => {
                let too_slow = this.poll_too_slow(context);
                return too_slow.map(|()| Some(Err(Unread::TooSlow)));
            }
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Ready(Some(frame)) => frame.map_err(Unread::Broken),
        };
        let taken = frame.and_then(|frame| {
            this.take(frame.data_ref().map_or(0, Bytes::len))?;
            Ok(frame)
        });
        Poll::Ready(Some(taken))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
