//! Log records on their way to a gateway.
//!
//! Owns what the status stream carries besides statuses, and keeps it until a gateway acknowledges it. Fed by `log` with
//! each line that goes to standard output too; `control_api` streams. The newest gateway that takes records gets them, with
//! everything that no gateway has acknowledged first. What is kept and dropped `core::logs::backlog` decides. A slow gateway
//! never holds the runtime process back.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use pilotlight_core::logs::backlog::Backlog;
use pilotlight_wire::log_record::{LogRecord, LogSource};
use pilotlight_wire::records;
use tokio::sync::Notify;

/// What is kept of records that no gateway has acknowledged, in bytes.
const KEPT_LIMIT: usize = 1024 * 1024;
/// Records of this much time, or this many bytes, are sent together.
const RELAY_TIME: Duration = Duration::from_millis(10);
const BATCH_SIZE: usize = 16 * 1024;
/// How long the end of the instance waits until a gateway has its last records for good.
const HANDOVER_LIMIT: Duration = Duration::from_secs(1);
/// What a record takes besides its text, roughly, in bytes.
const OVERHEAD: usize = 64;

/// A handle to what is kept. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Relay(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    state: RefCell<State>,
    /// Notified when a batch is due, and when another gateway gets the records.
    ready: Notify,
    /// Notified after each acknowledgement.
    acknowledged: Notify,
}

#[derive(Debug)]
struct State {
    kept: Backlog<(), Rc<Line>>,
    /// The number of the last record.
    last: u64,
    /// The number of the newest stream that takes records.
    newest: u64,
    /// Send without waiting for a full batch.
    is_urgent: bool,
}

#[derive(Debug)]
struct Line {
    /// A mark has the number of the record before it.
    sequence: u64,
    is_mark: bool,
    text: Box<str>,
}

/// One status stream that takes records.
#[derive(Debug)]
pub(crate) struct Taker {
    relay: Relay,
    number: u64,
}

impl Default for Relay {
    fn default() -> Self {
        Relay(Rc::new(Shared {
            state: RefCell::new(State {
                kept: Backlog::new(KEPT_LIMIT),
                last: 0,
                newest: 0,
                is_urgent: false,
            }),
            ready: Notify::new(),
            acknowledged: Notify::new(),
        }))
    }
}

impl Relay {
    /// Adds the record that this line of standard output is. `line`: without its end.
    pub(crate) fn add(&self, line: &str) {
        let mut state = self.0.state.borrow_mut();
        state.last += 1;
        let is_due = state.put(line, false);
        drop(state);
        if is_due {
            self.0.ready.notify_one();
        }
    }

    /// Adds a mark after everything that was logged before. It is sent at once.
    pub(crate) fn mark(&self, mark: &str) {
        let mut state = self.0.state.borrow_mut();
        state.put(mark, true);
        state.is_urgent = true;
        drop(state);
        self.0.ready.notify_one();
    }

    /// A gateway that takes records has opened a stream. It gets all that no gateway has acknowledged.
    pub(crate) fn taker(&self) -> Taker {
        let mut state = self.0.state.borrow_mut();
        state.newest += 1;
        state.kept.return_taken();
        let number = state.newest;
        drop(state);
        // The taker before notices that it is not the newest any more.
        self.0.ready.notify_waiters();
        Taker {
            relay: self.clone(),
            number,
        }
    }
}

impl State {
    /// Whether a batch is due.
    fn put(&mut self, text: &str, is_mark: bool) -> bool {
        let was_idle = !self.kept.has_untaken();
        let line = Line {
            sequence: self.last,
            is_mark,
            text: text.into(),
        };
        let size = OVERHEAD + text.len();
        self.kept.push(&(), Rc::new(line), size);
        was_idle || self.is_due()
    }

    /// Whether a batch is full, or must not wait.
    fn is_due(&self) -> bool {
        self.is_urgent || self.kept.untaken_bytes() > BATCH_SIZE
    }

    fn batch(&mut self) -> Option<Bytes> {
        let dropped: u64 = self
            .kept
            .take_dropped()
            .iter()
            .map(|(_, lines)| lines)
            .sum();
        if dropped > 0 {
            self.last += 1;
            let record = LogRecord {
                time: &format!("{:.6}", jiff::Timestamp::now()),
                source: LogSource::Platform,
                request_id: None,
                text: format!("{dropped} log lines were dropped: no gateway took them in time")
                    .into(),
            };
            self.put(&record.to_string(), false);
        }
        let lines = self.kept.take(usize::MAX, BATCH_SIZE);
        self.is_urgent = false;
        let lines = lines?.records;
        let mut batch = Vec::new();
        for line in lines {
            match line.is_mark {
                true => records::write_mark(&mut batch, &line.text),
                false => records::write_record(&mut batch, line.sequence, &line.text),
            }
        }
        Some(batch.into())
    }
}

impl Taker {
    /// The next records, as lines of the stream. It waits for ever once another gateway gets them. Dropping the future loses
    /// nothing.
    pub(crate) async fn next(&self) -> Bytes {
        let shared = &self.relay.0;
        loop {
            let notified = shared.ready.notified();
            if !self.is_newest() {
                std::future::pending::<()>().await;
            }
            if !shared.state.borrow().kept.has_untaken() {
                notified.await;
                continue;
            }
            let _ = tokio::time::timeout(RELAY_TIME, self.is_due()).await;
            if let Some(batch) = self.take() {
                return batch;
            }
        }
    }

    /// Returns when the records need not wait for others.
    async fn is_due(&self) {
        let shared = &self.relay.0;
        loop {
            let notified = shared.ready.notified();
            if !self.is_newest() || shared.state.borrow().is_due() {
                return;
            }
            notified.await;
        }
    }

    /// The next records that are there already, unless another gateway gets them.
    pub(crate) fn take(&self) -> Option<Bytes> {
        let is_newest = self.is_newest();
        is_newest.then(|| self.relay.0.state.borrow_mut().batch())?
    }

    /// The gateway has the records up to this number for good.
    pub(crate) fn acknowledge(&self, sequence: u64) {
        let shared = &self.relay.0;
        let mut state = shared.state.borrow_mut();
        state.kept.acknowledge(|line| line.sequence <= sequence);
        drop(state);
        shared.acknowledged.notify_waiters();
    }

    /// Returns when nothing is left that no gateway has for good, another gateway gets the rest, or the end has waited
    /// long enough.
    pub(crate) async fn handed_over(&self) {
        let shared = &self.relay.0;
        let all = async {
            loop {
                let acknowledged = shared.acknowledged.notified();
                if !self.is_newest() || shared.state.borrow().kept.is_empty() {
                    return;
                }
                acknowledged.await;
            }
        };
        // After the limit the lines are on standard output alone.
        let _ = tokio::time::timeout(HANDOVER_LIMIT, all).await;
    }

    fn is_newest(&self) -> bool {
        self.relay.0.state.borrow().newest == self.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(batch: Option<Bytes>) -> String {
        String::from_utf8(batch.unwrap_or_default().into()).expect("a text")
    }

    #[test]
    fn a_gateway_gets_what_no_other_one_has_acknowledged() {
        let relay = Relay::default();
        relay.add("a");
        relay.add("b");
        let first = relay.taker();
        assert_eq!(text(first.take()), "R 1 a\nR 2 b\n");
        relay.mark("m");
        relay.add("c");
        first.acknowledge(1);
        let second = relay.taker();
        assert_eq!(first.take(), None, "another gateway gets them");
        assert_eq!(text(second.take()), "R 2 b\nM m\nR 3 c\n");
        second.acknowledge(3);
        assert_eq!(text(relay.taker().take()), "");
    }

    #[test]
    fn what_does_not_fit_is_counted_and_the_log_says_so() {
        let relay = Relay::default();
        let line = "x".repeat(1000);
        for _ in 0..2000 {
            relay.add(&line);
        }
        let taker = relay.taker();
        let mut read = String::new();
        while let Some(batch) = taker.take() {
            assert!(batch.len() < 2 * BATCH_SIZE);
            read += &text(Some(batch));
        }
        let lines: Vec<_> = read.lines().collect();
        let (last, kept) = lines.split_last().expect("lines");
        let said = format!(
            " platform - {} log lines were dropped: no gateway took them in time",
            2000 - kept.len()
        );
        assert!(
            last.starts_with("R 2001 ") && last.ends_with(&said),
            "{last}"
        );
        assert!(kept[0].starts_with(&format!("R {} ", 2001 - kept.len())));
        assert!(kept.len() > 900);
    }

    #[tokio::test(start_paused = true)]
    async fn records_are_sent_together_and_a_mark_at_once() {
        let relay = Relay::default();
        let taker = relay.taker();
        let begun = tokio::time::Instant::now();
        relay.add("a");
        relay.add("b");
        assert_eq!(text(Some(taker.next().await)), "R 1 a\nR 2 b\n");
        assert_eq!(begun.elapsed(), RELAY_TIME);
        relay.add("c");
        relay.mark("m");
        assert_eq!(text(Some(taker.next().await)), "R 3 c\nM m\n");
        assert_eq!(begun.elapsed(), RELAY_TIME);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_waits_for_the_acknowledgement_within_its_limit() {
        let relay = Relay::default();
        relay.add("a");
        let taker = relay.taker();
        taker.take();
        let begun = tokio::time::Instant::now();
        taker.handed_over().await;
        assert_eq!(begun.elapsed(), HANDOVER_LIMIT);
        taker.acknowledge(1);
        taker.handed_over().await;
        assert_eq!(begun.elapsed(), HANDOVER_LIMIT);
    }
}
