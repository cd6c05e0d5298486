//! Birth and death of the supervisor: its ports, its signals, its alarm, its parent.
//!
//! Has an unclaimed one wait for its `claim`, with a runtime process that waits too; turns what comes
//! from outside into calls to `worker`, and ends when that is finished, taking along all that the
//! runtime process started. Waits without polling.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use pilotlight_core::instance::following::ORPHANED_AFTER;
use pilotlight_core::instance::launch;
use pilotlight_wire::config::{Gateways, InstanceConfig, Unclaimed};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc};

use crate::claim::Claimed;
use crate::connection::{self, Listener};
use crate::door::{self, Door};
use crate::log::Stdout;
use crate::memory::group::Group;
use crate::prestart::Prestarted;
use crate::process::Kernel;
use crate::worker::{Origin, Shared, Worker};
use crate::{claim, control_api, environment, log, process, runtime_api};

/// For a log's reader that is slower than the instance's end.
const LOG_LIMIT: Duration = Duration::from_secs(2);

/// What this process was started for.
#[derive(Debug)]
pub enum Purpose {
    Run(InstanceConfig),
    /// To wait for a claim; with a configuration, for that one's code.
    Wait(Unclaimed, Option<InstanceConfig>),
}

/// The life of the whole process. `gateways`: where the function calls others.
pub async fn run(purpose: Purpose, gateways: Option<Gateways>) -> anyhow::Result<()> {
    let (listen, ends_with_parent) = match &purpose {
        Purpose::Run(config) => (&config.listen, config.ends_with_parent),
        Purpose::Wait(unclaimed, _) => (&unclaimed.listen, unclaimed.ends_with_parent),
    };
    let control = Listener::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen}"))?;
    let mut outside = Outside::Signals(Signals::new(ends_with_parent)?);
    process::become_reaper().context("cannot become the reaper of the runtime's children")?;
    let runtime = connection::loopback().await;
    let runtime = runtime.context("cannot listen for the runtime process")?;
    let door = match &gateways {
        Some(_) => connection::loopback().await.map(Some),
        None => Ok(None),
    };
    let door = door.context("cannot listen for calls of other functions")?;
    log::announce(&control.address()?).context("standard output is closed")?;
    let (config, instance, origin) = match purpose {
        Purpose::Run(config) => {
            let group = group_of(&config);
            (config, None, origin(group))
        }
        Purpose::Wait(unclaimed, own) => {
            let claimed = claimed(&control, &mut outside, unclaimed, own, runtime.1).await?;
            let Some((claimed, origin)) = claimed else {
                return Ok(());
            };
            (claimed.config, Some(claimed.instance), origin)
        }
    };
    let caller = gateways.and_then(|gateways| Door::new(&gateways, &config.function));
    let door = door.zip(caller);
    let ways = Ways {
        api: runtime.1,
        door: door.as_ref().map(|((_, address), _)| *address),
    };
    let worker = worker_of(config, origin, ways)?;
    let surroundings = Surroundings {
        instance,
        control,
        runtime: runtime.0,
        door: door.map(|((listener, _), door)| (listener, door)),
        log: Stdout::open().context("standard output is closed")?,
        outside,
    };
    live(worker, surroundings).await
}

/// Waits to be an instance of a function, with a runtime process beside it that does. `None`: it is
/// told to end instead.
async fn claimed(
    control: &Listener,
    outside: &mut Outside,
    unclaimed: Unclaimed,
    own: Option<InstanceConfig>,
    api: SocketAddr,
) -> anyhow::Result<Option<(Claimed, Origin)>> {
    let mut prestarted = None;
    if let Some(prestart) = unclaimed.prestart {
        match Prestarted::start(prestart, api) {
            Ok(started) => prestarted = Some(started),
            Err(error) => log::say(&format!("no runtime process waits: {error}"))?,
        }
    }
    let claim = claim::wait(control, unclaimed.root, own);
    tokio::pin!(claim);
    let claimed = loop {
        tokio::select! {
            claimed = &mut claim => break claimed,
            told = outside.hears() => match told {
                Told::ChildEnded => reap(&mut prestarted)?,
                Told::End | Told::ParentEnded => break Ok(None),
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
    let origin = Origin {
        prestarted,
        unpack: claimed.unpack,
        orphaned_after: claimed.from_pool.then_some(limit),
        ..origin(group)
    };
    Ok(Some((claimed, origin)))
}

fn origin(group: Option<Group>) -> Origin {
    let group = group.map(Rc::new);
    Origin {
        processes: Box::new(Kernel { group }),
        ..Origin::default()
    }
}

/// The control group that counts an instance's memory: in a pod the container's, in local mode one that
/// is created for the instance.
fn group_of(config: &InstanceConfig) -> Option<Group> {
    if !config.ends_with_parent {
        return Group::of_container();
    }
    let scratch = config.environment.get("TMPDIR");
    let scratch = scratch.map_or("/tmp", String::as_str);
    Group::made(config.memory, Path::new(scratch))
}

/// A process that waited may be among those that have ended.
fn reap(prestarted: &mut Option<Prestarted>) -> io::Result<()> {
    let ended = prestarted.take_if(|waiting| process::peek_exit(waiting.pid).is_some());
    let mut said = Ok(());
    if let Some(mut ended) = ended {
        ended.printed(|text| said = log::say(text));
        process::kill(Some(ended.pid));
    }
    process::reap(prestarted.as_ref().map(|waiting| waiting.pid));
    said
}

/// Addresses for the runtime process.
pub(crate) struct Ways {
    /// The Runtime API.
    pub(crate) api: SocketAddr,
    /// The door, for calls of other functions.
    pub(crate) door: Option<SocketAddr>,
}

/// All state of an instance whose function is known.
pub(crate) fn worker_of(
    mut config: InstanceConfig,
    origin: Origin,
    ways: Ways,
) -> anyhow::Result<Shared> {
    anyhow::ensure!(
        !config.command.is_empty(),
        "the configuration's `command` is empty"
    );
    let Ways { api, door } = ways;
    config.environment = environment::complete(config.environment, std::env::vars_os(), api, door);
    config.command = launch::wrapped(config.command, &mut config.environment);
    Ok(Worker::new(config, origin))
}

/// What an instance hears from and speaks to.
pub(crate) struct Surroundings {
    /// The name that it was claimed as, if it was.
    pub(crate) instance: Option<String>,
    /// For the gateways.
    pub(crate) control: Listener,
    /// For the runtime process.
    pub(crate) runtime: Listener,
    pub(crate) door: Option<(Listener, Door)>,
    pub(crate) log: Stdout,
    pub(crate) outside: Outside,
}

/// The life of an instance.
pub(crate) async fn live(worker: Shared, surroundings: Surroundings) -> anyhow::Result<()> {
    let Surroundings {
        instance,
        control,
        runtime,
        door,
        log,
        mut outside,
    } = surroundings;
    let log = tokio::task::spawn_local(log::write_out(worker.borrow().log(), log));
    let closing = Rc::new(Notify::new());
    let control = control_api::serve(control, worker.clone(), instance, closing.clone());
    let control = tokio::task::spawn_local(control);
    let runtime = tokio::task::spawn_local(runtime_api::serve(runtime, worker.clone()));
    let door = door.map(|(listener, door)| tokio::task::spawn_local(door::serve(listener, door)));
    worker.borrow_mut().boot();
    // A task like all others: the outermost future is woken by a write to this process itself.
    let driven = worker.clone();
    let drive = async move { outside.drive(&driven).await };
    tokio::task::spawn_local(drive)
        .await
        .context("the worker broke")?;

    runtime.abort();
    door.inspect(tokio::task::JoinHandle::abort);
    worker.borrow_mut().end();
    closing.notify_one();
    control.await.context("the control API broke")?;
    // A parent that has gone reads no log, and one that is too slow gets the rest of it never.
    let _ = tokio::time::timeout(LOG_LIMIT, log).await;
    Ok(())
}

/// What the kernel or the parent says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    ChildEnded,
    /// Finish, then end.
    End,
    /// The parent process has ended: end at once.
    ParentEnded,
}

/// Who speaks for the kernel and the parent of this process.
pub(crate) enum Outside {
    Signals(Signals),
    /// `in_process` does.
    Caller(mpsc::UnboundedReceiver<Told>),
}

/// What the kernel and the parent tell this process.
pub(crate) struct Signals {
    child: Signal,
    terminate: Signal,
    interrupt: Signal,
    lifeline: Option<pipe::Receiver>,
}

impl Signals {
    /// Before the first child is started, so that no exit goes unheard.
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

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.child.recv() => Told::ChildEnded,
            _ = self.terminate.recv() => Told::End,
            _ = self.interrupt.recv() => Told::End,
            () = ended(&mut self.lifeline) => Told::ParentEnded,
        }
    }
}

impl Outside {
    /// What is said next.
    async fn hears(&mut self) -> Told {
        match self {
            Outside::Signals(signals) => signals.next().await,
            Outside::Caller(caller) => caller.recv().await.unwrap_or(Told::ParentEnded),
        }
    }

    /// Hands the worker whatever happens, until it has finished or the parent is gone.
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
                told = self.hears() => match told {
                    Told::ChildEnded => worker.borrow_mut().on_child(),
                    Told::End => worker.borrow_mut().drain(),
                    Told::ParentEnded => return,
                },
            }
        }
    }
}

/// Waits for the end of what nobody writes to.
async fn ended(lifeline: &mut Option<pipe::Receiver>) {
    let mut ignored = [0; 64];
    match lifeline {
        Some(pipe) => while matches!(pipe.read(&mut ignored).await, Ok(1..)) {},
        None => std::future::pending().await,
    }
}
