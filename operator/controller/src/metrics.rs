//! The controller's metrics, in Prometheus' text formats at `/metrics`. docs/metrics.md has a row for each.
//!
//! Fed by `worker`, `leadership` and `reconcile::apply`; `health` serves it. Labels come from
//! fixed sets; functions and pods have no series of their own.

use std::sync::Arc;
use std::time::Duration;

use pilotlight_core::fleet::stock::Count;
use pilotlight_otlp::SpanCounts;
use pilotlight_wire::exposition::Format;
use prometheus_client::encoding::text::encode_registry;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Upper bounds of the duration histogram, in seconds.
const BUCKETS: [f64; 11] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0,
];

/// The operations at the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "label values are in snake case")]
pub(crate) enum Operation {
    create_pod,
    delete_pod,
    take_pod,
    store_code,
    delete_code,
    write_status,
    write_pool,
    lease,
    watch,
}

/// A pod as the watch shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "label values are in snake case")]
pub(crate) enum PodPhase {
    starting,
    ready,
    ending,
}

const STATES: [PodPhase; 3] = [PodPhase::starting, PodPhase::ready, PodPhase::ending];

/// A pod of a warm pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "label values are in snake case")]
enum WarmState {
    wanted,
    ready,
    claimed,
    refilling,
}

const WARM_STATES: [WarmState; 4] = [
    WarmState::wanted,
    WarmState::ready,
    WarmState::claimed,
    WarmState::refilling,
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfWarmState {
    state: WarmState,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfOperation {
    operation: Operation,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfState {
    state: PodPhase,
}

/// All metrics of this controller. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    registry: Arc<Registry>,
    leader: Gauge,
    functions: Gauge,
    unreadable: Gauge,
    pods: [Gauge; 3],
    warm_pools: Gauge,
    warm_pods: [Gauge; 4],
    pods_created: Counter,
    pods_deleted: Counter,
    pods_not_created: Counter,
    errors: Family<OfOperation, Counter>,
    durations: Family<OfOperation, Histogram, fn() -> Histogram>,
}

impl Metrics {
    /// `exports`: the counts of the exporter of spans, if there is one.
    pub(crate) fn new(exports: Option<Arc<SpanCounts>>) -> Self {
        let mut registry = Registry::with_prefix("pilotlight_controller");
        if let Some(exports) = exports {
            pilotlight_otlp::metrics::register_spans(exports, &mut registry);
        }
        let leader = Gauge::default();
        registry.register(
            "leader",
            "1: this controller leads; 0: it stands by",
            leader.clone(),
        );
        let functions = Gauge::default();
        registry.register("functions", "Functions that exist", functions.clone());
        let unreadable = Gauge::default();
        registry.register(
            "unreadable_resources",
            "Functions and WarmPools with a spec that this version cannot read",
            unreadable.clone(),
        );
        let pods = Family::<OfState, Gauge>::default();
        registry.register("pods", "Pods of functions, by state", pods.clone());
        let warm_pools = Gauge::default();
        registry.register(
            "warm_pools",
            "WarmPools that exist and can have pods",
            warm_pools.clone(),
        );
        let warm_pods = Family::<OfWarmState, Gauge>::default();
        registry.register(
            "warm_pods",
            "Unclaimed pods of all warm pools: wanted, ready, claimed and not labelled yet, refilling",
            warm_pods.clone(),
        );
        let [pods_created, pods_deleted, pods_not_created] = [
            ("pods_created", "Pods that the API server accepted"),
            ("pods_deleted", "Pods whose deletion was requested"),
            (
                "pods_create_failures",
                "Pods that the API server refused or gave no answer for",
            ),
        ]
        .map(|(name, help)| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        });
        let errors = Family::<OfOperation, Counter>::default();
        registry.register(
            "api_errors",
            "Failed calls of the API server, by operation",
            errors.clone(),
        );
        let durations: Family<_, _, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(BUCKETS));
        registry.register_with_unit(
            "reconcile_step_duration",
            "Time from the decision for a step to its end, including the wait for its turn",
            Unit::Seconds,
            durations.clone(),
        );
        Metrics {
            registry: Arc::new(registry),
            leader,
            functions,
            unreadable,
            pods: STATES.map(|state| pods.get_or_create_owned(&OfState { state })),
            warm_pools,
            warm_pods: WARM_STATES
                .map(|state| warm_pods.get_or_create_owned(&OfWarmState { state })),
            pods_created,
            pods_deleted,
            pods_not_created,
            errors,
            durations,
        }
    }

    pub(crate) fn leads(&self, leads: bool) {
        self.leader.set(leads.into());
    }

    pub(crate) fn functions(&self, count: usize) {
        self.functions.set(count as i64);
    }

    pub(crate) fn unreadable(&self, count: usize) {
        self.unreadable.set(count as i64);
    }

    /// `pools`: their number; `counts`: of the pods of each.
    pub(crate) fn warm_pools(&self, pools: usize, counts: &[Count]) {
        self.warm_pools.set(pools as i64);
        let of: [fn(&Count) -> usize; 4] = [
            |count| count.wanted,
            |count| count.ready,
            |count| count.claimed,
            |count| count.refilling,
        ];
        for (gauge, of) in self.warm_pods.iter().zip(of) {
            gauge.set(counts.iter().map(of).sum::<usize>() as i64);
        }
    }

    /// A pod changes from one phase to another; `None`: it did not or does not exist.
    pub(crate) fn pod(&self, from: Option<PodPhase>, to: Option<PodPhase>) {
        if let Some(from) = from {
            self.pods[from as usize].dec();
        }
        if let Some(to) = to {
            self.pods[to as usize].inc();
        }
    }

    /// A step has ended.
    pub(crate) fn stepped(&self, operation: Operation, took: Duration, succeeded: bool) {
        self.durations
            .get_or_create(&OfOperation { operation })
            .observe(took.as_secs_f64());
        match (operation, succeeded) {
            (Operation::create_pod, true) => self.pods_created.inc(),
            (Operation::create_pod, false) => self.pods_not_created.inc(),
            (Operation::delete_pod, true) => self.pods_deleted.inc(),
            _ => 0,
        };
        if !succeeded {
            self.failed(operation);
        }
    }

    pub(crate) fn failed(&self, operation: Operation) {
        self.errors.get_or_create(&OfOperation { operation }).inc();
    }

    pub(crate) fn encode(&self, format: Format) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode_registry(&mut text, &self.registry)?;
        let mut text = format.of(text);
        text.push_str(format.end());
        Ok(text)
    }
}
