//! The simulated gateway around the real pool: it reports events to the pool and carries out its actions.
//!
//! Fed by `world`; `instances` is the other end of its connections. `faults` are injected here.

use pilotlight_core::instance::Status;
use pilotlight_core::invoke::pool::{self, InstanceId};
use pilotlight_core::invoke::queue::InvocationId;

use crate::answers::{self, Answer};
use crate::faults::Broken;
use crate::happening::Happening;
use crate::oracle::Finding;
use crate::world::{World, millis};

impl World {
    pub(crate) fn pool_handles(&mut self, event: pool::Event) {
        let was_idle = self.pool.counts().idle;
        let reporting = match &event {
            pool::Event::StatusReported { instance, .. }
            | pool::Event::Finished { instance, .. } => Some(*instance),
            _ => None,
        };
        self.pool.handle(self.now, event);
        if let Some(instance) = reporting {
            if self.pool.counts().idle > was_idle {
                self.oracle.idle(instance);
            } else if self.others.lacking > 0 {
                // The pool may have spared another idle one at once, so that their number has not grown.
                self.oracle.excuse(instance);
            }
        }
        self.pool_acts();
    }

    pub(crate) fn pool_acts(&mut self) {
        let wanted = self.pool.next_wakeup();
        self.wanted_wakeup = self.tampering.next_wakeup(self.now, wanted);
        self.oracle
            .wakes_at(self.wanted_wakeup, || "the pool".to_owned());
        while let Some(action) = self.pool.poll_action() {
            for action in self.tampering.actions(action, &self.leased) {
                self.act(action);
            }
        }
        self.oracle.acted(self.settings, self.leased.len());
    }

    fn act(&mut self, action: pool::Action) {
        match action {
            pool::Action::Start { instance } => self.start(instance),
            pool::Action::Stop { instance } => {
                self.summary.stopped += 1;
                self.oracle.no_longer_lives(instance);
                let sim = self.instances.get(&self.started_as(instance));
                if self.others.lacking > 0 {
                    self.summary.spared += 1;
                } else if sim.is_some_and(|sim| !sim.is_draining()) {
                    let keep_alive = self.settings.keep_alive;
                    self.oracle.stopped_as_idle(instance, keep_alive);
                }
                self.send(Happening::StopArrives(instance));
            }
            pool::Action::Release { instance } => {
                self.oracle.no_longer_lives(instance);
                self.send(Happening::Released(instance));
            }
            pool::Action::GiveUp { instance } => {
                self.summary.given_up += 1;
                if !self.stopped.contains(&self.started_as(instance)) {
                    self.oracle.find(Finding::GivenUpInTime { instance });
                }
                self.after(millis(5), Happening::GoneArrives(instance));
            }
            pool::Action::Dispatch {
                invocation,
                instance,
            } => {
                self.oracle.dispatched(invocation, instance);
                if self.leased.contains_key(&instance) {
                    return self.oracle.leased_twice(instance);
                }
                self.leased.insert(instance, invocation.0);
                self.leased_at.insert(instance, self.now);
                self.send(Happening::LeaseArrives(instance, invocation.0));
            }
            pool::Action::Reject {
                invocation,
                rejection,
            } => {
                self.summary.rejected += 1;
                let outcome = answers::rejected(&rejection);
                self.oracle.answered(invocation, outcome);
            }
        }
    }

    fn start(&mut self, instance: InstanceId) {
        self.summary.started += 1;
        self.oracle.started(instance);
        self.links.insert(instance, instance);
        let is_late = self.tampering.strikes(Broken::MadeOutdated);
        let revision = self.revision.saturating_sub(u64::from(is_late));
        self.made_of.insert(instance, revision);
        let delay = millis(self.rng.u64(0..2_000));
        match self.rng.u8(..) {
            0..10 => self.after(delay, Happening::StartFails(instance)),
            10..15 => self.after(delay, Happening::StartRefused(instance)),
            _ => {
                self.booting.insert(instance);
                self.after(delay, Happening::Boot(instance));
            }
        }
    }

    pub(crate) fn schedule_pool_wake(&mut self) {
        let wanted = self.wanted_wakeup;
        if let Some(at) = wanted
            && self.pool_wake.is_none_or(|known| at < known)
        {
            self.pool_wake = wanted;
            self.after(at - self.now, Happening::PoolWake);
        }
    }

    /// The pool's names of an instance.
    pub(crate) fn names_of(&self, id: InstanceId) -> Vec<InstanceId> {
        let names = self
            .links
            .iter()
            .filter(|(_, started_as)| **started_as == id);
        names.map(|(name, _)| *name).collect()
    }

    /// The name that an instance was started as.
    pub(crate) fn started_as(&self, name: InstanceId) -> InstanceId {
        self.links.get(&name).copied().unwrap_or(name)
    }

    pub(crate) fn answer_arrives(
        &mut self,
        name: InstanceId,
        invocation: u64,
        answer: Answer,
        status: Status,
    ) {
        if self.tampering.strikes(Broken::AnswerForgotten) {
            return;
        }
        self.leased.remove(&name);
        let outcome = match self.tampering.strikes(Broken::AnswerTakenForLost) {
            true => answers::may_have_run(),
            false => self.tampering.answer(answer).outcome(),
        };
        if self.tampering.strikes(Broken::AnswerTwice) {
            self.oracle
                .answered(InvocationId(invocation), outcome.clone());
        }
        self.oracle.answered(InvocationId(invocation), outcome);
        self.pool_handles(pool::Event::Finished {
            instance: name,
            status,
        });
    }

    pub(crate) fn not_started_arrives(&mut self, name: InstanceId, status: Option<Status>) {
        // Without a lease the connection broke before, and the caller already has its error.
        if let Some(invocation) = self.leased.remove(&name) {
            self.summary.not_started += 1;
            self.oracle.excuse(name);
            self.oracle.put_back(InvocationId(invocation));
            self.pool_handles(pool::Event::NotStarted {
                instance: name,
                status,
            });
        }
    }

    pub(crate) fn gone_arrives(&mut self, id: InstanceId) {
        // The connection breaks with a lease on it: the caller gets the typed error.
        if let Some(invocation) = self.leased.remove(&id) {
            self.summary.lost += 1;
            self.lost(id, InvocationId(invocation));
        }
        self.oracle.broke(id);
        self.link_ends(id, "the instance is gone");
    }

    fn lost(&mut self, name: InstanceId, invocation: InvocationId) {
        if self.tampering.strikes(Broken::LostSentAgain) {
            self.oracle.put_back(invocation);
            return self.pool_handles(pool::Event::NotStarted {
                instance: name,
                status: None,
            });
        }
        let outcome = match self.tampering.strikes(Broken::LostTakenForRefused) {
            true => answers::rejected(&pool::Rejection::Throttled),
            false => answers::may_have_run(),
        };
        self.oracle.answered(invocation, outcome);
    }

    pub(crate) fn link_ends(&mut self, instance: InstanceId, reason: &str) {
        if self.unlink(instance) {
            let reason = reason.into();
            self.pool_handles(pool::Event::Gone { instance, reason });
        }
    }

    /// False if the pool knows no such name.
    pub(crate) fn unlink(&mut self, name: InstanceId) -> bool {
        self.oracle.no_longer_lives(name);
        self.links.remove(&name).is_some()
    }
}
