//! Brings the records of the backlog into the store: one task, with as many batches on their way as the store bears.
//!
//! A batch that fails is sent again, with pauses that grow; nothing else waits for it. What a batch is, and what is
//! dropped meanwhile, `records` says.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use pilotlight_logs::store::{Store, StoreError};
use tokio_util::sync::CancellationToken;

use super::records::{EntryBatch, Records};

/// Records of this much time are written together: a store that writes durably can do so some ten times a second.
const WRITE_PAUSE: Duration = Duration::from_millis(100);
/// After the store has not taken a batch: the first pause, doubled each time, and the longest one.
const RETRY_PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// A store that does not answer for this long has not taken the batch. VictoriaLogs has deadlines of its own for each
/// request; twice an insert, the wait for its disk and a question take less together.
const WRITE_LIMIT: Duration = Duration::from_secs(150);
/// How many reasons are remembered while the store takes nothing, so that each is logged once.
const REASONS_MAX: usize = 16;

/// Writes until `end`.
pub(super) async fn run(records: Arc<Records>, store: Arc<dyn Store>, end: CancellationToken) {
    let writing = async {
        let mut writes = FuturesUnordered::new();
        let mut trouble = Trouble::default();
        loop {
            // A store that is away gets one batch at a time, until it has taken one.
            let at_once = match trouble.pause {
                Some(_) => 1,
                None => store.writes_at_once(),
            };
            let is_free = writes.len() < at_once;
            tokio::select! {
                // It takes a batch in its last step, so nothing is lost when the other branch is first.
                batch = next(&records, trouble.pause), if is_free => {
                    writes.push(write(batch, trouble.failures, &*store));
                }
                Some((batch, failures, written)) = writes.next() => {
                    trouble.ended(&records, &batch, failures, written);
                }
            }
        }
    };
    tokio::select! {
        () = end.cancelled() => {}
        () = writing => {}
    }
}

/// The next batch, when it is due.
async fn next(records: &Records, retry: Option<Duration>) -> EntryBatch {
    loop {
        while !records.has_work() {
            records.work.notified().await;
        }
        if records.flushing.is_cancelled() {
            if retry.is_some() {
                tokio::time::sleep(RETRY_PAUSES.0).await;
            }
        } else if retry.is_some() || !records.is_urgent() {
            tokio::select! {
                () = tokio::time::sleep(retry.unwrap_or(WRITE_PAUSE)) => {}
                // A full batch does not wait; but a store that is away gets its pause.
                () = records.urgent.notified(), if retry.is_none() => {}
                () = records.flushing.cancelled() => {}
            }
        }
        // What waited may have made room meanwhile.
        if let Some(batch) = records.batch() {
            return batch;
        }
    }
}

/// Hands a batch to the store, and brings it back with the outcome. `failures`: how many there had been before.
async fn write(
    batch: EntryBatch,
    failures: u64,
    store: &dyn Store,
) -> (EntryBatch, u64, Result<(), StoreError>) {
    let written = tokio::time::timeout(WRITE_LIMIT, store.write(&batch.records)).await;
    let written = written.unwrap_or_else(|_| {
        let seconds = WRITE_LIMIT.as_secs();
        Err(StoreError::Unavailable(format!(
            "no answer for {seconds} s"
        )))
    });
    (batch, failures, written)
}

/// What is known of a store that takes nothing.
#[derive(Default)]
struct Trouble {
    /// Before the next attempt. `None`: the store has taken the last batch.
    pause: Option<Duration>,
    failures: u64,
    /// Those that the log has since the store takes nothing.
    reasons: Vec<StoreError>,
}

impl Trouble {
    fn ended(
        &mut self,
        records: &Records,
        batch: &EntryBatch,
        failures: u64,
        written: Result<(), StoreError>,
    ) {
        match written {
            Ok(()) => {
                if self.pause.take().is_some() {
                    tracing::info!("the log store takes records again");
                    self.reasons.clear();
                }
                records.stored(batch);
            }
            Err(error @ StoreError::Unavailable(_)) => {
                let (first, longest) = RETRY_PAUSES;
                self.because(error);
                self.pause = match self.pause {
                    None => Some(first),
                    // Batches that were on their way together fail together: that is one failure.
                    Some(pause) if failures < self.failures => Some(pause),
                    Some(pause) => Some((pause * 2).min(longest)),
                };
                self.failures += 1;
                records.failed(batch);
            }
            Err(error @ StoreError::Refused(_)) => {
                tracing::error!(%error, records = batch.records.len(), "log records are dropped");
                self.pause = None;
                self.reasons.clear();
                let all: Vec<usize> = (0..batch.records.len()).collect();
                records.refused(batch, &all);
            }
            Err(StoreError::Incomplete { why, refused }) => {
                tracing::error!(error = %why, records = refused.len(), "log records are dropped");
                self.pause = None;
                self.reasons.clear();
                records.refused(batch, &refused);
            }
        }
    }

    /// A store that is started again is first unreachable and then not ready: the log has both, each once.
    fn because(&mut self, error: StoreError) {
        if !self.reasons.contains(&error) && self.reasons.len() < REASONS_MAX {
            tracing::warn!(%error, "log records wait for their store");
            self.reasons.push(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::{BoxFuture, FutureExt};
    use jiff::SignedDuration;
    use pilotlight_core::ids::{FunctionKey, Qualifier};
    use pilotlight_logs::entry::{Entry, Origin};
    use pilotlight_logs::query::Query;
    use pilotlight_logs::store::{FunctionLog, InstanceLog, Page, Retentions};
    use tokio::sync::{mpsc, oneshot};

    use super::*;
    use crate::logs::Hub;

    /// The texts of a batch, and how its write ends.
    type StoreRequest = (Vec<String>, oneshot::Sender<Result<(), StoreError>>);

    /// A store whose writes end when the test says so.
    #[derive(Debug)]
    struct Slow {
        asked: mpsc::UnboundedSender<StoreRequest>,
    }

    impl Store for Slow {
        fn write<'a>(&'a self, records: &'a [Arc<Entry>]) -> BoxFuture<'a, Result<(), StoreError>> {
            let (end, ended) = oneshot::channel();
            let texts = records.iter().map(|record| record.text.clone());
            self.asked
                .send((texts.collect(), end))
                .expect("the test lives");
            async { ended.await.expect("the test lives") }.boxed()
        }

        fn writes_at_once(&self) -> usize {
            3
        }

        fn read<'a>(&'a self, _: &'a Query) -> BoxFuture<'a, Result<Page, StoreError>> {
            async { Ok(Page::default()) }.boxed()
        }

        fn functions(&self) -> BoxFuture<'_, Result<Vec<FunctionLog>, StoreError>> {
            async { Ok(Vec::new()) }.boxed()
        }

        fn instances<'a>(
            &'a self,
            _: &'a FunctionKey,
        ) -> BoxFuture<'a, Result<Vec<InstanceLog>, StoreError>> {
            async { Ok(Vec::new()) }.boxed()
        }

        fn retentions(&self) -> BoxFuture<'_, Result<Retentions, StoreError>> {
            async { Ok(Retentions::new()) }.boxed()
        }

        fn set_retention<'a>(
            &'a self,
            _: &'a FunctionKey,
            _: Option<SignedDuration>,
        ) -> BoxFuture<'a, Result<(), StoreError>> {
            async { Ok(()) }.boxed()
        }

        fn delete<'a>(
            &'a self,
            function: &'a FunctionKey,
        ) -> BoxFuture<'a, Result<(), StoreError>> {
            let (end, ended) = oneshot::channel();
            let asked = vec![format!("delete {}", function.name)];
            self.asked.send((asked, end)).expect("the test lives");
            async { ended.await.expect("the test lives") }.boxed()
        }
    }

    fn slow() -> (Hub, mpsc::UnboundedReceiver<StoreRequest>) {
        let (asked, writes) = mpsc::unbounded_channel();
        (Hub::new(Arc::new(Slow { asked }), 1024 * 1024), writes)
    }

    fn function() -> FunctionKey {
        "local/a".parse().expect("a key")
    }

    fn origin() -> Origin {
        Origin {
            function: function(),
            qualifier: Qualifier::Latest,
            instance: "a-1".to_owned(),
        }
    }

    fn line(text: &str) -> String {
        format!("2026-01-31T10:00:00Z stdout - {text}")
    }

    /// Paused time goes on until the store is asked.
    async fn asked(writes: &mut mpsc::UnboundedReceiver<StoreRequest>) -> StoreRequest {
        let asked = tokio::time::timeout(Duration::from_secs(3600), writes.recv());
        let asked = asked.await.expect("the store is asked");
        asked.expect("the hub lives")
    }

    /// Whether the store is asked in a while in which no write is given up.
    async fn is_asked(writes: &mut mpsc::UnboundedReceiver<StoreRequest>) -> bool {
        tokio::time::timeout(WRITE_LIMIT / 5, writes.recv())
            .await
            .is_ok()
    }

    fn away() -> Result<(), StoreError> {
        Err(StoreError::Unavailable("it is away".to_owned()))
    }

    #[test]
    fn each_reason_is_kept_once_within_a_bound() {
        let error = |text: &str| StoreError::Unavailable(text.to_owned());
        let mut trouble = Trouble::default();
        for text in ["refused", "not ready", "refused", "not ready"] {
            trouble.because(error(text));
        }
        assert_eq!(trouble.reasons, [error("refused"), error("not ready")]);
        (0..100).for_each(|number| trouble.because(error(&number.to_string())));
        assert_eq!(trouble.reasons.len(), REASONS_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn several_batches_are_on_their_way_and_none_is_settled_before_an_older_one() {
        let (hub, mut writes) = slow();
        let feed = hub.feed(origin());
        let mut ends = Vec::new();
        for text in ["1", "2", "3"] {
            feed.line(&line(text));
            let (texts, end) = asked(&mut writes).await;
            assert_eq!(texts, [text]);
            ends.push(end);
        }
        feed.line(&line("4"));
        assert!(!is_asked(&mut writes).await, "the store bears three");
        let third = ends.pop().expect("an end");
        let second = ends.pop().expect("an end");
        let first = ends.pop().expect("an end");
        second.send(Ok(())).expect("it waits");
        let (texts, fourth) = asked(&mut writes).await;
        assert_eq!((texts, *feed.settled().borrow()), (vec!["4".to_owned()], 0));
        let mut settled = feed.settled();
        first.send(Ok(())).expect("it waits");
        settled.changed().await.expect("the hub lives");
        assert_eq!(*settled.borrow_and_update(), 2);
        fourth.send(Ok(())).expect("it waits");
        third.send(away()).expect("it waits");
        let (texts, again) = asked(&mut writes).await;
        assert_eq!(texts, ["3"]);
        assert_eq!(*settled.borrow_and_update(), 2, "4 is newer");
        again.send(Ok(())).expect("it waits");
        settled.changed().await.expect("the hub lives");
        assert_eq!(*settled.borrow_and_update(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_away_is_asked_once_at_a_time_and_batches_that_fail_together_fail_once()
    {
        let (hub, mut writes) = slow();
        let feed = hub.feed(origin());
        let mut ends = Vec::new();
        for text in ["1", "2", "3"] {
            feed.line(&line(text));
            ends.push(asked(&mut writes).await.1);
        }
        let failed = tokio::time::Instant::now();
        for end in ends {
            end.send(away()).expect("it waits");
        }
        let (texts, end) = asked(&mut writes).await;
        assert_eq!(texts, ["1", "2", "3"]);
        assert_eq!(failed.elapsed(), RETRY_PAUSES.0, "one failure");
        feed.line(&line("4"));
        assert!(!is_asked(&mut writes).await, "one at a time");
        end.send(Ok(())).expect("it waits");
        assert_eq!(asked(&mut writes).await.0, ["4"]);
    }

    #[tokio::test(start_paused = true)]
    async fn records_that_are_refused_are_counted_and_the_rest_of_their_batch_is_stored() {
        let (hub, mut writes) = slow();
        let feed = hub.feed(origin());
        for text in ["1", "2", "3"] {
            feed.line(&line(text));
        }
        let (texts, end) = asked(&mut writes).await;
        assert_eq!(texts, ["1", "2", "3"]);
        let refused = StoreError::Incomplete {
            why: "one is too old".to_owned(),
            refused: vec![1],
        };
        end.send(Err(refused)).expect("it waits");
        let (texts, _end) = asked(&mut writes).await;
        assert!(
            texts[0].starts_with("1 log records were dropped: the log store refuses"),
            "{texts:?}"
        );
        assert_eq!((texts.len(), *feed.settled().borrow()), (1, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn what_makes_room_on_its_way_is_not_settled_before_its_batch() {
        let (asks, mut writes) = mpsc::unbounded_channel();
        let hub = Hub::new(Arc::new(Slow { asked: asks }), 1000);
        let feed = hub.feed(origin());
        feed.line(&line("1"));
        let (_, first) = asked(&mut writes).await;
        for text in ["2", "3", "4", "5", "6", "7"] {
            feed.line(&line(text));
        }
        assert!(
            hub.waiting(&function())
                .iter()
                .all(|record| record.text != "1")
        );
        let (_, second) = asked(&mut writes).await;
        second.send(Ok(())).expect("it waits");
        assert!(!is_asked(&mut writes).await, "nothing is lost yet");
        let mut settled = feed.settled();
        assert_eq!(*settled.borrow_and_update(), 0);
        first.send(Ok(())).expect("it waits");
        settled.changed().await.expect("the hub lives");
        assert_eq!(*settled.borrow_and_update(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn a_deletion_drops_what_waits_and_comes_after_what_is_on_its_way() {
        let (hub, mut writes) = slow();
        let feed = hub.feed(origin());
        feed.line(&line("1"));
        let (_, first) = asked(&mut writes).await;
        feed.line(&line("2"));
        let deleting = tokio::spawn({
            let hub = hub.clone();
            async move { hub.delete(&function()).await }
        });
        let mut settled = feed.settled();
        assert!(
            !is_asked(&mut writes).await,
            "the first batch is on its way"
        );
        assert_eq!(hub.waiting(&function()), []);
        first.send(away()).expect("it waits");
        let (texts, end) = asked(&mut writes).await;
        assert_eq!(texts, ["delete a"], "neither record comes again");
        end.send(Ok(())).expect("it waits");
        assert_eq!(deleting.await.expect("no panic"), Ok(()));
        assert_eq!(*settled.borrow_and_update(), 2);
        feed.line(&line("3"));
        assert_eq!(asked(&mut writes).await.0, ["3"]);
    }
}
