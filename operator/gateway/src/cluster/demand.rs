//! The demand stream: which instances this gateway wants, as each controller reads it.
//!
//! Shares one `Ledger` of `core::gateways` between `functions` (claims and releases of pools), `backend`
//! (instances) and the driver (counts), and serves the stream that each controller follows. Nothing here
//! decides.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::header;
use pilotlight_core::gateways::ledger::{self, ReadUpTo};
use pilotlight_wire::demand;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often the stream sends changes of counts, or an empty line if nothing has changed.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// Cheap to clone; all clones are the same ledger.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    state: Arc<Mutex<ledger::Ledger>>,
    versions: watch::Sender<u64>,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Ledger {
            state: Arc::default(),
            versions: watch::Sender::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, ledger::Ledger> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the ledger, and wakes the streams if more than counts has changed.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut ledger::Ledger) -> T) -> T {
        let mut state = self.state();
        let before = state.version();
        let result = change(&mut state);
        let version = state.version();
        drop(state);
        // Counts change with every call; the streams send them at their intervals.
        if version != before {
            self.versions.send_replace(version);
        }
        result
    }

    /// The lines of the demands that changed after `read`, or an empty line if none has.
    pub(super) fn lines(&self, read: Option<ReadUpTo>, with_counts: bool) -> (Vec<u8>, ReadUpTo) {
        let state = self.state();
        let (changed, newest) = state.changes(read, with_counts);
        let mut lines = Vec::new();
        for changed in changed {
            demand::write(changed, &mut lines);
        }
        if lines.is_empty() {
            demand::write_alive(&mut lines);
        }
        (lines, newest)
    }

    /// The stream for one controller, until `end`.
    pub(crate) fn stream(&self, end: CancellationToken) -> Response {
        let start = (self.clone(), self.versions.subscribe(), None);
        let lines = stream::unfold(start, |(ledger, mut versions, read)| async move {
            let with_counts = match read {
                None => true,
                Some(_) => tokio::time::timeout(HEARTBEAT_INTERVAL, versions.changed())
                    .await
                    .is_err(),
            };
            versions.mark_unchanged();
            let (lines, newest) = ledger.lines(read, with_counts);
            Some((
                Ok::<_, Infallible>(Bytes::from(lines)),
                (ledger, versions, Some(newest)),
            ))
        });
        let lines = lines.take_until(end.cancelled_owned());
        let head = [(header::CONTENT_TYPE, demand::CONTENT_TYPE)];
        (head, Body::from_stream(lines)).into_response()
    }
}

#[cfg(test)]
mod tests {
    use pilotlight_core::ids::{Namespace, PoolId};
    use pilotlight_wire::demand::DemandLine;

    use super::*;

    #[tokio::test]
    async fn a_controller_reads_all_demands_and_then_each_change_as_a_line() {
        let (ledger, end) = (Ledger::new(), CancellationToken::new());
        let pool = PoolId::latest(Namespace::local(), "hello".parse().unwrap());
        ledger.change(|state| state.claim(&pool, "u".into(), "r".into()));
        let mut lines = ledger.stream(end.clone()).into_body().into_data_stream();
        let mut next = async || {
            let line = lines.next().await.unwrap().unwrap();
            match DemandLine::read(line.trim_ascii_end()) {
                Ok(DemandLine::Demand(demand)) => demand,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(next().await.instances.len(), 0);
        ledger.change(|state| state.request(&pool, &"i".into(), None));
        let demand = next().await;
        assert_eq!((demand.pool, demand.instances.len()), (pool, 1));
        end.cancel();
        assert!(lines.next().await.is_none());
    }
}
