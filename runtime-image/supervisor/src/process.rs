//! Starts, signals and reaps the runtime process, and leaves no process of it behind.
//!
//! Owns its process group. The supervisor is the reaper of all orphans below it, so that even a daemon that
//! left the group is found. Called by `worker` for core's actions and by `prestart`; never decides when.
//! `output` reads what the process prints.
//!
//! Besides standard output the process has a descriptor for records of several lines (`records`). Both, and
//! standard error, write to the same pipe, which keeps their order.

use std::collections::BTreeMap;
use std::ffi::{CString, c_char};
use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io::{self, PipeReader, PipeWriter};
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::ptr;
use std::rc::Rc;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use pilotlight_core::function::MemoryMiB;
use pilotlight_core::instance::failure::Exit;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, getpgid, kill_process, kill_process_group,
    wait, waitid, waitpid,
};

use crate::entrypoint::{Entrypoint, StartError};
use crate::memory::Memory;
use crate::memory::group::Group;
use crate::output::Output;
use crate::process_table;

/// The lowest number for the descriptor for records: programs open files at lower ones, and shell scripts
/// name them.
const LOWEST_RECORDS: RawFd = 90;
/// The largest `oom_score_adj`: when memory runs out, the kernel kills a runtime process rather than the
/// supervisor or, in local mode, another program of the user.
const OOM_SCORE_ADJ: &[u8] = b"1000";

/// How often processes outside the group are looked for. One that starts others all the time outruns any number.
const FREEZE_ROUNDS: usize = 10;

/// A program that is open for writing is tried again this often, after this pause each.
const BUSY_RETRIES: usize = 50;
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// A program to start.
#[derive(Clone, Copy)]
pub(crate) struct Program<'a> {
    pub(crate) command: &'a [String],
    pub(crate) task_root: &'a Path,
    /// The complete environment: nothing is inherited.
    pub(crate) environment: &'a BTreeMap<String, String>,
}

/// A started process.
pub(crate) struct Started {
    pub(crate) pid: Pid,
    /// The reading end of its output.
    pub(crate) printed: PipeReader,
}

/// Starts and ends an instance's runtime processes: [`Kernel`], or a replacement in `in_process`.
pub(crate) trait ProcessControl: Debug {
    fn start(&self, program: Program<'_>) -> Result<(Pid, Option<Output>), StartError>;
    fn memory_of(&self, leader: Pid, memory: MemoryMiB) -> Memory;
    /// Stops the process and all that it has started. Returns those that have left its group.
    fn freeze(&self, leader: Pid) -> Vec<Pid>;
    /// `apart`: what `freeze` returned.
    fn thaw(&self, leader: Pid, apart: &[Pid]);
    fn terminate(&self, leader: Pid);
    fn kill(&self, leader: Option<Pid>);
    /// Kills one process that the runtime process has started.
    fn kill_child(&self, child: Pid);
    fn peek_exit(&self, leader: Pid) -> Option<Exit>;
    fn reap(&self, leader: Option<Pid>);
    fn kill_and_reap_all(&self, leader: Option<Pid>);
}

/// The real one: the functions of this module.
#[derive(Debug, Default)]
pub(crate) struct Kernel {
    /// The control group that counts the memory, if there is one.
    pub(crate) group: Option<Rc<Group>>,
}

impl ProcessControl for Kernel {
    fn start(&self, program: Program<'_>) -> Result<(Pid, Option<Output>), StartError> {
        let entrance = self
            .group
            .as_ref()
            .and_then(|group| group.entrance.as_ref());
        let Started { pid, printed } = start(program, Stdio::null(), entrance)?;
        let output = Output::new(printed).inspect_err(|_| kill(Some(pid)));
        let name = program.command.first().map_or("", String::as_str);
        Ok((pid, Some(output.map_err(StartError::program(name))?)))
    }

    fn memory_of(&self, leader: Pid, memory: MemoryMiB) -> Memory {
        Memory::of(leader, memory, self.group.clone())
    }

    fn freeze(&self, leader: Pid) -> Vec<Pid> {
        freeze(leader)
    }

    fn thaw(&self, leader: Pid, apart: &[Pid]) {
        thaw(leader, apart);
    }

    fn terminate(&self, leader: Pid) {
        terminate(leader);
    }

    fn kill(&self, leader: Option<Pid>) {
        kill(leader);
    }

    fn kill_child(&self, child: Pid) {
        // It fails if the process has ended already.
        let _ = kill_process(child, Signal::KILL);
    }

    fn peek_exit(&self, leader: Pid) -> Option<Exit> {
        peek_exit(leader)
    }

    fn reap(&self, leader: Option<Pid>) {
        reap(leader);
    }

    fn kill_and_reap_all(&self, leader: Option<Pid>) {
        kill_and_reap_all(leader);
        if let Some(group) = &self.group {
            group.remove();
        }
    }
}

/// Orphans below this process become its children, as they do below the first process of a pod.
pub(crate) fn become_reaper() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(
        rustix::process::getpid(),
    ))?)
}

/// `entrance`: the `cgroup.procs` of a control group for the process.
pub(crate) fn start(
    program: Program<'_>,
    stdin: Stdio,
    entrance: Option<&File>,
) -> Result<Started, StartError> {
    let entrypoint = Entrypoint::of(program.command)?;
    let started = spawn(&entrypoint, program, stdin, entrance);
    started.map_err(StartError::program(&entrypoint.named))
}

fn spawn(
    entrypoint: &Entrypoint,
    program: Program<'_>,
    stdin: Stdio,
    entrance: Option<&File>,
) -> io::Result<Started> {
    let (printed, stdout) = io::pipe()?;
    let stderr = second_end(&stdout)?;
    let records = records_descriptor().map(|number| (number, second_end(&stdout)));
    let (name, arguments) = entrypoint
        .arguments
        .split_first()
        .ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(&entrypoint.program);
    command
        .arg0(name)
        .args(arguments)
        .current_dir(program.task_root)
        .env_clear()
        .envs(program.environment)
        .stdin(stdin)
        .stdout(stdout)
        .stderr(stderr)
        .process_group(0);
    if let Some((number, records)) = records {
        hand_over(&mut command, records?, number);
    }
    let image = Image::of(entrypoint, program.environment)?;
    let entrance = entrance.map(File::try_clone).transpose()?;
    become_image(&mut command, image, entrance);
    let pid = Pid::from_child(&spawn_when_written(&mut command)?);
    offer_to_oom_killer(pid);
    Ok(Started { pid, printed })
}

/// The kernel executes no file that is open for writing (`ETXTBSY`). A process that another thread started while this
/// process wrote the file (a claim's code) has a copy of the descriptor until it executes its own program, which
/// takes milliseconds.
fn spawn_when_written(command: &mut Command) -> io::Result<Child> {
    for _ in 0..BUSY_RETRIES {
        match command.spawn() {
            Err(busy) if busy.kind() == io::ErrorKind::ExecutableFileBusy => {
                thread::sleep(BUSY_PAUSE);
            }
            ended => return ended,
        }
    }
    command.spawn()
}

/// The process cannot do it itself before it executes its program: like this process, it is not dumpable until then
/// (`hardening`), and the kernel lets root alone write to its files in /proc.
fn offer_to_oom_killer(process: Pid) {
    // It fails if the process has ended already.
    let path = format!("/proc/{}/oom_score_adj", process.as_raw_pid());
    let _ = fs::write(path, OOM_SCORE_ADJ);
}

/// The number of the descriptor for records in each runtime process. This process keeps the number open, so
/// that nothing else gets it while a program is started. `None`: no descriptor is left.
pub(crate) fn records_descriptor() -> Option<RawFd> {
    static KEPT: OnceLock<Option<OwnedFd>> = OnceLock::new();
    let keep = || {
        let null = File::open("/dev/null").ok()?;
        rustix::io::fcntl_dupfd_cloexec(null, LOWEST_RECORDS).ok()
    };
    KEPT.get_or_init(keep).as_ref().map(AsRawFd::as_raw_fd)
}

/// A second writing end of the same pipe with flags of its own: Node.js makes its standard output
/// non-blocking, which must not apply to records.
fn second_end(pipe: &PipeWriter) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", pipe.as_raw_fd());
    match OpenOptions::new().write(true).open(path) {
        Ok(file) => Ok(file.into()),
        // There is no /proc, or it is not accessible.
        Err(_) => Ok(pipe.try_clone()?.into()),
    }
}

/// Passes this descriptor to the process under that number.
#[allow(unsafe_code)]
fn hand_over(command: &mut Command, descriptor: OwnedFd, number: RawFd) {
    let give = move || {
        // SAFETY: the number is kept open by `records_descriptor`, and is not closed here.
        let mut to = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(number) });
        Ok(rustix::io::dup2(&descriptor, &mut to)?)
    };
    // SAFETY: as in `become_image`.
    unsafe { command.pre_exec(give) };
}

/// The arguments of `execve`, allocated before the fork.
struct Image {
    path: Option<CString>,
    arguments: Texts,
    environment: Texts,
}

/// C strings and the null-terminated array of pointers to them.
struct Texts {
    _owned: Vec<CString>,
    pointers: Vec<*const c_char>,
}

// SAFETY: the pointers lead to the strings beside them, which are neither changed nor moved.
#[allow(unsafe_code)]
unsafe impl Send for Texts {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for Texts {}

impl Image {
    fn of(entrypoint: &Entrypoint, environment: &BTreeMap<String, String>) -> io::Result<Self> {
        let is_path = entrypoint.program.contains('/');
        let path = is_path.then(|| CString::new(entrypoint.program.as_str()));
        let variables = environment.iter();
        let variables = variables.map(|(name, value)| format!("{name}={value}"));
        Ok(Image {
            path: path.transpose()?,
            arguments: Texts::of(entrypoint.arguments.iter().cloned())?,
            environment: Texts::of(variables)?,
        })
    }

    /// Returns on failure, or for a program without a path, which the standard library looks up in PATH.
    #[allow(unsafe_code)]
    fn execute(&self) -> io::Result<()> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        let (arguments, environment) = (&self.arguments.pointers, &self.environment.pointers);
        // SAFETY: a path and two arrays that end with a null, all of them alive until it returns.
        unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
        Err(io::Error::last_os_error())
    }
}

impl Texts {
    fn of(texts: impl Iterator<Item = String>) -> io::Result<Self> {
        let owned = texts.map(CString::new).collect::<Result<Vec<_>, _>>()?;
        let pointers = owned.iter().map(|text| text.as_ptr());
        Ok(Texts {
            pointers: pointers.chain([ptr::null()]).collect(),
            _owned: owned,
        })
    }
}

/// The last steps of the new process: it enters its control group, asks to be killed with the supervisor, and
/// executes its program. The standard library would pass a file that is no program to a shell, and the kernel's
/// reason would be lost.
#[allow(unsafe_code)]
fn become_image(command: &mut Command, image: Image, entrance: Option<File>) {
    let steps = move || {
        if let Some(entrance) = &entrance {
            // If this fails, `Group::has` notices, and `memory` counts by process instead.
            let _ = rustix::io::write(entrance, b"0");
        }
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        image.execute()
    };
    // SAFETY: between fork and exec the closure makes system calls only; it allocates nothing, takes
    // no lock and touches no memory of the parent.
    unsafe { command.pre_exec(steps) };
}

/// Sends SIGSTOP to the group and to the descendants that have left it, which it returns.
///
/// The group first: none of its processes starts or leaves after that. The others may start more while this looks
/// for them, so it looks again until it finds nothing new.
pub(crate) fn freeze(leader: Pid) -> Vec<Pid> {
    // It fails if the process has ended already; then its exit will be handled soon.
    let _ = kill_process_group(leader, Signal::STOP);
    let mut apart = Vec::new();
    for _ in 0..FREEZE_ROUNDS {
        let before = apart.len();
        for pid in process_table::descendants() {
            let is_apart = || getpgid(Some(pid)).is_ok_and(|group| group != leader);
            if !apart.contains(&pid) && is_apart() {
                let _ = kill_process(pid, Signal::STOP);
                apart.push(pid);
            }
        }
        if apart.len() == before {
            break;
        }
    }
    apart
}

/// Sends SIGCONT to what [`freeze`] has stopped.
pub(crate) fn thaw(leader: Pid, apart: &[Pid]) {
    let _ = kill_process_group(leader, Signal::CONT);
    for pid in apart {
        let _ = kill_process(*pid, Signal::CONT);
    }
}

pub(crate) fn terminate(leader: Pid) {
    // It fails if the process has ended already; then its exit will be handled soon.
    let _ = kill_process_group(leader, Signal::TERM);
}

/// Sends SIGKILL to the group and to the descendants that have left it.
pub(crate) fn kill(leader: Option<Pid>) {
    if let Some(leader) = leader {
        let _ = kill_process_group(leader, Signal::KILL);
    }
    for pid in process_table::descendants() {
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// Kills all processes below this one and waits until none is left.
pub(crate) fn kill_and_reap_all(leader: Option<Pid>) {
    // This terminates: each round reaps at least one process, and a killed process forks no more.
    loop {
        kill(leader);
        match wait(WaitOptions::empty()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_no_child_left) => return,
        }
    }
}

/// How the process ended; `None` while it runs. It is not reaped, so that its group's id is not reused.
pub(crate) fn peek_exit(leader: Pid) -> Option<Exit> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let status = waitid(WaitId::Pid(leader), options).ok()??;
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Some(Exit::Code(code)),
        (None, Some(signal)) => Some(Exit::Signal(signal)),
        (None, None) => None,
    }
}

/// Reaps the children that have ended, except a `leader`. That one may end at any moment, and its exit would be lost
/// with whoever reaps it, so each other child is asked for by its own number.
pub(crate) fn reap(leader: Option<Pid>) {
    let others = process_table::children_of_this_process();
    for child in others.into_iter().filter(|child| Some(*child) != leader) {
        // One that runs on is reaped when it ends.
        let _ = waitpid(Some(child), WaitOptions::NOHANG);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::zombie_processes, reason = "this is about who reaps")]
    fn the_exit_of_a_leader_is_left_for_who_asks_for_it() {
        let ended = |code: &str| {
            let mut command = Command::new("/bin/sh");
            let child = command.args(["-c", code]).spawn().expect("a shell");
            let pid = Pid::from_child(&child);
            let has_ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            waitid(WaitId::Pid(pid), has_ended).expect("a child");
            pid
        };
        let (leader, other) = (ended("exit 7"), ended("exit 8"));
        reap(Some(leader));
        assert_eq!(peek_exit(leader), Some(Exit::Code(7)));
        assert_eq!(peek_exit(other), None);
        reap(None);
        assert_eq!(peek_exit(leader), None);
    }
}
