//! What each gateway said last, and whether all have been heard.
//!
//! Fed with what `gateways` hears; `worker` asks for the demands of one function. The last word of
//! a gateway that cannot be reached counts a while longer. Until each one known has told all that
//! it wants, nobody is to take an instance for unwanted: another may speak first.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pilotlight_core::gateways::demand::{ClaimedPod, Demand};

use crate::gateways::GatewayEvent;

/// How long the last word of a gateway that cannot be reached counts.
const GRACE: Duration = Duration::from_secs(15);
/// Within this a gateway that was reached has told all that it wants; it does so at once.
const FIRST_WORDS: Duration = Duration::from_secs(2);

struct Gateway {
    demands: BTreeMap<String, Demand>,
    lost_at: Option<Instant>,
    /// When all that it wants has been told; `None` until it is reached.
    told_all_at: Option<Instant>,
    /// Functions that it spoke for before the connection broke, and when it has told whether it
    /// does still.
    unrepeated: Option<(Instant, BTreeSet<String>)>,
}

impl Gateway {
    fn new(lost_at: Option<Instant>) -> Self {
        Gateway {
            demands: BTreeMap::new(),
            lost_at,
            told_all_at: None,
            unrepeated: None,
        }
    }

    /// Forgets what it has not repeated; whether there was anything.
    fn forget_unrepeated(&mut self, now: Instant) -> bool {
        let Some((_, functions)) = self.unrepeated.take_if(|(at, _)| *at <= now) else {
            return false;
        };
        for function in &functions {
            self.demands.remove(function);
        }
        !functions.is_empty()
    }
}

pub(crate) struct Demands {
    gateways: HashMap<SocketAddr, Gateway>,
    all_heard: bool,
    /// Since it was asked for.
    claims_changed: bool,
}

impl Demands {
    pub(crate) fn new() -> Self {
        Demands {
            gateways: HashMap::new(),
            all_heard: true,
            claims_changed: false,
        }
    }

    /// Takes in what a gateway told; returns the function that it concerns.
    pub(crate) fn take(&mut self, told: GatewayEvent, now: Instant) -> Option<String> {
        match told {
            GatewayEvent::Found(address) => {
                let gateway = || Gateway::new(Some(now));
                self.gateways.entry(address).or_insert_with(gateway);
            }
            GatewayEvent::Connected(address) => {
                let gateway = self.gateways.entry(address);
                let gateway = gateway.or_insert_with(|| Gateway::new(None));
                gateway.lost_at = None;
                let spoken_for = gateway.demands.keys().cloned().collect();
                gateway.unrepeated = Some((now + FIRST_WORDS, spoken_for));
                gateway.told_all_at.get_or_insert(now + FIRST_WORDS);
            }
            GatewayEvent::Demand(address, demand) => {
                let name = demand.function.to_string();
                let gateway = self.gateways.get_mut(&address)?;
                if let Some((_, functions)) = &mut gateway.unrepeated {
                    functions.remove(&name);
                }
                let claimed = demand.claimed.clone();
                let before = match demand.released {
                    true => gateway.demands.remove(&name),
                    false => gateway.demands.insert(name.clone(), demand),
                };
                let before = before.map(|demand| demand.claimed);
                self.claims_changed |= before.unwrap_or_default() != claimed;
                return Some(name);
            }
            GatewayEvent::Lost(address) => {
                let gateway = self.gateways.get_mut(&address)?;
                gateway.lost_at.get_or_insert(now);
                gateway.told_all_at = gateway.told_all_at.filter(|at| *at <= now);
                gateway.unrepeated = None;
            }
        }
        self.all_heard &= self.have_told_all(now);
        None
    }

    /// Time has passed; whether that concerns all functions.
    pub(crate) fn wake(&mut self, now: Instant) -> bool {
        let before = self.gateways.len();
        self.gateways
            .retain(|_, gateway| gateway.lost_at.is_none_or(|at| at + GRACE > now));
        let mut forgotten = false;
        for gateway in self.gateways.values_mut() {
            forgotten |= gateway.forget_unrepeated(now);
        }
        let (had, has) = (self.all_heard, self.have_told_all(now));
        self.all_heard = has;
        forgotten || self.gateways.len() < before || (has && !had)
    }

    fn have_told_all(&self, now: Instant) -> bool {
        let mut gateways = self.gateways.values();
        gateways.all(|gateway| gateway.told_all_at.is_some_and(|at| at <= now))
    }

    pub(crate) fn all_heard(&self) -> bool {
        self.all_heard
    }

    /// Whether the claims are others than when this was asked last.
    pub(crate) fn take_claims_changed(&mut self) -> bool {
        std::mem::take(&mut self.claims_changed)
    }

    /// All pods of warm pools that gateways have claimed and name still.
    pub(crate) fn claims(&self) -> Vec<&ClaimedPod> {
        let demands = self.gateways.values();
        let demands = demands.flat_map(|gateway| gateway.demands.values());
        demands.flat_map(|demand| demand.claimed.values()).collect()
    }

    pub(crate) fn of(&self, function: &str) -> Vec<&Demand> {
        let gateways = self.gateways.values();
        gateways
            .filter_map(|gateway| gateway.demands.get(function))
            .collect()
    }

    /// When [`Demands::wake`] is due.
    pub(crate) fn next_wakeup(&self) -> Option<Instant> {
        let gateways = self.gateways.values();
        let gone = gateways
            .clone()
            .filter_map(|gateway| Some(gateway.lost_at? + GRACE));
        let repeated = gateways
            .clone()
            .filter_map(|gateway| Some(gateway.unrepeated.as_ref()?.0));
        let heard = gateways.map(|gateway| gateway.told_all_at);
        let heard = match self.all_heard {
            true => None,
            // Once all have been reached, the last of them.
            false => heard.collect::<Option<Vec<_>>>(),
        };
        gone.chain(repeated)
            .chain(heard.into_iter().flatten().max())
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn demand() -> Demand {
        Demand {
            function: "hello".parse().expect("a name"),
            uid: "uid".to_owned(),
            revision: "r1".to_owned(),
            instances: Default::default(),
            claimed: Default::default(),
            in_flight: 0,
            queued: 0,
            released: false,
        }
    }

    #[test]
    fn all_are_heard_when_the_last_one_that_is_known_has_spoken() {
        let (mut demands, now) = (Demands::new(), Instant::now());
        for port in [1, 2] {
            demands.take(GatewayEvent::Found(address(port)), now);
        }
        demands.take(GatewayEvent::Connected(address(1)), now);
        let spoken = demands.take(GatewayEvent::Demand(address(1), demand()), now);
        assert_eq!(spoken.as_deref(), Some("hello"));
        let mut later = now + FIRST_WORDS;
        assert!(!demands.wake(later) && !demands.all_heard());
        demands.take(GatewayEvent::Connected(address(2)), later);
        later += FIRST_WORDS;
        assert_eq!(demands.next_wakeup(), Some(later));
        assert!(demands.wake(later) && demands.all_heard());
        assert!(!demands.wake(later), "it is news once");
        assert_eq!(demands.next_wakeup(), None);
    }

    #[test]
    fn a_gateway_that_is_never_reached_is_not_waited_for_for_ever() {
        let (mut demands, now) = (Demands::new(), Instant::now());
        demands.take(GatewayEvent::Found(address(1)), now);
        demands.take(GatewayEvent::Lost(address(1)), now + PART);
        assert!(!demands.all_heard());
        assert_eq!(demands.next_wakeup(), Some(now + GRACE));
        assert!(demands.wake(now + GRACE) && demands.all_heard());
        demands.take(GatewayEvent::Lost(address(1)), now + GRACE);
        assert!(demands.all_heard());
    }

    const PART: Duration = Duration::from_secs(5);

    #[test]
    fn the_last_word_of_a_lost_gateway_counts_a_while_and_again_when_it_is_back() {
        let (mut demands, now) = (Demands::new(), Instant::now());
        demands.take(GatewayEvent::Connected(address(1)), now);
        demands.take(GatewayEvent::Demand(address(1), demand()), now);
        let lost = now + PART;
        demands.wake(lost);
        demands.take(GatewayEvent::Lost(address(1)), lost);
        demands.take(GatewayEvent::Connected(address(1)), lost + PART);
        demands.take(GatewayEvent::Demand(address(1), demand()), lost + PART);
        demands.wake(lost + GRACE);
        assert_eq!(demands.of("hello").len(), 1);
        assert!(demands.all_heard(), "what it wants was known all the time");
        demands.take(GatewayEvent::Lost(address(1)), lost + GRACE);
        assert!(demands.wake(lost + GRACE + GRACE));
        assert_eq!(demands.of("hello").len(), 0);
    }

    #[test]
    fn a_gateway_that_is_back_speaks_only_for_what_it_repeats() {
        let (mut demands, now) = (Demands::new(), Instant::now());
        for _ in 0..2 {
            demands.take(GatewayEvent::Connected(address(1)), now);
            demands.take(GatewayEvent::Demand(address(1), demand()), now);
        }
        let later = now + FIRST_WORDS;
        assert!(demands.wake(later), "all are heard");
        assert_eq!(demands.of("hello").len(), 1);
        demands.take(GatewayEvent::Lost(address(1)), later);
        demands.take(GatewayEvent::Connected(address(1)), later);
        assert_eq!(demands.next_wakeup(), Some(later + FIRST_WORDS));
        assert!(demands.wake(later + FIRST_WORDS));
        assert_eq!(demands.of("hello").len(), 0);
    }

    #[test]
    fn a_gateway_that_releases_a_function_speaks_for_it_no_longer() {
        let (mut demands, now) = (Demands::new(), Instant::now());
        demands.take(GatewayEvent::Connected(address(1)), now);
        demands.take(GatewayEvent::Demand(address(1), demand()), now);
        let released = Demand {
            released: true,
            ..demand()
        };
        demands.take(GatewayEvent::Demand(address(1), released), now);
        assert_eq!(demands.of("hello").len(), 0);
    }
}
