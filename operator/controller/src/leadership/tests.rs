//! Contenders and an API server that keeps one Lease by its version, as the real one does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::Value;

use super::*;

#[derive(Default)]
struct Stored {
    lease: Option<Value>,
    version: u64,
    /// The UIDs of the pods that exist, by path.
    pods: BTreeMap<String, &'static str>,
}

impl Stored {
    fn answer(&mut self, method: &Method, change: Value) -> (StatusCode, Value) {
        match (method, &mut self.lease) {
            (&Method::GET, Some(lease)) => (StatusCode::OK, lease.clone()),
            (&Method::POST, None) => (StatusCode::CREATED, self.store(change)),
            (&Method::PATCH, Some(lease)) => {
                let version = &change["metadata"]["resourceVersion"];
                if *version != lease["metadata"]["resourceVersion"] {
                    return failure(StatusCode::CONFLICT, "Conflict");
                }
                let mut lease = lease.clone();
                let fields = change["spec"].as_object().expect("a spec").clone();
                lease["spec"]
                    .as_object_mut()
                    .expect("a spec")
                    .extend(fields);
                (StatusCode::OK, self.store(lease))
            }
            (&Method::POST, Some(_)) => failure(StatusCode::CONFLICT, "Conflict"),
            _ => failure(StatusCode::NOT_FOUND, "NotFound"),
        }
    }

    fn pod(&self, path: &str) -> (StatusCode, Value) {
        match self.pods.get(path) {
            Some(uid) => {
                let name = path.rsplit('/').next();
                let pod = json!({
                    "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                    "metadata": { "name": name, "uid": uid },
                });
                (StatusCode::OK, pod)
            }
            None => failure(StatusCode::NOT_FOUND, "NotFound"),
        }
    }

    fn store(&mut self, mut lease: Value) -> Value {
        self.version += 1;
        lease["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.lease = Some(lease.clone());
        lease
    }
}

fn failure(code: StatusCode, reason: &str) -> (StatusCode, Value) {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "reason": reason, "code": code.as_u16(), "message": "no",
    });
    (code, status)
}

fn client(stored: &Arc<Mutex<Stored>>) -> Client {
    let stored = stored.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let stored = stored.clone();
        async move {
            let (head, body) = request.into_parts();
            if head.uri.path().ends_with("/leases") && head.method == Method::GET {
                // A watch that tells nothing: contenders do without, by looking.
                std::future::pending::<()>().await;
            }
            let body = body.collect().await.expect("a body").to_bytes();
            let body = serde_json::from_slice(&body).unwrap_or_default();
            let mut stored = stored.lock().expect("not poisoned");
            let (code, answer) = match head.uri.path() {
                path if path.contains("/pods/") => stored.pod(path),
                _ => stored.answer(&head.method, body),
            };
            let answer = Response::builder()
                .status(code)
                .body(Body::from(answer.to_string().into_bytes()));
            Ok::<_, std::convert::Infallible>(answer.expect("an answer"))
        }
    });
    Client::new(service, "functions")
}

fn contender(stored: &Arc<Mutex<Stored>>, name: &str) -> (Contender, watch::Receiver<Term>) {
    let options = Options {
        identity: name.to_owned(),
        ..Options::of_test()
    };
    let timing = Timing {
        // No test waits for a Lease to expire, and none is so slow that its own does.
        lease: Duration::from_secs(3600),
        renew_deadline: Duration::from_secs(1800),
        retry: Duration::from_millis(5),
    };
    let (term, leads) = watch::channel(None);
    let contender = Contender::new(client(stored), &options, timing, term, Metrics::new(None));
    (contender, leads)
}

fn spec(stored: &Arc<Mutex<Stored>>) -> Value {
    let stored = stored.lock().expect("not poisoned");
    stored.lease.as_ref().expect("a Lease")["spec"].clone()
}

async fn until_it_leads(contender: &mut Contender, leads: &mut watch::Receiver<Term>) {
    tokio::select! {
        loss = contender.contend() => panic!("{loss}"),
        term = leads.wait_for(Option::is_some) => drop(term.expect("a contender")),
    }
}

#[tokio::test]
async fn what_one_gives_back_another_takes_and_the_transition_is_counted() {
    let stored = Arc::default();
    let (mut one, mut one_leads) = contender(&stored, "one");
    until_it_leads(&mut one, &mut one_leads).await;
    assert_eq!(spec(&stored)["holderIdentity"], "one");
    one.give_back().await;
    assert_eq!(*one_leads.borrow(), None);
    assert_eq!(spec(&stored)["holderIdentity"], Value::Null);
    let (mut other, mut other_leads) = contender(&stored, "other");
    until_it_leads(&mut other, &mut other_leads).await;
    let spec = spec(&stored);
    assert_eq!(spec["holderIdentity"], "other");
    assert_eq!(spec["leaseTransitions"], 1);
    assert_eq!(spec["leaseDurationSeconds"], 3600);
}

#[tokio::test]
async fn a_leader_whose_lease_was_written_by_another_leads_no_more() {
    let stored = Arc::default();
    let (mut one, mut leads) = contender(&stored, "one");
    until_it_leads(&mut one, &mut leads).await;
    let change = json!({
        "metadata": { "resourceVersion": stored.lock().expect("not poisoned").version.to_string() },
        "spec": { "holderIdentity": "other" },
    });
    let (code, _) = stored
        .lock()
        .expect("not poisoned")
        .answer(&Method::PATCH, change);
    assert_eq!(code, StatusCode::OK);
    assert_eq!(one.contend().await, Loss::Overwritten);
    assert_eq!(*leads.borrow(), None);
    one.give_back().await;
    assert_eq!(
        spec(&stored)["holderIdentity"],
        "other",
        "not its own to give"
    );
}

/// Releases nothing: its rights were deleted with its release before it could.
async fn a_leader_that_was_uninstalled(stored: &Arc<Mutex<Stored>>, identity: &str) {
    let (mut one, mut leads) = contender(stored, identity);
    until_it_leads(&mut one, &mut leads).await;
}

#[tokio::test]
async fn the_lease_of_a_pod_that_is_gone_is_taken_before_it_expires() {
    let stored = Arc::default();
    a_leader_that_was_uninstalled(&stored, "system/old/u1").await;
    // The Lease would expire after an hour.
    let (mut new, mut leads) = contender(&stored, "system/new/u2");
    until_it_leads(&mut new, &mut leads).await;
    assert_eq!(spec(&stored)["holderIdentity"], "system/new/u2");
}

#[tokio::test]
async fn a_holder_counts_as_ended_only_if_its_own_pod_is_certainly_gone() {
    let stored: Arc<Mutex<Stored>> = Arc::default();
    let existing = ("/api/v1/namespaces/system/pods/old".to_owned(), "u1");
    stored.lock().expect("not poisoned").pods.extend([existing]);
    let client = client(&stored);
    for (holder, exists_) in [
        ("system/old/u1", true),
        // Another pod has the name by now.
        ("system/old/u0", false),
        ("system/gone/u3", false),
        // This controller may not read pods there.
        ("elsewhere/gone/u3", true),
        // An earlier release, or a person.
        ("gone", true),
        ("system/gone/", true),
        ("system/gone/u3/more", true),
    ] {
        let found = exists(&client, holder, "system/new/u2").await;
        assert_eq!(found.expect("an answer"), exists_, "{holder}");
    }
    let found = exists(&client, "system/gone/u3", "new").await;
    assert!(found.expect("an answer"), "its own namespace is unknown");
}
