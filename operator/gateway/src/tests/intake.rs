//! The bytes that a gateway holds of its callers, and the pace of their bodies.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use pilotlight_core::intake::limits::IntakeLimits;
use serde_json::json;
use tokio::sync::mpsc;
use tower::ServiceExt;

use super::stage::{Caller, Stage, function, invocation, on_stage, settled};
use crate::config::Config;

const MIB: usize = 1024 * 1024;
const EVENTS: &str = "pilotlight_budget_used_bytes{of=\"events\"}";
const ANSWERS: &str = "pilotlight_budget_used_bytes{of=\"answers\"}";

/// Room for one large event and one large answer at a time.
async fn narrow(spec: &str) -> Stage {
    let limits = IntakeLimits {
        event_bytes: 8 * MIB,
        answer_bytes: 8 * MIB,
        ..Config::default().limits
    };
    let config = Config {
        limits,
        ..Config::default()
    };
    let stage = Stage::new(config, None);
    stage.gateway.deploy(vec![function(spec)]).await;
    stage
}

/// A body whose pieces the test sends; it ends with the sender.
struct Pieces {
    pieces: mpsc::UnboundedReceiver<Bytes>,
    length: Option<u64>,
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.pieces.poll_recv(context);
        piece.map(|piece| Some(Ok(Frame::data(piece?))))
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map(SizeHint::with_exact).unwrap_or_default()
    }
}

fn sending(stage: &Stage, length: Option<usize>) -> (mpsc::UnboundedSender<Bytes>, Caller) {
    let (send, pieces) = mpsc::unbounded_channel();
    let length = length.map(|length| length as u64);
    let body = Body::new(Pieces { pieces, length });
    (send, stage.send(invocation("hello").body(body)))
}

fn text(length: usize) -> String {
    json!("x".repeat(length - 2)).to_string()
}

#[tokio::test(start_paused = true)]
async fn an_event_that_does_not_fit_is_refused_before_it_is_read_and_a_small_one_is_not() {
    on_stage(async {
        let mut stage = narrow("").await;
        let (_send, stalled) = sending(&stage, Some(6 * MIB));
        settled().await;
        assert_eq!(stage.metric(EVENTS).await, (6 * MIB) as f64);
        let refused = stage.call(&text(MIB)).answer().await;
        assert_eq!(refused.error(), (429, "TooManyRequestsException"));
        assert_eq!(refused.json()["Reason"], "CallerRateLimitExceeded");
        let refusals = "pilotlight_requests_refused_total{reason=\"event_bytes\"}";
        assert_eq!(stage.metric(refusals).await, 1.0);

        let small = stage.call("1");
        let mut instance = stage.instance().await;
        assert_eq!(instance.serves("1").await, "1");
        assert_eq!(small.answer().await.text(), "1");

        stalled.goes().await;
        let large = stage.call(&text(MIB));
        instance.serves("2").await;
        assert_eq!(large.answer().await.text(), "2");
        assert_eq!(stage.metric(EVENTS).await, 0.0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_event_holds_its_bytes_while_it_waits_and_runs() {
    on_stage(async {
        let mut stage = narrow("concurrency: {reserved: 1}").await;
        let (first, second) = (stage.call(&text(2 * MIB)), stage.call(&text(3 * MIB)));
        let mut instance = stage.instance().await;
        let event = instance.event().await;
        assert_eq!(stage.metric(EVENTS).await, (5 * MIB) as f64);
        let refused = stage.call(&text(2 * MIB)).answer().await;
        assert_eq!(refused.error(), (429, "TooManyRequestsException"));
        // A caller that goes away takes its event out of the queue.
        second.goes().await;
        settled().await;
        assert_eq!(stage.metric(EVENTS).await, (2 * MIB) as f64);
        instance.answers(&event, "1").await;
        assert_eq!(first.answer().await.text(), "1");
        settled().await;
        assert_eq!(stage.metric(EVENTS).await, 0.0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_body_without_a_length_takes_bytes_as_it_comes_and_is_refused_when_none_are_left() {
    on_stage(async {
        let stage = narrow("").await;
        let (send, caller) = sending(&stage, None);
        for piece in 1..=3 {
            send.send(Bytes::from(vec![b' '; MIB])).expect("it is read");
            settled().await;
            assert_eq!(stage.metric(EVENTS).await, (2 * piece * MIB) as f64);
        }
        send.send(Bytes::from(vec![b' '; MIB])).expect("it is read");
        drop(send);
        let refused = caller.answer().await;
        assert_eq!(refused.error(), (429, "TooManyRequestsException"));
        assert_eq!(stage.metric(EVENTS).await, 0.0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stalls_or_trickles_is_refused() {
    on_stage(async {
        let stage = narrow("").await;
        let (stalls, stalled) = sending(&stage, Some(1024));
        let stalled = stalled.answer().await;
        assert_eq!(stalled.error(), (408, "RequestTimeoutException"));
        assert_eq!(stalled.took.as_secs(), 10);
        drop(stalls);

        let (send, trickles) = sending(&stage, Some(6 * MIB / 2));
        while !trickles.has_answer() {
            let _ = send.send(Bytes::from_static(b" "));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let trickled = trickles.answer().await;
        assert_eq!(trickled.error(), (408, "RequestTimeoutException"));
        let refusals = "pilotlight_requests_refused_total{reason=\"slow_body\"}";
        assert_eq!(stage.metric(refusals).await, 2.0);
        assert_eq!(stage.metric(EVENTS).await, 0.0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn while_the_budget_is_short_a_stalled_body_has_less_time() {
    on_stage(async {
        let stage = narrow("").await;
        let (_send, stalled) = sending(&stage, Some(6 * MIB));
        let stalled = stalled.answer().await;
        assert_eq!(stalled.error(), (408, "RequestTimeoutException"));
        assert_eq!(stalled.took.as_secs(), 4);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_waits_for_room_until_a_reader_has_taken_another_one() {
    on_stage(async {
        let mut stage = narrow("concurrency: {reserved: 1}").await;
        let request = invocation("hello")
            .body(Body::from("1"))
            .expect("a request");
        let routes = stage.gateway.api();
        let unread = tokio::task::spawn_local(routes.oneshot(request));
        let mut instance = stage.instance().await;
        let event = instance.event().await;
        instance.answers(&event, &text(4 * MIB)).await;
        let unread = unread.await.expect("a call").expect("routes do not fail");
        assert_eq!(stage.metric(ANSWERS).await, (4 * MIB) as f64);

        let second = stage.call("2");
        let event = instance.event().await;
        instance.answers(&event, &text(4 * MIB)).await;
        settled().await;
        assert!(!second.has_answer());
        drop(unread);
        assert_eq!(second.answer().await.body.len(), 4 * MIB);
        settled().await;
        assert_eq!(stage.metric(ANSWERS).await, 0.0);
    })
    .await;
}
