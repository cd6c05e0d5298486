//! The memory of processes without a control group, from /proc.
//!
//! A page that several processes share counts once, by each one's proportional share (PSS). Reading
//! shares makes the kernel walk page tables, so a cheap upper bound is read first, and shares only if the
//! bound exceeds the limit or a new peak is due. Fed by `memory`; kills nothing.

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
/// Reading shares pauses for this many times as long as it took: a tenth of one processor at most.
const SHARES_PAUSE: u32 = 10;
/// An excess must be seen a second time after this: a child between `fork` and `exec` may show its
/// parent's memory for a moment.
const CONFIRM_AFTER: Duration = Duration::from_millis(3);
/// Consecutive looks that may be discarded because a process ended during them.
const UNCLEAR_LIMIT: u32 = 30;

#[derive(Debug)]
pub(crate) struct Processes {
    leader: Pid,
    /// Kept open: one system call a look, and never another process under the same id.
    statm: Option<File>,
    status: Option<File>,
    /// Pages at the last REPORT.
    resident: u64,
    peak_at: Option<Instant>,
    suspect: bool,
    /// Consecutive looks during which a process ended.
    unclear: u32,
}

/// The result of a look.
#[derive(Debug)]
pub(crate) struct Seen {
    /// In bytes; 0 if nothing new is known.
    pub(crate) used: u64,
    /// The largest process, if all use more than they may.
    pub(crate) exceeded: Option<Pid>,
    /// The time until the next look.
    pub(crate) interval: Duration,
}

/// A process, by its status.
#[derive(Clone, Copy, Debug)]
struct Resident {
    pid: Pid,
    parent: Option<Pid>,
    /// Anonymous and shared memory, and what of it is swapped out; each page in full.
    bytes: u64,
}

impl Processes {
    pub(crate) fn of(leader: Pid) -> Self {
        let open = |name| File::open(format!("/proc/{}/{name}", leader.as_raw_pid())).ok();
        Processes {
            leader,
            statm: open("statm"),
            status: open("status"),
            resident: 0,
            peak_at: None,
            suspect: false,
            unclear: 0,
        }
    }

    /// The bytes that the runtime process alone uses; 0 if no more is resident than before. `statm` is
    /// much cheaper than `status`, and an event seldom leaves more resident.
    pub(crate) fn of_leader(&mut self) -> u64 {
        let resident = self.statm.as_ref().and_then(pages);
        let resident = resident.map_or(0, |(resident, _)| resident);
        let before = std::mem::replace(&mut self.resident, resident);
        let status = self.status.as_ref().filter(|_| resident > before);
        let leader = status.and_then(|status| resident_by(self.leader, status));
        leader.map_or(0, |leader| leader.bytes)
    }

    /// `limit` and `peak`: in bytes; a use below the peak needs no better figure.
    pub(crate) fn look(&mut self, now: Instant, limit: u64, peak: u64) -> Seen {
        let mut all: Vec<Resident> = self.residents();
        let bound = all.iter().map(|one| one.bytes).sum();
        let for_peak = bound > peak && self.peak_at.is_none_or(|at| at <= now);
        let mut seen = Seen {
            used: bound,
            exceeded: None,
            interval: CHECK_INTERVAL_MAX,
        };
        if all.len() > 1 {
            if bound <= limit && !for_peak {
                self.suspect = false;
                seen.used = if bound <= peak { bound } else { 0 };
                return seen;
            }
            let begun = clock::now();
            let sum = shares(&mut all);
            self.unclear = if sum.is_none() { self.unclear + 1 } else { 0 };
            let sum = sum.or_else(|| {
                // If processes end all the time, an overestimate is used in the end.
                let known = || all.iter().map(|one| one.bytes).sum();
                (self.unclear > UNCLEAR_LIMIT).then(known)
            });
            let Some(sum) = sum else {
                seen.used = 0;
                seen.interval = if bound > limit {
                    CONFIRM_AFTER
                } else {
                    CHECK_INTERVAL_MAX
                };
                return seen;
            };
            seen.used = sum;
            let took = clock::now() - begun;
            seen.interval = CHECK_INTERVAL_MAX.max(took * SHARES_PAUSE);
            self.peak_at = Some(now + PEAK_INTERVAL.max(took * SHARES_PAUSE));
        }
        let exceeds = seen.used > limit;
        if exceeds && all.len() > 1 && !self.suspect {
            self.suspect = true;
            // Unconfirmed, so it is no peak either.
            seen.used = 0;
            seen.interval = CONFIRM_AFTER;
            return seen;
        }
        self.suspect = false;
        if exceeds {
            seen.exceeded = largest_of(&all);
        }
        seen
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

/// The process below this one that uses most.
pub(crate) fn largest() -> Option<Pid> {
    let all = process_table::descendants()
        .into_iter()
        .filter_map(resident_of);
    largest_of(&Vec::from_iter(all))
}

fn largest_of(all: &[Resident]) -> Option<Pid> {
    all.iter().max_by_key(|one| one.bytes).map(|one| one.pid)
}

/// The sum of all shares; each process's own takes the place of its bytes. `None` if a process has
/// ended meanwhile, so that the sum says too much.
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
            // The process is not dumpable: its pages count in full.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            // An older or a sandbox's kernel has no shares: pages count in full.
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

/// Whether two processes have one and the same memory.
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

/// The bytes in a `smaps_rollup`.
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

/// Resident pages, and how many of these are of files or shared memory.
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
    fn files_are_not_counted_and_shared_pages_in_part() {
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
    fn where_the_kernel_says_less_all_that_is_resident_counts() {
        assert_eq!(status_bytes("VmRSS:\t    900 kB\n"), Some(900 * KIB));
        assert_eq!(share("Rss: 5 kB\nPss:     400 kB\n"), Some(400 * KIB));
        assert_eq!(status_bytes("Name:\tkthreadd\n"), None);
    }

    #[test]
    fn a_process_has_the_memory_of_itself_and_not_of_its_parent() {
        let this = rustix::process::getpid();
        let parent = rustix::process::getppid().expect("a parent");
        assert!(share_all(this, this) && !share_all(this, parent));
    }
}
