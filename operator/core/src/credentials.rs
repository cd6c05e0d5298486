//! The credentials for servers of archives, as a Secret has them.
//!
//! The authors of Functions name a Secret whose content they need not know. So the Secret itself says which servers may
//! get it: a Function with another address gets an error, and a redirect to another server is followed without it.

use std::collections::BTreeMap;
use std::fmt;

use thiserror::Error;

use crate::redirect::Server;

/// The keys of such a Secret.
const KEYS: [&str; 4] = ["hosts", "username", "password", "token"];

/// Credentials, and the servers that may get them.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    kind: Kind,
    servers: Vec<Server>,
}

#[derive(Clone, PartialEq, Eq)]
enum Kind {
    Basic { username: String, password: String },
    Bearer { token: String },
}

/// The credentials of one request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Authorization<'a> {
    Basic {
        username: &'a str,
        password: &'a str,
    },
    Bearer {
        token: &'a str,
    },
}

/// Why a Secret is no credentials. Never shows a value.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidCredentials {
    #[error("must have the keys `hosts` and either `token` or `username` and `password`")]
    Keys,
    #[error("its key `{0}` must be text without control characters")]
    Text(&'static str),
    #[error("its key `username` must not have a colon: it would end the user name")]
    Username,
    #[error(
        "its key `hosts` must list at least one server as `host`, `host:port` or `http://host:port`, separated by commas"
    )]
    Hosts,
}

impl Credentials {
    /// Reads the data of a Secret. Further keys are ignored.
    ///
    /// # Errors
    /// Name the key that is missing or wrong.
    pub fn read(data: &BTreeMap<String, Vec<u8>>) -> Result<Self, InvalidCredentials> {
        let value = |key: &'static str| {
            let Some(bytes) = data.get(key) else {
                return Ok(None);
            };
            let text = str::from_utf8(bytes).map_err(|_| InvalidCredentials::Text(key))?;
            // An editor, or `echo` without `-n`, ends a file with a line break.
            let text = text.trim_end_matches(['\r', '\n']);
            match text.is_empty() || (text.contains(char::is_control) && key != "hosts") {
                true => Err(InvalidCredentials::Text(key)),
                false => Ok(Some(text.to_owned())),
            }
        };
        let [hosts, username, password, token] = KEYS.map(value);
        let kind = match (username?, password?, token?) {
            (Some(username), Some(password), None) => Kind::Basic { username, password },
            (None, None, Some(token)) => Kind::Bearer { token },
            _ => return Err(InvalidCredentials::Keys),
        };
        if matches!(&kind, Kind::Basic { username, .. } if username.contains(':')) {
            return Err(InvalidCredentials::Username);
        }
        let hosts = hosts?.ok_or(InvalidCredentials::Keys)?;
        let servers = hosts
            .split([',', ' ', '\n', '\r', '\t'])
            .filter(|host| !host.is_empty());
        let servers: Option<Vec<_>> = servers.map(Server::named).collect();
        match servers {
            Some(servers) if !servers.is_empty() => Ok(Credentials { kind, servers }),
            _ => Err(InvalidCredentials::Hosts),
        }
    }

    /// Whether the first address of a fetch is that of a server which may get them.
    pub fn are_for(&self, url: &str) -> bool {
        Server::of(url).is_some_and(|server| self.servers.contains(&server))
    }

    /// The credentials for a request to `address`, on the way of a fetch that began at `first`. Another server gets none,
    /// even if it may get them, because the server that redirects would choose the request.
    pub fn to(&self, first: &str, address: &str) -> Option<Authorization<'_>> {
        let server = Server::of(address)?;
        let is_first = Server::of(first).as_ref() == Some(&server);
        (is_first && self.servers.contains(&server)).then(|| match &self.kind {
            Kind::Basic { username, password } => Authorization::Basic { username, password },
            Kind::Bearer { token } => Authorization::Bearer { token },
        })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers = &self.servers;
        f.debug_struct("Credentials")
            .field("servers", servers)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Authorization<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authorization")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(data: &[(&str, &str)]) -> Result<Credentials, InvalidCredentials> {
        let data = data.iter();
        let data = data.map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()));
        Credentials::read(&data.collect())
    }

    #[test]
    fn credentials_are_sent_to_their_servers_and_never_to_another_one_after_a_redirect() {
        let hosts = ("hosts", "host, http://plain:81\nhost:8443");
        let token = Authorization::Bearer { token: "t" };
        let credentials = read(&[hosts, ("token", "t\n")]).unwrap();
        for (first, address, are_sent) in [
            ("https://host/a", "https://host/a", true),
            ("https://HOST/a", "https://host:443/b", true),
            ("http://plain:81/a", "http://plain:81/a", true),
            ("https://host:8443/a", "https://host:8443/a", true),
            // Not encrypted, another port, another name.
            ("http://host/a", "http://host/a", false),
            ("https://host:444/a", "https://host:444/a", false),
            ("https://host.other/a", "https://host.other/a", false),
            ("https://other/a", "https://other/a", false),
            // After a redirect.
            ("https://host/a", "https://other/a", false),
            ("https://host/a", "http://host/a", false),
            ("https://host/a", "https://host:8443/a", false),
            ("https://other/a", "https://host/a", false),
            ("https://host/a", "https://other@host/a", true),
            ("https://host/a", "https://host\\@other/a", false),
        ] {
            let sent = credentials.to(first, address);
            assert_eq!(sent, are_sent.then_some(token), "{first} -> {address}");
        }
        assert!(credentials.are_for("https://host/a") && !credentials.are_for("https://other/a"));
        let basic = read(&[hosts, ("username", "me"), ("password", "p:w")]).unwrap();
        let (username, password) = ("me", "p:w");
        assert_eq!(
            basic.to("https://host", "https://host"),
            Some(Authorization::Basic { username, password })
        );
    }

    #[test]
    fn a_secret_that_is_no_credentials_is_refused_with_its_key_and_without_its_values() {
        let hosts = ("hosts", "host");
        for (data, error) in [
            (&[hosts][..], InvalidCredentials::Keys),
            (&[("token", "t")], InvalidCredentials::Keys),
            (&[hosts, ("username", "me")], InvalidCredentials::Keys),
            (
                &[hosts, ("username", "me"), ("password", "p"), ("token", "t")],
                InvalidCredentials::Keys,
            ),
            (
                &[hosts, ("token", "hunter2\nx")],
                InvalidCredentials::Text("token"),
            ),
            (&[hosts, ("token", "")], InvalidCredentials::Text("token")),
            (
                &[hosts, ("username", "a:b"), ("password", "hunter2")],
                InvalidCredentials::Username,
            ),
            (
                &[("hosts", "https://host/a"), ("token", "hunter2")],
                InvalidCredentials::Hosts,
            ),
            (
                &[("hosts", " , "), ("token", "hunter2")],
                InvalidCredentials::Hosts,
            ),
        ] {
            let refused = read(data).expect_err("refused");
            assert_eq!(refused, error);
            assert!(!refused.to_string().contains("hunter2"));
        }
        let shown = format!("{:?}", read(&[hosts, ("token", "hunter2")]).unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
