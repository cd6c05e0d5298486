//! The parts of a signature before they are put together, wherever they were, and how a header that may come once is
//! read. `authorization` and `presigned` fill them in; `shown` checks them.

use http::{HeaderMap, HeaderName};
use pilotlight_core::access::Refusal;

/// Seconds by which the clock of a caller may be wrong, and for which a signed request may be sent again. It is the
/// window of the real service.
pub const SIGNATURE_WINDOW: u64 = 300;
/// Seconds for which a presigned URL is valid at most.
pub const PRESIGNED_MAX: u64 = 7 * 24 * 60 * 60;
/// Bytes of `Authorization` and of a session token.
const TEXT_MAX: usize = 16 * 1024;
/// The session token of a signature in the header.
pub(super) const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
/// What the signature says of the body.
pub(super) const PAYLOAD: HeaderName = HeaderName::from_static("x-amz-content-sha256");

/// The parts of a signature, wherever they were.
pub(super) struct Signature {
    pub(super) credential: String,
    pub(super) signed_headers: String,
    pub(super) signature: String,
    pub(super) token: Option<String>,
    pub(super) time: Moment,
    pub(super) payload: Option<String>,
}

/// When a request was signed, and until when it may be sent.
pub(super) struct Moment {
    /// Seconds since 1970.
    pub(super) signed: u64,
    /// Seconds.
    pub(super) valid_for: u64,
}

pub(super) fn incomplete(why: impl Into<String>) -> Refusal {
    Refusal::Incomplete(why.into())
}

/// The value of a header that may come once.
pub(super) fn single<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(incomplete(format!(
            "The header '{name}' must come only once."
        )));
    }
    let value = value.to_str().ok().filter(|value| value.len() <= TEXT_MAX);
    let value = value.ok_or_else(|| {
        incomplete(format!(
            "The header '{name}' must be ASCII, of at most 16 KiB."
        ))
    })?;
    Ok(Some(value.trim()))
}
