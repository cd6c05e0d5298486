//! Asynchronous invocation: when an event is tried, when again, and when it is given up.
//!
//! ```text
//! caller ─► durable queue ─► dispatch: whose event is next ─► attempt ─► retry: when again, or its end
//!                                                                      its end ─► delivery: destination, dead letter
//! ```
//!
//! The queue (`pilotlight-events`) keeps the events, and the gateway runs them. Nothing here knows an event's content.

pub mod delivery;
pub mod derived;
pub mod dispatch;
pub mod retry;
