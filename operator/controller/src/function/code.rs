//! The config maps of one function's inline code.
//!
//! Knows which are there, as the watch shows them, and which revision's is stored. The present one
//! is stored before the first pod that needs it, and again should somebody delete it; an old one
//! goes after the last pod that needs it, never while one is being stored. `function` has it done.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::core::PartialObjectMeta;

/// A config map as the watch shows it.
pub(crate) type Shown = PartialObjectMeta<ConfigMap>;

#[derive(Debug)]
struct Known {
    uid: String,
    /// UIDs of its owners: a function that was deleted takes its code along by itself.
    owners: Vec<String>,
}

#[derive(Debug, Default)]
pub(crate) struct Code {
    there: BTreeMap<String, Known>,
    stored: Option<String>,
    storing: bool,
    deleting: BTreeSet<String>,
}

impl Code {
    /// The code of this revision is where its pods look for it.
    pub(crate) fn is_stored(&self, revision: &str) -> bool {
        self.stored.as_deref() == Some(revision)
    }

    pub(crate) fn may_store(&self, revision: &str) -> bool {
        !self.is_stored(revision) && !self.storing && self.deleting.is_empty()
    }

    pub(crate) fn storing(&mut self) {
        self.storing = true;
    }

    /// What is known when another function bears the name: nothing of it is stored.
    pub(crate) fn of_another(&mut self) -> Self {
        Code {
            there: std::mem::take(&mut self.there),
            ..Code::default()
        }
    }

    /// `revision`: the one that is stored now, or needs nothing stored.
    pub(crate) fn stored(&mut self, revision: Option<String>) {
        self.storing = false;
        self.stored = revision.or(self.stored.take());
    }

    pub(crate) fn shown(&mut self, map: &Shown) {
        let known = Known {
            uid: map.uid().unwrap_or_default(),
            owners: map
                .owner_references()
                .iter()
                .map(|owner| owner.uid.clone())
                .collect(),
        };
        self.there.insert(map.name_any(), known);
    }

    pub(crate) fn gone(&mut self, function: &str, map: &str) {
        self.there.remove(map);
        if self.stored.is_some() && self.stored.as_deref() == revision_of(function, map) {
            self.stored = None;
        }
    }

    /// These are all that a list has named.
    pub(crate) fn listed(&mut self, function: &str, all: &BTreeSet<String>) {
        let gone = self.there.keys().filter(|name| !all.contains(*name));
        for name in gone.cloned().collect::<Vec<_>>() {
            self.gone(function, &name);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.there.is_empty()
    }

    /// Those of this function that nobody needs, as name and UID; each counts as being deleted.
    pub(crate) fn take_unneeded(
        &mut self,
        function: &str,
        uid: &str,
        is_needed: impl Fn(&str) -> bool,
    ) -> Vec<(String, String)> {
        if self.storing || !self.deleting.is_empty() {
            return Vec::new();
        }
        let own = self.there.iter().filter(|(name, known)| {
            let is_own = known.owners.iter().any(|owner| owner == uid);
            is_own && revision_of(function, name).is_some_and(|revision| !is_needed(revision))
        });
        let unneeded: Vec<_> = own
            .map(|(name, known)| (name.clone(), known.uid.clone()))
            .collect();
        self.deleting
            .extend(unneeded.iter().map(|(_, uid)| uid.clone()));
        unneeded
    }

    pub(crate) fn deleted(&mut self, uid: &str, succeeded: bool) {
        self.deleting.remove(uid);
        if succeeded {
            self.there.retain(|_, known| known.uid != uid);
        }
    }
}

pub(crate) fn name(function: &str, revision: &str) -> String {
    format!("{function}-code-{revision}")
}

fn revision_of<'a>(function: &str, map: &'a str) -> Option<&'a str> {
    map.strip_prefix(function)?.strip_prefix("-code-")
}
