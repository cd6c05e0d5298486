//! The header in which gateway and supervisor report the phases of a cold start to each other.
//!
//! Its value has the form of `Server-Timing`: `queue;dur=0.21, claim;dur=3.40`, in milliseconds. It is on an
//! instance's first lease, on the answer to that, and on the answer to a claim.

use http::{HeaderMap, HeaderName, HeaderValue};
use pilotlight_core::instance::phases::Phases;

pub(crate) const PHASES: HeaderName = HeaderName::from_static("pilotlight-phases");

pub(crate) fn write(phases: &Phases) -> HeaderValue {
    HeaderValue::try_from(phases.to_string()).expect("names and numbers are ASCII")
}

/// Phases that are missing, or that this version does not know, are left out.
pub(crate) fn read(headers: &HeaderMap) -> Phases {
    let text = headers.get(PHASES).and_then(|text| text.to_str().ok());
    Phases::read(text.unwrap_or(""))
}
