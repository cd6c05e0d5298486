//! What the worker does about warm pools: their resources, and which pods are whose.
//!
//! A pod is of the function that its labels name, else of the warm pool. So a claimed pod moves from
//! the one to the other, once it is labelled.

use std::time::Instant;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::runtime::watcher::Event;
use pilotlight_api::resource::WarmPoolResource;
use pilotlight_api::{Class, labels};
use pilotlight_core::fleet::stock::Count;

use super::Worker;
use crate::pool::{Context, Pool};

/// The warm pool that an unclaimed pod is of.
pub(super) fn pool_of(pod: &Pod) -> Option<&String> {
    match pod.labels().contains_key(labels::FUNCTION) {
        true => None,
        false => pod.labels().get(labels::WARM_POOL),
    }
}

impl Worker {
    pub(super) fn on_pool(&mut self, event: Event<WarmPoolResource>) {
        match event {
            Event::Init => self.listed_pools.names.clear(),
            Event::InitApply(resource) => {
                self.listed_pools.names.insert(resource.name_any());
                self.set_pool(resource);
            }
            Event::InitDone => {
                let listed = self.listed_pools.end();
                let pools = self.pools.iter_mut();
                let gone = pools.filter(|(name, _)| !listed.contains(*name));
                gone.for_each(|(_, pool)| pool.remove());
                self.settle_all();
            }
            Event::Apply(resource) => {
                let name = resource.name_any();
                let before = self.classes();
                self.set_pool(resource);
                self.settle_pool(&name);
                self.settle_if_changed(&before);
            }
            Event::Delete(resource) => {
                let before = self.classes();
                if let Some(pool) = self.pools.get_mut(&resource.name_any()) {
                    pool.remove();
                }
                self.settle_if_changed(&before);
            }
        }
        self.forget_pools();
    }

    fn set_pool(&mut self, resource: WarmPoolResource) {
        let pool = self.pools.entry(resource.name_any()).or_default();
        pool.set(resource, &self.options);
    }

    /// Functions say from which pool their instances may come.
    fn settle_if_changed(&mut self, before: &[(Class, String)]) {
        if self.classes() != before {
            self.settle_all();
        }
    }

    /// The pools that functions may fit.
    pub(super) fn classes(&self) -> Vec<(Class, String)> {
        let pools = self.pools.iter();
        pools
            .filter_map(|(name, pool)| Some((pool.class()?, name.clone())))
            .collect()
    }

    pub(super) fn note_unclaimed(&mut self, pool: String, pod: Pod) {
        let pool = self.pools.entry(pool).or_default();
        pool.pods.insert(pod.name_any(), pod);
    }

    /// The pod is a function's now, or gone; the pool that it was of.
    pub(super) fn leave_pool(&mut self, pod: &str) -> Option<String> {
        let mut pools = self.pools.iter_mut();
        pools.find_map(|(name, pool)| pool.pods.remove(pod).map(|_| name.clone()))
    }

    pub(super) fn settle_pools(&mut self) {
        let names: Vec<String> = self.pools.keys().cloned().collect();
        names.iter().for_each(|name| self.settle_pool(name));
    }

    pub(super) fn settle_pool(&mut self, name: &str) {
        if !*self.ready.borrow() || !self.leads {
            return;
        }
        let Some(pool) = self.pools.get_mut(name) else {
            return;
        };
        let context = Context {
            name,
            writer: &self.writer,
            claims: &self.demands.claims(),
            all_heard: self.demands.all_heard(),
        };
        pool.settle(&context, &mut self.steps);
        self.forget_pools();
    }

    /// Of pools that are gone with their pods; and counts the others.
    fn forget_pools(&mut self) {
        self.pools.retain(|_, pool| !pool.is_over());
        let existing = self.pools.values().filter(|pool| pool.class().is_some());
        let counts: Vec<Count> = self.pools.values().map(Pool::count).collect();
        self.metrics.warm_pools(existing.count(), &counts);
    }

    pub(super) fn wake_pools(&mut self, now: Instant, concerns_all: bool) {
        let mut due = Vec::new();
        for (name, pool) in &mut self.pools {
            if concerns_all || pool.next_wakeup().is_some_and(|at| at <= now) {
                pool.wake(now);
                due.push(name.clone());
            }
        }
        due.iter().for_each(|name| self.settle_pool(name));
    }
}
