//! What is stored, what waits, and what readers of both see.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::SignedDuration;
use pilotlight_core::ids::Qualifier;
use pilotlight_logs::store::{FunctionLog, InstanceLog, Retentions};

use super::*;
use crate::logs::Followed;
use crate::logs::tail::Sink;

fn function(name: &str) -> FunctionKey {
    format!("local/{name}").parse().expect("a key")
}

fn origin(name: &str) -> Origin {
    Origin {
        function: function(name),
        qualifier: Qualifier::Latest,
        instance: format!("{name}-1"),
    }
}

fn line(second: u64, text: &str) -> String {
    format!("2026-01-31T10:00:{second:02}Z stdout - {text}")
}

/// A store that does what the test says, in front of one in memory.
#[derive(Debug)]
struct Moody {
    memory: MemoryStore,
    mood: Mutex<Option<StoreError>>,
}

impl Moody {
    fn becomes(&self, mood: Option<StoreError>) {
        *self.mood.lock().expect("one thread") = mood;
    }

    fn mood(&self) -> Result<(), StoreError> {
        self.mood
            .lock()
            .expect("one thread")
            .clone()
            .map_or(Ok(()), Err)
    }
}

impl Store for Moody {
    fn write<'a>(&'a self, records: &'a [Arc<Entry>]) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.mood()?;
            self.memory.write(records).await
        })
    }

    fn read<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Page, StoreError>> {
        Box::pin(async move {
            self.mood()?;
            self.memory.read(query).await
        })
    }

    fn functions(&self) -> BoxFuture<'_, Result<Vec<FunctionLog>, StoreError>> {
        self.memory.functions()
    }

    fn instances<'a>(
        &'a self,
        function: &'a FunctionKey,
    ) -> BoxFuture<'a, Result<Vec<InstanceLog>, StoreError>> {
        self.memory.instances(function)
    }

    fn retentions(&self) -> BoxFuture<'_, Result<Retentions, StoreError>> {
        self.memory.retentions()
    }

    fn set_retention<'a>(
        &'a self,
        function: &'a FunctionKey,
        retention: Option<SignedDuration>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.memory.set_retention(function, retention)
    }

    fn delete<'a>(&'a self, function: &'a FunctionKey) -> BoxFuture<'a, Result<(), StoreError>> {
        self.memory.delete(function)
    }
}

fn away() -> Option<StoreError> {
    Some(StoreError::Unavailable("it is away".to_owned()))
}

fn moody(backlog: usize) -> (Hub, Arc<Moody>) {
    let store = Arc::new(Moody {
        memory: MemoryStore::new(1024 * 1024, usize::MAX),
        mood: Mutex::default(),
    });
    (Hub::new(store.clone(), backlog), store)
}

async fn read_of(hub: &Hub, query: &Query) -> Result<Page, StoreError> {
    hub.reader(&query.function).await.read(query).await
}

fn texts(page: &Page) -> Vec<&str> {
    page.records
        .iter()
        .map(|record| record.text.as_str())
        .collect()
}

/// Paused time goes on until the store has everything.
async fn stored(hub: &Hub) {
    while !hub.records.is_empty() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_is_read_once_whether_it_is_stored_or_not() {
    let (hub, _) = moody(1024 * 1024);
    let feed = hub.feed(origin("a"));
    let query = Query::all(function("a"));
    feed.line(&line(1, "1"));
    assert_eq!(texts(&read_of(&hub, &query).await.expect("a page")), ["1"]);
    assert_eq!(*feed.settled().borrow(), 0);
    stored(&hub).await;
    assert_eq!(*feed.settled().borrow(), 1);
    feed.line(&line(2, "2"));
    feed.record(1, &line(1, "1"));
    assert_eq!(
        texts(&read_of(&hub, &query).await.expect("a page")),
        ["1", "2"]
    );
    let other = read_of(&hub, &Query::all(function("b"))).await;
    assert_eq!(other, Ok(Page::default()));
}

#[tokio::test(start_paused = true)]
async fn pages_of_stored_and_waiting_records_are_in_order_and_complete() {
    for order in [Order::OldestFirst, Order::NewestFirst] {
        let (hub, store) = moody(1024 * 1024);
        let (first, second) = (
            hub.feed(origin("a")),
            hub.feed(Origin {
                instance: "a-2".to_owned(),
                ..origin("a")
            }),
        );
        for second in [1, 3, 5, 7] {
            first.line(&line(second, &second.to_string()));
        }
        stored(&hub).await;
        // These stay in the backlog: nothing is written within this test's remaining time.
        for at in [2, 4, 6, 8] {
            second.line(&line(at, &at.to_string()));
        }
        assert_eq!(
            store
                .memory
                .read(&Query::all(function("a")))
                .await
                .expect("a page")
                .records
                .len(),
            4
        );
        let mut query = Query::all(function("a"));
        (query.limit, query.order) = (3, order);
        let mut read = Vec::new();
        loop {
            let page = read_of(&hub, &query).await.expect("a page");
            assert!(page.records.len() <= 3);
            read.extend(
                texts(&page)
                    .iter()
                    .map(|text| text.parse::<u8>().expect("a number")),
            );
            query.after = page.next;
            if query.after.is_none() {
                break;
            }
        }
        let mut expected = Vec::from_iter(1..=8);
        if order == Order::NewestFirst {
            expected.reverse();
        }
        assert_eq!(read, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_loses_nothing_within_the_bound_and_tails_go_on() {
    let (hub, store) = moody(1024 * 1024);
    let (feed, query) = (hub.feed(origin("a")), Query::all(function("a")));
    let mut tail = hub.follow(&function("a"), Selection::default());
    store.becomes(away());
    for second in 0..60 {
        feed.line(&line(second, &second.to_string()));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(matches!(tail.try_next(), Some(Followed::Record(_))));
    }
    assert!(matches!(
        read_of(&hub, &query).await,
        Err(StoreError::Unavailable(_))
    ));
    assert_eq!(*feed.settled().borrow(), 0);
    store.becomes(None);
    stored(&hub).await;
    assert_eq!(
        read_of(&hub, &query).await.expect("a page").records.len(),
        60
    );
    assert_eq!(*feed.settled().borrow(), 60);
}

#[tokio::test(start_paused = true)]
async fn what_is_beyond_the_bound_is_counted_and_the_log_says_so() {
    let (hub, store) = moody(16 * 1024);
    let (loud, quiet) = (hub.feed(origin("loud")), hub.feed(origin("quiet")));
    store.becomes(away());
    quiet.line(&line(1, "quiet"));
    for record in 0..1000 {
        loud.line(&line(record % 60, "loud"));
    }
    store.becomes(None);
    stored(&hub).await;
    let page = read_of(&hub, &Query::all(function("loud")))
        .await
        .expect("a page");
    let (said, found): (Vec<&Entry>, Vec<&Entry>) = page
        .records
        .iter()
        .partition(|record| record.source == pilotlight_wire::log_record::LogSource::Platform);
    let missing: usize = said
        .iter()
        .map(|record| {
            record
                .text
                .split_once(' ')
                .expect("a count")
                .0
                .parse::<usize>()
                .expect("a count")
        })
        .sum();
    assert_eq!(found.len() + missing, 1000, "{said:?}");
    assert!(
        missing > 0 && said[0].text.contains("no room for more"),
        "{said:?}"
    );
    assert_eq!(*loud.settled().borrow(), 1000);
    let quiet = read_of(&hub, &Query::all(function("quiet")))
        .await
        .expect("a page");
    assert_eq!(texts(&quiet), ["quiet"]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_refused_is_counted_and_need_not_be_sent_again() {
    let (hub, store) = moody(1024 * 1024);
    let feed = hub.feed(origin("a"));
    store.becomes(Some(StoreError::Refused("too old".to_owned())));
    feed.line(&line(1, "1"));
    feed.line(&line(2, "2"));
    let mut settled = feed.settled();
    settled
        .wait_for(|settled| *settled == 2)
        .await
        .expect("the hub lives");
    store.becomes(None);
    stored(&hub).await;
    let page = read_of(&hub, &Query::all(function("a")))
        .await
        .expect("a page");
    let [said] = &*texts(&page) else {
        panic!("{page:?}");
    };
    assert!(
        said.starts_with("2 log records were dropped: the log store refuses"),
        "{said}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_ends_waits_for_its_store_and_no_longer_than_its_limit() {
    let (hub, store) = moody(1024 * 1024);
    let feed = hub.feed(origin("a"));
    feed.line(&line(1, "1"));
    assert!(hub.flush(Duration::from_secs(5)).await);
    assert_eq!(*feed.settled().borrow(), 1);
    store.becomes(away());
    feed.line(&line(2, "2"));
    assert!(!hub.flush(Duration::from_secs(5)).await);
    assert_eq!(*feed.settled().borrow(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_an_instance_sends_again_over_another_feed_is_taken_once() {
    let (hub, store) = moody(1024 * 1024);
    store.becomes(away());
    let mut tail = hub.follow(&function("a"), Selection::default());
    hub.feed(origin("a")).record(1, &line(1, "1"));
    let again = hub.feed(origin("a"));
    again.record(1, &line(1, "1"));
    again.record(2, &line(2, "2"));
    let followed = std::iter::from_fn(|| tail.try_next());
    assert_eq!(followed.count(), 2);
    store.becomes(None);
    stored(&hub).await;
    drop(again);
    assert_eq!(
        hub.feed(origin("a")).settled().borrow().to_owned(),
        0,
        "it is forgotten"
    );
}

/// Two other gateways, one of which does not answer.
#[derive(Debug, Default)]
struct Others {
    asked: AtomicUsize,
}

impl OtherGateways for Others {
    fn waiting<'a>(
        &'a self,
        function: &'a FunctionKey,
    ) -> BoxFuture<'a, Vec<(String, Option<Vec<Entry>>)>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let origin = origin(function.name.as_str());
        let record = |at, text: &str| {
            Entry::of_line(&origin, at, &line(at, text), jiff::Timestamp::UNIX_EPOCH)
        };
        let records = vec![record(1, "1"), record(3, "3"), record(5, "5")];
        let answers = vec![
            ("10.0.0.1".to_owned(), Some(records)),
            ("10.0.0.2".to_owned(), None),
        ];
        futures_util::future::ready(answers).boxed()
    }

    fn follow(&self, _function: &FunctionKey, _reader: Sink) {}
}

#[tokio::test(start_paused = true)]
async fn a_reader_asks_the_other_gateways_once_and_names_the_one_that_does_not_answer() {
    let (hub, _) = moody(1024 * 1024);
    let others = Arc::new(Others::default());
    hub.set_others(others.clone());
    let feed = hub.feed(Origin {
        instance: "a-2".to_owned(),
        ..origin("a")
    });
    feed.line(&line(2, "2"));
    stored(&hub).await;
    feed.line(&line(4, "4"));
    let reader = hub.reader(&function("a")).await;
    let mut query = Query::all(function("a"));
    query.limit = 2;
    let mut read = Vec::new();
    loop {
        let page = reader.read(&query).await.expect("a page");
        read.extend(page.records.into_iter().map(|record| record.text));
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    let note = read.pop().expect("a note");
    assert!(note.contains("10.0.0.2 did not answer"), "{note}");
    assert_eq!(read, ["1", "2", "3", "4", "5"]);
    assert_eq!(others.asked.load(Ordering::Relaxed), 1);
}
