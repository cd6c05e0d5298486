//! What an instance's loopback door says to a gateway about the function that calls.

/// On a call that comes through an instance's loopback door: `namespace/function`.
pub const CALLER: &str = "pilotlight-caller";
/// The prefix of all headers between the parts of Pilotlight.
pub const HEADER_PREFIX: &str = "pilotlight-";
