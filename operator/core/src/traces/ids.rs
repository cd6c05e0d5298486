//! The ids of traces and spans, which X-Ray, W3C and OpenTelemetry share: 16 bytes and 8 bytes, none of them all zero.
//!
//! `context` reads and writes them in headers, `spans` gives them to spans. Texts are in lower case, as W3C demands.

use std::fmt;

/// The id of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);

/// The id of a span within its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpanId([u8; 8]);

impl TraceId {
    /// `None` if all bytes are zero, which means no trace.
    pub fn of_bytes(bytes: [u8; 16]) -> Option<Self> {
        (bytes != [0; 16]).then_some(TraceId(bytes))
    }

    /// 32 hexadecimal digits.
    pub fn read(text: &str) -> Option<Self> {
        Self::of_bytes(hex(text)?)
    }

    pub fn bytes(self) -> [u8; 16] {
        self.0
    }

    /// What ratios of traces are decided by, the same at every gateway: the last seven bytes, which are random in ids
    /// of every origin.
    pub fn random_part(self) -> u64 {
        let last = self.0[8..].try_into().expect("eight bytes");
        u64::from_be_bytes(last) & ((1 << 56) - 1)
    }
}

impl SpanId {
    /// `None` if all bytes are zero, which means no span.
    pub fn of_bytes(bytes: [u8; 8]) -> Option<Self> {
        (bytes != [0; 8]).then_some(SpanId(bytes))
    }

    /// An id of random bits.
    pub fn of_random(bits: u64) -> Self {
        SpanId(bits.max(1).to_be_bytes())
    }

    /// 16 hexadecimal digits.
    pub fn read(text: &str) -> Option<Self> {
        Self::of_bytes(hex(text)?)
    }

    pub fn bytes(self) -> [u8; 8] {
        self.0
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

/// Exactly so many bytes as pairs of hexadecimal digits.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let text = text.as_bytes();
    if text.len() != 2 * N {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back_as_written_and_an_id_of_zeros_is_none() {
        let text = "0af7651916cd43dd8448eb211c80319c";
        let id = TraceId::read(text).expect("an id");
        assert_eq!(id.to_string(), text);
        assert_eq!(id.random_part(), 0x48eb211c80319c);
        assert_eq!(TraceId::read(&text.to_uppercase()), Some(id));
        assert_eq!(
            SpanId::read("00f067aa0ba902b7").map(|id| id.to_string()),
            Some("00f067aa0ba902b7".to_owned())
        );
        assert_eq!(TraceId::read(&"0".repeat(32)), None);
        for no_id in [
            "",
            "0000000000000000",
            "00f067aa0ba902b",
            "00f067aa0ba902b7a",
            "00f067aa0ba902bg",
            "+0f067aa0ba902b7",
        ] {
            assert_eq!(SpanId::read(no_id), None, "{no_id}");
        }
        assert_eq!(SpanId::of_random(0).to_string(), "0000000000000001");
    }
}
