//! `POST /drain`: the instance takes no further lease, finishes the running one, and ends.

pub const DRAIN_PATH: &str = "/drain";
