//! In which order a gateway deploys functions, takes pools over and hands them over.
//!
//! Fed by `gateway::cluster` with the Functions that its watch shows and with the members; returns steps
//! that the gateway carries out one after the other. The order is the decision: the controller creates and
//! deletes pods by what the demand says (`ledger`), while the driver starts and adopts instances.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{PoolId, Revision, Uid};

/// A deployed function: which Function resource, and which revision of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployed {
    pub uid: Uid,
    pub revision: Revision,
}

/// An effect that the gateway carries out, and completes before the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Report the demand for the pool from now on, for instances of this revision.
    Claim { pool: PoolId, deployed: Deployed },
    /// Report no demand for the pool any more.
    Release { pool: PoolId },
    /// Drop everything that the demand has for a deleted function.
    Forget { pool: PoolId },
    /// The driver deletes the pools in `removed`, then adds or updates those in `set`.
    Deploy {
        set: Vec<PoolId>,
        removed: Vec<PoolId>,
    },
    /// The driver takes over the pools in `gained` with all their living instances of the deployed revision,
    /// and hands over those in `lost`.
    ChangeOwnership {
        gained: Vec<PoolId>,
        lost: Vec<PoolId>,
    },
}

/// The functions that one gateway knows, and the pools that it owns. See the module's text.
#[derive(Debug, Default)]
pub struct Handover {
    deployed: BTreeMap<PoolId, Deployed>,
    owned: BTreeSet<PoolId>,
}

impl Handover {
    pub fn deployed(&self) -> &BTreeMap<PoolId, Deployed> {
        &self.deployed
    }

    pub fn owns(&self, pool: &PoolId) -> bool {
        self.owned.contains(pool)
    }

    /// The complete set of functions. [`Handover::settle`] follows.
    pub fn replace_all(&mut self, all: BTreeMap<PoolId, Deployed>) -> Vec<Step> {
        let is_same = |(pool, old): &(&PoolId, &Deployed)| {
            all.get(*pool).is_some_and(|new| new.uid == old.uid)
        };
        let removed = self.deployed.iter().filter(|one| !is_same(one));
        let removed = removed.map(|(pool, _)| pool.clone()).collect();
        let set = all.keys().cloned().collect();
        self.deployed = all;
        self.deploy(set, removed)
    }

    /// A new or changed function. [`Handover::settle`] follows.
    pub fn set(&mut self, pool: PoolId, deployed: Deployed) -> Vec<Step> {
        let uid = deployed.uid.clone();
        let before = self.deployed.insert(pool.clone(), deployed);
        // A function that was created again under the same name takes nothing over from the old one.
        let is_another = before.is_some_and(|before| before.uid != uid);
        let removed = is_another.then(|| pool.clone()).into_iter().collect();
        self.deploy(vec![pool], removed)
    }

    /// A deleted function.
    pub fn remove(&mut self, pool: &PoolId) -> Vec<Step> {
        match self.deployed.remove(pool) {
            Some(_) => self.deploy(Vec::new(), vec![pool.clone()]),
            None => Vec::new(),
        }
    }

    fn deploy(&mut self, set: Vec<PoolId>, removed: Vec<PoolId>) -> Vec<Step> {
        for pool in &removed {
            self.owned.remove(pool);
        }
        // The demand names the new revision before the driver wants instances of it. In the other order the
        // controller could create such an instance from the old revision, and it would serve the old code.
        let owned = set.iter().filter(|pool| self.owned.contains(*pool));
        let mut steps: Vec<Step> = owned.filter_map(|pool| self.claim(pool)).collect();
        let forgotten: Vec<Step> = removed
            .iter()
            .map(|pool| Step::Forget { pool: pool.clone() })
            .collect();
        steps.push(Step::Deploy { set, removed });
        // After the driver, whose pools cancel their requests as they end; and before the claim of a function
        // that was created again under the same name, which would be forgotten as well.
        steps.extend(forgotten);
        steps
    }

    fn claim(&self, pool: &PoolId) -> Option<Step> {
        let deployed = self.deployed.get(pool)?.clone();
        let pool = pool.clone();
        Some(Step::Claim { pool, deployed })
    }

    /// Takes over the pools that this gateway owns by now, and hands over those that it does not own any
    /// more. `is_mine`: whether this gateway is the owner of a pool; `pools`: those to look at.
    pub fn settle(
        &mut self,
        pools: impl IntoIterator<Item = PoolId>,
        is_mine: impl Fn(&PoolId) -> bool,
    ) -> Vec<Step> {
        let (mut gained, mut lost) = (Vec::new(), Vec::new());
        for pool in pools {
            match (self.owned.contains(&pool), is_mine(&pool)) {
                (false, true) if self.deployed.contains_key(&pool) => gained.push(pool),
                (true, false) => lost.push(pool),
                _ => {}
            }
        }
        if gained.is_empty() && lost.is_empty() {
            return Vec::new();
        }
        // Release before the driver hands over: it cancels its requests then, and a demand without them would
        // have the controller delete the instances that the new owner adopts.
        let released = lost.iter().map(|pool| Step::Release { pool: pool.clone() });
        let mut steps: Vec<Step> = released.collect();
        for pool in &lost {
            self.owned.remove(pool);
        }
        // Claim after the driver has adopted all living instances: a demand without them would have the
        // controller delete them.
        let claims: Vec<Step> = gained.iter().filter_map(|pool| self.claim(pool)).collect();
        self.owned.extend(gained.iter().cloned());
        steps.push(Step::ChangeOwnership { gained, lost });
        steps.extend(claims);
        steps
    }

    /// [`Handover::settle`] for all pools.
    pub fn settle_all(&mut self, is_mine: impl Fn(&PoolId) -> bool) -> Vec<Step> {
        let all: Vec<PoolId> = self.deployed.keys().cloned().collect();
        self.settle(all, is_mine)
    }
}
