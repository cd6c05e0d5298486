//! One function's queue and instances, as its owner gateway sees them.
//!
//! Owns admission, dispatch, scaling by concurrency and by idle time, and what is tried again
//! (rules 2, 5, 7). Fed by the gateway's driver; `queue` holds the waiters, `instance` is the
//! other end of a lease. Never knows payloads, addresses or how an instance is started.
//!
//! wanted = in flight + queued, or what is provisioned if that is more; at most the limit.
//! Instances start while fewer live than wanted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::instance::{Condition, Status};
use crate::invoke::queue::{InvocationId, Queue};
use crate::invoke::roster::{Roster, State, Then};
use crate::invoke::starts::{StartFailure, Starts};

pub use crate::invoke::roster::{Counts, InstanceId};

/// What a function's manifest and the gateway's configuration ask of its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Instances at most: one event each.
    pub limit: usize,
    /// Invocations that may wait although the limit is reached.
    pub queue: usize,
    /// How long an instance stays warm after its last event.
    pub keep_alive: Duration,
    /// Instances that are up, whatever the load and however long they have been idle.
    pub provisioned: usize,
}

/// What one gateway bounds for each function alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Payloads held in one function's queue, in bytes.
    pub queue_bytes: usize,
    /// From arrival to an instance.
    pub queue_wait: Duration,
    pub pacing: Pacing,
}

/// How fast instances may be started: the model's 1,000 in 10 s per function (contract §7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pacing {
    /// Starts at once after a quiet time.
    pub burst: u32,
    /// Between two further starts.
    pub interval: Duration,
}

impl Default for Pacing {
    fn default() -> Self {
        Pacing {
            burst: 1000,
            interval: Duration::from_millis(10),
        }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Arrived {
        invocation: InvocationId,
        bytes: usize,
    },
    /// The caller of a queued invocation has gone.
    Abandoned { invocation: InvocationId },
    /// An instance told its condition, by its stream or with an answer.
    Told {
        instance: InstanceId,
        status: Status,
    },
    /// A dispatched invocation was answered; `status` as told with the answer.
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
        reason: Arc<str>,
    },
    /// The instance was not made: whoever makes them refuses at present, and paces its own attempts.
    Refused {
        instance: InstanceId,
        reason: Arc<str>,
    },
    /// The function has a new manifest: its instances are replaced.
    Replaced { settings: Settings },
    /// The function has a new manifest, and its instances may stay.
    Configured { settings: Settings },
    /// The function is deleted.
    Deleted,
    /// Another gateway owns the function from now on, and has its instances (rule 3).
    HandedOver,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Start {
        instance: InstanceId,
    },
    /// Drain it, then end it.
    Stop {
        instance: InstanceId,
    },
    /// Have no more to do with it; it lives on.
    Release {
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

/// Why an invocation never started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// All instances that the limit allows are busy, and the queue is full.
    Throttled,
    /// The payloads in the queue are too many bytes.
    QueueBytes,
    /// It waited as long as it may.
    WaitedTooLong,
    /// No instance can be started, for this reason.
    CannotStart(Arc<str>),
    /// The function was deleted.
    Deleted,
    /// Another gateway owns the function: ask that one.
    Moved,
}

/// To a caller who is to know that no limit is the reason.
const NONE_CAME_UP: &str = "no instance came up as long as the call may wait";

/// One function's pool. See the module's text.
#[derive(Debug)]
pub struct Pool {
    settings: Settings,
    queue: Queue,
    roster: Roster,
    starts: Starts,
    deleted: bool,
    /// Another gateway owns the function.
    away: bool,
    actions: VecDeque<Action>,
}

impl Pool {
    pub fn new(settings: Settings, bounds: Bounds) -> Self {
        Pool {
            settings,
            queue: Queue::new(bounds.queue_bytes, bounds.queue_wait),
            roster: Roster::default(),
            starts: Starts::new(bounds.pacing),
            deleted: false,
            away: false,
            actions: VecDeque::new(),
        }
    }

    /// Takes in what happened; what follows from it is in [`Pool::poll_action`].
    pub fn handle(&mut self, now: Instant, event: Event) {
        match event {
            Event::Arrived { invocation, bytes } => self.admit(now, invocation, bytes),
            Event::Abandoned { invocation } => {
                self.queue.remove(invocation);
            }
            Event::Told { instance, status } => self.on_told(now, instance, status),
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
                self.deleted = true;
                self.reject_all(&Rejection::Deleted);
                self.retire_all(now);
            }
            Event::HandedOver => self.hand_over(now),
        }
        self.settle(now);
    }

    /// Time has passed.
    pub fn wake(&mut self, now: Instant) {
        self.settle(now);
    }

    /// This gateway owns the function from now on; what lives of it is told by [`Pool::adopt`].
    pub fn take_over(&mut self) {
        self.away = false;
        self.starts.reset_backoff();
    }

    /// Keeps an instance that was to be released when its lease ends; false if there is none such.
    pub fn keep(&mut self, now: Instant, instance: InstanceId) -> bool {
        let Some(State::Busy { waiter, .. }) = self.roster.state(instance) else {
            return false;
        };
        let then = Then::Serve;
        self.roster.set(now, instance, State::Busy { waiter, then });
        true
    }

    /// Takes on an instance that lives already, of an owner before this one. It tells its
    /// condition as any other; until then nothing is known of it, and its end is no failed start.
    pub fn adopt(&mut self, now: Instant) -> InstanceId {
        let instance = self.roster.add();
        self.roster
            .set(now, instance, State::Starting { was_ready: true });
        if self.deleted {
            self.stop(now, instance);
        }
        instance
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Pool::wake`] is due, if nothing happens before.
    pub fn next_wakeup(&self) -> Option<Instant> {
        let next_start = if self.lacks_instances() {
            self.starts.next_start()
        } else {
            None
        };
        [self.idle_end(), next_start, self.queue.next_expiry()]
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

    /// Instances that are to live: see the module's text.
    pub fn wanted(&self) -> usize {
        let wanted = self.load().max(self.settings.provisioned);
        wanted.min(self.settings.limit)
    }

    /// Deleted, and its last instance gone.
    pub fn is_over(&self) -> bool {
        self.deleted && self.roster.is_empty()
    }

    fn load(&self) -> usize {
        self.counts().busy + self.queue.len()
    }

    fn configure(&mut self, settings: Settings) {
        self.settings = settings;
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
        if self.deleted {
            return Some(Rejection::Deleted);
        }
        if self.away {
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

    fn on_told(&mut self, now: Instant, id: InstanceId, status: Status) {
        if !self.roster.note(id, status) {
            return;
        }
        match (self.roster.state(id), status.condition) {
            (Some(State::Starting { .. }), Condition::Ready) => {
                self.starts.reset_backoff();
                self.roster.set(now, id, State::Idle);
            }
            (Some(State::Idle), Condition::Starting) => {
                self.roster
                    .set(now, id, State::Starting { was_ready: true });
            }
            (Some(State::Starting { .. } | State::Idle), Condition::Draining) => {
                self.stop(now, id);
            }
            // A busy one is looked at when its lease ends.
            _ => {}
        }
    }

    fn on_finished(&mut self, now: Instant, id: InstanceId, status: Status) {
        if let Some(State::Busy { then, .. }) = self.roster.state(id) {
            self.roster.note(id, status);
            self.free(now, id, then);
        }
    }

    fn on_not_started(&mut self, now: Instant, id: InstanceId, status: Option<Status>) {
        let Some(State::Busy { waiter, then }) = self.roster.state(id) else {
            return;
        };
        self.queue.put_back(waiter);
        let Some(status) = status else {
            return self.part(now, id, then);
        };
        let newest = self.roster.note(id, status) || self.roster.status(id) == Some(status);
        self.free(now, id, then);
        if newest && self.roster.state(id) == Some(State::Idle) {
            // It runs another gateway's invocation, and tells when it is free again.
            self.roster
                .set(now, id, State::Starting { was_ready: true });
        }
    }

    /// A lease ended: what comes next follows from the newest condition that it told.
    fn free(&mut self, now: Instant, id: InstanceId, then: Then) {
        match self.roster.status(id).map(|status| status.condition) {
            _ if then != Then::Serve => self.part(now, id, then),
            Some(Condition::Draining) => self.stop(now, id),
            Some(Condition::Starting) => {
                self.roster
                    .set(now, id, State::Starting { was_ready: true });
            }
            Some(Condition::Ready) | None => self.roster.set(now, id, State::Idle),
        }
    }

    fn on_gone(&mut self, now: Instant, id: InstanceId, reason: Arc<str>, failure: StartFailure) {
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
        self.away = true;
        self.reject_all(&Rejection::Moved);
        self.part_from_all(now, Then::Release);
    }

    fn retire_all(&mut self, now: Instant) {
        // Those that are still busy here after a hand-over are the other gateway's to stop.
        if !self.away {
            self.part_from_all(now, Then::Stop);
        }
    }

    fn part_from_all(&mut self, now: Instant, then: Then) {
        for id in self.roster.ids() {
            match self.roster.state(id) {
                Some(State::Busy { waiter, .. }) => {
                    self.roster.set(now, id, State::Busy { waiter, then });
                }
                Some(State::Starting { .. } | State::Idle) => self.part(now, id, then),
                Some(State::Stopping) | None => {}
            }
        }
    }

    fn part(&mut self, now: Instant, instance: InstanceId, then: Then) {
        match then {
            Then::Serve | Then::Stop => self.stop(now, instance),
            Then::Release => {
                self.roster.set(now, instance, State::Stopping);
                self.actions.push_back(Action::Release { instance });
            }
        }
    }

    /// Brings everything to rest: expired waiters out, idle instances to waiters, those idle too
    /// long on their way down, missing ones on their way up.
    fn settle(&mut self, now: Instant) {
        if self.away {
            // Put back by an instance that did not start it.
            self.reject_all(&Rejection::Moved);
        }
        while let Some(waiter) = self.queue.pop_expired(now) {
            let counts = self.counts();
            let rejection = match self.starts.last_failure() {
                Some(reason) => Rejection::CannotStart(reason.clone()),
                None if counts.live() == counts.starting => {
                    Rejection::CannotStart(Arc::from(NONE_CAME_UP))
                }
                None => Rejection::WaitedTooLong,
            };
            self.reject(waiter.invocation, rejection);
        }
        self.trim(now);
        while let Some(instance) = self.roster.last_idle()
            && let Some(waiter) = self.queue.pop()
        {
            self.roster.set(
                now,
                instance,
                State::Busy {
                    waiter,
                    then: Then::Serve,
                },
            );
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
        while self.lacks_instances() && self.starts.next_start().is_none_or(|at| at <= now) {
            self.start(now);
        }
    }

    /// Under a limit that was lowered: what is not busy goes at once, what is after its lease.
    fn trim(&mut self, now: Instant) {
        while !self.away
            && self.counts().live() > self.settings.limit
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
        !self.deleted && !self.away && self.counts().live() < self.wanted()
    }

    fn start(&mut self, now: Instant) {
        self.starts.begin(now);
        let instance = self.roster.add();
        self.actions.push_back(Action::Start { instance });
    }

    fn stop(&mut self, now: Instant, instance: InstanceId) {
        self.roster.set(now, instance, State::Stopping);
        self.actions.push_back(Action::Stop { instance });
    }
}
