//! How much memory a function uses, and whether that is too much.
//!
//! Counts anonymous and shared memory, never the page cache. `group` asks the control group that the
//! runtime process runs in, `processes` looks at each process where there is none. `worker` says when
//! to look and does what follows; core decides who keeps the limit (`pilotlight_core::memory`).

pub(crate) mod group;
mod processes;

use std::rc::Rc;
use std::time::{Duration, Instant};

use pilotlight_core::function::MemoryMiB;
use pilotlight_core::memory::{GroupLimit, Keeper, LOOK_INTERVAL};
use rustix::process::Pid;

use self::group::Group;
use self::processes::Processes;
use crate::process;

const MIB: u64 = 1 << 20;
/// A group's figures cost the kernel a walk over its counters: many short events share one look.
const FRESH: Duration = Duration::from_millis(2);

/// Of one runtime process and all that it starts.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    meter: Meter,
    memory: Option<MemoryMiB>,
    /// In bytes, like all that follows.
    peak: u64,
    looked: Option<Instant>,
    /// Until the next look, if not the usual one.
    interval: Option<Duration>,
}

#[derive(Debug, Default)]
enum Meter {
    #[default]
    None,
    Group {
        group: Rc<Group>,
        limit: GroupLimit,
        /// How many processes the kernel had killed there before.
        kills: u64,
        /// What this process itself adds to the group.
        own: u64,
        /// What was killed last.
        killed: Option<Pid>,
    },
    Processes(Processes),
}

/// What a look has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    Within,
    /// The function uses more than it has, and the kernel does not see to it. The process that uses
    /// most goes, as with the kernel: the runtime process, or one that it has started.
    Exceeded(Pid),
}

impl Memory {
    /// `group`: the one that the process runs in, if there is any.
    pub(crate) fn of(leader: Pid, memory: MemoryMiB, group: Option<Rc<Group>>) -> Self {
        // Every pod has a limit: a group without one is not the instance's own.
        let is_own = |group: &Rc<Group>| group.has(leader) && group.limit().bytes.is_some();
        let meter = match group.filter(is_own) {
            Some(group) => Meter::Group {
                limit: group.limit(),
                kills: group.kills(),
                own: group.share_of_this_process(),
                killed: None,
                group,
            },
            None => Meter::Processes(Processes::of(leader)),
        };
        Memory {
            meter,
            memory: Some(memory),
            peak: 0,
            looked: None,
            interval: None,
        }
    }

    pub(crate) fn look(&mut self, now: Instant) -> Look {
        let Some(memory) = self.memory else {
            return Look::Within;
        };
        let bound = u64::from(memory.get()) * MIB;
        self.interval = None;
        self.looked = Some(now);
        match &mut self.meter {
            Meter::None => Look::Within,
            Meter::Group {
                group,
                limit,
                own,
                killed,
                ..
            } => {
                let all = group.usage();
                let used = all.saturating_sub(*own);
                self.peak = self.peak.max(used);
                if used > bound || (limit.kills_all && !limit.is_own(memory)) {
                    // It changes when a pod of a warm pool is resized, some time after the claim.
                    *limit = group.limit();
                }
                self.interval = Some(limit.look_interval(all));
                if used <= bound || limit.keeper(memory) == Keeper::Kernel {
                    return Look::Within;
                }
                if killed.is_some_and(process::is_ending) {
                    // Its memory is not all given back yet.
                    return Look::Within;
                }
                *killed = processes::largest();
                killed.map_or(Look::Within, Look::Exceeded)
            }
            Meter::Processes(processes) => {
                let seen = processes.look(now, bound, self.peak);
                self.interval = Some(seen.interval);
                self.peak = self.peak.max(seen.used);
                match seen.exceeded {
                    Some(largest) => Look::Exceeded(largest),
                    None => Look::Within,
                }
            }
        }
    }

    /// Until the next look at a process that works.
    pub(crate) fn interval(&self) -> Duration {
        self.interval.unwrap_or(LOOK_INTERVAL)
    }

    /// MiB at the peak so far. This is on the way of each invocation: one system call at most.
    pub(crate) fn peak_mib(&mut self, now: Instant) -> u64 {
        match &mut self.meter {
            Meter::None => {}
            Meter::Group { group, own, .. } => {
                let fresh = |looked| now.saturating_duration_since(looked) < FRESH;
                if !self.looked.is_some_and(fresh) {
                    self.looked = Some(now);
                    self.peak = self.peak.max(group.usage().saturating_sub(*own));
                }
            }
            Meter::Processes(processes) => self.peak = self.peak.max(processes.of_leader()),
        }
        self.peak.div_ceil(MIB)
    }

    /// Whether the kernel has killed a process of the group since the runtime process was started.
    /// Asked when that was killed, and neither here nor by itself.
    pub(crate) fn ran_out(&mut self) -> bool {
        let ran_out = match &self.meter {
            Meter::Group { group, kills, .. } => group.kills() > *kills,
            Meter::None | Meter::Processes(_) => false,
        };
        if let (true, Some(memory)) = (ran_out, self.memory) {
            // Between two looks it had all.
            self.peak = self.peak.max(u64::from(memory.get()) * MIB);
        }
        ran_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_of_this_process_is_not_below_what_it_uses() {
        let memory = MemoryMiB::try_from(10_240).expect("within bounds");
        let mut memory = Memory::of(rustix::process::getpid(), memory, None);
        let held = vec![1_u8; 8 << 20];
        let peak = memory.peak_mib(Instant::now());
        assert!(peak >= 8 && held.len() == 8 << 20, "{peak}");
    }
}
