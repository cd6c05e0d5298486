//! The processes below this one, as /proc shows them.
//!
//! Owns the walk over `children` files and the reading of a process's state. Used by `process`, which
//! signals descendants, and by `memory`, which measures them; sends no signal itself.

use std::fs;

use rustix::process::Pid;

/// The children of this process, those that have ended and are not reaped included.
pub(crate) fn children_of_this_process() -> Vec<Pid> {
    children(rustix::process::getpid())
}

/// All descendants of this process, at any depth.
pub(crate) fn descendants() -> Vec<Pid> {
    let mut found = children_of_this_process();
    let mut next = 0;
    while let Some(pid) = found.get(next).copied() {
        found.extend(children(pid));
        next += 1;
    }
    found
}

/// Whether a killed process still holds memory: it exists and is no zombie.
pub(crate) fn holds_memory(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid()));
    let is_zombie = |stat: String| {
        stat.rsplit_once(") ")
            .map(|(_, rest)| rest.starts_with('Z'))
    };
    stat.is_ok_and(|stat| is_zombie(stat) == Some(false))
}

fn children(parent: Pid) -> Vec<Pid> {
    let folder = format!("/proc/{}/task", parent.as_raw_pid());
    let threads = fs::read_dir(folder).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| {
        let list = thread.path().join("children");
        fs::read_to_string(list).ok()
    });
    let pids = |list: String| -> Vec<Pid> {
        list.split_ascii_whitespace()
            .filter_map(|pid| Pid::from_raw(pid.parse().ok()?))
            .collect()
    };
    lists.flat_map(pids).collect()
}
