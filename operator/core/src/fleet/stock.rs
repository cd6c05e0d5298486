//! Which unclaimed pods of one warm pool are to be made, and which to be deleted.
//!
//! Fed by the controller with what its watch shows, which may be long ago, and with the claims that
//! the gateways tell of; knows no API server. As many pods wait as were claimed of late, within the
//! pool's bounds. A pod whose creation was begun counts until it is known not to be there
//! (`creations`), one whose deletion was begun until it is known to end: so there are never more
//! than there shall be. A pod that was claimed once is used for ever. Pods of an old template are
//! replaced one by one as new ones are ready.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use crate::fleet::creations::Creations;
use crate::gateways::demand::ClaimedPod;

/// The claims of this long are prepared for.
const WINDOW: Duration = Duration::from_secs(30);
/// Creations that the API server has not answered yet, at most.
const IN_FLIGHT: usize = 10;
/// Before a claimed pod that nobody names any more is deleted: another gateway may name it yet.
const GRACE: Duration = Duration::from_secs(30);
/// Before a deletion is tried again.
const PAUSE: Duration = Duration::from_secs(1);
/// Pods that may end unclaimed within [`ENDED_WINDOW`] before no more are made for a while.
const ENDED_LIMIT: usize = 10;
const ENDED_WINDOW: Duration = Duration::from_secs(60);

/// An unclaimed pod as the watch shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    pub name: String,
    pub uid: String,
    /// What it was made from.
    pub template: String,
    pub is_ready: bool,
    /// All its containers have ended.
    pub is_over: bool,
    pub is_being_deleted: bool,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Of a name that no pod has had, or of one whose creation was not answered.
    Create { name: String },
    /// Of exactly this pod, never of one that bears its name later.
    Delete { pod: String, uid: String },
}

/// The pool as the controller knows it, and what it is ready for.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    pub size: usize,
    /// At least `size`.
    pub max: usize,
    /// What pods are made from.
    pub template: &'a str,
    pub may_create: bool,
    /// All gateways have been heard: what nobody named is not claimed.
    pub may_delete: bool,
}

/// How the pool does, for its status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Unclaimed pods that there shall be.
    pub wanted: usize,
    /// Those that can be claimed.
    pub ready: usize,
    /// Claimed, and not yet a function's.
    pub claimed: usize,
    /// Made and not ready yet, or about to be made.
    pub refilling: usize,
}

/// A pod whose creation was begun and which the watch has not shown.
#[derive(Debug, Default)]
struct Begun {
    state: Creation,
    is_claimed: bool,
    /// It was there before the list that is being read.
    is_before_list: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Creation {
    /// Not answered yet, for the first time.
    #[default]
    Asked,
    /// An attempt was not answered: it may be there.
    Doubtful,
    Taken,
}

#[derive(Debug)]
struct Deletion {
    /// The API server said yes: it is as good as gone.
    is_certain: bool,
}

/// One pool's unclaimed pods. See the module's text.
#[derive(Debug, Default)]
pub struct Stock {
    creations: Creations,
    begun: BTreeMap<String, Begun>,
    /// By UID; since when nobody names it.
    claimed: BTreeMap<String, Option<Instant>>,
    deleting: BTreeMap<String, Deletion>,
    claims: VecDeque<Instant>,
    /// UIDs of pods of this template that ended unclaimed.
    ended: VecDeque<(Instant, String)>,
    template: String,
    /// Deletions wait.
    paused_until: Option<Instant>,
    woken_at: Option<Instant>,
    claims_counted: u64,
    count: Count,
}

/// The living unclaimed pods that the watch shows and nobody deletes.
struct Shelf<'a> {
    current: Vec<&'a Pod>,
    old: Vec<&'a Pod>,
    /// Begun, and not shown.
    coming: usize,
    /// Being deleted, as far as is known without success yet.
    going: usize,
}

impl Stock {
    /// What follows from the claims of all gateways for the pool as the controller knows it. Each
    /// step counts as begun. `name` makes names up, none twice.
    pub fn plan<'a>(
        &mut self,
        now: Instant,
        known: Known<'_>,
        claims: impl Iterator<Item = &'a ClaimedPod>,
        pods: &[Pod],
        name: impl FnMut() -> String,
    ) -> Vec<Step> {
        self.wake(now);
        if self.template != known.template {
            self.template = known.template.to_owned();
            self.ended.clear();
        }
        self.note(now, claims, pods);
        let target = self.claims.len().min(known.max).max(known.size);
        let mut steps = self.delete_used(now, known, pods);
        self.delete_excess(known, target, pods, &mut steps);
        let shelf = self.shelf(known, pods);
        self.count = Count {
            wanted: target,
            ready: pods
                .iter()
                .filter(|pod| pod.is_ready && self.is_stock(pod))
                .count(),
            claimed: self.claimed.len(),
            refilling: target.saturating_sub(shelf.ready()),
        };
        if known.may_create {
            self.create(now, target, &shelf, name, &mut steps);
        }
        steps
    }

    /// Takes in what is shown and what is claimed.
    fn note<'a>(
        &mut self,
        now: Instant,
        claims: impl Iterator<Item = &'a ClaimedPod>,
        pods: &[Pod],
    ) {
        let claims: BTreeMap<&str, &str> = claims
            .map(|pod| (pod.uid.as_str(), pod.name.as_str()))
            .collect();
        let uids: BTreeSet<&str> = pods.iter().map(|pod| pod.uid.as_str()).collect();
        self.deleting.retain(|uid, _| uids.contains(uid.as_str()));
        self.claimed.retain(|uid, _| uids.contains(uid.as_str()));
        for pod in pods {
            let begun = self.begun.remove(&pod.name);
            let was_claimed = begun.is_some_and(|begun| begun.is_claimed);
            let is_named = claims.contains_key(pod.uid.as_str());
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
            let begun = self.begun.get_mut(*name);
            if let Some(begun) = begun.filter(|begun| !begun.is_claimed) {
                begun.is_claimed = true;
                // A gateway has seen it: it was made.
                begun.state = Creation::Taken;
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

    fn shelf<'a>(&self, known: Known<'_>, pods: &'a [Pod]) -> Shelf<'a> {
        let stock = pods.iter().filter(|pod| self.is_stock(pod));
        let (current, old) = stock.partition(|pod| pod.template == known.template);
        let going = pods.iter().filter(|pod| {
            let is_uncertain = |deletion: &Deletion| !deletion.is_certain;
            let is_living = !pod.is_over && !pod.is_being_deleted;
            let is_used = self.claimed.contains_key(&pod.uid);
            is_living && !is_used && self.deleting.get(&pod.uid).is_some_and(is_uncertain)
        });
        let going = going.count();
        let coming = self.begun.values().filter(|begun| !begun.is_claimed);
        Shelf {
            current,
            old,
            coming: coming.count(),
            going,
        }
    }

    /// Deletes what has ended, and what was claimed and is named by nobody any more.
    fn delete_used(&mut self, now: Instant, known: Known<'_>, pods: &[Pod]) -> Vec<Step> {
        let is_abandoned = |pod: &Pod| {
            let since = self.claimed.get(&pod.uid).copied().flatten();
            known.may_delete && since.is_some_and(|since| now >= since + GRACE)
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

    /// Deletes what is too much, and of the old template what new ones stand in for.
    fn delete_excess(
        &mut self,
        known: Known<'_>,
        target: usize,
        pods: &[Pod],
        steps: &mut Vec<Step>,
    ) {
        if !known.may_delete {
            return;
        }
        let mut shelf = self.shelf(known, pods);
        shelf.current.sort_by_key(|pod| pod.is_ready);
        let excess = (shelf.current.len() + shelf.coming).saturating_sub(target);
        let kept = shelf.current.split_off(excess.min(shelf.current.len()));
        let mut unneeded = shelf.current;
        let ready = |pods: &[&Pod]| pods.iter().filter(|pod| pod.is_ready).count();
        let mut spare = (ready(&kept) + ready(&shelf.old)).saturating_sub(target);
        for pod in shelf.old {
            // One that is not ready serves nobody, and may never be.
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
        // An attempt that is still under way would make a pod of this name anew.
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
        shelf: &Shelf<'_>,
        mut name: impl FnMut() -> String,
        steps: &mut Vec<Step>,
    ) {
        let doubtful = self.begun.iter().filter(|(name, begun)| {
            begun.state != Creation::Taken && !self.creations.is_expected(name)
        });
        let doubtful: Vec<String> = doubtful.map(|(name, _)| name.clone()).collect();
        let wanted = match self.is_halted() {
            true => 0,
            false => shelf.missing(target),
        };
        let names = doubtful.into_iter().chain((0..wanted).map(|_| name()));
        let free = IN_FLIGHT.saturating_sub(self.creations.in_flight());
        let at_once = self.creations.at_once().min(free);
        for name in names.take(at_once) {
            self.creations.begin(now, name.clone());
            let begun = self.begun.entry(name.clone());
            begun
                .and_modify(|begun| begun.state = Creation::Doubtful)
                .or_default();
            steps.push(Step::Create { name });
        }
    }

    /// The API server took the pod, or had it already.
    pub fn created(&mut self, name: &str) {
        self.creations.end(name);
        self.creations.taken();
        if let Some(begun) = self.begun.get_mut(name) {
            begun.state = Creation::Taken;
        }
    }

    /// The API server refused the pod.
    pub fn refused(&mut self, now: Instant, name: &str) {
        self.creations.refused(now, name);
        // An earlier attempt may have made it, unheard.
        let begun = self.begun.get(name);
        if begun.is_some_and(|begun| begun.state == Creation::Asked) {
            self.begun.remove(name);
        }
    }

    /// The API server did not answer: the pod may be made or not.
    pub fn unanswered(&mut self, now: Instant, name: &str) {
        self.creations.refused(now, name);
        if let Some(begun) = self.begun.get_mut(name)
            && begun.state == Creation::Asked
        {
            begun.state = Creation::Doubtful;
        }
    }

    pub fn deleted(&mut self, uid: &str) {
        if let Some(deletion) = self.deleting.get_mut(uid) {
            deletion.is_certain = true;
        }
    }

    /// A deletion failed and is to be tried again.
    pub fn not_deleted(&mut self, now: Instant, uid: &str) {
        self.deleting.remove(uid);
        self.paused_until = Some(now + PAUSE);
    }

    /// The watch begins a list: all that was made before is on it, or gone.
    pub fn list_begins(&mut self) {
        for begun in self.begun.values_mut() {
            begun.is_before_list = begun.state == Creation::Taken;
        }
    }

    /// The list is complete, and [`Stock::plan`] is told next what was on it.
    pub fn list_ends(&mut self, is_listed: impl Fn(&str) -> bool) {
        self.begun
            .retain(|name, begun| !begun.is_before_list || is_listed(name));
    }

    /// As of the last plan.
    pub fn count(&self) -> Count {
        self.count
    }

    /// Claims since this began.
    pub fn claims(&self) -> u64 {
        self.claims_counted
    }

    /// So many pods ended unclaimed that no more are made for now.
    pub fn is_halted(&self) -> bool {
        self.ended.len() >= ENDED_LIMIT
    }

    /// Since the last refusal a pod was taken.
    pub fn is_accepted(&self) -> bool {
        self.creations.is_accepted()
    }

    /// Time has passed.
    pub fn wake(&mut self, now: Instant) {
        self.creations.wake(now);
        self.paused_until = self.paused_until.filter(|until| *until > now);
        self.woken_at = Some(now);
        while self.claims.front().is_some_and(|at| *at + WINDOW <= now) {
            self.claims.pop_front();
        }
        self.ended.retain(|(at, _)| *at + ENDED_WINDOW > now);
    }

    /// When the next [`Stock::plan`] is due, if nothing happens before.
    pub fn next_wakeup(&self) -> Option<Instant> {
        let claim = self.claims.front().map(|at| *at + WINDOW);
        let ended = self.ended.front().map(|(at, _)| *at + ENDED_WINDOW);
        let since = self.claimed.values().copied().flatten();
        // What was due then waits for the gateways.
        let abandoned = since.map(|since| since + GRACE);
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

impl Shelf<'_> {
    fn ready(&self) -> usize {
        self.current.iter().filter(|pod| pod.is_ready).count()
    }

    /// How many are to be made: beyond what is wanted only as many as replace old ones.
    fn missing(&self, target: usize) -> usize {
        let surge = self.old.len().min(surge(target));
        let present = self.current.len() + self.coming;
        let all = present + self.old.len() + self.going;
        let room = (target + surge).saturating_sub(all);
        target.saturating_sub(present).min(room)
    }
}

/// Pods beyond those wanted, while old ones are replaced.
fn surge(target: usize) -> usize {
    (target / 4).max(1)
}

#[cfg(test)]
mod tests;
