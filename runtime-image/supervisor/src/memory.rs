//! How much memory the runtime process and all it started use.
//!
//! Owns the look into /proc and the highest sum seen. Fed by `worker`, which says when to look;
//! never kills: the worker hands a sum over the limit to core's `Machine`.

use std::fs::File;

use rustix::process::Pid;

use crate::process;

/// `VmHWM` and `VmRSS` are among the first lines of a status file.
const STATUS_SIZE: usize = 2048;

#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Kept open: one system call a look, and never another process under the same id.
    leader: Option<(Pid, File)>,
    peak_kib: u64,
}

#[derive(Default)]
struct Usage {
    peak_kib: u64,
    now_kib: u64,
}

impl Memory {
    pub(crate) fn of(leader: Pid) -> Self {
        let file = File::open(format!("/proc/{}/status", leader.as_raw_pid())).ok();
        Memory {
            leader: file.map(|file| (leader, file)),
            peak_kib: 0,
        }
    }

    /// MiB in use now, by the runtime process and its descendants.
    pub(crate) fn look(&mut self) -> u64 {
        let mut sum = self
            .leader
            .as_ref()
            .map(|(_, file)| usage(file))
            .unwrap_or_default();
        let leader = self.leader.as_ref().map(|(pid, _)| *pid);
        for pid in process::descendants()
            .into_iter()
            .filter(|pid| Some(*pid) != leader)
        {
            if let Ok(file) = File::open(format!("/proc/{}/status", pid.as_raw_pid())) {
                let usage = usage(&file);
                sum.peak_kib += usage.peak_kib;
                sum.now_kib += usage.now_kib;
            }
        }
        self.peak_kib = self.peak_kib.max(sum.peak_kib);
        sum.now_kib.div_ceil(1024)
    }

    /// MiB at the peak so far. Asks the kernel about the runtime process alone: this is on the
    /// way of each invocation.
    pub(crate) fn peak_mib(&mut self) -> u64 {
        if let Some((_, file)) = &self.leader {
            self.peak_kib = self.peak_kib.max(usage(file).peak_kib);
        }
        self.peak_kib.div_ceil(1024)
    }
}

/// Zero for a process that has ended.
fn usage(status: &File) -> Usage {
    let mut buffer = [0; STATUS_SIZE];
    let Ok(size) = rustix::io::pread(status, &mut buffer, 0) else {
        return Usage::default();
    };
    let text = String::from_utf8_lossy(&buffer[..size]);
    let kib = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name))?;
        value.trim().strip_suffix(" kB")?.parse().ok()
    };
    let now_kib = kib("VmRSS:").unwrap_or(0);
    Usage {
        peak_kib: kib("VmHWM:").unwrap_or(now_kib),
        now_kib,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_of_this_process_is_not_below_its_present_use() {
        let mut memory = Memory::of(rustix::process::getpid());
        let now = memory.look();
        assert!(now > 0 && memory.peak_mib() >= now);
    }
}
