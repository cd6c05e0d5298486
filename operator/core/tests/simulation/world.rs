//! The simulated world: a gateway's pool, instances with their runtime processes, messages with delays,
//! and faults, all from one seed and in virtual time.
//!
//! Reports to `oracle` what an outsider would see. The pool (`gateway`) and the machines (`instances`) are
//! the real ones; a runtime process behaves at random.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use pilotlight_core::instance::{self, Condition, Status};
use pilotlight_core::invoke::budget::{Budget, ShareId};
use pilotlight_core::invoke::pool::{self, Bounds, InstanceId, Pacing, Pool, Settings};
use pilotlight_core::invoke::queue::InvocationId;

use crate::answers::{self, Answer};
use crate::broken::{Broken, Tampering};
use crate::instances::{SimInstance, Step};
use crate::oracle::{Finding, Oracle};
use crate::summary::Summary;

/// Invocations of another gateway that leases the same instances.
pub(crate) const FOREIGN: u64 = 1 << 40;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Happening {
    Arrival,
    ForeignLease,
    SupervisorCrash,
    Replace,
    /// Other settings, which need no new instances.
    Configure,
    Delete,
    /// Another gateway becomes the owner of the function, and later this one again.
    HandOver,
    TakeOver,
    PoolWake,
    /// A supervisor is up.
    Boot(InstanceId),
    /// A supervisor could not be started.
    StartFails(InstanceId),
    /// The creator of instances refuses.
    StartRefused(InstanceId),
    MachineWake(InstanceId),
    LeaseArrives(InstanceId, u64),
    StopArrives(InstanceId),
    /// The runtime process of this number takes its next step.
    Runtime(InstanceId, u32, Step),
    StatusArrives(InstanceId, u64, u8),
    AnswerArrives(InstanceId, u64, Answer, u64, u8),
    NotStartedArrives(InstanceId, Option<(u64, u8)>),
    /// The gateway notices that the instance is gone.
    GoneArrives(InstanceId),
    /// The gateway has closed its connections to the instance.
    Released(InstanceId),
}

pub(crate) struct World {
    pub(crate) rng: Rng,
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
    /// Instances whose supervisor is starting.
    pub(crate) booting: BTreeSet<InstanceId>,
    /// Invocations that were sent to an instance and not answered yet.
    pub(crate) leased: BTreeMap<InstanceId, u64>,
    pub(crate) timeout: Duration,
    next_invocation: u64,
    quiet: bool,
    deleted: bool,
    away: bool,
    /// The revision of the function.
    pub(crate) revision: u64,
    /// The revision of each instance.
    pub(crate) made_of: BTreeMap<InstanceId, u64>,
    pub(crate) tampering: Tampering,
    pub(crate) oracle: Oracle,
    pub(crate) summary: Summary,
}

pub(crate) fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn draw_settings(rng: &mut Rng) -> Settings {
    Settings {
        limit: rng.usize(0..8).max(rng.usize(0..2)),
        queue: rng.usize(0..6),
        keep_alive: millis(rng.u64(1..20_000)),
        provisioned: rng.usize(0..5).saturating_sub(2),
    }
}

fn condition(code: u8) -> Condition {
    [Condition::Starting, Condition::Ready, Condition::Draining][code as usize]
}

pub(crate) fn code(condition: Condition) -> u8 {
    match condition {
        Condition::Starting => 0,
        Condition::Ready => 1,
        Condition::Draining => 2,
    }
}

impl World {
    pub(crate) fn new(seed: u64, broken: Option<Broken>, trace: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let settings = draw_settings(&mut rng);
        let bounds = Bounds {
            queue_bytes: rng.usize(500..5_000),
            queue_wait: millis(rng.u64(50..30_000)),
            pacing: Pacing {
                burst: rng.u32(1..6),
                interval: millis(rng.u64(1..500)),
            },
        };
        let now = Instant::now();
        let tampering = Tampering::new(seed, broken);
        World {
            trace,
            now,
            started_at: now,
            agenda: BinaryHeap::new(),
            sequence: 0,
            settings,
            pool: Pool::new(
                tampering.settings(settings),
                bounds,
                Budget::default().share(ShareId(0)),
            ),
            pool_wake: None,
            wanted_wakeup: None,
            instances: BTreeMap::new(),
            links: BTreeMap::new(),
            booting: BTreeSet::new(),
            leased: BTreeMap::new(),
            timeout: millis(rng.u64(100..15_000)),
            next_invocation: 0,
            quiet: false,
            deleted: false,
            away: false,
            revision: 0,
            made_of: BTreeMap::new(),
            tampering,
            oracle: Oracle::new(now, settings, trace),
            summary: Summary::default(),
            rng,
        }
    }

    /// Runs this number of events, then lets the world come to rest. Returns the broken rules.
    pub(crate) fn run(mut self, events: usize) -> (Summary, Vec<Finding>) {
        self.after(Duration::ZERO, Happening::Arrival);
        while let Some(Reverse((at, _, happening))) = self.agenda.pop() {
            if !self.quiet && self.summary.events >= events {
                self.come_to_rest();
            }
            if self.summary.events >= events * 20 {
                self.oracle.never_rests();
                return (self.summary, self.oracle.findings(&self.pool));
            }
            self.now = at;
            self.oracle.step(at);
            self.summary.events += 1;
            if self.trace {
                println!("{:>12?} {happening:?}", at - self.started_at);
            }
            self.happen(happening);
            let leased = self.leased.len();
            self.oracle.after_step(&self.pool, self.settings, leased);
            self.schedule_pool_wake();
        }
        self.leave();
        (self.summary, self.oracle.findings(&self.pool))
    }

    /// No event follows: reports everything that still exists.
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
            Happening::Replace => self.replace(),
            Happening::Configure => {
                let settings = self.other_settings();
                self.configure(settings);
            }
            Happening::Delete => self.delete(),
            Happening::HandOver => self.hand_over(),
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
                        reason: Arc::from("exceeded quota"),
                    });
                }
            }
            Happening::MachineWake(id) => self.machine_wakes(id),
            Happening::LeaseArrives(id, invocation) => self.lease_arrives(id, invocation),
            Happening::StopArrives(id) => self.stop_arrives(id),
            Happening::Runtime(id, process, step) => self.runtime_step(id, process, step),
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

    pub(crate) fn instance_ends(&mut self, id: InstanceId) {
        self.oracle.gone(id);
        let ended = self.instances.remove(&id);
        if let Some(foreign) = ended.and_then(|instance| instance.foreign) {
            // The other gateway's connection breaks too.
            self.oracle.breaks(id);
            self.oracle
                .answered(InvocationId(foreign), answers::may_have_run());
            self.oracle.broke(id);
        }
        self.send_gone(id);
    }

    /// A connection breaks after all that was sent on it has arrived.
    fn send_gone(&mut self, id: InstanceId) {
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

    fn hand_over(&mut self) {
        if self.away || self.deleted {
            return;
        }
        self.summary.handed_over += 1;
        self.away = true;
        self.oracle.handed_over();
        self.pool_handles(pool::Event::HandedOver);
        let delay = millis(self.rng.u64(0..5_000));
        self.after(delay, Happening::TakeOver);
    }

    fn take_over(&mut self) {
        self.away = false;
        self.oracle.taken_over();
        if self.deleted {
            return;
        }
        self.pool.take_over();
        let living: Vec<_> = self
            .instances
            .keys()
            .chain(&self.booting)
            .copied()
            .collect();
        for id in living {
            let is_draining = self
                .instances
                .get(&id)
                .is_some_and(SimInstance::is_draining);
            if is_draining || self.is_outdated(id) {
                continue;
            }
            let mut names = self.names_of(id).into_iter();
            if names.any(|name| self.pool.keep(self.now, name)) {
                self.summary.kept += 1;
                continue;
            }
            self.summary.adopted += 1;
            let name = self.pool.adopt(self.now);
            self.links.insert(name, id);
            self.oracle.adopted(name);
            if let Some(instance) = self.instances.get(&id) {
                let (epoch, code) = instance.reported_status();
                self.send(Happening::StatusArrives(name, epoch, code));
            }
        }
        if self.oracle.live() > self.settings.limit {
            // The limit was lowered meanwhile.
            self.excuse_all();
        }
        self.pool.wake(self.now);
        self.pool_acts();
    }

    /// The other gateway stops the instances that a change of the function makes outdated.
    fn retire_elsewhere(&mut self) {
        if self.away {
            self.booting.clear();
            let living: Vec<_> = self.instances.keys().copied().collect();
            for id in living {
                self.machine_handles(id, instance::Event::Drain);
            }
        }
    }

    /// The controller stops outdated instances that were handed over and not adopted.
    fn end_outdated(&mut self) {
        let made: Vec<_> = self.made_of.keys().copied().collect();
        for id in made {
            if self.is_outdated(id) && self.names_of(id).is_empty() {
                self.booting.remove(&id);
                self.machine_handles(id, instance::Event::Drain);
            }
        }
    }

    fn is_outdated(&self, id: InstanceId) -> bool {
        self.made_of[&id] < self.revision
    }

    fn replace(&mut self) {
        self.summary.replaced += 1;
        self.revision += 1;
        self.settings = self.other_settings();
        self.excuse_all();
        self.oracle.replaced(self.settings);
        self.pool_handles(pool::Event::Replaced {
            settings: self.tampering.settings(self.settings),
        });
        self.retire_elsewhere();
    }

    fn other_settings(&mut self) -> Settings {
        let mut settings = draw_settings(&mut self.rng);
        if self.quiet {
            settings.provisioned = 0;
        }
        settings
    }

    fn configure(&mut self, settings: Settings) {
        self.summary.configured += 1;
        self.settings = settings;
        // Instances that were idle for long may be surplus now.
        self.excuse_all();
        self.oracle.replaced(settings);
        let settings = self.tampering.settings(settings);
        self.pool_handles(pool::Event::Configured { settings });
    }

    /// From now on no call arrives and no instance is provisioned, so that all instances end.
    fn come_to_rest(&mut self) {
        self.quiet = true;
        self.configure(Settings {
            provisioned: 0,
            ..self.settings
        });
    }

    fn delete(&mut self) {
        self.summary.deleted += 1;
        self.deleted = true;
        self.excuse_all();
        self.oracle.deleted();
        self.pool_handles(pool::Event::Deleted);
        self.retire_elsewhere();
    }

    fn excuse_all(&mut self) {
        // The pool may stop each of its instances because of the change.
        for id in self.links.keys() {
            self.oracle.excuse(*id);
        }
    }
}
