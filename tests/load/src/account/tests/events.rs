//! Asynchronous calls that went well, and for each of their rules records that break it.

use std::collections::BTreeSet;

use super::*;

/// One event of a function that declares one attempt.
const EVENT: [&str; 6] = [
    r#"{"record":"events","at":1,"function":"e","attempts":1}"#,
    r#"{"record":"sent","at":10,"id":"a","function":"e"}"#,
    r#"{"record":"accepted","at":20,"id":"a","request":"r"}"#,
    r#"{"record":"began","at":50,"id":"a","instance":"i"}"#,
    r#"{"record":"attempted","at":50,"id":"a","request":"r"}"#,
    r#"{"record":"ended","at":60,"id":"a","instance":"i"}"#,
];
const SENT: &str = r#"{"record":"sent","at":11,"id":"b","function":"e"}"#;
const ACCEPTED: &str = r#"{"record":"accepted","at":21,"id":"b","request":"s"}"#;
const BEGAN: &str = r#"{"record":"began","at":70,"id":"b","instance":"j"}"#;
const ENDED: &str = r#"{"record":"ended","at":80,"id":"b","instance":"j"}"#;
const REFUSED: &str = r#"{"record":"answered","at":30,"id":"b","outcome":"error",
    "kind":"ServiceException","message":"the event queue cannot store the event"}"#;
const QUEUE_AWAY: &str = r#"{"record":"fault","at":25,"fault":"queue",
    "allows":["events:ServiceException","redelivery"]}"#;

/// The verdict on these lines beside the event that went well; it is the same in any order.
fn beside(lines: &[&str]) -> Verdict {
    let mut all = [&EVENT, lines].concat();
    let verdict = of(&all);
    for _ in 0..all.len() {
        all.rotate_left(1);
        assert_eq!(of(&all), verdict);
    }
    verdict
}

fn counts(verdict: &Verdict) -> &EventCounts {
    verdict.events.as_ref().expect("calls were asynchronous")
}

fn at(line: &str, at: u64) -> String {
    let (before, rest) = line.split_once(r#""at":"#).expect("a time");
    let (_, after) = rest.split_once(',').expect("more fields");
    format!(r#"{before}"at":{at},{after}"#)
}

#[test]
fn an_event_that_went_well_is_counted() {
    let verdict = beside(&[SENT, ACCEPTED, BEGAN, ENDED]);
    assert_eq!(verdict.violations, []);
    assert_eq!((verdict.sent, verdict.executed), (2, 2));
    let expected = EventCounts {
        accepted: 2,
        executions: 2,
        to_begin: vec![30, 49],
        ..EventCounts::default()
    };
    assert_eq!(counts(&verdict), &expected);
    let quantiles = [0.5, 0.0, 0.99, 1.0].map(|share| expected.to_begin_at(share));
    assert_eq!(quantiles, [Some(49), Some(30), Some(49), Some(49)]);
    assert_eq!(EventCounts::default().to_begin_at(0.5), None);
    assert_eq!(of(&WELL).events, None, "no call was asynchronous");
}

#[test]
fn an_accepted_event_without_an_execution_that_ended_is_lost() {
    let lost = [Violation::EventLost { id: b() }];
    assert_eq!(beside(&[SENT, ACCEPTED]).violations, lost);
    assert_eq!(beside(&[SENT, ACCEPTED, BEGAN]).violations, lost);
    let elsewhere = ENDED.replace(r#""j""#, r#""k""#);
    let verdict = beside(&[SENT, ACCEPTED, BEGAN, &elsewhere]);
    assert_eq!(verdict.violations, lost);
}

#[test]
fn a_call_without_any_answer_is_lost() {
    assert_eq!(beside(&[SENT]).violations, [Violation::Lost { id: b() }]);
}

#[test]
fn a_call_has_one_answer() {
    let twice = [Violation::AnsweredTwice { id: b() }];
    let lines = [SENT, ACCEPTED, REFUSED, BEGAN, ENDED, QUEUE_AWAY];
    assert_eq!(beside(&lines).violations, twice);
    let later = at(ACCEPTED, 22);
    let lines = [SENT, ACCEPTED, &later, BEGAN, ENDED];
    assert_eq!(beside(&lines).violations, twice);
}

#[test]
fn an_event_that_was_not_sent_does_not_run() {
    let expected = [Violation::NeverSent { id: b() }];
    assert_eq!(beside(&[ACCEPTED]).violations, expected);
    assert_eq!(beside(&[BEGAN, ENDED]).violations, expected);
}

#[test]
fn a_second_execution_needs_a_declared_attempt_or_a_fault_between_the_two() {
    let (again, end) = (at(BEGAN, 170), at(ENDED, 180));
    let lines = [SENT, ACCEPTED, BEGAN, ENDED, &again, &end];
    let too_often = [Violation::EventRanTooOften {
        id: b(),
        executions: 2,
        allowed: 1,
    }];
    let with = |line: &str| beside(&[&lines[..], &[line]].concat());
    assert_eq!(beside(&lines).violations, too_often);
    let verdict = with(QUEUE_AWAY);
    assert_eq!(verdict.violations, []);
    assert_eq!(counts(&verdict).redelivered, 1);
    let later = at(QUEUE_AWAY, 171);
    assert_eq!(with(&later).violations, too_often, "it came later");
    let other = QUEUE_AWAY.replace("redelivery", "broken");
    assert_eq!(with(&other).violations, too_often, "it loses nothing");
    let over = r#"{"record":"over","at":69,"fault":"queue"}"#;
    let ended = beside(&[&lines[..], &[QUEUE_AWAY, over]].concat());
    assert_eq!(ended.violations, too_often, "it was over");
    let two = EVENT[0].replace(r#""attempts":1"#, r#""attempts":2"#);
    let retried = of(&[&EVENT[1..], &lines[..], &[&two]].concat());
    assert_eq!(retried.violations, []);
    assert_eq!(counts(&retried).redelivered, 0);
}

#[test]
fn two_executions_at_once_need_a_fault_between_the_two() {
    let again = r#"{"record":"began","at":75,"id":"b","instance":"k"}"#;
    let end = r#"{"record":"ended","at":85,"id":"b","instance":"k"}"#;
    let lines = [SENT, ACCEPTED, BEGAN, ENDED, again, end];
    let names = |verdict: &Verdict| -> Vec<_> {
        let names = verdict.violations.iter().map(Violation::name);
        names.collect()
    };
    let found = beside(&lines);
    assert_eq!(names(&found), ["EventRanTooOften", "EventOverlapped"]);
    let struck = beside(&[&lines[..], &[QUEUE_AWAY]].concat());
    assert_eq!(names(&struck), [""; 0]);
    let counted = counts(&struck);
    assert_eq!((counted.redelivered, counted.at_once), (1, 1));
    // With two attempts declared, only their overlap is wrong.
    let two = EVENT[0].replace(r#""attempts":1"#, r#""attempts":2"#);
    let found = of(&[&EVENT[1..], &lines[..], &[&two]].concat());
    let instances = ["j".to_owned(), "k".to_owned()];
    let overlapped = [Violation::EventOverlapped { id: b(), instances }];
    assert_eq!(found.violations, overlapped);
    // Nobody knows when an execution ended whose process was lost, unless that is on record.
    let lost = [SENT, ACCEPTED, BEGAN, again, end, QUEUE_AWAY];
    assert_eq!(counts(&beside(&lost)).at_once, 0);
    let gone = r#"{"record":"gone","at":90,"instance":"j"}"#;
    let lost = beside(&[&lost[..], &[gone]].concat());
    assert_eq!(counts(&lost).at_once, 1);
}

#[test]
fn all_executions_have_the_request_id_of_the_202() {
    let attempted = |request: &str| {
        let line = r#"{"record":"attempted","at":70,"id":"b","request":"REQUEST"}"#;
        line.replace("REQUEST", request)
    };
    let lines = [SENT, ACCEPTED, BEGAN, ENDED];
    let with = |line: &str| beside(&[&lines[..], &[line]].concat()).violations;
    assert_eq!(with(&attempted("s")), []);
    let expected = [Violation::OtherRequestId {
        id: b(),
        accepted: "s".to_owned(),
        other: "t".to_owned(),
    }];
    assert_eq!(with(&attempted("t")), expected);
}

#[test]
fn a_refused_event_needs_a_fault_and_may_have_run_if_its_error_says_so() {
    let verdict = beside(&[SENT, REFUSED, QUEUE_AWAY]);
    assert_eq!(verdict.violations, []);
    let counted = counts(&verdict);
    assert_eq!((counted.refused, counted.refused_and_executed), (1, 0));
    let verdict = beside(&[SENT, REFUSED, QUEUE_AWAY, BEGAN, ENDED]);
    assert_eq!(verdict.violations, []);
    assert_eq!(counts(&verdict).refused_and_executed, 1);
    let unexplained = beside(&[SENT, REFUSED]).violations;
    assert!(
        matches!(&unexplained[..], [Violation::Unexplained { .. }]),
        "{unexplained:?}"
    );
    let full = REFUSED.replace("ServiceException", "TooManyRequestsException");
    let allowed = QUEUE_AWAY.replace("ServiceException", "TooManyRequestsException");
    assert_eq!(beside(&[SENT, &full, &allowed]).violations, []);
    let kind = "TooManyRequestsException".to_owned();
    let ran = beside(&[SENT, &full, &allowed, BEGAN, ENDED]);
    let expected = [Violation::RefusedButExecuted { id: b(), kind }];
    assert_eq!(ran.violations, expected);
}

#[test]
fn what_is_allowed_for_events_is_not_allowed_for_other_calls() {
    let sent = SENT.replace(r#""e""#, r#""f""#);
    let found = beside(&[&sent, REFUSED, QUEUE_AWAY]).violations;
    assert!(
        matches!(&found[..], [Violation::Unexplained { .. }]),
        "{found:?}"
    );
}

#[test]
fn after_a_replay_exactly_the_dead_letters_run_again() {
    let replayed = |count: &str| {
        let line = r#"{"record":"replayed","at":100,"function":"e","count":COUNT}"#;
        line.replace("COUNT", count)
    };
    let changed = |replayed, ran| {
        [Violation::DeadLettersChanged {
            function: "e".to_owned(),
            replayed,
            ran,
        }]
    };
    // The process of its first execution was lost.
    let (again, end) = (at(BEGAN, 170), at(ENDED, 180));
    let elsewhere = [again, end].map(|line| line.replace(r#""j""#, r#""k""#));
    let lines = [SENT, ACCEPTED, BEGAN, &elsewhere[0], &elsewhere[1]];
    let with = |count| beside(&[&lines[..], &[&replayed(count)]].concat());
    let verdict = with("1");
    assert_eq!(verdict.violations, []);
    assert_eq!(counts(&verdict).replayed, 1);
    assert_eq!(counts(&verdict).redelivered, 0);
    assert_eq!(with("2").violations, changed(2, 1), "one is gone");
    assert_eq!(with("0").violations, changed(0, 1), "one was none");
    // It runs as often as any event.
    let (one, more) = (
        replayed("1"),
        [&elsewhere[0], &elsewhere[1]].map(|line| line.replace(":17", ":27").replace(":18", ":28")),
    );
    let lines = [&lines[..], &[&one, &more[0], &more[1]]].concat();
    let found = beside(&lines).violations;
    assert!(
        matches!(
            &found[..],
            [Violation::EventRanTooOften {
                executions: 2,
                allowed: 1,
                ..
            }]
        ),
        "{found:?}"
    );
}

#[test]
fn each_rule_of_events_has_a_name_and_a_sentence() {
    let lines = [
        EVENT[0],
        SENT,
        ACCEPTED,
        r#"{"record":"attempted","at":70,"id":"b","request":"t"}"#,
        BEGAN,
        r#"{"record":"began","at":75,"id":"b","instance":"k"}"#,
        r#"{"record":"ended","at":85,"id":"b","instance":"j"}"#,
        r#"{"record":"sent","at":11,"id":"lost by b","function":"e"}"#,
        r#"{"record":"accepted","at":12,"id":"lost by b","request":"u"}"#,
        r#"{"record":"replayed","at":100,"function":"e","count":77}"#,
    ];
    let found = of(&lines).violations;
    let names: BTreeSet<&str> = found.iter().map(Violation::name).collect();
    assert_eq!(names, Violation::EVENT_NAMES.into());
    for violation in found {
        let words = violation.to_string();
        let names = |subject: &str| words.split([' ', ':', ',']).any(|word| word == subject);
        assert!(names("b") || names("e"), "{words}");
    }
}
