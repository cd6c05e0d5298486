//! When the runtime process of a function that must not work between events stands still.

use std::time::{Duration, Instant};

use pilotlight_core::instance::failure::Exit;
use pilotlight_core::instance::{Action, Event, Machine, RequestId};

const TIMEOUT: Duration = Duration::from_secs(3);

fn id() -> RequestId {
    "a".into()
}

fn lease() -> Event {
    Event::Lease { request_id: id() }
}

fn response() -> Event {
    let request_id = id();
    Event::Response {
        request_id,
        bytes: 2,
    }
}

/// The effects on the runtime process, in order.
fn effects(machine: &mut Machine, event: Event) -> Vec<&'static str> {
    let handled = machine.handle(Instant::now(), event);
    handled.expect("the order is allowed");
    let actions = std::iter::from_fn(|| machine.poll_action());
    let effects = actions.filter_map(|action| match action {
        Action::StartRuntime => Some("start"),
        Action::Deliver { .. } => Some("deliver"),
        Action::Freeze => Some("freeze"),
        Action::Thaw => Some("thaw"),
        Action::Terminate => Some("terminate"),
        Action::Kill => Some("kill"),
        _ => None,
    });
    effects.collect()
}

fn freezing() -> Machine {
    let mut machine = Machine::new(TIMEOUT).freezing(true);
    assert_eq!(effects(&mut machine, Event::Boot), ["start"]);
    machine
}

#[test]
fn a_process_stands_still_from_each_request_for_an_event_to_the_event() {
    let mut machine = freezing();
    assert_eq!(effects(&mut machine, Event::Next), ["freeze"]);
    for _ in 0..2 {
        assert_eq!(effects(&mut machine, lease()), ["thaw", "deliver"]);
        // It may work on until it asks for the next event.
        assert_eq!(effects(&mut machine, response()), [""; 0]);
        assert_eq!(effects(&mut machine, Event::Next), ["freeze"]);
    }
}

#[test]
fn a_process_whose_next_event_waits_already_does_not_stand_still() {
    let mut machine = freezing();
    effects(&mut machine, Event::Next);
    effects(&mut machine, lease());
    effects(&mut machine, response());
    assert_eq!(effects(&mut machine, lease()), [""; 0]);
    assert_eq!(effects(&mut machine, Event::Next), ["deliver"]);
}

#[test]
fn a_process_goes_on_before_it_is_told_to_end() {
    let mut machine = freezing();
    assert_eq!(effects(&mut machine, Event::Next), ["freeze"]);
    assert_eq!(effects(&mut machine, Event::Drain), ["thaw", "terminate"]);

    let mut machine = freezing();
    effects(&mut machine, Event::Next);
    effects(&mut machine, lease());
    assert_eq!(effects(&mut machine, Event::Drain), [""; 0]);
    effects(&mut machine, response());
    assert_eq!(effects(&mut machine, Event::Next), ["terminate"]);
}

#[test]
fn a_process_that_was_killed_while_it_stood_still_is_followed_by_one_that_does_not() {
    let mut machine = freezing();
    effects(&mut machine, Event::Next);
    assert_eq!(effects(&mut machine, Event::KilledForMemory), [""; 0]);
    assert_eq!(effects(&mut machine, lease()), ["start"]);
    assert_eq!(effects(&mut machine, Event::Next), ["deliver"]);
    let crash = Event::Exited(Exit::Code(1));
    assert_eq!(effects(&mut machine, crash), ["start"]);
    assert_eq!(effects(&mut machine, Event::Next), ["freeze"]);
}

#[test]
fn a_function_may_work_between_events_unless_it_says_otherwise() {
    let mut machine = Machine::new(TIMEOUT);
    effects(&mut machine, Event::Boot);
    assert_eq!(effects(&mut machine, Event::Next), [""; 0]);
    assert_eq!(effects(&mut machine, lease()), ["deliver"]);
    effects(&mut machine, response());
    assert_eq!(effects(&mut machine, Event::Next), [""; 0]);
    assert_eq!(effects(&mut machine, Event::Drain), ["terminate"]);
}
