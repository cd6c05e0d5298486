//! Why a call is refused, in the words of the platform whose SDKs read them.

use std::borrow::Cow;

/// Why a caller may not make a call. The kinds are the error types of the API.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The call shows nothing.
    #[error("Missing Authentication Token")]
    Missing,
    /// What the call shows is not complete or cannot be read. The text names the field and the remedy.
    #[error("{0}")]
    Incomplete(String),
    /// Nobody of this installation has the access key, or the token is none for it.
    #[error("{0}")]
    Unrecognized(Cow<'static, str>),
    /// The signature is another one than the request needs, or is too old or of the future.
    #[error("{0}")]
    Signature(String),
    /// The token or the temporary credentials have expired.
    #[error("The security token included in the request is expired")]
    Expired,
    /// The caller is known and may not do this. The text names the caller, the right and the function.
    #[error("{0}")]
    Denied(String),
    /// The cluster does not say who the caller is, or what it may do.
    #[error("The cluster could not be asked about the caller; nothing was executed. Try again.")]
    Unavailable,
    /// Too many callers that nobody knows yet.
    #[error("Too many calls of callers that are not known yet; nothing was executed. Try again.")]
    TooMany,
}

impl Refusal {
    /// See [`Refusal::Unrecognized`].
    pub const UNKNOWN_KEY: Refusal = Refusal::Unrecognized(Cow::Borrowed(
        "The security token included in the request is invalid.",
    ));

    /// All values of [`Refusal::reason`].
    pub const REASONS: [&str; 8] = [
        "missing",
        "incomplete",
        "unrecognized",
        "signature",
        "expired",
        "denied",
        "unavailable",
        "too-many",
    ];

    /// The value of the label `reason` in metrics, and of the field in the audit's lines.
    pub fn reason(&self) -> &'static str {
        match self {
            Refusal::Missing => "missing",
            Refusal::Incomplete(_) => "incomplete",
            Refusal::Unrecognized(_) => "unrecognized",
            Refusal::Signature(_) => "signature",
            Refusal::Expired => "expired",
            Refusal::Denied(_) => "denied",
            Refusal::Unavailable => "unavailable",
            Refusal::TooMany => "too-many",
        }
    }
}
