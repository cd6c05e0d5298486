//! Writes to the API server, one function for each call. Pods are created and deleted only here.
//!
//! Only the leader writes (`leadership`). Fed with complete objects and names by `function`, `warm_pool` and
//! `tracked`. A pod that already exists under its unique name counts as created; one that is already gone
//! counts as deleted.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference, Pod};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions,
};
use kube::core::NamespaceResourceScope;
use kube::runtime::events::{Event, Recorder};
use kube::{Api, Client, Resource, ResourceExt};
use pilotlight_api::labels;
use pilotlight_api::resource::WarmPoolResource;
use pilotlight_core::function::{PoolSize, Runtime};
use pilotlight_otlp::SpanExporter;
use pilotlight_watch::Decoded;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit, watch};

use crate::leadership::Term;
use crate::metrics::{Metrics, Operation};
use crate::{clock, spans};

/// The field manager of everything that the controller writes.
const MANAGER: &str = "pilotlight-controller";

/// Concurrent calls. The others wait, so that a burst of pods does not become a burst of calls.
const CONCURRENT_CALLS: usize = 32;

/// The API server as one controller uses it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Writer {
    client: Client,
    namespace: String,
    pods: Api<Pod>,
    config_maps: Api<ConfigMap>,
    events: Recorder,
    turns: Arc<Semaphore>,
    term: watch::Receiver<Term>,
    metrics: Metrics,
    /// Where spans go, if anywhere.
    exporter: Option<SpanExporter>,
}

/// The object of the chart that owns the default pools. It is in the Functions' namespace, and goes with the release.
const POOLS_OWNER: &str = "pilotlight-functions-controller";

/// An event about an object after a change of its status, for `kubectl describe`. Losing one is harmless.
pub(crate) struct Note {
    pub(crate) about: ObjectReference,
    pub(crate) event: Event,
}

/// Why a pod was not created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotCreated {
    /// The API server refuses it with this message, and would refuse it again.
    Refused(String),
    /// The API server did not answer, or is overloaded. The pod may exist.
    Unanswered(String),
}

impl Writer {
    pub(crate) fn new(
        client: &Client,
        namespace: &str,
        term: watch::Receiver<Term>,
        (metrics, exporter): (Metrics, Option<SpanExporter>),
    ) -> Self {
        Writer {
            exporter,
            client: client.clone(),
            namespace: namespace.to_owned(),
            pods: Api::namespaced(client.clone(), namespace),
            config_maps: Api::namespaced(client.clone(), namespace),
            events: Recorder::new(client.clone(), MANAGER.into()),
            turns: Arc::new(Semaphore::new(CONCURRENT_CALLS)),
            term,
            metrics,
        }
    }

    /// Waits for a turn, and forever if this controller does not lead any more: it is about to end, and
    /// another one may act already.
    async fn turn(&self) -> SemaphorePermit<'_> {
        let turn = self.turns.acquire().await;
        let turn = turn.expect("the semaphore is never closed");
        let leads = |term: &Term| term.is_some_and(|until| until > Instant::now());
        if !leads(&self.term.borrow()) {
            tracing::warn!("a write is suppressed because another controller may lead by now");
            std::future::pending::<()>().await;
        }
        turn
    }

    async fn step<T, E>(
        &self,
        operation: Operation,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let begin = Instant::now();
        let _turn = self.turn().await;
        let result = call.await;
        self.metrics
            .stepped(operation, begin.elapsed(), result.is_ok());
        result
    }

    pub(crate) async fn apply_code(&self, code: &ConfigMap) -> Result<(), kube::Error> {
        let parameters = PatchParams::apply(MANAGER).force();
        let (name, patch) = (code.name_any(), Patch::Apply(code));
        let applied = self.config_maps.patch(&name, &parameters, &patch);
        self.step(Operation::store_code, applied).await.map(drop)
    }

    pub(crate) async fn delete_code(&self, name: &str, uid: &str) -> Result<(), kube::Error> {
        let deleted = async { unless_gone(self.config_maps.delete(name, &only(uid)).await) };
        let deleted = self.step(Operation::delete_code, deleted).await;
        if let Err(error) = &deleted {
            tracing::warn!(name, %error, "old code was not deleted");
        }
        deleted
    }

    pub(crate) async fn create(&self, pod: &Pod) -> Result<(), NotCreated> {
        let parameters = PostParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PostParams::default()
        };
        let created = async {
            match self.pods.create(&parameters, pod).await {
                Ok(_) => Ok(()),
                Err(kube::Error::Api(status))
                    if status.code == 409 && status.reason == "AlreadyExists" =>
                {
                    Ok(())
                }
                Err(kube::Error::Api(status))
                    if matches!(status.code, 400..500) && status.code != 429 =>
                {
                    Err(NotCreated::Refused(status.message))
                }
                Err(error) => Err(NotCreated::Unanswered(error.to_string())),
            }
        };
        let begun = clock::since_epoch();
        let result = self.step(Operation::create_pod, created).await;
        if let Some(exporter) = &self.exporter {
            let error = result.as_ref().err().map(|why| match why {
                NotCreated::Refused(message) | NotCreated::Unanswered(message) => message.clone(),
            });
            spans::export_creation(exporter, pod, (begun, clock::since_epoch()), error);
        }
        result
    }

    /// `at_once`: without a grace period, instead of the pod's own.
    pub(crate) async fn delete(
        &self,
        pod: &str,
        uid: &str,
        at_once: bool,
    ) -> Result<(), kube::Error> {
        let mut parameters = only(uid);
        parameters.grace_period_seconds = at_once.then_some(0);
        let deleted = async { unless_gone(self.pods.delete(pod, &parameters).await) };
        self.step(Operation::delete_pod, deleted).await
    }

    /// Changes the metadata of a pod and returns the pod; `None` if it is gone or another one has the name.
    pub(crate) async fn take_over(
        &self,
        pod: &str,
        metadata: &Value,
    ) -> Result<Option<Pod>, kube::Error> {
        let patch = Patch::Merge(metadata);
        let patched = async {
            match self.pods.patch(pod, &PatchParams::default(), &patch).await {
                Ok(pod) => Ok(Some(pod)),
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(None),
                Err(error) => Err(error),
            }
        };
        self.step(Operation::take_pod, patched).await
    }

    /// Changes the resources of a running pod. Not every API server and node supports this, and a failure is
    /// harmless: a pod of a warm pool has at least what the function asks for.
    pub(crate) async fn resize(&self, pod: &str, resources: &Value) {
        let _turn = self.turn().await;
        let patch = Patch::Strategic(resources);
        let parameters = PatchParams::default();
        let resized = self
            .pods
            .patch_subresource("resize", pod, &parameters, &patch);
        match resized.await {
            Ok(_) => tracing::debug!(pod, "resized"),
            Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404 | 422) => {
                tracing::debug!(pod, message = status.message, "a pod keeps its resources");
            }
            Err(error) => tracing::warn!(pod, %error, "a pod keeps its resources"),
        }
    }

    fn pools(&self) -> Api<DynamicObject> {
        let kind = ApiResource::erase::<WarmPoolResource>(&());
        Api::namespaced_with(self.client.clone(), &self.namespace, &kind)
    }

    /// Creates a default pool. One that is there counts as created.
    pub(crate) async fn create_pool(
        &self,
        name: &str,
        runtime: &Runtime,
        size: PoolSize,
    ) -> Result<(), String> {
        let owners = Api::<RoleBinding>::namespaced(self.client.clone(), &self.namespace);
        let created = async {
            let owner = owners.get(POOLS_OWNER).await.map_err(|error| {
                format!("the RoleBinding {POOLS_OWNER}, which owns the default pools: {error}")
            })?;
            let pool = json!({
                "apiVersion": WarmPoolResource::api_version(&()),
                "kind": WarmPoolResource::kind(&()),
                "metadata": {
                    "name": name,
                    "labels": { labels::MANAGED_BY: labels::MANAGER, labels::DEFAULT_POOL: "true" },
                    "ownerReferences": [owner.owner_ref(&())],
                },
                "spec": { "runtime": runtime, "size": size },
            });
            let pool = serde_json::from_value(pool).map_err(|error| error.to_string())?;
            match self.pools().create(&PostParams::default(), &pool).await {
                Ok(_) => Ok(()),
                Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => Ok(()),
                Err(error) => Err(error.to_string()),
            }
        };
        self.step(Operation::write_pool, created).await
    }

    /// Changes the size of the pool with this UID.
    pub(crate) async fn resize_pool(
        &self,
        name: &str,
        uid: &str,
        size: PoolSize,
    ) -> Result<(), String> {
        let patch = Patch::Merge(json!({ "metadata": { "uid": uid }, "spec": { "size": size } }));
        let (pools, parameters) = (self.pools(), PatchParams::default());
        let resized = async { unless_gone(pools.patch(name, &parameters, &patch).await) };
        let resized = self.step(Operation::write_pool, resized).await;
        resized.map_err(|error| error.to_string())
    }

    /// Deletes the pool with this UID.
    pub(crate) async fn delete_pool(&self, name: &str, uid: &str) -> Result<(), String> {
        let deleted = async { unless_gone(self.pools().delete(name, &only(uid)).await) };
        let deleted = self.step(Operation::write_pool, deleted).await;
        deleted.map_err(|error| error.to_string())
    }

    /// Writes the status of a resource of kind `R`, and then the events about the change.
    pub(crate) async fn write_status<R>(
        &self,
        name: &str,
        status: &impl Serialize,
        notes: &[Note],
    ) -> Result<(), kube::Error>
    where
        R: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        // The answer is the resource, which this version may be unable to read.
        let api = Api::<Decoded<R>>::namespaced(self.client.clone(), &self.namespace);
        let patch = Patch::Apply(json!({
            "apiVersion": R::api_version(&()),
            "kind": R::kind(&()),
            "metadata": { "name": name },
            "status": status,
        }));
        let parameters = PatchParams::apply(MANAGER).force();
        let written = async {
            match api.patch_status(name, &parameters, &patch).await {
                Ok(_) => Ok(()),
                // Deleted in the meantime.
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                Err(error) => Err(error),
            }
        };
        self.step(Operation::write_status, written).await?;
        for note in notes {
            self.note(note).await;
        }
        Ok(())
    }

    async fn note(&self, Note { about, event }: &Note) {
        let _turn = self.turn().await;
        if let Err(error) = self.events.publish(event, about).await {
            tracing::debug!(%error, "an event was not published");
        }
    }
}

/// Deletes only the object with this UID, never another one that has its name later.
fn only(uid: &str) -> DeleteParams {
    DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: None,
        }),
        ..DeleteParams::default()
    }
}

/// An object that is gone, or whose name another one has by now, counts as deleted.
fn unless_gone<T>(deleted: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match deleted {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(error),
    }
}
