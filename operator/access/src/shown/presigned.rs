//! A signature in the query of a presigned URL: `X-Amz-Signature=…` and what belongs to it.

use http::HeaderMap;
use pilotlight_core::access::Refusal;

use super::signature::{
    Moment, PAYLOAD, PRESIGNED_MAX, SIGNATURE_WINDOW, Signature, TOKEN, incomplete, single,
};
use crate::moment;
use crate::verify::ALGORITHM;

/// Whether a query has one of the parts that only signatures have.
pub(super) fn is_one(query: &str) -> bool {
    let mut names = query.split('&').map(|part| part.split('=').next());
    names.any(|name| {
        matches!(
            name,
            Some("X-Amz-Algorithm" | "X-Amz-Credential" | "X-Amz-Signature")
        )
    })
}

/// Reads the parts from the decoded pairs of the query.
pub(super) fn read(
    pairs: &[(Vec<u8>, Vec<u8>)],
    headers: &HeaderMap,
) -> Result<Signature, Refusal> {
    // The JavaScript SDK moves headers into the query under their names in lower case.
    let part = |name: &str| {
        let is_it = |other: &[u8]| other.eq_ignore_ascii_case(name.as_bytes());
        let mut values = pairs.iter().filter(|(other, _)| is_it(other));
        let Some((_, value)) = values.next() else {
            return Ok(None);
        };
        let value = String::from_utf8(value.clone()).ok();
        let value = value.filter(|_| values.next().is_none());
        let value = value
            .ok_or_else(|| incomplete(format!("The query must have '{name}' once, in UTF-8.")))?;
        Ok(Some(value))
    };
    let required = |name: &str| {
        part(name)?.ok_or_else(|| {
            incomplete(format!(
                "AWS query-string parameters must include '{name}'."
            ))
        })
    };
    if required("X-Amz-Algorithm")? != ALGORITHM {
        return Err(incomplete("'X-Amz-Algorithm' must be AWS4-HMAC-SHA256."));
    }
    let signed = moment::of_basic(&required("X-Amz-Date")?)
        .ok_or_else(|| incomplete("'X-Amz-Date' must be a time in the form 20260131T123600Z."))?;
    let in_header = single(headers, &TOKEN)?;
    let token = part("X-Amz-Security-Token")?;
    if in_header.is_some() {
        return Err(incomplete(
            "A presigned URL has its token in 'X-Amz-Security-Token' of the query. Leave out the header.",
        ));
    }
    let payload = match (part("X-Amz-Content-Sha256")?, single(headers, &PAYLOAD)?) {
        (Some(one), Some(other)) if one != other => {
            return Err(incomplete(
                "'X-Amz-Content-Sha256' differs in the query and in the header.",
            ));
        }
        (Some(payload), _) => Some(payload),
        (None, header) => header.map(str::to_owned),
    };
    Ok(Signature {
        credential: required("X-Amz-Credential")?,
        signed_headers: required("X-Amz-SignedHeaders")?,
        signature: required("X-Amz-Signature")?,
        token,
        time: Moment {
            signed,
            valid_for: valid_for(part("X-Amz-Expires")?)?,
        },
        payload,
    })
}

/// Some presigners leave the time out, and mean a request that is sent at once.
fn valid_for(expires: Option<String>) -> Result<u64, Refusal> {
    let Some(expires) = expires else {
        return Ok(SIGNATURE_WINDOW);
    };
    let is_number = expires.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = expires.parse().ok().filter(|_| is_number);
    seconds
        .filter(|seconds| (1..=PRESIGNED_MAX).contains(seconds))
        .ok_or_else(|| {
            incomplete(format!(
                "'X-Amz-Expires' must be a number of seconds from 1 to {PRESIGNED_MAX}."
            ))
        })
}
