//! A real supervisor whose runtime process is a script; the test sends the requests of the Runtime API.
//!
//! Owns the supervisor's process and its log. The script prints the API's address, and whatever else a test
//! wants. Tests observe HTTP responses, the log and the process table.

// Each test program uses only a part of it.
#![allow(dead_code)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Gid, Uid};
use serde_json::{Value, json};
use ureq::http::{HeaderMap, Method, Request, StatusCode};

/// How long a test waits for anything. Only a broken system takes so long.
const PATIENCE: Duration = Duration::from_secs(300);
/// The timeout, in seconds, of functions whose test is not about timeouts. It is longer than a test waits.
pub(crate) const TIMEOUT: u64 = 600;
const SUPERVISOR: &str = env!("CARGO_BIN_EXE_pilotlight-supervisor");
/// A user and a group that own nothing.
const NOBODY: u32 = 65534;
const SLEEP: &str = "exec sleep 600";

pub(crate) struct Instance {
    child: Child,
    lifeline: Option<ChildStdin>,
    /// It does not end with its parent.
    is_in_pod: bool,
    log: Arc<Log>,
    pub(crate) control: String,
}

#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    grown: Condvar,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().expect("ASCII"))
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }
}

impl Instance {
    /// Its runtime process prints the API's address and sleeps.
    pub(crate) fn start() -> Self {
        Self::with(SLEEP, json!({}))
    }

    /// `script`: runs in the runtime process after the API's address is printed; `changes`: to the configuration.
    pub(crate) fn with(script: &str, changes: Value) -> Self {
        Self::with_variables(&[], script, changes)
    }

    /// Starts the supervisor with additional environment variables.
    pub(crate) fn with_variables(variables: &[(&str, &str)], script: &str, changes: Value) -> Self {
        let config = config(script, changes).to_string();
        Self::spawn(|command| {
            command.env("PILOTLIGHT_INSTANCE", config);
            command.envs(variables.iter().copied());
        })
    }

    /// Starts the supervisor as in a pod. `entrance`: the `cgroup.procs` of the container's control group.
    pub(crate) fn in_pod(entrance: &Path, script: &str, changes: Value) -> Self {
        let config = changed(config(script, changes), json!({ "endsWithParent": false }));
        let mut instance = Self::spawn(|command| {
            *command = Command::new("/bin/sh");
            command.args(["-c", "echo $$ >$1 && exec $2", "sh"]);
            command.arg(entrance).arg(SUPERVISOR);
            command.env("PILOTLIGHT_INSTANCE", config.to_string());
        });
        instance.is_in_pod = true;
        instance
    }

    /// Starts the supervisor as a user without rights, since no wall stops root. `home`: a directory for a copy of
    /// the program, which that user may execute. It inherits a descriptor that is none of its own.
    pub(crate) fn unprivileged(home: &Path, script: &str, changes: Value) -> Self {
        let config = config(script, changes).to_string();
        let program = home.join("supervisor");
        // Another process writes the copy. Did this one, then a process that another test starts meanwhile could
        // inherit the descriptor for writing, and the kernel executes no file that is open for writing.
        let copied = Command::new("cp").arg(SUPERVISOR).arg(&program).status();
        assert!(copied.expect("cp runs").success());
        let everybody = fs::Permissions::from_mode(0o755);
        fs::set_permissions(home, everybody).expect("it is this user's");
        Self::spawn(|command| {
            *command = Command::new("/bin/sh");
            command
                .args(["-c", "exec \"$0\" 7</dev/null"])
                .arg(&program);
            command.env("PILOTLIGHT_INSTANCE", config);
            command.env("PILOTLIGHT_ENV_SECRET", "hunter2");
            if rustix::process::geteuid().is_root() {
                command.uid(NOBODY).gid(NOBODY);
            }
        })
    }

    /// Starts an unclaimed supervisor, which unpacks a claim's code below `root`.
    pub(crate) fn unclaimed(root: &Path) -> Self {
        Self::unclaimed_with(root, json!({}))
    }

    /// With additional environment variables.
    pub(crate) fn unclaimed_and(root: &Path, variables: &[(&str, &str)]) -> Self {
        let unclaimed = json!({ "listen": "127.0.0.1:0", "endsWithParent": true, "root": root });
        Self::spawn(|command| {
            command.env("PILOTLIGHT_UNCLAIMED", unclaimed.to_string());
            command.envs(variables.iter().copied());
        })
    }

    /// `changes`: to its configuration as an unclaimed supervisor.
    pub(crate) fn unclaimed_with(root: &Path, changes: Value) -> Self {
        let unclaimed = json!({ "listen": "127.0.0.1:0", "endsWithParent": true, "root": root });
        let unclaimed = changed(unclaimed, changes);
        Self::spawn(|command| {
            command.env("PILOTLIGHT_UNCLAIMED", unclaimed.to_string());
        })
    }

    /// With additional environment variables.
    pub(crate) fn unclaimed_with_variables(variables: &[(&str, &str)], root: &Path) -> Self {
        let unclaimed = json!({ "listen": "127.0.0.1:0", "endsWithParent": true, "root": root });
        Self::spawn(|command| {
            command.env("PILOTLIGHT_UNCLAIMED", unclaimed.to_string());
            command.envs(variables.iter().copied());
        })
    }

    /// A supervisor that was made as the instance `name`, and waits for its code.
    pub(crate) fn without_code(root: &Path, name: &str, config: &Value) -> Self {
        Self::made_for(root, name, config, json!({}))
    }

    /// The same with changes to its configuration as an unclaimed supervisor.
    pub(crate) fn made_for(root: &Path, name: &str, config: &Value, changes: Value) -> Self {
        let unclaimed = json!({
            "listen": "127.0.0.1:0", "endsWithParent": true, "root": root, "instance": name,
        });
        let unclaimed = changed(unclaimed, changes);
        Self::spawn(|command| {
            command.env("PILOTLIGHT_UNCLAIMED", unclaimed.to_string());
            command.env("PILOTLIGHT_INSTANCE", config.to_string());
        })
    }

    fn spawn(prepare: impl FnOnce(&mut Command)) -> Self {
        let mut command = Command::new(SUPERVISOR);
        prepare(&mut command);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the supervisor starts");
        let log = Arc::new(Log::default());
        let stdout = child.stdout.take().expect("a pipe");
        if rustix::process::geteuid().is_root() {
            // As container runtimes do for a user without rights.
            let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
            rustix::fs::fchown(&stdout, Some(uid), Some(gid)).expect("root may");
        }
        thread::spawn({
            let log = log.clone();
            move || log.fill(BufReader::new(stdout))
        });
        let lifeline = child.stdin.take();
        let mut instance = Instance {
            child,
            lifeline,
            is_in_pod: false,
            log,
            control: String::new(),
        };
        let listening = instance.logged("LISTENING ", 1);
        instance.control = format!("http://{}", after(&listening, "LISTENING "));
        instance
    }

    /// The Runtime API of the `nth` runtime process, from 1.
    pub(crate) fn api(&self, nth: usize) -> String {
        let line = self.logged("API=", nth);
        format!("http://{}/2018-06-01", after(&line, "API="))
    }

    /// Waits for the `nth` line that holds this text.
    pub(crate) fn logged(&self, text: &str, nth: usize) -> String {
        let holds = |lines: &Vec<String>| {
            lines
                .iter()
                .filter(|line| line.contains(text))
                .nth(nth - 1)
                .cloned()
        };
        let lines = self.log.lines.lock().expect("no reader panicked");
        let waited = self
            .log
            .grown
            .wait_timeout_while(lines, PATIENCE, |l| holds(l).is_none());
        let (lines, _) = waited.expect("no reader panicked");
        holds(&lines).unwrap_or_else(|| panic!("{nth} × {text:?} is not in {lines:#?}"))
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.log.lines.lock().expect("no reader panicked").clone()
    }

    /// Follows the status stream until the condition is this one, and returns that line.
    pub(crate) fn becomes(&self, condition: &str) -> String {
        let status = agent()
            .get(format!("{}/status", self.control))
            .call()
            .expect("a stream");
        let mut lines = BufReader::new(status.into_body().into_reader()).lines();
        lines
            .find_map(|line| line.ok().filter(|line| line.ends_with(condition)))
            .expect(condition)
    }

    /// Sends a gateway's lease request, whose answer the handle returns.
    pub(crate) fn lease(&self, id: &str, event: &str) -> JoinHandle<Answer> {
        self.lease_with_headers(id, event, &[])
    }

    /// With further headers.
    pub(crate) fn lease_with_headers(
        &self,
        id: &str,
        event: &str,
        more: &'static [(&'static str, &'static str)],
    ) -> JoinHandle<Answer> {
        let url = format!("{}/lease", self.control);
        let (id, event) = (id.to_owned(), event.to_owned());
        thread::spawn(move || {
            let mut headers = vec![
                ("pilotlight-request-id", id.as_str()),
                (
                    "lambda-runtime-invoked-function-arn",
                    "arn:aws:lambda:::function:tested",
                ),
                ("lambda-runtime-client-context", r#"{"custom":{}}"#),
                ("pilotlight-log-tail", "1"),
            ];
            headers.extend(more);
            call(Method::POST, &url, &headers, event)
        })
    }

    pub(crate) fn drain(&self) {
        let answer = call(Method::POST, &format!("{}/drain", self.control), &[], "");
        assert_eq!(answer.status, 202);
    }

    /// Opens a gateway's connection, for requests that an HTTP client would not send.
    pub(crate) fn connection(&self) -> TcpStream {
        let address = self.control.trim_start_matches("http://");
        let connection = TcpStream::connect(address).expect("it listens");
        connection.set_read_timeout(Some(PATIENCE)).expect("a time");
        connection
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_some()
    }

    /// How often the supervisor has given up the processor voluntarily.
    pub(crate) fn switches(&self) -> String {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.expect("it runs");
        let mut lines = status.lines();
        let line = lines.find(|line| line.starts_with("voluntary_ctxt_switches"));
        line.expect("the kernel counts").to_owned()
    }

    /// Closes the supervisor's standard input, as a parent that exits does.
    pub(crate) fn leave(&mut self) {
        self.lifeline = None;
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it runs");
    }

    pub(crate) fn ended(&mut self) -> ExitStatus {
        until("the supervisor has ended", || {
            self.child.try_wait().expect("a child")
        })
    }
}

pub(crate) fn tar(files: &[(&str, u32, &str)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, mode, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(*mode);
        archive
            .append_data(&mut header, name, text.as_bytes())
            .expect("appended");
    }
    archive.into_inner().expect("closed")
}

pub(crate) fn claim(instance: &Instance, name: &str, config: &Value, code: &[u8]) -> Answer {
    claim_with(
        instance,
        json!({ "instance": name, "config": config }),
        code,
    )
}

/// A claim with this line.
pub(crate) fn claim_with(instance: &Instance, line: Value, code: &[u8]) -> Answer {
    let mut body = line.to_string().into_bytes();
    body.push(b'\n');
    body.extend_from_slice(code);
    call(
        Method::POST,
        &format!("{}/claim", instance.control),
        &[],
        body,
    )
}

/// The configuration of a function whose runtime process prints the API's address, then runs `script`.
pub(crate) fn config(script: &str, changes: Value) -> Value {
    let script = format!("echo API=$AWS_LAMBDA_RUNTIME_API; {script}");
    let config = json!({
        "listen": "127.0.0.1:0",
        "endsWithParent": true,
        "function": "tested",
        "memory": 128,
        "timeout": TIMEOUT,
        "sanitizeErrors": false,
        "logFormat": "Text",
        "logs": true,
        "logGroup": "/aws/lambda/tested",
        "logStream": "stream",
        "runtime": "custom",
        "command": ["/bin/sh", "-c", script],
        "taskRoot": "/",
        "environment": { "PATH": "/usr/bin:/bin" },
    });
    changed(config, changes)
}

fn changed(mut value: Value, changes: Value) -> Value {
    let changes = changes.as_object().expect("changes by name").clone();
    value.as_object_mut().expect("an object").extend(changes);
    value
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.lifeline = None;
        if self.is_in_pod {
            // The kernel kills the runtime process with it.
            let _ = self.child.kill();
        }
        // Also after a test has failed, no process is left.
        let _ = self.child.wait();
    }
}

impl Log {
    fn fill(&self, lines: impl BufRead) {
        for line in lines.lines().map_while(Result::ok) {
            self.lines.lock().expect("no reader panicked").push(line);
            self.grown.notify_all();
        }
    }
}

pub(crate) fn call(
    method: Method,
    url: &str,
    headers: &[(&str, &str)],
    body: impl Into<Vec<u8>>,
) -> Answer {
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(body.into()).expect("a request");
    let (head, body) = agent().run(request).expect("an answer").into_parts();
    let body = body
        .into_with_config()
        .limit(1 << 24)
        .read_to_vec()
        .expect("a whole body");
    Answer {
        status: head.status,
        headers: head.headers,
        body,
    }
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(PATIENCE))
        .output_buffer_size(1 << 21);
    config.build().new_agent()
}

/// Sends the runtime's `next` request, whose answer the handle returns.
pub(crate) fn next(api: &str) -> JoinHandle<Answer> {
    let url = format!("{api}/runtime/invocation/next");
    thread::spawn(move || call(Method::GET, &url, &[], ""))
}

pub(crate) fn post(api: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    call(Method::POST, &format!("{api}/runtime{path}"), headers, body)
}

/// Polls a condition that no request can wait for.
pub(crate) fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit(')')
        .next()
        .and_then(|rest| rest.split_whitespace().next());
    state.is_some_and(|state| state != "Z")
}

pub(crate) fn after<'a>(line: &'a str, text: &str) -> &'a str {
    line.split_once(text).expect("the text is there").1
}
