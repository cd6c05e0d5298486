//! The status stream of an instance: its statuses go to the driver, its records to `logs`.
//!
//! A task of its own reads it, while a lease may run on the other connection (`wire::status`, `wire::records`). It reads
//! whatever comes, because statuses must not wait for a log: what is too much is dropped and counted. The supervisor is not
//! trusted: it names neither the function nor the instance of a record, and has a bound of bytes a second.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Request};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::Frame;
use pilotlight_core::ids::{FunctionKey, PoolId};
use pilotlight_core::instance::Status;
use pilotlight_core::instance::log_rate::LogRate;
use pilotlight_logs::entry::Origin;
use pilotlight_net::address::Opening;
use pilotlight_net::client::HttpClient;
use pilotlight_net::lines::Lines;
use pilotlight_wire::records::{self, StatusLine};
use pilotlight_wire::status;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::clock;
use crate::logs::{Feed, Hub, Way};

/// The longest line of a stream without records, in bytes. A status has at most 30.
const STATUS_LINE_LIMIT: usize = 1024;
/// What a gateway takes of the records of one instance, in bytes a second. A supervisor keeps its function below a lower
/// rate, so this bounds one that is not what it should be.
const INSTANCE_RATE: u32 = 8 * 1024 * 1024;
/// How long the stream of an instance that has ended is read on: its last records may be on their way.
const LAST_RECORDS_WAIT: Duration = Duration::from_secs(2);

/// Where the records of the stream go.
pub(crate) struct Taking {
    pub(crate) logs: Hub,
    pub(crate) pool: PoolId,
    pub(crate) instance: String,
    /// How to ask the supervisor for a mark.
    pub(crate) way: Way,
}

/// A stream that is being read.
#[derive(Debug)]
pub(crate) struct StatusStream {
    task: JoinHandle<()>,
    /// Dropping it gives the reading a last while.
    _instance_lives: DropGuard,
}

impl StatusStream {
    /// `observed` gets each status.
    pub(crate) fn open<F: Future<Output = ()> + Send>(
        opening: Opening,
        taking: Option<Taking>,
        observed: impl Fn(Status) -> F + Send + Sync + 'static,
    ) -> Self {
        let ended = CancellationToken::new();
        let guard = ended.clone().drop_guard();
        // It ends with the stream, or soon after the instance's task.
        let task = tokio::spawn(async move {
            let follow = follow(opening, taking, observed);
            let last = async {
                ended.cancelled().await;
                tokio::time::sleep(LAST_RECORDS_WAIT).await;
            };
            tokio::select! {
                _ = follow => {}
                () = last => {}
            }
        });
        StatusStream {
            task,
            _instance_lives: guard,
        }
    }

    /// Returns when the supervisor has ended the stream, or it broke.
    pub(crate) async fn ended(&mut self) {
        // A panic in it ends the stream as well.
        let _ = (&mut self.task).await;
    }

    /// Closes the stream now, because another gateway follows the instance.
    pub(crate) fn close(self) {
        self.task.abort();
    }
}

async fn follow<F: Future<Output = ()>>(
    opening: Opening,
    taking: Option<Taking>,
    observed: impl Fn(Status) -> F,
) -> Option<()> {
    let mut taker = taking.map(Taker::new);
    let mut client = HttpClient::over(opening.await.ok()?).await.ok()?;
    let mut request = Request::builder().uri(status::STATUS_PATH);
    let body = match (&taker, request.headers_mut()) {
        (Some(taker), Some(headers)) => {
            records::take(headers);
            acknowledgements(taker.feed.settled())
        }
        _ => UnsyncBoxBody::new(Empty::new()),
    };
    let response = client.send(request.body(body).ok()?).await.ok()?;
    let limit = match &mut taker {
        Some(taker) => taker.begin(response.headers()),
        None => STATUS_LINE_LIMIT,
    };
    let mut lines = Lines::new(response.into_body(), limit);
    let read = async {
        while let Ok(Some(line)) = lines.next().await {
            match (records::read(&line), &mut taker) {
                (Some(StatusLine::Status(status)), _) => observed(status).await,
                (Some(StatusLine::Record { sequence, line }), Some(taker)) => {
                    taker.record(sequence, line);
                }
                (Some(StatusLine::Mark(mark)), Some(taker)) => taker.reached(mark),
                // A later release may send other lines.
                _ => {}
            }
        }
    };
    client.during(read).await;
    Some(())
}

/// The body of the request: the number of the last settled record, whenever it has changed.
fn acknowledgements(settled: watch::Receiver<u64>) -> UnsyncBoxBody<Bytes, Infallible> {
    let lines = stream::unfold(settled, async |mut settled: watch::Receiver<u64>| {
        settled.changed().await.ok()?;
        let line = records::acknowledgement(*settled.borrow_and_update());
        Some((Ok(Frame::data(Bytes::from(line))), settled))
    });
    StreamBody::new(Box::pin(lines)).boxed_unsync()
}

/// Takes the records of one stream.
struct Taker {
    logs: Hub,
    function: FunctionKey,
    way: Option<Way>,
    feed: Feed,
    /// Known once the supervisor has said that it hands records over.
    source: Option<std::sync::Arc<crate::logs::Source>>,
    rate: LogRate,
}

impl Taker {
    fn new(taking: Taking) -> Self {
        let Taking {
            logs,
            pool,
            instance,
            way,
        } = taking;
        Taker {
            feed: logs.feed(Origin {
                function: pool.function.clone(),
                qualifier: pool.qualifier,
                instance,
            }),
            logs,
            function: pool.function,
            way: Some(way),
            source: None,
            rate: LogRate::new(Some(INSTANCE_RATE)),
        }
    }

    /// Returns the longest line that may come.
    fn begin(&mut self, answer: &HeaderMap) -> usize {
        // A supervisor of an earlier release would write a mark, and this gateway would not see it.
        if !records::are_taken(answer) {
            return STATUS_LINE_LIMIT;
        }
        let way = self.way.take();
        self.source = way.map(|way| self.logs.begin(&self.function, way));
        records::LINE_LIMIT
    }

    fn record(&mut self, sequence: u64, line: &str) {
        if self.rate.admits(clock::now(), line.len()) {
            self.feed.record(sequence, line);
        }
        if let dropped @ 1.. = self.rate.take_dropped() {
            self.feed.too_fast(dropped);
        }
    }

    fn reached(&self, mark: &str) {
        if let Some(source) = &self.source {
            source.reached(mark);
        }
    }
}
