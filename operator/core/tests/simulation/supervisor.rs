//! The state of one simulated instance: the real `Machine`, and its runtime process.
//!
//! `world` owns the instances; `instances` runs them.

use std::time::{Duration, Instant};

use pilotlight_core::instance::{Condition, Machine, Status};

use crate::happening::code;

pub(crate) struct SimInstance {
    pub(crate) machine: Machine,
    /// Counts runtime processes. Steps of an earlier process have no effect.
    pub(crate) process: u32,
    pub(crate) alive: bool,
    /// The runtime process was stopped, and does nothing.
    pub(crate) is_frozen: bool,
    /// The invocation that the runtime process works on.
    pub(crate) running: Option<u64>,
    /// The last invocation that the runtime process got, and the last that it answered.
    pub(crate) delivered: Option<u64>,
    pub(crate) response: Option<u64>,
    /// The invocation of another gateway that has the lease.
    pub(crate) foreign: Option<u64>,
    pub(crate) reported: Status,
    pub(crate) wake: Option<Instant>,
}

impl SimInstance {
    /// `timeout`: of the function; `freezes`: whether its process stands still between events.
    pub(crate) fn new(timeout: Duration, freezes: bool) -> Self {
        let machine = Machine::new(timeout).freezing(freezes);
        let reported = machine.status();
        SimInstance {
            machine,
            process: 0,
            alive: false,
            is_frozen: false,
            running: None,
            delivered: None,
            response: None,
            foreign: None,
            reported,
            wake: None,
        }
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.machine.status().condition == Condition::Draining
    }

    /// The epoch and the condition with which its status stream begins.
    pub(crate) fn reported_status(&self) -> (u64, u8) {
        let status = self.machine.status();
        (status.epoch, code(status.condition))
    }
}
