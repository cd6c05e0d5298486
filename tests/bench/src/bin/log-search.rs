//! Fills a store of logs with lines that look like those of a busy function, then measures how long searches take.
//!
//! The same lines and searches for each store. Prints a line of JSON for what was written, and one for each search with its
//! milliseconds. `tests/bench/logs.py` starts the store and makes docs/benchmarks-logs.md of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Parser;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};
use pilotlight_core::ids::{FunctionKey, Qualifier};
use pilotlight_logs::entry::Entry;
use pilotlight_logs::invocations::{self, Invocations};
use pilotlight_logs::level::Level;
use pilotlight_logs::query::{Field, Order, Query, Selection, regex};
use pilotlight_logs::sqlite::{FileLimits, SqliteStore};
use pilotlight_logs::store::Store;
use pilotlight_logs::victoria::{Tenant, VictoriaConfig, VictoriaStore, durable_after};
use pilotlight_net::outbound::{BaseUrl, Outbound};
use pilotlight_wire::log_record::LogSource;
use serde_json::json;
use tokio::sync::watch;

const INSTANCES: u64 = 20;
/// Each call has so many records: START, lines, END and REPORT.
const PER_CALL: u64 = 8;
/// The time from one record to the next, in microseconds: ten million take a little less than three days.
const STEP: i64 = 25_000;
/// A record in so many has the rare text.
const RARE: u64 = 1_000_000;
const REPEATS: usize = 5;
/// The `-inmemoryDataFlushInterval` of the VictoriaLogs that is measured, as in the chart.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);

/// Measures searches in a store of logs.
#[derive(Debug, Parser)]
struct Args {
    /// How many records.
    #[arg(long, default_value_t = 10_000_000)]
    records: u64,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Place {
    /// The folder of a SQLite store, which must be empty.
    #[arg(long, value_name = "DIR")]
    sqlite: Option<PathBuf>,
    /// The address of a VictoriaLogs.
    #[arg(long, value_name = "URL")]
    victoria: Option<BaseUrl>,
}

/// How a store is filled: records of one write, and writes at the same time.
struct Pace {
    batch: u64,
    writes: usize,
}

/// As a busy gateway writes them.
const FILES: Pace = Pace {
    batch: 2000,
    writes: 1,
};
/// A write waits seconds for the disk of the store.
const VICTORIA: Pace = Pace {
    batch: 100_000,
    writes: 4,
};

fn sqlite(folder: &Path) -> Result<SqliteStore> {
    let limits = FileLimits {
        bytes: u64::MAX,
        retention: SignedDuration::from_hours(24 * 365),
        clock: Timestamp::now,
    };
    Ok(SqliteStore::open(folder, limits)?)
}

fn victoria(url: BaseUrl) -> Result<VictoriaStore> {
    let config = VictoriaConfig {
        tenant: Tenant::default(),
        durable_after: durable_after(FLUSH_INTERVAL),
        clock: Timestamp::now,
    };
    let outbound = Outbound::new(url, None, None)?;
    Ok(VictoriaStore::new(watch::channel(Ok(outbound)).1, config))
}

#[derive(Debug)]
struct Lines {
    function: FunctionKey,
    begin: Timestamp,
}

impl Lines {
    fn record(&self, number: u64) -> Entry {
        let (call, place) = (number / PER_CALL, number % PER_CALL);
        // Looks random, and is the same in each run.
        let noise = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
        let request_id = format!(
            "{:08x}-{:04x}-4000-8000-{:012x}",
            noise_of(call) as u32,
            call % 0xffff,
            call
        );
        let order = noise % 100_000;
        let (source, text) = match place {
            0 => (
                LogSource::Platform,
                format!("START RequestId: {request_id} Version: $LATEST"),
            ),
            6 => (LogSource::Platform, format!("END RequestId: {request_id}")),
            7 => {
                let millis = (noise_of(call) % 100_000) as f64 / 100.0;
                let failed = match call % 500 {
                    0 => "Status: timeout",
                    _ => "",
                };
                let text = format!(
                    "REPORT RequestId: {request_id}\tDuration: {millis:.2} ms\tBilled Duration: {} ms\tMemory Size: 256 MB\t\
                     Max Memory Used: 71 MB\t{failed}",
                    millis.ceil()
                );
                (LogSource::Platform, text)
            }
            3 => (
                LogSource::Stdout,
                format!(
                    r#"{{"level":"INFO","message":"order stored","order":{{"id":{order},"items":{}}},"ms":{}}}"#,
                    noise % 9,
                    noise % 400
                ),
            ),
            4 if number % 1000 == 4 => (
                LogSource::Stdout,
                format!(
                    "[ERROR]\t2026-01-31T10:00:00.000Z\t{request_id}\tpayment of order {order} was declined"
                ),
            ),
            _ if number % RARE == 1 => (
                LogSource::Stdout,
                format!(
                    "[INFO]\t2026-01-31T10:00:00.000Z\t{request_id}\tthe quick zebra {order} was seen"
                ),
            ),
            _ => (
                LogSource::Stdout,
                format!(
                    "[INFO]\t2026-01-31T10:00:00.000Z\t{request_id}\torder {order} of customer {:x}: step {place} took {} ms",
                    noise_of(order) % 0xff_ffff,
                    noise % 900
                ),
            ),
        };
        let time = self.begin.as_microsecond() + number as i64 * STEP;
        Entry {
            time: Timestamp::from_microsecond(time).expect("a time"),
            namespace: self.function.namespace.clone(),
            function: self.function.name.clone(),
            qualifier: Qualifier::Latest,
            instance: format!("{:032x}", noise_of(call % INSTANCES)),
            sequence: number + 1,
            level: match source {
                LogSource::Platform => None,
                _ => Level::of(&text),
            },
            source,
            request_id: Some(request_id),
            text,
        }
    }
}

fn noise_of(number: u64) -> u64 {
    number
        .wrapping_add(1)
        .wrapping_mul(0xd6e8_feb8_6659_fd93)
        .rotate_left(31)
}

#[tokio::main]
async fn main() -> Result<()> {
    let Args { records, place } = Args::parse();
    match (place.sqlite, place.victoria) {
        (Some(folder), _) => run(&sqlite(&folder)?, FILES, records).await,
        (None, Some(url)) => run(&victoria(url)?, VICTORIA, records).await,
        (None, None) => unreachable!("one of them is required"),
    }
}

async fn run<S: Store>(store: &S, pace: Pace, records: u64) -> Result<()> {
    let function: FunctionKey = "bench/orders".parse()?;
    ensure!(
        store.functions().await?.is_empty(),
        "the store has logs already"
    );
    let span = records as i64 * STEP;
    let begin = Timestamp::from_microsecond(Timestamp::now().as_microsecond() - span)?;
    let lines = Lines { function, begin };
    fill(store, &lines, records, pace).await?;
    search(store, &lines, records).await
}

async fn fill(store: &dyn Store, lines: &Lines, records: u64, pace: Pace) -> Result<()> {
    let Pace { batch, writes } = pace;
    let begin = Instant::now();
    let text_bytes = stream::iter((0..records).step_by(batch as usize))
        .map(async |first| {
            let written: Vec<Arc<Entry>> = (first..records.min(first + batch))
                .map(|number| Arc::new(lines.record(number)))
                .collect();
            store.write(&written).await?;
            if first.is_multiple_of(500_000) {
                anstream::eprintln!("{first} records after {:.0?}", begin.elapsed());
            }
            let bytes = written.iter().map(|record| record.text.len() as u64);
            anyhow::Ok(bytes.sum::<u64>())
        })
        .buffer_unordered(writes)
        .try_fold(0, async |sum, bytes| Ok(sum + bytes))
        .await?;
    let seconds = begin.elapsed().as_secs_f64();
    let filled = json!({"filled": records, "text_bytes": text_bytes, "seconds": seconds});
    anstream::println!("{filled}");
    Ok(())
}

async fn search<S: Store>(store: &S, lines: &Lines, records: u64) -> Result<()> {
    let middle = lines.record(records / 2 / PER_CALL * PER_CALL + 5);
    let select = |change: &dyn Fn(&mut Selection)| {
        let mut query = Query::all(lines.function.clone());
        query.order = Order::NewestFirst;
        query.limit = 100;
        change(&mut query.selection);
        query
    };
    let hour = |s: &mut Selection| {
        s.since = Some(middle.time);
        s.until = Timestamp::from_microsecond(middle.time.as_microsecond() + 3_600_000_000).ok();
    };
    let oldest = Query {
        order: Order::OldestFirst,
        ..select(&|_| {})
    };
    // With how many records each finds, where that does not depend on how many there are.
    let searches = [
        ("the newest 100", select(&|_| {}), Some(100)),
        ("the oldest 100", oldest, Some(100)),
        (
            "one call",
            select(&|s| s.request_id = middle.request_id.clone()),
            Some(PER_CALL as usize),
        ),
        (
            "one instance",
            select(&|s| s.instance = Some(middle.instance.clone())),
            None,
        ),
        (
            "a text that is rare (1 in 1,000,000)",
            select(&|s| s.contains = vec!["zebra".to_owned()]),
            None,
        ),
        (
            "a text that is nowhere",
            select(&|s| s.contains = vec!["no such text".to_owned()]),
            Some(0),
        ),
        (
            "a text that is common (1 in 2)",
            select(&|s| s.contains = vec!["customer".to_owned()]),
            Some(100),
        ),
        (
            "level ERROR",
            select(&|s| s.level = Some(Level::Error)),
            None,
        ),
        (
            "a regular expression, common",
            select(&|s| s.regex = regex(r"step \d took [1-5]\d ms$").ok()),
            None,
        ),
        (
            "a regular expression with a rare word",
            select(&|s| s.regex = regex("quick zeb[a-z]+").ok()),
            None,
        ),
        (
            "a regular expression that is nowhere, within an hour",
            select(&|s| {
                hour(s);
                s.regex = regex("zebras? (ran|slept)").ok();
            }),
            Some(0),
        ),
        (
            "a JSON field (1 in 800,000), within an hour",
            select(&|s| {
                hour(s);
                s.fields = Field::parse("order.id=4711").into_iter().collect();
            }),
            None,
        ),
    ];
    for (name, query, expected) in searches {
        let mut found = 0;
        let took = measured(async || {
            found = 0;
            let mut query = query.clone();
            loop {
                let page = store.read(&query).await?;
                found += page.records.len();
                query.limit -= page.records.len();
                query.after = page.next;
                if query.after.is_none() || query.limit == 0 {
                    return Ok(());
                }
            }
        });
        report(name, &took.await?, found);
        ensure!(
            expected.is_none_or(|expected| expected == found),
            "{name}: {found} records"
        );
    }
    let failed = Invocations {
        failed: true,
        ..Invocations::default()
    };
    let (query, mut found) = (select(&|_| {}), 0);
    let took = measured(async || {
        let page = invocations::page(store, &query, &failed).await?;
        found = page.records.len();
        Ok(())
    });
    report("calls that failed (1 in 500)", &took.await?, found);
    Ok(())
}

/// The milliseconds of each run. The first one warms caches and does not count.
async fn measured(mut search: impl AsyncFnMut() -> Result<()>) -> Result<Vec<f64>> {
    search().await?;
    let mut took = Vec::new();
    for _ in 0..REPEATS {
        let begin = Instant::now();
        search().await?;
        took.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    Ok(took)
}

fn report(name: &str, took: &[f64], found: usize) {
    let line = json!({"search": name, "milliseconds": took, "found": found});
    anstream::println!("{line}");
}
