//! Refuses requests of local mode that may come from a foreign web page.
//!
//! Reads the headers that browsers send, and `Host`; `core::intake::origin` decides. In a cluster nothing is
//! refused here.

use http::{HeaderName, Request, header};
use pilotlight_core::intake::origin::{self, Provenance};

use super::errors::ApiError;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Checks where a request comes from. `allowed`: the host names that the user accepts.
///
/// # Errors
/// The answer to a request that may not pass.
pub(crate) fn check<B>(request: &Request<B>, allowed: &[String]) -> Result<(), ApiError> {
    // What is no text is no name that is known.
    let text = |name: HeaderName| {
        let value = request.headers().get(name)?;
        Some(value.to_str().unwrap_or_default())
    };
    // HTTP/2 has the host in the URI.
    let authority = request.uri().authority();
    let provenance = Provenance {
        host: text(header::HOST).or(authority.map(|authority| authority.as_str())),
        origin: text(header::ORIGIN),
        sec_fetch_site: text(SEC_FETCH_SITE),
    };
    let checked = origin::check(provenance, allowed);
    checked.map_err(|foreign| {
        tracing::warn!(%foreign, "refused");
        ApiError::access_denied(foreign.to_string())
    })
}
