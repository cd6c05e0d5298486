//! How much memory a function uses, and whether that is too much.
//!
//! Counts anonymous and shared memory, never the page cache. `group` reads the control group of the
//! runtime process; where there is none, `processes` reads /proc for each process. `worker` calls `look`
//! and acts on the result; core decides who enforces the limit (`pilotlight_core::instance::memory`).

pub(crate) mod group;
mod processes;

use std::rc::Rc;
use std::time::{Duration, Instant};

use pilotlight_core::function::MemoryMiB;
use pilotlight_core::instance::memory::{CHECK_INTERVAL_MAX, GroupLimit, Keeper};
use rustix::process::Pid;

use self::group::{Group, MIB};
use self::processes::Processes;
use crate::process_table;

/// A control group's figures are reused for this long: reading them costs the kernel a walk over its
/// counters, and short events would pay for it each time.
const REUSE_LIMIT: Duration = Duration::from_millis(2);

/// The memory of one runtime process and its descendants.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    meter: Meter,
    memory: Option<MemoryMiB>,
    /// In bytes.
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
        /// The group's count of kills when the runtime process was started.
        kills: u64,
        /// Bytes that this process itself adds to the group.
        own: u64,
        /// The process that was killed last for its memory.
        killed: Option<Pid>,
    },
    Processes(Processes),
}

/// The result of a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    Within,
    /// The function uses more than its memory, and the kernel does not enforce the limit. Names the
    /// largest process, which the kernel would kill too: the runtime process or a descendant.
    Exceeded(Pid),
}

impl Memory {
    /// `group`: the control group of the process, if there is one.
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
                    // The limit changes when the pod of a warm pool is resized after its claim.
                    *limit = group.limit();
                }
                self.interval = Some(limit.check_interval(all));
                if used <= bound || limit.keeper(memory) == Keeper::Kernel {
                    return Look::Within;
                }
                if killed.is_some_and(process_table::holds_memory) {
                    // Its memory is not released yet.
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

    /// The time until the next look while the process works.
    pub(crate) fn interval(&self) -> Duration {
        self.interval.unwrap_or(CHECK_INTERVAL_MAX)
    }

    /// The peak so far in MiB. Every invocation asks: it costs one system call, two if more is resident.
    pub(crate) fn peak_mib(&mut self, now: Instant) -> u64 {
        match &mut self.meter {
            Meter::None => {}
            Meter::Group { group, own, .. } => {
                let fresh = |looked| now.saturating_duration_since(looked) < REUSE_LIMIT;
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
    /// `worker` asks after the runtime process died of a SIGKILL that was not its own.
    pub(crate) fn ran_out(&mut self) -> bool {
        let ran_out = match &self.meter {
            Meter::Group { group, kills, .. } => group.kills() > *kills,
            Meter::None | Meter::Processes(_) => false,
        };
        if let (true, Some(memory)) = (ran_out, self.memory) {
            // The last look was before the limit was reached.
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
