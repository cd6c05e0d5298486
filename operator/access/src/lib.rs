//! What callers of the public API show to prove who they are. No IO, no clock: callers pass the time.
//!
//! The gateway's `http::access` uses it for each call, in this order. Times are seconds since 1970.
//!
//! ```text
//! head ─► Shown::read(&parts, Service::Lambda, now)?
//!           ├─ Nothing
//!           ├─ Bearer(token)                 the gateway asks Kubernetes
//!           └─ Signed(request)
//!                ├─ request.token(): Some    SessionKeys::open(request.key_id(), token, now)? ─► Session: grant, secret
//!                └─ None                     look up AccessKey by request.key_id(); key.check(None, now)?
//!              check = request.begin(&secret)?      before the body is read
//! body ─► check.finish(body)?  ─► the event, without the frames of signed chunks
//! ```
//!
//! Every error is a [`pilotlight_core::access::Refusal`]. A key that nobody has is [`UNKNOWN_KEY`].
//!
//! - [`shown`]: reads the head.
//! - [`verify`]: checks signature and body.
//! - [`session`]: temporary credentials. The controller asks `core::access::session_keys::plan` with
//!   [`SessionKeys::starts`] when to make and drop keys, and keeps [`SessionKey::entry`] of each in a Secret.
//! - [`access_key`]: keys for callers outside, and their Secrets.
//!
//! [`UNKNOWN_KEY`]: pilotlight_core::access::Refusal::UNKNOWN_KEY
//! [`SessionKeys::starts`]: session::SessionKeys::starts
//! [`SessionKey::entry`]: session::SessionKey::entry

pub mod access_key;
mod canonical;
mod chunked;
mod digest;
mod key_text;
mod moment;
pub mod session;
pub mod shown;
pub mod verify;

#[cfg(test)]
mod vectors;
