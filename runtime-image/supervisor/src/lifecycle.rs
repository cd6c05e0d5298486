//! Birth and death of the supervisor: its ports, its signals, its alarm, its parent.
//!
//! Has an unclaimed one wait for its `claim`, turns what comes from outside into calls to `worker`, and ends when that is finished, taking
//! along all that the runtime process started. Waits without polling.

use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use pilotlight_core::wire::{InstanceConfig, Unclaimed};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

use crate::connection::{self, Listener};
use crate::worker::{Shared, Worker};
use crate::{claim, control_api, environment, log, process, runtime_api};

/// For a log's reader that is slower than the instance's end.
const LOG_LIMIT: Duration = Duration::from_secs(2);

/// What this process was started for.
#[derive(Debug)]
pub(crate) enum Purpose {
    Run(InstanceConfig),
    /// To wait for a claim; with a configuration, for that one's code.
    Wait(Unclaimed, Option<InstanceConfig>),
}

pub(crate) async fn run(purpose: Purpose) -> anyhow::Result<()> {
    let (listen, ends_with_parent) = match &purpose {
        Purpose::Run(config) => (&config.listen, config.ends_with_parent),
        Purpose::Wait(unclaimed, _) => (&unclaimed.listen, unclaimed.ends_with_parent),
    };
    let control = Listener::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen}"))?;
    let mut outside = Outside::new(ends_with_parent)?;
    log::announce(&control.address()?).context("standard output is closed")?;
    let (instance, config) = match purpose {
        Purpose::Run(config) => (None, config),
        Purpose::Wait(unclaimed, config) => {
            let claimed = tokio::select! {
                claimed = claim::wait(&control, unclaimed, config) => claimed?,
                () = outside.is_told_to_end() => None,
            };
            match claimed {
                Some((instance, config)) => (Some(instance), config),
                None => return Ok(()),
            }
        }
    };
    instance_of(config, instance, control, outside).await
}

/// The life of an instance whose function is known.
async fn instance_of(
    mut config: InstanceConfig,
    instance: Option<String>,
    control: Listener,
    mut outside: Outside,
) -> anyhow::Result<()> {
    anyhow::ensure!(
        !config.command.is_empty(),
        "the configuration's `command` is empty"
    );
    config.environment = environment::complete(config.environment, std::env::vars_os());
    process::become_reaper().context("cannot become the reaper of the runtime's children")?;
    let runtime = connection::loopback().await;
    let (runtime, api) = runtime.context("cannot listen for the runtime process")?;

    let worker = Worker::new(config, api);
    let log = tokio::task::spawn_local(log::write_out(worker.clone()));
    let closing = Rc::new(Notify::new());
    let control = control_api::serve(control, worker.clone(), instance, closing.clone());
    let control = tokio::task::spawn_local(control);
    let runtime = tokio::task::spawn_local(runtime_api::serve(runtime, worker.clone()));
    worker.borrow_mut().boot();
    // A task like all others: the outermost future is woken by a write to this process itself.
    let driven = worker.clone();
    let drive = async move { outside.drive(&driven).await };
    tokio::task::spawn_local(drive)
        .await
        .context("the worker broke")?;

    runtime.abort();
    worker.borrow_mut().end();
    closing.notify_one();
    control.await.context("the control API broke")?;
    // A parent that has gone reads no log, and one that is too slow gets the rest of it never.
    let _ = tokio::time::timeout(LOG_LIMIT, log).await;
    Ok(())
}

/// What the kernel and the parent tell this process.
struct Outside {
    child: Signal,
    terminate: Signal,
    interrupt: Signal,
    lifeline: Option<pipe::Receiver>,
}

impl Outside {
    /// Before the first child is started, so that no exit goes unheard.
    fn new(ends_with_parent: bool) -> anyhow::Result<Self> {
        let lifeline = ends_with_parent.then(|| {
            let stdin = io::stdin().as_fd().try_clone_to_owned()?;
            pipe::Receiver::from_owned_fd(stdin)
        });
        Ok(Outside {
            child: signal(SignalKind::child())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            lifeline: lifeline
                .transpose()
                .context("`endsWithParent` needs a pipe as input")?,
        })
    }

    async fn is_told_to_end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            () = ended(&mut self.lifeline) => {}
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
                _ = self.child.recv() => worker.borrow_mut().on_child(),
                _ = self.terminate.recv() => worker.borrow_mut().drain(),
                _ = self.interrupt.recv() => worker.borrow_mut().drain(),
                () = ended(&mut self.lifeline) => return,
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
