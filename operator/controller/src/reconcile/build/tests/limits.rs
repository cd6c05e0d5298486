//! The limits of an instance on its node, as the API server would get them.

use pilotlight_core::instance::node_share::CpuLimit;
use pilotlight_wire::config::{HEALTH_VARIABLE, LOG_RATE_VARIABLE};
use serde_json::Value;

use super::*;

fn with_cpu(limit: &str) -> Options {
    let mut options = options();
    options.pods.cpu_limit = limit.parse().expect("a limit");
    options
}

fn resources(pod: &Value) -> Value {
    pod["spec"]["containers"][0]["resources"].clone()
}

fn storage(spec: Value) -> Value {
    let resources = resources(&built(spec));
    let (limit, request) = (&resources["limits"], &resources["requests"]);
    assert_eq!(limit["ephemeral-storage"], request["ephemeral-storage"]);
    limit["ephemeral-storage"].clone()
}

#[test]
fn local_storage_covers_each_volume_and_the_log() {
    let archive = json!({ "url": "https://host/a.zip", "sha256": "0".repeat(64) });
    let with = |code: Value, layers: &[Value], tmp: u32| json!({ "runtime": "python3.11", "code": code, "layers": layers, "ephemeralStorage": tmp });
    // `/tmp` and 64 MiB for the log; a config map of at most 1 MiB; 300 MiB for each that is unpacked.
    let inline = json!({ "inline": { "a.py": "1" } });
    assert_eq!(storage(with(inline.clone(), &[], 512)), "577Mi");
    assert_eq!(
        storage(with(inline, std::slice::from_ref(&archive), 512)),
        "877Mi"
    );
    assert_eq!(
        storage(with(json!({ "configMap": "code" }), &[], 1024)),
        "1089Mi"
    );
    assert_eq!(
        storage(with(json!({ "image": "code:1" }), &[], 512)),
        "576Mi"
    );
    let code = json!({ "archive": archive });
    assert_eq!(storage(with(code.clone(), &[], 512)), "876Mi");
    assert_eq!(storage(with(code, &[archive], 10240)), "10904Mi");

    let mut options = options();
    options.pods.log_storage_mib = 300;
    let resources = resources(&built_with(inline_code(), &options));
    assert_eq!(resources["limits"]["ephemeral-storage"], "813Mi");
}

fn inline_code() -> Value {
    super::inline()
}

#[test]
fn an_installation_may_limit_processors_and_does_not_by_itself() {
    let of = |limit: &str| {
        let resources = resources(&built_with(inline(), &with_cpu(limit)));
        let (limits, requests) = (&resources["limits"], &resources["requests"]);
        (requests["cpu"].clone(), limits["cpu"].clone())
    };
    assert_eq!(of("none"), (json!("73m"), json!(null)));
    assert_eq!(of("proportional"), (json!("73m"), json!("73m")));
    assert_eq!(of("2"), (json!("73m"), json!("2000m")));
}

#[test]
fn the_users_of_a_pod_are_its_own_where_the_installation_says_so() {
    assert_eq!(built(inline())["spec"]["hostUsers"], json!(null));
    let mut options = options();
    options.pods.user_namespaces = true;
    assert_eq!(built_with(inline(), &options)["spec"]["hostUsers"], false);
    let pod = warm(of_512(), &options)
        .expect("a template")
        .pod("warm-1".to_owned());
    assert_eq!(pod.spec.and_then(|spec| spec.host_users), Some(false));
}

#[test]
fn pods_have_the_runtime_class_of_their_manifest_or_else_that_of_the_installation() {
    let of = |own: Option<&str>, installed: Option<&str>| {
        let mut options = options();
        options.pods.runtime_class = installed.map(|name| name.parse().expect("a name"));
        let (mut spec, mut pool) = (inline(), of_512());
        spec["pod"] = json!({ "runtimeClassName": own });
        pool["runtimeClassName"] = json!(own);
        let function = built_with(spec, &options)["spec"]["runtimeClassName"].clone();
        let template = warm(pool, &options).expect("a template");
        let of_pool = template.pod("warm-1".to_owned()).spec.expect("a spec");
        assert_eq!(function.as_str(), of_pool.runtime_class_name.as_deref());
        (function, template.revision)
    };
    let (none, revision) = of(None, None);
    assert_eq!(none, json!(null));
    assert_eq!(of(Some("sandbox"), Some("other")).0, "sandbox");
    let (installed, other_revision) = of(None, Some("sandbox"));
    assert_eq!(installed, "sandbox");
    assert_ne!(
        other_revision, revision,
        "the pods of the pool are replaced"
    );
}

#[test]
fn the_kubelet_probes_images_of_runtimes_and_no_image_of_a_function() {
    let probed = |pod: &Value| {
        let container = &pod["spec"]["containers"][0];
        let variables = container["env"].as_array().expect("variables");
        let told = variables.iter().find(|one| one["name"] == HEALTH_VARIABLE);
        let probe = &container["livenessProbe"];
        assert_eq!(told.is_some(), probe.is_object(), "{container}");
        told.map(|told| (told["value"].clone(), probe.clone()))
    };
    let (listen, probe) = probed(&built(inline())).expect("a probe");
    assert_eq!(listen, "0.0.0.0:9002");
    assert_eq!(
        probe["httpGet"],
        json!({ "path": "/healthz", "port": 9002 })
    );
    assert_eq!(probe["terminationGracePeriodSeconds"], 1);
    let own_image = json!({ "runtime": "custom", "code": { "image": "old:1" } });
    assert_eq!(
        probed(&built(own_image)),
        None,
        "its supervisor may not answer"
    );

    let mut options = options();
    let of_pool = |options: &Options| {
        let template = warm(of_512(), options).expect("a template");
        serde_json::to_value(template.pod("warm-1".to_owned())).expect("JSON")
    };
    assert_eq!(probed(&of_pool(&options)), Some((listen, probe)));
    options.pods.liveness_probe = false;
    assert_eq!(probed(&of_pool(&options)), None);
    assert_eq!(probed(&built_with(inline(), &options)), None);
}

#[test]
fn pods_are_told_how_much_they_may_log() {
    let rate = |options: &Options| {
        let pod = built_with(inline(), options);
        let variables = pod["spec"]["containers"][0]["env"].clone();
        let variables = variables.as_array().expect("variables").iter();
        let mut told = variables.filter(|one| one["name"] == LOG_RATE_VARIABLE);
        told.next().map(|told| told["value"].clone())
    };
    let mut options = options();
    assert_eq!(rate(&options), Some(json!("1048576")));
    options.pods.log_rate = None;
    assert_eq!(rate(&options), None);
}

fn memory(mib: i128) -> MemoryMiB {
    MemoryMiB::try_from(mib).expect("a size")
}

#[test]
fn a_pod_that_was_taken_over_is_resized_only_if_its_function_asks_for_something_else() {
    let template = warm(of_512(), &options()).expect("a template");
    let pod = template.pod("warm-1".to_owned());
    assert_eq!(resized(memory(512), CpuLimit::None, &pod), None);
    let smaller = resized(memory(128), CpuLimit::None, &pod).expect("other resources");
    let container = &smaller["spec"]["containers"][0];
    assert_eq!(
        container["resources"],
        json!({
            "limits": { "memory": "160Mi" },
            "requests": { "memory": "160Mi", "cpu": "73m" },
        }),
        "Kubernetes resizes no storage"
    );
}

#[test]
fn the_processors_of_a_pod_that_was_taken_over_follow_its_function() {
    for (limit, expected) in [("proportional", "73m"), ("2", "2000m")] {
        let options = with_cpu(limit);
        let pod = warm(of_512(), &options)
            .expect("a template")
            .pod("warm-1".to_owned());
        let limit = options.pods.cpu_limit;
        assert_eq!(resized(memory(512), limit, &pod), None);
        let smaller = resized(memory(128), limit, &pod).expect("other resources");
        let resources = &smaller["spec"]["containers"][0]["resources"];
        assert_eq!(resources["limits"]["cpu"], expected);
        assert_eq!(resources["requests"]["cpu"], "73m");
    }
}

/// Kubernetes refuses a resize that changes whether the requests of a pod are its limits.
#[test]
fn the_pods_of_a_pool_and_of_its_functions_are_of_one_quality_of_service() {
    let is_guaranteed = |resources: &Value| {
        ["memory", "cpu"].iter().all(|kind| {
            let (limits, requests) = (&resources["limits"], &resources["requests"]);
            limits[kind] == requests[kind] && limits[kind].is_string()
        })
    };
    for limit in ["none", "proportional", "1", "100m", "16"] {
        let options = with_cpu(limit);
        let mut pool = of_512();
        pool["memory"] = json!(10240);
        let pod = warm(pool, &options)
            .expect("a template")
            .pod("warm-1".to_owned());
        let pod = serde_json::to_value(pod).expect("JSON");
        let of_pool = is_guaranteed(&resources(&pod));
        for memory in [128, 1769, 10240] {
            let mut spec = inline();
            spec["memory"] = json!(memory);
            let of_function = is_guaranteed(&resources(&built_with(spec, &options)));
            assert_eq!(of_function, of_pool, "{limit}, {memory} MiB");
        }
    }
}
