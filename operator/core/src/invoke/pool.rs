//! One pool: the queue and the instances of a function, at the gateway that owns the function.
//!
//! Owns admission, dispatch, scaling by concurrency and by idle time, and retries of invocations that
//! never started (rules 2, 5, 7). Fed by the gateway's driver. `queue` holds the invocations that wait,
//! `roster` the instances, `starts` the pace of starts, `deadline` when an instance is given up; `crate::instance` is the other end of a lease.
//! Never knows payloads, addresses or how an instance is started.
//!
//! wanted = in flight + queued, or the provisioned instances if that is more; at most the limit.
//! The pool starts instances while fewer live than it wants.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::instance::{Condition, Status};
use crate::invoke::budget::{Share, Usage};
use crate::invoke::queue::{InvocationId, Queue};
use crate::invoke::roster::{AfterLease, Roster, State};
use crate::invoke::starts::{StartFailure, Starts};
use crate::reason::Reason;

pub use crate::invoke::roster::{Counts, InstanceId};
pub use crate::invoke::starts::Pacing;

/// The pool's part of a function's manifest, completed from the gateway's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The largest number of instances of the function, which all its pools share. Each instance runs one
    /// event at a time.
    pub limit: usize,
    /// How many invocations may wait when the limit is reached.
    pub queue: usize,
    /// How long an event may run.
    pub timeout: Duration,
    /// How long an instance stays warm after its last event.
    pub keep_alive: Duration,
    /// Instances that the pool keeps up regardless of load and idle time.
    pub provisioned: usize,
}

/// Bounds that a gateway sets for every function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The largest sum of the payloads in one queue, in bytes.
    pub queue_bytes: usize,
    /// How long an invocation may wait for an instance.
    pub queue_wait: Duration,
    pub pacing: Pacing,
}

/// An event that the driver reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Arrived {
        invocation: InvocationId,
        bytes: usize,
    },
    /// The caller of a queued invocation has disconnected.
    Abandoned { invocation: InvocationId },
    /// The supervisor of an instance that was started or adopted is up: its init begins, or goes on.
    Up { instance: InstanceId },
    /// An instance reported its status on its status stream.
    StatusReported {
        instance: InstanceId,
        status: Status,
    },
    /// A dispatched invocation was answered. `status` came with the answer.
    Finished {
        instance: InstanceId,
        status: Status,
    },
    /// A dispatched invocation provably never started (rule 2).
    NotStarted {
        instance: InstanceId,
        status: Option<Status>,
    },
    /// The instance ended, or could not start, for this reason.
    Gone {
        instance: InstanceId,
        reason: Reason,
    },
    /// The instance was not created: the backend refuses at present, and paces its own attempts.
    Refused {
        instance: InstanceId,
        reason: Reason,
    },
    /// The function has a new revision: the pool replaces its instances.
    Replaced { settings: Settings },
    /// The function has other settings of the same revision: its instances stay.
    Configured { settings: Settings },
    /// The function is deleted.
    Deleted,
    /// Another gateway owns the function from now on, with its instances (rule 3).
    HandedOver,
}

/// An effect that the driver carries out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Start {
        instance: InstanceId,
    },
    /// Drain the instance, then end it.
    Stop {
        instance: InstanceId,
    },
    /// Close the connections to the instance, which lives on for the gateway that owns it now.
    Release {
        instance: InstanceId,
    },
    /// The instance has missed its deadline (`deadline`). The call that it runs is lost, and it ends without grace;
    /// [`Event::Gone`] follows.
    GiveUp {
        instance: InstanceId,
    },
    Dispatch {
        invocation: InvocationId,
        instance: InstanceId,
    },
    Reject {
        invocation: InvocationId,
        rejection: Rejection,
    },
}

/// How an instance ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As the pool wanted: it was idle for too long, replaced, handed over, or its function was deleted.
    Stopped,
    /// It was never ready.
    NotStarted,
    /// It ended by itself, was lost, or was given up.
    Lost,
}

/// Why an invocation never started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// All instances that the limit allows are busy, and the queue is full.
    Throttled,
    /// The payloads in the queue have reached [`Bounds::queue_bytes`].
    QueueBytes,
    /// The invocation waited for [`Bounds::queue_wait`].
    WaitedTooLong,
    /// No instance can be started, for this reason.
    CannotStart(Reason),
    /// The function was deleted.
    Deleted,
    /// Another gateway owns the function; the caller's gateway sends the invocation there.
    Moved,
}

/// One pool. See the module's text.
#[derive(Debug)]
pub struct Pool {
    settings: Settings,
    queue: Queue,
    roster: Roster,
    starts: Starts,
    share: Share,
    is_deleted: bool,
    /// Another gateway owns the function.
    is_elsewhere: bool,
    actions: VecDeque<Action>,
}

impl Pool {
    /// `share`: the pool's part of its function's budget.
    pub fn new(settings: Settings, bounds: Bounds, share: Share) -> Self {
        share.set_limit(settings.limit);
        Pool {
            settings,
            queue: Queue::new(bounds.queue_bytes, bounds.queue_wait),
            roster: Roster::default(),
            starts: Starts::new(bounds.pacing),
            share,
            is_deleted: false,
            is_elsewhere: false,
            actions: VecDeque::new(),
        }
    }

    /// Handles an event. [`Pool::poll_action`] returns what follows from it.
    pub fn handle(&mut self, now: Instant, event: Event) {
        match event {
            Event::Arrived { invocation, bytes } => self.admit(now, invocation, bytes),
            Event::Abandoned { invocation } => {
                self.queue.remove(invocation);
            }
            Event::Up { instance } => {
                if let Some(state @ State::Starting { .. }) = self.roster.state(instance) {
                    self.starting(now, instance, state);
                }
            }
            Event::StatusReported { instance, status } => self.on_status(now, instance, status),
            Event::Finished { instance, status } => self.on_finished(now, instance, status),
            Event::NotStarted { instance, status } => self.on_not_started(now, instance, status),
            Event::Gone { instance, reason } => {
                self.on_gone(now, instance, reason, StartFailure::Failed)
            }
            Event::Refused { instance, reason } => {
                self.on_gone(now, instance, reason, StartFailure::Refused)
            }
            Event::Replaced { settings } => {
                self.starts.reset_backoff();
                self.configure(settings);
                self.retire_all(now);
            }
            Event::Configured { settings } => self.configure(settings),
            Event::Deleted => {
                self.is_deleted = true;
                self.reject_all(&Rejection::Deleted);
                self.retire_all(now);
            }
            Event::HandedOver => self.hand_over(now),
        }
        self.settle(now);
    }

    /// Acts on deadlines that have passed.
    pub fn wake(&mut self, now: Instant) {
        self.settle(now);
    }

    /// This gateway owns the function from now on. [`Pool::adopt`] follows for each instance that lives.
    pub fn take_over(&mut self) {
        self.is_elsewhere = false;
        self.starts.reset_backoff();
    }

    /// Cancels the release of an instance that still runs an invocation of this gateway. Returns false if
    /// the instance runs none.
    pub fn keep(&mut self, now: Instant, instance: InstanceId) -> bool {
        let Some(State::Busy { waiter, next }) = self.roster.state(instance) else {
            return false;
        };
        self.roster.share(instance);
        if next != AfterLease::GiveUp {
            let next = AfterLease::Serve;
            self.roster.set(now, instance, State::Busy { waiter, next });
        }
        true
    }

    /// Adds an instance that already lives, from a previous owner. It reports its status like any other
    /// instance. Its end does not count as a failed start.
    pub fn adopt(&mut self, now: Instant) -> InstanceId {
        let instance = self.roster.add(self.settings.timeout);
        self.roster.share(instance);
        self.roster
            .set(now, instance, State::Starting { was_ready: true });
        if self.is_deleted {
            self.stop(now, instance);
        }
        instance
    }

    /// The next action to carry out.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Pool::wake`] is due, unless an event comes first.
    pub fn next_wakeup(&self) -> Option<Instant> {
        let next_start = if self.may_start() {
            self.starts.next_start()
        } else {
            None
        };
        let check = self.roster.next_check();
        [self.idle_end(), next_start, self.queue.next_expiry(), check]
            .into_iter()
            .flatten()
            .min()
    }

    pub fn counts(&self) -> Counts {
        self.roster.counts()
    }

    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Since when the invocation waits that has waited for the longest time.
    pub fn waiting_since(&self) -> Option<Instant> {
        self.queue.oldest()
    }

    /// What the end of an instance would mean now: [`Event::Gone`] follows.
    pub fn end_of(&self, instance: InstanceId) -> Option<End> {
        Some(match self.roster.state(instance)? {
            State::Stopping => End::Stopped,
            State::Starting { was_ready: false } => End::NotStarted,
            State::Starting { was_ready: true } | State::Idle | State::Busy { .. } => End::Lost,
        })
    }

    /// How many instances the pool wants alive: see the module's text.
    pub fn wanted(&self) -> usize {
        let wanted = self.load().max(self.settings.provisioned);
        wanted.min(self.settings.limit)
    }

    /// Whether the function was deleted and its last instance is gone.
    pub fn is_over(&self) -> bool {
        self.is_deleted && self.roster.is_empty()
    }

    fn load(&self) -> usize {
        self.counts().busy + self.queue.len()
    }

    fn configure(&mut self, settings: Settings) {
        self.settings = settings;
        self.share.set_limit(settings.limit);
        if settings.limit == 0 {
            self.reject_all(&Rejection::Throttled);
        }
    }

    fn admit(&mut self, now: Instant, invocation: InvocationId, bytes: usize) {
        match self.refuse(now, bytes) {
            Some(rejection) => self.reject(invocation, rejection),
            None => self.queue.push(self.queue.waiter(now, invocation, bytes)),
        }
    }

    fn refuse(&self, now: Instant, bytes: usize) -> Option<Rejection> {
        if self.is_deleted {
            return Some(Rejection::Deleted);
        }
        if self.is_elsewhere {
            return Some(Rejection::Moved);
        }
        if let Some(reason) = self.starts.reported_failure(now)
            && self.counts().live() == 0
        {
            return Some(Rejection::CannotStart(reason.clone()));
        }
        let room = match self.settings.limit {
            0 => 0,
            limit => limit + self.settings.queue,
        };
        if self.load() >= room {
            return Some(Rejection::Throttled);
        }
        (!self.queue.has_room_for(bytes)).then_some(Rejection::QueueBytes)
    }

    fn on_status(&mut self, now: Instant, id: InstanceId, status: Status) {
        if !self.roster.note(id, status) {
            return;
        }
        match (self.roster.state(id), status.condition) {
            (Some(State::Starting { .. }), Condition::Ready) => {
                self.starts.reset_backoff();
                self.roster.set(now, id, State::Idle);
            }
            (Some(State::Idle), Condition::Starting) => {
                self.starting(now, id, State::Starting { was_ready: true });
            }
            (Some(State::Starting { .. } | State::Idle), Condition::Draining) => {
                self.stop(now, id);
            }
            // `free` looks at the status of a busy instance when its lease ends.
            _ => {}
        }
    }

    fn on_finished(&mut self, now: Instant, id: InstanceId, status: Status) {
        if let Some(State::Busy { next, .. }) = self.roster.state(id) {
            self.roster.note(id, status);
            self.free(now, id, next);
        }
    }

    fn on_not_started(&mut self, now: Instant, id: InstanceId, status: Option<Status>) {
        let Some(State::Busy { waiter, next }) = self.roster.state(id) else {
            return;
        };
        self.queue.put_back(waiter);
        let Some(status) = status else {
            return self.part(now, id, next);
        };
        let newest = self.roster.note(id, status) || self.roster.status(id) == Some(status);
        self.free(now, id, next);
        if newest && self.roster.state(id) == Some(State::Idle) {
            // It runs another gateway's invocation, and reports when it is free again.
            self.roster.share(id);
            self.starting(now, id, State::Starting { was_ready: true });
        }
    }

    /// The instance is not ready, and must be so in time.
    fn starting(&mut self, now: Instant, id: InstanceId, state: State) {
        let deadline = self.roster.change_deadline(now, id);
        self.roster.set_until(now, id, state, deadline);
    }

    /// A lease ended. The newest status of the instance decides what comes next.
    fn free(&mut self, now: Instant, id: InstanceId, next: AfterLease) {
        match self.roster.status(id).map(|status| status.condition) {
            _ if next != AfterLease::Serve => self.part(now, id, next),
            Some(Condition::Draining) => self.stop(now, id),
            Some(Condition::Starting) => {
                self.starting(now, id, State::Starting { was_ready: true });
            }
            Some(Condition::Ready) | None => self.roster.set(now, id, State::Idle),
        }
    }

    fn on_gone(&mut self, now: Instant, id: InstanceId, reason: Reason, failure: StartFailure) {
        if self.roster.remove(id) != Some(State::Starting { was_ready: false }) {
            return;
        }
        let longest_wait = self.queue.longest_wait(now);
        let is_reported = self.starts.fail(now, failure, reason.clone(), longest_wait);
        if is_reported && self.counts().live() == 0 {
            self.reject_all(&Rejection::CannotStart(reason));
        }
    }

    fn reject(&mut self, invocation: InvocationId, rejection: Rejection) {
        self.actions.push_back(Action::Reject {
            invocation,
            rejection,
        });
    }

    fn reject_all(&mut self, rejection: &Rejection) {
        while let Some(waiter) = self.queue.pop() {
            self.reject(waiter.invocation, rejection.clone());
        }
    }

    fn hand_over(&mut self, now: Instant) {
        self.is_elsewhere = true;
        self.reject_all(&Rejection::Moved);
        self.part_from_all(now, AfterLease::Release);
    }

    fn retire_all(&mut self, now: Instant) {
        // After a handover the new owner stops the instances that are still busy with calls from here.
        if !self.is_elsewhere {
            self.part_from_all(now, AfterLease::Stop);
        }
    }

    /// Stops or releases all instances; busy ones when their lease ends.
    fn part_from_all(&mut self, now: Instant, next: AfterLease) {
        for id in self.roster.ids() {
            match self.roster.state(id) {
                Some(State::Busy {
                    next: AfterLease::GiveUp,
                    ..
                }) => {}
                Some(State::Busy { waiter, .. }) => {
                    self.roster.set(now, id, State::Busy { waiter, next });
                }
                Some(State::Starting { .. } | State::Idle) => self.part(now, id, next),
                Some(State::Stopping) | None => {}
            }
        }
    }

    fn part(&mut self, now: Instant, instance: InstanceId, next: AfterLease) {
        match next {
            AfterLease::Serve | AfterLease::Stop => self.stop(now, instance),
            AfterLease::Release => {
                self.roster.set(now, instance, State::Stopping);
                self.actions.push_back(Action::Release { instance });
            }
            // It ends already.
            AfterLease::GiveUp => self.roster.set(now, instance, State::Stopping),
        }
    }

    /// Gives up the instances that have missed their deadlines.
    fn give_up_overdue(&mut self, now: Instant) {
        if self.roster.next_check().is_none_or(|at| at > now) {
            return;
        }
        for instance in self.roster.overdue(now) {
            if let Some(State::Busy { waiter, .. }) = self.roster.state(instance) {
                let next = AfterLease::GiveUp;
                self.roster.set(now, instance, State::Busy { waiter, next });
            }
            self.actions.push_back(Action::GiveUp { instance });
        }
    }

    /// Does everything that is due: rejects expired invocations, dispatches to idle instances, stops those
    /// that were idle too long, and starts missing ones.
    fn settle(&mut self, now: Instant) {
        if self.is_elsewhere {
            // An instance that did not start its invocation has put it back.
            self.reject_all(&Rejection::Moved);
        }
        while let Some(waiter) = self.queue.pop_expired(now) {
            let counts = self.counts();
            let rejection = match self.starts.last_failure() {
                Some(reason) => Rejection::CannotStart(reason.clone()),
                None if counts.live() == counts.starting && !self.is_out_of_budget() => {
                    Rejection::CannotStart(Reason::not_in_time())
                }
                None => Rejection::WaitedTooLong,
            };
            self.reject(waiter.invocation, rejection);
        }
        self.give_up_overdue(now);
        self.trim(now);
        while let Some((since, instance)) = self.roster.last_idle()
            && let Some(waiter) = self.queue.pop()
        {
            let next = AfterLease::Serve;
            let deadline = self.roster.lease_deadline(now, instance, since);
            self.roster
                .set_until(now, instance, State::Busy { waiter, next }, deadline);
            let invocation = waiter.invocation;
            self.actions.push_back(Action::Dispatch {
                invocation,
                instance,
            });
        }
        while self.idle_end().is_some_and(|at| at <= now)
            && let Some((_, instance)) = self.roster.longest_idle()
        {
            self.stop(now, instance);
        }
        self.yield_idle(now);
        while self.may_start() && self.starts.next_start().is_none_or(|at| at <= now) {
            self.start(now);
        }
        let usage = Usage {
            live: self.counts().live(),
            lacking: match self.lacks_instances() {
                true => self.wanted() - self.counts().live(),
                false => 0,
            },
            spare: self.spare(),
        };
        self.share.report(usage);
    }

    /// Stops idle instances that this pool need not keep and other pools of the function lack.
    fn yield_idle(&mut self, now: Instant) {
        for _ in 0..self.share.owed(self.spare()) {
            if let Some((_, instance)) = self.roster.longest_idle() {
                self.stop(now, instance);
            }
        }
    }

    /// How many idle instances are not provisioned.
    fn spare(&self) -> usize {
        let counts = self.counts();
        let provisioned = self.settings.provisioned.min(self.settings.limit);
        counts.idle.min(counts.live().saturating_sub(provisioned))
    }

    /// After the limit was lowered: stops surplus instances that are not busy at once, and busy ones as
    /// their leases end.
    fn trim(&mut self, now: Instant) {
        while !self.is_elsewhere
            && self.share.excess(self.counts().live()) > 0
            && let Some(instance) = self.roster.least_needed()
        {
            self.stop(now, instance);
        }
    }

    fn idle_end(&self) -> Option<Instant> {
        let (since, _) = self.roster.longest_idle()?;
        let is_spare = self.counts().live() > self.settings.provisioned.min(self.settings.limit);
        is_spare.then(|| since + self.settings.keep_alive)
    }

    fn lacks_instances(&self) -> bool {
        !self.is_deleted && !self.is_elsewhere && self.counts().live() < self.wanted()
    }

    /// Whether the pool lacks instances and the function's budget has room for one.
    fn may_start(&self) -> bool {
        self.lacks_instances() && !self.is_out_of_budget()
    }

    /// Whether other pools of the function have the rest of the limit.
    fn is_out_of_budget(&self) -> bool {
        let live = self.counts().live();
        live < self.settings.limit && self.share.room(live) == 0
    }

    fn start(&mut self, now: Instant) {
        self.starts.begin(now);
        let instance = self.roster.add(self.settings.timeout);
        self.actions.push_back(Action::Start { instance });
    }

    fn stop(&mut self, now: Instant, instance: InstanceId) {
        let deadline = self.roster.change_deadline(now, instance);
        self.roster
            .set_until(now, instance, State::Stopping, deadline);
        self.actions.push_back(Action::Stop { instance });
    }
}
