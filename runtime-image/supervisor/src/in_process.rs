//! A whole supervisor in the caller's thread, for tests of the gateway.
//!
//! Control API, worker, Runtime API and life cycle are the real ones. Streams in memory replace the ports and
//! standard output. The caller plays the kernel and the runtime process: it connects to the Runtime API,
//! prints, and exits when it chooses. Nothing depends on real time, so a test with paused time decides the
//! order of all events.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;

use pilotlight_core::function::MemoryMiB;
use pilotlight_core::instance::failure::Exit;
use pilotlight_core::instance::parts::OwnArchive;
use pilotlight_wire::config::{IdentityConfig, InstanceConfig};
use pilotlight_wire::log_record::LogSource;
use rustix::process::{Pid, Signal};
use tokio::io::DuplexStream;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::{self, JoinHandle, LocalSet};

use crate::claim::Own;
use crate::connection::Listener;
use crate::entrypoint::StartError;
use crate::gateways::{GatewayPort, Proof};
use crate::hardening::Variables;
use crate::lifecycle::{self, Connections, HostEvent, HostEvents, RuntimeAddresses};
use crate::log::Stdout;
use crate::memory::Memory;
use crate::output::Output;
use crate::process::{ProcessControl, Program};
use crate::worker::{Setup, Shared};

/// Bytes that a stream in memory holds until they are read, like a socket's buffer.
const STREAM_BUFFER: usize = 64 * 1024;
/// Addresses for the environment of the runtime process. Nobody connects to them.
const UNUSED_ADDRESSES: RuntimeAddresses = RuntimeAddresses {
    api: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1),
    door: None,
    daemon: None,
};

/// A supervisor that runs in a task of its own. Dropping this ends it at once.
#[derive(Debug)]
pub struct Instance {
    worker: Shared,
    control: Connector,
    runtime: Connector,
    process: Rc<Process>,
    life: JoinHandle<()>,
}

/// Runs an unclaimed supervisor behind a port. After its claim it is an instance of that function. It ends at
/// once when the future is dropped. `identity`: how it recognises gateways, if it does.
///
/// # Errors
/// If the code that a claim brings cannot be unpacked, or the authorities are not valid.
pub async fn unclaimed(
    listener: TcpListener,
    root: PathBuf,
    identity: Option<&IdentityConfig>,
) -> anyhow::Result<()> {
    waiting(listener, root, identity, None).await
}

/// The same for a supervisor that was made as this instance of one function, with these archives, and lacks the code.
///
/// # Errors
/// If the code that a claim brings cannot be unpacked.
pub async fn without_code(
    listener: TcpListener,
    root: PathBuf,
    (instance, config): (String, InstanceConfig),
    archives: Option<Vec<OwnArchive>>,
) -> anyhow::Result<()> {
    let own = Own {
        instance: Some(instance),
        config,
        archives,
    };
    waiting(listener, root, None, Some(own)).await
}

async fn waiting(
    listener: TcpListener,
    root: PathBuf,
    identity: Option<&IdentityConfig>,
    own: Option<Own>,
) -> anyhow::Result<()> {
    let proof = identity.map(Proof::of).transpose()?;
    let control = GatewayPort::new(listener.into(), proof);
    let Some(claimed) = control.wait_for_claim(root, own).await? else {
        return Ok(());
    };
    let (events, received) = mpsc::unbounded_channel();
    let setup = Setup {
        processes: Box::new(Rc::new(Process::new(events.clone()))),
        unpack: claimed.unpack,
        ..Setup::default()
    };
    let worker = lifecycle::worker_of(
        claimed.config,
        setup,
        UNUSED_ADDRESSES,
        Variables::default(),
    )?;
    let (_runtime, runtime_end) = mpsc::unbounded_channel();
    let (_log, log_end) = tokio::io::duplex(STREAM_BUFFER);
    let connections = Connections {
        instance: Some(claimed.instance),
        control,
        runtime: Listener::Memory(RefCell::new(runtime_end)),
        door: None,
        log: Stdout::Memory(log_end),
        host_events: HostEvents::InProcess(received),
    };
    lifecycle::live(worker, connections).await
}

/// Opens connections to one of an instance's two APIs.
#[derive(Clone, Debug)]
pub struct Connector {
    streams: mpsc::UnboundedSender<DuplexStream>,
    events: mpsc::UnboundedSender<HostEvent>,
    ended: watch::Receiver<bool>,
}

impl Instance {
    /// Starts a supervisor on the current `LocalSet`. The stream carries its log.
    ///
    /// # Panics
    /// If the configuration has no command. (The command is never started.)
    pub fn start(config: InstanceConfig) -> (Self, DuplexStream) {
        let (events, received) = mpsc::unbounded_channel();
        let process = Rc::new(Process::new(events.clone()));
        let setup = Setup {
            processes: Box::new(process.clone()),
            ..Setup::default()
        };
        let worker = lifecycle::worker_of(config, setup, UNUSED_ADDRESSES, Variables::default())
            .expect("a command");
        let (end, ended) = watch::channel(false);
        let connector = || {
            let (streams, listener) = mpsc::unbounded_channel();
            let connector = Connector {
                streams,
                events: events.clone(),
                ended: ended.clone(),
            };
            (connector, Listener::Memory(RefCell::new(listener)))
        };
        let ((control, control_end), (runtime, runtime_end)) = (connector(), connector());
        let (log, log_end) = tokio::io::duplex(STREAM_BUFFER);
        let connections = Connections {
            instance: None,
            control: GatewayPort::new(control_end, None),
            runtime: runtime_end,
            door: None,
            log: Stdout::Memory(log_end),
            host_events: HostEvents::InProcess(received),
        };
        let life = lifecycle::live(worker.clone(), connections);
        // A `LocalSet` of its own ends all tasks of this supervisor together, as the end of a process does.
        let life = task::spawn_local(async move {
            let lived = LocalSet::new().run_until(life).await;
            lived.expect("the supervisor fails");
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

    /// Connects as gateways do.
    pub fn control(&self) -> &Connector {
        &self.control
    }

    /// Connects as the runtime process does.
    pub fn runtime(&self) -> &Connector {
        &self.runtime
    }

    /// How many runtime processes have been started so far.
    pub fn starts(&self) -> watch::Receiver<usize> {
        self.process.starts.subscribe()
    }

    /// The `tracestate` of the invocation that the runtime process works on.
    pub fn trace_state(&self) -> Option<String> {
        let worker = self.worker.borrow();
        let state = worker.current()?.trace_state.as_ref()?;
        state.to_str().ok().map(str::to_owned)
    }

    /// Has the runtime process print a line.
    pub fn print(&self, source: LogSource, line: &str) {
        self.worker.borrow_mut().print(source, line);
    }

    /// Has the runtime process exit.
    pub fn exit(&self, exit: Exit) {
        self.process.end(exit);
    }

    /// Ends the supervisor and all its connections at once, as the loss of their machine does.
    pub fn lose(&self) {
        self.life.abort();
    }

    /// Returns when the supervisor has ended, for whatever reason.
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
    /// If the supervisor has ended, or is ending and accepts no more connections.
    pub fn connect(&self) -> io::Result<DuplexStream> {
        let (near, far) = tokio::io::duplex(STREAM_BUFFER);
        let sent = self.streams.send(far);
        sent.map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
        Ok(near)
    }

    /// Reports that the supervisor's parent has exited, so that the supervisor ends at once.
    pub fn abandon(&self) {
        // It fails if the supervisor has ended already.
        let _ = self.events.send(HostEvent::ParentExited);
    }

    /// Returns when the supervisor has ended, for whatever reason.
    pub async fn ended(&mut self) {
        // An error means that the supervisor was lost.
        let _ = self.ended.wait_for(|ended| *ended).await;
    }
}

/// Replaces the kernel: stands for one runtime process after the other.
#[derive(Debug)]
pub(crate) struct Process {
    /// How the present one exited; `None` while it runs.
    exit: RefCell<Option<Exit>>,
    starts: watch::Sender<usize>,
    events: mpsc::UnboundedSender<HostEvent>,
}

impl Process {
    pub(crate) fn new(events: mpsc::UnboundedSender<HostEvent>) -> Self {
        Process {
            // No process runs yet.
            exit: RefCell::new(Some(Exit::Code(0))),
            starts: watch::Sender::new(0),
            events,
        }
    }

    fn end(&self, exit: Exit) {
        if self.exit.borrow().is_none() {
            self.exit.replace(Some(exit));
            // It fails if the supervisor has ended, and nobody reaps the process.
            let _ = self.events.send(HostEvent::ChildExited);
        }
    }
}

impl ProcessControl for Rc<Process> {
    fn start(&self, _: Program<'_>) -> Result<(Pid, Option<Output>), StartError> {
        self.exit.replace(None);
        self.starts.send_modify(|starts| *starts += 1);
        Ok((Pid::INIT, None))
    }

    fn memory_of(&self, _: Pid, _: MemoryMiB) -> Memory {
        Memory::default()
    }

    fn freeze(&self, _: Pid) -> Vec<Pid> {
        Vec::new()
    }

    fn thaw(&self, _: Pid, _: &[Pid]) {}

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
