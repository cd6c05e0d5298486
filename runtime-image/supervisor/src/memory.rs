//! Measures the memory that a function uses, and compares it with its limit.
//!
//! Counts anonymous and shared memory, never the page cache. `group` reads the control group of the runtime
//! process; without one, `processes` reads /proc for each process. `worker` calls `measure` and acts on the
//! result. Core decides whether the kernel or this process enforces the limit.

pub(crate) mod group;
mod processes;

use std::rc::Rc;
use std::time::{Duration, Instant};

use pilotlight_core::function::MemoryMiB;
use pilotlight_core::instance::memory::{CHECK_INTERVAL_MAX, GroupLimit, Keeper};
use rustix::process::Pid;

use self::group::{Group, MIB};
use self::processes::ProcessMeter;
use crate::process_table;

/// How long a control group's figures are reused. The kernel walks over its counters to provide them, which is
/// too expensive for each short event.
const REUSE_LIMIT: Duration = Duration::from_millis(2);

/// The memory of one runtime process and its descendants.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    meter: Meter,
    memory: Option<MemoryMiB>,
    /// In bytes.
    peak: u64,
    measured_at: Option<Instant>,
    /// The time until the next measurement, if it is not the usual one.
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
        /// The process that was killed last for exceeding the limit.
        killed: Option<Pid>,
    },
    Processes(ProcessMeter),
}

/// The result of a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measured {
    Within,
    /// The function uses more than its memory, and the kernel does not enforce the limit. Names the
    /// largest process, which the kernel would kill too: the runtime process or a descendant.
    Exceeded(Pid),
}

impl Memory {
    /// `group`: the control group of the process, if there is one.
    pub(crate) fn of(leader: Pid, memory: MemoryMiB, group: Option<Rc<Group>>) -> Self {
        // Every pod has a limit: a group without one is not the instance's own.
        let is_own = |group: &Rc<Group>| group.contains(leader) && group.limit().bytes.is_some();
        let meter = match group.filter(is_own) {
            Some(group) => Meter::Group {
                limit: group.limit(),
                kills: group.kills(),
                own: group.share_of_this_process(),
                killed: None,
                group,
            },
            None => Meter::Processes(ProcessMeter::of(leader)),
        };
        Memory {
            meter,
            memory: Some(memory),
            peak: 0,
            measured_at: None,
            interval: None,
        }
    }

    pub(crate) fn measure(&mut self, now: Instant) -> Measured {
        let Some(memory) = self.memory else {
            return Measured::Within;
        };
        let bound = u64::from(memory.get()) * MIB;
        self.interval = None;
        self.measured_at = Some(now);
        match &mut self.meter {
            Meter::None => Measured::Within,
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
                    return Measured::Within;
                }
                if killed.is_some_and(process_table::holds_memory) {
                    // It has not released its memory yet.
                    return Measured::Within;
                }
                *killed = processes::largest();
                killed.map_or(Measured::Within, Measured::Exceeded)
            }
            Meter::Processes(processes) => {
                let usage = processes.measure(now, bound, self.peak);
                self.interval = Some(usage.interval);
                self.peak = self.peak.max(usage.used);
                match usage.exceeded {
                    Some(largest) => Measured::Exceeded(largest),
                    None => Measured::Within,
                }
            }
        }
    }

    /// The time until the next measurement while the process works.
    pub(crate) fn interval(&self) -> Duration {
        self.interval.unwrap_or(CHECK_INTERVAL_MAX)
    }

    /// The peak so far, in MiB. Each invocation reads it: it costs one system call, or two if more is resident.
    pub(crate) fn peak_mib(&mut self, now: Instant) -> u64 {
        match &mut self.meter {
            Meter::None => {}
            Meter::Group { group, own, .. } => {
                let is_fresh = |at| now.saturating_duration_since(at) < REUSE_LIMIT;
                if !self.measured_at.is_some_and(is_fresh) {
                    self.measured_at = Some(now);
                    self.peak = self.peak.max(group.usage().saturating_sub(*own));
                }
            }
            Meter::Processes(processes) => self.peak = self.peak.max(processes.of_leader()),
        }
        self.peak.div_ceil(MIB)
    }

    /// Whether the kernel has killed a process of the group since the runtime process was started.
    /// `worker` asks after the runtime process died of a SIGKILL that was not its own.
    pub(crate) fn has_run_out(&mut self) -> bool {
        let has_run_out = match &self.meter {
            Meter::Group { group, kills, .. } => group.kills() > *kills,
            Meter::None | Meter::Processes(_) => false,
        };
        if let (true, Some(memory)) = (has_run_out, self.memory) {
            // The last measurement was before the limit was reached.
            self.peak = self.peak.max(u64::from(memory.get()) * MIB);
        }
        has_run_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_not_below_the_present_use() {
        let memory = MemoryMiB::try_from(10_240).expect("within bounds");
        let mut memory = Memory::of(rustix::process::getpid(), memory, None);
        let held = vec![1_u8; 8 << 20];
        let peak = memory.peak_mib(Instant::now());
        assert!(peak >= 8 && held.len() == 8 << 20, "{peak}");
    }
}
