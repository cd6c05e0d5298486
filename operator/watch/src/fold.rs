//! One fold of list and watch: the events of a watch become changes of a set of objects.
//!
//! Fed with the events of one watch. Controller and gateways apply the changes to what they know. The fold
//! keeps a name, and whatever `keep` takes from an object, for each object that is there; so it can report
//! the objects that a new list lacks because they were deleted while the watch was interrupted.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt;
use kube::runtime::watcher::Event;

/// One change of the set of objects.
#[derive(Clone, Debug, PartialEq)]
pub enum Change<T, K> {
    /// A list begins. The objects stay known until it is complete.
    ListStarted,
    /// An object is there, either new, changed or listed again.
    Applied(T),
    /// An object is gone. `kept` is what the fold kept of it.
    Deleted { name: String, kept: K },
    /// A list is complete. The deletions that it revealed come before this.
    ListCompleted,
}

/// The objects of one watch in one namespace, by name.
#[derive(Debug)]
pub struct Fold<T, K = ()> {
    keep: fn(&T) -> K,
    objects: BTreeMap<String, K>,
    /// The names of the list under way.
    listing: Option<BTreeSet<String>>,
    is_complete: bool,
}

impl<T: ResourceExt, K> Fold<T, K> {
    /// `keep`: what a deletion is reported with.
    pub fn new(keep: fn(&T) -> K) -> Self {
        Fold {
            keep,
            objects: BTreeMap::new(),
            listing: None,
            is_complete: false,
        }
    }

    pub fn take(&mut self, event: Event<T>) -> Vec<Change<T, K>> {
        match event {
            Event::Init => {
                self.listing = Some(BTreeSet::new());
                vec![Change::ListStarted]
            }
            Event::InitApply(object) => {
                let listing = self.listing.get_or_insert_default();
                listing.insert(object.name_any());
                vec![self.apply(object)]
            }
            Event::InitDone => self.complete(),
            Event::Apply(object) => vec![self.apply(object)],
            Event::Delete(object) => {
                let name = object.name_any();
                let kept = self.objects.remove(&name);
                let kept = kept.unwrap_or_else(|| (self.keep)(&object));
                vec![Change::Deleted { name, kept }]
            }
        }
    }

    /// Whether a list has been complete at least once: everything that exists is known.
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Whether a list is under way.
    pub fn is_listing(&self) -> bool {
        self.listing.is_some()
    }

    pub fn contains(&self, name: &str) -> bool {
        self.objects.contains_key(name)
    }

    /// What is kept of the objects, in the order of their names.
    pub fn kept(&self) -> impl Iterator<Item = &K> {
        self.objects.values()
    }

    fn apply(&mut self, object: T) -> Change<T, K> {
        self.objects.insert(object.name_any(), (self.keep)(&object));
        Change::Applied(object)
    }

    fn complete(&mut self) -> Vec<Change<T, K>> {
        let listed = self.listing.take().unwrap_or_default();
        self.is_complete = true;
        let gone = self
            .objects
            .extract_if(.., |name, _| !listed.contains(name));
        let gone = gone.map(|(name, kept)| Change::Deleted { name, kept });
        gone.chain([Change::ListCompleted]).collect()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;

    use super::*;

    fn pod(name: &str, uid: &str) -> Pod {
        let mut pod = Pod::default();
        pod.metadata.name = Some(name.to_owned());
        pod.metadata.uid = Some(uid.to_owned());
        pod
    }

    fn fold(events: &[Event<Pod>]) -> (Fold<Pod, String>, Vec<Change<Pod, String>>) {
        let mut fold = Fold::new(|pod: &Pod| pod.uid().unwrap_or_default());
        let changes = events.iter().cloned().flat_map(|event| fold.take(event));
        let changes = changes.collect();
        (fold, changes)
    }

    fn deleted(name: &str, kept: &str) -> Change<Pod, String> {
        let (name, kept) = (name.to_owned(), kept.to_owned());
        Change::Deleted { name, kept }
    }

    #[test]
    fn objects_that_a_second_list_lacks_are_reported_as_deleted_before_it_is_complete() {
        let (fold, changes) = fold(&[
            Event::Init,
            Event::InitApply(pod("a", "1")),
            Event::InitApply(pod("b", "2")),
            Event::InitDone,
            Event::Init,
            Event::InitApply(pod("b", "2")),
            Event::InitDone,
        ]);
        assert_eq!(
            changes[4..],
            [
                Change::ListStarted,
                Change::Applied(pod("b", "2")),
                deleted("a", "1"),
                Change::ListCompleted,
            ]
        );
        assert!(!fold.contains("a") && fold.contains("b"));
    }

    #[test]
    fn everything_is_known_only_when_the_first_list_is_complete_and_stays_so_during_the_next() {
        let begun = [Event::Init, Event::InitApply(pod("a", "1"))];
        let (partial, _) = fold(&begun);
        assert!(!partial.is_complete() && partial.is_listing());
        let (complete, _) = fold(&[&begun[..], &[Event::InitDone, Event::Init]].concat());
        assert!(complete.is_complete() && complete.is_listing() && complete.contains("a"));
    }

    #[test]
    fn a_list_that_is_interrupted_and_begun_again_deletes_nothing_that_the_second_one_has() {
        let (_, changes) = fold(&[
            Event::Init,
            Event::InitApply(pod("a", "1")),
            Event::Init,
            Event::InitApply(pod("a", "1")),
            Event::InitDone,
        ]);
        let deletions = changes.iter();
        let deletions = deletions.filter(|change| matches!(change, Change::Deleted { .. }));
        assert_eq!(deletions.count(), 0);
    }

    #[test]
    fn a_deletion_has_what_was_kept_of_the_object_or_else_of_its_last_state() {
        let apply = Event::Apply(pod("a", "1"));
        let (_, changes) = fold(&[apply, Event::Delete(pod("a", "2"))]);
        assert_eq!(changes[1], deleted("a", "1"));
        let (_, changes) = fold(&[Event::Delete(pod("a", "2"))]);
        assert_eq!(changes, [deleted("a", "2")]);
    }
}
