//! How the parts of Pilotlight connect to each other, listen, and bound what they read.
//!
//! Used by gateway, controller and supervisor. `pilotlight-wire` says what the messages are; this crate
//! carries bytes and knows no message. It retries nothing: it reports whether a request was never sent, and
//! the caller decides (rule 2).

pub mod address;
pub mod body;
pub mod client;
pub mod framing;
#[cfg(feature = "outbound")]
pub mod guarded;
pub mod identity;
pub mod keepalive;
pub mod lines;
#[cfg(feature = "server")]
pub mod listen;
#[cfg(feature = "outbound")]
pub mod outbound;
pub mod pooled;
