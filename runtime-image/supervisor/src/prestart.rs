//! A runtime process that waits in an unclaimed instance for its function.
//!
//! Owns the process and the pipe that it waits at, from before the claim until it begins or is not
//! wanted. `lifecycle` starts it, once; `worker` has it begin in the place of the first runtime
//! process, if core says that it may. What it printed until then is no function's.

use std::io::{self, PipeWriter, Write};
use std::net::SocketAddr;
use std::process::Stdio;

use pilotlight_core::instance::prestart::Prestart;
use pilotlight_wire::config::InstanceConfig;
use pilotlight_wire::prestart::Begin;
use rustix::process::Pid;

use crate::environment;
use crate::output::Output;
use crate::process::{self, Program};

/// Why a process that waited is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfit {
    #[error("it has ended")]
    Ended,
    #[error("it was started with another {0}")]
    Differs(String),
    #[error("it cannot be told its function: {0}")]
    Untold(#[from] io::Error),
}

#[derive(Debug)]
pub(crate) struct Prestarted {
    /// With the environment that it has.
    prestart: Prestart,
    pub(crate) pid: Pid,
    pub(crate) output: Output,
    input: PipeWriter,
}

impl Prestarted {
    pub(crate) fn start(mut prestart: Prestart, api: SocketAddr) -> anyhow::Result<Self> {
        environment::add_own(&mut prestart.environment, api);
        let (input_end, input) = io::pipe()?;
        rustix::io::ioctl_fionbio(&input, true)?;
        let program = Program {
            command: &prestart.command,
            task_root: &prestart.task_root,
            environment: &prestart.environment,
        };
        let started = process::start(program, Stdio::from(input_end), None);
        let started = started.map_err(|unstartable| anyhow::anyhow!("{unstartable}"))?;
        let output = Output::new(started.printed);
        let output = output.inspect_err(|_| process::kill(Some(started.pid)))?;
        Ok(Prestarted {
            prestart,
            pid: started.pid,
            output,
            input,
        })
    }

    /// What it has printed so far, line by line.
    pub(crate) fn printed(&mut self, mut emit: impl FnMut(&str)) {
        let mut emit = |line: &str| {
            emit(&format!(
                "before the claim the runtime process printed: {line}"
            ));
        };
        self.output.drain_all(&mut emit);
        self.output.end_line(&mut emit);
    }

    /// Makes it the function's, or says why it cannot be: then it is to be killed.
    pub(crate) fn begin(&mut self, config: &InstanceConfig) -> Result<(), Unfit> {
        if process::peek_exit(self.pid).is_some() {
            return Err(Unfit::Ended);
        }
        if let Some(name) = self.prestart.differs_in(&config.environment) {
            return Err(Unfit::Differs(name.clone()));
        }
        let begin = serde_json::to_vec(&Begin::of(config)).map_err(io::Error::from)?;
        // Nobody waits for a reader here: the pipe is empty and takes it whole, or it is too long.
        match self.input.write(&begin)? {
            size if size == begin.len() => Ok(()),
            _ => Err(io::Error::from(io::ErrorKind::FileTooLarge).into()),
        }
    }
}
