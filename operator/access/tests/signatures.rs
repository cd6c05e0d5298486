//! Requests that AWS' own signer for Rust has signed: what is accepted, and what of a change is noticed.

use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign,
};
use aws_sigv4::sign::v4::SigningParams;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Request, Uri};
use pilotlight_access::access_key::AccessKey;
use pilotlight_access::session::{Grant, SessionKey, SessionKeys};
use pilotlight_access::shown::{PRESIGNED_MAX, SIGNATURE_WINDOW, Service, Shown};
use pilotlight_access::verify::SignedRequest;
use pilotlight_core::access::Refusal;
use ring::digest::{SHA256, digest};
use ring::hmac;

/// 2026-11-30T12:00:00Z, in seconds since 1970.
const NOW: u64 = 1_796_040_000;
const KEY: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const INVOKE: &str = "http://127.0.0.1:7070/2015-03-31/functions/hello/invocations";
const ARN: &str = "http://127.0.0.1:7070/2015-03-31/functions/\
                   arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Ahello/invocations?Qualifier=%24LATEST";
const EVENT: &[u8] = b"{\"name\": \"world\"}";

/// What is signed, and how.
struct Call {
    uri: &'static str,
    service: &'static str,
    region: &'static str,
    body: &'static [u8],
    has_hash: bool,
    presigned: Option<u64>,
    credentials: Credentials,
    /// In the place of the body's hash.
    stands_for_body: Option<&'static str>,
}

impl Default for Call {
    fn default() -> Self {
        Call {
            uri: INVOKE,
            service: "lambda",
            region: "us-east-1",
            body: EVENT,
            has_hash: false,
            presigned: None,
            credentials: Credentials::from_keys(KEY, SECRET, None),
            stands_for_body: None,
        }
    }
}

impl Call {
    /// The request as the SDK sends it.
    fn signed(self) -> (Parts, Bytes) {
        let mut settings = SigningSettings::default();
        if self.has_hash {
            settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        }
        if let Some(seconds) = self.presigned {
            settings.signature_location = SignatureLocation::QueryParams;
            settings.expires_in = Some(Duration::from_secs(seconds));
        }
        let identity = self.credentials.into();
        let params = SigningParams::builder()
            .identity(&identity)
            .region(self.region)
            .name(self.service)
            .time(UNIX_EPOCH + Duration::from_secs(NOW))
            .settings(settings)
            .build()
            .expect("all parameters are there");
        let headers = [
            ("host", "127.0.0.1:7070"),
            ("x-amz-decoded-content-length", "8202"),
            ("x-amz-log-type", "Tail"),
        ];
        let body = match self.stands_for_body {
            Some(text) => SignableBody::Precomputed(text.to_owned()),
            None => SignableBody::Bytes(self.body),
        };
        let signable = SignableRequest::new("POST", self.uri, headers.into_iter(), body);
        let signed = sign(signable.expect("a request"), &params.into()).expect("it signs");
        let mut request = Request::post(self.uri);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let mut request = request.body(()).expect("a request");
        signed.into_parts().0.apply_to_request_http1x(&mut request);
        // What a server sees.
        let target = request.uri().path_and_query().expect("a target").as_str();
        *request.uri_mut() = target.parse().expect("a target");
        (request.into_parts().0, Bytes::from_static(self.body))
    }
}

fn read(parts: &Parts, now: u64) -> Result<SignedRequest, Refusal> {
    match Shown::read(parts, Service::Lambda, now)? {
        Shown::Signed(request) => Ok(request),
        other => panic!("{other:?}"),
    }
}

fn verify(parts: &Parts, body: Bytes, now: u64) -> Result<Bytes, Refusal> {
    let request = read(parts, now)?;
    assert_eq!(request.key_id(), KEY);
    request.begin(SECRET)?.finish(body)
}

#[track_caller]
fn assert_refused(result: Result<Bytes, Refusal>) {
    assert!(matches!(result, Err(Refusal::Signature(_))), "{result:?}");
}

#[test]
fn a_signed_call_is_accepted_in_each_form() {
    for uri in [
        INVOKE,
        ARN,
        "http://127.0.0.1:7070/",
        "http://127.0.0.1:7070/a%20b/%C3%A9%2F?b=%20&a=%2B&a=1&c",
    ] {
        for has_hash in [false, true] {
            for presigned in [None, Some(60)] {
                for region in ["us-east-1", "eu-central-1", "local"] {
                    let (parts, body) = Call {
                        uri,
                        has_hash,
                        presigned,
                        region,
                        ..Call::default()
                    }
                    .signed();
                    let seen = verify(&parts, body.clone(), NOW + 30);
                    assert_eq!(seen, Ok(body), "{uri} {has_hash} {presigned:?}");
                }
            }
        }
    }
}

#[test]
fn a_request_may_be_sent_again_within_the_window_of_its_time_and_not_beyond() {
    let (parts, body) = Call::default().signed();
    for now in [NOW - SIGNATURE_WINDOW, NOW, NOW, NOW + SIGNATURE_WINDOW] {
        assert!(verify(&parts, body.clone(), now).is_ok());
    }
    let late = verify(&parts, body.clone(), NOW + SIGNATURE_WINDOW + 1);
    let text = "Signature expired: 20261130T120000Z is now earlier than 20261130T120001Z (20261130T120501Z - 5 min.)";
    assert_eq!(late, Err(Refusal::Signature(text.to_owned())));
    let early = verify(&parts, body, NOW - SIGNATURE_WINDOW - 1);
    let text = "Signature not yet current: 20261130T120000Z is still later than 20261130T115959Z (20261130T115459Z + 5 min.)";
    assert_eq!(early, Err(Refusal::Signature(text.to_owned())));
}

#[test]
fn a_presigned_url_ends_when_it_says() {
    let (parts, body) = Call {
        presigned: Some(PRESIGNED_MAX),
        ..Call::default()
    }
    .signed();
    assert!(verify(&parts, body.clone(), NOW + PRESIGNED_MAX).is_ok());
    assert_refused(verify(&parts, body.clone(), NOW + PRESIGNED_MAX + 1));
    assert_refused(verify(&parts, body, NOW - SIGNATURE_WINDOW - 1));
    let (parts, body) = Call {
        presigned: Some(PRESIGNED_MAX + 1),
        ..Call::default()
    }
    .signed();
    let refused = verify(&parts, body, NOW);
    assert!(
        matches!(refused, Err(Refusal::Incomplete(_))),
        "{refused:?}"
    );
}

#[test]
fn a_presigned_url_may_leave_its_body_open_and_a_header_may_not() {
    let call = |uri, presigned, has_hash| Call {
        uri,
        presigned,
        has_hash,
        stands_for_body: Some("UNSIGNED-PAYLOAD"),
        ..Call::default()
    };
    let other = Bytes::from_static(b"whatever the holder sends");
    for uri in [
        "http://127.0.0.1:7070/?X-Amz-Content-Sha256=UNSIGNED-PAYLOAD",
        "http://127.0.0.1:7070/?x-amz-content-sha256=UNSIGNED-PAYLOAD",
    ] {
        let (parts, _) = call(uri, Some(60), false).signed();
        assert_eq!(verify(&parts, other.clone(), NOW), Ok(other.clone()));
    }
    // As S3 takes it, without saying so: no other service does.
    let (parts, _) = call(INVOKE, Some(60), false).signed();
    assert_refused(verify(&parts, other, NOW));
    let (parts, body) = call(INVOKE, None, true).signed();
    assert_refused(verify(&parts, body, NOW));
}

#[test]
fn every_change_of_what_was_signed_is_noticed() {
    for (has_hash, presigned) in [(false, None), (true, None), (false, Some(60))] {
        let call = || Call {
            uri: ARN,
            has_hash,
            presigned,
            ..Call::default()
        };
        let (parts, body) = call().signed();
        let with = |change: &dyn Fn(&mut Parts)| {
            let mut changed = parts.clone();
            change(&mut changed);
            verify(&changed, body.clone(), NOW)
        };
        assert!(with(&|_| {}).is_ok());
        assert_refused(verify(&parts, Bytes::from_static(b"{}"), NOW));
        assert_refused(with(&|parts| parts.method = http::Method::PUT));
        for (from, to) in [
            ("hello", "other"),
            ("LATEST", "OTHER"),
            ("arn%3A", "arn:"),
            ("?", "?a=1&"),
        ] {
            assert_refused(with(&|parts| {
                parts.uri = parts
                    .uri
                    .to_string()
                    .replacen(from, to, 1)
                    .parse::<Uri>()
                    .unwrap();
            }));
        }
        let header = |name: &'static str, value: &'static str| {
            let name = HeaderName::from_static(name);
            with(&move |parts| {
                drop(
                    parts
                        .headers
                        .insert(name.clone(), HeaderValue::from_static(value)),
                )
            })
        };
        assert_refused(header("host", "127.0.0.1:7071"));
        assert_refused(header("x-amz-log-type", "None"));
        // One that must be signed is added.
        assert_refused(header("x-amz-invocation-type", "Event"));
        // One that may change on the way is not signed.
        assert!(header("user-agent", "proxy").is_ok());
        assert!(
            header(
                "x-amzn-trace-id",
                "Root=1-5759e988-bd862e3fe1be46a994272793"
            )
            .is_ok()
        );
        // A second value of a signed header.
        assert_refused(with(&|parts| {
            parts
                .headers
                .append("x-amz-log-type", HeaderValue::from_static("None"));
        }));
        if presigned.is_none() {
            assert_refused(header("x-amz-date", "20261130T120001Z"));
            assert_refused(with(&|parts| drop(parts.headers.remove("x-amz-log-type"))));
        } else {
            for (from, to) in [
                ("Expires=60", "Expires=61"),
                ("T120000Z", "T120001Z"),
                ("us-east-1", "us-east-2"),
            ] {
                assert_refused(with(&|parts| {
                    let uri = parts.uri.to_string();
                    // Also in the function's ARN.
                    parts.uri = uri.replace(from, to).parse::<Uri>().unwrap();
                }));
            }
        }
    }
}

#[test]
fn every_change_of_one_digit_of_the_signature_is_noticed() {
    let (parts, body) = Call::default().signed();
    let text = parts.headers["authorization"].to_str().unwrap().to_owned();
    let begin = text.find("Signature=").unwrap() + "Signature=".len();
    for place in begin..text.len() {
        let digit = if &text[place..=place] == "0" {
            "1"
        } else {
            "0"
        };
        let mut changed = text.clone();
        changed.replace_range(place..=place, digit);
        let mut parts = parts.clone();
        parts
            .headers
            .insert("authorization", changed.parse().unwrap());
        assert_refused(verify(&parts, body.clone(), NOW));
    }
}

#[test]
fn another_secret_another_service_and_another_day_are_refused() {
    let (parts, body) = Call::default().signed();
    let other = read(&parts, NOW).unwrap().begin("another secret");
    assert_refused(other.and_then(|check| check.finish(body)));
    let (parts, body) = Call {
        service: "sts",
        ..Call::default()
    }
    .signed();
    let refused = verify(&parts, body, NOW);
    let text = "Credential should be scoped to correct service: 'lambda'.".to_owned();
    assert_eq!(refused, Err(Refusal::Signature(text)));
    let sts = Shown::read(&parts, Service::Sts, NOW);
    assert!(matches!(sts, Ok(Shown::Signed(_))), "{sts:?}");
    let (mut parts, body) = Call::default().signed();
    let moved = parts.headers["authorization"]
        .to_str()
        .unwrap()
        .replace("/20261130/", "/20261129/");
    parts
        .headers
        .insert("authorization", moved.parse().unwrap());
    assert_refused(verify(&parts, body, NOW));
}

#[test]
fn a_hash_in_the_head_is_checked_before_the_body() {
    let (parts, body) = Call {
        has_hash: true,
        ..Call::default()
    }
    .signed();
    let early = read(&parts, NOW).unwrap().begin("another secret");
    assert!(matches!(early, Err(Refusal::Signature(_))));
    assert!(
        read(&parts, NOW)
            .unwrap()
            .begin(SECRET)
            .unwrap()
            .finish(body)
            .is_ok()
    );
}

#[test]
fn a_call_with_http_2_has_its_host_in_the_authority() {
    let (mut parts, body) = Call::default().signed();
    let host = parts.headers.remove("host").unwrap();
    assert_refused(verify(&parts, body.clone(), NOW));
    parts.uri = INVOKE.parse().unwrap();
    assert!(verify(&parts, body.clone(), NOW).is_ok());
    parts.headers.insert("host", host);
    assert!(verify(&parts, body.clone(), NOW).is_ok());
    parts
        .headers
        .insert("host", HeaderValue::from_static("other"));
    let refused = verify(&parts, body, NOW);
    assert!(
        matches!(refused, Err(Refusal::Incomplete(_))),
        "{refused:?}"
    );
}

#[test]
fn a_session_is_known_by_its_token_and_signs_with_its_own_secret() {
    let keys = SessionKeys::new([SessionKey::new([1; 8], NOW - 60, [7; 32])]);
    let grant = Grant {
        account: "shop/caller".parse().unwrap(),
        uid: None,
        session_name: "test".to_owned(),
    };
    let made = keys.mint(&grant, NOW, 900, [0; 16]).unwrap();
    for presigned in [None, Some(60)] {
        let credentials =
            Credentials::from_keys(&*made.key_id, &*made.secret, Some(made.token.clone()));
        let (parts, body) = Call {
            credentials,
            presigned,
            ..Call::default()
        }
        .signed();
        let request = read(&parts, NOW).unwrap();
        let token = request.token().expect("a token").to_owned();
        let session = keys.open(request.key_id(), &token, NOW).unwrap();
        assert_eq!(session.grant, grant);
        assert!(
            request
                .clone()
                .begin(&session.secret)
                .unwrap()
                .finish(body)
                .is_ok()
        );
        assert_eq!(
            keys.open(request.key_id(), &token, NOW + 900),
            Err(Refusal::Expired)
        );
        let release = SessionKeys::new([SessionKey::new([1; 8], NOW - 60, [8; 32])]);
        assert_eq!(
            release.open(request.key_id(), &token, NOW),
            Err(Refusal::UNKNOWN_KEY)
        );
    }
}

#[test]
fn the_token_of_another_session_is_not_accepted_with_a_signature() {
    let keys = SessionKeys::new([SessionKey::new([1; 8], NOW - 60, [7; 32])]);
    let grant = |name: &str| Grant {
        account: name.parse().unwrap(),
        uid: None,
        session_name: "test".to_owned(),
    };
    let own = keys.mint(&grant("shop/own"), NOW, 900, [0; 16]).unwrap();
    let other = keys.mint(&grant("shop/other"), NOW, 900, [1; 16]).unwrap();
    // The caller knows the token and the key id of another session, and not its secret.
    let credentials = Credentials::from_keys(&*other.key_id, &*own.secret, Some(other.token));
    let (parts, body) = Call {
        credentials,
        ..Call::default()
    }
    .signed();
    let request = read(&parts, NOW).unwrap();
    let session = keys
        .open(request.key_id(), request.token().unwrap(), NOW)
        .unwrap();
    assert_refused(
        request
            .begin(&session.secret)
            .and_then(|check| check.finish(body)),
    );
}

#[test]
fn an_access_key_signs_calls() {
    let key = AccessKey::new(&[5; 40], "shop/caller".parse().unwrap(), NOW + 60);
    let credentials = Credentials::from_keys(&*key.id, &*key.secret, None);
    let (parts, body) = Call {
        credentials,
        ..Call::default()
    }
    .signed();
    let request = read(&parts, NOW).unwrap();
    assert_eq!(request.key_id(), key.id);
    assert_eq!(key.check(request.token(), NOW), Ok(()));
    assert!(request.begin(&key.secret).unwrap().finish(body).is_ok());
}

/// The frame of a chunk, signed after `last`, and its signature.
fn chunk(data: &[u8], last: &str) -> (Vec<u8>, String) {
    let mac = |key: &[u8], text: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text);
    let parts: [&[u8]; 4] = [b"20261130", b"us-east-1", b"lambda", b"aws4_request"];
    let key = parts
        .iter()
        .fold(format!("AWS4{SECRET}").into_bytes(), |key, part| {
            mac(&key, part).as_ref().to_vec()
        });
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let hash = |data: &[u8]| hex(digest(&SHA256, data).as_ref());
    let (nothing, data_hash) = (hash(b""), hash(data));
    let text = format!(
        "AWS4-HMAC-SHA256-PAYLOAD\n20261130T120000Z\n20261130/us-east-1/lambda/aws4_request\n{last}\n{nothing}\n\
         {data_hash}"
    );
    let signature = hex(mac(&key, text.as_bytes()).as_ref());
    let head = format!("{:x};chunk-signature={signature}\r\n", data.len());
    ([head.as_bytes(), data, b"\r\n"].concat(), signature)
}

#[test]
fn chunks_are_signed_in_their_order() {
    let stands_for_body = Some("STREAMING-AWS4-HMAC-SHA256-PAYLOAD");
    let (parts, _) = Call {
        has_hash: true,
        stands_for_body,
        ..Call::default()
    }
    .signed();
    let text = parts.headers["authorization"].to_str().unwrap();
    let (first, one) = chunk(&[b'a'; 8192], &text[text.len() - 64..]);
    let (second, two) = chunk(b"0123456789", &one);
    let (end, _) = chunk(b"", &two);
    let check = |chunks: &[&[u8]]| verify(&parts, chunks.concat().into(), NOW);
    let expected = [&[b'a'; 8192][..], b"0123456789"].concat();
    assert_eq!(check(&[&first, &second, &end]), Ok(expected.into()));
    assert_refused(check(&[&second, &first, &end]));
    assert_refused(check(&[&first, &first, &end]));
    assert_refused(check(&[&first, &end]));
    let cut = check(&[&first, &second]);
    assert!(matches!(cut, Err(Refusal::Incomplete(_))), "{cut:?}");
    // The head is signed too, and checked before any chunk.
    assert!(matches!(
        read(&parts, NOW).unwrap().begin("another secret"),
        Err(Refusal::Signature(_))
    ));
}
