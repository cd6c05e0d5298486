//! Streamed responses of a runtime process (contract §1): their mode, and an error in their trailers.
//!
//! `runtime_api` passes such a response on while it comes, if the gateway accepts that, or else reads it to its
//! end. If the handler fails after the first chunk, its client reports that in trailers, and the error replaces
//! the response.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::HeaderMap;

use crate::response::FunctionError;

const RESPONSE_MODE: &str = "lambda-runtime-function-response-mode";
pub(crate) const ERROR_TYPE: &str = "lambda-runtime-function-error-type";
/// Its value is JSON in base64.
const ERROR_BODY: &str = "lambda-runtime-function-error-body";

/// Whether the runtime streams its response.
pub(crate) fn is_streaming(headers: &HeaderMap) -> bool {
    let mode = headers.get(RESPONSE_MODE);
    mode.is_some_and(|mode| mode == "streaming")
}

/// Whether this supervisor supports the response mode that the headers name, if they name one.
pub(crate) fn is_supported_mode(headers: &HeaderMap) -> bool {
    headers
        .get(RESPONSE_MODE)
        .is_none_or(|mode| mode == "streaming")
}

/// The error body that a response's trailers report; `None` if they report no error.
pub(crate) fn error(trailers: &HeaderMap) -> Option<Bytes> {
    let error_type = trailers.get(ERROR_TYPE)?.to_str().unwrap_or_default();
    let body = trailers.get(ERROR_BODY);
    let body = body.and_then(|body| STANDARD.decode(body).ok());
    let only_type = || {
        let error = FunctionError {
            error_type,
            error_message: "The function failed while it wrote its response.",
        };
        error.to_bytes()
    };
    Some(body.map_or_else(only_type, Bytes::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trailers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            let value = value.parse().expect("a value");
            (hyper::header::HeaderName::from_static(name), value)
        });
        pairs.collect()
    }

    #[test]
    fn an_error_in_trailers_is_reported_with_its_body_or_at_least_its_type() {
        assert_eq!(error(&HeaderMap::new()), None);
        let body = STANDARD.encode(r#"{"errorType":"E"}"#);
        let full = trailers(&[(ERROR_TYPE, "E"), (ERROR_BODY, &body)]);
        assert_eq!(error(&full).as_deref(), Some(&br#"{"errorType":"E"}"#[..]));
        for broken in [&[][..], &[(ERROR_BODY, "?")]] {
            let body = error(&trailers(&[&[(ERROR_TYPE, "E")], broken].concat())).expect("one");
            assert!(body.starts_with(br#"{"errorType":"E","errorMessage":"The function"#));
        }
    }
}
