//! Which pods of one function the controller creates, adopts from warm pools, and deletes.
//!
//! Fed by the controller with the demands of the gateways and the pods that its watch shows; knows no
//! API server. `creations` prevents a second creation while one is in flight. An instance that a gateway
//! has claimed from a warm pool already has a pod: the controller adopts that pod and creates none.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::fleet::creations::Creations;
use crate::gateways::demand::{ClaimedPod, Demand};
use crate::ids::{InstanceName, PodName, Revision, Uid};

/// The pause before a failed adoption or deletion is retried.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// A pod as the watch shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    pub name: PodName,
    pub uid: Uid,
    pub instance: InstanceName,
    pub revision: Revision,
    /// Whether all containers of the pod have ended.
    pub is_over: bool,
    pub is_being_deleted: bool,
}

/// An effect that the controller carries out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Create {
        instance: InstanceName,
    },
    /// Give a claimed pod of a warm pool the function's labels and owner.
    Adopt {
        instance: InstanceName,
        pod: ClaimedPod,
    },
    /// Delete exactly this pod, and never a later pod of the same name.
    Delete {
        pod: PodName,
        uid: Uid,
        /// Without a grace period: the instance does not obey.
        at_once: bool,
    },
}

/// The function as the controller knows it, and which steps it is ready for.
#[derive(Clone, Debug)]
pub struct ObservedFunction {
    pub uid: Uid,
    pub revision: Revision,
    /// Whether the pods can start: their image and code exist.
    pub may_create: bool,
    /// Whether all gateways have reported their demands, so that an instance in none of them is unwanted.
    pub may_delete: bool,
}

/// The state of a claimed pod that the controller has not adopted yet.
#[derive(Debug, PartialEq)]
enum Adoption {
    Due,
    InFlight,
    PausedUntil(Instant),
}

/// The pods of one function. See the module's text.
#[derive(Debug, Default)]
pub struct Fleet {
    creations: Creations<InstanceName>,
    /// By instance.
    adoptions: BTreeMap<InstanceName, Adoption>,
    /// Wanted instances that have had a pod. An instance gets one pod only: when the pod is gone, its
    /// gateway may not know yet, and could not use another pod.
    spent: BTreeSet<InstanceName>,
    deleting: BTreeSet<Uid>,
    /// The pods among these that are deleted without a grace period.
    killing: BTreeSet<Uid>,
    /// No deletion begins before this.
    paused_until: Option<Instant>,
    /// The API server refused a pod, and `held_back` is not computed yet.
    refused_anew: bool,
    held_back: BTreeSet<InstanceName>,
}

impl Fleet {
    /// The steps that follow from the demands for the function. Each step counts as begun.
    pub fn plan(
        &mut self,
        now: Instant,
        function: &ObservedFunction,
        demands: &[&Demand],
        pods: &[Pod],
    ) -> Vec<Step> {
        self.wake(now);
        let there: BTreeSet<&InstanceName> = pods.iter().map(|pod| &pod.instance).collect();
        let uids: BTreeSet<&Uid> = pods.iter().map(|pod| &pod.uid).collect();
        self.creations.retain(|instance| !there.contains(instance));
        self.deleting.retain(|pod| uids.contains(pod));
        self.killing.retain(|pod| uids.contains(pod));

        let of_this = demands.iter().filter(|demand| demand.uid == function.uid);
        let wanted: BTreeSet<&InstanceName> = of_this
            .clone()
            .flat_map(|demand| &demand.instances)
            .collect();
        let had =
            |instance: &InstanceName| there.contains(instance) || self.spent.contains(instance);
        let has_had = wanted.iter().filter(|instance| had(instance));
        self.spent = has_had.map(|instance| (*instance).clone()).collect();

        let may_delete = function.may_delete && of_this.clone().count() > 0;
        let given_up: BTreeSet<&InstanceName> = of_this
            .clone()
            .flat_map(|demand| &demand.given_up)
            .collect();
        let is_unwanted = |pod: &Pod| may_delete && !wanted.contains(&pod.instance);
        let mut steps = self.deletions(pods, is_unwanted, &given_up);
        let claimed = self.adopt(of_this.clone().copied(), &mut steps);
        // If the gateway names another revision, either the gateway or the controller has not seen the
        // newest spec. The controller creates pods when both have.
        let creatable = of_this
            .filter(|demand| function.may_create && demand.revision == function.revision)
            .flat_map(|demand| &demand.instances);
        let missing = creatable.filter(|instance| {
            let is_begun = self.creations.is_expected(instance);
            !is_begun && !self.spent.contains(*instance) && !claimed.contains(*instance)
        });
        let missing = missing.cloned().collect();
        self.create(now, missing, &mut steps);
        steps
    }

    fn deletions(
        &mut self,
        pods: &[Pod],
        is_unwanted: impl Fn(&Pod) -> bool,
        given_up: &BTreeSet<&InstanceName>,
    ) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.paused_until.is_some() {
            return steps;
        }
        for pod in pods {
            let is_unwanted = is_unwanted(pod);
            let at_once = is_unwanted && !pod.is_over && given_up.contains(&pod.instance);
            let is_done = match at_once {
                // A deletion with a grace period may have begun before.
                true => self.killing.contains(&pod.uid),
                false => pod.is_being_deleted || self.deleting.contains(&pod.uid),
            };
            if (pod.is_over || is_unwanted) && !is_done {
                self.deleting.insert(pod.uid.clone());
                if at_once {
                    self.killing.insert(pod.uid.clone());
                }
                steps.push(Step::Delete {
                    pod: pod.name.clone(),
                    uid: pod.uid.clone(),
                    at_once,
                });
            }
        }
        steps
    }

    /// Adds steps that adopt claimed pods. Returns all instances that have a claimed pod.
    fn adopt<'a>(
        &mut self,
        demands: impl Iterator<Item = &'a Demand>,
        steps: &mut Vec<Step>,
    ) -> BTreeSet<InstanceName> {
        let mut claimed = BTreeSet::new();
        for demand in demands {
            for (instance, pod) in &demand.claimed {
                claimed.insert(instance.clone());
                if self.spent.contains(instance) {
                    continue;
                }
                let adoption = self.adoptions.entry(instance.clone());
                let adoption = adoption.or_insert(Adoption::Due);
                if *adoption == Adoption::Due {
                    *adoption = Adoption::InFlight;
                    steps.push(Step::Adopt {
                        instance: instance.clone(),
                        pod: pod.clone(),
                    });
                }
            }
        }
        let spent = &self.spent;
        self.adoptions
            .retain(|instance, _| claimed.contains(instance) && !spent.contains(instance));
        claimed
    }

    fn create(&mut self, now: Instant, missing: BTreeSet<InstanceName>, steps: &mut Vec<Step>) {
        if self.creations.is_paused() {
            if std::mem::take(&mut self.refused_anew) {
                self.held_back = missing;
            } else {
                // Instances that are wanted after the refusal are not held back: they are tried soon, and
                // may be accepted.
                self.held_back.retain(|instance| missing.contains(instance));
            }
            return;
        }
        self.held_back.clear();
        let at_once = self.creations.at_once();
        for instance in missing.into_iter().take(at_once) {
            self.creations.begin(now, instance.clone());
            steps.push(Step::Create { instance });
        }
    }

    /// Instances that have no pod because the API server refused a pod of this function after they became
    /// wanted.
    pub fn held_back(&self) -> impl Iterator<Item = &InstanceName> {
        self.held_back.iter()
    }

    /// Acts on deadlines that have passed.
    pub fn wake(&mut self, now: Instant) {
        self.creations.wake(now);
        self.paused_until = self.paused_until.filter(|until| *until > now);
        for adoption in self.adoptions.values_mut() {
            if matches!(adoption, Adoption::PausedUntil(until) if *until <= now) {
                *adoption = Adoption::Due;
            }
        }
    }

    /// The API server accepted the pod, or had it already.
    pub fn created(&mut self) {
        self.creations.accepted();
    }

    /// Whether the API server has accepted a pod since its last refusal.
    pub fn is_accepted(&self) -> bool {
        self.creations.is_accepted()
    }

    /// The API server refused the pod of this instance.
    pub fn refused(&mut self, now: Instant, instance: &InstanceName) {
        self.creations.refused(now, instance);
        self.refused_anew = true;
    }

    /// The claimed pod was adopted, or is gone: the instance has had its pod.
    pub fn adopted(&mut self, instance: &InstanceName) {
        if self.adoptions.remove(instance).is_some() {
            self.spent.insert(instance.clone());
        }
    }

    /// The adoption of a claimed pod failed; it is retried after a pause.
    pub fn not_adopted(&mut self, now: Instant, instance: &InstanceName) {
        if let Some(adoption) = self.adoptions.get_mut(instance) {
            *adoption = Adoption::PausedUntil(now + RETRY_PAUSE);
        }
    }

    /// A deletion failed; it is retried after a pause.
    pub fn not_deleted(&mut self, now: Instant, uid: &Uid) {
        self.deleting.remove(uid);
        self.killing.remove(uid);
        self.paused_until = Some(now + RETRY_PAUSE);
    }

    /// Whether a pod may still need the code of this revision. A creation in flight may need any revision.
    pub fn needs(&self, revision: &Revision, function: &ObservedFunction, pods: &[Pod]) -> bool {
        let is_of_it = |pod: &Pod| pod.revision == *revision;
        let is_in_flight = self.creations.in_flight() > 0;
        *revision == function.revision || is_in_flight || pods.iter().any(is_of_it)
    }

    /// When [`Fleet::wake`] is due, unless an event comes first.
    pub fn next_wakeup(&self) -> Option<Instant> {
        let pauses = self
            .adoptions
            .values()
            .filter_map(|adoption| match adoption {
                Adoption::PausedUntil(until) => Some(*until),
                Adoption::Due | Adoption::InFlight => None,
            });
        let others = [self.paused_until, self.creations.next_wakeup()];
        pauses.chain(others.into_iter().flatten()).min()
    }
}

#[cfg(test)]
mod tests;
