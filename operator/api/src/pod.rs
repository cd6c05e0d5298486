//! The settings that a function passes on to the pods of its instances, spelled as in a pod's own spec.
//!
//! Owns the fields and refuses what is wrong from the text alone; Kubernetes looks up nodes, secrets and
//! accounts. Only a cluster has pods: local mode ignores `pod` and refuses `environmentFrom`. The
//! controller's `build` copies the settings into pods.

use std::collections::BTreeMap;

use pilotlight_core::function::TolerationSeconds;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::defaults::is_default;
use crate::text::{checked_text, is_label_key, is_label_value, is_subdomain};

/// Where the pods run and under which account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodSettings {
    /// Absent: the pods have no account and no token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<ObjectName>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<ObjectRef>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<LabelKey, LabelValue>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// What runs the pods' containers, such as a sandbox. Absent: the installation's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_class_name: Option<ObjectName>,
}

impl PodSettings {
    /// The runtime class of the pods. `default`: that of the installation.
    pub fn runtime_class<'a>(&'a self, default: Option<&'a ObjectName>) -> Option<&'a ObjectName> {
        self.runtime_class_name.as_ref().or(default)
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// An object of the function's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectRef {
    pub name: ObjectName,
}

/// An object each of whose keys becomes a variable. The function's own variables take precedence over
/// these, and the platform's over both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "SourceFields", into = "SourceFields")]
pub enum EnvironmentSource {
    Secret(ObjectRef),
    ConfigMap(ObjectRef),
}

/// A source as it is written. It is a struct for the reason given at `CodeFields`.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct SourceFields {
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_ref: Option<ObjectRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    config_map_ref: Option<ObjectRef>,
}

impl TryFrom<SourceFields> for EnvironmentSource {
    type Error = InvalidPod;

    fn try_from(fields: SourceFields) -> Result<Self, InvalidPod> {
        match (fields.secret_ref, fields.config_map_ref) {
            (Some(secret), None) => Ok(Self::Secret(secret)),
            (None, Some(map)) => Ok(Self::ConfigMap(map)),
            _ => Err(InvalidPod::Source),
        }
    }
}

impl From<EnvironmentSource> for SourceFields {
    fn from(source: EnvironmentSource) -> Self {
        let none = Self::default();
        match source {
            EnvironmentSource::Secret(secret) => Self {
                secret_ref: Some(secret),
                ..none
            },
            EnvironmentSource::ConfigMap(map) => Self {
                config_map_ref: Some(map),
                ..none
            },
        }
    }
}

/// A taint that the pods tolerate. Its fields have been checked against each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "TolerationFields", into = "TolerationFields")]
pub struct Toleration(TolerationFields);

/// A toleration as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TolerationFields {
    /// Absent: every taint, which is allowed only with `Exists`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<LabelKey>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub operator: TolerationOperator,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<LabelValue>,
    /// Absent: every effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
    /// Absent: forever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub toleration_seconds: Option<TolerationSeconds>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TolerationOperator {
    #[default]
    Equal,
    Exists,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaintEffect {
    NoSchedule,
    PreferNoSchedule,
    NoExecute,
}

impl Toleration {
    pub fn fields(&self) -> &TolerationFields {
        &self.0
    }
}

impl TryFrom<TolerationFields> for Toleration {
    type Error = InvalidPod;

    fn try_from(fields: TolerationFields) -> Result<Self, InvalidPod> {
        let exists = fields.operator == TolerationOperator::Exists;
        let has_value = fields
            .value
            .as_ref()
            .is_some_and(|value| !value.as_str().is_empty());
        if fields.key.is_none() && !exists {
            return Err(InvalidPod::NoTaintKey);
        }
        if exists && has_value {
            return Err(InvalidPod::ValueOfExists);
        }
        if fields.toleration_seconds.is_some() && fields.effect != Some(TaintEffect::NoExecute) {
            return Err(InvalidPod::SecondsOfEffect);
        }
        Ok(Self(fields))
    }
}

impl From<Toleration> for TolerationFields {
    fn from(toleration: Toleration) -> Self {
        toleration.0
    }
}

/// A setting that no pod can have.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidPod {
    #[error("must be 1 to 253 characters: a-z, 0-9, `-` and `.`, got `{0}`")]
    Object(String),
    #[error(
        "`{0}` cannot be a key: use letters, digits, `-`, `_` and `.`, after a domain and `/` or none"
    )]
    LabelKey(String),
    #[error("must be at most 63 characters: letters, digits, `-`, `_` and `.`, got `{0}`")]
    LabelValue(String),
    #[error("must have exactly one of secretRef, configMapRef")]
    Source,
    #[error("needs a `key`, or `operator: Exists` to tolerate every taint")]
    NoTaintKey,
    #[error("has a `value` with `operator: Exists`: remove one of them")]
    ValueOfExists,
    #[error(
        "has `tolerationSeconds`, which works only with `effect: NoExecute`: add that or remove it"
    )]
    SecondsOfEffect,
}

checked_text! {
    /// The name of a secret, config map, service account or runtime class: a DNS-1123 subdomain.
    ObjectName, InvalidPod, is_subdomain, InvalidPod::Object
}
checked_text! {
    /// The key of a node's label or taint.
    LabelKey, InvalidPod, is_label_key, InvalidPod::LabelKey
}
checked_text! {
    /// The value of a node's label or taint; may be empty.
    LabelValue, InvalidPod, is_label_value, InvalidPod::LabelValue
}
