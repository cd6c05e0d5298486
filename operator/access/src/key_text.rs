//! The texts of key ids and secrets, in the forms of the original platform: `AKIA` or `ASIA` with 16 letters and digits,
//! and 40 characters of base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Bytes that an id is made of.
pub(crate) const ID_BYTES: usize = 10;
/// Bytes that a secret is made of.
pub(crate) const SECRET_BYTES: usize = 30;

const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// `prefix` and 16 letters and digits (base32).
pub(crate) fn id(prefix: &str, bytes: [u8; ID_BYTES]) -> String {
    let mut id = String::from(prefix);
    for five in bytes.chunks_exact(5) {
        let bits = five
            .iter()
            .fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        let letters = (0..8)
            .rev()
            .map(|place| (bits >> (5 * place) & 31) as usize);
        id.extend(letters.map(|letter| char::from(LETTERS[letter])));
    }
    id
}

/// 40 characters.
pub(crate) fn secret(bytes: [u8; SECRET_BYTES]) -> String {
    STANDARD.encode(bytes)
}

/// Whether a text is an id with this prefix.
pub(crate) fn is_id(prefix: &str, text: &str) -> bool {
    let rest = text.strip_prefix(prefix);
    rest.is_some_and(|rest| rest.len() == 16 && rest.bytes().all(|byte| LETTERS.contains(&byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_secrets_have_the_forms_of_the_original() {
        assert_eq!(id("AKIA", [0; 10]), "AKIAAAAAAAAAAAAAAAAA");
        assert_eq!(id("AKIA", *b"foobarfoob"), "AKIAMZXW6YTBOJTG633C");
        assert!(is_id("ASIA", &id("ASIA", [255; 10])));
        assert!(!is_id("AKIA", "AKIAAAAAAAAAAAAAAAA1"));
        assert!(!is_id("AKIA", "AKIAAAAAAAAAAAAAAAA"));
        assert_eq!(secret([7; 30]).len(), 40);
    }
}
