//! The messages between the parts of Pilotlight: names, shapes, encoding and decoding. No IO.
//!
//! Each message has one definition, which both ends use. `core` decides what is sent; a module here
//! says how it is written. `docs/design.md` shows the calls in full.
//!
//! ```text
//! gateway ──► supervisor   lease, answer, stream, claim       the instance's own HTTP/1.1 server
//!                          status, drain, mark, proof
//! gateway ──► gateway      invoke, state, logs                        the listener for parts
//! gateway ──► controller   demand                              the controller connects
//! process ──► supervisor   config, prestart                    environment, standard input
//! supervisor ──► gateway   log_record, caller                  standard output, the loopback door
//!                          records                             the status stream
//!                          report                              with answers, also between gateways
//! process ──► supervisor   segments                            datagrams on the loopback interface
//! gateway, controller ──► Prometheus   exposition              the port for probes and metrics
//! ```

pub mod answer;
pub mod caller;
pub mod claim;
pub mod config;
pub mod demand;
pub mod drain;
pub mod events;
pub mod exposition;
mod headers;
pub mod invoke;
pub mod lease;
pub mod log_record;
pub mod logs;
pub mod mark;
mod phases;
pub mod prestart;
pub mod proof;
pub mod records;
mod report;
pub mod schedules;
pub mod segments;
pub mod state;
pub mod status;
pub mod stream;
