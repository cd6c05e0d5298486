//! A signed request, and the check of its signature and of its body.
//!
//! `shown` reads it from a head. The caller looks up who has the key, and then checks in two steps: [`SignedRequest::begin`]
//! before the body is read, [`BodyCheck::finish`] with the body. Source: "Create a signed request" in AWS' guide to
//! Signature Version 4.

use std::fmt;

use bytes::Bytes;
use pilotlight_core::access::Refusal;

use crate::chunked::{self, Chain};
use crate::digest::{Hash, hex, hmac, is_hmac, sha256};

/// The name of the algorithm, in headers and in what is signed.
pub(crate) const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// In the place of the hash of a body that is not signed.
pub(crate) const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
/// In the place of the hash of a body whose chunks are signed.
pub(crate) const CHUNKED: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";

const MISMATCH: &str = "The request signature we calculated does not match the signature you provided. Check your AWS \
                        Secret Access Key and signing method. Consult the service documentation for details.";

fn mismatch() -> Refusal {
    Refusal::Signature(MISMATCH.to_owned())
}

/// What the head says of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    /// Nothing. The hash of the body is signed.
    Signed,
    /// The hash of the body, which is signed.
    Hash(Hash),
    /// The body is not signed: the holder of a presigned URL chooses it.
    Unsigned,
    /// The body comes in chunks, each with a signature. The bytes in all of them.
    Chunked(u64),
}

/// For which day, region and service a signature was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scope {
    pub(crate) date: String,
    pub(crate) region: String,
    pub(crate) service: String,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{}/{}/aws4_request",
            self.date, self.region, self.service
        )
    }
}

impl Scope {
    pub(crate) fn signing_key(&self, secret: &str) -> Hash {
        let key = hmac(format!("AWS4{secret}").as_bytes(), self.date.as_bytes());
        let key = hmac(&key, self.region.as_bytes());
        let key = hmac(&key, self.service.as_bytes());
        hmac(&key, b"aws4_request")
    }
}

/// A request with a complete signature of the right time and service. Nobody has checked the signature yet.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedRequest {
    pub(crate) key_id: String,
    pub(crate) token: Option<String>,
    pub(crate) scope: Scope,
    /// As in `X-Amz-Date`.
    pub(crate) time: String,
    pub(crate) signature: Hash,
    pub(crate) payload: Payload,
    /// The canonical form up to the hash of the body.
    pub(crate) head: Vec<u8>,
}

impl fmt::Debug for SignedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("SignedRequest");
        let shown = shown.field("key_id", &self.key_id);
        shown
            .field("has_token", &self.token.is_some())
            .finish_non_exhaustive()
    }
}

impl SignedRequest {
    /// The id of the access key or session, at most 128 letters, digits and `_`.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The session token. Temporary credentials have one, access keys have none.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Checks the signature with the caller's secret, if the head has the hash of the body or says that the body is not
    /// signed or has signatures of its own. Otherwise [`BodyCheck::finish`] checks it.
    ///
    /// # Errors
    /// [`Refusal::Signature`] if the request was not signed with this secret, or was changed afterwards.
    pub fn begin(self, secret: &str) -> Result<BodyCheck, Refusal> {
        let key = self.scope.signing_key(secret);
        let check = |payload: &str| match self.is_signed(&key, payload) {
            true => Ok(()),
            false => Err(mismatch()),
        };
        Ok(BodyCheck(match self.payload {
            Payload::Signed => Remaining::All(Box::new(self), key),
            Payload::Hash(hash) => {
                check(&hex(&hash))?;
                Remaining::Hash(hash)
            }
            Payload::Unsigned => {
                check(UNSIGNED)?;
                Remaining::Nothing
            }
            Payload::Chunked(length) => {
                check(CHUNKED)?;
                let (time, scope) = (self.time, self.scope.to_string());
                Remaining::Chunks(
                    Chain {
                        key,
                        time,
                        scope,
                        last: self.signature,
                    },
                    length,
                )
            }
        }))
    }

    fn is_signed(&self, key: &Hash, payload: &str) -> bool {
        let mut canonical = Vec::with_capacity(self.head.len() + payload.len());
        canonical.extend(&self.head);
        canonical.extend(payload.as_bytes());
        let (time, scope) = (&self.time, &self.scope);
        let hash = hex(&sha256(&canonical));
        let text = format!("{ALGORITHM}\n{time}\n{scope}\n{hash}");
        is_hmac(key, text.as_bytes(), &self.signature)
    }
}

/// What remains to be checked once the body is there.
pub struct BodyCheck(Remaining);

enum Remaining {
    Nothing,
    Hash(Hash),
    All(Box<SignedRequest>, Hash),
    Chunks(Chain, u64),
}

impl fmt::Debug for BodyCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BodyCheck")
    }
}

impl BodyCheck {
    /// Checks the body, and gives it back without the frames of chunks. Reads every byte of it: some milliseconds for
    /// the largest event.
    ///
    /// # Errors
    /// [`Refusal::Signature`] if the body is another one than was signed, [`Refusal::Incomplete`] if its chunks cannot
    /// be read.
    pub fn finish(self, body: Bytes) -> Result<Bytes, Refusal> {
        match self.0 {
            Remaining::Nothing => Ok(body),
            Remaining::Hash(hash) if sha256(&body) == hash => Ok(body),
            Remaining::Hash(_) => Err(Refusal::Signature(
                "The provided 'x-amz-content-sha256' header does not match what was computed."
                    .to_owned(),
            )),
            Remaining::All(request, key) => match request.is_signed(&key, &hex(&sha256(&body))) {
                true => Ok(body),
                false => Err(mismatch()),
            },
            Remaining::Chunks(chain, length) => chunked::decode(chain, length, &body),
        }
    }
}
