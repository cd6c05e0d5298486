//! Writes to the API server, one call a function; the only place where pods come and go.
//!
//! Only the leader's writes are made (`leadership`). Fed with complete objects and names. A pod that
//! is there already under its one name counts as made; one that is gone already counts as deleted.

use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::events::{Event, Recorder};
use kube::{Api, Client, Resource, ResourceExt};
use pilotlight_api::resource::{
    FunctionResource, FunctionStatus, WarmPoolResource, WarmPoolStatus,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit, watch};

use crate::leadership::Term;
use crate::metrics::{Metrics, Operation};

/// Who the API server is told has set a field.
const MANAGER: &str = "pilotlight-controller";

/// Calls at a time; the others wait, so that a burst of pods is no burst at the API server.
const AT_A_TIME: usize = 32;

/// The API server as one controller uses it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Writer {
    functions: Api<FunctionResource>,
    warm_pools: Api<WarmPoolResource>,
    pods: Api<Pod>,
    config_maps: Api<ConfigMap>,
    events: Recorder,
    turns: Arc<Semaphore>,
    term: watch::Receiver<Term>,
    metrics: Metrics,
}

/// What is left with an object after a change of its status, for `kubectl describe`. One that is lost
/// is no loss.
pub(crate) struct Note {
    pub(crate) about: ObjectReference,
    pub(crate) event: Event,
}

/// Why a pod was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotCreated {
    /// The API server says no, in these words; it would say so again.
    Refused(String),
    /// It did not answer, or not now.
    Unanswered(String),
}

impl Writer {
    pub(crate) fn new(
        client: &Client,
        namespace: &str,
        term: watch::Receiver<Term>,
        metrics: Metrics,
    ) -> Self {
        Writer {
            functions: Api::namespaced(client.clone(), namespace),
            warm_pools: Api::namespaced(client.clone(), namespace),
            pods: Api::namespaced(client.clone(), namespace),
            config_maps: Api::namespaced(client.clone(), namespace),
            events: Recorder::new(client.clone(), MANAGER.into()),
            turns: Arc::new(Semaphore::new(AT_A_TIME)),
            term,
            metrics,
        }
    }

    /// Waits for its turn, and for ever if this controller leads no more: it is about to end, and
    /// another may act by now.
    async fn turn(&self) -> SemaphorePermit<'_> {
        let turn = self.turns.acquire().await;
        let turn = turn.expect("the semaphore is never closed");
        let leads = |term: &Term| term.is_some_and(|until| until > Instant::now());
        if !leads(&self.term.borrow()) {
            tracing::warn!("a write is not made: another may lead by now");
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
        self.step(Operation::create_pod, created).await
    }

    pub(crate) async fn delete(&self, pod: &str, uid: &str) -> Result<(), kube::Error> {
        let deleted = async { unless_gone(self.pods.delete(pod, &only(uid)).await) };
        self.step(Operation::delete_pod, deleted).await
    }

    /// Changes the metadata of a pod, and returns it; `None` if it is gone, or another bears the name.
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

    /// Gives a pod other resources while it runs. Not every API server can, nor every node: the pod
    /// has enough as it is.
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

    pub(crate) async fn tell(
        &self,
        function: &str,
        status: &FunctionStatus,
        note: Option<Note>,
    ) -> Result<(), kube::Error> {
        self.write_status(&self.functions, function, status, note)
            .await
    }

    pub(crate) async fn tell_pool(
        &self,
        pool: &str,
        status: &WarmPoolStatus,
        note: Option<Note>,
    ) -> Result<(), kube::Error> {
        self.write_status(&self.warm_pools, pool, status, note)
            .await
    }

    async fn write_status<K>(
        &self,
        api: &Api<K>,
        name: &str,
        status: &impl Serialize,
        note: Option<Note>,
    ) -> Result<(), kube::Error>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
    {
        let patch = Patch::Apply(json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": { "name": name },
            "status": status,
        }));
        let parameters = PatchParams::apply(MANAGER).force();
        let told = async {
            match api.patch_status(name, &parameters, &patch).await {
                Ok(_) => Ok(()),
                // Deleted meanwhile.
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                Err(error) => Err(error),
            }
        };
        self.step(Operation::write_status, told).await?;
        if let Some(note) = note {
            self.note(&note).await;
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

/// Of the object with this UID, never of one that bears its name later.
fn only(uid: &str) -> DeleteParams {
    DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: None,
        }),
        ..DeleteParams::default()
    }
}

/// Gone, or another one bears the name by now: as good as deleted.
fn unless_gone<T>(deleted: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match deleted {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(error),
    }
}
