//! Addresses of archives and where their servers redirect to.
//!
//! The server that decides whether credentials are sent is the one that the HTTP client connects to. An IPv4 address is
//! allowed or refused alike in all of its forms.

#![no_main]

use std::collections::BTreeMap;

use http::Uri;
use libfuzzer_sys::fuzz_target;
use pilotlight_core::address_rule::AddressRule;
use pilotlight_core::credentials::Credentials;
use pilotlight_core::redirect::{Server, target};

fuzz_target!(|text: &str| {
    let (base, location) = text.split_once('\n').unwrap_or((text, ""));
    let next = target(base, location);
    for address in [Some(base), next.as_deref()].into_iter().flatten() {
        check(address);
    }
    let (Some(first), Some(next)) = (Server::of(base), next) else {
        return;
    };
    let scheme = if first.is_encrypted { "https" } else { "http" };
    let hosts = format!("{scheme}://{}:{}", first.host, first.port);
    let data = [("hosts", hosts), ("token", "t".to_owned())];
    let data = data.map(|(key, value)| (key.to_owned(), value.into_bytes()));
    let credentials = Credentials::read(&BTreeMap::from(data)).expect("a server can be named");
    assert!(credentials.are_for(base) && credentials.to(base, base).is_some());
    // An address that the client cannot read gets no request, and redirects nowhere.
    let (from, to) = (connects_to(base), connects_to(&next));
    if let (Some(from), Some(to), Some(_)) = (from, to, credentials.to(base, &next)) {
        assert_eq!(from, to, "{base} -> {next}");
    }
});

/// Host, port and whether it is encrypted, as the client reads them.
fn connects_to(address: &str) -> Option<(String, u16, bool)> {
    let uri: Uri = address.parse().ok()?;
    let is_encrypted = uri.scheme_str() == Some("https");
    let port = uri
        .port_u16()
        .unwrap_or(if is_encrypted { 443 } else { 80 });
    Some((uri.host()?.to_ascii_lowercase(), port, is_encrypted))
}

fn check(address: &str) {
    let Some(server) = Server::of(address) else {
        return;
    };
    // The client refuses more than is refused here.
    if let Some(to) = connects_to(address) {
        assert_eq!(
            to,
            (server.host.clone(), server.port, server.is_encrypted),
            "{address}"
        );
    }
    if let Some(std::net::IpAddr::V4(ip)) = server.ip() {
        let rule = AddressRule::default();
        let mapped = ip.to_ipv6_mapped();
        assert_eq!(rule.allows(ip.into()), rule.allows(mapped.into()), "{ip}");
        let [a, b] = [ip.to_bits() >> 16, ip.to_bits() & 0xffff].map(|half| half as u16);
        for translated in [
            [0x64, 0xff9b, 0, 0, 0, 0, a, b],
            [0x2002, a, b, 0, 0, 0, 0, 1],
        ] {
            let translated = std::net::Ipv6Addr::from(translated);
            assert_eq!(
                rule.allows(ip.into()),
                rule.allows(translated.into()),
                "{ip}"
            );
        }
    }
}
