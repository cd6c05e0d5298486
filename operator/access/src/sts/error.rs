//! The errors of the Security Token Service, as SDKs read them.
//!
//! SDKs ask again after `IDPCommunicationError`, `Throttling` and answers of the 500s, and after no other.

use http::StatusCode;
use pilotlight_core::access::Refusal;

use super::answer::{NAMESPACE, escaped};

/// Why STS gives no answer. Codes and statuses are those of the real service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StsError {
    /// The form has no action.
    MissingAction,
    /// There is no such action in this version of the API.
    InvalidAction { action: String, version: String },
    /// A parameter is missing or wrong; the text names it.
    Validation(String),
    /// The cluster does not know the web identity token, or it is for another audience.
    InvalidIdentityToken,
    /// The web identity token has expired.
    ExpiredIdentityToken,
    /// The cluster could not be asked about the web identity token.
    IdpCommunication,
    /// The token is not the role's. See [`StsError::not_authorized`].
    AccessDenied(String),
    /// Signed requests: the signature or its key is refused.
    Refused(Refusal),
}

impl From<Refusal> for StsError {
    fn from(refusal: Refusal) -> Self {
        StsError::Refused(refusal)
    }
}

impl StsError {
    /// The role is not that of the caller's token.
    pub fn not_authorized() -> Self {
        StsError::AccessDenied("Not authorized to perform sts:AssumeRoleWithWebIdentity".to_owned())
    }

    /// The refusal of a web identity token by the cluster.
    pub fn of_token(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Expired => StsError::ExpiredIdentityToken,
            Refusal::Unavailable | Refusal::TooMany => StsError::IdpCommunication,
            Refusal::Denied(why) => StsError::AccessDenied(why),
            Refusal::Missing
            | Refusal::Incomplete(_)
            | Refusal::Unrecognized(_)
            | Refusal::Signature(_) => StsError::InvalidIdentityToken,
        }
    }

    /// The code that SDKs read.
    pub fn code(&self) -> &'static str {
        match self {
            StsError::MissingAction => "MissingAction",
            StsError::InvalidAction { .. } => "InvalidAction",
            StsError::Validation(_) => "ValidationError",
            StsError::InvalidIdentityToken => "InvalidIdentityToken",
            StsError::ExpiredIdentityToken => "ExpiredTokenException",
            StsError::IdpCommunication => "IDPCommunicationError",
            StsError::AccessDenied(_) | StsError::Refused(Refusal::Denied(_)) => "AccessDenied",
            StsError::Refused(refusal) => match refusal {
                Refusal::Missing => "MissingAuthenticationToken",
                Refusal::Incomplete(_) => "IncompleteSignature",
                Refusal::Unrecognized(_) => "InvalidClientTokenId",
                Refusal::Signature(_) => "SignatureDoesNotMatch",
                Refusal::Expired => "ExpiredToken",
                Refusal::Denied(_) => "AccessDenied",
                Refusal::TooMany => "Throttling",
                Refusal::Unavailable => "ServiceUnavailable",
            },
        }
    }

    pub fn status(&self) -> StatusCode {
        match self {
            StsError::MissingAction
            | StsError::InvalidAction { .. }
            | StsError::Validation(_)
            | StsError::InvalidIdentityToken
            | StsError::ExpiredIdentityToken
            | StsError::IdpCommunication => StatusCode::BAD_REQUEST,
            StsError::AccessDenied(_) => StatusCode::FORBIDDEN,
            StsError::Refused(Refusal::TooMany) => StatusCode::BAD_REQUEST,
            StsError::Refused(Refusal::Unavailable) => StatusCode::SERVICE_UNAVAILABLE,
            StsError::Refused(_) => StatusCode::FORBIDDEN,
        }
    }

    pub fn message(&self) -> String {
        match self {
            StsError::MissingAction => "The request must contain the parameter Action.".to_owned(),
            StsError::InvalidAction { action, version } => {
                format!("Could not find operation {action} for version {version}")
            }
            StsError::Validation(text) | StsError::AccessDenied(text) => text.clone(),
            StsError::InvalidIdentityToken => {
                "The web identity token is none of this cluster, or not for the audience of its gateways. Project a \
                 token with the gateways' audience into the pod."
                    .to_owned()
            }
            StsError::ExpiredIdentityToken => {
                "The web identity token has expired. Read it from its file again.".to_owned()
            }
            StsError::IdpCommunication => {
                "The cluster could not be asked about the web identity token. Try again.".to_owned()
            }
            StsError::Refused(Refusal::Missing) => {
                "Request is missing Authentication Token".to_owned()
            }
            StsError::Refused(refusal) => refusal.to_string(),
        }
    }

    /// The body of the answer, of the type `text/xml`.
    pub fn body(&self, request_id: &str) -> String {
        let whose = match self.status().is_server_error() {
            true => "Receiver",
            false => "Sender",
        };
        format!(
            "<ErrorResponse xmlns=\"{NAMESPACE}\">\n  <Error>\n    <Type>{whose}</Type>\n    <Code>{}</Code>\n    \
             <Message>{}</Message>\n  </Error>\n  <RequestId>{}</RequestId>\n</ErrorResponse>\n",
            self.code(),
            escaped(&self.message()),
            escaped(request_id),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_written_as_sdks_read_it() {
        let error = StsError::Validation("a < b & \"c\"\u{1}".to_owned());
        assert_eq!(
            error.body("8f3c4a1e"),
            "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  <Error>\n    <Type>Sender</Type>\n    \
             <Code>ValidationError</Code>\n    <Message>a &lt; b &amp; &quot;c&quot;\u{fffd}</Message>\n  </Error>\n  \
             <RequestId>8f3c4a1e</RequestId>\n</ErrorResponse>\n"
        );
    }

    #[test]
    fn refusals_have_the_codes_of_sts() {
        for (refusal, code, status) in [
            (Refusal::Missing, "MissingAuthenticationToken", 403),
            (
                Refusal::Incomplete(String::new()),
                "IncompleteSignature",
                403,
            ),
            (Refusal::UNKNOWN_KEY, "InvalidClientTokenId", 403),
            (
                Refusal::Signature(String::new()),
                "SignatureDoesNotMatch",
                403,
            ),
            (Refusal::Expired, "ExpiredToken", 403),
            (Refusal::Denied(String::new()), "AccessDenied", 403),
            (Refusal::TooMany, "Throttling", 400),
            (Refusal::Unavailable, "ServiceUnavailable", 503),
        ] {
            let error = StsError::from(refusal);
            assert_eq!((error.code(), error.status().as_u16()), (code, status));
        }
        for (refusal, code) in [
            (Refusal::UNKNOWN_KEY, "InvalidIdentityToken"),
            (Refusal::Expired, "ExpiredTokenException"),
            (Refusal::Unavailable, "IDPCommunicationError"),
            (Refusal::TooMany, "IDPCommunicationError"),
            (Refusal::Denied(String::new()), "AccessDenied"),
        ] {
            assert_eq!(StsError::of_token(refusal).code(), code);
        }
    }
}
