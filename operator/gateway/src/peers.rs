//! The other gateways, as the invoker knows them: invocations of functions that they own go to them.
//!
//! `cluster::peers` is the way there; a gateway on a laptop has none. Nothing here decides whether an
//! invocation is sent again.

use std::fmt::Debug;

use futures_util::stream::BoxStream;
use pilotlight_core::ids::FunctionKey;
use pilotlight_wire::invoke::{InvokeRequest, Outcome};
use pilotlight_wire::state::State;

use crate::answer_stream::AnswerStream;
use crate::backend::Promise;
use crate::intake::Intake;

pub(crate) trait Peers: Debug + Send + Sync {
    /// Sends an invocation to the gateway that owns the function. Its answer takes room of `intake`.
    fn forward<'a>(&'a self, request: InvokeRequest, intake: &'a Intake) -> Promise<'a, Forwarded>;

    /// Where the other gateways reach this one.
    fn own_address(&self) -> String;

    /// Whether this gateway owns the function. It owns none while it does not know the others yet.
    fn owns(&self, function: &FunctionKey) -> bool;

    /// A notice whenever it may own others than before.
    fn changes(&self) -> BoxStream<'static, ()>;

    /// The state of each other gateway, by its address; `None` if it does not answer.
    fn states(&self) -> Promise<'_, Vec<(String, Option<State>)>>;
}

/// What became of an invocation that was sent to a peer.
#[derive(Debug)]
pub(crate) enum Forwarded {
    /// With [`Outcome::Lost`] if the peer was lost before it answered.
    Ended(Outcome),
    /// Its answer comes piece by piece.
    Began(AnswerStream),
    /// No peer has got it.
    NeverSent,
}
