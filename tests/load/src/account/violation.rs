//! The rules by the names of their violations, and how each violation reads.
//!
//! `account` finds them; `check` prints them. A new rule gets a variant, a name and a sentence here.

use std::fmt;

use crate::record::At;

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
    TooManyAtOnce {
        function: String,
        at: At,
        running: usize,
        limit: usize,
    },
    Outdated {
        id: String,
        revision: u64,
        newest: u64,
    },
    LeftBehind {
        what: String,
    },
    EventLost {
        id: String,
    },
    EventRanTooOften {
        id: String,
        executions: usize,
        allowed: usize,
    },
    EventOverlapped {
        id: String,
        instances: [String; 2],
    },
    OtherRequestId {
        id: String,
        accepted: String,
        other: String,
    },
    DeadLettersChanged {
        function: String,
        replayed: usize,
        ran: usize,
    },
}

impl Violation {
    /// The name of the broken rule.
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
            Violation::TooManyAtOnce { .. } => "TooManyAtOnce",
            Violation::Outdated { .. } => "Outdated",
            Violation::LeftBehind { .. } => "LeftBehind",
            Violation::EventLost { .. } => "EventLost",
            Violation::EventRanTooOften { .. } => "EventRanTooOften",
            Violation::EventOverlapped { .. } => "EventOverlapped",
            Violation::OtherRequestId { .. } => "OtherRequestId",
            Violation::DeadLettersChanged { .. } => "DeadLettersChanged",
        }
    }

    /// The names of the rules that asynchronous calls alone can break.
    pub const EVENT_NAMES: [&str; 5] = [
        "EventLost",
        "EventRanTooOften",
        "EventOverlapped",
        "OtherRequestId",
        "DeadLettersChanged",
    ];

    /// The names of all other rules.
    pub const NAMES: [&str; 14] = [
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
        "TooManyAtOnce",
        "Outdated",
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
            Violation::TooManyAtOnce {
                function,
                at,
                running,
                limit,
            } => write!(
                f,
                "too many at once: {running} of {limit} of {function} were at work at {at}"
            ),
            Violation::Outdated {
                id,
                revision,
                newest,
            } => write!(
                f,
                "outdated: {id} ran in revision {revision} after {newest} had answered"
            ),
            Violation::LeftBehind { what } => write!(f, "left behind: {what}"),
            Violation::EventLost { id } => {
                write!(
                    f,
                    "an event is lost: {id} was accepted, and no execution of it ended"
                )
            }
            Violation::EventRanTooOften {
                id,
                executions,
                allowed,
            } => write!(
                f,
                "an event ran too often: {id} was executed {executions} times, and {allowed} are explained"
            ),
            Violation::EventOverlapped {
                id,
                instances: [first, second],
            } => write!(
                f,
                "an event ran twice at once: {id} began in {second} before it had ended in {first}"
            ),
            Violation::OtherRequestId {
                id,
                accepted,
                other,
            } => write!(
                f,
                "another request id: {id} was accepted as {accepted} and ran as {other}"
            ),
            Violation::DeadLettersChanged {
                function,
                replayed,
                ran,
            } => write!(
                f,
                "dead letters: {replayed} of {function} were replayed, and {ran} events ran after that"
            ),
        }
    }
}
