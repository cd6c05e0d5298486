//! The runtime process: start it, signal it, reap it, leave nothing of it behind.
//!
//! Owns its process group and the supervisor's part as the reaper of all orphans below it, so
//! that even a daemon that left the group is found. Fed by `worker` with core's actions, and by
//! `prestart`; never decides when. `output` reads what the process prints.
//!
//! Besides standard output the process has a descriptor for records of several lines (`records`). It leads
//! into the same pipe, so that what is printed and what is logged keep their order.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io::{self, PipeReader, PipeWriter};
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use pilotlight_core::failure::Exit;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process, kill_process_group, wait, waitid,
};

use crate::memory::Memory;
use crate::output::Output;

/// The lowest number that the descriptor for records may have: below it are those that programs open, or
/// shells by number.
const LOWEST_RECORDS: RawFd = 90;

/// What is to be started, and with what.
#[derive(Clone, Copy)]
pub(crate) struct Program<'a> {
    pub(crate) command: &'a [String],
    pub(crate) task_root: &'a Path,
    /// All of it.
    pub(crate) environment: &'a BTreeMap<String, String>,
}

/// A started process and the ends of what it prints.
pub(crate) struct Started {
    pub(crate) pid: Pid,
    pub(crate) stdout: PipeReader,
    pub(crate) stderr: PipeReader,
}

/// Starts and ends an instance's runtime processes. This is the kernel's work, except in `in_process`.
pub(crate) trait Processes: Debug {
    fn start(&self, program: Program<'_>) -> io::Result<(Pid, Vec<Output>)>;
    fn memory_of(&self, leader: Pid) -> Memory;
    fn terminate(&self, leader: Pid);
    fn kill(&self, leader: Option<Pid>);
    fn peek_exit(&self, leader: Pid) -> Option<Exit>;
    fn reap(&self, leader: Option<Pid>);
    fn kill_and_reap_all(&self, leader: Option<Pid>);
}

/// The functions of this module.
#[derive(Debug)]
pub(crate) struct Kernel;

impl Processes for Kernel {
    fn start(&self, program: Program<'_>) -> io::Result<(Pid, Vec<Output>)> {
        let Started {
            pid,
            stdout,
            stderr,
        } = start(program, Stdio::null())?;
        let outputs = Output::both(stdout, stderr);
        Ok((pid, outputs.inspect_err(|_| kill(Some(pid)))?))
    }

    fn memory_of(&self, leader: Pid) -> Memory {
        Memory::of(leader)
    }

    fn terminate(&self, leader: Pid) {
        terminate(leader);
    }

    fn kill(&self, leader: Option<Pid>) {
        kill(leader);
    }

    fn peek_exit(&self, leader: Pid) -> Option<Exit> {
        peek_exit(leader)
    }

    fn reap(&self, leader: Option<Pid>) {
        reap(leader);
    }

    fn kill_and_reap_all(&self, leader: Option<Pid>) {
        kill_and_reap_all(leader);
    }
}

/// Orphans below this process become its children, as they do below the first process of a pod.
pub(crate) fn become_reaper() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(
        rustix::process::getpid(),
    ))?)
}

pub(crate) fn start(program: Program<'_>, stdin: Stdio) -> io::Result<Started> {
    let (name, arguments) = program
        .command
        .split_first()
        .ok_or(io::ErrorKind::InvalidInput)?;
    let (stdout, stdout_end) = io::pipe()?;
    let (stderr, stderr_end) = io::pipe()?;
    let records = records_descriptor().map(|number| (number, second_end(&stdout_end)));
    let mut command = Command::new(name);
    command
        .args(arguments)
        .current_dir(program.task_root)
        .env_clear()
        .envs(program.environment)
        .stdin(stdin)
        .stdout(stdout_end)
        .stderr(stderr_end)
        .process_group(0);
    end_with_parent(&mut command);
    if let Some((number, records)) = records {
        hand_over(&mut command, records?, number);
    }
    let pid = Pid::from_child(&command.spawn()?);
    Ok(Started {
        pid,
        stdout,
        stderr,
    })
}

/// The number of the descriptor for records in each runtime process; this process keeps it for that, so
/// that it is none that the start of a program needs. `None`: there is none left.
pub(crate) fn records_descriptor() -> Option<RawFd> {
    static KEPT: OnceLock<Option<OwnedFd>> = OnceLock::new();
    let keep = || {
        let null = File::open("/dev/null").ok()?;
        rustix::io::fcntl_dupfd_cloexec(null, LOWEST_RECORDS).ok()
    };
    KEPT.get_or_init(keep).as_ref().map(AsRawFd::as_raw_fd)
}

/// Another end of the same pipe: what the process sets for its standard output (Node.js has it not wait)
/// does not count for this one.
fn second_end(pipe: &PipeWriter) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", pipe.as_raw_fd());
    match OpenOptions::new().write(true).open(path) {
        Ok(file) => Ok(file.into()),
        // Only a machine without /proc, or one that keeps it from this process.
        Err(_) => Ok(pipe.try_clone()?.into()),
    }
}

/// Gives the process this descriptor under that number.
#[allow(unsafe_code)]
fn hand_over(command: &mut Command, descriptor: OwnedFd, number: RawFd) {
    let give = move || {
        // SAFETY: the number is kept open by `records_descriptor`, and is not closed here.
        let mut to = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(number) });
        Ok(rustix::io::dup2(&descriptor, &mut to)?)
    };
    // SAFETY: as in `end_with_parent`.
    unsafe { command.pre_exec(give) };
}

/// A supervisor that is killed outright takes the runtime process along.
#[allow(unsafe_code)]
fn end_with_parent(command: &mut Command) {
    let ask = || {
        Ok(rustix::process::set_parent_process_death_signal(Some(
            Signal::KILL,
        ))?)
    };
    // SAFETY: between fork and exec the closure makes one system call; it allocates nothing,
    // takes no lock and touches no memory of the parent.
    unsafe { command.pre_exec(ask) };
}

pub(crate) fn terminate(leader: Pid) {
    // It may have ended already; its exit is on the way then.
    let _ = kill_process_group(leader, Signal::TERM);
}

/// SIGKILL to the group and to whatever has left it.
pub(crate) fn kill(leader: Option<Pid>) {
    if let Some(leader) = leader {
        let _ = kill_process_group(leader, Signal::KILL);
    }
    for pid in descendants() {
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// Kills all that is left and waits for the last of it.
pub(crate) fn kill_and_reap_all(leader: Option<Pid>) {
    // Each round reaps at least one process, and only children are left to fork: it ends.
    loop {
        kill(leader);
        match wait(WaitOptions::empty()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_no_child_left) => return,
        }
    }
}

/// Whether and how the process ended. Leaves it unreaped, so that its group's id stays its own.
pub(crate) fn peek_exit(leader: Pid) -> Option<Exit> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let status = waitid(WaitId::Pid(leader), options).ok()??;
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Some(Exit::Code(code)),
        (None, Some(signal)) => Some(Exit::Signal(signal)),
        (None, None) => None,
    }
}

/// Reaps whatever has ended, but not a `leader` whose exit nobody has seen yet.
pub(crate) fn reap(leader: Option<Pid>) {
    loop {
        if leader.is_some_and(|leader| peek_exit(leader).is_some()) {
            return;
        }
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Ok(None) | Err(_) => return,
        }
    }
}

/// All processes below this one, at any depth.
pub(crate) fn descendants() -> Vec<Pid> {
    let mut found = children(rustix::process::getpid());
    let mut next = 0;
    while let Some(pid) = found.get(next).copied() {
        found.extend(children(pid));
        next += 1;
    }
    found
}

fn children(parent: Pid) -> Vec<Pid> {
    let folder = format!("/proc/{}/task", parent.as_raw_pid());
    let threads = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| {
        let list = thread.path().join("children");
        std::fs::read_to_string(list).ok()
    });
    let pids = |list: String| -> Vec<Pid> {
        list.split_ascii_whitespace()
            .filter_map(|pid| Pid::from_raw(pid.parse().ok()?))
            .collect()
    };
    lists.flat_map(pids).collect()
}
