//! The supervisor from its start to its end: ports, signals, the alarm, the parent process.
//!
//! An unclaimed supervisor waits here for its `claim`, next to a prestarted runtime process. Afterwards signals,
//! exits and the alarm become calls of `worker`. The supervisor ends when `worker` has finished, and kills all
//! processes that the runtime process has started. Waits without polling.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use pilotlight_core::instance::following::ORPHANED_AFTER;
use pilotlight_core::instance::launch;
use pilotlight_wire::config::{
    DEFAULTS_VARIABLE, DoorConfig, IdentityConfig, InstanceConfig, LOG_RATE_VARIABLE,
    TRACES_VARIABLE, Unclaimed,
};
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::UdpSocket;
use tokio::net::unix::pipe;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc};

use crate::claim::{Claimed, Own};
use crate::connection::{self, Listener};
use crate::control_api::Api;
use crate::door::{self, Door};
use crate::gateways::{GatewayPort, Proof};
use crate::hardening::Variables;
use crate::log::Stdout;
use crate::memory::group::Group;
use crate::prestart::Prestarted;
use crate::process::Kernel;
use crate::segments::Daemon;
use crate::worker::{Setup, Shared, WeakShared, Worker};
use crate::{environment, log, process, runtime_api};

/// How long the end waits for a slow reader of the log.
const LOG_FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// The task of this process.
#[derive(Debug)]
pub enum Purpose {
    /// Run this function.
    Run(InstanceConfig),
    /// Wait for a claim. If there is a configuration, the claim brings the code only.
    WaitForClaim(Unclaimed, Option<InstanceConfig>),
}

/// The parts with which this process exchanges messages.
#[derive(Debug, Default)]
pub struct Neighbours {
    /// Receive the function's calls of other functions.
    pub gateways: Option<DoorConfig>,
    /// How it recognises gateways; `None` in local mode.
    pub identity: Option<IdentityConfig>,
}

/// Runs the process until the instance ends. `variables`: may hold some of the function's.
///
/// # Errors
/// If a port, a signal handler or standard output is not available, or the claim's code cannot be unpacked.
pub async fn run(
    purpose: Purpose,
    Neighbours { gateways, identity }: Neighbours,
    mut variables: Variables,
) -> anyhow::Result<()> {
    let (listen, ends_with_parent) = match &purpose {
        Purpose::Run(config) => (&config.listen, config.ends_with_parent),
        Purpose::WaitForClaim(unclaimed, _) => (&unclaimed.listen, unclaimed.ends_with_parent),
    };
    let control = Listener::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen}"))?;
    let proof = identity.as_ref().map(Proof::of).transpose()?;
    let control = GatewayPort::new(control, proof);
    let mut host_events = HostEvents::Signals(Signals::new(ends_with_parent)?);
    process::become_reaper().context("cannot become the reaper of the runtime's children")?;
    let runtime = connection::loopback().await;
    let runtime = runtime.context("cannot listen for the runtime process")?;
    let door = match &gateways {
        Some(_) => connection::loopback().await.map(Some),
        None => Ok(None),
    };
    let door = door.context("cannot listen for calls of other functions")?;
    log::announce(&control.listener.address()?).context("standard output is closed")?;
    let (config, instance, setup) = match purpose {
        Purpose::Run(config) => {
            let group = group_of(&config);
            (config, None, setup(group))
        }
        Purpose::WaitForClaim(unclaimed, own) => {
            let claimed = claimed(&control, &mut host_events, unclaimed, own, runtime.1).await?;
            let Some((claimed, setup)) = claimed else {
                return Ok(());
            };
            if let Some(defaults) = claimed.defaults {
                variables.put(DEFAULTS_VARIABLE, defaults.join(","));
            }
            (claimed.config, Some(claimed.instance), setup)
        }
    };
    let authorities = identity.as_ref().map(|identity| &*identity.authorities);
    let caller = gateways.map(|gateways| Door::new(&gateways, authorities, &config.function));
    let caller = caller.transpose().context("the door to other functions")?;
    let door = door.zip(caller);
    let (daemon, daemon_address) = match variables.take(TRACES_VARIABLE) {
        Some(_) => Daemon::bind(!ends_with_parent).map(Option::Some),
        None => Ok(None),
    }
    .context("cannot listen for the function's segments")?
    .unzip();
    let setup = Setup { daemon, ..setup };
    let addresses = RuntimeAddresses {
        daemon: daemon_address,
        api: runtime.1,
        door: door.as_ref().map(|((_, address), _)| *address),
    };
    let worker = worker_of(config, setup, addresses, variables)?;
    let connections = Connections {
        instance,
        control,
        runtime: runtime.0,
        door: door.map(|((listener, _), door)| (listener, door)),
        log: Stdout::open().context("standard output is closed")?,
        host_events,
    };
    live(worker, connections).await
}

/// Starts the prestarted runtime process and waits for a claim. `None` if this process has to end instead.
async fn claimed(
    control: &GatewayPort,
    host_events: &mut HostEvents,
    unclaimed: Unclaimed,
    own: Option<InstanceConfig>,
    api: SocketAddr,
) -> anyhow::Result<Option<(Claimed, Setup)>> {
    let mut prestarted = None;
    if let Some(prestart) = unclaimed.prestart {
        match Prestarted::start(prestart, api) {
            Ok(started) => prestarted = Some(started),
            Err(error) => log::write_now(&format!(
                "the runtime process cannot be started before the claim: {error}"
            ))?,
        }
    }
    let own = own.map(|config| Own {
        instance: unclaimed.instance,
        config,
        archives: unclaimed.archives,
    });
    let claim = control.wait_for_claim(unclaimed.root, own);
    tokio::pin!(claim);
    let claimed = loop {
        tokio::select! {
            claimed = &mut claim => break claimed,
            event = host_events.next() => match event {
                HostEvent::ChildExited => reap(&mut prestarted)?,
                HostEvent::DrainRequested | HostEvent::ParentExited => break Ok(None),
            },
        }
    };
    let Ok(Some(claimed)) = claimed else {
        process::kill_and_reap_all(prestarted.map(|waiting| waiting.pid));
        return claimed.map(|_| None);
    };
    let group = (!unclaimed.ends_with_parent).then(Group::of_container);
    let group = group.flatten();
    let limit = unclaimed.orphaned_after_ms;
    let limit = limit.map_or(ORPHANED_AFTER, Duration::from_millis);
    let setup = Setup {
        prestarted,
        unpack: claimed.unpack,
        orphaned_after: claimed.from_pool.then_some(limit),
        ..setup(group)
    };
    Ok(Some((claimed, setup)))
}

fn setup(group: Option<Group>) -> Setup {
    let group = group.map(Rc::new);
    Setup {
        processes: Box::new(Kernel { group }),
        ..Setup::default()
    }
}

/// The control group that counts the instance's memory: in a pod the container's, in local mode one that
/// this process creates. `None` if there is neither.
fn group_of(config: &InstanceConfig) -> Option<Group> {
    if !config.ends_with_parent {
        return Group::of_container();
    }
    let scratch = config.environment.get("TMPDIR");
    let scratch = scratch.map_or("/tmp", String::as_str);
    Group::create(config.memory, Path::new(scratch))
}

/// Reaps all processes that have ended. If the prestarted one is among them, its output is logged first.
fn reap(prestarted: &mut Option<Prestarted>) -> io::Result<()> {
    let ended = prestarted.take_if(|waiting| process::peek_exit(waiting.pid).is_some());
    let mut logged = Ok(());
    if let Some(mut ended) = ended {
        ended.printed(|text| logged = log::write_now(text));
        process::kill(Some(ended.pid));
    }
    process::reap(prestarted.as_ref().map(|waiting| waiting.pid));
    logged
}

/// Addresses that the runtime process finds in its environment.
pub(crate) struct RuntimeAddresses {
    /// The Runtime API.
    pub(crate) api: SocketAddr,
    /// The door for calls of other functions, if the instance has one.
    pub(crate) door: Option<SocketAddr>,
    /// The port for segments, if the instance has one.
    pub(crate) daemon: Option<SocketAddr>,
}

/// The state of an instance whose function is known. Completes the runtime process's environment and command.
pub(crate) fn worker_of(
    mut config: InstanceConfig,
    mut setup: Setup,
    addresses: RuntimeAddresses,
    mut variables: Variables,
) -> anyhow::Result<Shared> {
    if let Some(rate) = variables.take(LOG_RATE_VARIABLE) {
        let rate = rate.to_string_lossy();
        let read = rate.parse();
        setup.log_rate = Some(read.with_context(|| format!("{LOG_RATE_VARIABLE}={rate}"))?);
    }
    anyhow::ensure!(
        !config.command.is_empty(),
        "the configuration's `command` is empty"
    );
    let RuntimeAddresses { api, door, daemon } = addresses;
    let pairs = variables.into_pairs();
    config.environment = environment::complete(config.environment, pairs, api, door, daemon);
    config.command = launch::wrapped(config.command, &mut config.environment);
    Ok(Worker::new(config, setup))
}

/// An instance's connections to everything outside of it.
pub(crate) struct Connections {
    /// The name that the claim gave it, if there was a claim.
    pub(crate) instance: Option<String>,
    /// Gateways connect here.
    pub(crate) control: GatewayPort,
    /// The runtime process connects here.
    pub(crate) runtime: Listener,
    pub(crate) door: Option<(Listener, Door)>,
    pub(crate) log: Stdout,
    pub(crate) host_events: HostEvents,
}

/// Runs an instance until it ends.
pub(crate) async fn live(worker: Shared, connections: Connections) -> anyhow::Result<()> {
    let Connections {
        instance,
        control,
        runtime,
        door,
        log,
        mut host_events,
    } = connections;
    let log = tokio::task::spawn_local(log::write_out(worker.borrow().log(), log));
    let closing = Rc::new(Notify::new());
    let api = Api {
        worker: worker.clone(),
        instance,
    };
    let control = tokio::task::spawn_local(control.serve(api, closing.clone()));
    let runtime = tokio::task::spawn_local(runtime_api::serve(runtime, worker.clone()));
    let daemon = worker.borrow().daemon().map(Daemon::readiness);
    let daemon = daemon.map(|socket| read_segments(socket, Rc::downgrade(&worker)));
    let daemon = daemon.map(tokio::task::spawn_local);
    let door = door.map(|(listener, door)| {
        let door = door.traced_by(Rc::downgrade(&worker));
        tokio::task::spawn_local(door::serve(listener, door))
    });
    worker.borrow_mut().boot();
    // A spawned task, since waking the outermost future costs a system call and waking a task does not.
    let driven = worker.clone();
    let drive = async move { host_events.drive(&driven).await };
    tokio::task::spawn_local(drive)
        .await
        .context("the worker panicked")?;

    runtime.abort();
    door.inspect(tokio::task::JoinHandle::abort);
    daemon.inspect(tokio::task::JoinHandle::abort);
    worker.borrow_mut().end();
    closing.notify_one();
    control.await.context("the control API panicked")?;
    // After the timeout the rest of the log is lost: its reader is gone, or takes nothing.
    let _ = tokio::time::timeout(LOG_FLUSH_TIMEOUT, log).await;
    Ok(())
}

/// Reads datagrams as they come, so that the kernel need not keep many, until the instance ends.
async fn read_segments(socket: Rc<UdpSocket>, worker: WeakShared) {
    while socket.readable().await.is_ok() {
        let Some(worker) = worker.upgrade() else {
            return;
        };
        let is_empty = worker.borrow_mut().read_segments();
        drop(worker);
        match is_empty {
            // Has the socket wait for the next datagram.
            true => drop(socket.try_io(Interest::READABLE, || {
                Err::<(), _>(io::ErrorKind::WouldBlock.into())
            })),
            false => tokio::task::yield_now().await,
        }
    }
}

/// An event from the kernel or the parent process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostEvent {
    ChildExited,
    /// A signal asks this process to drain: to finish the invocation at hand, then end.
    DrainRequested,
    /// The parent process has exited, so this process ends at once.
    ParentExited,
}

/// The source of [`HostEvent`]s.
pub(crate) enum HostEvents {
    Signals(Signals),
    /// `in_process` sends them in the place of a kernel.
    InProcess(mpsc::UnboundedReceiver<HostEvent>),
}

/// Signals, and the pipe that the parent process holds open.
pub(crate) struct Signals {
    child: Signal,
    terminate: Signal,
    interrupt: Signal,
    lifeline: Option<pipe::Receiver>,
}

impl Signals {
    /// Call it before the first child is started, so that no exit is missed.
    fn new(ends_with_parent: bool) -> anyhow::Result<Self> {
        let lifeline = ends_with_parent.then(|| {
            let stdin = io::stdin().as_fd().try_clone_to_owned()?;
            pipe::Receiver::from_owned_fd(stdin)
        });
        Ok(Signals {
            child: signal(SignalKind::child())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            lifeline: lifeline
                .transpose()
                .context("`endsWithParent` needs a pipe as input")?,
        })
    }

    async fn next(&mut self) -> HostEvent {
        tokio::select! {
            _ = self.child.recv() => HostEvent::ChildExited,
            _ = self.terminate.recv() => HostEvent::DrainRequested,
            _ = self.interrupt.recv() => HostEvent::DrainRequested,
            () = end_of(&mut self.lifeline) => HostEvent::ParentExited,
        }
    }
}

impl HostEvents {
    async fn next(&mut self) -> HostEvent {
        match self {
            HostEvents::Signals(signals) => signals.next().await,
            HostEvents::InProcess(events) => events.recv().await.unwrap_or(HostEvent::ParentExited),
        }
    }

    /// Passes events and alarms to the worker until it has finished or the parent has exited.
    async fn drive(&mut self, worker: &Shared) {
        let changed = worker.borrow().changed.clone();
        while !worker.borrow().finished {
            let alarm = worker.borrow().alarm();
            let alarm = async {
                match alarm {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = changed.notified() => {}
                () = alarm => worker.borrow_mut().on_alarm(),
                event = self.next() => match event {
                    HostEvent::ChildExited => worker.borrow_mut().on_child(),
                    HostEvent::DrainRequested => worker.borrow_mut().drain(),
                    HostEvent::ParentExited => return,
                },
            }
        }
    }
}

/// Waits until the parent's end of the pipe is closed. Nobody writes to it.
async fn end_of(lifeline: &mut Option<pipe::Receiver>) {
    let mut ignored = [0; 64];
    match lifeline {
        Some(pipe) => while matches!(pipe.read(&mut ignored).await, Ok(1..)) {},
        None => std::future::pending().await,
    }
}
