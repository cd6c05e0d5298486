//! Worlds in which one thing is broken, each of which the oracle must catch: a test of the test.
//!
//! What is broken is as a bug would show itself: between the real pool and `world` in what the pool
//! is told of its settings and in the actions it hands out, and in `instances` and `gateway` where a
//! gateway, a supervisor or a maker of instances could go wrong. Has a source of chance of its own, so
//! that a world is the sound one of its seed until something breaks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use fastrand::Rng;
use pilotlight_core::invoke::pool::{Action, InstanceId, Rejection, Settings};
use pilotlight_core::invoke::queue::InvocationId;
use pilotlight_load::account::Violation;

use crate::EVENTS;
use crate::answers::Answer;
use crate::oracle::Finding;
use crate::world::World;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    // The pool, by its settings: one more, or later, than it is asked.
    Limit,
    Queue,
    KeepAlive,
    // The pool, by its actions and what it asks for.
    RejectForgotten,
    RejectTwice,
    RejectMadeUp,
    RejectForAnothersReason,
    StartTwice,
    StartForgotten,
    StopForgotten,
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
    ShutdownForgotten,
    // Who makes instances.
    MadeOutdated,
}

impl Broken {
    const ALL: [Broken; 26] = [
        Broken::Limit,
        Broken::Queue,
        Broken::KeepAlive,
        Broken::RejectForgotten,
        Broken::RejectTwice,
        Broken::RejectMadeUp,
        Broken::RejectForAnothersReason,
        Broken::StartTwice,
        Broken::StartForgotten,
        Broken::StopForgotten,
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
        Broken::ShutdownForgotten,
        Broken::MadeOutdated,
    ];

    /// The rule that is broken, and those that are at times broken in consequence.
    fn breaks(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Broken::Limit => ("TooManyInstances", &["BeyondRoom", CROWD]),
            Broken::Queue => ("BeyondRoom", &[]),
            Broken::KeepAlive => ("StoppedOutOfTime", &[]),
            Broken::RejectForgotten => ("Lost", &["Miscounted", "BeyondRoom"]),
            Broken::RejectTwice => ("AnsweredTwice", &[]),
            Broken::RejectMadeUp => ("NeverSent", &[]),
            Broken::RejectForAnothersReason => ("Unexplained", &[]),
            Broken::StartTwice => ("TooManyInstances", &["LeftBehind", "Miscounted", CROWD]),
            Broken::StartForgotten => ("Miscounted", &["LeftBehind"]),
            Broken::StopForgotten => ("LeftBehind", &["Miscounted", "TooManyInstances"]),
            Broken::DispatchToBusy => (
                "LeasedTwice",
                // The pool counts one that nobody has.
                &["Lost", "LeftBehind", "Miscounted", "TooManyInstances"],
            ),
            Broken::WakeInThePast => ("WakeUpInThePast", &[]),
            Broken::WakeWithoutEnd => ("NeverAtRest", &["WakeUpInThePast", "Lost", "LeftBehind"]),
            Broken::WakeForgotten => ("LeftBehind", &["Lost", "StoppedOutOfTime"]),
            Broken::AnswerForgotten => ("Lost", &["LeftBehind"]),
            Broken::AnswerTwice => ("AnsweredTwice", &[]),
            Broken::AnswerOfAnother => ("WrongAnswer", &[]),
            Broken::AnswerTakenForLost => ("Unexplained", &[]),
            Broken::LostTakenForRefused => ("RefusedButExecuted", &[]),
            Broken::LostSentAgain => ("ExecutedTwice", &["RefusedButExecuted"]),
            Broken::BusyIgnored => ("Overlapped", &[]),
            Broken::DeliveredTwice => ("ExecutedTwice", &["Overlapped"]),
            Broken::FailedInitTakenForSuccess => ("SucceededButNotExecuted", &[]),
            Broken::CrashTakenForSuccess => ("SuccessWithoutEnd", &[]),
            Broken::ShutdownForgotten => ("LeftBehind", &[]),
            Broken::MadeOutdated => ("Outdated", &[]),
        }
    }
}

/// Names of what never was.
const MADE_UP: u64 = 1 << 50;

/// What stands between the parts of a world, and does nothing in a sound one.
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

    /// Whether it is this that is broken, and now: once in four times.
    pub(crate) fn strikes(&mut self, broken: Broken) -> bool {
        self.broken == Some(broken) && self.rng.u8(..4) == 0
    }

    /// What the pool takes its settings for.
    pub(crate) fn settings(&self, mut settings: Settings) -> Settings {
        match self.broken {
            Some(Broken::Limit) => settings.limit += 1,
            Some(Broken::Queue) => settings.queue += 1,
            Some(Broken::KeepAlive) => settings.keep_alive += Duration::from_millis(1),
            _ => {}
        }
        settings
    }

    /// What comes out of the pool for an action of its.
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

    /// When the pool asks to be woken.
    pub(crate) fn next_wakeup(&mut self, now: Instant, wanted: Option<Instant>) -> Option<Instant> {
        let is_broken =
            self.strikes(Broken::WakeInThePast) || self.broken == Some(Broken::WakeWithoutEnd);
        wanted.map(|at| if is_broken { now } else { at })
    }

    /// What a caller gets for this answer.
    pub(crate) fn answer(&mut self, own: Answer) -> Answer {
        match (own, self.last_success.replace(own)) {
            (Answer::Success(_), Some(last)) if self.strikes(Broken::AnswerOfAnother) => last,
            _ => own,
        }
    }
}

const SEEDS: u64 = 100;
/// At times in consequence of too many instances, and of nothing else.
const CROWD: &str = "TooManyAtOnce";

/// Within the seeds the rule is named, and beside it nothing but what follows from it.
#[track_caller]
fn assert_caught(broken: Broken) {
    let (rule, follows) = broken.breaks();
    let mut is_named = false;
    for seed in 0..SEEDS {
        let (_, findings) = World::new(seed, Some(broken), false).run(EVENTS);
        for finding in &findings {
            let name = finding.name();
            is_named |= name == rule;
            let is_expected = name == rule || follows.contains(&name);
            assert!(is_expected, "{broken:?}, seed {seed}: {finding:?}");
        }
    }
    assert!(is_named, "{broken:?}: {rule} is not found in {SEEDS} seeds");
}

#[test]
fn each_rule_has_a_world_that_breaks_it() {
    let broken = Broken::ALL.iter().map(|one| one.breaks().0);
    let broken: BTreeSet<&str> = broken.chain([CROWD]).collect();
    let rules = Violation::NAMES.iter().chain(&Finding::NAMES);
    assert_eq!(broken, rules.copied().collect());
}

#[test]
fn a_pool_that_starts_one_more_than_the_limit_is_caught() {
    assert_caught(Broken::Limit);
}

#[test]
fn more_at_work_than_the_limit_are_caught() {
    let mut findings = (0..SEEDS).flat_map(|seed| {
        let world = World::new(seed, Some(Broken::Limit), false);
        world.run(EVENTS).1
    });
    assert!(findings.any(|finding| finding.name() == CROWD));
}

#[test]
fn a_pool_that_queues_one_more_than_it_may_is_caught() {
    assert_caught(Broken::Queue);
}

#[test]
fn a_pool_that_stops_a_millisecond_late_is_caught() {
    assert_caught(Broken::KeepAlive);
}

#[test]
fn a_rejection_that_is_forgotten_is_caught() {
    assert_caught(Broken::RejectForgotten);
}

#[test]
fn a_rejection_that_comes_twice_is_caught() {
    assert_caught(Broken::RejectTwice);
}

#[test]
fn a_rejection_of_what_never_came_is_caught() {
    assert_caught(Broken::RejectMadeUp);
}

#[test]
fn a_rejection_for_a_reason_that_is_not_there_is_caught() {
    assert_caught(Broken::RejectForAnothersReason);
}

#[test]
fn a_start_too_many_is_caught() {
    assert_caught(Broken::StartTwice);
}

#[test]
fn a_start_that_is_forgotten_is_caught() {
    assert_caught(Broken::StartForgotten);
}

#[test]
fn a_stop_that_is_forgotten_is_caught() {
    assert_caught(Broken::StopForgotten);
}

#[test]
fn a_second_lease_for_a_busy_instance_is_caught() {
    assert_caught(Broken::DispatchToBusy);
}

#[test]
fn a_wake_up_in_the_past_is_caught() {
    assert_caught(Broken::WakeInThePast);
}

#[test]
fn a_pool_that_never_rests_is_caught() {
    assert_caught(Broken::WakeWithoutEnd);
}

#[test]
fn a_timer_that_is_forgotten_is_caught() {
    assert_caught(Broken::WakeForgotten);
}

#[test]
fn an_answer_that_is_forgotten_is_caught() {
    assert_caught(Broken::AnswerForgotten);
}

#[test]
fn an_answer_that_comes_twice_is_caught() {
    assert_caught(Broken::AnswerTwice);
}

#[test]
fn an_answer_of_another_invocation_is_caught() {
    assert_caught(Broken::AnswerOfAnother);
}

#[test]
fn an_error_in_place_of_an_answer_is_caught() {
    assert_caught(Broken::AnswerTakenForLost);
}

#[test]
fn a_refusal_of_what_began_is_caught() {
    assert_caught(Broken::LostTakenForRefused);
}

#[test]
fn a_lease_that_is_sent_again_though_it_began_is_caught() {
    assert_caught(Broken::LostSentAgain);
}

#[test]
fn a_supervisor_that_takes_a_second_lease_is_caught() {
    assert_caught(Broken::BusyIgnored);
}

#[test]
fn a_supervisor_that_delivers_a_lease_twice_is_caught() {
    assert_caught(Broken::DeliveredTwice);
}

#[test]
fn a_success_of_what_never_began_is_caught() {
    assert_caught(Broken::FailedInitTakenForSuccess);
}

#[test]
fn a_success_of_what_never_ended_is_caught() {
    assert_caught(Broken::CrashTakenForSuccess);
}

#[test]
fn an_instance_that_never_ends_is_caught() {
    assert_caught(Broken::ShutdownForgotten);
}

#[test]
fn an_instance_of_the_revision_before_is_caught() {
    assert_caught(Broken::MadeOutdated);
}
