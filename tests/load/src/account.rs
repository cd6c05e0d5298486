//! The checker: takes records in any order and returns the rules that they break.
//!
//! It does no IO. Its rules: every invocation is answered once and runs at most once; an instance runs one
//! invocation at a time; no invocation runs in code older than code that has already answered; a refused
//! invocation has not run; every failure has a reason; there are no more instances than allowed; nothing is
//! left behind. Asynchronous calls have rules of their own (`events`).

mod calls;
mod events;
mod faults;
mod steps;
#[cfg(test)]
mod tests;
mod violation;

use std::collections::BTreeMap;

pub use events::EventCounts;
pub use violation::Violation;

use self::calls::{Call, Gone, Run};
use self::events::AsyncFunctions;
use self::faults::Faults;
use self::steps::Steps;
use crate::record::{At, CallOutcome, Record};

/// The records so far. The account orders them by time, so they may be added in any order.
#[derive(Clone, Debug, Default)]
pub struct Account {
    calls: BTreeMap<String, Call>,
    faults: Faults,
    gone: Gone,
    counts: BTreeMap<String, Vec<Count>>,
    queues: BTreeMap<String, usize>,
    /// The functions whose calls are asynchronous.
    events: AsyncFunctions,
    grace: GraceTimes,
    found: Vec<Violation>,
    aborted: Option<String>,
}

/// How long a cluster may lag behind a change, in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct GraceTimes {
    /// A function may have more instances than its limit for this time, while some of them stop.
    pub instances: At,
    /// Calls may run in an older revision for this time after a newer one has answered.
    pub revisions: At,
}

/// The instances of a function from `at` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Count {
    at: At,
    live: usize,
    limit: usize,
}

/// The result of a check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub sent: usize,
    pub executed: usize,
    /// Number of answers of each kind.
    pub outcomes: BTreeMap<String, usize>,
    /// The most instances that each function had at once.
    pub instances: BTreeMap<String, usize>,
    /// If calls were asynchronous.
    pub events: Option<EventCounts>,
    pub violations: Vec<Violation>,
    /// Why the harness ended the run early. Violations of such a run prove nothing.
    pub aborted: Option<String>,
}

/// The refusal of a function whose instances are all busy and whose queue is full.
const THROTTLED: &str = "TooManyRequestsException";

impl Account {
    /// The account of a run on a cluster, which lags behind changes.
    pub fn with(grace: GraceTimes) -> Self {
        Account {
            grace,
            ..Account::default()
        }
    }

    pub fn add(&mut self, record: Record) {
        match record {
            Record::Sent { at, id, function } => self.call(id).sent = Some((at, function)),
            Record::Answered { at, id, outcome } => self.call(id).answers.push((at, outcome)),
            Record::Events {
                function, attempts, ..
            } => self.events.declare(function, attempts),
            Record::Accepted { at, id, request } => self.call(id).accepted.push((at, request)),
            Record::Attempted { id, request, .. } => self.call(id).attempted.push(request),
            Record::Replayed {
                at,
                function,
                count,
            } => self.events.replayed(function, at, count),
            Record::Began {
                at,
                id,
                instance,
                revision,
            } => self.call(id).began.push((at, instance, revision)),
            Record::Ended { at, id, instance } => self.call(id).ended.push((at, instance)),
            Record::Gone { at, instance } => self.gone.add(instance, at),
            Record::Instances {
                at,
                function,
                live,
                limit,
            } => {
                let counts = self.counts.entry(function).or_default();
                counts.push(Count { at, live, limit });
            }
            Record::Queue { function, size, .. } => drop(self.queues.insert(function, size)),
            Record::Left { what, .. } => self.found.push(Violation::LeftBehind { what }),
            Record::Fault { at, fault, allows } => self.faults.begin(fault, at, allows),
            Record::Over { at, fault } => self.faults.over(fault, at),
            Record::Aborted { reason, .. } => drop(self.aborted.get_or_insert(reason)),
        }
    }

    fn call(&mut self, id: String) -> &mut Call {
        self.calls.entry(id).or_default()
    }

    pub fn verdict(mut self) -> Verdict {
        self.put_in_order();
        let mut verdict = Verdict {
            violations: std::mem::take(&mut self.found),
            aborted: self.aborted.take(),
            ..Verdict::default()
        };
        for (function, counts) in &self.counts {
            let most = counts.iter().map(|count| count.live).max();
            verdict
                .instances
                .insert(function.clone(), most.unwrap_or(0));
            let found = counts.iter().enumerate();
            let found = found.filter_map(|(place, count)| self.too_many(function, place, count));
            verdict.violations.extend(found);
        }
        let (open, mut all_runs) = (self.open(), Vec::new());
        for (id, call) in &self.calls {
            verdict.sent += usize::from(call.sent.is_some());
            verdict.executed += usize::from(!call.began.is_empty());
            for (_, outcome) in &call.answers {
                let outcomes = &mut verdict.outcomes;
                *outcomes.entry(outcome.kind().to_owned()).or_default() += 1;
            }
            let runs = call.runs(id);
            match self.events.judge_of(call, &self.faults, &self.gone) {
                Some(judge) => {
                    let counts = verdict.events.get_or_insert_default();
                    judge.call(id, call, &runs, counts, &mut verdict.violations);
                }
                None => self.judge(id, call, &runs, &open, &mut verdict.violations),
            }
            all_runs.extend(runs);
        }
        if let Some(counts) = &mut verdict.events {
            let found = &mut verdict.violations;
            self.events.dead_letters(&self.calls, counts, found);
            counts.to_begin.sort_unstable();
        }
        self.crowds(&all_runs, &mut verdict.violations);
        self.outdated(&all_runs, &mut verdict.violations);
        self.overlaps(all_runs, &mut verdict.violations);
        verdict.violations.sort();
        verdict
    }

    fn put_in_order(&mut self) {
        self.calls.values_mut().for_each(Call::put_in_order);
        self.faults.put_in_order();
        self.events.put_in_order();
        self.gone.put_in_order();
        self.counts.values_mut().for_each(|counts| counts.sort());
    }

    fn judge(
        &self,
        id: &str,
        call: &Call,
        runs: &[Run<'_>],
        open: &BTreeMap<&str, Steps>,
        found: &mut Vec<Violation>,
    ) {
        let id = id.to_owned();
        let Some((sent, function)) = &call.sent else {
            return found.push(Violation::NeverSent { id });
        };
        if runs.len() > 1 {
            let instances = runs.iter().map(|run| run.instance.to_owned()).collect();
            let id = id.clone();
            found.push(Violation::ExecutedTwice { id, instances });
        }
        let (at, outcome) = match &call.answers[..] {
            [] => return found.push(Violation::Lost { id }),
            [(at, outcome)] => (*at, outcome),
            _ => return found.push(Violation::AnsweredTwice { id }),
        };
        if let CallOutcome::Success { answer } = outcome {
            if runs.is_empty() {
                found.push(Violation::SucceededButNotExecuted { id: id.clone() });
            } else if !runs
                .iter()
                .any(|run| run.ended.is_some_and(|end| end <= at))
            {
                found.push(Violation::SuccessWithoutEnd { id: id.clone() });
            }
            if *answer != id {
                let answer = answer.clone();
                found.push(Violation::WrongAnswer { id, answer });
            }
            return;
        }
        let kind = outcome.kind().to_owned();
        if outcome.is_refusal() && !runs.is_empty() {
            let (id, kind) = (id.clone(), kind.clone());
            found.push(Violation::RefusedButExecuted { id, kind });
        }
        let most_open = || open.get(&**function).map_or(0, |open| open.most(*sent, at));
        let is_full = kind == THROTTLED
            && self.limits(function).is_some_and(|(least, _)| {
                // A fault may have killed all running instances.
                let is_struck = self.faults.during(*sent, at).next().is_some();
                let at_work = if is_struck { 0 } else { least };
                most_open() > at_work + self.queues.get(function).unwrap_or(&0)
            });
        if !is_full && !self.faults.allow(&kind, *sent, at) {
            let message = outcome.message().to_owned();
            found.push(Violation::Unexplained { id, kind, message });
        }
    }

    /// The lowest and the highest recorded limit of the function.
    fn limits(&self, function: &str) -> Option<(usize, usize)> {
        let limits = self.counts.get(function)?.iter().map(|count| count.limit);
        Some((limits.clone().min()?, limits.max()?))
    }

    /// The number of unanswered invocations of each function over time.
    fn open(&self) -> BTreeMap<&str, Steps> {
        let mut open: BTreeMap<&str, Steps> = BTreeMap::new();
        for call in self.calls.values() {
            if let Some((sent, function)) = &call.sent {
                let answers = call.answers.iter().map(|(at, _)| *at);
                let answered = answers.chain(call.accepted.iter().map(|(at, _)| *at)).min();
                open.entry(function).or_default().add(*sent, answered);
            }
        }
        open.values_mut().for_each(Steps::put_in_order);
        open
    }

    /// A count above the limit that does not fall to it within the grace time.
    fn too_many(&self, function: &str, place: usize, count: &Count) -> Option<Violation> {
        let later = &self.counts[function][place + 1..];
        let goes = later.iter().find(|later| later.live <= later.limit);
        let grace = self.grace.instances;
        let passes = goes.is_some_and(|goes| goes.at - count.at <= grace);
        (count.live > count.limit && (grace == 0 || !passes)).then(|| Violation::TooManyInstances {
            function: function.to_owned(),
            at: count.at,
            live: count.live,
            limit: count.limit,
        })
    }

    /// More handlers of a function at work than its limit of instances. Only invocations that their handler
    /// answered count: the platform may have lost an instance whose handler still runs.
    fn crowds(&self, runs: &[Run<'_>], found: &mut Vec<Violation>) {
        let mut at_work: BTreeMap<&str, Steps> = BTreeMap::new();
        for run in runs {
            let call = &self.calls[run.id];
            let success = call.succeeded();
            if let (Some((_, function)), Some(ended), Some(_)) = (&call.sent, run.ended, success) {
                let steps = at_work.entry(function).or_default();
                steps.add(run.began, Some(ended));
            }
        }
        for (function, mut steps) in at_work {
            steps.put_in_order();
            let limits = self.limits(function);
            let limit = limits.map_or(usize::MAX, |(_, most)| most);
            if let Some((at, running)) = steps.first_above(limit) {
                let function = function.to_owned();
                found.push(Violation::TooManyAtOnce {
                    function,
                    at,
                    running,
                    limit,
                });
            }
        }
    }

    /// Executions in a revision older than one that had answered another call before this one was sent.
    fn outdated(&self, runs: &[Run<'_>], found: &mut Vec<Violation>) {
        let mut answered: BTreeMap<&str, BTreeMap<At, u64>> = BTreeMap::new();
        for run in runs {
            let call = &self.calls[run.id];
            let success = call.succeeded();
            if let (Some((_, function)), Some(revision), Some(at)) =
                (&call.sent, run.revision, success)
            {
                let newest = answered.entry(function).or_default().entry(at).or_default();
                *newest = revision.max(*newest);
            }
        }
        for revisions in answered.values_mut() {
            let mut newest = 0;
            for revision in revisions.values_mut() {
                newest = newest.max(*revision);
                *revision = newest;
            }
        }
        for run in runs {
            if let (Some((sent, function)), Some(revision)) =
                (&self.calls[run.id].sent, run.revision)
                && let Some(answered) = answered.get(&**function)
                && let known = sent.saturating_sub(self.grace.revisions)
                && let Some((_, &newest)) = answered.range(..known).next_back()
                && revision < newest
            {
                let id = run.id.to_owned();
                found.push(Violation::Outdated {
                    id,
                    revision,
                    newest,
                });
            }
        }
    }

    fn overlaps<'a>(&self, mut runs: Vec<Run<'a>>, found: &mut Vec<Violation>) {
        let mut inside: BTreeMap<&'a str, Run<'a>> = BTreeMap::new();
        runs.sort_by_key(|run| run.began);
        for run in runs {
            if let Some(before) = inside.insert(run.instance, run)
                && self.end(before).is_none_or(|end| end > run.began)
            {
                found.push(Violation::Overlapped {
                    instance: run.instance.to_owned(),
                    first: before.id.to_owned(),
                    second: run.id.to_owned(),
                });
            }
        }
    }

    /// When an execution was over: at its own end, at that of its process, or at the answer that reports its
    /// failure.
    fn end(&self, run: Run<'_>) -> Option<At> {
        self.gone.end(&run).or(run.answered)
    }
}
