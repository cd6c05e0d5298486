//! What is known of each call: when it was sent, what its client got, and its executions by handlers.

use std::collections::BTreeMap;

use crate::record::{At, CallOutcome};

#[derive(Clone, Debug, Default)]
pub(super) struct Call {
    pub(super) sent: Option<(At, String)>,
    pub(super) answers: Vec<(At, CallOutcome)>,
    pub(super) began: Vec<(At, String, Option<u64>)>,
    pub(super) ended: Vec<(At, String)>,
    /// When its event was accepted, and with which request id.
    pub(super) accepted: Vec<(At, String)>,
    /// The request ids that its handlers had.
    pub(super) attempted: Vec<String>,
}

impl Call {
    /// The time of its answer, if it has exactly one and that is a success.
    pub(super) fn succeeded(&self) -> Option<At> {
        match self.answers[..] {
            [(at, CallOutcome::Success { .. })] => Some(at),
            _ => None,
        }
    }

    pub(super) fn put_in_order(&mut self) {
        self.began.sort();
        self.ended.sort();
        self.accepted.sort();
    }

    /// Its executions: each `began` with the `ended` of the same instance.
    pub(super) fn runs<'a>(&'a self, id: &'a str) -> Vec<Run<'a>> {
        let mut ended: Vec<&(At, String)> = self.ended.iter().collect();
        let began = self.began.iter().map(|(began, instance, revision)| {
            let place = ended.iter().position(|(_, inside)| inside == instance);
            Run {
                id,
                instance,
                revision: *revision,
                began: *began,
                ended: place.map(|place| ended.remove(place).0),
                answered: self.answers.iter().map(|(at, _)| *at).min(),
            }
        });
        began.collect()
    }
}

/// One execution of an invocation by a handler.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run<'a> {
    pub(super) id: &'a str,
    pub(super) instance: &'a str,
    pub(super) revision: Option<u64>,
    pub(super) began: At,
    pub(super) ended: Option<At>,
    /// The first answer to its caller, which may report its failure.
    pub(super) answered: Option<At>,
}

/// When the processes of each instance ended.
#[derive(Clone, Debug, Default)]
pub(super) struct Gone(BTreeMap<String, Vec<At>>);

impl Gone {
    pub(super) fn add(&mut self, instance: String, at: At) {
        self.0.entry(instance).or_default().push(at);
    }

    pub(super) fn put_in_order(&mut self) {
        self.0.values_mut().for_each(|moments| moments.sort());
    }

    /// When an execution ended: by itself, or with its process.
    pub(super) fn end(&self, run: &Run<'_>) -> Option<At> {
        let gone = || {
            let gone = self.0.get(run.instance)?;
            gone.get(gone.partition_point(|at| *at < run.began))
                .copied()
        };
        run.ended.or_else(gone)
    }
}
