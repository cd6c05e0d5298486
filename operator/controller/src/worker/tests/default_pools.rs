//! The pools that an installation has by default, against the API server of the tests.

use pilotlight_core::function::PoolSize;

use super::*;

fn pool(name: &str, is_default: bool) -> WarmPoolResource {
    let labels = match is_default {
        true => json!({ labels::DEFAULT_POOL: "true" }),
        false => json!({}),
    };
    let text = json!({
        "apiVersion": "pilotlight.dev/v1alpha1",
        "kind": "WarmPool",
        "metadata": { "name": name, "uid": format!("uid-{name}"), "labels": labels },
        "spec": { "runtime": "python3.11", "size": 0 },
    });
    serde_json::from_value(text).expect("a WarmPool")
}

/// With default pools of this size.
fn fixture(size: i128) -> Fixture {
    let mut fixture = Fixture::new();
    fixture.worker.options.default_pool_size = PoolSize::try_from(size).expect("within bounds");
    fixture
}

/// The writes of WarmPools since the last time.
fn writes(fixture: &Fixture) -> Vec<(Method, String, Value)> {
    let calls = std::mem::take(&mut fixture.server.lock().expect("not poisoned").calls);
    let of_pools = |path: &str| path.contains("/warmpools") && !path.ends_with("/status");
    calls
        .into_iter()
        .filter(|(_, path, _)| of_pools(path))
        .collect()
}

#[tokio::test]
async fn a_new_installation_has_a_pool_for_each_runtime_with_an_image() {
    let mut fixture = fixture(1).with(&function("u1")).await;
    let [(method, path, made)] = &writes(&fixture)[..] else {
        panic!("one pool");
    };
    assert_eq!(method, Method::POST);
    assert_eq!(
        path,
        "/apis/pilotlight.dev/v1alpha1/namespaces/functions/warmpools"
    );
    assert_eq!(made["metadata"]["name"], "default-python3-11");
    assert_eq!(made["metadata"]["labels"][labels::DEFAULT_POOL], "true");
    assert_eq!(made["metadata"]["ownerReferences"][0]["uid"], "b1");
    assert_eq!(made["spec"], json!({ "runtime": "python3.11", "size": 1 }));

    // The watch shows it with another size, then a pool of somebody's own.
    fixture
        .worker
        .on_pool(Event::Apply(pool("default-python3-11", true).into()));
    fixture.finish().await;
    let [(method, path, patch)] = &writes(&fixture)[..] else {
        panic!("one patch");
    };
    assert_eq!(
        (method, path.ends_with("/default-python3-11")),
        (&Method::PATCH, true)
    );
    let resized = json!({ "metadata": { "uid": "uid-default-python3-11" }, "spec": { "size": 1 } });
    assert_eq!(*patch, resized);
    fixture
        .worker
        .on_pool(Event::Apply(pool("mine", false).into()));
    fixture.finish().await;
    let [(method, path, body)] = &writes(&fixture)[..] else {
        panic!("one deletion");
    };
    assert_eq!(
        (method, path.ends_with("/default-python3-11")),
        (&Method::DELETE, true)
    );
    assert_eq!(body["preconditions"]["uid"], "uid-default-python3-11");
}

#[tokio::test]
async fn without_default_pools_none_is_made_and_only_the_leader_makes_them() {
    assert_eq!(writes(&fixture(0).with(&function("u1")).await), []);
    let mut stands_by = fixture(1);
    stands_by.worker.on_function(Event::InitDone);
    stands_by.worker.on_pool(Event::InitDone);
    stands_by.worker.on_pod(Event::InitDone);
    stands_by.worker.on_code(Event::InitDone);
    stands_by.finish().await;
    assert_eq!(writes(&stands_by), []);
    stands_by.leads();
    stands_by.finish().await;
    assert_eq!(writes(&stands_by).len(), 1);
}
