//! Texts that are printed nowhere.

use std::fmt;

/// See the module.
#[derive(Clone, PartialEq, Eq)]
pub struct ReceiverSecret(pub String);

impl From<&str> for ReceiverSecret {
    fn from(text: &str) -> Self {
        ReceiverSecret(text.to_owned())
    }
}

impl fmt::Debug for ReceiverSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}
