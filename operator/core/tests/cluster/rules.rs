//! The rules that must hold in every simulated cluster, and what a trace has met.

use std::time::Duration;

/// A rule that a trace broke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// A pod was deleted although a gateway used its instance.
    DeletedInUse(String),
    /// An instance that a gateway wanted for one revision was created from another.
    Outdated(String),
    /// The owner of the function wants an instance, and nothing leads to a pod for it.
    Unserved(String),
    /// A pod exists at the end although nothing wants it.
    LeftBehind(String),
    /// The demand named a claimed pod before the cold start had its head start.
    NamedEarly(Duration),
    /// A gateway tried to claim a pod that it knew to belong to another.
    ClaimedAgain(String),
    /// A gateway claimed a pod whose pool declares what its function does not ask for, or the other way round.
    Unfit(String),
}

impl Finding {
    pub(crate) const NAMES: [&str; 7] = [
        "DeletedInUse",
        "Outdated",
        "Unserved",
        "LeftBehind",
        "NamedEarly",
        "ClaimedAgain",
        "Unfit",
    ];

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Finding::DeletedInUse(_) => "DeletedInUse",
            Finding::Outdated(_) => "Outdated",
            Finding::Unserved(_) => "Unserved",
            Finding::LeftBehind(_) => "LeftBehind",
            Finding::NamedEarly(_) => "NamedEarly",
            Finding::ClaimedAgain(_) => "ClaimedAgain",
            Finding::Unfit(_) => "Unfit",
        }
    }
}

/// Counts events, so that a test fails if one kind of event never happens.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) created: usize,
    pub(crate) deleted: usize,
    pub(crate) claimed: usize,
    pub(crate) missed: usize,
    pub(crate) adopted_by_controller: usize,
    pub(crate) adopted_by_gateway: usize,
    pub(crate) handed_over: usize,
    pub(crate) replaced: usize,
    pub(crate) made_anew: usize,
    pub(crate) restarted: usize,
}

impl Seen {
    fn fields(&mut self) -> [&mut usize; 10] {
        [
            &mut self.created,
            &mut self.deleted,
            &mut self.claimed,
            &mut self.missed,
            &mut self.adopted_by_controller,
            &mut self.adopted_by_gateway,
            &mut self.handed_over,
            &mut self.replaced,
            &mut self.made_anew,
            &mut self.restarted,
        ]
    }

    pub(crate) fn add(&mut self, other: &Seen) {
        for (sum, more) in self.fields().into_iter().zip(other.clone().fields()) {
            *sum += *more;
        }
    }

    pub(crate) fn assert_everything(mut self) {
        let text = format!("{self:?}");
        let mut fields = self.fields().into_iter();
        assert!(fields.all(|n| *n > 0), "a kind of event never came: {text}");
    }
}
