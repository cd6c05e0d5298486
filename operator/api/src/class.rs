//! What `core::fleet::fit` compares: the class of a WarmPool, of one of its pods, and the needs of a Function.
//!
//! The controller takes a class from the WarmPool and marks the pods. A gateway takes it from a pod: what is a wall for the
//! function (account, variables, runtime class) from the pod's own spec, and never from a mark. Pure.

#[cfg(feature = "cluster")]
use k8s_openapi::api::core::v1::{Container, EnvFromSource, Pod};
use pilotlight_core::fleet::fit::{
    Class, Needs, Placement, Settings, ToleratedTaint, VariableSource,
};
#[cfg(feature = "cluster")]
use pilotlight_core::function::Runtime;
#[cfg(feature = "cluster")]
use pilotlight_wire::config::GIVEN_PREFIX;

use crate::code::Code;
use crate::function::FunctionSpec;
use crate::labels;
use crate::pod::{self, EnvironmentSource, ObjectName, PodSettings};
use crate::warm_pool::WarmPoolSpec;

impl WarmPoolSpec {
    /// `default`: the runtime class of pods that name none.
    pub fn class(&self, default: Option<&ObjectName>) -> Class {
        Class {
            memory: self.memory,
            ephemeral_storage: self.ephemeral_storage,
            runtime: self.runtime.canonical(),
            takes_layers: true,
            settings: settings(&self.pod(), &self.environment_from, default),
        }
    }
}

impl FunctionSpec {
    /// What a warm pool's pod must have to become an instance of the function. `default`: the runtime class of
    /// functions that name none.
    pub fn needs(&self, default: Option<&ObjectName>) -> Needs {
        let own_pod = match self.code {
            Code::Image(_) => Some("spec.code.image"),
            Code::Path(_) => Some("spec.code.path"),
            Code::Inline(_) | Code::Archive(_) | Code::ConfigMap(_) => None,
        };
        Needs {
            memory: self.memory,
            ephemeral_storage: self.ephemeral_storage,
            runtime: self.runtime.clone(),
            has_layers: !self.layers.is_empty(),
            settings: settings(&self.pod, &self.environment_from, default),
            own_pod,
        }
    }
}

fn settings(
    pod: &PodSettings,
    sources: &[EnvironmentSource],
    default: Option<&ObjectName>,
) -> Settings {
    let text = |name: &ObjectName| name.as_str().to_owned();
    let sources = sources.iter().map(|source| match source {
        EnvironmentSource::Secret(secret) => VariableSource::Secret(text(&secret.name)),
        EnvironmentSource::ConfigMap(map) => VariableSource::ConfigMap(text(&map.name)),
    });
    let node_selector = pod.node_selector.iter();
    let node_selector =
        node_selector.map(|(key, value)| (key.as_str().to_owned(), value.as_str().to_owned()));
    Settings {
        account: pod.service_account.as_ref().map(text),
        sources: sources.collect(),
        placement: Placement {
            node_selector: node_selector.collect(),
            tolerations: pod.tolerations.iter().map(toleration).collect(),
        },
        runtime_class: pod.runtime_class(default).map(text),
    }
}

fn toleration(toleration: &pod::Toleration) -> ToleratedTaint {
    let fields = toleration.fields();
    let operator = match fields.operator {
        pod::TolerationOperator::Equal => "Equal",
        pod::TolerationOperator::Exists => "Exists",
    };
    let effect = fields.effect.map(|effect| match effect {
        pod::TaintEffect::NoSchedule => "NoSchedule",
        pod::TaintEffect::PreferNoSchedule => "PreferNoSchedule",
        pod::TaintEffect::NoExecute => "NoExecute",
    });
    let value = fields.value.as_ref().map(|value| value.as_str().to_owned());
    ToleratedTaint {
        key: fields.key.as_ref().map(|key| key.as_str().to_owned()),
        operator: operator.to_owned(),
        // Kubernetes takes an absent value for an empty one.
        value: value.filter(|value| !value.is_empty()),
        effect: effect.map(str::to_owned),
        toleration_seconds: fields.toleration_seconds.map(|seconds| seconds.get()),
    }
}

/// The labels of a pool's pods, by which gateways find them.
pub fn class_labels(class: &Class) -> [(&'static str, String); 3] {
    let runtime = match class.settings.has_access() {
        true => labels::RUNTIME_WITH_ACCESS,
        false => labels::RUNTIME,
    };
    let storage = class.ephemeral_storage.get();
    [
        (runtime, class.runtime.to_string()),
        (labels::MEMORY, class.memory.get().to_string()),
        (labels::EPHEMERAL_STORAGE, storage.to_string()),
    ]
}

/// The annotation of a pool's pods with what their own spec does not say.
///
/// # Panics
/// Never: it is plain data.
#[cfg(feature = "cluster")]
pub fn class_annotation(class: &Class) -> (&'static str, String) {
    let placement = serde_json::to_string(&class.settings.placement);
    (
        labels::PLACEMENT,
        placement.expect("it is plain data with string keys"),
    )
}

/// The class that a pool's pod has. `None` if its marks are incomplete, or those of a release that starts runtimes in
/// another way.
#[cfg(feature = "cluster")]
pub fn class_of_pod(pod: &Pod) -> Option<Class> {
    let labels = pod.metadata.labels.as_ref()?;
    let spec = pod.spec.as_ref()?;
    let text = |label: &str| labels.get(label).map(String::as_str);
    let mut containers = spec.containers.iter();
    let container = containers.find(|container| container.name == labels::CONTAINER)?;
    let annotations = pod.metadata.annotations.as_ref();
    let placement = annotations.and_then(|all| all.get(labels::PLACEMENT));
    let placement = match placement {
        Some(text) => serde_json::from_str(text).ok()?,
        // A controller of an earlier release made it, for every function.
        None => Placement::default(),
    };
    let has_token = spec.automount_service_account_token == Some(true);
    let runtime = text(labels::RUNTIME).or(text(labels::RUNTIME_WITH_ACCESS))?;
    Some(Class {
        memory: text(labels::MEMORY)?.parse().ok()?,
        ephemeral_storage: text(labels::EPHEMERAL_STORAGE)?.parse().ok()?,
        runtime: runtime.parse::<Runtime>().ok()?.canonical(),
        takes_layers: takes_layers(container),
        settings: Settings {
            account: has_token
                .then(|| spec.service_account_name.clone())
                .flatten(),
            sources: sources(container)?,
            placement,
            runtime_class: spec.runtime_class_name.clone(),
        },
    })
}

#[cfg(feature = "cluster")]
fn takes_layers(container: &Container) -> bool {
    let mut mounts = container.volume_mounts.iter().flatten();
    mounts.any(|mount| mount.mount_path == labels::LAYERS_MOUNT)
}

/// The sources of the function's variables. Others have no prefix, and the supervisor passes none of these on.
#[cfg(feature = "cluster")]
fn sources(container: &Container) -> Option<Vec<VariableSource>> {
    let given = container.env_from.iter().flatten();
    let given = given.filter(|source| source.prefix.as_deref() == Some(GIVEN_PREFIX));
    given
        .map(
            |source: &EnvFromSource| match (&source.secret_ref, &source.config_map_ref) {
                (Some(secret), None) => Some(VariableSource::Secret(secret.name.clone())),
                (None, Some(map)) => Some(VariableSource::ConfigMap(map.name.clone())),
                _ => None,
            },
        )
        .collect()
}

#[cfg(all(test, feature = "cluster"))]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const SETTINGS: &str = r#""serviceAccount":"orders","nodeSelector":{"disk":"fast"},"tolerations":[
        {"key":"b","value":"","effect":"NoExecute","tolerationSeconds":5},{"operator":"Exists"}],
        "runtimeClassName":"sandbox""#;
    const SOURCES: &str = r#""environmentFrom":[{"configMapRef":{"name":"defaults"}},{"secretRef":{"name":"login"}}]"#;

    fn pool(fields: &str) -> WarmPoolSpec {
        let text = format!(r#"{{"runtime":"nodejs22.x","size":1,"memory":512{fields}}}"#);
        serde_json::from_str(&text).expect("a spec")
    }

    fn function(pod: &str, fields: &str) -> FunctionSpec {
        let text = format!(
            r#"{{"runtime":"nodejs22","code":{{"inline":{{"a.mjs":"1"}}}},"pod":{{{pod}}}{fields}}}"#
        );
        serde_json::from_str(&text).expect("a spec")
    }

    /// A pod of the class, after the API server has admitted it.
    fn pod(class: &Class) -> Value {
        let Settings {
            account,
            sources,
            runtime_class,
            ..
        } = &class.settings;
        let sources = sources.iter().map(|source| match source {
            VariableSource::Secret(name) => {
                json!({ "prefix": GIVEN_PREFIX, "secretRef": { "name": name } })
            }
            VariableSource::ConfigMap(name) => {
                json!({ "prefix": GIVEN_PREFIX, "configMapRef": { "name": name } })
            }
        });
        let (placement, text) = class_annotation(class);
        let labels = class_labels(class);
        json!({
            "metadata": {
                "labels": labels.into_iter().collect::<std::collections::BTreeMap<_, _>>(),
                "annotations": { placement: text },
            },
            "spec": {
                "serviceAccountName": account.as_deref().unwrap_or("default"),
                "automountServiceAccountToken": account.is_some(),
                "runtimeClassName": runtime_class,
                "nodeSelector": { "added": "by-admission" },
                "tolerations": [{ "key": "node.kubernetes.io/not-ready", "operator": "Exists" }],
                "containers": [
                    { "name": "sidecar", "envFrom": [{ "secretRef": { "name": "another" } }] },
                    {
                        "name": labels::CONTAINER,
                        "envFrom": sources.collect::<Vec<_>>(),
                        "volumeMounts": [{ "name": "layers", "mountPath": labels::LAYERS_MOUNT }],
                    },
                ],
            },
        })
    }

    fn read(pod: &Value) -> Option<Class> {
        class_of_pod(&serde_json::from_value(pod.clone()).expect("a pod"))
    }

    #[test]
    fn a_class_reads_back_from_an_admitted_pod_and_pods_of_another_release_have_none() {
        for fields in ["".to_owned(), format!(",{SETTINGS},{SOURCES}")] {
            let class = pool(&fields).class(None);
            let admitted = pod(&class);
            assert_eq!(read(&admitted), Some(class), "{fields}");
        }
        let mut other = pod(&pool("").class(None));
        let labels = other["metadata"]["labels"].as_object_mut().expect("labels");
        let runtime = labels.remove(labels::RUNTIME).expect("a label");
        labels.insert("pilotlight.dev/runtime".to_owned(), runtime);
        assert_eq!(read(&other), None);
    }

    #[test]
    fn a_function_that_asks_for_exactly_the_same_fits() {
        let declared = pool(&format!(",{SETTINGS},{SOURCES}")).class(None);
        let declared = read(&pod(&declared)).expect("a class");
        let asks = function(SETTINGS, &format!(",{SOURCES}")).needs(None);
        assert!(declared.fits(&asks), "{declared:?} {asks:?}");
        let plain = read(&pod(&pool("").class(None))).expect("a class");
        let asks_nothing = function("", "").needs(None);
        assert!(plain.fits(&asks_nothing));
        assert!(!plain.fits(&asks) && !declared.fits(&asks_nothing));
        // The image of the runtime is on the node already.
        let pulls = function(r#""imagePullSecrets":[{"name":"registry"}]"#, "");
        assert!(plain.fits(&pulls.needs(None)));
    }

    #[test]
    fn a_pod_with_access_is_hidden_from_gateways_of_an_earlier_release() {
        for (fields, is_hidden) in [
            (r#","serviceAccount":"orders""#.to_owned(), true),
            (format!(",{SOURCES}"), true),
            (r#","nodeSelector":{"disk":"fast"}"#.to_owned(), false),
        ] {
            let labels = class_labels(&pool(&fields).class(None));
            let mut known = labels.iter().filter(|(label, _)| *label == labels::RUNTIME);
            assert_eq!(known.next().is_none(), is_hidden, "{fields}");
        }
    }

    #[test]
    fn a_pod_of_an_earlier_release_takes_no_layers_and_serves_whoever_names_no_node() {
        let mut earlier = pod(&pool(r#","nodeSelector":{"disk":"fast"}"#).class(None));
        earlier["metadata"]
            .as_object_mut()
            .expect("metadata")
            .remove("annotations");
        earlier["spec"]["containers"][1]["volumeMounts"] = json!([]);
        let class = read(&earlier).expect("a class");
        assert!(class.fits(&function("", "").needs(None)));
        let layer = json!({ "url": "https://host/a.zip", "sha256": "0".repeat(64) });
        let layered = function("", &format!(",\"layers\":[{layer}]"));
        assert!(!class.fits(&layered.needs(None)));
        assert!(pool("").class(None).fits(&layered.needs(None)));
    }

    #[test]
    fn a_function_fits_only_a_pool_of_its_own_runtime_class() {
        let sandbox: ObjectName = "sandbox".parse().expect("a name");
        let (default, sandboxed) = (
            function("", ""),
            function(r#""runtimeClassName":"sandbox""#, ""),
        );
        let other = function(r#""runtimeClassName":"other""#, "");
        let in_sandbox = pool(r#","runtimeClassName":"sandbox""#).class(None);
        let in_sandbox = read(&pod(&in_sandbox)).expect("a class");
        let plain = read(&pod(&pool("").class(None))).expect("a class");
        for (class, spec, installed, fits) in [
            (&in_sandbox, &sandboxed, None, true),
            (&in_sandbox, &default, None, false),
            (&in_sandbox, &default, Some(&sandbox), true),
            (&in_sandbox, &other, Some(&sandbox), false),
            (&plain, &default, None, true),
            (&plain, &sandboxed, None, false),
            // A pod of a time before the installation had the default.
            (&plain, &default, Some(&sandbox), false),
        ] {
            let case = (class, &spec.pod, installed);
            assert_eq!(class.fits(&spec.needs(installed)), fits, "{case:?}");
        }
    }

    #[test]
    fn only_code_that_is_an_image_or_on_a_machine_needs_pods_of_its_own() {
        let sha256 = "0".repeat(64);
        for (code, own_pod) in [
            (json!({ "image": "a:1" }), Some("spec.code.image")),
            (json!({ "path": "./a" }), Some("spec.code.path")),
            (json!({ "configMap": "code" }), None),
            (
                json!({ "archive": { "url": "https://host/a.zip", "sha256": sha256 } }),
                None,
            ),
        ] {
            let spec = json!({ "runtime": "nodejs22", "code": code });
            let spec: FunctionSpec = serde_json::from_value(spec).expect("a spec");
            assert_eq!(spec.needs(None).own_pod, own_pod);
        }
    }
}
