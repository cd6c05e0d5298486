//! What a NATS server is shown by whoever connects: the keys of a Secret.
//!
//! | keys | shown |
//! |---|---|
//! | `user.creds` | a JWT, with a signature by its key, as `nsc` writes both |
//! | `username`, `password` | these |
//! | `token` | this |

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use thiserror::Error;

use super::secret::ReceiverSecret;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NatsLogin {
    #[default]
    Nothing,
    Password {
        username: ReceiverSecret,
        password: ReceiverSecret,
    },
    Token(ReceiverSecret),
    Key {
        jwt: ReceiverSecret,
        seed: ReceiverSecret,
    },
}

/// The keys are not those of a login. It shows no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InvalidLogin {
    #[error("has to have `username` and `password`, `token`, or `user.creds`")]
    Keys,
    #[error("user.creds: it has no JWT and seed, as `nsc` writes them")]
    Credentials,
}

/// The fields of CONNECT.
#[derive(Debug, Default, Serialize)]
pub(super) struct LoginFields {
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pass: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jwt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sig: Option<String>,
}

impl NatsLogin {
    /// `texts`: the keys of a Secret with their values. Nothing if there are none.
    ///
    /// # Errors
    /// If they are not those of a login.
    pub fn read(texts: &BTreeMap<&str, &str>) -> Result<Self, InvalidLogin> {
        let get = |key: &str| texts.get(key).map(|text| text.trim());
        let secret = |text: &str| ReceiverSecret(text.to_owned());
        if let Some(creds) = get("user.creds") {
            let jwt = section(creds, "NATS USER JWT");
            let seed = section(creds, "USER NKEY SEED");
            let (Some(jwt), Some(seed)) = (jwt, seed) else {
                return Err(InvalidLogin::Credentials);
            };
            // Its own error could show parts of the seed.
            nkeys::KeyPair::from_seed(seed).map_err(|_| InvalidLogin::Credentials)?;
            return Ok(NatsLogin::Key {
                jwt: secret(jwt),
                seed: secret(seed),
            });
        }
        match (get("username"), get("password"), get("token")) {
            (Some(username), Some(password), None) => Ok(NatsLogin::Password {
                username: secret(username),
                password: secret(password),
            }),
            (None, None, Some(token)) => Ok(NatsLogin::Token(secret(token))),
            (None, None, None) if texts.is_empty() => Ok(NatsLogin::Nothing),
            _ => Err(InvalidLogin::Keys),
        }
    }

    /// What a server wants to see that has sent this nonce. `None`: the key signs nothing.
    pub(super) fn fields(&self, nonce: &str) -> Option<LoginFields> {
        let mut fields = LoginFields::default();
        match self {
            NatsLogin::Nothing => {}
            NatsLogin::Password { username, password } => {
                fields.user = Some(username.0.clone());
                fields.pass = Some(password.0.clone());
            }
            NatsLogin::Token(token) => fields.auth_token = Some(token.0.clone()),
            NatsLogin::Key { jwt, seed } => {
                let key = nkeys::KeyPair::from_seed(&seed.0).ok()?;
                let signature = key.sign(nonce.as_bytes()).ok()?;
                fields.sig = Some(URL_SAFE_NO_PAD.encode(signature));
                fields.jwt = Some(jwt.0.clone());
            }
        }
        Some(fields)
    }
}

/// The line between `-----BEGIN NAME-----` and the next line of dashes.
fn section<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let begin = format!("BEGIN {name}-----");
    let (_, rest) = text.split_once(&begin)?;
    let mut lines = rest.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.next().filter(|line| !line.starts_with('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(texts: &[(&'static str, &'static str)]) -> Result<NatsLogin, InvalidLogin> {
        NatsLogin::read(&texts.iter().copied().collect())
    }

    #[test]
    fn the_keys_of_a_secret_are_one_login() {
        let login = read(&[("username", "me\n"), ("password", "hunter2\n")]).expect("a login");
        assert!(!format!("{login:?}").contains("hunter2"));
        let fields = login.fields("").expect("fields");
        let json = serde_json::to_string(&fields).expect("JSON");
        assert_eq!(json, r#"{"user":"me","pass":"hunter2"}"#);
        let fields = read(&[("token", "t")]).expect("a login").fields("");
        let json = serde_json::to_string(&fields).expect("JSON");
        assert_eq!(json, r#"{"auth_token":"t"}"#);
        assert_eq!(read(&[]), Ok(NatsLogin::Nothing));
        for odd in [
            &[("username", "me")][..],
            &[("token", "t"), ("username", "me")],
            &[("key", "k")],
        ] {
            assert_eq!(read(odd), Err(InvalidLogin::Keys), "{odd:?}");
        }
        assert_eq!(read(&[("user.creds", "x")]), Err(InvalidLogin::Credentials));
    }

    #[test]
    fn a_credentials_file_signs_with_its_key() {
        let key = nkeys::KeyPair::new_user();
        let seed = key.seed().expect("a seed");
        let text = format!(
            "-----BEGIN NATS USER JWT-----\neyJ.a.b\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        let login = NatsLogin::read(&[("user.creds", text.as_str())].into()).expect("a login");
        let shown = format!("{login:?}");
        assert!(!shown.contains("eyJ") && !shown.contains(&seed), "{shown}");
        let fields = login.fields("nonce").expect("fields");
        assert_eq!(fields.jwt.as_deref(), Some("eyJ.a.b"));
        let signature = fields.sig.expect("a signature");
        let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64");
        key.verify(b"nonce", &signature).expect("its signature");
    }
}
