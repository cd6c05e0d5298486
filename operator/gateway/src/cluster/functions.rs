//! The Functions of the namespace: which exist, and which of them this gateway owns.
//!
//! Fed by the watch of Functions and by the members of `peers`. It passes changes on to the driver and keeps
//! the `demand` consistent with them: the controller makes an instance from the revision that the demand
//! names, so the demand names a new revision before the driver wants instances of it. A Function that this
//! version cannot read keeps its last readable spec (docs/upgrading.md). Never writes to the API server.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use kube::ResourceExt;
use kube::runtime::watcher::{self, Event};
use pilotlight_api::FunctionSpec;
use pilotlight_api::resource::FunctionResource;
use pilotlight_api::status::PodRefusal;
use pilotlight_core::function::FunctionName;
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

/// The Functions of the namespace, as the driver is told them.
pub(super) struct Functions {
    pub(super) gateway: Gateway,
    pub(super) pods: Pods,
    pub(super) ledger: Ledger,
    pub(super) codes: Codes,
    pub(super) refused: watch::Sender<Arc<Refusals>>,
    pub(super) known: BTreeMap<FunctionName, Deployment>,
    /// Functions that this version cannot read, with the generation that was logged.
    pub(super) unreadable: BTreeMap<FunctionName, Option<i64>>,
    /// Those of them that are this gateway's.
    pub(super) owned: HashSet<FunctionName>,
    /// None where this is the only gateway.
    pub(super) members: Option<watch::Receiver<Members>>,
}

impl Functions {
    /// Follows the watch to its end; tells `deployed` once all Functions are known.
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
                        listed.extend(deployment.map(|one| (one.name.clone(), one)));
                    }
                    Change::Applied(function) => self.apply(function).await,
                    Change::Deleted { name, .. } => self.remove(&name).await,
                    // All at once, so that the driver sees no state between two lists.
                    Change::ListCompleted => {
                        self.deploy(std::mem::take(&mut listed)).await;
                        deployed.send_replace(true);
                    }
                }
            }
        }
    }

    async fn apply(&mut self, function: Decoded<FunctionResource>) {
        let (name, uid_now) = (function.name_any(), function.uid().unwrap_or_default());
        let Some(one) = self.read(function) else {
            return self.remove(&name).await;
        };
        let known = self.known.get(&one.name);
        if known.is_none_or(|known| uid(known) != uid_now || known.spec != one.spec) {
            self.set(one).await;
        }
    }

    /// The function as it is served from now on; `None`: it cannot be served.
    fn read(&mut self, function: Decoded<FunctionResource>) -> Option<Deployment> {
        // The controller reports a bad name in the status. To callers the function does not exist.
        let name = FunctionName::try_from(function.name_any()).ok()?;
        let known = self.known.get(&name);
        let known = known.filter(|known| Some(uid(known)) == function.metadata.uid.as_deref());
        let deployment = match &function.content {
            // A change of the status alone comes often, and no revision is computed for it.
            Ok(function) => match known.filter(|known| known.spec == served(function)) {
                Some(known) => Some(known.clone()),
                None => Some(deployment(name.clone(), function)),
            },
            Err(_) => known.cloned(),
        };
        match &function.content {
            Ok(function) => self.note_refusals(&name, function.refusals()),
            // Its refusals concern a spec that this gateway does not serve.
            Err(_) => self.note_refusals(&name, &[]),
        }
        self.note_readability(&name, &function);
        deployment
    }

    /// Logs once for each generation of a Function that it cannot be read, and counts such Functions.
    fn note_readability(&mut self, name: &FunctionName, function: &Decoded<FunctionResource>) {
        match &function.content {
            Ok(_) => {
                self.unreadable.remove(name);
            }
            Err(Unreadable { field, message, .. }) => {
                let generation = function.metadata.generation;
                if self.unreadable.insert(name.clone(), generation) != Some(generation) {
                    tracing::warn!(function = %name, field, message, "this version cannot read a Function");
                }
            }
        }
        self.gateway.unreadable(self.unreadable.len());
    }

    async fn deploy(&mut self, all: BTreeMap<FunctionName, Deployment>) {
        let is_there = |one: &Deployment| all.get(&one.name).map(uid) == Some(uid(one));
        let gone = self.known.values().filter(|one| !is_there(one));
        let gone = gone.map(|one| one.name.clone()).collect();
        let set = all.values().cloned().collect();
        self.known = all;
        self.change(set, gone).await;
        self.settle_all().await;
    }

    async fn set(&mut self, one: Deployment) {
        let name = one.name.clone();
        let before = self.known.insert(name.clone(), one.clone());
        // Made anew under the same name: nothing of the old one is this one's.
        let is_another = before.is_some_and(|before| uid(&before) != uid(&one));
        let gone = is_another.then(|| name.clone()).into_iter().collect();
        self.change(vec![one], gone).await;
        self.settle_ownership(&[name]).await;
    }

    async fn remove(&mut self, name: &str) {
        let Ok(name) = FunctionName::try_from(name.to_owned()) else {
            return;
        };
        self.unreadable.remove(&name);
        self.gateway.unreadable(self.unreadable.len());
        self.note_refusals(&name, &[]);
        if self.known.remove(&name).is_some() {
            self.change(Vec::new(), vec![name]).await;
        }
    }

    /// Tells what has become known: `gone` are no more, and one of `set` by such a name is another.
    async fn change(&mut self, set: Vec<Deployment>, gone: Vec<FunctionName>) {
        for name in &gone {
            self.owned.remove(name);
        }
        // First, so that what the driver wants of a new revision is not made of the one before.
        for one in set.iter().filter(|one| self.owned.contains(&one.name)) {
            self.claim(&one.name);
        }
        self.gateway.change(set, gone.clone()).await;
        for name in &gone {
            self.ledger.forget(name);
        }
        self.keep_codes();
    }

    fn keep_codes(&self) {
        self.codes.keep(self.known.values().map(|one| &one.spec));
    }

    async fn settle_all(&mut self) {
        let all: Vec<_> = self.known.keys().cloned().collect();
        self.settle_ownership(&all).await;
    }

    /// Takes over what of these is this gateway's by now, and hands on what is not any more.
    async fn settle_ownership(&mut self, names: &[FunctionName]) {
        let members = self.members.as_ref();
        let members = members.map(|members| members.borrow().clone());
        let is_mine = |name: &FunctionName| members.as_ref().is_none_or(|all| all.is_mine(name));
        let mut change = OwnershipChange::default();
        let known = names
            .iter()
            .filter_map(|name| self.known.get_key_value(name));
        for (name, one) in known {
            match (self.owned.contains(name), is_mine(name)) {
                (false, true) => {
                    let found = self.pods.found(name.as_str()).into_iter();
                    let found = found
                        .filter(|found| found.revision == one.revision && found.owner == uid(one));
                    let instances = found.map(|found| found.instance).collect();
                    change.gained.push((name.clone(), instances));
                }
                (true, false) => change.lost.push(name.clone()),
                (true, true) | (false, false) => {}
            }
        }
        if change.gained.is_empty() && change.lost.is_empty() {
            return;
        }
        let (gained, lost) = (change.gained.len(), change.lost.len());
        tracing::info!(gained, lost, "functions change their owner");
        // First: what a released function's instances are wanted for is another's to say.
        for name in &change.lost {
            self.ledger.release(name);
            self.owned.remove(name);
        }
        let gained: Vec<_> = change.gained.iter().map(|(name, _)| name.clone()).collect();
        self.gateway.change_ownership(change).await;
        // Only now, when all that lives is wanted.
        for name in gained {
            self.claim(&name);
            self.owned.insert(name);
        }
    }

    /// Speaks for the function, from now on of its present revision.
    fn claim(&self, name: &FunctionName) {
        if let Some(one) = self.known.get(name) {
            self.ledger.claim(name, uid(one), &one.revision);
        }
    }

    /// Passes the controller's refusals to starts that wait for a pod.
    fn note_refusals(&self, name: &FunctionName, current: &[PodRefusal]) {
        self.refused.send_if_modified(|refusals| {
            let known = refusals.get(name).map_or(&[][..], |known| known);
            if known == current {
                return false;
            }
            let refusals = Arc::make_mut(refusals);
            match current.is_empty() {
                true => refusals.remove(name),
                false => refusals.insert(name.clone(), Arc::from(current)),
            };
            true
        });
    }
}

fn deployment(name: FunctionName, function: &FunctionResource) -> Deployment {
    let modified = function.creation_timestamp();
    let modified = modified.and_then(|at| jiff::Timestamp::from_second(at.0.as_second()).ok());
    Deployment {
        name,
        revision: function.spec.revision(),
        // The code's own digest and size are known where it is fetched, which is not here.
        code_sha256: String::new(),
        code_size: 0,
        modified: modified.unwrap_or_default(),
        source: Source::Cluster {
            uid: function.uid().unwrap_or_default(),
        },
        spec: served(function),
    }
}

/// With the handler: the controller knows the runtimes, and writes their default.
fn served(function: &FunctionResource) -> FunctionSpec {
    let mut spec = function.spec.clone();
    let told = function
        .status
        .as_ref()
        .map(|status| status.handler.parse());
    spec.handler = spec.handler.or_else(|| told?.ok());
    spec
}

fn uid(deployment: &Deployment) -> &str {
    match &deployment.source {
        Source::Cluster { uid } => uid,
        Source::Local(_) => "",
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Mutex;

    use futures_util::stream;
    use pilotlight_core::gateways::demand::Demand;
    use serde_json::json;

    use super::*;
    use crate::backend::{Backend, Promise, Reservation, Running};
    use crate::config::Config;

    /// Notes what a controller would hear as each instance begins to be wanted; none comes up.
    #[derive(Clone, Debug)]
    struct Witness {
        ledger: Ledger,
        wanted: Arc<Mutex<Vec<Wanted>>>,
    }

    /// The revision that the driver means, and the one that the demand names.
    type Wanted = (String, Option<String>);

    impl Witness {
        fn heard(&self) -> Option<Demand> {
            let (lines, _) = self.ledger.since(None, true);
            let line = lines.lines().find(|line| !line.is_empty())?;
            Some(serde_json::from_str(line).expect("a demand"))
        }
    }

    impl Backend for Witness {
        fn reserve(&self, deployment: &Deployment, instance: &str) -> Reservation {
            self.ledger.want(&deployment.name, instance, None);
            let named = self.heard().map(|demand| demand.revision);
            let wanted = (deployment.revision.clone(), named);
            self.wanted.lock().unwrap().push(wanted);
            Box::new(())
        }

        fn start<'a>(
            &'a self,
            _: &'a Deployment,
            _: &'a str,
        ) -> Promise<'a, Result<Box<dyn Running>, Arc<str>>> {
            Box::pin(pending())
        }

        fn observe(&self, _: &Deployment, _: usize, _: usize) {}
    }

    /// One instance of it is wanted at any time.
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

    /// Besides, the specs that it serves.
    async fn served_after(events: &[Shown]) -> (Witness, BTreeMap<FunctionName, Deployment>) {
        let witness = Witness {
            ledger: Ledger::new(),
            wanted: Arc::default(),
        };
        let mut functions = Functions {
            gateway: Gateway::start(Config::default(), Arc::new(witness.clone()), None),
            pods: Pods::default(),
            ledger: witness.ledger.clone(),
            codes: Codes::new("unused".into()),
            refused: watch::Sender::new(Arc::default()),
            known: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            owned: HashSet::new(),
            members: None,
        };
        let events = stream::iter(events.iter().cloned().map(Ok));
        functions.follow(events, watch::Sender::new(false)).await;
        (witness, functions.known)
    }

    /// The function as a later version has changed it.
    fn newer(function: &FunctionResource) -> Decoded<FunctionResource> {
        let mut newer = serde_json::to_value(function).unwrap();
        newer["spec"]["tracing"] = json!("Active");
        serde_json::from_value(newer).unwrap()
    }

    #[tokio::test]
    async fn an_instance_of_a_new_revision_is_never_wanted_under_the_old_one() {
        let (old, new) = (function("u", "old"), function("u", "new"));
        let told = [&list(&old)[..], &[Event::Apply(new.clone().into())]].concat();
        let listed = [list(&old), list(&new)].concat();
        let (old, new) = (old.spec.revision(), new.spec.revision());
        for events in [told, listed] {
            let wanted = after(&events).await.wanted;
            // Of the first nobody hears before the function is claimed.
            let right = [(old.clone(), None), (new.clone(), Some(new.clone()))];
            assert_eq!(*wanted.lock().unwrap(), right);
        }
    }

    #[tokio::test]
    async fn what_is_wanted_of_one_made_anew_is_not_forgotten_with_the_old_one() {
        let (old, new) = (function("u", "old"), function("v", "new"));
        let told = [&list(&old)[..], &[Event::Apply(new.clone().into())]].concat();
        let listed = [list(&old), list(&new)].concat();
        for events in [told, listed] {
            let heard = after(&events).await.heard().expect("a demand");
            assert_eq!((heard.uid.as_str(), heard.instances.len()), ("v", 1));
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
            assert_eq!(Vec::from_iter(revisions), [old.spec.revision()]);
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
}
