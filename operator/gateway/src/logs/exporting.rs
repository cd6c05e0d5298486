//! What the rest of the gateway says to the exports of its log: that there is a receiver, and which call begins.
//!
//! Feeds `exports` through `hub`. Without a receiver it does nothing.

use http::HeaderValue;
use pilotlight_core::instance::RequestId;

use super::exports::LogExports;
use super::hub::Hub;

impl Hub {
    /// Has each record go to a receiver of OTLP too. Only the first call counts.
    pub(crate) fn export_to(&self, exports: LogExports) {
        let _ = self.records.exports.set(exports);
    }

    /// An invocation begins at an instance. `trace`: X-Ray's header.
    pub(crate) fn begin_call(&self, request_id: &RequestId, trace: &HeaderValue) {
        if let Some(exports) = self.records.exports.get()
            && let Ok(trace) = trace.to_str()
        {
            exports.begin(request_id, trace);
        }
    }
}
