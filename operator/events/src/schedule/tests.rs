//! Expressions, changes of clocks, jitter, and times that nobody sent.

mod simulation;

use jiff_of_croner::civil::DateTime;

use super::*;

fn plan(expression: &str, zone: &str) -> SchedulePlan {
    SchedulePlan {
        id: "default/nightly".to_owned(),
        expression: expression.parse().expect("an expression"),
        zone: Zone::parse(zone).expect("a zone"),
        start: at("2027-01-01T00:00:00", "UTC"),
        end: None,
        jitter: Duration::ZERO,
        max_age: Duration::from_secs(3_600),
    }
}

/// A local time.
fn at(time: &str, zone: &str) -> EventTime {
    let time: DateTime = time.parse().expect("a time");
    let zoned = time.in_tz(zone).expect("a zone");
    EventTime(zoned.timestamp().as_millisecond() as u64)
}

/// The next times after one, in UTC.
fn next(plan: &SchedulePlan, after: &str, count: usize) -> Vec<String> {
    let mut last = at(after, "UTC");
    let mut times = Vec::new();
    while times.len() < count
        && let Some(next) = plan.after(Some(last))
    {
        last = next.time;
        let time = jiff_of_croner::Timestamp::from_millisecond(last.0 as i64).expect("a time");
        times.push(time.strftime("%Y-%m-%dT%H:%M:%S").to_string());
    }
    times
}

#[test]
fn each_form_of_an_expression_has_its_times() {
    for (expression, zone, after, expected) in [
        (
            "cron(0 10 * * ? *)",
            "UTC",
            "2027-03-05T10:00:00",
            &["2027-03-06T10:00:00", "2027-03-07T10:00:00"][..],
        ),
        // The first day of the week is Sunday, 1.
        (
            "cron(15 12 ? * 1 *)",
            "UTC",
            "2027-03-05T10:00:00",
            &["2027-03-07T12:15:00", "2027-03-14T12:15:00"],
        ),
        (
            "cron(0/15 8-9 ? * MON-FRI *)",
            "UTC",
            "2027-03-05T09:30:00",
            &["2027-03-05T09:45:00", "2027-03-08T08:00:00"],
        ),
        (
            "cron(0 0 L * ? *)",
            "UTC",
            "2027-02-01T00:00:00",
            &["2027-02-28T00:00:00", "2027-03-31T00:00:00"],
        ),
        (
            "cron(0 9 ? * 2#1 *)",
            "UTC",
            "2027-03-02T00:00:00",
            &["2027-04-05T09:00:00"],
        ),
        (
            "cron(0 9 3W * ? *)",
            "UTC",
            "2027-04-02T00:00:00",
            &["2027-04-02T09:00:00"],
        ),
        (
            "cron(0 0 1 1 ? 2028)",
            "UTC",
            "2027-04-02T00:00:00",
            &["2028-01-01T00:00:00"],
        ),
        // The first day of the week of Unix is 0.
        (
            "15 12 * * 0",
            "UTC",
            "2027-03-05T10:00:00",
            &["2027-03-07T12:15:00"],
        ),
        (
            "*/5 * * * *",
            "UTC",
            "2027-03-05T10:01:00",
            &["2027-03-05T10:05:00", "2027-03-05T10:10:00"],
        ),
        (
            "@daily",
            "UTC",
            "2027-03-05T10:01:00",
            &["2027-03-06T00:00:00"],
        ),
        (
            "30 9 * * *",
            "Asia/Kolkata",
            "2027-03-05T10:01:00",
            &["2027-03-06T04:00:00"],
        ),
        (
            "rate(5 minutes)",
            "UTC",
            "2027-03-05T10:01:00",
            &["2027-03-05T10:05:00", "2027-03-05T10:10:00"],
        ),
        (
            "rate(1 day)",
            "Asia/Kolkata",
            "2027-03-05T10:01:00",
            &["2027-03-06T00:00:00"],
        ),
        (
            "at(2027-06-01T12:00:00)",
            "Europe/Zurich",
            "2027-03-05T10:01:00",
            &["2027-06-01T10:00:00"],
        ),
    ] {
        let times = next(&plan(expression, zone), after, expected.len());
        assert_eq!(times, expected, "{expression}");
    }
    let once = plan("at(2027-06-01T12:00:00)", "UTC");
    assert_eq!(next(&once, "2027-06-01T12:00:00", 1), [""; 0]);
    let past = plan("cron(0 0 1 1 ? 2026)", "UTC");
    assert_eq!(next(&past, "2027-01-01T00:00:00", 1), [""; 0]);
}

#[test]
fn what_is_no_expression_says_why() {
    for (expression, why) in [
        ("", "it is neither cron("),
        ("every day", "it is neither cron("),
        ("* * * *", "it is neither cron("),
        ("0 0 30 * * *", "it is neither cron("),
        ("cron(0 10 * * *)", "six fields, and here are 5"),
        ("cron(0 10 * * ? * *)", "six fields, and here are 7"),
        ("cron(0 10 * * * *)", "exactly one of the day"),
        ("cron(0 10 ? * ? *)", "exactly one of the day"),
        ("cron(60 10 * * ? *)", "60"),
        ("61 * * * *", "61"),
        ("rate(5)", "a number and a unit"),
        ("rate(five minutes)", "a number and a unit"),
        ("rate(-1 minutes)", "a number and a unit"),
        ("rate(30 seconds)", "a number and a unit"),
        ("rate(0 minutes)", "1 or more"),
        ("rate(1 minutes)", "the unit of 1 is `minute`"),
        ("rate(5 minute)", "of more `minutes`"),
        ("rate(18446744073709551615 days)", "at most 366 days"),
        ("at(tomorrow)", "a local time"),
        ("at(2027-01-31T10:00:00.5)", "a local time"),
    ] {
        let said = expression.parse::<Expression>().map(|_| ());
        let said = said.expect_err(expression).to_string();
        assert!(said.contains(why), "{expression}: {said}");
    }
    let long = "1,".repeat(200);
    assert!(long.parse::<Expression>().is_err());
    let said = Zone::parse("Europe/Zuerich").expect_err("no zone");
    assert!(said.to_string().contains("Europe/Zurich"), "{said}");
}

/// In Zurich 02:00 to 03:00 does not exist on 2027-03-28, and comes twice on 2027-10-31.
#[test]
fn a_time_that_a_change_of_clocks_skips_or_repeats_is_taken_once() {
    let nightly = plan("30 2 * * *", "Europe/Zurich");
    assert_eq!(
        next(&nightly, "2027-03-27T12:00:00", 2),
        ["2027-03-28T01:00:00", "2027-03-29T00:30:00"],
        "at 03:00, the first moment after the gap"
    );
    assert_eq!(
        next(&nightly, "2027-10-30T12:00:00", 2),
        ["2027-10-31T00:30:00", "2027-11-01T01:30:00"],
        "the first 02:30"
    );
    let platform = plan("cron(30 2 * * ? *)", "Europe/Zurich");
    assert_eq!(
        next(&platform, "2027-10-30T12:00:00", 2),
        next(&nightly, "2027-10-30T12:00:00", 2)
    );
    let often = plan("*/30 * * * *", "Europe/Zurich");
    assert_eq!(
        next(&often, "2027-03-28T00:00:00", 3),
        [
            "2027-03-28T00:30:00",
            "2027-03-28T01:00:00",
            "2027-03-28T01:30:00"
        ],
    );
    assert_eq!(
        next(&often, "2027-10-31T00:00:00", 4),
        [
            "2027-10-31T00:30:00",
            "2027-10-31T01:00:00",
            "2027-10-31T01:30:00",
            "2027-10-31T02:00:00"
        ],
    );
    let skipped = plan("at(2027-03-28T02:30:00)", "Europe/Zurich");
    assert_eq!(
        next(&skipped, "2027-03-01T00:00:00", 1),
        ["2027-03-28T01:30:00"]
    );
    let day = plan("rate(1 day)", "Europe/Zurich");
    assert_eq!(
        next(&day, "2027-03-27T12:00:00", 2),
        ["2027-03-28T00:00:00", "2027-03-29T00:00:00"],
        "24 hours"
    );
}

#[test]
fn a_schedule_begins_and_ends() {
    let mut plan = plan("0 * * * *", "UTC");
    (plan.start, plan.end) = (
        at("2027-03-05T10:00:00", "UTC"),
        Some(at("2027-03-05T12:00:00", "UTC")),
    );
    let times = [
        "2027-03-05T10:00:00",
        "2027-03-05T11:00:00",
        "2027-03-05T12:00:00",
    ];
    assert_eq!(next(&plan, "2027-03-01T00:00:00", 9), times);
    let early = plan.due(None, at("2027-03-05T09:59:59", "UTC"));
    assert_eq!((early.send, early.missed), (None, 0));
    let first = plan.due(None, plan.start);
    assert_eq!(first.send.map(|send| send.time), Some(plan.start));
    let over = plan.due(plan.end, at("2027-04-01T00:00:00", "UTC"));
    assert_eq!((over.send, over.next), (None, None));
}

#[test]
fn of_several_missed_times_the_latest_is_sent_while_it_counts() {
    let plan = plan("*/10 * * * *", "UTC");
    let time = |text: &str| at(&format!("2027-03-05T{text}"), "UTC");
    let usual = plan.due(Some(time("10:00:00")), time("10:10:00"));
    assert_eq!(usual.send.map(|send| send.time), Some(time("10:10:00")));
    assert_eq!(
        (usual.missed, usual.next.map(|next| next.time)),
        (0, Some(time("10:20:00")))
    );
    let none = plan.due(Some(time("10:10:00")), time("10:19:59"));
    assert_eq!((none.send, none.missed), (None, 0));
    let late = plan.due(Some(time("10:00:00")), time("10:35:00"));
    assert_eq!(late.send.map(|send| send.time), Some(time("10:30:00")));
    assert_eq!(
        (late.missed, late.next.map(|next| next.time)),
        (2, Some(time("10:40:00")))
    );
    let mut daily = plan.clone();
    daily.expression = "0 3 * * *".parse().expect("an expression");
    let due = daily.due(Some(at("2027-03-04T03:00:00", "UTC")), time("05:00:00"));
    assert_eq!(
        (due.send, due.missed),
        (None, 1),
        "two hours late, and one hour counts"
    );
    let due = daily.due(Some(at("2027-03-04T03:00:00", "UTC")), time("04:00:00"));
    assert!(due.send.is_some());
}

#[test]
fn a_schedule_that_stood_still_for_years_goes_on_soon() {
    let plan = plan("* * * * *", "UTC");
    let now = at("2037-03-05T10:00:30", "UTC");
    let due = plan.due(Some(at("2027-01-01T00:00:00", "UTC")), now);
    assert_eq!(
        due.send.map(|send| send.time),
        Some(at("2037-03-05T10:00:00", "UTC"))
    );
    assert!(
        (COUNTED..COUNTED + 100).contains(&due.missed),
        "{}",
        due.missed
    );
    assert_eq!(
        due.next.map(|next| next.time),
        Some(at("2037-03-05T10:01:00", "UTC"))
    );
}

#[test]
fn jitter_spreads_schedules_and_is_the_same_for_everybody() {
    let mut plan = plan("0 * * * *", "UTC");
    plan.jitter = Duration::from_secs(600);
    let start = plan.start;
    let occurrence = |plan: &SchedulePlan| plan.after(Some(start)).expect("a time");
    let first = occurrence(&plan);
    assert_eq!(first, occurrence(&plan.clone()));
    let delays: std::collections::BTreeSet<Duration> = (0..200)
        .map(|n| {
            plan.id = format!("default/{n}");
            let found = occurrence(&plan);
            assert_eq!(found.time, first.time);
            found.at.since(found.time)
        })
        .collect();
    assert!(delays.len() > 100, "{}", delays.len());
    assert!(delays.iter().all(|delay| *delay <= plan.jitter));
    let early = EventTime(first.at.0 - 1);
    assert_eq!(
        plan.due(Some(start), first.time).next.map(|next| next.time),
        Some(first.time)
    );
    plan.id = "default/nightly".to_owned();
    assert_eq!(plan.due(Some(start), early).send, None);
    assert_eq!(plan.due(Some(start), first.at).send, Some(first));
}
