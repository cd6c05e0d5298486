//! What a request shows to prove who makes it, read from its head alone.
//!
//! ```text
//! head ─► Shown::read ─► Nothing | Bearer(token) | Signed(request) ─► verify
//! ```
//!
//! Reading is strict and bounded. What is not complete, is ambiguous, is of another time or for another service is
//! refused here, before anybody looks up the key or reads the body. Messages are those of the real service where they
//! are known.

mod authorization;
mod presigned;
mod signature;

use http::request::Parts;
use http::{HeaderName, header};
use pilotlight_core::access::Refusal;

use self::signature::{Moment, Signature, incomplete, single};
pub use self::signature::{PRESIGNED_MAX, SIGNATURE_WINDOW};
use crate::canonical;
use crate::digest::{Hash, of_hex};
use crate::moment;
use crate::verify::{CHUNKED, Payload, Scope, SignedRequest, UNSIGNED};

/// Headers that a signature may cover.
const SIGNED_HEADERS_MAX: usize = 64;

/// The service whose API is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    Lambda,
    Sts,
    Logs,
}

impl Service {
    pub fn as_str(self) -> &'static str {
        match self {
            Service::Lambda => "lambda",
            Service::Sts => "sts",
            Service::Logs => "logs",
        }
    }
}

/// What a request shows.
#[derive(Clone, PartialEq, Eq)]
pub enum Shown {
    Nothing,
    /// The token of `Authorization: Bearer`, at most 16 KiB.
    Bearer(String),
    Signed(SignedRequest),
}

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Shown::Nothing => f.write_str("Nothing"),
            Shown::Bearer(_) => f.write_str("Bearer"),
            Shown::Signed(request) => request.fmt(f),
        }
    }
}

impl Shown {
    /// Reads the head. `now`: seconds since 1970.
    ///
    /// # Errors
    /// [`Refusal::Incomplete`] if something is missing, cannot be read or comes twice, [`Refusal::Signature`] if it was
    /// signed at another time, for another service, or leaves out a header that must be signed.
    pub fn read(head: &Parts, service: Service, now: u64) -> Result<Shown, Refusal> {
        let authorization = single(&head.headers, &header::AUTHORIZATION)?;
        let query = head.uri.query().unwrap_or_default();
        let is_presigned = presigned::is_one(query);
        let Some(authorization) = authorization else {
            if !is_presigned {
                return Ok(Shown::Nothing);
            }
            let pairs = canonical::pairs(query).ok_or_else(unreadable_query)?;
            let signature = presigned::read(&pairs, &head.headers)?;
            let request = signed(head, &pairs, signature, service, now)?;
            return Ok(Shown::Signed(request));
        };
        if is_presigned {
            return Err(incomplete(
                "The request has a header 'Authorization' and a signature in its query. Leave one of them out.",
            ));
        }
        if let Some(token) = bearer(authorization)? {
            return Ok(Shown::Bearer(token));
        }
        let signature = authorization::read(authorization, &head.headers)?;
        let pairs = canonical::pairs(query).ok_or_else(unreadable_query)?;
        let request = signed(head, &pairs, signature, service, now)?;
        Ok(Shown::Signed(request))
    }
}

fn unreadable_query() -> Refusal {
    incomplete("The query has a '%' without two hexadecimal digits behind it.")
}

fn bearer(authorization: &str) -> Result<Option<String>, Refusal> {
    let (scheme, token) = authorization.split_once(' ').unwrap_or((authorization, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Ok(None);
    }
    let token = token.trim();
    let is_token = |byte: u8| byte.is_ascii_graphic();
    if token.is_empty() || !token.bytes().all(is_token) {
        return Err(incomplete(
            "The header 'Authorization: Bearer' must have a token, without spaces.",
        ));
    }
    Ok(Some(token.to_owned()))
}

/// Puts the parts together, and checks all that needs no secret.
fn signed(
    head: &Parts,
    pairs: &[(Vec<u8>, Vec<u8>)],
    shown: Signature,
    service: Service,
    now: u64,
) -> Result<SignedRequest, Refusal> {
    let time = moment::basic(shown.time.signed);
    check_time(&shown.time, now)?;
    let (key_id, scope) = credential(&shown.credential, service, &time)?;
    let signed_headers = signed_headers(&shown.signed_headers, head)?;
    let signature = of_hex(shown.signature.as_bytes())
        .ok_or_else(|| incomplete("'Signature' must be 64 lower-case hexadecimal digits."))?;
    let form = canonical::head(
        &head.method,
        &head.uri,
        pairs,
        &head.headers,
        &signed_headers,
    );
    let form = form.map_err(|name| {
        Refusal::Signature(format!(
            "The header '{name}' is signed, but the request has none. Send what was signed."
        ))
    })?;
    Ok(SignedRequest {
        key_id,
        token: shown.token,
        scope,
        time,
        signature,
        payload: payload(head, shown.payload.as_deref())?,
        head: form,
    })
}

fn check_time(time: &Moment, now: u64) -> Result<(), Refusal> {
    let written = moment::basic(time.signed);
    let end = time.signed.saturating_add(time.valid_for);
    if now > end {
        let least = now.saturating_sub(time.valid_for);
        return Err(Refusal::Signature(format!(
            "Signature expired: {written} is now earlier than {} ({} - {} min.)",
            moment::basic(least),
            moment::basic(now),
            time.valid_for / 60,
        )));
    }
    let most = now.saturating_add(SIGNATURE_WINDOW);
    if time.signed > most {
        return Err(Refusal::Signature(format!(
            "Signature not yet current: {written} is still later than {} ({} + {} min.)",
            moment::basic(most),
            moment::basic(now),
            SIGNATURE_WINDOW / 60,
        )));
    }
    Ok(())
}

/// Reads `KEY/DATE/REGION/SERVICE/aws4_request`. The region may be any: it is the caller's setting, as the address of
/// the gateway is, and older SDKs sign all calls to STS for us-east-1.
fn credential(text: &str, service: Service, time: &str) -> Result<(String, Scope), Refusal> {
    let parts = Vec::from_iter(text.split('/').take(6));
    let [key_id, date, region, called, end] = parts[..] else {
        return Err(incomplete(
            "Credential must have exactly 5 slash-delimited elements: KEY/DATE/REGION/SERVICE/aws4_request.",
        ));
    };
    let is_word = |text: &str, max: usize| {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        !text.is_empty() && text.len() <= max && text.bytes().all(is_part)
    };
    if !is_word(key_id, 128) || !is_word(region, 64) {
        return Err(incomplete(
            "Credential must name a key and a region, in letters, digits, '-' and '_'.",
        ));
    }
    let mut faults = Vec::new();
    if called != service.as_str() {
        let service = service.as_str();
        faults.push(format!(
            "Credential should be scoped to correct service: '{service}'."
        ));
    }
    if end != "aws4_request" {
        faults.push(
            "Credential should be scoped with a valid terminator: 'aws4_request'.".to_owned(),
        );
    }
    let day = &time[..8];
    if date != day {
        faults.push(format!(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: must be '{day}', \
             from '{time}'."
        ));
    }
    if !faults.is_empty() {
        return Err(Refusal::Signature(faults.join(" ")));
    }
    let scope = Scope {
        date: date.to_owned(),
        region: region.to_owned(),
        service: called.to_owned(),
    };
    Ok((key_id.to_owned(), scope))
}

/// Reads `host;x-amz-date`, and checks that nothing is left out that must be signed.
fn signed_headers(text: &str, head: &Parts) -> Result<Vec<HeaderName>, Refusal> {
    let parts = Vec::from_iter(text.split(';').take(SIGNED_HEADERS_MAX + 1));
    let is_sorted = parts.is_sorted_by(|one, other| one < other);
    let is_lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
    let names = parts.iter().map(|name| name.parse::<HeaderName>().ok());
    let names: Option<Vec<_>> = names.collect();
    let names = names.filter(|_| is_sorted && is_lower && parts.len() <= SIGNED_HEADERS_MAX);
    let names = names.ok_or_else(|| {
        incomplete(format!(
            "'SignedHeaders' must be at most {SIGNED_HEADERS_MAX} names in lower case, sorted, with ';' in between."
        ))
    })?;
    let authority = head.uri.authority().map(|authority| authority.as_str());
    let host = single(&head.headers, &header::HOST)?;
    if let (Some(host), Some(authority)) = (host, authority)
        && host != authority
    {
        return Err(incomplete("'Host' and ':authority' must be the same."));
    }
    if !names.contains(&header::HOST) {
        return Err(Refusal::Signature(
            "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.".to_owned(),
        ));
    }
    let must_be_signed = |name: &&HeaderName| name.as_str().starts_with("x-amz-");
    let mut present = head.headers.keys().filter(must_be_signed);
    match present.find(|name| !names.contains(name)) {
        Some(name) => Err(Refusal::Signature(format!(
            "'{name}' must be a 'SignedHeader' in the AWS Authorization."
        ))),
        None => Ok(names),
    }
}

fn payload(head: &Parts, shown: Option<&str>) -> Result<Payload, Refusal> {
    const LENGTH: HeaderName = HeaderName::from_static("x-amz-decoded-content-length");
    let Some(shown) = shown else {
        return Ok(Payload::Signed);
    };
    if let Some(hash) = hash_of(shown) {
        return Ok(Payload::Hash(hash));
    }
    match shown {
        UNSIGNED if presigned::is_one(head.uri.query().unwrap_or_default()) => {
            Ok(Payload::Unsigned)
        }
        UNSIGNED => Err(Refusal::Signature(
            "UNSIGNED-PAYLOAD is for presigned URLs alone. Sign the body.".to_owned(),
        )),
        CHUNKED => {
            let length = single(&head.headers, &LENGTH)?;
            let digits = length.filter(|length| length.bytes().all(|byte| byte.is_ascii_digit()));
            let length = digits.and_then(|digits| digits.parse().ok());
            length.map(Payload::Chunked).ok_or_else(|| {
                incomplete(
                    "Signed chunks need a header 'X-Amz-Decoded-Content-Length' with the number of bytes in them.",
                )
            })
        }
        _ => Err(incomplete(
            "'X-Amz-Content-Sha256' must be the SHA-256 of the body in lower-case hexadecimal digits, or \
             STREAMING-AWS4-HMAC-SHA256-PAYLOAD.",
        )),
    }
}

fn hash_of(text: &str) -> Option<Hash> {
    of_hex(text.as_bytes())
}
