//! Processes of a function that stand still between events, as the kernel shows them.

mod instance;

use std::fs;

use serde_json::json;

use instance::{Instance, after, next, post, until};

/// Prints the ids of two processes: the runtime process, and one that has left its process group. The first one
/// prints a line when it gets SIGTERM.
const SCRIPT: &str = "setsid sleep 600 & echo OTHER=$!; echo OWN=$$
    trap 'echo said goodbye; kill $other; exit 0' TERM
    other=$!; while :; do sleep 600 & wait $!; done";

/// The letter of the process's state; `T` is stopped.
fn state(pid: &str) -> char {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let (_, rest) = stat.rsplit_once(") ").expect("the name ends");
    rest.chars().next().expect("a state")
}

struct Function {
    instance: Instance,
    pids: [String; 2],
}

impl Function {
    fn start(between_events: &str) -> Self {
        let instance = Instance::with(SCRIPT, json!({ "betweenEvents": between_events }));
        let pids = ["OWN=", "OTHER="].map(|name| {
            let line = instance.logged(name, 1);
            after(&line, name).to_owned()
        });
        Function { instance, pids }
    }

    fn becomes(&self, what: &str, is_stopped: bool) {
        until(what, || {
            let mut states = self.pids.iter().map(|pid| state(pid) == 'T');
            states.all(|stopped| stopped == is_stopped).then_some(())
        });
    }
}

#[test]
fn all_processes_of_a_function_stand_still_between_events() {
    let function = Function::start("Freeze");
    let api = function.instance.api(1);
    let mut waiting = next(&api);
    for id in ["r1", "r2"] {
        function.becomes("frozen", true);
        let lease = function.instance.lease(id, "1");
        waiting.join().expect("an event");
        function.becomes("thawed", false);
        let answered = post(&api, &format!("/invocation/{id}/response"), &[], "2");
        assert_eq!(answered.status, 202);
        // The answer brings the log of the whole invocation, which ends with this request.
        waiting = next(&api);
        assert_eq!(lease.join().expect("an answer").body, b"2");
    }
    function.becomes("frozen", true);
}

#[test]
fn a_function_that_stands_still_is_told_that_it_ends() {
    let mut function = Function::start("Freeze");
    let _waiting = next(&function.instance.api(1));
    function.becomes("frozen", true);
    function.instance.drain();
    function.instance.logged("said goodbye", 1);
    assert!(function.instance.ended().success());
}

#[test]
fn a_function_works_on_between_events_unless_it_says_otherwise() {
    let function = Function::start("Run");
    let api = function.instance.api(1);
    let waiting = next(&api);
    function.instance.becomes("ready");
    let lease = function.instance.lease("r1", "1");
    waiting.join().expect("an event");
    post(&api, "/invocation/r1/response", &[], "2");
    let _waiting = next(&api);
    lease.join().expect("an answer");
    // The invocation is over, so a process that had to stand still would.
    function.instance.logged("REPORT RequestId: r1", 1);
    let states = function.pids.each_ref().map(|pid| state(pid));
    assert!(!states.contains(&'T'), "{states:?}");
}
