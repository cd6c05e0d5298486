//! `GET /identity`: the token that proves which pod an instance is.
//!
//! The supervisor answers it on connections of gateways that have proven their role, and on no others: claimed or not.
//! The gateway's `cluster/proof` asks it once for each pod.

pub const IDENTITY_PATH: &str = "/identity";
