//! The records and the selections that the checks of conditions use, and texts that are hard to store.

use jiff::{SignedDuration, Timestamp};
use pilotlight_wire::log_record::LogSource;

use super::{LONG, Maker, micros};
use crate::entry::Entry;
use crate::level::Level;
use crate::query::{Field, Selection, regex};

/// The records whose selection is checked: each differs from the others in what conditions look at.
pub(super) fn varied(maker: &Maker) -> Vec<Entry> {
    let texts = [
        "INIT_START Runtime Version: python3.11",
        "[INFO]\t2026-01-31T10:00:00.000Z\t8f3c\torder 17 accepted",
        "[ERROR]\t2026-01-31T10:00:00.000Z\t8f3c\tOrder 18 refused",
        "[WARNING]\tlow on stock",
        r#"{"level":"DEBUG","order":{"id":17,"tags":["new","paid"]},"ok":true,"price":1.5}"#,
        r#"{"level":"FATAL","order":{"id":"17"},"note":"a \"quoted\" word"}"#,
        r#"{"order":{"id":17"#,
        "payment failed: card declined",
        "payment of 17.50 EUR done",
        "PAYMENT DONE",
        "a\nb",
    ];
    let mut records = Vec::new();
    for (at, text) in texts.into_iter().enumerate() {
        for instance in ["i-1", "i-2"] {
            let offset = at as i64 * 1_000_000;
            let mut record = maker.record(instance, at as u64 + 1, offset, text);
            (record.source, record.level) = match at {
                0 => (LogSource::Platform, None),
                3 => (LogSource::Stderr, record.level),
                _ => (LogSource::Stdout, record.level),
            };
            record.request_id = (at % 3 != 0).then(|| format!("8f3c-{}-{instance}", at % 2));
            records.push(record);
        }
    }
    records
}

/// Selections of [`varied`] records, each of which selects some and leaves out some.
pub(super) fn selections(maker: &Maker) -> Vec<(&'static str, Selection)> {
    let at = |seconds: i64| {
        let time = maker.base.checked_add(SignedDuration::from_secs(seconds));
        let time = time.expect("a time").as_microsecond();
        Some(Timestamp::from_microsecond(time).expect("a time"))
    };
    let one = |change: &dyn Fn(&mut Selection)| {
        let mut selection = Selection::default();
        change(&mut selection);
        selection
    };
    let contains = |texts: &[&str]| {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        one(&|s| s.contains = texts.clone())
    };
    let matches = |text: &str| one(&|s| s.regex = Some(regex(text).expect("an expression")));
    let has = |texts: &[&str]| {
        let field = |text: &&str| Field::parse(text).expect("a field");
        let fields: Vec<_> = texts.iter().map(field).collect();
        one(&|s| s.fields = fields.clone())
    };
    vec![
        ("instance", one(&|s| s.instance = Some("i-2".to_owned()))),
        (
            "request id",
            one(&|s| s.request_id = Some("8f3c-1-i-1".to_owned())),
        ),
        ("platform", one(&|s| s.source = Some(LogSource::Platform))),
        ("stderr", one(&|s| s.source = Some(LogSource::Stderr))),
        ("since", one(&|s| s.since = at(3))),
        ("until", one(&|s| s.until = at(3))),
        ("a range", one(&|s| (s.since, s.until) = (at(2), at(5)))),
        ("debug", one(&|s| s.level = Some(Level::Debug))),
        ("info", one(&|s| s.level = Some(Level::Info))),
        ("warn", one(&|s| s.level = Some(Level::Warn))),
        ("fatal", one(&|s| s.level = Some(Level::Fatal))),
        ("a word", contains(&["payment"])),
        ("a part of a word", contains(&["ayme"])),
        ("two characters", contains(&["17"])),
        ("one character", contains(&["b"])),
        ("several texts", contains(&["17", "payment"])),
        ("parts of two words", contains(&["ent fail"])),
        ("signs", contains(&[".50 "])),
        ("another case", contains(&["order 17"])),
        ("a tab", contains(&["8f3c\torder"])),
        ("a line's end", contains(&["a\nb"])),
        ("a quote", contains(&["\\\"quoted\\\""])),
        ("a regular expression", matches(r"(?i)^payment .*done$")),
        ("alternatives", matches("stock|declined")),
        ("a field", has(&["order.id=17"])),
        ("an element", has(&["order.tags.1=paid"])),
        ("a boolean", has(&["ok=true"])),
        ("a number", has(&["price=1.5"])),
        ("a quoted field", has(&["note=a \"quoted\" word"])),
        ("two fields", has(&["order.id=17", "level=FATAL"])),
        (
            "everything",
            one(&|s| {
                s.instance = Some("i-1".to_owned());
                s.source = Some(LogSource::Stdout);
                (s.since, s.until) = (at(1), at(9));
                s.level = Some(Level::Info);
                s.contains = vec!["order".to_owned(), "17".to_owned()];
                s.regex = regex("accepted$").ok();
            }),
        ),
    ]
}

/// Records whose texts are like each other, or like a condition in the language of a store.
pub(super) fn lookalikes(maker: &Maker) -> Vec<Entry> {
    let texts = [
        "",
        "[INFO]\tplain words of an order 17",
        "[ERROR]\tORDER 18 refused",
        "[WARNING] order 19",
        "x\" or *",
        "a\\b",
        "} | delete _msg",
        "two\nlines and a tail",
        "digits: \u{0661}\u{0662}",
        "caf\u{e9}",
        "snake_case_word",
        "the words before",
        r#"{"level":"WARN","order":{"id":17,"tags":["a","b"]},"user":"ann"}"#,
        r#"{"order":{"id":17.0},"user":"\u0061nn"}"#,
        r#"{"order":{"id":"17"},"user":"a/b","none":null,"yes":true}"#,
        r#"{"order":{"id":170}}"#,
        "17",
        "\0 and \u{7f}",
    ];
    let mut records: Vec<_> = texts
        .iter()
        .enumerate()
        .map(|(place, text)| {
            let place = place as u64;
            let instance = ["i1", "i\"2", "i3"][(place % 3) as usize];
            maker.record(instance, place + 1, place as i64 * 250_000, text)
        })
        .collect();
    for (place, record) in records.iter_mut().enumerate() {
        record.source = [LogSource::Stdout, LogSource::Platform, LogSource::Stderr][place % 3];
        record.request_id = [Some("r1"), Some("r\"} or {"), None][place / 2 % 3].map(str::to_owned);
    }
    records
}

pub(super) fn selections_of_lookalikes(maker: &Maker) -> Vec<Selection> {
    let text = |text: &str| Some(text.to_owned());
    let mut selections = vec![
        Selection {
            instance: text("i\"2"),
            ..Selection::default()
        },
        Selection {
            instance: text("i"),
            ..Selection::default()
        },
        Selection {
            request_id: text("r1"),
            ..Selection::default()
        },
        Selection {
            request_id: text("r\"} or {"),
            ..Selection::default()
        },
        Selection {
            request_id: text("r"),
            ..Selection::default()
        },
        Selection {
            source: Some(LogSource::Platform),
            ..Selection::default()
        },
        Selection {
            since: Some(micros(maker.base, 250_000)),
            until: Some(micros(maker.base, 1_000_000)),
            ..Selection::default()
        },
        Selection {
            since: Some(micros(maker.base, 250_001)),
            until: Some(micros(maker.base, 1_000_001)),
            ..Selection::default()
        },
        Selection {
            since: Some(micros(maker.base, 900_000_000)),
            ..Selection::default()
        },
        Selection {
            contains: vec!["order".to_owned(), "19".to_owned()],
            ..Selection::default()
        },
        Selection {
            level: Some(Level::Warn),
            contains: vec!["order".to_owned()],
            regex: regex("[0-9]+").ok(),
            ..Selection::default()
        },
    ];
    selections.extend(Level::ALL.map(|level| Selection {
        level: Some(level),
        ..Selection::default()
    }));
    let contains = [
        "order", "rder 1", "ORDER", "x\" or *", "\"", "\\", "} |", "\nlines", "\u{e9}", "_case_",
        "17", "\0", "*", " ",
    ];
    selections.extend(contains.map(|text| Selection {
        contains: vec![text.to_owned()],
        ..Selection::default()
    }));
    let expressions = [
        "order 1[79]",
        "(?i)order",
        "^$",
        "^x",
        r"\d$",
        r"^\w+$",
        r"\bwords\b",
        r"(?m)^lines",
        "a.b",
        "o{1}",
        "(?:o|r){2,}",
        "[^a-z]",
        "caf.$",
        "(?s)two.lines",
        r"\x00",
        r"\p{Greek}|\p{Arabic}",
        "e*",
        r"\.",
    ];
    selections.extend(expressions.map(|text| Selection {
        regex: Some(regex(text).expect("an expression")),
        ..Selection::default()
    }));
    let fields = [
        "order.id=17",
        "order.id=17.0",
        "order.id=170",
        "order.tags.1=b",
        "user=ann",
        "user=a/b",
        "none=null",
        "yes=true",
        "x=y",
    ];
    selections.extend(fields.map(|text| Selection {
        fields: vec![Field::parse(text).expect("a field")],
        ..Selection::default()
    }));
    selections
}

/// Texts that mean something to SQL, to LogsQL, to JSON or to terminals, or that are hard to store.
pub(super) fn odd_texts() -> Vec<String> {
    let mut texts: Vec<String> = [
        "",
        " ",
        "  two  spaces  ",
        "'; drop table records; --",
        "a\" OR 1=1 --",
        "* | delete",
        "_time:5m error | stats count()",
        "{_stream=\"x\"} !word -word",
        "level:>=info AND (a OR \"b\")",
        "100% _under% \\% \\_",
        "C:\\new\\table\\",
        "tab\there, return\rhere",
        "line\n\nend\r\n",
        "nul\0in the middle\0",
        "\u{1b}[31mred\u{1b}[0m \u{7}",
        "Grüße, 你好世界, привет, 😀👩‍👩‍👧, e\u{301}",
        "\u{feff}bom and \u{202e}right to left",
        "\u{fffd}\u{10ffff}",
        "{\"a\":\"\\u0000\",\"b\":[1,{\"c\":null}]}",
        "{\"_msg\":\"forged\",\"_time\":\"2000-01-01T00:00:00Z\",\"_stream\":\"x\"}",
        "?1 :name @name $name",
        "near(\"a b\", 3) AND NOT c*",
    ]
    .map(str::to_owned)
    .into();
    // As long as the longest record: 256 KiB, the end of which must be found as well.
    let mut long = "0123456789abcdef".repeat(LONG / 16 - 1);
    long.push_str("the very end öé");
    texts.push(long);
    texts
}
