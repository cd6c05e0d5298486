//! Instances as pods: claimed from the `stock` of warm pools, or else asked of the controller by the
//! `demand`; watched in `pods`.
//!
//! Makes and deletes nothing itself. A pod that it claims is named in the demand. An instance that is given up leaves the demand; the
//! controller then deletes its pod, whose supervisor drains.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use pilotlight_api::instance_config::{Launch, Place, compose};
use pilotlight_api::resource::Refusal;
use pilotlight_api::{Code, labels};
use pilotlight_core::function::FunctionName;
use pilotlight_core::wire::{Claim, ClaimedPod, InstanceConfig};
use pilotlight_runtimes::{IMAGE_TASK_ROOT, Runtimes};
use tokio::sync::watch;

use super::claim::{self, NotClaimed};
use super::codes::Codes;
use super::demand::{Ledger, WishId};
use super::pods::{PodState, Pods};
use super::stock::{Stock, Unclaimed};
use crate::backend::{Address, Backend, Promise, Reservation, Running};
use crate::catalog::{Deployment, Source};

/// A node that says nothing of a new pod for so long is lost, whatever the API server thinks of it.
const UNHEEDED: Duration = Duration::from_secs(5);

/// Why pods of functions are not made, as their statuses say.
pub(crate) type Refusals = HashMap<FunctionName, Refused>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    of_all_pods: bool,
    message: Arc<str>,
}

impl Refused {
    /// Why this pod is not made. A refusal that names others is an older one.
    fn of(&self, pod: &str) -> Option<Arc<str>> {
        let concerns_it = self.of_all_pods || self.message.contains(pod);
        concerns_it.then(|| self.message.clone())
    }
}

impl From<Refusal<'_>> for Refused {
    fn from(refusal: Refusal<'_>) -> Self {
        let (of_all_pods, message) = match refusal {
            Refusal::Pods(message) => (false, message),
            Refusal::Function(message) => (true, message),
        };
        Refused {
            of_all_pods,
            message: Arc::from(message),
        }
    }
}

#[derive(Debug)]
pub(crate) struct PodBackend {
    pub(crate) pods: Pods,
    pub(crate) ledger: Ledger,
    pub(crate) refusals: watch::Receiver<Arc<Refusals>>,
    pub(crate) codes: Codes,
    pub(crate) runtimes: Runtimes,
    pub(crate) region: String,
}

/// An instance that the demand names, until it is dropped.
#[derive(Debug)]
struct Wish {
    pods: Pods,
    ledger: Ledger,
    function: FunctionName,
    instance: String,
    id: WishId,
}

impl Drop for Wish {
    fn drop(&mut self) {
        self.ledger.give_up(&self.function, self.id);
        self.pods.forget(&self.instance);
    }
}

/// An instance for which a pod was taken from the stock.
struct Taken {
    stock: Stock,
    instance: String,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.stock.leave(&self.instance);
    }
}

impl PodBackend {
    async fn start(
        &self,
        deployment: &Deployment,
        instance: &str,
    ) -> Result<Box<dyn Running>, Arc<str>> {
        let Source::Cluster { .. } = &deployment.source else {
            return Err(Arc::from("its code lies on a machine, not in the cluster"));
        };
        let mut missed = None;
        if let Some(taken) = self.pods.stock.taken(instance) {
            if let Some(claimed) = self.claim(deployment, instance, taken).await? {
                return Ok(Box::new(claimed));
            }
            missed = Some(self.wish(&deployment.name, instance, None));
        }
        let state = self.pods.follow(instance);
        let up = self.up(deployment, instance, state.clone());
        let address = match &deployment.spec.code {
            code @ Code::Archive(_) => self.up_with_code(up, code, instance).await?,
            _ => up.await?,
        };
        Ok(Box::new(PodInstance {
            address,
            state,
            unpacked: None,
            _wish: missed,
        }))
    }

    fn wish(&self, function: &FunctionName, instance: &str, pod: Option<ClaimedPod>) -> Wish {
        Wish {
            pods: self.pods.clone(),
            ledger: self.ledger.clone(),
            function: function.clone(),
            instance: instance.to_owned(),
            id: self.ledger.want(function, instance, pod),
        }
    }

    /// Claims what was taken, or another pod that fits if that is gone; `None` if there is none.
    async fn claim(
        &self,
        deployment: &Deployment,
        instance: &str,
        mut taken: Unclaimed,
    ) -> Result<Option<PodInstance>, Arc<str>> {
        let code = self.codes.of(&deployment.spec.code).await?;
        let own = Claim {
            instance: instance.to_owned(),
            config: Some(self.config(deployment, instance)?),
        };
        loop {
            let (address, uid) = (taken.address(), &taken.uid);
            match claim::claim(address, &own, code.as_ref()).await {
                Ok(unpacked) => {
                    let pod = ClaimedPod {
                        name: taken.name.clone(),
                        uid: taken.uid.clone(),
                        revision: deployment.revision.clone(),
                    };
                    return Ok(Some(PodInstance {
                        address,
                        state: self.pods.claimed(instance, &taken),
                        unpacked: Some(unpacked),
                        _wish: Some(self.wish(&deployment.name, instance, Some(pod))),
                    }));
                }
                Err(NotClaimed::Lost) => self.pods.stock.lose(uid),
                Err(NotClaimed::Unreachable(reason)) => {
                    tracing::warn!(pod = taken.name, %reason, "a warm pool's pod is not claimed");
                    self.pods.stock.avoid(uid);
                }
                Err(refused @ NotClaimed::Refused(_)) => {
                    self.pods.stock.lose(uid);
                    return Err(Arc::from(refused.to_string()));
                }
            }
            match self.pods.stock.take(&deployment.spec, instance) {
                Some(next) => taken = next,
                None => return Ok(None),
            }
        }
    }

    /// What an instance is told that is claimed: the same that the controller gives to a pod.
    fn config(&self, deployment: &Deployment, instance: &str) -> Result<InstanceConfig, Arc<str>> {
        let spec = &deployment.spec;
        let runtime = self.runtimes.get(&spec.runtime);
        let runtime = runtime.ok_or_else(|| {
            let known = self.runtimes.names();
            Arc::from(format!("spec.runtime: the gateway knows {known} only"))
        })?;
        let handler = spec.handler.clone();
        let handler = handler.unwrap_or_else(|| runtime.default_handler.clone());
        let (command, environment) = runtime.in_image(&handler);
        let launch = Launch {
            command,
            handler,
            task_root: IMAGE_TASK_ROOT.into(),
            environment,
        };
        let place = Place {
            instance,
            date: &jiff::Timestamp::now().strftime("%Y/%m/%d").to_string(),
            region: &self.region,
            listen: &format!("0.0.0.0:{}", labels::CONTROL_PORT),
            ends_with_parent: false,
        };
        Ok(compose(&deployment.name, spec, &launch, place))
    }

    /// Waits for the instance's pod.
    async fn up(
        &self,
        deployment: &Deployment,
        instance: &str,
        mut state: watch::Receiver<PodState>,
    ) -> Result<SocketAddr, Arc<str>> {
        let mut refusals = self.refusals.clone();
        let pod = labels::pod_name(deployment.name.as_str(), instance);
        loop {
            let now = state.borrow_and_update().clone();
            let unheeded = match &now {
                PodState::Unheeded(node) => Some(node.clone()),
                _ => None,
            };
            match now {
                PodState::Starting | PodState::Unheeded(_) => {}
                PodState::Ready(ip) => return Ok(SocketAddr::new(ip, labels::CONTROL_PORT)),
                PodState::Hopeless(reason) | PodState::Gone(reason) => return Err(reason),
            }
            let refused = refusals.borrow_and_update().get(&deployment.name).cloned();
            if let Some(reason) = refused.and_then(|refused| refused.of(&pod)) {
                return Err(reason);
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

    /// Fetches the code while the pod comes up, and brings it there unless it has it.
    async fn up_with_code(
        &self,
        up: impl Future<Output = Result<SocketAddr, Arc<str>>>,
        code: &Code,
        instance: &str,
    ) -> Result<SocketAddr, Arc<str>> {
        let mut code = pin!(self.codes.of(code));
        let mut up = pin!(up);
        let (address, fetched) = tokio::select! {
            biased;
            address = &mut up => (address?, None),
            fetched = &mut code => {
                let tar = fetched?;
                (up.await?, Some(tar))
            }
        };
        if !claim::is_claimed(address).await? {
            let tar = match fetched {
                Some(tar) => tar,
                None => code.await?,
            };
            let own = Claim {
                instance: instance.to_owned(),
                config: None,
            };
            let claimed = claim::claim(address, &own, tar.as_ref()).await;
            claimed.map_err(|error| Arc::from(error.to_string()))?;
        }
        Ok(address)
    }
}

/// The node, when it has been silent for too long.
async fn silence(node: Option<Arc<str>>) -> Option<Arc<str>> {
    let node = node?;
    tokio::time::sleep(UNHEEDED).await;
    Some(node)
}

impl Backend for PodBackend {
    fn reserve(&self, deployment: &Deployment, instance: &str) -> Reservation {
        let is_new = !self.pods.has(instance);
        if is_new && self.pods.stock.take(&deployment.spec, instance).is_some() {
            // Nobody is asked for a pod: `start` claims this one.
            return Box::new(Taken {
                stock: self.pods.stock.clone(),
                instance: instance.to_owned(),
            });
        }
        Box::new(self.wish(&deployment.name, instance, None))
    }

    fn start<'a>(
        &'a self,
        deployment: &'a Deployment,
        instance: &'a str,
    ) -> Promise<'a, Result<Box<dyn Running>, Arc<str>>> {
        Box::pin(self.start(deployment, instance))
    }

    fn refuses(&self, deployment: &Deployment) -> bool {
        self.refusals.borrow().contains_key(&deployment.name)
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
    /// As in [`Running::unpacked`].
    unpacked: Option<Duration>,
    /// Besides the reservation: of one that was taken from the stock, or missed there.
    _wish: Option<Wish>,
}

impl Running for PodInstance {
    fn address(&self) -> Address {
        Address::Tcp(self.address)
    }

    fn unpacked(&self) -> Option<Duration> {
        self.unpacked
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
        // It leaves the demand with its reservation; the rest is the controller's to do, and its
        // log is the container's.
        Box::pin(async {})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_fails_the_pods_that_it_names_and_one_of_the_function_all() {
        let named = Refused::from(Refusal::Pods("hello-a, hello-b: exceeded quota"));
        assert!(named.of("hello-b").is_some());
        assert_eq!(named.of("hello-c"), None);
        let all = Refused::from(Refusal::Function("no image"));
        assert_eq!(all.of("hello-c").as_deref(), Some("no image"));
    }
}
