//! Clusters with one deliberate fault each. The rules must find every one: a test of the test.
//!
//! A fault acts where a bug would act: on the order of the steps of `Handover`, on what follows from a claim,
//! on what the controller knows of the gateways.

use pilotlight_core::gateways::handover::Step;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// A gateway reports a demand before its driver has adopted the living instances.
    ClaimedBeforeAdoption,
    /// A gateway hands over in its driver before it releases the demand.
    ReleasedAfterHandover,
    /// The driver wants instances of a new revision before the demand names it.
    RevisionNamedLate,
    /// A deleted function is forgotten after the claim of its successor.
    ForgottenLate,
    /// A missed claim leads to no request.
    MissedNotRequested,
    /// A claimed pod is named without delay.
    NamedAtOnce,
    /// A claimed pod is never named.
    NeverNamed,
    /// A pod of another gateway is offered again.
    LostOfferedAgain,
    /// A gateway takes any pod, whatever its pool declares.
    AnyPodTaken,
    /// The controller deletes before all gateways have reported.
    DeletedBeforeReports,
    /// An instance that was given up stays in the demand.
    NeverCancelled,
}

impl Broken {
    pub(crate) const ALL: [Broken; 11] = [
        Broken::ClaimedBeforeAdoption,
        Broken::ReleasedAfterHandover,
        Broken::RevisionNamedLate,
        Broken::ForgottenLate,
        Broken::MissedNotRequested,
        Broken::NamedAtOnce,
        Broken::NeverNamed,
        Broken::LostOfferedAgain,
        Broken::AnyPodTaken,
        Broken::DeletedBeforeReports,
        Broken::NeverCancelled,
    ];

    /// The rule that the fault breaks, and the rules that it sometimes breaks as a consequence.
    pub(crate) fn breaks(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Broken::ClaimedBeforeAdoption => ("DeletedInUse", &["Unserved", "LeftBehind"]),
            Broken::ReleasedAfterHandover => ("DeletedInUse", &["Unserved"]),
            Broken::RevisionNamedLate => ("Outdated", &["Unserved"]),
            Broken::ForgottenLate => ("Unserved", &["LeftBehind", "Outdated", "DeletedInUse"]),
            Broken::MissedNotRequested => ("Unserved", &[]),
            Broken::NamedAtOnce => ("NamedEarly", &[]),
            Broken::NeverNamed => ("DeletedInUse", &["LeftBehind", "Unserved"]),
            Broken::LostOfferedAgain => ("ClaimedAgain", &["Unserved", "DeletedInUse"]),
            Broken::AnyPodTaken => ("Unfit", &["Unserved", "LeftBehind", "DeletedInUse"]),
            Broken::DeletedBeforeReports => ("DeletedInUse", &[]),
            Broken::NeverCancelled => ("LeftBehind", &[]),
        }
    }

    /// The steps in the order in which this gateway carries them out.
    pub(crate) fn reorder(self, steps: &mut [Step]) {
        // The sort is stable: the key says which steps change places.
        let is_driver =
            |step: &Step| matches!(step, Step::Deploy { .. } | Step::ChangeOwnership { .. });
        match self {
            Broken::ClaimedBeforeAdoption => {
                let is_change = steps
                    .iter()
                    .any(|step| matches!(step, Step::ChangeOwnership { .. }));
                if is_change {
                    steps.sort_by_key(|step| u8::from(!matches!(step, Step::Claim { .. })));
                }
            }
            Broken::ReleasedAfterHandover => {
                steps.sort_by_key(|step| u8::from(matches!(step, Step::Release { .. })));
            }
            Broken::RevisionNamedLate => {
                let is_deploy = steps.iter().any(|step| matches!(step, Step::Deploy { .. }));
                if is_deploy {
                    steps.sort_by_key(|step| u8::from(!is_driver(step)));
                }
            }
            Broken::ForgottenLate => {
                steps.sort_by_key(|step| u8::from(matches!(step, Step::Forget { .. })));
            }
            _ => {}
        }
    }
}
