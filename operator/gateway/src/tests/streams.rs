//! Responses that a runtime streams: they go to the gateway while they come, and their outcome follows.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use pilotlight_core::instance::failure::PAYLOAD_LIMIT;
use pilotlight_net::client::HttpClient;
use pilotlight_wire::invoke::InvokeRequest;
use pilotlight_wire::stream::StreamEnd;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tower::ServiceExt;

use super::instance::{Event, Instance};
use super::peers::two;
use super::stage::{Caller, Stage, function, invocation, on_stage, settled};

/// A response that the runtime process writes piece by piece.
struct Response(DuplexStream);

impl Response {
    async fn begins(instance: &Instance, event: &Event) -> Self {
        let mut stream = instance.runtime().expect("the supervisor lives");
        let head = format!(
            "POST /2018-06-01/runtime/invocation/{}/response HTTP/1.1\r\nhost: runtime\r\n\
             content-type: text/plain\r\ntransfer-encoding: chunked\r\n\
             lambda-runtime-function-response-mode: streaming\r\n\r\n",
            event.request_id
        );
        stream.write_all(head.as_bytes()).await.expect("it is read");
        Response(stream)
    }

    async fn writes(&mut self, piece: &str) {
        let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
        let written = self.0.write_all(chunk.as_bytes()).await;
        written.expect("it is read");
    }

    /// Ends it, with these lines as trailers; returns how the supervisor answers.
    async fn ends(mut self, trailers: &str) -> StatusCode {
        let end = format!("0\r\n{trailers}\r\n");
        self.0.write_all(end.as_bytes()).await.expect("it is read");
        let mut answer = [0; 1024];
        let read = self.0.read(&mut answer).await.expect("an answer");
        let line = String::from_utf8_lossy(&answer[..read]);
        let status = line.split(' ').nth(1).expect("a status line");
        StatusCode::from_bytes(status.as_bytes()).expect("a status")
    }
}

/// A lease of another gateway, which reads the answer as slowly as a test wants.
struct Lease {
    client: HttpClient<DuplexStream, Full<Bytes>>,
    request: Option<Request<Full<Bytes>>>,
}

impl Lease {
    async fn of(instance: &Instance, request_id: &str, accepts_stream: bool) -> Self {
        let control = instance.control().expect("the supervisor lives");
        let mut request = Request::post("/lease")
            .header("pilotlight-request-id", request_id)
            .header("lambda-runtime-invoked-function-arn", "arn");
        if accepts_stream {
            request = request.header("te", "trailers");
        }
        Lease {
            client: HttpClient::over(control).await.expect("a connection"),
            request: Some(request.body(Full::from("2")).expect("a request")),
        }
    }

    async fn head(&mut self) -> http::Response<Incoming> {
        let request = self.request.take().expect("it is sent once");
        self.client.send(request).await.expect("an answer")
    }

    /// The rest of the body, and its trailers.
    async fn rest(&mut self, body: Incoming) -> (Bytes, HeaderMap) {
        let collected = self.client.during(body.collect()).await.expect("whole");
        let trailers = collected.trailers().cloned().unwrap_or_default();
        (collected.to_bytes(), trailers)
    }
}

/// A stage with an instance that has served a call and waits for the next one.
async fn warm() -> (Stage, Instance) {
    let mut stage = Stage::of(function("")).await;
    let caller = stage.call("1");
    let mut instance = stage.instance().await;
    assert_eq!(instance.serves("1").await, "1");
    assert_eq!(caller.answer().await.text(), "1");
    (stage, instance)
}

#[tokio::test(start_paused = true)]
async fn a_streamed_response_reaches_the_caller_whole_with_the_end_of_the_log() {
    on_stage(async {
        let mut stage = Stage::of(function("")).await;
        let request = invocation("hello").header("x-amz-log-type", "Tail");
        let caller = stage.send(request.body(Body::from("1")));
        let mut instance = stage.instance().await;
        let event = instance.event().await;
        let mut response = Response::begins(&instance, &event).await;
        response.writes("ab").await;
        response.writes("cd").await;
        assert_eq!(response.ends("").await, StatusCode::ACCEPTED);
        instance.asks();
        let answer = caller.answer().await;
        assert_eq!(
            (answer.status.as_u16(), answer.text().as_str()),
            (200, "abcd")
        );
        assert_eq!(answer.header("content-type"), "text/plain");
        assert_eq!(answer.header("x-amz-function-error"), "");
        assert!(!answer.header("x-amz-log-result").is_empty());

        let caller = stage.call("2");
        assert_eq!(instance.serves("2").await, "2");
        assert_eq!(caller.answer().await.text(), "2");
        assert!(stage.starts().await.is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_piece_reaches_the_gateway_before_the_response_ends() {
    on_stage(async {
        let (_stage, mut instance) = warm().await;
        let mut lease = Lease::of(&instance, "b", true).await;
        let runs = async {
            let event = instance.event().await;
            let mut response = Response::begins(&instance, &event).await;
            response.writes("ab").await;
            response
        };
        let (head, mut response) = tokio::join!(lease.head(), runs);
        let mut body = head.into_body();
        let first = lease.client.during(body.frame()).await;
        let first = first.expect("a piece").expect("no error").into_data();
        assert_eq!(first.expect("data"), "ab");
        let ends = async {
            response.writes("cd").await;
            response.ends("").await
        };
        let ((rest, trailers), status) = tokio::join!(lease.rest(body), ends);
        assert_eq!((rest, status), ("cd".into(), StatusCode::ACCEPTED));
        let end = StreamEnd::read(&trailers).expect("its outcome");
        assert_eq!(end.error, None);
        assert!(end.status.is_some());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_gateway_of_an_earlier_release_gets_a_streamed_response_whole() {
    on_stage(async {
        let (_stage, mut instance) = warm().await;
        let mut lease = Lease::of(&instance, "b", false).await;
        let runs = async {
            let event = instance.event().await;
            let mut response = Response::begins(&instance, &event).await;
            response.writes("ab").await;
            response.writes("cd").await;
            response.ends("").await
        };
        let (head, status) = tokio::join!(lease.head(), runs);
        assert_eq!(status, StatusCode::ACCEPTED);
        assert_eq!(head.headers()["content-length"], "4");
        assert_eq!(head.headers()["pilotlight-outcome"], "success");
        assert_eq!(lease.rest(head.into_body()).await.0, "abcd");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_error_in_the_trailers_of_a_response_replaces_it() {
    on_stage(async {
        let (stage, mut instance) = warm().await;
        let caller = stage.call("2");
        let event = instance.event().await;
        let mut response = Response::begins(&instance, &event).await;
        response.writes("half of an ans").await;
        // {"errorType":"E"}
        let trailers = "lambda-runtime-function-error-type: Function.E\r\n\
                        lambda-runtime-function-error-body: eyJlcnJvclR5cGUiOiJFIn0=\r\n";
        assert_eq!(response.ends(trailers).await, StatusCode::ACCEPTED);
        let answer = caller.answer().await;
        assert_eq!(answer.text(), r#"{"errorType":"E"}"#);
        assert_eq!(answer.header("x-amz-function-error"), "Unhandled");
        assert_eq!(answer.header("content-type"), "application/json");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_process_that_ends_within_its_response_is_reported_whether_its_connection_broke_before_or_not()
 {
    on_stage(async {
        for breaks_before in [false, true] {
            let (stage, mut instance) = warm().await;
            let caller = stage.call("2");
            let event = instance.event().await;
            let mut response = Response::begins(&instance, &event).await;
            response.writes("half of an ans").await;
            if breaks_before {
                drop(response);
                settled().await;
                assert!(!caller.has_answer(), "the reason is not known yet");
                instance.crashes();
            } else {
                instance.crashes();
                drop(response);
            }
            let answer = caller.answer().await;
            assert_eq!(answer.header("x-amz-function-error"), "Unhandled");
            assert_eq!(answer.json()["errorType"], "Runtime.ExitError");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_response_that_never_ends_meets_the_timeout() {
    on_stage(async {
        let (stage, mut instance) = warm().await;
        let caller = stage.call("2");
        let event = instance.event().await;
        let mut response = Response::begins(&instance, &event).await;
        response.writes("half of an ans").await;
        let answer = caller.answer().await;
        assert_eq!(answer.json()["errorType"], "Sandbox.Timedout");
        assert_eq!(answer.took, Duration::from_secs(3));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_streamed_response_beyond_the_limit_is_an_error_of_the_function() {
    on_stage(async {
        let (stage, mut instance) = warm().await;
        let caller = stage.call("2");
        let event = instance.event().await;
        let mut response = Response::begins(&instance, &event).await;
        response.writes(&"x".repeat(PAYLOAD_LIMIT)).await;
        response.writes("x").await;
        assert_eq!(response.ends("").await, StatusCode::PAYLOAD_TOO_LARGE);
        let answer = caller.answer().await;
        assert_eq!(answer.header("x-amz-function-error"), "Unhandled");
        let kind = "Function.ResponseSizeTooLarge";
        assert_eq!(answer.json()["errorType"], kind);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_response_whose_gateway_has_gone_is_read_to_its_end() {
    on_stage(async {
        let (stage, mut instance) = warm().await;
        let caller = stage.call("2");
        let event = instance.event().await;
        let mut response = Response::begins(&instance, &event).await;
        response.writes("half of an ans").await;
        instance.cut(0);
        assert_eq!(caller.answer().await.error(), (500, "ServiceException"));
        response.writes(&"x".repeat(1024 * 1024)).await;
        assert_eq!(response.ends("").await, StatusCode::ACCEPTED);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_reads_slowly_slows_the_handler_down_within_a_bound() {
    const PIECE: usize = 64 * 1024;
    on_stage(async {
        let (_stage, mut instance) = warm().await;
        let mut lease = Lease::of(&instance, "b", true).await;
        let runs = async {
            let event = instance.event().await;
            Response::begins(&instance, &event).await
        };
        let (head, mut response) = tokio::join!(lease.head(), runs);
        let piece = "x".repeat(PIECE);
        let mut written = 0;
        // The connection makes no progress while nobody waits for it.
        while let Ok(()) = {
            let writes = response.writes(&piece);
            tokio::time::timeout(Duration::from_millis(10), writes).await
        } {
            written += PIECE;
            assert!(written <= 2 * 1024 * 1024, "{written} bytes wait somewhere");
        }
        assert!(written > 0);
        drop(response);
        let body = head.into_body();
        instance.crashes();
        let (rest, trailers) = lease.rest(body).await;
        assert!(rest.len() >= written - PIECE, "{} of {written}", rest.len());
        let end = StreamEnd::read(&trailers).expect("its outcome");
        assert!(end.error.is_some());
    })
    .await;
}

fn ended(outcome: &str) -> String {
    format!(
        "pilotlight_invocations_total{{namespace=\"local\",function=\"hello\",\
         qualifier=\"$LATEST\",outcome=\"{outcome}\"}}"
    )
}

#[tokio::test(start_paused = true)]
async fn a_streamed_response_crosses_a_hop_and_the_owner_counts_it_when_it_ends() {
    on_stage(async {
        let ((mut first, _), (second, _)) = two("").await;
        let request = invocation("hello").header("x-amz-log-type", "Tail");
        let caller = second.send(request.body(Body::from("1")));
        // Without the passing of time the instance is as old as the call, which is then no cold start.
        settled().await;
        let mut instance = first.instance().await;
        let event = instance.event().await;
        let mut response = Response::begins(&instance, &event).await;
        response.writes("ab").await;
        settled().await;
        assert!(!caller.has_answer());
        assert_eq!(first.metric(&ended("success")).await, 0.0);

        response.writes("cd").await;
        assert_eq!(response.ends("").await, StatusCode::ACCEPTED);
        instance.asks();
        let answer = caller.answer().await;
        assert_eq!(
            (answer.status.as_u16(), answer.text().as_str()),
            (200, "abcd")
        );
        assert_eq!(answer.header("content-type"), "text/plain");
        assert_eq!(answer.header("x-amzn-requestid"), event.request_id);
        assert!(!answer.header("x-amz-log-result").is_empty());
        assert!(answer.header("server-timing").contains("queue;dur="));
        assert_eq!(first.metric(&ended("success")).await, 1.0);
        assert_eq!(second.metric(&ended("success")).await, 0.0);
    })
    .await;
}

/// A call that the second of two gateways forwards, and whose answer has begun.
struct Hop {
    first: Stage,
    _second: Stage,
    caller: Caller,
    instance: Instance,
    event: Event,
    response: Response,
}

async fn begun_over_a_hop() -> Hop {
    let ((mut first, _), (second, _)) = two("").await;
    let caller = second.call("1");
    let mut instance = first.instance().await;
    let event = instance.event().await;
    let mut response = Response::begins(&instance, &event).await;
    response.writes("half of an ans").await;
    settled().await;
    Hop {
        first,
        _second: second,
        caller,
        instance,
        event,
        response,
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_after_the_beginning_of_a_stream_crosses_a_hop() {
    on_stage(async {
        let mut hop = begun_over_a_hop().await;
        hop.instance.crashes();
        drop(hop.response);
        let answer = hop.caller.answer().await;
        assert_eq!(answer.header("x-amz-function-error"), "Unhandled");
        assert_eq!(answer.json()["errorType"], "Runtime.ExitError");
        assert_eq!(hop.first.metric(&ended("function_error")).await, 1.0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_off_is_a_lost_call_on_both_sides_of_a_hop() {
    on_stage(async {
        let hop = begun_over_a_hop().await;
        hop.instance.cut(0);
        let answer = hop.caller.answer().await;
        assert_eq!(answer.error(), (500, "ServiceException"));
        assert!(answer.text().contains(&hop.event.request_id));
        assert_eq!(hop.first.metric(&ended("lost")).await, 1.0);
    })
    .await;
}

/// A call of another gateway, which reads streams or does not.
fn forwarded(accepts_stream: bool) -> Request<Body> {
    let request = InvokeRequest {
        target: "local/hello:$LATEST".parse().expect("a pool"),
        request_id: "8f3c4a1e-0000-4000-8000-000000000000".into(),
        payload: Bytes::from_static(b"2"),
        function_arn: HeaderValue::from_static("arn"),
        client_context: None,
        trace_id: HeaderValue::from_static("Root=1-5e0f-1;Sampled=0"),
        trace_state: None,
        wants_report: false,
        wants_log_tail: false,
        accepts_stream,
        hops: 1,
        waited: Duration::ZERO,
    };
    request.into_request().map(Body::from)
}

#[tokio::test(start_paused = true)]
async fn a_piece_crosses_a_hop_before_the_response_ends() {
    on_stage(async {
        let (stage, mut instance) = warm().await;
        let runs = async {
            let event = instance.event().await;
            let mut response = Response::begins(&instance, &event).await;
            response.writes("ab").await;
            response
        };
        let asks = stage.parts().oneshot(forwarded(true));
        let (answered, response) = tokio::join!(asks, runs);
        let mut body = answered.expect("routes do not fail").into_body();
        let first = body.frame().await.expect("a piece").expect("no error");
        assert_eq!(first.into_data().expect("data"), "ab");
        assert_eq!(response.ends("").await, StatusCode::ACCEPTED);
        let rest = body.collect().await.expect("whole");
        let end = StreamEnd::read(rest.trailers().expect("trailers")).expect("its outcome");
        assert_eq!((end.error, end.status), (None, None));
        assert_eq!(rest.to_bytes(), "");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_owner_collects_a_stream_for_a_gateway_of_an_earlier_release() {
    on_stage(async {
        let (stage, mut instance) = warm().await;
        let runs = async {
            let event = instance.event().await;
            let mut response = Response::begins(&instance, &event).await;
            response.writes("ab").await;
            response.writes("cd").await;
            response.ends("").await
        };
        let asks = stage.parts().oneshot(forwarded(false));
        let (answered, status) = tokio::join!(asks, runs);
        assert_eq!(status, StatusCode::ACCEPTED);
        let (head, body) = answered.expect("routes do not fail").into_parts();
        assert_eq!(head.headers["pilotlight-outcome"], "success");
        assert!(!head.headers.contains_key("trailer"));
        let body = body.collect().await.expect("whole").to_bytes();
        assert_eq!(body, "abcd");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_response_whose_caller_has_gone_is_read_to_its_end_and_counted() {
    on_stage(async {
        let (stage, mut instance) = warm().await;
        let caller = stage.call("2");
        let event = instance.event().await;
        let mut response = Response::begins(&instance, &event).await;
        response.writes("half of an ans").await;
        settled().await;
        caller.goes().await;
        response.writes(&"x".repeat(1024 * 1024)).await;
        assert_eq!(response.ends("").await, StatusCode::ACCEPTED);
        instance.asks();
        settled().await;
        assert_eq!(stage.metric(&ended("success")).await, 2.0);
        let caller = stage.call("3");
        assert_eq!(instance.serves("3").await, "3");
        assert_eq!(caller.answer().await.text(), "3");
    })
    .await;
}
