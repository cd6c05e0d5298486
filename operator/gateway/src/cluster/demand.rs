//! What this gateway wants of its functions, as the controller is told it.
//!
//! Owns one `Demand` per claimed function; `backend` adds and takes away wishes for instances, the
//! driver's counts pass through. Serves the stream that the controller follows (`wire::demand`). A
//! function that is not claimed is not spoken of, but for the word that it is released, so that
//! nobody takes its instances for unwanted.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderValue, header};
use pilotlight_core::function::FunctionName;
use pilotlight_core::gateways::demand::{ClaimedPod, Demand};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Changes of counts alone are told this often, and as often that nothing has changed.
const INTERVAL: Duration = Duration::from_secs(1);

/// Names a wish for an instance; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct WishId(u64);

#[derive(Debug)]
struct Claim {
    demand: Demand,
    /// The instances wanted, by the wish: two may name the same one for a while.
    wishes: HashMap<WishId, String>,
    /// The change that made it what it is.
    version: u64,
    /// The change of counts that made them what they are.
    counted: u64,
}

#[derive(Debug, Default)]
struct Claims {
    functions: BTreeMap<FunctionName, Claim>,
    version: u64,
    counted: u64,
}

/// What one controller has been told: of several each hears all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    version: u64,
    counted: u64,
}

/// Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    claims: Arc<Mutex<Claims>>,
    changes: watch::Sender<u64>,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Ledger {
            claims: Arc::default(),
            changes: watch::Sender::new(0),
        }
    }

    /// From now on this gateway speaks for the function.
    pub(crate) fn claim(&self, function: &FunctionName, uid: &str, revision: &str) {
        self.change(function, |claim, _| {
            claim.demand.uid = uid.to_owned();
            claim.demand.revision = revision.to_owned();
            claim.demand.released = false;
        });
    }

    /// Another gateway speaks for the function.
    pub(crate) fn release(&self, function: &FunctionName) {
        self.change(function, |claim, _| claim.demand.released = true);
    }

    /// The function is no more.
    pub(crate) fn forget(&self, function: &FunctionName) {
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        claims.functions.remove(function);
    }

    /// `pod`: the one of a warm pool that has become the instance.
    pub(crate) fn want(
        &self,
        function: &FunctionName,
        instance: &str,
        pod: Option<ClaimedPod>,
    ) -> WishId {
        self.change(function, |claim, version| {
            claim.demand.instances.insert(instance.to_owned());
            let claimed = pod.map(|pod| (instance.to_owned(), pod));
            claim.demand.claimed.extend(claimed);
            claim.wishes.insert(WishId(version), instance.to_owned());
            WishId(version)
        })
    }

    pub(crate) fn give_up(&self, function: &FunctionName, wish: WishId) {
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        let version = claims.version + 1;
        let Some(claim) = claims.functions.get_mut(function) else {
            return;
        };
        let Some(instance) = claim.wishes.remove(&wish) else {
            return;
        };
        if claim.wishes.values().all(|other| *other != instance) {
            claim.demand.instances.remove(&instance);
            claim.demand.claimed.remove(&instance);
            claim.version = version;
            claims.version = version;
            self.changes.send_replace(version);
        }
    }

    pub(crate) fn observe(&self, function: &FunctionName, in_flight: usize, queued: usize) {
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = claims.counted + 1;
        let Some(claim) = claims.functions.get_mut(function) else {
            return;
        };
        if (claim.demand.in_flight, claim.demand.queued) != (in_flight, queued) {
            (claim.demand.in_flight, claim.demand.queued) = (in_flight, queued);
            claim.counted = counted;
            claims.counted = counted;
        }
    }

    fn change<T>(&self, function: &FunctionName, change: impl FnOnce(&mut Claim, u64) -> T) -> T {
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        claims.version += 1;
        let version = claims.version;
        let claim = claims.functions.entry(function.clone());
        let claim = claim.or_insert_with(|| Claim {
            demand: Demand {
                function: function.clone(),
                uid: String::new(),
                revision: String::new(),
                instances: Default::default(),
                claimed: Default::default(),
                in_flight: 0,
                queued: 0,
                released: true,
            },
            wishes: HashMap::new(),
            version,
            counted: 0,
        });
        let result = change(claim, version);
        claim.version = version;
        self.changes.send_replace(version);
        result
    }

    /// The lines of all that changed after what was told (of all, if nothing was), and what is told
    /// with them.
    pub(super) fn since(&self, told: Option<Told>, with_counts: bool) -> (String, Told) {
        let claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = Told {
            version: claims.version,
            counted: match told {
                Some(told) if !with_counts => told.counted,
                _ => claims.counted,
            },
        };
        let mut lines = String::new();
        for claim in claims.functions.values() {
            let is_news = match (told, claim.demand.released) {
                (None, released) => !released,
                (Some(told), true) => claim.version > told.version,
                (Some(told), false) => {
                    claim.version > told.version || (with_counts && claim.counted > told.counted)
                }
            };
            if is_news {
                let line = serde_json::to_string(&claim.demand);
                lines.push_str(&line.expect("demand is plain data"));
                lines.push('\n');
            }
        }
        if lines.is_empty() {
            lines.push('\n');
        }
        (lines, newest)
    }

    /// The stream for one controller, until `end`.
    pub(crate) fn stream(&self, end: CancellationToken) -> Response {
        let start = (self.clone(), self.changes.subscribe(), None);
        let lines = stream::unfold(start, |(ledger, mut changes, told)| async move {
            let with_counts = match told {
                None => true,
                Some(_) => tokio::time::timeout(INTERVAL, changes.changed())
                    .await
                    .is_err(),
            };
            changes.mark_unchanged();
            let (lines, newest) = ledger.since(told, with_counts);
            Some((
                Ok::<_, Infallible>(Bytes::from(lines)),
                (ledger, changes, Some(newest)),
            ))
        });
        let lines = lines.take_until(end.cancelled_owned());
        let ndjson = HeaderValue::from_static("application/x-ndjson");
        ([(header::CONTENT_TYPE, ndjson)], Body::from_stream(lines)).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> FunctionName {
        FunctionName::try_from(text.to_owned()).expect("a name")
    }

    fn told(lines: &str) -> Vec<(String, usize, usize)> {
        let demands = lines.lines().filter(|line| !line.is_empty());
        let demands = demands.map(|line| serde_json::from_str::<Demand>(line).expect("a demand"));
        let demands = demands.filter(|one| !one.released);
        demands
            .map(|one| (one.function.to_string(), one.instances.len(), one.in_flight))
            .collect()
    }

    #[test]
    fn nothing_is_said_of_a_function_before_it_is_claimed() {
        let ledger = Ledger::new();
        ledger.want(&name("a"), "i1", None);
        assert_eq!(ledger.since(None, true).0, "\n");
        ledger.claim(&name("a"), "u", "r");
        assert_eq!(told(&ledger.since(None, true).0), [("a".to_owned(), 1, 0)]);
    }

    #[test]
    fn each_change_of_instances_is_told_once_and_counts_when_asked_for() {
        let ledger = Ledger::new();
        ledger.claim(&name("a"), "u", "r");
        ledger.claim(&name("b"), "u", "r");
        let (_, version) = ledger.since(None, true);
        let wish = ledger.want(&name("b"), "i1", None);
        let (lines, version) = ledger.since(Some(version), false);
        assert_eq!(told(&lines), [("b".to_owned(), 1, 0)]);
        ledger.observe(&name("a"), 3, 0);
        assert_eq!(told(&ledger.since(Some(version), false).0), []);
        let (lines, version) = ledger.since(Some(version), true);
        assert_eq!(told(&lines), [("a".to_owned(), 0, 3)]);
        ledger.give_up(&name("b"), wish);
        assert_eq!(
            told(&ledger.since(Some(version), true).0),
            [("b".to_owned(), 0, 0)]
        );
    }

    #[test]
    fn each_of_several_controllers_hears_of_all_counts() {
        let ledger = Ledger::new();
        ledger.claim(&name("a"), "u", "r");
        let (_, one) = ledger.since(None, true);
        let (_, other) = ledger.since(None, true);
        ledger.observe(&name("a"), 3, 0);
        for heard in [one, other] {
            let (lines, heard) = ledger.since(Some(heard), true);
            assert_eq!(told(&lines), [("a".to_owned(), 0, 3)]);
            assert_eq!(told(&ledger.since(Some(heard), true).0), []);
        }
    }

    #[test]
    fn a_release_is_told_once_to_who_has_heard_the_claim() {
        let ledger = Ledger::new();
        ledger.claim(&name("a"), "u", "r");
        let (_, version) = ledger.since(None, true);
        ledger.release(&name("a"));
        let (lines, version) = ledger.since(Some(version), false);
        let demand: Demand = serde_json::from_str(lines.trim()).expect("a demand");
        assert!(demand.released);
        ledger.observe(&name("a"), 1, 0);
        assert_eq!(ledger.since(Some(version), true).0, "\n");
        assert_eq!(ledger.since(None, true).0, "\n");
    }

    #[test]
    fn a_claimed_pod_is_named_as_long_as_its_instance_is_wanted() {
        let ledger = Ledger::new();
        ledger.claim(&name("a"), "u", "r");
        let pod = ClaimedPod {
            name: "warm-1".to_owned(),
            uid: "u1".to_owned(),
            revision: "r".to_owned(),
        };
        let wish = ledger.want(&name("a"), "i1", Some(pod.clone()));
        let claimed = || {
            let line = ledger.since(None, true).0;
            let demand: Demand = serde_json::from_str(line.trim()).expect("a demand");
            demand.claimed
        };
        assert_eq!(claimed(), [("i1".to_owned(), pod)].into());
        ledger.give_up(&name("a"), wish);
        assert_eq!(claimed(), [].into());
    }

    #[test]
    fn an_instance_is_wanted_until_its_last_wish_is_given_up() {
        let ledger = Ledger::new();
        let first = ledger.want(&name("a"), "i1", None);
        let second = ledger.want(&name("a"), "i1", None);
        ledger.claim(&name("a"), "u", "r");
        ledger.give_up(&name("a"), first);
        assert_eq!(told(&ledger.since(None, true).0), [("a".to_owned(), 1, 0)]);
        ledger.give_up(&name("a"), second);
        assert_eq!(told(&ledger.since(None, true).0), [("a".to_owned(), 0, 0)]);
    }
}
