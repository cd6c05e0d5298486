//! The deliberate faults, and where each acts.
//!
//! They act where a bug would act: on the settings that the pool gets and on the actions that it returns, and
//! in `instances`, `gateway` and `function` where a gateway, a supervisor or a creator of instances could be
//! wrong. They have their own random numbers, so that a world equals the sound world of its seed until the
//! first fault. `broken` shows that the oracle finds each.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fastrand::Rng;
use pilotlight_core::invoke::pool::{Action, InstanceId, Rejection, Settings};
use pilotlight_core::invoke::queue::InvocationId;

use crate::answers::Answer;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    // The pool, by its settings: one more, or another time, than configured.
    Limit,
    Queue,
    KeepAlive,
    GiveUpEarly,
    // The pool, by its actions and its wake-ups.
    RejectForgotten,
    RejectTwice,
    RejectMadeUp,
    RejectForAnothersReason,
    StartTwice,
    StartForgotten,
    StopForgotten,
    GiveUpForgotten,
    DispatchToBusy,
    WakeInThePast,
    WakeWithoutEnd,
    // The gateway.
    WakeForgotten,
    AnswerForgotten,
    AnswerTwice,
    AnswerOfAnother,
    AnswerTakenForLost,
    LostTakenForRefused,
    LostSentAgain,
    // The supervisor.
    BusyIgnored,
    DeliveredTwice,
    FailedInitTakenForSuccess,
    CrashTakenForSuccess,
    CutStreamTakenForWhole,
    ShutdownForgotten,
    // The creator of instances.
    MadeOutdated,
    // The owner of several pools.
    BudgetOfOneEach,
    SiblingForgotten,
}

impl Broken {
    pub(crate) const ALL: [Broken; 31] = [
        Broken::Limit,
        Broken::Queue,
        Broken::KeepAlive,
        Broken::GiveUpEarly,
        Broken::RejectForgotten,
        Broken::RejectTwice,
        Broken::RejectMadeUp,
        Broken::RejectForAnothersReason,
        Broken::StartTwice,
        Broken::StartForgotten,
        Broken::StopForgotten,
        Broken::GiveUpForgotten,
        Broken::DispatchToBusy,
        Broken::WakeInThePast,
        Broken::WakeWithoutEnd,
        Broken::WakeForgotten,
        Broken::AnswerForgotten,
        Broken::AnswerTwice,
        Broken::AnswerOfAnother,
        Broken::AnswerTakenForLost,
        Broken::LostTakenForRefused,
        Broken::LostSentAgain,
        Broken::BusyIgnored,
        Broken::DeliveredTwice,
        Broken::FailedInitTakenForSuccess,
        Broken::CrashTakenForSuccess,
        Broken::CutStreamTakenForWhole,
        Broken::ShutdownForgotten,
        Broken::MadeOutdated,
        Broken::BudgetOfOneEach,
        Broken::SiblingForgotten,
    ];

    /// The rule that the fault breaks, and the rules that it sometimes breaks as a consequence.
    pub(crate) fn breaks(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Broken::Limit => ("TooManyInstances", &["BeyondRoom", CROWD]),
            Broken::Queue => ("BeyondRoom", &[]),
            Broken::KeepAlive => ("StoppedOutOfTime", &[]),
            // Whoever gives up an instance that works leaves it behind.
            Broken::GiveUpEarly => (
                "GivenUpInTime",
                &[
                    "Unexplained",
                    "LeftBehind",
                    "Miscounted",
                    "TooManyInstances",
                    "Lost",
                    CROWD,
                ],
            ),
            Broken::RejectForgotten => ("Lost", &["Miscounted", "BeyondRoom"]),
            Broken::RejectTwice => ("AnsweredTwice", &[]),
            Broken::RejectMadeUp => ("NeverSent", &[]),
            Broken::RejectForAnothersReason => ("Unexplained", &[]),
            Broken::StartTwice => ("TooManyInstances", &["LeftBehind", "Miscounted", CROWD]),
            Broken::StartForgotten => ("Miscounted", &["LeftBehind", "GivenUpInTime"]),
            Broken::StopForgotten => (
                "GivenUpInTime",
                &["LeftBehind", "Miscounted", "TooManyInstances", CROWD],
            ),
            Broken::GiveUpForgotten => ("Overdue", &["Lost", "LeftBehind"]),
            Broken::DispatchToBusy => (
                "LeasedTwice",
                // The pool counts an instance that does not exist.
                &[
                    "Lost",
                    "LeftBehind",
                    "Miscounted",
                    "TooManyInstances",
                    "GivenUpInTime",
                    "Unexplained",
                ],
            ),
            Broken::WakeInThePast => ("WakeUpInThePast", &[]),
            Broken::WakeWithoutEnd => ("NeverAtRest", &["WakeUpInThePast", "Lost", "LeftBehind"]),
            Broken::WakeForgotten => (
                "LeftBehind",
                &["Lost", "StoppedOutOfTime", "Overdue", "GivenUpInTime"],
            ),
            Broken::AnswerForgotten => ("GivenUpInTime", &["Lost", "LeftBehind", "Unexplained"]),
            Broken::AnswerTwice => ("AnsweredTwice", &[]),
            Broken::AnswerOfAnother => ("WrongAnswer", &[]),
            Broken::AnswerTakenForLost => ("Unexplained", &[]),
            Broken::LostTakenForRefused => ("RefusedButExecuted", &[]),
            Broken::LostSentAgain => (
                "ExecutedTwice",
                &["RefusedButExecuted", "TooManyInstances", CROWD],
            ),
            Broken::BusyIgnored => ("Overlapped", &[]),
            Broken::DeliveredTwice => ("ExecutedTwice", &["Overlapped"]),
            Broken::FailedInitTakenForSuccess => ("SucceededButNotExecuted", &[]),
            Broken::CrashTakenForSuccess => ("SuccessWithoutEnd", &[]),
            Broken::CutStreamTakenForWhole => ("SuccessWithoutEnd", &[]),
            Broken::ShutdownForgotten => ("LeftBehind", &["GivenUpInTime"]),
            Broken::MadeOutdated => ("Outdated", &[]),
            Broken::BudgetOfOneEach => ("TogetherTooMany", &["Starved"]),
            Broken::SiblingForgotten => ("Starved", &[]),
        }
    }
}

/// Sometimes a consequence of too many instances, and of nothing else.
pub(crate) const CROWD: &str = "TooManyAtOnce";

/// The first id of invocations and instances that never existed.
const MADE_UP: u64 = 1 << 50;

/// Injects the fault between the parts of a world; has no effect in a sound world.
pub(crate) struct Tampering {
    broken: Option<Broken>,
    rng: Rng,
    made_up: u64,
    last_success: Option<Answer>,
}

impl Tampering {
    pub(crate) fn new(seed: u64, broken: Option<Broken>) -> Self {
        Tampering {
            broken,
            rng: Rng::with_seed(seed),
            made_up: MADE_UP,
            last_success: None,
        }
    }

    /// Whether this fault is injected and acts now, which happens once in four times.
    pub(crate) fn strikes(&mut self, broken: Broken) -> bool {
        self.broken == Some(broken) && self.rng.u8(..4) == 0
    }

    /// The settings that the pool gets.
    pub(crate) fn settings(&self, mut settings: Settings) -> Settings {
        match self.broken {
            Some(Broken::Limit) => settings.limit += 1,
            Some(Broken::Queue) => settings.queue += 1,
            Some(Broken::KeepAlive) => settings.keep_alive += Duration::from_millis(1),
            Some(Broken::GiveUpEarly) => settings.timeout /= 8,
            _ => {}
        }
        settings
    }

    /// The actions that replace an action of the pool.
    pub(crate) fn actions(
        &mut self,
        mut action: Action,
        leased: &BTreeMap<InstanceId, u64>,
    ) -> impl Iterator<Item = Action> + use<> {
        let (mut once, mut also) = (true, None);
        match &mut action {
            Action::Reject { rejection, .. } => {
                once = !self.strikes(Broken::RejectForgotten);
                if self.strikes(Broken::RejectForAnothersReason) {
                    *rejection = Rejection::Moved;
                }
                if self.strikes(Broken::RejectTwice) {
                    also = Some(action.clone());
                } else if self.strikes(Broken::RejectMadeUp) {
                    also = Some(Action::Reject {
                        invocation: InvocationId(self.make_up()),
                        rejection: Rejection::Throttled,
                    });
                }
            }
            Action::Start { .. } if self.strikes(Broken::StartTwice) => {
                let instance = InstanceId(self.make_up());
                also = Some(Action::Start { instance });
            }
            Action::Start { .. } => once = !self.strikes(Broken::StartForgotten),
            Action::Stop { .. } => once = !self.strikes(Broken::StopForgotten),
            Action::GiveUp { .. } => once = !self.strikes(Broken::GiveUpForgotten),
            Action::Dispatch { instance, .. } if self.strikes(Broken::DispatchToBusy) => {
                *instance = leased.keys().next().copied().unwrap_or(*instance);
            }
            Action::Dispatch { .. } | Action::Release { .. } => {}
        }
        once.then_some(action).into_iter().chain(also)
    }

    fn make_up(&mut self) -> u64 {
        self.made_up += 1;
        self.made_up
    }

    /// The wake-up that replaces the one that the pool wants.
    pub(crate) fn next_wakeup(&mut self, now: Instant, wanted: Option<Instant>) -> Option<Instant> {
        let is_broken =
            self.strikes(Broken::WakeInThePast) || self.broken == Some(Broken::WakeWithoutEnd);
        wanted.map(|at| if is_broken { now } else { at })
    }

    /// The answer that replaces this one.
    pub(crate) fn answer(&mut self, own: Answer) -> Answer {
        match (own, self.last_success.replace(own)) {
            (Answer::Success(_), Some(last)) if self.strikes(Broken::AnswerOfAnother) => last,
            _ => own,
        }
    }
}
