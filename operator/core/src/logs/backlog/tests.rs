//! One batch after the other, several at a time, and any order of calls.

use super::*;

const SIZE: usize = 100;

type Log = Backlog<&'static str, u32>;

fn filled(limit: usize, of: &[(&'static str, std::ops::Range<u32>)]) -> Log {
    let mut backlog = Backlog::new(limit);
    for (source, records) in of {
        records
            .clone()
            .for_each(|record| backlog.push(source, record, SIZE));
    }
    backlog
}

fn taken(backlog: &mut Log, records: usize, bytes: usize) -> Vec<u32> {
    let batch = backlog.take(records, bytes);
    batch.map_or(Vec::new(), |batch| batch.records)
}

fn kept(backlog: &Log, source: &'static str) -> Vec<u32> {
    backlog.of(&source).copied().collect()
}

#[test]
fn records_are_taken_in_order_and_stay_until_they_are_acknowledged() {
    let mut backlog = filled(10_000, &[("a", 1..6)]);
    assert_eq!(taken(&mut backlog, 2, 10_000), [1, 2]);
    assert_eq!(taken(&mut backlog, 10, 10_000), [3, 4, 5]);
    assert!(!backlog.has_untaken() && backlog.take(1, 1).is_none());
    backlog.acknowledge(|record| *record <= 3);
    assert_eq!((kept(&backlog, "a"), backlog.bytes()), (vec![4, 5], 200));
    backlog.return_taken();
    assert_eq!(taken(&mut backlog, 10, 10_000), [4, 5]);
    backlog.acknowledge(|_| true);
    assert!(backlog.is_empty() && backlog.bytes() == 0);
    assert!(backlog.take_dropped().is_empty());
}

#[test]
fn what_nobody_has_taken_cannot_be_acknowledged() {
    let mut backlog = filled(10_000, &[("a", 1..6)]);
    taken(&mut backlog, 2, 10_000);
    backlog.acknowledge(|_| true);
    assert_eq!(kept(&backlog, "a"), [3, 4, 5]);
}

#[test]
fn a_batch_is_bounded_in_bytes_but_has_one_record_at_least() {
    let mut backlog = filled(10_000, &[("a", 1..6)]);
    assert_eq!(taken(&mut backlog, 10, 250), [1, 2]);
    assert_eq!(taken(&mut backlog, 10, 1), [3]);
    assert_eq!(taken(&mut backlog, 10, 250), [4, 5]);
}

#[test]
fn sources_take_turns() {
    let turn = (TURN / SIZE + 1) as u32;
    let mut backlog = filled(usize::MAX, &[("loud", 0..3 * turn), ("quiet", 0..2)]);
    let batch = taken(&mut backlog, usize::MAX, TURN + 3 * SIZE);
    assert_eq!(batch[turn as usize..], [0, 1], "the quiet one is not last");
    let rest = taken(&mut backlog, usize::MAX, usize::MAX);
    assert_eq!(rest, Vec::from_iter(turn..3 * turn));
}

#[test]
fn the_source_that_holds_the_most_loses_its_oldest_records_and_they_are_counted() {
    let mut backlog = filled(6400, &[("quiet", 0..10), ("loud", 0..100)]);
    assert!(backlog.bytes() <= 6400);
    assert_eq!(kept(&backlog, "quiet").len(), 10);
    let loud = kept(&backlog, "loud");
    assert_eq!(loud.last(), Some(&99));
    let lost = 100 - loud.len() as u64;
    assert_eq!(backlog.take_dropped(), [("loud", lost)]);
    assert!(backlog.take_dropped().is_empty(), "each is counted once");
}

#[test]
fn two_sources_that_log_without_end_hold_about_the_same() {
    let mut backlog = Log::new(6400);
    for record in 0..1000 {
        backlog.push(&"a", record, SIZE);
        backlog.push(&"b", record, SIZE);
    }
    let [a, b] = ["a", "b"].map(|source| kept(&backlog, source).len());
    assert!(a.abs_diff(b) <= 2 && a + b >= 60, "{a} {b}");
}

#[test]
fn what_makes_room_while_it_is_on_its_way_is_lost_only_if_it_does_not_arrive() {
    for arrives in [true, false] {
        let mut backlog = filled(1000, &[("a", 0..10)]);
        assert_eq!(taken(&mut backlog, 4, 10_000).len(), 4);
        (10..12).for_each(|record| backlog.push(&"a", record, SIZE));
        assert_eq!(kept(&backlog, "a"), Vec::from_iter(2..12));
        assert!(backlog.take_dropped().is_empty());
        match arrives {
            true => backlog.acknowledge(|record| *record < 4),
            false => backlog.return_taken(),
        }
        let dropped = backlog.take_dropped();
        let expected: &[_] = if arrives { &[] } else { &[("a", 2)] };
        assert_eq!(dropped, expected);
        let next = if arrives { 4 } else { 2 };
        assert_eq!(taken(&mut backlog, 1, 1), [next]);
    }
}

#[test]
fn each_of_several_batches_ends_on_its_own() {
    let mut backlog = filled(10_000, &[("a", 0..8)]);
    let [first, second, third] = [2, 2, 2].map(|n| backlog.take(n, 10_000).expect("a batch"));
    assert_eq!(
        [&first, &second, &third].map(|batch| &*batch.records),
        [[0, 1], [2, 3], [4, 5]]
    );
    backlog.stored(second.id);
    assert_eq!(kept(&backlog, "a"), [0, 1, 4, 5, 6, 7]);
    assert_eq!((backlog.bytes(), backlog.untaken_bytes()), (600, 200));
    // The newer one first: the order stays.
    backlog.returned(third.id);
    backlog.returned(first.id);
    assert_eq!(kept(&backlog, "a"), [0, 1, 4, 5, 6, 7]);
    assert_eq!((backlog.bytes(), backlog.untaken_bytes()), (600, 600));
    // A batch that has ended cannot end again.
    backlog.stored(third.id);
    backlog.returned(first.id);
    let again = backlog.take(3, 10_000).expect("a batch");
    assert_eq!(again.records, [0, 1, 4]);
    backlog.stored(again.id);
    assert_eq!(taken(&mut backlog, 10, 10_000), [5, 6, 7]);
    assert!(backlog.take(1, 1).is_none());
}

#[test]
fn what_was_returned_makes_room_before_what_is_newer_and_on_its_way() {
    let mut backlog = filled(1000, &[("a", 0..10)]);
    let [older, newer] = [4, 4].map(|n| backlog.take(n, 10_000).expect("a batch"));
    backlog.returned(older.id);
    (10..12).for_each(|record| backlog.push(&"a", record, SIZE));
    assert_eq!(kept(&backlog, "a"), Vec::from_iter(2..12));
    assert_eq!(backlog.take_dropped(), [("a", 2)], "they are lost");
    assert_eq!(taken(&mut backlog, 2, 10_000), [2, 3]);
    (12..15).for_each(|record| backlog.push(&"a", record, SIZE));
    assert_eq!(kept(&backlog, "a"), Vec::from_iter(6..15));
    assert!(backlog.take_dropped().is_empty(), "they may arrive");
    backlog.returned(newer.id);
    assert_eq!(backlog.take_dropped(), [("a", 2)], "4 and 5");
}

#[test]
fn what_nobody_wants_any_more_is_not_sent_again_and_not_counted() {
    let mut backlog = filled(10_000, &[("a", 0..4), ("b", 10..12)]);
    let batch = backlog.take(2, 10_000).expect("a batch");
    backlog.forget(&"a");
    assert_eq!((backlog.bytes(), backlog.untaken_bytes()), (200, 200));
    backlog.returned(batch.id);
    assert_eq!(taken(&mut backlog, 10, 10_000), [10, 11]);
    assert!(backlog.take_dropped().is_empty());
}

#[test]
fn an_acknowledgement_ends_at_the_first_record_that_has_not_arrived() {
    let mut backlog = filled(10_000, &[("a", 0..6)]);
    for _ in 0..3 {
        backlog.take(2, 10_000);
    }
    backlog.acknowledge(|record| *record != 2);
    assert_eq!(kept(&backlog, "a"), [2, 3, 4, 5]);
    backlog.acknowledge(|record| *record <= 4);
    assert_eq!((kept(&backlog, "a"), backlog.bytes()), (vec![5], 100));
}

#[test]
fn a_record_larger_than_the_bound_makes_room_by_itself() {
    let mut backlog = Log::new(1000);
    backlog.push(&"a", 1, 5000);
    assert_eq!((backlog.bytes(), backlog.has_untaken()), (0, false));
    assert_eq!(backlog.take_dropped(), [("a", 1)]);
    backlog.push(&"a", 2, SIZE);
    assert_eq!(taken(&mut backlog, 1, 1), [2]);
}

const SOURCES: [&str; 3] = ["a", "b", "c"];

/// What a record's way says of it; the backlog is asked for the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Open,
    Arrived,
    Forgotten,
}

/// A backlog, and what must be true of it.
struct Model {
    backlog: Log,
    random: fastrand::Rng,
    /// The source and the ending of each record, by its number.
    records: Vec<(&'static str, usize, Ending)>,
    open: Vec<LogBatch<u32>>,
    lost: u64,
}

impl Model {
    fn new(seed: u64) -> Self {
        Model {
            backlog: Log::new(3000),
            random: fastrand::Rng::with_seed(seed),
            records: Vec::new(),
            open: Vec::new(),
            lost: 0,
        }
    }

    fn push(&mut self) {
        let source = SOURCES[self.random.usize(..3)];
        // Now and then one that is larger than the bound.
        let size = match self.random.u8(..60) {
            0 => 3500,
            _ => self.random.usize(50..250),
        };
        let number = self.records.len() as u32;
        self.records.push((source, size, Ending::Open));
        self.backlog.push(&source, number, size);
    }

    fn take(&mut self) {
        let had = self.backlog.has_untaken();
        let bytes = self.random.usize(1..600);
        let batch = self.backlog.take(self.random.usize(1..6), bytes);
        assert_eq!(batch.is_some(), had, "a batch has one record at least");
        let Some(batch) = batch else { return };
        let sizes = batch.records.iter().map(|one| self.of(*one).1);
        assert!(batch.records.len() == 1 || sizes.sum::<usize>() <= bytes);
        for (at, record) in batch.records.iter().enumerate() {
            let (source, _, ending) = self.of(*record);
            assert_eq!(ending, Ending::Open, "what has ended is not sent again");
            let is_open = |other: &LogBatch<u32>| other.records.contains(record);
            assert!(!self.open.iter().any(is_open), "it is on its way");
            let before = &batch.records[..at];
            let same = before.iter().filter(|one| self.of(**one).0 == source);
            assert!(same.clone().all(|one| one < record), "in their order");
            // Nothing older of its source waits.
            let waits = |other: &&u32| **other < *record && !self.is_on_its_way(**other);
            let older = self.backlog.of(&source).filter(waits);
            assert!(older.into_iter().all(|one| before.contains(one)));
        }
        self.open.push(batch);
    }

    fn of(&self, record: u32) -> (&'static str, usize, Ending) {
        self.records[record as usize]
    }

    fn is_on_its_way(&self, record: u32) -> bool {
        self.open
            .iter()
            .any(|batch| batch.records.contains(&record))
    }

    /// Records that were forgotten while they were on their way stay so.
    fn end(&mut self, record: u32, ending: Ending) -> bool {
        let known = &mut self.records[record as usize].2;
        let is_open = *known == Ending::Open;
        if is_open {
            *known = ending;
        }
        is_open
    }

    fn end_one(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let batch = self.open.swap_remove(self.random.usize(..self.open.len()));
        match self.random.u8(..3) {
            0 | 1 => {
                self.backlog.stored(batch.id);
                for record in batch.records {
                    self.end(record, Ending::Arrived);
                }
            }
            _ => self.backlog.returned(batch.id),
        }
    }

    fn forget(&mut self) {
        let source = SOURCES[self.random.usize(..3)];
        // What it lost before is counted by its own.
        let before = count(self.backlog.take_dropped());
        self.lost += before;
        let forgotten: Vec<u32> = self.backlog.of(&source).copied().collect();
        // Those that had to make room on their way count for nobody.
        let open = self.open.iter().flat_map(|batch| &batch.records).copied();
        let open: Vec<u32> = open.filter(|one| self.of(*one).0 == source).collect();
        self.backlog.forget(&source);
        for record in forgotten.into_iter().chain(open) {
            self.end(record, Ending::Forgotten);
        }
        assert!(kept(&self.backlog, source).is_empty());
    }

    fn check(&mut self) {
        let mut bytes = 0;
        for source in SOURCES {
            let kept = kept(&self.backlog, source);
            assert!(kept.is_sorted(), "the oldest first: {kept:?}");
            // No open record is older, whether it is here or has made room on its way.
            let on_their_way = self.open.iter().flat_map(|batch| &batch.records);
            let open = on_their_way.filter(|one| {
                let (of, _, ending) = self.of(**one);
                of == source && ending == Ending::Open
            });
            let oldest = open.chain(&kept).min().copied();
            assert_eq!(self.backlog.oldest(&source), oldest.map(u64::from));
            for record in kept {
                let (of, size, ending) = self.of(record);
                assert_eq!((of, ending), (source, Ending::Open));
                bytes += size;
            }
        }
        assert_eq!(self.backlog.bytes(), bytes);
        assert!(bytes <= 3000);
        assert_eq!(self.backlog.has_untaken(), self.backlog.untaken_bytes() > 0);
    }

    /// Each record has one fate, and the counts say so.
    fn finish(mut self) {
        for batch in std::mem::take(&mut self.open) {
            self.backlog.returned(batch.id);
        }
        self.lost += count(self.backlog.take_dropped());
        let ended = |wanted| {
            let all = self.records.iter();
            all.filter(|(_, _, ending)| *ending == wanted).count() as u64
        };
        let open = ended(Ending::Open);
        assert_eq!(open, self.lost + total(&self.backlog));
        let rest = total(&self.backlog) as usize;
        let all = self.backlog.take(usize::MAX, usize::MAX);
        let all = all.map_or(0, |batch| batch.records.len());
        assert_eq!(all, rest);
        assert!(!self.backlog.has_untaken() && self.backlog.untaken_bytes() == 0);
    }
}

/// Any order of calls, with several batches on their way: no record is stored unless its batch was, none is sent again after
/// its end, and each is kept, or has ended in one way that is counted once.
#[test]
fn each_record_has_one_fate_in_whatever_order_things_happen() {
    for seed in 0..400 {
        let mut model = Model::new(seed);
        for _ in 0..400 {
            match model.random.u8(..20) {
                0..=9 => model.push(),
                10..=13 => model.take(),
                14..=17 => model.end_one(),
                18 => model.lost += count(model.backlog.take_dropped()),
                _ if model.random.u8(..4) == 0 => model.forget(),
                _ => {}
            }
            model.check();
        }
        model.finish();
    }
}

/// The same for one who acknowledges in the order in which records were taken, as a supervisor does.
#[test]
fn what_is_acknowledged_in_order_is_kept_arrived_or_counted() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut backlog = Log::new(3000);
        let (mut pushed, mut sent, mut arrived, mut lost) = (0, None, None, 0);
        for _ in 0..300 {
            match random.u8(..8) {
                0..=3 => {
                    backlog.push(&"a", pushed, random.usize(50..250));
                    pushed += 1;
                }
                4 | 5 => {
                    if let Some(last) = taken(&mut backlog, random.usize(1..6), 400).last() {
                        sent = sent.max(Some(*last));
                    }
                }
                6 => {
                    if let Some(sent) = sent {
                        let upto = random.u32(..=sent);
                        backlog.acknowledge(|record| *record <= upto);
                        arrived = arrived.max(Some(upto));
                    }
                }
                _ => backlog.return_taken(),
            }
            lost += count(backlog.take_dropped());
            let kept = kept(&backlog, "a");
            assert!(backlog.bytes() <= 3000 && kept.is_sorted());
        }
        backlog.return_taken();
        lost += count(backlog.take_dropped());
        let kept = kept(&backlog, "a");
        // Each record is here, has arrived, or is counted. One that made room on its way and was acknowledged with a later
        // one has arrived.
        let open = pushed - arrived.map_or(0, |last| last + 1);
        let newer = kept
            .iter()
            .filter(|one| arrived.is_none_or(|last| **one > last));
        assert!(u64::from(open) <= newer.count() as u64 + lost);
    }
}

fn total(backlog: &Log) -> u64 {
    let sources = backlog.sources();
    sources
        .map(|source| backlog.of(source).count() as u64)
        .sum()
}

fn count(of: Vec<(&'static str, u64)>) -> u64 {
    of.iter().map(|(_, count)| count).sum()
}
