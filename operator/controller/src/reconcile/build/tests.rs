//! Objects of functions, as the API server would get them.

use std::collections::BTreeSet;

use kube::ResourceExt;
use pilotlight_api::labels;
use pilotlight_api::resource::FunctionResource;
use pilotlight_core::function::MemoryMiB;
use pilotlight_core::tls;
use pilotlight_wire::config::{
    DEFAULTS_VARIABLE, DoorConfig, DoorTls, GATEWAYS_VARIABLE, IDENTITY_VARIABLE, IdentityConfig,
    UNCLAIMED_VARIABLE,
};
use serde_json::json;

use super::*;
use crate::options::{Options, PublicTls};

mod limits;

fn options() -> Options {
    let images = [("python3.11", "python:1"), ("custom", "custom:1")];
    Options {
        images: images
            .map(|(name, image)| (name.to_owned(), image.to_owned()))
            .into(),
        archive_secrets: ["login".to_owned()].into(),
        ..Options::of_test()
    }
}

fn function(spec: serde_json::Value) -> FunctionResource {
    let text = json!({
        "apiVersion": "pilotlight.dev/v1alpha1",
        "kind": "Function",
        "metadata": { "name": "hello", "namespace": "functions", "uid": "the-uid" },
        "spec": spec,
    });
    serde_json::from_value(text).expect("a Function")
}

fn built(spec: serde_json::Value) -> serde_json::Value {
    built_with(spec, &options())
}

fn built_with(spec: serde_json::Value, options: &Options) -> serde_json::Value {
    let name = "hello".parse().expect("a name");
    let instance = "0123456789abcdef0123456789abcdef";
    let pod = pod(&function(spec), &name, instance, "2026/01/31", options);
    serde_json::to_value(pod.expect("a pod")).expect("JSON")
}

fn inline() -> serde_json::Value {
    json!({ "runtime": "python3.11", "code": { "inline": { "a.py": "1", "lib/b.py": "2" } } })
}

#[test]
fn a_pod_has_one_name_its_owner_and_what_gateways_look_for() {
    let pod = built(inline());
    let metadata = &pod["metadata"];
    assert_eq!(metadata["name"], "hello-0123456789");
    assert_eq!(metadata["ownerReferences"][0]["uid"], "the-uid");
    assert_eq!(metadata["labels"]["pilotlight.dev/function"], "hello");
    assert_eq!(
        metadata["labels"]["pilotlight.dev/revision"],
        function(inline()).spec.revision()
    );
}

#[test]
fn a_pod_is_confined_and_sized_by_its_function() {
    let mut spec = inline();
    spec["memory"] = json!(1769);
    spec["timeout"] = json!(60);
    spec["ephemeralStorage"] = json!(1024);
    let pod = built(spec);
    let spec = &pod["spec"];
    assert_eq!(spec["automountServiceAccountToken"], false);
    assert_eq!(spec["restartPolicy"], "Never");
    assert_eq!(spec["terminationGracePeriodSeconds"], 70);
    let container = &spec["containers"][0];
    assert_eq!(container["image"], "python:1");
    assert_eq!(
        container["resources"],
        json!({
            "limits": { "memory": "1801Mi", "ephemeral-storage": "1089Mi" },
            "requests": {
                "memory": "1801Mi", "cpu": "1000m", "ephemeral-storage": "1089Mi",
            },
        })
    );
    let security = &container["securityContext"];
    assert_eq!(security["readOnlyRootFilesystem"], true);
    assert_eq!(security["runAsNonRoot"], true);
    assert_eq!(security["allowPrivilegeEscalation"], false);
    assert_eq!(security["capabilities"]["drop"], json!(["ALL"]));
    assert_eq!(spec["volumes"][0]["emptyDir"]["sizeLimit"], "1024Mi");
}

#[test]
fn inline_files_keep_their_names_though_a_config_map_has_no_such_keys() {
    let items = &built(inline())["spec"]["volumes"][1]["configMap"]["items"];
    assert_eq!(
        items,
        &json!([
            { "key": "file-0", "path": "a.py" },
            { "key": "file-1", "path": "lib/b.py" },
        ])
    );
    let data = code(&function(inline())).and_then(|map| map.data);
    let data = data.expect("a config map of the code");
    assert_eq!(
        (data["file-0"].as_str(), data["file-1"].as_str()),
        ("1", "2")
    );
}

#[test]
fn a_dollar_reaches_the_supervisor_as_it_is() {
    let mut spec = inline();
    spec["environment"] = json!({ "A": "$(PATH) $$" });
    let pod = built(spec);
    let value = pod["spec"]["containers"][0]["env"][0]["value"].as_str();
    assert!(
        value.is_some_and(|text| text.contains(r#""A":"$$(PATH) $$$$""#)),
        "{value:?}"
    );
}

#[test]
fn the_settings_of_a_pod_are_passed_through() {
    let mut spec = inline();
    let settings = json!({
        "imagePullSecrets": [{ "name": "registry" }],
        "nodeSelector": { "kubernetes.io/arch": "amd64" },
        "tolerations": [{ "key": "dedicated", "operator": "Exists", "effect": "NoSchedule" }],
    });
    spec["pod"] = settings.clone();
    spec["pod"]["serviceAccount"] = json!("orders");
    let pod = &built(spec)["spec"];
    for (name, value) in settings.as_object().expect("settings") {
        assert_eq!(&pod[name], value, "{name}");
    }
    assert_eq!(pod["serviceAccountName"], "orders");
    assert_eq!(pod["automountServiceAccountToken"], true);
}

#[test]
fn layers_have_a_volume_that_a_gateway_fills() {
    let layer = json!({ "url": "https://host/a.zip", "sha256": "0".repeat(64) });
    let mut layered = inline();
    layered["layers"] = json!([layer]);
    let pod = built(layered);
    let container = &pod["spec"]["containers"][0];
    let named = |list: &serde_json::Value, field: &str, value: &str| {
        let list = list.as_array().expect("a list").iter();
        list.filter(|one| one[field] == value).count()
    };
    assert_eq!(named(&container["volumeMounts"], "mountPath", "/opt"), 1);
    assert_eq!(named(&container["env"], "name", "PILOTLIGHT_UNCLAIMED"), 1);
    assert_eq!(named(&pod["spec"]["volumes"], "name", "layers"), 1);
}

#[test]
fn what_cannot_be_built_is_said_with_what_to_do() {
    let local = function(json!({ "runtime": "custom", "code": { "path": "./code" } }));
    let unbuildable = check(&local, &options()).expect_err("path");
    assert_eq!(unbuildable.reason(), "CodeNotSupported");
    let newer = function(json!({ "runtime": "python3.14", "code": { "configMap": "code" } }));
    let unbuildable = check(&newer, &options()).expect_err("no image");
    assert!(
        unbuildable.to_string().contains("--image python3.14=IMAGE"),
        "{unbuildable}"
    );
}

#[test]
fn an_unknown_runtime_is_told_the_known_ones() {
    let unknown = function(json!({ "runtime": "python2", "code": { "configMap": "code" } }));
    let unbuildable = check(&unknown, &options()).expect_err("no such runtime");
    assert_eq!(unbuildable.reason(), "NoImage");
    let text = unbuildable.to_string();
    assert!(
        text.starts_with("spec.runtime: must be one of custom, ") && text.contains("python2"),
        "{text}"
    );
}

#[test]
fn the_original_platforms_names_are_those_of_the_same_runtimes() {
    let code = json!({ "inline": { "bootstrap": "#!/bin/sh" } });
    let spec = json!({ "runtime": "provided.al2023", "code": code });
    let pod = built(spec.clone());
    assert_eq!(pod["spec"]["containers"][0]["image"], "custom:1");
    let mut pool = spec;
    pool.as_object_mut().expect("an object").remove("code");
    pool["size"] = json!(1);
    let template = warm(pool, &options()).expect("a template");
    let pod = template.pod("warm-1".to_owned());
    assert_eq!(pod.labels()[labels::RUNTIME], "custom");

    for (name, said) in [
        ("nodejs20.x", "--image nodejs20.x=IMAGE"),
        ("dotnet8", "self-contained `bootstrap`"),
        ("go1.x", "retired"),
        ("pyhton3.11", "did you mean `python3.11`?"),
    ] {
        let function = function(json!({ "runtime": name, "code": { "configMap": "code" } }));
        let unbuildable = check(&function, &options()).expect_err("no image");
        assert_eq!(unbuildable.reason(), "NoImage");
        assert!(unbuildable.to_string().contains(said), "{unbuildable}");
    }
}

#[test]
fn a_secret_may_give_what_neither_manifest_nor_platform_has_set() {
    let mut spec = inline();
    spec["environment"] = json!({ "TZ": "Europe/Budapest" });
    spec["environmentFrom"] = json!([{ "secretRef": { "name": "login" } }]);
    let variables = built(spec)["spec"]["containers"][0]["env"].clone();
    let variables = variables.as_array().expect("variables").iter();
    let mut suggested = variables.filter(|one| one["name"] == DEFAULTS_VARIABLE);
    let suggested = suggested.next().expect("it is there")["value"].clone();
    let suggested = suggested.as_str().expect("names").split(',');
    let suggested: BTreeSet<_> = suggested.collect();
    for (name, is_suggested) in [
        ("PATH", true),
        ("AWS_REGION", true),
        ("TZ", false),
        ("AWS_EXECUTION_ENV", false),
        ("_HANDLER", false),
    ] {
        assert_eq!(suggested.contains(name), is_suggested, "{name}");
    }
}

#[test]
fn secrets_and_config_maps_come_under_a_prefix_in_the_manifests_order() {
    let mut spec = inline();
    spec["environmentFrom"] = json!([
        { "configMapRef": { "name": "defaults" } },
        { "secretRef": { "name": "login" } },
    ]);
    let given = &built(spec)["spec"]["containers"][0]["envFrom"];
    assert_eq!(
        given,
        &json!([
            { "prefix": "PILOTLIGHT_ENV_", "configMapRef": { "name": "defaults" } },
            { "prefix": "PILOTLIGHT_ENV_", "secretRef": { "name": "login" } },
        ])
    );
}

#[test]
fn the_pod_of_an_archive_waits_for_its_code_with_room_for_it() {
    let archive = |digit: &str| json!({ "url": "https://host/a.zip", "sha256": digit.repeat(64) });
    let code = json!({ "archive": archive("0") });
    let layers = json!([archive("1"), archive("2")]);
    let spec = json!({ "runtime": "custom", "code": code, "layers": layers });
    let pod = &built(spec)["spec"];
    let container = &pod["containers"][0];
    let names: Vec<_> = container["env"]
        .as_array()
        .expect("variables")
        .iter()
        .map(|variable| variable["name"].as_str().expect("a name"))
        .collect();
    assert_eq!(
        names,
        [
            "PILOTLIGHT_INSTANCE",
            "PILOTLIGHT_GATEWAYS",
            "PILOTLIGHT_UNCLAIMED",
            "PILOTLIGHT_LOG_RATE",
            "PILOTLIGHT_HEALTH"
        ]
    );
    let unclaimed = container["env"][2]["value"].as_str().expect("a value");
    let unclaimed: serde_json::Value = serde_json::from_str(unclaimed).expect("JSON");
    assert_eq!(
        unclaimed,
        json!({
            "listen": "0.0.0.0:9001", "endsWithParent": false, "root": "/",
            "instance": "0123456789abcdef0123456789abcdef",
            // The supervisor takes these from whoever claims it, and nothing else.
            "archives": [
                { "field": "spec.code.archive", "folder": "var/task", "sha256": "0".repeat(64) },
                { "field": "spec.layers[0]", "folder": "opt", "sha256": "1".repeat(64) },
                { "field": "spec.layers[1]", "folder": "opt", "sha256": "2".repeat(64) },
            ],
        })
    );
    for (place, path) in [(1, "/var/task"), (2, "/opt")] {
        assert_eq!(container["volumeMounts"][place]["mountPath"], path);
        assert_eq!(container["volumeMounts"][place]["readOnly"], json!(null));
        assert_eq!(pod["volumes"][place]["emptyDir"]["sizeLimit"], "300Mi");
    }
}

fn warm(spec: serde_json::Value, options: &Options) -> Result<Template, Unbuildable> {
    let text = json!({
        "apiVersion": "pilotlight.dev/v1alpha1",
        "kind": "WarmPool",
        "metadata": { "name": "warm", "namespace": "functions", "uid": "pool-uid" },
        "spec": spec,
    });
    let pool = serde_json::from_value(text).expect("a WarmPool");
    Template::of(&pool, options)
}

fn of_512() -> serde_json::Value {
    json!({ "runtime": "python3.11", "memory": 512, "ephemeralStorage": 1024, "size": 1 })
}

#[test]
fn the_pod_of_a_pool_waits_for_any_function_confined_as_one_of_a_function() {
    let template = warm(of_512(), &options()).expect("a template");
    let pod = serde_json::to_value(template.pod("warm-1".to_owned())).expect("JSON");
    assert_eq!(pod["metadata"]["name"], "warm-1");
    assert_eq!(
        pod["metadata"]["labels"][labels::REVISION],
        template.revision
    );
    let spec = &pod["spec"];
    assert_eq!(spec["terminationGracePeriodSeconds"], 910);
    assert_eq!(spec["automountServiceAccountToken"], false);
    assert_eq!(spec["volumes"][0]["emptyDir"]["sizeLimit"], "1024Mi");
    let container = &spec["containers"][0];
    assert_eq!(container["image"], "python:1");
    assert_eq!(container["resources"]["limits"]["memory"], "544Mi");
    assert_eq!(container["volumeMounts"][1]["mountPath"], "/var/task");
    assert_eq!(container["volumeMounts"][1]["readOnly"], json!(null));
    assert_eq!(
        container["securityContext"],
        built(inline())["spec"]["containers"][0]["securityContext"]
    );
    let variables = container["env"].as_array().expect("variables");
    assert_eq!(variables.len(), 4, "it is of no function yet");
    assert_eq!(variables[0]["name"], UNCLAIMED_VARIABLE);
    let gateways = json!({
        "address": "gateway.system.svc:80", "namespace": "functions",
        "token": "/var/run/secrets/pilotlight.dev/identity/caller",
    });
    assert_eq!(variables[1]["name"], GATEWAYS_VARIABLE);
    let text = variables[1]["value"].as_str().expect("a value");
    let known: serde_json::Value = serde_json::from_str(text).expect("JSON");
    assert_eq!(known, gateways);
    let unclaimed = variables[0]["value"].as_str().expect("a value");
    let unclaimed: serde_json::Value =
        serde_json::from_str(&unclaimed.replace("$$", "$")).expect("JSON");
    let known = &unclaimed["prestart"]["environment"];
    assert_eq!(known["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"], "512");
    assert_eq!(known["AWS_LAMBDA_FUNCTION_NAME"], json!(null));
}

#[test]
fn the_template_of_a_pool_changes_with_what_shapes_its_pods_and_with_nothing_else() {
    let revision = |spec, options: &Options| warm(spec, options).expect("a template").revision;
    let plain = revision(of_512(), &options());
    let mut larger = of_512();
    larger["size"] = json!(7);
    larger["max"] = json!(9);
    assert_eq!(revision(larger, &options()), plain);
    let mut elsewhere = of_512();
    elsewhere["nodeSelector"] = json!({ "role": "functions" });
    assert_ne!(revision(elsewhere, &options()), plain);
    let mut newer = options();
    let image = ("python3.11".to_owned(), "python:2".to_owned());
    newer.images.extend([image]);
    assert_ne!(revision(of_512(), &newer), plain);
}

#[test]
fn only_a_pod_that_was_made_with_a_service_account_bears_the_label_of_one() {
    let label = |labels: &serde_json::Value| labels["pilotlight.dev/service-account"].clone();
    let mut spec = inline();
    assert!(label(&built(spec.clone())["metadata"]["labels"]).is_null());
    spec["pod"] = json!({ "serviceAccount": "orders" });
    assert_eq!(label(&built(spec.clone())["metadata"]["labels"]), "own");
    let mut pool = of_512();
    let of_pool = |pool: &serde_json::Value| {
        let template = warm(pool.clone(), &options()).expect("a template");
        serde_json::to_value(template.pod("warm-1".to_owned())).expect("JSON")
    };
    assert!(label(&of_pool(&pool)["metadata"]["labels"]).is_null());
    pool["serviceAccount"] = json!("orders");
    assert_eq!(label(&of_pool(&pool)["metadata"]["labels"]), "own");
    // A pod that is claimed keeps what it was made with.
    let patch = taken_over(&function(spec), "0123456789abcdef", "1", "the-uid");
    let labels = patch["metadata"]["labels"].as_object().expect("labels");
    assert_eq!(labels.get("pilotlight.dev/service-account"), None);
}

#[test]
fn the_pods_of_a_pool_have_what_it_declares_and_gateways_read_it_back() {
    let mut pool = of_512();
    let declared = json!({
        "serviceAccount": "orders",
        "environmentFrom": [{ "configMapRef": { "name": "defaults" } }, { "secretRef": { "name": "login" } }],
        "nodeSelector": { "disk": "fast" },
        "tolerations": [{ "key": "dedicated", "operator": "Exists", "effect": "NoSchedule" }],
        "runtimeClassName": "sandbox",
    });
    for (name, value) in declared.as_object().expect("fields") {
        pool[name] = value.clone();
    }
    let template = warm(pool.clone(), &options()).expect("a template");
    let pod = template.pod("warm-1".to_owned());
    let as_json = serde_json::to_value(&pod).expect("JSON");
    assert_eq!(as_json["spec"]["serviceAccountName"], "orders");
    assert_eq!(as_json["spec"]["automountServiceAccountToken"], true);
    let container = &as_json["spec"]["containers"][0];
    assert_eq!(
        container["envFrom"],
        json!([
            { "prefix": "PILOTLIGHT_ENV_", "configMapRef": { "name": "defaults" } },
            { "prefix": "PILOTLIGHT_ENV_", "secretRef": { "name": "login" } },
        ])
    );
    assert_eq!(container["volumeMounts"][2]["mountPath"], "/opt");
    let spec: pilotlight_api::WarmPoolSpec = serde_json::from_value(pool).expect("a spec");
    assert_eq!(pilotlight_api::class_of_pod(&pod), Some(spec.class(None)));
    let plain = warm(of_512(), &options()).expect("a template");
    assert_ne!(plain.revision, template.revision);
}

#[test]
fn a_pod_that_waits_with_access_serves_nobody_without_proof_even_during_an_upgrade() {
    let permissive = Options {
        instance_identity: Some(IdentityConfig {
            needs_tls: false,
            ..identity()
        }),
        ..options()
    };
    for (field, value, needs_tls) in [
        ("nodeSelector", json!({ "disk": "fast" }), false),
        ("serviceAccount", json!("orders"), true),
        (
            "environmentFrom",
            json!([{ "secretRef": { "name": "login" } }]),
            true,
        ),
    ] {
        let mut pool = of_512();
        pool[field] = value;
        let template = warm(pool, &permissive).expect("a template");
        let pod = serde_json::to_value(template.pod("warm-1".to_owned())).expect("JSON");
        let variables = pod["spec"]["containers"][0]["env"].as_array().cloned();
        let mut identities = variables.iter().flatten();
        let known = identities.find(|one| one["name"] == "PILOTLIGHT_INSTANCE_IDENTITY");
        let known = known.expect("it is there")["value"].as_str().expect("JSON");
        let known: IdentityConfig = serde_json::from_str(known).expect("JSON");
        assert_eq!(known.needs_tls, needs_tls, "{field}");
    }
}

#[test]
fn a_pool_cannot_have_the_secrets_of_the_release_either() {
    let options = Options {
        gateway_namespace: "functions".to_owned(),
        ..options()
    };
    let mut pool = of_512();
    pool["environmentFrom"] = json!([{ "secretRef": { "name": "authorities" } }]);
    let refused = warm(pool, &options).expect_err("it is the release's own");
    assert_eq!(refused.reason(), "SecretRefused");
}

#[test]
fn a_pool_without_an_image_is_told_what_to_do() {
    let spec = json!({ "runtime": "python3.14", "size": 1 });
    let unbuildable = warm(spec, &options()).expect_err("no image");
    assert_eq!(unbuildable.reason(), "NoImage");
}

fn identity() -> IdentityConfig {
    IdentityConfig {
        authorities: "PEM".to_owned(),
        token: TOKEN_PATH.into(),
        needs_tls: true,
    }
}

#[test]
fn every_pod_recognises_gateways_and_has_a_token_for_them_and_one_for_its_calls() {
    let options = Options {
        instance_identity: Some(identity()),
        tls: PublicTls {
            mode: tls::Mode::Required,
            ..PublicTls::default()
        },
        caller_audience: "callers".to_owned(),
        ..options()
    };
    let (name, instance) = ("hello".parse().expect("a name"), "0123456789abcdef");
    let of_function = pod(&function(inline()), &name, instance, "2026/01/31", &options);
    let template = warm(of_512(), &options).expect("a template");
    for pod in [
        of_function.expect("a pod"),
        template.pod("warm-1".to_owned()),
    ] {
        let pod = serde_json::to_value(pod).expect("JSON");
        let spec = &pod["spec"];
        let container = &spec["containers"][0];
        let variables = container["env"].as_array().expect("variables");
        let text = |name: &str| {
            let named = |variable: &&serde_json::Value| variable["name"] == name;
            let variable = variables.iter().find(named).expect("it is there");
            variable["value"].as_str().expect("a text")
        };
        let known: IdentityConfig = serde_json::from_str(text(IDENTITY_VARIABLE)).expect("JSON");
        assert_eq!(known, identity());
        let door: DoorConfig = serde_json::from_str(text(GATEWAYS_VARIABLE)).expect("JSON");
        assert_eq!(door.tls, Some(DoorTls::Required));
        let caller = door.token.expect("a file");
        let volumes = spec["volumes"].as_array().expect("volumes");
        let tokens = &volumes.last().expect("one")["projected"]["sources"];
        let mounts = container["volumeMounts"].as_array().expect("mounts");
        let mount = mounts.last().expect("one");
        assert_eq!(tokens.as_array().map(Vec::len), Some(2));
        for (place, audience, path) in [
            (0, "pilotlight.dev/instance", TOKEN_PATH),
            (1, "callers", caller.to_str().expect("a path")),
        ] {
            let token = &tokens[place]["serviceAccountToken"];
            assert_eq!(token["audience"], audience);
            assert_eq!(token["expirationSeconds"], 3600);
            let file = format!(
                "{}/{}",
                mount["mountPath"].as_str().expect("a path"),
                token["path"].as_str().expect("a path")
            );
            assert_eq!(file, path);
        }
        assert_eq!(mount["readOnly"], true);
        assert_eq!(spec["automountServiceAccountToken"], false);
    }
    let before = warm(of_512(), &self::options()).expect("a template");
    assert_ne!(template.revision, before.revision);
}

#[test]
fn a_function_cannot_have_the_secrets_of_pilotlight_itself() {
    let with = |secret: &str| {
        let mut spec = inline();
        spec["environmentFrom"] = json!([{ "secretRef": { "name": secret } }]);
        function(spec)
    };
    let together = Options {
        gateway_namespace: "functions".to_owned(),
        tls: PublicTls {
            secret: Some("public".to_owned()),
            ..PublicTls::default()
        },
        ..options()
    };
    for own in ["authorities", "certificate", "public"] {
        let refused = check(&with(own), &together).expect_err("refused");
        assert_eq!(refused, Unbuildable::OwnSecret(own.to_owned()));
        let said = refused.to_string();
        assert!(said.starts_with("spec.environmentFrom: "), "{said}");
        // In another namespace the name means another Secret.
        assert_eq!(check(&with(own), &options()), Ok(()));
    }
    assert_eq!(check(&with("mine"), &together), Ok(()));
}

#[test]
fn a_secret_for_an_archive_is_one_that_gateways_may_read() {
    let archive = |secret: &str| json!({ "url": "https://host/a.zip", "sha256": "0".repeat(64), "secretRef": { "name": secret } });
    let spec = json!({ "runtime": "python3.11", "code": { "archive": archive("login") } });
    assert_eq!(
        super::function::check(&function(spec.clone()), &options()),
        Ok(())
    );
    let mut other = spec;
    other["layers"] = json!([archive("login"), archive("database")]);
    let refused = super::function::check(&function(other), &options()).expect_err("refused");
    let text = refused.to_string();
    assert!(
        text.starts_with("spec.layers[1].secretRef: gateways may not read the Secret database"),
        "{text}"
    );
}
