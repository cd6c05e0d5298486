//! The machine of a run, in one line.
//!
//! Figures mean nothing without it; `report` prints it under the title. Also measures what other processes do
//! meanwhile; `footprint` asks for it while the bench itself is idle. Reads only `/proc`.

use std::fs;
use std::thread::available_parallelism;

use anyhow::{Context, Result, bail};

/// Read before anything is measured.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    cores: usize,
    processor: String,
    kernel: String,
}

impl Machine {
    pub(crate) fn read() -> Result<Self> {
        let info = fs::read_to_string("/proc/cpuinfo").context("/proc/cpuinfo")?;
        let model = info.lines().find(|line| line.starts_with("model name"));
        let model = model
            .and_then(|line| line.split_once(':'))
            .map(|(_, model)| model.trim());
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").context("osrelease")?;
        Ok(Machine {
            cores: available_parallelism()?.get(),
            processor: model.unwrap_or(std::env::consts::ARCH).to_owned(),
            kernel: kernel.trim().to_owned(),
        })
    }

    pub(crate) fn line(&self) -> String {
        let Machine {
            cores,
            processor,
            kernel,
        } = self;
        format!("{cores} cores ({processor}), Linux {kernel}")
    }
}

/// What all cores together have done since the machine's start, in clock ticks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cores {
    idle: u64,
    all: u64,
}

impl Cores {
    pub(crate) fn now() -> Result<Self> {
        let stat = fs::read_to_string("/proc/stat").context("/proc/stat")?;
        let line = stat.lines().next().unwrap_or_default();
        // user nice system idle iowait irq softirq steal; guest times are in user's already.
        let ticks = line.split_whitespace().skip(1).take(8).map(str::parse);
        let ticks = ticks
            .collect::<Result<Vec<u64>, _>>()
            .context("/proc/stat")?;
        let [_, _, _, idle, waiting, ..] = ticks[..] else {
            bail!("/proc/stat begins with {line:?}");
        };
        Ok(Cores {
            idle: idle + waiting,
            all: ticks.iter().sum(),
        })
    }

    /// The share of the time since `before` in which the cores worked.
    pub(crate) fn busy_since(self, before: Cores) -> f64 {
        let (idle, all) = (self.idle - before.idle, self.all - before.all);
        1.0 - idle as f64 / all.max(1) as f64
    }
}
