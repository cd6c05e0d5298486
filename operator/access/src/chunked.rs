//! A body whose chunks are signed one by one, each together with the signature before it
//! (`STREAMING-AWS4-HMAC-SHA256-PAYLOAD`).
//!
//! ```text
//! 2000;chunk-signature=<64 digits>\r\n<8192 bytes>\r\n … 0;chunk-signature=<64 digits>\r\n\r\n
//! ```
//!
//! `verify` has checked the head, whose signature begins the chain. Source: "Signature calculations for the
//! Authorization header: Transferring payload in multiple chunks" in the reference of S3.

use bytes::{Bytes, BytesMut};
use pilotlight_core::access::Refusal;

use crate::digest::{Hash, hex, is_hmac, of_hex, sha256};

/// The least size of a chunk that others follow, in bytes, as in S3. It bounds how many signatures a body has.
const CHUNK_MIN: usize = 8 * 1024;
/// Digits of the size of a chunk.
const SIZE_DIGITS: usize = 8;
const MARK: &[u8] = b";chunk-signature=";

/// What the next chunk is signed with.
pub(crate) struct Chain {
    pub(crate) key: Hash,
    pub(crate) time: String,
    pub(crate) scope: String,
    pub(crate) last: Hash,
}

impl Chain {
    /// Checks the signature of the next chunk.
    fn take(&mut self, data: &[u8], signature: Hash) -> Result<(), Refusal> {
        let (time, scope, last) = (&self.time, &self.scope, hex(&self.last));
        let (nothing, hash) = (hex(&sha256(b"")), hex(&sha256(data)));
        let text = format!("AWS4-HMAC-SHA256-PAYLOAD\n{time}\n{scope}\n{last}\n{nothing}\n{hash}");
        if !is_hmac(&self.key, text.as_bytes(), &signature) {
            return Err(Refusal::Signature(
                "The signature of a chunk does not match its bytes or its place. Send the chunks as they were signed."
                    .to_owned(),
            ));
        }
        self.last = signature;
        Ok(())
    }
}

fn unreadable(why: &str) -> Refusal {
    Refusal::Incomplete(format!(
        "The body cannot be read as signed chunks ({why}). Sign it as a whole, or send chunks as \
         X-Amz-Content-Sha256 says."
    ))
}

/// The bytes of all chunks, of which there are `length`.
pub(crate) fn decode(mut chain: Chain, length: u64, body: &Bytes) -> Result<Bytes, Refusal> {
    let wrong_length = || unreadable("X-Amz-Decoded-Content-Length is another length");
    let length = usize::try_from(length)
        .ok()
        .filter(|length| *length <= body.len());
    let length = length.ok_or_else(wrong_length)?;
    let mut decoded = BytesMut::with_capacity(length);
    let mut is_last = false;
    let mut rest = &body[..];
    loop {
        let (size, signature, after) = frame(rest)?;
        let data = after
            .get(..size)
            .ok_or_else(|| unreadable("a chunk is cut off"))?;
        rest = after[size..]
            .strip_prefix(b"\r\n")
            .ok_or_else(|| unreadable("a chunk does not end with CRLF"))?;
        if size > 0 && is_last {
            return Err(unreadable(
                "a chunk before the last one is smaller than 8 KiB",
            ));
        }
        is_last = size < CHUNK_MIN;
        chain.take(data, signature)?;
        if size == 0 {
            break;
        }
        if size > length - decoded.len() {
            return Err(wrong_length());
        }
        decoded.extend_from_slice(data);
    }
    if !rest.is_empty() {
        return Err(unreadable("something follows the last chunk"));
    }
    if decoded.len() != length {
        return Err(wrong_length());
    }
    Ok(decoded.freeze())
}

/// The size and the signature of the next chunk, and what follows them.
fn frame(rest: &[u8]) -> Result<(usize, Hash, &[u8]), Refusal> {
    let wrong = || unreadable("a chunk does not begin with its size and signature");
    let digits = rest
        .iter()
        .take_while(|byte| byte.is_ascii_hexdigit())
        .take(SIZE_DIGITS)
        .count();
    let (size, after) = rest.split_at(digits);
    let size = std::str::from_utf8(size)
        .ok()
        .and_then(|size| usize::from_str_radix(size, 16).ok());
    let size = size.ok_or_else(wrong)?;
    let after = after.strip_prefix(MARK).ok_or_else(wrong)?;
    let (signature, after) = after.split_at_checked(64).ok_or_else(wrong)?;
    let signature = of_hex(signature).ok_or_else(wrong)?;
    let after = after.strip_prefix(b"\r\n").ok_or_else(wrong)?;
    Ok((size, signature, after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::Scope;

    const FIRST: &str = "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648";
    const SECOND: &str = "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497";
    const END: &str = "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9";
    const LENGTH: u64 = 65 * 1024;

    /// The example of the reference of S3.
    fn chain() -> Chain {
        let scope = Scope {
            date: "20130524".to_owned(),
            region: "us-east-1".to_owned(),
            service: "s3".to_owned(),
        };
        let seed = b"4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9";
        Chain {
            key: scope.signing_key("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
            time: "20130524T000000Z".to_owned(),
            scope: scope.to_string(),
            last: of_hex(seed).unwrap(),
        }
    }

    fn chunk(size: usize, signature: &str) -> String {
        let data = "a".repeat(size);
        format!("{size:x};chunk-signature={signature}\r\n{data}\r\n")
    }

    fn example() -> String {
        chunk(65536, FIRST) + &chunk(1024, SECOND) + &chunk(0, END)
    }

    fn decoded(body: &str, length: u64) -> Result<Bytes, Refusal> {
        decode(chain(), length, &Bytes::copy_from_slice(body.as_bytes()))
    }

    #[test]
    fn the_published_example_is_decoded() {
        let body = decoded(&example(), LENGTH).unwrap();
        assert_eq!(body, "a".repeat(65 * 1024));
    }

    #[test]
    fn no_chunk_can_be_changed_moved_left_out_or_added() {
        let (first, second, end) = (chunk(65536, FIRST), chunk(1024, SECOND), chunk(0, END));
        let changed = example().replacen("aaa", "aba", 1);
        assert!(matches!(
            decoded(&changed, LENGTH),
            Err(Refusal::Signature(_))
        ));
        for (body, length) in [
            (second.clone() + &first + &end, LENGTH),
            (first.clone() + &end, 65536),
            (second.clone() + &end, 1024),
            (end.clone(), 0),
        ] {
            assert!(matches!(decoded(&body, length), Err(Refusal::Signature(_))));
        }
        for (body, length) in [
            (first.clone() + &second, LENGTH),
            (first.clone(), 65536),
            (example() + &end, LENGTH),
            (example() + "x", LENGTH),
            (example(), LENGTH - 1),
            (example(), LENGTH + 1),
            (example(), u64::MAX),
            (first.clone() + &second + &second + &end, LENGTH),
            (String::new(), 0),
            (example().replace("\r\n", "\n"), LENGTH),
            (example().replace(";chunk-signature", ";chunk-sig"), LENGTH),
            (example().replacen("10000;", "-10000;", 1), LENGTH),
            (example().replacen("10000;", "ffffffff;", 1), LENGTH),
            (example().replacen("10000;", "0000010000;", 1), LENGTH),
        ] {
            let refused = decoded(&body, length);
            assert!(
                matches!(refused, Err(Refusal::Incomplete(_))),
                "{refused:?}"
            );
        }
    }
}
