//! The one owner of the controller's state: Functions, warm pools, their pods and the demand.
//!
//! Fed by the watches, by the gateways' reports and by completed operations. It has each resource that a
//! change concerns settle what follows (`tracked`), in tasks of their own, so that a slow API server delays
//! nothing else. It starts no operation until all watches are complete and this controller leads.

use std::time::Instant;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{self, Event};
use kube::{Client, ResourceExt};
use pilotlight_api::labels;
use pilotlight_api::pod_state::warm_pool_of;
use pilotlight_api::resource::{FunctionResource, WarmPoolResource};
use pilotlight_core::fleet::demands::{Demands, GatewayEvent};
use pilotlight_core::fleet::fit::Class;
use pilotlight_core::fleet::stock::Count;
use pilotlight_core::identity::Mode;
use pilotlight_core::ids::PoolId;
use pilotlight_watch::{Change, Decoded, Fold};
use pilotlight_wire::config::IdentityConfig;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinError;

use crate::collection::{Collection, Concerned};
use crate::default_pools::DefaultPools;
use crate::function::code::Shown;
use crate::function::{self, Function};
use crate::identity::Bundle;
use crate::leadership::Term;
use crate::metrics::{Metrics, Operation};
use crate::options::Options;
use crate::reconcile::apply::Writer;
use crate::reconcile::build::TOKEN_PATH;
use crate::reconcile::status;
use crate::tracked::{Completed, Context};
use crate::warm_pool::WarmPool;

/// The events of one watch.
type Watched<T> = BoxStream<'static, Result<Event<T>, watcher::Error>>;

/// All watches of the API server.
pub(crate) struct Streams {
    pub(crate) functions: Watched<Decoded<FunctionResource>>,
    pub(crate) pools: Watched<Decoded<WarmPoolResource>>,
    /// The pods of functions and of warm pools.
    pub(crate) pods: Watched<Pod>,
    /// The config maps of inline code.
    pub(crate) code: Watched<Shown>,
}

/// The resource that a pod belongs to.
enum Owner {
    Function(String),
    WarmPool(String),
}

pub(crate) struct Worker {
    options: Options,
    writer: Writer,
    functions: Collection<Function>,
    pools: Collection<WarmPool>,
    default_pools: DefaultPools,
    /// Keeps the name of the function that a pod belongs to; empty for an unclaimed pod.
    shown_pods: Fold<Pod, String>,
    /// Keeps the name of the function that the code belongs to.
    shown_code: Fold<Shown, String>,
    demands: Demands,
    term: watch::Receiver<Term>,
    /// The authorities that pods get with their specification.
    bundle: watch::Receiver<Bundle>,
    leads: bool,
    ready: watch::Sender<bool>,
    metrics: Metrics,
}

impl Worker {
    pub(crate) fn new(
        client: Client,
        options: &Options,
        (term, bundle): (watch::Receiver<Term>, watch::Receiver<Bundle>),
        ready: watch::Sender<bool>,
        metrics: Metrics,
    ) -> Self {
        let namespace = &options.namespace;
        Worker {
            writer: Writer::new(
                &client,
                namespace,
                term.clone(),
                (metrics.clone(), options.exporter.clone()),
            ),
            options: options.clone(),
            functions: Collection::new(),
            pools: Collection::new(),
            default_pools: DefaultPools::default(),
            shown_pods: Fold::new(function_of),
            shown_code: Fold::new(function_of),
            demands: Demands::default(),
            term,
            bundle,
            leads: false,
            ready,
            metrics,
        }
    }

    /// Runs until one of the watches ends, and returns its name.
    pub(crate) async fn run(
        &mut self,
        mut streams: Streams,
        mut demands: mpsc::Receiver<GatewayEvent>,
    ) -> &'static str {
        loop {
            let alarm = self.next_wakeup();
            let alarm = async {
                match alarm {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = streams.functions.next() => match event {
                    Some(Ok(event)) => self.on_function(event),
                    Some(Err(error)) => self.on_interruption("Functions", &error),
                    None => return "Functions",
                },
                event = streams.pools.next() => match event {
                    Some(Ok(event)) => self.on_pool(event),
                    Some(Err(error)) => self.on_interruption("WarmPools", &error),
                    None => return "WarmPools",
                },
                event = streams.pods.next() => match event {
                    Some(Ok(event)) => self.on_pod(event),
                    Some(Err(error)) => self.on_interruption("pods", &error),
                    None => return "pods",
                },
                event = streams.code.next() => match event {
                    Some(Ok(event)) => self.on_code(event),
                    Some(Err(error)) => self.on_interruption("code", &error),
                    None => return "code",
                },
                Ok(()) = self.term.changed() => self.on_term(),
                Ok(()) = self.bundle.changed() => self.on_bundle(),
                Some(event) = demands.recv() => self.on_gateway(event),
                Some(completed) = self.functions.operations.join_next() => {
                    self.on_function_completed(completed);
                }
                Some(completed) = self.pools.operations.join_next() => {
                    self.on_pool_completed(completed);
                }
                Some(done) = self.default_pools.under_way.join_next() => {
                    if self.default_pools.completed(Instant::now(), done) {
                        self.settle_default_pools();
                    }
                }
                () = alarm => self.on_alarm(),
            }
        }
    }

    fn on_interruption(&self, of: &str, error: &watcher::Error) {
        self.metrics.failed(Operation::watch);
        tracing::warn!(%error, "the watch of {of} is interrupted");
    }

    fn on_term(&mut self) {
        let has_term = self.term.borrow_and_update().is_some();
        // A pod without the authorities would serve no gateway.
        let leads = has_term && self.has_authorities();
        if std::mem::replace(&mut self.leads, leads) != leads {
            self.settle_all();
        }
    }

    fn has_authorities(&self) -> bool {
        let options = &self.options;
        options.parts_identity == Mode::Off || options.instance_identity.is_some()
    }

    /// The authorities of the release are other ones. Pods that are made from now on know them.
    fn on_bundle(&mut self) {
        let bundle = self.bundle.borrow_and_update().clone();
        self.options.instance_identity = bundle.map(|authorities| IdentityConfig {
            authorities: authorities.to_string(),
            token: TOKEN_PATH.into(),
            needs_tls: self.options.parts_identity == Mode::Required,
        });
        for (_, function) in self.functions.iter_mut() {
            function.respecify(&self.options);
        }
        for (_, pool) in self.pools.iter_mut() {
            pool.respecify(&self.options);
        }
        self.on_term();
        self.settle_all();
    }

    fn on_function(&mut self, event: Event<Decoded<FunctionResource>>) {
        for concerned in self.functions.take(event, &self.options) {
            match concerned {
                Concerned::One(name) => self.settle_function(&name),
                Concerned::All => self.settle_all(),
            }
        }
        self.metrics.functions(self.functions.existing());
        self.metrics
            .unreadable(self.functions.unreadable() + self.pools.unreadable());
    }

    fn on_pool(&mut self, event: Event<Decoded<WarmPoolResource>>) {
        let classes = self.classes();
        for concerned in self.pools.take(event, &self.options) {
            match concerned {
                Concerned::One(name) => self.settle_pool(&name),
                Concerned::All => self.settle_all(),
            }
        }
        // Statuses of functions name the pool that their instances may come from.
        match self.classes() == classes {
            true => self.settle_default_pools(),
            false => self.settle_all(),
        }
        self.count_pools();
        self.metrics
            .unreadable(self.functions.unreadable() + self.pools.unreadable());
    }

    /// The pools that functions may fit.
    fn classes(&self) -> Vec<(Class, String)> {
        let pools = self.pools.iter();
        pools
            .filter_map(|(name, pool)| Some((pool.class(&self.options)?, name.clone())))
            .collect()
    }

    fn on_pod(&mut self, event: Event<Pod>) {
        for change in self.shown_pods.take(event) {
            match change {
                Change::ListStarted => {
                    self.pools
                        .iter_mut()
                        .for_each(|(_, pool)| pool.list_starts());
                }
                Change::Applied(pod) => {
                    let owners = self.note(pod);
                    if !self.shown_pods.is_listing() {
                        owners.iter().for_each(|owner| self.settle_owner(owner));
                    }
                }
                Change::Deleted { name, kept } => self.forget_pod(&name, &kept),
                Change::ListCompleted => {
                    let shown = &self.shown_pods;
                    for (_, pool) in self.pools.iter_mut() {
                        pool.list_completes(|name| shown.contains(name));
                    }
                    self.settle_all();
                }
            }
        }
    }

    /// Assigns a pod to its owner, and returns the resources that this concerns.
    ///
    /// A pod belongs to the function that its labels name, or else to the warm pool. So a claimed pod moves
    /// from the pool to the function once it is labelled. A pod with the label of a pool
    /// that does not own it is nobody's.
    fn note(&mut self, pod: Pod) -> Vec<Owner> {
        if let Some(pool) = warm_pool_of(&pod).map(str::to_owned) {
            let tracked = self.pools.entry(&pool);
            tracked.pods.insert(pod.name_any(), pod);
            return vec![Owner::WarmPool(pool)];
        }
        let left = self.leave_pool(&pod.name_any());
        let name = function_of(&pod);
        if name.is_empty() {
            return Vec::new();
        }
        let now = status::phase(&pod);
        let function = self.functions.entry(&name);
        let before = function.pods.insert(pod.name_any(), pod);
        self.metrics
            .pod(before.as_ref().map(status::phase), Some(now));
        let left = left.map(Owner::WarmPool);
        left.into_iter().chain([Owner::Function(name)]).collect()
    }

    /// The pod is gone. `function`: the one that it belonged to, or nothing.
    fn forget_pod(&mut self, pod: &str, function: &str) {
        if let Some(pool) = self.leave_pool(pod) {
            self.settle_pool(&pool);
        }
        if let Some(tracked) = self.functions.get_mut(function)
            && let Some(pod) = tracked.pods.remove(pod)
        {
            self.metrics.pod(Some(status::phase(&pod)), None);
        }
        self.settle_function(function);
    }

    /// The pod is a function's now, or gone. Returns the pool that it belonged to.
    fn leave_pool(&mut self, pod: &str) -> Option<String> {
        let mut pools = self.pools.iter_mut();
        pools.find_map(|(name, pool)| pool.pods.remove(pod).map(|_| name.clone()))
    }

    fn settle_owner(&mut self, owner: &Owner) {
        match owner {
            Owner::Function(name) => self.settle_function(name),
            Owner::WarmPool(name) => self.settle_pool(name),
        }
    }

    fn on_code(&mut self, event: Event<Shown>) {
        for change in self.shown_code.take(event) {
            match change {
                Change::ListStarted => {}
                Change::Applied(map) => {
                    let function = function_of(&map);
                    self.functions.entry(&function).own.code.shown(&map);
                    if !self.shown_code.is_listing() {
                        self.settle_function(&function);
                    }
                }
                Change::Deleted { name, kept } => {
                    if let Some(function) = self.functions.get_mut(&kept) {
                        function.own.code.gone(&kept, &name);
                    }
                    self.settle_function(&kept);
                }
                Change::ListCompleted => self.settle_all(),
            }
        }
    }

    fn on_gateway(&mut self, event: GatewayEvent) {
        let concerned = self.demands.handle(Instant::now(), event);
        if self.demands.take_claims_changed() {
            self.settle_pools();
        }
        // Of this namespace: the name is enough.
        if let Some(pool) = concerned {
            self.settle_function(pool.name().as_str());
        }
    }

    fn on_function_completed(&mut self, completed: Result<Completed<Function>, JoinError>) {
        match completed {
            Ok(completed) => {
                let concerned = self.functions.completed(completed, Instant::now());
                concerned.iter().for_each(|name| self.settle_function(name));
            }
            Err(error) => tracing::error!(%error, "an operation for a Function panicked"),
        }
    }

    fn on_pool_completed(&mut self, completed: Result<Completed<WarmPool>, JoinError>) {
        match completed {
            Ok(completed) => {
                let concerned = self.pools.completed(completed, Instant::now());
                concerned.iter().for_each(|name| self.settle_pool(name));
            }
            Err(error) => tracing::error!(%error, "an operation for a WarmPool panicked"),
        }
    }

    fn on_alarm(&mut self) {
        let now = Instant::now();
        let concerns_all = self.demands.wake(now);
        for name in self.functions.wake(now, concerns_all) {
            self.settle_function(&name);
        }
        for name in self.pools.wake(now, concerns_all) {
            self.settle_pool(&name);
        }
        let retry_at = self.default_pools.next_wakeup();
        if retry_at.is_some_and(|at| at <= now) {
            self.settle_default_pools();
        }
    }

    fn next_wakeup(&self) -> Option<Instant> {
        let all = [
            self.functions.next_wakeup(),
            self.pools.next_wakeup(),
            self.demands.next_wakeup(),
            self.default_pools.next_wakeup().filter(|_| self.leads),
        ];
        all.into_iter().flatten().min()
    }

    fn settle_all(&mut self) {
        let is_complete = self.functions.is_complete()
            && self.pools.is_complete()
            && self.shown_pods.is_complete()
            && self.shown_code.is_complete();
        self.ready.send_replace(is_complete);
        for name in self.functions.names() {
            self.settle_function(&name);
        }
        self.settle_pools();
        self.settle_default_pools();
    }

    fn settle_default_pools(&mut self) {
        if *self.ready.borrow() && self.leads {
            let now = Instant::now();
            self.default_pools
                .settle(now, &self.pools, &self.options, &self.writer);
        }
    }

    fn settle_pools(&mut self) {
        for name in self.pools.names() {
            self.settle_pool(&name);
        }
    }

    fn settle_function(&mut self, name: &str) {
        if !*self.ready.borrow() {
            return;
        }
        self.functions.forget_if_over(name);
        if !self.leads {
            return;
        }
        let pool = self.pool(name);
        let (classes, pools) = (self.classes(), &self.pools);
        let is_of_pool = |name: &str, uid: &str| {
            let mut pods = pools.iter().filter_map(|(_, pool)| pool.pods.get(name));
            pods.any(|pod| pod.metadata.uid.as_deref() == Some(uid))
        };
        let input = function::Input {
            demands: &pool.map_or_else(Vec::new, |pool| self.demands.of(&pool)),
            pools: &classes,
            is_of_pool: &is_of_pool,
        };
        self.functions.settle(&Context {
            name,
            writer: &self.writer,
            options: &self.options,
            all_reported: self.demands.all_reported(),
            input,
        });
    }

    /// The pool of a function of this namespace; `None` if no function can have this name.
    fn pool(&self, function: &str) -> Option<PoolId> {
        let namespace = self.options.namespace.parse().ok()?;
        Some(PoolId::latest(namespace, function.parse().ok()?))
    }

    fn settle_pool(&mut self, name: &str) {
        if !*self.ready.borrow() {
            return;
        }
        self.pools.forget_if_over(name);
        if !self.leads {
            return;
        }
        self.pools.settle(&Context {
            name,
            writer: &self.writer,
            options: &self.options,
            all_reported: self.demands.all_reported(),
            input: &self.demands.claims(),
        });
        self.count_pools();
    }

    fn count_pools(&self) {
        let pools = self.pools.iter();
        let counts: Vec<Count> = pools.map(|(_, pool)| pool.count()).collect();
        self.metrics.warm_pools(self.classes().len(), &counts);
    }
}

/// The function that an object belongs to, by its label; empty if it has none.
fn function_of(object: &impl ResourceExt) -> String {
    object
        .labels()
        .get(labels::FUNCTION)
        .cloned()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
