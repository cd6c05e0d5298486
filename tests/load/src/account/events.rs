//! The rules of asynchronous calls: what a 202 promises, and how often an event runs.
//!
//! An accepted event is executed to its end at least once. A dead letter counts as lost until the harness has replayed it, so a
//! run whose faults end attempts replays them at its end. An event is executed as often as its function declares, and once more
//! for each time at which a fault with `redelivery` in its `allows` was active between two of its executions; two executions at
//! the same time are allowed across such a fault alone. Both are counted. All executions have the request id of the 202. A call
//! without 202 may have been stored if its error says so, and is counted apart.

use std::collections::BTreeMap;

use super::calls::{Call, Gone, Run};
use super::faults::Faults;
use super::violation::Violation;
use crate::record::{At, REDELIVERY};

/// The functions whose calls are asynchronous.
#[derive(Clone, Debug, Default)]
pub(super) struct AsyncFunctions(BTreeMap<String, Declared>);

/// What a function declares about its events, and when its dead letters became events again.
#[derive(Clone, Debug, Default)]
struct Declared {
    attempts: usize,
    replayed: Vec<(At, usize)>,
}

/// Judges the events of a function.
#[derive(Debug)]
pub(super) struct EventJudge<'a> {
    declared: &'a Declared,
    faults: &'a Faults,
    gone: &'a Gone,
}

/// What became of the events of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventCounts {
    pub accepted: usize,
    /// Calls that got an error instead of 202, and how many of their events ran.
    pub refused: usize,
    pub refused_and_executed: usize,
    pub executions: usize,
    /// Executions beyond the declared attempts.
    pub redelivered: usize,
    /// Executions that began before an earlier one of the same event had ended.
    pub at_once: usize,
    /// Dead letters that became events again.
    pub replayed: usize,
    /// From each 202 to the begin of the event's first handler, in microseconds, in ascending order. An event may begin
    /// before its client has read the 202: that is 0.
    pub to_begin: Vec<At>,
}

impl EventCounts {
    /// The time from the 202 to the begin that this share of the events does not exceed, in microseconds.
    pub fn to_begin_at(&self, share: f64) -> Option<At> {
        let last = self.to_begin.len().checked_sub(1)?;
        let place = (self.to_begin.len() as f64 * share) as usize;
        self.to_begin.get(place.min(last)).copied()
    }
}

impl AsyncFunctions {
    pub(super) fn declare(&mut self, function: String, attempts: usize) {
        self.0.entry(function).or_default().attempts = attempts;
    }

    pub(super) fn replayed(&mut self, function: String, at: At, count: usize) {
        let declared = self.0.entry(function).or_default();
        declared.replayed.push((at, count));
    }

    pub(super) fn put_in_order(&mut self) {
        for declared in self.0.values_mut() {
            declared.replayed.sort_unstable();
        }
    }

    /// `None`: the call was not asynchronous.
    pub(super) fn judge_of<'a>(
        &'a self,
        call: &Call,
        faults: &'a Faults,
        gone: &'a Gone,
    ) -> Option<EventJudge<'a>> {
        let (_, function) = call.sent.as_ref()?;
        Some(EventJudge {
            declared: self.0.get(function)?,
            faults,
            gone,
        })
    }

    /// After a replay exactly the dead letters run again.
    pub(super) fn dead_letters(
        &self,
        calls: &BTreeMap<String, Call>,
        counts: &mut EventCounts,
        found: &mut Vec<Violation>,
    ) {
        for (function, declared) in &self.0 {
            for (place, (from, replayed)) in declared.replayed.iter().enumerate() {
                let next = declared.replayed.get(place + 1);
                let until = next.map_or(At::MAX, |(next, _)| *next);
                let has_run = |call: &&Call| {
                    let is_its = call.sent.as_ref().is_some_and(|(_, its)| its == function);
                    let mut began = call.began.iter();
                    is_its && began.any(|(at, ..)| (*from..until).contains(at))
                };
                let ran = calls.values().filter(has_run).count();
                counts.replayed += replayed;
                if ran != *replayed {
                    found.push(Violation::DeadLettersChanged {
                        function: function.clone(),
                        replayed: *replayed,
                        ran,
                    });
                }
            }
        }
    }
}

impl EventJudge<'_> {
    pub(super) fn call(
        &self,
        id: &str,
        call: &Call,
        runs: &[Run<'_>],
        counts: &mut EventCounts,
        found: &mut Vec<Violation>,
    ) {
        counts.executions += runs.len();
        self.executions(id, runs, counts, found);
        let id = id.to_owned();
        match (&call.accepted[..], &call.answers[..]) {
            ([(at, request)], []) => {
                counts.accepted += 1;
                if !runs.iter().any(|run| run.ended.is_some()) {
                    found.push(Violation::EventLost { id: id.clone() });
                }
                let first = runs.first().map(|run| run.began.saturating_sub(*at));
                counts.to_begin.extend(first);
                if let Some(other) = call.attempted.iter().find(|other| *other != request) {
                    let (accepted, other) = (request.clone(), other.clone());
                    found.push(Violation::OtherRequestId {
                        id,
                        accepted,
                        other,
                    });
                }
            }
            ([], []) => found.push(Violation::Lost { id }),
            ([], [(at, outcome)]) => {
                counts.refused += 1;
                let (kind, sent) = (outcome.kind().to_owned(), call.sent.as_ref());
                if !runs.is_empty() {
                    counts.refused_and_executed += 1;
                    if outcome.is_refusal() {
                        let (id, kind) = (id.clone(), kind.clone());
                        found.push(Violation::RefusedButExecuted { id, kind });
                    }
                }
                let sent = sent.map_or(0, |(sent, _)| *sent);
                let own = format!("events:{kind}");
                if !self.faults.allow(&kind, sent, *at) && !self.faults.allow(&own, sent, *at) {
                    let message = outcome.message().to_owned();
                    found.push(Violation::Unexplained { id, kind, message });
                }
            }
            _ => found.push(Violation::AnsweredTwice { id }),
        }
    }

    /// How often an event ran, and whether twice at once.
    fn executions(
        &self,
        id: &str,
        runs: &[Run<'_>],
        counts: &mut EventCounts,
        found: &mut Vec<Violation>,
    ) {
        let is_struck = |before: &Run<'_>, next: &Run<'_>| {
            self.faults.allow(REDELIVERY, before.began, next.began)
        };
        let Declared { attempts, replayed } = self.declared;
        // What ran before the first replay, and after each of them.
        let replays = |run: &Run<'_>| replayed.partition_point(|(at, _)| *at <= run.began);
        for part in runs.chunk_by(|one, next| replays(one) == replays(next)) {
            let explained = part.windows(2).filter(|pair| is_struck(&pair[0], &pair[1]));
            let allowed = attempts + explained.count();
            counts.redelivered += part.len().saturating_sub(*attempts);
            if part.len() > allowed {
                found.push(Violation::EventRanTooOften {
                    id: id.to_owned(),
                    executions: part.len(),
                    allowed,
                });
            }
        }
        for pair in runs.windows(2) {
            let (before, next) = (&pair[0], &pair[1]);
            // Of an execution whose process was lost, nobody knows the end.
            let ended = self.gone.end(before);
            if ended.is_none_or(|ended| ended <= next.began) {
                continue;
            }
            counts.at_once += 1;
            if !is_struck(before, next) {
                found.push(Violation::EventOverlapped {
                    id: id.to_owned(),
                    instances: [before.instance.to_owned(), next.instance.to_owned()],
                });
            }
        }
    }
}
