//! Who enforces a function's memory limit, the kernel or the supervisor, and how often the supervisor checks.
//!
//! Fed by the supervisor with the limit of the instance's control group and with its memory use.
//! `machine` decides what follows when the function has used too much.

use std::time::Duration;

use crate::function::MemoryMiB;

/// MiB that a container's memory limit adds to the function's memory, for the supervisor. The function may
/// use what the supervisor leaves of it.
pub const SUPERVISOR_MIB: u32 = 32;

/// The longest time between two checks of the memory of a process that works.
pub const CHECK_INTERVAL_MAX: Duration = Duration::from_millis(20);
const CHECK_INTERVAL_MIN: Duration = Duration::from_millis(4);
/// How fast a process that does nothing else can allocate memory, in bytes per second.
const ALLOCATION_RATE: u64 = 4 << 30;
const MIB: u64 = 1 << 20;

/// The memory settings of a control group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupLimit {
    /// `None`: no limit.
    pub bytes: Option<u64>,
    /// Whether the kernel kills all processes of the group together, including the supervisor
    /// (`memory.oom.group`).
    pub kills_all: bool,
}

/// Who kills a process when the function uses too much memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeper {
    Kernel,
    Supervisor,
}

impl GroupLimit {
    /// The kernel enforces the limit if it is the function's own and a kill spares the supervisor.
    pub fn keeper(self, memory: MemoryMiB) -> Keeper {
        match self.is_own(memory) && !self.kills_all {
            true => Keeper::Kernel,
            false => Keeper::Supervisor,
        }
    }

    /// Whether the limit is the function's own. A pod of a warm pool has the limit of the pool until it is
    /// resized.
    pub fn is_own(self, memory: MemoryMiB) -> bool {
        let own = u64::from(memory.get() + SUPERVISOR_MIB) * MIB;
        self.bytes.is_some_and(|limit| limit <= own)
    }

    /// The time until the next check: short where the kernel is about to kill, which would end the instance.
    pub fn check_interval(self, in_use: u64) -> Duration {
        let left = match self.bytes {
            Some(limit) if self.kills_all => limit.saturating_sub(in_use),
            _ => return CHECK_INTERVAL_MAX,
        };
        Duration::from_micros(left.saturating_mul(1_000_000) / ALLOCATION_RATE)
            .clamp(CHECK_INTERVAL_MIN, CHECK_INTERVAL_MAX)
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
    fn the_kernel_enforces_the_limit_where_it_is_the_functions_own_and_only_the_function_dies() {
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
    fn checks_become_more_frequent_only_near_a_limit_that_ends_the_instance() {
        assert_eq!(
            group(160, false).check_interval(159 * MIB),
            CHECK_INTERVAL_MAX
        );
        let deadly = group(160, true);
        assert_eq!(deadly.check_interval(10 * MIB), CHECK_INTERVAL_MAX);
        let near = deadly.check_interval(128 * MIB);
        assert!(
            near < CHECK_INTERVAL_MAX && near > CHECK_INTERVAL_MIN,
            "{near:?}"
        );
        assert_eq!(deadly.check_interval(159 * MIB), CHECK_INTERVAL_MIN);
    }
}
