//! The port for probes and metrics: `/healthz`, `/readyz`, `/metrics`.
//!
//! The controller is healthy while the process answers, and ready once its watches are complete, whether it leads or
//! stands by. It says nothing about functions: their status does.

use std::io;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper_util::service::TowerToHyperService;
use pilotlight_net::listen::{Admission, Entered};
use pilotlight_net::{keepalive, listen};
use pilotlight_wire::exposition::Format;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// Serves until it is dropped.
pub(crate) async fn serve(
    listener: TcpListener,
    metrics: Metrics,
    ready: watch::Receiver<bool>,
) -> io::Result<()> {
    let service = TowerToHyperService::new(routes(metrics, ready));
    let enter = async || Entered {
        service: service.clone(),
        observer: (),
        end: CancellationToken::new(),
    };
    listen::serve(
        listener,
        keepalive::CALLERS,
        Admission::Everybody,
        enter,
        CancellationToken::new(),
    )
    .await;
    Ok(())
}

fn routes(metrics: Metrics, ready: watch::Receiver<bool>) -> Router {
    let readiness = move || async move {
        match *ready.borrow() {
            true => (StatusCode::OK, "ready\n"),
            false => (
                StatusCode::SERVICE_UNAVAILABLE,
                "the watches are not complete yet\n",
            ),
        }
    };
    Router::new()
        .route("/healthz", get(async || "well\n"))
        .route("/readyz", get(readiness))
        .route(
            "/metrics",
            get(async move |headers: HeaderMap| text(&metrics, Format::accepted(&headers))),
        )
}

fn text(metrics: &Metrics, format: Format) -> Response {
    match metrics.encode(format) {
        Ok(text) => ([(header::CONTENT_TYPE, format.content_type())], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt;
    use pilotlight_core::fleet::stock::Count;
    use tower::ServiceExt;

    use super::*;
    use crate::metrics::{Operation, PodPhase};

    async fn asked(routes: &Router, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).expect("a request");
        let answer = routes.clone().oneshot(request).await.expect("an answer");
        let status = answer.status();
        let body = answer.into_body().collect().await.expect("a body");
        let text = String::from_utf8(body.to_bytes().to_vec());
        (status, text.expect("text"))
    }

    #[tokio::test]
    async fn it_is_healthy_at_once_ready_with_its_watches_and_tells_what_it_counts() {
        let (metrics, (ready, is_ready)) = (Metrics::new(None), watch::channel(false));
        let routes = routes(metrics.clone(), is_ready);
        assert_eq!(asked(&routes, "/healthz").await.0, StatusCode::OK);
        let (status, _) = asked(&routes, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        ready.send_replace(true);
        assert_eq!(asked(&routes, "/readyz").await.0, StatusCode::OK);

        metrics.leads(true);
        metrics.pod(None, Some(PodPhase::starting));
        metrics.pod(Some(PodPhase::starting), Some(PodPhase::ready));
        let count = Count {
            wanted: 3,
            ready: 2,
            ..Count::default()
        };
        metrics.warm_pools(2, &[count, count]);
        for succeeded in [true, false] {
            let took = std::time::Duration::from_millis(3);
            metrics.stepped(Operation::create_pod, took, succeeded);
        }
        let (_, text) = asked(&routes, "/metrics").await;
        for line in [
            "pilotlight_controller_leader 1",
            "pilotlight_controller_pods{state=\"ready\"} 1",
            "pilotlight_controller_pods{state=\"starting\"} 0",
            "pilotlight_controller_warm_pools 2",
            "pilotlight_controller_warm_pods{state=\"wanted\"} 6",
            "pilotlight_controller_warm_pods{state=\"ready\"} 4",
            "pilotlight_controller_pods_created_total 1",
            "pilotlight_controller_pods_create_failures_total 1",
            "pilotlight_controller_api_errors_total{operation=\"create_pod\"} 1",
            "pilotlight_controller_reconcile_step_duration_seconds_count{operation=\"create_pod\"} 2",
        ] {
            assert!(
                text.lines().any(|one| one == line),
                "{line} is not in {text}"
            );
        }
    }
}
