//! Which of several controllers leads: one contender's view of the Lease object that they share.
//!
//! Fed by the controller with the state of the lease and the outcome of each attempt to write it; returns
//! the next attempt and until when this contender leads. Knows no API server. It never reads another
//! contender's clock: a lease has expired when this contender itself has seen no change of it for its
//! whole duration. The leader measures from the start of its write, the others from the time they saw the
//! change, so the leader always stops first.
//!
//! A process that is uninstalled cannot release its lease: its rights are deleted before it ends. So a
//! candidate asks whether the holder still exists once the lease has not been renewed for two intervals, and
//! takes it without waiting for its expiry if the holder does not. The caller may only answer so if the
//! process has certainly ended.

use std::time::{Duration, Instant};

/// The times of the election. The defaults are those of client-go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long the lease of a leader that does not renew it lasts for the others.
    pub lease: Duration,
    /// How long a leader that cannot renew keeps leading; less than `lease`.
    pub renew_deadline: Duration,
    /// The time between two attempts.
    pub retry: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            lease: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// The lease as the API server stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The resource version, which changes at each write.
    pub version: String,
    /// `None`: the holder has released the lease.
    pub holder: Option<String>,
    /// The duration that its holder wrote.
    pub duration: Option<Duration>,
    /// How often the holder has changed.
    pub transitions: u32,
}

/// A request to the API server. The caller reports its outcome before it asks for the next attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// Read the lease.
    Read,
    /// Create the lease, which does not exist, with this contender as its holder.
    Create,
    /// Write this contender as the holder into exactly this version of the lease.
    Take { version: String, transitions: u32 },
    /// Renew exactly this version of the lease, as its holder.
    Renew { version: String },
    /// Find out whether the process with this identity still exists.
    CheckHolder { holder: String },
}

/// The outcome of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The result of a `Read`.
    Found(Option<Lease>),
    /// The attempt has written this lease.
    Written(Lease),
    /// The result of a `CheckHolder`. `false` only if the process has certainly ended.
    HolderExists(bool),
    /// Another contender wrote in the meantime.
    Conflict,
    /// There was no clear answer: whether the lease was written is unknown.
    Unanswered,
}

/// Why a leader leads no longer. It has to stop all its work. An [`Election`] leads at most once.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Loss {
    #[error("it could not be renewed for {0:?}")]
    Deadline(Duration),
    #[error("another process wrote it")]
    Overwritten,
    #[error("{0} holds it")]
    Taken(String),
    #[error("another process deleted or released it")]
    Vacant,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Role {
    Candidate,
    /// `renewed_at`: the start of the last successful write.
    Leader {
        renewed_at: Instant,
    },
    Lost(Loss),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Observed {
    /// The present state of the lease is unknown.
    Unknown,
    /// The lease and the time at which this contender first saw this version.
    Lease(Option<Lease>, Instant),
}

/// One contender. See the module's text.
#[derive(Debug)]
pub struct Election {
    identity: String,
    timing: Timing,
    role: Role,
    observed: Observed,
    /// When the attempt in flight began.
    trying: Option<Instant>,
    /// No attempt begins before this.
    next_attempt: Option<Instant>,
    /// Whether the attempt in flight is a check, which writes nothing.
    is_checking: bool,
    /// The version of the lease whose holder has ended without releasing it.
    abandoned: Option<String>,
}

impl Election {
    /// `identity`: must differ from that of every other living process.
    pub fn new(identity: String, timing: Timing) -> Self {
        Election {
            identity,
            timing,
            role: Role::Candidate,
            observed: Observed::Unknown,
            trying: None,
            next_attempt: None,
            is_checking: false,
            abandoned: None,
        }
    }

    /// The watch shows the lease. A leader ignores this, since the watch may lag behind its own writes.
    pub fn watched(&mut self, now: Instant, lease: Option<Lease>) {
        if self.role != Role::Candidate || self.trying.is_some() {
            return;
        }
        let is_vacant = lease.as_ref().is_none_or(|lease| lease.holder.is_none());
        if self.see(now, lease) && is_vacant {
            self.next_attempt = None;
        }
    }

    /// The attempt that is due now. It counts as begun.
    pub fn poll_attempt(&mut self, now: Instant) -> Option<Attempt> {
        self.expire(now);
        let is_early = self.next_attempt.is_some_and(|at| at > now);
        if self.trying.is_some() || is_early {
            return None;
        }
        let mut next_attempt = now + self.timing.retry;
        let attempt = match (&self.role, &self.observed) {
            (Role::Lost(_), _) => return None,
            (_, Observed::Unknown) => Attempt::Read,
            (_, Observed::Lease(None, _)) => Attempt::Create,
            (Role::Leader { .. }, Observed::Lease(Some(lease), _)) => Attempt::Renew {
                version: lease.version.clone(),
            },
            (Role::Candidate, Observed::Lease(Some(lease), since)) => {
                match (&lease.holder, self.free_at(lease, *since)) {
                    (Some(holder), Some(free_at)) if free_at > now => {
                        if self.check_at(*since) > now {
                            return None;
                        }
                        // A check does not postpone the attempt to take an expired lease.
                        next_attempt = next_attempt.min(free_at);
                        let holder = holder.clone();
                        Attempt::CheckHolder { holder }
                    }
                    _ => Attempt::Take {
                        version: lease.version.clone(),
                        transitions: lease.transitions + 1,
                    },
                }
            }
        };
        self.is_checking = matches!(attempt, Attempt::CheckHolder { .. });
        self.trying = Some(now);
        self.next_attempt = Some(next_attempt);
        Some(attempt)
    }

    /// Handles the outcome of the attempt in flight.
    pub fn tried(&mut self, now: Instant, outcome: Outcome) {
        self.expire(now);
        let began = self.trying.take().unwrap_or(now);
        let is_leader = matches!(self.role, Role::Leader { .. });
        match outcome {
            _ if matches!(self.role, Role::Lost(_)) => {}
            Outcome::Written(lease) => {
                self.observed = Observed::Lease(Some(lease), now);
                self.role = Role::Leader { renewed_at: began };
                self.expire(now);
            }
            Outcome::HolderExists(true) => {}
            // What is known of the lease stays valid, and so does the time of its expiry.
            Outcome::Unanswered if self.is_checking => {}
            Outcome::HolderExists(false) => {
                // A watch is ignored while an attempt is in flight, so this is the lease that was checked.
                // The write names its version, and fails if the holder renewed it before it ended.
                if let Observed::Lease(Some(lease), _) = &self.observed {
                    self.abandoned = Some(lease.version.clone());
                    self.next_attempt = None;
                }
            }
            Outcome::Conflict => {
                self.observed = Observed::Unknown;
                if is_leader {
                    self.role = Role::Lost(Loss::Overwritten);
                }
            }
            // The next attempt reads the lease: an attempt without an answer may have succeeded.
            Outcome::Unanswered => self.observed = Observed::Unknown,
            Outcome::Found(lease) => {
                let holder = lease.as_ref().and_then(|lease| lease.holder.clone());
                match (is_leader, holder) {
                    (true, None) => self.role = Role::Lost(Loss::Vacant),
                    (true, Some(holder)) if holder != self.identity => {
                        self.role = Role::Lost(Loss::Taken(holder));
                    }
                    _ => {
                        self.see(now, lease);
                        // Reading changed nothing, so the attempt that follows from it is due at once.
                        self.next_attempt = None;
                    }
                }
            }
        }
    }

    /// Until when this contender leads; `None`: it does not lead.
    pub fn leads_until(&self, now: Instant) -> Option<Instant> {
        let Role::Leader { renewed_at } = self.role else {
            return None;
        };
        let until = renewed_at + self.timing.renew_deadline;
        (until > now).then_some(until)
    }

    /// The version of the lease to release, if this contender certainly holds it.
    pub fn held(&self, now: Instant) -> Option<&str> {
        match &self.observed {
            Observed::Lease(Some(lease), _) if self.leads_until(now).is_some() => {
                Some(&lease.version)
            }
            _ => None,
        }
    }

    /// Why this contender leads no longer.
    pub fn loss(&self) -> Option<&Loss> {
        match &self.role {
            Role::Lost(loss) => Some(loss),
            Role::Candidate | Role::Leader { .. } => None,
        }
    }

    /// Acts on deadlines that have passed.
    pub fn wake(&mut self, now: Instant) {
        self.expire(now);
    }

    /// When [`Election::wake`] or [`Election::poll_attempt`] is due, unless an event comes first.
    pub fn next_wakeup(&self) -> Option<Instant> {
        let (deadline, free_at) = match (&self.role, &self.observed) {
            (Role::Lost(_), _) => return None,
            (Role::Leader { renewed_at }, _) => {
                (Some(*renewed_at + self.timing.renew_deadline), None)
            }
            (Role::Candidate, Observed::Lease(Some(lease), since)) => {
                let check_at = self.check_at(*since);
                (None, self.free_at(lease, *since).map(|at| at.min(check_at)))
            }
            (Role::Candidate, _) => (None, None),
        };
        let attempt = match self.trying {
            Some(_) => None,
            None => self.next_attempt.max(free_at),
        };
        deadline.into_iter().chain(attempt).min()
    }

    /// Records the lease. Returns whether it has changed.
    fn see(&mut self, now: Instant, lease: Option<Lease>) -> bool {
        if matches!(&self.observed, Observed::Lease(known, _) if *known == lease) {
            return false;
        }
        self.observed = Observed::Lease(lease, now);
        true
    }

    /// When a candidate may take the lease; `None`: at once.
    fn free_at(&self, lease: &Lease, since: Instant) -> Option<Instant> {
        match &lease.holder {
            // The process that had this identity before has ended: only one process lives under an identity.
            Some(holder) if *holder == self.identity => None,
            Some(_) if self.abandoned.as_ref() == Some(&lease.version) => None,
            Some(_) => Some(since + lease.duration.unwrap_or(self.timing.lease)),
            None => None,
        }
    }

    /// When the holder of a lease that has not been renewed since then is checked first. A living holder
    /// renews at each interval, so it is hardly ever checked.
    fn check_at(&self, since: Instant) -> Instant {
        since + 2 * self.timing.retry
    }

    fn expire(&mut self, now: Instant) {
        if let Role::Leader { renewed_at } = self.role
            && renewed_at + self.timing.renew_deadline <= now
        {
            self.role = Role::Lost(Loss::Deadline(self.timing.renew_deadline));
        }
    }
}

#[cfg(test)]
mod tests;
