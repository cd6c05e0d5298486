//! The functions that this gateway serves, as the request handlers read them.
//!
//! The driver writes it when functions are deployed; the APIs read it without a message to the driver. It
//! has no counts and no instances: those belong to the driver.

use std::collections::BTreeMap;
use std::sync::Arc;

use pilotlight_api::FunctionSpec;
use pilotlight_core::function::FunctionName;
use pilotlight_core::ids::{PoolId, Revision, Uid};
use pilotlight_core::instance::launch::Launch;

use crate::metrics::FunctionMetrics;

/// A function that is ready to be run: its manifest, and how its runtime is started.
#[derive(Clone, Debug)]
pub struct Deployment {
    pub pool: PoolId,
    /// The manifest, with the runtime's default handler if it names none and the default is known.
    pub spec: FunctionSpec,
    /// Changes with manifest, code or runtime; the pool then replaces all instances.
    pub revision: Revision,
    /// The digest of the code, in hex.
    pub code_sha256: String,
    /// The size of the code, in bytes.
    pub code_size: u64,
    pub modified: jiff::Timestamp,
    pub source: Source,
}

impl Deployment {
    pub fn name(&self) -> &FunctionName {
        self.pool.name()
    }
}

/// Where the instances of a function come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// Processes on this machine.
    Local(Launch),
    /// Pods of the Function resource with this UID.
    Cluster { uid: Uid },
}

/// A pool within this gateway: a small key for the maps on the way of an invocation. A function that is
/// deleted and created again gets a new key and the same [`PoolId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PoolKey(pub(crate) u64);

/// A deployed function, as the APIs see it. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) pool: PoolKey,
    pub(crate) deployment: Arc<Deployment>,
    pub(crate) metrics: Arc<FunctionMetrics>,
    /// Whether this gateway owns the function. Otherwise one of its peers does.
    pub(crate) is_owned: bool,
}

/// All deployed functions.
pub(crate) type Catalog = BTreeMap<PoolId, Entry>;
