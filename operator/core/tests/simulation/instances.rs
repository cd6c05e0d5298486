//! Simulated instances: the real `Machine`, and a runtime process whose behaviour is random: init and
//! handler answer, fail, exit, hang, use too much memory or never start.
//!
//! Fed by `world`, which delivers the messages and owns the instances (`supervisor`). `gateway` is the other end of the connections.

use std::sync::Arc;

use pilotlight_core::instance::failure::{Exit, PAYLOAD_LIMIT};
use pilotlight_core::instance::{Action, Event, Outcome, Refusal};
use pilotlight_core::invoke::pool::InstanceId;
use pilotlight_core::invoke::queue::InvocationId;

use crate::answers::{self, Answer};
use crate::faults::Broken;
use crate::happening::{Happening, Step, code};
use crate::supervisor::SimInstance;
use crate::world::{FOREIGN, World, millis};

impl World {
    pub(crate) fn boot(&mut self, id: InstanceId) {
        // Every second instance: the two kinds have to look the same from outside.
        let freezes = self.instances.len().is_multiple_of(2);
        let instance = SimInstance::new(self.settings.timeout, freezes);
        self.instances.insert(id, instance);
        for name in self.names_of(id) {
            self.send(Happening::UpArrives(name));
        }
        self.machine_handles(id, Event::Boot);
    }

    pub(crate) fn lease_arrives(&mut self, name: InstanceId, invocation: u64) {
        let foreign = invocation >= FOREIGN;
        let id = self.started_as(name);
        if self.stopped.contains(&id) {
            // Its kernel takes the lease.
            return;
        }
        let Some(instance) = self.instances.get_mut(&id) else {
            // Connection refused.
            return self.send(Happening::NotStartedArrives(name, None));
        };
        let request_id = Arc::from(invocation.to_string());
        let result = instance
            .machine
            .handle(self.now, Event::Lease { request_id });
        match result {
            Ok(()) if foreign => {
                instance.foreign = Some(invocation);
                self.summary.foreign += 1;
            }
            Ok(()) => {}
            Err(Refusal::Busy) if self.tampering.strikes(Broken::BusyIgnored) => {
                self.run_beside(id, invocation);
            }
            Err(_) => self.not_started(id, invocation),
        }
        self.machine_acts(id);
    }

    /// Runs the invocation at once, in parallel with the present one.
    fn run_beside(&mut self, id: InstanceId, invocation: u64) {
        self.begins(id, invocation);
        self.oracle.ended(invocation, id);
        self.tell(id, invocation, Answer::Success(invocation));
    }

    fn begins(&mut self, id: InstanceId, invocation: u64) {
        // The other gateway may not know the newest revision yet.
        let revision = (invocation < FOREIGN).then(|| self.made_of[&id]);
        self.oracle.began(invocation, id, revision);
    }

    fn not_started(&mut self, id: InstanceId, invocation: u64) {
        if invocation >= FOREIGN {
            self.oracle
                .answered(InvocationId(invocation), answers::busy());
            return;
        }
        let status = Some(self.instances[&id].reported_status());
        if let Some(name) = self.holder(invocation) {
            self.send(Happening::NotStartedArrives(name, status));
        }
    }

    /// The pool's name of the instance that has the lease for the invocation.
    fn holder(&self, invocation: u64) -> Option<InstanceId> {
        let mut leased = self.leased.iter();
        leased
            .find(|(_, one)| **one == invocation)
            .map(|(name, _)| *name)
    }

    pub(crate) fn machine_wakes(&mut self, id: InstanceId) {
        if let Some(instance) = self.instances.get_mut(&id) {
            instance.wake = None;
            instance.machine.wake(self.now);
            self.machine_acts(id);
        }
    }

    pub(crate) fn machine_handles(&mut self, id: InstanceId, event: Event) {
        if let Some(instance) = self.instances.get_mut(&id) {
            let _refused = instance.machine.handle(self.now, event);
            self.machine_acts(id);
        }
    }

    pub(crate) fn runtime_step(&mut self, id: InstanceId, process: u32, step: Step) {
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        if instance.process != process || !instance.alive {
            return;
        }
        let is_of_kernel = matches!(step, Step::Signalled(_) | Step::KilledForMemory);
        if instance.is_frozen && !is_of_kernel {
            return;
        }
        let running = instance.running;
        let request_id = || Arc::from(running.unwrap_or(FOREIGN * 2).to_string());
        let event = match step {
            Step::Next => Event::Next,
            Step::InitError => Event::InitError,
            Step::Response => Event::Response {
                request_id: request_id(),
                bytes: 10,
            },
            Step::HugeResponse => Event::Response {
                request_id: request_id(),
                bytes: PAYLOAD_LIMIT + 1,
            },
            Step::Begin => Event::Began {
                request_id: request_id(),
            },
            Step::Abort if !self.tampering.strikes(Broken::CutStreamTakenForWhole) => {
                Event::Aborted {
                    request_id: request_id(),
                }
            }
            Step::End | Step::Abort => Event::Ended {
                request_id: request_id(),
                bytes: 10,
            },
            Step::Error => Event::Error {
                request_id: request_id(),
            },
            Step::ExceedMemory => Event::MemoryExceeded,
            Step::Exit(status) => Event::Exited(Exit::Code(status)),
            Step::Signalled(signal) => Event::Exited(Exit::Signal(signal)),
            Step::KilledForMemory => Event::KilledForMemory,
            Step::NotStarted => Event::NotStarted,
        };
        match step {
            Step::Exit(_) | Step::Signalled(_) | Step::KilledForMemory | Step::NotStarted => {
                instance.alive = false;
                instance.running = None;
                self.oracle.gone(id);
            }
            Step::Begin | Step::Abort => instance.response = running,
            Step::Response | Step::HugeResponse | Step::End | Step::Error => {
                instance.running = None;
                instance.response = running;
                if let Some(invocation) = running {
                    self.oracle.ended(invocation, id);
                }
            }
            Step::Next | Step::InitError | Step::ExceedMemory => {}
        }
        // A runtime may call in the wrong state at any time; the machine then refuses the call.
        let _refused = instance.machine.handle(self.now, event);
        match step {
            Step::Response | Step::HugeResponse | Step::End | Step::Error => {
                self.after_answering(id, process);
            }
            Step::Begin => self.after_beginning(id, process),
            Step::Abort => self.after_aborting(id, process),
            Step::InitError => self.step_later(id, process, Step::Exit(1), 0..2_000),
            _ => {}
        }
        self.machine_acts(id);
    }

    fn after_answering(&mut self, id: InstanceId, process: u32) {
        match self.rng.u8(..) {
            0..230 => self.step_later(id, process, Step::Next, 0..3),
            230..240 => self.step_later(id, process, Step::Exit(1), 0..20),
            240..250 => self.step_later(id, process, Step::Next, 0..3_000),
            _ => {}
        }
    }

    fn after_beginning(&mut self, id: InstanceId, process: u32) {
        let quick = 0..200;
        match self.rng.u8(..) {
            0..180 => self.step_later(id, process, Step::End, quick),
            180..200 => self.step_later(id, process, Step::Error, quick),
            200..230 => self.step_later(id, process, Step::Abort, quick),
            230..240 => self.step_later(id, process, Step::Exit(1), quick),
            240..245 => self.step_later(id, process, Step::ExceedMemory, quick),
            // It writes on until the timeout.
            _ => {}
        }
    }

    fn after_aborting(&mut self, id: InstanceId, process: u32) {
        match self.rng.u8(..) {
            0..120 => self.step_later(id, process, Step::Exit(1), 0..20),
            120..200 => self.step_later(id, process, Step::Error, 0..20),
            200..220 => self.step_later(id, process, Step::End, 0..20),
            _ => {}
        }
    }

    fn step_later(&mut self, id: InstanceId, process: u32, step: Step, ms: std::ops::Range<u64>) {
        let delay = millis(self.rng.u64(ms));
        self.after(delay, Happening::Runtime(id, process, step));
    }

    fn machine_acts(&mut self, id: InstanceId) {
        while let Some(instance) = self.instances.get_mut(&id)
            && let Some(action) = instance.machine.poll_action()
        {
            match action {
                Action::StartRuntime => self.start_runtime(id),
                Action::Freeze => {
                    assert!(instance.alive && instance.running.is_none(), "{id:?} works");
                    instance.is_frozen = true;
                }
                Action::Thaw => instance.is_frozen = false,
                Action::Deliver { .. } | Action::Terminate if instance.is_frozen => {
                    panic!("the process of {id:?} stands still: {action:?}");
                }
                Action::Deliver { request_id, .. } => self.deliver(id, &request_id),
                Action::BeginAnswer { .. } => self.summary.streamed += 1,
                Action::Answer {
                    request_id,
                    outcome,
                    ..
                } => self.answer(id, &request_id, outcome),
                Action::Release { request_id } => {
                    self.summary.released += 1;
                    let invocation = parse(&request_id);
                    instance.foreign = instance.foreign.filter(|one| *one != invocation);
                    self.not_started(id, invocation);
                }
                Action::Kill => self.signal(id, 9),
                Action::Terminate if self.rng.u8(..) < 200 => self.signal(id, 15),
                // The process ignores SIGTERM.
                Action::Terminate => {}
                Action::Shutdown if self.tampering.strikes(Broken::ShutdownForgotten) => {}
                Action::Shutdown => {
                    if instance.alive {
                        self.oracle.left(format!("a runtime process of {id:?}'s"));
                    }
                    self.instance_ends(id);
                }
                Action::Log(_) => {}
            }
        }
        self.report_and_schedule(id);
    }

    fn report_and_schedule(&mut self, id: InstanceId) {
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        let status = instance.machine.status();
        let wake = instance.machine.next_wakeup();
        self.oracle.wakes_at(wake, || format!("{id:?}"));
        let new_wake = wake.filter(|at| instance.wake.is_none_or(|known| *at < known));
        instance.wake = new_wake.or(instance.wake);
        let has_changed = std::mem::replace(&mut instance.reported, status) != status;
        if let Some(at) = new_wake {
            self.after(at - self.now, Happening::MachineWake(id));
        }
        if has_changed {
            for name in self.names_of(id) {
                let report = Happening::StatusArrives(name, status.epoch, code(status.condition));
                self.send(report);
            }
        }
    }

    fn start_runtime(&mut self, id: InstanceId) {
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        assert!(!instance.alive, "{id:?} starts a second runtime process");
        instance.process += 1;
        instance.alive = true;
        let process = instance.process;
        match self.rng.u8(..) {
            0..220 => self.step_later(id, process, Step::Next, 1..800),
            220..228 => self.step_later(id, process, Step::InitError, 1..800),
            228..236 => self.step_later(id, process, Step::Exit(1), 1..800),
            236..242 => self.step_later(id, process, Step::ExceedMemory, 1..800),
            242..250 => self.step_later(id, process, Step::Next, 8_000..20_000),
            250..252 => self.step_later(id, process, Step::KilledForMemory, 1..800),
            // At once, before any other event of this instance.
            252..254 => self.runtime_step(id, process, Step::NotStarted),
            _ => {}
        }
    }

    fn deliver(&mut self, id: InstanceId, request_id: &str) {
        let invocation = parse(request_id);
        self.begins(id, invocation);
        if self.tampering.strikes(Broken::DeliveredTwice) {
            self.begins(id, invocation);
        }
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        assert!(instance.alive, "{id:?} delivers to a process that is gone");
        instance.running = Some(invocation);
        instance.delivered = Some(invocation);
        let process = instance.process;
        let quick = 0..200;
        match self.rng.u8(..) {
            0..130 => self.step_later(id, process, Step::Response, quick),
            130..190 => self.step_later(id, process, Step::Begin, quick),
            190..205 => self.step_later(id, process, Step::Response, 200..20_000),
            205..220 => self.step_later(id, process, Step::Error, quick),
            220..225 => self.step_later(id, process, Step::HugeResponse, quick),
            225..233 => self.step_later(id, process, Step::Exit(0), quick),
            233..240 => self.step_later(id, process, Step::Signalled(11), quick),
            240..245 => self.step_later(id, process, Step::ExceedMemory, quick),
            245..248 => self.step_later(id, process, Step::KilledForMemory, quick),
            _ => {}
        }
    }

    fn answer(&mut self, id: InstanceId, request_id: &str, outcome: Outcome) {
        let invocation = parse(request_id);
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        instance.foreign = instance.foreign.filter(|one| *one != invocation);
        let disguise = match instance.delivered == Some(invocation) {
            true => Broken::CrashTakenForSuccess,
            false => Broken::FailedInitTakenForSuccess,
        };
        let answer = match outcome {
            Outcome::Success => Answer::Success(instance.response.expect("it has answered")),
            Outcome::FunctionError => Answer::FunctionError,
            Outcome::Failed(_) if self.tampering.strikes(disguise) => Answer::Success(invocation),
            Outcome::Failed(_) => Answer::Failed,
        };
        match answer {
            Answer::Success(_) => self.summary.succeeded += 1,
            Answer::FunctionError | Answer::Failed => self.summary.failed += 1,
        }
        self.tell(id, invocation, answer);
    }

    /// Sends the answer to the gateway that has the lease.
    fn tell(&mut self, id: InstanceId, invocation: u64, answer: Answer) {
        if invocation >= FOREIGN {
            let outcome = answer.outcome();
            return self.oracle.answered(InvocationId(invocation), outcome);
        }
        let (epoch, code) = self.instances[&id].reported_status();
        if let Some(name) = self.holder(invocation) {
            self.send(Happening::AnswerArrives(
                name, invocation, answer, epoch, code,
            ));
        }
    }

    fn signal(&mut self, id: InstanceId, signal: i32) {
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        if instance.alive {
            let process = instance.process;
            self.step_later(id, process, Step::Signalled(signal), 0..5);
        }
    }
}

fn parse(request_id: &str) -> u64 {
    request_id
        .parse()
        .expect("the simulation names invocations by number")
}
