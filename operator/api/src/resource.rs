//! The resources of the API server, Functions, WarmPools and Schedules, and their definitions (CRDs).
//!
//! `function`, `warm_pool` and `schedule` own the specs, `status` the statuses, `schema`, `warm_pool_schema` and
//! `schedule_schema` what the API server checks. `pilotlight crd` prints the definitions; `crds/` and the chart hold copies.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, ValidationRule,
};
use kube_core::CustomResourceExt;

use crate::destination::InvalidDestination;
use crate::schema::{NAME_MESSAGE, NAME_RULE};
use crate::status::PodRefusal;

pub use crate::function::FunctionResource;
pub use crate::schedule::ScheduleResource;
pub use crate::warm_pool::WarmPoolResource;

/// The definition of Functions for the API server.
pub fn function_definition() -> CustomResourceDefinition {
    with_root_rules(FunctionResource::crd(), &OTHER_FUNCTION.map(other_function))
}

/// The definition of WarmPools for the API server.
pub fn warm_pool_definition() -> CustomResourceDefinition {
    with_root_rules(WarmPoolResource::crd(), &[])
}

/// The definition of Schedules for the API server.
pub fn schedule_definition() -> CustomResourceDefinition {
    with_root_rules(ScheduleResource::crd(), &[])
}

/// The fields of `spec.async` that may name another function.
const OTHER_FUNCTION: [&str; 2] = ["onSuccess", "onFailure"];

/// A function that got its own records as events would be called again and again.
fn other_function(field: &str) -> ValidationRule {
    // `function` is a reserved word of CEL.
    let place = format!("self.spec.async.{field}");
    ValidationRule {
        rule: format!(
            "!has(self.spec.async) || !has({place}) || !has({place}.__function__) || {place}.__function__ != self.metadata.name"
        ),
        message: Some(format!(
            "spec.async.{field}.function {}",
            InvalidDestination::Itself
        )),
        ..ValidationRule::default()
    }
}

/// Rules that see the name: only the root does.
fn with_root_rules(
    mut definition: CustomResourceDefinition,
    further: &[ValidationRule],
) -> CustomResourceDefinition {
    let schemas = definition.spec.versions.iter_mut();
    let schemas =
        schemas.filter_map(|version| version.schema.as_mut()?.open_api_v3_schema.as_mut());
    for schema in schemas {
        let name = ValidationRule {
            rule: NAME_RULE.to_owned(),
            message: Some(NAME_MESSAGE.to_owned()),
            ..ValidationRule::default()
        };
        let rules = [name].into_iter().chain(further.iter().cloned());
        schema.x_kubernetes_validations = Some(rules.collect());
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
