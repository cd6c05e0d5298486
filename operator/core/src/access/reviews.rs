//! The answers of the cluster about callers, remembered for a bounded time.
//!
//! A question is who shows a token, or whether a user has a right. [`Reviews::look`] says whether an answer is known, and
//! whether the caller asks the cluster, waits for one who asks already, or is refused. So one question is asked once at a
//! time, strangers cannot flood the API server, and calls go on for some time while it is away. Fed by the gateway's
//! `http::access` with the answers ([`Reviews::answered`]). Pure: the caller has the clock and asks.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::time::{Duration, Instant};

use super::Refusal;

/// How long answers hold, and how many of them are kept.
#[derive(Clone, Copy, Debug)]
pub struct ReviewLimits {
    /// From this age on, a `yes` that is used is asked again in the background.
    pub renew_after: Duration,
    /// Until this age a `yes` holds.
    pub yes: Duration,
    /// Until this age a `no` holds.
    pub no: Duration,
    /// Until this age a `yes` holds while the cluster cannot be asked.
    pub outage: Duration,
    /// After a question without an answer, nothing is asked for this time, and then one question at a time.
    pub pause: Duration,
    /// Answers that are kept of each kind. The one that was not used for the longest time makes room.
    pub kept: usize,
    /// Questions that nobody has asked before, a second.
    pub rate: u32,
    /// Such questions that may come at once.
    pub burst: u32,
}

impl ReviewLimits {
    pub const DEFAULT: ReviewLimits = ReviewLimits {
        renew_after: Duration::from_secs(30),
        yes: Duration::from_secs(60),
        no: Duration::from_secs(10),
        outage: Duration::from_secs(900),
        pause: Duration::from_secs(1),
        kept: 4096,
        rate: 100,
        burst: 200,
    };
}

/// See [`Reviews::look`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look<V> {
    /// The answer, `None` for `no`. `renews`: the caller asks again, and does not wait for it.
    Known { answer: Option<V>, renews: bool },
    /// The caller asks the cluster, passes the answer to [`Reviews::answered`], and looks again.
    Ask,
    /// Somebody asks already. The caller looks again when that has been answered.
    Wait,
    /// The caller is refused.
    Refused(Refusal),
}

#[derive(Clone, Debug)]
struct Kept<V> {
    answer: Option<V>,
    since: Instant,
    /// Grows with each use.
    used: u64,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Reviews<K, V> {
    limits: ReviewLimits,
    /// `yes` and `no` are kept apart, so that the questions of strangers displace no known caller.
    yes: HashMap<K, Kept<V>>,
    no: HashMap<K, Kept<V>>,
    asked: HashSet<K>,
    uses: u64,
    /// The last question had no answer. Then one question at a time is asked, and known callers wait for none.
    is_away: bool,
    /// Nothing is asked before.
    paused_until: Option<Instant>,
    /// New questions that may be asked, and when this number was right.
    room: (f64, Option<Instant>),
}

impl<K: Clone + Eq + Hash, V: Clone> Reviews<K, V> {
    pub fn new(limits: ReviewLimits) -> Self {
        Reviews {
            room: (f64::from(limits.burst), None),
            limits,
            yes: HashMap::new(),
            no: HashMap::new(),
            asked: HashSet::new(),
            uses: 0,
            is_away: false,
            paused_until: None,
        }
    }

    /// Looks for the answer to a question.
    pub fn look(&mut self, now: Instant, question: &K) -> Look<V> {
        self.uses += 1;
        let limits = self.limits;
        let is_asked = self.asked.contains(question);
        let is_paused = self.paused_until.is_some_and(|until| now < until);
        let can_ask = !is_paused && (!self.is_away || self.asked.is_empty());
        if let Some(kept) = self.yes.get_mut(question) {
            kept.used = self.uses;
            let age = now.saturating_duration_since(kept.since);
            let known = |renews| Look::Known {
                answer: kept.answer.clone(),
                renews,
            };
            let holds = match self.is_away {
                true => limits.outage,
                false => limits.yes,
            };
            if age < holds {
                let renews = age >= limits.renew_after && !is_asked && can_ask;
                let look = known(renews);
                if renews {
                    self.asked.insert(question.clone());
                }
                return look;
            }
        }
        if let Some(kept) = self.no.get_mut(question) {
            kept.used = self.uses;
            if now.saturating_duration_since(kept.since) < limits.no {
                return Look::Known {
                    answer: None,
                    renews: false,
                };
            }
        }
        if is_asked {
            return Look::Wait;
        }
        if !can_ask {
            return Look::Refused(Refusal::Unavailable);
        }
        // Callers that the cluster knew before have their own bound: the number of answers that are kept.
        if !self.yes.contains_key(question) && !self.has_room(now) {
            return Look::Refused(Refusal::TooMany);
        }
        self.asked.insert(question.clone());
        Look::Ask
    }

    /// Takes the cluster's answer: `Ok(None)` for `no`, an error if there was none.
    pub fn answered(&mut self, now: Instant, question: K, answer: Result<Option<V>, Unanswered>) {
        self.asked.remove(&question);
        self.is_away = answer.is_err();
        let Ok(answer) = answer else {
            self.paused_until = Some(now + self.limits.pause);
            return;
        };
        self.paused_until = None;
        let (table, other) = match answer {
            Some(_) => (&mut self.yes, &mut self.no),
            None => (&mut self.no, &mut self.yes),
        };
        // A right that was taken away is gone at once.
        other.remove(&question);
        if table.len() >= self.limits.kept && !table.contains_key(&question) {
            let least = table.iter().min_by_key(|(_, kept)| kept.used);
            if let Some(least) = least.map(|(question, _)| question.clone()) {
                table.remove(&least);
            }
        }
        self.uses += 1;
        let kept = Kept {
            answer,
            since: now,
            used: self.uses,
        };
        table.insert(question, kept);
    }

    fn has_room(&mut self, now: Instant) -> bool {
        let (room, at) = &mut self.room;
        let passed = at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let grown = *room + passed.as_secs_f64() * f64::from(self.limits.rate);
        *room = grown.min(f64::from(self.limits.burst));
        *at = Some(now);
        let has_room = *room >= 1.0;
        if has_room {
            *room -= 1.0;
        }
        has_room
    }
}

/// The cluster gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cluster gave no answer")]
pub struct Unanswered;

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ReviewLimits = ReviewLimits {
        kept: 3,
        rate: 1,
        burst: 5,
        ..ReviewLimits::DEFAULT
    };

    struct Stage {
        reviews: Reviews<&'static str, u32>,
        now: Instant,
    }

    impl Stage {
        fn new() -> Self {
            Stage {
                reviews: Reviews::new(LIMITS),
                now: Instant::now(),
            }
        }

        fn look(&mut self, question: &'static str) -> Look<u32> {
            self.reviews.look(self.now, &question)
        }

        fn answer(&mut self, question: &'static str, answer: Option<u32>) {
            self.reviews.answered(self.now, question, Ok(answer));
        }

        fn no_answer(&mut self, question: &'static str) {
            self.reviews.answered(self.now, question, Err(Unanswered));
        }

        fn pass(&mut self, seconds: u64) {
            self.now += Duration::from_secs(seconds);
        }
    }

    fn known(answer: u32) -> Look<u32> {
        Look::Known {
            answer: Some(answer),
            renews: false,
        }
    }

    const NO: Look<u32> = Look::Known {
        answer: None,
        renews: false,
    };

    #[test]
    fn a_question_is_asked_once_and_its_answer_holds() {
        let mut stage = Stage::new();
        assert_eq!(stage.look("a"), Look::Ask);
        assert_eq!(stage.look("a"), Look::Wait);
        stage.answer("a", Some(1));
        assert_eq!(stage.look("a"), known(1));
        stage.pass(29);
        assert_eq!(stage.look("a"), known(1));
    }

    #[test]
    fn an_answer_that_is_used_is_renewed_before_it_ends_so_that_no_caller_waits() {
        let mut stage = Stage::new();
        stage.look("a");
        stage.answer("a", Some(1));
        stage.pass(30);
        let renewing = Look::Known {
            answer: Some(1),
            renews: true,
        };
        assert_eq!(stage.look("a"), renewing);
        assert_eq!(stage.look("a"), known(1));
        stage.answer("a", Some(2));
        stage.pass(29);
        assert_eq!(stage.look("a"), known(2));
        stage.pass(40);
        assert_eq!(stage.look("a"), Look::Ask);
    }

    #[test]
    fn a_right_that_was_taken_away_is_refused_as_soon_as_the_cluster_says_so() {
        let mut stage = Stage::new();
        stage.look("a");
        stage.answer("a", Some(1));
        stage.pass(30);
        stage.look("a");
        stage.answer("a", None);
        assert_eq!(stage.look("a"), NO);
        // An outage brings nothing back.
        stage.pass(11);
        assert_eq!(stage.look("a"), Look::Ask);
        stage.no_answer("a");
        assert_eq!(stage.look("a"), Look::Refused(Refusal::Unavailable));
    }

    #[test]
    fn known_callers_are_served_for_fifteen_minutes_while_the_cluster_cannot_be_asked() {
        let mut stage = Stage::new();
        stage.look("a");
        stage.answer("a", Some(1));
        let mut served = 0;
        for _ in 0..2000 {
            stage.pass(1);
            match stage.look("a") {
                Look::Known { answer, renews } => {
                    assert_eq!(answer, Some(1));
                    served += 1;
                    if renews {
                        stage.no_answer("a");
                    }
                }
                Look::Ask => stage.no_answer("a"),
                look => assert_eq!(look, Look::Refused(Refusal::Unavailable)),
            }
        }
        assert_eq!(served, 899);
    }

    #[test]
    fn no_known_caller_waits_for_a_cluster_that_is_silent() {
        let mut stage = Stage::new();
        for question in ["a", "b"] {
            stage.look(question);
            stage.answer(question, Some(1));
        }
        stage.pass(70);
        // Whoever comes first waits once, and then it is known that the cluster is away.
        assert_eq!(stage.look("a"), Look::Ask);
        stage.pass(5);
        stage.no_answer("a");
        let renewing = Look::Known {
            answer: Some(1),
            renews: true,
        };
        for _ in 0..100 {
            stage.pass(1);
            assert_eq!(stage.look("a"), renewing);
            // While one question is open, there is no other.
            assert_eq!(stage.look("b"), known(1));
            assert_eq!(stage.look("c"), Look::Refused(Refusal::Unavailable));
            stage.pass(5);
            stage.no_answer("a");
            assert_eq!(stage.look("b"), known(1));
        }
        stage.pass(1);
        assert_eq!(stage.look("b"), renewing);
        stage.answer("b", None);
        assert_eq!(stage.look("b"), NO);
        // The cluster answers again, so the old answer has no further time.
        assert_eq!(stage.look("a"), Look::Ask);
    }

    #[test]
    fn strangers_are_refused_at_once_in_an_outage_and_asked_about_after_it() {
        let mut stage = Stage::new();
        assert_eq!(stage.look("a"), Look::Ask);
        stage.no_answer("a");
        assert_eq!(stage.look("b"), Look::Refused(Refusal::Unavailable));
        stage.pass(1);
        assert_eq!(stage.look("b"), Look::Ask);
        stage.answer("b", Some(1));
        assert_eq!(stage.look("a"), Look::Ask);
    }

    #[test]
    fn many_strangers_are_bounded_and_displace_no_known_caller() {
        let mut stage = Stage::new();
        stage.look("known");
        stage.answer("known", Some(1));
        let strangers = ["a", "b", "c", "d", "e", "f"];
        let looks: Vec<_> = strangers.map(|stranger| stage.look(stranger)).into();
        let asked = looks.iter().filter(|look| **look == Look::Ask).count();
        assert_eq!(asked, 4);
        assert_eq!(looks[5], Look::Refused(Refusal::TooMany));
        for stranger in &strangers[..4] {
            stage.answer(stranger, None);
        }
        // The oldest of four answers has made room.
        assert_eq!(stage.look("a"), Look::Refused(Refusal::TooMany));
        assert_eq!(stage.look("d"), NO);
        assert_eq!(stage.look("known"), known(1));
        stage.pass(61);
        // A known caller does not wait behind strangers, as room grows by one a second only.
        for stranger in ["g", "h", "i", "j", "k"] {
            stage.look(stranger);
        }
        assert_eq!(stage.look("l"), Look::Refused(Refusal::TooMany));
        assert_eq!(stage.look("known"), Look::Ask);
    }

    #[test]
    fn a_new_no_is_asked_again_after_ten_seconds() {
        let mut stage = Stage::new();
        stage.look("a");
        stage.answer("a", None);
        stage.pass(9);
        assert_eq!(stage.look("a"), NO);
        stage.pass(1);
        assert_eq!(stage.look("a"), Look::Ask);
    }
}
