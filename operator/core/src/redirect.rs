//! Where a redirect leads, and which server an address names.
//!
//! The authors of Functions choose the addresses of archives, and the servers choose where they redirect to. Credentials
//! go to the server that they are meant for and to no other, so the server is read here as strictly as the HTTP client
//! reads it: what is unclear is no address. `pilotlight-archive` follows the redirects, and checks the addresses that
//! the names resolve to (`address_rule`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The most redirects of one fetch.
pub const REDIRECTS_MAX: usize = 10;

/// Characters that user info may have besides letters and digits (RFC 3986, 3.2.1), and the `@` of an earlier part.
const USER_INFO: &[u8] = b"-._~!$&'()*+,;=:%@";

/// A web server: the scheme, the host and the port of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    pub is_encrypted: bool,
    /// In lower case, as in the address: an IPv6 address has brackets.
    pub host: String,
    pub port: u16,
}

impl Server {
    /// `None` if the address is not one of a web server.
    pub fn of(address: &str) -> Option<Self> {
        let (is_encrypted, rest) = after_scheme(address)?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let authority = &rest[..end];
        // Functions that were stored by earlier versions may have user info.
        let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || USER_INFO.contains(&byte);
        if !user.bytes().all(is_plain) {
            return None;
        }
        Self::read(host, is_encrypted)
    }

    /// The address of the host, if it is written as one.
    pub fn ip(&self) -> Option<IpAddr> {
        let host = self.host.as_str();
        let bare = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        match bare {
            Some(bare) => bare.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            None => host.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        }
    }

    /// A name or an address, with a port if there is one.
    fn read(text: &str, is_encrypted: bool) -> Option<Self> {
        let (host, port) = match text.starts_with('[') {
            true => text.split_at(text.find(']')? + 1),
            false => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => None,
            Some("") => None,
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(port.parse().ok()?)
            }
            _ => return None,
        };
        let default = if is_encrypted { 443 } else { 80 };
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let is_host = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']')?.parse::<Ipv6Addr>().is_ok(),
            None => !host.is_empty() && host.bytes().all(inner),
        };
        is_host.then(|| Server {
            is_encrypted,
            host: host.to_ascii_lowercase(),
            port: port.unwrap_or(default),
        })
    }

    /// Reads `host`, `host:port` or `http://host:port`; without a scheme it is an encrypted server.
    pub fn named(text: &str) -> Option<Self> {
        match text.contains("://") {
            true => {
                Self::of(text).filter(|_| text.matches('/').count() == 2 && !text.contains('@'))
            }
            false => Self::read(text, true),
        }
    }
}

/// The address that a redirect from `base` leads to; `None` if it is not one of a web server.
pub fn target(base: &str, location: &str) -> Option<String> {
    let location = location.split('#').next().unwrap_or_default();
    let base = base.split('#').next().unwrap_or_default();
    let (is_encrypted, rest) = after_scheme(base)?;
    let scheme = if is_encrypted { "https" } else { "http" };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    // A password in the address is for its own server, and this server may be another one of the same name.
    let host = authority.rsplit('@').next().unwrap_or(authority);
    let path = path.split('?').next().unwrap_or_default();
    let first = location.split(['/', '?']).next().unwrap_or_default();
    let to = if after_scheme(location).is_some() {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{host}{location}")
    } else if first.contains(':') {
        // Another scheme.
        return None;
    } else if location.is_empty() || location.starts_with('?') {
        let path = if path.is_empty() { "/" } else { path };
        format!("{scheme}://{host}{path}{location}")
    } else {
        let folder = path.rfind('/').map_or("/", |end| &path[..=end]);
        format!("{scheme}://{host}{folder}{location}")
    };
    Server::of(&to).map(|_| to)
}

/// Whether the scheme is the encrypted one, and what follows it. `None` if a client might read the address otherwise.
fn after_scheme(address: &str) -> Option<(bool, &str)> {
    let is_plain = |byte: u8| byte > b' ' && byte != 0x7f && byte != b'\\';
    if !address.bytes().all(is_plain) {
        return None;
    }
    let (scheme, rest) = address.split_once("://")?;
    match scheme.to_ascii_lowercase().as_str() {
        "https" => Some((true, rest)),
        "http" => Some((false, rest)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(is_encrypted: bool, host: &str, port: u16) -> Option<Server> {
        let host = host.to_owned();
        Some(Server {
            is_encrypted,
            host,
            port,
        })
    }

    #[test]
    fn an_address_names_its_server() {
        for (address, expected) in [
            ("https://Host.example/a", server(true, "host.example", 443)),
            ("http://host:8080?a", server(false, "host", 8080)),
            ("HTTPS://host:", server(true, "host", 443)),
            ("https://[::1]:8443/a", server(true, "[::1]", 8443)),
            ("https://me:pw@host/a@b", server(true, "host", 443)),
            ("https://a@b@host/", server(true, "host", 443)),
            ("https://host#@other/", server(true, "host", 443)),
            ("https://other[@host/", None),
            ("https://host\\@other/", None),
            ("https://host:1:2/", None),
            ("https://host:65536/", None),
            ("https://[::1/", None),
            ("https://[a]/", None),
            ("https://ho st/", None),
            ("https:///a", None),
            ("ftp://host/", None),
            ("host/a", None),
            ("https://h\u{f6}st/", None),
        ] {
            assert_eq!(Server::of(address), expected, "{address}");
        }
        let ip = |address| Server::of(address).and_then(|server| server.ip());
        assert_eq!(ip("http://127.0.0.1:9/"), "127.0.0.1".parse().ok());
        assert_eq!(ip("http://[::1]/"), "::1".parse().ok());
        assert_eq!(ip("http://host/"), None);
    }

    #[test]
    fn a_server_is_named_by_host_port_and_scheme() {
        for (text, expected) in [
            ("Host.example", server(true, "host.example", 443)),
            ("host:8443", server(true, "host", 8443)),
            ("http://host:8081", server(false, "host", 8081)),
            ("https://host", server(true, "host", 443)),
            ("https://host/a", None),
            ("https://me@host", None),
            ("*.example", None),
            ("", None),
        ] {
            assert_eq!(Server::named(text), expected, "{text}");
        }
    }

    #[test]
    fn a_redirect_leads_where_a_browser_would_go() {
        let base = "https://me:pw@host:8443/a/b.zip?c=/d#e";
        for (location, expected) in [
            ("http://other/x", Some("http://other/x")),
            ("//other/x", Some("https://other/x")),
            ("/x?y#z", Some("https://host:8443/x?y")),
            ("x/y", Some("https://host:8443/a/x/y")),
            ("?y", Some("https://host:8443/a/b.zip?y")),
            ("", Some("https://host:8443/a/b.zip")),
            ("file:///etc/passwd", None),
            ("javascript:x", None),
            ("//other\\@host/", None),
            ("https://ho st/", None),
        ] {
            assert_eq!(target(base, location).as_deref(), expected, "{location}");
        }
        assert_eq!(target("http://host", "x").as_deref(), Some("http://host/x"));
    }
}
