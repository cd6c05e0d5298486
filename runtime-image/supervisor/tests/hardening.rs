//! What a function, which runs as the same user as its supervisor, tries against it in vain.

mod instance;

use std::fs;
use std::io::ErrorKind;

use serde_json::json;

use instance::{Instance, after, next, post};

/// An instance of a user without rights, whose runtime process runs this script. Its home goes with the first value.
fn unprivileged(script: &str) -> (tempfile::TempDir, Instance) {
    let home = tempfile::tempdir().expect("a directory");
    let instance = Instance::unprivileged(home.path(), script, json!({}));
    (home, instance)
}

#[test]
fn a_function_cannot_read_its_supervisors_environment_memory_and_descriptors() {
    let (_home, instance) = unprivileged(
        "for file in environ mem maps auxv fd/0 map_files; do
             if ( : </proc/$PPID/$file ) 2>/dev/null || ls /proc/$PPID/$file/ >/dev/null 2>&1
             then echo open: $file; else echo closed: $file; fi
         done
         ls /proc/$PPID/fd >/dev/null 2>&1 && echo open: fd
         head -c 1 /proc/$$/environ >/dev/null && echo its own is open
         echo tried; exec sleep 600",
    );
    instance.logged("tried", 1);
    let lines = instance.lines();
    let open = lines.iter().filter(|line| line.contains("open: "));
    assert_eq!(open.count(), 0, "{lines:#?}");
    assert!(lines.iter().any(|line| line.ends_with("its own is open")));
    assert!(lines.iter().any(|line| line.ends_with("closed: mem")));
}

#[test]
fn a_function_cannot_write_to_its_supervisors_log() {
    let (_home, instance) = unprivileged(
        "for number in 1 2 $(seq 3 40); do
             echo '2026-01-31T10:00:00Z platform - forged' 2>/dev/null >/proc/$PPID/fd/$number
         done 2>/dev/null
         echo tried; exec sleep 600",
    );
    instance.logged("tried", 1);
    let lines = instance.lines();
    let forged = lines.iter().filter(|line| line.contains("forged"));
    assert_eq!(forged.count(), 0, "{lines:#?}");
}

#[test]
fn a_runtime_process_inherits_no_descriptor_of_its_supervisor() {
    let (_home, instance) = unprivileged(
        "for number in $(seq 0 100); do
             [ -e /proc/$$/fd/$number ] && [ $number != $_LAMBDA_TELEMETRY_LOG_FD ] && echo has: $number
         done
         echo listed; exec sleep 600",
    );
    instance.logged("listed", 1);
    let lines = instance.lines();
    let inherited = lines
        .iter()
        .filter_map(|line| Some(line.split_once("has: ")?.1));
    assert_eq!(inherited.collect::<Vec<_>>(), ["0", "1", "2"], "{lines:#?}");
}

#[test]
fn a_supervisor_that_is_not_dumpable_measures_memory_and_offers_its_function_to_the_oom_killer() {
    let (_home, instance) = unprivileged(
        "until grep -qx 1000 /proc/$$/oom_score_adj; do :; done
         echo variable: $SECRET; echo offered; exec sleep 600",
    );
    instance.logged("offered", 1);
    instance.logged("variable: hunter2", 1);
    let api = instance.api(1);
    let waiting = next(&api);
    instance.becomes("ready");
    let lease = instance.lease("r1", "1");
    waiting.join().expect("an event");
    post(&api, "/invocation/r1/response", &[], "2");
    let _next = next(&api);
    assert_eq!(lease.join().expect("an answer").body, b"2");
    let report = instance.logged("REPORT RequestId: r1", 1);
    let used = after(&report, "Max Memory Used: ");
    let (used, _) = used.split_once(" MB").expect("a unit");
    assert!(used.parse::<u32>().expect("a number") > 0, "{report}");
}

#[test]
fn the_environment_that_the_kernel_shows_of_a_supervisor_is_wiped() {
    let secret = [("PILOTLIGHT_ENV_SECRET", "hunter2")];
    let script = "echo variable: $SECRET; exec sleep 600";
    let instance = Instance::with_variables(&secret, script, json!({}));
    instance.logged("variable: hunter2", 1);
    match fs::read(format!("/proc/{}/environ", instance.pid())) {
        Ok(shown) => assert!(
            shown.iter().all(|byte| *byte == 0),
            "{}",
            shown.escape_ascii()
        ),
        // Nobody but root can read it.
        Err(error) => assert_eq!(error.kind(), ErrorKind::PermissionDenied),
    }
}
