//! What heads are refused before anybody looks up a key, and with which error.

use http::request::Parts;
use http::{HeaderName, HeaderValue, Request};
use pilotlight_access::shown::{Service, Shown};
use pilotlight_core::access::Refusal;

/// 2026-11-30T12:00:00Z, in seconds since 1970.
const NOW: u64 = 1_796_040_000;
const CREDENTIAL: &str = "AKIAIOSFODNN7EXAMPLE/20261130/us-east-1/lambda/aws4_request";
const DIGITS: &str = "00000000000000000000000000000000000000000000000000000000000000ff";

fn head(uri: &str, headers: &[(&'static str, &str)]) -> Parts {
    let mut request = Request::post(uri);
    for (name, value) in headers {
        let value = HeaderValue::from_bytes(value.as_bytes()).expect("a value");
        request = request.header(HeaderName::from_static(name), value);
    }
    request.body(()).expect("a request").into_parts().0
}

fn read(uri: &str, headers: &[(&'static str, &str)]) -> Result<Shown, Refusal> {
    Shown::read(&head(uri, headers), Service::Lambda, NOW)
}

fn authorization(credential: &str, signed: &str, signature: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={signed}, Signature={signature}"
    )
}

/// Reads the headers beside a complete signature.
fn with(authorization: &str, more: &[(&'static str, &str)]) -> Result<Shown, Refusal> {
    let mut headers = vec![
        ("host", "localhost"),
        ("x-amz-date", "20261130T120000Z"),
        ("authorization", authorization),
    ];
    headers.extend(more);
    read("/", &headers)
}

#[track_caller]
fn assert_incomplete(result: Result<Shown, Refusal>, part: &str) {
    match result {
        Err(Refusal::Incomplete(text)) if text.contains(part) => {}
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn assert_signature(result: Result<Shown, Refusal>, part: &str) {
    match result {
        Err(Refusal::Signature(text)) if text.contains(part) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_head_shows_nothing_a_token_or_a_signature() {
    assert_eq!(read("/", &[("host", "localhost")]), Ok(Shown::Nothing));
    assert_eq!(read("/?X-Amz-Date=1&x=%", &[]), Ok(Shown::Nothing));
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let token = read("/?a=%", &[("authorization", &format!("{scheme}  ey.J0 "))]);
        assert_eq!(token, Ok(Shown::Bearer("ey.J0".to_owned())));
    }
    let complete = authorization(CREDENTIAL, "host;x-amz-date", DIGITS);
    let Ok(Shown::Signed(request)) = with(&complete, &[]) else {
        panic!("a signature");
    };
    assert_eq!(
        (request.key_id(), request.token()),
        ("AKIAIOSFODNN7EXAMPLE", None)
    );
    // Without spaces, and in another order.
    let dense = format!(
        "AWS4-HMAC-SHA256 Signature={DIGITS},SignedHeaders=host;x-amz-date,Credential={CREDENTIAL}"
    );
    assert_eq!(with(&dense, &[]), Ok(Shown::Signed(request)));
}

#[test]
fn no_secret_is_in_what_is_logged() {
    let token = read("/", &[("authorization", "Bearer ey.J0")]).unwrap();
    assert_eq!(format!("{token:?}"), "Bearer");
    let complete = authorization(CREDENTIAL, "host;x-amz-date;x-amz-security-token", DIGITS);
    let signed = with(&complete, &[("x-amz-security-token", "t0ken")]).unwrap();
    let text = format!("{signed:?}");
    assert!(!text.contains("t0ken") && !text.contains(DIGITS), "{text}");
}

#[test]
fn what_is_ambiguous_is_refused() {
    let complete = authorization(CREDENTIAL, "host;x-amz-date", DIGITS);
    assert_incomplete(
        with(&complete, &[("authorization", "Bearer a")]),
        "'authorization' must come only once",
    );
    assert_incomplete(
        with(&complete, &[("x-amz-date", "20261130T120000Z")]),
        "'x-amz-date' must come only once",
    );
    assert_incomplete(
        with(&complete, &[("host", "other")]),
        "'host' must come only once",
    );
    for query in [
        "X-Amz-Signature=a",
        "X-Amz-Credential=",
        "a=b&X-Amz-Algorithm",
    ] {
        let both = read(&format!("/?{query}"), &[("authorization", "Bearer a")]);
        assert_incomplete(both, "Leave one of them out");
    }
}

#[test]
fn what_cannot_be_read_is_refused() {
    for value in ["Bearer", "Bearer ", "Bearer a b"] {
        assert_incomplete(read("/", &[("authorization", value)]), "must have a token");
    }
    assert_incomplete(
        read("/", &[("authorization", "Bearer \u{e9}")]),
        "must be ASCII",
    );
    let long = format!("Bearer {}", "a".repeat(16 * 1024));
    assert_incomplete(read("/", &[("authorization", &long)]), "of at most 16 KiB");
    for value in [
        "",
        "Basic YTpi",
        "AWS4-ECDSA-P256-SHA256 Credential=a",
        "AWS key:signature",
    ] {
        assert_incomplete(
            read("/", &[("authorization", value)]),
            "Unsupported AWS 'algorithm'",
        );
    }
    for value in [
        "AWS4-HMAC-SHA256 a",
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256 Credential=a,b",
        "AWS4-HMAC-SHA256 a=b",
    ] {
        assert_incomplete(with(value, &[]), "not a valid key=value pair");
    }
    assert_incomplete(
        with("AWS4-HMAC-SHA256 Signature=a,Signature=b", &[]),
        "'Signature' twice",
    );
    assert_incomplete(
        with("AWS4-HMAC-SHA256 Signature=a", &[]),
        "requires 'Credential' parameter. Authorization header requires 'SignedHeaders' parameter.",
    );
    let key = CREDENTIAL.replace("AKIA", "AKIA+");
    for credential in [
        "",
        "a",
        "a/b/c/d",
        &format!("{CREDENTIAL}/e"),
        &key,
        &CREDENTIAL[20..],
    ] {
        let value = authorization(credential, "host;x-amz-date", DIGITS);
        assert_incomplete(with(&value, &[]), "Credential must");
    }
    let many = format!(
        "host;{}",
        "a".repeat(65)
            .chars()
            .map(String::from)
            .collect::<Vec<_>>()
            .join(";")
    );
    for signed in [
        "",
        "x-amz-date;host",
        "host;host",
        "Host;x-amz-date",
        "host;x amz",
        "host;;x-amz-date",
        &many,
    ] {
        let value = authorization(CREDENTIAL, signed, DIGITS);
        assert_incomplete(with(&value, &[]), "'SignedHeaders' must be");
    }
    for signature in ["", "00", &DIGITS.to_uppercase(), &DIGITS.replace('0', "g")] {
        let value = authorization(CREDENTIAL, "host;x-amz-date", signature);
        assert_incomplete(with(&value, &[]), "'Signature' must be 64");
    }
    let complete = authorization(CREDENTIAL, "host;x-amz-date", DIGITS);
    let signed = |more: &[(&'static str, &str)]| {
        let headers = [&[("host", "localhost"), ("authorization", &complete)], more].concat();
        read("/?a=b", &headers)
    };
    assert_incomplete(signed(&[]), "either a 'X-Amz-Date' or a 'Date'");
    assert_incomplete(
        signed(&[("x-amz-date", "Mon, 30 Nov 2026 12:00:00 GMT")]),
        "'X-Amz-Date' must be",
    );
    assert_incomplete(signed(&[("date", "yesterday")]), "'Date' must be");
    let query = Shown::read(
        &head(
            "/?a=%g0",
            &[
                ("authorization", &complete),
                ("x-amz-date", "20261130T120000Z"),
            ],
        ),
        Service::Lambda,
        NOW,
    );
    assert_incomplete(query, "The query has a '%'");
}

#[test]
fn the_date_may_be_that_of_the_message() {
    let value = authorization(CREDENTIAL, "date;host", DIGITS);
    for date in ["Mon, 30 Nov 2026 12:00:00 GMT", "20261130T120000Z"] {
        let shown = read(
            "/",
            &[("host", "a"), ("authorization", &value), ("date", date)],
        );
        assert!(matches!(shown, Ok(Shown::Signed(_))), "{shown:?}");
    }
}

#[test]
fn what_must_be_signed_may_not_be_left_out() {
    assert_signature(
        with(&authorization(CREDENTIAL, "x-amz-date", DIGITS), &[]),
        "'Host' or ':authority' must be",
    );
    assert_signature(
        with(&authorization(CREDENTIAL, "host", DIGITS), &[]),
        "'x-amz-date' must be a 'SignedHeader'",
    );
    let value = authorization(CREDENTIAL, "host;x-amz-date", DIGITS);
    assert_signature(
        with(&value, &[("x-amz-security-token", "t")]),
        "'x-amz-security-token' must be",
    );
    let value = authorization(CREDENTIAL, "accept;host;x-amz-date", DIGITS);
    assert_signature(
        with(&value, &[]),
        "'accept' is signed, but the request has none",
    );
}

#[test]
fn the_scope_is_that_of_the_service_and_the_day() {
    for (old, new, part) in [
        ("lambda", "s3", "correct service: 'lambda'"),
        ("aws4_request", "aws5_request", "'aws4_request'"),
        ("20261130", "20261129", "must be '20261130'"),
    ] {
        let value = authorization(&CREDENTIAL.replace(old, new), "host;x-amz-date", DIGITS);
        assert_signature(with(&value, &[]), part);
    }
}

#[test]
fn a_body_is_signed_as_a_whole_or_in_chunks() {
    let value = authorization(CREDENTIAL, "host;x-amz-content-sha256;x-amz-date", DIGITS);
    let hash = |hash: &str| with(&value, &[("x-amz-content-sha256", hash)]);
    assert!(hash(DIGITS).is_ok());
    for other in [
        "",
        "abc",
        "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
    ] {
        assert_incomplete(hash(other), "'X-Amz-Content-Sha256' must be");
    }
    assert_signature(hash("UNSIGNED-PAYLOAD"), "presigned URLs alone");
    let value = authorization(
        CREDENTIAL,
        "host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length",
        DIGITS,
    );
    let chunked = |length: &str| {
        let kind = ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD");
        with(&value, &[kind, ("x-amz-decoded-content-length", length)])
    };
    assert!(chunked("65536").is_ok());
    for length in ["", "-1", "+1", "a", "99999999999999999999"] {
        assert_incomplete(chunked(length), "'X-Amz-Decoded-Content-Length'");
    }
}

#[test]
fn a_presigned_url_has_all_of_its_parts_once() {
    let parts = [
        ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
        ("X-Amz-Credential", &CREDENTIAL.replace('/', "%2F")),
        ("X-Amz-Date", "20261130T120000Z"),
        ("X-Amz-Expires", "60"),
        ("X-Amz-SignedHeaders", "host"),
        ("X-Amz-Signature", DIGITS),
    ]
    .map(|(name, value)| (name, format!("{name}={value}")));
    let query = Vec::from_iter(parts.iter().map(|(_, part)| part.clone())).join("&");
    let host = [("host", "localhost")];
    assert!(read(&format!("/?{query}"), &host).is_ok());
    for (name, part) in &parts {
        let twice = read(&format!("/?{query}&{part}"), &host);
        assert_incomplete(twice, name);
        let without = query.replace(part, "a=b");
        let without = read(&format!("/?{without}"), &host);
        match *name {
            // It is then valid for five minutes.
            "X-Amz-Expires" => assert!(without.is_ok()),
            _ => assert_incomplete(without, name),
        }
    }
    for (old, new) in [
        ("=60", "=0"),
        ("=60", "=604801"),
        ("=60", "=-1"),
        ("=60", "=a"),
        ("=60", "="),
    ] {
        let changed = query.replace(&format!("Expires{old}"), &format!("Expires{new}"));
        assert_incomplete(
            read(&format!("/?{changed}"), &host),
            "'X-Amz-Expires' must be",
        );
    }
    let token = [("host", "localhost"), ("x-amz-security-token", "t")];
    assert_incomplete(read(&format!("/?{query}"), &token), "Leave out the header");
    let both = [
        ("host", "localhost"),
        ("x-amz-content-sha256", "UNSIGNED-PAYLOAD"),
    ];
    assert_incomplete(
        read(&format!("/?{query}&X-Amz-Content-Sha256={DIGITS}"), &both),
        "differs in the query",
    );
}
