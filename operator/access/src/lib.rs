//! What callers of the public API show to prove who they are. No IO, no clock: callers pass the time. [`random`] alone
//! asks the system.
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
//! - [`sts`]: the calls by which SDKs get a session. `POST /` or `GET /?Action=…` is a call of STS:
//!   [`StsRequest::read`] with the form and the account number; then, for `AssumeRoleWithWebIdentity`, the gateway asks
//!   Kubernetes about the token, compares the account, and answers with [`SessionKeys::mint`] and
//!   [`answer::assumed_role`]; for `GetCallerIdentity` it needs a request signed for [`Service::Sts`]. Errors are
//!   [`StsError`]s; a refused web identity token is [`StsError::of_token`].
//! - [`access_key`]: keys for callers outside, and their Secrets.
//!
//! [`UNKNOWN_KEY`]: pilotlight_core::access::Refusal::UNKNOWN_KEY
//! [`StsRequest::read`]: sts::StsRequest::read
//! [`StsError`]: sts::error::StsError
//! [`StsError::of_token`]: sts::error::StsError::of_token
//! [`answer::assumed_role`]: sts::answer::assumed_role
//! [`Service::Sts`]: shown::Service::Sts
//! [`SessionKeys::mint`]: session::SessionKeys::mint
//! [`SessionKeys::starts`]: session::SessionKeys::starts
//! [`SessionKey::entry`]: session::SessionKey::entry

pub mod access_key;
mod canonical;
mod chunked;
mod digest;
mod key_text;
mod moment;
pub mod random;
pub mod session;
pub mod shown;
pub mod sts;
pub mod verify;

#[cfg(test)]
mod vectors;
