//! The trace that an invocation belongs to: its identity, what is kept of it, and its spans.
//!
//! `context` translates between the headers of X-Ray and of W3C, `ids` has the ids that both share. `sampling` decides which
//! traces are kept, `lineage` finds calls that go round in circles, `spans` makes the spans of an invocation, and `segments` bounds what a function adds to them. Fed by the
//! gateway that a call reaches first. Nothing here exports anything: the crate `traces` does.

pub mod context;
pub mod ids;
pub mod lineage;
pub mod sampling;
pub mod segments;
pub mod spans;
