//! The `WarmPool` resource: unclaimed instances of one runtime that wait for functions.
//!
//! Owns the fields and decides which functions a pool can serve. The controller keeps a pool full; gateways
//! know a pool only by the labels of its pods (`labels`). `warm_pool_schema` states the same rules for the
//! API server, and `status` has the status.

use std::collections::BTreeMap;

#[cfg(feature = "cluster")]
use k8s_openapi::api::core::v1::Pod;
use pilotlight_core::function::{EphemeralStorageMiB, MemoryMiB, PoolSize, Runtime};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::code::Code;
use crate::defaults::is_default;
use crate::function::FunctionSpec;
use crate::labels;
use crate::pod::{LabelKey, LabelValue, ObjectName, ObjectRef, PodSettings, Toleration};

/// Unclaimed instances of one runtime, for all functions that fit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "cluster", derive(kube_derive::CustomResource))]
#[cfg_attr(
    feature = "cluster",
    kube(
        crates(kube_core = "::kube_core"),
        group = "pilotlight.dev",
        version = "v1alpha1",
        kind = "WarmPool",
        root = "WarmPoolResource",
        namespaced,
        status = "crate::status::WarmPoolStatus",
        shortname = "wp",
        category = "all",
        category = "pilotlight",
        doc = "Instances of one runtime that are up and wait for a function.",
        printcolumn = r#"{"name":"Runtime","type":"string","jsonPath":".spec.runtime"}"#,
        printcolumn = r#"{"name":"Memory","type":"integer","jsonPath":".spec.memory"}"#,
        printcolumn = r#"{"name":"Size","type":"integer","jsonPath":".spec.size"}"#,
        printcolumn = r#"{"name":"Ready","type":"integer","jsonPath":".status.ready"}"#,
        printcolumn = r#"{"name":"Claimed","type":"integer","jsonPath":".status.claimed"}"#,
        printcolumn = r#"{"name":"Refilling","type":"integer","jsonPath":".status.refilling"}"#,
        printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].reason","priority":1}"#,
        printcolumn = r#"{"name":"Runtime-Class","type":"string","jsonPath":".spec.runtimeClassName","priority":1}"#,
        printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
        schema = "derived"
    )
)]
#[serde(rename_all = "camelCase", try_from = "WarmPoolFields")]
pub struct WarmPoolSpec {
    pub runtime: Runtime,
    /// Memory of each instance, in MiB: 128 (default) to 10240.
    #[serde(skip_serializing_if = "is_default")]
    pub memory: MemoryMiB,
    /// Size of each instance's `/tmp`, in MiB: 512 (default) to 10240.
    #[serde(skip_serializing_if = "is_default")]
    pub ephemeral_storage: EphemeralStorageMiB,
    /// Instances that wait, 0 to 1000.
    pub size: PoolSize,
    /// The most instances that wait while many are claimed, at least `size`. Absent: the same as `size`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<PoolSize>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<LabelKey, LabelValue>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<ObjectRef>,
    /// What runs its containers. Only functions of the same runtime class fit. Absent: the installation's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime_class_name: Option<ObjectName>,
}

/// A pool as it is written, before its fields are checked against each other.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WarmPoolFields {
    runtime: Runtime,
    #[serde(default)]
    memory: MemoryMiB,
    #[serde(default)]
    ephemeral_storage: EphemeralStorageMiB,
    size: PoolSize,
    #[serde(default)]
    max: Option<PoolSize>,
    #[serde(default)]
    node_selector: BTreeMap<LabelKey, LabelValue>,
    #[serde(default)]
    tolerations: Vec<Toleration>,
    #[serde(default)]
    image_pull_secrets: Vec<ObjectRef>,
    #[serde(default)]
    runtime_class_name: Option<ObjectName>,
}

/// Fewer instances may wait than have to.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("has `max` {max} below `size` {size}: raise `max`, or remove it")]
struct MaxBelowSize {
    max: u32,
    size: u32,
}

impl TryFrom<WarmPoolFields> for WarmPoolSpec {
    type Error = MaxBelowSize;

    fn try_from(fields: WarmPoolFields) -> Result<Self, MaxBelowSize> {
        let size = fields.size.get();
        if let Some(max) = fields.max.map(PoolSize::get).filter(|max| *max < size) {
            return Err(MaxBelowSize { max, size });
        }
        Ok(Self {
            runtime: fields.runtime,
            memory: fields.memory,
            ephemeral_storage: fields.ephemeral_storage,
            size: fields.size,
            max: fields.max,
            node_selector: fields.node_selector,
            tolerations: fields.tolerations,
            image_pull_secrets: fields.image_pull_secrets,
            runtime_class_name: fields.runtime_class_name,
        })
    }
}

impl WarmPoolSpec {
    /// `default`: the runtime class of pods that name none.
    pub fn class(&self, default: Option<&ObjectName>) -> Class {
        let runtime_class = self.runtime_class_name.as_ref().or(default);
        Class {
            memory: self.memory,
            ephemeral_storage: self.ephemeral_storage,
            runtime: self.runtime.canonical(),
            runtime_class: runtime_class.cloned(),
        }
    }

    /// The settings of its pods. They have no account.
    pub fn pod(&self) -> PodSettings {
        PodSettings {
            service_account: None,
            image_pull_secrets: self.image_pull_secrets.clone(),
            node_selector: self.node_selector.clone(),
            tolerations: self.tolerations.clone(),
            runtime_class_name: self.runtime_class_name.clone(),
        }
    }
}

/// The size of a pool's instances and what runs them. A function of this runtime and this runtime class fits if it
/// asks for no more.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Class {
    /// The first field, so that the smallest class that fits is the least one.
    pub memory: MemoryMiB,
    pub ephemeral_storage: EphemeralStorageMiB,
    /// Under its canonical name.
    pub runtime: Runtime,
    /// The one that the pods have, be it their pool's or the installation's default.
    pub runtime_class: Option<ObjectName>,
}

impl Class {
    /// The class that a pool's pod has by its labels and its spec; `None` if the labels are incomplete. The
    /// runtime class is what the pod really has, and not what a label says, because it is a wall.
    #[cfg(feature = "cluster")]
    pub fn of_pod(pod: &Pod) -> Option<Self> {
        let labels = pod.metadata.labels.as_ref()?;
        let spec = pod.spec.as_ref()?;
        let runtime_class = spec.runtime_class_name.clone();
        let text = |label: &str| labels.get(label).map(String::as_str);
        Some(Class {
            runtime_class: runtime_class.map(ObjectName::try_from).transpose().ok()?,
            memory: text(labels::MEMORY)?.parse().ok()?,
            ephemeral_storage: text(labels::EPHEMERAL_STORAGE)?.parse().ok()?,
            runtime: text(labels::RUNTIME)?.parse::<Runtime>().ok()?.canonical(),
        })
    }

    pub fn labels(&self) -> [(&'static str, String); 3] {
        [
            (labels::RUNTIME, self.runtime.to_string()),
            (labels::MEMORY, self.memory.get().to_string()),
            (
                labels::EPHEMERAL_STORAGE,
                self.ephemeral_storage.get().to_string(),
            ),
        ]
    }

    /// Whether an instance of this class can become one of such a function. `default`: the runtime class of
    /// functions that name none.
    pub fn fits(&self, spec: &FunctionSpec, default: Option<&ObjectName>) -> bool {
        spec.needs_own_pods().is_none()
            && self.runtime_class.as_ref() == spec.pod.runtime_class(default)
            && self.runtime.is_same(&spec.runtime)
            && self.memory >= spec.memory
            && self.ephemeral_storage >= spec.ephemeral_storage
    }
}

impl FunctionSpec {
    /// The field that requires pods of the function's own, because it is decided when a pod is created;
    /// `None` if the function can use pods of warm pools.
    pub fn needs_own_pods(&self) -> Option<&'static str> {
        let pod = &self.pod;
        let needs = [
            ("spec.code.image", matches!(self.code, Code::Image(_))),
            (
                "spec.code.configMap",
                matches!(self.code, Code::ConfigMap(_)),
            ),
            ("spec.code.path", matches!(self.code, Code::Path(_))),
            ("spec.layers", !self.layers.is_empty()),
            ("spec.environmentFrom", !self.environment_from.is_empty()),
            ("spec.pod.serviceAccount", pod.service_account.is_some()),
            (
                "spec.pod.imagePullSecrets",
                !pod.image_pull_secrets.is_empty(),
            ),
            ("spec.pod.nodeSelector", !pod.node_selector.is_empty()),
            ("spec.pod.tolerations", !pod.tolerations.is_empty()),
        ];
        needs
            .into_iter()
            .find_map(|(field, is_so)| is_so.then_some(field))
    }
}

#[cfg(all(test, feature = "cluster"))]
mod tests {
    use k8s_openapi::api::core::v1::PodSpec;

    use super::*;

    fn class() -> Class {
        Class {
            memory: 512_i128.try_into().expect("within bounds"),
            ephemeral_storage: 512_i128.try_into().expect("within bounds"),
            runtime: "nodejs22".parse().expect("a name"),
            runtime_class: Some("sandbox".parse().expect("a name")),
        }
    }

    fn pod(class: &Class) -> Pod {
        let labels = class.labels();
        let labels = labels.map(|(label, value)| (label.to_owned(), value));
        let mut pod = Pod::default();
        pod.metadata.labels = Some(labels.into());
        pod.spec = Some(PodSpec {
            runtime_class_name: class.runtime_class.clone().map(String::from),
            ..PodSpec::default()
        });
        pod
    }

    #[test]
    fn a_class_reads_back_from_a_pod_and_pods_of_another_release_have_none() {
        let mut pod = pod(&class());
        assert_eq!(Class::of_pod(&pod), Some(class()));
        let labels = pod.metadata.labels.get_or_insert_default();
        let runtime = labels.remove(labels::RUNTIME).expect("a label");
        labels.insert("pilotlight.dev/runtime".to_owned(), runtime);
        assert_eq!(Class::of_pod(&pod), None);
    }

    #[test]
    fn a_function_fits_only_a_pool_of_its_own_runtime_class() {
        let spec = |class: &str| {
            let text = format!(
                r#"{{"runtime":"nodejs22.x","code":{{"inline":{{"a.mjs":"1"}}}},"pod":{{{class}}}}}"#
            );
            serde_json::from_str::<FunctionSpec>(&text).expect("a spec")
        };
        let sandbox: ObjectName = "sandbox".parse().expect("a name");
        let (default, sandboxed) = (spec(""), spec(r#""runtimeClassName":"sandbox""#));
        let other = spec(r#""runtimeClassName":"other""#);
        let in_sandbox = Class::of_pod(&pod(&class())).expect("a class");
        let plain = Class {
            runtime_class: None,
            ..class()
        };
        let plain = Class::of_pod(&pod(&plain)).expect("a class");
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
            assert_eq!(class.fits(spec, installed), fits, "{case:?}");
        }
    }
}
