//! A whole instance within the caller's thread, for the tests of those who lease it.
//!
//! The control API, the worker, the Runtime API and the life cycle are what a supervisor runs. Streams in
//! memory take the place of its ports and of its standard output, and the caller that of the kernel and of
//! the runtime process: it opens connections to the Runtime API, prints, and ends when it wants to. So
//! nothing depends on real time, and a test with paused time decides the order of everything.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;

use pilotlight_core::function::MemoryMiB;
use pilotlight_core::instance::failure::Exit;
use pilotlight_wire::config::InstanceConfig;
use pilotlight_wire::log_record::LogSource;
use rustix::process::{Pid, Signal};
use tokio::io::DuplexStream;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::{self, JoinHandle, LocalSet};

use crate::claim;
use crate::connection::Listener;
use crate::entrypoint::Unstartable;
use crate::lifecycle::{self, Outside, Surroundings, Told, Ways};
use crate::log::Stdout;
use crate::memory::Memory;
use crate::output::Output;
use crate::process::{Processes, Program};
use crate::worker::{Origin, Shared};

/// Bytes that a stream holds until its reader takes them, as a socket does.
const STREAM: usize = 64 * 1024;
/// The Runtime API's address in the environment; nobody connects to it.
const NO_WAYS: Ways = Ways {
    api: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1),
    door: None,
};

/// A supervisor that runs in a task of its own. It is gone at once when this is dropped.
#[derive(Debug)]
pub struct Instance {
    worker: Shared,
    control: Connector,
    runtime: Connector,
    process: Rc<Process>,
    life: JoinHandle<()>,
}

/// A supervisor of a warm pool behind a port: it waits for its claim, and is then what that says. All of it
/// ends with the future.
///
/// # Errors
/// Why a claim could not be taken.
pub async fn unclaimed(listener: TcpListener, root: PathBuf) -> anyhow::Result<()> {
    let control = Listener::from(listener);
    let Some(claimed) = claim::wait(&control, root, None).await? else {
        return Ok(());
    };
    let (tell, outside) = mpsc::unbounded_channel();
    let origin = Origin {
        processes: Box::new(Rc::new(Process::new(tell.clone()))),
        unpack: claimed.unpack,
        ..Origin::default()
    };
    let worker = lifecycle::worker_of(claimed.config, origin, NO_WAYS)?;
    let (_runtime, runtime_end) = mpsc::unbounded_channel();
    let (_log, log_end) = tokio::io::duplex(STREAM);
    let surroundings = Surroundings {
        instance: Some(claimed.instance),
        control,
        runtime: Listener::Memory(RefCell::new(runtime_end)),
        door: None,
        log: Stdout::Memory(log_end),
        outside: Outside::Caller(outside),
    };
    lifecycle::live(worker, surroundings).await
}

/// Opens connections to one of an instance's two APIs.
#[derive(Clone, Debug)]
pub struct Connector {
    streams: mpsc::UnboundedSender<DuplexStream>,
    outside: mpsc::UnboundedSender<Told>,
    ended: watch::Receiver<bool>,
}

impl Instance {
    /// Starts a supervisor on the present `LocalSet`; the stream is what it writes to its log.
    ///
    /// # Panics
    /// If the configuration has no command, though none is ever started.
    pub fn start(config: InstanceConfig) -> (Self, DuplexStream) {
        let (tell, outside) = mpsc::unbounded_channel();
        let process = Rc::new(Process::new(tell.clone()));
        let origin = Origin {
            processes: Box::new(process.clone()),
            ..Origin::default()
        };
        let worker = lifecycle::worker_of(config, origin, NO_WAYS).expect("a command");
        let (end, ended) = watch::channel(false);
        let connector = || {
            let (streams, listener) = mpsc::unbounded_channel();
            let connector = Connector {
                streams,
                outside: tell.clone(),
                ended: ended.clone(),
            };
            (connector, Listener::Memory(RefCell::new(listener)))
        };
        let ((control, control_end), (runtime, runtime_end)) = (connector(), connector());
        let (log, log_end) = tokio::io::duplex(STREAM);
        let surroundings = Surroundings {
            instance: None,
            control: control_end,
            runtime: runtime_end,
            door: None,
            log: Stdout::Memory(log_end),
            outside: Outside::Caller(outside),
        };
        let life = lifecycle::live(worker.clone(), surroundings);
        // Its tasks end with it, as those of a process do.
        let life = task::spawn_local(async move {
            let lived = LocalSet::new().run_until(life).await;
            lived.expect("the supervisor breaks");
            end.send_replace(true);
        });
        let instance = Instance {
            worker,
            control,
            runtime,
            process,
            life,
        };
        (instance, log)
    }

    /// The way of gateways.
    pub fn control(&self) -> &Connector {
        &self.control
    }

    /// The way of the runtime process.
    pub fn runtime(&self) -> &Connector {
        &self.runtime
    }

    /// How many runtime processes have been started so far.
    pub fn starts(&self) -> watch::Receiver<usize> {
        self.process.starts.subscribe()
    }

    /// The runtime process prints a line.
    pub fn print(&self, source: LogSource, line: &str) {
        self.worker.borrow_mut().print(source, line);
    }

    /// The runtime process ends.
    pub fn exit(&self, exit: Exit) {
        self.process.end(exit);
    }

    /// The supervisor and all its connections are gone at once, as with their machine.
    pub fn lose(&self) {
        self.life.abort();
    }

    /// Returns when the supervisor has ended, in whatever way.
    pub async fn ended(&mut self) {
        self.control.ended().await;
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.life.abort();
    }
}

impl Connector {
    /// # Errors
    /// If the supervisor has ended, or ends and takes no connections any more.
    pub fn connect(&self) -> io::Result<DuplexStream> {
        let (near, far) = tokio::io::duplex(STREAM);
        let sent = self.streams.send(far);
        sent.map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
        Ok(near)
    }

    /// The supervisor's parent ends: so does the supervisor, at once.
    pub fn abandon(&self) {
        // It may have ended before.
        let _ = self.outside.send(Told::ParentEnded);
    }

    /// Returns when the supervisor has ended, in whatever way.
    pub async fn ended(&mut self) {
        // An error: it was lost.
        let _ = self.ended.wait_for(|ended| *ended).await;
    }
}

/// In the place of each runtime process in turn.
#[derive(Debug)]
pub(crate) struct Process {
    exit: RefCell<Option<Exit>>,
    starts: watch::Sender<usize>,
    outside: mpsc::UnboundedSender<Told>,
}

impl Process {
    pub(crate) fn new(outside: mpsc::UnboundedSender<Told>) -> Self {
        Process {
            // None has been started yet.
            exit: RefCell::new(Some(Exit::Code(0))),
            starts: watch::Sender::new(0),
            outside,
        }
    }

    fn end(&self, exit: Exit) {
        if self.exit.borrow().is_none() {
            self.exit.replace(Some(exit));
            // A supervisor that has ended reaps no child.
            let _ = self.outside.send(Told::ChildEnded);
        }
    }
}

impl Processes for Rc<Process> {
    fn start(&self, _: Program<'_>) -> Result<(Pid, Option<Output>), Unstartable> {
        self.exit.replace(None);
        self.starts.send_modify(|starts| *starts += 1);
        Ok((Pid::INIT, None))
    }

    fn memory_of(&self, _: Pid, _: MemoryMiB) -> Memory {
        Memory::default()
    }

    fn terminate(&self, _: Pid) {
        self.end(Exit::Signal(Signal::TERM.as_raw()));
    }

    fn kill(&self, _: Option<Pid>) {
        self.end(Exit::Signal(Signal::KILL.as_raw()));
    }

    fn kill_child(&self, _: Pid) {}

    fn peek_exit(&self, _: Pid) -> Option<Exit> {
        *self.exit.borrow()
    }

    fn reap(&self, _: Option<Pid>) {}

    fn kill_and_reap_all(&self, _: Option<Pid>) {
        self.exit.replace(Some(Exit::Signal(Signal::KILL.as_raw())));
    }
}
