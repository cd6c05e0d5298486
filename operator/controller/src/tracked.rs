//! One resource as the controller tracks it: what the watches show of it, and the operations for it.
//!
//! Owns what all kinds of resources have in common: the last readable spec, the pods, what is wrong, and when
//! the status is written. A kind (`function`, `warm_pool`) adds its decisions by implementing [`Kind`].
//! `collection` holds the resources of one kind and `worker` keeps them up to date. Operations run in tasks
//! of their own; each returns as a [`Completed`].

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Instant;

use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::object::{HasSpec, HasStatus};
use pilotlight_watch::{Decoded, Unreadable};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use crate::options::Options;
use crate::reconcile::apply::{Note, Writer};
use crate::reconcile::build::Unbuildable;
use crate::reconcile::status::{self, Health, Problems, Status, Stuck, Trouble};
use crate::status_writes::StatusWrites;

/// What one kind of resource adds to [`Tracked`]. `Self` is the state that only this kind has.
pub(crate) trait Kind: Default + Send + 'static {
    type Resource: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + HasSpec<Spec: PartialEq>
        + HasStatus<Status = Self::Status>
        + Clone
        + Debug
        + DeserializeOwned
        + Serialize
        + Send
        + Sync;
    type Status: Status;
    /// What the operations of this kind depend on besides the resource and its pods.
    type Input<'a>: Copy;
    /// What became of an operation.
    type Completion: Send + 'static;

    /// The spec is another one than before. Fails if no pod can be made from it.
    fn respecified(
        &mut self,
        resource: &Self::Resource,
        options: &Options,
    ) -> Result<(), Unbuildable>;

    /// What the next resource of the same name starts with.
    fn successor(&mut self) -> Self {
        Self::default()
    }

    /// Whether something besides pods is left of a resource that is gone.
    fn has_remains(&self) -> bool {
        false
    }

    /// Begins the operations that follow from everything known, and updates what is wrong.
    fn reconcile(
        tracked: &mut Tracked<Self>,
        resource: &Self::Resource,
        context: &Context<'_, Self>,
        operations: &mut Operations<Self>,
    );

    fn completed(tracked: &mut Tracked<Self>, now: Instant, completion: Self::Completion);

    /// The counts of the status, and the condition `Ready` while nothing is wrong. `written`: the status
    /// as the API server has it.
    fn status(
        tracked: &mut Tracked<Self>,
        resource: &Self::Resource,
        written: Option<&Self::Status>,
        context: &Context<'_, Self>,
    ) -> (Self::Status, Health);

    /// The last status that [`Kind::status`] returned was written.
    fn status_written(&mut self) {}

    /// Time has passed.
    fn wake(&mut self, now: Instant);

    /// When [`Kind::wake`] is due, if nothing happens before.
    fn next_wakeup(&self) -> Option<Instant>;
}

/// What the operations for one resource need.
pub(crate) struct Context<'a, R: Kind> {
    pub(crate) name: &'a str,
    pub(crate) writer: &'a Writer,
    pub(crate) options: &'a Options,
    /// Whether all gateways have reported their demand: what none of them named is unwanted.
    pub(crate) all_reported: bool,
    pub(crate) input: R::Input<'a>,
}

/// The operations under way for the resources of one kind.
pub(crate) type Operations<R> = JoinSet<Completed<R>>;

/// An operation that has come to its end.
pub(crate) struct Completed<R: Kind> {
    pub(crate) name: String,
    /// The resource that it was for. Another one may bear the name by now.
    uid: String,
    result: Outcome<R>,
}

enum Outcome<R: Kind> {
    Own(R::Completion),
    StatusWrite { status: R::Status, failed: bool },
}

pub(crate) struct Tracked<R: Kind> {
    /// Present while the resource exists.
    metadata: Option<ObjectMeta>,
    /// With the last readable spec; absent while none was ever readable.
    resource: Option<R::Resource>,
    uid: String,
    /// Why the present spec cannot be read.
    unreadable: Option<Unreadable>,
    pub(crate) pods: BTreeMap<String, Pod>,
    pub(crate) trouble: Option<Trouble>,
    /// Why the last pod could not come up, until one does.
    pub(crate) stuck: Option<Stuck>,
    pub(crate) status_writes: StatusWrites<R::Status>,
    pub(crate) own: R,
}

impl<R: Kind> Default for Tracked<R> {
    fn default() -> Self {
        Tracked {
            metadata: None,
            resource: None,
            uid: String::new(),
            unreadable: None,
            pods: BTreeMap::new(),
            trouble: None,
            stuck: None,
            status_writes: StatusWrites::default(),
            own: R::default(),
        }
    }
}

impl<R: Kind> Tracked<R> {
    /// Takes in what the watch shows: a new spec, or the status that was written.
    pub(crate) fn set(&mut self, shown: Decoded<R::Resource>, options: &Options) {
        let uid = shown.metadata.uid.clone().unwrap_or_default();
        if self.uid != uid {
            // Recreated under the same name. The owner references of the old objects delete them.
            *self = Tracked {
                pods: std::mem::take(&mut self.pods),
                own: self.own.successor(),
                uid,
                ..Tracked::default()
            };
        }
        self.metadata = Some(shown.metadata);
        match shown.content {
            Ok(resource) => {
                let before = self.resource.as_ref();
                let is_changed = before.is_none_or(|before| before.spec() != resource.spec());
                self.resource = Some(resource);
                if is_changed {
                    self.respecify(options);
                }
                self.unreadable = None;
            }
            // The last readable spec stays in force.
            Err(unreadable) => self.unreadable = Some(unreadable),
        }
    }

    /// The spec, or what pods are made of besides it, is another one than before.
    pub(crate) fn respecify(&mut self, options: &Options) {
        if let Some(resource) = &self.resource {
            let built = self.own.respecified(resource, options);
            self.trouble = built.err().map(Trouble::Unbuildable);
            self.stuck = None;
        }
    }

    /// The resource is gone. Its pods follow, because they are owned by it.
    pub(crate) fn remove(&mut self) {
        self.metadata = None;
        self.resource = None;
        self.unreadable = None;
    }

    /// Present while the resource exists, whether or not its spec can be read.
    pub(crate) fn metadata(&self) -> Option<&ObjectMeta> {
        self.metadata.as_ref()
    }

    pub(crate) fn exists(&self) -> bool {
        self.metadata.is_some()
    }

    /// Nothing is left of it.
    pub(crate) fn is_over(&self) -> bool {
        !self.exists() && self.pods.is_empty() && !self.own.has_remains()
    }

    pub(crate) fn uid(&self) -> &str {
        &self.uid
    }

    pub(crate) fn resource(&self) -> Option<&R::Resource> {
        self.resource.as_ref()
    }

    pub(crate) fn is_unreadable(&self) -> bool {
        self.unreadable.is_some()
    }

    pub(crate) fn wake(&mut self, now: Instant) {
        self.own.wake(now);
        self.status_writes.wake(now);
    }

    pub(crate) fn next_wakeup(&self) -> Option<Instant> {
        let all = [self.own.next_wakeup(), self.status_writes.next_wakeup()];
        all.into_iter().flatten().min()
    }

    pub(crate) fn completed(&mut self, completed: Completed<R>, now: Instant) {
        if completed.uid != self.uid {
            return;
        }
        match completed.result {
            Outcome::Own(completion) => R::completed(self, now, completion),
            Outcome::StatusWrite { status, failed } => {
                if !failed {
                    self.own.status_written();
                }
                self.status_writes.finish(now, status, failed);
            }
        }
    }

    /// Begins what follows from everything known.
    pub(crate) fn settle(&mut self, context: &Context<'_, R>, operations: &mut Operations<R>) {
        let resource = self.resource.take();
        if let Some(resource) = &resource {
            R::reconcile(self, resource, context, operations);
        }
        self.write_status(resource.as_ref(), context, operations);
        self.resource = resource;
    }

    /// Begins an operation of this kind.
    pub(crate) fn begin(
        &self,
        name: &str,
        operations: &mut Operations<R>,
        operation: impl Future<Output = R::Completion> + Send + 'static,
    ) {
        self.spawn(name, operations, async { Outcome::Own(operation.await) });
    }

    fn spawn(
        &self,
        name: &str,
        operations: &mut Operations<R>,
        operation: impl Future<Output = Outcome<R>> + Send + 'static,
    ) {
        let (name, uid) = (name.to_owned(), self.uid.clone());
        operations.spawn(async move {
            let result = operation.await;
            Completed { name, uid, result }
        });
    }

    fn write_status(
        &mut self,
        resource: Option<&R::Resource>,
        context: &Context<'_, R>,
        operations: &mut Operations<R>,
    ) {
        let Some(metadata) = &self.metadata else {
            return;
        };
        if !self.status_writes.is_due(Instant::now()) {
            return;
        }
        let (generation, about) = (metadata.generation, self.reference(metadata));
        let shown = match &self.unreadable {
            Some(unreadable) => serde_json::from_value(unreadable.status.clone()).ok(),
            None => resource.and_then(|resource| resource.status().cloned()),
        };
        let written: Option<R::Status> = self.status_writes.latest(shown);
        let (mut status, health) = match resource {
            Some(resource) => R::status(self, resource, written.as_ref(), context),
            None => (R::Status::default(), Health::unknown()),
        };
        let problems = Problems {
            trouble: self.trouble.as_ref(),
            stuck: self.stuck.as_ref(),
            unreadable: self.unreadable.as_ref(),
        };
        let before = written
            .as_ref()
            .map_or(&[][..], |written| written.conditions());
        let conditions = status::conditions(before, generation, health, &problems);
        let events = status::events(before, &conditions, &problems);
        status.report(generation, conditions, problems.refusals());
        if written.as_ref() == Some(&status) {
            return;
        }
        self.status_writes.begin();
        let notes = events.into_iter().map(|event| Note {
            about: about.clone(),
            event,
        });
        let notes: Vec<Note> = notes.collect();
        let (writer, name) = (context.writer.clone(), context.name.to_owned());
        self.spawn(context.name, operations, async move {
            let result = writer.write_status::<R::Resource>(&name, &status, &notes);
            let result = result.await;
            if let Err(error) = &result {
                let kind = R::Resource::kind(&());
                tracing::warn!(%kind, name, %error, "a status was not written");
            }
            let failed = result.is_err();
            Outcome::StatusWrite { status, failed }
        });
    }

    fn reference(&self, metadata: &ObjectMeta) -> ObjectReference {
        ObjectReference {
            api_version: Some(R::Resource::api_version(&()).into_owned()),
            kind: Some(R::Resource::kind(&()).into_owned()),
            name: metadata.name.clone(),
            namespace: metadata.namespace.clone(),
            uid: metadata.uid.clone(),
            ..ObjectReference::default()
        }
    }
}
