//! Tests of `Election`: contenders in virtual time, with an API server that stores one lease.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn lease(version: u32, holder: Option<&str>) -> Lease {
    Lease {
        version: version.to_string(),
        holder: holder.map(str::to_owned),
        duration: Some(15 * SECOND),
        transitions: 3,
    }
}

fn take(version: u32) -> Option<Attempt> {
    let version = version.to_string();
    Some(Attempt::Take {
        version,
        transitions: 4,
    })
}

fn renew(version: u32) -> Option<Attempt> {
    let version = version.to_string();
    Some(Attempt::Renew { version })
}

fn contender(name: &str) -> Election {
    Election::new(name.to_owned(), Timing::default())
}

fn check(holder: &str) -> Option<Attempt> {
    let holder = holder.to_owned();
    Some(Attempt::CheckHolder { holder })
}

/// Lets the candidate check the holder, which exists, whenever it wants to, and returns the time at which it
/// attempts something else.
fn other_attempt(election: &mut Election) -> (Instant, Option<Attempt>) {
    loop {
        let now = election.next_wakeup().expect("a candidate wakes");
        match election.poll_attempt(now) {
            Some(Attempt::CheckHolder { .. }) => election.tried(now, Outcome::HolderExists(true)),
            other => return (now, other),
        }
    }
}

/// A candidate that has read this lease.
fn candidate(now: Instant, found: Option<Lease>) -> Election {
    let mut election = contender("a");
    assert_eq!(election.poll_attempt(now), Some(Attempt::Read));
    assert_eq!(
        election.poll_attempt(now),
        None,
        "only one attempt is in flight"
    );
    election.tried(now, Outcome::Found(found));
    election
}

fn leader(now: Instant) -> Election {
    let mut election = candidate(now, None);
    assert_eq!(election.poll_attempt(now), Some(Attempt::Create));
    election.tried(now, Outcome::Written(lease(1, Some("a"))));
    assert_eq!(election.leads_until(now), Some(now + 10 * SECOND));
    election
}

#[test]
fn a_leader_renews_at_each_interval_and_counts_from_when_it_began_to_write() {
    let now = Instant::now();
    let mut election = leader(now);
    assert_eq!(election.poll_attempt(now), None);
    assert_eq!(election.next_wakeup(), Some(now + 2 * SECOND));
    let began = now + 2 * SECOND;
    assert_eq!(election.poll_attempt(began), renew(1));
    let answered = began + 3 * SECOND;
    election.tried(answered, Outcome::Written(lease(2, Some("a"))));
    assert_eq!(election.leads_until(answered), Some(began + 10 * SECOND));
    assert_eq!(
        election.poll_attempt(answered),
        renew(2),
        "the retry interval has passed"
    );
}

#[test]
fn a_released_lease_is_taken_at_once() {
    let mut now = Instant::now();
    let mut election = candidate(now, Some(lease(1, Some("b"))));
    assert_eq!(election.poll_attempt(now), None);
    now += SECOND;
    election.watched(now, Some(lease(2, None)));
    assert_eq!(election.poll_attempt(now), take(2));
}

#[test]
fn a_lease_expires_when_this_contender_has_seen_no_renewal_for_its_duration() {
    let mut now = Instant::now();
    let mut election = candidate(now, Some(lease(1, Some("b"))));
    now += 14 * SECOND;
    election.watched(now, Some(lease(2, Some("b"))));
    // The same version again is no renewal.
    election.watched(now + 9 * SECOND, Some(lease(2, Some("b"))));
    let expiry = now + 15 * SECOND;
    assert_eq!(other_attempt(&mut election), (expiry, take(2)));
}

#[test]
fn the_holder_of_a_lease_that_is_not_renewed_is_checked_at_each_interval() {
    let now = Instant::now();
    let mut election = candidate(now, Some(lease(1, Some("b"))));
    for seconds in [4, 6, 8] {
        let at = now + seconds * SECOND;
        assert_eq!(election.next_wakeup(), Some(at));
        assert_eq!(election.poll_attempt(at), check("b"));
        election.tried(at, Outcome::HolderExists(true));
    }
    // A renewal: all is well.
    let renewed = now + 9 * SECOND;
    election.watched(renewed, Some(lease(2, Some("b"))));
    assert_eq!(election.next_wakeup(), Some(renewed + 4 * SECOND));
}

#[test]
fn a_check_without_an_answer_does_not_postpone_the_expiry() {
    let begin = Instant::now();
    let mut election = candidate(begin, Some(lease(1, Some("b"))));
    for seconds in [4, 8, 12] {
        let at = begin + seconds * SECOND;
        assert_eq!(election.poll_attempt(at), check("b"));
        election.tried(at + SECOND, Outcome::Unanswered);
    }
    assert_eq!(other_attempt(&mut election), (begin + 15 * SECOND, take(1)));
}

#[test]
fn the_lease_of_a_process_that_no_longer_exists_is_taken_before_it_expires() {
    let now = Instant::now() + 4 * SECOND;
    let mut election = candidate(now - 4 * SECOND, Some(lease(1, Some("b"))));
    assert_eq!(election.poll_attempt(now), check("b"));
    // What a watch shows meanwhile was not checked.
    election.watched(now, Some(lease(2, Some("c"))));
    election.tried(now, Outcome::HolderExists(false));
    assert_eq!(election.poll_attempt(now), take(1));
    election.tried(now, Outcome::Conflict);
    let now = now + 2 * SECOND;
    assert_eq!(election.poll_attempt(now), Some(Attempt::Read));
    election.tried(now, Outcome::Found(Some(lease(2, Some("c")))));
    assert_eq!(election.poll_attempt(now), None, "another holder");
}

#[test]
fn the_duration_that_the_holder_wrote_counts() {
    let now = Instant::now();
    let longer = Lease {
        duration: Some(60 * SECOND),
        ..lease(1, Some("b"))
    };
    let mut election = candidate(now, Some(longer));
    assert_eq!(other_attempt(&mut election), (now + 60 * SECOND, take(1)));
}

#[test]
fn a_restarted_process_takes_its_own_lease_at_once() {
    let now = Instant::now();
    let mut election = candidate(now, Some(lease(7, Some("a"))));
    assert_eq!(election.poll_attempt(now), take(7));
}

#[test]
fn a_candidate_whose_write_conflicts_reads_again_and_waits() {
    let mut now = Instant::now();
    let mut election = candidate(now, Some(lease(1, None)));
    assert_eq!(election.poll_attempt(now), take(1));
    election.tried(now, Outcome::Conflict);
    assert_eq!(election.loss(), None);
    now += 2 * SECOND;
    assert_eq!(election.poll_attempt(now), Some(Attempt::Read));
    election.tried(now, Outcome::Found(Some(lease(2, Some("b")))));
    assert_eq!(election.poll_attempt(now), None);
    assert_eq!(other_attempt(&mut election), (now + 15 * SECOND, take(2)));
}

#[test]
fn a_leader_that_cannot_renew_ends_at_the_deadline_before_another_may_take_over() {
    let begin = Instant::now();
    let (mut election, mut now) = (leader(begin), begin);
    let mut other = contender("b");
    other.poll_attempt(now);
    other.tried(now, Outcome::Found(Some(lease(1, Some("a")))));
    while election.loss().is_none() {
        now = election.next_wakeup().expect("a leader wakes");
        election.wake(now);
        if election.poll_attempt(now).is_some() {
            election.tried(now, Outcome::Unanswered);
        }
        if other.poll_attempt(now) == check("a") {
            other.tried(now, Outcome::HolderExists(true));
        }
        assert_eq!(other.leads_until(now), None);
    }
    assert_eq!(now, begin + 10 * SECOND);
    assert_eq!(election.leads_until(now), None);
    assert_eq!(election.poll_attempt(now), None);
    assert_eq!(election.next_wakeup(), None);
    assert_eq!(other_attempt(&mut other), (begin + 15 * SECOND, take(1)));
}

#[test]
fn after_a_renewal_without_an_answer_the_leader_reads_and_goes_on_if_it_was_written() {
    let mut now = Instant::now();
    let mut election = leader(now);
    now += 2 * SECOND;
    assert_eq!(election.poll_attempt(now), renew(1));
    election.tried(now + SECOND, Outcome::Unanswered);
    now += 2 * SECOND;
    assert_eq!(election.poll_attempt(now), Some(Attempt::Read));
    election.tried(now, Outcome::Found(Some(lease(2, Some("a")))));
    assert_eq!(election.poll_attempt(now), renew(2));
}

#[test]
fn a_leader_stops_when_it_finds_another_holder_or_none_or_a_conflict() {
    let mut now = Instant::now();
    let mut election = leader(now);
    now += 2 * SECOND;
    election.poll_attempt(now);
    election.tried(now, Outcome::Conflict);
    assert_eq!(election.loss(), Some(&Loss::Overwritten));
    let taken = (Some(lease(9, Some("b"))), Loss::Taken("b".to_owned()));
    for (found, loss) in [taken, (None, Loss::Vacant)] {
        let mut election = leader(now);
        let mut later = now + 2 * SECOND;
        election.poll_attempt(later);
        election.tried(later, Outcome::Unanswered);
        later += 2 * SECOND;
        assert_eq!(election.poll_attempt(later), Some(Attempt::Read));
        election.tried(later, Outcome::Found(found));
        assert_eq!(election.loss(), Some(&loss));
    }
}

#[test]
fn a_lease_can_be_released_only_while_it_is_certainly_held() {
    let now = Instant::now();
    let mut election = leader(now);
    assert_eq!(election.held(now), Some("1"));
    election.poll_attempt(now + 2 * SECOND);
    election.tried(now + 3 * SECOND, Outcome::Unanswered);
    assert_eq!(election.held(now + 3 * SECOND), None);
    assert_eq!(candidate(now, Some(lease(1, Some("b")))).held(now), None);
}

#[test]
fn an_answer_after_the_deadline_makes_no_leader() {
    let now = Instant::now();
    let mut election = candidate(now, None);
    election.poll_attempt(now);
    let late = now + 10 * SECOND;
    election.tried(late, Outcome::Written(lease(1, Some("a"))));
    assert_eq!(election.leads_until(late), None);
    assert!(election.loss().is_some());
}

#[test]
fn a_leader_ignores_a_watch_that_lags_behind_its_own_writes() {
    let now = Instant::now();
    let mut election = leader(now);
    election.watched(now, Some(lease(0, Some("b"))));
    assert_eq!(election.leads_until(now), Some(now + 10 * SECOND));
    assert_eq!(election.poll_attempt(now + 2 * SECOND), renew(1));
}

/// Two contenders and one lease, with losses of every kind.
#[test]
fn two_contenders_never_lead_at_the_same_time_whatever_is_lost() {
    let mut checks = 0;
    for seed in 0..2000 {
        let mut world = World::new(seed);
        for _ in 0..400 {
            assert!(world.step() <= 1, "seed {seed}: two lead");
        }
        assert!(world.terms > 0, "seed {seed}: no contender ever led");
        checks += world.successful_checks;
    }
    assert!(
        checks > 1000,
        "only {checks} leases of processes that had ended"
    );
}

/// The world shows it if a holder that lives were reported as ended.
#[test]
fn two_contenders_lead_where_a_living_holder_counts_as_ended() {
    let breaks = |seed: &u64| {
        let mut world = World::new(*seed);
        world.believes_living_holders_ended = true;
        (0..400).any(|_| world.step() > 1)
    };
    assert!((0..200).any(|seed| breaks(&seed)));
}

struct World {
    random: u64,
    now: Instant,
    stored: Option<Lease>,
    version: u32,
    contenders: Vec<(Election, Option<(Attempt, Instant)>)>,
    /// How many contenders have existed.
    started: u32,
    terms: usize,
    /// Checks that found that the holder had ended.
    successful_checks: usize,
    believes_living_holders_ended: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        World {
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            now: Instant::now(),
            stored: None,
            version: 0,
            contenders: vec![(contender("c0"), None), (contender("c1"), None)],
            started: 2,
            terms: 0,
            successful_checks: 0,
            believes_living_holders_ended: false,
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % bound
    }

    /// Returns how many contenders lead.
    fn step(&mut self) -> usize {
        let passed = Duration::from_millis(self.below(1500));
        self.now += passed;
        let which = self.below(2) as usize;
        match self.below(10) {
            0 => {
                let lease = self.stored.clone();
                self.contenders[which].0.watched(self.now, lease);
            }
            1 if self.below(8) == 0 => self.restart(which),
            _ => self.attempt(which),
        }
        let leaders = self.contenders.iter_mut().filter_map(|(election, _)| {
            election.wake(self.now);
            election.leads_until(self.now)
        });
        let leaders = leaders.count();
        self.terms += leaders;
        if self.contenders[which].0.loss().is_some() {
            self.restart(which);
        }
        leaders
    }

    /// The process is killed, and a new one starts under another identity.
    fn restart(&mut self, which: usize) {
        self.contenders[which] = (contender(&format!("c{}", self.started)), None);
        self.started += 1;
    }

    /// Begins an attempt, or ends the one in flight.
    fn attempt(&mut self, which: usize) {
        let (is_lost_before, is_lost_after) = (self.below(4) == 0, self.below(4) == 0);
        let (now, stored) = (self.now, self.stored.clone());
        // The object of a process that has ended may still be there for a while.
        let (lies, is_late) = (self.believes_living_holders_ended, self.below(3) == 0);
        let living = self.contenders.iter().map(|(one, _)| one.identity.clone());
        let living: Vec<String> = living.collect();
        let (election, trying) = &mut self.contenders[which];
        let Some((attempt, began)) = trying.take() else {
            *trying = election.poll_attempt(now).map(|attempt| (attempt, now));
            return;
        };
        let is_overdue = now - began > 5 * SECOND;
        let writes = match (&attempt, &stored) {
            (Attempt::Read | Attempt::CheckHolder { .. }, _) => None,
            (Attempt::Create, stored) => Some(stored.is_none()),
            (Attempt::Take { version, .. } | Attempt::Renew { version }, stored) => Some(
                stored
                    .as_ref()
                    .is_some_and(|lease| lease.version == *version),
            ),
        };
        let outcome = match (writes, attempt) {
            _ if is_lost_before => Outcome::Unanswered,
            (None, Attempt::CheckHolder { holder }) => {
                let exists = is_late || (living.contains(&holder) && !lies);
                self.successful_checks += usize::from(!exists);
                Outcome::HolderExists(exists)
            }
            (None, _) => Outcome::Found(stored),
            (Some(false), _) => Outcome::Conflict,
            (Some(true), _) => {
                self.version += 1;
                let lease = lease(self.version, Some(&election.identity));
                self.stored = Some(lease.clone());
                Outcome::Written(lease)
            }
        };
        let is_silent = is_lost_after || is_overdue;
        let outcome = if is_silent {
            Outcome::Unanswered
        } else {
            outcome
        };
        election.tried(now, outcome);
    }
}
