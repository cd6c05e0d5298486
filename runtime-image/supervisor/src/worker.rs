//! All state of an instance, and what core's `Machine` says to do with it.
//!
//! Fed by `control_api` (leases), `runtime_api` (the runtime's calls), `output` (what it prints)
//! and `lifecycle` (time, signals, exits); each hands in an event and has the actions done before
//! it goes on. Decides nothing about an invocation: that is `pilotlight_core::instance`.

mod actions;
mod printed;

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use pilotlight_core::instance::failure::{Exit, PAYLOAD_LIMIT};
use pilotlight_core::instance::following::Following;
use pilotlight_core::instance::phases::Phase;
use pilotlight_core::instance::{Event, Machine, Refusal, Status};
use pilotlight_wire::config::InstanceConfig;
use pilotlight_wire::lease::{LeaseAnswer, LeaseRequest};
use pilotlight_wire::log_record::LogSource;
use rustix::process::Pid;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinSet;

use crate::clock;
use crate::invocation::{Delivery, Invocation, Posted, Tail};
use crate::log::Log;
use crate::memory::{Look, Memory};
use crate::output::{Drained, Output};
use crate::platform_log::PlatformLog;
use crate::prestart::Prestarted;
use crate::process::{Kernel, Processes};

/// The gateway that claimed it died before it could tell anybody, say.
const ORPHANED: &str = "the instance ends, as no gateway follows it";
/// The child's process id follows.
const CHILD_KILLED: &str =
    "the function used more memory than it has: killed the largest process that it has started";
/// An exit by SIGKILL.
const KILLED: Exit = Exit::Signal(9);

/// Marks that may wait at a time; a further one is logged at once.
const WAITING_MARKS: usize = 64;

pub(crate) type Shared = Rc<RefCell<Worker>>;
pub(crate) type WeakShared = Weak<RefCell<Worker>>;

/// What an instance has before it is one.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) processes: Box<dyn Processes>,
    /// The runtime process that is to be the first one.
    pub(crate) prestarted: Option<Prestarted>,
    /// How long its code took to arrive.
    pub(crate) unpack: Option<Duration>,
    /// It comes from a warm pool, and ends when no gateway has followed it for this long.
    pub(crate) orphaned_after: Option<Duration>,
}

impl Default for Origin {
    fn default() -> Self {
        Origin {
            processes: Box::new(Kernel::default()),
            prestarted: None,
            unpack: None,
            orphaned_after: None,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Worker {
    this: WeakShared,
    /// With the environment complete.
    config: InstanceConfig,
    machine: Machine,
    processes: Box<dyn Processes>,
    prestarted: Option<Prestarted>,
    /// Until an answer has told it.
    unpack: Option<Duration>,
    following: Option<Following>,
    log: Log,
    platform_log: PlatformLog,
    memory: Memory,
    /// The next look at the memory.
    look_at: Option<Instant>,
    leader: Option<Pid>,
    output: Option<Output>,
    /// Wake the worker for its output; gone with the process that prints.
    watchers: JoinSet<()>,
    /// The one at hand, and the one before it while that is not closed.
    invocations: Vec<Invocation>,
    /// The log since the last invocation, usually an init: it begins the tail of the next one.
    between: Tail,
    /// Marks that wait for an invocation's last record.
    marks: Vec<String>,
    /// What the runtime posted when its init failed.
    init_error: Option<Posted>,
    /// Why the runtime process could not be started, the last time.
    not_started: String,
    next: Option<oneshot::Sender<Delivery>>,
    /// For a runtime whose `next` broke off before it had this.
    undelivered: Option<Delivery>,
    status: Option<watch::Sender<Status>>,
    /// When `lifecycle` wakes the worker; may be too early, never too late.
    alarm: Option<Instant>,
    /// Tells `lifecycle` of an earlier alarm, or of the end.
    pub(crate) changed: Rc<Notify>,
    pub(crate) finished: bool,
}

impl Worker {
    pub(crate) fn new(config: InstanceConfig, origin: Origin) -> Shared {
        let machine = Machine::new(config.timeout.duration());
        let limit = origin.orphaned_after;
        let (status, _) = watch::channel(machine.status());
        Rc::new_cyclic(|this| {
            RefCell::new(Worker {
                this: this.clone(),
                platform_log: PlatformLog::new(&config),
                config,
                machine,
                processes: origin.processes,
                prestarted: origin.prestarted,
                unpack: origin.unpack,
                following: limit.map(|limit| Following::new(clock::now(), limit)),
                log: Log::default(),
                memory: Memory::default(),
                look_at: None,
                leader: None,
                output: None,
                watchers: JoinSet::new(),
                invocations: Vec::new(),
                between: Tail::default(),
                marks: Vec::new(),
                init_error: None,
                not_started: String::new(),
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
        self.happened(Event::Boot);
    }

    /// Takes no further lease, ends the runtime when it is idle, then finishes.
    pub(crate) fn drain(&mut self) {
        self.happened(Event::Drain);
    }

    /// A gateway has a call under way.
    pub(crate) fn follow(&mut self) {
        if let Some(following) = &mut self.following {
            following.begin();
        }
    }

    /// That call is over, or broke off.
    pub(crate) fn unfollow(&mut self) {
        if let Some(following) = &mut self.following {
            following.end(clock::now());
            self.set_alarm();
        }
    }

    pub(crate) fn log(&self) -> Log {
        self.log.clone()
    }

    pub(crate) fn status(&self) -> Status {
        self.machine.status()
    }

    /// `None` once the supervisor ends.
    pub(crate) fn follow_status(&self) -> Option<watch::Receiver<Status>> {
        self.status.as_ref().map(watch::Sender::subscribe)
    }

    /// A gateway's call: the receiver gets its answer.
    pub(crate) fn lease(
        &mut self,
        mut request: LeaseRequest,
    ) -> Result<oneshot::Receiver<Result<LeaseAnswer, Refusal>>, Refusal> {
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

    /// The runtime's call for the next event: the receiver gets it.
    pub(crate) fn next(&mut self) -> Result<oneshot::Receiver<Delivery>, Refusal> {
        let (next, delivery) = oneshot::channel();
        if let Some(undelivered) = self.undelivered.take() {
            self.undelivered = next.send(undelivered).err();
            return Ok(delivery);
        }
        if self.next.as_ref().is_some_and(oneshot::Sender::is_closed) {
            // The same wait for an event, on a new connection.
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
            // Init is done. A process that ends takes what the kernel knows of its peak along.
            self.memory.peak_mib(clock::now());
        }
        self.act();
        called.map(|()| delivery)
    }

    /// The runtime's answer.
    pub(crate) fn respond(&mut self, id: &str, posted: Posted) -> Result<(), Refusal> {
        let bytes = posted.body.len();
        let request_id = id.into();
        self.post(id, Event::Response { request_id, bytes }, Some(posted))
    }

    /// The runtime's answer was larger than the limit, and is thrown away.
    pub(crate) fn respond_too_large(&mut self, id: &str) -> Result<(), Refusal> {
        let (request_id, bytes) = (id.into(), PAYLOAD_LIMIT + 1);
        self.post(id, Event::Response { request_id, bytes }, None)
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

    /// There is something to read.
    fn on_output(&mut self, limit: usize) -> Drained {
        let drained = self.with_output(|output, emit| output.drain(limit, emit));
        drained.unwrap_or(Drained::End)
    }

    /// Reads the process's output by `read`, and logs what that emits. `None`: no process runs.
    fn with_output<R>(
        &mut self,
        read: impl FnOnce(&mut Output, &mut &mut dyn FnMut(&str)) -> R,
    ) -> Option<R> {
        // Taken out meanwhile, since logging borrows the worker.
        let mut output = self.output.take()?;
        let read = {
            let mut emit = |text: &str| self.print(LogSource::Stdout, text);
            read(&mut output, &mut (&mut emit as &mut dyn FnMut(&str)))
        };
        self.output = Some(output);
        Some(read)
    }

    /// Logs a mark after everything logged so far, and after the last record of an invocation that is
    /// answered but not over.
    pub(crate) fn mark(&mut self, mark: String) {
        let mut invocations = self.invocations.iter();
        let is_closing = invocations.any(Invocation::is_answered);
        match is_closing && self.marks.len() < WAITING_MARKS {
            true => self.marks.push(mark),
            false => {
                self.read_output();
                self.log.mark(&mark);
            }
        }
    }

    /// A process below this one has ended.
    pub(crate) fn on_child(&mut self) {
        let processes = &self.processes;
        let exit = self.leader.and_then(|leader| processes.peek_exit(leader));
        if exit.is_some() {
            self.read_output();
            self.end_output();
            // What it leaves behind does not outlive it.
            self.processes.kill(self.leader);
            self.leader = None;
            self.watchers.abort_all();
            self.next = None;
            self.undelivered = None;
        }
        self.processes.reap(self.leader);
        if let Some(exit) = exit {
            let by_kernel = exit == KILLED && self.memory.ran_out();
            self.happened(match by_kernel {
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
        if self.look_at.is_some_and(|at| at <= now) {
            self.look_at = None;
            if self.machine.is_working() {
                self.look_at_memory(now);
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

    fn look_at_memory(&mut self, now: Instant) {
        match self.memory.look(now) {
            Look::Within => {}
            Look::Exceeded(largest) if Some(largest) == self.leader => {
                self.happened(Event::MemoryExceeded);
            }
            // The handler goes on and sees how its child ended, as when the kernel kills it.
            Look::Exceeded(child) => {
                self.processes.kill_child(child);
                let text = format!("{CHILD_KILLED}, {}", child.as_raw_pid());
                self.log.record(LogSource::Platform, None, &text);
            }
        }
    }

    fn orphaned_at(&self) -> Option<Instant> {
        self.following.as_ref()?.orphaned_at()
    }

    /// Ends all that is left, without waiting for anything.
    pub(crate) fn end(&mut self) {
        self.processes.kill_and_reap_all(self.leader.take());
        self.read_output();
        self.end_output();
        self.watchers.abort_all();
        self.invocations.clear();
        self.log_marks();
        self.status = None;
        self.log.close();
    }

    fn happened(&mut self, event: Event) {
        self.handle(event)
            .expect("the machine refuses calls only, never what happened");
        self.act();
    }

    fn handle(&mut self, event: Event) -> Result<(), Refusal> {
        self.machine.handle(clock::now(), event)
    }

    fn invocation(&mut self, id: &str) -> Option<&mut Invocation> {
        self.invocations
            .iter_mut()
            .find(|known| *known.request.request_id == *id)
    }

    /// Takes in what was printed up to now.
    fn read_output(&mut self) {
        self.with_output(|output, emit| output.drain_all(emit));
    }

    /// Takes in the beginning of a record, too: the process that printed it has ended.
    fn end_output(&mut self) {
        self.with_output(|output, emit| output.end(emit));
        self.output = None;
    }

    /// What was printed without a line's end belongs to the invocation that ends.
    fn end_lines(&mut self) {
        self.with_output(|output, emit| output.end_line(emit));
    }

    /// The runtime process printed a line, or logged a record.
    pub(crate) fn print(&mut self, source: LogSource, text: &str) {
        let request_id = self.machine.current_request().cloned();
        self.add_to_tail(request_id.as_deref(), text);
        if self.config.logs {
            self.log.record(source, request_id.as_deref(), text);
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
