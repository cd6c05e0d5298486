//! Revisions: the name of what an instance is made from.
//!
//! Gateways and the controller each compute the revision of a spec and compare the two, so both take it
//! from here. Only what differs from its default is hashed (`defaults`), with sorted keys: the order of
//! fields, explicit defaults and fields that a later version adds do not matter.
//! `tests/revisions.rs` holds the revisions that released versions have computed.

use pilotlight_core::function::KeepAlive;
use serde::Serialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::function::{AsyncSpec, ConcurrencySpec, FunctionSpec, Logging, RecursiveLoop};

/// Digits of a revision: enough to distinguish specs, and few enough for the value of a label.
const REVISION_DIGITS: usize = 16;

impl FunctionSpec {
    /// The revision of this spec: 16 hexadecimal digits.
    ///
    /// Specs whose instances are interchangeable have the same revision: limits on the number of instances,
    /// their idle time, how long their records are kept, and what becomes of events and of loops may change without new
    /// instances.
    pub fn revision(&self) -> String {
        let shaped = FunctionSpec {
            concurrency: ConcurrencySpec::default(),
            keep_alive: KeepAlive::default(),
            description: None,
            asynchronous: AsyncSpec::default(),
            recursive_loop: RecursiveLoop::default(),
            logging: Logging {
                retention: None,
                ..self.logging.clone()
            },
            ..self.clone()
        };
        revision_of(&shaped)
    }
}

/// The revision of anything that pods are made from. Whatever it serialises counts.
pub fn revision_of(shape: &impl Serialize) -> String {
    let shape = serde_json::to_value(shape).expect("a shape has string keys");
    let mut digits = hex(&Sha256::digest(sorted(shape).to_string()));
    digits.truncate(REVISION_DIGITS);
    digits
}

/// Sorts the keys of all objects. `serde_json` keeps the order of insertion if any crate of the program
/// asks it to, and gateway and controller could differ in that.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.into_iter().collect();
            fields.sort_by(|(one, _), (other, _)| one.cmp(other));
            let fields = fields.into_iter().map(|(key, value)| (key, sorted(value)));
            Value::Object(Map::from_iter(fields))
        }
        Value::Array(items) => items.into_iter().map(sorted).collect(),
        other => other,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_keys_does_not_matter_and_the_order_of_items_does() {
        let shape = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
        let one = shape(r#"{"a": {"x": 1, "y": [1, 2]}, "b": 2}"#);
        let same = shape(r#"{"b": 2, "a": {"y": [1, 2], "x": 1}}"#);
        let other = shape(r#"{"a": {"x": 1, "y": [2, 1]}, "b": 2}"#);
        assert_eq!(revision_of(&one), revision_of(&same));
        assert_ne!(revision_of(&one), revision_of(&other));
    }
}
