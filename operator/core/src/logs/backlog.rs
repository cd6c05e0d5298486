//! Log records that wait until the next part has them for good, within a bound of bytes.
//!
//! A supervisor keeps what no gateway has acknowledged, with one source: itself. A gateway keeps what its store does not
//! have, with a source for each function. Several batches may be on their way at a time, and each of them ends on its own:
//! it is stored or returned. When the bound is reached, the source that holds the most loses its oldest records,
//! so one that logs without end takes nothing from a quiet one. Knows no record's text, and never sends one.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// What one source may put into a batch before the next source has its turn, in bytes.
const TURN: usize = 64 * 1024;
/// Once the bound is reached, this part of it is freed at once. So records are dropped in blocks, and each count of them
/// stands for a block.
const FREED_PART: usize = 64;

/// See the module. `K` names a source, and `T` is a record, cheap to clone.
#[derive(Debug)]
pub struct Backlog<K, T> {
    limit: usize,
    bytes: usize,
    /// The bytes of the records that nobody has taken.
    untaken: usize,
    queues: HashMap<K, Queue<T>>,
    /// The sources with records that nobody has taken, each once, in the order of their turns.
    turns: VecDeque<K>,
    dropped: HashMap<K, u64>,
    /// The place of the next record, and the number of the next batch.
    next: (u64, u64),
}

/// The name of a batch, which no other batch of this backlog has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogBatchId(u64);

/// Records that were taken together.
#[derive(Clone, Debug)]
pub struct LogBatch<T> {
    pub id: LogBatchId,
    pub records: Vec<T>,
}

#[derive(Debug)]
struct Queue<T> {
    /// What nobody has taken, the oldest first.
    waiting: VecDeque<Kept<T>>,
    /// What is on its way, a part for each batch, in the order in which the batches were taken.
    parts: VecDeque<Part<T>>,
    bytes: usize,
}

#[derive(Debug)]
struct Kept<T> {
    /// Older records have lower places.
    place: u64,
    record: T,
    size: usize,
}

/// The records of one source in a batch.
#[derive(Debug)]
struct Part<T> {
    batch: LogBatchId,
    /// The oldest first.
    records: VecDeque<Kept<T>>,
    /// How many of its records had to make room. They are lost only if they do not arrive.
    gone: u64,
    /// The places of its oldest and its newest record when it was taken.
    places: (u64, u64),
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Queue {
            waiting: VecDeque::new(),
            parts: VecDeque::new(),
            bytes: 0,
        }
    }
}

/// What has made room.
enum Freed {
    Waiting(usize),
    OnItsWay(usize),
}

impl<T> Queue<T> {
    /// Removes the oldest record, wherever it is.
    fn free_oldest(&mut self) -> Option<Freed> {
        let place = |kept: Option<&Kept<T>>| kept.map_or(u64::MAX, |kept| kept.place);
        let oldest = self
            .parts
            .iter_mut()
            .min_by_key(|part| place(part.records.front()));
        let freed = match oldest {
            Some(part) if place(part.records.front()) < place(self.waiting.front()) => {
                let kept = part.records.pop_front()?;
                part.gone += 1;
                Freed::OnItsWay(kept.size)
            }
            _ => Freed::Waiting(self.waiting.pop_front()?.size),
        };
        let (Freed::Waiting(size) | Freed::OnItsWay(size)) = freed;
        self.bytes -= size;
        Some(freed)
    }

    /// Puts records that were on their way back among those that wait, in the order of their places.
    fn put_back(&mut self, records: VecDeque<Kept<T>>) {
        let Some(last) = records.back().map(|kept| kept.place) else {
            return;
        };
        // Another batch may have been returned before, with records that are older or newer.
        let older = self.waiting.partition_point(|kept| kept.place < last);
        let mut first: Vec<Kept<T>> = self.waiting.drain(..older).chain(records).collect();
        first.sort_unstable_by_key(|kept| kept.place);
        for kept in first.into_iter().rev() {
            self.waiting.push_front(kept);
        }
    }

    fn take_part(&mut self, batch: LogBatchId) -> Option<Part<T>> {
        let at = self.parts.iter().position(|part| part.batch == batch)?;
        self.parts.remove(at)
    }

    fn has_records(&self) -> bool {
        !self.waiting.is_empty() || self.parts.iter().any(|part| !part.records.is_empty())
    }

    fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.parts.is_empty()
    }
}

fn bytes_of<T>(records: &VecDeque<Kept<T>>) -> usize {
    records.iter().map(|kept| kept.size).sum()
}

impl<K: Clone + Eq + Hash, T: Clone> Backlog<K, T> {
    /// `limit`: the bytes that all records may have together.
    pub fn new(limit: usize) -> Self {
        Backlog {
            limit,
            bytes: 0,
            untaken: 0,
            queues: HashMap::new(),
            turns: VecDeque::new(),
            dropped: HashMap::new(),
            next: (0, 0),
        }
    }

    /// Adds the newest record of a source. `size`: what it takes of the bound, in bytes.
    pub fn push(&mut self, source: &K, record: T, size: usize) {
        if !self.queues.contains_key(source) {
            self.queues.insert(source.clone(), Queue::default());
        }
        let queue = self.queues.get_mut(source).expect("it is there");
        if queue.waiting.is_empty() {
            self.turns.push_back(source.clone());
        }
        let place = self.next.0;
        self.next.0 += 1;
        queue.waiting.push_back(Kept {
            place,
            record,
            size,
        });
        queue.bytes += size;
        self.bytes += size;
        self.untaken += size;
        if self.bytes > self.limit {
            self.free(self.limit - self.limit / FREED_PART);
        }
    }

    /// Drops records until there are at most so many bytes.
    fn free(&mut self, wanted: usize) {
        while self.bytes > wanted {
            let sizes = self
                .queues
                .iter()
                .map(|(source, queue)| (queue.bytes, source));
            let Some((bytes, source)) = sizes.max_by_key(|(bytes, _)| *bytes) else {
                return;
            };
            let source = source.clone();
            // Not more than half: then another source may hold the most.
            let least = bytes / 2;
            let queue = self.queues.get_mut(&source).expect("it was found");
            let mut lost = 0;
            while self.bytes > wanted
                && queue.bytes > least
                && let Some(freed) = queue.free_oldest()
            {
                match freed {
                    Freed::OnItsWay(size) => self.bytes -= size,
                    Freed::Waiting(size) => {
                        self.bytes -= size;
                        self.untaken -= size;
                        lost += 1;
                    }
                }
            }
            if queue.waiting.is_empty() {
                self.turns.retain(|other| *other != source);
            }
            if queue.is_done() {
                self.queues.remove(&source);
            }
            if lost > 0 {
                *self.dropped.entry(source).or_default() += lost;
            }
        }
    }

    /// The next records, of all sources in turn, and those of each source in their order. They stay here until their batch
    /// is stored or returned, or they are acknowledged. A batch has one record at least, whatever its size.
    /// `None`: nobody waits to be taken.
    pub fn take(&mut self, records: usize, bytes: usize) -> Option<LogBatch<T>> {
        let id = LogBatchId(self.next.1);
        let mut batch = Vec::new();
        let mut taken_bytes = 0;
        while batch.len() < records
            && taken_bytes < bytes
            && let Some(source) = self.turns.pop_front()
        {
            let queue = self.queues.get_mut(&source).expect("it has a turn");
            if queue.parts.back().is_none_or(|part| part.batch != id) {
                queue.parts.push_back(Part {
                    batch: id,
                    records: VecDeque::new(),
                    gone: 0,
                    places: (u64::MAX, 0),
                });
            }
            let part = queue.parts.back_mut().expect("it was added");
            let mut of_turn = 0;
            while batch.len() < records
                && of_turn < TURN
                && let Some(kept) = queue
                    .waiting
                    .pop_front_if(|kept| taken_bytes == 0 || taken_bytes + kept.size <= bytes)
            {
                batch.push(kept.record.clone());
                taken_bytes += kept.size;
                of_turn += kept.size;
                self.untaken -= kept.size;
                part.places = (part.places.0.min(kept.place), kept.place);
                part.records.push_back(kept);
            }
            let is_full = of_turn == 0;
            if part.records.is_empty() {
                queue.parts.pop_back();
            }
            if !queue.waiting.is_empty() {
                match is_full {
                    true => self.turns.push_front(source),
                    false => self.turns.push_back(source),
                }
            }
            if is_full {
                break;
            }
        }
        if batch.is_empty() {
            return None;
        }
        self.next.1 += 1;
        Some(LogBatch { id, records: batch })
    }

    /// The batch has ended, because its records have arrived or nobody will ever take them: removes them.
    /// Returns the place of the newest record of each source in it.
    pub fn stored(&mut self, batch: LogBatchId) -> Vec<(K, u64)> {
        let bytes = &mut self.bytes;
        let mut newest = Vec::new();
        self.queues.retain(|source, queue| {
            if let Some(part) = queue.take_part(batch) {
                newest.push((source.clone(), part.places.1));
                let size = bytes_of(&part.records);
                queue.bytes -= size;
                *bytes -= size;
            }
            !queue.is_done()
        });
        newest
    }

    /// The place of the oldest record of a source that has not ended: it waits or is on its way. Records with a lower place
    /// need not be sent again. `None`: all have ended.
    pub fn oldest(&self, source: &K) -> Option<u64> {
        let queue = self.queues.get(source)?;
        let waiting = queue.waiting.front().map(|kept| kept.place);
        // What has made room on its way counts: it may not arrive.
        let parts = queue.parts.iter().map(|part| part.places.0);
        parts.chain(waiting).min()
    }

    /// The batch has not arrived: its records are taken again, before newer ones of their sources.
    pub fn returned(&mut self, batch: LogBatchId) {
        self.put_back(|queue| queue.take_part(batch).into_iter().collect());
    }

    /// Removes all records of a source, because nobody wants them any more. They do not count as dropped. What is on its way
    /// may arrive nevertheless.
    pub fn forget(&mut self, source: &K) {
        if let Some(queue) = self.queues.remove(source) {
            self.bytes -= queue.bytes;
            self.untaken -= bytes_of(&queue.waiting);
            self.turns.retain(|other| other != source);
        }
    }

    /// Removes the records that have arrived: of each source the first ones that are on their way, as far as `has_arrived`
    /// says so. This is for one who acknowledges in the order in which records were taken, and not by batches.
    pub fn acknowledge(&mut self, has_arrived: impl Fn(&T) -> bool) {
        let bytes = &mut self.bytes;
        self.queues.retain(|_, queue| {
            let mut size = 0;
            // The parts before this one have made room as a whole.
            let mut at = 0;
            while let Some(part) = queue.parts.get_mut(at) {
                let before = part.records.len();
                while let Some(kept) = part.records.pop_front_if(|kept| has_arrived(&kept.record)) {
                    size += kept.size;
                }
                let is_left = !part.records.is_empty();
                if part.records.len() < before {
                    // Older ones have arrived before it.
                    part.gone = 0;
                    queue.parts.drain(..at);
                    at = 0;
                }
                if is_left {
                    break;
                }
                match queue.parts[at].gone {
                    0 => drop(queue.parts.remove(at)),
                    _ => at += 1,
                }
            }
            queue.bytes -= size;
            *bytes -= size;
            if !queue.has_records() {
                queue.parts.clear();
            }
            !queue.is_done()
        });
    }

    /// Nothing that is on its way arrives: it is taken again, before everything else.
    pub fn return_taken(&mut self) {
        self.put_back(|queue| std::mem::take(&mut queue.parts));
    }

    fn put_back(&mut self, parts: impl Fn(&mut Queue<T>) -> VecDeque<Part<T>>) {
        for (source, queue) in &mut self.queues {
            let had_turn = !queue.waiting.is_empty();
            for part in parts(queue).into_iter().rev() {
                if part.gone > 0 {
                    *self.dropped.entry(source.clone()).or_default() += part.gone;
                }
                self.untaken += bytes_of(&part.records);
                queue.put_back(part.records);
            }
            if !had_turn && !queue.waiting.is_empty() {
                self.turns.push_front(source.clone());
            }
        }
        self.queues.retain(|_, queue| !queue.is_done());
    }

    /// How many records each source has lost to the bound since the last call.
    pub fn take_dropped(&mut self) -> Vec<(K, u64)> {
        self.dropped.drain().collect()
    }

    /// All records of a source, the oldest first.
    pub fn of(&self, source: &K) -> impl Iterator<Item = &T> {
        let queue = self.queues.get(source);
        let mut all: Vec<&Kept<T>> = queue
            .into_iter()
            .flat_map(|queue| {
                let taken = queue.parts.iter().flat_map(|part| &part.records);
                taken.chain(&queue.waiting)
            })
            .collect();
        all.sort_by_key(|kept| kept.place);
        all.into_iter().map(|kept| &kept.record)
    }

    /// The sources that have records here.
    pub fn sources(&self) -> impl Iterator<Item = &K> {
        self.queues.keys()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The bytes of the records that nobody has taken.
    pub fn untaken_bytes(&self) -> usize {
        self.untaken
    }

    /// Whether there are records that nobody has taken.
    pub fn has_untaken(&self) -> bool {
        !self.turns.is_empty()
    }

    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }
}

#[cfg(test)]
mod tests;
