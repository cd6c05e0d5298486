//! The lines of the audit: one for each refused call and, if the operator wants it, for each call.
//!
//! Strangers can cause any number of refusals, so the lines have a bounded rate, and a line says how many were left out.
//! The metrics count all of them.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};

use pilotlight_access::sts::error::StsError;
use pilotlight_core::access::{Refusal, Right};
use pilotlight_core::instance::log_rate::LogRate;

use super::caller::Caller;
use crate::clock;
use crate::metrics::AccessMetrics;

/// The target of the lines. Refused calls have the level WARN, all others INFO.
pub const AUDIT_TARGET: &str = "audit";

/// How the line ends about a function that is served although it lacks the right.
const LET_IN: &str = "served, because it is a function and auth.mode is optional";
/// The bytes of lines about refused calls, a second.
const RATE: u32 = 16 * 1024;
/// About the bytes of a line besides the texts below.
const LINE: usize = 160;
/// The longest text of a caller in a line, in bytes.
const TEXT: usize = 256;

#[derive(Debug)]
pub(crate) struct Audit {
    metrics: AccessMetrics,
    rate: Mutex<LogRate>,
}

impl Audit {
    pub(super) fn new(metrics: AccessMetrics) -> Self {
        Audit {
            metrics,
            rate: Mutex::new(LogRate::new(Some(RATE))),
        }
    }

    /// `caller`: `None` if it is not known who it is. `operation`: the method and the path, or the right.
    pub(crate) fn refused(&self, caller: Option<&Caller>, operation: &str, refusal: &Refusal) {
        let reason = refusal.reason();
        self.metrics.refused(reason);
        self.write(caller, operation, reason, refusal, "refused");
    }

    /// With `optional`, a function may do what it would be refused with `required`.
    pub(crate) fn let_in(&self, caller: &Caller, right: &Right, refusal: &Refusal) {
        let reason = refusal.reason();
        self.write(Some(caller), &right.to_string(), reason, refusal, LET_IN);
    }

    fn write(
        &self,
        caller: Option<&Caller>,
        operation: &str,
        reason: &str,
        refusal: &dyn Display,
        outcome: &'static str,
    ) {
        let user = caller.map_or("unknown", Caller::user);
        let (user, operation) = (short(user), short(operation));
        let refusal = refusal.to_string();
        let refusal = short(&refusal);
        let length = LINE + user.len() + operation.len() + refusal.len();
        let (admits, report) = {
            let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
            let admits = rate.admits(clock::now(), length);
            (admits, admits.then(|| rate.take_dropped()))
        };
        if !admits {
            return;
        }
        if let Some(lines @ 1..) = report {
            tracing::warn!(target: AUDIT_TARGET, lines, "lines about refused calls were left out: there were too many");
        }
        let credential = caller.map_or("none", |caller| caller.credential.as_str());
        tracing::warn!(target: AUDIT_TARGET, user, credential, operation, reason, refusal, "{outcome}");
    }

    /// STS issues no credentials. The error's code is the reason in the line; the metric has one for all of them.
    pub(crate) fn no_session(&self, operation: &str, error: &StsError) {
        self.metrics.refused("no-session");
        self.write(None, operation, error.code(), &error.message(), "refused");
    }

    pub(crate) fn allowed(&self, caller: &Caller, right: &Right) {
        let (user, credential) = (caller.user(), caller.credential.as_str());
        tracing::info!(target: AUDIT_TARGET, user, credential, operation = %right, "allowed");
    }
}

/// The beginning of a text.
fn short(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_of_a_caller_is_cut_at_a_character() {
        assert_eq!(short("GET /"), "GET /");
        let long = "ü".repeat(60_000);
        assert_eq!(short(&long).len(), TEXT);
        assert_eq!(short(&format!("a{long}")).len(), TEXT - 1);
    }
}
