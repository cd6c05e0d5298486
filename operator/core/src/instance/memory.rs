//! Decides who enforces a function's memory limit, the kernel or the supervisor, and how often to look.
//!
//! Fed by the supervisor with the limit of the instance's control group and with its memory use.
//! `instance` decides what follows when the function has used too much.

use std::time::Duration;

use crate::function::MemoryMiB;

/// A container's limit is the function's memory and this much for the supervisor. The function may use
/// the part that the supervisor does not.
pub const SUPERVISOR_MIB: u32 = 32;

/// The longest time between two looks at the memory of a process that works.
pub const LOOK_INTERVAL: Duration = Duration::from_millis(20);
const LEAST_INTERVAL: Duration = Duration::from_millis(4);
/// The rate at which a process that does nothing else takes memory, in bytes per second.
const GROWTH: u64 = 4 << 30;
const MIB: u64 = 1 << 20;

/// The memory settings of a control group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupLimit {
    /// `None`: no limit.
    pub bytes: Option<u64>,
    /// The kernel kills all processes of the group together, the supervisor too (`memory.oom.group`).
    pub kills_all: bool,
}

/// Who kills a process when the function uses too much memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeper {
    Kernel,
    Supervisor,
}

impl GroupLimit {
    /// The kernel, if the group has the function's own limit and a kill spares the supervisor.
    pub fn keeper(self, memory: MemoryMiB) -> Keeper {
        match self.is_own(memory) && !self.kills_all {
            true => Keeper::Kernel,
            false => Keeper::Supervisor,
        }
    }

    /// Whether the limit is the function's. A pod of a warm pool has the pool's until it is resized.
    pub fn is_own(self, memory: MemoryMiB) -> bool {
        let own = u64::from(memory.get() + SUPERVISOR_MIB) * MIB;
        self.bytes.is_some_and(|limit| limit <= own)
    }

    /// The time until the next look: short where the kernel's kill is near and would end the instance.
    pub fn look_interval(self, in_use: u64) -> Duration {
        let left = match self.bytes {
            Some(limit) if self.kills_all => limit.saturating_sub(in_use),
            _ => return LOOK_INTERVAL,
        };
        Duration::from_micros(left.saturating_mul(1_000_000) / GROWTH)
            .clamp(LEAST_INTERVAL, LOOK_INTERVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(mib: i128) -> MemoryMiB {
        mib.try_into().expect("within bounds")
    }

    fn group(mib: u64, kills_all: bool) -> GroupLimit {
        GroupLimit {
            bytes: Some(mib * MIB),
            kills_all,
        }
    }

    #[test]
    fn the_kernel_keeps_the_limit_where_it_is_the_functions_own_and_only_the_function_dies() {
        assert_eq!(group(160, false).keeper(memory(128)), Keeper::Kernel);
        let of_pool = group(512 + 32, false);
        assert_eq!(of_pool.keeper(memory(128)), Keeper::Supervisor);
        assert_eq!(of_pool.keeper(memory(512)), Keeper::Kernel);
        assert_eq!(group(160, true).keeper(memory(128)), Keeper::Supervisor);
        let unlimited = GroupLimit {
            bytes: None,
            kills_all: false,
        };
        assert_eq!(unlimited.keeper(memory(128)), Keeper::Supervisor);
    }

    #[test]
    fn looks_come_closer_to_each_other_only_near_a_limit_that_ends_the_instance() {
        assert_eq!(group(160, false).look_interval(159 * MIB), LOOK_INTERVAL);
        let deadly = group(160, true);
        assert_eq!(deadly.look_interval(10 * MIB), LOOK_INTERVAL);
        let near = deadly.look_interval(128 * MIB);
        assert!(near < LOOK_INTERVAL && near > LEAST_INTERVAL, "{near:?}");
        assert_eq!(deadly.look_interval(159 * MIB), LEAST_INTERVAL);
    }
}
