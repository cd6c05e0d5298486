//! When faults were active, and what they allow.

use std::collections::BTreeMap;

use crate::record::{At, BROKEN, NOT_SENT};

#[derive(Clone, Debug, Default)]
pub(super) struct Faults(BTreeMap<String, Fault>);

#[derive(Clone, Debug, Default)]
struct Fault {
    began: Vec<(At, Vec<String>)>,
    over: Vec<At>,
}

impl Faults {
    pub(super) fn begin(&mut self, fault: String, at: At, allows: Vec<String>) {
        self.0.entry(fault).or_default().began.push((at, allows));
    }

    pub(super) fn over(&mut self, fault: String, at: At) {
        self.0.entry(fault).or_default().over.push(at);
    }

    pub(super) fn put_in_order(&mut self) {
        for fault in self.0.values_mut() {
            fault.began.sort();
            fault.over.sort();
        }
    }

    /// Whether a fault that allows this kind was active at some time between the two. A fault that may break connections may
    /// also prevent new ones.
    pub(super) fn allow(&self, kind: &str, from: At, to: At) -> bool {
        let allows = |allowed: &String| allowed == kind || (allowed == BROKEN && kind == NOT_SENT);
        self.during(from, to)
            .any(|allowed| allowed.iter().any(allows))
    }

    /// The allowed kinds of each fault that was active at some time between the two.
    pub(super) fn during(&self, sent: At, answered: At) -> impl Iterator<Item = &[String]> {
        let times = self.0.values().flat_map(|fault| {
            let times = fault.began.iter().enumerate();
            times.map(|(time, (from, allows))| (*from, fault.over.get(time), allows))
        });
        times.filter_map(move |(from, over, allows)| {
            let is_during = from <= answered && over.is_none_or(|over| sent <= *over);
            is_during.then_some(&**allows)
        })
    }
}
