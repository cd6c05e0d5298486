//! The one owner of what the controller knows: Functions, warm pools, pods, demand.
//!
//! Takes what the watches and the gateways tell and what became of earlier steps, and has each
//! `function` and `pool` that it concerns settle what follows, in tasks of its own, so that a slow API
//! server holds up nothing. Until all watches have told all and this controller leads, nothing is
//! done. `worker/pools` has what concerns warm pools.

mod pools;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{self, Event};
use kube::{Client, ResourceExt};
use pilotlight_api::labels;
use pilotlight_api::resource::{FunctionResource, WarmPoolResource};
use tokio::sync::{mpsc, watch};

use crate::Options;
use crate::demands::Demands;
use crate::function::code::Shown;
use crate::function::{Context, Function};
use crate::gateways::Told;
use crate::leadership::Term;
use crate::metrics::{Metrics, Operation};
use crate::pool::Pool;
use crate::reconcile::apply::Writer;
use crate::reconcile::status;
use crate::steps::{Done, Steps};

/// One kind of objects as a watch tells of them.
type Watched<T> = BoxStream<'static, Result<Event<T>, watcher::Error>>;

/// All that the API server tells.
pub(crate) struct Streams {
    pub(crate) functions: Watched<FunctionResource>,
    pub(crate) pools: Watched<WarmPoolResource>,
    /// Of both.
    pub(crate) pods: Watched<Pod>,
    /// Config maps of functions' code.
    pub(crate) code: Watched<Shown>,
}

/// Whose a pod is.
enum Owner {
    Function(String),
    Pool(String),
}

/// What a list has told so far: what it does not name was deleted while nobody watched.
#[derive(Default)]
struct Listing {
    names: BTreeSet<String>,
    is_known: bool,
}

impl Listing {
    /// The list is complete.
    fn end(&mut self) -> BTreeSet<String> {
        self.is_known = true;
        std::mem::take(&mut self.names)
    }
}

pub(crate) struct Worker {
    options: Options,
    writer: Writer,
    functions: BTreeMap<String, Function>,
    pools: BTreeMap<String, Pool>,
    demands: Demands,
    steps: Steps,
    listed_functions: Listing,
    listed_pools: Listing,
    listed_pods: Listing,
    listed_code: Listing,
    term: watch::Receiver<Term>,
    leads: bool,
    ready: watch::Sender<bool>,
    metrics: Metrics,
}

impl Worker {
    pub(crate) fn new(
        client: Client,
        options: &Options,
        term: watch::Receiver<Term>,
        ready: watch::Sender<bool>,
        metrics: Metrics,
    ) -> Self {
        let namespace = &options.namespace;
        Worker {
            writer: Writer::new(&client, namespace, term.clone(), metrics.clone()),
            options: options.clone(),
            functions: BTreeMap::new(),
            pools: BTreeMap::new(),
            demands: Demands::new(),
            steps: Steps::new(),
            listed_functions: Listing::default(),
            listed_pools: Listing::default(),
            listed_pods: Listing::default(),
            listed_code: Listing::default(),
            term,
            leads: false,
            ready,
            metrics,
        }
    }

    /// Runs until one of the watches ends; says which.
    pub(crate) async fn run(
        &mut self,
        mut streams: Streams,
        mut demands: mpsc::Receiver<Told>,
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
                Some(told) = demands.recv() => self.on_told(told),
                Some(done) = self.steps.join_next() => match done {
                    Ok(done) => self.on_done(done),
                    Err(error) => tracing::error!(%error, "a step broke"),
                },
                () = alarm => self.on_alarm(),
            }
        }
    }

    fn on_interruption(&self, of: &str, error: &watcher::Error) {
        self.metrics.failed(Operation::watch);
        tracing::warn!(%error, "the watch of {of} is interrupted");
    }

    fn on_term(&mut self) {
        let leads = self.term.borrow_and_update().is_some();
        if std::mem::replace(&mut self.leads, leads) != leads {
            self.settle_all();
        }
    }

    fn on_function(&mut self, event: Event<FunctionResource>) {
        match event {
            Event::Init => self.listed_functions.names.clear(),
            Event::InitApply(resource) => {
                self.listed_functions.names.insert(resource.name_any());
                self.set(resource);
            }
            Event::InitDone => {
                let listed = self.listed_functions.end();
                let names: Vec<String> = self.functions.keys().cloned().collect();
                for name in names.iter().filter(|name| !listed.contains(*name)) {
                    self.remove(name);
                }
                self.settle_all();
            }
            Event::Apply(resource) => {
                let name = self.set(resource);
                self.settle(&name);
            }
            Event::Delete(resource) => self.remove(&resource.name_any()),
        }
        let functions = self.functions.values();
        let exist = functions.filter(|function| function.exists());
        self.metrics.functions(exist.count());
    }

    fn set(&mut self, resource: FunctionResource) -> String {
        let name = resource.name_any();
        let function = self.functions.entry(name.clone()).or_default();
        function.set(resource, &self.options);
        name
    }

    fn remove(&mut self, name: &str) {
        if let Some(function) = self.functions.get_mut(name) {
            function.remove();
            self.forget_if_over(name);
        }
    }

    fn forget_if_over(&mut self, name: &str) {
        if self.functions.get(name).is_some_and(Function::is_over) {
            self.functions.remove(name);
        }
    }

    fn on_pod(&mut self, event: Event<Pod>) {
        match event {
            Event::Init => {
                self.listed_pods.names.clear();
                self.pools.values_mut().for_each(Pool::list_begins);
            }
            Event::InitApply(pod) => {
                self.listed_pods.names.insert(pod.name_any());
                self.note(pod);
            }
            Event::InitDone => {
                let listed = self.listed_pods.end();
                for function in self.functions.values_mut() {
                    let gone = function
                        .pods
                        .extract_if(.., |name, _| !listed.contains(name));
                    for (_, pod) in gone {
                        self.metrics.pod(Some(status::state(&pod)), None);
                    }
                }
                for pool in self.pools.values_mut() {
                    pool.list_ends(|name| listed.contains(name));
                }
                self.settle_all();
            }
            Event::Apply(pod) => {
                for owner in self.note(pod) {
                    self.settle_owner(&owner);
                }
            }
            Event::Delete(pod) => {
                if let Some(pool) = self.leave_pool(&pod.name_any()) {
                    self.settle_pool(&pool);
                }
                let name = function_of(&pod);
                if let Some(function) = self.functions.get_mut(&name)
                    && let Some(pod) = function.pods.remove(&pod.name_any())
                {
                    self.metrics.pod(Some(status::state(&pod)), None);
                }
                self.settle(&name);
            }
        }
    }

    /// Puts a pod to its owner, and says whom that concerns.
    fn note(&mut self, pod: Pod) -> Vec<Owner> {
        if let Some(pool) = pools::pool_of(&pod).cloned() {
            self.note_unclaimed(pool.clone(), pod);
            return vec![Owner::Pool(pool)];
        }
        let left = self.leave_pool(&pod.name_any());
        let name = function_of(&pod);
        if name.is_empty() {
            return Vec::new();
        }
        let function = self.functions.entry(name.clone()).or_default();
        let now = status::state(&pod);
        let before = function.pods.insert(pod.name_any(), pod);
        self.metrics
            .pod(before.as_ref().map(status::state), Some(now));
        let left = left.map(Owner::Pool);
        left.into_iter().chain([Owner::Function(name)]).collect()
    }

    fn settle_owner(&mut self, owner: &Owner) {
        match owner {
            Owner::Function(name) => self.settle(name),
            Owner::Pool(name) => self.settle_pool(name),
        }
    }

    fn on_code(&mut self, event: Event<Shown>) {
        match event {
            Event::Init => self.listed_code.names.clear(),
            Event::InitApply(map) => {
                self.listed_code.names.insert(map.name_any());
                self.note_code(&map);
            }
            Event::InitDone => {
                let listed = self.listed_code.end();
                for (name, function) in &mut self.functions {
                    function.code.listed(name, &listed);
                }
                self.settle_all();
            }
            Event::Apply(map) => {
                let name = self.note_code(&map);
                self.settle(&name);
            }
            Event::Delete(map) => {
                let name = function_of(&map);
                if let Some(function) = self.functions.get_mut(&name) {
                    function.code.gone(&name, &map.name_any());
                }
                self.settle(&name);
            }
        }
    }

    fn note_code(&mut self, map: &Shown) -> String {
        let name = function_of(map);
        let function = self.functions.entry(name.clone()).or_default();
        function.code.shown(map);
        name
    }

    fn on_told(&mut self, told: Told) {
        let concerned = self.demands.take(told, Instant::now());
        if self.demands.take_claims_changed() {
            self.settle_pools();
        }
        if let Some(name) = concerned {
            self.settle(&name);
        }
    }

    fn on_done(&mut self, done: Done) {
        let now = Instant::now();
        match done {
            Done::Function(done) => {
                let name = done.function.clone();
                if let Some(function) = self.functions.get_mut(&name) {
                    function.done(done, now);
                    self.settle(&name);
                }
            }
            Done::Pool(done) => {
                let name = done.pool.clone();
                if let Some(pool) = self.pools.get_mut(&name) {
                    pool.done(done, now);
                    self.settle_pool(&name);
                }
            }
        }
    }

    fn on_alarm(&mut self) {
        let now = Instant::now();
        let concerns_all = self.demands.wake(now);
        let mut due = Vec::new();
        for (name, function) in &mut self.functions {
            if concerns_all || function.next_wakeup().is_some_and(|at| at <= now) {
                function.wake(now);
                due.push(name.clone());
            }
        }
        due.iter().for_each(|name| self.settle(name));
        self.wake_pools(now, concerns_all);
    }

    fn next_wakeup(&self) -> Option<Instant> {
        let functions = self.functions.values().filter_map(Function::next_wakeup);
        let pools = self.pools.values().filter_map(Pool::next_wakeup);
        let all = functions.chain(pools);
        all.chain(self.demands.next_wakeup()).min()
    }

    fn settle_all(&mut self) {
        let lists = [
            &self.listed_functions,
            &self.listed_pools,
            &self.listed_pods,
            &self.listed_code,
        ];
        self.ready
            .send_replace(lists.into_iter().all(|list| list.is_known));
        let names: Vec<String> = self.functions.keys().cloned().collect();
        names.iter().for_each(|name| self.settle(name));
        self.settle_pools();
    }

    fn settle(&mut self, name: &str) {
        if !*self.ready.borrow() {
            return;
        }
        self.forget_if_over(name);
        if !self.leads {
            return;
        }
        let pools = self.classes();
        let Some(function) = self.functions.get_mut(name) else {
            return;
        };
        let context = Context {
            name,
            writer: &self.writer,
            options: &self.options,
            demands: &self.demands.of(name),
            all_heard: self.demands.all_heard(),
            pools: &pools,
        };
        function.settle(&context, &mut self.steps);
    }
}

fn function_of(object: &impl ResourceExt) -> String {
    object
        .labels()
        .get(labels::FUNCTION)
        .cloned()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
