//! Whether callers of the public API have to speak TLS, and how a connection's first byte decides what it gets.
//!
//! `pilotlight-net` (`identity::public`) carries out what this decides. `identity` is about connections between parts.

use std::str::FromStr;

/// The first byte of a connection with TLS: a record with a message of the handshake. No request of HTTP begins so.
pub const TLS_HANDSHAKE: u8 = 0x16;

/// What the port for callers serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Plain text alone.
    #[default]
    Off,
    /// TLS, and plain text on the same port. For the time in which callers change their endpoints.
    Optional,
    /// TLS alone. A caller without it gets an answer that says so.
    Required,
}

/// What a connection gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// It is served without TLS.
    Plain,
    /// The handshake begins.
    Tls,
    /// One answer in plain text, which says that this port speaks HTTPS.
    Refusal,
    /// Nothing: it speaks neither.
    Close,
}

impl Mode {
    /// `first`: the first byte that the caller has sent.
    pub fn treatment(self, first: u8) -> Treatment {
        match (self, first) {
            (Mode::Off, _) => Treatment::Plain,
            (_, TLS_HANDSHAKE) => Treatment::Tls,
            (Mode::Optional, _) => Treatment::Plain,
            // A request begins with its method, or with empty lines (RFC 9112, 2.2).
            (Mode::Required, b'A'..=b'Z' | b'a'..=b'z' | b'\r' | b'\n') => Treatment::Refusal,
            (Mode::Required, _) => Treatment::Close,
        }
    }
}

/// The text is none of the modes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be off, optional or required")]
pub struct NotAMode;

impl FromStr for Mode {
    type Err = NotAMode;

    fn from_str(text: &str) -> Result<Self, NotAMode> {
        match text {
            "off" => Ok(Mode::Off),
            "optional" => Ok(Mode::Optional),
            "required" => Ok(Mode::Required),
            _ => Err(NotAMode),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_tells_tls_from_plain_text() {
        for (mode, request, handshake, noise) in [
            (
                Mode::Off,
                Treatment::Plain,
                Treatment::Plain,
                Treatment::Plain,
            ),
            (
                Mode::Optional,
                Treatment::Plain,
                Treatment::Tls,
                Treatment::Plain,
            ),
            (
                Mode::Required,
                Treatment::Refusal,
                Treatment::Tls,
                Treatment::Close,
            ),
        ] {
            assert_eq!(mode.treatment(b'G'), request);
            assert_eq!(mode.treatment(b'\r'), request);
            assert_eq!(mode.treatment(TLS_HANDSHAKE), handshake);
            assert_eq!(mode.treatment(0x80), noise);
        }
    }

    #[test]
    fn modes_have_the_names_of_the_option() {
        assert_eq!("off".parse(), Ok(Mode::Off));
        assert_eq!("optional".parse(), Ok(Mode::Optional));
        assert_eq!("required".parse(), Ok(Mode::Required));
        assert_eq!("permissive".parse::<Mode>(), Err(NotAMode));
    }
}
