//! The TLS of the listener for callers, as metrics: handshakes, and the certificate in force.
//!
//! `identity::public` of `pilotlight-net` counts connections, and `cluster::public_certificate` reports certificates. What
//! a Secret says exists as a metric once a Secret was read, so that an alert on the end of a certificate finds no 0.

use std::sync::atomic::Ordering;

use pilotlight_net::identity::public::DoorCounts;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "label values are in snake case")]
enum Result {
    done,
    failed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfResult {
    result: Result,
}

/// The Secret of the release's value `gateway.tls.secretName`: one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfSecret {
    secret: String,
}

/// See the module. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct TlsMetrics {
    handshakes: Family<OfResult, Counter>,
    plain_refused: Counter,
    expiry: Family<OfSecret, Gauge>,
    unusable: Family<OfSecret, Gauge>,
}

impl TlsMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = TlsMetrics {
            handshakes: Family::default(),
            plain_refused: Counter::default(),
            expiry: Family::default(),
            unusable: Family::default(),
        };
        registry.register(
            "tls_handshakes",
            "TLS handshakes with callers, by result",
            metrics.handshakes.clone(),
        );
        registry.register(
            "plain_text_refused",
            "Requests in plain text that were refused because callers have to speak TLS",
            metrics.plain_refused.clone(),
        );
        registry.register_with_unit(
            "tls_certificate_expiry_timestamp",
            "When the certificate that callers get ends, since 1970",
            Unit::Seconds,
            metrics.expiry.clone(),
        );
        registry.register(
            "tls_certificate_unusable",
            "Whether (1) the Secret with the certificate for callers cannot be used: the log names the field",
            metrics.unusable.clone(),
        );
        metrics
    }

    pub(crate) fn counted(&self, counts: DoorCounts) {
        for (result, count) in [
            (Result::done, counts.handshakes),
            (Result::failed, counts.failed),
        ] {
            let counter = self.handshakes.get_or_create(&OfResult { result });
            counter.inner().store(count, Ordering::Relaxed);
        }
        let refused = self.plain_refused.inner();
        refused.store(counts.plain_refused, Ordering::Relaxed);
    }

    /// A certificate is in force. `until`: in seconds since 1970.
    pub(crate) fn renewed(&self, secret: &str, until: i64) {
        let labels = OfSecret {
            secret: secret.to_owned(),
        };
        self.expiry.get_or_create(&labels).set(until);
        self.unusable.get_or_create(&labels).set(0);
    }

    pub(crate) fn unusable(&self, secret: &str) {
        let labels = OfSecret {
            secret: secret.to_owned(),
        };
        self.unusable.get_or_create(&labels).set(1);
    }
}
