//! The Functions of the namespace: which exist, and which of them this gateway owns.
//!
//! Fed by the watch of Functions and by the members of `peers`. It carries out the steps of
//! `core::gateways::handover`, which decides the order of changes in the driver and in the `demand`. A
//! Function that this version cannot read keeps its last readable spec (docs/upgrading.md). Never writes to
//! the API server.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use kube::ResourceExt;
use kube::runtime::watcher::{self, Event};
use pilotlight_api::FunctionSpec;
use pilotlight_api::resource::FunctionResource;
use pilotlight_api::status::PodRefusal;
use pilotlight_core::gateways::handover::{Deployed, Handover, Step};
use pilotlight_core::ids::{InstanceName, Namespace, PoolId, Uid};
use pilotlight_watch::{Change, Decoded, Fold, Unreadable};
use tokio::sync::watch;

use super::backend::Refusals;
use super::codes::Codes;
use super::demand::Ledger;
use super::peers::Members;
use super::pods::Pods;
use crate::catalog::{Deployment, Source};
use crate::gateway::Gateway;
use crate::message::OwnershipChange;

/// The Functions of the namespace.
pub(super) struct Functions {
    pub(super) gateway: Gateway,
    pub(super) pods: Pods,
    pub(super) ledger: Ledger,
    pub(super) codes: Codes,
    pub(super) refused: watch::Sender<Arc<Refusals>>,
    pub(super) namespace: Namespace,
    pub(super) known: BTreeMap<PoolId, Deployment>,
    pub(super) handover: Handover,
    pub(super) unreadable: BTreeMap<PoolId, NotRead>,
    /// `None` if this is the only gateway.
    pub(super) members: Option<watch::Receiver<Members>>,
}

/// A Function that this version cannot read.
pub(super) struct NotRead {
    /// The generation that was logged.
    generation: Option<i64>,
    reason: Arc<str>,
}

impl Functions {
    /// Follows the watch to its end; sets `deployed` once all Functions are known.
    pub(super) async fn follow(
        &mut self,
        events: impl Stream<Item = Result<Event<Decoded<FunctionResource>>, watcher::Error>>,
        deployed: watch::Sender<bool>,
    ) {
        let mut fold = Fold::new(|_: &Decoded<FunctionResource>| ());
        let mut listed = BTreeMap::new();
        let mut events = std::pin::pin!(events);
        let mut members = self.members.clone();
        loop {
            let members_changed = async {
                match &mut members {
                    Some(members) => members.changed().await.is_ok(),
                    None => std::future::pending().await,
                }
            };
            let event = tokio::select! {
                event = events.next() => event,
                true = members_changed => {
                    self.settle_all().await;
                    continue;
                }
            };
            let Some(event) = event else { return };
            let event = match event {
                Ok(event) => event,
                Err(error) => {
                    tracing::warn!(%error, "the watch of Functions is interrupted");
                    continue;
                }
            };
            for change in fold.take(event) {
                match change {
                    Change::ListStarted => listed.clear(),
                    Change::Applied(function) if fold.is_listing() => {
                        let deployment = self.read(function);
                        listed.extend(deployment.map(|one| (one.pool.clone(), one)));
                    }
                    Change::Applied(function) => self.apply(function).await,
                    Change::Deleted { name, .. } => {
                        let pool = self.pool(&name);
                        if pool.is_some_and(|pool| self.unreadable.remove(&pool).is_some()) {
                            self.publish_unreadable();
                        }
                        self.remove(&name).await;
                    }
                    // The whole list is deployed at once, so that the driver never sees a part of it.
                    Change::ListCompleted => {
                        self.unreadable
                            .retain(|pool, _| fold.contains(pool.name().as_str()));
                        self.publish_unreadable();
                        self.deploy(std::mem::take(&mut listed)).await;
                        deployed.send_replace(true);
                    }
                }
            }
        }
    }

    async fn apply(&mut self, function: Decoded<FunctionResource>) {
        let name = function.name_any();
        let uid_now = Uid::from(function.uid().unwrap_or_default());
        let Some(one) = self.read(function) else {
            return self.remove(&name).await;
        };
        let known = self.known.get(&one.pool);
        if known.is_none_or(|known| uid(known) != uid_now || known.spec != one.spec) {
            self.set(one).await;
        }
    }

    /// The pool of a Function; `None` if its name is invalid. The controller reports that in the status, and
    /// for callers the function does not exist.
    fn pool(&self, name: &str) -> Option<PoolId> {
        Some(PoolId::latest(self.namespace.clone(), name.parse().ok()?))
    }

    /// The function as this gateway serves it from now on; `None` if it cannot serve it.
    fn read(&mut self, function: Decoded<FunctionResource>) -> Option<Deployment> {
        let pool = self.pool(&function.name_any())?;
        let known = self.known.get(&pool);
        let known =
            known.filter(|known| Some(uid(known).as_str()) == function.metadata.uid.as_deref());
        let deployment = match &function.content {
            // A change of the status alone comes often, and no revision is computed for it.
            Ok(function) => match known.filter(|known| known.spec == served(function)) {
                Some(known) => Some(known.clone()),
                None => Some(deployment(pool.clone(), function)),
            },
            Err(_) => known.cloned(),
        };
        match &function.content {
            Ok(function) => self.note_refusals(&pool, function.refusals()),
            // Its refusals concern a spec that this gateway does not serve.
            Err(_) => self.note_refusals(&pool, &[]),
        }
        self.note_readability(&pool, &function);
        deployment
    }

    /// Logs once for each generation of a Function that it cannot be read, and counts such Functions.
    fn note_readability(&mut self, pool: &PoolId, function: &Decoded<FunctionResource>) {
        match &function.content {
            Ok(_) => {
                if self.unreadable.remove(pool).is_some() {
                    self.publish_unreadable();
                }
            }
            Err(Unreadable { field, message, .. }) => {
                let generation = function.metadata.generation;
                let reason = format!(
                    "this version of Pilotlight cannot read {field} of the Function: {message}; \
                     upgrade Pilotlight, or remove the field"
                );
                let now = NotRead {
                    generation,
                    reason: reason.into(),
                };
                let before = self.unreadable.insert(pool.clone(), now);
                if before.is_none_or(|before| before.generation != generation) {
                    tracing::warn!(function = %pool.function, field, message, "this version cannot read a Function");
                }
                self.publish_unreadable();
            }
        }
    }

    /// Has calls of the unreadable Functions refused with the reason. Those that were readable once are served.
    fn publish_unreadable(&self) {
        let reasons = self.unreadable.iter();
        let reasons = reasons.map(|(pool, not_read)| (pool.clone(), not_read.reason.clone()));
        self.gateway.set_unreadable(reasons.collect());
    }

    async fn deploy(&mut self, all: BTreeMap<PoolId, Deployment>) {
        let deployed = all.iter().map(|(pool, one)| (pool.clone(), deployed(one)));
        let steps = self.handover.replace_all(deployed.collect());
        self.known = all;
        self.carry_out(steps).await;
        self.settle_all().await;
    }

    async fn set(&mut self, one: Deployment) {
        let pool = one.pool.clone();
        let steps = self.handover.set(pool.clone(), deployed(&one));
        self.known.insert(pool.clone(), one);
        self.carry_out(steps).await;
        let is_mine = self.is_mine();
        let steps = self.handover.settle([pool], is_mine);
        self.carry_out(steps).await;
    }

    async fn remove(&mut self, name: &str) {
        let Some(pool) = self.pool(name) else {
            return;
        };
        self.note_refusals(&pool, &[]);
        self.known.remove(&pool);
        let steps = self.handover.remove(&pool);
        self.carry_out(steps).await;
    }

    async fn settle_all(&mut self) {
        let is_mine = self.is_mine();
        let steps = self.handover.settle_all(is_mine);
        self.carry_out(steps).await;
    }

    /// Whether this gateway owns a pool, with the members as they are now.
    fn is_mine(&self) -> impl Fn(&PoolId) -> bool + use<> {
        let members = self.members.as_ref();
        let members = members.map(|members| members.borrow().clone());
        move |pool| {
            members
                .as_ref()
                .is_none_or(|members| members.is_mine(&pool.function))
        }
    }

    /// Completes each step before the next one, since `handover` relies on their order.
    async fn carry_out(&mut self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Claim { pool, deployed } => self
                    .ledger
                    .change(|state| state.claim(&pool, deployed.uid, deployed.revision)),
                Step::Release { pool } => self.ledger.change(|state| state.release(&pool)),
                Step::Forget { pool } => self.ledger.change(|state| state.forget(&pool)),
                Step::Deploy { set, removed } => {
                    let set = set.iter().filter_map(|pool| self.known.get(pool).cloned());
                    self.gateway.change(set.collect(), removed).await;
                    self.codes.keep(self.known.values().map(|one| &one.spec));
                }
                Step::ChangeOwnership { gained, lost } => {
                    tracing::info!(
                        gained = gained.len(),
                        lost = lost.len(),
                        "functions change their owner"
                    );
                    let gained = gained.into_iter().map(|pool| {
                        let instances = self.living(&pool);
                        (pool, instances)
                    });
                    let gained = gained.collect();
                    let change = OwnershipChange { gained, lost };
                    self.gateway.change_ownership(change).await;
                }
            }
        }
    }

    /// The living instances of the pool's deployed revision.
    fn living(&self, pool: &PoolId) -> Vec<InstanceName> {
        let Some(deployed) = self.handover.deployed().get(pool) else {
            return Vec::new();
        };
        let found = self.pods.found(pool).into_iter();
        found
            .filter(|found| found.revision == deployed.revision && found.owner == deployed.uid)
            .map(|found| found.instance)
            .collect()
    }

    /// Passes the controller's refusals to starts that wait for a pod.
    fn note_refusals(&self, pool: &PoolId, current: &[PodRefusal]) {
        self.refused.send_if_modified(|refusals| {
            let known = refusals.get(pool).map_or(&[][..], |known| known);
            if known == current {
                return false;
            }
            let refusals = Arc::make_mut(refusals);
            match current.is_empty() {
                true => refusals.remove(pool),
                false => refusals.insert(pool.clone(), Arc::from(current)),
            };
            true
        });
    }
}

fn deployed(deployment: &Deployment) -> Deployed {
    Deployed {
        uid: uid(deployment),
        revision: deployment.revision.clone(),
    }
}

fn deployment(pool: PoolId, function: &FunctionResource) -> Deployment {
    let modified = function.creation_timestamp();
    let modified = modified.and_then(|at| jiff::Timestamp::from_second(at.0.as_second()).ok());
    Deployment {
        pool,
        revision: function.spec.revision().into(),
        // Only the gateway that fetches the code knows its digest and size.
        code_sha256: String::new(),
        code_size: 0,
        modified: modified.unwrap_or_default(),
        source: Source::Cluster {
            uid: function.uid().unwrap_or_default().into(),
        },
        spec: served(function),
    }
}

/// The spec with a handler: the controller knows the runtimes, and writes their defaults to the status.
fn served(function: &FunctionResource) -> FunctionSpec {
    let mut spec = function.spec.clone();
    let default = function
        .status
        .as_ref()
        .map(|status| status.handler.parse());
    spec.handler = spec.handler.or_else(|| default?.ok());
    spec
}

fn uid(deployment: &Deployment) -> Uid {
    match &deployment.source {
        Source::Cluster { uid } => uid.clone(),
        Source::Local(_) => Uid::default(),
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Mutex;

    use axum::body::Body;
    use futures_util::stream;
    use http::Request;
    use http_body_util::BodyExt;
    use pilotlight_archive::Fetcher;
    use pilotlight_core::code_cache::{CacheLimits, VOLUME_MIN};
    use pilotlight_core::gateways::demand::Demand;
    use pilotlight_core::ids::Revision;
    use pilotlight_core::reason::Reason;
    use pilotlight_wire::demand::DemandLine;
    use serde_json::json;
    use tower::ServiceExt;

    use super::super::allowed_secrets::AllowedSecrets;
    use super::super::config_maps::ConfigMaps;
    use super::*;
    use crate::backend::{Backend, Promise, Reservation, Running};
    use crate::config::Config;

    /// Records what a controller would read as each instance is requested; no instance comes up.
    #[derive(Clone, Debug)]
    struct Witness {
        ledger: Ledger,
        wanted: Arc<Mutex<Vec<Wanted>>>,
    }

    /// The revision for which the driver wants an instance, and the one that the demand names.
    type Wanted = (Revision, Option<Revision>);

    impl Witness {
        fn new() -> Self {
            Witness {
                ledger: Ledger::new(),
                wanted: Arc::default(),
            }
        }

        fn demand(&self) -> Option<Demand> {
            let (lines, _) = self.ledger.lines(None, true);
            let line = lines.split(|byte| *byte == b'\n').next()?;
            match DemandLine::read(line).expect("a line") {
                DemandLine::Demand(demand) => Some(demand),
                DemandLine::Alive => None,
            }
        }
    }

    impl Backend for Witness {
        fn reserve(&self, deployment: &Deployment, instance: &str) -> Reservation {
            self.ledger
                .change(|state| state.request(&deployment.pool, &instance.into(), None));
            let named = self.demand().map(|demand| demand.revision);
            let wanted = (deployment.revision.clone(), named);
            self.wanted.lock().unwrap().push(wanted);
            Box::new(())
        }

        fn start<'a>(
            &'a self,
            _: &'a Deployment,
            _: &'a str,
        ) -> Promise<'a, Result<Box<dyn Running>, Reason>> {
            Box::pin(pending())
        }

        fn observe(&self, _: &Deployment, _: usize, _: usize) {}
    }

    /// A function with one provisioned instance.
    fn function(uid: &str, bootstrap: &str) -> FunctionResource {
        let spec = json!({
            "runtime": "custom",
            "code": { "inline": { "bootstrap": bootstrap } },
            "concurrency": { "provisioned": 1 },
        });
        let mut function = FunctionResource::new("hello", serde_json::from_value(spec).unwrap());
        function.metadata.uid = Some(uid.to_owned());
        function
    }

    type Shown = Event<Decoded<FunctionResource>>;

    fn list(function: &FunctionResource) -> [Shown; 3] {
        list_of([function.clone().into()])
    }

    fn list_of([function]: [Decoded<FunctionResource>; 1]) -> [Shown; 3] {
        [Event::Init, Event::InitApply(function), Event::InitDone]
    }

    /// The only gateway after these events.
    async fn after(events: &[Shown]) -> Witness {
        served_after(events).await.0
    }

    /// The only gateway after these events, and the deployments that it serves.
    async fn served_after(events: &[Shown]) -> (Witness, BTreeMap<PoolId, Deployment>) {
        let witness = Witness::new();
        let mut functions = only_gateway(&witness);
        let events = stream::iter(events.iter().cloned().map(Ok));
        functions.follow(events, watch::Sender::new(false)).await;
        (witness, functions.known)
    }

    fn only_gateway(witness: &Witness) -> Functions {
        Functions {
            gateway: Gateway::start(Config::default(), Arc::new(witness.clone()), None),
            pods: Pods::default(),
            ledger: witness.ledger.clone(),
            codes: Codes::new(
                "unused".into(),
                CacheLimits::of(VOLUME_MIN, 1),
                Fetcher::Unrestricted,
                (AllowedSecrets::default(), ConfigMaps::default()),
            ),
            refused: watch::Sender::new(Arc::default()),
            namespace: Namespace::local(),
            known: BTreeMap::new(),
            handover: Handover::default(),
            unreadable: BTreeMap::new(),
            members: None,
        }
    }

    /// The function as a later version has changed it.
    fn newer(function: &FunctionResource) -> Decoded<FunctionResource> {
        let mut newer = serde_json::to_value(function).unwrap();
        newer["spec"]["tracing"] = json!("Active");
        serde_json::from_value(newer).unwrap()
    }

    #[tokio::test]
    async fn an_instance_of_a_new_revision_is_never_requested_under_the_old_one() {
        let (old, new) = (function("u", "old"), function("u", "new"));
        let changed = [&list(&old)[..], &[Event::Apply(new.clone().into())]].concat();
        let listed = [list(&old), list(&new)].concat();
        let [old, new] = [old, new].map(|one| Revision::from(one.spec.revision()));
        for events in [changed, listed] {
            let wanted = after(&events).await.wanted;
            // The first instance is requested before the function is claimed.
            let right = [(old.clone(), None), (new.clone(), Some(new.clone()))];
            assert_eq!(*wanted.lock().unwrap(), right);
        }
    }

    #[tokio::test]
    async fn the_instances_of_a_function_created_again_are_not_forgotten_with_the_old_function() {
        let (old, new) = (function("u", "old"), function("v", "new"));
        let changed = [&list(&old)[..], &[Event::Apply(new.clone().into())]].concat();
        let listed = [list(&old), list(&new)].concat();
        for events in [changed, listed] {
            let demand = after(&events).await.demand().expect("a demand");
            assert_eq!((demand.uid.as_str(), demand.instances.len()), ("v", 1));
        }
    }

    #[tokio::test]
    async fn a_function_that_cannot_be_read_any_more_keeps_its_last_readable_spec() {
        let old = function("u", "old");
        let changed = [&list(&old)[..], &[Event::Apply(newer(&old))]].concat();
        let listed = [list(&old), list_of([newer(&old)])].concat();
        for events in [changed, listed] {
            let (witness, served) = served_after(&events).await;
            let revisions = served.values().map(|one| one.revision.clone());
            assert_eq!(Vec::from_iter(revisions), [old.spec.revision().into()]);
            assert_eq!(witness.wanted.lock().unwrap().len(), 1, "no other instance");
        }
    }

    #[tokio::test]
    async fn a_function_that_never_could_be_read_is_not_served_in_the_place_of_another() {
        let old = function("u", "old");
        let mut anew = newer(&old);
        anew.metadata.uid = Some("v".to_owned());
        let changed = [&list(&old)[..], &[Event::Apply(anew.clone())]].concat();
        let listed = [list(&old), list_of([anew.clone()])].concat();
        for events in [changed, listed, list_of([anew]).to_vec()] {
            assert_eq!(served_after(&events).await.1.len(), 0);
        }
    }

    #[tokio::test]
    async fn a_call_of_a_function_that_never_could_be_read_learns_which_field_is_the_reason() {
        let old = function("u", "old");
        let listed = list_of([newer(&old)]).to_vec();
        let readable = [&listed[..], &[Event::Apply(old.clone().into())]].concat();
        let deleted = [&listed[..], &[Event::Delete(newer(&old))]].concat();
        let gone = [&listed[..], &[Event::Init, Event::InitDone]].concat();
        for (events, status, words) in [
            (
                listed.clone(),
                502,
                "cannot read spec.tracing of the Function",
            ),
            (readable, 200, "hello"),
            (deleted, 404, "Function not found"),
            (gone, 404, "Function not found"),
        ] {
            let mut functions = only_gateway(&Witness::new());
            functions
                .follow(
                    stream::iter(events.into_iter().map(Ok)),
                    watch::Sender::new(false),
                )
                .await;
            let request = Request::get("/2015-03-31/functions/hello/configuration");
            let request = request.body(Body::empty()).unwrap();
            let answer = functions.gateway.api().oneshot(request).await.unwrap();
            assert_eq!(answer.status().as_u16(), status);
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            let body = String::from_utf8_lossy(&body);
            assert!(body.contains(words), "{body}");
        }
    }
}
