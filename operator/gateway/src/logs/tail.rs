//! Readers that follow logs: a bounded queue for each of them.
//!
//! `hub` puts each record into the queues of those that follow its function. A reader that is too slow loses the oldest
//! records of its queue, and learns how many. Nothing here waits for a reader.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use pilotlight_core::ids::FunctionKey;
use pilotlight_logs::entry::Entry;
use pilotlight_logs::query::Selection;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// What a reader may be behind, in bytes of records.
const LAG_LIMIT: usize = 2 * 1024 * 1024;

/// What a follower gets next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Followed {
    Record(Arc<Entry>),
    /// So many records were left out here, because the reader was too slow. Its selection may not have admitted all.
    Missed(u64),
}

/// Puts records from elsewhere into a reader's queue. It does not keep the reader.
#[derive(Clone, Debug)]
pub(crate) struct Sink {
    queue: Weak<Queue>,
    gone: CancellationToken,
}

impl Sink {
    pub(crate) fn put(&self, record: Entry) {
        if let Some(queue) = self.queue.upgrade() {
            queue.put(Arc::new(record));
        }
    }

    /// Returns when the reader is gone.
    pub(crate) async fn is_gone(&self) {
        self.gone.cancelled().await;
    }
}

/// The records of a function, or of all, from the moment on at which the reader began to follow.
#[derive(Debug)]
pub struct Tail {
    queue: Arc<Queue>,
    selection: Selection,
    /// The last sequence number of each instance that the reader has got elsewhere.
    known: HashMap<String, u64>,
    gone: CancellationToken,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    records: VecDeque<Arc<Entry>>,
    bytes: usize,
    missed: u64,
    /// No record follows.
    is_closed: bool,
}

/// Everybody who follows.
#[derive(Debug, Default)]
pub(super) struct Tails {
    of_all: Vec<Weak<Queue>>,
    of_function: HashMap<FunctionKey, Vec<Weak<Queue>>>,
}

impl Tails {
    /// `function`: `None` for those of all functions.
    pub(super) fn follow(&mut self, function: Option<FunctionKey>, selection: Selection) -> Tail {
        let queue = Arc::new(Queue::default());
        let followers = match function {
            Some(function) => self.of_function.entry(function).or_default(),
            None => &mut self.of_all,
        };
        followers.push(Arc::downgrade(&queue));
        Tail {
            queue,
            selection,
            known: HashMap::new(),
            gone: CancellationToken::new(),
        }
    }

    pub(super) fn send(&mut self, key: &FunctionKey, record: &Arc<Entry>) {
        deliver(&mut self.of_all, record);
        if self.of_function.is_empty() {
            return;
        }
        if let Some(followers) = self.of_function.get_mut(key) {
            deliver(followers, record);
            if followers.is_empty() {
                self.of_function.remove(key);
            }
        }
    }
}

impl Drop for Tails {
    fn drop(&mut self) {
        for queue in self.of_function.values().flatten().chain(&self.of_all) {
            if let Some(queue) = queue.upgrade() {
                queue.lock().is_closed = true;
                queue.news.notify_one();
            }
        }
    }
}

/// Readers that have gone are forgotten.
fn deliver(followers: &mut Vec<Weak<Queue>>, record: &Arc<Entry>) {
    followers.retain(|queue| match queue.upgrade() {
        Some(queue) => {
            queue.put(record.clone());
            true
        }
        None => false,
    });
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, record: Arc<Entry>) {
        let mut waiting = self.lock();
        waiting.bytes += record.size();
        waiting.records.push_back(record);
        while waiting.bytes > LAG_LIMIT
            && let Some(oldest) = waiting.records.pop_front()
        {
            waiting.bytes -= oldest.size();
            waiting.missed += 1;
        }
        drop(waiting);
        self.news.notify_one();
    }
}

impl Waiting {
    fn is_over(&self) -> bool {
        self.is_closed && self.records.is_empty()
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.gone.cancel();
    }
}

impl Tail {
    /// Takes records from elsewhere as well.
    pub(super) fn sink(&self) -> Sink {
        Sink {
            queue: Arc::downgrade(&self.queue),
            gone: self.gone.clone(),
        }
    }

    /// The reader has got these records elsewhere; they are not among those that follow.
    pub fn skip<'a>(&mut self, records: impl IntoIterator<Item = &'a Entry>) {
        for record in records {
            let known = self.known.entry(record.instance.clone()).or_default();
            *known = record.sequence.max(*known);
        }
    }

    /// The next record that the selection admits. `None`: none follows. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Followed> {
        loop {
            if let Some(followed) = self.try_next() {
                return Some(followed);
            }
            if self.queue.lock().is_over() {
                return None;
            }
            self.queue.news.notified().await;
        }
    }

    /// The same, if it has come.
    pub fn try_next(&mut self) -> Option<Followed> {
        loop {
            let record = {
                let mut waiting = self.queue.lock();
                if let missed @ 1.. = std::mem::take(&mut waiting.missed) {
                    return Some(Followed::Missed(missed));
                }
                let record = waiting.records.pop_front()?;
                waiting.bytes -= record.size();
                record
            };
            // A record may come from two gateways, when the owner of its function changes.
            match self.known.get_mut(&record.instance) {
                Some(known) if record.sequence <= *known => continue,
                Some(known) => *known = record.sequence,
                None => {
                    self.known.insert(record.instance.clone(), record.sequence);
                }
            }
            if self.selection.admits(&record) {
                return Some(Followed::Record(record));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use pilotlight_core::ids::Qualifier;
    use pilotlight_logs::entry::Origin;

    use super::*;

    fn record(sequence: u64, text: &str) -> Arc<Entry> {
        let origin = Origin {
            function: "local/hello".parse().expect("a key"),
            qualifier: Qualifier::Latest,
            instance: "i1".to_owned(),
        };
        let line = format!("2026-01-31T10:00:00Z stdout - {text}");
        Arc::new(Entry::of_line(
            &origin,
            sequence,
            &line,
            Timestamp::UNIX_EPOCH,
        ))
    }

    fn send(tails: &mut Tails, record: &Arc<Entry>) {
        tails.send(&record.key(), record);
    }

    #[tokio::test]
    async fn a_follower_gets_what_its_selection_admits_and_it_has_not_got_elsewhere() {
        let mut tails = Tails::default();
        let selection = Selection {
            contains: vec!["x".to_owned()],
            ..Selection::default()
        };
        let key = record(1, "").key();
        let mut tail = tails.follow(Some(key), selection);
        let mut other = tails.follow(
            Some("local/other".parse().expect("a key")),
            Selection::default(),
        );
        let mut all = tails.follow(None, Selection::default());
        tail.skip([&*record(1, "x")]);
        for (sequence, text) in [(1, "x1"), (2, "y2"), (3, "x3")] {
            send(&mut tails, &record(sequence, text));
        }
        assert_eq!(tail.next().await, Some(Followed::Record(record(3, "x3"))));
        assert_eq!(tail.try_next(), None);
        assert_eq!(all.try_next(), Some(Followed::Record(record(1, "x1"))));
        assert_eq!(other.try_next(), None);
        drop(tails);
        assert_eq!(tail.next().await, None);
    }

    #[test]
    fn a_slow_follower_loses_the_oldest_records_and_learns_how_many() {
        let mut tails = Tails::default();
        let mut tail = tails.follow(None, Selection::default());
        let text = "x".repeat(LAG_LIMIT / 4);
        for sequence in 1..=10 {
            send(&mut tails, &record(sequence, &text));
        }
        assert_eq!(tail.try_next(), Some(Followed::Missed(7)));
        assert_eq!(tail.try_next(), Some(Followed::Record(record(8, &text))));
    }

    #[test]
    fn followers_that_have_gone_are_forgotten() {
        let mut tails = Tails::default();
        let key = record(1, "").key();
        drop(tails.follow(Some(key.clone()), Selection::default()));
        drop(tails.follow(None, Selection::default()));
        send(&mut tails, &record(1, "x"));
        assert!(tails.of_all.is_empty() && tails.of_function.is_empty());
    }
}
