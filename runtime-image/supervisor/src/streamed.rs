//! Answers that a runtime posts piece by piece (contracts §1): their mode, and an error at their end.
//!
//! `runtime_api` reads such an answer to its end, since a plain Invoke gets it whole. A handler may fail
//! after its first piece; its client says so in trailers, and then the error takes the answer's place.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::HeaderMap;

use crate::body::Fault;

const RESPONSE_MODE: &str = "lambda-runtime-function-response-mode";
pub(crate) const ERROR_TYPE: &str = "lambda-runtime-function-error-type";
/// JSON in base64.
const ERROR_BODY: &str = "lambda-runtime-function-error-body";

/// Whether a response of this head can be read.
pub(crate) fn is_known_mode(headers: &HeaderMap) -> bool {
    headers
        .get(RESPONSE_MODE)
        .is_none_or(|mode| mode == "streaming")
}

/// The body of the error that ends an answer, if one does.
pub(crate) fn error(trailers: &HeaderMap) -> Option<Bytes> {
    let error_type = trailers.get(ERROR_TYPE)?.to_str().unwrap_or_default();
    let told = trailers.get(ERROR_BODY);
    let told = told.and_then(|body| STANDARD.decode(body).ok());
    let untold = || {
        let fault = Fault {
            error_type,
            error_message: "The function failed while it wrote its response.",
        };
        fault.to_bytes()
    };
    Some(told.map_or_else(untold, Bytes::from))
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
    fn an_error_at_the_end_is_told_in_full_or_at_least_by_its_type() {
        assert_eq!(error(&HeaderMap::new()), None);
        let body = STANDARD.encode(r#"{"errorType":"E"}"#);
        let full = trailers(&[(ERROR_TYPE, "E"), (ERROR_BODY, &body)]);
        assert_eq!(error(&full).as_deref(), Some(&br#"{"errorType":"E"}"#[..]));
        for broken in [&[][..], &[(ERROR_BODY, "?")]] {
            let told = error(&trailers(&[&[(ERROR_TYPE, "E")], broken].concat())).expect("one");
            assert!(told.starts_with(br#"{"errorType":"E","errorMessage":"The function"#));
        }
    }
}
