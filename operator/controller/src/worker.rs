//! The one owner of what the controller knows: Functions, pods, demand.
//!
//! Takes what the watches and the gateways tell and what became of earlier steps, asks
//! `core::fleet` what follows, and has `reconcile` do it in tasks of its own, so that a slow API
//! server holds up nothing. Until both watches have told all, nothing is done.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::watcher::{self, Event};
use kube::{Client, ResourceExt};
use pilotlight_api::labels;
use pilotlight_api::resource::{FunctionResource, FunctionStatus};
use pilotlight_core::fleet::{self, Fleet, Step};
use pilotlight_core::wire::Demand;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::Options;
use crate::gateways::Told;
use crate::reconcile::apply::{NotCreated, Writer};
use crate::reconcile::build;
use crate::reconcile::status::{self, Trouble};

/// How long the last word of a gateway that cannot be reached counts.
const GRACE: Duration = Duration::from_secs(15);
/// Between two statuses of one function.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// Before a write that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Function {
    resource: Option<FunctionResource>,
    pods: BTreeMap<String, Pod>,
    fleet: Fleet,
    /// Revision of the code that is stored, and of the one that is on its way.
    code: Option<String>,
    storing: bool,
    retry_at: Option<Instant>,
    trouble: Option<Trouble>,
    told: Option<FunctionStatus>,
    telling: bool,
    tell_at: Option<Instant>,
}

struct Gateway {
    demands: BTreeMap<String, Demand>,
    lost_at: Option<Instant>,
}

/// What became of a step.
enum Done {
    Created {
        function: String,
        instance: String,
        pod: String,
        result: Result<(), NotCreated>,
    },
    Deleted {
        function: String,
        uid: String,
        failed: bool,
    },
    Stored {
        function: String,
        revision: String,
        result: Result<(), String>,
    },
    StatusTold {
        function: String,
        status: FunctionStatus,
        failed: bool,
    },
}

pub(crate) struct Worker {
    options: Options,
    writer: Writer,
    functions: BTreeMap<String, Function>,
    gateways: HashMap<SocketAddr, Gateway>,
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
            gateways: HashMap::new(),
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
        let uid = |one: &FunctionResource| one.uid();
        if function
            .resource
            .as_ref()
            .is_some_and(|old| uid(old) != uid(&resource))
        {
            let pods = std::mem::take(&mut function.pods);
            *function = Function {
                pods,
                ..Function::default()
            };
        }
        function.trouble = build::check(&resource, &self.options)
            .err()
            .map(Trouble::Unbuildable);
        function.resource = Some(resource);
        name
    }

    /// Its pods go with it: they are owned by it.
    fn remove(&mut self, name: &str) {
        if let Some(function) = self.functions.get_mut(name) {
            function.resource = None;
            if function.pods.is_empty() {
                self.functions.remove(name);
            }
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
        match told {
            Told::Connected(address) => {
                let gateway = self.gateways.entry(address).or_insert_with(|| Gateway {
                    demands: BTreeMap::new(),
                    lost_at: None,
                });
                gateway.lost_at = None;
            }
            Told::Demand(address, demand) => {
                let name = demand.function.to_string();
                if let Some(gateway) = self.gateways.get_mut(&address) {
                    gateway.demands.insert(name.clone(), demand);
                }
                self.settle(&name);
            }
            Told::Lost(address) => {
                if let Some(gateway) = self.gateways.get_mut(&address) {
                    gateway.lost_at.get_or_insert_with(Instant::now);
                }
            }
        }
    }

    fn on_done(&mut self, done: Done) {
        let now = Instant::now();
        let (Done::Created { function: name, .. }
        | Done::Deleted { function: name, .. }
        | Done::Stored { function: name, .. }
        | Done::StatusTold { function: name, .. }) = &done;
        let name = name.clone();
        let Some(function) = self.functions.get_mut(&name) else {
            return;
        };
        match done {
            Done::Created { result: Ok(()), .. } => {
                function.fleet.created();
                if matches!(function.trouble, Some(Trouble::Refused { .. })) {
                    function.trouble = None;
                }
            }
            Done::Created {
                instance,
                pod,
                result: Err(why),
                ..
            } => {
                function.fleet.refused(now, &instance);
                match why {
                    NotCreated::Refused(message) => {
                        tracing::warn!(function = %name, %pod, %message, "a pod was refused");
                        function.trouble = Some(Trouble::Refused { pod, message });
                        function.tell_at = None;
                    }
                    NotCreated::Unanswered(message) => {
                        tracing::warn!(function = %name, %pod, %message, "no pod was made");
                    }
                }
            }
            Done::Deleted { uid, failed, .. } => {
                if failed {
                    function.fleet.not_deleted(&uid);
                    function.retry_at = Some(now + RETRY);
                }
            }
            Done::Stored {
                revision, result, ..
            } => {
                function.storing = false;
                match result {
                    Ok(()) => function.code = Some(revision),
                    Err(message) => {
                        function.trouble = Some(Trouble::Code(message));
                        function.retry_at = Some(now + RETRY);
                    }
                }
            }
            Done::StatusTold { status, failed, .. } => {
                function.telling = false;
                function.tell_at = Some(now + STATUS_INTERVAL);
                if !failed {
                    function.told = Some(status);
                }
            }
        }
        self.settle(&name);
    }

    fn on_alarm(&mut self) {
        let now = Instant::now();
        let before = self.gateways.len();
        self.gateways
            .retain(|_, gateway| gateway.lost_at.is_none_or(|at| at + GRACE > now));
        let is_one_gone = self.gateways.len() < before;
        let mut due = Vec::new();
        for (name, function) in &mut self.functions {
            if is_one_gone || function.wakeup().is_some_and(|at| at <= now) {
                function.fleet.wake(now);
                function.retry_at = function.retry_at.filter(|at| *at > now);
                function.tell_at = function.tell_at.filter(|at| *at > now);
                due.push(name.clone());
            }
        }
        due.iter().for_each(|name| self.settle(name));
    }

    fn next_wakeup(&self) -> Option<Instant> {
        let functions = self.functions.values().filter_map(Function::wakeup);
        let gateways = self
            .gateways
            .values()
            .filter_map(|gateway| Some(gateway.lost_at? + GRACE));
        functions.chain(gateways).min()
    }

    /// Does what follows for one function from all that is known.
    fn settle(&mut self, name: &str) {
        let (true, true) = (self.functions_known, self.pods_known) else {
            return;
        };
        let Some(function) = self.functions.get_mut(name) else {
            return;
        };
        if function.resource.is_none() && function.pods.is_empty() {
            self.functions.remove(name);
            return;
        }
        let demands = self
            .gateways
            .values()
            .filter_map(|gateway| gateway.demands.get(name));
        let demands: Vec<&Demand> = demands.collect();
        let context = Context {
            name,
            writer: &self.writer,
            options: &self.options,
        };
        function.store_code(&context, &mut self.tasks);
        function.move_pods(&context, &demands, &mut self.tasks);
        function.tell(&context, &demands, &mut self.tasks);
    }
}

/// What all steps of one function need.
struct Context<'a> {
    name: &'a str,
    writer: &'a Writer,
    options: &'a Options,
}

impl Function {
    fn wakeup(&self) -> Option<Instant> {
        let tell_at = self.tell_at.filter(|_| !self.telling);
        [self.fleet.next_wakeup(), self.retry_at, tell_at]
            .into_iter()
            .flatten()
            .min()
    }

    fn store_code(&mut self, context: &Context<'_>, tasks: &mut JoinSet<Done>) {
        let Some(resource) = &self.resource else {
            return;
        };
        let revision = resource.spec.revision();
        let is_known = self.code.as_ref() == Some(&revision) || self.storing;
        if is_known || self.retry_at.is_some() {
            return;
        }
        let Some(code) = build::code(resource) else {
            self.code = Some(revision);
            return;
        };
        self.storing = true;
        let (writer, function) = (context.writer.clone(), context.name.to_owned());
        tasks.spawn(async move {
            let result = writer
                .apply_code(&code)
                .await
                .map_err(|error| error.to_string());
            Done::Stored {
                function,
                revision,
                result,
            }
        });
    }

    fn move_pods(&mut self, context: &Context<'_>, demands: &[&Demand], tasks: &mut JoinSet<Done>) {
        let Some(resource) = &self.resource else {
            return;
        };
        let (Some(uid), revision) = (resource.uid(), resource.spec.revision()) else {
            return;
        };
        if self.code.as_ref() != Some(&revision) {
            return;
        }
        let pods: Vec<fleet::Pod> = self.pods.values().map(seen).collect();
        for step in self
            .fleet
            .plan(Instant::now(), (&uid, &revision), demands, &pods)
        {
            let (writer, function) = (context.writer.clone(), context.name.to_owned());
            match step {
                Step::Delete { pod, uid } => {
                    tasks.spawn(async move {
                        let failed = writer.delete(&pod, &uid).await.is_err();
                        Done::Deleted {
                            function,
                            uid,
                            failed,
                        }
                    });
                }
                Step::Create { instance } => {
                    let date = Timestamp::now().strftime("%Y/%m/%d").to_string();
                    let Some(name) = demands.first().map(|demand| &demand.function) else {
                        continue;
                    };
                    match build::pod(resource, name, &instance, &date, context.options) {
                        Ok(pod) => {
                            tasks.spawn(async move {
                                let result = writer.create(&pod).await;
                                Done::Created {
                                    function,
                                    instance,
                                    pod: pod.name_any(),
                                    result,
                                }
                            });
                        }
                        Err(why) => self.trouble = Some(Trouble::Unbuildable(why)),
                    }
                }
            }
        }
    }

    fn tell(&mut self, context: &Context<'_>, demands: &[&Demand], tasks: &mut JoinSet<Done>) {
        let Some(resource) = &self.resource else {
            return;
        };
        let status = status::of(resource, self.pods.values(), demands, self.trouble.as_ref());
        let known = self.told.as_ref().or(resource.status.as_ref());
        if known == Some(&status) || self.telling {
            return;
        }
        if self.tell_at.is_some_and(|at| at > Instant::now()) {
            return;
        }
        self.telling = true;
        let (writer, function) = (context.writer.clone(), context.name.to_owned());
        tasks.spawn(async move {
            let failed = match writer.tell(&function, &status).await {
                Ok(()) => false,
                Err(error) => {
                    tracing::warn!(%function, %error, "a status was not written");
                    true
                }
            };
            Done::StatusTold {
                function,
                status,
                failed,
            }
        });
    }
}

fn function_of(pod: &Pod) -> String {
    pod.labels()
        .get(labels::FUNCTION)
        .cloned()
        .unwrap_or_default()
}

fn seen(pod: &Pod) -> fleet::Pod {
    fleet::Pod {
        name: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
        instance: pod
            .labels()
            .get(labels::INSTANCE)
            .cloned()
            .unwrap_or_default(),
        is_over: status::is_over(pod),
        is_being_deleted: status::is_being_deleted(pod),
    }
}
