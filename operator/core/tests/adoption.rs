//! The new owner of a function adopts the instances that already live.

use std::time::{Duration, Instant};

use pilotlight_core::instance::{Condition, Status};
use pilotlight_core::invoke::budget::{Budget, ShareId};
use pilotlight_core::invoke::pool::{
    Action, Bounds, Event, InstanceId, Pacing, Pool, Rejection, Settings,
};
use pilotlight_core::invoke::queue::InvocationId;
use pilotlight_core::reason::Reason;

const KEEP_ALIVE: Duration = Duration::from_secs(60);

fn pool() -> Pool {
    let settings = Settings {
        limit: 2,
        queue: 5,
        timeout: Duration::from_secs(3),
        keep_alive: KEEP_ALIVE,
        provisioned: 0,
    };
    let bounds = Bounds {
        queue_bytes: 1000,
        queue_wait: Duration::from_secs(30),
        pacing: Pacing::default(),
    };
    Pool::new(settings, bounds, Budget::default().share(ShareId(0)))
}

fn reported(instance: InstanceId, condition: Condition) -> Event {
    let status = Status {
        epoch: 1,
        condition,
    };
    Event::StatusReported { instance, status }
}

fn arrived(invocation: u64) -> Event {
    Event::Arrived {
        invocation: InvocationId(invocation),
        bytes: 1,
    }
}

#[test]
fn an_adopted_instance_serves_the_waiter_and_none_is_started() {
    let (mut pool, now) = (pool(), Instant::now());
    let instance = pool.adopt(now);
    pool.handle(now, arrived(1));
    assert_eq!(
        pool.poll_action(),
        None,
        "the adopted instance counts as starting"
    );
    pool.handle(now, reported(instance, Condition::Ready));
    let invocation = InvocationId(1);
    assert_eq!(
        pool.poll_action(),
        Some(Action::Dispatch {
            invocation,
            instance
        })
    );
}

#[test]
fn an_adopted_instance_that_is_not_needed_stops_after_its_keep_alive() {
    let (mut pool, now) = (pool(), Instant::now());
    let instance = pool.adopt(now);
    pool.handle(now, reported(instance, Condition::Ready));
    let end = now + KEEP_ALIVE;
    assert_eq!(pool.next_wakeup(), Some(end));
    pool.wake(end);
    assert_eq!(pool.poll_action(), Some(Action::Stop { instance }));
}

#[test]
fn the_end_of_an_adopted_instance_is_not_a_failed_start() {
    let (mut pool, now) = (pool(), Instant::now());
    let instance = pool.adopt(now);
    pool.handle(now, arrived(1));
    let reason = Reason::from("its pod was deleted");
    pool.handle(now, Event::Gone { instance, reason });
    assert!(matches!(pool.poll_action(), Some(Action::Start { .. })));
}

#[test]
fn after_a_handover_the_instances_live_on_and_waiting_calls_go_to_the_new_owner() {
    let (mut pool, now) = (pool(), Instant::now());
    let (busy, idle) = (pool.adopt(now), pool.adopt(now));
    pool.handle(now, reported(busy, Condition::Ready));
    pool.handle(now, arrived(1));
    assert!(matches!(pool.poll_action(), Some(Action::Dispatch { .. })));
    pool.handle(now, reported(idle, Condition::Ready));
    pool.handle(now, Event::HandedOver);
    assert_eq!(pool.poll_action(), Some(Action::Release { instance: idle }));
    assert_eq!(
        pool.poll_action(),
        None,
        "the release waits for the end of the lease"
    );

    pool.handle(now, arrived(2));
    let (invocation, rejection) = (InvocationId(2), Rejection::Moved);
    let moved = Action::Reject {
        invocation,
        rejection,
    };
    assert_eq!(pool.poll_action(), Some(moved));
    let status = Status {
        epoch: 2,
        condition: Condition::Ready,
    };
    pool.handle(
        now,
        Event::Finished {
            instance: busy,
            status,
        },
    );
    assert_eq!(pool.poll_action(), Some(Action::Release { instance: busy }));
    // The lease's deadline, which nobody moved when it ended in time, is all that the pool still wakes up for.
    let wakeup = pool.next_wakeup().expect("the deadline of the lease");
    pool.wake(wakeup);
    assert_eq!((pool.poll_action(), pool.next_wakeup()), (None, None));
}

#[test]
fn an_instance_that_is_still_leased_when_its_function_returns_is_kept() {
    let (mut pool, now) = (pool(), Instant::now());
    let instance = pool.adopt(now);
    pool.handle(now, reported(instance, Condition::Ready));
    pool.handle(now, arrived(1));
    assert!(matches!(pool.poll_action(), Some(Action::Dispatch { .. })));
    pool.handle(now, Event::HandedOver);
    pool.take_over();
    assert!(pool.keep(now, instance));
    let status = Status {
        epoch: 2,
        condition: Condition::Ready,
    };
    pool.handle(now, Event::Finished { instance, status });
    assert_eq!(pool.poll_action(), None);
    assert_eq!(pool.counts().idle, 1);
    assert!(!pool.keep(now, instance), "the instance has no lease");
}
