//! What schemas of several fields are made of: texts, numbers, names of objects, and rules with their messages.
//!
//! `schema`, `destination_schema` and `warm_pool_schema` put them together.

use serde_json::{Value, json};

/// A DNS-1123 subdomain.
pub(crate) const SUBDOMAIN: &str =
    "[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*";

pub(crate) fn object_name(description: &str) -> Value {
    text(
        512,
        description,
        &[rule(
            &format!("size(self) <= 253 && self.matches('^{SUBDOMAIN}$')"),
            "must be 1 to 253 characters: a-z, 0-9, `-` and `.`",
        )],
    )
}

pub(crate) fn object_ref(description: &str) -> Value {
    json!({
        "type": "object",
        "description": description,
        "required": ["name"],
        "properties": { "name": object_name("Its name.") },
    })
}

pub(crate) fn rule(rule: &str, message: &str) -> Value {
    json!({ "rule": rule, "message": message })
}

pub(crate) fn text(max_length: u32, description: &str, rules: &[Value]) -> Value {
    let mut text = json!({
        "type": "string",
        "maxLength": max_length,
    });
    if !description.is_empty() {
        text["description"] = json!(description);
    }
    if !rules.is_empty() {
        text["x-kubernetes-validations"] = json!(rules);
    }
    text
}

pub(crate) fn number(min: u32, max: u32, default: Option<u32>, description: &str) -> Value {
    let mut number = json!({
        "type": "integer",
        "minimum": min,
        "maximum": max,
        "description": description,
    });
    if let Some(default) = default {
        number["default"] = json!(default);
    }
    number
}
