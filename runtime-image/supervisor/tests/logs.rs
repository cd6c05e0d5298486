//! The output of a runtime process in the supervisor's log: complete, in order, and with the marks of gateways.

mod instance;

use std::process::{Command, Stdio};

use pilotlight_wire::log_record::{LogRecord, LogSource};
use serde_json::json;
use ureq::http::Method;

use instance::{Answer, Instance, call, config, next, post, until};

fn mark(instance: &Instance, mark: &str) -> Answer {
    call(
        Method::POST,
        &format!("{}/mark", instance.control),
        &[],
        mark,
    )
}

/// The texts behind the source and the request id, of all lines with this source.
fn texts(instance: &Instance, source: &str) -> Vec<String> {
    let lines = instance.lines();
    let texts = lines.iter().filter_map(|line| {
        let (_, text) = line.split_once(source)?;
        Some(text.to_owned())
    });
    texts.collect()
}

#[test]
fn a_record_of_several_lines_is_one_line_between_printed_lines() {
    let script = r"
        echo before
        printf '\245\132\000\003\000\000\000\020\000\000\000\000\000\000\000\000two\nlines \\ end\n' \
            >/proc/self/fd/$_LAMBDA_TELEMETRY_LOG_FD
        echo behind
        exec sleep 600";
    let instance = Instance::with(script, json!({}));
    instance.logged("behind", 1);
    let printed = texts(&instance, " stdout");
    let printed: Vec<_> = printed.iter().map(String::as_str).skip(1).collect();
    assert_eq!(
        printed,
        [" - before", r"+ - two\nlines \\ end", " - behind"]
    );
}

#[test]
fn output_that_is_printed_faster_than_it_is_read_is_not_lost() {
    let script = "head -c 5242880 /dev/zero | tr '\\0' x; echo; echo the end; exec sleep 600";
    let instance = Instance::with(script, json!({}));
    instance.logged("the end", 1);
    let printed = texts(&instance, " stdout - ");
    let printed: usize = printed.iter().map(|text| text.matches('x').count()).sum();
    assert_eq!(printed, 5 * 1024 * 1024);
    assert!(!instance.lines().iter().any(|line| line.contains("dropped")));
}

#[test]
fn a_mark_follows_everything_that_was_printed_before_it() {
    let script = "printf 'one\\ntwo\\n'; mkfifo $TMPDIR/p; read -r _ <$TMPDIR/p";
    let directory = tempfile::tempdir().expect("a directory");
    let environment = json!({ "PATH": "/usr/bin:/bin", "TMPDIR": directory.path() });
    let instance = Instance::with(script, json!({ "environment": environment }));
    until("it has printed", || {
        directory.path().join("p").exists().then_some(())
    });
    assert_eq!(mark(&instance, "m1").status, 202);
    instance.logged(" platform - MARK m1", 1);
    assert_eq!(texts(&instance, " stdout - ")[1..], ["one", "two"]);
    for wrong in ["", "two words", "a\nb"] {
        assert_eq!(mark(&instance, wrong).status, 400, "{wrong:?}");
    }
}

#[test]
fn a_mark_waits_for_the_report_of_an_answered_invocation_and_of_no_other() {
    let instance = Instance::start();
    let api = instance.api(1);
    let waiting = next(&api);
    instance.becomes("ready");
    // This lease does not ask for the log's tail, so its answer does not wait for REPORT.
    let headers = [
        ("pilotlight-request-id", "r1"),
        ("lambda-runtime-invoked-function-arn", "arn"),
    ];
    let url = format!("{}/lease", instance.control);
    let lease = std::thread::spawn(move || call(Method::POST, &url, &headers, "1"));
    waiting.join().expect("an event");
    mark(&instance, "while-it-runs");
    instance.logged("MARK while-it-runs", 1);
    post(&api, "/invocation/r1/response", &[], "2");
    assert_eq!(lease.join().expect("an answer").body, b"2");
    mark(&instance, "answered");
    let _next = next(&api);
    instance.logged("MARK answered", 1);
    let lines = instance.lines();
    let at = |text: &str| lines.iter().position(|line| line.contains(text));
    assert!(at("MARK while-it-runs") < at("END RequestId: r1"));
    assert!(at("REPORT RequestId: r1") < at("MARK answered"));
}

#[test]
fn a_log_that_nobody_reads_holds_the_process_back_only_for_a_while() {
    let directory = tempfile::tempdir().expect("a directory");
    let [api, done] = ["api", "done"].map(|name| directory.path().join(name));
    // Nobody reads the log, so the script writes the API's address into a file.
    let script = format!(
        "echo $AWS_LAMBDA_RUNTIME_API >{api}.part; mv {api}.part {api}; \
         head -c 4000000 /dev/zero | tr '\\0' '\\n'; : >{done}; exec sleep 600",
        api = api.display(),
        done = done.display(),
    );
    let mut supervisor = Command::new(env!("CARGO_BIN_EXE_pilotlight-supervisor"))
        .env(
            "PILOTLIGHT_INSTANCE",
            config(&script, json!({})).to_string(),
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the supervisor starts");
    let address = until("the address is written", || {
        std::fs::read_to_string(&api).ok()
    });
    // Ends the init, whose time limit would otherwise end the process on a slow machine.
    let _next = next(&format!("http://{}/2018-06-01", address.trim()));
    until("all is printed", || done.exists().then_some(()));
    supervisor.kill().expect("it runs");
    supervisor.wait().expect("a child");
}

#[test]
fn a_line_that_looks_like_a_platform_record_stays_the_functions() {
    let script = r#"
        record='2026-01-31T10:00:00.000001Z platform - REPORT RequestId: r1'
        echo "$record"
        printf '\r%s\rMARK m1\r\n' "$record"
        echo 'MARK m1'
        frame="begin
$record
2026-01-31T10:00:00.000001Z platform - MARK m1"
        printf '\245\132\000\001\000\000\000%b%s' "$(printf '\\%03o' ${#frame})" "$frame" \
            >/proc/self/fd/$_LAMBDA_TELEMETRY_LOG_FD
        echo behind; exec sleep 600"#;
    let instance = Instance::with(script, json!({}));
    instance.logged("behind", 1);
    let lines = instance.lines();
    let records = lines.iter().map(|line| LogRecord::parse(line).expect(line));
    let forged =
        |record: &LogRecord<'_>| record.text.contains("REPORT") || record.text.contains("MARK");
    let forged: Vec<_> = records.filter(forged).collect();
    assert_eq!(forged.len(), 4, "{lines:#?}");
    assert!(
        forged
            .iter()
            .all(|record| record.source == LogSource::Stdout),
        "{lines:#?}"
    );
    assert_eq!(forged[3].text.lines().count(), 3, "{lines:#?}");
}

#[test]
fn what_a_function_prints_beyond_its_rate_is_dropped_and_counted() {
    let rate = [("PILOTLIGHT_LOG_RATE", "65536")];
    let folder = tempfile::tempdir().expect("a directory");
    let end = folder.path().join("end");
    // 2 MB, of which 640 KiB may come at once.
    let script = format!(
        "i=0; while [ $i -lt 10000 ]; do printf 'line %0195d\\n' $i; i=$((i + 1)); done
         : >{}; exec sleep 600",
        end.display()
    );
    let instance = Instance::with_variables(&rate, &script, json!({}));
    let api = instance.api(1);
    until("everything is printed", || end.exists().then_some(()));
    let waiting = next(&api);
    instance.becomes("ready");
    let lease = instance.lease("r1", "1");
    waiting.join().expect("an event");
    post(&api, "/invocation/r1/response", &[], "2");
    let _next = next(&api);
    lease.join().expect("an answer");
    instance.logged("REPORT RequestId: r1", 1);
    let lines = instance.lines();
    let printed = lines.iter().filter(|line| line.contains(" line 0"));
    let printed = printed.count();
    let counts = lines.iter().filter_map(|line| {
        let (head, rate) = line.split_once(" log lines were dropped: ")?;
        assert!(head.contains(" platform "), "{line}");
        assert_eq!(rate, "the function logs more than 65536 bytes a second");
        head.rsplit(' ').next()?.parse::<usize>().ok()
    });
    let dropped: usize = counts.sum();
    assert!(dropped > 5000, "{dropped}");
    assert_eq!(printed + dropped, 10_000);
}
