//! The `WarmPool` resource: unclaimed instances of one runtime that wait for functions.
//!
//! Owns the fields, and which functions a pool can serve. The controller keeps a pool full; gateways
//! know a pool by the labels of its pods alone (`labels`).

use std::collections::BTreeMap;

use pilotlight_core::function::{EphemeralStorageMiB, MemoryMiB, Runtime};

use crate::code::Code;
use crate::function::FunctionSpec;
use crate::labels;

/// What the instances of a pool are: a function of this runtime fits if it asks for no more.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Class {
    /// First, so that the smallest class that fits is the least.
    pub memory: MemoryMiB,
    pub ephemeral_storage: EphemeralStorageMiB,
    pub runtime: Runtime,
}

impl Class {
    /// As the labels of a pool's pod say; `None` if they do not.
    pub fn of_labels(labels: &BTreeMap<String, String>) -> Option<Self> {
        let text = |label: &str| labels.get(label).map(String::as_str);
        Some(Class {
            memory: text(labels::MEMORY)?.parse().ok()?,
            ephemeral_storage: text(labels::EPHEMERAL_STORAGE)?.parse().ok()?,
            runtime: text(labels::RUNTIME)?.parse().ok()?,
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

    /// Whether an instance of this class can become one of such a function.
    pub fn fits(&self, spec: &FunctionSpec) -> bool {
        spec.needs_own_pods().is_none()
            && self.runtime == spec.runtime
            && self.memory >= spec.memory
            && self.ephemeral_storage >= spec.ephemeral_storage
    }
}

impl FunctionSpec {
    /// The field for which the function's instances are pods made for it alone, never of a warm
    /// pool: what it asks for is decided when a pod is made.
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
