//! Access keys for callers outside the cluster, and the form of the Secret that keeps one.
//!
//! `pilotlight access-key create` makes the Secret, gateways read it, and its deletion revokes the key. A key is bound
//! to a service account, whose rights it has, and ends at a time. The Secret has the secret itself: a signature can only
//! be checked with it. Therefore these Secrets have a namespace of their own that only gateways read.

use std::collections::BTreeMap;
use std::fmt;

use pilotlight_core::access::{Refusal, ServiceAccount};
use thiserror::Error;

use crate::key_text::{self, ID_BYTES, SECRET_BYTES};
use crate::moment;

/// The first letters of the ids of access keys.
pub const PREFIX: &str = "AKIA";
/// The label of each Secret with an access key.
pub const LABEL: (&str, &str) = ("pilotlight.dev/credential", "access-key");
/// The type of each Secret with an access key.
pub const SECRET_TYPE: &str = "pilotlight.dev/access-key";
/// Seconds for which a key is valid at least and at most, and if nobody says.
pub const VALID_MIN: u64 = 60;
/// See [`VALID_MIN`].
pub const VALID_MAX: u64 = 366 * DAY;
/// See [`VALID_MIN`].
pub const VALID_DEFAULT: u64 = 90 * DAY;
const DAY: u64 = 24 * 60 * 60;
/// Random bytes that a key is made of.
pub const RANDOM_BYTES: usize = ID_BYTES + SECRET_BYTES;

const ID: &str = "id";
const SECRET: &str = "secret";
const ACCOUNT: &str = "serviceAccount";
const EXPIRES: &str = "expires";

/// An access key.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessKey {
    pub id: String,
    pub secret: String,
    pub account: ServiceAccount,
    /// Seconds since 1970.
    pub expires: u64,
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("AccessKey");
        let shown = shown.field("id", &self.id).field("account", &self.account);
        shown
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// A Secret is not one of an access key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("`{0}` of the Secret must be {1}; delete the Secret and create another key")]
pub struct AccessKeyError(&'static str, &'static str);

impl AccessKey {
    /// `random`: bytes that nobody can guess. `expires`: seconds since 1970.
    pub fn new(random: &[u8; RANDOM_BYTES], account: ServiceAccount, expires: u64) -> Self {
        let (mut id, mut secret) = ([0; ID_BYTES], [0; SECRET_BYTES]);
        id.copy_from_slice(&random[..ID_BYTES]);
        secret.copy_from_slice(&random[ID_BYTES..]);
        AccessKey {
            id: key_text::id(PREFIX, id),
            secret: key_text::secret(secret),
            account,
            expires,
        }
    }

    /// Whether a text can be the id of an access key.
    pub fn is_id(text: &str) -> bool {
        key_text::is_id(PREFIX, text)
    }

    /// The name of the Secret of the key with this id.
    pub fn secret_name(id: &str) -> String {
        format!("access-key-{}", id.to_ascii_lowercase())
    }

    /// What the Secret keeps.
    pub fn to_data(&self) -> BTreeMap<String, String> {
        let entries = [
            (ID, self.id.clone()),
            (SECRET, self.secret.clone()),
            (ACCOUNT, self.account.to_string()),
            (EXPIRES, moment::extended(self.expires)),
        ];
        entries.map(|(name, value)| (name.to_owned(), value)).into()
    }

    /// Reads the Secret of this name.
    ///
    /// # Errors
    /// Names the entry that is missing or wrong.
    pub fn of_data<V: AsRef<[u8]>>(
        name: &str,
        data: &BTreeMap<String, V>,
    ) -> Result<Self, AccessKeyError> {
        let text = |name: &str| std::str::from_utf8(data.get(name)?.as_ref()).ok();
        let id = text(ID).filter(|id| AccessKey::is_id(id) && AccessKey::secret_name(id) == name);
        let id = id.ok_or(AccessKeyError(ID, "the id that the Secret's name has"))?;
        let secret = text(SECRET).filter(|secret| (16..=128).contains(&secret.len()));
        let secret = secret.ok_or(AccessKeyError(SECRET, "a text of 16 to 128 bytes"))?;
        let account = text(ACCOUNT).and_then(|account| account.parse().ok());
        let account = account.ok_or(AccessKeyError(
            ACCOUNT,
            "NAMESPACE/NAME of a service account",
        ))?;
        let expires = text(EXPIRES).and_then(moment::of_extended);
        let expires = expires.ok_or(AccessKeyError(
            EXPIRES,
            "a time such as 2026-01-31T12:00:00Z",
        ))?;
        Ok(AccessKey {
            id: id.to_owned(),
            secret: secret.to_owned(),
            account,
            expires,
        })
    }

    /// Checks that the key may be used. `now`: seconds since 1970. `token`: that of the request.
    ///
    /// # Errors
    /// [`Refusal::Expired`] at its end; [`Refusal::UNKNOWN_KEY`] if there is a session token, which an access key has not.
    pub fn check(&self, token: Option<&str>, now: u64) -> Result<(), Refusal> {
        if token.is_some() {
            return Err(Refusal::UNKNOWN_KEY);
        }
        if now >= self.expires {
            return Err(Refusal::Expired);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> AccessKey {
        let account = "shop/caller".parse().unwrap();
        AccessKey::new(&[9; RANDOM_BYTES], account, 1_800_000_000)
    }

    #[test]
    fn a_key_has_the_form_of_the_original() {
        let key = key();
        assert!(AccessKey::is_id(&key.id), "{}", key.id);
        assert_eq!(key.secret.len(), 40);
        assert!(!format!("{key:?}").contains(&key.secret));
    }

    #[test]
    fn a_key_is_read_from_its_secret() {
        let (key, data) = (key(), key().to_data());
        assert_eq!(data[EXPIRES], "2027-01-15T08:00:00Z");
        let name = AccessKey::secret_name(&key.id);
        assert_eq!(AccessKey::of_data(&name, &data), Ok(key.clone()));
        for (entry, bad) in [
            (ID, "AKIAAAAAAAAAAAAAAAAA"),
            (ID, ""),
            (SECRET, "short"),
            (ACCOUNT, "caller"),
            (EXPIRES, "never"),
        ] {
            let mut changed = data.clone();
            changed.insert(entry.to_owned(), bad.to_owned());
            let error = AccessKey::of_data(&name, &changed).unwrap_err();
            assert_eq!(error.0, entry);
            changed.remove(entry);
            assert_eq!(AccessKey::of_data(&name, &changed), Err(error));
        }
    }

    #[test]
    fn a_key_ends_at_its_time_and_has_no_token() {
        let key = key();
        assert_eq!(key.check(None, key.expires - 1), Ok(()));
        assert_eq!(key.check(None, key.expires), Err(Refusal::Expired));
        assert_eq!(key.check(Some("t"), 0), Err(Refusal::UNKNOWN_KEY));
    }
}
