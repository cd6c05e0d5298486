//! The one task that owns every function's pool.
//!
//! It receives messages (`message`): invocations from `invoker` and reports from `instance` tasks. It
//! passes them, and the time, to `core::invoke`; `function` carries out the resulting actions. The task never
//! waits for IO, and it passes payloads on without copying them. It publishes the deployed functions in
//! `catalog`, which the request handlers read.

mod function;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pilotlight_core::ids::{PoolId, Qualifier};
use pilotlight_core::invoke::budget::{Budget, ShareId};
use pilotlight_core::invoke::pool::{self, InstanceId, Pool, Settings};
use pilotlight_core::reason::Reason;
use tokio::sync::{mpsc, watch};
use tokio::task;
use tokio_util::sync::CancellationToken;

use self::function::{Function, TaskContext, Tasks};
use crate::backend::Backend;
use crate::catalog::{Catalog, Deployment, Entry, PoolKey, Source};
use crate::clock;
use crate::config::Config;
use crate::intake::Intake;
use crate::logs::Hub;
use crate::message::{Message, Outcome, OwnershipChange, Pending, Report};
use crate::metrics::Metrics;

pub(crate) struct Driver {
    config: Config,
    context: TaskContext,
    metrics: Metrics,
    inbox: mpsc::Receiver<Message>,
    catalog: watch::Sender<Arc<Catalog>>,
    functions: HashMap<PoolKey, Function>,
    next_key: u64,
    timers: BTreeSet<(Instant, PoolKey)>,
    tasks: Tasks,
    is_stopping: bool,
}

impl Driver {
    pub(crate) fn new(
        config: Config,
        backend: Arc<dyn Backend>,
        (metrics, intake, logs): (Metrics, Intake, Option<Hub>),
        (sender, inbox): (mpsc::Sender<Message>, mpsc::Receiver<Message>),
        catalog: watch::Sender<Arc<Catalog>>,
    ) -> Self {
        Driver {
            config,
            context: TaskContext {
                backend,
                intake,
                logs,
                sender,
                force: CancellationToken::new(),
            },
            metrics,
            inbox,
            catalog,
            functions: HashMap::new(),
            next_key: 0,
            timers: BTreeSet::new(),
            tasks: Tasks::default(),
            is_stopping: false,
        }
    }

    /// Runs until the shutdown message.
    pub(crate) async fn run(mut self) {
        loop {
            if let Some(Message::Shutdown { grace, done }) = self.next_message().await {
                self.shut_down(grace).await;
                let _ = done.send(());
                return;
            }
        }
    }

    /// Waits for the next message, task or timer, and handles it; returns the shutdown message.
    async fn next_message(&mut self) -> Option<Message> {
        let next_timer = self.timers.first().copied();
        let timer = async {
            match next_timer {
                Some((at, _)) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            message = self.inbox.recv() => match message.expect("the driver holds a sender") {
                message @ Message::Shutdown { .. } => return Some(message),
                message => self.on_message(message),
            },
            Some(ended) = self.tasks.running.join_next_with_id() => self.on_task_ended(ended),
            () = timer => {
                if let Some((at, key)) = self.timers.pop_first() {
                    let now = clock::now().max(at);
                    self.with(key, |function| {
                        function.timer = None;
                        function.pool.wake(now);
                    });
                }
            }
        }
        None
    }

    fn on_message(&mut self, message: Message) {
        match message {
            Message::Invoke { pool, pending } => self.on_invocation(pool, pending),
            Message::Abandoned { pool, invocation } => self.with(pool, |function| {
                function
                    .pool
                    .handle(clock::now(), pool::Event::Abandoned { invocation });
                function.pending.remove(&invocation);
            }),
            Message::Report {
                pool,
                instance,
                report,
            } => self.on_report(pool, instance, report),
            Message::Deploy { all, done } => {
                self.deploy(all);
                let _ = done.send(());
            }
            Message::Change { set, removed, done } => {
                self.change(set, removed);
                let _ = done.send(());
            }
            Message::ChangeOwnership { change, done } => {
                self.change_ownership(change);
                let _ = done.send(());
            }
            Message::Shutdown { .. } => {}
        }
    }

    fn change_ownership(&mut self, change: OwnershipChange) {
        let now = clock::now();
        let mut catalog = Catalog::clone(&self.catalog.borrow());
        let mut changed = Vec::new();
        for name in change.lost {
            if let Some(entry) = catalog.get_mut(&name) {
                entry.is_owned = false;
                changed.push((entry.pool, None));
            }
        }
        for (name, instances) in change.gained {
            if let Some(entry) = catalog.get_mut(&name) {
                entry.is_owned = true;
                changed.push((entry.pool, Some(instances)));
            }
        }
        // Publish the catalog first, so that a call that a pool rejects as moved finds the new owner.
        self.catalog.send_replace(Arc::new(catalog));
        for (key, instances) in changed {
            match (instances, self.functions.get_mut(&key)) {
                (Some(instances), Some(function)) => {
                    function.pool.take_over();
                    for name in instances {
                        function.adopt(key, name, now, &self.context, &mut self.tasks);
                    }
                    self.with(key, |function| function.pool.wake(now));
                }
                (None, Some(_)) => self.with(key, |function| {
                    function.pool.handle(now, pool::Event::HandedOver);
                }),
                (_, None) => {}
            }
        }
    }

    fn on_invocation(&mut self, key: PoolKey, pending: Pending) {
        if !self.functions.contains_key(&key) {
            // The pool ended before the invocation reached it.
            pending.end(match self.is_stopping {
                true => Outcome::Stopping,
                false => Outcome::NotFound,
            });
            return;
        }
        self.with(key, |function| {
            let (invocation, bytes) = (pending.id, pending.invocation.payload.len());
            function.pending.insert(invocation, pending);
            function
                .pool
                .handle(clock::now(), pool::Event::Arrived { invocation, bytes });
        });
    }

    fn on_report(&mut self, key: PoolKey, instance: InstanceId, report: Report) {
        self.with(key, |function| {
            let event = match report {
                Report::Up => pool::Event::Up { instance },
                Report::Observed(status) => {
                    function.note_ready(instance, status);
                    pool::Event::StatusReported { instance, status }
                }
                Report::Finished(status) => pool::Event::Finished { instance, status },
                Report::NotStarted { pending, status } => {
                    function.pending.insert(pending.id, pending);
                    pool::Event::NotStarted { instance, status }
                }
            };
            function.pool.handle(clock::now(), event);
        });
    }

    fn on_task_ended(&mut self, ended: Result<(task::Id, Reason), task::JoinError>) {
        let (id, reason) = match ended {
            Ok((id, reason)) => (id, reason),
            Err(error) => (
                error.id(),
                Reason::from(format!("the instance's task failed: {error}")),
            ),
        };
        let Some((key, instance)) = self.tasks.names.remove(&id) else {
            return;
        };
        let backend = self.context.backend.clone();
        self.with(key, |function| {
            tracing::debug!(function = %function.deployment.pool, ?instance, reason = reason.detail(), "instance gone");
            function.forget(instance);
            if let Some(end) = function.pool.end_of(instance) {
                function.metrics.instance_ended(end);
            }
            let event = match backend.refuses(&function.deployment) {
                true => pool::Event::Refused { instance, reason },
                false => pool::Event::Gone { instance, reason },
            };
            function.pool.handle(clock::now(), event);
        });
    }

    fn deploy(&mut self, all: Vec<Deployment>) {
        let pools: BTreeSet<_> = all.iter().map(|deployment| &deployment.pool).collect();
        let catalog = self.catalog.borrow();
        let missing = catalog.keys().filter(|pool| !pools.contains(pool));
        let missing = missing.cloned().collect();
        drop(catalog);
        self.change(all, missing);
    }

    fn change(&mut self, set: Vec<Deployment>, removed: Vec<PoolId>) {
        let now = clock::now();
        let mut catalog = Catalog::clone(&self.catalog.borrow());
        let gone = removed.iter().filter_map(|name| catalog.remove(name));
        let gone: Vec<_> = gone.map(|entry| entry.pool).collect();
        for deployment in set {
            let pool = deployment.pool.clone();
            let entry = match catalog.remove(&pool) {
                Some(entry) if is_same(&entry.deployment, &deployment) => entry,
                Some(entry) => self.renew(entry, deployment, now),
                None => self.add(deployment, self.budget(&pool, &catalog)),
            };
            catalog.insert(pool, entry);
        }
        self.catalog.send_replace(Arc::new(catalog));
        for key in gone {
            self.with(key, |function| {
                function.pool.handle(now, pool::Event::Deleted)
            });
        }
    }

    fn renew(&mut self, old: Entry, deployment: Deployment, now: Instant) -> Entry {
        let settings = self.settings(&deployment);
        let event = match old.deployment.revision == deployment.revision {
            true => pool::Event::Configured { settings },
            false => pool::Event::Replaced { settings },
        };
        old.metrics.limited(settings, memory_of(&deployment));
        let deployment = Arc::new(deployment);
        self.with(old.pool, |function| {
            function.deployment = deployment.clone();
            function.pool.handle(now, event);
        });
        Entry { deployment, ..old }
    }

    /// The budget that the function's other pools already share, or a new one.
    fn budget(&self, pool: &PoolId, catalog: &Catalog) -> Budget {
        let first = PoolId {
            function: pool.function.clone(),
            qualifier: Qualifier::FIRST,
        };
        let siblings = catalog.range(first..);
        let mut siblings = siblings.take_while(|(other, _)| other.function == pool.function);
        let sibling = siblings.find_map(|(_, entry)| self.functions.get(&entry.pool));
        sibling.map_or_else(Budget::default, |sibling| sibling.budget.clone())
    }

    fn add(&mut self, deployment: Deployment, budget: Budget) -> Entry {
        let settings = self.settings(&deployment);
        let key = PoolKey(self.next_key);
        self.next_key += 1;
        let deployment = Arc::new(deployment);
        let metrics = self.metrics.function(&deployment.pool);
        metrics.limited(settings, memory_of(&deployment));
        let is_owned = matches!(deployment.source, Source::Local(_));
        let share = budget.share(ShareId(key.0));
        let mut pool = Pool::new(settings, self.config.bounds(), share);
        if !is_owned {
            // The pool runs nothing until this gateway knows that it owns the function.
            pool.handle(clock::now(), pool::Event::HandedOver);
        }
        let function = Function::new(deployment.clone(), pool, budget, metrics.clone());
        self.functions.insert(key, function);
        if is_owned {
            // Provisioned instances start before the first call.
            self.with(key, |function| function.pool.wake(clock::now()));
        }
        Entry {
            pool: key,
            deployment,
            metrics,
            is_owned,
        }
    }

    fn settings(&self, deployment: &Deployment) -> Settings {
        let concurrency = &deployment.spec.concurrency;
        Settings {
            limit: concurrency
                .reserved
                .map_or(self.config.concurrency, |n| n.get() as usize),
            queue: concurrency.queue.get() as usize,
            timeout: deployment.spec.timeout.duration(),
            keep_alive: deployment.spec.keep_alive.duration(),
            provisioned: concurrency.provisioned.map_or(0, |n| n.get() as usize),
        }
    }

    /// Changes one function's state, and carries out the actions that follow.
    fn with(&mut self, key: PoolKey, change: impl FnOnce(&mut Function)) {
        let Some(function) = self.functions.get_mut(&key) else {
            return;
        };
        change(function);
        while let Some(action) = function.pool.poll_action() {
            let is_stopping = self.is_stopping;
            function.carry_out(key, action, is_stopping, &self.context, &mut self.tasks);
        }
        let (counts, queued) = (function.pool.counts(), function.pool.queued());
        let waiting_since = function.pool.waiting_since();
        function.metrics.observe(counts, queued, waiting_since);
        let deployment = &function.deployment;
        self.context
            .backend
            .observe(deployment, counts.busy, queued);
        let budget = function.budget.clone();
        self.after_change(key);
        self.wake_siblings(&budget);
    }

    /// Wakes the other pools of the function that may now start an instance, or must give one up.
    fn wake_siblings(&mut self, budget: &Budget) {
        while let Some(ShareId(key)) = budget.poll_wakeup() {
            self.with(PoolKey(key), |function| function.pool.wake(clock::now()));
        }
    }

    fn after_change(&mut self, key: PoolKey) {
        let Some(function) = self.functions.get_mut(&key) else {
            return;
        };
        // A timer that is too early stays: it costs one wake-up, and replacing it would cost a change at each call.
        let wake = function.pool.next_wakeup();
        if wake.is_some_and(|at| function.timer.is_none_or(|timer| at < timer)) {
            if let Some(timer) = function.timer {
                self.timers.remove(&(timer, key));
            }
            function.timer = wake;
            self.timers.extend(wake.map(|at| (at, key)));
        }
        if function.pool.is_over() {
            let pool = function.deployment.pool.clone();
            if let Some(timer) = function.timer {
                self.timers.remove(&(timer, key));
            }
            self.functions.remove(&key);
            self.forget_metrics(&pool);
        }
    }

    /// Drops the metrics of a deleted function, unless one of the same name was deployed.
    fn forget_metrics(&self, pool: &PoolId) {
        if !self.catalog.borrow().contains_key(pool) {
            self.metrics.forget(pool);
        }
    }

    async fn shut_down(&mut self, grace: Duration) {
        self.is_stopping = true;
        // The functions stay in the catalog, so a call that arrives now ends as `Stopping` and not as `NotFound`.
        let all: Vec<_> = self.functions.keys().copied().collect();
        for key in all {
            let now = clock::now();
            self.with(key, |function| {
                function.pool.handle(now, pool::Event::Deleted)
            });
        }
        let deadline = clock::now() + grace;
        while !self.tasks.running.is_empty() {
            tokio::select! {
                _ = self.next_message() => {}
                () = tokio::time::sleep_until(deadline.into()), if !self.context.force.is_cancelled() => {
                    self.context.force.cancel();
                }
            }
        }
    }
}

/// The memory of a function, in bytes.
fn memory_of(deployment: &Deployment) -> u64 {
    u64::from(deployment.spec.memory.get()) * 1024 * 1024
}

/// Whether replacing one deployment by the other changes nothing.
fn is_same(one: &Deployment, other: &Deployment) -> bool {
    one.revision == other.revision && one.spec == other.spec
}
