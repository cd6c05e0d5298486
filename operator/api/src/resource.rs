//! The resources of the API server: Functions, the same spec as in a file, and WarmPools; each with
//! its status.
//!
//! Owns names, definitions and status; `function` and `warm_pool` own the specs. The controller
//! writes the status, gateways and people read it.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, ValidationRule,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube_core::CustomResourceExt;
use pilotlight_core::function::KeepAlive;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::function::{ConcurrencySpec, FunctionSpec};
use crate::schema::{NAME_MESSAGE, NAME_RULE};

pub use crate::function::FunctionResource;
pub use crate::warm_pool::WarmPoolResource;

/// The one condition: whether events are served, or a pool is full.
pub const READY: &str = "Ready";
/// Its reason while the API server refuses pods; the message names the pod.
pub const POD_REFUSED: &str = "PodRefused";
/// Its reasons while no pod can be made at all.
pub const CODE_NOT_SUPPORTED: &str = "CodeNotSupported";
pub const NO_IMAGE: &str = "NoImage";
pub const CODE_NOT_STORED: &str = "CodeNotStored";

/// What the controller knows of a function.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct FunctionStatus {
    /// The generation of the spec that this status tells of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend(
        "x-kubernetes-list-type" = "map",
        "x-kubernetes-list-map-keys" = ["type"]
    ))]
    pub conditions: Vec<Condition>,
    /// The entry point, the runtime's default too.
    pub handler: String,
    /// Pods that live.
    pub instances: usize,
    /// Those of them that take events.
    pub ready: usize,
    pub in_flight: usize,
    pub queued: usize,
    /// The warm pool that its instances may come from; `none` and the reason if there is none.
    pub warm_pool: String,
}

/// What the controller knows of a warm pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct WarmPoolStatus {
    /// The generation of the spec that this status tells of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend(
        "x-kubernetes-list-type" = "map",
        "x-kubernetes-list-map-keys" = ["type"]
    ))]
    pub conditions: Vec<Condition>,
    /// Instances that shall wait: the claims of the last 30 s, between `size` and `max`.
    pub wanted: usize,
    /// Instances that can be claimed.
    pub ready: usize,
    /// Claimed instances that do not bear their function's labels yet.
    pub claimed: usize,
    /// All claims so far. One that is made while another controller comes to lead may count twice.
    pub claims: u64,
    /// Instances that are wanted and not ready yet.
    pub refilling: usize,
}

/// The definition of Functions that the API server is given.
pub fn function_definition() -> CustomResourceDefinition {
    with_name_rule(FunctionResource::crd())
}

/// The definition of WarmPools that the API server is given.
pub fn warm_pool_definition() -> CustomResourceDefinition {
    with_name_rule(WarmPoolResource::crd())
}

fn with_name_rule(mut definition: CustomResourceDefinition) -> CustomResourceDefinition {
    let schemas = definition.spec.versions.iter_mut();
    let schemas =
        schemas.filter_map(|version| version.schema.as_mut()?.open_api_v3_schema.as_mut());
    for schema in schemas {
        // The root is the one place from which a rule sees the name.
        schema.x_kubernetes_validations = Some(vec![ValidationRule {
            rule: NAME_RULE.to_owned(),
            message: Some(NAME_MESSAGE.to_owned()),
            ..ValidationRule::default()
        }]);
    }
    definition
}

/// Digits of a revision: enough to tell two apart, few enough for a label.
const REVISION_DIGITS: usize = 16;

impl FunctionSpec {
    /// Names what instances are made from. The same for every spec whose instances may stay:
    /// limits on their number and their idle time may change without new ones.
    pub fn revision(&self) -> String {
        let shaped = FunctionSpec {
            concurrency: ConcurrencySpec::default(),
            keep_alive: KeepAlive::default(),
            description: None,
            ..self.clone()
        };
        revision_of(&shaped)
    }
}

/// Names what is made from this.
pub fn revision_of(shape: &impl Serialize) -> String {
    let text = serde_json::to_vec(shape).expect("a shape has string keys");
    let mut digits = hex(&Sha256::digest(text));
    digits.truncate(REVISION_DIGITS);
    digits
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Why pods of a function are not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal<'a> {
    /// Those that the text names.
    Pods(&'a str),
    /// All.
    Function(&'a str),
}

impl FunctionResource {
    /// Why the controller makes no pod, or could not make some, of the present spec.
    pub fn refusal(&self) -> Option<Refusal<'_>> {
        let conditions = self.status.as_ref()?.conditions.iter();
        let mut conditions = conditions
            .filter(|condition| condition.observed_generation == self.metadata.generation);
        conditions.find_map(|condition| match condition.reason.as_str() {
            POD_REFUSED => Some(Refusal::Pods(&condition.message)),
            CODE_NOT_SUPPORTED | NO_IMAGE | CODE_NOT_STORED => {
                Some(Refusal::Function(&condition.message))
            }
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(changes: &str) -> FunctionSpec {
        let text = format!(
            "{{\"runtime\":\"python3.11\",\"code\":{{\"inline\":{{\"a.py\":\"1\"}}}}{changes}}}"
        );
        serde_json::from_str(&text).expect("a spec")
    }

    #[test]
    fn a_refusal_is_of_the_present_spec_and_of_some_pods_or_all() {
        let mut function = FunctionResource::new("hello", spec(""));
        function.metadata.generation = Some(2);
        let mut refused = |reason: &str, generation| {
            let condition = serde_json::json!({
                "type": READY, "status": "False", "reason": reason, "message": "why",
                "observedGeneration": generation, "lastTransitionTime": "2026-01-31T10:00:00Z",
            });
            let status = serde_json::json!({ "conditions": [condition] });
            function.status = Some(serde_json::from_value(status).expect("a status"));
            format!("{:?}", function.refusal())
        };
        assert_eq!(refused(POD_REFUSED, 2), r#"Some(Pods("why"))"#);
        for reason in [CODE_NOT_SUPPORTED, NO_IMAGE, CODE_NOT_STORED] {
            assert_eq!(refused(reason, 2), r#"Some(Function("why"))"#);
            assert_eq!(refused(reason, 1), "None", "the spec has changed since");
        }
        assert_eq!(refused("Serving", 2), "None");
    }

    #[test]
    fn the_revision_changes_with_what_shapes_an_instance_and_with_nothing_else() {
        let plain = spec("").revision();
        for same in [
            r#","keepAlive":1"#,
            r#","concurrency":{"reserved":1}"#,
            r#","description":"d""#,
        ] {
            assert_eq!(spec(same).revision(), plain, "{same}");
        }
        for other in [
            r#","memory":256"#,
            r#","environment":{"A":"1"}"#,
            r#","timeout":4"#,
        ] {
            assert_ne!(spec(other).revision(), plain, "{other}");
        }
    }
}
