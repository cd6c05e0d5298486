//! Decisions that the gateways of a cluster share out among themselves.
//!
//! `ownership`: which gateway owns a function (rule 3). `demand`: what a gateway wants of the controller.
//! Fed by `gateway::cluster`; nothing here knows the API server or a connection.

pub mod demand;
pub mod ownership;
