//! Which pods of one function are to be made, and which to be deleted.
//!
//! Fed by the controller with what the gateways want and what its watch shows; knows no API
//! server. Creations in flight are expected, so that a watch that lags behind never leads to a
//! second one (rule 6). After a refusal one pod goes ahead at a bounded pace; the others follow
//! when it is taken.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::wire::Demand;

/// A creation that no watch has shown by then is made again, under the same name.
const EXPECTATION: Duration = Duration::from_secs(30);
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// One pod at a time is tried, so this may be short: it is what a lifted quota is noticed after.
const BACKOFF_LAST: Duration = Duration::from_secs(2);

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

/// One function's creations. See the module's text.
#[derive(Debug, Default)]
pub struct Fleet {
    expected: BTreeMap<String, Instant>,
    /// Wanted instances that have had their pod. A name has one pod: when that is gone, its gateway
    /// may not have seen it yet, and could do nothing with another.
    spent: BTreeSet<String>,
    deleting: BTreeSet<String>,
    refusals: u32,
    refused_until: Option<Instant>,
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
        self.expected
            .retain(|instance, _| !there.contains(instance.as_str()));
        self.deleting.retain(|pod| uids.contains(pod.as_str()));

        let of_this = demands.iter().filter(|demand| demand.uid == known.uid);
        let wanted: BTreeSet<&str> = of_this
            .clone()
            .flat_map(|demand| demand.instances.iter().map(String::as_str))
            .collect();
        // A gateway with another revision has not seen the newest spec yet, or the controller has
        // not: pods are made when both have.
        let of_revision = of_this
            .clone()
            .filter(|demand| demand.revision == known.revision);
        let creatable: BTreeSet<&str> = of_revision
            .flat_map(|demand| demand.instances.iter().map(String::as_str))
            .collect();
        let somebody_speaks = of_this.count() > 0;
        let had = |instance: &str| there.contains(instance) || self.spent.contains(instance);
        let has_had = wanted.iter().filter(|instance| had(instance));
        self.spent = has_had.map(|instance| (*instance).to_owned()).collect();

        let mut steps = Vec::new();
        for pod in pods {
            let is_unwanted =
                known.may_delete && somebody_speaks && !wanted.contains(pod.instance.as_str());
            let is_done = pod.is_being_deleted || self.deleting.contains(&pod.uid);
            if (pod.is_over || is_unwanted) && !is_done {
                self.deleting.insert(pod.uid.clone());
                let (pod, uid) = (pod.name.clone(), pod.uid.clone());
                steps.push(Step::Delete { pod, uid });
            }
        }
        let missing = creatable.into_iter().filter(|instance| {
            let is_begun = self.expected.contains_key(*instance);
            known.may_create && !is_begun && !self.spent.contains(*instance)
        });
        let missing: BTreeSet<String> = missing.map(str::to_owned).collect();
        if self.refused_until.is_some() {
            if std::mem::take(&mut self.refused_anew) {
                self.held_back = missing;
            } else {
                // Who comes after the refusal may have better luck, and learns it soon.
                self.held_back.retain(|instance| missing.contains(instance));
            }
            return steps;
        }
        self.held_back.clear();
        let at_once = match (self.refusals, self.expected.is_empty()) {
            (0, _) => usize::MAX,
            (_, true) => 1,
            (_, false) => 0,
        };
        for instance in missing.into_iter().take(at_once) {
            self.expected.insert(instance.clone(), now + EXPECTATION);
            steps.push(Step::Create { instance });
        }
        steps
    }

    /// Instances without a pod because the API server refused one, this one or another, after they
    /// were wanted.
    pub fn held_back(&self) -> impl Iterator<Item = &str> {
        self.held_back.iter().map(String::as_str)
    }

    /// Time has passed.
    pub fn wake(&mut self, now: Instant) {
        self.expected.retain(|_, until| *until > now);
        self.refused_until = self.refused_until.filter(|until| *until > now);
    }

    /// The API server took the pod, or had it already.
    pub fn created(&mut self) {
        // Of the same burst others may have been refused: a quota with room for some.
        if self.refused_until.is_none() {
            self.refusals = 0;
        }
    }

    /// Since the last refusal a pod was taken, and no other is held back.
    pub fn is_accepted(&self) -> bool {
        self.refusals == 0
    }

    /// The API server refused the pod of this instance.
    pub fn refused(&mut self, now: Instant, instance: &str) {
        self.expected.remove(instance);
        self.refused_anew = true;
        // Those of one burst are refused together, and count as one.
        if self.refused_until.is_none_or(|until| until <= now) {
            let pause = BACKOFF_FIRST.saturating_mul(1 << self.refusals.min(16));
            self.refusals = self.refusals.saturating_add(1);
            self.refused_until = Some(now + pause.min(BACKOFF_LAST));
        }
    }

    /// A deletion failed and is to be tried again.
    pub fn not_deleted(&mut self, uid: &str) {
        self.deleting.remove(uid);
    }

    /// Whether a pod may still need the code of this revision. What is on its way up may be of any.
    pub fn needs(&self, revision: &str, known: Known<'_>, pods: &[Pod]) -> bool {
        let is_of_it = |pod: &Pod| pod.revision == revision;
        revision == known.revision || !self.expected.is_empty() || pods.iter().any(is_of_it)
    }

    /// When [`Fleet::wake`] is due, if nothing happens before.
    pub fn next_wakeup(&self) -> Option<Instant> {
        let expectation = self.expected.values().min().copied();
        self.refused_until.into_iter().chain(expectation).min()
    }
}

#[cfg(test)]
mod tests;
