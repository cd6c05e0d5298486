//! A simulated gateway: the real `Handover`, `Ledger`, `Choice` and `Naming`, and a driver that only keeps
//! as many instances as its target.
//!
//! Fed by `world` with the function, the members and the pods that its watches show. It carries out the
//! steps of `Handover` one after the other. `broken` injects faults here.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr};

use pilotlight_core::fleet::fit::Class;
use pilotlight_core::gateways::choice::{AfterFailure, ClaimFailure};
use pilotlight_core::gateways::demand::ClaimedPod;
use pilotlight_core::gateways::handover::Step;
use pilotlight_core::gateways::naming::{NAMING_DELAY, Naming};
use pilotlight_core::ids::{InstanceName, PodName, Revision, Uid};
use pilotlight_core::instance::following::ORPHANED_AFTER;

use crate::broken::Broken;
use crate::rules::Finding;
use crate::state::{Claimed, Happening, Input, Instance, Next, Shown, World, class, needs, number};

const IP: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

impl World {
    pub(crate) fn gateway_input(&mut self, index: usize, input: Input) {
        self.gateways[index].inputs.push_back(input);
        if self.gateways[index].steps.is_empty() && self.gateways[index].inputs.len() == 1 {
            self.gateway_plans(index);
        }
    }

    /// Handles inputs until one of them leads to steps.
    fn gateway_plans(&mut self, index: usize) {
        let (is_mine, broken, pool) = (self.owner == index, self.broken, self.pool.clone());
        let gateway = &mut self.gateways[index];
        while gateway.steps.is_empty() {
            let steps = match gateway.inputs.front() {
                None => return,
                Some(Input::Function(deployed)) => {
                    let known = gateway.handover.deployed().get(&pool);
                    let is_news = known.is_none_or(|known| {
                        // The watch shows changes in their order.
                        number(&known.revision) < number(&deployed.revision)
                    });
                    match is_news {
                        true => {
                            let mut steps = gateway.handover.set(pool.clone(), deployed.clone());
                            // A fault of the order concerns all that follows from one change.
                            steps.extend(gateway.handover.settle([pool.clone()], |_| is_mine));
                            steps
                        }
                        false => Vec::new(),
                    }
                }
                Some(Input::Settle) => gateway.handover.settle_all(|_| is_mine),
            };
            gateway.inputs.pop_front();
            let mut steps = steps;
            if let Some(broken) = broken {
                broken.reorder(&mut steps);
            }
            gateway.steps.extend(steps);
        }
        self.soon(20, Happening::StepDue(index));
    }

    pub(crate) fn gateway_step(&mut self, index: usize) {
        let Some(step) = self.gateways[index].steps.pop_front() else {
            return;
        };
        let gateway = &mut self.gateways[index];
        match step {
            Step::Claim { pool, deployed } => {
                gateway.ledger.claim(&pool, deployed.uid, deployed.revision);
            }
            Step::Release { pool } => gateway.ledger.release(&pool),
            Step::Forget { pool } => {
                gateway.ledger.forget(&pool);
            }
            Step::Deploy { set, removed } => {
                let next = gateway.handover.deployed().get(&self.pool).cloned();
                let has_changed = gateway.deployed != next;
                if !removed.is_empty() {
                    gateway.is_owner = false;
                }
                if !set.is_empty() {
                    gateway.deployed = next;
                }
                if has_changed || !removed.is_empty() {
                    self.give_up_all(index, Next::Drain);
                }
            }
            Step::ChangeOwnership { gained, lost } => {
                if !lost.is_empty() {
                    gateway.is_owner = false;
                    self.give_up_all(index, Next::Release);
                }
                if !gained.is_empty() {
                    self.gateways[index].is_owner = true;
                    self.adopt_living(index);
                }
            }
        }
        self.gateway_scales(index);
        self.ledger_changed(index);
        match self.gateways[index].steps.is_empty() {
            true => self.gateway_plans(index),
            false => self.soon(20, Happening::StepDue(index)),
        }
    }

    fn adopt_living(&mut self, index: usize) {
        let pool = self.pool.clone();
        let gateway = &mut self.gateways[index];
        let Some(deployed) = gateway.deployed.clone() else {
            return;
        };
        for pod in gateway.pods.clone().values() {
            if let Some((instance, revision, owner)) = &pod.labels
                && *revision == deployed.revision
                && *owner == deployed.uid
                && !gateway.instances.contains_key(instance)
            {
                let request = gateway.ledger.request(&pool, instance, None);
                let adopted = Instance {
                    deployed: deployed.clone(),
                    request: Some(request),
                    is_shown: true,
                };
                gateway.instances.insert(instance.clone(), adopted);
                self.seen.adopted_by_gateway += 1;
            }
        }
    }

    /// Ends all instances, or leaves them to the new owner.
    fn give_up_all(&mut self, index: usize, next: Next) {
        let all: Vec<InstanceName> = self.gateways[index].instances.keys().cloned().collect();
        for name in &all {
            match next {
                Next::Drain => self.end_instance(index, name),
                Next::Release => self.give_up(index, name),
            }
        }
    }

    /// Ends an instance: its supervisor drains, whoever adopts the pod.
    fn end_instance(&mut self, index: usize, name: &InstanceName) {
        self.drained.insert(name.clone());
        self.give_up(index, name);
    }

    fn give_up(&mut self, index: usize, name: &InstanceName) {
        let (now, pool) = (self.now, self.pool.clone());
        let is_cancelled = !self.is_broken(Broken::NeverCancelled);
        let gateway = &mut self.gateways[index];
        let Some(instance) = gateway.instances.remove(name) else {
            return;
        };
        gateway.choice.leave(now, name.as_str());
        if let Some(request) = instance.request
            && is_cancelled
        {
            gateway.ledger.cancel(&pool, request);
        }
        if let Some(claimed) = gateway.claimed.get_mut(name) {
            claimed.naming.end(now);
            if let (Some(_), Some(at)) = (claimed.request, claimed.naming.stops_at()) {
                self.at(at, Happening::NamingStops(index, name.clone()));
            }
        }
        self.ledger_changed(index);
    }

    /// The driver starts instances up to its target, and gives up those beyond it.
    pub(crate) fn gateway_scales(&mut self, index: usize) {
        let gateway = &self.gateways[index];
        let target = match gateway.is_owner && gateway.deployed.is_some() {
            true => gateway.target,
            false => 0,
        };
        while self.gateways[index].instances.len() > target {
            let name = self.gateways[index].instances.keys().next().cloned();
            self.end_instance(index, &name.expect("there is one"));
        }
        while self.gateways[index].instances.len() < target {
            self.start(index);
        }
    }

    fn start(&mut self, index: usize) {
        let (now, pool) = (self.now, self.pool.clone());
        let takes_any = self.is_broken(Broken::AnyPodTaken);
        let name: InstanceName = self.new_name("i").into();
        let gateway = &mut self.gateways[index];
        let deployed = gateway.deployed.clone().expect("it is deployed");
        let order = |uid: &Uid| order(index, uid);
        let rank = rank(&deployed.revision, takes_any);
        let taken = gateway.choice.take(now, &name, rank, order);
        let request = match &taken {
            Some(_) => None,
            None => Some(gateway.ledger.request(&pool, &name, None)),
        };
        let instance = Instance {
            deployed,
            request,
            is_shown: false,
        };
        gateway.instances.insert(name.clone(), instance);
        match taken {
            Some(pod) => self.soon(60, Happening::ClaimArrives(index, name, pod.uid)),
            None => self.ledger_changed(index),
        }
    }

    pub(crate) fn claim_arrives(&mut self, index: usize, name: &InstanceName, uid: &Uid) {
        let now = self.now;
        let Some(instance) = self.gateways[index].instances.get(name) else {
            return;
        };
        let deployed = instance.deployed.clone();
        if self.gateways[index].lost.contains(uid) {
            return self.find(Finding::ClaimedAgain(format!("{uid} by {index}")));
        }
        let mut pods = self.pods.iter_mut();
        let pod = pods.find(|(_, pod)| pod.uid == *uid);
        let failure = match pod {
            None => ClaimFailure::Unreachable,
            Some((_, pod)) if pod.claimed_by.is_some() => ClaimFailure::Lost,
            Some((_, pod)) if !pod.class.fits(&needs(&deployed.revision)) => {
                let account = pod.class.settings.account.clone();
                return self.find(Finding::Unfit(format!("{uid} with {account:?} by {name}")));
            }
            Some((pod_name, pod)) => {
                pod.claimed_by = Some((name.clone(), now));
                let pod = ClaimedPod {
                    name: pod_name.clone(),
                    uid: uid.clone(),
                    revision: deployed.revision,
                };
                return self.claimed(index, name, pod);
            }
        };
        self.claim_failed(index, name, uid, failure);
    }

    fn claimed(&mut self, index: usize, name: &InstanceName, pod: ClaimedPod) {
        self.seen.claimed += 1;
        let gateway = &mut self.gateways[index];
        gateway.choice.claimed(&pod.uid, name);
        let naming = Naming::new(self.now);
        let (pod_name, uid) = (pod.name.clone(), pod.uid.clone());
        let claimed = Claimed {
            pod,
            naming,
            request: None,
        };
        gateway.claimed.insert(name.clone(), claimed);
        if let Some(instance) = gateway.instances.get_mut(name) {
            instance.is_shown = true;
        }
        self.after(ORPHANED_AFTER, Happening::OrphanEnds(pod_name, uid));
        let at = match self.is_broken(Broken::NamedAtOnce) {
            true => self.now,
            false => naming.starts_at(),
        };
        if !self.is_broken(Broken::NeverNamed) {
            self.at(at, Happening::NamingStarts(index, name.clone()));
        }
    }

    fn claim_failed(
        &mut self,
        index: usize,
        name: &InstanceName,
        uid: &Uid,
        failure: ClaimFailure,
    ) {
        self.seen.missed += 1;
        let (now, pool) = (self.now, self.pool.clone());
        let forgets_loss = self.is_broken(Broken::LostOfferedAgain);
        let takes_any = self.is_broken(Broken::AnyPodTaken);
        let ignores_miss = self.is_broken(Broken::MissedNotRequested);
        let gateway = &mut self.gateways[index];
        if failure == ClaimFailure::Lost {
            gateway.lost.insert(uid.clone());
        }
        let order = |uid: &Uid| order(index, uid);
        let rank = rank(&gateway.instances[name].deployed.revision, takes_any);
        let next = gateway
            .choice
            .failed(now, (uid, failure), name, rank, order);
        if forgets_loss {
            gateway.choice.remove(uid.as_str());
            gateway
                .choice
                .put("again".into(), uid.clone(), class(None), Some(IP));
        }
        match next {
            AfterFailure::Claim(pod) => {
                self.soon(60, Happening::ClaimArrives(index, name.clone(), pod.uid));
            }
            AfterFailure::Request if ignores_miss => {}
            AfterFailure::Request => {
                let request = gateway.ledger.request(&pool, name, None);
                if let Some(instance) = gateway.instances.get_mut(name) {
                    instance.request = Some(request);
                }
                self.ledger_changed(index);
            }
            AfterFailure::Fail => self.give_up(index, name),
        }
    }

    pub(crate) fn naming_starts(&mut self, index: usize, name: &InstanceName) {
        let (now, pool) = (self.now, self.pool.clone());
        let gateway = &mut self.gateways[index];
        let Some(claimed) = gateway.claimed.get_mut(name) else {
            return;
        };
        let request = gateway
            .ledger
            .request(&pool, name, Some(claimed.pod.clone()));
        claimed.request = Some(request);
        let waited = NAMING_DELAY - claimed.naming.starts_at().saturating_duration_since(now);
        if let Some(at) = claimed.naming.stops_at() {
            self.at(at, Happening::NamingStops(index, name.clone()));
        }
        if waited < NAMING_DELAY {
            self.find(Finding::NamedEarly(waited));
        }
        self.ledger_changed(index);
    }

    pub(crate) fn naming_stops(&mut self, index: usize, name: &InstanceName) {
        let (pool, is_cancelled) = (self.pool.clone(), !self.is_broken(Broken::NeverCancelled));
        let gateway = &mut self.gateways[index];
        if let Some(Claimed {
            request: Some(request),
            ..
        }) = gateway.claimed.remove(name)
            && is_cancelled
        {
            gateway.ledger.cancel(&pool, request);
            self.ledger_changed(index);
        }
    }

    pub(crate) fn gateway_sees_pods(&mut self, index: usize, shown: &Shown) {
        let gateway = &mut self.gateways[index];
        let before = std::mem::replace(&mut gateway.pods, shown.clone());
        let unclaimed = |shown: &Shown| -> BTreeMap<Uid, (PodName, bool, Class)> {
            let pods = shown.iter().filter(|(_, pod)| pod.labels.is_none());
            pods.map(|(name, pod)| {
                let known = (name.clone(), pod.is_ready, pod.class.clone());
                (pod.uid.clone(), known)
            })
            .collect()
        };
        let (old, new) = (unclaimed(&before), unclaimed(shown));
        for (uid, (name, is_ready, class)) in &new {
            let ip = is_ready.then_some(IP);
            let class = class.clone();
            gateway.choice.put(name.clone(), uid.clone(), class, ip);
        }
        let gone = old.keys().filter(|uid| !new.contains_key(*uid));
        let mut ended: Vec<InstanceName> = Vec::new();
        for uid in gone {
            let instance = gateway.choice.remove(uid.as_str());
            // It has a function's labels now, or it is gone.
            let lives = shown.values().any(|pod| pod.uid == *uid);
            ended.extend(instance.filter(|_| !lives));
        }
        let labelled: BTreeSet<&InstanceName> = shown
            .values()
            .filter_map(|pod| Some(&pod.labels.as_ref()?.0))
            .collect();
        for (name, instance) in &mut gateway.instances {
            let was_there = before
                .values()
                .any(|pod| pod.labels.as_ref().is_some_and(|(one, ..)| one == name));
            if was_there && !labelled.contains(name) {
                ended.push(name.clone());
            }
            instance.is_shown |= labelled.contains(name);
        }
        ended.iter().for_each(|name| self.give_up(index, name));
        self.gateway_scales(index);
    }

    fn ledger_changed(&mut self, index: usize) {
        self.soon(200, Happening::StreamRead(index));
    }
}

/// The rank of a pod for a function of this revision.
fn rank(revision: &Revision, takes_any: bool) -> impl Fn(&Class) -> Option<()> + use<> {
    let needs = needs(revision);
    move |class| (takes_any || class.fits(&needs)).then_some(())
}

fn order(gateway: usize, uid: &Uid) -> u64 {
    let mut hasher = DefaultHasher::new();
    (gateway, uid).hash(&mut hasher);
    hasher.finish()
}
