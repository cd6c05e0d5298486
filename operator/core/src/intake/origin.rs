//! Whether a request of local mode may come from a web page that is open in a browser of the same machine.
//!
//! A page can make its browser send requests to 127.0.0.1, and by DNS rebinding its own name leads there. So the name
//! in `Host` must be one that cannot be anybody's, and a browser's own headers must not name a foreign page. Programs,
//! as SDKs are, send neither `Origin` nor `Sec-Fetch-Site`.

use std::net::IpAddr;

/// What a request says about where it comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Provenance<'a> {
    /// The header `Host`, or the authority of HTTP/2: a name or an address, and perhaps a port.
    pub host: Option<&'a str>,
    pub origin: Option<&'a str>,
    pub sec_fetch_site: Option<&'a str>,
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Foreign {
    #[error(
        "the host {0:?} is not known: use an address or localhost, or allow it with --allow-host"
    )]
    Host(String),
    #[error("a web page of {0:?} may not send requests: allow its host with --allow-host")]
    Origin(String),
    #[error("a web page of another site may not send requests: allow its host with --allow-host")]
    Site,
}

/// Decides whether a request may pass. `allowed`: the names that the user accepts besides addresses and localhost.
///
/// # Errors
/// Why it may not.
pub fn check(provenance: Provenance<'_>, allowed: &[String]) -> Result<(), Foreign> {
    let Provenance {
        host,
        origin,
        sec_fetch_site,
    } = provenance;
    if let Some(host) = host {
        let name = name_of(host);
        let is_known = address_of(name).is_some() || is_localhost(name) || is_in(name, allowed);
        if !is_known {
            return Err(Foreign::Host(host.to_owned()));
        }
    }
    match origin {
        Some(origin) => {
            let name = origin.split_once("://").map(|(_, host)| name_of(host));
            let is_near = |name: &str| {
                address_of(name).is_some_and(|address| address.is_loopback()) || is_localhost(name)
            };
            match name.is_some_and(|name| is_near(name) || is_in(name, allowed)) {
                true => Ok(()),
                false => Err(Foreign::Origin(origin.to_owned())),
            }
        }
        // An image or a script of a page: the browser sends no origin, and says that it is another site's.
        None if sec_fetch_site == Some("cross-site") => Err(Foreign::Site),
        None => Ok(()),
    }
}

/// Without the port.
fn name_of(host: &str) -> &str {
    if host.starts_with('[') {
        return host.find(']').map_or(host, |end| &host[..=end]);
    }
    host.split_once(':').map_or(host, |(name, _)| name)
}

fn address_of(name: &str) -> Option<IpAddr> {
    let bare = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    match bare {
        Some(name) => name.parse().ok().filter(IpAddr::is_ipv6),
        None => name.parse().ok().filter(IpAddr::is_ipv4),
    }
}

fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

fn is_in(name: &str, allowed: &[String]) -> bool {
    let mut allowed = allowed.iter();
    allowed.any(|allowed| allowed.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<'a>(host: &'a str, origin: Option<&'a str>, site: Option<&'a str>) -> Provenance<'a> {
        Provenance {
            host: Some(host),
            origin,
            sec_fetch_site: site,
        }
    }

    fn allowed() -> Vec<String> {
        vec!["dev.example".to_owned()]
    }

    #[test]
    fn addresses_localhost_and_allowed_names_are_hosts() {
        for host in [
            "127.0.0.1:7070",
            "127.0.0.1",
            "192.168.0.7:7070",
            "[::1]:7070",
            "[::1]",
            "localhost:7070",
            "LOCALHOST",
            "localhost.",
            "hello.localhost:7070",
            "dev.example",
            "DEV.example:80",
        ] {
            assert_eq!(check(of(host, None, None), &allowed()), Ok(()), "{host}");
        }
        assert_eq!(check(Provenance::default(), &[]), Ok(()));
    }

    #[test]
    fn other_names_are_refused_and_named() {
        for host in [
            "evil.example",
            "evil.example:7070",
            "localhost.evil.example",
            "notlocalhost",
            "127.0.0.1.evil.example",
            "dev.example.evil",
            "",
            "[::1",
            "[127.0.0.1]",
            "::1",
            "127.0.0.1 evil",
        ] {
            let refused = check(of(host, None, None), &allowed());
            assert_eq!(refused, Err(Foreign::Host(host.to_owned())));
        }
        let text = Foreign::Host("evil.example".to_owned()).to_string();
        assert!(text.contains("evil.example") && text.contains("--allow-host"));
    }

    #[test]
    fn a_page_of_another_site_is_refused_even_if_its_host_is_an_address() {
        let host = "127.0.0.1:7070";
        for origin in [
            "http://evil.example",
            "https://203.0.113.5",
            "null",
            "",
            "localhost",
        ] {
            let refused = check(of(host, Some(origin), Some("same-site")), &[]);
            assert_eq!(refused, Err(Foreign::Origin(origin.to_owned())));
        }
        let refused = check(of(host, None, Some("cross-site")), &[]);
        assert_eq!(refused, Err(Foreign::Site));
    }

    #[test]
    fn a_page_of_this_machine_or_of_an_allowed_host_passes() {
        for (origin, site) in [
            (Some("http://localhost:3000"), Some("same-site")),
            (Some("http://127.0.0.1:3000"), Some("cross-site")),
            (Some("http://[::1]:3000"), None),
            (Some("https://dev.example"), Some("cross-site")),
            (None, Some("none")),
            (None, Some("same-origin")),
        ] {
            let passed = check(of("localhost:7070", origin, site), &allowed());
            assert_eq!(passed, Ok(()), "{origin:?}");
        }
    }
}
