//! The rules that must hold in every simulated trace.
//!
//! Records what an outsider sees, as `world` reports it, and checks the records with the account of
//! tests/load, which also checks runs on a real cluster. Adds the rules that need virtual time or a view
//! of the pool. Uses only the outputs of the code under test; compares its counts with its own.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use pilotlight_core::invoke::pool::{InstanceId, Pool, Rejection, Settings};
use pilotlight_core::invoke::queue::InvocationId;
use pilotlight_load::account::{Account, Violation};
use pilotlight_load::record::{At, CallOutcome, Record};

use crate::answers::{ALWAYS, MAY_HAVE_RUN, kind};

/// A rule that a trace broke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// A rule of tests/load.
    Account(Violation),
    WakeUpInThePast {
        whose: String,
    },
    /// The pool dispatched to an instance whose last lease had not ended.
    LeasedTwice {
        instance: InstanceId,
    },
    /// A call waits for an instance that should have been given up.
    Overdue {
        instance: InstanceId,
    },
    /// The pool gave up an instance whose supervisor works.
    GivenUpInTime {
        instance: InstanceId,
    },
    /// The pool stopped an instance that had not been idle for exactly its keep-alive.
    StoppedOutOfTime {
        instance: InstanceId,
        idle: Option<Duration>,
        keep_alive: Duration,
    },
    /// More invocations are in flight or queued than the settings allow.
    BeyondRoom {
        load: usize,
        room: usize,
    },
    Miscounted {
        what: &'static str,
        pool: usize,
        seen: usize,
    },
    NeverAtRest,
    /// All pools of the function together have more instances than its limit.
    TogetherTooMany {
        live: usize,
        limit: usize,
    },
    /// A pool lacks instances while another has spare ones, or while the limit has room and nothing wakes it.
    Starved {
        lacking: usize,
        spare: usize,
        room: usize,
    },
}

impl Finding {
    /// The names of all findings except those of the account.
    pub(crate) const NAMES: [&str; 10] = [
        "WakeUpInThePast",
        "LeasedTwice",
        "Overdue",
        "GivenUpInTime",
        "StoppedOutOfTime",
        "BeyondRoom",
        "Miscounted",
        "NeverAtRest",
        "TogetherTooMany",
        "Starved",
    ];

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Finding::Account(violation) => violation.name(),
            Finding::WakeUpInThePast { .. } => "WakeUpInThePast",
            Finding::LeasedTwice { .. } => "LeasedTwice",
            Finding::Overdue { .. } => "Overdue",
            Finding::GivenUpInTime { .. } => "GivenUpInTime",
            Finding::StoppedOutOfTime { .. } => "StoppedOutOfTime",
            Finding::BeyondRoom { .. } => "BeyondRoom",
            Finding::Miscounted { .. } => "Miscounted",
            Finding::NeverAtRest => "NeverAtRest",
            Finding::TogetherTooMany { .. } => "TogetherTooMany",
            Finding::Starved { .. } => "Starved",
        }
    }
}

const FUNCTION: &str = "function";
const HANDED_OVER: &str = "another gateway owns the function";

#[derive(Debug)]
pub(crate) struct Oracle {
    account: Account,
    found: Vec<Finding>,
    trace: bool,
    started_at: Instant,
    now: Instant,
    /// Invocations that the gateway has and no instance has.
    waiting: HashSet<InvocationId>,
    /// Instances that the pool has started or adopted, and neither stopped nor released.
    live: HashSet<InstanceId>,
    has_started: bool,
    last_count: Option<(usize, usize)>,
    idle_since: Vec<(InstanceId, Instant)>,
    /// Instances that may stop for another reason than idleness.
    excused: HashSet<InstanceId>,
    /// The limit of the settings. After it was lowered: the previous limit until the new one is met.
    limit: usize,
    /// The same for the number of invocations in flight and queued.
    room: usize,
}

impl Oracle {
    pub(crate) fn new(now: Instant, settings: Settings, trace: bool) -> Self {
        let mut oracle = Oracle {
            account: Account::default(),
            found: Vec::new(),
            trace,
            started_at: now,
            now,
            waiting: HashSet::new(),
            live: HashSet::new(),
            has_started: false,
            last_count: None,
            idle_since: Vec::new(),
            excused: HashSet::new(),
            limit: settings.limit,
            room: settings.limit + settings.queue,
        };
        oracle.fault("load, limits and handlers that fail", &ALWAYS);
        oracle
    }

    pub(crate) fn step(&mut self, now: Instant) {
        self.now = now;
    }

    fn at(&self) -> At {
        (self.now - self.started_at).as_micros() as At
    }

    pub(crate) fn find(&mut self, finding: Finding) {
        if self.trace {
            println!("{:>12?} !! {finding:?}", self.now - self.started_at);
        }
        self.found.push(finding);
    }

    /// From now on a caller may get one of these errors.
    fn fault(&mut self, fault: impl Into<String>, allows: &[&str]) {
        self.account.add(Record::Fault {
            at: self.at(),
            fault: fault.into(),
            allows: allows.iter().map(|kind| (*kind).to_owned()).collect(),
        });
    }

    fn over(&mut self, fault: impl Into<String>) {
        let (at, fault) = (self.at(), fault.into());
        self.account.add(Record::Over { at, fault });
    }

    pub(crate) fn arrived(&mut self, invocation: InvocationId) {
        self.waiting.insert(invocation);
        self.arrived_elsewhere(invocation);
    }

    /// An invocation arrived at another gateway.
    pub(crate) fn arrived_elsewhere(&mut self, invocation: InvocationId) {
        self.account.add(Record::Sent {
            at: self.at(),
            id: invocation.0.to_string(),
            function: FUNCTION.to_owned(),
        });
    }

    pub(crate) fn answered(&mut self, invocation: InvocationId, outcome: CallOutcome) {
        self.waiting.remove(&invocation);
        self.account.add(Record::Answered {
            at: self.at(),
            id: invocation.0.to_string(),
            outcome,
        });
    }

    /// `revision`: that of the instance; `None` if the gateway with the lease may not know a newer one.
    pub(crate) fn began(&mut self, invocation: u64, instance: InstanceId, revision: Option<u64>) {
        self.account.add(Record::Began {
            at: self.at(),
            id: invocation.to_string(),
            instance: instance.0.to_string(),
            revision,
        });
    }

    pub(crate) fn ended(&mut self, invocation: u64, instance: InstanceId) {
        self.account.add(Record::Ended {
            at: self.at(),
            id: invocation.to_string(),
            instance: instance.0.to_string(),
        });
    }

    /// The runtime process has ended.
    pub(crate) fn gone(&mut self, instance: InstanceId) {
        let (at, instance) = (self.at(), instance.0.to_string());
        self.account.add(Record::Gone { at, instance });
    }

    /// An instance has ended, which breaks the lease of the gateway that knows it by this name.
    pub(crate) fn breaks(&mut self, name: InstanceId) {
        self.fault(format!("{name:?} ends"), &[MAY_HAVE_RUN]);
    }

    pub(crate) fn broke(&mut self, name: InstanceId) {
        self.over(format!("{name:?} ends"));
    }

    pub(crate) fn deleted(&mut self) {
        self.fault("the function is deleted", &[kind(&Rejection::Deleted)]);
    }

    pub(crate) fn handed_over(&mut self) {
        self.fault(HANDED_OVER, &[kind(&Rejection::Moved)]);
    }

    pub(crate) fn taken_over(&mut self) {
        self.over(HANDED_OVER);
    }

    pub(crate) fn dispatched(&mut self, invocation: InvocationId, instance: InstanceId) {
        self.waiting.remove(&invocation);
        self.idle_since.retain(|(idle, _)| *idle != instance);
    }

    pub(crate) fn leased_twice(&mut self, instance: InstanceId) {
        self.find(Finding::LeasedTwice { instance });
    }

    pub(crate) fn put_back(&mut self, invocation: InvocationId) {
        self.waiting.insert(invocation);
    }

    pub(crate) fn idle(&mut self, instance: InstanceId) {
        self.idle_since.retain(|(idle, _)| *idle != instance);
        self.idle_since.push((instance, self.now));
    }

    pub(crate) fn excuse(&mut self, instance: InstanceId) {
        self.excused.insert(instance);
    }

    pub(crate) fn started(&mut self, instance: InstanceId) {
        self.live.insert(instance);
        self.has_started = true;
    }

    pub(crate) fn adopted(&mut self, instance: InstanceId) {
        self.live.insert(instance);
    }

    /// The instance was stopped or released, or it is gone.
    pub(crate) fn no_longer_lives(&mut self, instance: InstanceId) {
        self.live.remove(&instance);
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn live(&self) -> usize {
        self.live.len()
    }

    pub(crate) fn stopped_as_idle(&mut self, instance: InstanceId, keep_alive: Duration) {
        if self.excused.contains(&instance) {
            return;
        }
        let since = self.idle_since.iter().find(|(idle, _)| *idle == instance);
        let idle = since.map(|(_, since)| self.now - *since);
        if idle != Some(keep_alive) {
            self.find(Finding::StoppedOutOfTime {
                instance,
                idle,
                keep_alive,
            });
        }
    }

    pub(crate) fn replaced(&mut self, settings: Settings) {
        self.limit = settings.limit.max(self.live());
        self.room = self.room.max(settings.limit + settings.queue);
    }

    /// The world has carried out all actions that follow from an event.
    pub(crate) fn acted(&mut self, settings: Settings, leased: usize) {
        if std::mem::take(&mut self.has_started) {
            let wanted = (self.waiting.len() + leased).max(settings.provisioned);
            self.count(wanted.min(settings.limit));
        }
    }

    /// Records how many instances live, if that has changed.
    fn count(&mut self, limit: usize) {
        let live = self.live();
        if self.last_count.replace((live, limit)) != Some((live, limit)) {
            self.account.add(Record::Instances {
                at: self.at(),
                function: FUNCTION.to_owned(),
                live,
                limit,
            });
        }
    }

    pub(crate) fn after_step(&mut self, pool: &Pool, settings: Settings, leased: usize) {
        if self.live() <= settings.limit {
            self.limit = settings.limit;
        }
        self.count(self.limit);
        let load = self.waiting.len() + leased;
        let room = settings.limit + settings.queue;
        if load <= room {
            self.room = room;
        }
        let room = self.room;
        if load > room {
            self.find(Finding::BeyondRoom { load, room });
        }
        self.compare("live", pool.counts().live(), self.live());
        self.compare("queued", pool.queued(), self.waiting.len());
        self.compare("busy", pool.counts().busy, leased);
    }

    fn compare(&mut self, what: &'static str, pool: usize, seen: usize) {
        if pool != seen {
            self.find(Finding::Miscounted { what, pool, seen });
        }
    }

    pub(crate) fn wakes_at(&mut self, wake: Option<Instant>, whose: impl FnOnce() -> String) {
        if wake.is_some_and(|at| at <= self.now) {
            let whose = whose();
            self.find(Finding::WakeUpInThePast { whose });
        }
    }

    pub(crate) fn left(&mut self, what: String) {
        let at = self.at();
        self.account.add(Record::Left { at, what });
    }

    /// All rules that the trace broke.
    pub(crate) fn findings(mut self, pool: &Pool) -> Vec<Finding> {
        let counts = pool.counts();
        if counts.live() + counts.stopping > 0 {
            self.left(format!("in the pool's counts: {counts:?}"));
        }
        if pool.queued() > 0 {
            self.left(format!("in the pool's queue: {}", pool.queued()));
        }
        if let Some(at) = pool.next_wakeup() {
            self.left(format!("the pool's timer: {:?}", at - self.started_at));
        }
        let trace = self.trace;
        let violations = self.account.verdict().violations.into_iter();
        violations
            .inspect(|violation| {
                if trace {
                    println!("!! {violation}");
                }
            })
            .map(Finding::Account)
            .chain(self.found)
            .collect()
    }
}
