//! What the tests of the workspace as a whole read it with; the tests themselves are in `tests/`.
//!
//! `tree` lists the files. `papers` reads citations, links and paths in them, and `durations` the constants that
//! docs/timeouts.md lists. `modules` draws which file of a crate uses which, and
//! `names` reads the names of types. Nothing here asserts anything.

pub mod durations;
pub mod modules;
pub mod names;
pub mod papers;
pub mod tree;
