//! The simulated cluster: the API server with its pods, watches that lag, and the environment that changes
//! the function, the load and the members; all from one seed and in virtual time.
//!
//! `gateway` and `controller` act on what reaches them; `rules` holds what is broken.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::rc::Rc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use pilotlight_core::gateways::handover::Deployed;
use pilotlight_core::gateways::naming::NAMING_DELAY;
use pilotlight_core::ids::{InstanceName, Namespace, PodName, PoolId, Revision, Uid};
use pilotlight_core::instance::following::ORPHANED_AFTER;

use crate::broken::Broken;
use crate::rules::{Finding, Seen};
use crate::state::{
    Controller, Deletion, GATEWAYS, Gateway, Happening, Input, Pod, Shown, World, class, millis,
};

/// How long after a claim the controller may not know it yet: the naming delay, and the lag of the stream
/// and of a deletion.
const CLAIM_LAG: Duration = NAMING_DELAY.saturating_add(Duration::from_millis(1_500));
/// How long the world rests at the end.
const REST: Duration = Duration::from_secs(180);

impl World {
    pub(crate) fn new(seed: u64, broken: Option<Broken>, trace: bool) -> Self {
        let now = Instant::now();
        let name = "hello".parse().expect("a name");
        World {
            rng: Rng::with_seed(seed),
            now,
            started_at: now,
            trace,
            agenda: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            sequence: 0,
            delivered: [now; GATEWAYS + 1],
            pool: PoolId::latest(Namespace::local(), name),
            declared: None,
            function: (1, 1),
            owner: 0,
            pods: BTreeMap::new(),
            drained: BTreeSet::new(),
            gateways: (0..GATEWAYS).map(Gateway::new).collect(),
            controller: Controller::default(),
            broken,
            is_quiet: false,
            names: 0,
            found: Vec::new(),
            seen: Seen::default(),
        }
    }

    /// Runs this number of events, then lets the cluster come to rest. Returns the broken rules.
    pub(crate) fn run(mut self, events: usize) -> (Vec<Finding>, Seen) {
        self.show_function();
        self.show_members();
        for gateway in 0..GATEWAYS {
            self.controller.discover(self.now, gateway);
            self.after(millis(10), Happening::StreamConnects(gateway));
        }
        self.after(millis(1), Happening::Change);
        let mut left = events;
        let mut end = None;
        while let Some(Reverse((at, sequence))) = self.agenda.pop() {
            if end.is_some_and(|end| at > end) {
                break;
            }
            self.now = at;
            if left == 0 && end.is_none() {
                end = Some(self.now + REST);
                self.come_to_rest();
            }
            left = left.saturating_sub(1);
            let happening = self.happenings.remove(&sequence).expect("it was scheduled");
            if self.trace {
                println!("{:>12?} {happening:?}", at - self.started_at);
            }
            self.happen(happening);
        }
        self.check_rest();
        (self.found, self.seen)
    }

    pub(crate) fn is_broken(&self, broken: Broken) -> bool {
        self.broken == Some(broken)
    }

    pub(crate) fn find(&mut self, finding: Finding) {
        if self.trace {
            println!("{:>12?} !! {finding:?}", self.now - self.started_at);
        }
        self.found.push(finding);
    }

    pub(crate) fn at(&mut self, at: Instant, happening: Happening) {
        self.sequence += 1;
        self.agenda.push(Reverse((at.max(self.now), self.sequence)));
        self.happenings.insert(self.sequence, happening);
    }

    pub(crate) fn after(&mut self, delay: Duration, happening: Happening) {
        self.at(self.now + delay, happening);
    }

    /// After a random time of at most this many milliseconds.
    pub(crate) fn soon(&mut self, ms: u64, happening: Happening) {
        let delay = Duration::from_micros(self.rng.u64(0..ms * 1000));
        self.after(delay, happening);
    }

    pub(crate) fn new_name(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}{}", self.names)
    }

    pub(crate) fn deployed(&self) -> Deployed {
        Deployed {
            uid: format!("function-{}", self.function.0).into(),
            revision: self.function.1.to_string().into(),
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Change => self.change(),
            Happening::FunctionShown(gateway, deployed) => {
                self.gateway_input(gateway, Input::Function(deployed));
            }
            Happening::MembersShown(gateway) => self.gateway_input(gateway, Input::Settle),
            Happening::PodsShown(gateway, shown) => self.gateway_sees_pods(gateway, &shown),
            Happening::StepDue(gateway) => self.gateway_step(gateway),
            Happening::ClaimArrives(gateway, instance, uid) => {
                self.claim_arrives(gateway, &instance, &uid);
            }
            Happening::NamingStarts(gateway, instance) => self.naming_starts(gateway, &instance),
            Happening::NamingStops(gateway, instance) => self.naming_stops(gateway, &instance),
            Happening::StreamRead(gateway) => self.stream_read(gateway),
            Happening::StreamConnects(gateway) => self.stream_connects(gateway),
            Happening::ControllerSeesFunction(deployed) => self.controller_sees_function(deployed),
            Happening::ControllerSeesPods(shown) => self.controller_sees_pods(shown),
            Happening::RequestArrives(term, request) => self.request_arrives(term, request),
            Happening::ControllerWake => self.controller_wakes(),
            Happening::PodUp(name) => {
                if let Some(pod) = self.pods.get_mut(&name) {
                    pod.is_ready = true;
                    self.show_pods();
                }
            }
            Happening::OrphanEnds(name, uid) => self.orphan_ends(name, uid),
        }
    }

    fn change(&mut self) {
        if self.is_quiet {
            return;
        }
        match self.rng.u8(..100) {
            0..50 => {
                let (gateway, target) = (self.owner, self.rng.usize(0..5));
                self.gateways[gateway].target = target;
                self.gateway_scales(gateway);
            }
            50..62 => {
                self.owner = (self.owner + 1) % GATEWAYS;
                self.seen.handed_over += 1;
                self.show_members();
            }
            62..74 => {
                self.function.1 += 1;
                self.seen.replaced += 1;
                self.show_function();
            }
            74..78 => {
                self.function = (self.function.0 + 1, self.function.1 + 1);
                self.seen.made_anew += 1;
                self.show_function();
            }
            78..84 => {
                let gateway = self.rng.usize(..GATEWAYS);
                self.stream_breaks(gateway);
            }
            84..88 => self.restart_controller(),
            _ => {
                self.controller.size = self.rng.usize(0..4);
                // The pool declares something else for the pods that it makes from now on.
                self.declared = (self.rng.u8(..4) == 0).then_some(1);
                self.controller_acts();
            }
        }
        let pause = self.rng.u64(1..1_500);
        self.after(millis(pause), Happening::Change);
    }

    fn come_to_rest(&mut self) {
        self.is_quiet = true;
        self.controller.size = 1;
        for gateway in &mut self.gateways {
            gateway.target = gateway.target.min(2);
        }
        (0..GATEWAYS).for_each(|gateway| self.gateway_scales(gateway));
    }

    fn show_function(&mut self) {
        let deployed = self.deployed();
        for gateway in 0..GATEWAYS {
            self.soon(700, Happening::FunctionShown(gateway, deployed.clone()));
        }
        self.soon(700, Happening::ControllerSeesFunction(deployed));
    }

    fn show_members(&mut self) {
        for gateway in 0..GATEWAYS {
            self.soon(700, Happening::MembersShown(gateway));
        }
    }

    /// All watches show the pods as they are now, later and in this order.
    pub(crate) fn show_pods(&mut self) {
        let shown: Shown = Rc::new(self.pods.clone());
        for viewer in 0..=GATEWAYS {
            let lag = Duration::from_micros(self.rng.u64(0..300_000));
            let at = (self.now + lag).max(self.delivered[viewer]);
            self.delivered[viewer] = at;
            let shown = shown.clone();
            self.at(
                at,
                match viewer {
                    GATEWAYS => Happening::ControllerSeesPods(shown),
                    gateway => Happening::PodsShown(gateway, shown),
                },
            );
        }
    }

    pub(crate) fn make_pod(
        &mut self,
        name: PodName,
        labels: Option<(InstanceName, Revision, Uid)>,
    ) {
        if self.pods.contains_key(&name) {
            return;
        }
        self.seen.created += 1;
        let pod = Pod {
            uid: self.new_name("uid-").into(),
            is_ready: false,
            labels,
            class: class(self.declared),
            claimed_by: None,
        };
        self.pods.insert(name.clone(), pod);
        self.soon(900, Happening::PodUp(name));
        self.show_pods();
    }

    pub(crate) fn delete_pod(&mut self, deletion: &Deletion) {
        let is_it = |pod: &&Pod| pod.uid == deletion.uid;
        if self.pods.get(&deletion.name).filter(is_it).is_none() {
            return;
        }
        let user = self.user_of(&deletion.name);
        let pod = self.pods.remove(&deletion.name).expect("it is there");
        self.seen.deleted += 1;
        let is_fresh_claim = pod
            .claimed_by
            .as_ref()
            .is_some_and(|(_, at)| self.now < *at + CLAIM_LAG);
        if let Some(user) = user
            && deletion.user == Some(user)
            && !is_fresh_claim
            && !self.gateways[user].was_cut_off(self.now)
        {
            let what = format!("{} of gateway {user}", deletion.name);
            self.find(Finding::DeletedInUse(what));
        }
        self.show_pods();
    }

    fn orphan_ends(&mut self, name: PodName, uid: Uid) {
        if self.pods.get(&name).is_none_or(|pod| pod.uid != uid) {
            return;
        }
        match self.user_of(&name) {
            Some(_) => self.after(ORPHANED_AFTER, Happening::OrphanEnds(name, uid)),
            None => {
                self.pods.remove(&name);
                self.show_pods();
            }
        }
    }

    /// The gateway that owns the function and uses the pod.
    pub(crate) fn user_of(&self, name: &PodName) -> Option<usize> {
        let pod = self.pods.get(name)?;
        // Pods of a deleted function end with it.
        let uid = self.deployed().uid;
        let labels = pod.labels.as_ref().filter(|(_, _, owner)| *owner == uid);
        let claim = pod.claimed_by.as_ref().filter(|_| pod.labels.is_none());
        let instance = match (labels, claim) {
            (Some((instance, ..)), _) | (None, Some((instance, _))) => instance,
            (None, None) => return None,
        };
        let uses = |gateway: &&Gateway| {
            let is_ours = gateway.handover.owns(&self.pool) && gateway.uses(instance, &uid);
            is_ours && !self.drained.contains(instance)
        };
        Some(self.gateways.iter().find(uses)?.index)
    }

    fn check_rest(&mut self) {
        let owner = &self.gateways[self.owner];
        let mut used = BTreeSet::new();
        let mut unserved = Vec::new();
        for instance in owner.instances() {
            let served = self.pods.values().find(|pod| {
                let labelled = pod.labels.as_ref().map(|(name, ..)| name);
                let claimed = pod.claimed_by.as_ref().map(|(name, _)| name);
                labelled.or(claimed) == Some(instance)
            });
            match served {
                Some(pod) => drop(used.insert(pod.uid.clone())),
                None => unserved.push(instance.to_string()),
            }
        }
        if owner.instances().count() < owner.target {
            unserved.push(format!("{} of {}", owner.instances().count(), owner.target));
        }
        let is_unused = |pod: &&Pod| {
            let is_instance = pod.labels.is_some() || pod.claimed_by.is_some();
            is_instance && !used.contains(&pod.uid)
        };
        let mut left: Vec<String> = self
            .pods
            .values()
            .filter(is_unused)
            .map(|pod| format!("{pod:?}"))
            .collect();
        let unclaimed = self
            .pods
            .values()
            .filter(|pod| pod.labels.is_none() && pod.claimed_by.is_none())
            .count();
        if unclaimed > self.controller.size {
            left.push(format!("{unclaimed} unclaimed pods"));
        }
        unserved
            .into_iter()
            .for_each(|what| self.find(Finding::Unserved(what)));
        left.into_iter()
            .for_each(|what| self.find(Finding::LeftBehind(what)));
    }
}
