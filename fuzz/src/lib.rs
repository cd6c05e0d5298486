//! Shared by several targets: requests from text, tars with correct checksums, and a folder to unpack to that
//! shows what is written outside it.
//!
//! The targets, in `fuzz_targets/`, say what must hold; `corpus/` has their first inputs.

pub mod request;
pub mod sandbox;
pub mod tar;
