//! The parts of the simulated cluster: the API server's pods, the gateways, the controller, and what can
//! happen.
//!
//! `world` runs them; `gateway` and `controller` hold what each does.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use pilotlight_core::fleet::Fleet;
use pilotlight_core::fleet::demands::{Demands, GatewayEvent};
use pilotlight_core::fleet::fit::{Class, Needs, Settings};
use pilotlight_core::fleet::stock::Stock;
use pilotlight_core::gateways::choice::Choice;
use pilotlight_core::gateways::demand::ClaimedPod;
use pilotlight_core::gateways::handover::{Deployed, Handover, Step};
use pilotlight_core::gateways::ledger::{InstanceRequest, Ledger, ReadUpTo};
use pilotlight_core::gateways::naming::Naming;
use pilotlight_core::ids::{InstanceName, PodName, PoolId, Revision, Uid};

use crate::broken::Broken;
use crate::rules::{Finding, Seen};

pub(crate) const GATEWAYS: usize = 2;
/// A pod at the API server, and what its supervisor knows.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    pub(crate) uid: Uid,
    pub(crate) is_ready: bool,
    /// Its labels: instance, revision and owner of a function's pod; `None` for an unclaimed one.
    pub(crate) labels: Option<(InstanceName, Revision, Uid)>,
    /// What the warm pool declared when an unclaimed pod was made.
    pub(crate) class: Class,
    pub(crate) claimed_by: Option<(InstanceName, Instant)>,
}

/// The pods at one moment, as a watch shows them.
pub(crate) type Shown = Rc<BTreeMap<PodName, Pod>>;

#[derive(Clone, Debug)]
pub(crate) enum Happening {
    /// Something in the environment changes.
    Change,
    FunctionShown(usize, Deployed),
    MembersShown(usize),
    PodsShown(usize, Shown),
    StepDue(usize),
    ClaimArrives(usize, InstanceName, Uid),
    NamingStarts(usize, InstanceName),
    NamingStops(usize, InstanceName),
    StreamRead(usize),
    StreamConnects(usize),
    ControllerSeesFunction(Deployed),
    ControllerSeesPods(Shown),
    RequestArrives(u64, Request),
    ControllerWake,
    PodUp(PodName),
    /// A claimed pod that no gateway follows any more ends by itself.
    OrphanEnds(PodName, Uid),
}

pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) now: Instant,
    pub(crate) started_at: Instant,
    pub(crate) trace: bool,
    pub(crate) agenda: BinaryHeap<Reverse<(Instant, u64)>>,
    pub(crate) happenings: BTreeMap<u64, Happening>,
    pub(crate) sequence: u64,
    /// The last delivery to each viewer of pods: the gateways, then the controller.
    pub(crate) delivered: [Instant; GATEWAYS + 1],
    pub(crate) pool: PoolId,
    /// The account that the warm pool declares for the pods that it makes.
    pub(crate) declared: Account,
    /// The function at the API server: the number of its resource and of its revision.
    pub(crate) function: (u64, u64),
    pub(crate) owner: usize,
    pub(crate) pods: BTreeMap<PodName, Pod>,
    /// Instances that drain.
    pub(crate) drained: BTreeSet<InstanceName>,
    pub(crate) gateways: Vec<Gateway>,
    pub(crate) controller: Controller,
    pub(crate) broken: Option<Broken>,
    pub(crate) is_quiet: bool,
    pub(crate) names: u64,
    pub(crate) found: Vec<Finding>,
    pub(crate) seen: Seen,
}

/// What a gateway handles one after the other, each with all its steps.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    Function(Deployed),
    Settle,
}

/// What becomes of the instances that a driver gives up.
#[derive(Clone, Copy)]
pub(crate) enum Next {
    Drain,
    Release,
}

#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) deployed: Deployed,
    pub(crate) request: Option<InstanceRequest>,
    /// The watch has shown its pod.
    pub(crate) is_shown: bool,
}

/// A claimed pod whose naming has not stopped.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(crate) pod: ClaimedPod,
    pub(crate) naming: Naming,
    pub(crate) request: Option<InstanceRequest>,
}

pub(crate) struct Gateway {
    pub(crate) index: usize,
    pub(crate) handover: Handover,
    pub(crate) ledger: Ledger,
    pub(crate) choice: Choice<Class>,
    pub(crate) inputs: VecDeque<Input>,
    pub(crate) steps: VecDeque<Step>,
    /// How many instances the driver wants.
    pub(crate) target: usize,
    /// What the driver knows.
    pub(crate) deployed: Option<Deployed>,
    pub(crate) is_owner: bool,
    pub(crate) instances: BTreeMap<InstanceName, Instance>,
    pub(crate) claimed: BTreeMap<InstanceName, Claimed>,
    pub(crate) pods: Shown,
    pub(crate) lost: BTreeSet<Uid>,
    /// Whether the controller's stream is cut, and when it was restored last.
    pub(crate) is_cut: bool,
    pub(crate) restored_at: Option<Instant>,
}

impl Gateway {
    pub(crate) fn new(index: usize) -> Self {
        Gateway {
            index,
            handover: Handover::default(),
            ledger: Ledger::default(),
            choice: Choice::default(),
            inputs: VecDeque::new(),
            steps: VecDeque::new(),
            target: 0,
            deployed: None,
            is_owner: false,
            instances: BTreeMap::new(),
            claimed: BTreeMap::new(),
            pods: Shown::default(),
            lost: BTreeSet::new(),
            is_cut: false,
            restored_at: None,
        }
    }

    pub(crate) fn instances(&self) -> impl Iterator<Item = &InstanceName> {
        self.instances.keys()
    }

    /// Whether the driver has this instance, of this Function resource.
    pub(crate) fn uses(&self, instance: &InstanceName, uid: &Uid) -> bool {
        let instance = self.instances.get(instance);
        instance.is_some_and(|instance| instance.deployed.uid == *uid)
    }

    /// Whether the controller may not have read recent changes.
    pub(crate) fn was_cut_off(&self, now: Instant) -> bool {
        let is_recent = |at: Instant| now < at + Duration::from_secs(2);
        self.is_cut || self.restored_at.is_some_and(is_recent)
    }
}

/// A request to the API server.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    Create(InstanceName, Deployed),
    Adopt(InstanceName, ClaimedPod, Uid),
    Delete(Deletion),
    CreateUnclaimed(PodName),
    DeleteUnclaimed(Deletion),
}

/// The deletion of a pod.
#[derive(Clone, Debug)]
pub(crate) struct Deletion {
    pub(crate) name: PodName,
    pub(crate) uid: Uid,
    /// The gateway that used the pod when the controller decided. One that adopts the pod after that finds
    /// an instance that drains.
    pub(crate) user: Option<usize>,
}

#[derive(Default)]
pub(crate) struct Controller {
    /// Counts processes.
    pub(crate) term: u64,
    pub(crate) demands: Demands,
    pub(crate) fleet: Fleet,
    pub(crate) stock: Stock,
    /// How many unclaimed pods the warm pool wants.
    pub(crate) size: usize,
    pub(crate) function: Option<Deployed>,
    pub(crate) pods: Shown,
    /// Up to where each gateway's demands were read, while its stream is connected.
    pub(crate) streams: [Option<Option<ReadUpTo>>; GATEWAYS],
    pub(crate) wake: Option<Instant>,
}

pub(crate) fn address(gateway: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, gateway as u8], 8080))
}

impl Controller {
    pub(crate) fn discover(&mut self, now: Instant, gateway: usize) {
        let event = GatewayEvent::Discovered(address(gateway));
        self.demands.handle(now, event);
    }
}

impl Gateway {
    /// The revision for which the driver wants the instance.
    pub(crate) fn wanted_revision(&self, instance: &InstanceName) -> Option<u64> {
        let instance = self.instances.get(instance)?;
        Some(number(&instance.deployed.revision))
    }
}

pub(crate) fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The account of a pod or a function; a small number stands for its name.
pub(crate) type Account = Option<u64>;

fn settings(account: Account) -> Settings {
    Settings {
        account: account.map(|number| number.to_string()),
        ..Settings::default()
    }
}

pub(crate) fn class(account: Account) -> Class {
    Class {
        memory: Default::default(),
        ephemeral_storage: Default::default(),
        runtime: "custom".parse().expect("a name"),
        takes_layers: true,
        settings: settings(account),
    }
}

/// What a function of this revision needs: every third one has an account.
pub(crate) fn needs(revision: &Revision) -> Needs {
    let account = number(revision).is_multiple_of(3).then_some(1);
    Needs {
        memory: Default::default(),
        ephemeral_storage: Default::default(),
        runtime: "custom".parse().expect("a name"),
        has_layers: false,
        settings: settings(account),
        own_pod: None,
    }
}

/// The number of a revision, which grows with each change.
pub(crate) fn number(revision: &Revision) -> u64 {
    revision
        .as_str()
        .parse()
        .expect("revisions are numbers here")
}
