//! The checker: from records in any order to what was wrong.
//!
//! Pure. Owns the rules: every invocation is answered once, runs at most once, never beside another
//! in its instance; a refusal is kept; what fails has a reason; no more instances than allowed, and
//! nothing left behind.

use std::collections::BTreeMap;
use std::fmt;

use crate::record::{At, Outcome, Record};

/// What has been told so far.
#[derive(Clone, Debug, Default)]
pub struct Account {
    calls: BTreeMap<String, Call>,
    /// In the order in which they were told.
    runs: Vec<Run>,
    faults: Vec<Fault>,
    found: Vec<Violation>,
    most: BTreeMap<String, usize>,
}

#[derive(Clone, Debug, Default)]
struct Call {
    sent: Option<(At, String)>,
    answers: Vec<(At, Outcome)>,
    runs: Vec<usize>,
}

#[derive(Clone, Debug)]
struct Run {
    id: String,
    instance: String,
    began: At,
    ended: Option<At>,
}

#[derive(Clone, Debug)]
struct Fault {
    name: String,
    allows: Vec<String>,
    from: At,
    over: Option<At>,
}

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
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
            Record::Sent { at, id, function } => {
                self.calls.entry(id).or_default().sent = Some((at, function));
            }
            Record::Answered { at, id, outcome } => {
                self.calls
                    .entry(id)
                    .or_default()
                    .answers
                    .push((at, outcome));
            }
            Record::Began { at, id, instance } => {
                let call = self.calls.entry(id.clone()).or_default();
                call.runs.push(self.runs.len());
                self.runs.push(Run {
                    id,
                    instance,
                    began: at,
                    ended: None,
                });
            }
            Record::Ended { at, id, instance } => {
                let runs = self.calls.get(&id).map_or(&[][..], |call| &call.runs);
                let open = runs.iter().find(|run| {
                    self.runs[**run].instance == instance && self.runs[**run].ended.is_none()
                });
                if let Some(run) = open {
                    self.runs[*run].ended = Some(at);
                }
            }
            Record::Instances {
                at,
                function,
                live,
                limit,
            } => {
                let most = self.most.entry(function.clone()).or_default();
                *most = live.max(*most);
                if live > limit {
                    self.found.push(Violation::TooManyInstances {
                        function,
                        at,
                        live,
                        limit,
                    });
                }
            }
            Record::Left { what, .. } => self.found.push(Violation::LeftBehind { what }),
            Record::Fault { at, fault, allows } => self.faults.push(Fault {
                name: fault,
                allows,
                from: at,
                over: None,
            }),
            Record::Over { at, fault } => {
                let open = |known: &&mut Fault| known.name == fault && known.over.is_none();
                if let Some(known) = self.faults.iter_mut().find(open) {
                    known.over = Some(at);
                }
            }
        }
    }

    pub fn verdict(mut self) -> Verdict {
        let mut verdict = Verdict {
            violations: std::mem::take(&mut self.found),
            instances: std::mem::take(&mut self.most),
            ..Verdict::default()
        };
        for (id, call) in &self.calls {
            verdict.sent += usize::from(call.sent.is_some());
            verdict.executed += usize::from(!call.runs.is_empty());
            for (_, outcome) in &call.answers {
                *verdict
                    .outcomes
                    .entry(outcome.kind().to_owned())
                    .or_default() += 1;
            }
            self.judge(id, call, &mut verdict.violations);
        }
        self.overlaps(&mut verdict.violations);
        verdict
    }

    fn judge(&self, id: &str, call: &Call, found: &mut Vec<Violation>) {
        let id = id.to_owned();
        let Some((sent, _)) = call.sent else {
            return found.push(Violation::NeverSent { id });
        };
        if call.runs.len() > 1 {
            let instances = call.runs.iter().map(|run| self.runs[*run].instance.clone());
            found.push(Violation::ExecutedTwice {
                id: id.clone(),
                instances: instances.collect(),
            });
        }
        let (at, outcome) = match &call.answers[..] {
            [] => return found.push(Violation::Lost { id }),
            [one] => one,
            _ => return found.push(Violation::AnsweredTwice { id }),
        };
        if let Outcome::Success { answer } = outcome {
            if call.runs.is_empty() {
                found.push(Violation::SucceededButNotExecuted { id: id.clone() });
            } else if call.runs.iter().all(|run| self.runs[*run].ended.is_none()) {
                found.push(Violation::SuccessWithoutEnd { id: id.clone() });
            }
            if *answer != id {
                let answer = answer.clone();
                found.push(Violation::WrongAnswer { id, answer });
            }
            return;
        }
        let kind = outcome.kind().to_owned();
        if outcome.is_refusal() && !call.runs.is_empty() {
            found.push(Violation::RefusedButExecuted {
                id: id.clone(),
                kind: kind.clone(),
            });
        }
        if !self.is_explained(&kind, sent, *at) {
            let message = outcome.message().to_owned();
            found.push(Violation::Unexplained { id, kind, message });
        }
    }

    /// Whether a fault that allows it was there at some time of the invocation's.
    fn is_explained(&self, kind: &str, sent: At, answered: At) -> bool {
        self.faults.iter().any(|fault| {
            fault.from <= answered
                && fault.over.is_none_or(|over| sent <= over)
                && fault.allows.iter().any(|allowed| allowed == kind)
        })
    }

    fn overlaps(&self, found: &mut Vec<Violation>) {
        let mut inside: BTreeMap<&str, &Run> = BTreeMap::new();
        let mut runs: Vec<&Run> = self.runs.iter().collect();
        runs.sort_by_key(|run| run.began);
        for run in runs {
            if let Some(before) = inside.insert(&run.instance, run)
                && self.end(before).is_none_or(|end| end > run.began)
            {
                found.push(Violation::Overlapped {
                    instance: run.instance.clone(),
                    first: before.id.clone(),
                    second: run.id.clone(),
                });
            }
        }
    }

    /// When an event left its instance: its end, or the answer that tells of its failure.
    fn end(&self, run: &Run) -> Option<At> {
        run.ended.or_else(|| {
            let answers = &self.calls.get(&run.id)?.answers;
            answers.iter().map(|(at, _)| *at).min()
        })
    }
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
