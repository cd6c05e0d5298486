//! A WarmPool as a kind of resource: unclaimed pods that wait for functions.
//!
//! `core::stock` decides which pods to create and delete; `reconcile` carries it out. `tracked` owns what
//! this has in common with other kinds. A claimed pod leaves the pool when it has its function's labels:
//! `function` labels it.

use std::time::Instant;

use pilotlight_api::labels;
use pilotlight_api::resource::WarmPoolResource;
use pilotlight_api::status::WarmPoolStatus;
use pilotlight_core::fleet::fit::Class;
use pilotlight_core::fleet::stock::{self, Count, Step, Stock};
use pilotlight_core::gateways::demand::ClaimedPod;
use pilotlight_core::ids::{PodName, Uid};

use crate::options::Options;
use crate::reconcile::apply::NotCreated;
use crate::reconcile::build::{Template, Unbuildable};
use crate::reconcile::dereference;
use crate::reconcile::status::{self, Health, Trouble};
use crate::tracked::{Context, Kind, Operations, Tracked};

/// What became of an operation for a warm pool.
pub(crate) enum Completion {
    PodCreated {
        pod: PodName,
        result: Result<(), NotCreated>,
    },
    PodDeleted {
        uid: Uid,
        failed: bool,
    },
}

#[derive(Default)]
pub(crate) struct WarmPool {
    /// Absent while no pod can be made.
    template: Option<Template>,
    stock: Stock,
    /// The stock's claims that a written status counts, and those that the status under way counts.
    claims_written: u64,
    claims_under_way: u64,
}

impl Kind for WarmPool {
    type Resource = WarmPoolResource;
    type Status = WarmPoolStatus;
    /// The claims that gateways report, those of other pools included.
    type Input<'a> = &'a [&'a ClaimedPod];
    type Completion = Completion;

    fn respecified(
        &mut self,
        resource: &WarmPoolResource,
        options: &Options,
    ) -> Result<(), Unbuildable> {
        self.template = None;
        self.template = Some(Template::of(resource, options)?);
        Ok(())
    }

    fn reconcile(
        tracked: &mut Tracked<Self>,
        resource: &WarmPoolResource,
        context: &Context<'_, Self>,
        operations: &mut Operations<Self>,
    ) {
        tracked.move_pods(resource, context, operations);
        tracked.explain();
    }

    fn completed(tracked: &mut Tracked<Self>, now: Instant, completion: Completion) {
        let stock = &mut tracked.own.stock;
        match completion {
            Completion::PodCreated { pod, result } => tracked.on_created(now, &pod, result),
            Completion::PodDeleted { uid, failed: false } => stock.deleted(&uid),
            Completion::PodDeleted { uid, failed: true } => stock.not_deleted(now, &uid),
        }
    }

    fn status(
        tracked: &mut Tracked<Self>,
        _: &WarmPoolResource,
        written: Option<&WarmPoolStatus>,
        _: &Context<'_, Self>,
    ) -> (WarmPoolStatus, Health) {
        let own = &mut tracked.own;
        own.claims_under_way = own.stock.claims();
        let new = own.claims_under_way - own.claims_written;
        let before = written.map_or(0, |written| written.claims);
        status::of_warm_pool(own.stock.count(), before + new)
    }

    fn status_written(&mut self) {
        self.claims_written = self.claims_under_way;
    }

    fn wake(&mut self, now: Instant) {
        self.stock.wake(now);
    }

    fn next_wakeup(&self) -> Option<Instant> {
        self.stock.next_wakeup()
    }
}

impl Tracked<WarmPool> {
    /// The class of functions that fit the pool, while it exists and can have pods.
    pub(crate) fn class(&self, options: &Options) -> Option<Class> {
        self.own.template.as_ref()?;
        let default = options.pods.runtime_class.as_ref();
        Some(self.resource()?.spec.class(default))
    }

    pub(crate) fn count(&self) -> Count {
        match self.exists() {
            true => self.own.stock.count(),
            false => Count::default(),
        }
    }

    /// The watch of pods begins a list.
    pub(crate) fn list_starts(&mut self) {
        self.own.stock.list_begins();
    }

    /// The list of pods is complete.
    pub(crate) fn list_completes(&mut self, is_listed: impl Fn(&str) -> bool) {
        self.own.stock.list_ends(|name| is_listed(name.as_str()));
    }

    fn on_created(&mut self, now: Instant, pod: &PodName, result: Result<(), NotCreated>) {
        let stock = &mut self.own.stock;
        match result {
            Ok(()) => stock.created(pod),
            Err(NotCreated::Refused(message)) => {
                tracing::warn!(%pod, %message, "a pod of a warm pool was refused");
                stock.refused(now, pod);
                let pods = vec![pod.to_string()];
                self.trouble = Some(Trouble::Refused { pods, message });
            }
            Err(NotCreated::Unanswered(message)) => {
                tracing::warn!(%pod, %message, "it is unknown whether a pod of a warm pool was created");
                stock.unanswered(now, pod);
            }
        }
    }

    fn move_pods(
        &mut self,
        pool: &WarmPoolResource,
        context: &Context<'_, WarmPool>,
        operations: &mut Operations<WarmPool>,
    ) {
        let size = pool.spec.size;
        let template = self.own.template.clone();
        let known = stock::WarmPoolState {
            size: size.get() as usize,
            max: pool.spec.max.unwrap_or(size).get() as usize,
            // Without a template no pod is made, and existing pods stay, whatever they were made from.
            template: template.as_ref().map_or("", |one| &one.revision),
            may_create: template.is_some(),
            may_delete: template.is_some() && context.all_reported,
        };
        let pods: Vec<stock::Pod> = self.pods.values().map(dereference::warm_pool_pod).collect();
        let claims = context.input.iter().copied();
        let name = || {
            let instance = uuid::Uuid::new_v4().simple().to_string();
            labels::pod_name(context.name, &instance).into()
        };
        let stock = &mut self.own.stock;
        let planned = stock.plan(Instant::now(), known, claims, &pods, name);
        for step in planned {
            let writer = context.writer.clone();
            match (step, &template) {
                (Step::Delete { pod, uid }, _) => {
                    self.begin(context.name, operations, async move {
                        let deleted = writer.delete(pod.as_str(), uid.as_str(), false);
                        let failed = deleted.await.is_err();
                        Completion::PodDeleted { uid, failed }
                    });
                }
                (Step::Create { name }, Some(template)) => {
                    let new = template.pod(name.to_string());
                    self.begin(context.name, operations, async move {
                        let result = writer.create(&new).await;
                        Completion::PodCreated { pod: name, result }
                    });
                }
                (Step::Create { .. }, None) => {}
            }
        }
    }

    /// Updates what is wrong: a refusal is over once pods are accepted again or none is missing.
    fn explain(&mut self) {
        let stock = &self.own.stock;
        let is_refilled = stock.count().refilling == 0;
        let is_past = stock.is_accepted() || is_refilled;
        self.trouble.take_if(|trouble| match trouble {
            Trouble::Refused { .. } => is_past,
            Trouble::Ending => true,
            Trouble::Unbuildable(_) | Trouble::Code(_) => false,
        });
        if self.trouble.is_none() && stock.is_halted() {
            self.trouble = Some(Trouble::Ending);
        }
        self.stuck = match status::stuck(self.pods.values()) {
            None if is_refilled => None,
            None => self.stuck.take(),
            stuck => stuck,
        };
    }
}
