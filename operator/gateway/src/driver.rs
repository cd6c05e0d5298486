//! The one task that owns every function's pool.
//!
//! It receives messages (`message`): invocations from `invoker` and reports from `instance` tasks. It
//! passes them, and the time, to `core::invoke`, and carries out the actions that result: start, stop, dispatch,
//! reject. It never waits for IO itself; payloads pass through by handle. It publishes the deployed functions
//! in `catalog`, which the request handlers read.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pilotlight_core::function::FunctionName;
use pilotlight_core::instance::{Condition, Status};
use pilotlight_core::invoke::budget::{Budget, ShareId};
use pilotlight_core::invoke::pool::{self, InstanceId, Pool, Settings};
use pilotlight_core::invoke::queue::InvocationId;
use tokio::sync::{mpsc, watch};
use tokio::task::{self, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::field::display;

use crate::backend::Backend;
use crate::catalog::{Catalog, Deployment, Entry, PoolKey, Source};
use crate::clock;
use crate::config::Config;
use crate::instance;
use crate::invoker::outcome::{Circumstances, of_rejection};
use crate::message::{self, Message, Order, Outcome, OwnershipChange, Pending, Report};
use crate::metrics::{FunctionMetrics, Metrics};

struct Function {
    deployment: Arc<Deployment>,
    pool: Pool,
    pending: HashMap<InvocationId, Pending>,
    instances: HashMap<InstanceId, Handle>,
    metrics: Arc<FunctionMetrics>,
    /// The wake-up that `Driver::timers` holds for it.
    timer: Option<Instant>,
}

struct Handle {
    name: String,
    orders: mpsc::Sender<Order>,
    /// Until it has served.
    fresh: Option<Fresh>,
}

/// An instance that was started here and has served nothing yet.
struct Fresh {
    begun: Instant,
    ready: Option<Instant>,
}

pub(crate) struct Driver {
    config: Config,
    surroundings: Surroundings,
    metrics: Metrics,
    inbox: mpsc::Receiver<Message>,
    catalog: watch::Sender<Arc<Catalog>>,
    functions: HashMap<PoolKey, Function>,
    next_key: u64,
    timers: BTreeSet<(Instant, PoolKey)>,
    tasks: Tasks,
    is_stopping: bool,
}

/// The instances' tasks; each ends with the reason why its instance did.
#[derive(Default)]
struct Tasks {
    running: JoinSet<Arc<str>>,
    names: HashMap<task::Id, (PoolKey, InstanceId)>,
}

/// What the instances' tasks share.
struct Surroundings {
    backend: Arc<dyn Backend>,
    /// For their reports.
    sender: mpsc::Sender<Message>,
    /// Ends them without further waiting.
    force: CancellationToken,
}

impl Driver {
    pub(crate) fn new(
        config: Config,
        backend: Arc<dyn Backend>,
        metrics: Metrics,
        (sender, inbox): (mpsc::Sender<Message>, mpsc::Receiver<Message>),
        catalog: watch::Sender<Arc<Catalog>>,
    ) -> Self {
        Driver {
            config,
            surroundings: Surroundings {
                backend,
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

    /// Runs until it is told to shut down.
    pub(crate) async fn run(mut self) {
        loop {
            if let Some(Message::Shutdown { grace, done }) = self.next_message().await {
                self.shut_down(grace).await;
                let _ = done.send(());
                return;
            }
        }
    }

    /// Waits for what comes first, and handles it unless it is the end.
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
                self.own(change);
                let _ = done.send(());
            }
            Message::Shutdown { .. } => {}
        }
    }

    fn own(&mut self, change: OwnershipChange) {
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
        // First, so that a call that a pool refuses as moved finds where to.
        self.catalog.send_replace(Arc::new(catalog));
        for (key, instances) in changed {
            match (instances, self.functions.get_mut(&key)) {
                (Some(instances), Some(function)) => {
                    function.pool.take_over();
                    for name in instances {
                        function.adopt(key, name, now, &self.surroundings, &mut self.tasks);
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

    fn on_task_ended(&mut self, ended: Result<(task::Id, Arc<str>), task::JoinError>) {
        let (id, reason) = match ended {
            Ok((id, reason)) => (id, reason),
            Err(error) => (
                error.id(),
                Arc::from(format!("the instance's task failed: {error}")),
            ),
        };
        let Some((key, instance)) = self.tasks.names.remove(&id) else {
            return;
        };
        let backend = self.surroundings.backend.clone();
        self.with(key, |function| {
            tracing::debug!(function = %function.deployment.name, ?instance, %reason, "instance gone");
            function.instances.remove(&instance);
            let event = match backend.refuses(&function.deployment) {
                true => pool::Event::Refused { instance, reason },
                false => pool::Event::Gone { instance, reason },
            };
            function.pool.handle(clock::now(), event);
        });
    }

    fn deploy(&mut self, all: Vec<Deployment>) {
        let names: BTreeSet<_> = all.iter().map(|deployment| &deployment.name).collect();
        let catalog = self.catalog.borrow();
        let missing = catalog.keys().filter(|name| !names.contains(name));
        let missing = missing.cloned().collect();
        drop(catalog);
        self.change(all, missing);
    }

    fn change(&mut self, set: Vec<Deployment>, removed: Vec<FunctionName>) {
        let now = clock::now();
        let mut catalog = Catalog::clone(&self.catalog.borrow());
        let gone = removed.iter().filter_map(|name| catalog.remove(name));
        let gone: Vec<_> = gone.map(|entry| entry.pool).collect();
        for deployment in set {
            let name = deployment.name.clone();
            let entry = match catalog.remove(&name) {
                Some(entry) if is_same(&entry.deployment, &deployment) => entry,
                Some(entry) => self.renew(entry, deployment, now),
                None => self.add(deployment),
            };
            catalog.insert(name, entry);
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
        let deployment = Arc::new(deployment);
        self.with(old.pool, |function| {
            function.deployment = deployment.clone();
            function.pool.handle(now, event);
        });
        Entry { deployment, ..old }
    }

    fn add(&mut self, deployment: Deployment) -> Entry {
        let settings = self.settings(&deployment);
        let key = PoolKey(self.next_key);
        self.next_key += 1;
        let deployment = Arc::new(deployment);
        let metrics = self.metrics.function(&deployment.name);
        let is_owned = matches!(deployment.source, Source::Local(_));
        let share = Budget::default().share(ShareId(key.0));
        let mut pool = Pool::new(settings, self.config.bounds(), share);
        if !is_owned {
            // Until it is known whose it is.
            pool.handle(clock::now(), pool::Event::HandedOver);
        }
        let function = Function {
            deployment: deployment.clone(),
            pool,
            pending: HashMap::new(),
            instances: HashMap::new(),
            metrics: metrics.clone(),
            timer: None,
        };
        self.functions.insert(key, function);
        if is_owned {
            // What is provisioned comes up before the first call.
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
            keep_alive: deployment.spec.keep_alive.duration(),
            provisioned: concurrency.provisioned.map_or(0, |n| n.get() as usize),
        }
    }

    /// Changes one function's state, and does what follows from it.
    fn with(&mut self, key: PoolKey, change: impl FnOnce(&mut Function)) {
        let Some(function) = self.functions.get_mut(&key) else {
            return;
        };
        change(function);
        while let Some(action) = function.pool.poll_action() {
            match action {
                pool::Action::Start { instance } => {
                    let name = uuid::Uuid::new_v4().simple().to_string();
                    let fresh = Fresh {
                        begun: clock::now(),
                        ready: None,
                    };
                    let born = (name, Some(fresh));
                    function.run(key, instance, born, &self.surroundings, &mut self.tasks);
                }
                pool::Action::Stop { instance } => function.order(instance, Order::Drain),
                pool::Action::Release { instance } => function.order(instance, Order::Release),
                pool::Action::Dispatch {
                    invocation,
                    instance,
                } => {
                    function.dispatch(invocation, instance);
                }
                pool::Action::Reject {
                    invocation,
                    rejection,
                } => {
                    let circumstances = Circumstances {
                        is_reserved: function.deployment.spec.concurrency.reserved.is_some(),
                        is_stopping: self.is_stopping,
                    };
                    if let Some(pending) = function.pending.remove(&invocation) {
                        let Pending {
                            invocation,
                            placement,
                            ..
                        } = pending;
                        // A caller that has gone gets nothing.
                        let _ = placement.send(of_rejection(rejection, invocation, circumstances));
                    }
                }
            }
        }
        let (counts, queued) = (function.pool.counts(), function.pool.queued());
        function.metrics.observe(counts, queued);
        let deployment = &function.deployment;
        self.surroundings
            .backend
            .observe(deployment, counts.busy, queued);
        self.after_change(key);
    }

    fn after_change(&mut self, key: PoolKey) {
        let Some(function) = self.functions.get_mut(&key) else {
            return;
        };
        // A timer that is too early is left: it costs one look, not a change at each call.
        let wake = function.pool.next_wakeup();
        if wake.is_some_and(|at| function.timer.is_none_or(|timer| at < timer)) {
            if let Some(timer) = function.timer {
                self.timers.remove(&(timer, key));
            }
            function.timer = wake;
            self.timers.extend(wake.map(|at| (at, key)));
        }
        if function.pool.is_over() {
            let name = function.deployment.name.clone();
            if let Some(timer) = function.timer {
                self.timers.remove(&(timer, key));
            }
            self.functions.remove(&key);
            self.forget_metrics(&name);
        }
    }

    /// A deleted function's metrics go, unless one of the same name has come.
    fn forget_metrics(&self, name: &FunctionName) {
        if !self.catalog.borrow().contains_key(name) {
            self.metrics.forget(name);
        }
    }

    async fn shut_down(&mut self, grace: Duration) {
        self.is_stopping = true;
        // Not from the catalog: a caller who comes now is answered that the gateway ends.
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
                () = tokio::time::sleep_until(deadline.into()), if !self.surroundings.force.is_cancelled() => {
                    self.surroundings.force.cancel();
                }
            }
        }
    }
}

/// Nothing follows from one after the other.
fn is_same(one: &Deployment, other: &Deployment) -> bool {
    one.revision == other.revision && one.spec == other.spec
}

impl Function {
    /// Starts the task of an instance; a backend that has one of this name finds it.
    fn run(
        &mut self,
        pool: PoolKey,
        instance: InstanceId,
        (name, fresh): (String, Option<Fresh>),
        surroundings: &Surroundings,
        tasks: &mut Tasks,
    ) {
        let link = instance::Link {
            pool,
            instance,
            driver: surroundings.sender.clone(),
        };
        let (orders, inbox) = mpsc::channel(message::ORDERS_LIMIT);
        let Surroundings { backend, force, .. } = surroundings;
        let (backend, force) = (backend.clone(), force.clone());
        let reservation = backend.reserve(&self.deployment, &name);
        let wanted = (name.clone(), reservation);
        let run = instance::run(link, wanted, self.deployment.clone(), backend, inbox, force);
        let task = tasks.running.spawn(run);
        tasks.names.insert(task.id(), (pool, instance));
        self.instances.insert(
            instance,
            Handle {
                name,
                orders,
                fresh,
            },
        );
    }

    /// Takes on an instance that lives already, unless it runs one of this gateway's calls still.
    fn adopt(
        &mut self,
        key: PoolKey,
        name: String,
        now: Instant,
        surroundings: &Surroundings,
        tasks: &mut Tasks,
    ) {
        let mut known = self
            .instances
            .iter()
            .filter(|(_, known)| known.name == name);
        if known.any(|(instance, _)| self.pool.keep(now, *instance)) {
            return;
        }
        let instance = self.pool.adopt(now);
        self.run(key, instance, (name, None), surroundings, tasks);
    }

    fn note_ready(&mut self, instance: InstanceId, status: Status) {
        if let Some(handle) = self.instances.get_mut(&instance)
            && let Some(fresh) = &mut handle.fresh
            && status.condition == Condition::Ready
        {
            fresh.ready.get_or_insert_with(clock::now);
        }
    }

    fn order(&self, instance: InstanceId, order: Order) {
        if let Some(handle) = self.instances.get(&instance) {
            // It may have ended by itself: then it needs no order.
            let _ = handle.orders.try_send(order);
        }
    }

    fn dispatch(&mut self, invocation: InvocationId, instance: InstanceId) {
        let Some(mut pending) = self.pending.remove(&invocation) else {
            return;
        };
        let Some(handle) = self.instances.get_mut(&instance) else {
            return;
        };
        pending.span.record("instance", display(&handle.name));
        let fresh = handle.fresh.take();
        // One that was up before is no cold start: it was provisioned, or begun for another call.
        if let Some(Fresh { begun, ready }) = fresh
            && ready.is_none_or(|ready| pending.invocation.arrived < ready)
        {
            let arrived = pending.invocation.arrived;
            pending.cold = Some(begun.saturating_duration_since(arrived));
            self.metrics.cold_start();
        }
        if let Err(error) = handle.orders.try_send(Order::Run(pending)) {
            // The task has ended and its end is about to be heard: never started.
            if let Order::Run(pending) = error.into_inner() {
                self.pending.insert(invocation, pending);
                let event = pool::Event::NotStarted {
                    instance,
                    status: None,
                };
                self.pool.handle(clock::now(), event);
            }
        }
    }
}
