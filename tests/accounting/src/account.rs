//! The checker: from records in any order to what was wrong.
//!
//! Pure. Owns the rules: every invocation is answered once, runs at most once, never beside another
//! in its instance; a refusal is kept; what fails has a reason; no more instances than allowed, and
//! nothing left behind.

use std::collections::BTreeMap;
use std::fmt;

use crate::record::{At, Outcome, Record};

/// What has been told so far. The moments put it in order, not the order in which it is told.
#[derive(Clone, Debug, Default)]
pub struct Account {
    calls: BTreeMap<String, Call>,
    faults: BTreeMap<String, Fault>,
    /// When processes of an instance went.
    gone: BTreeMap<String, Vec<At>>,
    most: BTreeMap<String, usize>,
    found: Vec<Violation>,
}

#[derive(Clone, Debug, Default)]
struct Call {
    sent: Option<At>,
    answers: Vec<(At, Outcome)>,
    began: Vec<(At, String)>,
    ended: Vec<(At, String)>,
}

#[derive(Clone, Debug, Default)]
struct Fault {
    began: Vec<(At, Vec<String>)>,
    over: Vec<At>,
}

/// One time that a handler had an invocation.
#[derive(Clone, Copy, Debug)]
struct Run<'a> {
    id: &'a str,
    instance: &'a str,
    began: At,
    ended: Option<At>,
    /// The answer that may tell of its failure.
    answered: Option<At>,
}

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Violation {
    Lost {
        id: String,
    },
    AnsweredTwice {
        id: String,
    },
    NeverSent {
        id: String,
    },
    ExecutedTwice {
        id: String,
        instances: Vec<String>,
    },
    Overlapped {
        instance: String,
        first: String,
        second: String,
    },
    RefusedButExecuted {
        id: String,
        kind: String,
    },
    SucceededButNotExecuted {
        id: String,
    },
    SuccessWithoutEnd {
        id: String,
    },
    WrongAnswer {
        id: String,
        answer: String,
    },
    Unexplained {
        id: String,
        kind: String,
        message: String,
    },
    TooManyInstances {
        function: String,
        at: At,
        live: usize,
        limit: usize,
    },
    LeftBehind {
        what: String,
    },
}

/// What became of a run's invocations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub sent: usize,
    pub executed: usize,
    /// By the outcome's kind.
    pub outcomes: BTreeMap<String, usize>,
    /// The most instances that each function had at once.
    pub instances: BTreeMap<String, usize>,
    pub violations: Vec<Violation>,
}

impl Account {
    pub fn add(&mut self, record: Record) {
        match record {
            Record::Sent {
                at,
                id,
                function: _,
            } => self.call(id).sent = Some(at),
            Record::Answered { at, id, outcome } => self.call(id).answers.push((at, outcome)),
            Record::Began { at, id, instance } => self.call(id).began.push((at, instance)),
            Record::Ended { at, id, instance } => self.call(id).ended.push((at, instance)),
            Record::Gone { at, instance } => self.gone.entry(instance).or_default().push(at),
            Record::Instances {
                at,
                function,
                live,
                limit,
            } => self.count(at, function, live, limit),
            Record::Left { what, .. } => self.found.push(Violation::LeftBehind { what }),
            Record::Fault { at, fault, allows } => {
                self.faults
                    .entry(fault)
                    .or_default()
                    .began
                    .push((at, allows));
            }
            Record::Over { at, fault } => self.faults.entry(fault).or_default().over.push(at),
        }
    }

    fn call(&mut self, id: String) -> &mut Call {
        self.calls.entry(id).or_default()
    }

    fn count(&mut self, at: At, function: String, live: usize, limit: usize) {
        match self.most.get_mut(&function) {
            Some(most) => *most = live.max(*most),
            None => drop(self.most.insert(function.clone(), live)),
        }
        if live > limit {
            self.found.push(Violation::TooManyInstances {
                function,
                at,
                live,
                limit,
            });
        }
    }

    pub fn verdict(mut self) -> Verdict {
        self.put_in_order();
        let mut verdict = Verdict {
            violations: std::mem::take(&mut self.found),
            instances: std::mem::take(&mut self.most),
            ..Verdict::default()
        };
        let mut all_runs = Vec::new();
        for (id, call) in &self.calls {
            verdict.sent += usize::from(call.sent.is_some());
            verdict.executed += usize::from(!call.began.is_empty());
            for (_, outcome) in &call.answers {
                let outcomes = &mut verdict.outcomes;
                *outcomes.entry(outcome.kind().to_owned()).or_default() += 1;
            }
            let runs = runs(id, call);
            self.judge(id, call, &runs, &mut verdict.violations);
            all_runs.extend(runs);
        }
        self.overlaps(all_runs, &mut verdict.violations);
        verdict.violations.sort();
        verdict
    }

    fn put_in_order(&mut self) {
        for call in self.calls.values_mut() {
            call.began.sort();
            call.ended.sort();
        }
        for fault in self.faults.values_mut() {
            fault.began.sort();
            fault.over.sort();
        }
        self.gone.values_mut().for_each(|moments| moments.sort());
    }

    fn judge(&self, id: &str, call: &Call, runs: &[Run<'_>], found: &mut Vec<Violation>) {
        let id = id.to_owned();
        let Some(sent) = call.sent else {
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
        if let Outcome::Success { answer } = outcome {
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
        if !self.is_explained(&kind, sent, at) {
            let message = outcome.message().to_owned();
            found.push(Violation::Unexplained { id, kind, message });
        }
    }

    /// Whether a fault that allows it was there at some time of the invocation's.
    fn is_explained(&self, kind: &str, sent: At, answered: At) -> bool {
        self.faults.values().any(|fault| {
            let times = fault.began.iter().enumerate();
            let mut times = times.map(|(time, began)| (began, fault.over.get(time)));
            times.any(|((from, allows), over)| {
                *from <= answered
                    && over.is_none_or(|over| sent <= *over)
                    && allows.iter().any(|allowed| allowed == kind)
            })
        })
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

    /// When an event left its instance: its end, that of its process, or the answer that tells of
    /// its failure.
    fn end(&self, run: Run<'_>) -> Option<At> {
        let gone = || {
            let gone = self.gone.get(run.instance)?;
            gone.get(gone.partition_point(|at| *at < run.began))
                .copied()
        };
        run.ended.or_else(gone).or(run.answered)
    }
}

/// The times that a call was run, each beginning with the end that belongs to it.
fn runs<'a>(id: &'a str, call: &'a Call) -> Vec<Run<'a>> {
    let mut ended: Vec<&(At, String)> = call.ended.iter().collect();
    let began = call.began.iter().map(|(began, instance)| {
        let place = ended.iter().position(|(_, inside)| inside == instance);
        Run {
            id,
            instance,
            began: *began,
            ended: place.map(|place| ended.remove(place).0),
            answered: call.answers.iter().map(|(at, _)| *at).min(),
        }
    });
    began.collect()
}

impl Violation {
    /// Of the rule that is broken.
    pub fn name(&self) -> &'static str {
        match self {
            Violation::Lost { .. } => "Lost",
            Violation::AnsweredTwice { .. } => "AnsweredTwice",
            Violation::NeverSent { .. } => "NeverSent",
            Violation::ExecutedTwice { .. } => "ExecutedTwice",
            Violation::Overlapped { .. } => "Overlapped",
            Violation::RefusedButExecuted { .. } => "RefusedButExecuted",
            Violation::SucceededButNotExecuted { .. } => "SucceededButNotExecuted",
            Violation::SuccessWithoutEnd { .. } => "SuccessWithoutEnd",
            Violation::WrongAnswer { .. } => "WrongAnswer",
            Violation::Unexplained { .. } => "Unexplained",
            Violation::TooManyInstances { .. } => "TooManyInstances",
            Violation::LeftBehind { .. } => "LeftBehind",
        }
    }

    /// All names.
    pub const NAMES: [&str; 12] = [
        "Lost",
        "AnsweredTwice",
        "NeverSent",
        "ExecutedTwice",
        "Overlapped",
        "RefusedButExecuted",
        "SucceededButNotExecuted",
        "SuccessWithoutEnd",
        "WrongAnswer",
        "Unexplained",
        "TooManyInstances",
        "LeftBehind",
    ];
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::Lost { id } => write!(f, "lost: {id} was never answered"),
            Violation::AnsweredTwice { id } => write!(f, "answered twice: {id}"),
            Violation::NeverSent { id } => write!(f, "never sent, but told of: {id}"),
            Violation::ExecutedTwice { id, instances } => {
                write!(f, "executed twice: {id}, in {}", instances.join(" and "))
            }
            Violation::Overlapped {
                instance,
                first,
                second,
            } => write!(
                f,
                "two at once: {second} began in {instance} before {first} had ended"
            ),
            Violation::RefusedButExecuted { id, kind } => {
                write!(f, "refused but executed: {id} was told {kind}")
            }
            Violation::SucceededButNotExecuted { id } => {
                write!(f, "a success without a run: {id}")
            }
            Violation::SuccessWithoutEnd { id } => write!(f, "a success before the end: {id}"),
            Violation::WrongAnswer { id, answer } => {
                write!(f, "another's answer: {id} was told {answer:?}")
            }
            Violation::Unexplained { id, kind, message } => {
                write!(f, "unexplained: {id} was told {kind}: {message}")
            }
            Violation::TooManyInstances {
                function,
                at,
                live,
                limit,
            } => write!(
                f,
                "too many instances: {function} had {live} of {limit} at {at}"
            ),
            Violation::LeftBehind { what } => write!(f, "left behind: {what}"),
        }
    }
}

#[cfg(test)]
mod tests;
