//! The config maps of one function's inline code.
//!
//! Knows which of them exist, as the watch shows them, and the revision whose code is stored. The present
//! code is stored before the first pod that needs it, and again if somebody deletes it; old code is deleted
//! after the last pod that needs it, and never while code is being stored. `function` carries this out.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::core::PartialObjectMeta;

use crate::reconcile::build::revision_of_code;

/// A config map as the watch shows it.
pub(crate) type Shown = PartialObjectMeta<ConfigMap>;

#[derive(Debug)]
struct ConfigMapInfo {
    uid: String,
    /// The UIDs of its owners: the code of a deleted function is deleted with it.
    owners: Vec<String>,
}

#[derive(Debug, Default)]
pub(crate) struct Code {
    existing: BTreeMap<String, ConfigMapInfo>,
    stored: Option<String>,
    storing: bool,
    deleting: BTreeSet<String>,
}

impl Code {
    /// Whether the code of this revision is where its pods look for it.
    pub(crate) fn is_stored(&self, revision: &str) -> bool {
        self.stored.as_deref() == Some(revision)
    }

    pub(crate) fn may_store(&self, revision: &str) -> bool {
        !self.is_stored(revision) && !self.storing && self.deleting.is_empty()
    }

    pub(crate) fn storing(&mut self) {
        self.storing = true;
    }

    /// The state for another function of the same name: its code is not stored yet.
    pub(crate) fn of_another(&mut self) -> Self {
        Code {
            existing: std::mem::take(&mut self.existing),
            ..Code::default()
        }
    }

    /// Storing has ended. `revision`: the one that is stored now, or needs nothing stored; absent after a failure.
    pub(crate) fn stored(&mut self, revision: Option<String>) {
        self.storing = false;
        self.stored = revision.or(self.stored.take());
    }

    pub(crate) fn shown(&mut self, map: &Shown) {
        let info = ConfigMapInfo {
            uid: map.uid().unwrap_or_default(),
            owners: map
                .owner_references()
                .iter()
                .map(|owner| owner.uid.clone())
                .collect(),
        };
        self.existing.insert(map.name_any(), info);
    }

    pub(crate) fn gone(&mut self, function: &str, map: &str) {
        self.existing.remove(map);
        if self.stored.is_some() && self.stored.as_deref() == revision_of_code(function, map) {
            self.stored = None;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.existing.is_empty()
    }

    /// The config maps of this function that no pod needs, as name and UID. Each counts as being deleted.
    pub(crate) fn take_unneeded(
        &mut self,
        function: &str,
        uid: &str,
        is_needed: impl Fn(&str) -> bool,
    ) -> Vec<(String, String)> {
        if self.storing || !self.deleting.is_empty() {
            return Vec::new();
        }
        let own = self.existing.iter().filter(|(name, info)| {
            let is_own = info.owners.iter().any(|owner| owner == uid);
            is_own && revision_of_code(function, name).is_some_and(|revision| !is_needed(revision))
        });
        let unneeded: Vec<_> = own
            .map(|(name, info)| (name.clone(), info.uid.clone()))
            .collect();
        self.deleting
            .extend(unneeded.iter().map(|(_, uid)| uid.clone()));
        unneeded
    }

    pub(crate) fn deleted(&mut self, uid: &str, succeeded: bool) {
        self.deleting.remove(uid);
        if succeeded {
            self.existing.retain(|_, info| info.uid != uid);
        }
    }
}
