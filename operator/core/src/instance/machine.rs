//! The state of one instance: its runtime process, its lease, and the invocation that ends.
//!
//! Owns the order of init, lease, delivery, answer and the following `next`; the init limit, the
//! function's timeout, and which log line is written when. Fed by the supervisor with what the runtime
//! process and the gateway did. `event` has the events and actions.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::event::{
    Action, Condition, Event, INIT_LIMIT, LogLine, Outcome, Refusal, RequestId, SHUTDOWN_GRACE,
    Status,
};
use super::failure::{Failure, PAYLOAD_LIMIT};

#[derive(Debug)]
enum Process {
    /// No process runs. The next lease starts one and waits for its init.
    Down,
    Starting {
        since: Instant,
    },
    /// Init is done. `parked`: the process waits in `next`; otherwise it works.
    Up {
        parked: bool,
    },
    /// The process was signalled and has not exited yet. `restart`: a new one follows.
    Dying {
        restart: bool,
    },
}

#[derive(Debug)]
struct Lease {
    request_id: RequestId,
    started: Instant,
    delivered: bool,
    stream: Stream,
}

/// How far the runtime's streamed response has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    /// No streamed response has begun.
    None,
    Open,
    /// It broke off. No other response can take its place, because the gateway has its first part.
    Broken,
}

/// An answered invocation whose runtime has not called `next` yet.
#[derive(Debug)]
struct Closing {
    request_id: RequestId,
    started: Instant,
    answered_as: Option<Failure>,
    /// The function itself answered with an error.
    function_error: bool,
}

/// The state of one instance. The first event is [`Event::Boot`].
#[derive(Debug)]
pub struct Machine {
    timeout: Duration,
    /// Whether the runtime process stands still between events.
    freezes: bool,
    is_frozen: bool,
    process: Process,
    lease: Option<Lease>,
    closing: Option<Closing>,
    /// The failure of an init that no invocation waited for. The next lease gets it as its answer.
    failed_init: Option<Failure>,
    /// The duration of the last init, until a REPORT line contains it.
    init: Option<Duration>,
    out_of_memory: bool,
    draining: bool,
    kill_at: Option<Instant>,
    refused_while_busy: bool,
    status: Status,
    actions: VecDeque<Action>,
}

impl Machine {
    /// `timeout`: the function's limit for one invocation.
    pub fn new(timeout: Duration) -> Self {
        Machine {
            timeout,
            freezes: false,
            is_frozen: false,
            process: Process::Down,
            lease: None,
            closing: None,
            failed_init: None,
            init: None,
            out_of_memory: false,
            draining: false,
            kill_at: None,
            refused_while_busy: false,
            status: Status {
                epoch: 0,
                condition: Condition::Starting,
            },
            actions: VecDeque::new(),
        }
    }

    /// `freezes`: whether the runtime process stands still while no invocation is at hand.
    pub fn freezing(mut self, freezes: bool) -> Self {
        self.freezes = freezes;
        self
    }

    /// Handles an event. [`Machine::poll_action`] returns what follows from it.
    ///
    /// # Errors
    /// A refusal leaves the state unchanged, except [`Refusal::ResponseTooLarge`], which ends the invocation.
    pub fn handle(&mut self, now: Instant, event: Event) -> Result<(), Refusal> {
        self.expire(now);
        let result = match event {
            Event::Boot => {
                self.start_runtime(now);
                Ok(())
            }
            Event::Lease { request_id } => self.on_lease(now, request_id),
            Event::Next => self.on_next(now),
            Event::Response { request_id, bytes } => self.on_response(request_id, bytes),
            Event::Began { request_id } => self.on_began(request_id),
            Event::Ended { request_id, bytes } => self.on_ended(request_id, bytes),
            Event::Aborted { request_id } => self.on_aborted(&request_id),
            Event::Error { request_id } => self.on_error(request_id),
            Event::InitError => self.on_init_error(now),
            Event::Exited(exit) => {
                self.on_exited(now, Failure::Exit(exit));
                Ok(())
            }
            Event::KilledForMemory => {
                self.on_exited(now, Failure::OutOfMemory);
                Ok(())
            }
            Event::NotStarted => {
                self.on_exited(now, Failure::InvalidEntrypoint);
                Ok(())
            }
            Event::MemoryExceeded => {
                self.on_memory_exceeded();
                Ok(())
            }
            Event::Drain => {
                self.draining = true;
                self.end_if_idle(now);
                Ok(())
            }
        };
        self.update_status();
        result
    }

    /// The next action to carry out.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Machine::wake`] is due, unless an event comes first.
    pub fn next_wakeup(&self) -> Option<Instant> {
        [self.kill_at, self.init_deadline(), self.deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Acts on deadlines that have passed.
    pub fn wake(&mut self, now: Instant) {
        self.expire(now);
        self.update_status();
    }

    pub fn status(&self) -> Status {
        self.status
    }

    /// The invocation that the runtime process works on. Output of the process belongs to it.
    pub fn current_request(&self) -> Option<&RequestId> {
        match (&self.closing, &self.lease) {
            (Some(closing), _) => Some(&closing.request_id),
            (None, Some(lease)) => Some(&lease.request_id),
            (None, None) => None,
        }
    }

    /// Whether the runtime process may be using its memory now (init or an invocation).
    pub fn is_working(&self) -> bool {
        matches!(
            self.process,
            Process::Starting { .. } | Process::Up { parked: false }
        )
    }

    fn on_lease(&mut self, now: Instant, request_id: RequestId) -> Result<(), Refusal> {
        if self.draining {
            return Err(Refusal::Draining);
        }
        if self.lease.is_some() {
            self.refused_while_busy = true;
            return Err(Refusal::Busy);
        }
        match self.process {
            Process::Starting { .. } | Process::Dying { .. } => return Err(Refusal::Starting),
            Process::Up { parked: true } => {
                self.begin(now, request_id);
                self.deliver();
            }
            // The last invocation was answered, and the runtime has not called `next` yet: the lease waits.
            Process::Up { parked: false } => {
                self.lease = Some(Lease {
                    request_id,
                    started: now,
                    delivered: false,
                    stream: Stream::None,
                });
            }
            Process::Down => match self.failed_init.take() {
                Some(failure) if !matches!(failure, Failure::Timeout(_)) => {
                    self.begin(now, request_id);
                    self.fail_lease(now, failure);
                    self.start_runtime(now);
                }
                _ => {
                    self.begin(now, request_id);
                    self.start_runtime(now);
                }
            },
        }
        Ok(())
    }

    fn on_next(&mut self, now: Instant) -> Result<(), Refusal> {
        match self.process {
            Process::Starting { since } => {
                self.init = Some(now - since);
                self.process = Process::Up { parked: true };
                self.failed_init = None;
            }
            Process::Up { parked: false } if self.closing.is_some() => {
                self.process = Process::Up { parked: true };
                self.close(now);
                if let Some(lease) = &mut self.lease {
                    lease.started = now;
                    let request_id = lease.request_id.clone();
                    self.log(LogLine::Start { request_id });
                }
            }
            _ => return Err(Refusal::InvalidState),
        }
        if self.lease.is_some() {
            self.deliver();
        } else {
            self.end_if_idle(now);
            self.freeze_if_idle();
        }
        Ok(())
    }

    /// Only a process that waits in `next` is frozen: before that it may be answering, or work on after its answer.
    fn freeze_if_idle(&mut self) {
        if self.freezes && matches!(self.process, Process::Up { parked: true }) {
            self.is_frozen = true;
            self.actions.push_back(Action::Freeze);
        }
    }

    fn thaw(&mut self) {
        if std::mem::take(&mut self.is_frozen) {
            self.actions.push_back(Action::Thaw);
        }
    }

    fn on_began(&mut self, request_id: RequestId) -> Result<(), Refusal> {
        self.check_stream(&request_id, Stream::None)?;
        self.set_stream(Stream::Open);
        let init = self.init;
        self.actions
            .push_back(Action::BeginAnswer { request_id, init });
        Ok(())
    }

    fn on_ended(&mut self, request_id: RequestId, bytes: usize) -> Result<(), Refusal> {
        self.check_stream(&request_id, Stream::Open)?;
        self.answer_within_limit(bytes)
    }

    fn on_aborted(&mut self, request_id: &str) -> Result<(), Refusal> {
        self.check_stream(request_id, Stream::Open)?;
        self.set_stream(Stream::Broken);
        Ok(())
    }

    /// Checks that the runtime works on the invocation and that its streamed response is `expected`.
    fn check_stream(&self, request_id: &str, expected: Stream) -> Result<(), Refusal> {
        self.check_running(request_id)?;
        let stream = self.lease.as_ref().map(|lease| lease.stream);
        match stream == Some(expected) {
            true => Ok(()),
            false => Err(Refusal::InvalidState),
        }
    }

    fn set_stream(&mut self, stream: Stream) {
        if let Some(lease) = &mut self.lease {
            lease.stream = stream;
        }
    }

    fn on_response(&mut self, request_id: RequestId, bytes: usize) -> Result<(), Refusal> {
        self.check_stream(&request_id, Stream::None)?;
        self.answer_within_limit(bytes)
    }

    fn answer_within_limit(&mut self, bytes: usize) -> Result<(), Refusal> {
        if bytes > PAYLOAD_LIMIT {
            self.answer(Outcome::Failed(Failure::ResponseTooLarge));
            return Err(Refusal::ResponseTooLarge);
        }
        self.answer(Outcome::Success);
        Ok(())
    }

    fn on_error(&mut self, request_id: RequestId) -> Result<(), Refusal> {
        self.check_running(&request_id)?;
        self.answer(Outcome::FunctionError);
        Ok(())
    }

    fn check_running(&self, request_id: &str) -> Result<(), Refusal> {
        let running = self.lease.as_ref().filter(|lease| lease.delivered);
        match running {
            Some(lease) if *lease.request_id == *request_id => Ok(()),
            Some(_) => Err(Refusal::InvalidRequestId),
            None if matches!(self.process, Process::Starting { .. }) => Err(Refusal::InvalidState),
            None => Err(Refusal::InvalidRequestId),
        }
    }

    fn on_init_error(&mut self, now: Instant) -> Result<(), Refusal> {
        let Process::Starting { since } = self.process else {
            return Err(Refusal::InvalidState);
        };
        self.init_failed(now, since, Failure::Init);
        self.process = Process::Dying { restart: false };
        self.kill_at = Some(now + SHUTDOWN_GRACE);
        Ok(())
    }

    fn on_exited(&mut self, now: Instant, failure: Failure) {
        let failure = match std::mem::take(&mut self.out_of_memory) {
            true => Failure::OutOfMemory,
            false => failure,
        };
        self.kill_at = None;
        // The kernel may have killed it while it was frozen, for its memory.
        self.is_frozen = false;
        match std::mem::replace(&mut self.process, Process::Down) {
            Process::Starting { since } => self.init_failed(now, since, failure),
            Process::Dying { restart } => {
                if restart && !self.draining {
                    self.start_runtime(now);
                }
            }
            // The next lease starts an idle process again, so that a process that always exits costs
            // nothing while no invocation arrives.
            Process::Up { parked: true } | Process::Down => {}
            Process::Up { parked: false } => {
                if self.closing.is_some() {
                    self.close(now);
                    self.release_lease();
                } else if self.lease.is_some() {
                    self.fail_lease(now, failure);
                }
                if !self.draining {
                    self.start_runtime(now);
                }
            }
        }
        if self.draining && self.lease.is_none() {
            self.actions.push_back(Action::Shutdown);
        }
    }

    fn on_memory_exceeded(&mut self) {
        if self.is_working() && !self.out_of_memory {
            self.out_of_memory = true;
            self.actions.push_back(Action::Kill);
        }
    }

    fn init_failed(&mut self, now: Instant, since: Instant, failure: Failure) {
        let in_invocation = self.lease.is_some();
        self.log(LogLine::InitReport {
            duration: now - since,
            failure,
            in_invocation,
        });
        if in_invocation {
            self.fail_lease(now, failure);
        }
        // Without an invocation the next lease gets this failure. With one, this invocation just got it,
        // and the next lease starts a new init.
        self.failed_init = (!in_invocation).then_some(failure);
    }

    fn expire(&mut self, now: Instant) {
        if self.kill_at.is_some_and(|at| at <= now) {
            self.kill_at = None;
            self.actions.push_back(Action::Kill);
        }
        if self.deadline().is_some_and(|at| at <= now) {
            self.time_out(now);
        }
        if self.init_deadline().is_some_and(|at| at <= now)
            && let Process::Starting { since } = self.process
        {
            self.init_failed(now, since, Failure::Timeout(INIT_LIMIT));
            self.kill(false);
        }
    }

    fn time_out(&mut self, now: Instant) {
        if self.closing.is_some() {
            self.close(now);
            self.release_lease();
        } else if let Some(lease) = &self.lease {
            let request_id = lease.request_id.clone();
            if let Process::Starting { since } = self.process {
                let failure = Failure::Timeout(self.timeout);
                let duration = now - since;
                self.log(LogLine::InitReport {
                    duration,
                    failure,
                    in_invocation: true,
                });
            }
            self.log(LogLine::TimedOut {
                request_id,
                after: self.timeout,
            });
            self.fail_lease(now, Failure::Timeout(self.timeout));
        }
        match self.process {
            Process::Starting { .. } | Process::Up { .. } => self.kill(true),
            Process::Down | Process::Dying { .. } => {}
        }
    }

    /// The limit of an init that no invocation waits for. With an invocation, its deadline is the limit.
    fn init_deadline(&self) -> Option<Instant> {
        match self.process {
            Process::Starting { since } if self.lease.is_none() => Some(since + INIT_LIMIT),
            _ => None,
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match (&self.closing, &self.lease) {
            (Some(closing), _) => Some(closing.started + self.timeout),
            (None, Some(lease)) => Some(lease.started + self.timeout),
            (None, None) => None,
        }
    }

    fn start_runtime(&mut self, now: Instant) {
        self.process = Process::Starting { since: now };
        self.init = None;
        self.log(LogLine::InitStart);
        self.actions.push_back(Action::StartRuntime);
    }

    fn kill(&mut self, restart: bool) {
        self.process = Process::Dying { restart };
        self.actions.push_back(Action::Kill);
    }

    /// Accepts the invocation as the present one.
    fn begin(&mut self, now: Instant, request_id: RequestId) {
        self.log(LogLine::Start {
            request_id: request_id.clone(),
        });
        self.lease = Some(Lease {
            request_id,
            started: now,
            delivered: false,
            stream: Stream::None,
        });
    }

    fn deliver(&mut self) {
        self.thaw();
        self.process = Process::Up { parked: false };
        let lease = self.lease.as_mut().expect("only a held lease is delivered");
        lease.delivered = true;
        let (request_id, deadline) = (lease.request_id.clone(), lease.started + self.timeout);
        self.actions.push_back(Action::Deliver {
            request_id,
            deadline,
        });
    }

    /// The runtime answered. The invocation closes with the runtime's following `next`.
    fn answer(&mut self, outcome: Outcome) {
        let lease = self
            .lease
            .take()
            .expect("only a running invocation is answered");
        self.actions.push_back(Action::Answer {
            request_id: lease.request_id.clone(),
            outcome,
            init: self.init,
        });
        let answered_as = match outcome {
            Outcome::Failed(failure) => Some(failure),
            Outcome::Success | Outcome::FunctionError => None,
        };
        self.closing = Some(Closing {
            request_id: lease.request_id,
            started: lease.started,
            answered_as,
            function_error: outcome == Outcome::FunctionError,
        });
    }

    fn close(&mut self, now: Instant) {
        let Closing {
            request_id,
            started,
            answered_as,
            function_error,
        } = self
            .closing
            .take()
            .expect("only an answered invocation closes");
        self.log_end(request_id, now - started, answered_as, function_error);
    }

    fn fail_lease(&mut self, now: Instant, failure: Failure) {
        let lease = self.lease.take().expect("only a held lease fails");
        let init = self.init;
        if failure == Failure::InvalidEntrypoint {
            let request_id = lease.request_id.clone();
            self.log(LogLine::NotStarted { request_id });
        }
        let duration = now - lease.started;
        self.log_end(lease.request_id.clone(), duration, Some(failure), false);
        let outcome = Outcome::Failed(failure);
        self.actions.push_back(Action::Answer {
            request_id: lease.request_id,
            outcome,
            init,
        });
    }

    fn release_lease(&mut self) {
        if let Some(Lease { request_id, .. }) = self.lease.take() {
            self.actions.push_back(Action::Release { request_id });
        }
    }

    fn end_if_idle(&mut self, now: Instant) {
        if !self.draining || self.lease.is_some() || self.closing.is_some() {
            return;
        }
        match self.process {
            Process::Down => self.actions.push_back(Action::Shutdown),
            Process::Dying { .. } => {}
            Process::Starting { .. } | Process::Up { .. } => {
                self.process = Process::Dying { restart: false };
                self.kill_at = Some(now + SHUTDOWN_GRACE);
                // A process that is stopped handles no SIGTERM.
                self.thaw();
                self.actions.push_back(Action::Terminate);
            }
        }
    }

    fn log_end(
        &mut self,
        request_id: RequestId,
        duration: Duration,
        failure: Option<Failure>,
        function_error: bool,
    ) {
        let init = self.init.take();
        self.log(LogLine::End {
            request_id: request_id.clone(),
        });
        self.log(LogLine::Report {
            request_id,
            duration,
            init,
            failure,
            function_error,
        });
    }

    fn log(&mut self, line: LogLine) {
        self.actions.push_back(Action::Log(line));
    }

    fn update_status(&mut self) {
        let condition = match self.process {
            _ if self.draining => Condition::Draining,
            Process::Down | Process::Up { .. } => Condition::Ready,
            // An init inside an invocation: the instance takes the next lease after this one.
            Process::Starting { .. } if self.lease.is_some() => Condition::Ready,
            Process::Starting { .. } | Process::Dying { .. } => Condition::Starting,
        };
        let free_again = self.refused_while_busy && self.lease.is_none();
        if condition != self.status.condition || free_again {
            self.refused_while_busy = false;
            self.status = Status {
                epoch: self.status.epoch + 1,
                condition,
            };
        }
    }
}
