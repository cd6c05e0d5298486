//! The demands of one gateway: what it wants for each pool that it owns.
//!
//! Fed by `handover` with claims and releases of pools, by the backend with requests for instances, and by
//! the driver with counts. A controller reads all demands first, then the changed ones. A pool that is not
//! claimed has no demand, so that no controller takes its instances for unwanted.

use std::collections::{BTreeMap, HashMap};

use crate::gateways::demand::{ClaimedPod, Demand};
use crate::ids::{InstanceName, PoolId, Revision, Uid};

/// A request for an instance. No two requests of a gateway have the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceRequest(u64);

/// The changes that one controller has read. Each of several controllers reads all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadUpTo {
    version: u64,
    counts: u64,
}

#[derive(Debug)]
struct Entry {
    demand: Demand,
    /// The requested instances. Two requests may name the same instance for a while.
    requests: HashMap<InstanceRequest, InstanceName>,
    /// The version of the last change of this entry.
    version: u64,
    /// The version of the last change of its counts.
    counts: u64,
}

/// See the module's text.
#[derive(Debug, Default)]
pub struct Ledger {
    pools: BTreeMap<PoolId, Entry>,
    version: u64,
    counts: u64,
}

impl Ledger {
    /// The gateway reports its demand for the pool from now on, for instances of this revision.
    pub fn claim(&mut self, pool: &PoolId, uid: Uid, revision: Revision) {
        self.change(pool, |entry, _| {
            entry.demand.uid = uid;
            entry.demand.revision = revision;
            entry.demand.released = false;
        });
    }

    /// Another gateway reports the demand for the pool from now on.
    pub fn release(&mut self, pool: &PoolId) {
        self.change(pool, |entry, _| entry.demand.released = true);
    }

    /// The function was deleted.
    pub fn forget(&mut self, pool: &PoolId) {
        self.pools.remove(pool);
    }

    /// The gateway wants this instance. `pod`: the pod of a warm pool that it claimed for it.
    pub fn request(
        &mut self,
        pool: &PoolId,
        instance: &InstanceName,
        pod: Option<ClaimedPod>,
    ) -> InstanceRequest {
        self.change(pool, |entry, version| {
            entry.demand.instances.insert(instance.clone());
            let claimed = pod.map(|pod| (instance.clone(), pod));
            entry.demand.claimed.extend(claimed);
            entry
                .requests
                .insert(InstanceRequest(version), instance.clone());
            InstanceRequest(version)
        })
    }

    /// The request is over. Its instance is unwanted when it was the last request for it.
    pub fn cancel(&mut self, pool: &PoolId, request: InstanceRequest) {
        let Some(entry) = self.pools.get_mut(pool) else {
            return;
        };
        let Some(instance) = entry.requests.remove(&request) else {
            return;
        };
        if entry.requests.values().all(|other| *other != instance) {
            entry.demand.instances.remove(&instance);
            entry.demand.claimed.remove(&instance);
            self.version += 1;
            entry.version = self.version;
        }
    }

    /// The instance does not obey: its pod is to be deleted without grace once its requests are over.
    pub fn give_up(&mut self, pool: &PoolId, instance: &InstanceName) {
        self.change(pool, |entry, _| {
            entry.demand.given_up.insert(instance.clone());
        });
    }

    /// The pod of an instance that was given up is gone, or the controller has had its time.
    pub fn forget_given_up(&mut self, pool: &PoolId, instance: &InstanceName) {
        if self.pools.contains_key(pool) {
            self.change(pool, |entry, _| {
                entry.demand.given_up.remove(instance);
            });
        }
    }

    /// The counts of the pool, for the status of the function.
    pub fn observe(&mut self, pool: &PoolId, in_flight: usize, queued: usize) {
        self.count(pool, |demand| {
            (demand.in_flight, demand.queued) = (in_flight, queued);
        });
    }

    /// The same for the events of asynchronous calls that have not ended.
    pub fn observe_events(&mut self, pool: &PoolId, events: usize) {
        self.count(pool, |demand| demand.events = events);
    }

    fn count(&mut self, pool: &PoolId, change: impl FnOnce(&mut Demand)) {
        let Some(entry) = self.pools.get_mut(pool) else {
            return;
        };
        let counts = |demand: &Demand| (demand.in_flight, demand.queued, demand.events);
        let before = counts(&entry.demand);
        change(&mut entry.demand);
        if counts(&entry.demand) != before {
            self.counts += 1;
            entry.counts = self.counts;
        }
    }

    fn change<T>(&mut self, pool: &PoolId, change: impl FnOnce(&mut Entry, u64) -> T) -> T {
        self.version += 1;
        let version = self.version;
        let entry = self.pools.entry(pool.clone()).or_insert_with(|| Entry {
            demand: Demand {
                pool: pool.clone(),
                uid: Uid::default(),
                revision: Revision::default(),
                instances: Default::default(),
                claimed: Default::default(),
                given_up: Default::default(),
                in_flight: 0,
                queued: 0,
                events: 0,
                released: true,
            },
            requests: HashMap::new(),
            version,
            counts: 0,
        });
        entry.version = version;
        change(entry, version)
    }

    /// The version of the last change, except of counts. A reader has to read when it changes.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The demands that changed after `read`; all demands if nothing was read yet. `with_counts`: those whose
    /// counts alone changed as well.
    pub fn changes(
        &self,
        read: Option<ReadUpTo>,
        with_counts: bool,
    ) -> (impl Iterator<Item = &Demand>, ReadUpTo) {
        let newest = ReadUpTo {
            version: self.version,
            counts: match read {
                Some(read) if !with_counts => read.counts,
                _ => self.counts,
            },
        };
        let has_changed = move |entry: &&Entry| match (read, entry.demand.released) {
            (None, released) => !released,
            (Some(read), true) => entry.version > read.version,
            (Some(read), false) => {
                entry.version > read.version || (with_counts && entry.counts > read.counts)
            }
        };
        let changed = self.pools.values().filter(has_changed);
        (changed.map(|entry| &entry.demand), newest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Namespace;

    fn pool(name: &str) -> PoolId {
        PoolId::latest(Namespace::local(), name.parse().expect("a name"))
    }

    fn claim(ledger: &mut Ledger, name: &str) {
        ledger.claim(&pool(name), "u".into(), "r".into());
    }

    /// The name, the number of instances and the number in flight of each demand that changed.
    fn read(
        ledger: &Ledger,
        read: Option<ReadUpTo>,
        with_counts: bool,
    ) -> (Vec<(String, usize, usize)>, ReadUpTo) {
        let (changed, newest) = ledger.changes(read, with_counts);
        let changed = changed.filter(|demand| !demand.released).map(|demand| {
            let name = demand.pool.name().to_string();
            (name, demand.instances.len(), demand.in_flight)
        });
        (changed.collect(), newest)
    }

    fn all(ledger: &Ledger) -> Vec<(String, usize, usize)> {
        read(ledger, None, true).0
    }

    #[test]
    fn a_pool_has_no_demand_before_it_is_claimed() {
        let mut ledger = Ledger::default();
        ledger.request(&pool("a"), &"i1".into(), None);
        assert_eq!(all(&ledger), []);
        claim(&mut ledger, "a");
        assert_eq!(all(&ledger), [("a".to_owned(), 1, 0)]);
    }

    #[test]
    fn each_change_of_instances_is_read_once_and_counts_only_on_request() {
        let mut ledger = Ledger::default();
        claim(&mut ledger, "a");
        claim(&mut ledger, "b");
        let (_, version) = read(&ledger, None, true);
        let request = ledger.request(&pool("b"), &"i1".into(), None);
        let (changed, version) = read(&ledger, Some(version), false);
        assert_eq!(changed, [("b".to_owned(), 1, 0)]);
        ledger.observe(&pool("a"), 3, 0);
        assert_eq!(read(&ledger, Some(version), false).0, []);
        let (changed, version) = read(&ledger, Some(version), true);
        assert_eq!(changed, [("a".to_owned(), 0, 3)]);
        ledger.cancel(&pool("b"), request);
        assert_eq!(
            read(&ledger, Some(version), true).0,
            [("b".to_owned(), 0, 0)]
        );
    }

    #[test]
    fn each_of_several_controllers_reads_all_counts() {
        let mut ledger = Ledger::default();
        claim(&mut ledger, "a");
        let (_, one) = read(&ledger, None, true);
        let (_, other) = read(&ledger, None, true);
        ledger.observe(&pool("a"), 3, 0);
        for version in [one, other] {
            let (changed, version) = read(&ledger, Some(version), true);
            assert_eq!(changed, [("a".to_owned(), 0, 3)]);
            assert_eq!(read(&ledger, Some(version), true).0, []);
        }
    }

    #[test]
    fn a_release_is_read_once_by_a_controller_that_has_read_the_claim() {
        let mut ledger = Ledger::default();
        claim(&mut ledger, "a");
        let (_, version) = read(&ledger, None, true);
        ledger.release(&pool("a"));
        let (changed, version) = ledger.changes(Some(version), false);
        assert_eq!(changed.filter(|demand| demand.released).count(), 1);
        ledger.observe(&pool("a"), 1, 0);
        assert_eq!(ledger.changes(Some(version), true).0.count(), 0);
        assert_eq!(ledger.changes(None, true).0.count(), 0);
    }

    #[test]
    fn a_claimed_pod_is_named_as_long_as_its_instance_is_wanted() {
        let mut ledger = Ledger::default();
        claim(&mut ledger, "a");
        let pod = ClaimedPod {
            name: "warm-1".into(),
            uid: "u1".into(),
            revision: "r".into(),
        };
        let request = ledger.request(&pool("a"), &"i1".into(), Some(pod.clone()));
        let claimed = |ledger: &Ledger| {
            let (mut changed, _) = ledger.changes(None, true);
            changed.next().expect("a demand").claimed.clone()
        };
        assert_eq!(claimed(&ledger), [("i1".into(), pod)].into());
        ledger.cancel(&pool("a"), request);
        assert_eq!(claimed(&ledger), [].into());
    }

    #[test]
    fn an_instance_that_was_given_up_is_named_after_its_request_is_over() {
        let mut ledger = Ledger::default();
        claim(&mut ledger, "a");
        let request = ledger.request(&pool("a"), &"i1".into(), None);
        let (_, version) = ledger.changes(None, true);
        ledger.give_up(&pool("a"), &"i1".into());
        ledger.cancel(&pool("a"), request);
        let (mut changed, version) = ledger.changes(Some(version), false);
        let demand = changed.next().expect("a demand");
        assert_eq!(demand.given_up, ["i1".into()].into());
        assert!(demand.instances.is_empty());
        drop(changed);
        ledger.forget_given_up(&pool("a"), &"i1".into());
        let (mut changed, _) = ledger.changes(Some(version), false);
        assert!(changed.next().expect("a demand").given_up.is_empty());
        drop(changed);
        ledger.forget(&pool("a"));
        ledger.forget_given_up(&pool("a"), &"i1".into());
        assert_eq!(ledger.changes(None, true).0.count(), 0);
    }

    #[test]
    fn an_instance_is_wanted_until_its_last_request_is_cancelled() {
        let mut ledger = Ledger::default();
        let first = ledger.request(&pool("a"), &"i1".into(), None);
        let second = ledger.request(&pool("a"), &"i1".into(), None);
        claim(&mut ledger, "a");
        ledger.cancel(&pool("a"), first);
        assert_eq!(all(&ledger), [("a".to_owned(), 1, 0)]);
        ledger.cancel(&pool("a"), second);
        assert_eq!(all(&ledger), [("a".to_owned(), 0, 0)]);
    }
}
