//! The canonical form of a request's head, which a signature is made of: path, query and headers.
//!
//! `shown` reads which headers are signed, and asks for the form; `verify` adds the hash of the body. Source: "Create a
//! canonical request" in AWS' guide to Signature Version 4, and the signers of the SDKs, which encode a path that is
//! encoded already once more (all services but S3).

use http::{HeaderMap, HeaderName, Uri};

/// Appends the bytes with all of them percent-encoded that are not unreserved (RFC 3986), apart from those in `kept`.
fn encode(bytes: &[u8], kept: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in bytes {
        let is_unreserved = byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
        if is_unreserved || kept.contains(byte) {
            out.push(*byte);
        } else {
            let digits = [byte >> 4, byte & 15].map(|digit| DIGITS[usize::from(digit)]);
            out.extend([b'%', digits[0], digits[1]]);
        }
    }
}

/// A part of a query without its percent-encoding; `+` is a space. `None` if a `%` has no two digits behind it.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let byte = digit(bytes.next())? << 4 | digit(bytes.next())?;
                u8::try_from(byte).ok()?
            }
            other => other,
        });
    }
    Some(decoded)
}

/// The names and values of a query, decoded, in their order. `None` if one cannot be decoded.
pub(crate) fn pairs(query: &str) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            Some((decode(name)?, decode(value)?))
        })
        .collect()
}

/// The path without empty segments, `.` and `..`, encoded once more.
fn path(path: &str, out: &mut Vec<u8>) {
    let mut segments = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    for segment in &segments {
        out.push(b'/');
        encode(segment.as_bytes(), b"", out);
    }
    if segments.is_empty() || path.ends_with('/') {
        out.push(b'/');
    }
}

/// The pairs, encoded and sorted, without the signature itself.
fn query(pairs: &[(Vec<u8>, Vec<u8>)], out: &mut Vec<u8>) {
    let encoded = |bytes: &[u8]| {
        let mut text = Vec::with_capacity(bytes.len());
        encode(bytes, b"", &mut text);
        text
    };
    let signed = pairs.iter().filter(|(name, _)| name != b"X-Amz-Signature");
    let mut signed = Vec::from_iter(signed.map(|(name, value)| (encoded(name), encoded(value))));
    signed.sort_unstable();
    for (place, (name, value)) in signed.iter().enumerate() {
        if place > 0 {
            out.push(b'&');
        }
        out.extend(name);
        out.push(b'=');
        out.extend(value);
    }
}

/// A value without spaces at its ends, and with one space in the place of several.
fn value(bytes: &[u8], out: &mut Vec<u8>) {
    let words = bytes.split(|byte| matches!(byte, b' ' | b'\t'));
    for (place, word) in words.filter(|word| !word.is_empty()).enumerate() {
        if place > 0 {
            out.push(b' ');
        }
        out.extend(word);
    }
}

/// The host that the caller has connected to: the header of HTTP/1.1, or the authority of HTTP/2.
fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a [u8]> {
    let header = headers.get(http::header::HOST);
    let authority = uri
        .authority()
        .map(|authority| authority.as_str().as_bytes());
    header.map(|host| host.as_bytes()).or(authority)
}

/// The canonical form up to the hash of the body. `Err`: a signed header that the request has not.
pub(crate) fn head(
    method: &http::Method,
    uri: &Uri,
    pairs: &[(Vec<u8>, Vec<u8>)],
    headers: &HeaderMap,
    signed: &[HeaderName],
) -> Result<Vec<u8>, HeaderName> {
    let mut out = Vec::with_capacity(1024);
    out.extend(method.as_str().as_bytes());
    out.push(b'\n');
    path(uri.path(), &mut out);
    out.push(b'\n');
    query(pairs, &mut out);
    out.push(b'\n');
    for name in signed {
        out.extend(name.as_str().as_bytes());
        out.push(b':');
        if name == http::header::HOST {
            value(host(uri, headers).ok_or_else(|| name.clone())?, &mut out);
        } else {
            let mut values = headers.get_all(name).iter();
            value(
                values.next().ok_or_else(|| name.clone())?.as_bytes(),
                &mut out,
            );
            for other in values {
                out.push(b',');
                value(other.as_bytes(), &mut out);
            }
        }
        out.push(b'\n');
    }
    out.push(b'\n');
    for (place, name) in signed.iter().enumerate() {
        if place > 0 {
            out.push(b';');
        }
        out.extend(name.as_str().as_bytes());
    }
    out.push(b'\n');
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_form(form: impl Fn(&mut Vec<u8>), expected: &str) {
        let mut out = Vec::new();
        form(&mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn a_path_is_normal_and_encoded_once_more() {
        for (given, expected) in [
            ("", "/"),
            ("/", "/"),
            ("//a///b", "/a/b"),
            ("/a/./b/../c/", "/a/c/"),
            ("/../..", "/"),
            ("/arn%3Aaws%3Alambda", "/arn%253Aaws%253Alambda"),
            ("/a:b~c$LATEST", "/a%3Ab~c%24LATEST"),
            ("/\u{e9}", "/%C3%A9"),
        ] {
            assert_form(|out| path(given, out), expected);
        }
    }

    #[test]
    fn a_query_is_decoded_encoded_and_sorted() {
        for (given, expected) in [
            ("", ""),
            ("b=2&a=1&a=0&A=9", "A=9&a=0&a=1&b=2"),
            ("a&b=", "a=&b="),
            ("Qualifier=%24LATEST", "Qualifier=%24LATEST"),
            ("Qualifier=$LATEST&&", "Qualifier=%24LATEST"),
            ("a=b+c%2b%2F=", "a=b%20c%2B%2F%3D"),
            ("X-Amz-Signature=ff&a=1", "a=1"),
        ] {
            let pairs = pairs(given).unwrap();
            assert_form(|out| query(&pairs, out), expected);
        }
        for given in ["a=%", "a=%2", "a=%2g", "%+1=a"] {
            assert_eq!(pairs(given), None, "{given}");
        }
    }

    #[test]
    fn a_value_has_single_spaces() {
        assert_form(|out| value(b"  a \t b  c ", out), "a b c");
        assert_form(|out| value(b" ", out), "");
    }
}
