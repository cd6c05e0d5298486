//! The checks that each store of logs must pass: what is written comes back, selected exactly as
//! [`Selection::admits`](crate::query::Selection::admits) says, in order, each record once.
//!
//! A store's own tests call [`check_all`], and use what it makes records with. The checks run side by side, each with
//! functions of its own, since a store may take seconds for a write. The records have times of the last hours, because a
//! store may refuse old ones.

mod cases;

use std::sync::Arc;

use futures_util::future::{LocalBoxFuture, join, join_all};
use jiff::{SignedDuration, Timestamp};
use pilotlight_core::ids::{FunctionKey, Qualifier};
use pilotlight_wire::log_record::LogSource;

use self::cases::{lookalikes, odd_texts, selections, selections_of_lookalikes, varied};
use crate::entry::{Entry, Position};
use crate::level::Level;
use crate::query::{Order, Query, Selection};
use crate::store::Store;

/// In microseconds.
const HOUR: i64 = 3_600_000_000;
/// The longest text that a supervisor writes, in bytes.
const LONG: usize = 256 * 1024;

/// Every check.
///
/// # Panics
/// The store does not do what a store must.
pub async fn check_all(store: &dyn Store) {
    let checks: [LocalBoxFuture<'_, ()>; 11] = [
        Box::pin(records_come_back_in_order_page_by_page(store)),
        Box::pin(records_of_one_microsecond_are_paged(store)),
        Box::pin(records_come_back_as_they_were_written_each_once(store)),
        Box::pin(what_is_written_twice_is_there_once(store)),
        Box::pin(late_records_take_their_place(store)),
        Box::pin(each_condition_selects_as_the_selection_says(store)),
        Box::pin(conditions_select_among_texts_that_look_like_them(store)),
        Box::pin(odd_texts_come_back_and_are_found(store)),
        Box::pin(functions_and_instances_are_listed(store)),
        Box::pin(a_deleted_log_is_gone_and_others_stay(store)),
        Box::pin(records_go_when_their_time_has_passed(store)),
    ];
    join_all(checks).await;
}

pub fn key(name: &str) -> FunctionKey {
    format!("conformance/{name}").parse().expect("a key")
}

/// A record of a function.
pub fn record(
    function: &FunctionKey,
    instance: &str,
    sequence: u64,
    time: Timestamp,
    text: &str,
) -> Entry {
    Entry {
        time,
        namespace: function.namespace.clone(),
        function: function.name.clone(),
        qualifier: Qualifier::Latest,
        instance: instance.to_owned(),
        sequence,
        source: LogSource::Stdout,
        level: Level::of(text),
        request_id: None,
        text: text.to_owned(),
    }
}

/// An hour ago, with whole microseconds.
pub fn begin() -> Timestamp {
    Timestamp::from_microsecond(Timestamp::now().as_microsecond() - HOUR).expect("a time")
}

pub fn micros(at: Timestamp, count: i64) -> Timestamp {
    at.checked_add(SignedDuration::from_micros(count))
        .expect("a time")
}

/// All pages of a query after each other.
pub async fn pages(store: &dyn Store, query: &Query) -> Vec<Entry> {
    let mut query = query.clone();
    let mut records = Vec::new();
    loop {
        let page = store.read(&query).await.expect("a page");
        assert!(
            page.records.len() <= query.limit,
            "a page has at most its limit"
        );
        records.extend(page.records);
        match page.next {
            Some(next) => {
                assert_ne!(query.after.as_ref(), Some(&next), "each page goes on");
                query.after = Some(next);
            }
            None => return records,
        }
    }
}

/// Makes records of one function, some microseconds after the beginning of the check's time.
#[derive(Clone, Debug)]
struct Maker {
    function: FunctionKey,
    base: Timestamp,
}

impl Maker {
    fn of(name: &str) -> Self {
        Self::of_key(key(name))
    }

    fn of_key(function: FunctionKey) -> Self {
        Maker {
            function,
            base: begin(),
        }
    }

    fn record(&self, instance: &str, sequence: u64, after: i64, text: &str) -> Entry {
        let time = micros(self.base, after);
        record(&self.function, instance, sequence, time, text)
    }
}

async fn write(store: &dyn Store, records: &[Entry]) {
    let records: Vec<_> = records.iter().cloned().map(Arc::new).collect();
    let written = store.write(&records).await;
    written.expect("the store takes the records");
}

async fn all(store: &dyn Store, function: &FunctionKey) -> Vec<Entry> {
    pages(store, &Query::all(function.clone())).await
}

/// Compares the pages of a selection, in both orders, with the records that it admits of those that were written.
async fn agrees(store: &dyn Store, written: &[Entry], selection: &Selection, limit: usize) {
    let admitted = written.iter().filter(|record| selection.admits(record));
    let mut expected = sorted(admitted.cloned().collect());
    for order in [Order::OldestFirst, Order::NewestFirst] {
        let query = Query {
            selection: selection.clone(),
            order,
            limit,
            ..Query::all(written[0].key())
        };
        let what = format!("{selection:?}, {order:?}, pages of {limit}");
        assert_same(&pages(store, &query).await, &expected, &what);
        expected.reverse();
    }
}

fn sorted(mut records: Vec<Entry>) -> Vec<Entry> {
    records.sort_by_key(Entry::position);
    records.dedup();
    records
}

#[track_caller]
fn assert_same(found: &[Entry], expected: &[Entry], what: &str) {
    let shown = |records: &[Entry]| {
        let texts = records.iter().map(|record| {
            let text: String = record.text.chars().take(60).collect();
            format!(
                "{} {} {} {text:?}",
                record.time, record.instance, record.sequence
            )
        });
        texts.collect::<Vec<_>>()
    };
    if found != expected {
        assert_eq!(shown(found), shown(expected), "{what}");
        assert_eq!(found, expected, "{what}");
    }
}

async fn records_come_back_in_order_page_by_page(store: &dyn Store) {
    let maker = Maker::of("order");
    let mut records = Vec::new();
    for sequence in 1..=20 {
        for instance in ["i-b", "i-a", "i-c"] {
            // Several records have the same time, of one instance and of several.
            let offset = (sequence as i64 / 4) * 1000;
            records.push(maker.record(instance, sequence, offset, &format!("line {sequence}")));
        }
    }
    write(store, &records).await;
    for limit in [1, 7, 60, 10_000] {
        agrees(store, &records, &Selection::default(), limit).await;
    }
}

async fn records_of_one_microsecond_are_paged(store: &dyn Store) {
    let maker = Maker::of("instant");
    let one = |number: u64| {
        let instance = format!("i{}", number % 7);
        let after = (number / 50) as i64;
        maker.record(&instance, number + 1, after, &format!("line {number}"))
    };
    let records: Vec<_> = (0..60).map(one).collect();
    write(store, &records).await;
    for limit in [1, 7, 49, 60] {
        agrees(store, &records, &Selection::default(), limit).await;
    }
    // From a position that no record has.
    let mut query = Query::all(maker.function.clone());
    query.after = Some(Position {
        time: maker.base,
        instance: "i3".to_owned(),
        sequence: 0,
    });
    let expected = records.iter().filter(|record| query.admits(record));
    let expected = sorted(expected.cloned().collect());
    assert_same(
        &pages(store, &query).await,
        &expected,
        "from a place without a record",
    );
}

async fn records_come_back_as_they_were_written_each_once(store: &dyn Store) {
    let maker = Maker::of("whole");
    let one = |instance, sequence, after, text: &str| maker.record(instance, sequence, after, text);
    let mut records = vec![
        // Names of instances are compared as texts, so `i10` comes before `i9`.
        one("i9", 1, 0, "[ERROR]\tfirst"),
        one("i10", 1, 0, "at the same time"),
        one("i9", 2, 0, ""),
        one("i9", 9, 1, " spaces and\ttabs "),
        one("i9", 10, 1, "lines\nof\r\nseveral kinds"),
        one("i9", 11, HOUR - 1, r#"{"level":"INFO","x":"ü\u0000\\"}"#),
        one(
            "i9",
            12,
            100_000_000,
            "\0\u{1}\u{7f}\u{85}\u{2028}\u{fffd}\"`'\\ { } | # ☃ \u{10ffff}",
        ),
        one("i9", 13, 100_000_001, &"\u{1}long".repeat(LONG / 5)),
        one("i9", 14, 100_000_002, "123"),
        one("i9", 15, 100_000_003, "1.50"),
        one("i9", 16, 100_000_004, "2026-01-31T10:00:00.000Z"),
        one("i9", 17, 100_000_005, "192.168.0.1"),
        one("i9", u64::MAX >> 1, 100_000_006, "[WARN] x"),
    ];
    records[0].request_id = Some("8f3c-\"x".to_owned());
    records[3].source = LogSource::Platform;
    records[4].source = LogSource::Stderr;
    write(store, &records).await;
    // Whoever brings them does so again when it does not know that they came.
    write(store, &records[2..6]).await;
    for limit in [1, 2, 3, 100] {
        agrees(store, &records, &Selection::default(), limit).await;
    }
}

async fn what_is_written_twice_is_there_once(store: &dyn Store) {
    let maker = Maker::of("twice");
    let one = maker.record("i1", 1, 0, "one");
    let two = maker.record("i1", 2, 0, "two");
    let other = maker.record("i2", 1, 0, "one");
    write(store, &[one.clone(), one.clone(), two.clone()]).await;
    write(store, &[two.clone(), other.clone(), one.clone()]).await;
    for limit in [1, 10_000] {
        let records = [one.clone(), two.clone(), other.clone()];
        agrees(store, &records, &Selection::default(), limit).await;
    }
}

async fn late_records_take_their_place(store: &dyn Store) {
    let maker = Maker::of("late");
    let day = 24 * HOUR;
    let records: Vec<_> = [
        (5, 2_000_000),
        (6, 3_000_000),
        (1, 0),
        (4, 1),
        (3, 1),
        // Of an earlier day.
        (2, -day),
    ]
    .into_iter()
    .map(|(sequence, offset)| maker.record("i1", sequence, offset, &sequence.to_string()))
    .collect();
    for record in &records {
        write(store, std::slice::from_ref(record)).await;
    }
    agrees(store, &records, &Selection::default(), 10_000).await;
}

async fn each_condition_selects_as_the_selection_says(store: &dyn Store) {
    let maker = Maker::of("conditions");
    let records = sorted(varied(&maker));
    write(store, &records).await;
    for (name, selection) in selections(&maker) {
        let admitted = records.iter().filter(|record| selection.admits(record));
        let admitted = admitted.count();
        assert!(
            admitted > 0 && admitted < records.len(),
            "{name}: the check would show nothing"
        );
        for limit in [1, 10_000] {
            agrees(store, &records, &selection, limit).await;
        }
    }
    let none = Selection {
        instance: Some("i-3".to_owned()),
        ..Selection::default()
    };
    agrees(store, &records, &none, 10_000).await;
}

async fn conditions_select_among_texts_that_look_like_them(store: &dyn Store) {
    let maker = Maker::of("lookalikes");
    let records = lookalikes(&maker);
    write(store, &records).await;
    for selection in &selections_of_lookalikes(&maker) {
        agrees(store, &records, selection, 3).await;
    }
}

async fn odd_texts_come_back_and_are_found(store: &dyn Store) {
    let maker = Maker::of("odd");
    let records: Vec<_> = odd_texts()
        .iter()
        .zip(1..)
        .map(|(text, sequence)| maker.record("i1", sequence, sequence as i64 * 10, text))
        .collect();
    write(store, &records).await;
    agrees(store, &records, &Selection::default(), 10_000).await;
    for record in &records {
        let characters: Vec<char> = record.text.chars().collect();
        // The whole text if it is short, its begin, its middle and its end.
        let middle = characters.len() / 2;
        let parts = [
            characters.get(..characters.len().min(200)),
            characters.get(..characters.len().min(4)),
            characters.get(middle..(middle + 5).min(characters.len())),
            characters.get(characters.len().saturating_sub(3)..),
        ];
        for part in parts.into_iter().flatten().filter(|part| !part.is_empty()) {
            let selection = Selection {
                contains: vec![part.iter().collect()],
                ..Selection::default()
            };
            agrees(store, &records, &selection, 10_000).await;
        }
    }
}

async fn functions_and_instances_are_listed(store: &dyn Store) {
    let here = Maker::of("listed");
    let there = Maker::of_key("elsewhere/listed".parse().expect("a key"));
    let records = [
        here.record("i-old", 1, 0, "first"),
        here.record("i-old", 2, 5_000_000, "last"),
        here.record("i-new", 1, 3_000_000, "first"),
        here.record("i-new", 2, 9_000_000, "last"),
        here.record("i-one", 1, 7_000_000, "first and last"),
    ];
    let other = [there.record("i-other", 1, 1_000_000, "of the other namespace")];
    write(store, &records).await;
    write(store, &other).await;
    agrees(store, &records, &Selection::default(), 10_000).await;
    agrees(store, &other, &Selection::default(), 10_000).await;
    let functions = store.functions().await.expect("functions");
    for (maker, first) in [(&here, records[0].time), (&there, other[0].time)] {
        let logs = functions.iter();
        let logs: Vec<_> = logs.filter(|log| log.function == maker.function).collect();
        assert_eq!(logs.len(), 1, "{:?} is listed once", maker.function);
        assert_eq!(logs[0].first, first);
        assert!(logs[0].bytes > 0);
    }
    let instances = store.instances(&here.function).await.expect("instances");
    let listed: Vec<_> = instances
        .iter()
        .map(|log| (log.instance.as_str(), log.qualifier, log.first, log.last))
        .collect();
    assert_eq!(
        listed,
        [
            ("i-new", Qualifier::Latest, records[2].time, records[3].time),
            ("i-one", Qualifier::Latest, records[4].time, records[4].time),
            ("i-old", Qualifier::Latest, records[0].time, records[1].time),
        ]
    );
    let nobody = key("nobody");
    assert_same(&all(store, &nobody).await, &[], "no such function");
    let instances = store.instances(&nobody).await;
    assert_eq!(instances.expect("instances"), []);
}

async fn a_deleted_log_is_gone_and_others_stay(store: &dyn Store) {
    let (gone, stays) = (Maker::of("deleted"), Maker::of("deleted-not"));
    let lost = [gone.record("i1", 1, 0, "gone")];
    let other = [stays.record("i1", 1, 0, "stays")];
    join(write(store, &lost), write(store, &other)).await;
    store.delete(&gone.function).await.expect("it is deleted");
    assert_same(&all(store, &gone.function).await, &[], "deleted");
    agrees(store, &other, &Selection::default(), 10_000).await;
    let functions = store.functions().await.expect("functions");
    assert!(functions.iter().all(|log| log.function != gone.function));
    // The function goes on.
    let new = [gone.record("i2", 1, 1_000_000, "new")];
    write(store, &new).await;
    agrees(store, &new, &Selection::default(), 10_000).await;
    let deleted = store.delete(&key("never")).await;
    deleted.expect("nothing to delete is no fault");
}

async fn records_go_when_their_time_has_passed(store: &dyn Store) {
    let maker = Maker::of("retention");
    let minute = HOUR / 60;
    let records = [
        maker.record("i1", 1, -70 * minute, "two hours old"),
        maker.record("i1", 2, 5 * minute, "a bit younger than an hour"),
        maker.record("i1", 3, 60 * minute, "new"),
    ];
    write(store, &records).await;
    agrees(store, &records, &Selection::default(), 10_000).await;
    let limit = Some(SignedDuration::from_micros(HOUR));
    let set = store.set_retention(&maker.function, limit).await;
    set.expect("a retention");
    agrees(store, &records[1..], &Selection::default(), 10_000).await;
    let retention = async |maker: &Maker| {
        let retentions = store.retentions().await.expect("retentions");
        retentions.get(&maker.function).copied()
    };
    assert_eq!(retention(&maker).await, limit);
    let deleted = store.delete(&maker.function).await;
    deleted.expect("its records are deleted");
    assert_eq!(retention(&maker).await, limit, "it is not of the records");
    // A function that has not run yet.
    let new = Maker::of("retention-first");
    assert_eq!(retention(&new).await, None);
    for limit in [limit, None] {
        let set = store.set_retention(&new.function, limit).await;
        set.expect("a retention");
        assert_eq!(retention(&new).await, limit);
    }
    let functions = store.functions().await.expect("functions");
    assert!(functions.iter().all(|log| log.function != new.function));
}
