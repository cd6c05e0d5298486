//! Functions with a field that this version does not know, as a later version's CRD admits them.

use pilotlight_watch::Decoded;

use super::*;

/// The function as somebody changed it with a later version's field.
fn newer(function: &FunctionResource, generation: i64) -> Value {
    let mut newer = serde_json::to_value(function).expect("JSON");
    newer["spec"]["tracing"] = json!("Active");
    newer["metadata"]["generation"] = json!(generation);
    newer
}

fn decoded(function: Value) -> Decoded<FunctionResource> {
    serde_json::from_value(function).expect("its metadata can be read")
}

fn list(functions: &[Value]) -> Vec<Event<Decoded<FunctionResource>>> {
    let listed = functions.iter().cloned().map(decoded).map(Event::InitApply);
    let begin = [Event::Init].into_iter();
    begin.chain(listed).chain([Event::InitDone]).collect()
}

impl Fixture {
    /// A controller that has just come to lead, and a watch that lists these.
    async fn listing(functions: &[Value]) -> Self {
        let mut fixture = Fixture::new();
        fixture.leads();
        for event in list(functions) {
            fixture.worker.on_function(event);
        }
        fixture.worker.on_pool(Event::InitDone);
        fixture.worker.on_pod(Event::InitDone);
        fixture.worker.on_code(Event::InitDone);
        fixture.finish().await;
        fixture
    }

    /// Shows a function and lets every status be written.
    async fn show(&mut self, function: Value) {
        self.worker.on_function(Event::Apply(decoded(function)));
        self.finish().await;
        let later = Instant::now() + std::time::Duration::from_secs(2);
        for name in self.worker.functions.wake(later, true) {
            self.worker.settle_function(&name);
        }
        self.finish().await;
    }

    fn taken_calls(&self) -> Vec<(Method, String, Value)> {
        std::mem::take(&mut self.server.lock().expect("not poisoned").calls)
    }
}

/// The last status among the calls, and the reasons of all events, which are created or repeated.
fn reported(calls: &[(Method, String, Value)]) -> (Value, Vec<String>) {
    let mut status = calls
        .iter()
        .filter(|(_, path, _)| path.ends_with("/status"));
    let status = status
        .next_back()
        .map(|(_, _, body)| body["status"].clone());
    let events = calls.iter().filter(|(_, path, _)| path.contains("/events"));
    let reasons = events.map(|(_, _, body)| body["reason"].to_string().replace('"', ""));
    (status.unwrap_or_default(), reasons.collect())
}

fn condition<'a>(status: &'a Value, type_: &str) -> &'a Value {
    let conditions = status["conditions"].as_array().expect("conditions").iter();
    let mut of_type = conditions.filter(|one| one["type"] == type_);
    of_type.next().unwrap_or(&Value::Null)
}

#[tokio::test]
async fn a_function_that_cannot_be_read_any_more_says_so_and_its_last_readable_spec_stays_in_force()
{
    let function = function("u1");
    let mut fixture = Fixture::started(&function).await;
    fixture.taken_calls();
    fixture.show(newer(&function, 2)).await;
    let (status, events) = reported(&fixture.taken_calls());
    let readable = condition(&status, "Readable");
    assert_eq!(readable["status"], "False");
    assert_eq!(readable["reason"], "NotReadable");
    assert_eq!(readable["observedGeneration"], 2);
    let message = readable["message"].as_str().expect("a message");
    assert!(
        message.starts_with("spec.tracing: unknown field"),
        "{message}"
    );
    assert!(message.contains("upgrade Pilotlight"), "{message}");
    assert_eq!(condition(&status, "Ready")["reason"], "Serving");
    assert_eq!(status["observedGeneration"], 2);
    assert_eq!(events, ["NotReadable"]);

    // A gateway of the same version wants an instance of the last readable spec.
    fixture.wanted(&function, &["a"]);
    fixture.finish().await;
    let calls = fixture.calls();
    assert!(calls.contains(&"POST pods hello-a".to_owned()), "{calls:?}");
}

#[tokio::test]
async fn gateways_that_can_read_the_spec_are_refused_pods_of_it() {
    let function = function("u1");
    let mut fixture = Fixture::started(&function).await;
    fixture.taken_calls();
    fixture.show(newer(&function, 2)).await;
    let (status, _) = reported(&fixture.taken_calls());
    let refusal = &status["refusals"][0];
    assert_eq!(
        (&refusal["scope"], &refusal["reason"]),
        (&json!("Function"), &json!("NotReadable"))
    );
}

#[tokio::test]
async fn the_event_comes_once_for_each_generation_however_often_it_is_listed() {
    let function = function("u1");
    let mut fixture = Fixture::started(&function).await;
    fixture.taken_calls();
    let mut events = Vec::new();
    let mut shown = newer(&function, 2);
    for generation in [2, 2, 3] {
        shown["metadata"]["generation"] = json!(generation);
        fixture.show(shown.clone()).await;
        let (status, reasons) = reported(&fixture.taken_calls());
        if !status.is_null() {
            shown["status"] = status;
        }
        events.push(reasons.len());
    }
    assert_eq!(events, [1, 0, 1]);

    // Another controller takes over, which knows only what the API server has.
    let fixture = Fixture::listing(&[shown]).await;
    let (_, reasons) = reported(&fixture.taken_calls());
    assert_eq!(reasons, [""; 0]);
}

#[tokio::test]
async fn a_function_that_never_could_be_read_says_so_and_the_others_go_on() {
    let other = function("u2");
    let mut unreadable = newer(&other, 1);
    unreadable["metadata"]["name"] = json!("newer");
    unreadable["metadata"]["uid"] = json!("u1");
    let listed = [unreadable, serde_json::to_value(&other).expect("JSON")];
    let mut fixture = Fixture::listing(&listed).await;
    assert!(*fixture.worker.ready.borrow());
    let calls = fixture.taken_calls();
    let of_newer = calls
        .iter()
        .filter(|(_, path, _)| path.contains("/functions/newer/"));
    let of_newer: Vec<_> = of_newer.cloned().collect();
    let (status, _) = reported(&of_newer);
    for type_ in ["Ready", "Readable"] {
        assert_eq!(condition(&status, type_)["reason"], "NotReadable");
    }
    fixture.wanted(&other, &["a"]);
    fixture.finish().await;
    let calls = fixture.calls();
    assert!(calls.contains(&"POST pods hello-a".to_owned()), "{calls:?}");
}

#[tokio::test]
async fn the_condition_goes_when_the_function_can_be_read_again() {
    let function = function("u1");
    let mut fixture = Fixture::started(&function).await;
    fixture.show(newer(&function, 2)).await;
    fixture.taken_calls();
    let mut readable = serde_json::to_value(&function).expect("JSON");
    readable["metadata"]["generation"] = json!(3);
    fixture.show(readable).await;
    let (status, events) = reported(&fixture.taken_calls());
    assert!(condition(&status, "Readable").is_null());
    assert_eq!(status["observedGeneration"], 3);
    assert!(status["refusals"].is_null());
    assert_eq!(events, [""; 0]);
}
