//! Newtypes over text that is checked once, when it is read.
//!
//! Owns the checks of Kubernetes' own names, which several fields share. `code` and `pod` own the types and
//! describe what is wrong with a text.

/// Core's newtype macro, for a check that only says yes or no.
macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $error:ty, $valid:expr, $refused:expr) => {
        pilotlight_core::checked_text! {
            $(#[$doc])*
            $name, $error, |text: &str| {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) { Ok(()) } else { Err($refused(text.to_owned())) }
            }
        }
    };
}
pub(crate) use checked_text;

/// A DNS-1123 subdomain: the name of most objects.
pub(crate) fn is_subdomain(text: &str) -> bool {
    let inner = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    let label = |part: &str| {
        !part.is_empty()
            && part.bytes().all(inner)
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

/// The key of a label or a taint: a word, optionally after a domain and a `/`.
pub(crate) fn is_label_key(text: &str) -> bool {
    let (domain, word) = match text.split_once('/') {
        Some((domain, word)) => (Some(domain), word),
        None => (None, text),
    };
    domain.is_none_or(is_subdomain) && !word.is_empty() && is_label_value(word)
}

/// The value of a label or a taint. It may be empty.
pub(crate) fn is_label_value(text: &str) -> bool {
    let bytes = text.as_bytes();
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let edge = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_alphanumeric);
    bytes.len() <= 63 && bytes.iter().all(inner) && edge(bytes.first()) && edge(bytes.last())
}
