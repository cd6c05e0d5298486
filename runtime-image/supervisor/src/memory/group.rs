//! The control group of the runtime process: its memory use, its limit and its count of kills.
//!
//! In a container it is the container's own group, which is only read. In local mode this process creates one
//! in a group that is delegated to the user (version 2 only) and removes it at the end. Without either,
//! `processes` measures instead. Kills no process.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use pilotlight_core::function::MemoryMiB;
use pilotlight_core::instance::memory::GroupLimit;
use rustix::process::Pid;

use super::processes;

pub(crate) const MIB: u64 = 1 << 20;

/// Bytes read of a file; the longest is version 1's `memory.stat`.
const FILE_SIZE: usize = 8192;
/// A created group's name is this and the id of the process that created it.
const PREFIX: &str = "pilotlight-";
const TMPFS: i64 = 0x0102_1994;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

#[derive(Debug)]
pub(crate) struct Group {
    folder: PathBuf,
    version: Version,
    /// Kept open, so that a measurement costs one system call.
    stat: File,
    events: File,
    /// The `cgroup.procs` of a group that this process has created.
    pub(crate) entrance: Option<File>,
}

impl Group {
    /// The group of this process's container; `None` if it is not visible.
    pub(crate) fn of_container() -> Option<Self> {
        let (version, folder) = located()?;
        Group::open(version, folder)
    }

    /// Creates a group for the runtime processes alone, with this limit. `scratch`: their folder of
    /// temporary files, which must not count as memory. `None` where no group can be created.
    pub(crate) fn create(memory: MemoryMiB, scratch: &Path) -> Option<Self> {
        if rustix::fs::statfs(scratch).is_ok_and(|found| found.f_type == TMPFS) {
            return None;
        }
        match located()? {
            (Version::V2, own) => Group::create_above(&own, memory),
            (Version::V1, _) => None,
        }
    }

    /// `own`: the group of this process. The new group is its sibling or further up, because a group with
    /// processes cannot have groups with limits below it.
    fn create_above(own: &Path, memory: MemoryMiB) -> Option<Self> {
        own.ancestors().skip(1).find_map(|parent| {
            let controllers = fs::read_to_string(parent.join("cgroup.subtree_control")).ok()?;
            if !controllers
                .split_ascii_whitespace()
                .any(|one| one == "memory")
            {
                return None;
            }
            sweep(parent);
            let folder = parent.join(format!("{PREFIX}{}", std::process::id()));
            fs::create_dir(&folder).ok()?;
            let group = Group::limited(&folder, memory);
            if group.is_err() {
                let _ = fs::remove_dir(&folder);
            }
            group.ok()
        })
    }

    fn limited(folder: &Path, memory: MemoryMiB) -> io::Result<Self> {
        let limit = u64::from(memory.get()) * MIB;
        fs::write(folder.join("memory.max"), limit.to_string())?;
        // With swap, a function above its limit would become slow instead of being killed. It fails on kernels
        // without swap accounting.
        let _ = fs::write(folder.join("memory.swap.max"), "0");
        let entrance = OpenOptions::new()
            .write(true)
            .open(folder.join("cgroup.procs"))?;
        let group = Group::open(Version::V2, folder.to_owned());
        let group = group.ok_or(io::ErrorKind::Unsupported)?;
        Ok(Group {
            entrance: Some(entrance),
            ..group
        })
    }

    fn open(version: Version, folder: PathBuf) -> Option<Self> {
        let events = match version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        let group = Group {
            stat: File::open(folder.join("memory.stat")).ok()?,
            events: File::open(folder.join(events)).ok()?,
            folder,
            version,
            entrance: None,
        };
        // A sandbox may have the files without these figures.
        let all = read(&group.stat).is_some_and(|stat| usage(version, &stat).is_some())
            && read(&group.events).is_some_and(|events| value(&events, "oom_kill").is_some());
        all.then_some(group)
    }

    /// Whether the process is in the group.
    pub(crate) fn contains(&self, process: Pid) -> bool {
        if self.entrance.is_none() {
            return true;
        }
        let own = process.as_raw_pid().to_string();
        let inside = fs::read_to_string(self.folder.join("cgroup.procs"));
        inside.is_ok_and(|inside| inside.lines().any(|pid| pid == own))
    }

    /// Anonymous and shared memory, in bytes.
    pub(crate) fn usage(&self) -> u64 {
        let stat = read(&self.stat);
        stat.and_then(|stat| usage(self.version, &stat))
            .unwrap_or(0)
    }

    /// How many processes the kernel has killed because the group was full.
    pub(crate) fn kills(&self) -> u64 {
        let events = read(&self.events);
        events
            .and_then(|events| value(&events, "oom_kill"))
            .unwrap_or(0)
    }

    pub(crate) fn limit(&self) -> GroupLimit {
        let text = |name| fs::read_to_string(self.folder.join(name)).unwrap_or_default();
        match self.version {
            Version::V1 => limit(self.version, &text("memory.limit_in_bytes"), ""),
            Version::V2 => limit(self.version, &text("memory.max"), &text("memory.oom.group")),
        }
    }

    /// The bytes that this process contributes: it is in the container's group, but not in one that it created.
    pub(crate) fn share_of_this_process(&self) -> u64 {
        match (&self.entrance, File::open("/proc/self/statm")) {
            (None, Ok(statm)) => processes::anonymous(&statm),
            _ => 0,
        }
    }

    /// Removes a group that this process has created, if it is empty.
    pub(crate) fn remove(&self) {
        if self.entrance.is_some() {
            // If it fails, `sweep` of a later instance removes the group.
            let _ = fs::remove_dir(&self.folder);
        }
    }
}

/// Removes groups whose creators were killed before they could.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let maker = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        if maker.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

fn read(file: &File) -> Option<String> {
    let mut buffer = [0; FILE_SIZE];
    let size = rustix::io::pread(file, &mut buffer, 0).ok()?;
    Some(String::from_utf8_lossy(&buffer[..size]).into_owned())
}

fn value(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    let (_, value) = lines.find(|(known, _)| *known == name)?;
    value.trim().parse().ok()
}

/// The bytes of anonymous and shared memory in a `memory.stat`.
fn usage(version: Version, stat: &str) -> Option<u64> {
    let [anonymous, shared] = match version {
        Version::V1 => ["total_rss", "total_shmem"],
        Version::V2 => ["anon", "shmem"],
    };
    Some(value(stat, anonymous)? + value(stat, shared).unwrap_or(0))
}

/// Without a limit, version 1 has a number close to the largest one, and version 2 has `max`.
fn limit(version: Version, limit: &str, kills_all: &str) -> GroupLimit {
    let bytes = limit.trim().parse().ok();
    GroupLimit {
        bytes: bytes.filter(|bytes| version == Version::V2 || *bytes < i64::MAX as u64 / 2),
        kills_all: kills_all.trim() == "1",
    }
}

fn located() -> Option<(Version, PathBuf)> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    locate(&groups, &mounts)
}

/// Finds a process's group from its `cgroup` and `mountinfo` files. If both versions are in use, the one
/// with the memory controller counts.
fn locate(groups: &str, mounts: &str) -> Option<(Version, PathBuf)> {
    let groups = groups.lines().filter_map(|line| {
        let (_, rest) = line.split_once(':')?;
        rest.split_once(':')
    });
    let groups = Vec::from_iter(groups);
    let of_memory = |(controllers, _): &&(&str, &str)| {
        controllers
            .split(',')
            .any(|controller| controller == "memory")
    };
    let (version, group) = match groups.iter().find(of_memory) {
        Some((_, group)) => (Version::V1, group),
        None => {
            let (_, group) = groups
                .iter()
                .find(|(controllers, _)| controllers.is_empty())?;
            (Version::V2, group)
        }
    };
    let mut mounts = mounts.lines().filter_map(|line| mount(version, line));
    let (root, point) = mounts.next()?;
    // With a bind mount of a part of the tree, or a cgroup namespace, the two names do not match. Then the mount
    // is the process's own group.
    let inside = Path::new(group).strip_prefix(&root);
    let inside = inside.unwrap_or(Path::new(""));
    match inside.as_os_str().is_empty() {
        true => Some((version, point)),
        false => Some((version, point.join(inside))),
    }
}

/// The root and the mount point of a line that mounts the groups of this version.
fn mount(version: Version, line: &str) -> Option<(PathBuf, PathBuf)> {
    let (place, system) = line.split_once(" - ")?;
    let mut system = system.split(' ');
    let kind = system.next()?;
    let fits = match version {
        Version::V1 => {
            let mut options = system.nth(1)?.split(',');
            kind == "cgroup" && options.any(|option| option == "memory")
        }
        Version::V2 => kind == "cgroup2",
    };
    let mut place = place.split(' ').skip(3);
    let mut path = || {
        place
            .next()
            .map(|path| PathBuf::from(path.replace("\\040", " ")))
    };
    fits.then(|| Some((path()?, path()?)))?
}

#[cfg(test)]
mod tests;
