//! The one owner of what the controller knows: Functions, pods, demand.
//!
//! Takes what the watches and the gateways tell and what became of earlier steps, and has each
//! `function` that it concerns settle what follows, in tasks of its own, so that a slow API server
//! holds up nothing. Until both watches have told all, nothing is done.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use futures_util::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{self, Event};
use kube::{Client, ResourceExt};
use pilotlight_api::labels;
use pilotlight_api::resource::FunctionResource;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::Options;
use crate::demands::Demands;
use crate::function::{Context, Done, Function};
use crate::gateways::Told;
use crate::reconcile::apply::Writer;

pub(crate) struct Worker {
    options: Options,
    writer: Writer,
    functions: BTreeMap<String, Function>,
    demands: Demands,
    tasks: JoinSet<Done>,
    functions_known: bool,
    pods_known: bool,
    /// What a list has named so far: the rest was deleted while nobody watched.
    listed: (BTreeSet<String>, BTreeSet<String>),
}

impl Worker {
    pub(crate) fn new(client: Client, options: &Options) -> Self {
        Worker {
            writer: Writer::new(&client, &options.namespace),
            options: options.clone(),
            functions: BTreeMap::new(),
            demands: Demands::new(),
            tasks: JoinSet::new(),
            functions_known: false,
            pods_known: false,
            listed: Default::default(),
        }
    }

    /// Runs until one of the watches ends; says which.
    pub(crate) async fn run(
        &mut self,
        mut functions: impl Stream<Item = Result<Event<FunctionResource>, watcher::Error>> + Unpin,
        mut pods: impl Stream<Item = Result<Event<Pod>, watcher::Error>> + Unpin,
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
                event = functions.next() => match event {
                    Some(Ok(event)) => self.on_function(event),
                    Some(Err(error)) => tracing::warn!(%error, "the watch of Functions is interrupted"),
                    None => return "Functions",
                },
                event = pods.next() => match event {
                    Some(Ok(event)) => self.on_pod(event),
                    Some(Err(error)) => tracing::warn!(%error, "the watch of pods is interrupted"),
                    None => return "pods",
                },
                Some(told) = demands.recv() => self.on_told(told),
                Some(done) = self.tasks.join_next() => match done {
                    Ok(done) => self.on_done(done),
                    Err(error) => tracing::error!(%error, "a step broke"),
                },
                () = alarm => self.on_alarm(),
            }
        }
    }

    fn on_function(&mut self, event: Event<FunctionResource>) {
        match event {
            Event::Init => self.listed.0.clear(),
            Event::InitApply(resource) => {
                self.listed.0.insert(resource.name_any());
                self.set(resource);
            }
            Event::InitDone => {
                self.functions_known = true;
                let listed = std::mem::take(&mut self.listed.0);
                let names: Vec<String> = self.functions.keys().cloned().collect();
                for name in &names {
                    if !listed.contains(name) {
                        self.remove(name);
                    }
                    self.settle(name);
                }
            }
            Event::Apply(resource) => {
                let name = self.set(resource);
                self.settle(&name);
            }
            Event::Delete(resource) => self.remove(&resource.name_any()),
        }
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
            Event::Init => self.listed.1.clear(),
            Event::InitApply(pod) => {
                self.listed.1.insert(pod.name_any());
                self.note(pod);
            }
            Event::InitDone => {
                self.pods_known = true;
                let listed = std::mem::take(&mut self.listed.1);
                for function in self.functions.values_mut() {
                    function.pods.retain(|name, _| listed.contains(name));
                }
                let names: Vec<String> = self.functions.keys().cloned().collect();
                names.iter().for_each(|name| self.settle(name));
            }
            Event::Apply(pod) => {
                let name = self.note(pod);
                self.settle(&name);
            }
            Event::Delete(pod) => {
                let name = function_of(&pod);
                if let Some(function) = self.functions.get_mut(&name) {
                    function.pods.remove(&pod.name_any());
                }
                self.settle(&name);
            }
        }
    }

    fn note(&mut self, pod: Pod) -> String {
        let name = function_of(&pod);
        let function = self.functions.entry(name.clone()).or_default();
        function.pods.insert(pod.name_any(), pod);
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

    fn settle(&mut self, name: &str) {
        if !(self.functions_known && self.pods_known) {
            return;
        }
        self.forget_if_over(name);
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

fn function_of(pod: &Pod) -> String {
    pod.labels()
        .get(labels::FUNCTION)
        .cloned()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
