//! How long a pool waits before it starts instances again after it could not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pilotlight_core::pool::{Action, Bounds, Event, InstanceId, Pacing, Pool, Rejection, Settings};
use pilotlight_core::queue::InvocationId;

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
            keep_alive: Duration::from_secs(60),
            provisioned: 0,
        };
        let bounds = Bounds {
            queue_bytes: 1000,
            queue_wait: Duration::from_secs(30),
            pacing: Pacing::default(),
        };
        Calls {
            pool: Pool::new(settings, bounds),
            now: Instant::now(),
            made: 0,
        }
    }

    /// What a call leads to at once.
    fn call(&mut self) -> Action {
        self.made += 1;
        let invocation = InvocationId(self.made);
        let arrived = Event::Arrived {
            invocation,
            bytes: 1,
        };
        self.pool.handle(self.now, arrived);
        self.pool.poll_action().expect("something follows")
    }

    /// Calls without pause until an instance is started; says how long that took.
    fn until_start(&mut self) -> (Duration, InstanceId) {
        let begin = self.now;
        loop {
            match self.call() {
                Action::Start { instance } => return (self.now - begin, instance),
                Action::Reject { rejection, .. } => {
                    assert!(matches!(rejection, Rejection::CannotStart(_)));
                }
                other => panic!("{other:?}"),
            }
            self.now += Duration::from_millis(50);
        }
    }

    fn longest_pause(&mut self, event: fn(InstanceId, Arc<str>) -> Event) -> Duration {
        let mut longest = Duration::ZERO;
        for _ in 0..12 {
            let (pause, instance) = self.until_start();
            longest = longest.max(pause);
            self.pool
                .handle(self.now, event(instance, Arc::from("why")));
            while self.pool.poll_action().is_some() {}
        }
        longest
    }
}

#[test]
fn a_refusal_is_asked_about_again_within_a_second_a_failed_start_within_thirty() {
    let refused = |instance, reason| Event::Refused { instance, reason };
    assert_eq!(Calls::new().longest_pause(refused), Duration::from_secs(1));
    let failed = |instance, reason| Event::Gone { instance, reason };
    assert_eq!(Calls::new().longest_pause(failed), Duration::from_secs(30));
}

#[test]
fn a_call_that_no_instance_came_up_for_is_not_told_of_a_limit() {
    let mut calls = Calls::new();
    assert!(matches!(calls.call(), Action::Start { .. }));
    calls.pool.wake(calls.now + Duration::from_secs(30));
    let Some(Action::Reject { rejection, .. }) = calls.pool.poll_action() else {
        panic!("it waits on");
    };
    assert!(
        matches!(rejection, Rejection::CannotStart(_)),
        "{rejection:?}"
    );
}
