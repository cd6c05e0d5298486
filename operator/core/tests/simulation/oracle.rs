//! What must hold in every simulated trace.
//!
//! Owns the account of invocations and instances as an outsider sees them; `world` reports each
//! step. Derives nothing from the code under test but its counts.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use pilotlight_core::pool::{InstanceId, Pool, Settings};
use pilotlight_core::queue::InvocationId;

use crate::world::FOREIGN;

#[derive(Debug, Default)]
struct Account {
    answers: u32,
    executions: u32,
}

#[derive(Debug)]
pub(crate) struct Oracle {
    invocations: HashMap<InvocationId, Account>,
    idle_since: HashMap<InstanceId, Instant>,
    /// Instances that the world gave a reason to stop other than idleness.
    excused: HashMap<InstanceId, ()>,
    /// The settings' limit; after a replacement by a lower one the old, until it is met.
    limit: usize,
    /// Likewise for what is in flight and queued.
    room: usize,
}

impl Oracle {
    pub(crate) fn new(settings: Settings) -> Self {
        Oracle {
            invocations: HashMap::new(),
            idle_since: HashMap::new(),
            excused: HashMap::new(),
            limit: settings.limit,
            room: settings.limit + settings.queue,
        }
    }

    pub(crate) fn arrived(&mut self, invocation: InvocationId) {
        self.invocations.insert(invocation, Account::default());
    }

    pub(crate) fn answered(&mut self, invocation: InvocationId) {
        let account = self
            .invocations
            .get_mut(&invocation)
            .expect("answers what arrived");
        account.answers += 1;
        assert_eq!(account.answers, 1, "{invocation:?} is answered twice");
    }

    pub(crate) fn executed(&mut self, invocation: InvocationId) {
        let account = self
            .invocations
            .get_mut(&invocation)
            .expect("executes what arrived");
        account.executions += 1;
        assert_eq!(account.executions, 1, "{invocation:?} is executed twice");
    }

    pub(crate) fn idle(&mut self, instance: InstanceId, now: Instant) {
        self.idle_since.insert(instance, now);
    }

    pub(crate) fn not_idle(&mut self, instance: InstanceId) {
        self.idle_since.remove(&instance);
    }

    pub(crate) fn excuse(&mut self, instance: InstanceId) {
        self.excused.insert(instance, ());
    }

    pub(crate) fn started(&self, pool: &Pool) {
        let live = pool.counts().live();
        assert!(
            live <= pool.wanted(),
            "{live} live, {} wanted",
            pool.wanted()
        );
    }

    pub(crate) fn stopped(&self, instance: InstanceId, now: Instant, keep_alive: Duration) {
        if self.excused.contains_key(&instance) {
            return;
        }
        let since = self.idle_since.get(&instance);
        let since = since.unwrap_or_else(|| panic!("{instance:?} stops, and was not idle"));
        assert_eq!(
            now - *since,
            keep_alive,
            "{instance:?} stops after its keep-alive"
        );
    }

    pub(crate) fn replaced(&mut self, settings: Settings, pool: &Pool) {
        self.limit = settings.limit.max(pool.counts().live());
        self.room = self.room.max(settings.limit + settings.queue);
    }

    pub(crate) fn after_step(&mut self, pool: &Pool, settings: Settings) {
        let live = pool.counts().live();
        if live <= settings.limit {
            self.limit = settings.limit;
        }
        assert!(
            live <= self.limit,
            "{live} live instances, limit {}",
            self.limit
        );
        let load = pool.queued() + pool.counts().busy;
        let room = settings.limit + settings.queue;
        if load <= room {
            self.room = room;
        }
        assert!(
            load <= self.room,
            "{load} in flight and queued, room for {}",
            self.room
        );
    }

    pub(crate) fn settled(&self, now: Instant, pool: &Pool) {
        if let Some(at) = pool.next_wakeup() {
            assert!(at > now, "the pool asks for a wake-up in the past");
        }
    }

    pub(crate) fn at_the_end(&self, pool: &Pool) {
        // Whether another gateway noticed that its lease broke is in its own account.
        let own = self
            .invocations
            .iter()
            .filter(|(invocation, _)| invocation.0 < FOREIGN);
        for (invocation, account) in own {
            assert_eq!(account.answers, 1, "{invocation:?} is never answered");
        }
        assert_eq!(pool.queued(), 0);
        assert_eq!(
            pool.counts().live(),
            0,
            "idle instances are left: {:?}",
            pool.counts()
        );
        assert_eq!(pool.counts().stopping, 0, "instances stop for ever");
    }
}
