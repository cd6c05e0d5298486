//! `GET /pilotlight/v1/state`: the functions of a gateway, or of all gateways, as JSON.
//!
//! On the listener for parts a gateway has its own state; on the public API it has that of all gateways, merged
//! here. The gateway's `http::state` writes it, `pilotlight top` reads it. A reader ignores fields that it does
//! not know and takes zero for counts that are missing: the other end may have another release.

use std::collections::BTreeMap;

use pilotlight_core::function::FunctionName;
use pilotlight_core::ids::{Namespace, Revision};
use serde::{Deserialize, Serialize};

pub const STATE_PATH: &str = "/pilotlight/v1/state";

/// What one gateway, or several, know of their functions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct State {
    /// In the order of namespaces, names and qualifiers.
    pub functions: Vec<FunctionSummary>,
    /// How long cold starts took, by phase.
    pub phases: BTreeMap<String, Durations>,
    /// The addresses of the gateways that did not answer; what they know is missing here.
    pub unanswered: Vec<String>,
}

/// One function, or one of its versions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FunctionSummary {
    pub namespace: Namespace,
    pub name: FunctionName,
    /// A text, since a newer gateway may have qualifiers of another form.
    pub qualifier: String,
    pub revision: Revision,
    /// The address of the gateway that owns it; `None` while no gateway does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    #[serde(default)]
    pub instances: InstanceCounts,
    /// How many invocations wait for an instance.
    #[serde(default)]
    pub queued: u64,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub totals: Totals,
    /// How long invocations took, from their arrival to the answer, waiting included.
    #[serde(default)]
    pub durations: Durations,
}

/// Instances by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InstanceCounts {
    pub starting: u64,
    pub idle: u64,
    pub busy: u64,
    pub stopping: u64,
}

/// What the function may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Limits {
    /// The maximum number of instances.
    pub concurrency: u64,
    /// The maximum number of invocations that wait.
    pub queue: u64,
    /// The number of instances that are kept without invocations.
    pub provisioned: u64,
}

/// Counts since the start of each gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Totals {
    /// Invocations that ended, in whatever way.
    pub invocations: u64,
    /// Those that were not answered by the handler's own result: errors, throttles and all others.
    pub failed: u64,
    /// Those that ended in an error of the function.
    pub errors: u64,
    /// Those that a limit refused.
    pub throttles: u64,
    /// Those that waited for the start of an instance.
    pub cold_starts: u64,
}

/// A histogram of durations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Durations {
    /// Upper bounds in seconds, ascending.
    pub bounds: Vec<f64>,
    /// How many took at most the bound at the same place, and more than the bound before it. One more count at
    /// the end is for all that took longer than the last bound.
    pub counts: Vec<u64>,
}

impl State {
    /// Adds what another gateway knows.
    pub fn merge(&mut self, other: State) {
        for function in other.functions {
            let place = self
                .functions
                .binary_search_by(|known| known.key().cmp(&function.key()));
            match place {
                Ok(place) => self.functions[place].merge(function),
                Err(place) => self.functions.insert(place, function),
            }
        }
        for (phase, durations) in other.phases {
            self.phases.entry(phase).or_default().merge(&durations);
        }
        self.unanswered.extend(other.unanswered);
    }
}

impl FunctionSummary {
    /// What the functions of a [`State`] are sorted by.
    pub fn key(&self) -> (&Namespace, &FunctionName, &str) {
        (&self.namespace, &self.name, &self.qualifier)
    }

    /// The owner's settings win; gateways learn of a change one after the other.
    fn merge(&mut self, other: FunctionSummary) {
        if other.owner.is_some() {
            self.owner = other.owner;
            self.revision = other.revision;
            self.limits = other.limits;
        }
        let (instances, more) = (&mut self.instances, other.instances);
        add(&mut instances.starting, more.starting);
        add(&mut instances.idle, more.idle);
        add(&mut instances.busy, more.busy);
        add(&mut instances.stopping, more.stopping);
        add(&mut self.queued, other.queued);
        let (totals, more) = (&mut self.totals, other.totals);
        add(&mut totals.invocations, more.invocations);
        add(&mut totals.failed, more.failed);
        add(&mut totals.errors, more.errors);
        add(&mut totals.throttles, more.throttles);
        add(&mut totals.cold_starts, more.cold_starts);
        self.durations.merge(&other.durations);
    }
}

impl Durations {
    /// Adds the counts. Those of a gateway with other bounds, of another release, are left out.
    fn merge(&mut self, other: &Durations) {
        if self.counts.is_empty() {
            self.clone_from(other);
        } else if self.bounds == other.bounds && self.counts.len() == other.counts.len() {
            let counts = self.counts.iter_mut().zip(&other.counts);
            counts.for_each(|(count, more)| add(count, *more));
        }
    }
}

/// Any count can come from another gateway; a sum beyond the range stays at its end.
fn add(sum: &mut u64, more: u64) {
    *sum = sum.saturating_add(more);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(name: &str, owner: Option<&str>, calls: u64) -> FunctionSummary {
        FunctionSummary {
            namespace: Namespace::local(),
            name: name.parse().expect("a name"),
            qualifier: "$LATEST".to_owned(),
            revision: "r1".into(),
            owner: owner.map(str::to_owned),
            instances: InstanceCounts {
                idle: 1,
                ..InstanceCounts::default()
            },
            queued: 2,
            limits: Limits::default(),
            totals: Totals {
                invocations: calls,
                ..Totals::default()
            },
            durations: Durations {
                bounds: vec![0.1, 1.0],
                counts: vec![calls, 0, 1],
            },
        }
    }

    fn state(functions: impl IntoIterator<Item = FunctionSummary>) -> State {
        State {
            functions: functions.into_iter().collect(),
            ..State::default()
        }
    }

    #[test]
    fn the_states_of_gateways_are_summed_and_the_owners_settings_win() {
        let mut all = state([function("a", None, 3), function("c", Some("one"), 1)]);
        let mut owned = function("a", Some("two"), 4);
        owned.revision = "r2".into();
        owned.limits.concurrency = 7;
        let mut other = state([owned, function("b", None, 0)]);
        other.unanswered.push("three".to_owned());
        other.phases.insert("init".to_owned(), Durations::default());
        all.merge(other);
        let names: Vec<_> = all.functions.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        let a = &all.functions[0];
        assert_eq!(a.owner.as_deref(), Some("two"));
        assert_eq!((a.revision.as_str(), a.limits.concurrency), ("r2", 7));
        assert_eq!(
            (a.instances.idle, a.queued, a.totals.invocations),
            (2, 4, 7)
        );
        assert_eq!(a.durations.counts, [7, 0, 2]);
        assert_eq!(all.unanswered, ["three"]);
        assert!(all.phases.contains_key("init"));

        // A gateway that does not own it changes no setting.
        let mut late = function("a", None, 0);
        late.limits.concurrency = 1;
        late.durations.bounds = vec![0.5];
        all.merge(state([late]));
        let a = &all.functions[0];
        assert_eq!((a.owner.as_deref(), a.limits.concurrency), (Some("two"), 7));
        assert_eq!(a.durations.counts, [7, 0, 2]);
    }

    #[test]
    fn a_state_reads_back_as_written() {
        let mut written = state([function("a", Some("one"), 3), function("b", None, 0)]);
        written.unanswered.push("two".to_owned());
        let json = serde_json::to_string(&written).expect("plain data");
        assert_eq!(
            serde_json::from_str::<State>(&json).expect("a state"),
            written
        );
    }

    #[test]
    fn a_state_of_another_release_is_read_as_far_as_it_is_known() {
        let json = r#"{"newer": 1, "functions": [{"namespace": "n", "name": "a", "qualifier": "7",
            "revision": "r", "newer": {}, "totals": {"invocations": 3, "newer": 1}}]}"#;
        let read: State = serde_json::from_str(json).expect("a state");
        let a = &read.functions[0];
        assert_eq!((a.qualifier.as_str(), a.totals.invocations), ("7", 3));
        assert_eq!((a.queued, a.totals.failed), (0, 0));
    }
}
