//! What several targets need: requests from text, tars with their sums set right, a place to unpack
//! to that shows what lands outside of it.
//!
//! The targets, in `fuzz_targets/`, say what must hold; `corpus/` has what they begin with.

pub mod request;
pub mod sandbox;
pub mod tar;
