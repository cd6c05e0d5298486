//! Provisioned instances, and limits that change while the pool runs.

use std::time::{Duration, Instant};

use pilotlight_core::instance::{Condition, Status};
use pilotlight_core::invoke::budget::{Budget, ShareId};
use pilotlight_core::invoke::pool::{Action, Bounds, Event, InstanceId, Pacing, Pool, Settings};
use pilotlight_core::invoke::queue::InvocationId;

const KEEP_ALIVE: Duration = Duration::from_secs(60);

struct Function {
    pool: Pool,
    settings: Settings,
    now: Instant,
    made: u64,
}

impl Function {
    fn provisioned(provisioned: usize) -> Self {
        let settings = Settings {
            limit: 5,
            queue: 5,
            timeout: Duration::from_secs(3),
            keep_alive: KEEP_ALIVE,
            provisioned,
        };
        let bounds = Bounds {
            queue_bytes: 1000,
            queue_wait: Duration::from_secs(30),
            pacing: Pacing::default(),
        };
        let mut function = Function {
            pool: Pool::new(settings, bounds, Budget::default().share(ShareId(0))),
            settings,
            now: Instant::now(),
            made: 0,
        };
        function.pool.wake(function.now);
        function
    }

    fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.pool.poll_action()).collect()
    }

    /// Counts the instances that the pool starts; all come up.
    fn start_all(&mut self) -> usize {
        let actions = self.actions();
        let started: Vec<InstanceId> = actions
            .into_iter()
            .map(|action| match action {
                Action::Start { instance } => instance,
                other => panic!("not a start: {other:?}"),
            })
            .collect();
        for instance in &started {
            self.report_ready(*instance, 1);
        }
        started.len()
    }

    fn report_ready(&mut self, instance: InstanceId, epoch: u64) {
        let condition = Condition::Ready;
        let status = Status { epoch, condition };
        self.pool
            .handle(self.now, Event::StatusReported { instance, status });
    }

    fn call(&mut self) {
        self.made += 1;
        let invocation = InvocationId(self.made);
        let arrived = Event::Arrived {
            invocation,
            bytes: 1,
        };
        self.pool.handle(self.now, arrived);
    }

    fn configure(&mut self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.settings);
        let settings = self.settings;
        self.pool.handle(self.now, Event::Configured { settings });
    }

    fn stopped(&mut self) -> usize {
        let actions = self.actions().into_iter();
        actions
            .filter(|action| matches!(action, Action::Stop { .. }))
            .count()
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.pool.wake(self.now);
    }
}

#[test]
fn provisioned_instances_are_up_before_the_first_call_and_stay_up_without_calls() {
    let mut function = Function::provisioned(2);
    assert_eq!(function.start_all(), 2);
    assert_eq!(function.pool.next_wakeup(), None, "no instance ends");
    function.pass(KEEP_ALIVE * 10);
    assert_eq!(function.actions(), []);
    function.call();
    let dispatched = matches!(function.actions()[..], [Action::Dispatch { .. }]);
    assert!(dispatched, "no instance starts for the call");
}

#[test]
fn a_lost_provisioned_instance_is_replaced() {
    let mut function = Function::provisioned(1);
    assert_eq!(function.start_all(), 1);
    let (instance, reason) = (InstanceId(0), "its node is lost".into());
    function
        .pool
        .handle(function.now, Event::Gone { instance, reason });
    assert_eq!(function.start_all(), 1);
}

#[test]
fn instances_beyond_the_provisioned_ones_stop_after_their_keep_alive() {
    let mut function = Function::provisioned(1);
    assert_eq!(function.start_all(), 1);
    function.configure(|settings| settings.provisioned = 3);
    assert_eq!(function.start_all(), 2);
    function.pass(KEEP_ALIVE / 2);
    function.configure(|settings| settings.provisioned = 1);
    assert_eq!(function.stopped(), 0);
    assert_eq!(
        function.pool.next_wakeup(),
        Some(function.now + KEEP_ALIVE / 2)
    );
    function.pass(KEEP_ALIVE / 2);
    assert_eq!(function.stopped(), 2);
    function.pass(KEEP_ALIVE * 10);
    assert_eq!(function.stopped(), 0, "the last instance is provisioned");
}

#[test]
fn the_limit_bounds_provisioned_instances_and_a_lower_limit_stops_those_that_are_not_busy() {
    let mut function = Function::provisioned(9);
    assert_eq!(function.start_all(), 5, "the limit");
    function.call();
    function.actions();
    function.configure(|settings| settings.limit = 1);
    assert_eq!(function.stopped(), 4);
    assert_eq!(function.pool.counts().busy, 1);
    function.configure(|settings| settings.limit = 0);
    assert_eq!(function.stopped(), 0, "the instance is busy");
    let (condition, instance) = (Condition::Ready, InstanceId(4));
    let status = Status {
        epoch: 2,
        condition,
    };
    function
        .pool
        .handle(function.now, Event::Finished { instance, status });
    assert_eq!(function.stopped(), 1);
}
