//! Connections that prove who is at both ends: mutual TLS 1.3 between parts, and between gateways and instances.
//!
//! A part of the release (a gateway, a controller) has a certificate of the release's authority with its role in it:
//! [`Identity`]. An instance has a key that it makes when it starts, and asks for a gateway's certificate:
//! [`instance::InstanceIdentity`]. It proves by a token which pod it is ([`token`]), which it shows to gateways alone.
//! `core::identity` says what roles and modes mean.
//!
//! `public` is the TLS of the port for callers, who need no certificate, and [`gateways`] is how instances call there.

mod entrance;
pub mod gateways;
pub mod instance;
mod part;
#[cfg(feature = "server")]
pub mod public;
pub mod token;

pub use tokio_rustls::server::TlsStream;

pub use self::entrance::Accepted;
pub use self::part::{Identity, Material, MaterialError, ServerKey};

#[cfg(test)]
mod tests;
