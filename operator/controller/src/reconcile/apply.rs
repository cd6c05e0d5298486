//! Writes to the API server, one call a function; the only place where pods come and go.
//!
//! Fed with complete objects and names. A pod that is there already under its one name counts as
//! made; one that is gone already counts as deleted.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::events::{Event, Recorder};
use kube::{Api, Client, ResourceExt};
use pilotlight_api::resource::{FunctionResource, FunctionStatus};
use serde_json::json;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Who the API server is told has set a field.
const MANAGER: &str = "pilotlight-controller";

/// Calls at a time; the others wait, so that a burst of pods is no burst at the API server.
const AT_A_TIME: usize = 32;

/// The API server as one controller uses it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Writer {
    functions: Api<FunctionResource>,
    pods: Api<Pod>,
    config_maps: Api<ConfigMap>,
    events: Recorder,
    turns: Arc<Semaphore>,
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
    pub(crate) fn new(client: &Client, namespace: &str) -> Self {
        Writer {
            functions: Api::namespaced(client.clone(), namespace),
            pods: Api::namespaced(client.clone(), namespace),
            config_maps: Api::namespaced(client.clone(), namespace),
            events: Recorder::new(client.clone(), MANAGER.into()),
            turns: Arc::new(Semaphore::new(AT_A_TIME)),
        }
    }

    async fn turn(&self) -> SemaphorePermit<'_> {
        self.turns
            .acquire()
            .await
            .expect("the semaphore is never closed")
    }

    pub(crate) async fn apply_code(&self, code: &ConfigMap) -> Result<(), kube::Error> {
        let _turn = self.turn().await;
        let parameters = PatchParams::apply(MANAGER).force();
        let name = code.name_any();
        self.config_maps
            .patch(&name, &parameters, &Patch::Apply(code))
            .await
            .map(drop)
    }

    pub(crate) async fn create(&self, pod: &Pod) -> Result<(), NotCreated> {
        let _turn = self.turn().await;
        let parameters = PostParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PostParams::default()
        };
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
    }

    pub(crate) async fn delete(&self, pod: &str, uid: &str) -> Result<(), kube::Error> {
        let _turn = self.turn().await;
        let parameters = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(uid.to_owned()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match self.pods.delete(pod, &parameters).await {
            Ok(_) => Ok(()),
            // Gone, or another one bears the name by now.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn tell(
        &self,
        function: &str,
        status: &FunctionStatus,
    ) -> Result<(), kube::Error> {
        let _turn = self.turn().await;
        let patch = Patch::Apply(json!({
            "apiVersion": "pilotlight.dev/v1alpha1",
            "kind": "Function",
            "metadata": { "name": function },
            "status": status,
        }));
        let parameters = PatchParams::apply(MANAGER).force();
        match self
            .functions
            .patch_status(function, &parameters, &patch)
            .await
        {
            Ok(_) => Ok(()),
            // Deleted meanwhile.
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Leaves a note with the function, for `kubectl describe`. One that is lost is no loss.
    pub(crate) async fn note(&self, function: &ObjectReference, event: &Event) {
        let _turn = self.turn().await;
        if let Err(error) = self.events.publish(event, function).await {
            tracing::debug!(%error, "an event was not published");
        }
    }
}
