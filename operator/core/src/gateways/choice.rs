//! Which unclaimed pod of the warm pools a gateway takes for an instance, and what it does when it does
//! not get it.
//!
//! Fed by `gateway::cluster` with the pods that the watch shows and with the results of claims. A pod is
//! offered once: when it is taken, it becomes an instance of this gateway or, as its supervisor says, of
//! another. `fleet::stock` in the controller refills the pools. Knows no connection and no manifest.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::ids::{InstanceName, PodName, Uid};

/// How long a pod that could not be reached is not offered.
const AVOIDANCE: Duration = Duration::from_secs(10);

/// A pod that can be claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnclaimedPod {
    pub name: PodName,
    pub uid: Uid,
    pub ip: IpAddr,
}

/// Why a claim failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimFailure {
    /// Another gateway was first.
    Lost,
    /// The supervisor could not be reached; whether it has the claim is unknown.
    Unreachable,
    /// The supervisor refused the code of the function, and would refuse it anywhere.
    Refused,
}

/// What follows from a failed claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AfterFailure {
    /// Claim this pod instead.
    Claim(UnclaimedPod),
    /// No pod is left: request one from the controller.
    Request,
    /// The instance cannot start.
    Fail,
}

#[derive(Debug)]
struct Candidate<C> {
    class: C,
    name: PodName,
    /// Known once the pod is up.
    ip: Option<IpAddr>,
    state: State,
}

#[derive(Debug)]
enum State {
    Free,
    /// Taken for this instance, and not claimed yet.
    Taken(InstanceName),
    /// The pod is this instance.
    Claimed(InstanceName),
    AvoidedUntil(Instant),
    /// The pod is an instance of another gateway.
    Lost,
}

impl<C> Candidate<C> {
    fn is_offered(&self, now: Instant) -> bool {
        let is_free = match self.state {
            State::Free => true,
            State::AvoidedUntil(until) => until <= now,
            State::Taken(_) | State::Claimed(_) | State::Lost => false,
        };
        is_free && self.ip.is_some()
    }

    fn unclaimed(&self, uid: &Uid) -> Option<UnclaimedPod> {
        Some(UnclaimedPod {
            name: self.name.clone(),
            uid: uid.clone(),
            ip: self.ip?,
        })
    }
}

/// The unclaimed pods as one gateway knows them. `C` is what a warm pool's pods are suitable for.
#[derive(Debug)]
pub struct Choice<C> {
    pods: BTreeMap<Uid, Candidate<C>>,
}

impl<C> Default for Choice<C> {
    fn default() -> Self {
        Choice {
            pods: BTreeMap::new(),
        }
    }
}

impl<C> Choice<C> {
    /// The watch shows a pod of a warm pool. Without an address it is not up, or not any more.
    pub fn put(&mut self, name: PodName, uid: Uid, class: C, ip: Option<IpAddr>) {
        let candidate = self.pods.entry(uid).or_insert_with(|| Candidate {
            class,
            name,
            ip,
            state: State::Free,
        });
        candidate.ip = ip;
    }

    /// The pod belongs to no warm pool any more. Returns the instance of this gateway that it has become.
    pub fn remove(&mut self, uid: &str) -> Option<InstanceName> {
        match self.pods.remove(uid)?.state {
            State::Claimed(instance) => Some(instance),
            State::Free | State::Taken(_) | State::AvoidedUntil(_) | State::Lost => None,
        }
    }

    /// Takes the suitable pod with the lowest rank. `rank` returns `None` for a class that is not suitable.
    /// `order` decides between pods of the same rank; each gateway has another order, so that two gateways
    /// seldom try the same pod.
    pub fn take<R: Ord, O: Ord>(
        &mut self,
        now: Instant,
        instance: &InstanceName,
        rank: impl Fn(&C) -> Option<R>,
        order: impl Fn(&Uid) -> O,
    ) -> Option<UnclaimedPod> {
        let offered = self.pods.iter_mut().filter(|(_, one)| one.is_offered(now));
        let ranked =
            offered.filter_map(|(uid, one)| Some(((rank(&one.class)?, order(uid)), uid, one)));
        let (_, uid, candidate) = ranked.min_by(|(one, ..), (other, ..)| one.cmp(other))?;
        candidate.state = State::Taken(instance.clone());
        candidate.unclaimed(uid)
    }

    /// The pod that is taken for an instance and not claimed yet.
    pub fn taken(&self, instance: &str) -> Option<UnclaimedPod> {
        let is_it =
            |one: &Candidate<C>| matches!(&one.state, State::Taken(by) if by.as_str() == instance);
        let (uid, candidate) = self.pods.iter().find(|(_, one)| is_it(one))?;
        candidate.unclaimed(uid)
    }

    /// The claim succeeded: the pod is this instance.
    pub fn claimed(&mut self, uid: &Uid, instance: &InstanceName) {
        self.set(uid, State::Claimed(instance.clone()));
    }

    /// The instance does not need the pod that was taken for it. Whether it has tried to claim the pod is
    /// unknown, so the pod is avoided for a while.
    pub fn leave(&mut self, now: Instant, instance: &str) {
        if let Some(taken) = self.taken(instance) {
            self.set(&taken.uid, State::AvoidedUntil(now + AVOIDANCE));
        }
    }

    /// The claim of this pod failed. Takes another pod, as [`Choice::take`] does.
    pub fn failed<R: Ord, O: Ord>(
        &mut self,
        now: Instant,
        (uid, failure): (&Uid, ClaimFailure),
        instance: &InstanceName,
        rank: impl Fn(&C) -> Option<R>,
        order: impl Fn(&Uid) -> O,
    ) -> AfterFailure {
        self.set(
            uid,
            match failure {
                ClaimFailure::Lost | ClaimFailure::Refused => State::Lost,
                ClaimFailure::Unreachable => State::AvoidedUntil(now + AVOIDANCE),
            },
        );
        if failure == ClaimFailure::Refused {
            return AfterFailure::Fail;
        }
        match self.take(now, instance, rank, order) {
            Some(next) => AfterFailure::Claim(next),
            None => AfterFailure::Request,
        }
    }

    fn set(&mut self, uid: &Uid, state: State) {
        if let Some(candidate) = self.pods.get_mut(uid) {
            candidate.state = state;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    /// Takes a pod of at least this size.
    fn take(choice: &mut Choice<u32>, now: Instant, size: u32, instance: &str) -> Option<String> {
        let rank = |class: &u32| (*class >= size).then_some(*class);
        let taken = choice.take(now, &instance.into(), rank, Uid::clone);
        taken.map(|unclaimed| unclaimed.name.to_string())
    }

    fn put(choice: &mut Choice<u32>, name: &str, size: u32, ip: Option<IpAddr>) {
        choice.put(name.into(), format!("uid-{name}").into(), size, ip);
    }

    #[test]
    fn the_smallest_suitable_pod_is_taken_once() {
        let (mut choice, now) = (Choice::default(), Instant::now());
        for (name, size) in [("small", 128), ("large", 1024), ("right", 256)] {
            put(&mut choice, name, size, Some(IP));
        }
        put(&mut choice, "starting", 256, None);
        let names = ["i1", "i2", "i3"].map(|instance| take(&mut choice, now, 256, instance));
        let expected = [Some("right"), Some("large"), None];
        assert_eq!(names, expected.map(|name| name.map(str::to_owned)));
        assert_eq!(choice.taken("i1").expect("one").name.as_str(), "right");
        put(&mut choice, "right", 256, Some(IP));
        assert_eq!(
            take(&mut choice, now, 256, "i4"),
            None,
            "the watch shows it again"
        );
        choice.claimed(&"uid-right".into(), &"i1".into());
        assert_eq!(choice.taken("i1"), None);
        assert_eq!(choice.remove("uid-right"), Some("i1".into()));
        assert_eq!(choice.remove("uid-right"), None);
    }

    #[test]
    fn after_a_failed_claim_another_pod_is_tried_until_none_is_left() {
        let (mut choice, mut now) = (Choice::default(), Instant::now());
        for name in ["a", "b"] {
            put(&mut choice, name, 1, Some(IP));
        }
        assert_eq!(take(&mut choice, now, 1, "i").as_deref(), Some("a"));
        let mut failed = |now, uid: &str, failure| {
            let claim = (&Uid::from(uid), failure);
            choice.failed(now, claim, &"i".into(), |_| Some(()), Uid::clone)
        };
        let AfterFailure::Claim(next) = failed(now, "uid-a", ClaimFailure::Unreachable) else {
            panic!("another pod is left");
        };
        assert_eq!(next.name.as_str(), "b");
        assert_eq!(
            failed(now, "uid-b", ClaimFailure::Lost),
            AfterFailure::Request
        );
        now += AVOIDANCE;
        assert_eq!(
            take(&mut choice, now, 1, "i").as_deref(),
            Some("a"),
            "it is tried again"
        );
        let refused = (&Uid::from("uid-a"), ClaimFailure::Refused);
        let failed = choice.failed(now, refused, &"i".into(), |_| Some(()), Uid::clone);
        assert_eq!(failed, AfterFailure::Fail);
    }

    #[test]
    fn a_pod_that_was_left_is_no_instance_and_is_avoided_for_a_while() {
        let (mut choice, now) = (Choice::default(), Instant::now());
        put(&mut choice, "one", 1, Some(IP));
        assert!(take(&mut choice, now, 1, "i1").is_some());
        choice.leave(now, "i1");
        assert_eq!(choice.taken("i1"), None);
        assert_eq!(take(&mut choice, now, 1, "i2"), None);
        assert!(take(&mut choice, now + AVOIDANCE, 1, "i2").is_some());
        choice.leave(now, "i2");
        assert_eq!(choice.remove("uid-one"), None);
    }
}
