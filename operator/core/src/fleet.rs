//! Which pods of one function are to be made, and which to be deleted.
//!
//! Fed by the controller with what the gateways want and what its watch shows; knows no API
//! server. Creations in flight are expected, so that a watch that lags behind never leads to a
//! second one (rule 6); a refusal is tried again later, and later each time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::wire::Demand;

/// A creation that no watch has shown by then is made again, under the same name.
const EXPECTATION: Duration = Duration::from_secs(30);
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
const BACKOFF_LAST: Duration = Duration::from_secs(60);

/// A pod as the watch shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    pub name: String,
    pub uid: String,
    pub instance: String,
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
            self.held_back = missing;
            return steps;
        }
        self.held_back.clear();
        for instance in missing {
            self.expected.insert(instance.clone(), now + EXPECTATION);
            steps.push(Step::Create { instance });
        }
        steps
    }

    /// Instances without a pod because the API server refused one.
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
        // Those of one burst are refused together, and count as one.
        if self.refused_until.is_none_or(|until| until <= now) {
            let pause = BACKOFF_FIRST.saturating_mul(1 << self.refusals.min(16));
            self.refusals += 1;
            self.refused_until = Some(now + pause.min(BACKOFF_LAST));
        }
    }

    /// A deletion failed and is to be tried again.
    pub fn not_deleted(&mut self, uid: &str) {
        self.deleting.remove(uid);
    }

    /// When [`Fleet::wake`] is due, if nothing happens before.
    pub fn next_wakeup(&self) -> Option<Instant> {
        let expectation = self.expected.values().min().copied();
        self.refused_until.into_iter().chain(expectation).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF: Known<'static> = Known {
        uid: "uid",
        revision: "r1",
        may_create: true,
        may_delete: true,
    };

    fn demand(revision: &str, instances: &[&str]) -> Demand {
        Demand {
            function: "hello".parse().expect("a name"),
            uid: "uid".to_owned(),
            revision: revision.to_owned(),
            instances: instances.iter().map(|name| (*name).to_owned()).collect(),
            in_flight: 0,
            queued: 0,
            released: false,
        }
    }

    fn pod(instance: &str) -> Pod {
        Pod {
            name: format!("hello-{instance}"),
            uid: format!("uid-{instance}"),
            instance: instance.to_owned(),
            is_over: false,
            is_being_deleted: false,
        }
    }

    fn create(instance: &str) -> Step {
        Step::Create {
            instance: instance.to_owned(),
        }
    }

    fn delete(instance: &str) -> Step {
        let (pod, uid) = (format!("hello-{instance}"), format!("uid-{instance}"));
        Step::Delete { pod, uid }
    }

    #[test]
    fn what_is_wanted_and_not_there_is_made_once_however_far_the_watch_lags() {
        let (mut fleet, now) = (Fleet::default(), Instant::now());
        let wants = demand("r1", &["a", "b"]);
        assert_eq!(
            fleet.plan(now, OF, &[&wants], &[]),
            [create("a"), create("b")]
        );
        assert_eq!(fleet.plan(now, OF, &[&wants], &[]), []);
        assert_eq!(fleet.plan(now, OF, &[&wants], &[pod("a")]), []);
        let later = now + EXPECTATION;
        assert_eq!(fleet.plan(later, OF, &[&wants], &[pod("a")]), [create("b")]);
    }

    #[test]
    fn what_nobody_wants_is_deleted_once_but_not_while_nobody_speaks() {
        let (mut fleet, now) = (Fleet::default(), Instant::now());
        let pods = [pod("a"), pod("b")];
        assert_eq!(fleet.plan(now, OF, &[], &pods), []);
        let (one, other) = (demand("r1", &["a"]), demand("r1", &[]));
        assert_eq!(fleet.plan(now, OF, &[&one, &other], &pods), [delete("b")]);
        assert_eq!(fleet.plan(now, OF, &[&one, &other], &pods), []);
        fleet.not_deleted("uid-b");
        assert_eq!(fleet.plan(now, OF, &[&one], &pods), [delete("b")]);
    }

    #[test]
    fn nothing_is_made_of_a_revision_that_only_one_side_knows_and_nothing_deleted() {
        let (mut fleet, now) = (Fleet::default(), Instant::now());
        let ahead = demand("r2", &["a", "b"]);
        assert_eq!(fleet.plan(now, OF, &[&ahead], &[pod("a")]), []);
        assert_eq!(
            fleet.plan(
                now,
                Known {
                    revision: "r2",
                    ..OF
                },
                &[&ahead],
                &[pod("a")]
            ),
            [create("b")]
        );
    }

    #[test]
    fn the_demand_for_an_earlier_function_of_the_name_is_not_heeded() {
        let (mut fleet, now) = (Fleet::default(), Instant::now());
        let wants = demand("r1", &["a"]);
        assert_eq!(
            fleet.plan(
                now,
                Known {
                    uid: "another",
                    ..OF
                },
                &[&wants],
                &[pod("b")]
            ),
            []
        );
    }

    #[test]
    fn a_pod_that_ended_is_deleted_though_it_is_wanted() {
        let (mut fleet, now) = (Fleet::default(), Instant::now());
        let ended = Pod {
            is_over: true,
            ..pod("a")
        };
        let wants = demand("r1", &["a"]);
        assert_eq!(fleet.plan(now, OF, &[&wants], &[ended]), [delete("a")]);
    }

    #[test]
    fn a_refusal_is_tried_again_later_and_later() {
        let (mut fleet, mut now) = (Fleet::default(), Instant::now());
        let wants = demand("r1", &["a"]);
        for pause in [1, 2, 4] {
            assert_eq!(fleet.plan(now, OF, &[&wants], &[]), [create("a")]);
            fleet.refused(now, "a");
            assert_eq!(fleet.plan(now, OF, &[&wants], &[]), []);
            now += Duration::from_secs(pause);
            assert_eq!(fleet.next_wakeup(), Some(now));
        }
        fleet.wake(now);
        assert_eq!(fleet.next_wakeup(), None, "what is due is due once");
        assert_eq!(fleet.plan(now, OF, &[&wants], &[]), [create("a")]);
        fleet.created();
        assert_eq!(fleet.next_wakeup(), Some(now + EXPECTATION));
    }

    #[test]
    fn an_instance_whose_pod_is_gone_gets_no_second_one() {
        let (mut fleet, now) = (Fleet::default(), Instant::now());
        let wants = demand("r1", &["a"]);
        assert_eq!(fleet.plan(now, OF, &[&wants], &[pod("a")]), []);
        assert_eq!(fleet.plan(now, OF, &[&wants], &[]), []);
        let later = now + EXPECTATION;
        assert_eq!(fleet.plan(later, OF, &[&wants], &[]), []);
    }

    #[test]
    fn what_nobody_named_stays_until_all_gateways_were_heard() {
        let (mut fleet, now) = (Fleet::default(), Instant::now());
        let (one, pods) = (demand("r1", &["a"]), [pod("a"), pod("b")]);
        let early = Known {
            may_delete: false,
            ..OF
        };
        assert_eq!(fleet.plan(now, early, &[&one], &pods), []);
        assert_eq!(fleet.plan(now, OF, &[&one], &pods), [delete("b")]);
    }

    #[test]
    fn a_burst_that_is_refused_counts_once_and_all_of_it_is_held_back() {
        let (mut fleet, now) = (Fleet::default(), Instant::now());
        let wants = demand("r1", &["a", "b", "c"]);
        assert_eq!(fleet.plan(now, OF, &[&wants], &[]).len(), 3);
        fleet.refused(now, "a");
        fleet.created();
        fleet.refused(now, "c");
        assert_eq!(fleet.plan(now, OF, &[&wants], &[pod("b")]), []);
        assert_eq!(Vec::from_iter(fleet.held_back()), ["a", "c"]);
        assert_eq!(fleet.next_wakeup(), Some(now + BACKOFF_FIRST));
        let later = now + BACKOFF_FIRST;
        assert_eq!(
            fleet.plan(later, OF, &[&wants], &[pod("b")]),
            [create("a"), create("c")]
        );
        assert_eq!(fleet.held_back().count(), 0);
    }
}
