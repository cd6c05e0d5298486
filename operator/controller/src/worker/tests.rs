//! The worker against an API server that records each call and refuses what a test says.
//!
//! The tests play the watches and the gateways. Each call is answered in turn, so no test waits. `pools` has
//! the tests of warm pools, `unreadable` those of resources that this version cannot read.

mod default_pools;
mod identity;
mod pools;
mod unreadable;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::client::Body;
use pilotlight_core::gateways::demand::Demand;
use serde_json::{Value, json};

use super::*;

#[derive(Default)]
struct ApiServer {
    calls: Vec<(Method, String, Value)>,
    quota_message: Option<&'static str>,
    /// Of the answers to patches of pods.
    patch_code: StatusCode,
}

struct Fixture {
    worker: Worker,
    term: watch::Sender<Term>,
    bundle: watch::Sender<Bundle>,
    server: Arc<Mutex<ApiServer>>,
}

fn hello() -> PoolId {
    let namespace = "functions".parse().expect("a namespace");
    PoolId::latest(namespace, "hello".parse().expect("a name"))
}

impl Fixture {
    fn new() -> Self {
        let server = Arc::new(Mutex::new(ApiServer::default()));
        let answering = server.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = answering.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.expect("a body").to_bytes();
                let body = serde_json::from_slice(&body).unwrap_or_default();
                let (code, answer) =
                    server
                        .lock()
                        .expect("not poisoned")
                        .answer(head.method, head.uri.path(), body);
                let answer = Response::builder()
                    .status(code)
                    .body(Body::from(answer.to_string().into_bytes()));
                Ok::<_, std::convert::Infallible>(answer.expect("an answer"))
            }
        });
        let options = Options {
            images: BTreeMap::from([("python3.11".to_owned(), "python:1".to_owned())]),
            ..Options::of_test()
        };
        let (term, leads) = watch::channel(None);
        let client = Client::new(service, "functions");
        let ready = watch::Sender::new(false);
        let (bundle, bundled) = watch::channel(None);
        let worker = Worker::new(
            client,
            &options,
            (leads, bundled),
            ready,
            Metrics::new(None),
        );
        Fixture {
            worker,
            term,
            bundle,
            server,
        }
    }

    /// The watches have told what there is, one function, and this controller leads.
    async fn started(function: &FunctionResource) -> Self {
        Fixture::new().with(function).await
    }

    async fn with(self, function: &FunctionResource) -> Self {
        let mut fixture = self;
        fixture.leads();
        for event in [Event::Init, Event::InitApply(function.clone().into())] {
            fixture.worker.on_function(event);
        }
        fixture.worker.on_function(Event::InitDone);
        fixture.worker.on_pool(Event::InitDone);
        fixture.worker.on_pod(Event::Init);
        fixture.worker.on_pod(Event::InitDone);
        fixture.worker.on_code(Event::Init);
        fixture.worker.on_code(Event::InitDone);
        fixture.finish().await;
        fixture
    }

    fn leads(&mut self) {
        // No test is as slow.
        let until = Instant::now() + std::time::Duration::from_secs(3600);
        self.term.send_replace(Some(until));
        self.worker.on_term();
    }

    fn wanted(&mut self, function: &FunctionResource, instances: &[&str]) {
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        self.worker.on_gateway(GatewayEvent::Connected(address));
        let demand = Demand {
            pool: hello(),
            uid: function.uid().expect("a UID").into(),
            revision: function.spec.revision().into(),
            instances: instances.iter().map(|name| (*name).into()).collect(),
            claimed: Default::default(),
            given_up: Default::default(),
            in_flight: 0,
            queued: 0,
            events: 0,
            released: false,
        };
        self.worker
            .on_gateway(GatewayEvent::Demand(address, demand));
    }

    /// All steps come to their end.
    async fn finish(&mut self) {
        let worker = &mut self.worker;
        loop {
            tokio::select! {
                Some(completed) = worker.functions.operations.join_next() => {
                    assert!(completed.is_ok(), "an operation that ends");
                    worker.on_function_completed(completed);
                }
                Some(completed) = worker.pools.operations.join_next() => {
                    assert!(completed.is_ok(), "an operation that ends");
                    worker.on_pool_completed(completed);
                }
                Some(done) = worker.default_pools.under_way.join_next() => {
                    if worker.default_pools.completed(Instant::now(), done) {
                        worker.settle_default_pools();
                    }
                }
                else => break,
            }
        }
    }

    /// The calls since the last time, as `METHOD kind name`.
    fn calls(&self) -> Vec<String> {
        let calls = std::mem::take(&mut self.server.lock().expect("not poisoned").calls);
        let told = calls.iter().map(|(method, path, body)| {
            let mut parts = path.rsplit('/').take_while(|part| *part != "functions");
            match method {
                &Method::POST => {
                    let name = body["metadata"]["name"].as_str().unwrap_or_default();
                    format!("POST {} {name}", parts.next().unwrap_or_default())
                }
                method => format!("{method} {path}"),
            }
        });
        told.collect()
    }

    /// The `Ready` conditions that were told since the last time.
    fn told(&self) -> Vec<(String, String)> {
        let mut server = self.server.lock().expect("not poisoned");
        let statuses = server
            .calls
            .extract_if(.., |(_, path, _)| path.ends_with("/status"));
        let ready = statuses.map(|(_, _, body)| body["status"]["conditions"][0].clone());
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        ready
            .map(|one| (text(&one["reason"]), text(&one["message"])))
            .collect()
    }
}

impl ApiServer {
    fn answer(&mut self, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        let is_pod = method == Method::POST && path.ends_with("/pods");
        self.calls
            .push((method.clone(), path.to_owned(), body.clone()));
        match self.quota_message {
            Some(message) if is_pod => {
                let status = json!({
                    "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                    "reason": "Forbidden", "code": 403, "message": message,
                });
                (StatusCode::FORBIDDEN, status)
            }
            _ if path.contains("/rolebindings/") => (
                StatusCode::OK,
                json!({
                    "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
                    "metadata": { "name": "pilotlight-functions-controller", "uid": "b1" },
                    "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "a" },
                }),
            ),
            _ if path.contains("/warmpools/") && method == Method::DELETE => (
                StatusCode::OK,
                json!({ "kind": "Status", "status": "Success" }),
            ),
            _ if path.contains("/warmpools/") => (StatusCode::OK, pools::answered(&body)),
            _ if method == Method::PATCH && path.contains("/pods/") => {
                (self.patch_code, pools::patched(self.patch_code, &body))
            }
            // A Function's spec is not in what is sent of its status.
            _ if path.ends_with("/status") => (StatusCode::OK, resource(function("u1"), &body)),
            _ => (StatusCode::CREATED, body),
        }
    }
}

fn resource(function: FunctionResource, with: &Value) -> Value {
    let mut all = serde_json::to_value(function).expect("JSON");
    all["status"] = with["status"].clone();
    all
}

fn function(uid: &str) -> FunctionResource {
    let text = json!({
        "apiVersion": "pilotlight.dev/v1alpha1",
        "kind": "Function",
        "metadata": { "name": "hello", "namespace": "functions", "uid": uid, "generation": 1 },
        "spec": { "runtime": "python3.11", "code": { "inline": { "a.py": "1" } } },
    });
    serde_json::from_value(text).expect("a Function")
}

fn pod(instance: &str) -> Pod {
    let text = json!({
        "metadata": {
            "name": format!("hello-{instance}"),
            "uid": format!("uid-{instance}"),
            "labels": { labels::FUNCTION: "hello", labels::INSTANCE: instance },
        },
    });
    serde_json::from_value(text).expect("a pod")
}

const CODE: &str = "/api/v1/namespaces/functions/configmaps/hello-code-";
const PODS: &str = "/api/v1/namespaces/functions/pods";

#[tokio::test]
async fn code_is_stored_before_the_pod_and_the_pod_made_once_though_the_watch_lags() {
    let function = function("u1");
    let mut fixture = Fixture::new();
    fixture.leads();
    fixture
        .worker
        .on_function(Event::Apply(function.clone().into()));
    fixture.wanted(&function, &["a"]);
    fixture.finish().await;
    assert_eq!(fixture.calls(), [""; 0], "the watches are not complete yet");

    let mut fixture = Fixture::started(&function).await;
    assert!(fixture.calls()[0].starts_with(&format!("PATCH {CODE}")));
    fixture.wanted(&function, &["a"]);
    fixture.wanted(&function, &["a"]);
    fixture.finish().await;
    fixture.wanted(&function, &["a"]);
    fixture.finish().await;
    assert_eq!(fixture.calls(), ["POST pods hello-a"]);
}

#[tokio::test]
async fn a_refusal_names_all_pods_that_wait_and_stays_though_the_watch_shows_the_function() {
    let function = function("u1");
    let mut fixture = Fixture::started(&function).await;
    fixture.server.lock().expect("not poisoned").quota_message = Some("exceeded quota: none");
    fixture.worker.on_alarm();
    fixture.told();
    fixture.wanted(&function, &["a", "b"]);
    fixture.finish().await;
    fixture
        .worker
        .functions
        .get_mut("hello")
        .expect("known")
        .wake(Instant::now() + std::time::Duration::from_secs(1));
    fixture.worker.on_function(Event::Apply(function.into()));
    fixture.finish().await;
    let told = fixture.told();
    let (reason, message) = told.last().expect("a status");
    assert_eq!(reason, "PodRefused");
    assert!(message.starts_with("hello-a"), "{message}");
    assert!(
        told.iter().any(|(_, message)| message.contains("hello-b")),
        "{told:?}"
    );
    assert!(
        told.iter().all(|(reason, _)| reason == "PodRefused"),
        "{told:?}"
    );
}

#[tokio::test]
async fn a_function_made_anew_has_its_code_stored_anew_while_an_old_pod_ends() {
    let old = function("u1");
    let mut fixture = Fixture::started(&old).await;
    fixture.worker.on_pod(Event::Apply(pod("a")));
    fixture.worker.on_function(Event::Delete(old.into()));
    fixture.finish().await;
    fixture.calls();

    let new = function("u2");
    fixture.worker.on_function(Event::Apply(new.clone().into()));
    fixture.wanted(&new, &["b"]);
    fixture.finish().await;
    let calls = fixture.calls();
    let code = calls.iter().position(|call| call.contains(CODE));
    let pod = calls.iter().position(|call| call == "POST pods hello-b");
    assert!(code.is_some() && code < pod, "{calls:?}");
}

#[tokio::test]
async fn a_pod_that_nobody_wants_goes_when_all_gateways_were_heard() {
    let function = function("u1");
    let mut fixture = Fixture::started(&function).await;
    fixture.worker.on_pod(Event::Apply(pod("a")));
    fixture.wanted(&function, &[]);
    fixture.finish().await;
    let is_deletion = |call: &String| call == &format!("DELETE {PODS}/hello-a");
    assert!(!fixture.calls().iter().any(is_deletion));
    let later = Instant::now() + std::time::Duration::from_secs(3);
    assert!(fixture.worker.demands.wake(later));
    fixture.worker.settle_function("hello");
    fixture.finish().await;
    assert!(fixture.calls().iter().any(is_deletion));
}

#[tokio::test]
async fn one_that_stands_by_is_ready_does_nothing_and_knows_all_when_it_takes_over() {
    let function = function("u1");
    let mut fixture = Fixture::new();
    for event in [Event::Init, Event::InitApply(function.clone().into())] {
        fixture.worker.on_function(event);
    }
    fixture.worker.on_function(Event::InitDone);
    fixture.worker.on_pool(Event::InitDone);
    fixture.worker.on_pod(Event::InitDone);
    assert!(!*fixture.worker.ready.borrow());
    fixture.worker.on_code(Event::InitDone);
    assert!(*fixture.worker.ready.borrow());
    fixture.worker.on_pod(Event::Apply(pod("a")));
    fixture.wanted(&function, &["a", "b"]);
    fixture.finish().await;
    assert_eq!(fixture.calls(), [""; 0]);
    fixture.leads();
    fixture.finish().await;
    let calls = fixture.calls();
    assert!(calls.contains(&"POST pods hello-b".to_owned()), "{calls:?}");
    assert!(
        !calls.contains(&"POST pods hello-a".to_owned()),
        "{calls:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_write_that_waits_while_the_term_ends_is_not_made() {
    let function = function("u1");
    let mut fixture = Fixture::started(&function).await;
    fixture.calls();
    fixture.term.send_replace(Some(Instant::now()));
    fixture.wanted(&function, &["a"]);
    let ended = tokio::time::timeout(
        std::time::Duration::from_secs(60),
        fixture.worker.functions.operations.join_next(),
    );
    assert!(ended.await.is_err(), "it waits for the process to end");
    assert_eq!(fixture.calls(), [""; 0]);
}

fn code(name: &str, uid: &str) -> Shown {
    let text = json!({
        "metadata": {
            "name": name, "uid": uid, "labels": { labels::FUNCTION: "hello" },
            "ownerReferences": [{
                "apiVersion": "pilotlight.dev/v1alpha1", "kind": "Function", "name": "hello",
                "uid": "u1",
            }],
        },
    });
    serde_json::from_value(text).expect("metadata")
}

#[tokio::test]
async fn old_code_goes_with_its_last_pod_and_the_present_is_stored_again_if_it_goes() {
    let function = function("u1");
    let mut fixture = Fixture::started(&function).await;
    let mut old_pod = pod("a");
    let revision = (labels::REVISION.to_owned(), "old".to_owned());
    old_pod.labels_mut().extend([revision]);
    fixture.worker.on_pod(Event::Apply(old_pod.clone()));
    let present = format!("hello-code-{}", function.spec.revision());
    for (name, uid) in [
        ("hello-code-old", "c1"),
        (&present, "c2"),
        ("hello-own", "c3"),
    ] {
        fixture.worker.on_code(Event::Apply(code(name, uid)));
    }
    fixture.finish().await;
    fixture.calls();
    fixture.worker.on_pod(Event::Delete(old_pod));
    fixture.finish().await;
    let deleted = |calls: Vec<String>| -> Vec<String> {
        let maps = calls.into_iter().filter(|call| call.contains("configmaps"));
        maps.collect()
    };
    assert_eq!(deleted(fixture.calls()), [format!("DELETE {CODE}old")]);
    fixture.worker.on_code(Event::Delete(code(&present, "c2")));
    fixture.finish().await;
    let stored = deleted(fixture.calls());
    assert!(
        stored[0].starts_with(&format!("PATCH {CODE}")),
        "{stored:?}"
    );
}
