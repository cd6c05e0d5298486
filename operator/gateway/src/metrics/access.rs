//! Refused callers, as a metric.
//!
//! `access::audit` counts. The label has a fixed set of values: `core::access::Refusal::reason`.

use pilotlight_core::access::Refusal;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfReason {
    reason: &'static str,
}

/// See the module. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct AccessMetrics {
    refused: Family<OfReason, Counter>,
}

impl AccessMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let refused = Family::default();
        registry.register(
            "callers_refused",
            "Calls whose caller was refused, by reason",
            refused.clone(),
        );
        // Every series exists from the start, so that its first count is seen as an increase.
        for reason in Refusal::REASONS {
            drop(refused.get_or_create(&OfReason { reason }));
        }
        AccessMetrics { refused }
    }

    pub(crate) fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&OfReason { reason }).inc();
    }
}
