//! What becomes of log records, as metrics.
//!
//! `logs` counts. All labels have fixed sets of values.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// Why a record reaches no store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "label values are in snake case")]
pub(crate) enum DropReason {
    backlog_full,
    store_refused,
    instance_rate,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfDrop {
    reason: DropReason,
}

/// See the module. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogMetrics {
    taken: Counter,
    stored: Counter,
    dropped: Family<OfDrop, Counter>,
    failures: Counter,
    backlog: Gauge,
}

impl LogMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "log_records_taken",
            "Log records that instances have handed over",
            self.taken.clone(),
        );
        registry.register(
            "log_records_stored",
            "Log records that the store has",
            self.stored.clone(),
        );
        registry.register(
            "log_records_dropped",
            "Log records that reach no store, by reason",
            self.dropped.clone(),
        );
        registry.register(
            "log_store_failures",
            "Batches that the log store has not taken",
            self.failures.clone(),
        );
        registry.register_with_unit(
            "log_backlog",
            "Memory of log records that the store does not have yet",
            Unit::Bytes,
            self.backlog.clone(),
        );
        // Every series exists from the start, so that its first count is seen as an increase.
        let reasons = [
            DropReason::backlog_full,
            DropReason::store_refused,
            DropReason::instance_rate,
        ];
        for reason in reasons {
            drop(self.dropped.get_or_create(&OfDrop { reason }));
        }
    }

    pub(crate) fn taken(&self) {
        self.taken.inc();
    }

    pub(crate) fn stored(&self, records: u64) {
        self.stored.inc_by(records);
    }

    pub(crate) fn dropped(&self, reason: DropReason, records: u64) {
        self.dropped
            .get_or_create(&OfDrop { reason })
            .inc_by(records);
    }

    pub(crate) fn store_failed(&self) {
        self.failures.inc();
    }

    pub(crate) fn backlog(&self, bytes: usize) {
        self.backlog.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}
