//! Which addresses a gateway may fetch archives from: the authors of Functions choose the URLs.
//!
//! Without a rule of the operator, an author could have the gateway read what only the gateway reaches: its own
//! listeners, the metadata service of the cloud, and services of the cluster. `pilotlight-archive` asks for each
//! address that a name resolves to, after each redirect again, and connects to an address that passed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use thiserror::Error;

/// A range of addresses, such as `10.96.0.0/12`. An address alone is a range of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    address: IpAddr,
    prefix: u8,
}

/// A text that is no range of addresses.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("must be a range of addresses such as 10.96.0.0/12 or fd00::/8, got `{0}`")]
pub struct InvalidAddressRange(String);

impl FromStr for AddressRange {
    type Err = InvalidAddressRange;

    fn from_str(text: &str) -> Result<Self, InvalidAddressRange> {
        let invalid = || InvalidAddressRange(text.to_owned());
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            // `parse` takes a sign.
            Some(prefix) if prefix.bytes().all(|byte| byte.is_ascii_digit()) => {
                prefix.parse().map_err(|_| invalid())?
            }
            Some(_) => return Err(invalid()),
            None => longest,
        };
        match prefix <= longest {
            true => Ok(AddressRange { address, prefix }),
            false => Err(invalid()),
        }
    }
}

impl AddressRange {
    fn contains(&self, address: IpAddr) -> bool {
        let shift = |width: u32| width - u32::from(self.prefix);
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (own.to_bits() ^ other.to_bits())
                    .checked_shr(shift(32))
                    .unwrap_or(0)
                    == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (own.to_bits() ^ other.to_bits())
                    .checked_shr(shift(128))
                    .unwrap_or(0)
                    == 0
            }
            _ => false,
        }
    }
}

/// Which addresses may be fetched from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressRule {
    /// Ranges that are allowed whatever they are.
    pub allow: Vec<AddressRange>,
    /// Ranges that are refused besides the special ones: those of the cluster's pods and Services.
    pub deny: Vec<AddressRange>,
}

impl AddressRule {
    pub fn allows(&self, address: IpAddr) -> bool {
        // An IPv4 address within IPv6 reaches the same host.
        let address = address.to_canonical();
        let is_in =
            |ranges: &[AddressRange], address| ranges.iter().any(|range| range.contains(address));
        if is_in(&self.allow, address) {
            return true;
        }
        let embedded = match address {
            IpAddr::V6(address) => embedded(address).map(IpAddr::V4),
            IpAddr::V4(_) => None,
        };
        let mut both = [Some(address), embedded].into_iter().flatten();
        both.all(|address| !is_special(address) && !is_in(&self.deny, address))
    }
}

/// Loopback, link-local (with the metadata services of clouds), unique-local, unspecified, multicast and reserved
/// addresses.
fn is_special(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let first = address.octets()[0];
            first == 0 || first >= 224 || address.is_loopback() || address.is_link_local()
        }
        IpAddr::V6(address) => {
            let first = address.segments()[0];
            address.is_loopback()
                || address.is_unspecified()
                || address.is_multicast()
                // Unique-local, link-local, and the site-local range before it.
                || first & 0xfe00 == 0xfc00
                || first & 0xff80 == 0xfe80
        }
    }
}

/// The IPv4 address to which a translator passes packets for this one: NAT64 and 6to4. The deprecated compatible form
/// counts as well.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let (high, low) = match (a, b) {
        (0x64, 0xff9b) if [c, d, e, f] == [0; 4] => (g, h),
        // NAT64 with a prefix of the site's own.
        (0x64, 0xff9b) if c == 1 => (g, h),
        (0x2002, _) => (b, c),
        (0, 0) if [c, d, e, f] == [0; 4] => (g, h),
        _ => return None,
    };
    Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(rule: &AddressRule, address: &str) -> bool {
        rule.allows(address.parse().expect("an address"))
    }

    fn ranges(texts: &[&str]) -> Vec<AddressRange> {
        let parsed = texts.iter().map(|text| text.parse().expect("a range"));
        parsed.collect()
    }

    #[test]
    fn special_addresses_are_refused_in_each_of_their_forms() {
        let rule = AddressRule::default();
        for refused in [
            "127.0.0.1",
            "127.255.255.254",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "fc00::1",
            "fdff::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::169.254.169.254",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
        ] {
            assert!(!allows(&rule, refused), "{refused}");
        }
        for allowed in [
            "93.184.216.34",
            "10.0.0.1",
            "126.255.255.255",
            "128.0.0.1",
            "169.253.0.1",
            "223.255.255.255",
            "2606:2800::1",
            "64:ff9b::93.184.216.34",
            "::ffff:93.184.216.34",
        ] {
            assert!(allows(&rule, allowed), "{allowed}");
        }
    }

    #[test]
    fn ranges_of_the_cluster_are_refused_and_an_allowed_range_wins() {
        let rule = AddressRule {
            allow: ranges(&["10.96.7.0/24", "127.0.0.1", "fd00:7::/32"]),
            deny: ranges(&["10.96.0.0/12", "2606:2800::/32"]),
        };
        for (address, expected) in [
            ("10.96.0.1", false),
            ("10.111.255.255", false),
            ("::ffff:10.96.0.1", false),
            ("64:ff9b::10.96.0.1", false),
            ("10.112.0.0", true),
            ("10.96.7.9", true),
            ("::ffff:10.96.7.9", true),
            ("127.0.0.1", true),
            ("127.0.0.2", false),
            ("2606:2800::1", false),
            ("2606:2801::1", true),
            ("fd00:7::1", true),
            ("fd00:8::1", false),
        ] {
            assert_eq!(allows(&rule, address), expected, "{address}");
        }
        let all = AddressRule {
            allow: ranges(&["0.0.0.0/0", "::/0"]),
            deny: Vec::new(),
        };
        assert!(allows(&all, "127.0.0.1") && allows(&all, "fe80::1"));
    }

    #[test]
    fn a_text_that_is_no_range_is_refused() {
        for text in [
            "",
            "10.0.0.0/33",
            "::/129",
            "10.0.0/8",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "a/8",
        ] {
            let error = text.parse::<AddressRange>().expect_err(text);
            assert!(
                error.to_string().ends_with(&format!("got `{text}`")),
                "{error}"
            );
        }
    }
}
