//! When the keys change with which gateways sign temporary credentials.
//!
//! The keys are in one Secret: the leading controller writes it, gateways read it. Every gateway has to open what any
//! other one has signed. Therefore a key is in the Secret for a while before it signs, and stays there until the last
//! session that it has signed is over. [`plan`] decides, `pilotlight-access` signs and opens. Times are seconds since
//! 1970.

use super::sts_limits::SESSION_MAX;

/// How long keys sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyLifetimes {
    /// Seconds for which a key signs, until the next one does.
    pub signing: u64,
    /// Seconds for which a new key is in the Secret before it signs. A gateway that is cut off from the API server for
    /// longer than this refuses the new sessions of others, until it can read the Secret again.
    pub introduction: u64,
    /// Seconds for which the key before is still accepted: the longest session, and as much again as clocks and reads
    /// of the Secret may lag.
    pub retirement: u64,
}

impl KeyLifetimes {
    /// A week for each key, which is known for a day before it signs.
    pub const DEFAULT: KeyLifetimes = KeyLifetimes {
        signing: SESSION_KEY_SIGNING,
        introduction: SESSION_KEY_INTRODUCTION,
        retirement: SESSION_KEY_RETIREMENT,
    };
}

const HOUR: u64 = 60 * 60;
const DAY: u64 = 24 * HOUR;
/// Seconds.
pub const SESSION_KEY_SIGNING: u64 = 7 * DAY;
/// Seconds.
pub const SESSION_KEY_INTRODUCTION: u64 = DAY;
/// Seconds: the longest session and a day.
pub const SESSION_KEY_RETIREMENT: u64 = SESSION_MAX + DAY;

/// The next steps of the leading controller, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPlan {
    /// Drop the keys that are not in this list of places.
    pub kept: Vec<usize>,
    /// Make a further key, which signs from this time on.
    pub adds: Option<u64>,
    /// When to ask again at the latest.
    pub next: u64,
}

impl KeyPlan {
    pub fn is_empty(&self, keys: usize) -> bool {
        self.kept.len() == keys && self.adds.is_none()
    }
}

/// Decides what is due. `starts`: for each key the time from which on it signs, the earliest first.
pub fn plan(now: u64, starts: &[u64], lifetimes: KeyLifetimes) -> KeyPlan {
    let is_needed = |place: &usize| {
        let successor = starts.get(place + 1);
        successor.is_none_or(|start| now < start.saturating_add(lifetimes.retirement))
    };
    let kept: Vec<usize> = (0..starts.len()).filter(is_needed).collect();
    let newest = starts.last().copied();
    // Without any key there is nobody to introduce the first one to.
    let due = newest.map(|start| start.saturating_add(lifetimes.signing));
    let adds = match due {
        None => Some(now),
        Some(due) if now.saturating_add(lifetimes.introduction) >= due => {
            // A controller that comes late gives gateways their time all the same.
            Some(due.max(now.saturating_add(lifetimes.introduction)))
        }
        Some(_) => None,
    };
    let newest = adds.or(newest).unwrap_or(now);
    let next_key = newest
        .saturating_add(lifetimes.signing)
        .saturating_sub(lifetimes.introduction);
    let successors = kept
        .iter()
        .filter_map(|place| starts.get(place + 1).copied());
    let ends = successors.chain(adds.filter(|_| !kept.is_empty()));
    let ends = ends.map(|start| start.saturating_add(lifetimes.retirement));
    let next = ends.chain([next_key]).min().unwrap_or(next_key);
    KeyPlan { kept, adds, next }
}

/// The place of the key that signs at `now`: the last one whose time has come. If the time of none has come, because
/// clocks differ or the Secret has just been made, the first one signs.
pub fn signer(now: u64, starts: &[u64]) -> Option<usize> {
    let begun = starts
        .iter()
        .enumerate()
        .filter(|(_, start)| **start <= now);
    let latest = begun.max_by_key(|(_, start)| **start);
    let first = || starts.iter().enumerate().min_by_key(|(_, start)| **start);
    latest.or_else(first).map(|(place, _)| place)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIMES: KeyLifetimes = KeyLifetimes::DEFAULT;
    const BEGIN: u64 = 1_800_000_000;

    /// The Secret as it was at each change, with the time of the change.
    #[derive(Default)]
    struct Secret(Vec<(u64, Vec<u64>)>);

    impl Secret {
        fn look(&mut self, now: u64) -> u64 {
            let starts = self.at(now).to_vec();
            let plan = plan(now, &starts, LIFETIMES);
            if !plan.is_empty(starts.len()) {
                let mut after: Vec<u64> = plan.kept.iter().map(|place| starts[*place]).collect();
                after.extend(plan.adds);
                self.0.push((now, after));
            }
            plan.next
        }

        fn at(&self, now: u64) -> &[u64] {
            let since = self.0.partition_point(|(at, _)| *at <= now);
            since.checked_sub(1).map_or(&[], |place| &self.0[place].1)
        }

        /// Who signs at `now` at a gateway whose reads lag and whose clock is wrong.
        fn signs(&self, now: u64, lag: u64, clock: i64) -> u64 {
            let starts = self.at(now - lag);
            starts[signer(now.saturating_add_signed(clock), starts).expect("a key")]
        }
    }

    #[test]
    fn for_five_years_each_gateway_opens_what_another_has_signed_until_the_session_ends() {
        // The least and the most that reads lag, and clocks are wrong.
        let (lag, clock) = (12 * HOUR, 300);
        let mut secret = Secret::default();
        let mut random = fastrand::Rng::with_seed(7);
        let mut now = BEGIN;
        let mut looks = 0;
        while now < BEGIN + 5 * 365 * DAY {
            let next = secret.look(now);
            assert!(next > now && next <= now + LIFETIMES.signing, "{now}");
            // The leader may look again at any time before, and an hour late.
            now = random.u64(now + 1..=next + HOUR);
            looks += 1;
        }
        assert!(looks > 300);
        for minted in (BEGIN + lag..now - 2 * DAY).step_by(1700) {
            for (lag_of_signer, clock_of_signer) in [(0, clock), (lag, -clock), (lag, clock)] {
                let key = secret.signs(minted, lag_of_signer, clock_of_signer);
                for (age, lag_of_reader) in [(0, lag), (0, 0), (SESSION_MAX, 0), (SESSION_MAX, lag)]
                {
                    let known = secret.at(minted + age - lag_of_reader);
                    assert!(known.contains(&key), "{minted} {age} {lag_of_reader}");
                }
            }
            assert!(secret.at(minted).len() <= 3);
        }
    }

    #[test]
    fn a_key_is_replaced_after_its_week_and_is_gone_when_its_last_session_is_over() {
        let mut secret = Secret::default();
        let mut now = BEGIN;
        secret.look(now);
        assert_eq!(secret.at(now), [BEGIN]);
        now = BEGIN + LIFETIMES.signing - LIFETIMES.introduction - 1;
        assert_eq!(secret.look(now), now + 1);
        assert_eq!(secret.at(now).len(), 1);
        now += 1;
        secret.look(now);
        let second = BEGIN + LIFETIMES.signing;
        assert_eq!(secret.at(now), [BEGIN, second]);
        assert_eq!(secret.signs(second - 1, 0, 0), BEGIN);
        assert_eq!(secret.signs(second, 0, 0), second);
        secret.look(second + LIFETIMES.retirement - 1);
        assert_eq!(secret.at(second + LIFETIMES.retirement - 1)[0], BEGIN);
        secret.look(second + LIFETIMES.retirement);
        assert_eq!(secret.at(second + LIFETIMES.retirement)[0], second);
    }

    #[test]
    fn after_months_without_a_controller_the_old_key_signs_until_a_new_one_is_known() {
        let mut secret = Secret::default();
        secret.look(BEGIN);
        let back = BEGIN + 100 * DAY;
        secret.look(back);
        assert_eq!(secret.at(back), [BEGIN, back + LIFETIMES.introduction]);
        assert_eq!(secret.signs(back, 0, 0), BEGIN);
    }

    #[test]
    fn a_key_whose_time_has_not_come_signs_only_if_there_is_no_other() {
        assert_eq!(signer(5, &[]), None);
        assert_eq!(signer(5, &[7, 9]), Some(0));
        assert_eq!(signer(8, &[7, 9]), Some(0));
        assert_eq!(signer(9, &[7, 9]), Some(1));
    }
}
