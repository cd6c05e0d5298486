//! The names by which the controller hands a certificate to the gateways.
//!
//! The Secret has the form that cert-manager and the Gateway API use too.

#[cfg(feature = "cluster")]
use k8s_openapi::api::core::v1::Secret;

/// The key of the Secret with the authorities' certificates in PEM.
pub const AUTHORITIES: &str = "ca.crt";
/// The key of the Secret with the gateway's certificate in PEM.
pub const CERTIFICATE: &str = "tls.crt";
/// The key of the Secret with the private key of that certificate in PEM.
pub const KEY: &str = "tls.key";

/// The keys of the Secret with what the store of logs or the event queue wants to be shown: either these two, or [`LOG_STORE_TOKEN`]. The
/// authorities that have signed its certificate may be there as well, under [`AUTHORITIES`].
pub const LOG_STORE_USERNAME: &str = "username";
pub const LOG_STORE_PASSWORD: &str = "password";
pub const LOG_STORE_TOKEN: &str = "token";
/// The user of the store, and of the event queue, that the chart installs.
pub const LOG_STORE_USER: &str = "pilotlight";

/// The value of the Secret under this key.
#[cfg(feature = "cluster")]
pub fn field<'a>(secret: &'a Secret, key: &str) -> Option<&'a [u8]> {
    let value = secret.data.as_ref()?.get(key)?;
    Some(value.0.as_slice())
}
