//! The headers of a call that a function makes: which function it is.
//!
//! The supervisor's `door` sets them on calls that it forwards to a gateway, and removes those that the function
//! has set. Anybody else can set them too, so they prove nothing: gateways take them as a reason to serve a call that they
//! would also serve without a credential.

/// On a call that comes through an instance's loopback door: `namespace/function`.
pub const CALLER: &str = "pilotlight-caller";
/// The prefix of all headers between the parts of Pilotlight.
pub const HEADER_PREFIX: &str = "pilotlight-";
