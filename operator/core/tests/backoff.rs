//! The backoff of a pool whose instances cannot start.

use std::time::{Duration, Instant};

use pilotlight_core::invoke::budget::{Budget, ShareId};
use pilotlight_core::invoke::pool::{
    Action, Bounds, Event, InstanceId, Pacing, Pool, Rejection, Settings,
};
use pilotlight_core::invoke::queue::InvocationId;
use pilotlight_core::reason::Reason;

struct Calls {
    pool: Pool,
    now: Instant,
    made: u64,
}

impl Calls {
    fn new() -> Self {
        let settings = Settings {
            limit: 2,
            queue: 5,
            timeout: Duration::from_secs(3),
            keep_alive: Duration::from_secs(60),
            provisioned: 0,
        };
        let bounds = Bounds {
            queue_bytes: 1000,
            queue_wait: Duration::from_secs(30),
            pacing: Pacing::default(),
        };
        Calls {
            pool: Pool::new(settings, bounds, Budget::default().share(ShareId(0))),
            now: Instant::now(),
            made: 0,
        }
    }

    /// The actions that follow a call at once: none if the call waits.
    fn call(&mut self) -> Vec<Action> {
        self.made += 1;
        let invocation = InvocationId(self.made);
        let arrived = Event::Arrived {
            invocation,
            bytes: 1,
        };
        self.pool.handle(self.now, arrived);
        self.actions()
    }

    fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.pool.poll_action()).collect()
    }

    /// Calls without pause until instances start; returns how long that took.
    fn until_starts(&mut self) -> (Duration, Vec<InstanceId>) {
        let begin = self.now;
        loop {
            let mut started = Vec::new();
            for action in self.call() {
                match action {
                    Action::Start { instance } => started.push(instance),
                    Action::Reject { rejection, .. } => {
                        assert!(matches!(
                            rejection,
                            Rejection::CannotStart(_) | Rejection::Throttled
                        ));
                    }
                    other => panic!("{other:?}"),
                }
            }
            if !started.is_empty() {
                return (self.now - begin, started);
            }
            self.now += Duration::from_millis(50);
        }
    }

    /// All these starts fail. Returns the rejections of calls that follow.
    fn fail(&mut self, starts: Vec<InstanceId>) -> Vec<Rejection> {
        let failed = |instance, reason| Event::Gone { instance, reason };
        self.end(starts, failed);
        let rejections = self.actions().into_iter().map(|action| match action {
            Action::Reject { rejection, .. } => rejection,
            other => panic!("{other:?}"),
        });
        rejections.collect()
    }

    fn end(&mut self, starts: Vec<InstanceId>, how: fn(InstanceId, Reason) -> Event) {
        for instance in starts {
            self.pool.handle(self.now, how(instance, "why".into()));
        }
    }

    fn longest_pause(&mut self, event: fn(InstanceId, Reason) -> Event) -> Duration {
        let mut longest = Duration::ZERO;
        for _ in 0..12 {
            let (pause, starts) = self.until_starts();
            longest = longest.max(pause);
            self.end(starts, event);
            self.actions();
        }
        longest
    }
}

#[test]
fn a_refusal_is_retried_within_a_second_and_a_failed_start_within_thirty() {
    let refused = |instance, reason| Event::Refused { instance, reason };
    assert_eq!(Calls::new().longest_pause(refused), Duration::from_secs(1));
    let failed = |instance, reason| Event::Gone { instance, reason };
    assert_eq!(Calls::new().longest_pause(failed), Duration::from_secs(30));
}

#[test]
fn calls_wait_while_a_failed_start_is_retried_and_are_rejected_when_the_retry_fails_too() {
    let mut calls = Calls::new();
    let (_, mut first) = calls.until_starts();
    first.extend(calls.until_starts().1);
    assert_eq!(first.len(), 2);
    assert_eq!(calls.fail(first), []);
    assert_eq!(calls.call(), [], "the call waits with the others");

    let (pause, again) = calls.until_starts();
    assert_eq!(pause, Duration::from_millis(250));
    let reason = Rejection::CannotStart("why".into());
    let rejections = calls.fail(again);
    assert!(!rejections.is_empty() && rejections.iter().all(|one| *one == reason));
    let at_once = calls.call();
    assert!(matches!(&at_once[..], [Action::Reject { rejection, .. }] if *rejection == reason));
}

#[test]
fn a_call_that_has_waited_long_is_rejected_after_the_first_failed_start() {
    let mut calls = Calls::new();
    let (_, starts) = calls.until_starts();
    calls.now += Duration::from_secs(5);
    let reason = Rejection::CannotStart("why".into());
    assert_eq!(calls.fail(starts), [reason]);
}

#[test]
fn a_call_is_not_throttled_when_the_reason_is_that_no_instance_came_up() {
    let mut calls = Calls::new();
    calls.until_starts();
    calls.pool.wake(calls.now + Duration::from_secs(30));
    assert!(matches!(
        calls.actions()[..],
        [Action::Reject {
            rejection: Rejection::CannotStart(_),
            ..
        }]
    ));
}
