//! One warm pool as the controller knows it, and its steps.
//!
//! `worker` keeps it up to date and calls [`Pool::settle`], which asks `core::stock` what follows and
//! has `reconcile` do it in tasks; what became of them comes back as [`Done`]. A claimed pod leaves
//! the pool when it has its function's labels: `function` sees to that.

use std::collections::BTreeMap;
use std::time::Instant;

use k8s_openapi::api::core::v1::Pod;
use kube::{Resource, ResourceExt};
use pilotlight_api::resource::{WarmPoolResource, WarmPoolStatus};
use pilotlight_api::{Class, labels};
use pilotlight_core::fleet::stock::{self, Count, Step, Stock};
use pilotlight_core::gateways::demand::ClaimedPod;

use crate::Options;
use crate::reconcile::apply::{NotCreated, Note, Writer};
use crate::reconcile::build::warm::Template;
use crate::reconcile::status::{self, Stuck, Trouble};
use crate::steps::{self, Steps, Telling};

/// What became of a step.
pub(crate) struct Done {
    pub(crate) pool: String,
    /// Of the pool that it was for: another may bear the name by now.
    uid: String,
    what: What,
}

enum What {
    Created {
        pod: String,
        result: Result<(), NotCreated>,
    },
    Deleted {
        uid: String,
        failed: bool,
    },
    StatusTold {
        status: WarmPoolStatus,
        /// That the status counts for the first time.
        claims: u64,
        failed: bool,
    },
}

/// What all steps of one pool need.
pub(crate) struct Context<'a> {
    pub(crate) name: &'a str,
    pub(crate) writer: &'a Writer,
    /// All that gateways tell of, of other pools too.
    pub(crate) claims: &'a [&'a ClaimedPod],
    /// All gateways have been heard.
    pub(crate) all_heard: bool,
}

#[derive(Default)]
pub(crate) struct Pool {
    resource: Option<WarmPoolResource>,
    uid: String,
    template: Option<Template>,
    /// Those without a function's labels.
    pub(crate) pods: BTreeMap<String, Pod>,
    stock: Stock,
    trouble: Option<Trouble>,
    /// Why the last pod could not come up, until one does.
    stuck: Option<Stuck>,
    telling: Telling<WarmPoolStatus>,
    /// Of the stock's claims: those in a status that was written.
    claims_told: u64,
}

impl Pool {
    /// What the watch shows of it, be it news or what was written to its status.
    pub(crate) fn set(&mut self, resource: WarmPoolResource, options: &Options) {
        let uid = resource.uid().unwrap_or_default();
        if self.uid != uid {
            // Made anew under the same name: what is left of the old one goes with that one.
            let pods = std::mem::take(&mut self.pods);
            *self = Pool {
                pods,
                uid,
                ..Pool::default()
            };
        }
        let known = self.resource.as_ref();
        if known.is_none_or(|known| known.spec != resource.spec) {
            let template = Template::of(&resource, options);
            self.trouble = template.as_ref().err().cloned().map(Trouble::Unbuildable);
            self.template = template.ok();
            self.stuck = None;
        }
        self.resource = Some(resource);
    }

    /// The pool is gone; its pods go with it: they are owned by it.
    pub(crate) fn remove(&mut self) {
        self.resource = None;
    }

    pub(crate) fn is_over(&self) -> bool {
        self.resource.is_none() && self.pods.is_empty()
    }

    /// What fits into it, while it exists and can have pods.
    pub(crate) fn class(&self) -> Option<Class> {
        self.template.as_ref()?;
        Some(self.resource.as_ref()?.spec.class())
    }

    pub(crate) fn count(&self) -> Count {
        match self.resource {
            Some(_) => self.stock.count(),
            None => Count::default(),
        }
    }

    /// The watch of pods begins a list.
    pub(crate) fn list_begins(&mut self) {
        self.stock.list_begins();
    }

    /// All pods of this pool that are not on the list are gone.
    pub(crate) fn list_ends(&mut self, is_listed: impl Fn(&str) -> bool) {
        self.pods.retain(|name, _| is_listed(name));
        self.stock.list_ends(is_listed);
    }

    pub(crate) fn wake(&mut self, now: Instant) {
        self.stock.wake(now);
        self.telling.wake(now);
    }

    pub(crate) fn next_wakeup(&self) -> Option<Instant> {
        let all = [self.stock.next_wakeup(), self.telling.next_wakeup()];
        all.into_iter().flatten().min()
    }

    pub(crate) fn done(&mut self, done: Done, now: Instant) {
        if done.uid != self.uid {
            return;
        }
        match done.what {
            What::Created { pod, result } => self.on_created(now, &pod, result),
            What::Deleted { uid, failed: false } => self.stock.deleted(&uid),
            What::Deleted { uid, failed: true } => self.stock.not_deleted(now, &uid),
            What::StatusTold {
                status,
                claims,
                failed,
            } => {
                if !failed {
                    self.claims_told += claims;
                }
                self.telling.end(now, status, failed);
            }
        }
    }

    fn on_created(&mut self, now: Instant, pod: &str, result: Result<(), NotCreated>) {
        match result {
            Ok(()) => self.stock.created(pod),
            Err(NotCreated::Refused(message)) => {
                tracing::warn!(%pod, %message, "a pod of a warm pool was refused");
                self.stock.refused(now, pod);
                let pods = vec![pod.to_owned()];
                self.trouble = Some(Trouble::Refused { pods, message });
            }
            Err(NotCreated::Unanswered(message)) => {
                tracing::warn!(%pod, %message, "whether a pod of a warm pool was made is not known");
                self.stock.unanswered(now, pod);
            }
        }
    }

    /// Does what follows from all that is known.
    pub(crate) fn settle(&mut self, context: &Context<'_>, steps: &mut Steps) {
        let Some(resource) = self.resource.take() else {
            return;
        };
        self.move_pods(&resource, context, steps);
        self.explain();
        self.tell(&resource, context, steps);
        self.resource = Some(resource);
    }

    fn spawn(
        &self,
        name: &str,
        steps: &mut Steps,
        step: impl Future<Output = What> + Send + 'static,
    ) {
        let (pool, uid) = (name.to_owned(), self.uid.clone());
        steps.spawn(async move {
            let what = step.await;
            steps::Done::Pool(Done { pool, uid, what })
        });
    }

    fn move_pods(&mut self, pool: &WarmPoolResource, context: &Context<'_>, steps: &mut Steps) {
        let size = pool.spec.size;
        let template = self.template.clone();
        let known = stock::WarmPoolState {
            size: size.get() as usize,
            max: pool.spec.max.unwrap_or(size).get() as usize,
            // Without one nothing is made; what there is stays, whatever it was made from.
            template: template.as_ref().map_or("", |one| &one.revision),
            may_create: template.is_some(),
            may_delete: template.is_some() && context.all_heard,
        };
        let pods: Vec<stock::Pod> = self.pods.values().map(seen).collect();
        let claims = context.claims.iter().copied();
        let name = || labels::pod_name(context.name, &uuid::Uuid::new_v4().simple().to_string());
        let planned = self.stock.plan(Instant::now(), known, claims, &pods, name);
        for step in planned {
            let writer = context.writer.clone();
            match (step, &template) {
                (Step::Delete { pod, uid }, _) => self.spawn(context.name, steps, async move {
                    let failed = writer.delete(&pod, &uid).await.is_err();
                    What::Deleted { uid, failed }
                }),
                (Step::Create { name }, Some(template)) => {
                    let new = template.pod(name.clone());
                    self.spawn(context.name, steps, async move {
                        let result = writer.create(&new).await;
                        What::Created { pod: name, result }
                    });
                }
                (Step::Create { .. }, None) => {}
            }
        }
    }

    fn explain(&mut self) {
        let is_refilled = self.stock.count().refilling == 0;
        let is_past = self.stock.is_accepted() || is_refilled;
        self.trouble.take_if(|trouble| match trouble {
            Trouble::Refused { .. } => is_past,
            Trouble::Ending => true,
            Trouble::Unbuildable(_) | Trouble::Code(_) => false,
        });
        if self.trouble.is_none() && self.stock.is_halted() {
            self.trouble = Some(Trouble::Ending);
        }
        self.stuck = match status::stuck(self.pods.values()) {
            None if is_refilled => None,
            None => self.stuck.take(),
            stuck => stuck,
        };
    }

    fn tell(&mut self, pool: &WarmPoolResource, context: &Context<'_>, steps: &mut Steps) {
        if !self.telling.is_due(Instant::now()) {
            return;
        }
        let known = self.telling.known(pool.status.as_ref());
        let claims = self.stock.claims() - self.claims_told;
        let counted = known.map_or(0, |known| known.claims) + claims;
        let trouble = (self.trouble.as_ref(), self.stuck.as_ref());
        let status = status::of_pool(pool, known, self.stock.count(), counted, trouble);
        if known == Some(&status) {
            return;
        }
        let before = known.map_or(&[][..], |known| &known.conditions);
        // It is filled again after each claim: that is no news.
        let event = match trouble {
            (None, None) => None,
            _ => status::event(before, &status.conditions),
        };
        self.telling.begin();
        let (writer, name) = (context.writer.clone(), context.name.to_owned());
        let note = event.map(|event| Note {
            about: pool.object_ref(&()),
            event,
        });
        self.spawn(context.name, steps, async move {
            let told = writer.tell_pool(&name, &status, note).await;
            if let Err(error) = &told {
                tracing::warn!(pool = name, %error, "a status was not written");
            }
            let failed = told.is_err();
            What::StatusTold {
                status,
                claims,
                failed,
            }
        });
    }
}

fn seen(pod: &Pod) -> stock::Pod {
    let template = pod.labels().get(labels::REVISION);
    stock::Pod {
        name: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
        template: template.cloned().unwrap_or_default(),
        is_ready: status::is_ready(pod),
        is_over: status::is_over(pod),
        is_being_deleted: status::is_being_deleted(pod),
    }
}
