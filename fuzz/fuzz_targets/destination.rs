//! Destinations of manifests, the Secrets that they name, and what receivers answer.
//!
//! What is read can be written and read again as the same. The server that a rule about addresses judges is the one that the
//! HTTP client connects to. Nothing prints a value of a Secret, or the words of a receiver.

#![no_main]

use std::collections::BTreeMap;

use bytes::Bytes;
use http::Uri;
use libfuzzer_sys::fuzz_target;
use pilotlight_api::Destination;
use pilotlight_core::events::retry::EventTime;
use pilotlight_core::ids::{FunctionKey, Namespace};
use pilotlight_core::redirect::Server;
use pilotlight_events::destination::fuzzing::{nats_server, queue_server, request, verdict};
use pilotlight_events::destination::{Outgoing, Receiver};
use pilotlight_gateway::fuzzing::receiver;

/// Ends each value of a Secret.
const MARK: &str = "5ecret5ecret";

fuzz_target!(|text: &[u8]| {
    let mut lines = text.splitn(3, |byte| *byte == b'\n');
    let mut next = || lines.next().unwrap_or_default();
    let (destination, secret, answer) = (next(), next(), next());
    let status = 200 + u16::from(answer.first().copied().unwrap_or_default()) * 2;
    if let Some(undelivered) = verdict(status, answer) {
        let shown = undelivered.to_string();
        assert!(
            shown
                .bytes()
                .all(|byte| byte.is_ascii_graphic() || byte == b' '),
            "{shown}"
        );
    }
    let Ok(destination) = serde_json::from_slice::<Destination>(destination) else {
        return;
    };
    let written = serde_json::to_vec(&destination).expect("a destination is JSON");
    assert_eq!(
        serde_json::from_slice::<Destination>(&written).expect("it was written"),
        destination
    );
    let secret = serde_json::from_slice::<BTreeMap<String, String>>(secret).ok();
    let secret = secret.map(|keys| {
        let keys = keys.into_iter();
        // Authorities are no secret.
        let mark = |key: &str| if key == "ca.crt" { "" } else { MARK };
        let keys = keys.map(|(key, value)| {
            let value = format!("{value}{}", mark(&key)).into_bytes();
            (key, value)
        });
        keys.collect()
    });
    if matches!(destination, Destination::Function(_)) {
        return;
    }
    let receiver = match receiver(&destination, secret.as_ref()) {
        Ok(receiver) => receiver,
        Err(why) => {
            assert!(!why.contains(MARK), "{why}");
            return;
        }
    };
    let shown = format!("{receiver} {receiver:?}");
    assert!(!shown.contains(MARK), "{shown}");
    match &receiver {
        Receiver::Nats(to) => {
            if let Some((host, port)) = nats_server(&to.url) {
                let as_web = to
                    .url
                    .replacen("nats://", "http://", 1)
                    .replacen("tls://", "https://", 1);
                if let Some(server) = Server::of(&as_web) {
                    assert_eq!(server.host, host.to_ascii_lowercase());
                    assert!(
                        server.port == port || [80, 443].contains(&server.port),
                        "{as_web}"
                    );
                }
            }
        }
        Receiver::Sqs(to) => {
            if let Some(server) = queue_server(&to.queue_url) {
                check(&server.parse().expect("a server"), &to.queue_url);
            }
        }
        Receiver::Http(_) | Receiver::S3(_) => {
            let Some(Ok(request)) = request(&receiver, &outgoing()) else {
                return;
            };
            check(request.uri(), &request.uri().to_string());
            let shown = format!("{request:?}");
            assert!(
                !shown.contains(MARK) || matches!(receiver, Receiver::S3(_)),
                "{shown}"
            );
        }
    }
});

/// That the client connects to the server that the address names for everybody else.
fn check(uri: &Uri, address: &str) {
    let Some(server) = Server::of(address) else {
        return;
    };
    let is_encrypted = uri.scheme_str() == Some("https");
    let default = if is_encrypted { 443 } else { 80 };
    let host = uri.host().unwrap_or_default().to_ascii_lowercase();
    let port = uri.port_u16().unwrap_or(default);
    assert_eq!(
        (host, port, is_encrypted),
        (server.host, server.port, server.is_encrypted),
        "{address}"
    );
}

fn outgoing() -> Outgoing {
    Outgoing {
        id: "r-Success".to_owned(),
        request_id: "r".to_owned(),
        function: FunctionKey {
            name: "hello".parse().expect("a name"),
            namespace: Namespace::local(),
        },
        at: EventTime(1_800_000_000_000),
        trace: "Root=1-5e1b4151-5ac6c58f12345678abcdefab".to_owned(),
        record: Bytes::from_static(b"{}"),
        cloud_event: Bytes::from_static(b"{}"),
    }
}
