//! What the tests of the workspace as a whole read it with; the tests themselves are in `tests/`.
//!
//! `tree` lists the files. `papers` reads citations, links and paths in them, and `durations` the constants that
//! docs/timeouts.md lists. Nothing here asserts anything.

pub mod durations;
pub mod papers;
pub mod tree;
