//! The other gateways of a cluster, as `hub` knows them: each has what its own instances have logged.
//!
//! `cluster::peer_logs` is the way there. In local mode there are none.

use std::fmt::Debug;

use futures_util::future::BoxFuture;
use pilotlight_core::ids::FunctionKey;
use pilotlight_logs::entry::Entry;

use super::tail::Sink;

/// See the module.
pub(crate) trait OtherGateways: Debug + Send + Sync {
    /// What each of them has of a function beside a store that all read, by its address. `None`: it did not answer in
    /// time, or has too much.
    fn waiting<'a>(
        &'a self,
        function: &'a FunctionKey,
    ) -> BoxFuture<'a, Vec<(String, Option<Vec<Entry>>)>>;

    /// Brings each new record of the function to the reader until that is gone.
    fn follow(&self, function: &FunctionKey, reader: Sink);
}
