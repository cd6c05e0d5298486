//! The answer to a request in plain text where callers have to speak TLS.
//!
//! It is fixed, because no request is read: `identity::public` of `pilotlight-net` sends it and closes the connection. It
//! has the form of the API's errors, so that SDKs show its message.

/// A whole answer of HTTP/1.1.
pub(crate) const HTTPS_ONLY: &str = "HTTP/1.1 400 Bad Request\r\n\
    content-type: application/json\r\n\
    x-amzn-errortype: InvalidRequestContentException\r\n\
    content-length: 86\r\n\
    connection: close\r\n\
    \r\n\
    {\"Type\":\"User\",\"message\":\"This port speaks HTTPS: begin the endpoint with https://.\"}\n";

#[cfg(test)]
mod tests {
    use super::HTTPS_ONLY;

    #[test]
    fn the_answer_is_as_long_as_it_says_and_json() {
        let (head, body) = HTTPS_ONLY.split_once("\r\n\r\n").expect("a head");
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())));
        let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
        assert!(
            body["message"]
                .as_str()
                .is_some_and(|text| text.contains("HTTPS"))
        );
    }
}
