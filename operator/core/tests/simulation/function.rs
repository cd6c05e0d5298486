//! A simulated function: the worlds of its pools, one for each qualifier, which share one budget.
//!
//! Runs the worlds in one virtual time. What concerns the whole function, which is its owner and its limit,
//! happens in all of them. Checks the rules for the pools together; each world checks those for its own pool.

use std::time::Instant;

use pilotlight_core::invoke::budget::{Budget, ShareId};

use crate::faults::{Broken, Tampering};
use crate::happening::Happening;
use crate::oracle::Finding;
use crate::summary::Summary;
use crate::world::{Others, World};

/// How many events happen to a function before its worlds come to rest.
pub(crate) const EVENTS: usize = 1_000;

/// The distance between the seeds of the worlds of one function.
const APART: u64 = 1 << 32;

pub(crate) struct Function {
    worlds: Vec<World>,
    budget: Budget,
    tampering: Tampering,
    /// The limit. After it was lowered: the previous number of instances until the limit is met.
    bound: usize,
    events: usize,
}

/// Half of the sound functions have several pools; a fault in one pool is injected where it is alone.
fn pools(seed: u64, broken: Option<Broken>) -> u64 {
    match broken {
        None => [1, 1, 2, 3][seed as usize % 4],
        Some(Broken::BudgetOfOneEach | Broken::SiblingForgotten) => 2 + seed % 2,
        Some(_) => 1,
    }
}

impl Function {
    pub(crate) fn new(seed: u64, broken: Option<Broken>, trace: bool) -> Self {
        let budget = Budget::default();
        let now = Instant::now();
        let mut worlds: Vec<World> = Vec::new();
        for pool in 0..pools(seed, broken) {
            let own = match broken {
                Some(Broken::BudgetOfOneEach) => Budget::default(),
                _ => budget.clone(),
            };
            let limit = worlds.first().map(|first| first.settings.limit);
            let (seed, share) = (seed + pool * APART, (&own, ShareId(pool)));
            worlds.push(World::new(seed, share, limit, now, broken, trace));
        }
        Function {
            bound: worlds[0].settings.limit,
            worlds,
            budget,
            tampering: Tampering::new(seed, broken),
            events: 0,
        }
    }

    /// Runs this number of events, then lets the worlds come to rest. Returns the broken rules.
    pub(crate) fn run(mut self, events: usize) -> (Summary, Vec<Finding>) {
        while let Some((at, pool)) = self.next_event() {
            if self.events >= events && !self.worlds[0].quiet {
                self.for_each(World::come_to_rest);
                self.settle();
                continue;
            }
            if self.events >= events * 20 {
                self.worlds[0].oracle.find(Finding::NeverAtRest);
                break;
            }
            self.events += 1;
            for world in &mut self.worlds {
                world.advance(at);
            }
            self.step(pool);
            self.settle();
        }
        let (mut summary, mut findings) = (Summary::default(), Vec::new());
        for world in self.worlds {
            let (part, found) = world.end();
            summary.add(&part);
            findings.extend(found);
        }
        (summary, findings)
    }

    /// The time of the next event, and the world in which it happens.
    fn next_event(&self) -> Option<(Instant, usize)> {
        let worlds = self.worlds.iter().enumerate();
        let events = worlds.filter_map(|(pool, world)| Some((world.next_event()?, pool)));
        events.min()
    }

    /// Carries out what follows from an event in the other worlds, then checks the rules.
    fn settle(&mut self) {
        self.wake_siblings();
        for world in &mut self.worlds {
            world.settle();
        }
        self.check();
    }

    fn step(&mut self, pool: usize) {
        let happening = self.with(pool, World::step);
        let limit = self.worlds[pool].settings.limit;
        match happening {
            Some(Happening::HandOver) if self.worlds[pool].away => self.for_each(|world| {
                world.hand_over();
            }),
            Some(Happening::TakeOver) => self.for_each(|world| {
                if world.away {
                    world.take_over();
                }
            }),
            Some(Happening::Configure | Happening::Replace) => {
                self.for_each(|world| world.set_limit(limit));
                self.bound = self.live().max(limit);
            }
            _ => {}
        }
    }

    /// As the gateway's driver does after each event: wakes the pools that can act because another has changed.
    fn wake_siblings(&mut self) {
        while let Some(ShareId(pool)) = self.budget.poll_wakeup() {
            if !self.tampering.strikes(Broken::SiblingForgotten) {
                self.with(pool as usize, World::wake_for_budget);
            }
        }
    }

    fn for_each(&mut self, mut change: impl FnMut(&mut World)) {
        for pool in 0..self.worlds.len() {
            self.with(pool, &mut change);
        }
    }

    /// Changes one world, which first learns what the others have and want.
    fn with<T>(&mut self, pool: usize, change: impl FnOnce(&mut World) -> T) -> T {
        let mut others = Others::default();
        for (other, world) in self.worlds.iter().enumerate() {
            if other != pool {
                others.live += world.oracle.live();
                others.lacking += world.lacking();
            }
        }
        self.worlds[pool].others = others;
        change(&mut self.worlds[pool])
    }

    fn live(&self) -> usize {
        self.worlds.iter().map(|world| world.oracle.live()).sum()
    }

    /// The rules for several pools.
    fn check(&mut self) {
        if self.worlds.len() == 1 {
            return;
        }
        let (live, limit) = (self.live(), self.worlds[0].settings.limit);
        if live > self.bound {
            let limit = self.bound;
            self.find(Finding::TogetherTooMany { live, limit });
        }
        if live <= limit {
            self.bound = limit;
        } else {
            // Any pool may stop instances until the limit is met.
            self.for_each(|world| world.excuse_all());
        }
        let room = limit.saturating_sub(live);
        for pool in 0..self.worlds.len() {
            let lacking = self.worlds[pool].lacking();
            let others = self.worlds.iter().enumerate();
            let others = others.filter(|(other, _)| *other != pool);
            let spare: usize = others.map(|(_, world)| world.spare()).sum();
            let is_starved = match room {
                0 => spare > 0,
                _ => self.worlds[pool].oversleeps(),
            };
            if lacking > 0 && is_starved {
                self.find(Finding::Starved {
                    lacking,
                    spare,
                    room,
                });
            }
        }
    }

    fn find(&mut self, finding: Finding) {
        self.worlds[0].oracle.find(finding);
    }
}
