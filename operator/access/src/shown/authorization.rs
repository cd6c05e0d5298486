//! A signature in the header `Authorization`:
//! `AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…`.

use http::{HeaderMap, HeaderName, header};
use pilotlight_core::access::Refusal;

use super::signature::{Moment, PAYLOAD, SIGNATURE_WINDOW, Signature, TOKEN, incomplete, single};
use crate::moment;
use crate::verify::ALGORITHM;

const DATE: HeaderName = HeaderName::from_static("x-amz-date");

const NAMES: [&str; 3] = ["Credential", "SignedHeaders", "Signature"];

/// Reads the header's value, and those headers that belong to it.
pub(super) fn read(authorization: &str, headers: &HeaderMap) -> Result<Signature, Refusal> {
    let (algorithm, parts) = authorization.split_once(' ').unwrap_or((authorization, ""));
    if algorithm != ALGORITHM {
        return Err(incomplete(
            "Unsupported AWS 'algorithm' in the header 'Authorization'. Sign with AWS4-HMAC-SHA256, or show a token \
             with 'Bearer'.",
        ));
    }
    let mut values = [const { None }; 3];
    for part in parts.split(',').take(NAMES.len() + 1) {
        let named = part.trim().split_once('=');
        let place = named.and_then(|(name, _)| NAMES.iter().position(|known| *known == name));
        let (Some((_, value)), Some(place)) = (named, place) else {
            return Err(incomplete(
                "A part of the header 'Authorization' is not a valid key=value pair of Credential, SignedHeaders or \
                 Signature.",
            ));
        };
        if values[place].replace(value).is_some() {
            let name = NAMES[place];
            return Err(incomplete(format!(
                "Authorization header has '{name}' twice."
            )));
        }
    }
    let missing = NAMES
        .iter()
        .zip(&values)
        .filter(|(_, value)| value.is_none());
    let missing =
        missing.map(|(name, _)| format!("Authorization header requires '{name}' parameter."));
    let missing = Vec::from_iter(missing).join(" ");
    let [Some(credential), Some(signed_headers), Some(signature)] = values else {
        return Err(incomplete(missing));
    };
    let token = single(headers, &TOKEN)?;
    let payload = single(headers, &PAYLOAD)?;
    Ok(Signature {
        credential: credential.to_owned(),
        signed_headers: signed_headers.to_owned(),
        signature: signature.to_owned(),
        token: token.map(str::to_owned),
        time: Moment {
            signed: signed_at(headers)?,
            valid_for: SIGNATURE_WINDOW,
        },
        payload: payload.map(str::to_owned),
    })
}

fn signed_at(headers: &HeaderMap) -> Result<u64, Refusal> {
    if let Some(date) = single(headers, &DATE)? {
        return moment::of_basic(date).ok_or_else(|| {
            incomplete("'X-Amz-Date' must be a time in the form 20260131T123600Z.")
        });
    }
    let Some(date) = single(headers, &header::DATE)? else {
        return Err(incomplete(
            "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.",
        ));
    };
    moment::of_date(date).ok_or_else(|| {
        incomplete(
            "'Date' must be a time such as Sat, 31 Jan 2026 12:36:00 GMT; or send 'X-Amz-Date'.",
        )
    })
}
