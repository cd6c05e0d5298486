//! The `WarmPool` resource: unclaimed instances of one runtime that wait for functions.
//!
//! Owns the fields. `class` says which functions fit a pool. The controller keeps a pool full; gateways know a pool only
//! by its pods (`class`, `labels`). `warm_pool_schema` states the same rules for the API server, and `status` has the
//! status.

use std::collections::BTreeMap;

use pilotlight_core::function::{EphemeralStorageMiB, MemoryMiB, PoolSize, Runtime};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::defaults::is_default;
use crate::pod::{
    EnvironmentSource, LabelKey, LabelValue, ObjectName, ObjectRef, PodSettings, Toleration,
};

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
        printcolumn = r#"{"name":"Account","type":"string","jsonPath":".spec.serviceAccount","priority":1}"#,
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
    /// The account of its pods, which have its token before any function claims them. Only functions of the same account
    /// fit. Absent: none, and no token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account: Option<ObjectName>,
    /// Variables of its pods. Only functions with the same sources in the same order fit.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub environment_from: Vec<EnvironmentSource>,
    /// Only functions with the same selector fit, and the same holds for the tolerations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<LabelKey, LabelValue>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// For the image of the runtime. Those of a function do not matter, because a claimed pod has its image.
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
    service_account: Option<ObjectName>,
    #[serde(default)]
    environment_from: Vec<EnvironmentSource>,
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
            service_account: fields.service_account,
            environment_from: fields.environment_from,
            node_selector: fields.node_selector,
            tolerations: fields.tolerations,
            image_pull_secrets: fields.image_pull_secrets,
            runtime_class_name: fields.runtime_class_name,
        })
    }
}

impl WarmPoolSpec {
    /// The settings of its pods.
    pub fn pod(&self) -> PodSettings {
        PodSettings {
            service_account: self.service_account.clone(),
            image_pull_secrets: self.image_pull_secrets.clone(),
            node_selector: self.node_selector.clone(),
            tolerations: self.tolerations.clone(),
            runtime_class_name: self.runtime_class_name.clone(),
        }
    }
}
