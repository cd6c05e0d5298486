//! The places of connections, their deadlines, and what no listener accepts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use pilotlight_core::intake::limits::IntakeLimits;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::stage::{Stage, function, on_stage, settled};
use crate::config::Config;
use crate::http::server;
use crate::intake::Listener;

const MIB: usize = 1024 * 1024;
const GET: &[u8] = b"GET /2015-03-31/functions HTTP/1.1\r\nhost: gateway\r\n\r\n";
const PROBE: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: gateway\r\n\r\n";

/// A gateway with so many places for callers.
async fn with_places(api_connections: usize) -> Stage {
    let limits = IntakeLimits {
        event_bytes: 64 * MIB,
        answer_bytes: 64 * MIB,
        api_connections,
        ..Config::default().limits
    };
    let config = Config {
        limits,
        ..Config::default()
    };
    let stage = Stage::new(config, None);
    stage.gateway.deploy(vec![function("timeout: 900")]).await;
    stage
}

/// Serves one of the listeners as long as the test lasts.
async fn listen(stage: &Stage, whose: Listener) -> SocketAddr {
    let routes = match whose {
        Listener::api => stage.gateway.api(),
        Listener::parts => stage.gateway.parts(),
        Listener::status => stage.gateway.status(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    let served = stage.gateway.served(routes, whose);
    task::spawn_local(server::serve(served, listener, CancellationToken::new()));
    address
}

/// The next bytes that come; empty at the end.
async fn read(stream: &mut TcpStream) -> String {
    let mut buffer = [0; 4096];
    let read = stream.read(&mut buffer).await.unwrap_or(0);
    String::from_utf8_lossy(&buffer[..read]).into_owned()
}

async fn asked(address: SocketAddr, request: &[u8]) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(request).await.expect("it is read");
    let answer = read(&mut stream).await;
    (stream, answer)
}

#[tokio::test(start_paused = true)]
async fn a_head_that_stalls_is_cut_and_an_idle_connection_is_kept() {
    on_stage(async {
        let stage = with_places(64).await;
        let address = listen(&stage, Listener::api).await;
        let (mut idle, answer) = asked(address, GET).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        for begun in [
            &b""[..],
            b"GET / HT",
            b"PRI * HTTP/2.0\r\n",
            b"GET / HTTP/1.1\r\nhost: a\r\n",
        ] {
            let begin = Instant::now();
            let (_stream, answer) = asked(address, begun).await;
            assert_eq!(answer, "");
            let took = begin.elapsed().as_secs();
            assert!((10..=12).contains(&took), "{took}");
        }
        let closed = "pilotlight_connections_closed_total{listener=\"api\",reason=\"slow_head\"}";
        assert_eq!(stage.metric(closed).await, 4.0);

        tokio::time::sleep(Duration::from_secs(3000)).await;
        idle.write_all(GET).await.expect("it is open");
        assert!(read(&mut idle).await.starts_with("HTTP/1.1 200"));
        // A head on a connection that was used has the same deadline.
        let begin = Instant::now();
        idle.write_all(&GET[..10]).await.expect("it is open");
        assert_eq!(read(&mut idle).await, "");
        assert!((10..=12).contains(&begin.elapsed().as_secs()));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_connection_that_is_idle_for_the_longest_time_gives_its_place_to_a_new_one() {
    on_stage(async {
        let stage = with_places(2).await;
        let address = listen(&stage, Listener::api).await;
        let (mut oldest, _) = asked(address, GET).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let (mut newer, _) = asked(address, GET).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let (_newest, answer) = asked(address, GET).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert_eq!(read(&mut oldest).await, "");
        newer.write_all(GET).await.expect("it is open");
        assert!(read(&mut newer).await.starts_with("HTTP/1.1 200"));
        let name = "pilotlight_connections_closed_total{listener=\"api\",reason=\"idle\"}";
        assert_eq!(stage.metric(name).await, 1.0);
        let name = "pilotlight_connections_waited_total{listener=\"api\"}";
        assert_eq!(stage.metric(name).await, 1.0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn while_connections_wait_for_a_place_a_stalled_one_has_less_time() {
    on_stage(async {
        let stage = with_places(1).await;
        let address = listen(&stage, Listener::api).await;
        let mut stalled = TcpStream::connect(address).await.expect("a connection");
        stalled.write_all(b"GET /").await.expect("it is read");
        settled().await;
        let begin = Instant::now();
        let (_stream, answer) = asked(address, GET).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!((2..=5).contains(&begin.elapsed().as_secs()));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn probes_and_metrics_answer_while_the_api_has_no_place() {
    on_stage(async {
        let stage = with_places(1).await;
        let (api, status) = (
            listen(&stage, Listener::api).await,
            listen(&stage, Listener::status).await,
        );
        let stalled = TcpStream::connect(api).await.expect("a connection");
        settled().await;
        let waiting = task::spawn_local(asked(api, GET));
        settled().await;
        assert!(!waiting.is_finished());
        let begin = Instant::now();
        let (_probing, answer) = asked(status, PROBE).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(begin.elapsed() < Duration::from_secs(1));
        assert!(!waiting.is_finished());
        drop(stalled);
        let (_stream, answer) = waiting.await.expect("a call");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_request_with_two_lengths_is_refused_at_every_listener() {
    on_stage(async {
        let stage = with_places(64).await;
        for whose in [Listener::api, Listener::parts, Listener::status] {
            let address = listen(&stage, whose).await;
            let request = b"POST /healthz HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\
                transfer-encoding: chunked\r\n\r\n0\r\n\r\n";
            let (mut stream, answer) = asked(address, request).await;
            assert!(answer.starts_with("HTTP/1.1 400"), "{whose:?}: {answer}");
            assert_eq!(read(&mut stream).await, "", "{whose:?}");
        }
        let refused = "pilotlight_requests_refused_total{reason=\"both_lengths\"}";
        assert_eq!(stage.metric(refused).await, 3.0);
    })
    .await;
}

fn call() -> String {
    "POST /2015-03-31/functions/hello/invocations HTTP/1.1\r\nhost: a\r\n\
     content-length: 1\r\n\r\n1"
        .to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_takes_nothing_of_its_answer_is_cut() {
    on_stage(async {
        let mut stage = with_places(64).await;
        let address = listen(&stage, Listener::api).await;
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        let mut stream = socket.connect(address).await.expect("a connection");
        let call = call();
        stream.write_all(call.as_bytes()).await.expect("it is read");
        let mut instance = stage.instance().await;
        let event = instance.event().await;
        let answer = json!("x".repeat(4 * MIB)).to_string();
        instance.answers(&event, &answer).await;
        let answered = Instant::now();
        let used = "pilotlight_budget_used_bytes{of=\"answers\"}";
        settled().await;
        assert!(stage.metric(used).await > (4 * MIB) as f64);
        while stage.metric(used).await > 0.0 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert!((30..=62).contains(&answered.elapsed().as_secs()));
        let name = "pilotlight_connections_closed_total{listener=\"api\",reason=\"slow_reader\"}";
        assert_eq!(stage.metric(name).await, 1.0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_reader_takes_nothing_is_cut_with_its_connection() {
    on_stage(async {
        let mut stage = with_places(64).await;
        let address = listen(&stage, Listener::api).await;
        let stream = TcpStream::connect(address).await.expect("a connection");
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(1);
        let (mut sender, connection) = builder
            .handshake(TokioIo::new(stream))
            .await
            .expect("HTTP/2");
        let connected = task::spawn_local(connection);
        let request = Request::post("http://a/2015-03-31/functions/hello/invocations");
        let request = request.body(Full::new(Bytes::from_static(b"1")));
        let called = task::spawn_local(sender.send_request(request.expect("a request")));
        let mut instance = stage.instance().await;
        let event = instance.event().await;
        instance
            .answers(&event, &json!("x".repeat(MIB)).to_string())
            .await;
        let response = called.await.expect("a call").expect("a head");
        let answered = Instant::now();
        settled().await;
        let used = "pilotlight_budget_used_bytes{of=\"answers\"}";
        assert!(stage.metric(used).await > MIB as f64);
        let _ended = connected.await.expect("the connection's task");
        assert!((30..=62).contains(&answered.elapsed().as_secs()));
        settled().await;
        assert_eq!(stage.metric(used).await, 0.0);
        assert!(response.into_body().collect().await.is_err());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_call_may_take_longer_than_any_deadline_of_its_connection() {
    on_stage(async {
        let mut stage = with_places(64).await;
        let address = listen(&stage, Listener::api).await;
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        let call = call();
        stream.write_all(call.as_bytes()).await.expect("it is read");
        let mut instance = stage.instance().await;
        let event = instance.event().await;
        tokio::time::sleep(Duration::from_secs(600)).await;
        instance.answers(&event, "7").await;
        let answer = read(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "answer: {answer:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn local_mode_answers_no_foreign_host_and_no_page_of_another_site() {
    on_stage(async {
        let config = Config {
            hosts: Some(Arc::from(["dev.example".to_owned()])),
            ..Config::default()
        };
        let stage = Stage::new(config, None);
        for whose in [Listener::api, Listener::status] {
            let address = listen(&stage, whose).await;
            let path = match whose {
                Listener::api => "/2015-03-31/functions",
                _ => "/healthz",
            };
            for (headers, expected) in [
                ("host: evil.example\r\n", "HTTP/1.1 403"),
                (
                    "host: localhost\r\norigin: http://evil.example\r\n",
                    "HTTP/1.1 403",
                ),
                (
                    "host: 127.0.0.1\r\nsec-fetch-site: cross-site\r\n",
                    "HTTP/1.1 403",
                ),
                ("host: localhost:7070\r\n", "HTTP/1.1 200"),
                (
                    "host: dev.example\r\norigin: https://dev.example\r\n",
                    "HTTP/1.1 200",
                ),
            ] {
                let request = format!("GET {path} HTTP/1.1\r\n{headers}\r\n");
                let (_stream, answer) = asked(address, request.as_bytes()).await;
                assert!(answer.starts_with(expected), "{headers}: {answer}");
                let is_refused = expected.ends_with("403");
                assert_eq!(answer.contains("--allow-host"), is_refused, "{answer}");
            }
        }
    })
    .await;
}
