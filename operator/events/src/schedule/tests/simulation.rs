//! Gateways that send the events of one schedule while they crash, lose answers, change and disagree about who owns it.
//!
//! Each seed is a world with a queue, stored records, and gateways with clocks of their own, in virtual time. At its end each
//! time of the schedule has at most one event, and exactly one unless it was counted as missed. Worlds that break a rule have
//! to be noticed.

use std::collections::BTreeMap;
use std::time::Duration;

use pilotlight_core::events::retry::EventTime;

use crate::queue::DUPLICATE_WINDOW;
use crate::schedule::firing::{ScheduleRecord, ScheduleSender, ScheduleStep, event_id};
use crate::schedule::{Expression, SchedulePlan, Zone};

const SEEDS: u64 = 300;
const STEPS: usize = 250;
/// How long the healthy end of each world lasts.
const CALM: Duration = Duration::from_secs(3 * 3600);
/// A gateway that has read the record so long ago reads it again before it sends.
const STALE: Duration = Duration::from_secs(30);

/// What a world does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    Nothing,
    /// Each attempt to send has an id of its own.
    NewIds,
    /// The queue drops no duplicates.
    Duplicates,
    /// The record is stored only after the event was sent.
    RecordsAfterwards,
    /// An event whose fate is unknown is sent again however late.
    ResendsForever,
    /// A gateway trusts the record that it has read at its start.
    StaleRecords,
    /// What a crashed gateway was sending is given up in silence.
    Forgets,
}

/// Numbers that look random (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

struct Gateway {
    name: String,
    /// What its clock shows more than the others, in milliseconds.
    ahead: i64,
    owns: bool,
    /// The record as it was read or stored last, and when.
    record: Option<(Option<ScheduleRecord>, EventTime)>,
    tried: Option<EventTime>,
    /// What is under way: the next step is carried out.
    wake: Option<EventTime>,
}

struct World {
    random: Random,
    broken: Broken,
    plan: SchedulePlan,
    now: EventTime,
    /// What all clocks of gateways show more than the queue's, in milliseconds.
    ahead: i64,
    gateways: Vec<Gateway>,
    stored: Option<ScheduleRecord>,
    /// When each id was accepted last: the queue drops a duplicate within its window.
    known: BTreeMap<String, EventTime>,
    /// How many events each time has.
    events: BTreeMap<EventTime, usize>,
    is_queue_up: bool,
    crashes: usize,
    ids: u64,
}

const PLANS: [(&str, &str, &str, u64); 5] = [
    ("rate(1 minute)", "UTC", "2027-03-28T00:00:00Z", 0),
    ("*/5 * * * *", "Europe/Zurich", "2027-03-27T23:00:00Z", 120),
    ("30 2 * * *", "Europe/Zurich", "2027-03-27T20:00:00Z", 0),
    (
        "cron(0/20 * * * ? *)",
        "Europe/Zurich",
        "2027-10-30T22:00:00Z",
        600,
    ),
    ("rate(1 hour)", "Asia/Kolkata", "2027-10-31T00:00:00Z", 1800),
];

impl World {
    fn new(seed: u64, broken: Broken) -> Self {
        let mut random = Random(seed);
        let (expression, zone, start, jitter) = PLANS[random.below(PLANS.len() as u64) as usize];
        let start: jiff_of_croner::Timestamp = start.parse().expect("a time");
        let start = EventTime(start.as_millisecond() as u64);
        let ages = [60, 600, 3_600, 21_600];
        let plan = SchedulePlan {
            id: format!("schedule-{seed}"),
            expression: expression.parse::<Expression>().expect("an expression"),
            zone: Zone::parse(zone).expect("a zone"),
            start,
            end: None,
            jitter: Duration::from_secs(jitter),
            max_age: Duration::from_secs(ages[random.below(4) as usize]),
        };
        let gateways = (0..3).map(|n| Gateway {
            name: format!("g{n}-0"),
            ahead: random.below(20_000) as i64 - 10_000,
            owns: n == 0,
            record: None,
            tried: None,
            wake: None,
        });
        World {
            gateways: gateways.collect(),
            random,
            broken,
            plan,
            now: start,
            ahead: 0,
            stored: None,
            known: BTreeMap::new(),
            events: BTreeMap::new(),
            is_queue_up: true,
            crashes: 0,
            ids: 0,
        }
    }

    fn run(mut self) -> Result<(), String> {
        for _ in 0..STEPS {
            self.happen();
        }
        self.is_queue_up = true;
        for (n, gateway) in self.gateways.iter_mut().enumerate() {
            (gateway.owns, gateway.record, gateway.wake) = (n == 1, None, None);
            gateway.ahead = 0;
        }
        self.ahead = 0;
        let calm = (self.now, self.stored.clone().unwrap_or_default().last);
        let end = self.now.after(CALM);
        while self.now < end {
            self.work(1, true);
            self.pass(20_000);
        }
        // A step that begins with the last seconds.
        for _ in 0..8 {
            self.work(1, true);
        }
        self.check(calm)
    }

    fn happen(&mut self) {
        match self.random.below(24) {
            0 => self.is_queue_up = !self.is_queue_up,
            1 => {
                let n = self.random.below(3) as usize;
                self.crash(n);
            }
            // For a while two own it, or nobody.
            2 => {
                let n = self.random.below(3) as usize;
                let owns = &mut self.gateways[n].owns;
                *owns = !*owns;
                let gains = *owns;
                if gains && self.broken != Broken::StaleRecords {
                    (self.gateways[n].record, self.gateways[n].wake) = (None, None);
                }
            }
            3 => {
                let n = self.random.below(3) as usize;
                self.gateways[n].ahead = self.random.below(20_000) as i64 - 10_000;
                let is_sending = self.stored.as_ref();
                let is_sending = is_sending.is_some_and(|one| one.sending.is_some());
                // A source of time is wrong by hours, and is set right again. That the clocks go back while an event is being
                // sent is excluded.
                let ahead = self.random.below(3 * 3_600_000) as i64 * self.random.below(2) as i64;
                if self.random.one_in(4) && (ahead > self.ahead || !is_sending) {
                    self.ahead = ahead;
                }
            }
            4 => {
                let hours = self.random.below(8 * 3_600_000);
                self.pass(hours);
            }
            5..=8 => {
                let millis = self.random.below(400_000);
                self.pass(millis);
            }
            9..=11 => {
                let millis = self.random.below(40_000);
                self.pass(millis);
            }
            _ => {
                let n = self.random.below(3) as usize;
                self.work(n, false);
            }
        }
    }

    fn pass(&mut self, millis: u64) {
        self.now = self.now.after(Duration::from_millis(millis));
    }

    fn crash(&mut self, n: usize) {
        self.crashes += 1;
        let gateway = &mut self.gateways[n];
        gateway.name = format!("g{n}-{}", self.crashes);
        (gateway.record, gateway.tried, gateway.wake) = (None, None, None);
    }

    /// Whether an operation of the queue happens, and whether its answer arrives.
    fn fate(&mut self, is_calm: bool) -> (bool, bool) {
        if is_calm {
            return (true, true);
        }
        if !self.is_queue_up {
            return (false, false);
        }
        let happens = !self.random.one_in(12);
        (happens, happens && !self.random.one_in(12))
    }

    /// One operation of one gateway.
    fn work(&mut self, n: usize, is_calm: bool) {
        let ahead = self.ahead + self.gateways[n].ahead;
        let now = EventTime(self.now.0.saturating_add_signed(ahead));
        if !self.gateways[n].owns || self.gateways[n].wake.is_some_and(|wake| now < wake) {
            return;
        }
        let read = self.gateways[n].record.clone();
        let is_fresh = read
            .as_ref()
            .is_some_and(|(_, at)| self.now.since(*at) < STALE);
        let Some((record, _)) = read.filter(|_| is_fresh || self.broken == Broken::StaleRecords)
        else {
            let (happens, arrives) = self.fate(is_calm);
            let record = (happens && arrives).then(|| (self.stored.clone(), self.now));
            (self.gateways[n].record, self.gateways[n].wake) = (record, None);
            return;
        };
        let (name, tried) = (self.gateways[n].name.clone(), self.gateways[n].tried);
        let sender = ScheduleSender { name: &name, tried };
        let mut step = self.plan.next_step(record.as_ref(), true, sender, now);
        if let (Some(record), Some(sending)) =
            (&record, record.as_ref().and_then(|r| r.sending.clone()))
        {
            match self.broken {
                Broken::ResendsForever => step = ScheduleStep::Send(sending),
                Broken::Forgets if sending.by != name => {
                    step = ScheduleStep::Store(ScheduleRecord {
                        sending: None,
                        ..record.clone()
                    });
                }
                _ => {}
            }
        }
        match step {
            ScheduleStep::Wait(wake) => {
                self.gateways[n].record = None;
                self.gateways[n].wake = wake;
            }
            ScheduleStep::Store(record)
                if self.broken == Broken::RecordsAfterwards && record.sending.is_some() =>
            {
                // Only in memory.
                self.gateways[n].record = Some((Some(record), self.now));
            }
            ScheduleStep::Store(record) => self.store(n, record, is_calm),
            ScheduleStep::Send(sending) => {
                self.gateways[n].tried = Some(sending.time);
                let (happens, arrives) = self.fate(is_calm);
                if happens {
                    self.accept(sending.time);
                }
                let record = record.expect("it is being sent");
                if arrives {
                    self.store(n, record.sent(), is_calm);
                } else {
                    self.gateways[n].record = None;
                }
            }
        }
    }

    fn store(&mut self, n: usize, record: ScheduleRecord, is_calm: bool) {
        if !is_calm && self.random.one_in(20) {
            return self.crash(n);
        }
        let (happens, arrives) = self.fate(is_calm);
        if happens {
            self.stored = Some(record.clone());
        }
        let known = arrives.then_some((Some(record), self.now));
        self.gateways[n].record = known;
        if !is_calm && self.random.one_in(20) {
            self.crash(n);
        }
    }

    fn accept(&mut self, time: EventTime) {
        self.ids += 1;
        let mut id = event_id(&self.plan.id, time);
        if self.broken == Broken::NewIds {
            id = format!("{id}-{}", self.ids);
        }
        let before = self.known.insert(id, self.now);
        let is_duplicate = before.is_some_and(|at| self.now.since(at) < DUPLICATE_WINDOW);
        if !is_duplicate || self.broken == Broken::Duplicates {
            *self.events.entry(time).or_default() += 1;
        }
    }

    /// `begin`: when the calm began, and the last time that had been sent or missed by then.
    fn check(&self, (begin, before): (EventTime, Option<EventTime>)) -> Result<(), String> {
        for (time, count) in &self.events {
            if *count > 1 {
                return Err(format!("{count} events of {}", time.0));
            }
        }
        let record = self.stored.clone().unwrap_or_default();
        if record.sending.is_some() {
            return Err("something is being sent although all is calm".to_owned());
        }
        // Nobody counts times that were too old when the schedule was first seen.
        let seen = record.seen.unwrap_or(self.now);
        let counted = self.plan.max_age + self.plan.jitter;
        let first = EventTime(seen.0.saturating_sub(counted.as_millis() as u64));
        let (mut due, mut last) = (0, None);
        while let Some(next) = self.plan.after(last).filter(|next| next.at <= self.now) {
            due += u64::from(next.time > first);
            last = Some(next.time);
            // Clocks that were ahead may have had the times of the next hours.
            let is_due_in_calm = next.at > begin && before.is_none_or(|last| next.time > last);
            if is_due_in_calm && !self.events.contains_key(&next.time) {
                return Err(format!("{} was not sent although all is calm", next.time.0));
            }
        }
        // Times that a clock ahead of the others has had already.
        let ahead = self
            .events
            .keys()
            .filter(|time| last.is_none_or(|last| **time > last));
        let sent = (self.events.len() - ahead.count()) as u64;
        if sent + record.missed < due {
            return Err(format!(
                "{due} times, {sent} sent and {} missed",
                record.missed
            ));
        }
        Ok(())
    }
}

/// The first seed whose world fails.
fn failure(broken: Broken) -> Option<(u64, String)> {
    let run = |seed| Some((seed, World::new(seed, broken).run().err()?));
    (0..SEEDS).find_map(run)
}

#[test]
fn each_time_has_one_event_through_crashes_lost_answers_and_changes_of_owner() {
    assert_eq!(failure(Broken::Nothing), None);
}

#[test]
fn a_world_that_breaks_a_rule_is_noticed() {
    for broken in [
        Broken::NewIds,
        Broken::Duplicates,
        Broken::RecordsAfterwards,
        Broken::ResendsForever,
        Broken::StaleRecords,
        Broken::Forgets,
    ] {
        assert!(failure(broken).is_some(), "{broken:?}");
    }
}
