//! The machine of a run, in one line.
//!
//! Figures mean nothing without it; `report` puts it under the title. Reads `/proc` only.

use std::fs;
use std::thread::available_parallelism;

use anyhow::{Context, Result};

/// Read before anything is measured.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    cores: usize,
    processor: String,
    kernel: String,
    /// How many threads of others ran or waited over the last minute.
    load: String,
}

impl Machine {
    pub(crate) fn read() -> Result<Self> {
        let info = fs::read_to_string("/proc/cpuinfo").context("/proc/cpuinfo")?;
        let model = info.lines().find(|line| line.starts_with("model name"));
        let model = model
            .and_then(|line| line.split_once(':'))
            .map(|(_, model)| model.trim());
        let load = fs::read_to_string("/proc/loadavg").context("/proc/loadavg")?;
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").context("osrelease")?;
        Ok(Machine {
            cores: available_parallelism()?.get(),
            processor: model.unwrap_or(std::env::consts::ARCH).to_owned(),
            kernel: kernel.trim().to_owned(),
            load: load.split(' ').next().unwrap_or_default().to_owned(),
        })
    }

    pub(crate) fn line(&self) -> String {
        let Machine {
            cores,
            processor,
            kernel,
            load,
        } = self;
        format!("{cores} cores ({processor}), Linux {kernel}, load {load} before the start")
    }
}
