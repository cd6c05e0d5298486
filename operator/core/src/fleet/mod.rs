//! The pods of functions and of warm pools: which ones the controller makes and deletes.
//!
//! `pods` decides for one function, `stock` for one warm pool; `creations` keeps both from making a pod
//! twice. Fed by the controller with what its watches show and what the gateways want. Nothing here
//! knows the API server.

mod creations;
mod pods;
pub mod stock;

pub use pods::{Fleet, ObservedFunction, Pod, Step};
