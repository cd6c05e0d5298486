//! Selections of whole invocations: those that failed, were slow, or began cold.
//!
//! An invocation is selected by its REPORT, and then all of its records are read. So one that has not ended is never
//! selected. Reads through [`Pages`], whatever is behind it.

use futures_util::future::BoxFuture;
use pilotlight_wire::log_record::LogSource;

use crate::entry::Entry;
use crate::query::{PAGE_LIMIT, Query, Selection};
use crate::report::{Ending, Report};
use crate::store::{Page, Store, StoreError};

/// Conditions that an invocation meets all of. The default means: records are not selected by their invocation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Invocations {
    /// It ended with an error or a timeout, whether of the function or of its process.
    pub failed: bool,
    /// It took this many milliseconds or longer.
    pub slow: Option<f64>,
    /// It was the first of its instance.
    pub cold: bool,
}

/// Whatever answers with pages of a log.
pub trait Pages: Sync {
    fn page<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Page, StoreError>>;
}

impl<S: Store + ?Sized> Pages for S {
    fn page<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Page, StoreError>> {
        self.read(query)
    }
}

impl Invocations {
    /// No invocation is left out.
    pub fn admits_all(&self) -> bool {
        *self == Invocations::default()
    }

    pub fn admits(&self, report: &Report) -> bool {
        (!self.failed || report.status != Ending::Success)
            && self.slow.is_none_or(|slow| report.duration >= slow)
            && (!self.cold || report.is_cold)
    }

    /// The query for the REPORT records among which this chooses.
    pub fn reports(&self, query: &Query) -> Query {
        let Selection {
            instance,
            request_id,
            since,
            until,
            ..
        } = query.selection.clone();
        Query {
            selection: Selection {
                instance,
                request_id,
                since,
                until,
                source: Some(LogSource::Platform),
                ..Selection::default()
            },
            limit: PAGE_LIMIT,
            ..query.clone()
        }
    }
}

/// The query for the records of one invocation, without those that the other conditions leave out.
pub fn of_invocation(query: &Query, request_id: &str) -> Query {
    let mut query = query.clone();
    query.selection.request_id = Some(request_id.to_owned());
    // The invocation is selected as a whole, though it may have begun before.
    (query.selection.since, query.selection.until) = (None, None);
    query.after = None;
    query.limit = PAGE_LIMIT;
    query
}

/// One page: all records of each selected invocation after each other. The order of the query is that of the invocations'
/// ends, and of the records of each. A page ends behind the invocation with which its limit is reached, and `next` is the position of
/// that invocation's REPORT.
///
/// # Errors
/// Why the log cannot be read.
pub async fn page(
    pages: &dyn Pages,
    query: &Query,
    wanted: &Invocations,
) -> Result<Page, StoreError> {
    let reports = pages.page(&wanted.reports(query)).await?;
    let mut records = Vec::new();
    for record in &reports.records {
        let Some(report) = Report::of(record).filter(|report| wanted.admits(report)) else {
            continue;
        };
        records.extend(all_of(pages, query, &report.request_id).await?);
        if records.len() >= query.limit {
            let next = Some(record.position());
            return Ok(Page { records, next });
        }
    }
    let next = reports.next;
    Ok(Page { records, next })
}

/// All records of an invocation that the query's other conditions admit, up to [`PAGE_LIMIT`].
///
/// # Errors
/// Why the log cannot be read.
pub async fn all_of(
    pages: &dyn Pages,
    query: &Query,
    request_id: &str,
) -> Result<Vec<Entry>, StoreError> {
    let mut query = of_invocation(query, request_id);
    let mut records = Vec::new();
    loop {
        let page = pages.page(&query).await?;
        records.extend(page.records);
        query.after = page.next;
        if query.after.is_none() || records.len() >= PAGE_LIMIT {
            return Ok(records);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;
    use pilotlight_core::ids::Qualifier;

    use super::*;
    use crate::entry::Origin;
    use crate::memory::MemoryStore;
    use crate::query::Order;

    /// Three invocations of one instance: a slow cold one, one that fails, and one that has not ended.
    async fn store() -> MemoryStore {
        let origin = Origin {
            function: "local/hello".parse().expect("a key"),
            qualifier: Qualifier::Latest,
            instance: "i1".to_owned(),
        };
        let report = |id: &str, rest: &str| format!("platform {id} REPORT RequestId: {id}\t{rest}");
        let lines = [
            "platform - INIT_START Runtime Version: python3.11".to_owned(),
            "platform r1 START RequestId: r1 Version: $LATEST".to_owned(),
            "stdout r1 [INFO]\tone".to_owned(),
            report("r1", "Duration: 250.00 ms\tInit Duration: 90.00 ms\t"),
            "platform r2 START RequestId: r2 Version: $LATEST".to_owned(),
            "stdout r2 [ERROR] two".to_owned(),
            "stdout r2 REPORT RequestId: r2\tDuration: 999.00 ms\t".to_owned(),
            report("r2", "Duration: 3.00 ms\tFunction Error: Unhandled\t"),
            "platform r3 START RequestId: r3 Version: $LATEST".to_owned(),
        ];
        let records: Vec<_> = (1..)
            .zip(lines)
            .map(|(at, line)| {
                let line = format!("2026-01-31T10:00:0{at}Z {line}");
                Arc::new(Entry::of_line(&origin, at, &line, Timestamp::UNIX_EPOCH))
            })
            .collect();
        let store = MemoryStore::new(usize::MAX, usize::MAX);
        store.write(&records).await.expect("it takes all");
        store
    }

    fn query() -> Query {
        Query::all("local/hello".parse().expect("a key"))
    }

    async fn sequences(query: &Query, wanted: &Invocations) -> Vec<u64> {
        let page = page(&store().await, query, wanted).await.expect("a page");
        page.records.iter().map(|record| record.sequence).collect()
    }

    #[tokio::test]
    async fn invocations_are_selected_by_their_reports_and_read_as_a_whole() {
        let wanted = |failed, slow, cold| Invocations { failed, slow, cold };
        for (wanted, expected) in [
            (wanted(true, None, false), vec![5, 6, 7, 8]),
            (wanted(false, Some(250.0), false), vec![2, 3, 4]),
            (wanted(false, Some(250.1), false), vec![]),
            (wanted(false, None, true), vec![2, 3, 4]),
            (wanted(true, None, true), vec![]),
            (wanted(false, Some(1.0), false), vec![2, 3, 4, 5, 6, 7, 8]),
        ] {
            assert_eq!(sequences(&query(), &wanted).await, expected, "{wanted:?}");
        }
        let mut with_text = query();
        with_text.selection.contains = vec!["two".to_owned()];
        assert_eq!(sequences(&with_text, &wanted(true, None, false)).await, [6]);
    }

    #[tokio::test]
    async fn pages_of_invocations_go_on_behind_the_last_one() {
        let store = store().await;
        let wanted = Invocations {
            slow: Some(0.0),
            ..Invocations::default()
        };
        for (order, first, second) in [
            (Order::OldestFirst, "r1", "r2"),
            (Order::NewestFirst, "r2", "r1"),
        ] {
            let mut query = query();
            (query.limit, query.order) = (1, order);
            for expected in [first, second] {
                let page = page(&store, &query, &wanted).await.expect("a page");
                assert!(page.records.len() >= 3);
                for record in &page.records {
                    assert_eq!(record.request_id.as_deref(), Some(expected));
                }
                query.after = page.next;
                assert!(query.after.is_some());
            }
            let last = page(&store, &query, &wanted).await.expect("a page");
            assert_eq!(last, Page::default());
        }
    }
}
