//! The instances of one pool, by state.
//!
//! Owns who is starting, idle, busy or stopping, the order of idleness and the counts, which
//! always agree with each other. `pool` decides every change; nothing here does.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use crate::instance::Status;
use crate::invoke::queue::Waiter;

/// Names an instance within one function's pool; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(pub u64);

/// What the owner gateway knows of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// On its way up, for the first time or again.
    Starting {
        was_ready: bool,
    },
    Idle,
    /// Leased to `waiter`.
    Busy {
        waiter: Waiter,
        then: Then,
    },
    Stopping,
}

/// What becomes of an instance when its lease ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// It serves on.
    Serve,
    /// It belongs to a revision of before.
    Stop,
    /// It is another gateway's by then.
    Release,
}

/// How many instances are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub starting: usize,
    pub idle: usize,
    pub busy: usize,
    pub stopping: usize,
}

impl Counts {
    /// Instances that run an event now or can soon.
    pub fn live(&self) -> usize {
        self.starting + self.idle + self.busy
    }

    fn of(&mut self, state: State) -> &mut usize {
        match state {
            State::Starting { .. } => &mut self.starting,
            State::Idle => &mut self.idle,
            State::Busy { .. } => &mut self.busy,
            State::Stopping => &mut self.stopping,
        }
    }
}

#[derive(Debug)]
struct Instance {
    state: State,
    /// The newest condition it told.
    status: Option<Status>,
}

#[derive(Debug, Default)]
pub(crate) struct Roster {
    instances: BTreeMap<InstanceId, Instance>,
    /// The begin of each idle time; the longest first.
    idle: VecDeque<(Instant, InstanceId)>,
    counts: Counts,
    next_id: u64,
}

impl Roster {
    pub(crate) fn add(&mut self) -> InstanceId {
        let id = InstanceId(self.next_id);
        self.next_id += 1;
        let state = State::Starting { was_ready: false };
        self.instances.insert(
            id,
            Instance {
                state,
                status: None,
            },
        );
        self.counts.starting += 1;
        id
    }

    pub(crate) fn remove(&mut self, id: InstanceId) -> Option<State> {
        let state = self.instances.remove(&id)?.state;
        self.leave(id, state);
        Some(state)
    }

    pub(crate) fn set(&mut self, now: Instant, id: InstanceId, state: State) {
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        let old = std::mem::replace(&mut instance.state, state);
        self.leave(id, old);
        *self.counts.of(state) += 1;
        if state == State::Idle {
            self.idle.push_back((now, id));
        }
    }

    fn leave(&mut self, id: InstanceId, state: State) {
        *self.counts.of(state) -= 1;
        if state == State::Idle
            && let Some(place) = self.idle.iter().rposition(|(_, idle)| *idle == id)
        {
            self.idle.remove(place);
        }
    }

    pub(crate) fn state(&self, id: InstanceId) -> Option<State> {
        self.instances.get(&id).map(|instance| instance.state)
    }

    pub(crate) fn status(&self, id: InstanceId) -> Option<Status> {
        self.instances.get(&id).and_then(|instance| instance.status)
    }

    /// Notes what the instance told; false if it is no news.
    pub(crate) fn note(&mut self, id: InstanceId, status: Status) -> bool {
        let Some(instance) = self.instances.get_mut(&id) else {
            return false;
        };
        let is_news = instance
            .status
            .is_none_or(|known| known.epoch < status.epoch);
        if is_news {
            instance.status = Some(status);
        }
        is_news
    }

    pub(crate) fn longest_idle(&self) -> Option<(Instant, InstanceId)> {
        self.idle.front().copied()
    }

    /// Of those that are not busy: one that is idle, the longest first, or else one on its way up.
    pub(crate) fn least_needed(&self) -> Option<InstanceId> {
        let idle = self.longest_idle().map(|(_, id)| id);
        let is_starting = |instance: &Instance| matches!(instance.state, State::Starting { .. });
        idle.or_else(|| {
            let mut newest_first = self.instances.iter().rev();
            let (id, _) = newest_first.find(|(_, instance)| is_starting(instance))?;
            Some(*id)
        })
    }

    /// The one used last: what is not needed is left to grow old.
    pub(crate) fn last_idle(&self) -> Option<InstanceId> {
        self.idle.back().map(|(_, id)| *id)
    }

    pub(crate) fn ids(&self) -> Vec<InstanceId> {
        self.instances.keys().copied().collect()
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.instances.is_empty()
    }
}
