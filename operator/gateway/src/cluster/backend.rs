//! Instances as pods: claimed from the `stock` of warm pools, or else asked of the controller by the
//! `demand`; watched in `pods`.
//!
//! Makes and deletes nothing itself. A pod that it claims is named in the demand. An instance that is
//! given up leaves the demand; the controller then deletes its pod, whose supervisor drains.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use pilotlight_api::instance_config::{Place, compose};
use pilotlight_api::pod_state::PodState;
use pilotlight_api::status::PodRefusal;
use pilotlight_api::{FunctionSpec, labels};
use pilotlight_core::function::FunctionName;
use pilotlight_core::gateways::demand::ClaimedPod;
use pilotlight_net::address::{self, Address, Opening};
use pilotlight_runtimes::Runtimes;
use pilotlight_wire::claim::Claim;
use pilotlight_wire::config::InstanceConfig;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::claim::{self, NotClaimed};
use super::codes::{self, Codes};
use super::demand::{Ledger, WishId};
use super::pods::Pods;
use super::stock::{Stock, Unclaimed};
use crate::backend::{Backend, Promise, Reservation, Running};
use crate::catalog::{Deployment, Source};

/// What follows from a claim elsewhere (labels, another pod for the pool) waits for this: the instance
/// needs the processors itself at first.
const HEAD_START: Duration = Duration::from_millis(250);
/// A claimed pod is named for so long at least: the controller hears of it then.
const MENTION: Duration = Duration::from_secs(2);

/// A node that does not acknowledge a new pod within this time is lost, whatever the API server thinks of it.
const ACKNOWLEDGEMENT_TIMEOUT: Duration = Duration::from_secs(10);

/// A container runs before its supervisor listens; no supervisor that is well takes so long.
const DEAF: Duration = Duration::from_secs(10);
/// Between two tries to reach it.
const DEAF_PAUSE: Duration = Duration::from_millis(5);

/// Why pods of functions are not made, as the controller reports in their statuses. A function without
/// refusals is not in it.
pub(crate) type Refusals = HashMap<FunctionName, Arc<[PodRefusal]>>;

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

impl Wish {
    /// `pod`: the one of a warm pool that has become the instance.
    fn new(
        pods: &Pods,
        ledger: &Ledger,
        function: &FunctionName,
        instance: &str,
        pod: Option<ClaimedPod>,
    ) -> Self {
        Wish {
            pods: pods.clone(),
            ledger: ledger.clone(),
            function: function.clone(),
            instance: instance.to_owned(),
            id: ledger.want(function, instance, pod),
        }
    }
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
            missed = Some(self.wish(&deployment.name, instance));
        }
        let state = self.pods.follow(instance);
        let up = self.up(deployment, instance, state.clone());
        let address = match codes::are_brought(&deployment.spec) {
            true => self.up_with_code(up, &deployment.spec, instance).await?,
            false => up.await?,
        };
        Ok(Box::new(PodInstance {
            address,
            state,
            unpacked: None,
            _wanted: missed.map_or(Wanted::Reserved, Wanted::Missed),
        }))
    }

    fn wish(&self, function: &FunctionName, instance: &str) -> Wish {
        Wish::new(&self.pods, &self.ledger, function, instance, None)
    }

    /// Names a claimed pod from a moment on, until what this returns is dropped.
    fn mention(&self, function: &FunctionName, instance: &str, pod: ClaimedPod) -> DropGuard {
        let lives = CancellationToken::new();
        let ended = lives.clone();
        let (pods, ledger) = (self.pods.clone(), self.ledger.clone());
        let (function, instance) = (function.clone(), instance.to_owned());
        // Goes on after the instance, but not for long.
        tokio::spawn(async move {
            tokio::time::sleep(HEAD_START).await;
            let heard = tokio::time::Instant::now() + MENTION;
            let _wish = Wish::new(&pods, &ledger, &function, &instance, Some(pod));
            ended.cancelled().await;
            tokio::time::sleep_until(heard).await;
        });
        lives.drop_guard()
    }

    /// Claims what was taken, or another pod that fits if that is gone; `None` if there is none.
    async fn claim(
        &self,
        deployment: &Deployment,
        instance: &str,
        mut taken: Unclaimed,
    ) -> Result<Option<PodInstance>, Arc<str>> {
        let code = self.codes.all_of(&deployment.spec).await?;
        let own = Claim {
            instance: instance.to_owned(),
            config: Some(self.config(deployment, instance)?),
        };
        loop {
            let (address, uid) = (taken.address(), &taken.uid);
            match claim::claim(address, &own, &code).await {
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
                        _wanted: Wanted::Claimed(self.mention(&deployment.name, instance, pod)),
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
            Arc::from(format!(
                "spec.runtime: {}",
                self.runtimes.lacking(&spec.runtime)
            ))
        })?;
        let launch = runtime.launch(spec.handler.clone());
        let place = Place {
            instance,
            date: &jiff::Timestamp::now().strftime("%Y/%m/%d").to_string(),
            region: &self.region,
            listen: &labels::listen(),
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
            let silent = match &now {
                PodState::Unacknowledged { node } => Some(node.clone()),
                _ => None,
            };
            match now {
                // A pod that is being deleted ends soon, and says so then.
                PodState::Starting | PodState::Unacknowledged { .. } | PodState::Terminating => {}
                PodState::Ready { ip } => {
                    let address = SocketAddr::new(ip, labels::CONTROL_PORT);
                    tokio::select! {
                        biased;
                        listens = listens(address) => return listens.map(|()| address),
                        changed = changed(&mut state) => changed?,
                    }
                    continue;
                }
                PodState::Stuck(cause) | PodState::Ended(cause) => {
                    return Err(Arc::from(cause.to_string()));
                }
            }
            let refused = refusals.borrow_and_update().get(&deployment.name).cloned();
            let mut refused = refused.iter().flat_map(|refused| refused.iter());
            if let Some(refusal) = refused.find(|refusal| refusal.concerns(&pod)) {
                return Err(Arc::from(refusal.message.as_str()));
            }
            tokio::select! {
                changed = changed(&mut state) => changed?,
                Ok(()) = refusals.changed() => {}
                Some(node) = silence(silent) => {
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
        spec: &FunctionSpec,
        instance: &str,
    ) -> Result<SocketAddr, Arc<str>> {
        let mut code = pin!(self.codes.brought_to(spec));
        let mut up = pin!(up);
        let (address, fetched) = tokio::select! {
            biased;
            address = &mut up => (address?, None),
            fetched = &mut code => {
                let tars = fetched?;
                (up.await?, Some(tars))
            }
        };
        if !claim::is_claimed(address).await? {
            let tars = match fetched {
                Some(tars) => tars,
                None => code.await?,
            };
            let own = Claim {
                instance: instance.to_owned(),
                config: None,
            };
            let claimed = claim::claim(address, &own, &tars).await;
            claimed.map_err(|error| Arc::from(error.to_string()))?;
        }
        Ok(address)
    }
}

/// Returns once the pod's state is another; fails when nobody watches it any more.
async fn changed(state: &mut watch::Receiver<PodState>) -> Result<(), Arc<str>> {
    let changed = state.changed().await;
    changed.map_err(|_| Arc::from("its pod is gone"))
}

/// The node, when it has been silent for too long.
async fn silence(node: Option<String>) -> Option<String> {
    let node = node?;
    tokio::time::sleep(ACKNOWLEDGEMENT_TIMEOUT).await;
    Some(node)
}

/// Returns once connections are not refused any more. What else is wrong, whoever connects is told.
async fn listens(address: SocketAddr) -> Result<(), Arc<str>> {
    let is_deaf = || async {
        let opened = address::connect(address).await;
        opened.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    };
    let listens = async {
        while is_deaf().await {
            tokio::time::sleep(DEAF_PAUSE).await;
        }
    };
    tokio::time::timeout(DEAF, listens)
        .await
        .map_err(|_| Arc::from(format!("its supervisor does not listen on {address}")))
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
        Box::new(self.wish(&deployment.name, instance))
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
    _wanted: Wanted,
}

/// What keeps an instance in the demand.
#[derive(Debug)]
#[expect(dead_code, reason = "they are held to be dropped")]
enum Wanted {
    /// The reservation does.
    Reserved,
    /// A pod was taken from the stock for it, and was not to be had.
    Missed(Wish),
    /// It is made of a pod from the stock.
    Claimed(DropGuard),
}

impl Running for PodInstance {
    fn connect(&self) -> Opening {
        Address::Tcp(self.address).connect()
    }

    fn unpacked(&self) -> Option<Duration> {
        self.unpacked
    }

    fn wait(&mut self) -> Promise<'_, Arc<str>> {
        Box::pin(async {
            loop {
                if let PodState::Ended(cause) = &*self.state.borrow_and_update() {
                    return Arc::from(cause.to_string());
                }
                if let Err(reason) = changed(&mut self.state).await {
                    return reason;
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
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_supervisor_that_does_not_listen_yet_is_waited_for() {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let mut listens = pin!(listens(address));
        let too_early = tokio::time::timeout(4 * DEAF_PAUSE, &mut listens).await;
        assert!(too_early.is_err());
        let _listener = TcpListener::bind(address).await.unwrap();
        assert_eq!(listens.await, Ok(()));
    }
}
