//! The prestarted runtime process of an unclaimed instance, which waits for its function.
//!
//! Owns the process and the pipe that it reads from, from before the claim until it takes over the function or
//! is rejected. `lifecycle` starts it; `worker` uses it as the first runtime process if core says that the
//! function's environment allows it. Its output before that belongs to no function.

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

/// Why the prestarted process cannot be used for a function.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("it has ended")]
    Ended,
    #[error("it was started with another {0}")]
    Differs(String),
    #[error("it cannot be given its function: {0}")]
    Write(#[from] io::Error),
}

#[derive(Debug)]
pub(crate) struct Prestarted {
    /// With the environment that the process was started with.
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
        let started = started.map_err(|error| anyhow::anyhow!("{error}"))?;
        let output = Output::new(started.printed);
        let output = output.inspect_err(|_| process::kill(Some(started.pid)))?;
        Ok(Prestarted {
            prestart,
            pid: started.pid,
            output,
            input,
        })
    }

    /// Emits what it has printed so far, line by line.
    pub(crate) fn printed(&mut self, mut emit: impl FnMut(&str)) {
        let mut emit = |line: &str| {
            emit(&format!(
                "before the claim the runtime process printed: {line}"
            ));
        };
        self.output.drain_all(&mut emit);
        self.output.end_line(&mut emit);
    }

    /// Hands the function over to the process. On an error the caller has to kill it.
    pub(crate) fn begin(&mut self, config: &InstanceConfig) -> Result<(), Unusable> {
        if process::peek_exit(self.pid).is_some() {
            return Err(Unusable::Ended);
        }
        if let Some(name) = self.prestart.differs_in(&config.environment) {
            return Err(Unusable::Differs(name.clone()));
        }
        let begin = serde_json::to_vec(&Begin::of(config)).map_err(io::Error::from)?;
        // The pipe is empty and does not block: it takes the whole message, or the message is too large.
        match self.input.write(&begin)? {
            size if size == begin.len() => Ok(()),
            _ => Err(io::Error::from(io::ErrorKind::FileTooLarge).into()),
        }
    }
}
