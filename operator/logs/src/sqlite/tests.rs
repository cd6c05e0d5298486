//! What only files can show: sudden ends, damage, locks, and which files go.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use pilotlight_core::ids::Qualifier;
use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::conformance::check_all;
use crate::entry::Origin;
use crate::query::regex;

const ROOMY: FileLimits = FileLimits {
    bytes: 1 << 30,
    retention: SignedDuration::from_hours(24 * 7),
    clock: Timestamp::now,
};

fn key(name: &str) -> FunctionKey {
    format!("local/{name}").parse().expect("a key")
}

fn record(function: &str, sequence: u64, time: Timestamp, text: &str) -> Arc<Entry> {
    let origin = Origin {
        function: key(function),
        qualifier: Qualifier::Latest,
        instance: "i1".to_owned(),
    };
    let line = format!("{time} stdout - {text}");
    Arc::new(Entry::of_line(&origin, sequence, &line, time))
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

async fn texts(store: &SqliteStore, function: &str) -> Vec<String> {
    let page = store.read(&Query::all(key(function))).await;
    let records = page.expect("a page").records;
    records.into_iter().map(|record| record.text).collect()
}

fn files(root: &Path, function: &str) -> Vec<PathBuf> {
    let listed = fs::read_dir(root.join("local").join(function)).expect("a folder");
    let paths = listed.map(|entry| entry.expect("an entry").path());
    let mut files: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|end| end == "db"))
        .collect();
    files.sort();
    files
}

#[tokio::test]
async fn it_conforms() {
    let root = TempDir::new().expect("a folder");
    let store = SqliteStore::open(root.path(), ROOMY).expect("a store");
    check_all(&store).await;
}

#[tokio::test]
async fn many_files_of_a_log_read_as_one() {
    let root = TempDir::new().expect("a folder");
    let small = FileLimits {
        // A file each day, and one for each 256 KiB.
        bytes: 4 << 20,
        ..ROOMY
    };
    let store = SqliteStore::open(root.path(), small).expect("a store");
    let now = Timestamp::now();
    let mut written = Vec::new();
    for sequence in 1..=3000_u64 {
        let age = SignedDuration::from_mins(3000 - sequence as i64);
        let time = now.checked_sub(age).expect("a time");
        written.push(record(
            "hello",
            sequence,
            time,
            &format!("{sequence} {}", "x".repeat(200)),
        ));
    }
    for chunk in written.chunks(100) {
        store.write(chunk).await.expect("written");
    }
    // What comes again goes into the file that has it.
    store.write(&written[100..200]).await.expect("written");
    assert!(files(root.path(), "hello").len() > 3);
    for (order, limit) in [(Order::OldestFirst, 10_000), (Order::NewestFirst, 170)] {
        let mut query = Query::all(key("hello"));
        (query.order, query.limit) = (order, limit);
        let mut read = Vec::new();
        loop {
            let page = store.read(&query).await.expect("a page");
            read.extend(page.records.iter().map(|record| record.sequence));
            query.after = page.next;
            if query.after.is_none() {
                break;
            }
        }
        if order == Order::NewestFirst {
            read.reverse();
        }
        assert_eq!(read, Vec::from_iter(1..=3000));
    }
    let mut query = Query::all(key("hello"));
    query.selection.since = Some(written[2500].time);
    query.selection.until = Some(written[2600].time);
    let page = store.read(&query).await.expect("a page");
    assert_eq!(page.records.len(), 100);
    assert_eq!(page.records[0].sequence, 2501);
}

#[tokio::test]
async fn the_oldest_files_of_all_functions_go_when_there_are_too_many_bytes() {
    let root = TempDir::new().expect("a folder");
    let small = FileLimits {
        bytes: 4 << 20,
        ..ROOMY
    };
    let store = SqliteStore::open(root.path(), small).expect("a store");
    let (now, text) = (Timestamp::now(), "y".repeat(4000));
    let records: Vec<_> = (0..4000_u64)
        .rev()
        .map(|minute| {
            let age = SignedDuration::from_mins(minute as i64);
            let time = now.checked_sub(age).expect("a time");
            let name = if minute % 2 == 0 { "even" } else { "odd" };
            record(name, 4000 - minute, time, &text)
        })
        .collect();
    for chunk in records.chunks(20) {
        store.write(chunk).await.expect("written");
    }
    let functions = store.functions().await.expect("functions");
    let bytes: u64 = functions.iter().map(|log| log.bytes).sum();
    // Half a file may come until the next look.
    assert!(bytes <= small.bytes + PART_SLACK, "{bytes} bytes are left");
    assert!(bytes > small.bytes / 4, "{bytes} bytes are left");
    for log in functions {
        assert!(
            log.first
                > now
                    .checked_sub(SignedDuration::from_mins(3500))
                    .expect("a time")
        );
        let name = log.function.name.as_str().to_owned();
        assert!(!texts(&store, &name).await.is_empty());
    }
}

/// How much more than its limit a folder has for a short time: what is written until the next look, with its index.
const PART_SLACK: u64 = 1 << 20;

/// A writer that is behind gets many records at once. The newest ones stay all the same.
#[tokio::test]
async fn the_newest_records_stay_when_one_write_brings_more_than_the_folder_keeps() {
    let root = TempDir::new().expect("a folder");
    let small = FileLimits {
        bytes: 4 << 20,
        ..ROOMY
    };
    let store = SqliteStore::open(root.path(), small).expect("a store");
    let (now, text) = (Timestamp::now(), "y".repeat(1000));
    let record_of = |n: u64| {
        let age = SignedDuration::from_micros(20_000 - n as i64);
        let time = now.checked_sub(age).expect("a time");
        record("hello", n, time, &format!("{n} {text}"))
    };
    let records: Vec<_> = (0..12_000).map(record_of).collect();
    store.write(&records).await.expect("written");
    let functions = store.functions().await.expect("functions");
    assert!(functions[0].bytes <= small.bytes, "{functions:?}");
    let mut query = Query::all(key("hello"));
    let mut numbers: Vec<u64> = Vec::new();
    loop {
        let page = store.read(&query).await.expect("a page");
        numbers.extend(page.records.iter().map(|record| record.sequence));
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    // The files have an index and pages that are not full beside the texts.
    assert!(numbers.len() > 2000, "{} records are left", numbers.len());
    let first = 12_000 - numbers.len() as u64;
    assert!(numbers.iter().copied().eq(first..12_000));
}

#[tokio::test]
async fn old_records_are_not_shown_and_their_files_go() {
    static NOW: AtomicI64 = AtomicI64::new(0);
    let set = |text: &str| NOW.store(at(text).as_microsecond(), Ordering::SeqCst);
    let limits = FileLimits {
        retention: SignedDuration::from_hours(24 * 3),
        clock: || Timestamp::from_microsecond(NOW.load(Ordering::SeqCst)).expect("a time"),
        ..ROOMY
    };
    set("2026-02-01T12:00:00Z");
    let root = TempDir::new().expect("a folder");
    let store = SqliteStore::open(root.path(), limits).expect("a store");
    let days = ["01", "02", "03", "04", "05"];
    for (day, sequence) in days.into_iter().zip(1..) {
        set(&format!("2026-02-{day}T12:00:00Z"));
        let record = record("hello", sequence, (limits.clock)(), day);
        store.write(&[record]).await.expect("written");
    }
    assert_eq!(texts(&store, "hello").await, ["02", "03", "04", "05"]);
    assert_eq!(files(root.path(), "hello").len(), 4);
    set("2026-02-05T13:00:00Z");
    // Not shown at once, although nothing was removed yet.
    assert_eq!(texts(&store, "hello").await, ["03", "04", "05"]);
    let hour = Some(SignedDuration::from_hours(2));
    store.set_retention(&key("hello"), hour).await.expect("set");
    assert_eq!(texts(&store, "hello").await, ["05"]);
    assert_eq!(files(root.path(), "hello").len(), 1);
    set("2026-02-05T15:00:00Z");
    assert_eq!(store.instances(&key("hello")).await, Ok(vec![]));
    assert_eq!(store.functions().await, Ok(vec![]));
    drop(store);
    // The retention is still known, and a start looks for old files.
    let store = SqliteStore::open(root.path(), limits).expect("a store");
    assert_eq!(files(root.path(), "hello"), Vec::<PathBuf>::new());
    store.set_retention(&key("hello"), None).await.expect("set");
    let late = record("hello", 9, at("2026-02-04T01:00:00Z"), "late");
    store.write(&[late]).await.expect("written");
    assert_eq!(texts(&store, "hello").await, ["late"]);
}

/// Runs as a process of its own, which the test below kills.
#[tokio::test]
#[ignore = "a part of the next test"]
async fn writes_until_it_is_killed() {
    let root = std::env::var_os("PILOTLIGHT_TEST_LOGS").expect("the folder");
    let store = SqliteStore::open(Path::new(&root), ROOMY).expect("a store");
    for sequence in 1.. {
        let record = record(
            "hello",
            sequence,
            Timestamp::now(),
            &format!("line {sequence}"),
        );
        store.write(&[record]).await.expect("written");
        eprintln!("written {sequence}");
    }
}

#[tokio::test]
async fn what_was_written_survives_a_sudden_end() {
    let root = TempDir::new().expect("a folder");
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "sqlite::tests::writes_until_it_is_killed"])
        .args(["--ignored", "--nocapture"])
        .env("PILOTLIGHT_TEST_LOGS", root.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a child");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let mut acknowledged = 0;
    while acknowledged < 200 {
        let line = lines.next().expect("it goes on").expect("text");
        if let Some(sequence) = line.strip_prefix("written ") {
            acknowledged = sequence.parse().expect("a number");
        }
    }
    // Another one cannot write meanwhile, and can read.
    let second = SqliteStore::open(root.path(), ROOMY);
    assert!(matches!(second, Err(OpenError::InUse(_))), "{second:?}");
    let beside = SqliteStore::reader(root.path());
    assert!(texts(&beside, "hello").await.len() >= acknowledged);
    child.kill().expect("SIGKILL");
    child.wait().expect("it has ended");
    for line in lines.map_while(Result::ok) {
        // The last line may be cut off.
        let sequence = line.strip_prefix("written ");
        if let Some(sequence) = sequence.and_then(|text| text.parse().ok()) {
            acknowledged = acknowledged.max(sequence);
        }
    }
    let found = texts(&SqliteStore::reader(root.path()), "hello").await;
    assert!(
        found.len() >= acknowledged,
        "{} of {acknowledged}",
        found.len()
    );
    let expected: Vec<_> = (1..=found.len()).map(|n| format!("line {n}")).collect();
    assert_eq!(found, expected);
    let store = SqliteStore::open(root.path(), ROOMY).expect("the lock went with the process");
    assert_eq!(texts(&store, "hello").await, expected);
}

#[tokio::test]
async fn a_damaged_file_is_named_set_aside_and_replaced() {
    for damage in ["garbage", "middle", "empty", "another version"] {
        let root = TempDir::new().expect("a folder");
        let store = SqliteStore::open(root.path(), ROOMY).expect("a store");
        let now = Timestamp::now();
        let records: Vec<_> = (1..500)
            .map(|n| record("hello", n, now, &format!("before {n}")))
            .collect();
        store.write(&records).await.expect("written");
        drop(store);
        let path = files(root.path(), "hello").remove(0);
        match damage {
            "garbage" => fs::write(&path, "not a database".repeat(1000)).expect("written"),
            "middle" => {
                let mut bytes = fs::read(&path).expect("a file");
                let length = bytes.len();
                bytes[4096..length].fill(0xa5);
                fs::write(&path, bytes).expect("written");
            }
            "empty" => fs::write(&path, "").expect("written"),
            _ => {
                let database = Connection::open(&path).expect("a database");
                database
                    .pragma_update(None, "user_version", 7)
                    .expect("set");
            }
        }
        let reader = SqliteStore::reader(root.path());
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let said = reader.read(&Query::all(key("hello"))).await;
        match damage {
            // As if nothing was written.
            "empty" => assert_eq!(said, Ok(Page::default())),
            _ => {
                let said = said.expect_err("damaged").to_string();
                assert!(said.contains(&name) && said.contains("remove it"), "{said}");
            }
        }
        assert!(path.exists(), "a reader changes nothing");
        let store = SqliteStore::open(root.path(), ROOMY).expect("a store");
        if damage == "middle" {
            // The reader finds it first.
            let said = store.read(&Query::all(key("hello"))).await;
            let said = said.expect_err("damaged").to_string();
            assert!(said.contains(&name) && said.contains("set aside"), "{said}");
            assert!(texts(&store, "hello").await.is_empty());
        }
        store
            .write(&[record("hello", 500, now, "after")])
            .await
            .expect("written");
        assert_eq!(texts(&store, "hello").await, ["after"], "{damage}");
        let aside = path.with_extension("damaged");
        assert_eq!(aside.exists(), damage != "empty", "{damage}");
        store.delete(&key("hello")).await.expect("deleted");
        assert!(!aside.exists());
    }
}

#[tokio::test]
async fn a_locked_file_is_an_error_that_passes() {
    let root = TempDir::new().expect("a folder");
    let store = SqliteStore::open(root.path(), ROOMY).expect("a store");
    let now = Timestamp::now();
    store
        .write(&[record("hello", 1, now, "one")])
        .await
        .expect("written");
    let path = files(root.path(), "hello").remove(0);
    let other = Connection::open(&path).expect("a database");
    other.busy_timeout(Duration::ZERO).expect("set");
    other.execute_batch("begin immediate").expect("locked");
    let two = [record("hello", 2, now, "two")];
    let said = store.write(&two).await.expect_err("locked");
    assert!(matches!(said, StoreError::Unavailable(_)));
    assert!(
        said.to_string().contains("another program has locked it"),
        "{said}"
    );
    assert_eq!(texts(&store, "hello").await, ["one"]);
    other.execute_batch("rollback").expect("unlocked");
    store.write(&two).await.expect("written");
    assert_eq!(texts(&store, "hello").await, ["one", "two"]);
}

#[tokio::test]
async fn a_page_that_finds_little_ends_and_says_where_to_go_on() {
    let root = TempDir::new().expect("a folder");
    let store = SqliteStore::open(root.path(), ROOMY).expect("a store");
    let now = Timestamp::now();
    let count = PAGE_RECORDS as u64 * 2 + 10;
    let records: Vec<_> = (1..=count)
        .map(|n| record("hello", n, now, &format!("line {n}")))
        .collect();
    store.write(&records).await.expect("written");
    let mut query = Query::all(key("hello"));
    query.selection.regex = regex(&format!("^line {count}$")).ok();
    let mut pages = 0;
    let found = loop {
        let page = store.read(&query).await.expect("a page");
        pages += 1;
        query.after = page.next;
        if let Some(found) = page.records.into_iter().next() {
            break found;
        }
        assert!(query.after.is_some(), "there is more");
    };
    assert_eq!((pages, found.sequence), (3, count));
    // The index over texts leads there at once.
    let mut query = Query::all(key("hello"));
    query.selection.contains = vec![format!("line {count}")];
    let page = store.read(&query).await.expect("a page");
    assert_eq!((page.records.len(), page.next), (1, None));
}

#[tokio::test]
async fn a_store_that_only_reads_refuses_writes() {
    let root = TempDir::new().expect("a folder");
    let reader = SqliteStore::reader(&root.path().join("absent"));
    assert_eq!(texts(&reader, "hello").await, Vec::<String>::new());
    assert_eq!(reader.functions().await, Ok(vec![]));
    let said = reader
        .write(&[record("hello", 1, Timestamp::now(), "x")])
        .await;
    assert!(matches!(said, Err(StoreError::Refused(_))), "{said:?}");
    assert!(!root.path().join("absent").exists());
}

async fn found(store: &SqliteStore, text: &str) -> Vec<u64> {
    let mut query = Query::all(key("hello"));
    query.selection.contains = vec![text.to_owned()];
    let page = store.read(&query).await.expect("a page");
    page.records.iter().map(|record| record.sequence).collect()
}

fn last_indexed(path: &Path) -> i64 {
    let file = Connection::open(path).expect("a database");
    let last = file.query_row("select last from indexed", [], |row| row.get(0));
    last.expect("a number")
}

/// The index is made for many records at once. A search finds those that it has, and the others.
#[tokio::test]
async fn texts_are_found_before_and_after_they_are_in_the_index() {
    let root = TempDir::new().expect("a folder");
    let store = SqliteStore::open(root.path(), ROOMY).expect("a store");
    let now = Timestamp::now();
    for n in 1..=250 {
        let text = format!("number {n}. {}", if n % 100 == 7 { "rare" } else { "" });
        let written = store.write(&[record("hello", n, now, &text)]).await;
        written.expect("written");
        assert_eq!(found(&store, &format!("number {n}.")).await, [n]);
    }
    let path = files(root.path(), "hello").remove(0);
    assert_eq!(last_indexed(&path), 200);
    assert_eq!(found(&store, "rare").await, [7, 107, 207]);
    assert_eq!(found(&store, "Rare").await, [0_u64; 0]);
    assert_eq!(found(&store, "number 9").await.len(), 11);
}

/// A file of the version before this one says nothing about the index, which has all texts.
#[tokio::test]
async fn a_file_of_the_version_before_is_read_and_written_on() {
    let root = TempDir::new().expect("a folder");
    let now = Timestamp::now();
    let texts = ["alpha", "beta"];
    let write = async |n: usize| {
        let store = SqliteStore::open(root.path(), ROOMY).expect("a store");
        let record = record("hello", n as u64 + 1, now, texts[n]);
        store.write(&[record]).await.expect("written");
        assert_eq!(found(&store, texts[n]).await, [n as u64 + 1]);
    };
    write(0).await;
    let path = files(root.path(), "hello").remove(0);
    let file = Connection::open(&path).expect("a database");
    file.execute_batch(
        "insert into words(rowid, text) select id, text from records; \
         drop table indexed; pragma user_version = 1;",
    )
    .expect("an older file");
    let reader = SqliteStore::reader(root.path());
    assert_eq!(found(&reader, "alpha").await, [1]);
    write(1).await;
    assert_eq!(found(&reader, "alpha").await, [1]);
    assert_eq!(last_indexed(&path), 1);
}

/// A reader that comes while files go sees what is there, and no error.
#[tokio::test]
async fn a_deletion_disturbs_no_reader() {
    let root = TempDir::new().expect("a folder");
    let store = SqliteStore::open(root.path(), ROOMY).expect("a store");
    let now = Timestamp::now();
    let (ended, is_ended) = tokio::sync::watch::channel(false);
    let reading = tokio::spawn({
        let store = store.clone();
        async move {
            let mut reads = 0_u64;
            while !*is_ended.borrow() {
                store.functions().await.expect("functions");
                texts(&store, "hello").await;
                reads += 1;
            }
            reads
        }
    });
    for n in 1..=300 {
        let record = record("hello", n, now, "x");
        store.write(&[record]).await.expect("written");
        store.delete(&key("hello")).await.expect("deleted");
    }
    ended.send(true).expect("it reads");
    assert!(reading.await.expect("no fault") > 0);
}
