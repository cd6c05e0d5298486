//! The memory of an instance whose container has a control group, with the kernel's own decisions.
//!
//! Each test creates a group as a container runtime does. On a machine where that is not allowed (it takes root,
//! or a delegated group) it passes without a check; unit tests cover how the supervisor reads a group's files.

mod instance;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use instance::{Instance, after, until};

/// The folder of the groups of each version, and the name of the file with a group's limit.
const PLACES: [(&str, &str); 2] = [
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
    ("/sys/fs/cgroup", "memory.max"),
];

/// A control group with a limit, like a container's. It is removed on drop.
struct Group(PathBuf);

impl Group {
    /// `None` where this machine does not allow it.
    fn with(name: &str, mib: u64) -> Option<Self> {
        let folder = format!("pilotlight-test-{}-{name}", std::process::id());
        PLACES.into_iter().find_map(|(root, limit)| {
            let folder = Path::new(root).join(&folder);
            fs::create_dir(&folder).ok()?;
            let group = Group(folder);
            fs::write(group.0.join(limit), (mib << 20).to_string()).ok()?;
            Some(group)
        })
    }

    /// Starts an instance with 128 MiB in the group. Its runtime process is this Python program.
    fn instance(&self, python: &str) -> Instance {
        let file = format!("{HELPERS}{python}");
        let script = format!("exec /usr/bin/env python3 -c '{file}'");
        Instance::in_pod(&self.0.join("cgroup.procs"), &script, json!({}))
    }

    fn kills(&self) -> u64 {
        let files = ["memory.oom_control", "memory.events"];
        let mut files = files
            .iter()
            .map(|file| fs::read_to_string(self.0.join(file)));
        let text = files.find_map(Result::ok).expect("one of them is there");
        let line = text.lines().find(|line| line.starts_with("oom_kill "));
        after(line.expect("it counts"), " ")
            .parse()
            .expect("a number")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        until("the group is empty", || fs::remove_dir(&self.0).ok());
    }
}

const HELPERS: &str = "import os, signal, sys, time
def take(mib):
    kept = bytearray(os.urandom(1024)) * (mib * 1024)
    time.sleep(600)
";

/// The error message of the next lease's answer, and the error type in its report.
fn failure(instance: &Instance) -> (String, String) {
    instance.logged("INIT_REPORT", 1);
    let answer = instance.lease("r1", "{}").join().expect("no panic").json();
    let report = instance.logged("REPORT RequestId: r1", 1);
    let message = answer["errorMessage"].as_str().expect("a text").to_owned();
    (message, after(&report, "Error Type: ").to_owned())
}

const KILLED: &str = "RequestId: r1 Error: Runtime exited with error: signal: killed";

#[test]
fn a_process_that_the_kernel_kills_for_memory_is_out_of_memory() {
    let Some(group) = Group::with("full", 100) else {
        return;
    };
    let instance = group.instance("take(300)");
    let failed = failure(&instance);
    assert_eq!(
        failed,
        (KILLED.to_owned(), "Runtime.OutOfMemory".to_owned())
    );
    let report = instance.logged("REPORT RequestId: r1", 1);
    assert!(report.contains("Max Memory Used: 128 MB"), "{report}");
    assert!(group.kills() > 0);
}

#[test]
fn a_process_that_is_killed_while_there_is_memory_is_not_out_of_memory() {
    let Some(group) = Group::with("killed", 100) else {
        return;
    };
    let instance = group.instance("os.kill(os.getpid(), signal.SIGKILL)");
    let failed = failure(&instance);
    assert_eq!(failed, (KILLED.to_owned(), "Runtime.ExitError".to_owned()));
    assert_eq!(group.kills(), 0);
}

#[test]
fn the_runtime_process_survives_when_the_kernel_kills_its_child() {
    let Some(group) = Group::with("child", 100) else {
        return;
    };
    let instance = group.instance(
        "child = os.fork()
if child == 0: take(300)
print(\"ENDED BY\", os.WTERMSIG(os.waitpid(child, 0)[1]), flush=True)
time.sleep(600)",
    );
    let line = instance.logged("ENDED BY", 1);
    assert!(line.contains("ENDED BY 9"), "{line}");
    assert!(group.kills() > 0);
    let failed = instance
        .lines()
        .iter()
        .any(|line| line.contains("INIT_REPORT"));
    assert!(!failed, "{:#?}", instance.lines());
}

#[test]
fn in_a_larger_container_the_supervisor_enforces_the_functions_limit() {
    let Some(group) = Group::with("pool", 512 + 32) else {
        return;
    };
    let instance = group.instance("take(300)");
    let failed = failure(&instance);
    assert_eq!(
        failed,
        (KILLED.to_owned(), "Runtime.OutOfMemory".to_owned())
    );
    assert_eq!(group.kills(), 0, "the kernel killed no process");
}

#[test]
fn the_page_cache_does_not_count_as_memory_of_the_function() {
    let Some(group) = Group::with("cache", 160) else {
        return;
    };
    let instance = group.instance(
        "import tempfile
file = tempfile.TemporaryFile()
file.truncate(300 << 20)
while file.read(1 << 20): pass
print(\"READ\", flush=True)
os._exit(3)",
    );
    instance.logged("READ", 1);
    let (message, _) = failure(&instance);
    assert!(message.ends_with("exit status 3"), "{message}");
    let report = instance.logged("REPORT RequestId: r1", 1);
    let used = after(&report, "Max Memory Used: ").split(' ').next();
    let used: u64 = used.and_then(|mib| mib.parse().ok()).expect("MB");
    assert!(used < 60, "{report}");
    assert_eq!(group.kills(), 0);
}
