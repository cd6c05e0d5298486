//! Brings a function's log up to date before it is read.
//!
//! Supervisors write their records in batches, and the last record of an invocation follows its answer, so a
//! reader right after a call would miss them. `http::logs` therefore asks each instance for a mark in its log
//! (`mark::MARK_PATH`), which follows everything logged before; whoever reads the instance's records reports
//! the mark to `hub`. Invocations cost nothing more.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future;
use http::{Request, StatusCode};
use http_body_util::Full;
use pilotlight_core::ids::FunctionKey;
use pilotlight_net::address::Opening;
use pilotlight_net::client::HttpClient;
use pilotlight_wire::mark;
use tokio::sync::oneshot;

/// How long a reader waits for a runtime process that works on after its answer, or for a supervisor that does
/// not answer.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(2);

/// Opens a connection to a supervisor at each call.
pub(crate) type Way = Box<dyn Fn() -> Opening + Send + Sync>;

/// The instances whose logs are being read. Clones share one state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marks {
    sources: Arc<Mutex<HashMap<FunctionKey, Vec<Weak<Source>>>>>,
    next: Arc<AtomicU64>,
}

/// An instance's log. It is dropped after the last record.
pub(crate) struct Source {
    way: Way,
    awaited: Mutex<HashMap<String, oneshot::Sender<()>>>,
}

impl Marks {
    pub(crate) fn add(&self, function: &FunctionKey, way: Way) -> Arc<Source> {
        let source = Arc::new(Source {
            way,
            awaited: Mutex::default(),
        });
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.retain(|_, of_function| {
            of_function.retain(|source| source.strong_count() > 0);
            !of_function.is_empty()
        });
        let of_function = sources.entry(function.clone()).or_default();
        of_function.push(Arc::downgrade(&source));
        source
    }

    /// Returns when everything that the function's instances have logged up to now is read, at the latest after
    /// [`CATCH_UP_LIMIT`].
    pub(crate) async fn catch_up(&self, function: &FunctionKey) {
        let marked: Vec<_> = {
            let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
            let sources = sources.get(function).into_iter().flatten();
            let marked = sources.filter_map(Weak::upgrade).map(|source| {
                let mark = self.next.fetch_add(1, Ordering::Relaxed).to_string();
                let read = source.expect(mark.clone());
                // The source is not kept alive here: when its reader ends, so does the wait.
                reached((source.way)(), mark, read)
            });
            marked.collect()
        };
        // After the limit the log is served as far as it has come.
        let _ = tokio::time::timeout(CATCH_UP_LIMIT, future::join_all(marked)).await;
    }
}

impl Source {
    fn expect(&self, mark: String) -> oneshot::Receiver<()> {
        let (tell, read) = oneshot::channel();
        let mut awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        awaited.retain(|_, waiting| !waiting.is_closed());
        awaited.insert(mark, tell);
        read
    }

    /// The mark was among the records.
    pub(crate) fn reached(&self, mark: &str) {
        let mut awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waiting) = awaited.remove(mark) {
            // The receiver is gone once the limit has passed.
            let _ = waiting.send(());
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").finish_non_exhaustive()
    }
}

async fn reached(opening: Opening, mark: String, read: oneshot::Receiver<()>) {
    let is_refused = ask(opening, mark).await == Some(false);
    if !is_refused {
        // A supervisor that does not answer has ended; then `read` fails once its log is read to the end.
        let _ = read.await;
    }
}

/// Whether the supervisor will write the mark: one of an earlier release refuses. `None`: no answer.
async fn ask(opening: Opening, mark: String) -> Option<bool> {
    let mut client = HttpClient::over(opening.await.ok()?).await.ok()?;
    let request = Request::post(mark::MARK_PATH).body(Full::new(Bytes::from(mark)));
    let answer = client.send(request.expect("constant parts")).await;
    Some(answer.ok()?.status() == StatusCode::ACCEPTED)
}
