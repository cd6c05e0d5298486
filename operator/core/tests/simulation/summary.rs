//! Counts the events of the traces, so that a test fails if one kind of event never happens.

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) events: usize,
    pub(crate) arrivals: usize,
    pub(crate) started: usize,
    pub(crate) stopped: usize,
    pub(crate) succeeded: usize,
    pub(crate) failed: usize,
    pub(crate) rejected: usize,
    pub(crate) not_started: usize,
    pub(crate) crashed: usize,
    pub(crate) lost: usize,
    pub(crate) replaced: usize,
    pub(crate) configured: usize,
    pub(crate) deleted: usize,
    pub(crate) foreign: usize,
    pub(crate) released: usize,
    pub(crate) handed_over: usize,
    pub(crate) adopted: usize,
    pub(crate) kept: usize,
    pub(crate) streamed: usize,
    pub(crate) stopped_supervisors: usize,
    pub(crate) given_up: usize,
    /// Instances that a pool stopped while another pool of the function lacked some.
    pub(crate) spared: usize,
}

impl Summary {
    fn fields(&mut self) -> [&mut usize; 22] {
        let Summary {
            events,
            arrivals,
            started,
            stopped,
            succeeded,
            failed,
            rejected,
            not_started,
            crashed,
            lost,
            replaced,
            configured,
            deleted,
            foreign,
            released,
            handed_over,
            adopted,
            kept,
            streamed,
            stopped_supervisors,
            given_up,
            spared,
        } = self;
        [
            events,
            arrivals,
            started,
            stopped,
            succeeded,
            failed,
            rejected,
            not_started,
            crashed,
            lost,
            replaced,
            configured,
            deleted,
            foreign,
            released,
            handed_over,
            adopted,
            kept,
            streamed,
            stopped_supervisors,
            given_up,
            spared,
        ]
    }

    pub(crate) fn add(&mut self, other: &Summary) {
        for (sum, more) in self.fields().into_iter().zip(other.clone().fields()) {
            *sum += *more;
        }
    }

    pub(crate) fn assert_everything_was_seen(mut self) {
        let text = format!("{self:?}");
        assert!(
            self.fields().into_iter().all(|n| *n > 0),
            "a kind of event never came: {text}"
        );
    }
}
