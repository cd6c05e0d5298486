//! What a request shows of keys that are none of this installation: the parts of Signature Version 4.
//!
//! A function may hold keys of a cloud, and its SDK signs calls of other functions with them. The loopback door of its
//! supervisor removes what this names, and shows the function's own identity instead.

use std::borrow::Cow;

/// The headers.
pub const HEADERS: [&str; 4] = [
    "authorization",
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-security-token",
];

/// The parameters of a query (presigned addresses), without regard to upper and lower case.
const PARAMETERS: [&str; 8] = [
    "x-amz-algorithm",
    "x-amz-content-sha256",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-security-token",
    "x-amz-signature",
    "x-amz-signedheaders",
];

/// The query without the parameters of a signature. The rest stays as it is.
pub fn without_signature(query: &str) -> Cow<'_, str> {
    let is_kept = |pair: &&str| {
        let name = pair.split_once('=').map_or(*pair, |(name, _)| name);
        !PARAMETERS.iter().any(|other| is_name(name, other))
    };
    match query.split('&').all(|pair| is_kept(&pair)) {
        true => Cow::Borrowed(query),
        false => Cow::Owned(Vec::from_iter(query.split('&').filter(is_kept)).join("&")),
    }
}

/// Whether the name, which may have percent-encoded bytes, is this one.
fn is_name(encoded: &str, name: &str) -> bool {
    let mut rest = encoded.bytes();
    let decoded = std::iter::from_fn(|| match rest.next()? {
        b'%' => {
            let mut ahead = rest.clone();
            let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
            match (digit(ahead.next()), digit(ahead.next())) {
                (Some(high), Some(low)) => {
                    rest = ahead;
                    u8::try_from(high << 4 | low).ok()
                }
                _ => Some(b'%'),
            }
        }
        byte => Some(byte),
    });
    decoded
        .map(|byte| byte.to_ascii_lowercase())
        .eq(name.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_presigned_query_loses_its_signature_and_nothing_else() {
        for (query, left) in [
            ("", ""),
            ("Qualifier=1&x=%2F&y", "Qualifier=1&x=%2F&y"),
            (
                "X-Amz-Algorithm=AWS4-HMAC-SHA256&Qualifier=1&X-Amz-Credential=a%2Fb&X-Amz-Date=1&\
                 X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Security-Token=c&X-Amz-Signature=00",
                "Qualifier=1",
            ),
            (
                "x%2damz%2DSignature=00&a=X-Amz-Signature",
                "a=X-Amz-Signature",
            ),
            ("X-Amz-Signature", ""),
            (
                "X-Amz-Signature2=1&%zz=1&%4=1",
                "X-Amz-Signature2=1&%zz=1&%4=1",
            ),
        ] {
            assert_eq!(without_signature(query), left, "{query}");
        }
    }
}
