//! The parts of the code that a claim brings: what the claim says of them, whether that is what arrives, and whether it is
//! what the pod was made for.
//!
//! A claim names each part with its size and its SHA-256, and sends them in this order. The supervisor passes all bytes
//! that arrive through a [`Check`] before any of the code runs. So a part that is damaged, cut off, left out or added is
//! noticed, whoever did it. The gateway's `cluster::claim` makes the names; the supervisor's `claim` has the bytes.

use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// A SHA-256. As a text it is 64 characters 0-9 and a-f.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; Digest::BYTES]);

impl Digest {
    pub const BYTES: usize = 32;

    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::default();
        hasher.take(bytes);
        hasher.digest()
    }

    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Digest(bytes)
    }

    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("must be 64 characters 0-9 and a-f")]
pub struct InvalidDigest;

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let value = |digit: u8| match digit {
            b'0'..=b'9' => Ok(digit - b'0'),
            b'a'..=b'f' => Ok(digit - b'a' + 10),
            _ => Err(InvalidDigest),
        };
        let digits = text.as_bytes();
        if digits.len() != 2 * Self::BYTES {
            return Err(InvalidDigest);
        }
        let mut bytes = [0; Self::BYTES];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = (value(pair[0])? << 4) | value(pair[1])?;
        }
        Ok(Digest(bytes))
    }
}

impl TryFrom<String> for Digest {
    type Error = InvalidDigest;

    fn try_from(text: String) -> Result<Self, InvalidDigest> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// Computes a [`Digest`] of bytes that come piece by piece.
#[derive(Clone, Debug, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    pub fn take(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub fn digest(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

/// One part, as a claim names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Part {
    /// The field of the Function that it comes from, `spec.layers[0]`. It is for messages alone.
    pub field: String,
    pub bytes: u64,
    pub sha256: Digest,
}

/// An archive that a pod was made for. The author of the Function vouches for its digest, and the specification of the pod
/// has it from there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnArchive {
    /// As in [`Part`].
    pub field: String,
    /// Where its content goes, below the root: `var/task`.
    pub folder: PathBuf,
    pub sha256: Digest,
}

/// How the parts that a claim names differ from the archives that its pod was made for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NotOwn {
    #[error("{field} is missing in the claim: this pod was made for its archive {expected}")]
    Missing { field: String, expected: Digest },
    #[error("{field} of this pod is the archive {expected}, and the claim names {found}")]
    Other {
        field: String,
        expected: Digest,
        found: Digest,
    },
    #[error("{} is no part of this pod's function", .field.escape_debug())]
    Additional { field: String },
}

/// The parts that a claim of a pod with these archives must bring, with their sizes.
///
/// # Errors
/// If the claim does not name exactly these archives, in their order.
pub fn of_own(own: &[OwnArchive], named: &[Part]) -> Result<Vec<Part>, NotOwn> {
    let mut named = named.iter();
    let mut parts = Vec::new();
    for archive in own {
        let (field, expected) = (archive.field.clone(), archive.sha256);
        match named.next() {
            None => return Err(NotOwn::Missing { field, expected }),
            Some(part) if part.sha256 != expected => {
                let found = part.sha256;
                return Err(NotOwn::Other {
                    field,
                    expected,
                    found,
                });
            }
            Some(part) => parts.push(Part {
                field,
                bytes: part.bytes,
                sha256: expected,
            }),
        }
    }
    match named.next() {
        Some(part) => Err(NotOwn::Additional {
            field: part.field.clone(),
        }),
        None => Ok(parts),
    }
}

/// How what arrives differs from what the claim names.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WrongPart {
    #[error(
        "{} has the SHA-256 {found}, and the claim names {expected}: it was damaged in the gateway's cache or on the way",
        .field.escape_debug()
    )]
    Differs {
        field: String,
        expected: Digest,
        found: Digest,
    },
    #[error(
        "{} ends after {arrived} of its {bytes} bytes, with the SHA-256 {found}, and the claim names {expected}",
        .field.escape_debug()
    )]
    CutOff {
        field: String,
        arrived: u64,
        bytes: u64,
        expected: Digest,
        found: Digest,
    },
    #[error("the claim brings more than the parts that it names")]
    Additional,
}

/// Compares what arrives with the parts that were named.
#[derive(Clone, Debug)]
pub struct Check {
    /// The parts whose end has not arrived. The first one arrives now.
    parts: VecDeque<Part>,
    /// The bytes of the first one that have arrived, and how many they are.
    hasher: Hasher,
    arrived: u64,
}

impl Check {
    pub fn new(parts: impl IntoIterator<Item = Part>) -> Self {
        Check {
            parts: parts.into_iter().collect(),
            hasher: Hasher::default(),
            arrived: 0,
        }
    }

    /// Takes the bytes that follow those of the last call.
    ///
    /// # Errors
    /// If a part that is complete by now has another digest, or no part is left for them.
    pub fn take(&mut self, mut bytes: &[u8]) -> Result<(), WrongPart> {
        while !bytes.is_empty() {
            let part = self.parts.front().ok_or(WrongPart::Additional)?;
            let left = part.bytes.saturating_sub(self.arrived);
            let its_own = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
            let (its_own, others) = bytes.split_at(its_own);
            self.hasher.take(its_own);
            self.arrived += its_own.len() as u64;
            self.pass()?;
            bytes = others;
        }
        Ok(())
    }

    /// Everything has arrived.
    ///
    /// # Errors
    /// If a part is missing or not complete.
    pub fn end(mut self) -> Result<(), WrongPart> {
        self.pass()?;
        let Some(part) = self.parts.pop_front() else {
            return Ok(());
        };
        Err(WrongPart::CutOff {
            field: part.field,
            arrived: self.arrived,
            bytes: part.bytes,
            expected: part.sha256,
            found: self.hasher.digest(),
        })
    }

    /// Goes on to the next part if the first one is complete.
    fn pass(&mut self) -> Result<(), WrongPart> {
        while let Some(part) = self.parts.pop_front_if(|part| part.bytes <= self.arrived) {
            let found = std::mem::take(&mut self.hasher).digest();
            self.arrived = 0;
            if found != part.sha256 {
                return Err(WrongPart::Differs {
                    field: part.field,
                    expected: part.sha256,
                    found,
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(field: &str, content: &[u8]) -> Part {
        Part {
            field: field.to_owned(),
            bytes: content.len() as u64,
            sha256: Digest::of(content),
        }
    }

    /// Takes the bytes in pieces of this size.
    fn arrives(parts: &[Part], bytes: &[u8], size: usize) -> Result<(), WrongPart> {
        let mut check = Check::new(parts.to_vec());
        for piece in bytes.chunks(size) {
            check.take(piece)?;
        }
        check.end()
    }

    #[test]
    fn a_digest_is_written_as_sha256sum_prints_it_and_reads_back() {
        let text = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        let digest = Digest::of(b"hello");
        assert_eq!(digest.to_string(), text);
        assert_eq!(text.parse(), Ok(digest));
        assert_eq!(Digest::from_bytes(digest.to_bytes()), digest);
        for wrong in ["", &text[1..], &text.to_uppercase(), &format!("{text}0")] {
            assert_eq!(wrong.parse::<Digest>(), Err(InvalidDigest), "{wrong}");
        }
    }

    #[test]
    fn what_is_as_it_was_named_passes_however_it_is_divided() {
        let parts = [part("a", b"one"), part("empty", b""), part("b", b"twoo")];
        for size in 1..=8 {
            assert_eq!(arrives(&parts, b"onetwoo", size), Ok(()), "{size}");
        }
        assert_eq!(arrives(&[], b"", 1), Ok(()));
        assert_eq!(arrives(&[part("empty", b"")], b"", 1), Ok(()));
    }

    #[test]
    fn one_changed_byte_is_noticed_at_the_end_of_its_part_with_both_digests() {
        let parts = [part("a", b"one"), part("b", b"two")];
        for size in 1..=6 {
            for at in 0..6 {
                let mut bytes = *b"onetwo";
                bytes[at] ^= 1;
                let (field, arrived) = match at < 3 {
                    true => ("a", &bytes[..3]),
                    false => ("b", &bytes[3..]),
                };
                let expected = match at < 3 {
                    true => parts[0].sha256,
                    false => parts[1].sha256,
                };
                let differs = WrongPart::Differs {
                    field: field.to_owned(),
                    expected,
                    found: Digest::of(arrived),
                };
                let text = differs.to_string();
                assert!(text.starts_with(field) && text.contains(&expected.to_string()));
                assert_eq!(arrives(&parts, &bytes, size), Err(differs), "{size} {at}");
            }
        }
    }

    #[test]
    fn a_part_that_is_cut_off_or_left_out_is_named_and_so_is_one_too_many() {
        let parts = [part("a", b"one"), part("b", b"two")];
        for end in 0..6 {
            let cut = arrives(&parts, &b"onetwo"[..end], 2).expect_err("cut off");
            let WrongPart::CutOff { field, arrived, .. } = cut else {
                panic!("{cut:?}");
            };
            let expected = if end < 3 { ("a", end) } else { ("b", end - 3) };
            assert_eq!((field.as_str(), arrived), (expected.0, expected.1 as u64));
        }
        assert_eq!(arrives(&parts, b"onetwo!", 2), Err(WrongPart::Additional));
        assert_eq!(arrives(&[], b"!", 1), Err(WrongPart::Additional));
        // The last part alone is not taken for the first one.
        assert!(matches!(
            arrives(&parts, b"two", 3),
            Err(WrongPart::Differs { .. })
        ));
    }

    #[test]
    fn a_pod_takes_exactly_the_archives_that_it_was_made_for() {
        let own = |field: &str, content: &[u8]| OwnArchive {
            field: field.to_owned(),
            folder: "opt".into(),
            sha256: Digest::of(content),
        };
        let pod = [
            own("spec.code.archive", b"one"),
            own("spec.layers[0]", b"two"),
        ];
        let (one, two) = (
            part("spec.code.archive", b"one"),
            part("spec.layers[0]", b"two"),
        );
        assert_eq!(
            of_own(&pod, &[one.clone(), two.clone()]),
            Ok(vec![one.clone(), two.clone()])
        );
        // The names are the pod's.
        assert_eq!(
            of_own(&pod[..1], &[part("x", b"one")]),
            Ok(vec![one.clone()])
        );
        let missing = of_own(&pod, std::slice::from_ref(&one)).expect_err("the layer is missing");
        assert!(matches!(&missing, NotOwn::Missing { field, .. } if field == "spec.layers[0]"));
        assert!(missing.to_string().contains(&two.sha256.to_string()));
        let swapped = of_own(&pod, &[two.clone(), one.clone()]).expect_err("another order");
        let other = NotOwn::Other {
            field: "spec.code.archive".to_owned(),
            expected: one.sha256,
            found: two.sha256,
        };
        assert_eq!(swapped, other);
        let more = of_own(&pod[..1], &[one, two]).expect_err("one too many");
        let additional = NotOwn::Additional {
            field: "spec.layers[0]".to_owned(),
        };
        assert_eq!(more, additional);
        assert_eq!(of_own(&[], &[]), Ok(vec![]));
    }

    #[test]
    fn a_field_cannot_write_lines_of_its_own_into_a_log() {
        let wrong = arrives(&[part("a\nSTART", b"1")], b"2", 1).expect_err("another digest");
        assert!(!wrong.to_string().contains('\n'));
    }
}
