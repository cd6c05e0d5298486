//! The schema of a WarmPool's spec, with the rules that the API server enforces.
//!
//! States for `kubectl apply` the same rules as the types of `warm_pool` for the controller, so that no bad
//! WarmPool is ever stored. `schema` has the parts that a Function's spec shares.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Value, json};

use crate::schema::{
    environment_from, image_pull_secrets, node_selector, runtime, runtime_class_name,
    service_account, tolerations,
};
use crate::schema_parts::{number, rule};
use crate::warm_pool::WarmPoolSpec;

impl JsonSchema for WarmPoolSpec {
    fn schema_name() -> Cow<'static, str> {
        Cow::Borrowed("WarmPoolSpec")
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        Schema::try_from(spec()).expect("a schema is an object")
    }
}

fn spec() -> Value {
    json!({
        "type": "object",
        "required": ["runtime", "size"],
        "x-kubernetes-validations": [rule(
            "!has(self.max) || self.max >= self.size",
            "has `max` below `size`: raise `max`, or remove it",
        )],
        "properties": {
            "runtime": runtime(),
            "memory": number(128, 10240, Some(128), "Memory of each instance, in MiB: what a function may ask for that claims one."),
            "ephemeralStorage": number(512, 10240, Some(512), "Size of each instance's `/tmp`, in MiB."),
            "size": number(0, 1000, None, "Instances that wait."),
            "max": number(0, 1000, None, "Instances that may wait while many are claimed; absent: `size`."),
            "serviceAccount": service_account(),
            "environmentFrom": environment_from(),
            "nodeSelector": node_selector(),
            "tolerations": tolerations(),
            "imagePullSecrets": image_pull_secrets(),
            "runtimeClassName": runtime_class_name(),
        },
    })
}
