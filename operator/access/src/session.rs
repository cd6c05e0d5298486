//! Temporary credentials that every gateway can check without a store.
//!
//! The session token is the credentials' content with a MAC: whom they stand for, and until when. The secret is derived
//! from the same content, so whoever has the keys knows it, and nobody else. `core::access::session_keys` decides when
//! keys change; the Secret with the keys is written by the leading controller.
//!
//! ```text
//! mint: Grant, now ─► key id, secret, token          open: key id, token, now ─► Session, with the secret
//! ```
//!
//! A session ends at its own time, not with the web identity token that it was exchanged for. The token of a pod has
//! between twelve and sixty minutes left when an SDK exchanges it, and botocore renews credentials that have fewer than
//! fifteen minutes left: if a session ended with its token, each call would renew it. A session is therefore bounded by
//! its length, an hour by default, as with STS. It only says who calls. Gateways ask the cluster for the rights of the
//! account, so a session loses a right when the binding goes that gives it.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pilotlight_core::access::session_keys::signer;
use pilotlight_core::access::{Refusal, ServiceAccount};
use thiserror::Error;

use crate::digest::{Hash, hmac, is_hmac};
use crate::key_text::{self, ID_BYTES, SECRET_BYTES};

/// The first letters of the key ids of sessions.
pub const PREFIX: &str = "ASIA";
/// Bytes of the random secret of a session key.
pub const KEY_BYTES: usize = 32;
/// Characters of a session token at most.
const TOKEN_MAX: usize = 2048;
const VERSION: u8 = 1;
const MAC_BYTES: usize = 32;
/// Bytes of a UID.
const UID_MAX: usize = 128;

/// The name of a session key: random, and the same for all gateways.
pub type SessionKeyId = [u8; 8];
/// Random bytes that make the credentials of each session different.
pub type Nonce = [u8; 16];

/// A key that signs sessions.
#[derive(Clone)]
pub struct SessionKey {
    id: SessionKeyId,
    from: u64,
    secret: [u8; KEY_BYTES],
    mac: Hash,
    key_id: Hash,
    secret_key: Hash,
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("SessionKey");
        let shown = shown.field("id", &self.name());
        shown.finish_non_exhaustive()
    }
}

/// An entry of the Secret with the session keys is none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "entry {0:?}: must have the name ID.SECONDS, with 16 hexadecimal digits and the time from which on the key signs, \
     and 32 bytes; delete the entry"
)]
pub struct SessionKeyError(String);

impl SessionKey {
    /// `from`: the time from which on it signs, in seconds since 1970. `id` and `secret` are random.
    pub fn new(id: SessionKeyId, from: u64, secret: [u8; KEY_BYTES]) -> Self {
        let derived = |purpose: &str| {
            hmac(
                &secret,
                format!("pilotlight session 1 {purpose}").as_bytes(),
            )
        };
        SessionKey {
            id,
            from,
            mac: derived("token"),
            key_id: derived("key id"),
            secret_key: derived("secret"),
            secret,
        }
    }

    /// Its entry in the Secret: name and value.
    pub fn entry(&self) -> (String, Vec<u8>) {
        (self.name(), self.secret.to_vec())
    }

    /// Reads an entry of the Secret.
    ///
    /// # Errors
    /// If the entry is none of [`SessionKey::entry`].
    pub fn of_entry(name: &str, value: &[u8]) -> Result<Self, SessionKeyError> {
        let read = || {
            let (id, from) = name.split_once('.')?;
            let is_hex = id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
            let id = u64::from_str_radix(id, 16).ok().filter(|_| is_hex)?;
            let from = from.parse().ok()?;
            Some(SessionKey::new(
                id.to_be_bytes(),
                from,
                value.try_into().ok()?,
            ))
        };
        read().ok_or_else(|| SessionKeyError(name.to_owned()))
    }

    fn name(&self) -> String {
        format!("{:016x}.{}", u64::from_be_bytes(self.id), self.from)
    }

    /// The time from which on it signs, in seconds since 1970.
    pub fn from(&self) -> u64 {
        self.from
    }

    fn credentials(&self, content: &[u8]) -> (String, String) {
        let id: [u8; ID_BYTES] = first(hmac(&self.key_id, content));
        let secret: [u8; SECRET_BYTES] = first(hmac(&self.secret_key, content));
        (key_text::id(PREFIX, id), key_text::secret(secret))
    }
}

fn first<const N: usize>(hash: Hash) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&hash[..N]);
    bytes
}

/// Whom a session stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub account: ServiceAccount,
    /// The UID of the account, if it is known.
    pub uid: Option<String>,
    /// The caller's own name of the session. See [`is_session_name`].
    pub session_name: String,
}

/// Whether STS would accept a name of a session: 2 to 64 letters, digits and `_+=,.@-`.
pub fn is_session_name(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte);
    (2..=64).contains(&text.len()) && text.bytes().all(is_part)
}

/// Credentials for an SDK.
#[derive(Clone, PartialEq, Eq)]
pub struct TemporaryCredentials {
    pub key_id: String,
    pub secret: String,
    pub token: String,
    /// Seconds since 1970.
    pub expires: u64,
}

impl fmt::Debug for TemporaryCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("TemporaryCredentials");
        let shown = shown
            .field("key_id", &self.key_id)
            .field("expires", &self.expires);
        shown.finish_non_exhaustive()
    }
}

/// A session that has been checked.
#[derive(Clone, PartialEq, Eq)]
pub struct Session {
    pub grant: Grant,
    /// Seconds since 1970.
    pub issued: u64,
    /// Seconds since 1970.
    pub expires: u64,
    /// What the caller signs with.
    pub secret: String,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Session");
        let shown = shown
            .field("grant", &self.grant)
            .field("expires", &self.expires);
        shown.finish_non_exhaustive()
    }
}

/// Why no session can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MintError {
    #[error("there is no session key yet: the leading controller makes the first one")]
    NoKey,
    #[error(
        "the session's name must be 2 to 64 letters, digits and `_+=,.@-`, and the UID at most 128 bytes"
    )]
    Grant,
}

/// The keys of an installation.
#[derive(Clone, Debug, Default)]
pub struct SessionKeys {
    /// The one that signs first is the first.
    keys: Vec<SessionKey>,
}

impl SessionKeys {
    pub fn new(keys: impl IntoIterator<Item = SessionKey>) -> Self {
        let mut keys = Vec::from_iter(keys);
        keys.sort_by_key(|key| (key.from, key.id));
        SessionKeys { keys }
    }

    /// From when on each key signs, in the order of [`SessionKeys::keys`]. For `core::access::session_keys::plan`.
    pub fn starts(&self) -> Vec<u64> {
        self.keys.iter().map(SessionKey::from).collect()
    }

    pub fn keys(&self) -> &[SessionKey] {
        &self.keys
    }

    /// Makes a session that begins `now` (seconds since 1970) and ends `seconds` later.
    ///
    /// # Errors
    /// See [`MintError`].
    pub fn mint(
        &self,
        grant: &Grant,
        now: u64,
        seconds: u64,
        nonce: Nonce,
    ) -> Result<TemporaryCredentials, MintError> {
        let place = signer(now, &self.starts()).ok_or(MintError::NoKey)?;
        let key = &self.keys[place];
        let uid = grant.uid.as_deref().unwrap_or_default();
        if !is_session_name(&grant.session_name) || uid.len() > UID_MAX {
            return Err(MintError::Grant);
        }
        let expires = now.saturating_add(seconds);
        let mut content = vec![VERSION];
        content.extend(key.id);
        content.extend(now.to_be_bytes());
        content.extend(expires.to_be_bytes());
        content.extend(nonce);
        let (namespace, name) = (grant.account.namespace.as_str(), &*grant.account.name);
        for text in [namespace, name, uid, &grant.session_name] {
            // Names of Kubernetes have at most 253 bytes.
            content.push(u8::try_from(text.len()).map_err(|_| MintError::Grant)?);
            content.extend(text.as_bytes());
        }
        let (key_id, secret) = key.credentials(&content);
        let mac = hmac(&key.mac, &content);
        content.extend(mac);
        let token = URL_SAFE_NO_PAD.encode(content);
        Ok(TemporaryCredentials {
            key_id,
            secret,
            token,
            expires,
        })
    }

    /// Checks the token of a request. `now`: seconds since 1970.
    ///
    /// # Errors
    /// [`Refusal::UNKNOWN_KEY`] if no key of this installation has signed the token, or the id is not that of the token;
    /// [`Refusal::Expired`] if its time is over.
    pub fn open(&self, key_id: &str, token: &str, now: u64) -> Result<Session, Refusal> {
        let bytes = (token.len() <= TOKEN_MAX).then(|| URL_SAFE_NO_PAD.decode(token).ok());
        let bytes = bytes.flatten().ok_or(Refusal::UNKNOWN_KEY)?;
        let (content, mac) = bytes
            .split_last_chunk::<MAC_BYTES>()
            .ok_or(Refusal::UNKNOWN_KEY)?;
        let id = content.get(1..9).filter(|_| content[0] == VERSION);
        let key = self.keys.iter().find(|key| Some(&key.id[..]) == id);
        let key = key.filter(|key| is_hmac(&key.mac, content, mac));
        let key = key.ok_or(Refusal::UNKNOWN_KEY)?;
        let (own_id, secret) = key.credentials(content);
        if own_id != key_id {
            return Err(Refusal::UNKNOWN_KEY);
        }
        let mut session = read(&content[9..]).ok_or(Refusal::UNKNOWN_KEY)?;
        if now >= session.expires {
            return Err(Refusal::Expired);
        }
        session.secret = secret;
        Ok(session)
    }
}

/// Reads what follows the key's id.
fn read(content: &[u8]) -> Option<Session> {
    let (issued, content) = content.split_first_chunk()?;
    let (expires, content) = content.split_first_chunk()?;
    let mut rest = content.get(size_of::<Nonce>()..)?;
    let mut text = || {
        let (length, after) = rest.split_first()?;
        let (text, after) = after.split_at_checked(usize::from(*length))?;
        rest = after;
        std::str::from_utf8(text).ok()
    };
    let (namespace, name, uid, session_name) = (text()?, text()?, text()?, text()?);
    let account = ServiceAccount::new(namespace, name).ok()?;
    let uid = Some(uid).filter(|uid| !uid.is_empty()).map(str::to_owned);
    let session_name = session_name.to_owned();
    Some(Session {
        grant: Grant {
            account,
            uid,
            session_name,
        },
        issued: u64::from_be_bytes(*issued),
        expires: u64::from_be_bytes(*expires),
        secret: String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn key(id: u8, from: u64, secret: u8) -> SessionKey {
        SessionKey::new([id; 8], from, [secret; KEY_BYTES])
    }

    fn grant() -> Grant {
        Grant {
            account: "shop/caller.v2".parse().unwrap(),
            uid: Some("5f3c9a52-6f3e-4d68-9a43-3f2f5f1c9b11".to_owned()),
            session_name: "botocore-session-1800000000".to_owned(),
        }
    }

    fn mint(keys: &SessionKeys) -> TemporaryCredentials {
        keys.mint(&grant(), NOW, 900, [3; 16]).unwrap()
    }

    #[test]
    fn what_one_gateway_mints_another_opens() {
        let keys = || SessionKeys::new([key(1, NOW - 5, 7)]);
        let made = mint(&keys());
        assert_eq!((made.key_id.len(), made.secret.len()), (20, 40));
        let session = keys().open(&made.key_id, &made.token, NOW + 899).unwrap();
        assert_eq!(session.grant, grant());
        assert_eq!((session.issued, session.expires), (NOW, NOW + 900));
        assert_eq!(session.secret, made.secret);
        let without = Grant {
            uid: None,
            ..grant()
        };
        let made = keys().mint(&without, NOW, 900, [3; 16]).unwrap();
        assert_eq!(
            keys().open(&made.key_id, &made.token, NOW).unwrap().grant,
            without
        );
    }

    #[test]
    fn a_session_ends_at_its_time() {
        let keys = SessionKeys::new([key(1, NOW - 5, 7)]);
        let made = mint(&keys);
        assert_eq!(made.expires, NOW + 900);
        assert_eq!(
            keys.open(&made.key_id, &made.token, NOW + 900),
            Err(Refusal::Expired)
        );
    }

    #[test]
    fn no_changed_token_and_no_token_of_another_release_is_accepted() {
        let keys = SessionKeys::new([key(1, NOW - 5, 7)]);
        let made = mint(&keys);
        let bytes = URL_SAFE_NO_PAD.decode(&made.token).unwrap();
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            let changed = URL_SAFE_NO_PAD.encode(changed);
            assert_eq!(
                keys.open(&made.key_id, &changed, NOW),
                Err(Refusal::UNKNOWN_KEY),
                "{place}"
            );
        }
        for cut in [0, 1, 32, 33, 60, bytes.len() - 1] {
            let cut = URL_SAFE_NO_PAD.encode(&bytes[..cut]);
            assert_eq!(
                keys.open(&made.key_id, &cut, NOW),
                Err(Refusal::UNKNOWN_KEY)
            );
        }
        let other = key_text::id(PREFIX, [0; ID_BYTES]);
        assert_eq!(
            keys.open(&other, &made.token, NOW),
            Err(Refusal::UNKNOWN_KEY)
        );
        // The same id, another secret.
        let release = SessionKeys::new([key(1, NOW - 5, 8)]);
        assert_eq!(
            release.open(&made.key_id, &made.token, NOW),
            Err(Refusal::UNKNOWN_KEY)
        );
        assert_eq!(
            SessionKeys::default().open(&made.key_id, &made.token, NOW),
            Err(Refusal::UNKNOWN_KEY)
        );
        let long = "A".repeat(TOKEN_MAX + 1);
        assert_eq!(
            keys.open(&made.key_id, &long, NOW),
            Err(Refusal::UNKNOWN_KEY)
        );
    }

    #[test]
    fn the_latest_key_whose_time_has_come_signs_and_earlier_ones_are_accepted() {
        let old = mint(&SessionKeys::new([key(1, NOW - 9, 7)]));
        let both = SessionKeys::new([key(2, NOW + 1, 8), key(1, NOW - 9, 7)]);
        assert_eq!(both.starts(), [NOW - 9, NOW + 1]);
        assert!(both.open(&old.key_id, &old.token, NOW).is_ok());
        assert_eq!(mint(&both), old);
        let new = both.mint(&grant(), NOW + 1, 900, [3; 16]).unwrap();
        assert!(
            SessionKeys::new([key(2, NOW + 1, 8)])
                .open(&new.key_id, &new.token, NOW + 2)
                .is_ok()
        );
    }

    #[test]
    fn sessions_of_the_same_account_differ() {
        let keys = SessionKeys::new([key(1, NOW, 7)]);
        let other = keys.mint(&grant(), NOW, 900, [4; 16]).unwrap();
        let one = mint(&keys);
        assert_ne!(one.secret, other.secret);
        assert_ne!(one.key_id, other.key_id);
    }

    #[test]
    fn without_a_key_or_a_proper_name_nothing_is_minted() {
        let none = SessionKeys::default().mint(&grant(), NOW, 900, [0; 16]);
        assert_eq!(none, Err(MintError::NoKey));
        let keys = SessionKeys::new([key(1, NOW, 7)]);
        for session_name in ["", "a", "a b", &"a".repeat(65)] {
            let session_name = session_name.to_owned();
            let grant = Grant {
                session_name,
                ..grant()
            };
            assert_eq!(keys.mint(&grant, NOW, 900, [0; 16]), Err(MintError::Grant));
        }
    }

    #[test]
    fn the_longest_names_fit_into_a_token() {
        let label = "n".repeat(63);
        let grant = Grant {
            account: ServiceAccount::new(&label, &[&*label; 3].join(".")).unwrap(),
            uid: Some("u".repeat(UID_MAX)),
            session_name: "s".repeat(64),
        };
        let keys = SessionKeys::new([key(1, NOW, 7)]);
        let made = keys.mint(&grant, NOW, 900, [0; 16]).unwrap();
        assert_eq!(
            keys.open(&made.key_id, &made.token, NOW).unwrap().grant,
            grant
        );
    }

    #[test]
    fn a_key_is_read_from_its_entry() {
        let (name, value) = key(0xa1, NOW, 7).entry();
        assert_eq!(name, "a1a1a1a1a1a1a1a1.1800000000");
        let read = SessionKey::of_entry(&name, &value).unwrap();
        assert_eq!(read.entry(), (name.clone(), value.clone()));
        for (name, value) in [
            ("", &value[..]),
            ("a1a1a1a1a1a1a1a1", &value),
            ("a1a1a1a1a1a1a1a1.x", &value),
            ("+1a1a1a1a1a1a1a1.5", &value),
            ("a1.5", &value),
            (&name, &value[1..]),
        ] {
            assert!(SessionKey::of_entry(name, value).is_err(), "{name}");
        }
    }
}
