//! The simulated controller: the real `Demands`, `Fleet` and `Stock`, fed by streams and watches that lag.
//!
//! Its requests reach the API server later. A restart forgets everything; answers to requests of the
//! process before do not reach the new one.

use std::time::Duration;

use pilotlight_core::fleet::demands::GatewayEvent;
use pilotlight_core::fleet::stock::{self, WarmPoolState};
use pilotlight_core::fleet::{self, ObservedFunction};
use pilotlight_core::gateways::handover::Deployed;
use pilotlight_core::ids::{InstanceName, PodName};

use crate::broken::Broken;
use crate::rules::Finding;
use crate::state::{
    Controller, Deletion, GATEWAYS, Happening, Request, Shown, World, address, millis, number,
};

impl World {
    pub(crate) fn stream_connects(&mut self, gateway: usize) {
        if self.controller.streams[gateway].is_some() {
            return;
        }
        self.controller.streams[gateway] = Some(None);
        self.gateways[gateway].is_cut = false;
        self.gateways[gateway].restored_at = Some(self.now);
        let event = GatewayEvent::Connected(address(gateway));
        self.controller.demands.handle(self.now, event);
        self.stream_read(gateway);
    }

    pub(crate) fn stream_breaks(&mut self, gateway: usize) {
        if self.controller.streams[gateway].take().is_some() {
            self.gateways[gateway].is_cut = true;
            let event = GatewayEvent::Disconnected(address(gateway));
            self.controller.demands.handle(self.now, event);
            let pause = self.rng.u64(500..10_000);
            self.after(millis(pause), Happening::StreamConnects(gateway));
            self.controller_acts();
        }
    }

    pub(crate) fn stream_read(&mut self, gateway: usize) {
        let Some(read) = self.controller.streams[gateway] else {
            return;
        };
        let (changed, newest) = self.gateways[gateway].ledger.changes(read, false);
        let changed: Vec<_> = changed.cloned().collect();
        self.controller.streams[gateway] = Some(Some(newest));
        for demand in changed {
            let event = GatewayEvent::Demand(address(gateway), demand);
            self.controller.demands.handle(self.now, event);
        }
        self.controller_acts();
    }

    pub(crate) fn restart_controller(&mut self) {
        self.seen.restarted += 1;
        self.controller = Controller {
            term: self.controller.term + 1,
            size: self.controller.size,
            function: Some(self.deployed()),
            pods: Shown::new(self.pods.clone()),
            ..Controller::default()
        };
        for gateway in 0..GATEWAYS {
            self.controller.discover(self.now, gateway);
            self.soon(1_500, Happening::StreamConnects(gateway));
        }
        self.controller_acts();
    }

    pub(crate) fn controller_sees_function(&mut self, deployed: Deployed) {
        let known = self.controller.function.as_ref();
        if known.is_none_or(|known| number(&known.revision) < number(&deployed.revision)) {
            self.controller.function = Some(deployed);
            self.controller_acts();
        }
    }

    pub(crate) fn controller_sees_pods(&mut self, shown: Shown) {
        self.controller.pods = shown;
        self.controller_acts();
    }

    pub(crate) fn controller_wakes(&mut self) {
        self.controller.wake = None;
        self.controller.demands.wake(self.now);
        self.controller.fleet.wake(self.now);
        self.controller_acts();
    }

    pub(crate) fn controller_acts(&mut self) {
        let requests = self.controller_plans();
        for mut request in requests {
            if let Request::Delete(deletion) | Request::DeleteUnclaimed(deletion) = &mut request {
                deletion.user = self.user_of(&deletion.name);
            }
            let lag = match request {
                // The adoption writes twice, and is not urgent.
                Request::Adopt(..) => 4_000,
                _ => 300,
            };
            self.soon(
                lag,
                Happening::RequestArrives(self.controller.term, request),
            );
        }
        let wakeups = [
            self.controller.demands.next_wakeup(),
            self.controller.fleet.next_wakeup(),
            self.controller.stock.next_wakeup(),
        ];
        if let Some(at) = wakeups.into_iter().flatten().min()
            && self.controller.wake.is_none_or(|known| at < known)
        {
            let at = at.max(self.now + Duration::from_millis(1));
            self.controller.wake = Some(at);
            self.at(at, Happening::ControllerWake);
        }
    }

    fn controller_plans(&mut self) -> Vec<Request> {
        let Some(deployed) = self.controller.function.clone() else {
            return Vec::new();
        };
        let is_early = self.is_broken(Broken::DeletedBeforeReports);
        let names: Vec<PodName> = (0..8).map(|_| self.new_name("warm-").into()).collect();
        let controller = &mut self.controller;
        let may_delete = is_early || controller.demands.all_reported();
        let function = ObservedFunction {
            uid: deployed.uid.clone(),
            revision: deployed.revision.clone(),
            may_create: true,
            may_delete,
        };
        let labelled = controller.pods.iter().filter_map(|(name, pod)| {
            let (instance, revision, _) = pod.labels.clone()?;
            Some(fleet::Pod {
                name: name.clone(),
                uid: pod.uid.clone(),
                instance,
                revision,
                is_over: false,
                is_being_deleted: false,
            })
        });
        let labelled: Vec<fleet::Pod> = labelled.collect();
        let demands = controller.demands.of(&self.pool);
        let steps = controller
            .fleet
            .plan(self.now, &function, &demands, &labelled);
        let mut requests: Vec<Request> = steps
            .into_iter()
            .map(|step| match step {
                fleet::Step::Create { instance } => Request::Create(instance, deployed.clone()),
                fleet::Step::Adopt { instance, pod } => {
                    Request::Adopt(instance, pod, deployed.uid.clone())
                }
                fleet::Step::Delete { pod: name, uid, .. } => {
                    let user = None;
                    Request::Delete(Deletion { name, uid, user })
                }
            })
            .collect();
        let unclaimed = controller
            .pods
            .iter()
            .filter(|(_, pod)| pod.labels.is_none());
        let unclaimed: Vec<stock::Pod> = unclaimed
            .map(|(name, pod)| stock::Pod {
                name: name.clone(),
                uid: pod.uid.clone(),
                template: "t".to_owned(),
                is_ready: pod.is_ready,
                is_over: false,
                is_being_deleted: false,
            })
            .collect();
        let pool = WarmPoolState {
            size: controller.size,
            max: controller.size.max(3),
            template: "t",
            may_create: true,
            may_delete,
        };
        let mut names = names.into_iter();
        let name = || names.next().expect("a pool has few pods");
        let claims = controller.demands.claims().into_iter();
        let steps = controller
            .stock
            .plan(self.now, pool, claims, &unclaimed, name);
        requests.extend(steps.into_iter().map(|step| match step {
            stock::Step::Create { name } => Request::CreateUnclaimed(name),
            stock::Step::Delete { pod: name, uid } => {
                let user = None;
                Request::DeleteUnclaimed(Deletion { name, uid, user })
            }
        }));
        requests
    }

    pub(crate) fn request_arrives(&mut self, term: u64, request: Request) {
        let is_answered = term == self.controller.term;
        match request {
            Request::Create(instance, deployed) => {
                self.check_revision(&instance, &deployed);
                let name: PodName = format!("hello-{instance}").into();
                let labels = (instance, deployed.revision, deployed.uid);
                self.make_pod(name, Some(labels));
                if is_answered {
                    self.controller.fleet.created();
                }
            }
            Request::Adopt(instance, claimed, owner) => {
                let pod = self.pods.get_mut(&claimed.name);
                if let Some(pod) = pod.filter(|pod| pod.uid == claimed.uid) {
                    pod.labels = Some((instance.clone(), claimed.revision, owner));
                    self.seen.adopted_by_controller += 1;
                    self.show_pods();
                }
                if is_answered {
                    self.controller.fleet.adopted(&instance);
                }
            }
            Request::Delete(deletion) => self.delete_pod(&deletion),
            Request::CreateUnclaimed(name) => {
                self.make_pod(name.clone(), None);
                if is_answered {
                    self.controller.stock.created(&name);
                }
            }
            Request::DeleteUnclaimed(deletion) => {
                self.delete_pod(&deletion);
                if is_answered {
                    self.controller.stock.deleted(&deletion.uid);
                }
            }
        }
        self.controller_acts();
    }

    fn check_revision(&mut self, instance: &InstanceName, deployed: &Deployed) {
        let mut wanted = self
            .gateways
            .iter()
            .filter(|one| one.handover.owns(&self.pool));
        let wanted = wanted.find_map(|gateway| gateway.wanted_revision(instance));
        if wanted.is_some_and(|wanted| number(&deployed.revision) < wanted) {
            let what = format!("{instance}: {} for {wanted:?}", deployed.revision);
            self.find(Finding::Outdated(what));
        }
    }
}
