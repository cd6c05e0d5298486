//! A Function as a kind of resource: its pods follow the gateways' demand.
//!
//! `core::fleet` decides which pods to create, take over and delete; `reconcile` carries it out. `tracked`
//! owns what this has in common with other kinds. The code is stored before the first pod that needs it:
//! `code` knows which is.

pub(crate) mod code;

use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use pilotlight_api::labels;
use pilotlight_api::pod_state::PodState;
use pilotlight_api::resource::FunctionResource;
use pilotlight_api::status::FunctionStatus;
use pilotlight_core::fleet::fit::Class;
use pilotlight_core::fleet::{self, Fleet, Step};
use pilotlight_core::function::MemoryMiB;
use pilotlight_core::gateways::demand::{ClaimedPod, Demand};
use pilotlight_core::ids::{InstanceName, Uid};
use pilotlight_core::instance::node_share::CpuLimit;
use serde_json::Value;

use self::code::Code;
use crate::options::Options;
use crate::reconcile::apply::{NotCreated, Writer};
use crate::reconcile::build::{self, Unbuildable};
use crate::reconcile::dereference;
use crate::reconcile::status::{self, Health, Trouble};
use crate::tracked::{Context, Kind, Operations, Tracked};

/// The most pods that a refusal names. The message of a condition has a limit.
const NAMED_PODS: usize = 200;

/// The pause before code is stored or deleted again after a failure.
const CODE_RETRY_PAUSE: Duration = Duration::from_secs(1);

/// What became of an operation for a function.
pub(crate) enum Completion {
    PodCreated {
        instance: InstanceName,
        pod: String,
        result: Result<(), NotCreated>,
    },
    PodTakenOver {
        instance: InstanceName,
        failed: bool,
    },
    PodDeleted {
        uid: Uid,
        failed: bool,
    },
    CodeStored {
        revision: String,
        result: Result<(), String>,
    },
    CodeDeleted {
        uid: String,
        succeeded: bool,
    },
}

/// What a function's pods depend on besides its spec.
#[derive(Clone, Copy)]
pub(crate) struct Input<'a> {
    pub(crate) demands: &'a [&'a Demand],
    /// The warm pools, with the class of functions that fits each.
    pub(crate) pools: &'a [(Class, String)],
    /// Whether the watch shows a pod of this name and UID that belongs to a warm pool.
    pub(crate) is_of_pool: &'a dyn Fn(&str, &str) -> bool,
}

#[derive(Default)]
pub(crate) struct Function {
    /// The revision of the spec, which costs a hash of all inline code.
    revision: String,
    pub(crate) code: Code,
    fleet: Fleet,
    retry_code_at: Option<Instant>,
}

impl Kind for Function {
    type Resource = FunctionResource;
    type Status = FunctionStatus;
    type Input<'a> = Input<'a>;
    type Completion = Completion;

    fn respecified(
        &mut self,
        resource: &FunctionResource,
        options: &Options,
    ) -> Result<(), Unbuildable> {
        self.revision = resource.spec.revision();
        build::check(resource, options)
    }

    /// The old function's code is deleted with it, and is known until then.
    fn successor(&mut self) -> Self {
        Function {
            code: self.code.of_another(),
            ..Function::default()
        }
    }

    fn has_remains(&self) -> bool {
        !self.code.is_empty()
    }

    fn reconcile(
        tracked: &mut Tracked<Self>,
        resource: &FunctionResource,
        context: &Context<'_, Self>,
        operations: &mut Operations<Self>,
    ) {
        tracked.store_code(resource, context, operations);
        tracked.move_pods(resource, context, operations);
        tracked.explain_refusal(context.name);
        tracked.explain_stuck();
    }

    fn completed(tracked: &mut Tracked<Self>, now: Instant, completion: Completion) {
        match completion {
            Completion::PodCreated {
                instance,
                pod,
                result,
            } => tracked.on_created(now, &instance, pod, result),
            Completion::PodDeleted { uid, failed } => {
                if failed {
                    tracked.own.fleet.not_deleted(now, &uid);
                }
            }
            Completion::PodTakenOver { instance, failed } => match failed {
                false => tracked.own.fleet.adopted(&instance),
                true => tracked.own.fleet.not_adopted(now, &instance),
            },
            Completion::CodeStored { revision, result } => {
                tracked.on_code_stored(now, revision, result);
            }
            Completion::CodeDeleted { uid, succeeded } => {
                tracked.own.code.deleted(&uid, succeeded);
                if !succeeded {
                    tracked.own.retry_code_at = Some(now + CODE_RETRY_PAUSE);
                }
            }
        }
    }

    fn status(
        tracked: &mut Tracked<Self>,
        resource: &FunctionResource,
        _: Option<&FunctionStatus>,
        context: &Context<'_, Self>,
    ) -> (FunctionStatus, Health) {
        let status = status::of_function(
            build::handler(resource, context.options).as_ref(),
            tracked.pods.values(),
            context.input.demands,
            status::warm_pool(
                &resource.spec,
                context.input.pools,
                context.options.pods.runtime_class.as_ref(),
            ),
        );
        (status, Health::serving())
    }

    fn wake(&mut self, now: Instant) {
        self.fleet.wake(now);
        self.retry_code_at = self.retry_code_at.filter(|at| *at > now);
    }

    fn next_wakeup(&self) -> Option<Instant> {
        let all = [self.fleet.next_wakeup(), self.retry_code_at];
        all.into_iter().flatten().min()
    }
}

impl Tracked<Function> {
    fn on_created(
        &mut self,
        now: Instant,
        instance: &InstanceName,
        pod: String,
        result: Result<(), NotCreated>,
    ) {
        let why = match result {
            Ok(()) => {
                self.own.fleet.created();
                return;
            }
            Err(why) => why,
        };
        self.own.fleet.refused(now, instance);
        match why {
            NotCreated::Refused(message) => {
                tracing::warn!(%pod, %message, "a pod was refused");
                let pods = vec![pod];
                self.trouble = Some(Trouble::Refused { pods, message });
                // A call waits for this pod.
                self.status_writes.hurry();
            }
            NotCreated::Unanswered(message) => {
                tracing::warn!(%pod, %message, "a pod was not created");
            }
        }
    }

    fn on_code_stored(&mut self, now: Instant, revision: String, result: Result<(), String>) {
        self.own.code.stored(result.is_ok().then_some(revision));
        match result {
            Ok(()) => {
                self.trouble
                    .take_if(|trouble| matches!(trouble, Trouble::Code(_)));
            }
            Err(message) => {
                self.trouble = Some(Trouble::Code(message));
                self.own.retry_code_at = Some(now + CODE_RETRY_PAUSE);
            }
        }
    }

    fn store_code(
        &mut self,
        resource: &FunctionResource,
        context: &Context<'_, Function>,
        operations: &mut Operations<Function>,
    ) {
        let own = &mut self.own;
        if !own.code.may_store(&own.revision) || own.retry_code_at.is_some() {
            return;
        }
        let revision = own.revision.clone();
        let Some(code) = build::code(resource) else {
            own.code.stored(Some(revision));
            return;
        };
        own.code.storing();
        let writer = context.writer.clone();
        self.begin(context.name, operations, async move {
            let stored = writer.apply_code(&code).await;
            let result = stored.map_err(|error| error.to_string());
            Completion::CodeStored { revision, result }
        });
    }

    fn move_pods(
        &mut self,
        resource: &FunctionResource,
        context: &Context<'_, Function>,
        operations: &mut Operations<Function>,
    ) {
        let is_buildable = !matches!(self.trouble, Some(Trouble::Unbuildable(_)));
        let uid = self.uid().to_owned();
        let own = &mut self.own;
        let known = fleet::ObservedFunction {
            uid: uid.as_str().into(),
            revision: own.revision.as_str().into(),
            may_create: is_buildable && own.code.is_stored(&own.revision),
            may_delete: context.all_reported,
        };
        let pods: Vec<fleet::Pod> = self.pods.values().map(dereference::function_pod).collect();
        let demands = context.input.demands;
        let planned = own.fleet.plan(Instant::now(), &known, demands, &pods);
        let unneeded = match own.retry_code_at {
            None => own.code.take_unneeded(context.name, &uid, |revision| {
                own.fleet.needs(&revision.into(), &known, &pods)
            }),
            Some(_) => Vec::new(),
        };
        self.delete_code(unneeded, context, operations);
        for step in planned {
            match step {
                Step::Delete { pod, uid, at_once } => {
                    let writer = context.writer.clone();
                    self.begin(context.name, operations, async move {
                        let deleted = writer.delete(pod.as_str(), uid.as_str(), at_once);
                        let failed = deleted.await.is_err();
                        Completion::PodDeleted { uid, failed }
                    });
                }
                Step::Create { instance } => self.create(resource, instance, context, operations),
                // A demand cannot make any other pod a function's, and so have it deleted later. The watch may show
                // the pod a little later than the gateway's, so the adoption is retried.
                Step::Adopt { instance, pod }
                    if !(context.input.is_of_pool)(pod.name.as_str(), pod.uid.as_str()) =>
                {
                    self.own.fleet.not_adopted(Instant::now(), &instance);
                }
                Step::Adopt { instance, pod } => {
                    self.take_over(resource, instance, pod, context, operations);
                }
            }
        }
    }

    fn create(
        &mut self,
        resource: &FunctionResource,
        instance: InstanceName,
        context: &Context<'_, Function>,
        operations: &mut Operations<Function>,
    ) {
        let date = Timestamp::now().strftime("%Y/%m/%d").to_string();
        let Some(name) = context
            .input
            .demands
            .first()
            .map(|demand| demand.pool.name())
        else {
            return;
        };
        match build::pod(resource, name, instance.as_str(), &date, context.options) {
            Ok(pod) => {
                let writer = context.writer.clone();
                self.begin(context.name, operations, async move {
                    let result = writer.create(&pod).await;
                    let pod = pod.name_any();
                    Completion::PodCreated {
                        instance,
                        pod,
                        result,
                    }
                });
            }
            Err(why) => self.trouble = Some(Trouble::Unbuildable(why)),
        }
    }

    /// A claimed pod of a warm pool becomes this function's.
    fn take_over(
        &self,
        resource: &FunctionResource,
        instance: InstanceName,
        pod: ClaimedPod,
        context: &Context<'_, Function>,
        operations: &mut Operations<Function>,
    ) {
        let metadata = build::taken_over(
            resource,
            instance.as_str(),
            pod.revision.as_str(),
            pod.uid.as_str(),
        );
        // The pod of another revision keeps the memory that it was claimed with.
        let memory = (pod.revision.as_str() == self.own.revision).then_some(resource.spec.memory);
        let size = memory.map(|memory| (memory, context.options.pods.cpu_limit));
        let taken_over = take_over(context.writer.clone(), pod, metadata, size);
        self.begin(context.name, operations, async move {
            let failed = !taken_over.await;
            Completion::PodTakenOver { instance, failed }
        });
    }

    /// Deletes the code that no pod needs any more, given by name and UID.
    fn delete_code(
        &self,
        unneeded: Vec<(String, String)>,
        context: &Context<'_, Function>,
        operations: &mut Operations<Function>,
    ) {
        for (map, uid) in unneeded {
            let writer = context.writer.clone();
            self.begin(context.name, operations, async move {
                let succeeded = writer.delete_code(&map, &uid).await.is_ok();
                Completion::CodeDeleted { uid, succeeded }
            });
        }
    }

    /// Limits the names in a refusal to the pods that it holds back, so that each gateway that waits for one
    /// of them learns of it. A refusal is over when a pod is accepted while none is held back.
    fn explain_refusal(&mut self, name: &str) {
        let Some(Trouble::Refused { pods, .. }) = &mut self.trouble else {
            return;
        };
        let held_back = self.own.fleet.held_back().take(NAMED_PODS);
        let names: Vec<String> = held_back
            .map(|instance| labels::pod_name(name, instance.as_str()))
            .collect();
        if !names.is_empty() {
            *pods = names;
        } else if self.own.fleet.is_accepted() {
            self.trouble = None;
        }
    }

    /// A pod that does not come up is soon given up and deleted, so its reason stays until one is ready.
    fn explain_stuck(&mut self) {
        if let Some(stuck) = status::stuck(self.pods.values()) {
            self.stuck = Some(stuck);
        } else if self.pods.values().any(|pod| PodState::of(pod).is_ready()) {
            self.stuck = None;
        }
    }
}

/// Labels a claimed pod as the function's, and gives it this memory and its processors. Returns whether the pod is settled: it
/// is the function's now, or gone.
async fn take_over(
    writer: Writer,
    pod: ClaimedPod,
    metadata: Value,
    size: Option<(MemoryMiB, CpuLimit)>,
) -> bool {
    let taken = match writer.take_over(pod.name.as_str(), &metadata).await {
        Ok(taken) => taken,
        Err(error) => {
            tracing::warn!(pod = %pod.name, %error, "a claimed pod was not labelled");
            return false;
        }
    };
    let resized = taken.zip(size);
    let resized = resized.and_then(|(pod, (memory, limit))| build::resized(memory, limit, &pod));
    if let Some(resources) = resized {
        writer.resize(pod.name.as_str(), &resources).await;
    }
    true
}
