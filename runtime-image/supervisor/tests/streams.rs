//! Streamed responses on their way through a supervisor: pieces, backpressure, limits and every way to end.
//!
//! The supervisor runs in the test's thread (`pilotlight_supervisor::in_process`); the test is the gateway and
//! the runtime process, and speaks HTTP on streams in memory. Time is paused, and moves on only while no task
//! can run: a time limit that passes shows that nothing else was left to do.

mod http1;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pilotlight_core::instance::failure::{Exit, PAYLOAD_LIMIT};
use pilotlight_supervisor::in_process::Instance;
use pilotlight_wire::config::InstanceConfig;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, DuplexStream};
use tokio::task::LocalSet;

use http1::Http;

const NEXT: &str = "/2018-06-01/runtime/invocation/next";
/// The function's timeout.
const TIMEOUT: Duration = Duration::from_secs(30);
const CHUNKED: [(&str, &str); 2] = [
    ("transfer-encoding", "chunked"),
    ("lambda-runtime-function-response-mode", "streaming"),
];
/// More than all buffers between runtime and gateway hold: two streams of 64 KiB, hyper's and the channel's.
const BUFFERS: usize = 2 * 1024 * 1024;

/// An instance whose runtime process works on the invocation `r1`.
struct Invoked {
    instance: Instance,
    log: DuplexStream,
    /// Waits for the answer.
    gateway: Http,
    /// Has received the event.
    runtime: Http,
}

fn config() -> InstanceConfig {
    let config = json!({
        "listen": "memory", "endsWithParent": false, "function": "tested", "memory": 128,
        "timeout": TIMEOUT.as_secs(), "sanitizeErrors": false, "logFormat": "Text", "logs": true,
        "logGroup": "/aws/lambda/tested", "logStream": "stream", "runtime": "custom",
        "command": ["/bin/false"], "taskRoot": "/", "environment": {},
    });
    serde_json::from_value(config).expect("a configuration")
}

async fn lease(instance: &Instance, id: &str) -> Http {
    let mut gateway = Http::new(instance.control().connect().expect("it runs"));
    let headers = [
        ("pilotlight-request-id", id),
        ("lambda-runtime-invoked-function-arn", "arn"),
        ("te", "trailers"),
        ("content-length", "2"),
    ];
    gateway.send("POST", "/lease", &headers).await;
    gateway.write(b"{}").await.expect("a whole event");
    gateway
}

async fn invoked() -> Invoked {
    let (instance, log) = Instance::start(config());
    let mut runtime = Http::new(instance.runtime().connect().expect("it runs"));
    runtime.send("GET", NEXT, &[]).await;
    // The lease is accepted once the runtime's request has ended the init.
    tokio::time::sleep(Duration::from_millis(1)).await;
    let gateway = lease(&instance, "r1").await;
    let event = runtime.whole().await;
    assert_eq!((event.status, &event.body[..]), (200, &b"{}"[..]));
    Invoked {
        instance,
        log,
        gateway,
        runtime,
    }
}

impl Invoked {
    /// Posts the head of a streamed response.
    async fn begin(&mut self) {
        let path = "/2018-06-01/runtime/invocation/r1/response";
        self.runtime.send("POST", path, &CHUNKED).await;
    }

    /// Posts a streamed response up to its first piece, which the gateway receives.
    async fn begin_and_receive(&mut self) {
        self.begin().await;
        self.runtime.write_chunk(b"first").await.expect("sent");
        let head = self.gateway.head().await;
        assert_eq!(head.status, 200);
        assert_eq!(self.gateway.chunk().await.as_deref(), Some(&b"first"[..]));
    }

    /// Posts the end of the response, and returns the status that answers it.
    async fn end(&mut self, trailers: &str) -> u16 {
        self.runtime.end_chunks(trailers).await.expect("sent");
        self.runtime.whole().await.status
    }

    /// The error that ends the answer, after pieces that the gateway has not read yet.
    async fn failure(&mut self) -> Value {
        while self.gateway.chunk().await.is_some() {}
        let trailers = self.gateway.trailers().await;
        assert_eq!(trailers["pilotlight-outcome"], "function-error");
        let error = STANDARD.decode(&trailers["pilotlight-error"]);
        serde_json::from_slice(&error.expect("base64")).expect("JSON")
    }

    /// Ends the supervisor, and returns its whole log.
    async fn into_log(mut self) -> String {
        self.instance.control().abandon();
        let mut text = String::new();
        let read = self.log.read_to_string(&mut text).await;
        read.expect("a log in UTF-8");
        text
    }
}

async fn on_one_thread(test: impl Future<Output = ()>) {
    LocalSet::new().run_until(test).await;
}

#[tokio::test(start_paused = true)]
async fn each_piece_reaches_the_gateway_before_the_next_is_posted() {
    on_one_thread(async {
        let mut invoked = invoked().await;
        invoked.begin_and_receive().await;
        invoked.runtime.write_chunk(b"second").await.expect("sent");
        let second = invoked.gateway.chunk().await;
        assert_eq!(second.as_deref(), Some(&b"second"[..]));
        assert_eq!(invoked.end("").await, 202);
        assert_eq!(invoked.gateway.chunk().await, None);
        let trailers = invoked.gateway.trailers().await;
        assert_eq!(trailers["pilotlight-outcome"], "success");
        assert!(trailers["pilotlight-status"].ends_with(" ready"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_does_not_read_holds_the_runtime_back() {
    on_one_thread(async {
        let mut invoked = invoked().await;
        invoked.begin_and_receive().await;
        let piece = [b'x'; 16 * 1024];
        let mut posted = 0;
        let posting = async {
            while posted < PAYLOAD_LIMIT - 2 * piece.len() {
                invoked.runtime.write_chunk(&piece).await.expect("sent");
                posted += piece.len();
            }
        };
        // It passes only when no task can go on: the runtime is blocked.
        let blocked = tokio::time::timeout(Duration::from_secs(1), posting).await;
        assert!(blocked.is_err() && posted < BUFFERS, "{posted} bytes");

        let Invoked {
            gateway, runtime, ..
        } = &mut invoked;
        let reading = async {
            let mut read = 0;
            while let Some(piece) = gateway.chunk().await {
                read += piece.len();
            }
            read
        };
        let ending = async {
            runtime.finish_chunk().await.expect("sent");
            runtime.end_chunks("").await.expect("sent");
            runtime.whole().await.status
        };
        let (read, status) = tokio::join!(reading, ending);
        assert_eq!((read, status), (posted + piece.len(), 202));
        let trailers = invoked.gateway.trailers().await;
        assert_eq!(trailers["pilotlight-outcome"], "success");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_error_in_the_trailers_is_the_outcome() {
    on_one_thread(async {
        let mut invoked = invoked().await;
        invoked.begin_and_receive().await;
        let error = json!({ "errorType": "E", "errorMessage": "m" });
        let trailers = format!(
            "Lambda-Runtime-Function-Error-Type: E\r\nLambda-Runtime-Function-Error-Body: {}\r\n",
            STANDARD.encode(error.to_string())
        );
        assert_eq!(invoked.end(&trailers).await, 202);
        assert_eq!(invoked.failure().await, error);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_timeout_ends_a_stream_midway() {
    on_one_thread(async {
        let mut invoked = invoked().await;
        invoked.begin_and_receive().await;
        let error = invoked.failure().await;
        assert_eq!(error["errorType"], "Sandbox.Timedout");
        let log = invoked.into_log().await;
        assert!(log.contains("Task timed out after 30.00 seconds"), "{log}");
        assert_eq!(log.matches("REPORT RequestId: r1").count(), 1, "{log}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_process_that_exits_midway_ends_its_stream_with_an_error() {
    on_one_thread(async {
        let mut invoked = invoked().await;
        invoked.begin_and_receive().await;
        let begun = tokio::time::Instant::now();
        invoked.instance.exit(Exit::Code(3));
        let error = invoked.failure().await;
        assert_eq!(error["errorType"], "Runtime.ExitError");
        assert!(begun.elapsed() < TIMEOUT, "the exit is the reason");
        let log = invoked.into_log().await;
        assert_eq!(log.matches("REPORT RequestId: r1").count(), 1, "{log}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_off_is_never_a_success() {
    on_one_thread(async {
        let mut invoked = invoked().await;
        invoked.begin_and_receive().await;
        let other = invoked.instance.runtime().connect().expect("it runs");
        invoked.runtime = Http::new(other);
        // The runtime process reports an error on another connection, or ends, or is killed at its timeout.
        let error = invoked.failure().await;
        assert_eq!(error["errorType"], "Sandbox.Timedout");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_over_the_limit_fails_and_the_runtime_is_told() {
    on_one_thread(async {
        let mut invoked = invoked().await;
        invoked.begin_and_receive().await;
        let Invoked {
            gateway, runtime, ..
        } = &mut invoked;
        let posting = async {
            let piece = vec![b'x'; 64 * 1024];
            for _ in 0..=PAYLOAD_LIMIT / piece.len() {
                runtime.write_chunk(&piece).await.expect("sent");
            }
            runtime.end_chunks("").await.expect("sent");
            runtime.whole().await.status
        };
        let reading = async {
            let mut read = b"first".len();
            while let Some(piece) = gateway.chunk().await {
                read += piece.len();
            }
            read
        };
        let (status, read) = tokio::join!(posting, reading);
        assert_eq!(status, 413);
        assert!(read <= PAYLOAD_LIMIT, "{read} bytes were passed on");
        let trailers = invoked.gateway.trailers().await;
        assert_eq!(trailers["pilotlight-outcome"], "function-error");
        let error = STANDARD.decode(&trailers["pilotlight-error"]);
        let error: Value = serde_json::from_slice(&error.expect("base64")).expect("JSON");
        assert_eq!(error["errorType"], "Function.ResponseSizeTooLarge");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_as_long_as_the_limit_is_complete() {
    on_one_thread(async {
        let mut invoked = invoked().await;
        invoked.begin().await;
        let Invoked {
            gateway, runtime, ..
        } = &mut invoked;
        let posting = async {
            for piece in vec![b'x'; PAYLOAD_LIMIT].chunks(64 * 1024) {
                runtime.write_chunk(piece).await.expect("sent");
            }
            runtime.end_chunks("").await.expect("sent");
            runtime.whole().await.status
        };
        let reading = async {
            gateway.head().await;
            let mut read = 0;
            while let Some(piece) = gateway.chunk().await {
                read += piece.len();
            }
            read
        };
        assert_eq!(tokio::join!(posting, reading), (202, PAYLOAD_LIMIT));
        let trailers = invoked.gateway.trailers().await;
        assert_eq!(trailers["pilotlight-outcome"], "success");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_drained_instance_finishes_its_stream_and_ends() {
    on_one_thread(async {
        let mut invoked = invoked().await;
        invoked.begin_and_receive().await;
        let mut other = Http::new(invoked.instance.control().connect().expect("it runs"));
        other
            .send("POST", "/drain", &[("content-length", "0")])
            .await;
        assert_eq!(other.whole().await.status, 202);
        assert_eq!(
            lease(&invoked.instance, "r2").await.whole().await.status,
            409
        );

        invoked.runtime.write_chunk(b"last").await.expect("sent");
        let last = invoked.gateway.chunk().await;
        assert_eq!(last.as_deref(), Some(&b"last"[..]));
        assert_eq!(invoked.end("").await, 202);
        assert_eq!(invoked.gateway.chunk().await, None);
        let trailers = invoked.gateway.trailers().await;
        assert_eq!(trailers["pilotlight-outcome"], "success");
        assert!(trailers["pilotlight-status"].ends_with(" draining"));
        invoked.runtime.send("GET", NEXT, &[]).await;
        drop((other, invoked.gateway));
        invoked.instance.ended().await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_invocation_whose_gateway_has_gone_runs_to_its_end() {
    on_one_thread(async {
        let mut invoked = invoked().await;
        invoked.begin_and_receive().await;
        let other = invoked.instance.control().connect().expect("it runs");
        invoked.gateway = Http::new(other);
        // More than all buffers hold: what nobody takes does not block the runtime.
        let piece = vec![b'x'; 64 * 1024];
        for _ in 0..BUFFERS / piece.len() {
            invoked.runtime.write_chunk(&piece).await.expect("sent");
        }
        assert_eq!(invoked.end("").await, 202);
        invoked.runtime.send("GET", NEXT, &[]).await;
        let mut next = lease(&invoked.instance, "r2").await;
        let event = invoked.runtime.whole().await;
        assert_eq!(event.headers["lambda-runtime-aws-request-id"], "r2");
        let path = "/2018-06-01/runtime/invocation/r2/response";
        let length = [("content-length", "1")];
        invoked.runtime.send("POST", path, &length).await;
        invoked.runtime.write(b"2").await.expect("sent");
        assert_eq!(next.whole().await.body, b"2");
        let log = invoked.into_log().await;
        assert!(log.contains("REPORT RequestId: r1"), "{log}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_request_with_two_lengths_is_refused_by_both_apis_and_nothing_runs() {
    LocalSet::new()
        .run_until(async {
            let (instance, _log) = Instance::start(config());
            let mut runtime = Http::new(instance.runtime().connect().expect("it runs"));
            runtime.send("GET", NEXT, &[]).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
            let both = [("content-length", "2"), ("transfer-encoding", "chunked")];
            let mut gateway = Http::new(instance.control().connect().expect("it runs"));
            let head = [
                ("pilotlight-request-id", "r1"),
                ("lambda-runtime-invoked-function-arn", "arn"),
                both[0],
                both[1],
            ];
            gateway.send("POST", "/lease", &head).await;
            assert_eq!(gateway.head().await.status, 400);
            let mut other = Http::new(instance.runtime().connect().expect("it runs"));
            let path = "/2018-06-01/runtime/invocation/r1/response";
            other.send("POST", path, &both).await;
            assert_eq!(other.head().await.status, 400);

            // The lease that comes next is the first one.
            let mut gateway = lease(&instance, "r2").await;
            assert_eq!(&runtime.whole().await.body[..], b"{}");
            let path = "/2018-06-01/runtime/invocation/r2/response";
            let mut poster = Http::new(instance.runtime().connect().expect("it runs"));
            poster.send("POST", path, &[("content-length", "1")]).await;
            poster.write(b"7").await.expect("a whole response");
            assert_eq!(poster.whole().await.status, 202);
            assert_eq!(&gateway.whole().await.body[..], b"7");
        })
        .await;
}
