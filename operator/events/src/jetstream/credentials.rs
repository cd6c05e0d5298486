//! What a server is shown by whoever connects, and how it is recognised: files of a folder, as a mounted Secret has them.
//!
//! | files | shown |
//! |---|---|
//! | `user.creds` | a JWT, with a signature by its key, as `nsc` writes both |
//! | `username`, `password` | these |
//! | `token` | this |
//! | `ca.crt` | nothing: the authorities of the server's certificate |
//!
//! The files are read for each connection. No error and no log shows what is in them.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatsCredentials(pub PathBuf);

impl NatsCredentials {
    /// The file with the authorities, if there is one.
    pub(super) fn authorities(&self) -> Option<PathBuf> {
        let path = self.0.join("ca.crt");
        path.is_file().then_some(path)
    }

    /// What a server wants to see that has sent this nonce. Nothing if there are no such files.
    pub(super) fn answer(&self, nonce: &[u8]) -> Result<async_nats::Auth, String> {
        let mut auth = async_nats::Auth::new();
        if let Some(text) = read(&self.0.join("user.creds"))? {
            let wrong = |what: &str| format!("{}/user.creds: it has no {what}", self.0.display());
            let jwt = section(&text, "NATS USER JWT").ok_or_else(|| wrong("JWT"))?;
            let seed = section(&text, "USER NKEY SEED").ok_or_else(|| wrong("seed"))?;
            // Its own error could show parts of the seed.
            let key = nkeys::KeyPair::from_seed(seed).map_err(|_| wrong("usable seed"))?;
            let signature = key.sign(nonce).map_err(|_| wrong("key that signs"))?;
            auth.jwt = Some(jwt.to_owned());
            auth.signature = Some(signature);
            return Ok(auth);
        }
        auth.username = read(&self.0.join("username"))?;
        auth.password = read(&self.0.join("password"))?;
        auth.token = read(&self.0.join("token"))?;
        Ok(auth)
    }
}

/// A file without its line end, if there is one.
fn read(path: &Path) -> Result<Option<String>, String> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{}: {error}", path.display())),
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

    #[test]
    fn a_credentials_file_signs_with_its_key() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("user.creds");
        let key = nkeys::KeyPair::new_user();
        let seed = key.seed().expect("a seed");
        let text = format!(
            "-----BEGIN NATS USER JWT-----\neyJ.a.b\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        fs::write(&path, text).expect("a file");
        let credentials = NatsCredentials(folder.path().to_owned());
        let auth = credentials.answer(b"nonce").expect("an answer");
        assert_eq!(auth.jwt.as_deref(), Some("eyJ.a.b"));
        let signature = auth.signature.expect("a signature");
        key.verify(b"nonce", &signature).expect("its signature");
        fs::write(&path, "-----BEGIN NATS USER JWT-----\n-----").expect("a file");
        let refused = credentials.answer(b"nonce").err().expect("no JWT");
        assert!(refused.ends_with("it has no JWT"), "{refused}");
    }

    #[test]
    fn what_a_folder_has_is_shown() {
        let folder = tempfile::tempdir().expect("a folder");
        let credentials = NatsCredentials(folder.path().to_owned());
        let shown = || {
            let auth = credentials.answer(b"").expect("an answer");
            (auth.username, auth.password, auth.token)
        };
        assert_eq!(shown(), (None, None, None));
        assert_eq!(credentials.authorities(), None);
        for (name, text) in [("username", "u\n"), ("password", "p\n"), ("ca.crt", "")] {
            fs::write(folder.path().join(name), text).expect("a file");
        }
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(shown(), (some("u"), some("p"), None));
        assert!(credentials.authorities().is_some());
    }
}
