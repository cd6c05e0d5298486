//! The gateway's HTTP surface: one file for each API, and the server under them.
//!
//! `server` accepts connections and `routes` maps paths to handlers. A handler reads a request, asks the
//! driver or the catalog through `app`, and writes the answer. `errors` holds the error bodies and
//! `function_ref` the ways in which callers name a function. No handler decides where an invocation runs.

pub(crate) mod access;
pub(crate) mod cloudwatch;
pub(crate) mod connections;
pub(crate) mod errors;
pub(crate) mod event_stream;
mod events;
pub(crate) mod function_ref;
pub(crate) mod hosts;
pub(crate) mod https_only;
pub(crate) mod invoke;
pub(crate) mod logs;
pub(crate) mod management;
mod part_logs;
pub(crate) mod parts;
pub(crate) mod routes;
mod schedules;
pub(crate) mod server;
pub(crate) mod state;
pub(crate) mod status;
pub(crate) mod sts;
mod trace;
