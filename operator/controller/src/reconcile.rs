//! The way from a resource to its pods, one file for each step.
//!
//! `dereference` reads the objects that the watches show, `build` makes complete objects and never sees a
//! client, `apply` is the only one that writes, and `status` describes the result.

pub(crate) mod apply;
pub(crate) mod build;
pub(crate) mod dereference;
pub(crate) mod status;
