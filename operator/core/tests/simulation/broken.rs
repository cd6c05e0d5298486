//! Worlds with one deliberate fault each. The oracle must find every one: a test of the test.
//!
//! The faults act where a bug would act: on the settings that the pool gets and on the actions that it
//! returns, and in `instances` and `gateway` where a gateway, a supervisor or a creator of instances could
//! be wrong. The faults have their own random numbers, so that a world equals the sound world of its seed
//! until the first fault.

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
    // The pool, by its settings: one more, or a later time, than configured.
    Limit,
    Queue,
    KeepAlive,
    // The pool, by its actions and its wake-ups.
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
    CutStreamTakenForWhole,
    ShutdownForgotten,
    // The creator of instances.
    MadeOutdated,
}

impl Broken {
    const ALL: [Broken; 27] = [
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
        Broken::CutStreamTakenForWhole,
        Broken::ShutdownForgotten,
        Broken::MadeOutdated,
    ];

    /// The rule that the fault breaks, and the rules that it sometimes breaks as a consequence.
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
                // The pool counts an instance that does not exist.
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
            Broken::CutStreamTakenForWhole => ("SuccessWithoutEnd", &[]),
            Broken::ShutdownForgotten => ("LeftBehind", &[]),
            Broken::MadeOutdated => ("Outdated", &[]),
        }
    }
}

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

const SEEDS: u64 = 100;
/// Sometimes a consequence of too many instances, and of nothing else.
const CROWD: &str = "TooManyAtOnce";

/// The oracle names the rule within the seeds, and no rules except that and its consequences.
#[track_caller]
fn assert_found(broken: Broken) {
    let (rule, follows) = broken.breaks();
    let mut is_found = false;
    for seed in 0..SEEDS {
        let (_, findings) = World::new(seed, Some(broken), false).run(EVENTS);
        for finding in &findings {
            let name = finding.name();
            is_found |= name == rule;
            let is_expected = name == rule || follows.contains(&name);
            assert!(is_expected, "{broken:?}, seed {seed}: {finding:?}");
        }
    }
    assert!(is_found, "{broken:?}: {rule} is not named in {SEEDS} seeds");
}

#[test]
fn each_rule_has_a_world_that_breaks_it() {
    let broken = Broken::ALL.iter().map(|one| one.breaks().0);
    let broken: BTreeSet<&str> = broken.chain([CROWD]).collect();
    let rules = Violation::NAMES.iter().chain(&Finding::NAMES);
    assert_eq!(broken, rules.copied().collect());
}

#[test]
fn starting_one_instance_more_than_the_limit_is_found() {
    assert_found(Broken::Limit);
}

#[test]
fn more_busy_instances_than_the_limit_are_found() {
    let mut findings = (0..SEEDS).flat_map(|seed| {
        let world = World::new(seed, Some(Broken::Limit), false);
        world.run(EVENTS).1
    });
    assert!(findings.any(|finding| finding.name() == CROWD));
}

#[test]
fn queueing_one_invocation_too_many_is_found() {
    assert_found(Broken::Queue);
}

#[test]
fn stopping_an_idle_instance_a_millisecond_late_is_found() {
    assert_found(Broken::KeepAlive);
}

#[test]
fn a_forgotten_rejection_is_found() {
    assert_found(Broken::RejectForgotten);
}

#[test]
fn a_repeated_rejection_is_found() {
    assert_found(Broken::RejectTwice);
}

#[test]
fn a_rejection_of_an_unknown_invocation_is_found() {
    assert_found(Broken::RejectMadeUp);
}

#[test]
fn a_rejection_for_a_wrong_reason_is_found() {
    assert_found(Broken::RejectForAnothersReason);
}

#[test]
fn a_repeated_start_is_found() {
    assert_found(Broken::StartTwice);
}

#[test]
fn a_forgotten_start_is_found() {
    assert_found(Broken::StartForgotten);
}

#[test]
fn a_forgotten_stop_is_found() {
    assert_found(Broken::StopForgotten);
}

#[test]
fn a_second_lease_for_a_busy_instance_is_found() {
    assert_found(Broken::DispatchToBusy);
}

#[test]
fn a_wake_up_in_the_past_is_found() {
    assert_found(Broken::WakeInThePast);
}

#[test]
fn a_pool_that_never_comes_to_rest_is_found() {
    assert_found(Broken::WakeWithoutEnd);
}

#[test]
fn a_forgotten_timer_is_found() {
    assert_found(Broken::WakeForgotten);
}

#[test]
fn a_forgotten_answer_is_found() {
    assert_found(Broken::AnswerForgotten);
}

#[test]
fn a_repeated_answer_is_found() {
    assert_found(Broken::AnswerTwice);
}

#[test]
fn an_answer_of_another_invocation_is_found() {
    assert_found(Broken::AnswerOfAnother);
}

#[test]
fn an_error_in_place_of_an_answer_is_found() {
    assert_found(Broken::AnswerTakenForLost);
}

#[test]
fn a_rejection_of_an_invocation_that_began_is_found() {
    assert_found(Broken::LostTakenForRefused);
}

#[test]
fn a_retry_of_an_invocation_that_began_is_found() {
    assert_found(Broken::LostSentAgain);
}

#[test]
fn a_supervisor_that_accepts_a_second_lease_is_found() {
    assert_found(Broken::BusyIgnored);
}

#[test]
fn a_supervisor_that_delivers_an_event_twice_is_found() {
    assert_found(Broken::DeliveredTwice);
}

#[test]
fn a_success_of_an_invocation_that_never_began_is_found() {
    assert_found(Broken::FailedInitTakenForSuccess);
}

#[test]
fn a_success_of_an_invocation_that_never_ended_is_found() {
    assert_found(Broken::CrashTakenForSuccess);
}

#[test]
fn a_success_of_a_stream_that_broke_is_found() {
    assert_found(Broken::CutStreamTakenForWhole);
}

#[test]
fn an_instance_that_never_ends_is_found() {
    assert_found(Broken::ShutdownForgotten);
}

#[test]
fn an_instance_of_the_previous_revision_is_found() {
    assert_found(Broken::MadeOutdated);
}
