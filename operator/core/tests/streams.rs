//! Streamed responses of one instance: what the machine passes on, and how a stream that breaks ends.

use std::time::{Duration, Instant};

use pilotlight_core::instance::failure::{Exit, Failure, PAYLOAD_LIMIT};
use pilotlight_core::instance::{Action, Event, Machine, Outcome, Refusal, RequestId};

const TIMEOUT: Duration = Duration::from_secs(3);

/// A machine whose runtime works on the invocation `a`.
fn running(now: Instant) -> Machine {
    let mut machine = Machine::new(TIMEOUT);
    for event in [Event::Boot, Event::Next, Event::Lease { request_id: id() }] {
        machine.handle(now, event).expect("the order is allowed");
    }
    answers(&mut machine);
    machine
}

fn id() -> RequestId {
    "a".into()
}

/// What the gateway gets: the beginning of a stream, or how the invocation ended.
fn answers(machine: &mut Machine) -> Vec<Option<Outcome>> {
    let actions = std::iter::from_fn(|| machine.poll_action());
    let to_gateway = actions.filter_map(|action| match action {
        Action::BeginAnswer { .. } => Some(None),
        Action::Answer { outcome, .. } => Some(Some(outcome)),
        _ => None,
    });
    to_gateway.collect()
}

fn began() -> Event {
    Event::Began { request_id: id() }
}

fn ended(bytes: usize) -> Event {
    let request_id = id();
    Event::Ended { request_id, bytes }
}

fn aborted() -> Event {
    Event::Aborted { request_id: id() }
}

#[test]
fn a_stream_is_passed_on_before_it_ends_and_its_outcome_follows() {
    let now = Instant::now();
    let mut machine = running(now);
    assert_eq!(machine.handle(now, began()), Ok(()));
    assert_eq!(answers(&mut machine), [None]);
    assert_eq!(machine.handle(now, ended(PAYLOAD_LIMIT)), Ok(()));
    assert_eq!(answers(&mut machine), [Some(Outcome::Success)]);
    assert_eq!(machine.handle(now, Event::Next), Ok(()));
}

#[test]
fn a_stream_that_is_too_large_fails_at_its_end() {
    let now = Instant::now();
    let mut machine = running(now);
    machine.handle(now, began()).expect("a response is due");
    let refused = machine.handle(now, ended(PAYLOAD_LIMIT + 1));
    assert_eq!(refused, Err(Refusal::ResponseTooLarge));
    let failed = Outcome::Failed(Failure::ResponseTooLarge);
    assert_eq!(answers(&mut machine), [None, Some(failed)]);
}

#[test]
fn an_error_ends_a_stream_whether_it_is_open_or_broken() {
    let now = Instant::now();
    for is_broken in [false, true] {
        let mut machine = running(now);
        machine.handle(now, began()).expect("a response is due");
        if is_broken {
            machine.handle(now, aborted()).expect("a stream is open");
        }
        let error = Event::Error { request_id: id() };
        assert_eq!(machine.handle(now, error), Ok(()));
        let outcomes = [None, Some(Outcome::FunctionError)];
        assert_eq!(answers(&mut machine), outcomes);
    }
}

#[test]
fn a_stream_that_broke_ends_with_the_exit_of_the_process_or_with_the_timeout() {
    let now = Instant::now();
    let mut machine = running(now);
    machine.handle(now, began()).expect("a response is due");
    machine.handle(now, aborted()).expect("a stream is open");
    assert_eq!(answers(&mut machine), [None], "the reason is not known yet");
    let exit = Exit::Code(1);
    machine
        .handle(now, Event::Exited(exit))
        .expect("an exit is never refused");
    let failed = Outcome::Failed(Failure::Exit(exit));
    assert_eq!(answers(&mut machine), [Some(failed)]);

    let mut machine = running(now);
    machine.handle(now, began()).expect("a response is due");
    machine.handle(now, aborted()).expect("a stream is open");
    machine.wake(now + TIMEOUT);
    let failed = Outcome::Failed(Failure::Timeout(TIMEOUT));
    assert_eq!(answers(&mut machine), [None, Some(failed)]);
}

#[test]
fn nothing_takes_the_place_of_a_stream_that_has_begun() {
    let now = Instant::now();
    for is_broken in [false, true] {
        let mut machine = running(now);
        machine.handle(now, began()).expect("a response is due");
        if is_broken {
            machine.handle(now, aborted()).expect("a stream is open");
        }
        let whole = Event::Response {
            request_id: id(),
            bytes: 1,
        };
        for event in [began(), whole] {
            let refused = machine.handle(now, event);
            assert_eq!(refused, Err(Refusal::InvalidState));
        }
        assert_eq!(answers(&mut machine), [None]);
    }
}

#[test]
fn a_stream_ends_only_after_it_began_and_for_the_invocation_at_hand() {
    let now = Instant::now();
    let mut machine = running(now);
    for event in [ended(1), aborted()] {
        assert_eq!(machine.handle(now, event), Err(Refusal::InvalidState));
    }
    let other = Event::Began {
        request_id: "b".into(),
    };
    let refused = machine.handle(now, other);
    assert_eq!(refused, Err(Refusal::InvalidRequestId));
    assert_eq!(answers(&mut machine), []);
}
