//! What the SDK of a function reports to X-Ray's daemon, and the answer that carries it.

mod instance;

use std::net::UdpSocket;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use instance::{Instance, after, next, post};
use serde_json::{Value, json};

const TRACES: [(&str, &str); 1] = [("PILOTLIGHT_TRACES", "1")];
/// A lease whose answer has a report.
static TRACED: [(&str, &str); 2] = [
    (
        "lambda-runtime-trace-id",
        "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=0f1b758a73ce5eaa;Sampled=1",
    ),
    ("pilotlight-traced", "1"),
];
/// The runtime process says where its daemon is.
const SCRIPT: &str =
    r#"echo "daemon ${AWS_XRAY_DAEMON_ADDRESS-none} $_AWS_XRAY_DAEMON_PORT"; exec sleep 600"#;

fn segment(id: &str, root: &str) -> String {
    let document = json!({
        "name": "work", "id": id, "trace_id": root, "parent_id": "0f1b758a73ce5eaa",
        "type": "subsegment", "start_time": 1.0, "end_time": 2.0,
    });
    format!("{{\"format\": \"json\", \"version\": 1}}\n{document}")
}

#[test]
fn segments_that_come_before_the_answer_travel_with_it_if_the_gateway_keeps_traces() {
    let instance = Instance::with_variables(&TRACES, SCRIPT, json!({}));
    let line = instance.logged("daemon ", 1);
    let address = after(&line, "daemon ")
        .split(' ')
        .next()
        .expect("an address");
    let function = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let send = |text: String| function.send_to(text.as_bytes(), address).expect("sent");
    let api = instance.api(1);
    let mut waiting = next(&api);
    instance.becomes("ready");
    for (id, wants_report) in [("r1", true), ("r2", false), ("r3", true)] {
        let headers = if wants_report {
            &TRACED[..]
        } else {
            &TRACED[..1]
        };
        let lease = instance.lease_with_headers(id, "1", headers);
        waiting.join().expect("an event");
        send(segment(
            "00000000000000aa",
            "1-5759e988-bd862e3fe1be46a994272793",
        ));
        send(segment(
            "00000000000000ab",
            "1-5759e988-000000000000000000000001",
        ));
        send("no segment".to_owned());
        post(&api, &format!("/invocation/{id}/response"), &[], "2");
        waiting = next(&api);
        let answer = lease.join().expect("an answer");
        assert_eq!(
            answer.header("pilotlight-timing").contains("run;dur="),
            wants_report
        );
        let encoded = answer.header("pilotlight-segments");
        assert_eq!(encoded.is_empty(), !wants_report);
        if wants_report {
            let list = BASE64_STANDARD.decode(encoded).expect("base64");
            let list: Value = serde_json::from_slice(&list).expect("JSON");
            assert_eq!(
                (list[0][0].as_str(), list[1][0].as_str()),
                (Some("00000000000000aa"), None)
            );
            assert_eq!(answer.header("pilotlight-segments-dropped"), "2");
        }
    }
}

#[test]
fn a_flood_of_datagrams_delays_no_answer_and_takes_no_memory() {
    let instance = Instance::with_variables(&TRACES, SCRIPT, json!({}));
    let line = instance.logged("daemon ", 1);
    let address = after(&line, "daemon ")
        .split(' ')
        .next()
        .expect("an address");
    let function = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let api = instance.api(1);
    let waiting = next(&api);
    instance.becomes("ready");
    let lease = instance.lease_with_headers("r1", "1", &TRACED);
    waiting.join().expect("an event");
    let large = "x".repeat(60_000);
    for number in 1..2_000 {
        // The kernel drops what the supervisor has not read in time.
        let _ = function.send_to(large.as_bytes(), address);
        let _ = function.send_to(
            segment(
                &format!("{number:016x}"),
                "1-5759e988-bd862e3fe1be46a994272793",
            )
            .as_bytes(),
            address,
        );
    }
    post(&api, "/invocation/r1/response", &[], "2");
    let _next = next(&api);
    let answer = lease.join().expect("an answer");
    assert!(answer.header("pilotlight-segments").len() <= 90_000);
    let dropped: u32 = answer
        .header("pilotlight-segments-dropped")
        .parse()
        .expect("a count");
    assert!(dropped > 100, "{dropped}");
}

#[test]
fn there_is_no_daemon_while_the_installation_keeps_no_traces() {
    let instance = Instance::with(SCRIPT, json!({}));
    let line = instance.logged("daemon ", 1);
    assert!(after(&line, "daemon ").starts_with("none"), "{line}");
}
