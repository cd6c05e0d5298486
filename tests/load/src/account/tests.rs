//! For each rule, records that break it, in the form that a run writes.

mod events;

use std::collections::BTreeSet;

use super::*;

/// One successful call.
const WELL: [&str; 4] = [
    r#"{"record":"sent","at":10,"id":"a","function":"f"}"#,
    r#"{"record":"began","at":20,"id":"a","instance":"i"}"#,
    r#"{"record":"ended","at":30,"id":"a","instance":"i"}"#,
    r#"{"record":"answered","at":40,"id":"a","outcome":"success","answer":"a"}"#,
];

const SENT_B: &str = r#"{"record":"sent","at":11,"id":"b","function":"f"}"#;
const BEGAN_B: &str = r#"{"record":"began","at":50,"id":"b","instance":"i"}"#;
const ENDED_B: &str = r#"{"record":"ended","at":60,"id":"b","instance":"i"}"#;
const SUCCESS_B: &str =
    r#"{"record":"answered","at":70,"id":"b","outcome":"success","answer":"b"}"#;
const REFUSED_B: &str = r#"{"record":"answered","at":70,"id":"b","outcome":"error",
    "kind":"TooManyRequestsException","message":"Rate Exceeded."}"#;
const FAILED_B: &str = r#"{"record":"answered","at":70,"id":"b","outcome":"error",
    "kind":"ServiceException","message":"the instance is lost"}"#;
const BURST: &str = r#"{"record":"fault","at":5,"fault":"burst",
    "allows":["TooManyRequestsException","ServiceException"]}"#;

fn of(lines: &[&str]) -> Verdict {
    with(GraceTimes::default(), lines)
}

fn with(grace: GraceTimes, lines: &[&str]) -> Verdict {
    let mut account = Account::with(grace);
    for line in lines {
        account.add(serde_json::from_str(line).expect(line));
    }
    account.verdict()
}

/// The violations when these lines follow the call that went well; they are the same in any order.
fn found(lines: &[&str]) -> Vec<Violation> {
    let mut all = [&WELL, lines].concat();
    let verdict = of(&all);
    let places = all.len();
    for _ in 0..places {
        all.rotate_left(1);
        assert_eq!(of(&all), verdict);
        all.reverse();
        assert_eq!(of(&all), verdict);
        all.reverse();
    }
    verdict.violations
}

fn b() -> String {
    "b".to_owned()
}

#[test]
fn all_is_well_and_counted() {
    let verdict = of(&[&WELL, &[SENT_B, REFUSED_B, BURST][..]].concat());
    assert_eq!((verdict.sent, verdict.executed), (2, 1));
    let outcomes = [("TooManyRequestsException", 1), ("success", 1)];
    let outcomes = outcomes.map(|(kind, count)| (kind.to_owned(), count));
    assert_eq!(verdict.outcomes, outcomes.into());
    assert_eq!(verdict.violations, []);
}

#[test]
fn an_invocation_without_an_answer_is_lost() {
    assert_eq!(found(&[SENT_B]), [Violation::Lost { id: b() }]);
}

#[test]
fn a_second_answer_is_a_violation() {
    let later = SUCCESS_B.replace("70", "80");
    let lines = [SENT_B, BEGAN_B, ENDED_B, SUCCESS_B, &later];
    assert_eq!(found(&lines), [Violation::AnsweredTwice { id: b() }]);
}

#[test]
fn an_invocation_that_was_not_sent_neither_runs_nor_is_answered() {
    let expected = [Violation::NeverSent { id: b() }];
    assert_eq!(found(&[SUCCESS_B]), expected);
    assert_eq!(found(&[BEGAN_B, ENDED_B]), expected);
}

#[test]
fn a_second_run_is_a_violation_in_any_instance() {
    let elsewhere = BEGAN_B.replace(r#""i""#, r#""j""#);
    let lines = [SENT_B, BEGAN_B, ENDED_B, &elsewhere, SUCCESS_B];
    let instances = vec!["i".to_owned(), "j".to_owned()];
    let (id, twice) = (b(), |id, instances| Violation::ExecutedTwice {
        id,
        instances,
    });
    assert_eq!(found(&lines), [twice(id, instances)]);
    let again = BEGAN_B.replace("50", "65");
    let lines = [SENT_B, BEGAN_B, ENDED_B, &again, SUCCESS_B];
    assert_eq!(found(&lines), [twice(b(), vec!["i".to_owned(); 2])]);
}

fn overlapped(first: &str, second: &str) -> [Violation; 1] {
    [Violation::Overlapped {
        instance: "i".to_owned(),
        first: first.to_owned(),
        second: second.to_owned(),
    }]
}

#[test]
fn two_at_once_in_an_instance_are_found_whichever_ends_first() {
    for moment in ["21", "29"] {
        let began = BEGAN_B.replace("50", moment);
        let lines = [SENT_B, &began, ENDED_B, SUCCESS_B];
        assert_eq!(found(&lines), overlapped("a", "b"), "{moment}");
    }
    let began = BEGAN_B.replace("50", "15");
    let lines = [SENT_B, &began, ENDED_B, SUCCESS_B];
    assert_eq!(found(&lines), overlapped("b", "a"));
    let elsewhere = |line: &str| line.replace(r#""i""#, r#""j""#);
    let (began, ended) = (elsewhere(&began), elsewhere(ENDED_B));
    assert_eq!(found(&[SENT_B, &began, &ended, SUCCESS_B]), []);
}

#[test]
fn an_execution_without_an_end_lasts_until_its_process_is_gone_or_its_failure_is_reported() {
    let began = BEGAN_B.replace("50", "15");
    let gone = |at: &str| r#"{"record":"gone","at":AT,"instance":"i"}"#.replace("AT", at);
    let lines = [SENT_B, &began, FAILED_B, BURST];
    assert_eq!(found(&lines), overlapped("b", "a"));
    let told = FAILED_B.replace("70", "18");
    assert_eq!(found(&[SENT_B, &began, &told, BURST]), []);
    let (before, between, after) = (gone("14"), gone("19"), gone("25"));
    let lines = [SENT_B, &began, FAILED_B, BURST, &before, &between];
    assert_eq!(found(&lines), []);
    let lines = [SENT_B, &began, FAILED_B, BURST, &before, &after];
    assert_eq!(found(&lines), overlapped("b", "a"));
    let lines = [SENT_B, &began, &told, BURST, &after];
    assert_eq!(
        found(&lines),
        overlapped("b", "a"),
        "told before the process has gone"
    );
}

#[test]
fn a_refused_call_has_not_begun_and_one_that_may_have_run_may_have_begun() {
    let kind = "TooManyRequestsException".to_owned();
    let expected = [Violation::RefusedButExecuted { id: b(), kind }];
    assert_eq!(found(&[SENT_B, BEGAN_B, REFUSED_B, BURST]), expected);
    assert_eq!(found(&[SENT_B, BEGAN_B, FAILED_B, BURST]), []);
    assert_eq!(found(&[SENT_B, FAILED_B, BURST]), []);
}

#[test]
fn a_call_that_was_not_sent_is_a_refusal_and_one_that_broke_is_none() {
    let told = |outcome: &str| {
        let line = r#"{"record":"answered","at":70,"id":"b","outcome":"OUTCOME","message":""}"#;
        line.replace("OUTCOME", outcome)
    };
    let allowed = r#"{"record":"fault","at":5,"fault":"cut","allows":["notSent","broken"]}"#;
    let kind = "notSent".to_owned();
    let expected = [Violation::RefusedButExecuted { id: b(), kind }];
    assert_eq!(
        found(&[SENT_B, BEGAN_B, &told("notSent"), allowed]),
        expected
    );
    assert_eq!(found(&[SENT_B, BEGAN_B, &told("broken"), allowed]), []);
}

#[test]
fn a_fault_that_may_break_connections_may_also_prevent_them() {
    let unsent = r#"{"record":"answered","at":70,"id":"b","outcome":"notSent","message":""}"#;
    let cut = r#"{"record":"fault","at":5,"fault":"cut","allows":["broken"]}"#;
    assert_eq!(found(&[SENT_B, unsent, cut]), []);
    let over = r#"{"record":"over","at":10,"fault":"cut"}"#;
    assert_eq!(found(&[SENT_B, unsent, cut, over]).len(), 1);
}

#[test]
fn a_success_has_a_run() {
    let expected = [Violation::SucceededButNotExecuted { id: b() }];
    assert_eq!(found(&[SENT_B, SUCCESS_B]), expected);
}

#[test]
fn a_success_comes_after_the_end() {
    let expected = [Violation::SuccessWithoutEnd { id: b() }];
    assert_eq!(found(&[SENT_B, BEGAN_B, SUCCESS_B]), expected);
    let later = ENDED_B.replace("60", "71");
    assert_eq!(found(&[SENT_B, BEGAN_B, &later, SUCCESS_B]), expected);
    let elsewhere = ENDED_B.replace(r#""i""#, r#""j""#);
    assert_eq!(found(&[SENT_B, BEGAN_B, &elsewhere, SUCCESS_B]), expected);
}

#[test]
fn an_answer_belongs_to_its_call() {
    let anothers = SUCCESS_B.replace(r#""answer":"b""#, r#""answer":"a""#);
    let lines = [SENT_B, BEGAN_B, ENDED_B, &anothers];
    let answer = "a".to_owned();
    assert_eq!(found(&lines), [Violation::WrongAnswer { id: b(), answer }]);
}

#[test]
fn an_error_must_be_allowed_by_a_fault_at_its_time() {
    let expected = [Violation::Unexplained {
        id: b(),
        kind: "TooManyRequestsException".to_owned(),
        message: "Rate Exceeded.".to_owned(),
    }];
    let over = |at: &str| r#"{"record":"over","at":AT,"fault":"burst"}"#.replace("AT", at);
    assert_eq!(found(&[SENT_B, REFUSED_B]), expected, "no fault");
    let lines = [SENT_B, REFUSED_B, BURST, &over("10")];
    assert_eq!(found(&lines), expected, "over before");
    assert_eq!(found(&[SENT_B, REFUSED_B, BURST, &over("11")]), []);
    let later = BURST.replace(r#""at":5"#, r#""at":71"#);
    assert_eq!(found(&[SENT_B, REFUSED_B, &later]), expected, "after it");
    let again = BURST.replace(r#""at":5"#, r#""at":20"#);
    let lines = [SENT_B, REFUSED_B, BURST, &over("10"), &again, &over("30")];
    assert_eq!(found(&lines), [], "it came again");
    let others = BURST.replace("TooMany", "Few");
    assert_eq!(
        found(&[SENT_B, REFUSED_B, &others]),
        expected,
        "other kinds"
    );
}

#[test]
fn a_functions_own_error_needs_a_reason_too() {
    let failed = r#"{"record":"answered","at":70,"id":"b","outcome":"functionError",
        "kind":"Sandbox.Timedout","message":"after 3 s"}"#;
    let found = found(&[SENT_B, BEGAN_B, failed]);
    assert!(
        matches!(&found[..], [Violation::Unexplained { .. }]),
        "{found:?}"
    );
}

#[test]
fn instances_above_the_limit_are_a_violation() {
    let count = |at: &str, live: &str| {
        let line = r#"{"record":"instances","at":AT,"function":"f","live":LIVE,"limit":2}"#;
        line.replace("AT", at).replace("LIVE", live)
    };
    let (one, two, three) = (count("1", "1"), count("2", "2"), count("3", "3"));
    let verdict = of(&[&WELL, &[&one[..], &two][..]].concat());
    assert_eq!(verdict.violations, []);
    assert_eq!(verdict.instances, [("f".to_owned(), 2)].into());
    let expected = [Violation::TooManyInstances {
        function: "f".to_owned(),
        at: 3,
        live: 3,
        limit: 2,
    }];
    assert_eq!(found(&[&one, &two, &three]), expected);
}

const ONE_ALLOWED: &str = r#"{"record":"instances","at":1,"function":"f","live":1,"limit":1}"#;

#[test]
fn a_refusal_needs_as_many_other_calls_as_there_may_be_instances() {
    // Call `a` is open from 10 to 40.
    assert_eq!(found(&[SENT_B, REFUSED_B, ONE_ALLOWED]), []);
    let later = SENT_B.replace("11", "41");
    let alone = found(&[&later, REFUSED_B, ONE_ALLOWED]);
    assert!(
        matches!(&alone[..], [Violation::Unexplained { .. }]),
        "{alone:?}"
    );
    let two = ONE_ALLOWED.replace(r#""limit":1"#, r#""limit":2"#);
    let lost = r#"{"record":"fault","at":5,"fault":"lost","allows":[]}"#;
    let waits = r#"{"record":"queue","at":1,"function":"f","size":1}"#;
    assert_eq!(found(&[SENT_B, REFUSED_B, ONE_ALLOWED, waits]).len(), 1);
    let struck = found(&[SENT_B, REFUSED_B, ONE_ALLOWED, waits, lost]);
    assert_eq!(struck, [], "what was at work may be lost");
    let room = found(&[SENT_B, REFUSED_B, &two]);
    assert!(
        matches!(&room[..], [Violation::Unexplained { .. }]),
        "{room:?}"
    );
    let queue = r#"{"record":"queue","at":1,"function":"f","size":1}"#;
    assert_eq!(found(&[SENT_B, REFUSED_B, ONE_ALLOWED, queue]), room);
}

#[test]
fn more_handlers_at_work_than_allowed_are_found_in_any_instances() {
    let began = r#"{"record":"began","at":25,"id":"b","instance":"j"}"#;
    let ended = ENDED_B.replace(r#""i""#, r#""j""#);
    let expected = [Violation::TooManyAtOnce {
        function: "f".to_owned(),
        at: 25,
        running: 2,
        limit: 1,
    }];
    assert_eq!(
        found(&[SENT_B, began, &ended, SUCCESS_B, ONE_ALLOWED]),
        expected
    );
    let two = ONE_ALLOWED.replace(r#""limit":1"#, r#""limit":2"#);
    assert_eq!(found(&[SENT_B, began, &ended, SUCCESS_B, &two]), []);
}

#[test]
fn stopping_instances_have_some_time() {
    let count = |at: &str, live: &str| {
        let line = r#"{"record":"instances","at":AT,"function":"f","live":LIVE,"limit":2}"#;
        line.replace("AT", at).replace("LIVE", live)
    };
    let with_grace = |lines: [&str; 2]| {
        let grace = GraceTimes {
            instances: 10,
            revisions: 0,
        };
        with(grace, &lines).violations.len()
    };
    assert_eq!(with_grace([&count("5", "3"), &count("15", "2")]), 0);
    assert_eq!(with_grace([&count("5", "3"), &count("16", "2")]), 1);
    assert_eq!(
        with_grace([&count("5", "3"), &count("9", "4")]),
        2,
        "for ever"
    );
}

#[test]
fn no_call_reaches_a_revision_older_than_one_that_has_answered() {
    let in_revision = |line: &str, revision: &str| {
        line.replace(
            "}",
            &r#","revision":REVISION}"#.replace("REVISION", revision),
        )
    };
    // `a` was answered at 40.
    let (begun, old) = (in_revision(WELL[1], "2"), in_revision(BEGAN_B, "1"));
    let found = |sent: &str, began: &str, revisions: At| {
        let sent = SENT_B.replace("11", sent);
        let grace = GraceTimes {
            instances: 0,
            revisions,
        };
        let first = [WELL[0], &begun, WELL[2], WELL[3]];
        let second = [&sent, began, ENDED_B, SUCCESS_B];
        with(grace, &[first, second].concat()).violations
    };
    let outdated = [Violation::Outdated {
        id: b(),
        revision: 1,
        newest: 2,
    }];
    assert_eq!(found("41", &old, 0), outdated);
    assert_eq!(found("40", &old, 0), [], "it was on its way");
    assert_eq!(found("41", &in_revision(BEGAN_B, "2"), 0), []);
    assert_eq!(found("41", BEGAN_B, 0), [], "nobody says of which it is");
    assert_eq!(found("45", &old, 5), [], "not heard of yet");
    assert_eq!(found("46", &old, 5), outdated);
}

#[test]
fn leftovers_are_named() {
    let what = "the lease of b".to_owned();
    let left = r#"{"record":"left","at":90,"what":"the lease of b"}"#;
    assert_eq!(found(&[left]), [Violation::LeftBehind { what }]);
}

#[test]
fn each_violation_names_its_rule_and_its_subject() {
    let lines = [
        SENT_B,
        r#"{"record":"left","at":90,"what":"pod b"}"#,
        r#"{"record":"instances","at":1,"function":"b","live":3,"limit":2}"#,
    ];
    let found = found(&lines);
    let names: BTreeSet<&str> = found.iter().map(Violation::name).collect();
    assert_eq!(names, ["Lost", "LeftBehind", "TooManyInstances"].into());
    for violation in found {
        assert!(violation.to_string().contains('b'), "{violation}");
        assert!(Violation::NAMES.contains(&violation.name()));
    }
}
