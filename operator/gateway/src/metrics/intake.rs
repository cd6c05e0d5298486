//! What the gateway's listeners hold, refuse and close, as metrics.
//!
//! `http::connections` and `intake` count. All labels have fixed sets of values.

use pilotlight_core::intake::connection::Overdue;
use pilotlight_core::intake::limits::IntakeLimits;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// Whose connections they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "label values are in snake case")]
pub(crate) enum Listener {
    api,
    parts,
    status,
}

/// Why a request was refused before anything ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "label values are in snake case")]
pub(crate) enum Refusal {
    event_bytes,
    request_bytes,
    slow_body,
    both_lengths,
}

/// Why a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "label values are in snake case")]
enum Reason {
    slow_head,
    slow_reader,
    idle,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfListener {
    listener: Listener,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfClosed {
    listener: Listener,
    reason: Reason,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRefusal {
    reason: Refusal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "label values are in snake case")]
enum Budget {
    events,
    answers,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfBudget {
    of: Budget,
}

/// See the module. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct IntakeMetrics {
    connections: Family<OfListener, Gauge>,
    waited: Family<OfListener, Counter>,
    closed: Family<OfClosed, Counter>,
    refused: Family<OfRefusal, Counter>,
    used: Family<OfBudget, Gauge>,
    limit: Family<OfBudget, Gauge>,
}

impl IntakeMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = IntakeMetrics {
            connections: Family::default(),
            waited: Family::default(),
            closed: Family::default(),
            refused: Family::default(),
            used: Family::default(),
            limit: Family::default(),
        };
        registry.register(
            "connections",
            "Open connections, by listener",
            metrics.connections.clone(),
        );
        registry.register(
            "connections_waited",
            "Connections that had to wait for a place",
            metrics.waited.clone(),
        );
        registry.register(
            "connections_closed",
            "Connections that the gateway closed, by reason",
            metrics.closed.clone(),
        );
        registry.register(
            "requests_refused",
            "Requests that were refused before anything ran, by limit",
            metrics.refused.clone(),
        );
        registry.register_with_unit(
            "budget_used",
            "Memory that bodies hold",
            Unit::Bytes,
            metrics.used.clone(),
        );
        registry.register_with_unit(
            "budget_limit",
            "Memory that bodies may hold",
            Unit::Bytes,
            metrics.limit.clone(),
        );
        metrics.begin();
        metrics
    }

    /// Every series exists from the start, so that its first count is seen as an increase.
    fn begin(&self) {
        for listener in [Listener::api, Listener::parts, Listener::status] {
            let of = OfListener { listener };
            drop(self.connections.get_or_create(&of));
            drop(self.waited.get_or_create(&of));
            for reason in [Reason::slow_head, Reason::slow_reader, Reason::idle] {
                drop(self.closed.get_or_create(&OfClosed { listener, reason }));
            }
        }
        let refusals = [
            Refusal::event_bytes,
            Refusal::request_bytes,
            Refusal::slow_body,
            Refusal::both_lengths,
        ];
        for reason in refusals {
            drop(self.refused.get_or_create(&OfRefusal { reason }));
        }
    }

    pub(crate) fn limits(&self, limits: &IntakeLimits) {
        let budgets = [
            (Budget::events, limits.event_bytes),
            (Budget::answers, limits.answer_bytes),
        ];
        for (of, bytes) in budgets {
            let limit = self.limit.get_or_create(&OfBudget { of });
            limit.set(as_gauge(bytes));
        }
    }

    /// Bytes in use of events and of answers.
    pub(crate) fn used(&self, used: [usize; 2]) {
        for (of, bytes) in [Budget::events, Budget::answers].into_iter().zip(used) {
            let used = self.used.get_or_create(&OfBudget { of });
            used.set(as_gauge(bytes));
        }
    }

    pub(crate) fn open(&self, listener: Listener, connections: usize) {
        let open = self.connections.get_or_create(&OfListener { listener });
        open.set(as_gauge(connections));
    }

    pub(crate) fn waited(&self, listener: Listener) {
        self.waited.get_or_create(&OfListener { listener }).inc();
    }

    pub(crate) fn closed(&self, listener: Listener, why: Overdue) {
        let reason = match why {
            Overdue::Head => Reason::slow_head,
            Overdue::Answer => Reason::slow_reader,
            Overdue::Idle => Reason::idle,
        };
        let closed = OfClosed { listener, reason };
        self.closed.get_or_create(&closed).inc();
    }

    pub(crate) fn refused(&self, reason: Refusal) {
        self.refused.get_or_create(&OfRefusal { reason }).inc();
    }
}

fn as_gauge(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
