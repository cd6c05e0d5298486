//! Ways in for `fuzz/`, and for tests: the APIs without connections, in front of a driver that runs
//! nothing.
//!
//! It has one function, and answers each call with the call's own payload. What must hold of the
//! answers to anything is said in `fuzz/`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;

use axum::Router;
use bytes::Bytes;
use http::HeaderValue;
use pilotlight_api::Destination;
use pilotlight_core::reason::Audience;
use pilotlight_events::destination::Receiver;
use pilotlight_logs::entry::Origin;
use tokio::sync::{mpsc, watch};

use crate::access::{Access, AccessConfig};
use crate::app::App;
use crate::catalog::{Deployment, Entry, PoolKey};
use crate::config::Config;
use crate::destinations::{Destinations, SecretData};
use crate::http::routes;
use crate::intake::Intake;
use crate::invoker::Invoker;
use crate::logs::Hub;
use crate::message::{Answer, INBOX_LIMIT, Message, Outcome};
use crate::metrics::Metrics;
use crate::registry::{Deployed, Registry, Unreadables};
use crate::schedules::Schedules;

/// A call that would have gone to an instance.
#[derive(Debug)]
pub struct Invocation {
    pub payload: Bytes,
    pub function_arn: HeaderValue,
    pub client_context: Option<HeaderValue>,
    pub trace: HeaderValue,
    pub log_tail: bool,
}

/// The receiver of a destination that is no function, with the keys of its Secret.
///
/// # Errors
/// What the Secret lacks.
pub fn receiver(
    destination: &Destination,
    secret: Option<&SecretData>,
) -> Result<Receiver, String> {
    Destinations::default().receiver(destination, secret)
}

/// A gateway's routes, and what it would have run. Needs a tokio runtime.
pub fn gateway(deployment: Deployment) -> (Router, std_mpsc::Receiver<Invocation>) {
    let metrics = Metrics::new(1, None, (None, None));
    let logs = Hub::in_memory(1024 * 1024);
    let line = "2026-01-31T10:00:00Z stdout 8f3c4a1e hello";
    let origin = Origin {
        function: deployment.pool.function.clone(),
        qualifier: deployment.pool.qualifier,
        instance: "i".to_owned(),
    };
    logs.feed(origin).line(line);
    let entry = Entry {
        pool: PoolKey(0),
        metrics: metrics.function(&deployment.pool),
        deployment: Arc::new(deployment),
        is_owned: true,
    };
    let catalog = BTreeMap::from([(entry.deployment.pool.clone(), entry)]);
    let (driver, inbox) = mpsc::channel(INBOX_LIMIT);
    let (tell, told) = std_mpsc::channel();
    // Ends with the routes; nobody else sends.
    tokio::spawn(answer_all(inbox, tell));
    let functions: Arc<dyn Registry> = Arc::new(Deployed {
        catalog: watch::channel(Arc::new(catalog)).1,
        unreadable: watch::channel(Unreadables::new()).1,
    });
    let intake = Intake::new(Config::default().limits, metrics.intake.clone());
    let app = App {
        audience: Audience::Callers,
        shows_environment: false,
        access: Access::new(AccessConfig::default(), metrics.access.clone()),
        address: "local".into(),
        concurrency: 1,
        scope: Config::default().scope(),
        functions: functions.clone(),
        invoker: Arc::new(Invoker::new(
            functions,
            driver,
            None,
            (metrics.clone(), intake.clone()),
            "local".into(),
        )),
        events: None,
        schedules: Schedules::without_queue(),
        logs: Some(logs),
        peers: None,
        intake,
        metrics,
        door: Config::default().door,
        traces: None,
    };
    (routes::api(Arc::new(app)), told)
}

async fn answer_all(mut inbox: mpsc::Receiver<Message>, tell: std_mpsc::Sender<Invocation>) {
    while let Some(message) = inbox.recv().await {
        let Message::Invoke { pending, .. } = message else {
            continue;
        };
        let call = &pending.invocation;
        let answer = Answer {
            is_error: false,
            content_type: None,
            body: call.payload.clone(),
            log_tail: None,
            phases: None,
            report: None,
        };
        let invocation = Invocation {
            payload: call.payload.clone(),
            function_arn: call.function_arn.clone(),
            client_context: call.client_context.clone(),
            trace: call.trace.clone(),
            log_tail: call.log_tail,
        };
        // Who has gone does not want to know.
        let _ = tell.send(invocation);
        pending.end(Outcome::Answered(answer));
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::body::Body;
    use futures_util::{StreamExt, stream};
    use http::{Request, StatusCode};
    use pilotlight_core::ids::{Namespace, PoolId, Revision};
    use pilotlight_core::instance::launch::Launch;
    use tower::ServiceExt;

    use super::*;
    use crate::catalog::Source;

    const MANIFEST: &str = "\
apiVersion: pilotlight.dev/v1alpha1
kind: Function
metadata: {name: hello}
spec: {runtime: custom, handler: a, code: {path: .}}
";
    const INVOKE: &str = "/2015-03-31/functions/hello/invocations";

    fn hello() -> (Router, std_mpsc::Receiver<Invocation>) {
        let manifests = pilotlight_api::read("f.yaml".as_ref(), MANIFEST);
        let function = manifests.expect("a manifest").remove(0).function;
        gateway(Deployment {
            pool: PoolId::latest(Namespace::local(), function.metadata.name),
            source: Source::Local(Launch {
                command: Vec::new(),
                handler: function.spec.handler.clone().expect("a handler"),
                task_root: "/".into(),
                environment: BTreeMap::new(),
                heap: BTreeMap::new(),
                relocated: BTreeMap::new(),
            }),
            spec: function.spec,
            revision: Revision::default(),
            code_sha256: String::new(),
            code_size: 0,
            modified: Default::default(),
        })
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_refused_in_the_documented_form() {
        let (routes, _) = hello();
        for (method, path) in [
            ("POST", "/2015-03-31/functions/%ff/invocations"),
            ("POST", &format!("{INVOKE}?Qualifier=1&Qualifier=2")),
            ("GET", "/2015-03-31/functions?MaxItems=1&MaxItems=2"),
            ("GET", "/2015-03-31/functions/%ff"),
            ("GET", "/pilotlight/v1/functions/hello/logs?follow=maybe"),
        ] {
            let request = Request::builder().method(method).uri(path);
            let request = request.body(Body::empty()).expect("a request");
            let answer = routes.clone().oneshot(request).await.expect("an answer");
            assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{path}");
            let kind = &answer.headers()["x-amzn-errortype"];
            assert_eq!(kind, "InvalidParameterValueException", "{path}");
        }
    }

    #[tokio::test]
    async fn what_is_refused_is_read_first() {
        let (routes, _) = hello();
        for (path, header) in [
            ("/2015-03-31/functions/a:b:c/invocations", "x-other"),
            (INVOKE, "x-amz-log-type"),
            ("/2014-11-13/functions/hello/invoke-async", "x-other"),
        ] {
            let read = Arc::new(AtomicUsize::new(0));
            let counted = read.clone();
            let pieces = stream::iter(0..3).map(move |_| {
                counted.fetch_add(1, Ordering::Relaxed);
                Ok::<_, Infallible>("x")
            });
            let request = Request::post(path).header(header, "x");
            let request = request.body(Body::from_stream(pieces)).expect("a request");
            let answer = routes.clone().oneshot(request).await.expect("an answer");
            assert!(answer.status().is_client_error(), "{path}");
            assert_eq!(read.load(Ordering::Relaxed), 3, "{path}");
        }
    }

    #[tokio::test]
    async fn a_trace_that_a_runtime_could_not_take_is_replaced() {
        let (routes, invocations) = hello();
        let long = "1".repeat(9000);
        let root = "Root=1-5759e988-bd862e3fe1be46a994272793";
        for (text, goes_on) in [(root, true), (&long, false), ("\u{e9}", false)] {
            let request = Request::post(INVOKE).header("x-amzn-trace-id", text.as_bytes());
            let request = request.body(Body::empty()).expect("a request");
            let answer = routes.clone().oneshot(request).await.expect("an answer");
            assert_eq!(answer.status(), StatusCode::OK);
            let invocation = invocations.try_recv().expect("an invocation");
            let trace = invocation.trace.to_str().expect("ASCII");
            assert!(trace.starts_with("Root=1-") && trace.len() < 100, "{trace}");
            assert_eq!(trace.starts_with(root), goes_on, "{text}");
            assert_eq!(answer.headers()["x-amzn-trace-id"], trace);
        }
    }
}
