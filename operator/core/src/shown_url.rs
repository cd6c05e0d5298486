//! How URLs are printed: without user info, query and fragment, which may hold passwords and signatures.
//!
//! Everything that prints a URL uses [`ShownUrl`]: logs, errors, conditions, local mode's output. A test of the
//! workspace refuses other ways (`tests/workspace/tests/urls.rs`). Nothing here is parsed for a connection.

use std::fmt;

/// A URL, or a text that should have been one, for people to read.
#[derive(Clone, Copy)]
pub struct ShownUrl<'a>(pub &'a str);

impl fmt::Display for ShownUrl<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = match self.0.split_once("://") {
            Some((scheme, rest)) => (scheme, rest),
            // Without a scheme, a client may still take it for host and path.
            None => ("", self.0),
        };
        let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        if !scheme.bytes().all(is_scheme) {
            return f.write_str("(not a URL)");
        }
        let end = rest.find(['/', '\\', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let host = authority.rsplit('@').next().unwrap_or(authority);
        let path = path.split(['?', '#']).next().unwrap_or_default();
        if !scheme.is_empty() {
            write!(f, "{scheme}://")?;
        }
        match is_host(host) {
            true => write!(f, "{}{}", host, Visible(path)),
            // A password with an unescaped `/` or `?` ends up here: it looks like a bad port.
            false => f.write_str("…"),
        }
    }
}

impl fmt::Debug for ShownUrl<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whether a URL has a user name or a password before its host.
pub fn has_user_info(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.contains('@')
}

/// Without control characters: a URL comes from outside.
struct Visible<'a>(&'a str);

impl fmt::Display for Visible<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in self.0.split_inclusive(char::is_control) {
            f.write_str(part.trim_end_matches(char::is_control))?;
        }
        Ok(())
    }
}

/// A name or an address, with a port if there is one.
fn is_host(text: &str) -> bool {
    let (host, rest) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => (address, rest),
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port = rest.strip_prefix(':').unwrap_or(rest);
    let is_inside = |c: char| c.is_alphanumeric() || "-._~:%".contains(c);
    host.chars().all(is_inside) && port.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_user_info_query_and_fragment() {
        for (url, shown) in [
            ("https://host/a.zip", "https://host/a.zip"),
            ("http://127.0.0.1:8080/a", "http://127.0.0.1:8080/a"),
            ("https://[::1]:8443/a", "https://[::1]:8443/a"),
            (
                "https://me:hunter2@host/a.zip?sig=s3cret#part",
                "https://host/a.zip",
            ),
            ("https://me:hunter2@host?sig=s3cret", "https://host"),
            ("https://me:hun@ter2@host/a", "https://host/a"),
            (
                "https://hunter2@host:443/@scope/a?b=/c",
                "https://host:443/@scope/a",
            ),
            ("https://host#s3cret", "https://host"),
            // Clients differ on these: nothing of what may be a password is shown.
            ("https://me:hun/ter2@host/a", "https://…"),
            ("https://me:hun?ter2@host/a", "https://…"),
            ("https://me:hun#ter2@host/a", "https://…"),
            ("https://me:hun\\ter2@host/a", "https://…"),
            ("ftp://me:hunter2@host/a", "ftp://host/a"),
            ("me:hunter2@host/a?sig=1", "host/a"),
            ("git+https://hunter2@host/a", "git+https://host/a"),
            ("me:hunter2://host/a", "(not a URL)"),
            ("https://host/a\u{1b}[2Jb", "https://host/a[2Jb"),
            ("", ""),
        ] {
            assert_eq!(ShownUrl(url).to_string(), shown, "{url}");
            assert_eq!(format!("{:?}", ShownUrl(url)), shown);
        }
    }

    #[test]
    fn user_info_is_what_stands_before_an_at_sign_in_front_of_the_path() {
        for (url, has_it) in [
            ("https://me:hunter2@host/a.zip", true),
            ("https://me@host", true),
            ("https://@host/a", true),
            ("http://a@b@host?x", true),
            ("https://me\\@host/a", true),
            ("https://host/@scope/a.zip", false),
            ("https://host?mail=a@b", false),
            ("https://host#a@b", false),
            ("https://host:443/a", false),
        ] {
            assert_eq!(has_user_info(url), has_it, "{url}");
        }
    }
}
