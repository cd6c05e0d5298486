//! The supervisor from the outside: a gateway leases it, and a runtime process uses its Runtime API.
//!
//! Each test starts a real supervisor (`instance`) and sends the requests of both sides.

mod instance;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use ureq::http::Method;

use instance::{Answer, Instance, TIMEOUT, after, call, is_alive, next, post, until};

const ACCEPTED: &[u8] = br#"{"status":"OK"}"#;

/// An instance whose runtime process waits in `next`.
fn ready() -> (Instance, String, JoinHandle<Answer>) {
    ready_with("exec sleep 600", json!({}))
}

fn ready_with(script: &str, changes: Value) -> (Instance, String, JoinHandle<Answer>) {
    let instance = Instance::with(script, changes);
    let api = instance.api(1);
    let waiting = next(&api);
    instance.becomes("ready");
    (instance, api, waiting)
}

fn since_1970() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("after 1970")
}

fn joined(call: JoinHandle<Answer>) -> Answer {
    call.join().expect("the call was answered")
}

#[test]
fn the_runtime_receives_the_event_and_the_gateway_its_response() {
    let (instance, api, waiting) = ready();
    let leased = since_1970();
    let lease = instance.lease("r1", r#"{"n":1}"#);
    let event = joined(waiting);
    assert_eq!(
        (event.status.as_u16(), event.body.as_slice()),
        (200, &br#"{"n":1}"#[..])
    );
    assert_eq!(event.header("content-type"), "application/json");
    assert_eq!(event.header("lambda-runtime-aws-request-id"), "r1");
    assert_eq!(
        event.header("lambda-runtime-client-context"),
        r#"{"custom":{}}"#
    );
    assert!(
        event
            .header("lambda-runtime-invoked-function-arn")
            .ends_with(":function:tested")
    );
    assert!(
        !event.headers.contains_key("lambda-runtime-trace-id"),
        "the lease has none"
    );
    let deadline: u64 = event
        .header("lambda-runtime-deadline-ms")
        .parse()
        .expect("a number");
    let begun = Duration::from_millis(deadline) - Duration::from_secs(TIMEOUT);
    // The deadline is rounded to milliseconds.
    let rounding = Duration::from_millis(1);
    assert!(
        (leased - rounding..=since_1970() + rounding).contains(&begun),
        "the limit of {TIMEOUT} s begins at {begun:?}, not at the lease at {leased:?}"
    );

    let posted = post(&api, "/invocation/r1/response", &[], r#"{"answer":2}"#);
    assert_eq!(
        (posted.status.as_u16(), posted.body.as_slice()),
        (202, ACCEPTED)
    );
    let _next = next(&api);
    let answer = joined(lease);
    assert_eq!(
        (answer.status.as_u16(), answer.body.as_slice()),
        (200, &br#"{"answer":2}"#[..])
    );
    assert_eq!(answer.header("pilotlight-outcome"), "success");
    assert!(answer.header("pilotlight-status").ends_with(" ready"));
    instance.logged("REPORT RequestId: r1\tDuration: ", 1);
    let lines = instance.lines();
    let place = |text: &str| {
        lines
            .iter()
            .position(|line| line.contains(text))
            .expect(text)
    };
    assert!(place("INIT_START") < place("START RequestId: r1 Version: $LATEST"));
    assert!(place("END RequestId: r1") < place("REPORT RequestId: r1"));
}

#[test]
fn requests_out_of_order_are_refused_and_change_nothing() {
    let instance = Instance::start();
    let api = instance.api(1);
    let early = post(&api, "/invocation/r1/response", &[], "1");
    assert_eq!(early.status, 403);
    assert_eq!(early.json()["errorType"], "InvalidStateTransition");
    let waiting = next(&api);
    instance.becomes("ready");
    let second = joined(next(&api));
    assert_eq!(
        (second.status.as_u16(), &second.json()["errorType"]),
        (403, &json!("InvalidStateTransition"))
    );
    assert_eq!(post(&api, "/init/error", &[], "{}").status, 403);
    assert_eq!(post(&api, "/restore/error", &[], "{}").status, 403);
    assert_eq!(
        call(Method::GET, &format!("{api}/ping"), &[], "").status,
        200
    );
    assert_eq!(
        call(Method::GET, &format!("{api}/runtime/nothing"), &[], "").status,
        404
    );

    let lease = instance.lease("r1", "{}");
    joined(waiting);
    let other = post(&api, "/invocation/r2/response", &[], "1");
    assert_eq!(
        (other.status.as_u16(), &other.json()["errorType"]),
        (400, &json!("InvalidRequestID"))
    );
    assert_eq!(post(&api, "/invocation/r1/response", &[], "1").status, 202);
    assert_eq!(post(&api, "/invocation/r1/response", &[], "2").status, 400);
    let _next = next(&api);
    assert_eq!(joined(lease).body, b"1");
}

#[test]
fn a_second_lease_is_refused_as_busy_and_a_third_waits_for_the_following_next() {
    let (instance, api, waiting) = ready();
    let first = instance.lease("r1", "{}");
    joined(waiting);
    let second = joined(instance.lease("r2", "{}"));
    assert_eq!(second.status, 409);
    assert!(
        second
            .header("pilotlight-refusal")
            .starts_with("busy, not started"),
        "{second:?}"
    );
    post(&api, "/invocation/r1/response", &[], "1");
    // Reported at once, though the runtime has not requested `next` yet.
    let epoch: u64 = instance
        .becomes("ready")
        .split(' ')
        .next()
        .and_then(|e| e.parse().ok())
        .expect("an epoch");
    assert!(
        epoch > 1,
        "the gateway that was refused learns that the instance is free"
    );
    let third = instance.lease("r3", "3");
    let event = joined(next(&api));
    assert_eq!(event.body, b"3");
    assert_eq!(joined(first).body, b"1");
    post(&api, "/invocation/r3/response", &[], "4");
    let _next = next(&api);
    assert_eq!(joined(third).body, b"4");
}

#[test]
fn a_lease_after_an_answer_is_released_when_the_process_exits_before_next() {
    let (instance, api, waiting) = ready_with("sleep 600 & echo PID=$!; wait", json!({}));
    let child = instance.logged("PID=", 1);
    let first = instance.lease("r1", "{}");
    joined(waiting);
    post(&api, "/invocation/r1/response", &[], "1");
    let second = instance.lease("r2", "{}");
    kill(after(&child, "PID="));
    let second = joined(second);
    assert_eq!(second.status, 409);
    assert!(
        second.header("pilotlight-refusal").contains("not started"),
        "{second:?}"
    );
    assert_eq!(joined(first).body, b"1");
    assert!(
        !instance
            .lines()
            .iter()
            .any(|line| line.contains("START RequestId: r2"))
    );
}

#[test]
fn an_event_for_a_cancelled_next_is_delivered_to_the_following_one() {
    let instance = Instance::start();
    let api = instance.api(1);
    let address = after(&api, "http://")
        .split('/')
        .next()
        .expect("an address")
        .to_owned();
    let mut broken = TcpStream::connect(address).expect("connected");
    let head = "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nhost: runtime\r\n\r\n";
    broken.write_all(head.as_bytes()).expect("sent");
    instance.becomes("ready");
    drop(broken);
    let lease = instance.lease("r1", "1");
    let event = until("the event is delivered again", || {
        Some(joined(next(&api))).filter(|answer| answer.status == 200)
    });
    assert_eq!(event.body, b"1");
    post(&api, "/invocation/r1/response", &[], "2");
    let _next = next(&api);
    assert_eq!(joined(lease).body, b"2");
}

#[test]
fn an_unknown_response_mode_is_refused_and_a_streamed_response_is_accepted() {
    let (instance, api, waiting) = ready();
    let lease = instance.lease("r1", "{}");
    joined(waiting);
    let headers = [("lambda-runtime-function-response-mode", "buffered")];
    let refused = post(&api, "/invocation/r1/response", &headers, "1");
    assert_eq!(refused.status, 400);
    assert_eq!(refused.json()["errorType"], "InvalidFunctionResponseMode");
    assert_eq!(streamed(&api, "r1", &["2", "3"], ""), 202);
    let _next = next(&api);
    let answer = joined(lease);
    assert_eq!(answer.header("pilotlight-outcome"), "success");
    assert_eq!(answer.body, b"23");
}

#[test]
fn an_error_in_the_trailers_of_a_stream_is_the_answer_however_long_it_is() {
    let (instance, api, waiting) = ready();
    let lease = instance.lease("r1", "{}");
    joined(waiting);
    let body = json!({"errorType": "E", "errorMessage": "m".repeat(100_000)}).to_string();
    let trailers = format!(
        "Lambda-Runtime-Function-Error-Type: E\r\nLambda-Runtime-Function-Error-Body: {}\r\n",
        STANDARD.encode(&body)
    );
    assert_eq!(streamed(&api, "r1", &["half of"], &trailers), 202);
    let _next = next(&api);
    let answer = joined(lease);
    assert_eq!(answer.header("pilotlight-outcome"), "function-error");
    assert_eq!(String::from_utf8_lossy(&answer.body), body);
}

/// Posts a response in chunks, as the vendors' clients do, and returns the status.
fn streamed(api: &str, id: &str, pieces: &[&str], trailers: &str) -> u16 {
    let address = after(api, "http://").split('/').next().expect("an address");
    let mut runtime = TcpStream::connect(address).expect("connected");
    let head = format!(
        "POST /2018-06-01/runtime/invocation/{id}/response HTTP/1.1\r\nhost: runtime\r\n\
         lambda-runtime-function-response-mode: streaming\r\nconnection: close\r\n\
         trailer: Lambda-Runtime-Function-Error-Type\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    let chunks = pieces
        .iter()
        .map(|piece| format!("{:x}\r\n{piece}\r\n", piece.len()));
    let sent = [head, chunks.collect(), format!("0\r\n{trailers}\r\n")].concat();
    runtime.write_all(sent.as_bytes()).expect("sent");
    let mut answer = String::new();
    runtime.read_to_string(&mut answer).expect("an answer");
    let status = answer.split(' ').nth(1).expect("a status");
    status.parse().expect("a number")
}

#[test]
fn a_response_over_the_limit_is_refused_and_fails_the_invocation() {
    let (instance, api, waiting) = ready();
    let lease = instance.lease("r1", "{}");
    joined(waiting);
    let limit = 6 * 1024 * 1024 + 100;
    let refused = post(&api, "/invocation/r1/response", &[], &"x".repeat(limit + 1));
    assert_eq!(
        (refused.status.as_u16(), &refused.json()["errorType"]),
        (413, &json!("RequestEntityTooLarge"))
    );
    let waiting = next(&api);
    let answer = joined(lease);
    assert_eq!(answer.header("pilotlight-outcome"), "function-error");
    assert_eq!(answer.json()["errorType"], "Function.ResponseSizeTooLarge");

    let lease = instance.lease("r2", "{}");
    joined(waiting);
    assert_eq!(
        post(&api, "/invocation/r2/response", &[], &"x".repeat(limit)).status,
        202
    );
    let _next = next(&api);
    assert_eq!(joined(lease).body.len(), limit);
}

#[test]
fn an_error_is_passed_on_unchanged_with_a_cause_of_a_mebibyte_in_its_head() {
    let (instance, api, waiting) = ready();
    let lease = instance.lease("r1", "{}");
    joined(waiting);
    let cause = "x".repeat((1 << 20) - 100);
    let headers = [
        ("lambda-runtime-function-xray-error-cause", cause.as_str()),
        ("lambda-runtime-function-error-type", "unhandled"),
    ];
    let body = r#"{"errorMessage":"m", "errorType":"E", "stackTrace":[ {"path":"p","line":1} ]}"#;
    assert_eq!(
        post(&api, "/invocation/r1/error", &headers, body).status,
        202
    );
    let _next = next(&api);
    let answer = joined(lease);
    assert_eq!(answer.header("pilotlight-outcome"), "function-error");
    assert_eq!(String::from_utf8_lossy(&answer.body), body);
}

#[test]
fn a_sanitised_error_keeps_its_type_and_names_the_request() {
    let (instance, api, waiting) = ready_with("exec sleep 600", json!({ "sanitizeErrors": true }));
    let lease = instance.lease("r1", "{}");
    joined(waiting);
    let body = r#"{"errorMessage":"password=x","errorType":"E","stackTrace":["secret.py"]}"#;
    post(&api, "/invocation/r1/error", &[], body);
    let _next = next(&api);
    let answer = joined(lease).json();
    assert_eq!(answer["errorType"], "E");
    assert!(
        answer["errorMessage"]
            .as_str()
            .is_some_and(|text| text.contains("RequestId: r1"))
    );
    assert_eq!(answer.as_object().map(|fields| fields.len()), Some(2));
}

#[test]
fn an_init_error_answers_the_next_lease_and_a_fresh_init_follows() {
    let instance = Instance::start();
    let body = r#"{"errorMessage":"no table","errorType":"Exception","requestId":""}"#;
    assert_eq!(post(&instance.api(1), "/init/error", &[], body).status, 202);
    instance.becomes("ready");
    let answer = joined(instance.lease("r1", "{}"));
    assert_eq!(answer.header("pilotlight-outcome"), "function-error");
    assert!(
        answer.header("pilotlight-status").ends_with("starting"),
        "{answer:?}"
    );
    assert_eq!(String::from_utf8_lossy(&answer.body), body);
    instance.logged("INIT_REPORT Init Duration: ", 1);

    let waiting = next(&instance.api(2));
    instance.becomes("ready");
    let lease = instance.lease("r2", "2");
    assert_eq!(joined(waiting).body, b"2");
    post(&instance.api(2), "/invocation/r2/response", &[], "3");
    let _next = next(&instance.api(2));
    assert_eq!(joined(lease).body, b"3");
}

#[test]
fn an_init_over_its_limit_is_stopped_and_repeated_within_the_invocation() {
    let instance = Instance::start();
    let line = instance.logged("INIT_REPORT Init Duration: ", 1);
    assert!(line.ends_with("Phase: init\tStatus: timeout"), "{line}");
    let took = after(&line, "Init Duration: ").split(' ').next();
    let took: f64 = took.and_then(|ms| ms.parse().ok()).expect("milliseconds");
    assert!(took >= 10_000.0, "{line}");
    instance.becomes("ready");
    let lease = instance.lease("r1", "1");
    let api = instance.api(2);
    assert_eq!(joined(next(&api)).body, b"1");
    post(&api, "/invocation/r1/response", &[], "2");
    let _next = next(&api);
    assert_eq!(joined(lease).body, b"2");
    assert!(
        instance
            .logged("REPORT RequestId: r1", 1)
            .contains("Init Duration: ")
    );
}

#[test]
fn a_program_that_cannot_be_started_fails_each_lease_at_once_with_the_reason() {
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("program");
    fs::write(&file, "echo API=1\n").expect("written");
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&file, executable).expect("changed");
    let file = file.to_str().expect("a text");
    // A shell would interpret a file that is not a program.
    for (command, reason) in [
        (
            "/nonexistent/program",
            "fork/exec /nonexistent/program: no such file or directory",
        ),
        (file, &format!("fork/exec {file}: exec format error")),
        (
            "/nonexistent/bootstrap",
            "Couldn't find valid bootstrap(s): [/nonexistent/bootstrap]",
        ),
        (
            "nonexistent",
            "fork/exec nonexistent: no such file or directory",
        ),
    ] {
        let instance = Instance::with("", json!({ "command": [command] }));
        instance.becomes("ready");
        for (nth, id) in ["r1", "r2"].into_iter().enumerate() {
            let answer = joined(instance.lease(id, "{}"));
            assert_eq!(answer.header("pilotlight-outcome"), "function-error");
            let message = format!("RequestId: {id} Error: {reason}");
            let body = json!({ "errorType": "Runtime.InvalidEntrypoint", "errorMessage": message });
            assert_eq!(answer.json(), body);
            let report = instance.logged(&format!("REPORT RequestId: {id}"), 1);
            assert!(report.ends_with("Status: error\tError Type: Runtime.InvalidEntrypoint"));
            let init = instance.logged("INIT_REPORT Init Duration: ", nth + 1);
            assert!(
                init.ends_with("Phase: init\tStatus: error\tError Type: Runtime.InvalidEntrypoint")
            );
        }
    }
}

#[test]
fn the_first_existing_bootstrap_is_executed_without_a_shell() {
    let folder = tempfile::tempdir().expect("a directory");
    let bootstrap = folder.path().join("bootstrap");
    fs::write(
        &bootstrap,
        "#!/bin/bash\necho API=$AWS_LAMBDA_RUNTIME_API $0\nsleep 600\n",
    )
    .expect("written");
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&bootstrap, executable).expect("changed");
    let command = json!([
        "/bin/sh",
        "-c",
        "exit 1",
        "bootstrap",
        "/nonexistent/bootstrap",
        bootstrap
    ]);
    let instance = Instance::with("", json!({ "command": command }));
    let line = instance.logged("API=", 1);
    assert!(line.contains(bootstrap.to_str().expect("a text")), "{line}");
}

#[test]
fn a_timeout_also_kills_processes_that_have_left_the_process_group() {
    let script = "setsid sleep 600 & echo PID=$!; exec sleep 600";
    let (instance, _, waiting) = ready_with(script, json!({ "timeout": 1 }));
    let line = instance.logged("PID=", 1);
    let lease = instance.lease("r1", "{}");
    joined(waiting);
    let answer = joined(lease).json();
    assert_eq!(answer["errorType"], "Sandbox.Timedout");
    assert_eq!(
        answer["errorMessage"],
        "RequestId: r1 Error: Task timed out after 1.00 seconds"
    );
    until("the daemon has ended", || {
        (!is_alive(after(&line, "PID="))).then_some(())
    });
    instance.logged("INIT_START", 2);
}

#[test]
fn output_is_logged_under_its_invocation_including_an_unfinished_last_line() {
    let directory = tempfile::tempdir().expect("a directory");
    let (asked, printed) = (
        directory.path().join("asked"),
        directory.path().join("printed"),
    );
    let script = format!(
        "mkfifo {asked}; while read -r line <{asked}; do printf %s \"$line\"; : >{printed}; done",
        asked = asked.display(),
        printed = printed.display(),
    );
    let (instance, api, waiting) = ready_with(&script, json!({}));
    let lease = instance.lease("r1", "{}");
    joined(waiting);
    // A write before that would create a regular file, which the script would read again and again.
    until("the script has created its pipe", || {
        asked.exists().then_some(())
    });
    fs::write(&asked, "unended\n").expect("the script reads");
    until("it is printed", || printed.exists().then_some(()));
    post(&api, "/invocation/r1/response", &[], "1");
    let _next = next(&api);
    let answer = joined(lease);
    assert!(
        instance
            .logged("unended", 1)
            .ends_with(" stdout r1 unended")
    );
    assert!(!answer.header("pilotlight-log-tail").is_empty());
}

#[test]
fn a_drained_instance_finishes_its_invocation_refuses_others_and_ends() {
    let (mut instance, api, waiting) = ready();
    let lease = instance.lease("r1", "{}");
    joined(waiting);
    instance.drain();
    let refused = joined(instance.lease("r2", "{}"));
    assert!(
        refused
            .header("pilotlight-refusal")
            .starts_with("draining, not started")
    );
    post(&api, "/invocation/r1/response", &[], "1");
    let _next = next(&api);
    assert_eq!(joined(lease).body, b"1");
    assert!(instance.ended().success());
    instance.logged("REPORT RequestId: r1", 1);
}

#[test]
fn sigterm_drains_the_instance() {
    let (mut instance, _, _waiting) = ready();
    kill_with(&instance.pid().to_string(), "TERM");
    assert!(instance.ended().success());
}

#[test]
fn a_lease_at_the_end_is_refused_as_never_started() {
    let (mut instance, _, _waiting) = ready();
    let lease = instance.connection();
    let mut status = BufReader::new(instance.connection());
    let request = "GET /status HTTP/1.1\r\nHost: instance\r\n\r\n";
    status.get_mut().write_all(request.as_bytes()).unwrap();
    // The supervisor has accepted both connections before it ends.
    assert!(answered(&lease, "GET", "/", "").starts_with("HTTP/1.1 404"));
    kill_with(&instance.pid().to_string(), "TERM");
    let mut changes = status.lines().map_while(Result::ok);
    assert!(changes.any(|line| line.ends_with("draining")));
    assert!(changes.any(|line| line == "0"), "the status stream ends");

    let headers = "pilotlight-request-id: r1\r\nlambda-runtime-invoked-function-arn: tested\r\n";
    let refused = answered(&lease, "POST", "/lease", headers);
    assert!(
        refused.contains("pilotlight-refusal: draining, not started"),
        "{refused}"
    );
    drop((lease, changes));
    assert!(instance.ended().success());
}

/// The head of the response on a connection.
fn answered(mut connection: &TcpStream, method: &str, path: &str, headers: &str) -> String {
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: instance\r\n{headers}Content-Length: 0\r\n\r\n");
    connection
        .write_all(request.as_bytes())
        .expect("it is open");
    let mut answer = vec![0; 4096];
    let read = connection.read(&mut answer).expect("an answer");
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

#[test]
fn no_process_outlives_a_supervisor_that_lost_its_parent_or_was_killed() {
    for lose in [Instance::leave, Instance::kill] {
        let mut instance = Instance::with("echo PID=$$; exec sleep 600", json!({}));
        let line = instance.logged("PID=", 1);
        lose(&mut instance);
        instance.ended();
        until("the runtime process has ended", || {
            (!is_alive(after(&line, "PID="))).then_some(())
        });
    }
}

#[test]
fn an_idle_instance_uses_no_processor_time() {
    let (instance, _, _waiting) = ready();
    // The alarms of its start expire first; the init limit's is the last.
    until("it does not run for 500 ms", || {
        let before = instance.switches();
        std::thread::sleep(Duration::from_millis(500));
        (before == instance.switches()).then_some(())
    });
}

#[test]
fn variables_from_secrets_reach_the_runtime_process_and_override_no_reserved_name() {
    let given = [
        ("PILOTLIGHT_ENV_LOGIN", "let me in"),
        ("PILOTLIGHT_ENV_PATH", "/nowhere"),
        ("PILOTLIGHT_ENV_AWS_LAMBDA_RUNTIME_API", "127.0.0.1:1"),
        ("UNRELATED", "1"),
    ];
    let script = "echo SEEN=$LOGIN,$PATH,$UNRELATED,$PILOTLIGHT_ENV_LOGIN.; exec sleep 600";
    let instance = Instance::with_variables(&given, script, json!({}));
    assert!(!instance.api(1).contains("127.0.0.1:1/"));
    let seen = instance.logged("SEEN=", 1);
    assert!(seen.ends_with("SEEN=let me in,/usr/bin:/bin,,."), "{seen}");
}

#[test]
fn a_report_in_json_format_is_json() {
    let (instance, api, waiting) = ready_with("exec sleep 600", json!({ "logFormat": "JSON" }));
    let lease = instance.lease("r1", "{}");
    joined(waiting);
    post(&api, "/invocation/r1/response", &[], "1");
    let _next = next(&api);
    joined(lease);
    let line = instance.logged("platform.report", 1);
    let report: Value = serde_json::from_str(&line[line.find('{').expect("JSON")..]).expect("JSON");
    assert_eq!(report["record"]["status"], "success");
    assert_eq!(report["record"]["metrics"]["memorySizeMB"], 128);
}

fn kill(pid: &str) {
    kill_with(pid, "KILL");
}

fn kill_with(pid: &str, signal: &str) {
    let sent = std::process::Command::new("kill")
        .args(["-s", signal, pid])
        .status();
    assert!(sent.expect("kill runs").success());
}
