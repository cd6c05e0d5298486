//! Instances that do not obey: their calls and their ends have deadlines.

use std::time::{Duration, Instant};

use pilotlight_core::instance::{Condition, Status};
use pilotlight_core::invoke::budget::{Budget, ShareId};
use pilotlight_core::invoke::deadline::{CONFIRM_OVERDUE, OVERDUE_SLACK};
use pilotlight_core::invoke::pool::{Action, Bounds, Event, InstanceId, Pacing, Pool, Settings};
use pilotlight_core::invoke::queue::InvocationId;

const TIMEOUT: Duration = Duration::from_secs(30);
const NEVER: Duration = Duration::from_secs(24 * 3600);

fn settings(timeout: Duration) -> Settings {
    Settings {
        limit: 1,
        queue: 5,
        timeout,
        keep_alive: NEVER,
        provisioned: 0,
    }
}

fn pool() -> Pool {
    let bounds = Bounds {
        queue_bytes: 1000,
        queue_wait: NEVER,
        pacing: Pacing::default(),
    };
    Pool::new(
        settings(TIMEOUT),
        bounds,
        Budget::default().share(ShareId(0)),
    )
}

fn arrive(pool: &mut Pool, now: Instant, invocation: u64) {
    let invocation = InvocationId(invocation);
    let bytes = 1;
    pool.handle(now, Event::Arrived { invocation, bytes });
}

fn report(pool: &mut Pool, now: Instant, instance: InstanceId, epoch: u64, condition: Condition) {
    let status = Status { epoch, condition };
    pool.handle(now, Event::StatusReported { instance, status });
}

fn actions(pool: &mut Pool) -> Vec<Action> {
    std::iter::from_fn(|| pool.poll_action()).collect()
}

/// A pool with one idle instance, which has served nothing yet.
fn with_idle(now: Instant) -> (Pool, InstanceId) {
    let mut pool = pool();
    arrive(&mut pool, now, 0);
    let Some(Action::Start { instance }) = pool.poll_action() else {
        panic!("nothing is started");
    };
    pool.handle(
        now,
        Event::Abandoned {
            invocation: InvocationId(0),
        },
    );
    report(&mut pool, now, instance, 1, Condition::Ready);
    (pool, instance)
}

/// Wakes the pool at each time that it asks for, until it acts. Returns that time.
#[track_caller]
fn acts_at(pool: &mut Pool, expected: &[Action]) -> Instant {
    loop {
        let at = pool.next_wakeup().expect("a deadline");
        pool.wake(at);
        let acted = actions(pool);
        if !acted.is_empty() {
            assert_eq!(acted, expected);
            return at;
        }
    }
}

#[test]
fn an_overdue_lease_costs_its_instance_and_a_waiting_call_gets_another_one() {
    let begun = Instant::now();
    let (mut pool, instance) = with_idle(begun);
    let now = begun + 2 * TIMEOUT;
    arrive(&mut pool, now, 1);
    arrive(&mut pool, now, 2);
    let (invocation, gives_up) = (InvocationId(1), [Action::GiveUp { instance }]);
    assert_eq!(
        actions(&mut pool),
        [Action::Dispatch {
            invocation,
            instance
        }]
    );
    let at = acts_at(&mut pool, &gives_up);
    assert_eq!(at - now, TIMEOUT + OVERDUE_SLACK + CONFIRM_OVERDUE);
    // Whatever it reports now: it is not leased again, and its place is taken until it has ended.
    report(&mut pool, at, instance, 2, Condition::Ready);
    assert_eq!(actions(&mut pool), []);
    let reason = "it did not answer".into();
    pool.handle(at, Event::Gone { instance, reason });
    assert!(matches!(actions(&mut pool)[..], [Action::Start { .. }]));
}

#[test]
fn a_lease_that_was_refused_while_its_instance_was_given_up_is_tried_elsewhere() {
    let now = Instant::now();
    let (mut pool, instance) = with_idle(now);
    arrive(&mut pool, now, 1);
    actions(&mut pool);
    let at = acts_at(&mut pool, &[Action::GiveUp { instance }]);
    let status = None;
    pool.handle(at, Event::NotStarted { instance, status });
    // The instance does not live any more, so its place is free.
    assert!(matches!(actions(&mut pool)[..], [Action::Start { .. }]));
    assert_eq!(pool.queued(), 1);
}

#[test]
fn an_answer_that_was_on_its_way_while_the_gateway_stood_still_is_not_lost() {
    let now = Instant::now();
    let (mut pool, instance) = with_idle(now);
    arrive(&mut pool, now, 1);
    actions(&mut pool);
    let late = now + NEVER / 2;
    pool.wake(late);
    assert_eq!(actions(&mut pool), []);
    let status = Status {
        epoch: 2,
        condition: Condition::Ready,
    };
    pool.handle(late, Event::Finished { instance, status });
    pool.wake(late + CONFIRM_OVERDUE);
    assert_eq!(actions(&mut pool), []);
    assert_eq!(pool.counts().idle, 1);
}

#[test]
fn an_instance_that_does_not_end_its_init_or_its_drain_is_given_up() {
    let now = Instant::now();
    let mut pool = pool();
    arrive(&mut pool, now, 1);
    let Some(Action::Start { instance }) = pool.poll_action() else {
        panic!("nothing is started");
    };
    // Before its supervisor is up, the backend decides how long a start may take.
    pool.wake(now + NEVER / 2);
    assert_eq!(actions(&mut pool), []);
    pool.handle(now, Event::Up { instance });
    let at = acts_at(&mut pool, &[Action::GiveUp { instance }]);
    assert_eq!(at - now, 2 * TIMEOUT + OVERDUE_SLACK + CONFIRM_OVERDUE);

    let (mut pool, instance) = with_idle(now);
    pool.handle(now, Event::Deleted);
    assert_eq!(actions(&mut pool), [Action::Stop { instance }]);
    let at = acts_at(&mut pool, &[Action::GiveUp { instance }]);
    assert_eq!(at - now, 2 * TIMEOUT + OVERDUE_SLACK + CONFIRM_OVERDUE);
}

#[test]
fn an_instance_keeps_the_timeout_of_its_start() {
    let now = Instant::now();
    let (mut pool, instance) = with_idle(now);
    let settings = settings(Duration::from_secs(1));
    pool.handle(now, Event::Replaced { settings });
    assert_eq!(actions(&mut pool), [Action::Stop { instance }]);
    let at = acts_at(&mut pool, &[Action::GiveUp { instance }]);
    assert_eq!(at - now, 2 * TIMEOUT + OVERDUE_SLACK + CONFIRM_OVERDUE);
}

#[test]
fn an_adopted_instance_may_have_just_served_another_gateway() {
    let begun = Instant::now();
    let mut pool = pool();
    let instance = pool.adopt(begun);
    report(&mut pool, begun, instance, 1, Condition::Ready);
    let now = begun + 2 * TIMEOUT;
    arrive(&mut pool, now, 1);
    actions(&mut pool);
    let at = acts_at(&mut pool, &[Action::GiveUp { instance }]);
    assert_eq!(at - now, 2 * TIMEOUT + OVERDUE_SLACK + CONFIRM_OVERDUE);
}
