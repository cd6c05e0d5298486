//! What is kept of log records until somebody has them for good, and what is dropped.

pub mod backlog;
pub mod recent;
