//! What a gateway wants of one function: which instances exist, and which of them were claimed.
//!
//! Gateways say it for the functions they own; `fleet` makes pods of it, `stock` refills what was
//! claimed. `pilotlight-wire` says how it is sent.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::function::FunctionName;

/// Which instances of one function shall live. The controller makes those that are missing and
/// deletes all others of the function that no gateway wants.
///
/// During an upgrade one side is newer than the other: unknown fields are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Demand {
    pub function: FunctionName,
    /// Of the Function resource: one of the same name made later is another.
    pub uid: String,
    /// What the instances are made from; the controller makes none of another revision.
    pub revision: String,
    /// Names of instances; part of their pods' names.
    pub instances: BTreeSet<String>,
    /// Those of the instances that this gateway has made from pods of warm pools, by claiming them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claimed: BTreeMap<String, ClaimedPod>,
    pub in_flight: usize,
    pub queued: usize,
    /// This gateway speaks for the function no longer, and says nothing of its instances.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub released: bool,
}

/// A pod of a warm pool that has become an instance of a function. Its labels and its owner follow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimedPod {
    pub name: String,
    pub uid: String,
    /// Of the function, when it was claimed.
    pub revision: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_demand_of_a_newer_gateway_is_understood() {
        let text = r#"{"function":"hello","uid":"u","revision":"r","instances":["a"],
            "inFlight":1,"queued":2,"added":{"later":true}}"#;
        let demand: Demand = serde_json::from_str(text).expect("a demand");
        assert_eq!((demand.in_flight, demand.queued), (1, 2));
    }
}
