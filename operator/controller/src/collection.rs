//! All resources of one kind by name, and the operations for them.
//!
//! `worker` feeds it with the watch of the kind and with completed operations, and asks it to settle one
//! resource or all. What a resource settles is decided in `tracked` and the kind.

use std::collections::BTreeMap;
use std::time::Instant;

use kube::ResourceExt;
use kube::runtime::watcher::Event;
use pilotlight_watch::{Change, Decoded, Fold};

use crate::options::Options;
use crate::tracked::{Completed, Context, Kind, Operations, Tracked};

/// The resources that an event of a watch concerns.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Concerned {
    One(String),
    /// A list is complete.
    All,
}

pub(crate) struct Collection<R: Kind> {
    shown: Fold<Decoded<R::Resource>>,
    items: BTreeMap<String, Tracked<R>>,
    pub(crate) operations: Operations<R>,
}

impl<R: Kind> Collection<R> {
    pub(crate) fn new() -> Self {
        Collection {
            shown: Fold::new(|_| ()),
            items: BTreeMap::new(),
            operations: Operations::new(),
        }
    }

    /// Whether everything that exists is known.
    pub(crate) fn is_complete(&self) -> bool {
        self.shown.is_complete()
    }

    pub(crate) fn take(
        &mut self,
        event: Event<Decoded<R::Resource>>,
        options: &Options,
    ) -> Vec<Concerned> {
        let mut concerned = Vec::new();
        for change in self.shown.take(event) {
            match change {
                Change::ListStarted => {}
                Change::Applied(shown) => {
                    let name = shown.name_any();
                    self.entry(&name).set(shown, options);
                    if !self.shown.is_listing() {
                        concerned.push(Concerned::One(name));
                    }
                }
                Change::Deleted { name, .. } => {
                    if let Some(tracked) = self.items.get_mut(&name) {
                        tracked.remove();
                    }
                    self.forget_if_over(&name);
                    concerned.push(Concerned::One(name));
                }
                Change::ListCompleted => concerned.push(Concerned::All),
            }
        }
        concerned
    }

    pub(crate) fn entry(&mut self, name: &str) -> &mut Tracked<R> {
        self.items.entry(name.to_owned()).or_default()
    }

    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut Tracked<R>> {
        self.items.get_mut(name)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &Tracked<R>)> {
        self.items.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&String, &mut Tracked<R>)> {
        self.items.iter_mut()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.items.keys().cloned().collect()
    }

    /// How many resources exist; others are remembered until their pods are gone.
    pub(crate) fn existing(&self) -> usize {
        self.items.values().filter(|one| one.exists()).count()
    }

    /// How many of them this version cannot read.
    pub(crate) fn unreadable(&self) -> usize {
        let items = self.items.values();
        items.filter(|one| one.is_unreadable()).count()
    }

    pub(crate) fn forget_if_over(&mut self, name: &str) {
        if self.items.get(name).is_some_and(Tracked::is_over) {
            self.items.remove(name);
        }
    }

    pub(crate) fn settle(&mut self, context: &Context<'_, R>) {
        if let Some(tracked) = self.items.get_mut(context.name) {
            tracked.settle(context, &mut self.operations);
        }
    }

    /// Takes in what became of an operation; returns the name of the resource if it is still there.
    pub(crate) fn completed(&mut self, completed: Completed<R>, now: Instant) -> Option<String> {
        let name = completed.name.clone();
        self.items.get_mut(&name)?.completed(completed, now);
        Some(name)
    }

    /// Time has passed. Returns the names of the resources that it concerns.
    pub(crate) fn wake(&mut self, now: Instant, concerns_all: bool) -> Vec<String> {
        let items = self.items.iter_mut();
        let due =
            items.filter(|(_, one)| concerns_all || one.next_wakeup().is_some_and(|at| at <= now));
        due.map(|(name, one)| {
            one.wake(now);
            name.clone()
        })
        .collect()
    }

    pub(crate) fn next_wakeup(&self) -> Option<Instant> {
        self.items.values().filter_map(Tracked::next_wakeup).min()
    }
}
