//! The signals that end the program: SIGINT, SIGTERM and SIGHUP have the same effect.
//!
//! The program listens for them from its start, so that an interrupted preparation cleans up as well. `local` decides
//! what a first and a second signal mean.

use std::io;

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    /// From now on the kernel no longer ends the program for these signals.
    pub(crate) fn listen() -> Result<Self> {
        let listen = || -> io::Result<Self> {
            Ok(Self {
                interrupt: signal(SignalKind::interrupt())?,
                terminate: signal(SignalKind::terminate())?,
                hangup: signal(SignalKind::hangup())?,
            })
        };
        listen().context("signals cannot be listened for")
    }

    /// Waits for the next signal.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
