//! All state of an instance, and the execution of what core's `Machine` decides.
//!
//! Fed by `control_api` (leases), `runtime_api` (the runtime's requests), `printed` (output) and `lifecycle`
//! (time, signals, exits). Each passes in an event; the resulting actions are executed before it returns.
//! Decides nothing about an invocation: `pilotlight_core::instance` does.

mod actions;
mod printed;

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::header::HeaderValue;
use pilotlight_core::instance::failure::{Exit, PAYLOAD_LIMIT};
use pilotlight_core::instance::following::Following;
use pilotlight_core::instance::log_rate::LogRate;
use pilotlight_core::instance::phases::Phase;
use pilotlight_core::instance::{Event, Machine, Refusal, Status};
use pilotlight_wire::config::{BetweenEvents, InstanceConfig};
use pilotlight_wire::lease::LeaseRequest;
use pilotlight_wire::log_record::LogSource;
use rustix::process::Pid;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::clock;
use crate::invocation::{Answered, Delivery, Invocation, Posted, Tail};
use crate::log::Log;
use crate::memory::{Measured, Memory};
use crate::output::{Drained, Output};
use crate::platform_log::PlatformLog;
use crate::prestart::Prestarted;
use crate::process::{Kernel, ProcessControl};
use crate::relay::Relay;
use crate::segments::Daemon;

/// Happens when the gateway that claimed the instance was lost before another one knew about it.
const ORPHANED: &str = "the instance ends because no gateway is connected to it";
/// The process id of the child follows.
const CHILD_KILLED: &str =
    "the function used more memory than it has: killed the largest process that it has started";
/// An exit by SIGKILL.
const KILLED: Exit = Exit::Signal(9);

/// The most marks that may wait for an invocation's end; a further one is logged at once.
const WAITING_MARKS_LIMIT: usize = 64;

pub(crate) type Shared = Rc<RefCell<Worker>>;
pub(crate) type WeakShared = Weak<RefCell<Worker>>;

/// What a [`Worker`] starts with besides its configuration.
#[derive(Debug)]
pub(crate) struct Setup {
    /// Bytes a second that are logged of what the function prints; `None`: all.
    pub(crate) log_rate: Option<u32>,
    pub(crate) processes: Box<dyn ProcessControl>,
    /// The process that becomes the first runtime process if it suits the function.
    pub(crate) prestarted: Option<Prestarted>,
    /// How long it took to receive and unpack the code.
    pub(crate) unpack: Option<Duration>,
    /// Takes the function's segments, if traces are kept.
    pub(crate) daemon: Option<Daemon>,
    /// For an instance of a warm pool: it ends when no gateway was connected for this long.
    pub(crate) orphaned_after: Option<Duration>,
}

impl Default for Setup {
    fn default() -> Self {
        Setup {
            processes: Box::new(Kernel::default()),
            prestarted: None,
            unpack: None,
            daemon: None,
            orphaned_after: None,
            log_rate: None,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Worker {
    this: WeakShared,
    /// The configuration, with the complete environment.
    config: InstanceConfig,
    machine: Machine,
    processes: Box<dyn ProcessControl>,
    prestarted: Option<Prestarted>,
    /// `None` once an answer has reported it.
    unpack: Option<Duration>,
    following: Option<Following>,
    log: Log,
    platform_log: PlatformLog,
    log_rate: LogRate,
    daemon: Option<Daemon>,
    memory: Memory,
    /// When the memory is measured next.
    measure_at: Option<Instant>,
    /// The runtime process; it leads a process group.
    leader: Option<Pid>,
    /// Its descendants outside its process group that are frozen together with it.
    frozen_apart: Vec<Pid>,
    output: Option<Output>,
    /// Read the output when the pipe becomes readable; aborted when the process ends.
    output_tasks: JoinSet<()>,
    /// The present invocation, and the previous one until that is closed.
    invocations: Vec<Invocation>,
    /// The log since the last invocation, usually of an init. The next invocation's tail begins with it.
    between: Tail,
    /// Marks that wait until an invocation's last record is logged.
    marks: Vec<String>,
    /// The error that the runtime posted when its init failed.
    init_error: Option<Posted>,
    /// Why the runtime process could not be started the last time.
    start_error: String,
    /// The runtime's waiting `next`.
    next: Option<oneshot::Sender<Delivery>>,
    /// An event whose `next` request was cancelled before it was delivered.
    undelivered: Option<Delivery>,
    status: Option<watch::Sender<Status>>,
    /// When `lifecycle` wakes the worker: possibly too early, never too late.
    alarm: Option<Instant>,
    /// Notifies `lifecycle` of an earlier alarm or of the end.
    pub(crate) changed: Rc<Notify>,
    pub(crate) finished: bool,
}

impl Worker {
    pub(crate) fn new(config: InstanceConfig, setup: Setup) -> Shared {
        let freezes = config.between_events == BetweenEvents::Freeze;
        let machine = Machine::new(config.timeout.duration()).freezing(freezes);
        let limit = setup.orphaned_after;
        let (status, _) = watch::channel(machine.status());
        // In local mode the gateway reads standard output.
        let relay = (!config.ends_with_parent).then(Relay::default);
        Rc::new_cyclic(|this| {
            RefCell::new(Worker {
                this: this.clone(),
                platform_log: PlatformLog::new(&config),
                config,
                machine,
                processes: setup.processes,
                prestarted: setup.prestarted,
                unpack: setup.unpack,
                following: limit.map(|limit| Following::new(clock::now(), limit)),
                log: Log::new(relay),
                log_rate: LogRate::new(setup.log_rate),
                daemon: setup.daemon,
                memory: Memory::default(),
                measure_at: None,
                leader: None,
                frozen_apart: Vec::new(),
                output: None,
                output_tasks: JoinSet::new(),
                invocations: Vec::new(),
                between: Tail::default(),
                marks: Vec::new(),
                init_error: None,
                start_error: String::new(),
                next: None,
                undelivered: None,
                status: Some(status),
                alarm: None,
                changed: Rc::default(),
                finished: false,
            })
        })
    }

    /// Starts the runtime.
    pub(crate) fn boot(&mut self) {
        self.handle_event(Event::Boot);
    }

    /// Refuses further leases, ends the runtime process when it is idle, then finishes.
    pub(crate) fn drain(&mut self) {
        self.handle_event(Event::Drain);
    }

    /// A gateway has opened a request. While one is open, the instance is not orphaned.
    pub(crate) fn follow(&mut self) {
        if let Some(following) = &mut self.following {
            following.begin();
        }
    }

    /// Such a request is finished, or its connection has broken.
    pub(crate) fn unfollow(&mut self) {
        if let Some(following) = &mut self.following {
            following.end(clock::now());
            self.set_alarm();
        }
    }

    pub(crate) fn log(&self) -> Log {
        self.log.clone()
    }

    /// The lease of the invocation that the runtime process works on.
    pub(crate) fn current(&self) -> Option<&LeaseRequest> {
        let id = self.machine.current_request()?;
        let mut requests = self.invocations.iter().map(|held| &held.request);
        requests.find(|request| request.request_id == *id)
    }

    pub(crate) fn status(&self) -> Status {
        self.machine.status()
    }

    /// `None` once the supervisor is ending.
    pub(crate) fn follow_status(&self) -> Option<watch::Receiver<Status>> {
        self.status.as_ref().map(watch::Sender::subscribe)
    }

    /// A gateway's lease request. The receiver gets the answer.
    pub(crate) fn lease(
        &mut self,
        mut request: LeaseRequest,
    ) -> Result<oneshot::Receiver<Result<Answered, Refusal>>, Refusal> {
        self.read_output();
        let request_id = request.request_id.clone();
        let leased = self.handle(Event::Lease { request_id });
        let (waiting, answer) = oneshot::channel();
        if leased.is_ok() {
            if let Some(phases) = &mut request.phases {
                phases.add(Phase::Unpack, self.unpack);
            }
            let before = std::mem::take(&mut self.between);
            let invocation = Invocation::new(request, waiting, before);
            self.invocations.push(invocation);
        }
        self.act();
        leased.map(|()| answer)
    }

    /// The runtime's request for the next event, which the receiver gets.
    pub(crate) fn next(&mut self) -> Result<oneshot::Receiver<Delivery>, Refusal> {
        let (next, delivery) = oneshot::channel();
        if let Some(undelivered) = self.undelivered.take() {
            self.undelivered = next.send(undelivered).err();
            return Ok(delivery);
        }
        if self.next.as_ref().is_some_and(oneshot::Sender::is_closed) {
            // The runtime waits for the same event on a new connection.
            self.next = Some(next);
            return Ok(delivery);
        }
        self.read_output();
        self.end_lines();
        let called = self.handle(Event::Next);
        if called.is_ok() {
            self.next = Some(next);
        }
        if self.invocations.is_empty() {
            // The init is over. Its peak is read now, because the kernel forgets it when the process ends.
            self.memory.peak_mib(clock::now());
        }
        self.act();
        called.map(|()| delivery)
    }

    /// The runtime's response.
    pub(crate) fn respond(&mut self, id: &str, posted: Posted) -> Result<(), Refusal> {
        let bytes = posted.body.len();
        let request_id = id.into();
        self.post(id, Event::Response { request_id, bytes }, Some(posted))
    }

    /// The runtime's response was larger than the limit, and was discarded.
    pub(crate) fn respond_too_large(&mut self, id: &str) -> Result<(), Refusal> {
        let (request_id, bytes) = (id.into(), PAYLOAD_LIMIT + 1);
        self.post(id, Event::Response { request_id, bytes }, None)
    }

    /// Takes segments of the function that have come. Returns whether none is left.
    pub(crate) fn read_segments(&mut self) -> bool {
        let current = self.machine.current_request().cloned();
        let Some(mut daemon) = self.daemon.take() else {
            return true;
        };
        let invocation = current.as_deref().and_then(|id| self.invocation(id));
        let is_empty = daemon.read(invocation.and_then(Invocation::receiving));
        self.daemon = Some(daemon);
        is_empty
    }

    /// The port for segments, if there is one.
    pub(crate) fn daemon(&self) -> Option<&Daemon> {
        self.daemon.as_ref()
    }

    /// Whether the gateway that waits for this answer reads streams.
    pub(crate) fn accepts_stream(&mut self, id: &str) -> bool {
        let invocation = self.invocation(id);
        invocation.is_some_and(|invocation| invocation.request.accepts_stream)
    }

    /// The head of the runtime's streamed response. What follows goes to the receiver's end.
    pub(crate) fn begin_response(
        &mut self,
        id: &str,
        content_type: Option<HeaderValue>,
    ) -> Result<Option<mpsc::Sender<Bytes>>, Refusal> {
        let request_id = id.into();
        let posted = Posted {
            body: Bytes::new(),
            content_type,
            error_type: None,
        };
        self.post(id, Event::Began { request_id }, Some(posted))?;
        Ok(self.invocation(id).and_then(Invocation::take_pieces))
    }

    /// The streamed response is complete. `bytes`: its size, of which at most the limit was passed on.
    pub(crate) fn end_response(&mut self, id: &str, bytes: usize) -> Result<(), Refusal> {
        let request_id = id.into();
        let passed_on = Posted {
            body: Bytes::new(),
            content_type: None,
            error_type: None,
        };
        self.post(id, Event::Ended { request_id, bytes }, Some(passed_on))
    }

    /// The runtime's connection broke within its streamed response.
    pub(crate) fn abort_response(&mut self, id: &str) {
        let request_id = id.into();
        // It is refused if the invocation has ended meanwhile.
        let _ = self.post(id, Event::Aborted { request_id }, None);
    }

    /// The runtime's error.
    pub(crate) fn fail(&mut self, id: &str, posted: Posted) -> Result<(), Refusal> {
        let request_id = id.into();
        self.post(id, Event::Error { request_id }, Some(posted))
    }

    pub(crate) fn fail_init(&mut self, posted: Posted) -> Result<(), Refusal> {
        self.read_output();
        let result = self.handle(Event::InitError);
        if result.is_ok() {
            self.init_error = Some(posted);
        }
        self.act();
        result
    }

    fn post(&mut self, id: &str, event: Event, posted: Option<Posted>) -> Result<(), Refusal> {
        let result = self.handle(event);
        if result.is_ok()
            && let Some(invocation) = self.invocation(id)
        {
            invocation.posted = posted;
        }
        self.act();
        result
    }

    /// The output pipe is readable.
    fn on_output(&mut self, limit: usize) -> Drained {
        let drained = self.with_output(|output, emit| output.drain(limit, emit));
        drained.unwrap_or(Drained::End)
    }

    /// Reads the process's output with `read` and logs what it emits. `None` if no process runs.
    fn with_output<R>(
        &mut self,
        read: impl FnOnce(&mut Output, &mut &mut dyn FnMut(&str)) -> R,
    ) -> Option<R> {
        // Taken out while it is read, because logging borrows the worker.
        let mut output = self.output.take()?;
        let read = {
            let mut emit = |text: &str| self.print(LogSource::Stdout, text);
            read(&mut output, &mut (&mut emit as &mut dyn FnMut(&str)))
        };
        self.output = Some(output);
        Some(read)
    }

    /// Logs a mark after everything logged so far, and after the last record of an invocation that is
    /// answered but not closed.
    pub(crate) fn mark(&mut self, mark: String) {
        let mut invocations = self.invocations.iter();
        let is_closing = invocations.any(Invocation::is_answered);
        match is_closing && self.marks.len() < WAITING_MARKS_LIMIT {
            true => self.marks.push(mark),
            false => {
                self.read_output();
                self.log.mark(&mark);
            }
        }
    }

    /// A child of this process has exited.
    pub(crate) fn on_child(&mut self) {
        let processes = &self.processes;
        let exit = self.leader.and_then(|leader| processes.peek_exit(leader));
        if exit.is_some() {
            self.read_output();
            self.end_output();
            // Processes that it has started do not outlive it.
            self.processes.kill(self.leader);
            self.leader = None;
            self.output_tasks.abort_all();
            self.next = None;
            self.undelivered = None;
        }
        self.processes.reap(self.leader);
        if let Some(exit) = exit {
            let by_kernel = exit == KILLED && self.memory.has_run_out();
            self.handle_event(match by_kernel {
                true => Event::KilledForMemory,
                false => Event::Exited(exit),
            });
        }
    }

    pub(crate) fn alarm(&self) -> Option<Instant> {
        self.alarm
    }

    pub(crate) fn on_alarm(&mut self) {
        self.alarm = None;
        let now = clock::now();
        if self.measure_at.is_some_and(|at| at <= now) {
            self.measure_at = None;
            if self.machine.is_working() {
                self.measure_memory(now);
            }
        }
        if self.machine.next_wakeup().is_some_and(|at| at <= now) {
            self.read_output();
            self.end_lines();
        }
        self.machine.wake(now);
        if self.orphaned_at().is_some_and(|at| at <= now) {
            self.following = None;
            self.log.record(LogSource::Platform, None, ORPHANED);
            self.drain();
        }
        self.act();
    }

    fn measure_memory(&mut self, now: Instant) {
        match self.memory.measure(now) {
            Measured::Within => {}
            Measured::Exceeded(largest) if Some(largest) == self.leader => {
                self.handle_event(Event::MemoryExceeded);
            }
            // The handler continues and sees that its child was killed, as when the kernel kills it.
            Measured::Exceeded(child) => {
                self.processes.kill_child(child);
                let text = format!("{CHILD_KILLED}, {}", child.as_raw_pid());
                self.log.record(LogSource::Platform, None, &text);
            }
        }
    }

    fn orphaned_at(&self) -> Option<Instant> {
        self.following.as_ref()?.orphaned_at()
    }

    /// Kills all processes that are left and closes the log, without waiting.
    pub(crate) fn end(&mut self) {
        self.processes.kill_and_reap_all(self.leader.take());
        self.read_output();
        self.end_output();
        self.output_tasks.abort_all();
        self.invocations.clear();
        self.log_marks();
        self.status = None;
        self.log.close();
    }

    /// Handles an event that the machine cannot refuse.
    fn handle_event(&mut self, event: Event) {
        self.handle(event)
            .expect("the machine refuses requests only");
        self.act();
    }

    fn handle(&mut self, event: Event) -> Result<(), Refusal> {
        self.machine.handle(clock::now(), event)
    }

    fn invocation(&mut self, id: &str) -> Option<&mut Invocation> {
        self.invocations
            .iter_mut()
            .find(|invocation| *invocation.request.request_id == *id)
    }

    /// Logs everything that was printed so far.
    fn read_output(&mut self) {
        self.with_output(|output, emit| output.drain_all(emit));
    }

    /// Logs unfinished records as well, because the process that printed them has ended.
    fn end_output(&mut self) {
        self.with_output(|output, emit| output.end(emit));
        self.report_dropped();
        self.output = None;
    }

    /// Logs an unfinished line, because it belongs to the invocation that ends, and what was not logged of that.
    fn end_lines(&mut self) {
        self.with_output(|output, emit| output.end_line(emit));
        self.report_dropped();
    }

    /// The runtime process printed a line, or logged a record.
    pub(crate) fn print(&mut self, source: LogSource, text: &str) {
        let request_id = self.machine.current_request().cloned();
        if self.config.shows_log_to_callers() {
            self.add_to_tail(request_id.as_deref(), text);
        }
        if self.config.logs && self.log_rate.admits(clock::now(), text.len()) {
            self.report_dropped();
            self.log.record(source, request_id.as_deref(), text);
        }
    }

    /// Logs how many lines were dropped since the last time.
    fn report_dropped(&mut self) {
        if let Some(text) = self.log_rate.report() {
            let request_id = self.machine.current_request();
            self.log
                .record(LogSource::Platform, request_id.map(|id| &**id), &text);
        }
    }

    fn add_to_tail(&mut self, request_id: Option<&str>, text: &str) {
        match request_id.and_then(|id| self.invocation(id)) {
            Some(invocation) => invocation.add_to_tail(text),
            None => self.between.add(text),
        }
    }

    fn log_marks(&mut self) {
        for mark in self.marks.drain(..) {
            self.log.mark(&mark);
        }
    }
}
