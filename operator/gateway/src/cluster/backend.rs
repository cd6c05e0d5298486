//! Instances as pods: claimed from the `stock` of warm pools, or else requested from the controller through
//! the `demand`; watched in `pods`.
//!
//! Creates and deletes no pod. The demand names the pods that this gateway claims, at the times that
//! `core::gateways::naming` decides. An instance that is given up leaves the demand; the controller then
//! deletes its pod, whose supervisor drains.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use pilotlight_api::instance_config::{Place, compose, suggested};
use pilotlight_api::pod_state::PodState;
use pilotlight_api::status::PodRefusal;
use pilotlight_api::{FunctionSpec, labels};
use pilotlight_core::gateways::choice::{AfterFailure, ClaimFailure, UnclaimedPod};
use pilotlight_core::gateways::demand::ClaimedPod;
use pilotlight_core::gateways::ledger::InstanceRequest;
use pilotlight_core::gateways::naming::Naming;
use pilotlight_core::ids::{InstanceName, PoolId};
use pilotlight_core::reason::Reason;
use pilotlight_net::address::{self, Opening};
use pilotlight_net::keepalive;
use pilotlight_runtimes::Runtimes;
use pilotlight_wire::claim::Claim;
use pilotlight_wire::config::InstanceConfig;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::claim::{self, Found, NotClaimed};
use super::codes::{self, Codes, Form};
use super::demand::Ledger;
use super::pods::Pods;
use super::stock::Stock;
use super::supervisors::{self, Supervisor, Supervisors};
use crate::backend::{Backend, Promise, Reservation, Running};
use crate::catalog::{Deployment, Source};
use crate::clock;
use crate::logs::Way;

/// A node that does not acknowledge a new pod within this time is lost, whatever the API server thinks of it.
const ACKNOWLEDGEMENT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the supervisor in a running container may take until it listens. A healthy one takes less.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the demand names an instance that was given up, if its pod does not end before.
const GIVEN_UP_LIMIT: Duration = Duration::from_secs(60);
/// The pause between two attempts to connect to a supervisor that does not listen yet.
const LISTEN_RETRY_PAUSE: Duration = Duration::from_millis(5);

/// Why the controller creates no pods for functions, as it reports in their statuses. Functions without
/// refusals are not in it.
pub(crate) type Refusals = HashMap<PoolId, Arc<[PodRefusal]>>;

#[derive(Debug)]
pub(crate) struct PodBackend {
    pub(crate) pods: Pods,
    pub(crate) ledger: Ledger,
    pub(crate) refusals: watch::Receiver<Arc<Refusals>>,
    pub(crate) codes: Codes,
    pub(crate) runtimes: Runtimes,
    pub(crate) region: String,
    pub(crate) supervisors: Supervisors,
}

/// A request for an instance in the demand, until it is dropped.
#[derive(Debug)]
struct Request {
    pods: Pods,
    ledger: Ledger,
    pool: PoolId,
    instance: InstanceName,
    id: InstanceRequest,
}

impl Request {
    /// `pod`: the pod of a warm pool that has become the instance.
    fn new(
        pods: &Pods,
        ledger: &Ledger,
        pool: &PoolId,
        instance: &InstanceName,
        pod: Option<ClaimedPod>,
    ) -> Self {
        Request {
            pods: pods.clone(),
            ledger: ledger.clone(),
            pool: pool.clone(),
            instance: instance.clone(),
            id: ledger.change(|state| state.request(pool, instance, pod)),
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.ledger
            .change(|state| state.cancel(&self.pool, self.id));
        self.pods.forget(self.instance.as_str());
    }
}

/// A pod that was taken from the stock for an instance, until it is dropped.
struct Taken {
    stock: Stock,
    instance: InstanceName,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.stock.leave(self.instance.as_str());
    }
}

impl PodBackend {
    async fn start(
        &self,
        deployment: &Deployment,
        instance: &InstanceName,
    ) -> Result<Box<dyn Running>, Reason> {
        let Source::Cluster { .. } = &deployment.source else {
            return Err(Reason::from(
                "its code lies on a machine, not in the cluster",
            ));
        };
        let mut missed = None;
        if let Some(taken) = self.pods.stock.taken(instance.as_str()) {
            if let Some(claimed) = self.claim(deployment, instance, taken).await? {
                return Ok(Box::new(claimed));
            }
            missed = Some(self.request(&deployment.pool, instance));
        }
        let state = self.pods.follow(instance.as_str());
        let up = self.up(deployment, instance.as_str(), state.clone());
        let supervisor = match codes::are_brought(&deployment.spec) {
            true => {
                self.up_with_code(up, &deployment.spec, instance.as_str())
                    .await?
            }
            false => up.await?,
        };
        Ok(Box::new(PodInstance {
            supervisor,
            state,
            unpacked: None,
            fetched: None,
            named: self.named(&deployment.pool, instance),
            _wanted: missed.map_or(Wanted::Reserved, Wanted::Missed),
        }))
    }

    fn request(&self, pool: &PoolId, instance: &InstanceName) -> Request {
        Request::new(&self.pods, &self.ledger, pool, instance, None)
    }

    fn named(&self, pool: &PoolId, instance: &InstanceName) -> Named {
        Named {
            ledger: self.ledger.clone(),
            pool: pool.clone(),
            instance: instance.clone(),
        }
    }

    /// Names a claimed pod in the demand, as `Naming` decides. The instance ends when the guard is dropped.
    fn name(&self, pool: &PoolId, instance: &InstanceName, pod: ClaimedPod) -> DropGuard {
        let lives = CancellationToken::new();
        let ended = lives.clone();
        let (pods, ledger) = (self.pods.clone(), self.ledger.clone());
        let (pool, instance) = (pool.clone(), instance.clone());
        let mut naming = Naming::new(clock::now());
        // Outlives the instance for a bounded time, until the naming stops.
        tokio::spawn(async move {
            tokio::time::sleep_until(naming.starts_at().into()).await;
            let _request = Request::new(&pods, &ledger, &pool, &instance, Some(pod));
            ended.cancelled().await;
            naming.end(clock::now());
            if let Some(at) = naming.stops_at() {
                tokio::time::sleep_until(at.into()).await;
            }
        });
        lives.drop_guard()
    }

    /// Claims the pod that was taken, or others as `Choice` decides; `None` if a request must follow.
    async fn claim(
        &self,
        deployment: &Deployment,
        instance: &InstanceName,
        mut taken: UnclaimedPod,
    ) -> Result<Option<PodInstance>, Reason> {
        let begun = clock::now();
        let code = self.codes.all_of(&deployment.spec).await?;
        let fetched = codes::are_brought(&deployment.spec).then(|| clock::since(begun));
        let spec = &deployment.spec;
        let config = self.config(deployment, instance.as_str())?;
        let has_sources = !spec.environment_from.is_empty();
        let own = Claim {
            instance: instance.to_string(),
            defaults: has_sources.then(|| suggested(&config, spec)),
            config: Some(config),
            // `claim` names what it sends.
            parts: None,
        };
        loop {
            let supervisor = self.supervisors.of_pod(taken.ip, &taken.uid);
            let error = match claim::claim(&supervisor, &own, &code).await {
                Ok(unpacked) => {
                    let pod = ClaimedPod {
                        name: taken.name.clone(),
                        uid: taken.uid.clone(),
                        revision: deployment.revision.clone(),
                    };
                    return Ok(Some(PodInstance {
                        supervisor,
                        state: self.pods.claimed(instance, &taken),
                        unpacked: Some(unpacked),
                        fetched,
                        named: self.named(&deployment.pool, instance),
                        _wanted: Wanted::Claimed(self.name(&deployment.pool, instance, pod)),
                    }));
                }
                Err(error) => error,
            };
            let failure = match &error {
                // The pod knows nothing of it, and stays in the pool.
                NotClaimed::Unreadable(_) => {
                    self.codes.recheck(code).await;
                    return Err(Reason::from(error.to_string()));
                }
                NotClaimed::Lost => ClaimFailure::Lost,
                NotClaimed::Refused(_) => ClaimFailure::Refused,
                NotClaimed::Unreachable(reason) => {
                    tracing::warn!(pod = %taken.name, %reason, "a warm pool's pod is not claimed");
                    ClaimFailure::Unreachable
                }
            };
            let claim = (&taken.uid, failure);
            match self.pods.stock.failed(claim, &deployment.spec, instance) {
                AfterFailure::Claim(next) => taken = next,
                AfterFailure::Request => return Ok(None),
                AfterFailure::Fail => {
                    self.codes.recheck(code).await;
                    return Err(Reason::from(error.to_string()));
                }
            }
        }
    }

    /// The configuration for a claimed instance: the same that the controller gives to a pod.
    fn config(&self, deployment: &Deployment, instance: &str) -> Result<InstanceConfig, Reason> {
        let spec = &deployment.spec;
        let runtime = self.runtimes.get(&spec.runtime);
        let runtime = runtime.ok_or_else(|| {
            Reason::from(format!(
                "spec.runtime: {}",
                self.runtimes.lacking(&spec.runtime)
            ))
        })?;
        let launch = runtime.launch(spec.handler.clone());
        let place = Place {
            qualifier: deployment.pool.qualifier,
            instance,
            date: &jiff::Timestamp::now().strftime("%Y/%m/%d").to_string(),
            region: &self.region,
            listen: &labels::listen(),
            ends_with_parent: false,
        };
        Ok(compose(deployment.name(), spec, &launch, place))
    }

    /// Waits for the instance's pod.
    async fn up(
        &self,
        deployment: &Deployment,
        instance: &str,
        mut state: watch::Receiver<PodState>,
    ) -> Result<Supervisor, Reason> {
        let mut refusals = self.refusals.clone();
        let pod = labels::pod_name(deployment.name().as_str(), instance);
        loop {
            let now = state.borrow_and_update().clone();
            let silent = match &now {
                PodState::Unacknowledged { node } => Some(node.clone()),
                _ => None,
            };
            match now {
                // A pod that is being deleted ends soon, and says so then.
                PodState::Starting | PodState::Unacknowledged { .. } | PodState::Terminating => {}
                PodState::Ready { ip, .. } => {
                    tokio::select! {
                        biased;
                        listens = listens(supervisors::address(ip)) => {
                            listens?;
                            // The watch that shows the address shows the UID.
                            let uid = self.pods.uid(instance).unwrap_or_default();
                            return Ok(self.supervisors.of_pod(ip, &uid));
                        }
                        changed = changed(&mut state) => changed?,
                    }
                    continue;
                }
                PodState::Stuck(cause) | PodState::Ended(cause) => {
                    return Err(Reason::from(cause.to_string()));
                }
            }
            let refused = refusals.borrow_and_update().get(&deployment.pool).cloned();
            let mut refused = refused.iter().flat_map(|refused| refused.iter());
            if let Some(refusal) = refused.find(|refusal| refusal.concerns(&pod)) {
                return Err(Reason::from(refusal.message.as_str()));
            }
            tokio::select! {
                changed = changed(&mut state) => changed?,
                Ok(()) = refusals.changed() => {}
                Some(node) = silence(silent) => {
                    let reason = format!("node {node} does not take its pod");
                    return Err(Reason::from(reason));
                }
            }
        }
    }

    /// Fetches the code while the pod comes up, and brings it there unless it has it.
    async fn up_with_code(
        &self,
        up: impl Future<Output = Result<Supervisor, Reason>>,
        spec: &FunctionSpec,
        instance: &str,
    ) -> Result<Supervisor, Reason> {
        let supervisor = {
            let mut code = pin!(self.codes.brought_to(spec, Form::Archive));
            let mut up = pin!(up);
            tokio::select! {
                biased;
                supervisor = &mut up => supervisor?,
                fetched = &mut code => {
                    // In use only once the pod is up: a pod that waits for a node would keep others' code out of the
                    // cache.
                    drop(fetched?);
                    up.await?
                }
            }
        };
        let form = match claim::look(&supervisor).await? {
            Found::Instance(name) if name == instance => return Ok(supervisor),
            Found::Instance(other) => {
                return Err(format!("its pod has become another instance, {other}").into());
            }
            Found::Unclaimed(form) => form,
        };
        let code = self.codes.brought_to(spec, form).await?;
        let own = Claim {
            instance: instance.to_owned(),
            config: None,
            defaults: None,
            parts: None,
        };
        if let Err(error) = claim::claim(&supervisor, &own, &code).await {
            if matches!(error, NotClaimed::Refused(_) | NotClaimed::Unreadable(_)) {
                self.codes.recheck(code).await;
            }
            return Err(Reason::from(error.to_string()));
        }
        Ok(supervisor)
    }
}

/// Returns once the pod's state has changed; fails when the watch has dropped the pod.
async fn changed(state: &mut watch::Receiver<PodState>) -> Result<(), Reason> {
    let changed = state.changed().await;
    changed.map_err(|_| Reason::from("its pod is gone"))
}

/// Returns once the pod has ended, and how.
async fn ended(state: &mut watch::Receiver<PodState>) -> Reason {
    loop {
        if let PodState::Ended(cause) = &*state.borrow_and_update() {
            return Reason::from(cause.to_string());
        }
        if let Err(reason) = changed(state).await {
            return reason;
        }
    }
}

/// The node, when it has been silent for too long.
async fn silence(node: Option<String>) -> Option<String> {
    let node = node?;
    tokio::time::sleep(ACKNOWLEDGEMENT_TIMEOUT).await;
    Some(node)
}

/// Returns once connections are not refused any more. Other errors appear when the instance connects.
async fn listens(address: SocketAddr) -> Result<(), Reason> {
    let refuses = || async {
        let opened = address::connect(address, address::CONNECT_TIMEOUT, keepalive::PARTS).await;
        opened.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    };
    let listens = async {
        while refuses().await {
            tokio::time::sleep(LISTEN_RETRY_PAUSE).await;
        }
    };
    tokio::time::timeout(LISTEN_TIMEOUT, listens)
        .await
        .map_err(|_| Reason::from(format!("its supervisor does not listen on {address}")))
}

impl Backend for PodBackend {
    fn reserve(&self, deployment: &Deployment, instance: &str) -> Reservation {
        let is_new = !self.pods.has(instance);
        let instance = InstanceName::from(instance);
        let spec = &deployment.spec;
        let may_claim = is_new && self.codes.can_bring(spec);
        if may_claim && self.pods.stock.take(spec, &instance).is_some() {
            // The demand requests no pod: `start` claims this one.
            let stock = self.pods.stock.clone();
            return Box::new(Taken { stock, instance });
        }
        Box::new(self.request(&deployment.pool, &instance))
    }

    fn start<'a>(
        &'a self,
        deployment: &'a Deployment,
        instance: &'a str,
    ) -> Promise<'a, Result<Box<dyn Running>, Reason>> {
        Box::pin(async move { self.start(deployment, &instance.into()).await })
    }

    fn refuses(&self, deployment: &Deployment) -> bool {
        self.refusals.borrow().contains_key(&deployment.pool)
    }

    fn observe(&self, deployment: &Deployment, in_flight: usize, queued: usize) {
        self.ledger
            .change(|state| state.observe(&deployment.pool, in_flight, queued));
    }

    fn observe_events(&self, pool: &PoolId, events: usize) {
        self.ledger
            .change(|state| state.observe_events(pool, events));
    }
}

/// A pod that is up.
#[derive(Debug)]
struct PodInstance {
    supervisor: Supervisor,
    state: watch::Receiver<PodState>,
    /// As in [`Running::unpacked`].
    unpacked: Option<Duration>,
    /// As in [`Running::fetched`].
    fetched: Option<Duration>,
    named: Named,
    _wanted: Wanted,
}

/// How the demand names an instance.
#[derive(Debug)]
struct Named {
    ledger: Ledger,
    pool: PoolId,
    instance: InstanceName,
}

/// Keeps an instance in the demand, or names its pod there, until it is dropped.
#[derive(Debug)]
#[expect(dead_code, reason = "they are held to be dropped")]
enum Wanted {
    /// The reservation does.
    Reserved,
    /// All claims for it failed.
    Missed(Request),
    /// Its pod was claimed.
    Claimed(DropGuard),
}

impl Running for PodInstance {
    fn connect(&self) -> Opening {
        self.supervisor.connect()
    }

    fn records(&self) -> Option<Way> {
        let supervisor = self.supervisor.clone();
        Some(Box::new(move || supervisor.connect()))
    }

    fn fetched(&self) -> Option<Duration> {
        self.fetched
    }

    fn unpacked(&self) -> Option<Duration> {
        self.unpacked
    }

    fn wait(&mut self) -> Promise<'_, Reason> {
        Box::pin(ended(&mut self.state))
    }

    fn end(self: Box<Self>) -> Promise<'static, ()> {
        // The instance leaves the demand with its reservation. The controller deletes the pod, and the
        // container has its log.
        Box::pin(async {})
    }

    fn kill(self: Box<Self>) -> Promise<'static, ()> {
        let PodInstance {
            mut state, named, ..
        } = *self;
        let Named {
            ledger,
            pool,
            instance,
        } = named;
        ledger.change(|state| state.give_up(&pool, &instance));
        // Outlives the instance's task, for a bounded time.
        tokio::spawn(async move {
            let _ = tokio::time::timeout(GIVEN_UP_LIMIT, ended(&mut state)).await;
            ledger.change(|state| state.forget_given_up(&pool, &instance));
        });
        Box::pin(async {})
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn the_start_waits_for_a_supervisor_that_does_not_listen_yet() {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let mut listens = pin!(listens(address));
        let too_early = tokio::time::timeout(4 * LISTEN_RETRY_PAUSE, &mut listens).await;
        assert!(too_early.is_err());
        let _listener = TcpListener::bind(address).await.unwrap();
        assert_eq!(listens.await, Ok(()));
    }
}
