//! The other gateways, as the invoker knows them: invocations of functions that they own go to them.
//!
//! `cluster::peers` is the way there; a gateway on a laptop has none. Nothing here decides whether an
//! invocation is sent again.

use std::fmt::Debug;

use pilotlight_wire::invoke::{InvokeRequest, Outcome};

use crate::backend::Promise;

pub(crate) trait Peers: Debug + Send + Sync {
    /// Sends an invocation to the gateway that owns the function.
    fn forward(&self, request: InvokeRequest) -> Promise<'_, Forwarded>;

    /// The texts of the other gateways' metrics. Gateways that do not answer are left out.
    fn metrics(&self) -> Promise<'_, Vec<String>>;
}

/// What became of an invocation that was sent to a peer.
#[derive(Debug)]
pub(crate) enum Forwarded {
    /// With [`Outcome::Lost`] if the peer was lost before it answered.
    Ended(Outcome),
    /// No peer has got it.
    NeverSent,
}
