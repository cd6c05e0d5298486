//! What each gateway wants, and whether all gateways have reported.
//!
//! Fed by the controller with the streams of the gateways; the controller asks for the demands of one
//! function. The last demands of a gateway that cannot be reached stay in force for a while. Until each
//! known gateway has reported everything that it wants, no instance may be deleted as unwanted: another
//! gateway may have a demand for it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::gateways::demand::{ClaimedPod, Demand};
use crate::ids::PoolId;

/// How long the last demands of a gateway that cannot be reached stay in force.
const LOST_GRACE: Duration = Duration::from_secs(15);
/// A gateway sends everything that it wants at the start of a stream, and has done so within this time.
const FIRST_REPORT: Duration = Duration::from_secs(2);

/// What the controller learns about a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GatewayEvent {
    /// The gateway exists; the controller is about to connect to it.
    Discovered(SocketAddr),
    Connected(SocketAddr),
    Demand(SocketAddr, Demand),
    /// The connection broke, could not be made, or the gateway is gone.
    Disconnected(SocketAddr),
}

#[derive(Debug)]
struct Gateway {
    demands: BTreeMap<PoolId, Demand>,
    lost_at: Option<Instant>,
    /// When the gateway has reported everything; `None` until the controller has connected.
    reported_at: Option<Instant>,
    /// The pools that it has not repeated since the connection broke, and when they count as given up.
    unrepeated: Option<(Instant, BTreeSet<PoolId>)>,
}

impl Gateway {
    fn new(lost_at: Option<Instant>) -> Self {
        Gateway {
            demands: BTreeMap::new(),
            lost_at,
            reported_at: None,
            unrepeated: None,
        }
    }

    /// Drops the demands that it has not repeated in time. Returns whether there were any.
    fn drop_unrepeated(&mut self, now: Instant) -> bool {
        let Some((_, pools)) = self.unrepeated.take_if(|(at, _)| *at <= now) else {
            return false;
        };
        for pool in &pools {
            self.demands.remove(pool);
        }
        !pools.is_empty()
    }
}

/// The demands of all gateways. See the module's text.
#[derive(Debug)]
pub struct Demands {
    gateways: HashMap<SocketAddr, Gateway>,
    all_reported: bool,
    /// The claims have changed since [`Demands::take_claims_changed`].
    claims_changed: bool,
}

impl Default for Demands {
    fn default() -> Self {
        Demands {
            gateways: HashMap::new(),
            all_reported: true,
            claims_changed: false,
        }
    }
}

impl Demands {
    /// Handles an event. Returns the pool whose demand has changed.
    pub fn handle(&mut self, now: Instant, event: GatewayEvent) -> Option<PoolId> {
        match event {
            GatewayEvent::Discovered(address) => {
                let gateway = || Gateway::new(Some(now));
                self.gateways.entry(address).or_insert_with(gateway);
            }
            GatewayEvent::Connected(address) => {
                let gateway = self.gateways.entry(address);
                let gateway = gateway.or_insert_with(|| Gateway::new(None));
                gateway.lost_at = None;
                let pools = gateway.demands.keys().cloned().collect();
                gateway.unrepeated = Some((now + FIRST_REPORT, pools));
                gateway.reported_at.get_or_insert(now + FIRST_REPORT);
            }
            GatewayEvent::Demand(address, demand) => {
                let pool = demand.pool.clone();
                let gateway = self.gateways.get_mut(&address)?;
                if let Some((_, pools)) = &mut gateway.unrepeated {
                    pools.remove(&pool);
                }
                let claimed = demand.claimed.clone();
                let before = match demand.released {
                    true => gateway.demands.remove(&pool),
                    false => gateway.demands.insert(pool.clone(), demand),
                };
                let before = before.map(|demand| demand.claimed);
                self.claims_changed |= before.unwrap_or_default() != claimed;
                return Some(pool);
            }
            GatewayEvent::Disconnected(address) => {
                let gateway = self.gateways.get_mut(&address)?;
                gateway.lost_at.get_or_insert(now);
                gateway.reported_at = gateway.reported_at.filter(|at| *at <= now);
                gateway.unrepeated = None;
            }
        }
        self.all_reported &= self.have_reported(now);
        None
    }

    /// Acts on deadlines that have passed. Returns whether this may concern all functions.
    pub fn wake(&mut self, now: Instant) -> bool {
        let before = self.gateways.len();
        self.gateways
            .retain(|_, gateway| gateway.lost_at.is_none_or(|at| at + LOST_GRACE > now));
        let mut dropped = false;
        for gateway in self.gateways.values_mut() {
            dropped |= gateway.drop_unrepeated(now);
        }
        let (had, has) = (self.all_reported, self.have_reported(now));
        self.all_reported = has;
        dropped || self.gateways.len() < before || (has && !had)
    }

    fn have_reported(&self, now: Instant) -> bool {
        let mut gateways = self.gateways.values();
        gateways.all(|gateway| gateway.reported_at.is_some_and(|at| at <= now))
    }

    /// Whether all known gateways have reported everything that they want.
    pub fn all_reported(&self) -> bool {
        self.all_reported
    }

    /// Whether the claims have changed since the last call.
    pub fn take_claims_changed(&mut self) -> bool {
        std::mem::take(&mut self.claims_changed)
    }

    /// All claimed pods that gateways name.
    pub fn claims(&self) -> Vec<&ClaimedPod> {
        let demands = self.gateways.values();
        let demands = demands.flat_map(|gateway| gateway.demands.values());
        demands.flat_map(|demand| demand.claimed.values()).collect()
    }

    /// The demands of all gateways for one pool.
    pub fn of(&self, pool: &PoolId) -> Vec<&Demand> {
        let gateways = self.gateways.values();
        gateways
            .filter_map(|gateway| gateway.demands.get(pool))
            .collect()
    }

    /// When [`Demands::wake`] is due, unless an event comes first.
    pub fn next_wakeup(&self) -> Option<Instant> {
        let gateways = self.gateways.values();
        let gone = gateways
            .clone()
            .filter_map(|gateway| Some(gateway.lost_at? + LOST_GRACE));
        let repeated = gateways
            .clone()
            .filter_map(|gateway| Some(gateway.unrepeated.as_ref()?.0));
        let reported = gateways.map(|gateway| gateway.reported_at);
        let reported = match self.all_reported {
            true => None,
            // The last of them, once all are connected.
            false => reported.collect::<Option<Vec<_>>>(),
        };
        gone.chain(repeated)
            .chain(reported.into_iter().flatten().max())
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Namespace;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn pool() -> PoolId {
        PoolId::latest(Namespace::local(), "hello".parse().expect("a name"))
    }

    fn demand() -> Demand {
        Demand {
            pool: pool(),
            uid: "uid".into(),
            revision: "r1".into(),
            instances: Default::default(),
            claimed: Default::default(),
            given_up: Default::default(),
            in_flight: 0,
            queued: 0,
            events: 0,
            released: false,
        }
    }

    #[test]
    fn all_are_heard_when_the_last_one_that_is_known_has_changed() {
        let (mut demands, now) = (Demands::default(), Instant::now());
        for port in [1, 2] {
            demands.handle(now, GatewayEvent::Discovered(address(port)));
        }
        demands.handle(now, GatewayEvent::Connected(address(1)));
        let changed = demands.handle(now, GatewayEvent::Demand(address(1), demand()));
        assert_eq!(changed, Some(pool()));
        let mut later = now + FIRST_REPORT;
        assert!(!demands.wake(later) && !demands.all_reported());
        demands.handle(later, GatewayEvent::Connected(address(2)));
        later += FIRST_REPORT;
        assert_eq!(demands.next_wakeup(), Some(later));
        assert!(demands.wake(later) && demands.all_reported());
        assert!(!demands.wake(later), "only the change is reported");
        assert_eq!(demands.next_wakeup(), None);
    }

    #[test]
    fn a_gateway_that_is_never_reached_is_dropped_after_the_grace_period() {
        let (mut demands, now) = (Demands::default(), Instant::now());
        demands.handle(now, GatewayEvent::Discovered(address(1)));
        demands.handle(now + PART, GatewayEvent::Disconnected(address(1)));
        assert!(!demands.all_reported());
        assert_eq!(demands.next_wakeup(), Some(now + LOST_GRACE));
        assert!(demands.wake(now + LOST_GRACE) && demands.all_reported());
        demands.handle(now + LOST_GRACE, GatewayEvent::Disconnected(address(1)));
        assert!(demands.all_reported());
    }

    const PART: Duration = Duration::from_secs(5);

    #[test]
    fn the_demands_of_a_lost_gateway_stay_in_force_for_the_grace_period_and_when_it_returns() {
        let (mut demands, now) = (Demands::default(), Instant::now());
        demands.handle(now, GatewayEvent::Connected(address(1)));
        demands.handle(now, GatewayEvent::Demand(address(1), demand()));
        let lost = now + PART;
        demands.wake(lost);
        demands.handle(lost, GatewayEvent::Disconnected(address(1)));
        demands.handle(lost + PART, GatewayEvent::Connected(address(1)));
        demands.handle(lost + PART, GatewayEvent::Demand(address(1), demand()));
        demands.wake(lost + LOST_GRACE);
        assert_eq!(demands.of(&pool()).len(), 1);
        assert!(
            demands.all_reported(),
            "its demands were known all the time"
        );
        demands.handle(lost + LOST_GRACE, GatewayEvent::Disconnected(address(1)));
        assert!(demands.wake(lost + LOST_GRACE + LOST_GRACE));
        assert_eq!(demands.of(&pool()).len(), 0);
    }

    #[test]
    fn a_gateway_that_returns_keeps_only_the_demands_that_it_repeats() {
        let (mut demands, now) = (Demands::default(), Instant::now());
        for _ in 0..2 {
            demands.handle(now, GatewayEvent::Connected(address(1)));
            demands.handle(now, GatewayEvent::Demand(address(1), demand()));
        }
        let later = now + FIRST_REPORT;
        assert!(demands.wake(later), "all have reported");
        assert_eq!(demands.of(&pool()).len(), 1);
        demands.handle(later, GatewayEvent::Disconnected(address(1)));
        demands.handle(later, GatewayEvent::Connected(address(1)));
        assert_eq!(demands.next_wakeup(), Some(later + FIRST_REPORT));
        assert!(demands.wake(later + FIRST_REPORT));
        assert_eq!(demands.of(&pool()).len(), 0);
    }

    #[test]
    fn a_released_demand_no_longer_counts() {
        let (mut demands, now) = (Demands::default(), Instant::now());
        demands.handle(now, GatewayEvent::Connected(address(1)));
        demands.handle(now, GatewayEvent::Demand(address(1), demand()));
        let released = Demand {
            released: true,
            ..demand()
        };
        demands.handle(now, GatewayEvent::Demand(address(1), released));
        assert_eq!(demands.of(&pool()).len(), 0);
    }
}
