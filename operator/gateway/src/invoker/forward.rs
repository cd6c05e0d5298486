//! One hop: passes an invocation to the gateway that owns the function, and reads what became of it.
//!
//! Used by the invoker, which decides when; `peers` carries the message (`wire::invoke`). Sends an invocation
//! once: the invoker gets it back only if it provably never started (rule 2).

use std::time::Duration;

use pilotlight_wire::invoke::InvokeRequest;

use crate::intake::Intake;
use crate::message::{Invocation, Outcome, Placement};
use crate::peers::{Forwarded, Peers};

/// `waited`: how long the invocation has been without an owner.
pub(super) async fn forward(
    peers: &dyn Peers,
    intake: &Intake,
    invocation: Invocation,
    waited: Duration,
) -> Placement {
    let request = InvokeRequest {
        target: invocation.target.clone(),
        request_id: invocation.request_id.clone(),
        payload: invocation.payload.clone(),
        function_arn: invocation.function_arn.clone(),
        client_context: invocation.client_context.clone(),
        trace_id: invocation.trace.clone(),
        trace_state: invocation.trace_state.clone(),
        wants_log_tail: invocation.log_tail,
        wants_report: invocation.wants_report,
        accepts_stream: true,
        hops: invocation.hops + 1,
        waited,
    };
    match peers.forward(request, intake).await {
        Forwarded::Ended(Outcome::NotPlaced) | Forwarded::NeverSent => {
            Placement::NotStarted(Box::new(invocation))
        }
        Forwarded::Began(stream) => Placement::Began(stream),
        Forwarded::Ended(mut outcome) => {
            if let Outcome::Answered(answer) = &mut outcome
                && let Some(report) = &mut answer.report
            {
                report.is_forwarded = true;
            }
            if let Outcome::Invalid(reason) = &outcome {
                let (function, request_id) = (&invocation.target, &invocation.request_id);
                tracing::warn!(%function, %request_id, %reason, "a gateway cannot read this gateway's calls");
            }
            Placement::Ended(outcome)
        }
    }
}
