//! The instances of one pool, by state.
//!
//! Owns which instances are starting, idle, busy or stopping, the order in which they became idle, and
//! the counts, which always agree with the states, and until when an instance may stay in its state. Fed by `pool`, which decides every change.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::instance::Status;
use crate::invoke::deadline::{Deadline, Verdict};
use crate::invoke::queue::Waiter;

/// Names an instance within one pool. No two instances get the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(pub u64);

/// The state of an instance, as the owner gateway knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Not ready for a lease. `was_ready`: it was ready before, so that its end is no failed start.
    Starting {
        was_ready: bool,
    },
    Idle,
    /// Leased to `waiter`.
    Busy {
        waiter: Waiter,
        next: AfterLease,
    },
    Stopping,
}

/// What the pool does with an instance when its lease ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterLease {
    /// The instance takes further leases.
    Serve,
    /// The instance belongs to an earlier revision.
    Stop,
    /// Another gateway owns the function.
    Release,
    /// The lease is overdue: the instance is given up, and its end follows.
    GiveUp,
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
    /// Instances that run an event now, or can run one soon.
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
    /// The newest status that it reported.
    status: Option<Status>,
    /// When it must have left its state.
    deadline: Option<Deadline>,
    /// The function's when it was started.
    timeout: Duration,
    /// Another gateway may have leased it, or may still do so.
    is_shared: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Roster {
    instances: BTreeMap<InstanceId, Instance>,
    /// The start of each idle time; the longest comes first.
    idle: VecDeque<(Instant, InstanceId)>,
    counts: Counts,
    next_id: u64,
    /// No deadline is before this. It is not moved when an instance leaves its state in time, since that would cost
    /// a search at each call.
    next_check: Option<Instant>,
}

impl Roster {
    /// `timeout`: that of its function.
    pub(crate) fn add(&mut self, timeout: Duration) -> InstanceId {
        let id = InstanceId(self.next_id);
        self.next_id += 1;
        let state = State::Starting { was_ready: false };
        self.instances.insert(
            id,
            Instance {
                state,
                status: None,
                deadline: None,
                timeout,
                is_shared: false,
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

    /// Changes the state. A new state has no deadline; a lease that goes on keeps its own.
    pub(crate) fn set(&mut self, now: Instant, id: InstanceId, state: State) {
        self.change(now, id, state, None);
    }

    /// Changes the state, which the instance must leave by the deadline.
    pub(crate) fn set_until(
        &mut self,
        now: Instant,
        id: InstanceId,
        state: State,
        deadline: Option<Deadline>,
    ) {
        self.change(now, id, state, deadline);
        let dues = deadline.map(Deadline::due).into_iter();
        self.next_check = dues.chain(self.next_check).min();
    }

    fn change(&mut self, now: Instant, id: InstanceId, state: State, deadline: Option<Deadline>) {
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        let old = std::mem::replace(&mut instance.state, state);
        let goes_on = matches!((old, state), (State::Busy { .. }, State::Busy { .. }));
        if !goes_on || deadline.is_some() {
            instance.deadline = deadline;
        }
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

    /// Another gateway has leased the instance, or may do so.
    pub(crate) fn share(&mut self, id: InstanceId) {
        if let Some(instance) = self.instances.get_mut(&id) {
            instance.is_shared = true;
        }
    }

    /// The deadline of a lease that begins now. `idle_since`: when the instance became idle.
    pub(crate) fn lease_deadline(
        &self,
        now: Instant,
        id: InstanceId,
        idle_since: Instant,
    ) -> Option<Deadline> {
        let instance = self.instances.get(&id)?;
        let idle_since = (!instance.is_shared).then_some(idle_since);
        Some(Deadline::of_lease(now, instance.timeout, idle_since))
    }

    /// The deadline of an init or a drain that begins now.
    pub(crate) fn change_deadline(&self, now: Instant, id: InstanceId) -> Option<Deadline> {
        let instance = self.instances.get(&id)?;
        Some(Deadline::of_change(now, instance.timeout))
    }

    /// When [`Roster::overdue`] has to be called.
    pub(crate) fn next_check(&self) -> Option<Instant> {
        self.next_check
    }

    /// The instances that have missed their deadlines, each once.
    pub(crate) fn overdue(&mut self, now: Instant) -> Vec<InstanceId> {
        let (mut overdue, mut next_check) = (Vec::new(), None::<Instant>);
        for (id, instance) in &mut self.instances {
            instance.deadline = instance.deadline.and_then(|deadline| {
                let Verdict::InTime(deadline) = deadline.check(now) else {
                    overdue.push(*id);
                    return None;
                };
                let due = deadline.due();
                next_check = Some(next_check.map_or(due, |check| check.min(due)));
                Some(deadline)
            });
        }
        self.next_check = next_check;
        overdue
    }

    pub(crate) fn state(&self, id: InstanceId) -> Option<State> {
        self.instances.get(&id).map(|instance| instance.state)
    }

    pub(crate) fn status(&self, id: InstanceId) -> Option<Status> {
        self.instances.get(&id).and_then(|instance| instance.status)
    }

    /// Records a reported status. Returns false if it is not newer than the last one.
    pub(crate) fn note(&mut self, id: InstanceId, status: Status) -> bool {
        let Some(instance) = self.instances.get_mut(&id) else {
            return false;
        };
        let is_newer = instance.status.is_none_or(|last| last.epoch < status.epoch);
        if is_newer {
            instance.status = Some(status);
        }
        is_newer
    }

    pub(crate) fn longest_idle(&self) -> Option<(Instant, InstanceId)> {
        self.idle.front().copied()
    }

    /// The instance to stop first when there are too many: the one that has been idle longest, or else the
    /// one that began to start last. `None` if all are busy.
    pub(crate) fn least_needed(&self) -> Option<InstanceId> {
        let idle = self.longest_idle().map(|(_, id)| id);
        let is_starting = |instance: &Instance| matches!(instance.state, State::Starting { .. });
        idle.or_else(|| {
            let mut newest_first = self.instances.iter().rev();
            let (id, _) = newest_first.find(|(_, instance)| is_starting(instance))?;
            Some(*id)
        })
    }

    /// The instance that was used last. The others grow old, so that those not needed can end.
    pub(crate) fn last_idle(&self) -> Option<(Instant, InstanceId)> {
        self.idle.back().copied()
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
