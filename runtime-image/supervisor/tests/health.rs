//! The kubelet's probe, before and after there is a function, and when it has to fail.

mod instance;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use instance::{Instance, next};

/// Longer than a supervisor that runs takes, even on a machine with other work.
const ANSWERED_WITHIN: Duration = Duration::from_secs(60);

/// An address that nobody has. Another process could take it until the supervisor does, which then fails.
fn free() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it listens")
}

fn connect(at: SocketAddr) -> TcpStream {
    let connection = TcpStream::connect(at).expect("it listens");
    let limit = connection.set_read_timeout(Some(ANSWERED_WITHIN));
    limit.expect("a time");
    connection
}

/// The first line of the answer.
fn asked(mut connection: TcpStream, path: &str) -> String {
    let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    connection.write_all(head.as_bytes()).expect("it is read");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).expect("an answer");
    answer.lines().next().unwrap_or_default().to_owned()
}

fn probed(at: SocketAddr) -> String {
    asked(connect(at), "/healthz")
}

const OK: &str = "HTTP/1.1 200 OK";

#[test]
fn a_supervisor_answers_its_probe_before_and_after_there_is_a_function_and_nothing_else() {
    let at = free();
    let variable = [("PILOTLIGHT_HEALTH", at.to_string())];
    let variables = variable
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    let root = tempfile::tempdir().expect("a directory");
    let unclaimed = Instance::unclaimed_with_variables(&variables, root.path());
    assert_eq!(probed(at), OK);
    for path in ["/", "/status", "/healthzz", "/lease"] {
        assert_eq!(asked(connect(at), path), "HTTP/1.1 404 Not Found", "{path}");
    }
    drop(unclaimed);

    let at = free();
    let variable = [("PILOTLIGHT_HEALTH", at.to_string())];
    let variables = variable
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    let instance = Instance::with_variables(&variables, "exec sleep 600", json!({}));
    let _waiting = next(&instance.api(1));
    instance.becomes("ready");
    assert_eq!(probed(at), OK);
}

#[test]
fn connections_that_stall_keep_no_probe_out() {
    let at = free();
    let at_text = at.to_string();
    let variables = [("PILOTLIGHT_HEALTH", at_text.as_str())];
    let _instance = Instance::with_variables(&variables, "exec sleep 600", json!({}));
    let stalled: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut connection = connect(at);
            connection.write_all(b"GET /healthz").expect("it is read");
            connection
        })
        .collect();
    assert_eq!(probed(at), OK);
    drop(stalled);
}

#[test]
fn a_supervisor_that_was_stopped_answers_no_probe() {
    let at = free();
    let at_text = at.to_string();
    let variables = [("PILOTLIGHT_HEALTH", at_text.as_str())];
    let instance = Instance::with_variables(&variables, "exec sleep 600", json!({}));
    let pid = Pid::from_raw(instance.pid().cast_signed()).expect("a process");
    kill_process(pid, Signal::STOP).expect("it runs");
    // The kernel accepts the connection, and nobody answers.
    let mut connection = connect(at);
    let limit = connection.set_read_timeout(Some(Duration::from_secs(1)));
    limit.expect("a time");
    connection
        .write_all(b"GET /healthz HTTP/1.1\r\n\r\n")
        .expect("the kernel takes it");
    let silence = connection.read(&mut [0; 1]).expect_err("it is stopped");
    let timed_out = [std::io::ErrorKind::WouldBlock, std::io::ErrorKind::TimedOut];
    assert!(timed_out.contains(&silence.kind()), "{silence}");
    kill_process(pid, Signal::CONT).expect("it runs");
    connection
        .set_read_timeout(Some(ANSWERED_WITHIN))
        .expect("a time");
    let mut answer = [0; OK.len()];
    connection.read_exact(&mut answer).expect("an answer");
    assert_eq!(answer, OK.as_bytes());
}
