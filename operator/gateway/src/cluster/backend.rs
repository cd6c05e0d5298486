//! Instances as pods: asked of the controller by the `demand`, watched in `pods`.
//!
//! Makes and deletes nothing itself. An instance that is given up leaves the demand; the
//! controller then deletes its pod, whose supervisor drains.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pilotlight_api::labels;
use pilotlight_core::function::FunctionName;
use tokio::sync::watch;

use super::demand::Ledger;
use super::pods::{PodState, Pods};
use crate::backend::{Backend, Promise, Running};
use crate::catalog::{Deployment, Source};

/// A node that says nothing of a new pod for so long is lost, whatever the API server thinks of it.
const UNHEEDED: Duration = Duration::from_secs(5);

/// Why the API server refused the last pod of a function, as its status says.
pub(crate) type Refusals = HashMap<FunctionName, Arc<str>>;

#[derive(Debug)]
pub(crate) struct PodBackend {
    pub(crate) pods: Pods,
    pub(crate) ledger: Ledger,
    pub(crate) refusals: watch::Receiver<Arc<Refusals>>,
}

/// An instance that the demand names, until it is dropped.
#[derive(Debug)]
struct Wish {
    pods: Pods,
    ledger: Ledger,
    function: FunctionName,
    instance: String,
}

impl Drop for Wish {
    fn drop(&mut self) {
        self.ledger.give_up(&self.function, &self.instance);
        self.pods.forget(&self.instance);
    }
}

impl PodBackend {
    async fn start(
        &self,
        deployment: &Deployment,
        instance: &str,
    ) -> Result<Box<dyn Running>, Arc<str>> {
        let Source::Cluster { uid } = &deployment.source else {
            return Err(Arc::from("its code lies on a machine, not in the cluster"));
        };
        let mut state = self.pods.follow(instance);
        let mut refusals = self.refusals.clone();
        let wish = Wish {
            pods: self.pods.clone(),
            ledger: self.ledger.clone(),
            function: deployment.name.clone(),
            instance: instance.to_owned(),
        };
        self.ledger
            .want(&deployment.name, uid, &deployment.revision, instance);
        let pod = labels::pod_name(deployment.name.as_str(), instance);
        loop {
            let now = state.borrow_and_update().clone();
            let unheeded = match &now {
                PodState::Unheeded(node) => Some(node.clone()),
                _ => None,
            };
            match now {
                PodState::Starting | PodState::Unheeded(_) => {}
                PodState::Ready(ip) => {
                    let address = SocketAddr::new(ip, labels::CONTROL_PORT);
                    return Ok(Box::new(PodInstance {
                        address,
                        state,
                        _wish: wish,
                    }));
                }
                PodState::Hopeless(reason) | PodState::Gone(reason) => return Err(reason),
            }
            // A refusal of another pod is an older one.
            let refusal = refusals.borrow_and_update().get(&deployment.name).cloned();
            if let Some(refusal) = refusal.filter(|refusal| refusal.contains(&pod)) {
                return Err(refusal);
            }
            tokio::select! {
                changed = state.changed() => if changed.is_err() {
                    return Err(Arc::from("its pod is gone"));
                },
                Ok(()) = refusals.changed() => {}
                Some(node) = silence(unheeded) => {
                    let reason = format!("node {node} does not take its pod");
                    return Err(Arc::from(reason));
                }
            }
        }
    }
}

/// The node, when it has been silent for too long.
async fn silence(node: Option<Arc<str>>) -> Option<Arc<str>> {
    let node = node?;
    tokio::time::sleep(UNHEEDED).await;
    Some(node)
}

impl Backend for PodBackend {
    fn start<'a>(
        &'a self,
        deployment: &'a Deployment,
        instance: &'a str,
    ) -> Promise<'a, Result<Box<dyn Running>, Arc<str>>> {
        Box::pin(self.start(deployment, instance))
    }

    fn observe(&self, deployment: &Deployment, in_flight: usize, queued: usize) {
        self.ledger.observe(&deployment.name, in_flight, queued);
    }
}

/// A pod that is up.
#[derive(Debug)]
struct PodInstance {
    address: SocketAddr,
    state: watch::Receiver<PodState>,
    _wish: Wish,
}

impl Running for PodInstance {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn wait(&mut self) -> Promise<'_, Arc<str>> {
        Box::pin(async {
            loop {
                if let PodState::Gone(reason) = &*self.state.borrow_and_update() {
                    return reason.clone();
                }
                if self.state.changed().await.is_err() {
                    return Arc::from("its pod is gone");
                }
            }
        })
    }

    fn end(self: Box<Self>) -> Promise<'static, ()> {
        // Leaving the demand is all: its log is the container's, and the controller sees to it.
        Box::pin(async move { drop(self) })
    }
}
