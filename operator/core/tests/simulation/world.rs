//! The simulated world of one pool: a gateway, instances with their runtime processes, messages with delays,
//! and faults, all from one seed and in virtual time.
//!
//! `function` runs the worlds of a function's pools together. A world reports to `oracle` what an outsider
//! would see. The pool (`gateway`) and the machines (`instances`) are the real ones; a runtime process
//! behaves at random.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::{Duration, Instant};

use fastrand::Rng;
use pilotlight_core::instance::{self, Status};
use pilotlight_core::invoke::budget::{Budget, ShareId};
use pilotlight_core::invoke::deadline::{CONFIRM_OVERDUE, OVERDUE_SLACK};
use pilotlight_core::invoke::pool::{self, Bounds, InstanceId, Pacing, Pool, Settings};
use pilotlight_core::invoke::queue::InvocationId;

use crate::answers;
use crate::faults::{Broken, Tampering};
use crate::happening::{Happening, condition};
use crate::oracle::{Finding, Oracle};
use crate::summary::Summary;
use crate::supervisor::SimInstance;

/// Invocations of another gateway that leases the same instances.
pub(crate) const FOREIGN: u64 = 1 << 40;

/// What the other pools of the function have and want, before an event of this world.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Others {
    pub(crate) live: usize,
    pub(crate) lacking: usize,
}

pub(crate) struct World {
    pub(crate) rng: Rng,
    share: ShareId,
    trace: bool,
    pub(crate) now: Instant,
    started_at: Instant,
    agenda: BinaryHeap<Reverse<(Instant, u64, Happening)>>,
    sequence: u64,
    pub(crate) settings: Settings,
    pub(crate) pool: Pool,
    pub(crate) pool_wake: Option<Instant>,
    /// The wake-up that the pool wanted after its last event.
    pub(crate) wanted_wakeup: Option<Instant>,
    /// By the name under which they started.
    pub(crate) instances: BTreeMap<InstanceId, SimInstance>,
    /// For each name that the pool uses, since the start or the adoption: the name under which the instance
    /// started.
    pub(crate) links: BTreeMap<InstanceId, InstanceId>,
    /// Instances whose supervisor was stopped, until the gateway has given them up.
    pub(crate) stopped: BTreeSet<InstanceId>,
    /// Instances whose supervisor is starting.
    pub(crate) booting: BTreeSet<InstanceId>,
    /// Invocations that were sent to an instance and not answered yet.
    pub(crate) leased: BTreeMap<InstanceId, u64>,
    /// When each lease was sent.
    pub(crate) leased_at: BTreeMap<InstanceId, Instant>,
    next_invocation: u64,
    pub(crate) quiet: bool,
    pub(crate) deleted: bool,
    pub(crate) away: bool,
    /// The revision of the function.
    pub(crate) revision: u64,
    /// The revision of each instance.
    pub(crate) made_of: BTreeMap<InstanceId, u64>,
    pub(crate) others: Others,
    pub(crate) tampering: Tampering,
    pub(crate) oracle: Oracle,
    pub(crate) summary: Summary,
}

pub(crate) fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(crate) fn draw_settings(rng: &mut Rng) -> Settings {
    Settings {
        limit: rng.usize(0..8).max(rng.usize(0..2)),
        queue: rng.usize(0..6),
        timeout: Duration::ZERO,
        keep_alive: millis(rng.u64(1..20_000)),
        provisioned: rng.usize(0..5).saturating_sub(2),
    }
}

impl World {
    /// `limit`: that of the other pools of the function; `None` for its first one.
    pub(crate) fn new(
        seed: u64,
        (budget, share): (&Budget, ShareId),
        limit: Option<usize>,
        now: Instant,
        broken: Option<Broken>,
        trace: bool,
    ) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut settings = draw_settings(&mut rng);
        settings.limit = limit.unwrap_or(settings.limit);
        settings.timeout = millis(rng.u64(100..15_000));
        let bounds = Bounds {
            queue_bytes: rng.usize(500..5_000),
            queue_wait: millis(rng.u64(50..30_000)),
            pacing: Pacing {
                burst: rng.u32(1..6),
                interval: millis(rng.u64(1..500)),
            },
        };
        let tampering = Tampering::new(seed, broken);
        let mut world = World {
            share,
            trace,
            now,
            started_at: now,
            agenda: BinaryHeap::new(),
            sequence: 0,
            settings,
            pool: Pool::new(tampering.settings(settings), bounds, budget.share(share)),
            pool_wake: None,
            wanted_wakeup: None,
            instances: BTreeMap::new(),
            links: BTreeMap::new(),
            stopped: BTreeSet::new(),
            booting: BTreeSet::new(),
            leased: BTreeMap::new(),
            leased_at: BTreeMap::new(),
            next_invocation: 0,
            quiet: false,
            deleted: false,
            away: false,
            revision: 0,
            made_of: BTreeMap::new(),
            others: Others::default(),
            tampering,
            oracle: Oracle::new(now, settings, trace),
            summary: Summary::default(),
            rng,
        };
        world.after(Duration::ZERO, Happening::Arrival);
        world
    }

    /// When the next event happens.
    pub(crate) fn next_event(&self) -> Option<Instant> {
        self.agenda.peek().map(|Reverse((at, ..))| *at)
    }

    /// Moves the clock on.
    pub(crate) fn advance(&mut self, now: Instant) {
        self.now = now;
        self.oracle.step(now);
    }

    /// Lets the next event happen, and returns it. [`World::settle`] follows.
    pub(crate) fn step(&mut self) -> Option<Happening> {
        let Reverse((_, _, happening)) = self.agenda.pop()?;
        self.summary.events += 1;
        if self.trace {
            let at = self.now - self.started_at;
            println!("{at:>12?} {}: {happening:?}", self.share.0);
        }
        self.happen(happening.clone());
        Some(happening)
    }

    /// Ends a step, after all that followed from it in the other worlds.
    pub(crate) fn settle(&mut self) {
        let leased = self.leased.len();
        self.oracle.after_step(&self.pool, self.settings, leased);
        self.check_leases();
        self.schedule_pool_wake();
    }

    /// No call waits longer for an instance than the instance and the one before it may run, and the gateway's slack.
    fn check_leases(&mut self) {
        let longest = 2 * self.settings.timeout + OVERDUE_SLACK + CONFIRM_OVERDUE + millis(10);
        let leased = &self.leased;
        self.leased_at.retain(|name, _| leased.contains_key(name));
        let is_overdue = |at: &Instant| self.now - *at > longest;
        let overdue = self.leased_at.iter().filter(|(_, at)| is_overdue(at));
        let overdue: Vec<_> = overdue.map(|(name, _)| *name).collect();
        for instance in overdue {
            self.leased_at.remove(&instance);
            self.oracle.find(Finding::Overdue { instance });
        }
    }

    /// Another pool of the function has changed.
    pub(crate) fn wake_for_budget(&mut self) {
        self.pool.wake(self.now);
        self.pool_acts();
    }

    /// How many instances the pool wants and has not.
    pub(crate) fn lacking(&self) -> usize {
        if self.deleted || self.away {
            return 0;
        }
        let load = self.oracle.waiting() + self.leased.len();
        let wanted = load.max(self.settings.provisioned);
        wanted
            .min(self.settings.limit)
            .saturating_sub(self.oracle.live())
    }

    /// How many idle instances the pool need not keep.
    pub(crate) fn spare(&self) -> usize {
        let kept = self.settings.provisioned.min(self.settings.limit);
        let surplus = self.oracle.live().saturating_sub(kept);
        self.pool.counts().idle.min(surplus)
    }

    /// Whether the pool would act before the time at which it is going to be woken.
    pub(crate) fn oversleeps(&self) -> bool {
        let wanted = self.pool.next_wakeup();
        wanted.is_some_and(|wanted| self.wanted_wakeup.is_none_or(|at| wanted < at))
    }

    /// No event follows. Returns the broken rules.
    pub(crate) fn end(mut self) -> (Summary, Vec<Finding>) {
        self.leave();
        (self.summary, self.oracle.findings(&self.pool))
    }

    /// Reports everything that still exists.
    fn leave(&mut self) {
        for id in self.instances.keys().chain(&self.booting) {
            self.oracle.left(format!("an instance: {id:?}"));
        }
        for (name, invocation) in &self.leased {
            let what = format!("a lease: {name:?}'s of {invocation}");
            self.oracle.left(what);
        }
        for name in self.links.keys() {
            self.oracle.left(format!("a connection: {name:?}'s"));
        }
    }

    pub(crate) fn after(&mut self, delay: Duration, happening: Happening) {
        self.sequence += 1;
        self.agenda
            .push(Reverse((self.now + delay, self.sequence, happening)));
    }

    /// A message takes up to 5 ms, and may overtake another.
    pub(crate) fn send(&mut self, happening: Happening) {
        let delay = Duration::from_micros(self.rng.u64(0..5_000));
        self.after(delay, happening);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Arrival => self.arrival(),
            Happening::ForeignLease => self.foreign_lease(),
            Happening::SupervisorCrash => self.supervisor_crash(),
            Happening::SupervisorStop => self.supervisor_stop(),
            Happening::Replace => self.replace(),
            Happening::Configure => {
                let settings = self.other_settings();
                self.configure(settings);
            }
            Happening::Delete => self.delete(),
            Happening::HandOver => {
                if self.hand_over() {
                    let delay = millis(self.rng.u64(0..5_000));
                    self.after(delay, Happening::TakeOver);
                }
            }
            Happening::TakeOver => self.take_over(),
            Happening::PoolWake if self.tampering.strikes(Broken::WakeForgotten) => {}
            Happening::PoolWake => {
                self.pool_wake = None;
                self.pool.wake(self.now);
                self.pool_acts();
            }
            Happening::Boot(id) if self.booting.remove(&id) => self.boot(id),
            Happening::Boot(_) => {}
            Happening::StartFails(id) => self.link_ends(id, "image cannot be pulled"),
            Happening::StartRefused(id) => {
                if self.unlink(id) {
                    self.pool_handles(pool::Event::Refused {
                        instance: id,
                        reason: "exceeded quota".into(),
                    });
                }
            }
            Happening::MachineWake(id) => self.machine_wakes(id),
            Happening::LeaseArrives(id, invocation) => self.lease_arrives(id, invocation),
            Happening::StopArrives(id) => self.stop_arrives(id),
            Happening::Runtime(id, process, step) => self.runtime_step(id, process, step),
            Happening::UpArrives(id) => self.pool_handles(pool::Event::Up { instance: id }),
            Happening::StatusArrives(id, epoch, code) => {
                let status = Status {
                    epoch,
                    condition: condition(code),
                };
                self.pool_handles(pool::Event::StatusReported {
                    instance: id,
                    status,
                });
            }
            Happening::AnswerArrives(id, invocation, answer, epoch, code) => {
                let condition = condition(code);
                self.answer_arrives(id, invocation, answer, Status { epoch, condition });
            }
            Happening::NotStartedArrives(id, status) => {
                let status = status.map(|(epoch, code)| Status {
                    epoch,
                    condition: condition(code),
                });
                self.not_started_arrives(id, status);
            }
            Happening::GoneArrives(id) => self.gone_arrives(id),
            Happening::Released(id) => {
                self.link_ends(id, "another gateway has it");
                self.end_outdated();
            }
        }
    }

    fn arrival(&mut self) {
        if self.quiet {
            return;
        }
        for _ in 0..if self.rng.u8(..) < 30 {
            self.rng.u32(2..12)
        } else {
            1
        } {
            let invocation = InvocationId(self.next_invocation);
            self.next_invocation += 1;
            self.summary.arrivals += 1;
            self.oracle.arrived(invocation);
            let bytes = self.rng.usize(0..1_000);
            self.pool_handles(pool::Event::Arrived { invocation, bytes });
        }
        let pause = match self.rng.u8(..) {
            0..200 => self.rng.u64(0..300),
            200..245 => self.rng.u64(300..4_000),
            _ => self.rng.u64(4_000..60_000),
        };
        self.after(millis(pause), Happening::Arrival);
        match self.rng.u16(..) % 200 {
            0..3 => self.send(Happening::SupervisorCrash),
            3..6 => self.send(Happening::ForeignLease),
            6 => self.send(Happening::Replace),
            7 if self.rng.u8(..) < 30 => self.send(Happening::Delete),
            9 => self.send(Happening::Configure),
            8 if !self.away => self.send(Happening::HandOver),
            10 => self.send(Happening::SupervisorStop),
            _ => {}
        }
    }

    fn any_instance(&mut self) -> Option<InstanceId> {
        let ids: Vec<_> = self.instances.keys().copied().collect();
        self.rng.choice(ids)
    }

    fn foreign_lease(&mut self) {
        if let Some(id) = self.any_instance() {
            let invocation = FOREIGN + self.next_invocation;
            self.next_invocation += 1;
            self.oracle.arrived_elsewhere(InvocationId(invocation));
            self.lease_arrives(id, invocation);
        }
    }

    fn supervisor_crash(&mut self) {
        if let Some(id) = self.any_instance() {
            self.summary.crashed += 1;
            self.instance_ends(id);
        }
    }

    /// From now on the supervisor does nothing, and its connections stay open.
    fn supervisor_stop(&mut self) {
        let Some(id) = self.any_instance() else {
            return;
        };
        self.summary.stopped_supervisors += 1;
        self.stopped.insert(id);
        for name in self.names_of(id) {
            self.oracle.breaks(name);
        }
        self.oracle.gone(id);
        self.lose(id);
    }

    /// The supervisor answers nobody any more.
    fn lose(&mut self, id: InstanceId) {
        let ended = self.instances.remove(&id);
        if let Some(foreign) = ended.and_then(|instance| instance.foreign) {
            // The other gateway's connection breaks too, or it gives the instance up.
            self.oracle.breaks(id);
            self.oracle
                .answered(InvocationId(foreign), answers::may_have_run());
            self.oracle.broke(id);
        }
    }

    pub(crate) fn instance_ends(&mut self, id: InstanceId) {
        self.oracle.gone(id);
        self.lose(id);
        self.send_gone(id);
    }

    /// A connection breaks after all that was sent on it has arrived.
    pub(crate) fn send_gone(&mut self, id: InstanceId) {
        for name in self.names_of(id) {
            self.oracle.breaks(name);
            self.after(millis(5), Happening::GoneArrives(name));
        }
    }

    fn stop_arrives(&mut self, name: InstanceId) {
        let id = self.started_as(name);
        if self.booting.remove(&id) {
            return self.send_gone(id);
        }
        self.machine_handles(id, instance::Event::Drain);
    }
}
