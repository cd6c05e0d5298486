//! The unclaimed pods of warm pools, as this gateway may claim them.
//!
//! Fed by the watch of pods (`pods`); `backend` takes one for an instance that is to start. What is
//! taken is never offered again: it has become an instance, of this gateway's or, as its supervisor
//! says, of another's. The controller keeps the pools full.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pilotlight_api::{Class, FunctionSpec, labels};

use crate::clock;

/// A pod that waits for its claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unclaimed {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) ip: IpAddr,
}

impl Unclaimed {
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::new(self.ip, labels::CONTROL_PORT)
    }
}

#[derive(Debug)]
struct Known {
    class: Class,
    name: String,
    /// Once it is up.
    ip: Option<IpAddr>,
    state: State,
}

#[derive(Debug)]
enum State {
    Waits,
    /// For this instance, which is to claim it.
    Taken(String),
    /// It is this instance.
    Claimed(String),
    /// It may be tried again then.
    Avoided(Instant),
    /// Another gateway's.
    Lost,
}

impl Known {
    fn is_offered(&self, now: Instant) -> bool {
        let may_be_taken = match self.state {
            State::Waits => true,
            State::Avoided(until) => until <= now,
            State::Taken(_) | State::Claimed(_) | State::Lost => false,
        };
        may_be_taken && self.ip.is_some()
    }

    fn unclaimed(&self, uid: &str) -> Option<Unclaimed> {
        let (name, uid, ip) = (self.name.clone(), uid.to_owned(), self.ip?);
        Some(Unclaimed { name, uid, ip })
    }
}

/// Before a pod that could not be reached is tried again.
const AVOIDANCE: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
struct Shelf {
    /// By UID.
    pods: HashMap<String, Known>,
    order: RandomState,
}

/// Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stock {
    shelf: Arc<Mutex<Shelf>>,
}

impl Stock {
    /// A pod of a warm pool as the watch shows it; without an address it is not up, or not any more.
    pub(crate) fn put(&self, name: String, uid: String, class: Class, ip: Option<IpAddr>) {
        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        let known = shelf.pods.entry(uid).or_insert_with(|| Known {
            class,
            name,
            ip,
            state: State::Waits,
        });
        known.ip = ip;
    }

    /// A pod that is of no pool any more; the instance that it has become here, if it has.
    pub(crate) fn remove(&self, uid: &str) -> Option<String> {
        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        match shelf.pods.remove(uid)?.state {
            State::Claimed(instance) => Some(instance),
            State::Waits | State::Taken(_) | State::Avoided(_) | State::Lost => None,
        }
    }

    /// Takes the pod of the smallest class that such a function fits. Of several alike each gateway
    /// prefers another one, so that two seldom meet at one pod.
    pub(crate) fn take(&self, spec: &FunctionSpec, instance: &str) -> Option<Unclaimed> {
        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        let Shelf { pods, order } = &mut *shelf;
        let now = clock::now();
        let fitting = pods
            .iter_mut()
            .filter(|(_, known)| known.is_offered(now) && known.class.fits(spec));
        let (uid, known) = fitting.min_by_key(|(uid, known)| {
            let size = (known.class.memory, known.class.ephemeral_storage);
            (size, order.hash_one(uid))
        })?;
        known.state = State::Taken(instance.to_owned());
        known.unclaimed(uid)
    }

    /// What is taken for an instance.
    pub(crate) fn taken(&self, instance: &str) -> Option<Unclaimed> {
        let shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        let mut pods = shelf.pods.iter();
        let is_it = |known: &Known| matches!(&known.state, State::Taken(by) if by == instance);
        let (uid, known) = pods.find(|(_, known)| is_it(known))?;
        known.unclaimed(uid)
    }

    /// It has become the instance.
    pub(crate) fn claimed(&self, uid: &str, instance: &str) {
        self.set(uid, State::Claimed(instance.to_owned()));
    }

    /// The instance does not claim what was taken for it; whether it tried may be unknown.
    pub(crate) fn leave(&self, instance: &str) {
        if let Some(taken) = self.taken(instance) {
            self.avoid(&taken.uid);
        }
    }

    /// It is another gateway's.
    pub(crate) fn lose(&self, uid: &str) {
        self.set(uid, State::Lost);
    }

    /// It could not be reached.
    pub(crate) fn avoid(&self, uid: &str) {
        self.set(uid, State::Avoided(clock::now() + AVOIDANCE));
    }

    fn set(&self, uid: &str, state: State) {
        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = shelf.pods.get_mut(uid) {
            known.state = state;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(memory: u32) -> Class {
        Class {
            memory: memory.to_string().parse().expect("a memory size"),
            ephemeral_storage: Default::default(),
            runtime: "python3.11".parse().expect("a runtime"),
        }
    }

    fn put(stock: &Stock, name: &str, memory: u32, ip: Option<IpAddr>) {
        stock.put(name.to_owned(), format!("uid-{name}"), class(memory), ip);
    }

    fn spec(more: &str) -> FunctionSpec {
        let text = format!(
            r#"{{"runtime":"python3.11","code":{{"inline":{{"a.py":"1"}}}},"memory":256{more}}}"#
        );
        serde_json::from_str(&text).expect("a spec")
    }

    const IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    #[test]
    fn the_smallest_class_that_fits_is_taken_once() {
        let stock = Stock::default();
        for (name, memory) in [("small", 128), ("large", 1024), ("right", 256)] {
            put(&stock, name, memory, Some(IP));
        }
        put(&stock, "starting", 256, None);
        let names = ["i1", "i2", "i3"].map(|instance| {
            let taken = stock.take(&spec(""), instance);
            taken.map(|unclaimed| unclaimed.name)
        });
        let expected = [Some("right"), Some("large"), None];
        assert_eq!(names, expected.map(|name| name.map(str::to_owned)));
        assert_eq!(stock.taken("i1").expect("one").name, "right");
        put(&stock, "right", 256, Some(IP));
        assert_eq!(stock.take(&spec(""), "i4"), None, "seen again, and taken");
        stock.claimed("uid-right", "i1");
        assert_eq!(stock.remove("uid-right").as_deref(), Some("i1"));
        assert_eq!(stock.remove("uid-right"), None);
        for leave in [Stock::lose, Stock::avoid] {
            leave(&stock, "uid-large");
            assert_eq!(stock.taken("i2"), None);
            assert_eq!(stock.take(&spec(""), "i2"), None, "not at once");
        }
    }

    #[test]
    fn what_is_taken_and_left_is_no_instance() {
        let stock = Stock::default();
        put(&stock, "one", 256, Some(IP));
        assert!(stock.take(&spec(""), "i1").is_some());
        stock.leave("i1");
        assert_eq!(stock.taken("i1"), None);
        assert_eq!(stock.remove("uid-one"), None);
    }

    #[test]
    fn a_function_with_needs_of_its_own_takes_nothing() {
        let stock = Stock::default();
        put(&stock, "one", 256, Some(IP));
        for needs in [
            r#","pod":{"serviceAccount":"a"}"#,
            r#","pod":{"nodeSelector":{"disk":"fast"}}"#,
            r#","environmentFrom":[{"secretRef":{"name":"s"}}]"#,
            r#","ephemeralStorage":1024"#,
        ] {
            assert_eq!(stock.take(&spec(needs), "i1"), None, "{needs}");
        }
        assert!(stock.take(&spec(""), "i1").is_some());
    }
}
