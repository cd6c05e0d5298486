//! Executes the actions of core's `Machine`, in their order, until none is left.
//!
//! Owns the start of a runtime process, the delivery of events to `next` and of answers to the gateway, and the
//! worker's alarm. Called by `worker` after each event; never decides that an action is due.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hyper::header::HeaderValue;
use pilotlight_core::instance::failure::{self, Failure};
use pilotlight_core::instance::phases::{Phase, Phases};
use pilotlight_core::instance::{Action, Event, LogLine, Outcome, Refusal};
use pilotlight_wire::answer::LeaseAnswer;
use pilotlight_wire::log_record::LogSource;
use pilotlight_wire::stream::StreamHead;
use rustix::process::Pid;
use tokio::task::JoinSet;

use super::{Worker, printed};
use crate::clock;
use crate::invocation::{Delivery, Invocation, Posted, answer_body};
use crate::output::Output;
use crate::prestart::Prestarted;
use crate::process::{self, Program};
use crate::response::JSON;

impl Worker {
    pub(super) fn act(&mut self) {
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::StartRuntime => self.start_runtime(),
                Action::Deliver {
                    request_id,
                    deadline,
                } => self.deliver(&request_id, deadline),
                Action::BeginAnswer { request_id, init } => self.begin_answer(&request_id, init),
                Action::Answer {
                    request_id,
                    outcome,
                    init,
                } => self.answer(&request_id, outcome, init),
                Action::Release { request_id } => {
                    let held = self.invocations.iter();
                    let place = held
                        .take_while(|held| held.request.request_id != request_id)
                        .count();
                    if place < self.invocations.len() {
                        self.invocations.remove(place).release(Refusal::Starting);
                    }
                }
                Action::Log(line) => self.log_line(&line),
                Action::Freeze => {
                    if let Some(leader) = self.leader {
                        self.frozen_apart = self.processes.freeze(leader);
                    }
                }
                Action::Thaw => {
                    let apart = std::mem::take(&mut self.frozen_apart);
                    if let Some(leader) = self.leader {
                        self.processes.thaw(leader, &apart);
                    }
                }
                Action::Terminate => {
                    if let Some(leader) = self.leader {
                        self.processes.terminate(leader);
                    }
                }
                Action::Kill => self.processes.kill(self.leader),
                Action::Shutdown => {
                    self.finished = true;
                    self.changed.notify_one();
                }
            }
        }
        self.invocations.retain(|invocation| !invocation.is_over());
        if !self.marks.is_empty() && !self.invocations.iter().any(Invocation::is_answered) {
            self.log_marks();
        }
        self.publish_status();
        self.set_alarm();
    }

    fn start_runtime(&mut self) {
        if let Some(prestarted) = self.prestarted.take()
            && self.use_prestarted(prestarted)
        {
            return;
        }
        let program = Program {
            command: &self.config.command,
            task_root: &self.config.task_root,
            environment: &self.config.environment,
        };
        match self.processes.start(program) {
            Ok((pid, output)) => self.attach(pid, output),
            Err(error) => {
                self.start_error = error.to_string();
                if let Some(advice) = error.advice() {
                    let text = format!("{}: {advice}", self.start_error);
                    self.log.record(LogSource::Platform, None, &text);
                }
                self.processes.kill(None);
                let handled = self.machine.handle(clock::now(), Event::NotStarted);
                handled.expect("the machine refuses requests only");
            }
        }
    }

    /// Hands the function over to the prestarted process. `false` if that cannot be used.
    fn use_prestarted(&mut self, mut prestarted: Prestarted) -> bool {
        // Its output so far does not belong to the function.
        prestarted.printed(|text| self.log.record(LogSource::Platform, None, text));
        if let Err(unusable) = prestarted.begin(&self.config) {
            let text = format!("the prestarted runtime process is not used: {unusable}");
            self.log.record(LogSource::Platform, None, &text);
            process::kill(Some(prestarted.pid));
            return false;
        }
        self.attach(prestarted.pid, Some(prestarted.output));
        true
    }

    fn attach(&mut self, leader: Pid, output: Option<Output>) {
        self.leader = Some(leader);
        self.memory = self.processes.memory_of(leader, self.config.memory);
        self.output_tasks = JoinSet::new();
        if let Some(output) = &output {
            let (log, worker) = (self.log.clone(), self.this.clone());
            let read = printed::read_until_end(output.pipe(), log, worker);
            self.output_tasks.spawn_local(read);
        }
        self.output = output;
    }

    fn deliver(&mut self, id: &str, deadline: Instant) {
        let now = clock::now();
        let Some(invocation) = self.invocation(id) else {
            return;
        };
        invocation.delivered = Some(now);
        let left = deadline.saturating_duration_since(now);
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let deadline_ms = (since_epoch + left).as_millis();
        let delivery = Delivery {
            request: invocation.request.clone(),
            deadline_ms: u64::try_from(deadline_ms).unwrap_or(u64::MAX),
        };
        self.undelivered = match self.next.take() {
            Some(next) => next.send(delivery).err(),
            None => Some(delivery),
        };
    }

    /// `init`: the duration of the init, for the first answer after it.
    fn begin_answer(&mut self, id: &str, init: Option<Duration>) {
        let phases = self.phases_of(init);
        let Some(invocation) = self.invocation(id) else {
            return;
        };
        let posted = invocation.posted.take();
        let content_type = posted.and_then(|posted| posted.content_type);
        invocation.begin_answer(StreamHead {
            content_type: Some(content_type.unwrap_or(HeaderValue::from_static(JSON))),
            phases,
        });
    }

    /// The phases of the cold start in this instance, for the first answer after it.
    fn phases_of(&mut self, init: Option<Duration>) -> Phases {
        let mut phases = Phases::default();
        phases.add(Phase::Unpack, self.unpack.take());
        phases.add(Phase::Init, init);
        phases
    }

    /// `init`: the duration of the init, for the first answer after it.
    fn answer(&mut self, id: &str, outcome: Outcome, init: Option<Duration>) {
        let status = self.machine.status();
        let phases = self.phases_of(init);
        let sanitize = self.config.sanitize_errors;
        let init_error = match outcome {
            Outcome::Failed(Failure::Init) => self.init_error.take(),
            Outcome::Failed(Failure::InvalidEntrypoint) => Some(self.invalid_entrypoint(id)),
            _ => None,
        };
        let mut daemon = self.daemon.take();
        let Some(invocation) = self.invocation(id) else {
            self.daemon = daemon;
            return;
        };
        let report = invocation.report(clock::now(), daemon.as_mut());
        let posted = init_error.or_else(|| invocation.posted.take());
        let (body, content_type) = answer_body(&invocation.request, outcome, posted, sanitize);
        invocation.answer(LeaseAnswer {
            is_error: outcome != Outcome::Success,
            body,
            content_type: Some(content_type),
            log_tail: None,
            phases,
            status,
            report,
            failure: match outcome {
                Outcome::Failed(failure) => Some(failure.kind()),
                Outcome::Success | Outcome::FunctionError => None,
            },
        });
        self.daemon = daemon;
    }

    /// The error body if the runtime process cannot be started: no runtime has posted one.
    fn invalid_entrypoint(&self, id: &str) -> Posted {
        let error_type = Failure::InvalidEntrypoint.error_type();
        let message = failure::invalid_entrypoint(id, &self.start_error);
        let body = serde_json::json!({ "errorType": error_type, "errorMessage": message });
        Posted {
            body: body.to_string().into(),
            content_type: None,
            error_type: Some(error_type.to_owned()),
        }
    }

    fn log_line(&mut self, line: &LogLine) {
        let peak_mib = match line {
            LogLine::Report { .. } => self.memory.peak_mib(clock::now()),
            _ => 0,
        };
        let request_id = match line {
            LogLine::InitStart | LogLine::InitReport { .. } => None,
            LogLine::Start { request_id }
            | LogLine::NotStarted { request_id }
            | LogLine::TimedOut { request_id, .. }
            | LogLine::End { request_id }
            | LogLine::Report { request_id, .. } => Some(request_id.clone()),
        };
        let invocation = request_id.as_deref().and_then(|id| self.invocation(id));
        let phases = invocation.and_then(|invocation| invocation.request.phases.clone());
        let text = match line {
            LogLine::NotStarted { request_id } => {
                let message = failure::invalid_entrypoint(request_id, &self.start_error);
                Some(self.platform_log.fault(&message))
            }
            line => self.platform_log.format(line, peak_mib, phases.as_ref()),
        };
        if let (Some(text), true) = (&text, self.config.logs) {
            self.log
                .record(LogSource::Platform, request_id.as_deref(), text);
        }
        let is_in_tail = line.is_for_all_callers() || self.config.shows_log_to_callers();
        if let Some(text) = text.filter(|_| is_in_tail) {
            self.add_to_tail(request_id.as_deref(), &text);
        }
        let reported = request_id.filter(|_| matches!(line, LogLine::Report { .. }));
        if let Some(invocation) = reported.and_then(|id| self.invocation(&id)) {
            invocation.close();
        }
    }

    fn publish_status(&mut self) {
        let now = self.machine.status();
        if let Some(status) = &self.status {
            status.send_if_modified(|published| std::mem::replace(published, now) != now);
        }
    }

    /// Sets an earlier alarm if one is needed. An alarm that has become too early is kept, because resetting it
    /// would cost a wake-up for each invocation.
    pub(super) fn set_alarm(&mut self) {
        if self.machine.is_working() && self.measure_at.is_none() {
            self.measure_at = Some(clock::now() + self.memory.interval());
        }
        let due = [
            self.machine.next_wakeup(),
            self.measure_at,
            self.orphaned_at(),
        ]
        .into_iter()
        .flatten()
        .min();
        if due.is_some_and(|due| self.alarm.is_none_or(|alarm| due < alarm)) {
            self.alarm = due;
            self.changed.notify_one();
        }
    }
}
