//! Pages of a function's log.
//!
//! VictoriaLogs sorts by time alone, and finds the newest records of a large log quickly, but not the oldest ones. So the
//! order within one microsecond is made here, and a page that begins with the oldest records is looked for in spans of
//! time that grow. What comes is filtered once more by [`Query::admits`], and one record that was stored twice is dropped.

use std::time::Duration;

use jiff::Timestamp;

use super::client::QueryError;
use super::write::after;
use super::{VictoriaStore, logsql, row};
use crate::entry::{Entry, Position};
use crate::query::{Order, PAGE_LIMIT, Query};
use crate::store::{Page, StoreError};
use crate::victoria::row::field;

/// The most requests for one page. After them a page may be shorter than its limit, and has a next one.
const REQUESTS: u32 = 16;
/// Records that are asked for beyond a page: those of the last microsecond are left for the next request.
const SPARE: usize = 16;
/// The first span of time in which the oldest records are looked for, and by how much the next one is longer.
const FIRST_SPAN: Duration = Duration::from_secs(3600);
const SPAN_GROWTH: u32 = 8;
/// A longer span has no end.
const SPAN_MAX: Duration = Duration::from_secs(2_592_000);
/// The most records of one function in one microsecond.
const INSTANT_LIMIT: usize = 50_000;

/// The times that are still to be read: from `since` on, and before `until`.
#[derive(Clone, Copy, Debug)]
struct Open {
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

/// What one request has brought.
struct Found {
    /// All records that it asks for, up to a time; several of the same one may be among them.
    records: Vec<Entry>,
    /// The times that are left. `None`: nothing is.
    rest: Option<Open>,
}

impl VictoriaStore {
    pub(super) async fn read_page(&self, query: &Query) -> Result<Page, StoreError> {
        let streams = logsql::streams(Some(&query.function), query.selection.instance.as_deref());
        let filter = format!("{streams}{}", logsql::filters(&query.selection));
        let limit = query.limit.clamp(1, PAGE_LIMIT);
        let mut open = Some(self.open(query, &streams).await?);
        let mut span = FIRST_SPAN;
        let mut records: Vec<Entry> = Vec::new();
        let mut rows = limit + SPARE;
        for _ in 0..REQUESTS {
            let Some(times) = open.take_if(|_| records.len() <= limit) else {
                break;
            };
            let asked = match query.order {
                Order::NewestFirst => times,
                Order::OldestFirst => times.first(&mut span),
            };
            let found = self.find(&filter, query.order, asked, &mut rows).await?;
            open = match (found.rest, query.order) {
                (Some(rest), Order::OldestFirst) => Some(Open {
                    until: times.until,
                    ..rest
                }),
                (Some(rest), Order::NewestFirst) => Some(rest),
                // The span was read, and what follows it is left.
                (None, Order::OldestFirst) if asked.until != times.until => Some(Open {
                    since: asked.until,
                    until: times.until,
                }),
                (None, _) => None,
            };
            let admitted = found
                .records
                .into_iter()
                .filter(|record| query.admits(record));
            records.extend(admitted);
        }
        let has_more = records.len() > limit;
        records.truncate(limit);
        let next = match (has_more, open) {
            (true, _) => records.last().map(Entry::position),
            (false, Some(rest)) => rest.begin(query.order),
            (false, None) => None,
        };
        Ok(Page { records, next })
    }

    /// The times in which the page can be.
    async fn open(&self, query: &Query, streams: &str) -> Result<Open, StoreError> {
        let latest = |one: Option<Timestamp>, other: Option<Timestamp>| one.max(other);
        let earliest = |one: Option<Timestamp>, other: Option<Timestamp>| match (one, other) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        let mut since = latest(query.selection.since, self.oldest(&query.function));
        let mut until = query.selection.until;
        match (&query.after, query.order) {
            (Some(position), Order::OldestFirst) => since = latest(since, Some(position.time)),
            (Some(position), Order::NewestFirst) => until = earliest(until, after(position.time)),
            (None, _) => {}
        }
        if query.order == Order::OldestFirst {
            // Spans begin where there is something. VictoriaLogs knows the first time without reading any row.
            let times = logsql::times(since, until);
            let first = self
                .rows(&format!("{streams}{times} | stats min(_time) first"))
                .await?;
            let first = first
                .first()
                .and_then(|row| row::text(row, "first")?.parse().ok());
            since = latest(since, first);
        }
        Ok(Open { since, until })
    }

    /// Asks for at most `rows` records in the order. If as many came, those of the last microsecond may not be complete,
    /// and are left for the next request. If they are all that came, they are fetched by themselves.
    async fn find(
        &self,
        filter: &str,
        order: Order,
        times: Open,
        rows: &mut usize,
    ) -> Result<Found, StoreError> {
        let direction = match order {
            Order::OldestFirst => "",
            Order::NewestFirst => " desc",
        };
        let query = |times: Open, rows: usize| {
            let times = logsql::times(times.since, times.until);
            format!(
                "{filter}{times} | sort by (_time{direction}) limit {rows} | fields {}",
                field::READ
            )
        };
        let body = loop {
            match self.client.query_rows(&query(times, *rows)).await {
                Ok(body) => break body,
                // The records are long.
                Err(QueryError::TooLong(_)) if *rows > 2 => *rows = (*rows / 8).max(2),
                Err(QueryError::TooLong(why)) => return Err(StoreError::Unavailable(why)),
                Err(QueryError::Store(error)) => return Err(error),
            }
        };
        let (mut records, came) = read_rows(&body);
        let mut rest = None;
        if came >= *rows
            && let Some(last) = records.last().map(|record| record.time)
        {
            let first = records.first().map(|record| record.time);
            let mut complete = last;
            if first == Some(last) {
                let instant = Open {
                    since: Some(last),
                    until: after(last),
                };
                let body = self.client.query(&query(instant, INSTANT_LIMIT)).await?;
                records = read_rows(&body).0;
                complete = match order {
                    Order::OldestFirst => after(last).unwrap_or(last),
                    Order::NewestFirst => last,
                };
            } else {
                records.retain(|record| record.time != last);
                if order == Order::NewestFirst {
                    complete = after(last).unwrap_or(last);
                }
            }
            rest = Some(match order {
                Order::OldestFirst => Open {
                    since: Some(complete),
                    ..times
                },
                Order::NewestFirst => Open {
                    until: Some(complete),
                    ..times
                },
            });
            // A selection that few of these met needs more of them.
            *rows = (*rows * 2).min(PAGE_LIMIT + SPARE);
        }
        records.sort_by_cached_key(Entry::position);
        records.dedup_by(|one, other| one.position() == other.position());
        if order == Order::NewestFirst {
            records.reverse();
        }
        Ok(Found { records, rest })
    }
}

impl Open {
    /// The first span of these times, and makes the next one longer.
    fn first(self, span: &mut Duration) -> Self {
        let end = self.since.filter(|_| *span <= SPAN_MAX);
        let end = end.and_then(|since| since.checked_add(*span).ok());
        *span = span.saturating_mul(SPAN_GROWTH);
        let is_earlier = |end: &Timestamp| self.until.is_none_or(|until| *end < until);
        Open {
            until: end.filter(is_earlier).or(self.until),
            ..self
        }
    }

    /// The position before all records of these times.
    fn begin(self, order: Order) -> Option<Position> {
        let time = match order {
            Order::OldestFirst => self.since,
            Order::NewestFirst => self.until,
        };
        // No record is there itself: each has a name of an instance, and the end of these times is none of them.
        time.map(|time| Position {
            time,
            instance: String::new(),
            sequence: 0,
        })
    }
}

/// The records of an answer, and how many rows it has: a row may be none of ours.
fn read_rows(body: &[u8]) -> (Vec<Entry>, usize) {
    let lines = body.split(|byte| *byte == b'\n');
    let mut rows = 0;
    let records = lines.filter(|line| !line.is_empty()).filter_map(|line| {
        rows += 1;
        row::read(line)
    });
    let records = records.collect();
    (records, rows)
}
