//! One function as the controller knows it, and its steps.
//!
//! `worker` keeps it up to date and calls [`Function::settle`], which asks `core::fleet` what
//! follows and has `reconcile` do it in tasks; what became of them comes back as [`Done`]. Code is
//! stored before the first pod that needs it: `code` knows which is.

pub(crate) mod code;

use std::collections::BTreeMap;
use std::time::Instant;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::{Resource, ResourceExt};
use pilotlight_api::resource::{FunctionResource, FunctionStatus};
use pilotlight_api::{Class, labels};
use pilotlight_core::fleet::{self, Fleet, Step};
use pilotlight_core::function::MemoryMiB;
use pilotlight_core::gateways::demand::{ClaimedPod, Demand};
use serde_json::Value;

use self::code::Code;
use crate::Options;
use crate::reconcile::apply::{NotCreated, Note, Writer};
use crate::reconcile::build;
use crate::reconcile::status::{self, Stuck, Trouble};
use crate::steps::{self, RETRY, Steps, Telling};

/// Pods that a condition names; its message has a limit.
const NAMED_PODS: usize = 200;

/// What became of a step.
pub(crate) struct Done {
    pub(crate) function: String,
    /// Of the function that it was for: another may bear the name by now.
    uid: String,
    what: What,
}

enum What {
    Created {
        instance: String,
        pod: String,
        result: Result<(), NotCreated>,
    },
    TakenOver {
        instance: String,
        failed: bool,
    },
    Deleted {
        uid: String,
        failed: bool,
    },
    Stored {
        revision: String,
        result: Result<(), String>,
    },
    CodeDeleted {
        uid: String,
        succeeded: bool,
    },
    StatusTold {
        status: FunctionStatus,
        failed: bool,
    },
}

/// What all steps of one function need.
pub(crate) struct Context<'a> {
    pub(crate) name: &'a str,
    pub(crate) writer: &'a Writer,
    pub(crate) options: &'a Options,
    pub(crate) demands: &'a [&'a Demand],
    /// All gateways have been heard.
    pub(crate) all_heard: bool,
    /// The warm pools that there are, by what fits into them.
    pub(crate) pools: &'a [(Class, String)],
}

#[derive(Default)]
pub(crate) struct Function {
    resource: Option<FunctionResource>,
    uid: String,
    /// Of the spec: it costs a hash of all inline code.
    revision: String,
    pub(crate) pods: BTreeMap<String, Pod>,
    pub(crate) code: Code,
    fleet: Fleet,
    retry_at: Option<Instant>,
    trouble: Option<Trouble>,
    /// Why the last pod could not come up, until one does.
    stuck: Option<Stuck>,
    telling: Telling<FunctionStatus>,
}

impl Function {
    /// What the watch shows of it, be it news or what was written to its status.
    pub(crate) fn set(&mut self, resource: FunctionResource, options: &Options) {
        let uid = resource.uid().unwrap_or_default();
        if self.uid != uid {
            // Made anew under the same name. What was stored for the old one goes with that one.
            let pods = std::mem::take(&mut self.pods);
            let code = self.code.of_another();
            *self = Function {
                pods,
                code,
                uid,
                ..Function::default()
            };
        }
        let known = self.resource.as_ref();
        if known.is_none_or(|known| known.spec != resource.spec) {
            self.revision = resource.spec.revision();
            let unbuildable = build::check(&resource, options).err();
            self.trouble = unbuildable.map(Trouble::Unbuildable);
            self.stuck = None;
        }
        self.resource = Some(resource);
    }

    /// The function is gone; its pods go with it: they are owned by it.
    pub(crate) fn remove(&mut self) {
        self.resource = None;
    }

    pub(crate) fn exists(&self) -> bool {
        self.resource.is_some()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.resource.is_none() && self.pods.is_empty() && self.code.is_empty()
    }

    pub(crate) fn wake(&mut self, now: Instant) {
        self.fleet.wake(now);
        self.retry_at = self.retry_at.filter(|at| *at > now);
        self.telling.wake(now);
    }

    pub(crate) fn next_wakeup(&self) -> Option<Instant> {
        let tell_at = self.telling.next_wakeup();
        let all = [self.fleet.next_wakeup(), self.retry_at, tell_at];
        all.into_iter().flatten().min()
    }

    pub(crate) fn done(&mut self, done: Done, now: Instant) {
        if done.uid != self.uid {
            return;
        }
        match done.what {
            What::Created {
                instance,
                pod,
                result,
            } => self.on_created(now, &instance, pod, result),
            What::Deleted { uid, failed } => {
                if failed {
                    self.fleet.not_deleted(now, &uid);
                }
            }
            What::Stored { revision, result } => {
                self.code.stored(result.is_ok().then_some(revision));
                match result {
                    Ok(()) => {
                        self.trouble
                            .take_if(|trouble| matches!(trouble, Trouble::Code(_)));
                    }
                    Err(message) => {
                        self.trouble = Some(Trouble::Code(message));
                        self.retry_at = Some(now + RETRY);
                    }
                }
            }
            What::CodeDeleted { uid, succeeded } => {
                self.code.deleted(&uid, succeeded);
                if !succeeded {
                    self.retry_at = Some(now + RETRY);
                }
            }
            What::TakenOver { instance, failed } => match failed {
                false => self.fleet.adopted(&instance),
                true => self.fleet.not_adopted(now, &instance),
            },
            What::StatusTold { status, failed } => self.telling.end(now, status, failed),
        }
    }

    fn on_created(
        &mut self,
        now: Instant,
        instance: &str,
        pod: String,
        result: Result<(), NotCreated>,
    ) {
        let why = match result {
            Ok(()) => {
                self.fleet.created();
                return;
            }
            Err(why) => why,
        };
        self.fleet.refused(now, instance);
        match why {
            NotCreated::Refused(message) => {
                tracing::warn!(%pod, %message, "a pod was refused");
                let pods = vec![pod];
                self.trouble = Some(Trouble::Refused { pods, message });
                // Somebody waits for this pod.
                self.telling.hurry();
            }
            NotCreated::Unanswered(message) => {
                tracing::warn!(%pod, %message, "no pod was made");
            }
        }
    }

    /// Does what follows from all that is known.
    pub(crate) fn settle(&mut self, context: &Context<'_>, steps: &mut Steps) {
        let Some(resource) = self.resource.take() else {
            return;
        };
        self.store_code(&resource, context, steps);
        self.move_pods(&resource, context, steps);
        self.explain_refusal(context.name);
        self.explain_stuck();
        self.tell(&resource, context, steps);
        self.resource = Some(resource);
    }

    fn spawn(
        &self,
        name: &str,
        steps: &mut Steps,
        step: impl Future<Output = What> + Send + 'static,
    ) {
        let (function, uid) = (name.to_owned(), self.uid.clone());
        steps.spawn(async move {
            let what = step.await;
            steps::Done::Function(Done {
                function,
                uid,
                what,
            })
        });
    }

    fn store_code(
        &mut self,
        resource: &FunctionResource,
        context: &Context<'_>,
        steps: &mut Steps,
    ) {
        if !self.code.may_store(&self.revision) || self.retry_at.is_some() {
            return;
        }
        let revision = self.revision.clone();
        let Some(code) = build::code(resource) else {
            self.code.stored(Some(revision));
            return;
        };
        self.code.storing();
        let writer = context.writer.clone();
        self.spawn(context.name, steps, async move {
            let stored = writer.apply_code(&code).await;
            let result = stored.map_err(|error| error.to_string());
            What::Stored { revision, result }
        });
    }

    fn move_pods(&mut self, resource: &FunctionResource, context: &Context<'_>, steps: &mut Steps) {
        let is_buildable = !matches!(self.trouble, Some(Trouble::Unbuildable(_)));
        let known = fleet::FunctionState {
            uid: &self.uid,
            revision: &self.revision,
            may_create: is_buildable && self.code.is_stored(&self.revision),
            may_delete: context.all_heard,
        };
        let pods: Vec<fleet::Pod> = self.pods.values().map(seen).collect();
        let planned = self
            .fleet
            .plan(Instant::now(), known, context.demands, &pods);
        let unneeded = match self.retry_at {
            None => self
                .code
                .take_unneeded(context.name, &self.uid, |revision| {
                    self.fleet.needs(revision, known, &pods)
                }),
            Some(_) => Vec::new(),
        };
        self.delete_code(unneeded, context, steps);
        for step in planned {
            match step {
                Step::Delete { pod, uid } => {
                    let writer = context.writer.clone();
                    self.spawn(context.name, steps, async move {
                        let failed = writer.delete(&pod, &uid).await.is_err();
                        What::Deleted { uid, failed }
                    });
                }
                Step::Create { instance } => self.create(resource, instance, context, steps),
                Step::Adopt { instance, pod } => {
                    let metadata = build::taken_over(resource, &instance, &pod.revision, &pod.uid);
                    let memory = resource.spec.memory;
                    // Another revision's pod has what it was claimed with.
                    let memory = (pod.revision == self.revision).then_some(memory);
                    let taken_over = take_over(context.writer.clone(), pod, metadata, memory);
                    self.spawn(context.name, steps, async move {
                        let failed = !taken_over.await;
                        What::TakenOver { instance, failed }
                    });
                }
            }
        }
    }

    fn create(
        &mut self,
        resource: &FunctionResource,
        instance: String,
        context: &Context<'_>,
        steps: &mut Steps,
    ) {
        let date = Timestamp::now().strftime("%Y/%m/%d").to_string();
        let Some(name) = context.demands.first().map(|demand| &demand.function) else {
            return;
        };
        match build::pod(resource, name, &instance, &date, context.options) {
            Ok(pod) => {
                let writer = context.writer.clone();
                self.spawn(context.name, steps, async move {
                    let result = writer.create(&pod).await;
                    let pod = pod.name_any();
                    What::Created {
                        instance,
                        pod,
                        result,
                    }
                });
            }
            Err(why) => self.trouble = Some(Trouble::Unbuildable(why)),
        }
    }

    /// Deletes the code that no pod needs any more.
    fn delete_code(
        &self,
        unneeded: Vec<(String, String)>,
        context: &Context<'_>,
        steps: &mut Steps,
    ) {
        for (map, uid) in unneeded {
            let writer = context.writer.clone();
            self.spawn(context.name, steps, async move {
                let succeeded = writer.delete_code(&map, &uid).await.is_ok();
                What::CodeDeleted { uid, succeeded }
            });
        }
    }

    /// Keeps the names in a refusal to those that it holds back, so that each gateway that waits
    /// for one learns of it. A refusal is over when a pod is taken while none is held back.
    fn explain_refusal(&mut self, name: &str) {
        let Some(Trouble::Refused { pods, .. }) = &mut self.trouble else {
            return;
        };
        let held_back = self.fleet.held_back().take(NAMED_PODS);
        let names: Vec<String> = held_back
            .map(|instance| labels::pod_name(name, instance))
            .collect();
        if !names.is_empty() {
            *pods = names;
        } else if self.fleet.is_accepted() {
            self.trouble = None;
        }
    }

    /// A pod that cannot come up is soon given up and deleted: its reason stays until one is ready.
    fn explain_stuck(&mut self) {
        if let Some(stuck) = status::stuck(self.pods.values()) {
            self.stuck = Some(stuck);
        } else if self.pods.values().any(status::is_ready) {
            self.stuck = None;
        }
    }

    fn tell(&mut self, resource: &FunctionResource, context: &Context<'_>, steps: &mut Steps) {
        if !self.telling.is_due(Instant::now()) {
            return;
        }
        let known = self.telling.known(resource.status.as_ref());
        let handler = build::handler(resource, context.options);
        let trouble = (self.trouble.as_ref(), self.stuck.as_ref());
        let status = status::of(
            resource,
            handler.as_ref(),
            known,
            self.pods.values(),
            context.demands,
            status::warm_pool(&resource.spec, context.pools),
            trouble,
        );
        if known == Some(&status) {
            return;
        }
        let before = known.map_or(&[][..], |known| &known.conditions);
        let event = status::event(before, &status.conditions);
        self.telling.begin();
        let (writer, function) = (context.writer.clone(), context.name.to_owned());
        let note = event.map(|event| Note {
            about: resource.object_ref(&()),
            event,
        });
        self.spawn(context.name, steps, async move {
            let told = writer.tell(&function, &status, note).await;
            if let Err(error) = &told {
                tracing::warn!(%function, %error, "a status was not written");
            }
            let failed = told.is_err();
            What::StatusTold { status, failed }
        });
    }
}

/// Makes a claimed pod the function's, with its memory if that is given; `true` if it is its own
/// now, or is gone.
async fn take_over(
    writer: Writer,
    pod: ClaimedPod,
    metadata: Value,
    memory: Option<MemoryMiB>,
) -> bool {
    let taken = match writer.take_over(&pod.name, &metadata).await {
        Ok(taken) => taken,
        Err(error) => {
            tracing::warn!(pod = pod.name, %error, "a claimed pod was not labelled");
            return false;
        }
    };
    let resized = taken.zip(memory);
    let resized = resized.and_then(|(pod, memory)| build::resized(memory, &pod));
    if let Some(resources) = resized {
        writer.resize(&pod.name, &resources).await;
    }
    true
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
        revision: pod
            .labels()
            .get(labels::REVISION)
            .cloned()
            .unwrap_or_default(),
        is_over: status::is_over(pod),
        is_being_deleted: status::is_being_deleted(pod),
    }
}
