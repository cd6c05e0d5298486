//! The pods of functions and of warm pools: which ones the controller makes and deletes.
//!
//! `demands` merges what the gateways want; `pods` decides for one function, `stock` for one warm pool;
//! `creations` keeps both from making a pod twice; `fit` says which functions a pool serves, and `defaults` which pools
//! there are without anybody naming them. Fed by the controller with what its watches show and what the gateways
//! report. Nothing here knows the API server.

mod creations;
pub mod defaults;
pub mod demands;
pub mod fit;
mod pods;
pub mod stock;

pub use pods::{Fleet, ObservedFunction, Pod, Step};
