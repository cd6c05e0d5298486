//! The functions that this gateway serves, as the request handlers read them.
//!
//! Written by `driver` when functions are deployed, read by the APIs without asking it. Holds no
//! counts and no instances: those are the driver's.

use std::collections::BTreeMap;
use std::sync::Arc;

use pilotlight_api::FunctionSpec;
use pilotlight_core::function::FunctionName;
use pilotlight_core::instance::launch::Launch;

use crate::metrics::FunctionMetrics;

/// A function that is ready to be run: its manifest, and how its runtime is started.
#[derive(Clone, Debug)]
pub struct Deployment {
    pub name: FunctionName,
    /// With its handler, where a default is known.
    pub spec: FunctionSpec,
    /// Changes with manifest, code or runtime; then all instances are replaced.
    pub revision: String,
    /// Of the code, in hex.
    pub code_sha256: String,
    /// Of the code, in bytes.
    pub code_size: u64,
    pub modified: jiff::Timestamp,
    pub source: Source,
}

/// Where its instances come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// Processes of this machine.
    Local(Launch),
    /// Pods, of the Function resource with this UID.
    Cluster { uid: String },
}

/// Names one pool; a function that is deleted and made anew gets a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PoolKey(pub(crate) u64);

/// A deployed function, as the APIs see it. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) pool: PoolKey,
    pub(crate) deployment: Arc<Deployment>,
    pub(crate) metrics: Arc<FunctionMetrics>,
    /// Calls are this gateway's to place; otherwise those of one of its peers.
    pub(crate) is_owned: bool,
}

/// All deployed functions by name.
pub(crate) type Catalog = BTreeMap<FunctionName, Entry>;
