//! The resources of the API server, Functions and WarmPools, and their definitions (CRDs).
//!
//! `function` and `warm_pool` own the specs, `status` the statuses, `schema` and `warm_pool_schema` what
//! the API server checks. `pilotlight crd` prints the definitions; `crds/` and the chart hold copies.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, ValidationRule,
};
use kube_core::CustomResourceExt;

use crate::schema::{NAME_MESSAGE, NAME_RULE};
use crate::status::PodRefusal;

pub use crate::function::FunctionResource;
pub use crate::warm_pool::WarmPoolResource;

/// The definition of Functions for the API server.
pub fn function_definition() -> CustomResourceDefinition {
    with_name_rule(FunctionResource::crd())
}

/// The definition of WarmPools for the API server.
pub fn warm_pool_definition() -> CustomResourceDefinition {
    with_name_rule(WarmPoolResource::crd())
}

fn with_name_rule(mut definition: CustomResourceDefinition) -> CustomResourceDefinition {
    let schemas = definition.spec.versions.iter_mut();
    let schemas =
        schemas.filter_map(|version| version.schema.as_mut()?.open_api_v3_schema.as_mut());
    for schema in schemas {
        // A rule sees the name only at the root.
        schema.x_kubernetes_validations = Some(vec![ValidationRule {
            rule: NAME_RULE.to_owned(),
            message: Some(NAME_MESSAGE.to_owned()),
            ..ValidationRule::default()
        }]);
    }
    definition
}

impl FunctionResource {
    /// Why the controller makes no pod of the present spec, or could not make some. Empty if it has not
    /// reported on this generation yet.
    pub fn refusals(&self) -> &[PodRefusal] {
        let status = self.status.as_ref();
        let current =
            status.filter(|status| status.observed_generation == self.metadata.generation);
        current.map_or(&[], |status| &status.refusals)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn function(generation: i64, status: serde_json::Value) -> FunctionResource {
        let function = json!({
            "apiVersion": "pilotlight.dev/v1alpha1",
            "kind": "Function",
            "metadata": { "name": "hello", "generation": generation },
            "spec": { "runtime": "python3.11", "code": { "inline": { "a.py": "1" } } },
            "status": status,
        });
        serde_json::from_value(function).expect("a Function")
    }

    #[test]
    fn a_refusal_holds_for_the_spec_that_it_was_reported_for() {
        let status = json!({
            "observedGeneration": 2,
            "refusals": [
                { "scope": "Pods", "pods": ["hello-a"], "reason": "PodRefused", "message": "quota" },
            ],
        });
        let current = function(2, status.clone());
        let [refusal] = current.refusals() else {
            panic!("{:?}", current.refusals());
        };
        assert!(refusal.concerns("hello-a") && !refusal.concerns("hello-b"));
        assert_eq!(function(3, status).refusals(), []);
    }

    #[test]
    fn the_status_of_an_older_controller_has_no_refusals_and_one_of_a_newer_may_have_unknown_ones()
    {
        let older = json!({ "observedGeneration": 1, "conditions": [] });
        assert_eq!(function(1, older).refusals(), []);
        let newer = json!({
            "observedGeneration": 1,
            "refusals": [
                { "scope": "Zone", "zone": "a", "reason": "ZoneFull", "message": "no room" },
                { "scope": "Function", "reason": "NoImage", "message": "no image" },
            ],
        });
        let function = function(1, newer);
        let concerns = |refusal: &PodRefusal| refusal.concerns("hello-a");
        let concerned: Vec<bool> = function.refusals().iter().map(concerns).collect();
        assert_eq!(concerned, [false, true]);
    }
}
