//! Which part may use which path of the listener for parts.

use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use http::{Request, StatusCode};
use pilotlight_core::identity::{Mode, Role};
use pilotlight_net::identity::Identity;
use pilotlight_net::listen::Admission;
use pilotlight_wire::demand::DEMAND_PATH;
use pilotlight_wire::invoke::INVOKE_PATH;
use pilotlight_wire::state::STATE_PATH;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::authority::Authority;
use super::stage::{Stage, function, on_stage};
use crate::cluster::{Ledger, between_parts};
use crate::http::server::{self, Served};
use crate::intake::Listener;

/// All paths, and one that does not exist.
const PATHS: [(&str, &str); 4] = [
    ("POST", INVOKE_PATH),
    ("GET", STATE_PATH),
    ("GET", DEMAND_PATH),
    ("GET", "/nothing"),
];

fn routes(stage: &Stage) -> Router {
    between_parts(&stage.gateway, Ledger::new(), CancellationToken::new())
}

/// Serves the listener for parts as long as the test lasts.
async fn listen(stage: &Stage, identity: Identity) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    let served = Served {
        admission: Admission::Parts(identity),
        ..stage.gateway.served(routes(stage), Listener::parts)
    };
    task::spawn_local(server::serve(served, listener, CancellationToken::new()));
    address
}

/// The status of the answer; `None` if the connection ends without one.
async fn status(from: &Identity, address: SocketAddr, method: &str, path: &str) -> Option<u16> {
    let limit = std::time::Duration::from_secs(300);
    let mut stream = from.connect_gateway(address, limit).await.ok()?;
    let request = format!("{method} {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    stream.flush().await.ok()?;
    let mut head = [0; "HTTP/1.1 200".len()];
    stream.read_exact(&mut head).await.ok()?;
    let head = std::str::from_utf8(&head).expect("a head");
    let status = head.strip_prefix("HTTP/1.1 ").expect("HTTP");
    Some(status.parse().expect("a status"))
}

#[tokio::test(start_paused = true)]
async fn each_path_between_parts_answers_the_roles_that_it_is_for_and_no_other() {
    on_stage(async {
        let stage = Stage::of(function("timeout: 900")).await;
        let authority = Authority::new();
        let gateway = authority.identity(Mode::Required, Role::Gateway);
        let controller = authority.identity(Mode::Required, Role::Controller);
        let unproven = Identity::off();
        let rows = [
            (
                "a gateway",
                &gateway,
                Mode::Required,
                [Some(400), Some(200), Some(403), Some(404)],
            ),
            (
                "a controller",
                &controller,
                Mode::Required,
                [Some(403), Some(403), Some(200), Some(404)],
            ),
            ("nobody", &unproven, Mode::Required, [None; 4]),
            (
                "a gateway",
                &gateway,
                Mode::Permissive,
                [Some(400), Some(200), Some(403), Some(404)],
            ),
            (
                "a controller",
                &controller,
                Mode::Permissive,
                [Some(403), Some(403), Some(200), Some(404)],
            ),
            (
                "nobody",
                &unproven,
                Mode::Permissive,
                [Some(400), Some(200), Some(200), Some(404)],
            ),
            (
                "nobody",
                &unproven,
                Mode::Off,
                [Some(400), Some(200), Some(200), Some(404)],
            ),
        ];
        for (who, from, mode, expected) in rows {
            let address = listen(&stage, authority.identity(mode, Role::Gateway)).await;
            for ((method, path), expected) in PATHS.into_iter().zip(expected) {
                let status = status(from, address, method, path).await;
                assert_eq!(status, expected, "{who}, {mode:?}: {path}");
            }
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_listener_did_not_find_out_who_calls_is_refused() {
    on_stage(async {
        let stage = Stage::of(function("timeout: 900")).await;
        let expected = [403, 403, 403, 404];
        for ((method, path), expected) in PATHS.into_iter().zip(expected) {
            let request = Request::builder().method(method).uri(path);
            let request = request.body(Body::empty()).expect("a request");
            let answered = routes(&stage).oneshot(request).await;
            let status = answered.expect("routes do not fail").status();
            assert_eq!(
                status,
                StatusCode::from_u16(expected).expect("valid"),
                "{path}"
            );
        }
    })
    .await;
}
