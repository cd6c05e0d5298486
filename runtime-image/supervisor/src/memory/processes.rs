//! The memory of processes without a control group, from /proc.
//!
//! A page that several processes share counts once, by each one's proportional share (PSS). The kernel walks
//! page tables to provide shares. So a cheap upper bound is read first, and shares only if the bound exceeds the
//! limit or a new peak is due. Called by `memory`; kills no process.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use pilotlight_core::instance::memory::CHECK_INTERVAL_MAX;
use rustix::process::Pid;

use crate::clock;
use crate::process_table;

/// Bytes read of a status file, whose `Groups` may be long.
const STATUS_SIZE: usize = 8192;
const KIB: u64 = 1024;
/// The shortest time between two reads of shares for the peak alone.
const PEAK_INTERVAL: Duration = Duration::from_millis(200);
/// After a read of shares the next one waits for this many times its duration, so that reading takes at most a
/// tenth of one processor.
const SHARES_PAUSE: u32 = 10;
/// An excess must be seen a second time after this: a child between `fork` and `exec` may show its
/// parent's memory for a moment.
const CONFIRM_AFTER: Duration = Duration::from_millis(3);
/// How many consecutive measurements may be discarded because a process ended during them.
const DISCARDED_LIMIT: u32 = 30;

#[derive(Debug)]
pub(crate) struct ProcessMeter {
    leader: Pid,
    /// Kept open, which saves system calls, and never refers to a later process with the same id.
    statm: Option<File>,
    status: Option<File>,
    /// Pages at the last REPORT.
    resident: u64,
    peak_at: Option<Instant>,
    /// The last measurement exceeded the limit, and awaits confirmation.
    suspect: bool,
    /// How many consecutive measurements were discarded.
    discarded: u32,
}

/// The result of a measurement.
#[derive(Debug)]
pub(crate) struct Usage {
    /// In bytes; 0 if the measurement has no result.
    pub(crate) used: u64,
    /// The largest process, if the limit is exceeded.
    pub(crate) exceeded: Option<Pid>,
    /// The time until the next measurement.
    pub(crate) interval: Duration,
}

/// A process, by its status.
#[derive(Clone, Copy, Debug)]
struct Resident {
    pid: Pid,
    parent: Option<Pid>,
    /// Anonymous and shared memory, including what is swapped out. Shared pages count in full.
    bytes: u64,
}

impl ProcessMeter {
    pub(crate) fn of(leader: Pid) -> Self {
        let open = |name| File::open(format!("/proc/{}/{name}", leader.as_raw_pid())).ok();
        ProcessMeter {
            leader,
            statm: open("statm"),
            status: open("status"),
            resident: 0,
            peak_at: None,
            suspect: false,
            discarded: 0,
        }
    }

    /// The bytes that the runtime process alone uses; 0 if no more is resident than before. `statm` is read
    /// first: it is much cheaper than `status`, and after most events no more is resident.
    pub(crate) fn of_leader(&mut self) -> u64 {
        let resident = self.statm.as_ref().and_then(pages);
        let resident = resident.map_or(0, |(resident, _)| resident);
        let before = std::mem::replace(&mut self.resident, resident);
        let status = self.status.as_ref().filter(|_| resident > before);
        let leader = status.and_then(|status| resident_by(self.leader, status));
        leader.map_or(0, |leader| leader.bytes)
    }

    /// `limit` and `peak` are in bytes. A use below the peak needs no exact figure.
    pub(crate) fn measure(&mut self, now: Instant, limit: u64, peak: u64) -> Usage {
        let mut all: Vec<Resident> = self.residents();
        let bound = all.iter().map(|one| one.bytes).sum();
        let for_peak = bound > peak && self.peak_at.is_none_or(|at| at <= now);
        let mut usage = Usage {
            used: bound,
            exceeded: None,
            interval: CHECK_INTERVAL_MAX,
        };
        if all.len() > 1 {
            if bound <= limit && !for_peak {
                self.suspect = false;
                usage.used = if bound <= peak { bound } else { 0 };
                return usage;
            }
            let begun = clock::now();
            let sum = shares(&mut all);
            self.discarded = if sum.is_none() { self.discarded + 1 } else { 0 };
            let sum = sum.or_else(|| {
                // If processes end all the time, an overestimate is used at last.
                let known = || all.iter().map(|one| one.bytes).sum();
                (self.discarded > DISCARDED_LIMIT).then(known)
            });
            let Some(sum) = sum else {
                usage.used = 0;
                usage.interval = if bound > limit {
                    CONFIRM_AFTER
                } else {
                    CHECK_INTERVAL_MAX
                };
                return usage;
            };
            usage.used = sum;
            let took = clock::now() - begun;
            usage.interval = CHECK_INTERVAL_MAX.max(took * SHARES_PAUSE);
            self.peak_at = Some(now + PEAK_INTERVAL.max(took * SHARES_PAUSE));
        }
        let exceeds = usage.used > limit;
        if exceeds && all.len() > 1 && !self.suspect {
            self.suspect = true;
            // Until it is confirmed, it is not a peak either.
            usage.used = 0;
            usage.interval = CONFIRM_AFTER;
            return usage;
        }
        self.suspect = false;
        if exceeds {
            usage.exceeded = largest_of(&all);
        }
        usage
    }

    fn residents(&self) -> Vec<Resident> {
        let leader = self.status.as_ref();
        let leader = leader.and_then(|status| resident_by(self.leader, status));
        let others = process_table::descendants().into_iter();
        let others = others.filter(|pid| *pid != self.leader);
        leader
            .into_iter()
            .chain(others.filter_map(resident_of))
            .collect()
    }
}

/// The descendant of this process that uses most memory.
pub(crate) fn largest() -> Option<Pid> {
    let all = process_table::descendants()
        .into_iter()
        .filter_map(resident_of);
    largest_of(&Vec::from_iter(all))
}

fn largest_of(all: &[Resident]) -> Option<Pid> {
    all.iter().max_by_key(|one| one.bytes).map(|one| one.pid)
}

/// The sum of all shares. Replaces the bytes of each process by its share. `None` if a process has ended
/// meanwhile, so that the sum may be too large.
fn shares(all: &mut [Resident]) -> Option<u64> {
    for one in &mut *all {
        // Between `vfork` and `exec` a child runs in its parent's memory.
        if one.parent.is_some_and(|parent| share_all(one.pid, parent)) {
            one.bytes = 0;
            continue;
        }
        let path = format!("/proc/{}/smaps_rollup", one.pid.as_raw_pid());
        match fs::read_to_string(path) {
            Ok(rollup) => one.bytes = share(&rollup).unwrap_or(0),
            // The process is not dumpable, so its pages count in full.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            // An older kernel, or a sandbox's, has no shares, so pages count in full.
            Err(_) if !Path::new("/proc/self/smaps_rollup").exists() => {}
            Err(_ended) => one.bytes = 0,
        }
    }
    // When a process ends meanwhile, its shared pages are counted again in the shares read after it.
    let mut counted = all.iter().filter(|one| one.bytes > 0);
    counted
        .all(|one| resident_of(one.pid).is_some())
        .then(|| all.iter().map(|one| one.bytes).sum())
}

/// Whether two processes share their whole address space.
#[allow(unsafe_code)]
fn share_all(one: Pid, other: Pid) -> bool {
    const KCMP_VM: libc::c_int = 1;
    let (one, other) = (one.as_raw_pid(), other.as_raw_pid());
    // SAFETY: compares two processes by their ids; no pointer is passed.
    let order = unsafe { libc::syscall(libc::SYS_kcmp, one, other, KCMP_VM, 0_u64, 0_u64) };
    order == 0
}

fn resident_of(pid: Pid) -> Option<Resident> {
    let status = File::open(format!("/proc/{}/status", pid.as_raw_pid())).ok()?;
    resident_by(pid, &status)
}

/// `None` for a process that has ended.
fn resident_by(pid: Pid, status: &File) -> Option<Resident> {
    let mut buffer = [0; STATUS_SIZE];
    let size = rustix::io::pread(status, &mut buffer, 0).ok()?;
    let text = String::from_utf8_lossy(&buffer[..size]);
    let bytes = status_bytes(&text)?;
    let parent = text.lines().find_map(|line| line.strip_prefix("PPid:"));
    Some(Resident {
        pid,
        parent: parent.and_then(|pid| Pid::from_raw(pid.trim().parse().ok()?)),
        bytes,
    })
}

fn status_bytes(status: &str) -> Option<u64> {
    let kib = |name| kib(status, name);
    let anonymous = kib("RssAnon:").or_else(|| kib("VmRSS:"))?;
    let others = ["RssShmem:", "VmSwap:"].map(|name| kib(name).unwrap_or(0));
    Some((anonymous + others.iter().sum::<u64>()) * KIB)
}

/// The process's proportional share, in bytes, from a `smaps_rollup`.
fn share(rollup: &str) -> Option<u64> {
    let kib = |name| kib(rollup, name);
    let anonymous = kib("Pss_Anon:").or_else(|| kib("Pss:"))?;
    let others = ["Pss_Shmem:", "SwapPss:"].map(|name| kib(name).unwrap_or(0));
    Some((anonymous + others.iter().sum::<u64>()) * KIB)
}

fn kib(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// The anonymous memory in a `statm` file, in bytes.
pub(crate) fn anonymous(statm: &File) -> u64 {
    let (resident, shared) = pages(statm).unwrap_or_default();
    resident.saturating_sub(shared) * rustix::param::page_size() as u64
}

/// The number of resident pages, and how many of these belong to files or shared memory.
fn pages(statm: &File) -> Option<(u64, u64)> {
    let mut buffer = [0; 128];
    let size = rustix::io::pread(statm, &mut buffer, 0).ok()?;
    let text = std::str::from_utf8(&buffer[..size]).ok()?;
    let mut pages = text.split(' ').skip(1).map_while(|word| word.parse().ok());
    Some((pages.next()?, pages.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_files_are_not_counted_and_shared_pages_in_part() {
        let status = "Name:\tpython\nPPid:\t7\nVmHWM:\t 900 kB\nVmRSS:\t    900 kB\n\
                      RssAnon:\t     300 kB\nRssFile:\t     500 kB\nRssShmem:\t     100 kB\n\
                      VmSwap:\t      10 kB\n";
        assert_eq!(status_bytes(status), Some(410 * KIB));
        let rollup = "5581-7ffd ---p 00000000 00:00 0    [rollup]\nRss:     900 kB\nPss:     400 kB\n\
                      Pss_Dirty:  10 kB\nPss_Anon:     150 kB\nPss_File:     200 kB\n\
                      Pss_Shmem:      50 kB\nSwap:   10 kB\nSwapPss:       5 kB\n";
        assert_eq!(share(rollup), Some(205 * KIB));
    }

    #[test]
    fn all_resident_pages_count_if_the_kernel_does_not_tell_them_apart() {
        assert_eq!(status_bytes("VmRSS:\t    900 kB\n"), Some(900 * KIB));
        assert_eq!(share("Rss: 5 kB\nPss:     400 kB\n"), Some(400 * KIB));
        assert_eq!(status_bytes("Name:\tkthreadd\n"), None);
    }

    #[test]
    fn a_process_shares_its_address_space_with_itself_and_not_with_its_parent() {
        let this = rustix::process::getpid();
        let parent = rustix::process::getppid().expect("a parent");
        assert!(share_all(this, this) && !share_all(this, parent));
    }
}
