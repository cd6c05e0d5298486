//! Counts over time: how many calls are open, or how many handlers run, at each moment.

use crate::record::At;

/// A count and the times when it changes.
#[derive(Clone, Debug, Default)]
pub(super) struct Steps(Vec<(At, isize)>);

impl Steps {
    pub(super) fn add(&mut self, from: At, to: Option<At>) {
        self.0.push((from, 1));
        self.0.extend(to.map(|to| (to, -1)));
    }

    /// Sorts the changes and turns them into counts. At equal times, ends come before begins.
    pub(super) fn put_in_order(&mut self) {
        self.0.sort_unstable();
        let mut count = 0;
        for (_, step) in &mut self.0 {
            count += *step;
            *step = count;
        }
    }

    /// The highest count from `from` to `to`, both included.
    pub(super) fn most(&self, from: At, to: At) -> usize {
        let begin = self.0.partition_point(|(at, _)| *at < from);
        let within = self.0[begin..].iter().take_while(|(at, _)| *at <= to);
        let most = within.map(|(_, count)| *count).max().unwrap_or(0);
        usize::try_from(most).unwrap_or(0)
    }

    pub(super) fn first_above(&self, limit: usize) -> Option<(At, usize)> {
        let counts = self.0.iter();
        let mut counts = counts.map(|(at, count)| (*at, usize::try_from(*count).unwrap_or(0)));
        counts.find(|(_, count)| *count > limit)
    }
}
