//! Whole runs of the program, with the real journal and the real handler. In some of them the journal
//! disappears.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pilotlight-load");
/// Only a broken load takes this long.
const LIMIT: Duration = Duration::from_secs(300);

/// A process of the test, and what it prints first.
struct Process {
    child: Child,
    first_line: String,
}

impl Process {
    fn start(command: &mut Command) -> Self {
        // Its standard error only has messages about connections that the test has cut.
        let piped = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = piped.spawn().expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let first_line = lines.next().expect("a line").expect("text");
        Process { child, first_line }
    }

    fn journal(folder: &Path) -> Self {
        let file = folder.join("handlers.jsonl");
        Process::start(
            Command::new(PROGRAM)
                .args(["journal", "127.0.0.1:0"])
                .arg(file),
        )
    }

    /// Handlers behind HTTP. They use `journal` instead of the journal in their events.
    fn functions(journal: Option<&str>) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/function_server.py");
        Process::start(Command::new("python3").arg(script).args(journal))
    }

    fn address(&self) -> String {
        let last = self.first_line.split(' ').next_back().expect("a word");
        match last.contains(':') {
            true => last.to_owned(),
            false => format!("127.0.0.1:{last}"),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Load {
    child: Child,
    input: Option<ChildStdin>,
    records: std::path::PathBuf,
}

impl Load {
    fn start(folder: &Path, endpoint: &str, journal: &str, loads: &[&str]) -> Self {
        let records = folder.join("load.jsonl");
        let mut command = Command::new(PROGRAM);
        command.args(["load", endpoint, "--name=a", "--journal", journal]);
        command.arg("--output").arg(&records);
        // `event LOAD` is one of asynchronous calls.
        command.args(loads.iter().map(|load| match load.strip_prefix("event ") {
            Some(load) => format!("--event=e={load}"),
            None => format!("--function=f={load}"),
        }));
        let mut child = command
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        Load {
            input: child.stdin.take(),
            child,
            records,
        }
    }

    fn count(&self, words: &str) -> usize {
        let text = std::fs::read_to_string(&self.records).unwrap_or_default();
        text.lines().filter(|line| line.contains(words)).count()
    }

    fn await_successes(&mut self, number: usize) {
        await_condition("the successes", || {
            if let Some(status) = self.child.try_wait().expect("a child") {
                panic!("the load has ended: {status}");
            }
            self.count(r#""outcome":"success""#) >= number
        });
    }

    /// Waits for the end. Returns the exit code and the standard error.
    fn end(mut self) -> (Option<i32>, String) {
        let mut status = None;
        await_condition("the end of the load", || {
            status = self.child.try_wait().expect("a child");
            status.is_some()
        });
        let mut words = String::new();
        let mut errors = self.child.stderr.take().expect("it is piped");
        errors.read_to_string(&mut words).expect("text");
        (status.and_then(|status| status.code()), words)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn await_condition(what: &str, mut is_true: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_true() {
        assert!(begin.elapsed() < LIMIT, "{what} did not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether somebody's connection to this address of 127.0.0.1 is established.
fn is_connected_to(address: &str) -> bool {
    let port: u16 = address
        .rsplit_once(':')
        .expect("a port")
        .1
        .parse()
        .expect("a port");
    let (remote, established) = (format!(":{port:04X}"), "01");
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel's connections");
    table.lines().any(|line| {
        let columns: Vec<_> = line.split_whitespace().collect();
        columns[2].ends_with(&remote) && columns[3] == established
    })
}

fn check(folder: &Path) -> (Option<i32>, String) {
    let done = Command::new(PROGRAM).arg("check").arg(folder).output();
    let done = done.expect("it starts");
    let words = [done.stdout, done.stderr].concat();
    (done.status.code(), String::from_utf8(words).expect("text"))
}

/// The load must have ended by itself with the reason, and `check` must refuse its records.
fn assert_aborted(load: Load, folder: &Path, journal: &str, reason: &str) {
    let records = load.records.clone();
    let (code, words) = load.end();
    assert_eq!(code, Some(3), "{words}");
    let message = format!("the journal at {journal} does not answer: {reason}");
    assert!(words.contains(&message), "{words}");
    let text = std::fs::read_to_string(records).expect("records");
    let last = text.lines().next_back().expect("a record");
    assert!(last.contains(r#""record":"aborted""#), "{last}");
    let (code, words) = check(folder);
    assert_eq!(code, Some(3), "{words}");
    assert!(words.contains(&message), "{words}");
}

#[test]
fn a_run_with_all_kinds_of_arrivals_breaks_no_rule() {
    let folder = tempfile::tempdir().expect("a folder");
    let (journal, functions) = (Process::journal(folder.path()), Process::functions(None));
    let loads = ["40", "4x0.1", "steady:40", "closed:2"];
    let address = journal.address();
    let mut load = Load::start(folder.path(), &functions.address(), &address, &loads);
    load.await_successes(200);
    drop(load.input.take());
    let (code, words) = load.end();
    assert_eq!(code, Some(0), "{words}");
    let (code, words) = check(folder.path());
    assert_eq!(code, Some(0), "{words}");
}

#[test]
fn events_are_accounted_for_beside_calls() {
    let folder = tempfile::tempdir().expect("a folder");
    let (journal, functions) = (Process::journal(folder.path()), Process::functions(None));
    let loads = ["40", "event steady:40"];
    let address = journal.address();
    let mut load = Load::start(folder.path(), &functions.address(), &address, &loads);
    load.await_successes(20);
    await_condition("events", || load.count(r#""record":"accepted""#) >= 20);
    drop(load.input.take());
    let (code, words) = load.end();
    assert_eq!(code, Some(0), "{words}");
    let text = std::fs::read_to_string(folder.path().join("handlers.jsonl")).expect("records");
    assert!(
        text.contains(r#""record":"attempted""#),
        "the handler has its request id"
    );
    let (code, words) = check(folder.path());
    assert_eq!(code, Some(0), "{words}");
    assert!(words.contains("0 of them redelivered"), "{words}");
}

#[test]
fn a_load_ends_when_its_journal_is_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut journal, functions) = (Process::journal(folder.path()), Process::functions(None));
    let address = journal.address();
    let mut load = Load::start(folder.path(), &functions.address(), &address, &["50"]);
    load.await_successes(20);
    journal.child.kill().expect("it is killed");
    assert_aborted(load, folder.path(), &address, "");
}

/// No call is in flight that could report the loss, so the load itself must notice it.
#[test]
fn a_load_without_calls_ends_when_its_journal_is_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut journal, functions) = (Process::journal(folder.path()), Process::functions(None));
    let address = journal.address();
    let loads = ["steady:0.0001"];
    let load = Load::start(folder.path(), &functions.address(), &address, &loads);
    await_condition("the connection to the journal", || {
        is_connected_to(&address)
    });
    journal.child.kill().expect("it is killed");
    assert_aborted(load, folder.path(), &address, "it closed the connection");
}

#[test]
fn a_load_ends_when_there_is_no_journal() {
    let folder = tempfile::tempdir().expect("a folder");
    let functions = Process::functions(None);
    // Nobody listens on a port that the kernel has just given back.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    drop(listener);
    let loads = ["steady:0.0001"];
    let load = Load::start(folder.path(), &functions.address(), &address, &loads);
    assert_aborted(load, folder.path(), &address, "Connection refused");
}

/// The load reaches its journal, and the handlers do not. Their error must end the load.
#[test]
fn a_load_ends_when_a_handler_does_not_reach_the_journal() {
    let folder = tempfile::tempdir().expect("a folder");
    let other_folder = tempfile::tempdir().expect("a folder");
    let journal = Process::journal(folder.path());
    let mut lost = Process::journal(other_folder.path());
    let functions = Process::functions(Some(&lost.address()));
    lost.child.kill().expect("it is killed");
    lost.child.wait().expect("it has ended");
    let address = journal.address();
    let load = Load::start(folder.path(), &functions.address(), &address, &["50"]);
    let reason = format!("a handler reports {}: ", lost.address());
    assert_aborted(load, folder.path(), &address, &reason);
}

/// An instance that outlives a run must not keep the journal of that run.
#[test]
fn handlers_of_a_run_write_to_the_journal_of_the_next() {
    let functions = Process::functions(None);
    for _ in 0..2 {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = Process::journal(folder.path());
        let address = journal.address();
        let mut load = Load::start(folder.path(), &functions.address(), &address, &["closed:1"]);
        load.await_successes(5);
        drop(load.input.take());
        let (code, words) = load.end();
        assert_eq!(code, Some(0), "{words}");
        let (code, words) = check(folder.path());
        assert_eq!(code, Some(0), "{words}");
    }
}
