//! Which unclaimed pods of one warm pool the controller creates and deletes.
//!
//! Fed by the controller with the pods that its watch shows, which may lag, and with the claims that the
//! gateways report; knows no API server. The number of unclaimed pods follows the recent claims, within
//! the pool's bounds. Invariant: at most that target (+ surge) unclaimed pods exist. Therefore a pod
//! counts from the start of its creation until it is known not to exist (`creations`), and until its
//! deletion is known to succeed. A claimed pod never returns to the pool. Pods of an old template are
//! replaced one by one as new ones become ready.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use crate::fleet::creations::Creations;
use crate::gateways::demand::ClaimedPod;
use crate::ids::{PodName, Uid};

/// The target is the number of claims within this time.
const CLAIM_WINDOW: Duration = Duration::from_secs(30);
/// The largest number of creations that the API server has not answered.
const CREATIONS_IN_FLIGHT_MAX: usize = 10;
/// How long a claimed pod stays when no gateway names it any more: another gateway may name it later.
const ABANDONED_GRACE: Duration = Duration::from_secs(30);
/// The pause before a failed deletion is retried.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How many pods may end unclaimed within [`ENDED_WINDOW`]; then creations stop for a while.
const ENDED_LIMIT: usize = 10;
const ENDED_WINDOW: Duration = Duration::from_secs(60);

/// An unclaimed pod as the watch shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    pub name: PodName,
    pub uid: Uid,
    /// The template from which the pod was created.
    pub template: String,
    pub is_ready: bool,
    /// Whether all containers of the pod have ended.
    pub is_over: bool,
    pub is_being_deleted: bool,
}

/// An effect that the controller carries out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Create a pod under a new name, or repeat a creation that was not answered, under its name.
    Create { name: PodName },
    /// Delete exactly this pod, and never a later pod of the same name.
    Delete { pod: PodName, uid: Uid },
}

/// The warm pool as the controller knows it, and which steps it is ready for.
#[derive(Clone, Copy, Debug)]
pub struct WarmPoolState<'a> {
    pub size: usize,
    /// The largest number of unclaimed pods; at least `size`.
    pub max: usize,
    /// The template of new pods.
    pub template: &'a str,
    pub may_create: bool,
    /// Whether all gateways have reported their claims, so that a pod in none of them is unclaimed.
    pub may_delete: bool,
}

/// The numbers in the status of a warm pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// The target: how many unclaimed pods the pool wants.
    pub wanted: usize,
    /// Pods that gateways can claim.
    pub ready: usize,
    /// Pods that are claimed and not adopted yet.
    pub claimed: usize,
    /// Pods that were created and are not ready yet, or are about to be created.
    pub refilling: usize,
}

/// A pod whose creation has begun and which the watch has not shown.
#[derive(Debug, Default)]
struct PendingPod {
    state: Creation,
    is_claimed: bool,
    /// The API server had accepted the pod before the present list began.
    is_before_list: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Creation {
    /// The first attempt has no answer yet.
    #[default]
    InFlight,
    /// An attempt was not answered, so the pod may exist.
    Unknown,
    Accepted,
}

#[derive(Debug)]
struct Deletion {
    /// The API server has accepted the deletion.
    is_certain: bool,
}

/// The unclaimed pods of one warm pool. See the module's text.
#[derive(Debug, Default)]
pub struct Stock {
    creations: Creations<PodName>,
    pending: BTreeMap<PodName, PendingPod>,
    /// Claimed pods by UID, with the time since which no gateway has named them.
    claimed: BTreeMap<Uid, Option<Instant>>,
    deleting: BTreeMap<Uid, Deletion>,
    claims: VecDeque<Instant>,
    /// UIDs of pods of this template that ended unclaimed.
    ended: VecDeque<(Instant, Uid)>,
    template: String,
    /// No deletion begins before this.
    paused_until: Option<Instant>,
    woken_at: Option<Instant>,
    claims_counted: u64,
    count: Count,
}

/// The living unclaimed pods that the watch shows and that are not being deleted.
struct UnclaimedPods<'a> {
    current: Vec<&'a Pod>,
    old: Vec<&'a Pod>,
    /// Pods whose creation has begun and which the watch has not shown.
    coming: usize,
    /// Pods whose deletion has begun and is not known to succeed.
    going: usize,
}

impl Stock {
    /// The steps that follow from the claims of all gateways. Each step counts as begun. `name` generates
    /// a new name at each call.
    pub fn plan<'a>(
        &mut self,
        now: Instant,
        pool: WarmPoolState<'_>,
        claims: impl Iterator<Item = &'a ClaimedPod>,
        pods: &[Pod],
        name: impl FnMut() -> PodName,
    ) -> Vec<Step> {
        self.wake(now);
        if self.template != pool.template {
            self.template = pool.template.to_owned();
            self.ended.clear();
        }
        self.note(now, claims, pods);
        let target = self.claims.len().min(pool.max).max(pool.size);
        let mut steps = self.delete_used(now, pool, pods);
        self.delete_excess(pool, target, pods, &mut steps);
        let unclaimed = self.unclaimed(pool, pods);
        self.count = Count {
            wanted: target,
            ready: pods
                .iter()
                .filter(|pod| pod.is_ready && self.is_stock(pod))
                .count(),
            claimed: self.claimed.len(),
            refilling: target.saturating_sub(unclaimed.ready()),
        };
        if pool.may_create {
            self.create(now, target, &unclaimed, name, &mut steps);
        }
        steps
    }

    /// Records the pods that the watch shows and the claims.
    fn note<'a>(
        &mut self,
        now: Instant,
        claims: impl Iterator<Item = &'a ClaimedPod>,
        pods: &[Pod],
    ) {
        let claims: BTreeMap<&Uid, &PodName> = claims.map(|pod| (&pod.uid, &pod.name)).collect();
        let uids: BTreeSet<&Uid> = pods.iter().map(|pod| &pod.uid).collect();
        self.deleting.retain(|uid, _| uids.contains(uid));
        self.claimed.retain(|uid, _| uids.contains(uid));
        for pod in pods {
            let pending = self.pending.remove(&pod.name);
            let was_claimed = pending.is_some_and(|pending| pending.is_claimed);
            let is_named = claims.contains_key(&pod.uid);
            let before = self.claimed.get(&pod.uid).copied();
            if is_named && before.is_none() && !was_claimed {
                self.claim(now);
            }
            if is_named {
                self.claimed.insert(pod.uid.clone(), None);
            } else if was_claimed || before.is_some() {
                let since = before.flatten().unwrap_or(now);
                self.claimed.insert(pod.uid.clone(), Some(since));
            }
        }
        for name in claims.values() {
            let pending = self.pending.get_mut(*name);
            if let Some(pending) = pending.filter(|pending| !pending.is_claimed) {
                pending.is_claimed = true;
                // A gateway has seen the pod, so the API server has accepted it.
                pending.state = Creation::Accepted;
                self.claim(now);
            }
        }
    }

    fn claim(&mut self, now: Instant) {
        self.claims.push_back(now);
        self.claims_counted += 1;
    }

    fn is_stock(&self, pod: &Pod) -> bool {
        let is_used = self.claimed.contains_key(&pod.uid);
        !is_used && !pod.is_over && !pod.is_being_deleted && !self.deleting.contains_key(&pod.uid)
    }

    fn unclaimed<'a>(&self, pool: WarmPoolState<'_>, pods: &'a [Pod]) -> UnclaimedPods<'a> {
        let stock = pods.iter().filter(|pod| self.is_stock(pod));
        let (current, old) = stock.partition(|pod| pod.template == pool.template);
        let going = pods.iter().filter(|pod| {
            let is_uncertain = |deletion: &Deletion| !deletion.is_certain;
            let is_living = !pod.is_over && !pod.is_being_deleted;
            let is_used = self.claimed.contains_key(&pod.uid);
            is_living && !is_used && self.deleting.get(&pod.uid).is_some_and(is_uncertain)
        });
        let going = going.count();
        let coming = self.pending.values().filter(|pending| !pending.is_claimed);
        UnclaimedPods {
            current,
            old,
            coming: coming.count(),
            going,
        }
    }

    /// Deletes pods that have ended, and claimed pods that no gateway names any more.
    fn delete_used(&mut self, now: Instant, pool: WarmPoolState<'_>, pods: &[Pod]) -> Vec<Step> {
        let is_abandoned = |pod: &Pod| {
            let since = self.claimed.get(&pod.uid).copied().flatten();
            pool.may_delete && since.is_some_and(|since| now >= since + ABANDONED_GRACE)
        };
        let done = pods.iter().filter(|pod| {
            let is_begun = pod.is_being_deleted || self.deleting.contains_key(&pod.uid);
            !is_begun && (pod.is_over || is_abandoned(pod))
        });
        let done: Vec<&Pod> = done.collect();
        for pod in &done {
            self.note_end(now, pod);
        }
        let mut steps = Vec::new();
        self.delete(done, &mut steps);
        steps
    }

    fn note_end(&mut self, now: Instant, pod: &Pod) {
        let is_noted = self.ended.iter().any(|(_, uid)| *uid == pod.uid);
        let is_used = self.claimed.contains_key(&pod.uid);
        if pod.is_over && !is_used && !is_noted && pod.template == self.template {
            self.ended.push_back((now, pod.uid.clone()));
        }
    }

    /// Deletes pods beyond the target, and pods of the old template that new pods replace.
    fn delete_excess(
        &mut self,
        pool: WarmPoolState<'_>,
        target: usize,
        pods: &[Pod],
        steps: &mut Vec<Step>,
    ) {
        if !pool.may_delete {
            return;
        }
        let mut unclaimed = self.unclaimed(pool, pods);
        unclaimed.current.sort_by_key(|pod| pod.is_ready);
        let excess = (unclaimed.current.len() + unclaimed.coming).saturating_sub(target);
        let kept = unclaimed
            .current
            .split_off(excess.min(unclaimed.current.len()));
        let mut unneeded = unclaimed.current;
        let ready = |pods: &[&Pod]| pods.iter().filter(|pod| pod.is_ready).count();
        let mut spare = (ready(&kept) + ready(&unclaimed.old)).saturating_sub(target);
        for pod in unclaimed.old {
            // A pod that is not ready serves no call, and may never become ready.
            if !pod.is_ready {
                unneeded.push(pod);
            } else if spare > 0 {
                spare -= 1;
                unneeded.push(pod);
            }
        }
        self.delete(unneeded, steps);
    }

    fn delete(&mut self, pods: Vec<&Pod>, steps: &mut Vec<Step>) {
        if self.paused_until.is_some() {
            return;
        }
        // A creation in flight would create a pod of this name again.
        let settled = |pod: &&Pod| !self.creations.is_expected(&pod.name);
        for pod in pods.into_iter().filter(settled) {
            let deletion = Deletion { is_certain: false };
            self.deleting.insert(pod.uid.clone(), deletion);
            let (pod, uid) = (pod.name.clone(), pod.uid.clone());
            steps.push(Step::Delete { pod, uid });
        }
    }

    fn create(
        &mut self,
        now: Instant,
        target: usize,
        unclaimed: &UnclaimedPods<'_>,
        mut name: impl FnMut() -> PodName,
        steps: &mut Vec<Step>,
    ) {
        let unknown = self.pending.iter().filter(|(name, pending)| {
            pending.state != Creation::Accepted && !self.creations.is_expected(name)
        });
        let unknown: Vec<PodName> = unknown.map(|(name, _)| name.clone()).collect();
        let wanted = match self.is_halted() {
            true => 0,
            false => unclaimed.missing(target),
        };
        let names = unknown.into_iter().chain((0..wanted).map(|_| name()));
        let free = CREATIONS_IN_FLIGHT_MAX.saturating_sub(self.creations.in_flight());
        let at_once = self.creations.at_once().min(free);
        for name in names.take(at_once) {
            self.creations.begin(now, name.clone());
            let pending = self.pending.entry(name.clone());
            pending
                .and_modify(|pending| pending.state = Creation::Unknown)
                .or_default();
            steps.push(Step::Create { name });
        }
    }

    /// The API server accepted the pod, or had it already.
    pub fn created(&mut self, name: &PodName) {
        self.creations.end(name);
        self.creations.accepted();
        if let Some(pending) = self.pending.get_mut(name) {
            pending.state = Creation::Accepted;
        }
    }

    /// The API server refused the pod.
    pub fn refused(&mut self, now: Instant, name: &PodName) {
        self.creations.refused(now, name);
        // An earlier attempt that was not answered may have created the pod.
        let pending = self.pending.get(name);
        if pending.is_some_and(|pending| pending.state == Creation::InFlight) {
            self.pending.remove(name);
        }
    }

    /// The API server did not answer: whether the pod exists is unknown.
    pub fn unanswered(&mut self, now: Instant, name: &PodName) {
        self.creations.refused(now, name);
        if let Some(pending) = self.pending.get_mut(name)
            && pending.state == Creation::InFlight
        {
            pending.state = Creation::Unknown;
        }
    }

    pub fn deleted(&mut self, uid: &Uid) {
        if let Some(deletion) = self.deleting.get_mut(uid) {
            deletion.is_certain = true;
        }
    }

    /// A deletion failed; it is retried after a pause.
    pub fn not_deleted(&mut self, now: Instant, uid: &Uid) {
        self.deleting.remove(uid);
        self.paused_until = Some(now + RETRY_PAUSE);
    }

    /// The watch begins a list. A pod that was accepted before is on the list, or it is gone.
    pub fn list_begins(&mut self) {
        for pending in self.pending.values_mut() {
            pending.is_before_list = pending.state == Creation::Accepted;
        }
    }

    /// The list is complete. The next [`Stock::plan`] gets the pods that were on it.
    pub fn list_ends(&mut self, is_listed: impl Fn(&PodName) -> bool) {
        self.pending
            .retain(|name, pending| !pending.is_before_list || is_listed(name));
    }

    /// The numbers as of the last plan.
    pub fn count(&self) -> Count {
        self.count
    }

    /// The number of claims since this value was created.
    pub fn claims(&self) -> u64 {
        self.claims_counted
    }

    /// Whether creations have stopped because too many pods ended unclaimed.
    pub fn is_halted(&self) -> bool {
        self.ended.len() >= ENDED_LIMIT
    }

    /// Whether the API server has accepted a pod since its last refusal.
    pub fn is_accepted(&self) -> bool {
        self.creations.is_accepted()
    }

    /// Acts on deadlines that have passed.
    pub fn wake(&mut self, now: Instant) {
        self.creations.wake(now);
        self.paused_until = self.paused_until.filter(|until| *until > now);
        self.woken_at = Some(now);
        while self
            .claims
            .front()
            .is_some_and(|at| *at + CLAIM_WINDOW <= now)
        {
            self.claims.pop_front();
        }
        self.ended.retain(|(at, _)| *at + ENDED_WINDOW > now);
    }

    /// When the next [`Stock::plan`] is due, unless an event comes first.
    pub fn next_wakeup(&self) -> Option<Instant> {
        let claim = self.claims.front().map(|at| *at + CLAIM_WINDOW);
        let ended = self.ended.front().map(|(at, _)| *at + ENDED_WINDOW);
        let since = self.claimed.values().copied().flatten();
        // Skip deadlines that were due at the last wake-up: those pods are deleted once all gateways have
        // reported, which wakes the controller anyway.
        let abandoned = since.map(|since| since + ABANDONED_GRACE);
        let abandoned = abandoned.filter(|at| self.woken_at.is_none_or(|woken| *at > woken));
        let all = [
            claim,
            ended,
            self.paused_until,
            self.creations.next_wakeup(),
        ];
        all.into_iter().flatten().chain(abandoned.min()).min()
    }
}

impl UnclaimedPods<'_> {
    fn ready(&self) -> usize {
        self.current.iter().filter(|pod| pod.is_ready).count()
    }

    /// How many pods to create. Beyond the target only pods that replace old ones are created.
    fn missing(&self, target: usize) -> usize {
        let surge = self.old.len().min(surge(target));
        let present = self.current.len() + self.coming;
        let all = present + self.old.len() + self.going;
        let room = (target + surge).saturating_sub(all);
        target.saturating_sub(present).min(room)
    }
}

/// How many pods beyond the target may exist while old ones are replaced.
fn surge(target: usize) -> usize {
    (target / 4).max(1)
}

#[cfg(test)]
mod tests;
