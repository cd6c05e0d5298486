//! Warm pools, with a watch that shows what was made only when the test says so.

use pilotlight_api::resource::WarmPoolResource;
use pilotlight_core::gateways::demand::ClaimedPod;
use pilotlight_core::ids::InstanceName;

use super::*;

fn warm_pool(spec: Value) -> WarmPoolResource {
    let text = json!({
        "apiVersion": "pilotlight.dev/v1alpha1",
        "kind": "WarmPool",
        "metadata": { "name": "warm", "namespace": "functions", "uid": "p1", "generation": 1 },
        "spec": spec,
    });
    serde_json::from_value(text).expect("a WarmPool")
}

fn of_size(size: usize) -> WarmPoolResource {
    warm_pool(json!({ "runtime": "python3.11", "memory": 512, "size": size }))
}

/// A pool as it is answered to a status.
pub(super) fn answered(body: &Value) -> Value {
    let mut pool = serde_json::to_value(of_size(2)).expect("JSON");
    pool["status"] = body["status"].clone();
    pool
}

/// A pod of 512 MiB as it is answered to a patch; or what else is.
pub(super) fn patched(code: StatusCode, body: &Value) -> Value {
    if code != StatusCode::OK {
        return json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "reason": code.canonical_reason(), "code": code.as_u16(), "message": "no",
        });
    }
    let mut pod = body.clone();
    if let Some(labels) = pod["metadata"]["labels"].as_object_mut() {
        labels.retain(|_, value| !value.is_null());
    }
    let amounts = json!({ "memory": "544Mi" });
    pod["spec"] = json!({ "containers": [{
        "name": "instance", "resources": { "limits": amounts, "requests": amounts },
    }] });
    pod
}

struct Pools {
    fixture: Fixture,
    function: FunctionResource,
    /// As the API server has them, though the watch may not show them.
    made: Vec<Pod>,
    claimed: Vec<(InstanceName, ClaimedPod)>,
}

impl Pools {
    async fn started(pool: WarmPoolResource) -> Self {
        let function = function("u1");
        let fixture = Fixture::started(&function).await;
        let mut pools = Pools {
            fixture,
            function,
            made: Vec::new(),
            claimed: Vec::new(),
        };
        pools.fixture.worker.on_pool(Event::Apply(pool.into()));
        pools.settle().await;
        pools
    }

    /// All steps come to their end; what they asked for of pods, and patches of them.
    async fn settle(&mut self) -> Vec<(Method, String, Value)> {
        self.fixture.finish().await;
        let mut server = self.fixture.server.lock().expect("not poisoned");
        let calls = std::mem::take(&mut server.calls).into_iter();
        let calls: Vec<_> = calls
            .filter(|(_, path, _)| path.contains("/pods"))
            .collect();
        for (method, _, body) in &calls {
            if method == Method::POST {
                let mut pod: Pod = serde_json::from_value(body.clone()).expect("a pod");
                let name = pod.name_any();
                assert!(self.made.iter().all(|other| other.name_any() != name));
                pod.metadata.uid = Some(format!("uid-{name}"));
                self.made.push(pod);
            }
        }
        calls
    }

    fn name(&self, at: usize) -> String {
        self.made[at].name_any()
    }

    fn show(&mut self, at: usize) {
        let mut pod = self.made[at].clone();
        let ready = json!({
            "phase": "Running", "podIP": "10.0.0.7",
            "conditions": [{ "type": "Ready", "status": "True" }],
        });
        pod.status = Some(serde_json::from_value(ready).expect("a status"));
        self.fixture.worker.on_pod(Event::Apply(pod));
    }

    /// A gateway has claimed the pod.
    fn claim(&mut self, instance: &str, at: usize) {
        let name = self.name(at);
        let uid = format!("uid-{name}");
        self.claimed.push((
            instance.into(),
            ClaimedPod {
                name: name.into(),
                uid: uid.into(),
                revision: self.function.spec.revision().into(),
            },
        ));
        self.tell();
    }

    fn tell(&mut self) {
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let names = self.claimed.iter().map(|(instance, _)| instance.clone());
        let demand = Demand {
            pool: super::hello(),
            uid: self.function.uid().expect("a UID").into(),
            revision: self.function.spec.revision().into(),
            instances: names.collect(),
            claimed: self.claimed.iter().cloned().collect(),
            given_up: Default::default(),
            in_flight: 0,
            queued: 0,
            events: 0,
            released: false,
        };
        let worker = &mut self.fixture.worker;
        worker.on_gateway(GatewayEvent::Connected(address));
        worker.on_gateway(GatewayEvent::Demand(address, demand));
    }

    fn all_are_heard(&mut self) {
        let worker = &mut self.fixture.worker;
        worker
            .demands
            .wake(Instant::now() + std::time::Duration::from_secs(3));
        worker.settle_all();
    }
}

fn told(calls: &[(Method, String, Value)]) -> Vec<String> {
    let calls = calls.iter();
    calls
        .map(|(method, path, _)| format!("{method} {path}"))
        .collect()
}

#[tokio::test]
async fn a_pool_is_filled_and_refilled_and_never_above_its_size_though_the_watch_shows_nothing() {
    let mut pools = Pools::started(of_size(3)).await;
    assert_eq!(pools.made.len(), 3);
    for at in 0..3 {
        for _ in 0..10 {
            pools.fixture.worker.on_alarm();
            let again = Event::Apply(of_size(3).into());
            pools.fixture.worker.on_pool(again);
            pools.settle().await;
        }
        pools.claim(&format!("i{at}"), at);
        pools.settle().await;
        pools.tell();
        pools.settle().await;
        assert_eq!(pools.made.len(), 3 + at + 1);
    }
    for at in (0..6).rev() {
        pools.show(at);
        pools.settle().await;
    }
    assert_eq!(pools.made.len(), 6, "late, it shows what was known");
}

#[tokio::test]
async fn the_pods_of_a_pool_wait_with_its_class_and_belong_to_it() {
    let pools = Pools::started(of_size(1)).await;
    let pod = serde_json::to_value(&pools.made[0]).expect("JSON");
    let labels = &pod["metadata"]["labels"];
    assert_eq!(labels[labels::WARM_POOL], "warm");
    assert_eq!(labels[labels::RUNTIME], "python3.11");
    assert_eq!(labels[labels::MEMORY], "512");
    assert_eq!(labels[labels::MANAGED_BY], "pilotlight");
    assert_eq!(pod["metadata"]["ownerReferences"][0]["kind"], "WarmPool");
    assert!(pools.name(0).starts_with("warm-"));
}

#[tokio::test]
async fn a_claimed_pod_becomes_the_functions_is_resized_and_none_is_made_for_its_instance() {
    let mut pools = Pools::started(of_size(1)).await;
    pools.show(0);
    pools.claim("i1", 0);
    let calls = pools.settle().await;
    let name = pools.name(0);
    let mut asked = told(&calls);
    asked.sort();
    assert_eq!(
        asked,
        [
            format!("PATCH {PODS}/{name}"),
            format!("PATCH {PODS}/{name}/resize"),
            format!("POST {PODS}"),
        ],
        "and the pool is filled again"
    );
    let (_, _, patch) = calls
        .iter()
        .find(|(_, path, _)| path.ends_with(&name))
        .expect("it is taken over");
    let metadata = &patch["metadata"];
    assert_eq!(metadata["uid"], format!("uid-{name}"));
    assert_eq!(metadata["labels"][labels::FUNCTION], "hello");
    assert_eq!(metadata["labels"][labels::INSTANCE], "i1");
    assert!(metadata["labels"][labels::WARM_POOL].is_null());
    assert_eq!(metadata["ownerReferences"][0]["uid"], "u1");
    for _ in 0..10 {
        pools.tell();
        pools.fixture.worker.on_alarm();
        assert_eq!(told(&pools.settle().await), [""; 0], "once");
    }

    let mut taken = pools.made[0].clone();
    taken.labels_mut().remove(labels::WARM_POOL);
    let own = [(labels::FUNCTION, "hello"), (labels::INSTANCE, "i1")];
    let own = own.map(|(label, value)| (label.to_owned(), value.to_owned()));
    taken.labels_mut().extend(own);
    pools.fixture.worker.on_pod(Event::Apply(taken));
    pools.all_are_heard();
    assert_eq!(told(&pools.settle().await), [""; 0]);
    pools.claimed.clear();
    pools.tell();
    pools.all_are_heard();
    let calls = told(&pools.settle().await);
    assert_eq!(calls, [format!("DELETE {PODS}/{name}")], "as any other");
}

#[tokio::test]
async fn a_demand_makes_no_pod_a_functions_that_is_of_no_warm_pool() {
    let mut pools = Pools::started(of_size(1)).await;
    pools.show(0);
    pools.settle().await;
    let mut foreign = pools.made[0].clone();
    foreign.metadata.name = Some("foreign".to_owned());
    foreign.metadata.uid = Some("uid-foreign".to_owned());
    foreign.metadata.owner_references = None;
    pools.made.push(foreign);
    pools.show(1);
    pools.claim("i1", 1);
    pools.all_are_heard();
    assert_eq!(
        told(&pools.settle().await),
        [""; 0],
        "labels are not enough"
    );
    pools.claimed.clear();
    pools.claim("i2", 0);
    let patch = format!("PATCH {PODS}/{}", pools.name(0));
    assert!(told(&pools.settle().await).contains(&patch));
}

#[tokio::test]
async fn a_take_over_that_fails_is_tried_again_and_one_of_a_pod_that_is_gone_is_not() {
    for (code, again) in [
        (StatusCode::BAD_GATEWAY, true),
        (StatusCode::CONFLICT, false),
    ] {
        let mut pools = Pools::started(of_size(1)).await;
        pools
            .fixture
            .server
            .lock()
            .expect("not poisoned")
            .patch_code = code;
        pools.show(0);
        pools.claim("i1", 0);
        pools.settle().await;
        let function = pools.fixture.worker.functions.get_mut("hello");
        let later = Instant::now() + std::time::Duration::from_secs(1);
        function.expect("known").wake(later);
        pools.fixture.worker.settle_function("hello");
        let calls = told(&pools.settle().await);
        let patch = format!("PATCH {PODS}/{}", pools.name(0));
        assert_eq!(calls.contains(&patch), again, "{code}: {calls:?}");
        assert!(
            !calls.iter().any(|call| call.starts_with("POST")),
            "{calls:?}"
        );
    }
}

#[tokio::test]
async fn pods_of_an_old_template_go_one_by_one_as_new_ones_are_ready() {
    let mut pools = Pools::started(of_size(2)).await;
    pools.show(0);
    pools.show(1);
    pools.all_are_heard();
    pools.settle().await;
    let bigger = warm_pool(json!({ "runtime": "python3.11", "memory": 1024, "size": 2 }));
    pools.fixture.worker.on_pool(Event::Apply(bigger.into()));
    pools.settle().await;
    assert_eq!(pools.made.len(), 3, "one more at first");
    for (at, old) in [(2, 0), (3, 1)] {
        pools.show(at);
        let calls = told(&pools.settle().await);
        let deletions = calls.iter().filter(|call| call.starts_with("DELETE"));
        assert_eq!(deletions.count(), 1, "{calls:?}");
        let gone =
            (0..2).find(|old| calls.contains(&format!("DELETE {PODS}/{}", pools.name(*old))));
        let gone = pools.made[gone.expect("an old one")].clone();
        pools.fixture.worker.on_pod(Event::Delete(gone));
        pools.settle().await;
        assert_eq!(pools.made.len(), 4, "after the {old}th");
    }
}

#[tokio::test]
async fn a_function_says_from_which_pool_its_instances_may_come() {
    let mut fixture = Fixture::started(&function("u1")).await;
    let said = |fixture: &Fixture| {
        let server = fixture.server.lock().expect("not poisoned");
        let mut statuses = server
            .calls
            .iter()
            .filter(|(_, path, _)| path.ends_with("/functions/hello/status"));
        let last = statuses
            .next_back()
            .map(|(_, _, body)| body["status"]["warmPool"].clone());
        last.expect("a status")
    };
    assert_eq!(said(&fixture), "none: no WarmPool of python3.11");
    let declared = json!({ "runtime": "python3.11", "size": 0, "serviceAccount": "orders",
        "environmentFrom": [{ "secretRef": { "name": "login" } }] });
    let differs = "none: the nearest WarmPool, warm, does not match spec.pod.serviceAccount, spec.environmentFrom";
    let mut later = Instant::now();
    for (pool, expected) in [(warm_pool(declared), differs), (of_size(0), "warm")] {
        fixture.worker.on_pool(Event::Apply(pool.into()));
        later += std::time::Duration::from_secs(2);
        let hello = fixture.worker.functions.get_mut("hello");
        hello.expect("known").wake(later);
        fixture.worker.settle_function("hello");
        fixture.finish().await;
        assert_eq!(said(&fixture), expected);
    }
}

#[tokio::test]
async fn a_pool_that_cannot_have_pods_says_why() {
    let mut pools = Pools::started(warm_pool(json!({ "runtime": "python3.14", "size": 1 }))).await;
    assert_eq!(pools.made.len(), 0);
    let options = pools.fixture.worker.options.clone();
    let pool = pools.fixture.worker.pools.get_mut("warm");
    assert_eq!(pool.expect("it exists").class(&options), None);
}
