//! Which of several controllers acts: one contender's view of the lease that they share.
//!
//! Fed with what the API server says of the lease and with what became of each attempt to write
//! it; says what to try next and until when this contender leads. Knows no API server. Another
//! one's clock is never read: a lease has expired when this contender itself has seen no change
//! of it for its whole duration. The leader counts from when it began to write, the others from
//! when they saw it written, so the leader always stops first.

use std::time::{Duration, Instant};

/// The field's usual times: client-go's defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long the others leave a leader that renews no more in office.
    pub lease: Duration,
    /// How long a leader that cannot renew stays one; less than `lease`.
    pub renew_deadline: Duration,
    /// Between two attempts.
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

/// The lease as the API server has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Another at each write.
    pub version: String,
    /// None: it was given back.
    pub holder: Option<String>,
    /// What its holder promises.
    pub duration: Option<Duration>,
    /// How often it has been taken.
    pub transitions: u32,
}

/// What is to be tried; its outcome is told before the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// Read the lease.
    Look,
    /// Make a lease that is not there, with this contender as its holder.
    Create,
    /// Write this contender into the lease of exactly this version.
    Take { version: String, transitions: u32 },
    /// Write the lease of exactly this version anew, as its holder.
    Renew { version: String },
}

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Of a `Look`: what there is.
    Found(Option<Lease>),
    /// Of the others.
    Written(Lease),
    /// Somebody else wrote meanwhile.
    Conflict,
    /// There was no answer, or no clear one: it may have been written or not.
    Unanswered,
}

/// Why a leader is none any more. It has to stop what it does; nobody leads twice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Loss {
    #[error("it could not be renewed for {0:?}")]
    Deadline(Duration),
    #[error("somebody else wrote it")]
    Overwritten,
    #[error("{0} holds it")]
    Taken(String),
    #[error("it was deleted or given back by somebody else")]
    Vacant,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Role {
    Candidate,
    /// When the last write that was answered began.
    Leader {
        renewed_at: Instant,
    },
    Lost(Loss),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Sight {
    /// Nothing is known, or no more for sure.
    Unclear,
    /// Seen in this shape first at that time.
    Clear(Option<Lease>, Instant),
}

/// One contender. See the module's text.
#[derive(Debug)]
pub struct Election {
    identity: String,
    timing: Timing,
    role: Role,
    sight: Sight,
    /// When the attempt under way began.
    trying: Option<Instant>,
    /// Not before this.
    next_attempt: Option<Instant>,
}

impl Election {
    /// `identity`: what no other process that lives bears.
    pub fn new(identity: String, timing: Timing) -> Self {
        Election {
            identity,
            timing,
            role: Role::Candidate,
            sight: Sight::Unclear,
            trying: None,
            next_attempt: None,
        }
    }

    /// A watch shows the lease. It may lag behind what a leader knows from its own writes.
    pub fn watched(&mut self, now: Instant, lease: Option<Lease>) {
        if self.role != Role::Candidate || self.trying.is_some() {
            return;
        }
        let is_vacant = lease.as_ref().is_none_or(|lease| lease.holder.is_none());
        if self.see(now, lease) && is_vacant {
            self.next_attempt = None;
        }
    }

    /// What is to be tried now. Counts as begun.
    pub fn poll_attempt(&mut self, now: Instant) -> Option<Attempt> {
        self.expire(now);
        let is_early = self.next_attempt.is_some_and(|at| at > now);
        if self.trying.is_some() || is_early {
            return None;
        }
        let attempt = match (&self.role, &self.sight) {
            (Role::Lost(_), _) => return None,
            (_, Sight::Unclear) => Attempt::Look,
            (_, Sight::Clear(None, _)) => Attempt::Create,
            (Role::Leader { .. }, Sight::Clear(Some(lease), _)) => Attempt::Renew {
                version: lease.version.clone(),
            },
            (Role::Candidate, Sight::Clear(Some(lease), since)) => {
                if self.free_at(lease, *since).is_some_and(|at| at > now) {
                    return None;
                }
                Attempt::Take {
                    version: lease.version.clone(),
                    transitions: lease.transitions + 1,
                }
            }
        };
        self.trying = Some(now);
        self.next_attempt = Some(now + self.timing.retry);
        Some(attempt)
    }

    /// What became of the attempt under way.
    pub fn tried(&mut self, now: Instant, outcome: Outcome) {
        self.expire(now);
        let began = self.trying.take().unwrap_or(now);
        let is_leader = matches!(self.role, Role::Leader { .. });
        match outcome {
            _ if matches!(self.role, Role::Lost(_)) => {}
            Outcome::Written(lease) => {
                self.sight = Sight::Clear(Some(lease), now);
                self.role = Role::Leader { renewed_at: began };
                self.expire(now);
            }
            Outcome::Conflict => {
                self.sight = Sight::Unclear;
                if is_leader {
                    self.role = Role::Lost(Loss::Overwritten);
                }
            }
            // The next attempt is a look: what was not answered may have been done.
            Outcome::Unanswered => self.sight = Sight::Unclear,
            Outcome::Found(lease) => {
                let holder = lease.as_ref().and_then(|lease| lease.holder.clone());
                match (is_leader, holder) {
                    (true, None) => self.role = Role::Lost(Loss::Vacant),
                    (true, Some(holder)) if holder != self.identity => {
                        self.role = Role::Lost(Loss::Taken(holder));
                    }
                    _ => {
                        self.see(now, lease);
                        // Looking was no use of the time: what follows from it is due at once.
                        self.next_attempt = None;
                    }
                }
            }
        }
    }

    /// Until when this contender leads; `None`: it does not.
    pub fn leads_until(&self, now: Instant) -> Option<Instant> {
        let Role::Leader { renewed_at } = self.role else {
            return None;
        };
        let until = renewed_at + self.timing.renew_deadline;
        (until > now).then_some(until)
    }

    /// The version of the lease to give back, if this contender holds it for sure.
    pub fn held(&self, now: Instant) -> Option<&str> {
        match &self.sight {
            Sight::Clear(Some(lease), _) if self.leads_until(now).is_some() => Some(&lease.version),
            _ => None,
        }
    }

    /// Why it leads no more.
    pub fn loss(&self) -> Option<&Loss> {
        match &self.role {
            Role::Lost(loss) => Some(loss),
            Role::Candidate | Role::Leader { .. } => None,
        }
    }

    /// Time has passed.
    pub fn wake(&mut self, now: Instant) {
        self.expire(now);
    }

    /// When [`Election::wake`] or [`Election::poll_attempt`] is due, if nothing happens before.
    pub fn next_wakeup(&self) -> Option<Instant> {
        let (deadline, free_at) = match (&self.role, &self.sight) {
            (Role::Lost(_), _) => return None,
            (Role::Leader { renewed_at }, _) => {
                (Some(*renewed_at + self.timing.renew_deadline), None)
            }
            (Role::Candidate, Sight::Clear(Some(lease), since)) => {
                (None, self.free_at(lease, *since))
            }
            (Role::Candidate, _) => (None, None),
        };
        let attempt = match self.trying {
            Some(_) => None,
            None => self.next_attempt.max(free_at),
        };
        deadline.into_iter().chain(attempt).min()
    }

    /// Whether this is news.
    fn see(&mut self, now: Instant, lease: Option<Lease>) -> bool {
        if matches!(&self.sight, Sight::Clear(known, _) if *known == lease) {
            return false;
        }
        self.sight = Sight::Clear(lease, now);
        true
    }

    /// When a candidate may take the lease; `None`: at once.
    fn free_at(&self, lease: &Lease, since: Instant) -> Option<Instant> {
        match &lease.holder {
            // Its process ended without a word; only one lives under a name.
            Some(holder) if *holder == self.identity => None,
            Some(_) => Some(since + lease.duration.unwrap_or(self.timing.lease)),
            None => None,
        }
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
