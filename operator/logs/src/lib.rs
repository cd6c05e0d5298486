//! The log records of functions: what a record is, which ones a reader asks for, and who keeps them.
//!
//! `entry` is what the supervisors' lines become, `query` says which records a reader wants, and `store` is the
//! interface to whatever keeps them; `memory` keeps them in this process, and `victoria` in a VictoriaLogs of the cluster.
//! `pattern` is the language in which callers of the CloudWatch Logs API say what they want. Gateways fill a store and read
//! it. Nothing here knows how records reach a gateway.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod entry;
pub mod invocations;
pub mod level;
pub mod memory;
pub mod parameters;
pub mod pattern;
pub mod query;
pub mod report;
#[cfg(feature = "sqlite")]
pub mod sqlite;
pub mod store;
#[cfg(feature = "victoria")]
pub mod victoria;
