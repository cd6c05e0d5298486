//! How the parts of a release prove who they are: the roles, the modes, and when certificates are renewed.
//!
//! The leading controller keeps the release's authorities (certificates that sign) and signs one certificate for its
//! gateways. It asks [`plan`] what is due. Times are seconds since 1970, as in certificates. `pilotlight-net` proves
//! and checks identities, and the controller's `identity` carries out the steps.

use std::str::FromStr;

/// The role that a certificate of the release gives to its holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Gateway,
    Controller,
}

impl Role {
    pub const ALL: [Role; 2] = [Role::Gateway, Role::Controller];

    /// The name in the certificate. The authorities are the release's own, so it names no release.
    pub fn host(self) -> &'static str {
        match self {
            Role::Gateway => "gateway.pilotlight.internal",
            Role::Controller => "controller.pilotlight.internal",
        }
    }
}

/// Whether parts that do not prove who they are may take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nobody proves anything: local mode, and tests without a cluster.
    Off,
    /// Parts prove who they are where the other end can check it. Parts of a release that cannot do so are served too.
    /// For the time of an upgrade from such a release.
    Permissive,
    /// Every connection between parts proves both ends.
    Required,
}

/// The text is none of the modes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be off, permissive or required")]
pub struct NotAMode;

impl FromStr for Mode {
    type Err = NotAMode;

    fn from_str(text: &str) -> Result<Self, NotAMode> {
        match text {
            "off" => Ok(Mode::Off),
            "permissive" => Ok(Mode::Permissive),
            "required" => Ok(Mode::Required),
            _ => Err(NotAMode),
        }
    }
}

/// The other end of a connection, and whether it has proven its role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    Proven(Role),
    /// A connection without TLS, which only [`Mode::Off`] and [`Mode::Permissive`] serve.
    Unproven,
}

impl Caller {
    /// Whether it may do what is for `role` alone. An unproven caller was let in on purpose.
    pub fn may_act_as(self, role: Role) -> bool {
        match self {
            Caller::Proven(proven) => proven == role,
            Caller::Unproven => true,
        }
    }
}

/// The time within which a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    pub from: u64,
    pub until: u64,
}

impl Validity {
    fn holds(self, now: u64) -> bool {
        now < self.until
    }

    /// Whether this part of its time is over.
    fn is_over(self, now: u64, numerator: u64, denominator: u64) -> bool {
        let length = self.until.saturating_sub(self.from);
        now >= self.from + length / denominator * numerator
    }
}

/// How long certificates live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// Seconds of a gateway's or controller's certificate.
    pub certificate: u64,
    /// Seconds of an authority.
    pub authority: u64,
    /// Seconds for which a new authority signs nothing. Pods that are made in this time know it when it begins to sign.
    /// Older pods do not: they refuse new connections from then on, and gateways give them up.
    pub introduction: u64,
}

impl Lifetimes {
    /// A day for certificates, a year for authorities.
    pub const DEFAULT: Lifetimes = Lifetimes {
        certificate: CERTIFICATE_LIFETIME,
        authority: AUTHORITY_LIFETIME,
        introduction: AUTHORITY_INTRODUCTION,
    };
}

const DAY: u64 = 24 * 60 * 60;
/// Seconds.
pub const CERTIFICATE_LIFETIME: u64 = DAY;
/// Seconds.
pub const AUTHORITY_LIFETIME: u64 = 365 * DAY;
/// Seconds.
pub const AUTHORITY_INTRODUCTION: u64 = 30 * DAY;

/// The next steps of the leading controller, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Drop authorities that have expired: those that are not in this list of places.
    pub kept: Vec<usize>,
    /// Make a further authority.
    pub adds_authority: bool,
    /// Sign a new certificate with the authority at this place, in the list after both steps above.
    pub signs_with: Option<usize>,
}

impl Plan {
    pub fn is_empty(&self, authorities: usize) -> bool {
        self.kept.len() == authorities && !self.adds_authority && self.signs_with.is_none()
    }
}

/// The certificate in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signed {
    pub validity: Validity,
    /// The place of its authority; `None` if that is not in the list.
    pub by: Option<usize>,
}

/// Decides what is due. `authorities`: the oldest first.
pub fn plan(
    now: u64,
    authorities: &[Validity],
    certificate: Option<Signed>,
    lifetimes: Lifetimes,
) -> Plan {
    let places = authorities.iter().enumerate();
    let kept: Vec<usize> = places
        .filter(|(_, authority)| authority.holds(now))
        .map(|(place, _)| place)
        .collect();
    let newest = kept.last().map(|place| authorities[*place]);
    let adds_authority = newest.is_none_or(|newest| newest.is_over(now, 2, 3));
    let is_known = |place: &&usize| now >= authorities[**place].from + lifetimes.introduction;
    // Without any that is known long enough, the oldest one is known best.
    let signer = kept.iter().rev().find(is_known).or(kept.first());
    let is_due = certificate.is_none_or(|signed| {
        signed.validity.is_over(now, 1, 2) || signed.by.is_none() || signed.by != signer.copied()
    });
    let place_after = signer.and_then(|signer| kept.iter().position(|place| place == signer));
    Plan {
        signs_with: is_due.then_some(place_after.unwrap_or(0)),
        kept,
        adds_authority,
    }
}

/// When [`plan`] has to be asked again at the latest, in seconds from now.
pub fn next_look(certificate: Validity, lifetimes: Lifetimes) -> u64 {
    let length = certificate.until.saturating_sub(certificate.from);
    (length.min(lifetimes.certificate) / 8).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIMES: Lifetimes = Lifetimes::DEFAULT;

    /// A leading controller, with the authorities and the certificate that it holds.
    #[derive(Default)]
    struct Held {
        authorities: Vec<Validity>,
        certificate: Option<(Validity, Validity)>,
    }

    impl Held {
        fn look(&mut self, now: u64) {
            let signed = self.certificate.map(|(validity, by)| Signed {
                validity,
                by: self.authorities.iter().position(|one| *one == by),
            });
            let plan = plan(now, &self.authorities, signed, LIFETIMES);
            self.authorities = plan.kept.iter().map(|at| self.authorities[*at]).collect();
            let until = |lifetime| Validity {
                from: now,
                until: now + lifetime,
            };
            if plan.adds_authority {
                self.authorities.push(until(LIFETIMES.authority));
            }
            if let Some(signer) = plan.signs_with {
                let certificate = until(LIFETIMES.certificate);
                self.certificate = Some((certificate, self.authorities[signer]));
            }
        }
    }

    #[test]
    fn for_ten_years_each_certificate_is_valid_and_known_to_pods_of_the_last_month() {
        let mut held = Held::default();
        let mut history: Vec<(u64, Vec<Validity>)> = Vec::new();
        let begin = 1_800_000_000;
        let hour = 60 * 60;
        for now in (begin..begin + 10 * 365 * DAY).step_by(hour as usize) {
            held.look(now);
            history.push((now, held.authorities.clone()));
            let (certificate, signer) = held.certificate.expect("one was signed at once");
            assert!(certificate.holds(now + hour) && signer.holds(now + hour));
            let month_ago = now.saturating_sub(LIFETIMES.introduction - hour);
            let since = history.partition_point(|(at, _)| *at < month_ago);
            // A pod that was made then has the authorities of that time.
            assert!(history[since].1.contains(&signer), "{now}");
            assert!(held.authorities.len() <= 2);
        }
    }

    #[test]
    fn a_certificate_is_renewed_at_half_of_its_time_and_not_before() {
        let mut held = Held::default();
        held.look(0);
        let first = held.certificate;
        held.look(DAY / 2 - 1);
        assert_eq!(held.certificate, first);
        held.look(DAY / 2);
        assert_ne!(held.certificate, first);
    }

    #[test]
    fn a_certificate_of_an_authority_that_is_gone_is_replaced_at_once() {
        let mut held = Held::default();
        held.look(0);
        held.authorities = vec![Validity {
            from: 5,
            until: 5 + LIFETIMES.authority,
        }];
        held.look(10);
        assert_eq!(held.certificate.map(|(_, by)| by.from), Some(5));
    }

    #[test]
    fn a_caller_acts_in_its_proven_role_alone() {
        assert!(Caller::Proven(Role::Gateway).may_act_as(Role::Gateway));
        assert!(!Caller::Proven(Role::Controller).may_act_as(Role::Gateway));
        assert!(Caller::Unproven.may_act_as(Role::Gateway));
    }
}
