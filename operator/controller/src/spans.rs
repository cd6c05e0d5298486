//! The span of each pod that is created for a function, for the collector of traces.
//!
//! Its trace has the instance's name, which is a UUID, as its id (`core::traces::spans::of_instance`). So the gateway's span about
//! the start of that instance links to it, although the controller never sees an invocation.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use pilotlight_api::labels;
use pilotlight_core::traces::spans::{AttributeValue, Span, SpanKind, of_instance};
use pilotlight_otlp::{SpanBatch, SpanExporter};

/// `error`: why the API server has not created it. Pods that belong to no instance yet have no span.
pub(crate) fn export_creation(
    exporter: &SpanExporter,
    pod: &Pod,
    (start, end): (Duration, Duration),
    error: Option<String>,
) {
    let label = |name| pod.labels().get(name).cloned();
    let instance = label(labels::INSTANCE).unwrap_or_default();
    let Some((trace, id)) = of_instance(&instance) else {
        return;
    };
    let text = |key: &'static str, value: String| (key.into(), AttributeValue::Text(value));
    let span = Span {
        id,
        parent: None,
        name: "create pod".into(),
        kind: SpanKind::Client,
        start,
        end,
        attributes: vec![
            text("faas.name", label(labels::FUNCTION).unwrap_or_default()),
            text("faas.instance", instance),
            text("k8s.pod.name", pod.name_any()),
            text("k8s.namespace.name", pod.namespace().unwrap_or_default()),
        ],
        error,
        link: None,
    };
    let mut batch = SpanBatch::default();
    batch.add(trace, None, &span);
    exporter.submit(batch);
}
