//! The kernel's figures of a process: memory, processor time, context switches, children.
//!
//! Reads `/proc` for `footprint` and `pilotlight`. Linux only, like the supervisor.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

/// Resident memory, in KiB.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    pub(crate) rss: u64,
    /// The proportional share: a page that several processes map is divided among them.
    pub(crate) pss: u64,
}

/// What a process has done since its start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Activity {
    pub(crate) cpu: Duration,
    /// Context switches of all living threads, voluntary or not. The number falls when a thread ends.
    pub(crate) switches: u64,
}

impl Activity {
    pub(crate) fn since(self, before: Activity) -> Activity {
        Activity {
            cpu: self.cpu.saturating_sub(before.cpu),
            switches: self.switches.saturating_sub(before.switches),
        }
    }
}

pub(crate) fn memory(pid: u32) -> Result<Memory> {
    let rollup = read(&format!("/proc/{pid}/smaps_rollup"))?;
    let status = read(&format!("/proc/{pid}/status"))?;
    Ok(Memory {
        rss: field(&status, "VmRSS:")?,
        pss: field(&rollup, "Pss:")?,
    })
}

pub(crate) fn activity(pid: u32) -> Result<Activity> {
    let mut switches = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        // It may end while the directory is read.
        let Ok(status) = fs::read_to_string(thread?.path().join("status")) else {
            continue;
        };
        switches += field(&status, "voluntary_ctxt_switches:")?;
        switches += field(&status, "nonvoluntary_ctxt_switches:")?;
    }
    Ok(Activity {
        cpu: cpu(pid)?,
        switches,
    })
}

/// User and system time, to a clock tick.
pub(crate) fn cpu(pid: u32) -> Result<Duration> {
    let stat = read(&format!("/proc/{pid}/stat"))?;
    let fields = after_command(&stat)?;
    // Fields 14 and 15 of proc_pid_stat(5); `fields` begins with the third.
    let ticks = |field: usize| -> Result<u64> { Ok(fields[field - 3].parse()?) };
    let ticks = ticks(14)? + ticks(15)?;
    Ok(Duration::from_secs(ticks) / u32::try_from(rustix::param::clock_ticks_per_second())?)
}

/// The living children of a process. A zombie does not count.
pub(crate) fn children(parent: u32) -> Result<Vec<u32>> {
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc").context("/proc")? {
        let Some(pid) = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // It may end while the directory is read.
        let Ok(stat) = fs::read_to_string(Path::new("/proc").join(format!("{pid}/stat"))) else {
            continue;
        };
        let fields = after_command(&stat)?;
        if fields[0] != "Z" && fields[1].parse() == Ok(parent) {
            children.push(pid);
        }
    }
    Ok(children)
}

/// The fields of a `stat` after pid and command, which may hold spaces and parentheses.
fn after_command(stat: &str) -> Result<Vec<&str>> {
    let (_, rest) = stat
        .rsplit_once(')')
        .context("/proc/<pid>/stat without a command")?;
    let fields: Vec<_> = rest.split_whitespace().collect();
    anyhow::ensure!(fields.len() > 13, "/proc/<pid>/stat is short: {stat}");
    Ok(fields)
}

fn field(text: &str, name: &str) -> Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let value = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    value.with_context(|| format!("/proc/<pid> says no {name}"))
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_has_memory_and_an_activity_that_grows() {
        let mut echo = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("cat starts");
        let mut to_it = echo.stdin.take().expect("its input");
        let mut from_it = BufReader::new(echo.stdout.take().expect("its output"));
        let mut exchange = || {
            to_it.write_all(b"line\n").expect("it reads");
            from_it.read_line(&mut String::new()).expect("it writes")
        };
        exchange();
        let memory = memory(echo.id()).expect("its memory");
        assert!(memory.rss >= memory.pss && memory.pss > 0, "{memory:?}");

        let before = activity(echo.id()).expect("its activity");
        let grown = (0..1000).find_map(|_| {
            exchange();
            let after = activity(echo.id()).expect("its activity");
            (after.switches > before.switches).then_some(after)
        });
        assert!(grown.expect("it waits now and then").cpu >= before.cpu);

        drop(to_it);
        assert!(echo.wait().expect("it ends").success());
    }

    #[test]
    fn a_command_with_spaces_and_parentheses_is_skipped() {
        let stat = "7 (a ) R 1) S 3 4 5 6 7 8 9 10 11 12 13 14 15";
        assert_eq!(after_command(stat).expect("fields")[..2], ["S", "3"]);
    }
}
