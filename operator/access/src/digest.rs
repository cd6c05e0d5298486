//! SHA-256 and HMAC, and their hexadecimal form. The only user of `ring`.

use ring::{digest, hmac};

/// The 32 bytes of a SHA-256 or of an HMAC with it.
pub(crate) type Hash = [u8; 32];

pub(crate) fn sha256(bytes: &[u8]) -> Hash {
    let hash = digest::digest(&digest::SHA256, bytes);
    hash.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

pub(crate) fn hmac(key: &[u8], text: &[u8]) -> Hash {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text);
    tag.as_ref()
        .try_into()
        .expect("an HMAC-SHA256 has 32 bytes")
}

/// Whether `claimed` is the HMAC of `text`, in constant time.
pub(crate) fn is_hmac(key: &[u8], text: &[u8], claimed: &[u8]) -> bool {
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, key), text, claimed).is_ok()
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

pub(crate) fn hex(hash: &Hash) -> String {
    let digits = hash.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

/// Reads 64 lower-case digits.
pub(crate) fn of_hex(text: &[u8]) -> Option<Hash> {
    let mut hash = [0; 32];
    if text.len() != 64 {
        return None;
    }
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    for (byte, pair) in hash.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_digits_are_written_and_read() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(hex(&sha256(b"")), empty);
        assert_eq!(of_hex(empty.as_bytes()), Some(sha256(b"")));
        for text in ["", "e3", &empty[1..], &empty.to_uppercase()] {
            assert_eq!(of_hex(text.as_bytes()), None, "{text}");
        }
    }
}
