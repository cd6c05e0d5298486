//! Frames of the SDKs' event streams (`application/vnd.amazon.eventstream`).
//!
//! A frame has headers whose values are texts, and a payload. Lengths and two checksums (CRC-32) surround them. Pure; the
//! handlers decide what a frame says.

use bytes::{BufMut, Bytes, BytesMut};
use http::HeaderValue;

pub(crate) const CONTENT_TYPE: HeaderValue =
    HeaderValue::from_static("application/vnd.amazon.eventstream");

/// Two lengths and their checksum before the headers, and the checksum of all at the end, in bytes.
const AROUND: usize = 16;
/// The type of a header's value: a text.
const TEXT: u8 = 7;

/// `headers`: at most 255 bytes of a name, and 65,535 of a value.
pub(crate) fn frame(headers: &[(&str, &str)], payload: &[u8]) -> Bytes {
    let mut encoded = BytesMut::new();
    for (name, value) in headers {
        encoded.put_u8(u8::try_from(name.len()).expect("a short name"));
        encoded.put_slice(name.as_bytes());
        encoded.put_u8(TEXT);
        encoded.put_u16(u16::try_from(value.len()).expect("a short value"));
        encoded.put_slice(value.as_bytes());
    }
    let length = |bytes: usize| u32::try_from(bytes).expect("a frame has far less than 4 GiB");
    let mut frame = BytesMut::with_capacity(encoded.len() + payload.len() + AROUND);
    frame.put_u32(length(encoded.len() + payload.len() + AROUND));
    frame.put_u32(length(encoded.len()));
    frame.put_u32(crc32fast::hash(&frame));
    frame.put_slice(&encoded);
    frame.put_slice(payload);
    frame.put_u32(crc32fast::hash(&frame));
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_the_published_form() {
        // Of the test vectors in the SDKs: an empty frame, and one without headers.
        let empty = [
            0, 0, 0, 0x10, 0, 0, 0, 0, 0x05, 0xc2, 0x48, 0xeb, 0x7d, 0x98, 0xc8, 0xff,
        ];
        assert_eq!(&*frame(&[], b""), empty);
        let body = frame(&[], b"{'foo':'bar'}");
        assert_eq!(
            body[..12],
            [0, 0, 0, 0x1d, 0, 0, 0, 0, 0xfd, 0x52, 0x8c, 0x5a]
        );
        assert_eq!(body[25..], [0xc3, 0x65, 0x39, 0x36]);
        let text = frame(&[(":a", "b")], b"c");
        assert_eq!(text[4..8], [0, 0, 0, 7]);
        assert_eq!(text[12..20], [2, b':', b'a', 7, 0, 1, b'b', b'c']);
    }
}
