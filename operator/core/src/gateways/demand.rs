//! What a gateway wants for one pool: which instances exist, and which of them were claimed.
//!
//! Gateways report it for the pools that they own (`ledger`); `fleet` creates the pods and refills the
//! warm pools. `pilotlight-wire` defines how it is sent.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::ids::{InstanceName, PodName, PoolId, Revision, Uid};

/// The instances that a gateway wants for one pool. The controller creates the missing ones and deletes all
/// instances of the pool that no gateway wants.
///
/// During an upgrade one side is newer than the other, so unknown fields are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Demand {
    #[serde(flatten)]
    pub pool: PoolId,
    /// The UID of the Function resource. A later resource of the same name has another one.
    pub uid: Uid,
    /// The revision of the instances. The controller creates none of another revision.
    pub revision: Revision,
    /// The names of the instances, which the names of their pods contain.
    pub instances: BTreeSet<InstanceName>,
    /// The instances among these whose pods this gateway claimed from warm pools.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claimed: BTreeMap<InstanceName, ClaimedPod>,
    /// Instances that do not obey and that this gateway wants no more: their pods are deleted without grace.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub given_up: BTreeSet<InstanceName>,
    pub in_flight: usize,
    pub queued: usize,
    /// Events of asynchronous calls that have not ended.
    #[serde(default, skip_serializing_if = "is_none")]
    pub events: usize,
    /// This gateway does not own the pool any more, and its demand no longer counts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub released: bool,
}

fn is_none(count: &usize) -> bool {
    *count == 0
}

/// A pod of a warm pool that has become an instance. The controller gives it the function's labels and owner
/// later.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimedPod {
    pub name: PodName,
    pub uid: Uid,
    /// The revision of the function at the time of the claim.
    pub revision: Revision,
}
