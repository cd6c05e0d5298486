//! What one process accepts from the network: how many bytes, how many connections, and how slow they may be.
//!
//! `bytes` decides whether a body or an answer fits, `pace` whether one makes progress, `connection` whether a
//! connection has to be closed, `origin` whether a request of local mode comes from a foreign web page, and `limits`
//! derives all budgets from the memory of the process. Used by
//! `pilotlight-net` (`listen`) and by the gateway's handlers, which read, refuse and close. Nothing here knows a
//! socket or a request.

pub mod bytes;
pub mod connection;
pub mod limits;
pub mod origin;
pub mod pace;
