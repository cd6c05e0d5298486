//! What a caller shows to prove who it is: heads with signatures, signed bodies, session tokens, forms of STS, and the
//! Secrets with keys.
//!
//! Nothing of it panics. A request whose signature is accepted means what a holder of the secret has signed, byte for
//! byte of its body: the seeds `signed-*` are those requests. No session token is accepted, since the fuzzer would have
//! to forge it. What STS answers is well formed.

#![no_main]

use std::collections::BTreeMap;

use bytes::Bytes;
use http::Request;
use http::request::Parts;
use libfuzzer_sys::fuzz_target;
use pilotlight_access::access_key::AccessKey;
use pilotlight_access::session::{Grant, SessionKey, SessionKeys};
use pilotlight_access::shown::{Service, Shown};
use pilotlight_access::sts::StsRequest;
use pilotlight_access::sts::answer::{CallerIdentity, assumed_role, caller_identity};
use pilotlight_core::access::Refusal;

/// As in `seeds`: 2026-11-30T12:00:00Z.
const NOW: u64 = 1_796_040_000;
const SECRET: &str = "of the seeds";
/// What was signed with that secret.
const SIGNED: [&[u8]; 5] = [
    include_bytes!("../corpus/access/signed-header"),
    include_bytes!("../corpus/access/signed-hash"),
    include_bytes!("../corpus/access/signed-presigned"),
    include_bytes!("../corpus/access/signed-chunks"),
    include_bytes!("../corpus/access/signed-token"),
];

fuzz_target!(|input: &[u8]| {
    if let Some((head, body)) = request(input) {
        calls(&head, &body);
        forms(&body);
        forms(head.uri.query().unwrap_or_default().as_bytes());
    }
    if let Some((head, body)) = edited(input).as_deref().and_then(request) {
        calls(&head, &body);
    }
    secrets(input);
});

/// A signed request in which something is replaced: which request, the place, how many bytes, and the new ones.
fn edited(input: &[u8]) -> Option<Vec<u8>> {
    let ([which, high, low, removed], text) = input.split_first_chunk()?;
    let signed = SIGNED[usize::from(*which) % SIGNED.len()];
    let place = usize::from(u16::from_be_bytes([*high, *low])) % signed.len();
    let end = signed.len().min(place + usize::from(*removed));
    Some([&signed[..place], text, &signed[end..]].concat())
}

/// Lines of a head, an empty line, a body.
fn request(input: &[u8]) -> Option<(Parts, Bytes)> {
    let end = input.windows(2).position(|pair| pair == b"\n\n")?;
    let (head, body) = (&input[..end], &input[end + 2..]);
    let mut lines = head.split(|byte| *byte == b'\n');
    let mut first = lines.next()?.splitn(2, |byte| *byte == b' ');
    let mut request = Request::builder().method(first.next()?).uri(first.next()?);
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        request = request.header(&line[..colon], &line[colon + 1..]);
    }
    let (head, ()) = request.body(()).ok()?.into_parts();
    Some((head, Bytes::copy_from_slice(body)))
}

fn keys() -> SessionKeys {
    SessionKeys::new([SessionKey::new([1; 8], 0, [7; 32])])
}

fn calls(head: &Parts, body: &Bytes) {
    for service in [Service::Lambda, Service::Sts] {
        let Ok(Shown::Signed(call)) = Shown::read(head, service, NOW) else {
            continue;
        };
        if let Some(token) = call.token() {
            assert!(keys().open(call.key_id(), token, 0).is_err());
        }
        let other = call.clone().begin("another secret");
        assert!(other.and_then(|check| check.finish(body.clone())).is_err());
        let Ok(body) = call
            .begin(SECRET)
            .and_then(|check| check.finish(body.clone()))
        else {
            continue;
        };
        let accepted = meaning(head, &body);
        let mut signed = SIGNED.iter().map(|signed| {
            let (head, body) = request(signed).expect("a request");
            let Ok(Shown::Signed(own)) = Shown::read(&head, Service::Lambda, NOW) else {
                panic!("the seeds are signed");
            };
            let body = own.begin(SECRET).and_then(|check| check.finish(body));
            meaning(&head, &body.expect("the seeds are accepted"))
        });
        assert!(signed.any(|signed| signed == accepted), "{accepted:?}");
    }
}

/// What a gateway and a function read of a request.
#[derive(Debug, PartialEq)]
struct Meaning {
    method: String,
    path: Vec<String>,
    query: Vec<(String, String)>,
    headers: BTreeMap<String, Vec<String>>,
    body: Bytes,
}

fn meaning(head: &Parts, body: &Bytes) -> Meaning {
    let mut path = Vec::new();
    for segment in head.uri.path().split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(path.pop()),
            segment => path.push(segment.to_owned()),
        }
    }
    let query = head.uri.query().unwrap_or_default();
    let mut query = Vec::from_iter(form_urlencoded::parse(query.as_bytes()).into_owned());
    query.sort();
    let mut headers = BTreeMap::<String, Vec<String>>::new();
    for (name, value) in &head.headers {
        if name == "host" || name.as_str().starts_with("x-amz-") {
            // Commas join the values of one name, and spaces in a row count as one.
            let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
            let values = text.split(',');
            let values = values.map(|value| Vec::from_iter(value.split_whitespace()).join(" "));
            headers.entry(name.to_string()).or_default().extend(values);
        }
    }
    Meaning {
        method: head.method.to_string(),
        path,
        query,
        headers,
        body: body.clone(),
    }
}

fn forms(form: &[u8]) {
    let answer = match StsRequest::read(form, "000000000000") {
        Ok(StsRequest::AssumeRoleWithWebIdentity(identity)) => {
            let grant = Grant {
                account: identity.account,
                uid: None,
                session_name: identity.session_name,
            };
            let made = keys()
                .mint(&grant, NOW, identity.seconds, [0; 16])
                .expect("the form is checked");
            let session = keys()
                .open(&made.key_id, &made.token, NOW)
                .expect("it was made just now");
            assert_eq!(
                (session.grant, session.secret),
                (grant.clone(), made.secret.clone())
            );
            let over = keys().open(&made.key_id, &made.token, NOW + 43_200);
            assert_eq!(over, Err(Refusal::Expired));
            let identity = CallerIdentity::Session(&grant);
            let identity = caller_identity(identity, "000000000000", "id");
            assumed_role(&grant, &made, "a", "000000000000", "id") + &identity
        }
        Ok(StsRequest::GetCallerIdentity) => return,
        Err(error) => error.body("id"),
    };
    // Each `<` is that of an element, and each `&` that of an entity.
    let tags = answer.matches('<').count();
    assert_eq!(tags, answer.matches('>').count());
    assert!(
        answer.chars().all(|c| c == '\n' || !c.is_control()),
        "{answer:?}"
    );
    for entity in answer.split('&').skip(1) {
        assert!(
            ["amp;", "lt;", "gt;", "quot;"]
                .iter()
                .any(|known| entity.starts_with(known)),
            "{answer:?}"
        );
    }
}

/// Lines `NAME=VALUE` of the data of a Secret, the first of which is the Secret's name.
fn secrets(input: &[u8]) {
    let Some(text) = std::str::from_utf8(input).ok() else {
        return;
    };
    let (name, data) = text.split_once('\n').unwrap_or((text, ""));
    let data = data.lines().filter_map(|line| line.split_once('='));
    let data = BTreeMap::from_iter(data.map(|(name, value)| (name.to_owned(), value.to_owned())));
    if let Ok(key) = AccessKey::of_data(name, &data) {
        assert_eq!(AccessKey::of_data(name, &key.to_data()), Ok(key));
    }
    let value = [7; 32];
    if let Ok(key) = SessionKey::of_entry(name, &value) {
        let (name, value) = key.entry();
        let again = SessionKey::of_entry(&name, &value).expect("it was written");
        assert_eq!(again.from(), key.from());
    }
}
