//! The one owner of what the controller knows: Functions, pods, demand.
//!
//! Takes what the watches and the gateways tell and what became of earlier steps, and has each
//! `function` that it concerns settle what follows, in tasks of its own, so that a slow API server
//! holds up nothing. Until all watches have told all and this controller leads, nothing is done.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{self, Event};
use kube::{Client, ResourceExt};
use pilotlight_api::labels;
use pilotlight_api::resource::FunctionResource;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::Options;
use crate::demands::Demands;
use crate::function::code::Shown;
use crate::function::{Context, Done, Function};
use crate::gateways::Told;
use crate::leadership::Term;
use crate::metrics::{Metrics, Operation};
use crate::reconcile::apply::Writer;
use crate::reconcile::status;

/// One kind of objects as a watch tells of them.
type Watched<T> = BoxStream<'static, Result<Event<T>, watcher::Error>>;

/// All that the API server tells.
pub(crate) struct Streams {
    pub(crate) functions: Watched<FunctionResource>,
    pub(crate) pods: Watched<Pod>,
    /// Config maps of functions' code.
    pub(crate) code: Watched<Shown>,
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
    demands: Demands,
    tasks: JoinSet<Done>,
    listed_functions: Listing,
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
            demands: Demands::new(),
            tasks: JoinSet::new(),
            listed_functions: Listing::default(),
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
                Some(done) = self.tasks.join_next() => match done {
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
            Event::Init => self.listed_pods.names.clear(),
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
                self.settle_all();
            }
            Event::Apply(pod) => {
                let name = self.note(pod);
                self.settle(&name);
            }
            Event::Delete(pod) => {
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

    fn note(&mut self, pod: Pod) -> String {
        let name = function_of(&pod);
        let function = self.functions.entry(name.clone()).or_default();
        let now = status::state(&pod);
        let before = function.pods.insert(pod.name_any(), pod);
        self.metrics
            .pod(before.as_ref().map(status::state), Some(now));
        name
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
        if let Some(name) = self.demands.take(told, Instant::now()) {
            self.settle(&name);
        }
    }

    fn on_done(&mut self, done: Done) {
        let name = done.function.clone();
        if let Some(function) = self.functions.get_mut(&name) {
            function.done(done, Instant::now());
            self.settle(&name);
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
    }

    fn next_wakeup(&self) -> Option<Instant> {
        let functions = self.functions.values().filter_map(Function::next_wakeup);
        functions.chain(self.demands.next_wakeup()).min()
    }

    fn settle_all(&mut self) {
        let lists = [&self.listed_functions, &self.listed_pods, &self.listed_code];
        self.ready
            .send_replace(lists.into_iter().all(|list| list.is_known));
        let names: Vec<String> = self.functions.keys().cloned().collect();
        names.iter().for_each(|name| self.settle(name));
    }

    fn settle(&mut self, name: &str) {
        if !*self.ready.borrow() {
            return;
        }
        self.forget_if_over(name);
        if !self.leads {
            return;
        }
        let Some(function) = self.functions.get_mut(name) else {
            return;
        };
        let context = Context {
            name,
            writer: &self.writer,
            options: &self.options,
            demands: &self.demands.of(name),
            all_heard: self.demands.all_heard(),
        };
        function.settle(&context, &mut self.tasks);
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
