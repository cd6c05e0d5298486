//! Which pods of one function are to be made, taken over from warm pools, and deleted.
//!
//! Fed by the controller with what the gateways want and what its watch shows; knows no API
//! server. `creations` keeps what is under way from being made twice. An instance that a gateway has
//! claimed from a warm pool has its pod: that one gets the function's labels, and none is made.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::fleet::creations::Creations;
use crate::gateways::demand::{ClaimedPod, Demand};

/// Before a pod is tried again to be taken over or deleted.
const PAUSE: Duration = Duration::from_secs(1);

/// A pod as the watch shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    pub name: String,
    pub uid: String,
    pub instance: String,
    pub revision: String,
    /// All its containers have ended.
    pub is_over: bool,
    pub is_being_deleted: bool,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Create {
        instance: String,
    },
    /// A claimed pod of a warm pool becomes the function's.
    Take {
        instance: String,
        pod: ClaimedPod,
    },
    /// Of exactly this pod, never of one that bears its name later.
    Delete {
        pod: String,
        uid: String,
    },
}

/// The function as the controller knows it, and what it is ready for.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    pub uid: &'a str,
    pub revision: &'a str,
    /// The pods' surroundings are there: image and code.
    pub may_create: bool,
    /// All gateways have been heard: what nobody named is unwanted.
    pub may_delete: bool,
}

/// A claimed pod that is not the function's yet.
#[derive(Debug, PartialEq)]
enum Taking {
    Due,
    Asked,
    PausedUntil(Instant),
}

/// One function's creations. See the module's text.
#[derive(Debug, Default)]
pub struct Fleet {
    creations: Creations,
    /// By instance.
    taking: BTreeMap<String, Taking>,
    /// Wanted instances that have had their pod. A name has one pod: when that is gone, its gateway
    /// may not have seen it yet, and could do nothing with another.
    spent: BTreeSet<String>,
    deleting: BTreeSet<String>,
    /// Deletions wait.
    paused_until: Option<Instant>,
    /// Whom the last refusal concerns is still to be found out.
    refused_anew: bool,
    held_back: BTreeSet<String>,
}

impl Fleet {
    /// What follows from the demands for the function as the controller knows it. Each step counts
    /// as begun.
    pub fn plan(
        &mut self,
        now: Instant,
        known: Known<'_>,
        demands: &[&Demand],
        pods: &[Pod],
    ) -> Vec<Step> {
        self.wake(now);
        let there: BTreeSet<&str> = pods.iter().map(|pod| pod.instance.as_str()).collect();
        let uids: BTreeSet<&str> = pods.iter().map(|pod| pod.uid.as_str()).collect();
        self.creations.retain(|instance| !there.contains(instance));
        self.deleting.retain(|pod| uids.contains(pod.as_str()));

        let of_this = demands.iter().filter(|demand| demand.uid == known.uid);
        let wanted: BTreeSet<&str> = of_this
            .clone()
            .flat_map(|demand| demand.instances.iter().map(String::as_str))
            .collect();
        let had = |instance: &str| there.contains(instance) || self.spent.contains(instance);
        let has_had = wanted.iter().filter(|instance| had(instance));
        self.spent = has_had.map(|instance| (*instance).to_owned()).collect();

        let may_delete = known.may_delete && of_this.clone().count() > 0;
        let mut steps = self.deletions(pods, |pod| {
            may_delete && !wanted.contains(pod.instance.as_str())
        });
        let claimed = self.take_over(of_this.clone().copied(), &mut steps);
        // A gateway with another revision has not seen the newest spec yet, or the controller has
        // not: pods are made when both have.
        let creatable = of_this
            .filter(|demand| known.may_create && demand.revision == known.revision)
            .flat_map(|demand| &demand.instances);
        let missing = creatable.filter(|instance| {
            let is_begun = self.creations.is_expected(instance);
            !is_begun && !self.spent.contains(*instance) && !claimed.contains(*instance)
        });
        let missing = missing.cloned().collect();
        self.create(now, missing, &mut steps);
        steps
    }

    fn deletions(&mut self, pods: &[Pod], is_unwanted: impl Fn(&Pod) -> bool) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.paused_until.is_some() {
            return steps;
        }
        for pod in pods {
            let is_done = pod.is_being_deleted || self.deleting.contains(&pod.uid);
            if (pod.is_over || is_unwanted(pod)) && !is_done {
                self.deleting.insert(pod.uid.clone());
                let (pod, uid) = (pod.name.clone(), pod.uid.clone());
                steps.push(Step::Delete { pod, uid });
            }
        }
        steps
    }

    /// Has claimed pods taken over that are not the function's yet; all instances that have one.
    fn take_over<'a>(
        &mut self,
        demands: impl Iterator<Item = &'a Demand>,
        steps: &mut Vec<Step>,
    ) -> BTreeSet<String> {
        let mut claimed = BTreeSet::new();
        for demand in demands {
            for (instance, pod) in &demand.claimed {
                claimed.insert(instance.clone());
                if self.spent.contains(instance) {
                    continue;
                }
                let taking = self.taking.entry(instance.clone());
                let taking = taking.or_insert(Taking::Due);
                if *taking == Taking::Due {
                    *taking = Taking::Asked;
                    steps.push(Step::Take {
                        instance: instance.clone(),
                        pod: pod.clone(),
                    });
                }
            }
        }
        let spent = &self.spent;
        self.taking
            .retain(|instance, _| claimed.contains(instance) && !spent.contains(instance));
        claimed
    }

    fn create(&mut self, now: Instant, missing: BTreeSet<String>, steps: &mut Vec<Step>) {
        if self.creations.is_paused() {
            if std::mem::take(&mut self.refused_anew) {
                self.held_back = missing;
            } else {
                // Who comes after the refusal may have better luck, and learns it soon.
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

    /// Instances without a pod because the API server refused one, this one or another, after they
    /// were wanted.
    pub fn held_back(&self) -> impl Iterator<Item = &str> {
        self.held_back.iter().map(String::as_str)
    }

    /// Time has passed.
    pub fn wake(&mut self, now: Instant) {
        self.creations.wake(now);
        self.paused_until = self.paused_until.filter(|until| *until > now);
        for taking in self.taking.values_mut() {
            if matches!(taking, Taking::PausedUntil(until) if *until <= now) {
                *taking = Taking::Due;
            }
        }
    }

    /// The API server took the pod, or had it already.
    pub fn created(&mut self) {
        self.creations.taken();
    }

    /// Since the last refusal a pod was taken, and no other is held back.
    pub fn is_accepted(&self) -> bool {
        self.creations.is_accepted()
    }

    /// The API server refused the pod of this instance.
    pub fn refused(&mut self, now: Instant, instance: &str) {
        self.creations.refused(now, instance);
        self.refused_anew = true;
    }

    /// The claimed pod is the function's now, or it is gone: the instance has had its pod.
    pub fn taken(&mut self, instance: &str) {
        if self.taking.remove(instance).is_some() {
            self.spent.insert(instance.to_owned());
        }
    }

    /// The claimed pod could not be taken over and is to be tried again.
    pub fn not_taken(&mut self, now: Instant, instance: &str) {
        if let Some(taking) = self.taking.get_mut(instance) {
            *taking = Taking::PausedUntil(now + PAUSE);
        }
    }

    /// A deletion failed and is to be tried again.
    pub fn not_deleted(&mut self, now: Instant, uid: &str) {
        self.deleting.remove(uid);
        self.paused_until = Some(now + PAUSE);
    }

    /// Whether a pod may still need the code of this revision. What is on its way up may be of any.
    pub fn needs(&self, revision: &str, known: Known<'_>, pods: &[Pod]) -> bool {
        let is_of_it = |pod: &Pod| pod.revision == revision;
        let is_under_way = self.creations.in_flight() > 0;
        revision == known.revision || is_under_way || pods.iter().any(is_of_it)
    }

    /// When [`Fleet::wake`] is due, if nothing happens before.
    pub fn next_wakeup(&self) -> Option<Instant> {
        let pauses = self.taking.values().filter_map(|taking| match taking {
            Taking::PausedUntil(until) => Some(*until),
            Taking::Due | Taking::Asked => None,
        });
        let others = [self.paused_until, self.creations.next_wakeup()];
        pauses.chain(others.into_iter().flatten()).min()
    }
}

#[cfg(test)]
mod tests;
