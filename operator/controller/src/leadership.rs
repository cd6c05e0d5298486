//! The Lease that controllers share: its holder leads, the others stand by.
//!
//! Carries out the attempts of `core::election` at the API server, and publishes until when this controller
//! leads. Every write names the version that it replaces, so only one of two concurrent writes succeeds. The
//! Lease is in the namespace of the Functions, because it protects them.

use std::pin::{Pin, pin};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use pilotlight_core::election::{self, Attempt, Election, Loss, Outcome, Timing};
use pilotlight_watch::Backoff;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::metrics::{Metrics, Operation};
use crate::options::Options;

/// The name of the Lease. All controllers of a namespace share it, whatever their release.
pub(crate) const LEASE: &str = "pilotlight-controller";

/// Until when this controller leads. `None`: it stands by.
pub(crate) type Term = Option<Instant>;

/// How long the release of the Lease may take. After that it has to expire.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(3);

type Attempting = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// The pod of a controller, as its identity names it: `NAMESPACE/NAME/UID`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PodIdentity<'a> {
    namespace: &'a str,
    name: &'a str,
    uid: &'a str,
}

impl<'a> PodIdentity<'a> {
    /// `None`: the identity is not a pod's, such as one of an earlier release.
    fn parse(identity: &'a str) -> Option<Self> {
        let mut parts = identity.split('/');
        let (namespace, name, uid) = (parts.next()?, parts.next()?, parts.next()?);
        let is_complete = ![namespace, name, uid].contains(&"") && parts.next().is_none();
        is_complete.then_some(PodIdentity {
            namespace,
            name,
            uid,
        })
    }
}

pub(crate) struct Contender {
    client: Client,
    leases: Api<Lease>,
    identity: String,
    timing: Timing,
    election: Election,
    attempting: Option<Attempting>,
    term: watch::Sender<Term>,
    metrics: Metrics,
}

impl Contender {
    pub(crate) fn new(
        client: Client,
        options: &Options,
        timing: Timing,
        term: watch::Sender<Term>,
        metrics: Metrics,
    ) -> Self {
        Contender {
            leases: Api::namespaced(client.clone(), &options.namespace),
            client,
            identity: options.identity.clone(),
            timing,
            election: Election::new(options.identity.clone(), timing),
            attempting: None,
            term,
            metrics,
        }
    }

    /// Contends until this controller has led and leads no longer, and returns why. It cannot lead again:
    /// operations that it has begun may still be under way, and end with the process.
    pub(crate) async fn contend(&mut self) -> Loss {
        let shown = watcher::watch_object(self.leases.clone(), LEASE).backoff(Backoff::default());
        let mut shown = pin!(shown);
        loop {
            let now = Instant::now();
            self.election.wake(now);
            if self.attempting.is_none()
                && let Some(attempt) = self.election.poll_attempt(now)
            {
                self.attempting = Some(self.attempt(attempt));
            }
            self.publish(now);
            if let Some(loss) = self.election.loss() {
                return loss.clone();
            }
            let wakeup = self.election.next_wakeup();
            let alarm = async {
                match wakeup {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            let attempted = async {
                match &mut self.attempting {
                    Some(attempting) => attempting.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                outcome = attempted => self.attempted(outcome),
                Some(lease) = shown.next() => match lease {
                    Ok(lease) => self.election.watched(Instant::now(), lease.as_ref().map(seen)),
                    Err(error) => {
                        self.metrics.failed(Operation::watch);
                        tracing::debug!(%error, "the watch of the Lease is interrupted");
                    }
                },
                () = alarm => {}
            }
        }
    }

    /// Releases the Lease if this controller leads, so that another can take it at once.
    pub(crate) async fn give_back(&mut self) {
        let giving = async {
            if let Some(attempting) = &mut self.attempting {
                let outcome = attempting.await;
                self.attempted(outcome);
            }
            let version = self.election.held(Instant::now())?.to_owned();
            self.term.send_replace(None);
            let spec = json!({ "holderIdentity": null, "renewTime": MicroTime(Timestamp::now()) });
            let given = patch(&self.leases, &version, spec).await;
            tracing::info!(is_released = given.is_ok(), "leads no more");
            Some(())
        };
        if tokio::time::timeout(RELEASE_TIMEOUT, giving).await.is_err() {
            tracing::warn!("the Lease was not released in time: it will expire");
        }
    }

    fn attempted(&mut self, outcome: Outcome) {
        self.attempting = None;
        self.election.tried(Instant::now(), outcome);
    }

    fn publish(&self, now: Instant) {
        let term = self.election.leads_until(now);
        let before = self.term.send_replace(term);
        if before.is_none() && term.is_some() {
            tracing::info!(identity = self.identity, "leads");
        }
        self.metrics.leads(term.is_some());
    }

    fn attempt(&self, attempt: Attempt) -> Attempting {
        let (leases, identity) = (self.leases.clone(), self.identity.clone());
        let client = self.client.clone();
        let (duration, patience) = (self.timing.lease.as_secs(), self.timing.renew_deadline / 2);
        let metrics = self.metrics.clone();
        Box::pin(async move {
            let tried = perform(attempt, &client, &leases, identity, duration);
            let (is_error, outcome) = match tokio::time::timeout(patience, tried).await {
                Ok(Ok(outcome)) => (false, outcome),
                Ok(Err(kube::Error::Api(status))) if status.code == 409 => {
                    (false, Outcome::Conflict)
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, "an attempt at the Lease failed");
                    (true, Outcome::Unanswered)
                }
                Err(_) => {
                    tracing::warn!("the API server does not answer about the Lease");
                    (true, Outcome::Unanswered)
                }
            };
            if is_error {
                metrics.failed(Operation::lease);
            }
            outcome
        })
    }
}

async fn perform(
    attempt: Attempt,
    client: &Client,
    leases: &Api<Lease>,
    identity: String,
    duration: u64,
) -> Result<Outcome, kube::Error> {
    let now = MicroTime(Timestamp::now());
    match attempt {
        Attempt::Read => {
            let found = leases.get_opt(LEASE).await?;
            Ok(Outcome::Found(found.as_ref().map(seen)))
        }
        Attempt::CheckHolder { holder } => {
            let exists = exists(client, &holder, &identity).await?;
            Ok(Outcome::HolderExists(exists))
        }
        Attempt::Create => {
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(LEASE.to_owned()),
                    ..ObjectMeta::default()
                },
                spec: Some(LeaseSpec {
                    holder_identity: Some(identity),
                    lease_duration_seconds: i32::try_from(duration).ok(),
                    acquire_time: Some(now.clone()),
                    renew_time: Some(now),
                    lease_transitions: Some(0),
                    ..LeaseSpec::default()
                }),
            };
            let made = leases.create(&PostParams::default(), &lease).await?;
            Ok(Outcome::Written(seen(&made)))
        }
        Attempt::Take {
            version,
            transitions,
        } => {
            let spec = json!({
                "holderIdentity": identity, "leaseDurationSeconds": duration,
                "acquireTime": now, "renewTime": now, "leaseTransitions": transitions,
            });
            Ok(Outcome::Written(patch(leases, &version, spec).await?))
        }
        Attempt::Renew { version } => {
            let spec = json!({ "holderIdentity": identity, "renewTime": now });
            Ok(Outcome::Written(patch(leases, &version, spec).await?))
        }
    }
}

/// Whether the process of this identity may still exist.
///
/// The object of a pod goes away only after the kubelet has confirmed that the containers have ended, unless
/// somebody deletes it by force. StatefulSets rely on the same. A pod of another release in another namespace
/// counts as existing, because this controller may not read it.
async fn exists(client: &Client, holder: &str, own: &str) -> Result<bool, kube::Error> {
    let (Some(holder), Some(own)) = (PodIdentity::parse(holder), PodIdentity::parse(own)) else {
        return Ok(true);
    };
    if holder.namespace != own.namespace {
        return Ok(true);
    }
    // Without a resource version, so the answer is not from a cache.
    let pods = Api::<PartialObjectMeta<Pod>>::namespaced(client.clone(), holder.namespace);
    let found = pods.get_opt(holder.name).await?;
    let exists = found.is_some_and(|pod| pod.uid().as_deref() == Some(holder.uid));
    if !exists {
        tracing::info!(
            pod = holder.name,
            "the pod that holds the Lease no longer exists"
        );
    }
    Ok(exists)
}

/// Writes these fields if the Lease is of this version.
async fn patch(
    leases: &Api<Lease>,
    version: &str,
    spec: Value,
) -> Result<election::Lease, kube::Error> {
    let change = json!({ "metadata": { "resourceVersion": version }, "spec": spec });
    let parameters = PatchParams::default();
    let lease = leases
        .patch(LEASE, &parameters, &Patch::Merge(change))
        .await?;
    Ok(seen(&lease))
}

fn seen(lease: &Lease) -> election::Lease {
    let spec = lease.spec.as_ref();
    let seconds = spec.and_then(|spec| spec.lease_duration_seconds);
    let transitions = spec.and_then(|spec| spec.lease_transitions);
    election::Lease {
        version: lease.resource_version().unwrap_or_default(),
        holder: spec
            .and_then(|spec| spec.holder_identity.clone())
            .filter(|holder| !holder.is_empty()),
        duration: seconds
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map(Duration::from_secs),
        transitions: transitions
            .and_then(|count| u32::try_from(count).ok())
            .unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests;
