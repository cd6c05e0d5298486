//! What must hold for each event, whatever happens. Fed by the world; knows no rule of `core`.

use std::collections::BTreeMap;
use std::time::Duration;

use pilotlight_core::events::retry::{EventEnd, EventTime};

/// What became of an event in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Last {
    /// It succeeded, and no destination wanted its record.
    Answered,
    Delivered,
    /// The destination did not take the record of a success.
    GivenUp,
    Dead,
}

/// What its function declares, and how it went.
#[derive(Debug)]
struct Life {
    accepted: EventTime,
    max_age: Duration,
    /// How many attempts may begin.
    attempts: u32,
    begun: u32,
    /// How often it was given out again because its taker was lost.
    redelivered: u32,
    /// When the attempt before failed, and the pause that has to follow.
    failed: Option<(EventTime, Duration)>,
    /// How it ended, as far as the queue knows.
    ended: Option<EventEnd>,
    arrived: bool,
    last: Option<Last>,
}

#[derive(Debug, Default)]
pub(crate) struct Oracle {
    lives: BTreeMap<u64, Life>,
    pub(crate) findings: Vec<String>,
    pub(crate) summary: Summary,
}

/// How often each thing happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    counts: BTreeMap<&'static str, u64>,
}

impl Summary {
    pub(crate) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: &Summary) {
        for (what, count) in &other.counts {
            *self.counts.entry(what).or_default() += count;
        }
    }

    pub(crate) fn assert_everything_was_seen(&self) {
        for what in [
            "accepted",
            "refused",
            "begun",
            "failed",
            "not begun",
            "redelivered",
            "Success",
            "RetriesExhausted",
            "EventAgeExceeded",
            "ZeroReservedConcurrency",
            "delivered",
            "delivery failed",
            "delivery refused",
            "Answered",
            "Delivered",
            "GivenUp",
            "Dead",
            "gateway ended",
            "owner changed",
            "queue away",
        ] {
            let count = self.counts.get(what).copied().unwrap_or_default();
            assert!(count > 0, "{what} never happened: {self:?}");
        }
    }
}

impl Oracle {
    pub(crate) fn accepted(&mut self, id: u64, now: EventTime, max_age: Duration, retries: u8) {
        self.summary.count("accepted");
        let life = Life {
            accepted: now,
            max_age,
            attempts: 1 + u32::from(retries),
            begun: 0,
            redelivered: 0,
            failed: None,
            ended: None,
            arrived: false,
            last: None,
        };
        self.lives.insert(id, life);
    }

    fn life(&mut self, id: u64) -> &mut Life {
        self.lives.get_mut(&id).expect("it was accepted")
    }

    fn finds(&mut self, id: u64, what: &str) {
        self.findings.push(format!("event {id}: {what}"));
    }

    /// The function begins to run it. `under_way`: how many of its events run now at this gateway, of at most `most`.
    pub(crate) fn begins(&mut self, id: u64, now: EventTime, (under_way, most): (usize, usize)) {
        self.summary.count("begun");
        let life = self.life(id);
        life.begun += 1;
        let is_too_often = life.begun > life.attempts + life.redelivered;
        let is_old = now >= life.accepted.after(life.max_age);
        let is_early = life.failed.is_some_and(|(at, pause)| now < at.after(pause));
        let has_ended = life.ended.is_some();
        if is_too_often {
            self.finds(id, "it runs more often than declared");
        }
        if is_old {
            self.finds(id, "it runs although it is too old");
        }
        if is_early {
            self.finds(id, "it runs again before its time");
        }
        if has_ended {
            self.finds(id, "it runs although it has ended");
        }
        if under_way > most {
            self.finds(id, "more run at the same time than may");
        }
    }

    /// An attempt failed, and the queue knows it.
    pub(crate) fn failed(&mut self, id: u64, now: EventTime) {
        self.summary.count("failed");
        let life = self.life(id);
        let known = life.failed.map_or(Duration::ZERO, |(_, pause)| pause);
        life.failed = Some((now, known + Duration::from_secs(60)));
    }

    pub(crate) fn redelivered(&mut self, id: u64) {
        self.summary.count("redelivered");
        self.life(id).redelivered += 1;
    }

    /// Whoever ran it knows that it has ended, and the queue could have stored that.
    pub(crate) fn ended(&mut self, id: u64, end: EventEnd) {
        self.summary.count(end.condition());
        self.life(id).ended = Some(end);
    }

    /// The destination has its record.
    pub(crate) fn arrived(&mut self, id: u64) {
        self.summary.count("delivered");
        self.life(id).arrived = true;
    }

    /// The queue has nothing more of it, or a dead letter. `may_give_up`: the destination has refused it, or long enough.
    pub(crate) fn last(&mut self, id: u64, last: Last, may_give_up: bool) {
        self.summary.count(match last {
            Last::Answered => "Answered",
            Last::Delivered => "Delivered",
            Last::GivenUp => "GivenUp",
            Last::Dead => "Dead",
        });
        let life = self.life(id);
        let (before, arrived, ended) = (life.last.replace(last), life.arrived, life.ended);
        if before.is_some() {
            self.finds(id, "it ends twice");
        }
        match last {
            Last::Delivered if !arrived => self.finds(id, "its record did not arrive"),
            Last::GivenUp if !may_give_up => self.finds(id, "its record is given up too early"),
            Last::Answered if ended != Some(EventEnd::Success) => {
                self.finds(id, "it failed and nobody learns of it");
            }
            _ => {}
        }
    }

    /// Nothing happens any more.
    pub(crate) fn at_the_end(&mut self) {
        let open = self.lives.iter().filter(|(_, life)| life.last.is_none());
        let open: Vec<u64> = open.map(|(id, _)| *id).collect();
        for id in open {
            self.finds(id, "it has no end");
        }
    }
}
