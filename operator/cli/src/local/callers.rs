//! Who may call local mode, if the developer wants callers to prove who they are: one access key, made at the start.
//!
//! So a client's signing can be tried without a cluster. SDKs sign with the key, and `pilotlight invoke` shows its secret
//! as a token. Whoever has the key may do everything: this machine has no roles.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use pilotlight_access::access_key::{AccessKey, VALID_MAX};
use pilotlight_access::random;
use pilotlight_core::access::{Mode, Principal, Right, ServiceAccount};
use pilotlight_gateway::{AccessConfig, Judge, Keyring, Later};
use sha2::{Digest, Sha256};

use super::print;

/// The name of the only caller.
const DEVELOPER: &str = "developer";

/// What the gateway asks of callers. Prints the key if it asks anything. `namespace`: that of the functions.
pub(crate) fn config(mode: Mode, namespace: &str) -> AccessConfig {
    if mode == Mode::Off {
        return AccessConfig::default();
    }
    let account = ServiceAccount::new(namespace, DEVELOPER).expect("both are names");
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let expires = since.unwrap_or_default().as_secs() + VALID_MAX;
    let key = AccessKey::new(&random::bytes(), account, expires);
    print::note(&format!(
        "callers prove who they are with this key, which ends with this program:\n  \
         export AWS_ACCESS_KEY_ID={} AWS_SECRET_ACCESS_KEY={} PILOTLIGHT_TOKEN={}",
        key.id, key.secret, key.secret
    ));
    let keyring = Keyring::default();
    let judge = Developer {
        token: Sha256::digest(&key.secret).into(),
        principal: key.account.principal(),
    };
    keyring.set_access_keys([key]);
    AccessConfig {
        mode,
        judge: Some(Arc::new(judge)),
        keyring,
        ..AccessConfig::default()
    }
}

/// Knows one token.
struct Developer {
    /// Its SHA-256, so that a comparison tells nothing of it.
    token: [u8; 32],
    principal: Principal,
}

impl std::fmt::Debug for Developer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Developer")
    }
}

impl Judge for Developer {
    fn who(&self, token: &str) -> Later<Principal> {
        let shown: [u8; 32] = Sha256::digest(token).into();
        let known = (shown == self.token).then(|| self.principal.clone());
        Box::pin(async { Ok(known) })
    }

    fn may(&self, _: &Principal, _: &Right) -> Later<()> {
        Box::pin(async { Ok(Some(())) })
    }
}
