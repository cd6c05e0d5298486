//! The configuration of a controller, from its command line.
//!
//! Fed by `pilotlight controller`. Decides nothing.

use std::collections::BTreeMap;

use pilotlight_runtimes::Runtimes;

/// The configuration of a controller.
#[derive(Clone, Debug)]
pub struct Options {
    pub namespace: String,
    /// The name of this controller among those that contend for the leadership. No other living process has
    /// it.
    pub identity: String,
    /// The Service with the gateways' port for parts; its endpoints are the gateways.
    pub parts_service: String,
    /// The Service at which instances call other functions.
    pub gateway_service: String,
    /// The namespace of both Services.
    pub gateway_namespace: String,
    /// The port of the Service at which instances call other functions.
    pub gateway_port: u16,
    pub region: String,
    /// The image of each runtime, by the runtime's canonical name.
    pub images: BTreeMap<String, String>,
    pub runtimes: Runtimes,
}

impl Options {
    /// The `host:port` at which instances call other functions.
    pub(crate) fn gateways(&self) -> String {
        let Options {
            gateway_service: service,
            gateway_namespace: namespace,
            gateway_port: port,
            ..
        } = self;
        format!("{service}.{namespace}.svc:{port}")
    }
}
