//! The limit of one function, which the pools of all its qualifiers share.
//!
//! Each pool draws from the budget before it starts an instance, and reports how many instances it has,
//! lacks and can spare. If one pool lacks instances and none are left, another pool stops idle ones. The
//! owner of the pools wakes those that [`Budget::poll_wakeup`] names. Never knows an instance or a call.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The name of a pool within its function's budget; chosen by the owner of the pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShareId(pub u64);

/// One function's budget. All clones are the same budget.
#[derive(Clone, Debug, Default)]
pub struct Budget {
    state: Arc<Mutex<State>>,
}

/// One pool's access to the budget. Its instances return to the budget when it is dropped.
#[derive(Debug)]
pub struct Share {
    budget: Budget,
    id: ShareId,
    /// The last report.
    usage: Usage,
}

/// What one pool has of the budget, and what it wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Instances that live.
    pub(super) live: usize,
    /// Instances that the pool wants to start and has not started.
    pub(super) lacking: usize,
    /// Idle instances that the pool need not keep.
    pub(super) spare: usize,
}

#[derive(Debug, Default)]
struct State {
    limit: usize,
    pools: BTreeMap<ShareId, Usage>,
    wakeups: BTreeSet<ShareId>,
}

impl State {
    fn live_elsewhere(&self, id: ShareId) -> usize {
        let others = self.pools.iter().filter(|(other, _)| **other != id);
        others.map(|(_, usage)| usage.live).sum()
    }

    fn free(&self) -> usize {
        let live: usize = self.pools.values().map(|usage| usage.live).sum();
        self.limit.saturating_sub(live)
    }

    /// Wakes the other pools that can act after a change of this one.
    fn wake_others(&mut self, id: ShareId) {
        let free = self.free();
        let lacking: usize = self.pools.values().map(|usage| usage.lacking).sum();
        let can_act = |usage: &Usage| match free {
            0 => lacking > usage.lacking && usage.spare > 0,
            _ => usage.lacking > 0,
        };
        let others = self.pools.iter().filter(|(other, _)| **other != id);
        let others = others.filter(|(_, usage)| can_act(usage));
        self.wakeups.extend(others.map(|(other, _)| *other));
    }
}

impl Budget {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The access of one pool. `id`: must differ from that of every other living pool of the function.
    pub fn share(&self, id: ShareId) -> Share {
        self.state().pools.insert(id, Usage::default());
        Share {
            budget: self.clone(),
            id,
            usage: Usage::default(),
        }
    }

    /// A pool that has to be woken, because it may start an instance now or has to spare one.
    pub fn poll_wakeup(&self) -> Option<ShareId> {
        self.state().wakeups.pop_first()
    }
}

impl Share {
    /// The function has this limit from now on.
    pub(super) fn set_limit(&self, limit: usize) {
        let mut state = self.budget.state();
        if std::mem::replace(&mut state.limit, limit) < limit {
            state.wake_others(self.id);
        }
    }

    /// How many further instances this pool may start. `live`: the instances that it has.
    pub(super) fn room(&self, live: usize) -> usize {
        let state = self.budget.state();
        state
            .limit
            .saturating_sub(state.live_elsewhere(self.id) + live)
    }

    /// How many instances of the function are above the limit. `live`: the instances of this pool.
    pub(super) fn excess(&self, live: usize) -> usize {
        let state = self.budget.state();
        (state.live_elsewhere(self.id) + live).saturating_sub(state.limit)
    }

    /// How many of its spare instances this pool has to stop, since other pools lack instances.
    pub(super) fn owed(&self, spare: usize) -> usize {
        if spare == 0 {
            return 0;
        }
        let state = self.budget.state();
        let others = state.pools.iter().filter(|(other, _)| **other != self.id);
        let lacking: usize = others.map(|(_, usage)| usage.lacking).sum();
        lacking.saturating_sub(state.free()).min(spare)
    }

    /// Reports what this pool has and wants, after all that followed from an event.
    pub(super) fn report(&mut self, usage: Usage) {
        if std::mem::replace(&mut self.usage, usage) != usage {
            let mut state = self.budget.state();
            state.pools.insert(self.id, usage);
            state.wake_others(self.id);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut state = self.budget.state();
        state.pools.remove(&self.id);
        state.wakeups.remove(&self.id);
        state.wake_others(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(live: usize, lacking: usize, spare: usize) -> Usage {
        Usage {
            live,
            lacking,
            spare,
        }
    }

    #[test]
    fn pools_of_one_function_together_start_as_many_instances_as_the_limit_allows() {
        let budget = Budget::default();
        let (mut one, other) = (budget.share(ShareId(1)), budget.share(ShareId(2)));
        one.set_limit(3);
        assert_eq!((one.room(0), other.room(0)), (3, 3));
        one.report(usage(2, 0, 0));
        assert_eq!((one.room(2), other.room(0), other.excess(0)), (1, 1, 0));
        one.set_limit(1);
        assert_eq!((other.room(0), other.excess(0)), (0, 1));
        drop(one);
        assert_eq!(other.room(0), 1);
    }

    #[test]
    fn a_pool_that_lacks_an_instance_gets_the_spare_one_of_another() {
        let budget = Budget::default();
        let (mut one, mut other) = (budget.share(ShareId(1)), budget.share(ShareId(2)));
        one.set_limit(2);
        one.report(usage(2, 0, 0));
        other.report(usage(0, 1, 0));
        assert_eq!(budget.poll_wakeup(), None, "all instances are busy");
        one.report(usage(2, 0, 1));
        assert_eq!(one.owed(1), 1);
        other.report(usage(0, 2, 0));
        assert_eq!(budget.poll_wakeup(), Some(ShareId(1)));
        assert_eq!(one.owed(1), 1, "it has only one to spare");
        one.report(usage(1, 0, 0));
        assert_eq!(budget.poll_wakeup(), Some(ShareId(2)));
        assert_eq!(budget.poll_wakeup(), None);
        assert_eq!((other.room(0), one.owed(0)), (1, 0));
    }

    #[test]
    fn a_pool_alone_owes_nothing_and_is_never_woken() {
        let budget = Budget::default();
        let mut only = budget.share(ShareId(1));
        only.set_limit(1);
        for report in [usage(1, 4, 0), usage(1, 0, 1), usage(0, 0, 0)] {
            only.report(report);
            assert_eq!((only.owed(report.spare), budget.poll_wakeup()), (0, None));
        }
    }
}
