//! Decisions of the gateways in a cluster, which all of them have to take in the same way.
//!
//! `ownership`: which gateway owns a function (rule 3). `handover`: in which order functions are deployed,
//! taken over and handed over. `ledger`: what a gateway wants of the controller, as `demand`s. `choice` and
//! `naming`: claims of pods of warm pools. Fed by `gateway::cluster`; nothing here knows the API server or
//! a connection.

pub mod choice;
pub mod demand;
pub mod handover;
pub mod ledger;
pub mod naming;
pub mod ownership;
