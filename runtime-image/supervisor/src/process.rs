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
use std::fs::{File, OpenOptions};
use std::io::{self, PipeReader, PipeWriter};
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::ptr;
use std::rc::Rc;
use std::sync::OnceLock;

use pilotlight_core::function::MemoryMiB;
use pilotlight_core::instance::failure::Exit;
use rustix::fs::{Mode, OFlags};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process, kill_process_group, wait, waitid,
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
    let pid = Pid::from_child(&command.spawn()?);
    Ok(Started { pid, printed })
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

/// The last steps of the new process: it enters its control group, raises its `oom_score_adj`, asks to be
/// killed with the supervisor, and executes its program. The standard library would pass a file that is
/// no program to a shell, and the kernel's reason would be lost.
#[allow(unsafe_code)]
fn become_image(command: &mut Command, image: Image, entrance: Option<File>) {
    let steps = move || {
        if let Some(entrance) = &entrance {
            // If this fails, `Group::has` notices, and `memory` counts by process instead.
            let _ = rustix::io::write(entrance, b"0");
        }
        let score = rustix::fs::open(c"/proc/self/oom_score_adj", OFlags::WRONLY, Mode::empty());
        if let Ok(score) = score {
            let _ = rustix::io::write(&score, OOM_SCORE_ADJ);
        }
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        image.execute()
    };
    // SAFETY: between fork and exec the closure makes system calls only; it allocates nothing, takes
    // no lock and touches no memory of the parent.
    unsafe { command.pre_exec(steps) };
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

/// Reaps all processes that have ended, except a `leader` whose exit has not been handled yet.
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
