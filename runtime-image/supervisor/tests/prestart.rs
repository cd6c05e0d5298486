//! Prestarted runtime processes, which wait in an unclaimed instance.
//!
//! The process is a script that reads its `Begin` and takes over the function, as a runtime does. For Python,
//! tests/conformance/test_prestart.py compares such a process with a fresh one.

mod instance;

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use instance::{Instance, after, claim, config, is_alive, next, post, until};

/// Waits, then prints its `Begin` and sleeps as the runtime process.
const WAITS: &str = "echo WAITS=$$; : >printed; begin=$(cat); test -n \"$begin\" || exit 0; \
                     echo API=$AWS_LAMBDA_RUNTIME_API; printf 'BEGUN=%s\\n' \"$begin\"; \
                     exec sleep 600";
const FRESH: &str = "echo FRESH=$$; exec sleep 600";

/// An unclaimed instance with this script as its prestarted process.
fn waiting(root: &Path, script: &str) -> Instance {
    let prestart = json!({
        "command": ["/bin/sh", "-c", script],
        "taskRoot": root,
        "environment": { "LANG": "C", "PATH": "/usr/bin:/bin", "TZ": ":UTC" },
        "reads": ["LANG", "PYTHON*"],
    });
    Instance::unclaimed_with(root, json!({ "prestart": prestart }))
}

/// The function's configuration. A fresh process for it prints that it is one.
fn function(variables: Value) -> Value {
    let mut environment = json!({ "LANG": "C", "PATH": "/usr/bin:/bin" });
    let more = variables.as_object().expect("variables").clone();
    environment.as_object_mut().expect("variables").extend(more);
    config(FRESH, json!({ "environment": environment }))
}

fn claimed(instance: &Instance, config: &Value) {
    let answer = claim(instance, "i1", config, b"");
    assert_eq!(answer.status, 200, "{answer:?}");
}

fn children(instance: &Instance) -> Vec<String> {
    let pid = instance.pid();
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let list = list.expect("it runs");
    list.split_whitespace().map(str::to_owned).collect()
}

/// The process id of the prestarted process.
fn waiter(instance: &Instance) -> String {
    until("a process waits", || {
        children(instance).into_iter().find(|pid| is_alive(pid))
    })
}

fn wait_until_gone(pid: &str) {
    until("it has ended", || (!is_alive(pid)).then_some(()));
}

#[test]
fn a_prestarted_process_receives_the_whole_function_and_takes_it_over() {
    let root = tempfile::tempdir().expect("a directory");
    let instance = waiting(root.path(), WAITS);
    let pid = waiter(&instance);
    // The process may exist without having printed yet. A line after the claim would belong to the function.
    let printed = root.path().join("printed");
    until("it has printed", || printed.exists().then_some(()));
    let config = function(json!({ "TABLE": "orders", "A\"": "1\n2" }));
    claimed(&instance, &config);

    let line = instance.logged("BEGUN=", 1);
    let begin: Value = serde_json::from_str(after(&line, "BEGUN=")).expect("JSON");
    assert_eq!(begin["command"], config["command"]);
    assert_eq!(begin["taskRoot"], config["taskRoot"]);
    let api = instance.api(1);
    let address = after(&api, "http://").trim_end_matches("/2018-06-01");
    let environment = json!([
        ["A\"", "1\n2"],
        ["AWS_LAMBDA_RUNTIME_API", address],
        ["LANG", "C"],
        ["PATH", "/usr/bin:/bin"],
        ["TABLE", "orders"],
        ["_LAMBDA_TELEMETRY_LOG_FD", "90"],
    ]);
    assert_eq!(begin["environment"], environment, "in order");

    let event = next(&api);
    instance.becomes("ready");
    let lease = instance.lease("r1", "1");
    assert_eq!(event.join().expect("an event").body, b"1");
    post(&api, "/invocation/r1/response", &[], "2");
    let _next = next(&api);
    assert_eq!(lease.join().expect("an answer").body, b"2");
    assert_eq!(children(&instance), [pid]);
    let early = instance.logged("WAITS=", 1);
    assert!(early.contains(" platform - before the claim"), "{early}");
}

#[test]
fn a_function_with_other_values_of_variables_read_at_start_gets_a_fresh_process() {
    for (name, value) in [("LANG", "de_DE"), ("PYTHONHASHSEED", "1")] {
        let root = tempfile::tempdir().expect("a directory");
        let instance = waiting(root.path(), WAITS);
        let pid = waiter(&instance);
        claimed(&instance, &function(json!({ name: value })));
        instance.logged("FRESH=", 1);
        let why = format!("is not used: it was started with another {name}");
        instance.logged(&why, 1);
        wait_until_gone(&pid);
        let _next = next(&instance.api(1));
        instance.becomes("ready");
    }
}

#[test]
fn a_prestarted_process_that_cannot_take_over_is_replaced_by_a_fresh_one() {
    let large = json!({ "LARGE": "x".repeat(70_000) });
    let none = json!({});
    let ends = "echo cannot go on >&2; exit 3";
    for (script, variables) in [(WAITS, &large), (ends, &none)] {
        let root = tempfile::tempdir().expect("a directory");
        let instance = waiting(root.path(), script);
        if script == ends {
            until("it is reaped", || {
                children(&instance).is_empty().then_some(())
            });
            instance.logged(
                "platform - before the claim the runtime process printed: cannot",
                1,
            );
        }
        claimed(&instance, &function(variables.clone()));
        instance.logged("FRESH=", 1);
        until("one process is left", || {
            (children(&instance).len() == 1).then_some(())
        });
    }
    let root = tempfile::tempdir().expect("a directory");
    let prestart = json!({
        "command": ["/nonexistent"], "taskRoot": "/", "environment": {}, "reads": [],
    });
    let instance = Instance::unclaimed_with(root.path(), json!({ "prestart": prestart }));
    instance.logged(
        "the runtime process cannot be started before the claim: fork/exec /nonexistent: no such file",
        1,
    );
    claimed(&instance, &function(none));
    instance.logged("FRESH=", 1);
}

#[test]
fn the_process_after_a_prestarted_one_is_fresh() {
    let root = tempfile::tempdir().expect("a directory");
    let instance = waiting(root.path(), WAITS);
    let pid = waiter(&instance);
    claimed(&instance, &function(json!({})));
    let event = next(&instance.api(1));
    instance.becomes("ready");
    let lease = instance.lease("r1", "1");
    event.join().expect("an event");
    kill(&pid);
    assert_eq!(
        lease.join().expect("an answer").json()["errorType"],
        "Runtime.ExitError"
    );
    instance.logged("FRESH=", 1);
    let _next = next(&instance.api(1));
    instance.becomes("ready");
}

#[test]
fn no_prestarted_process_is_left_when_the_instance_ends_unclaimed() {
    type End = fn(&mut Instance);
    let ends: [End; 3] = [Instance::leave, Instance::kill, |instance| instance.drain()];
    for end in ends {
        let root = tempfile::tempdir().expect("a directory");
        let script = format!("setsid sleep 600 & {WAITS}");
        let mut instance = waiting(root.path(), &script);
        let pid = waiter(&instance);
        end(&mut instance);
        instance.ended();
        wait_until_gone(&pid);
    }
}

#[test]
fn an_unclaimed_instance_uses_no_processor_time() {
    let root = tempfile::tempdir().expect("a directory");
    let instance = waiting(root.path(), WAITS);
    waiter(&instance);
    until("it does not run for 500 ms", || {
        let before = instance.switches();
        std::thread::sleep(Duration::from_millis(500));
        (before == instance.switches()).then_some(())
    });
}

fn kill(pid: &str) {
    let mut kill = std::process::Command::new("kill");
    let status = kill.args(["-s", "KILL", pid]).status();
    assert!(status.expect("kill runs").success());
}
