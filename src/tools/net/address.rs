//! Which addresses are nobody's business: every special range, by name.
//!
//! IPv4 by a list of what is special, IPv6 the other way round: only 2000::/3 is the public internet, and
//! within it what carries an IPv4 address or is reserved is special again.
//!
//! Sources: the IANA IPv4 and IPv6 special-purpose address registries, RFC 6052 (NAT64), RFC 3056 (6to4),
//! RFC 4380 (Teredo), RFC 5214 (ISATAP).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Network, prefix length, name.
type Range4 = ([u8; 4], u32, &'static str);
type Range6 = ([u16; 8], u32, &'static str);

const SPECIAL_4: [Range4; 16] = [
    ([0, 0, 0, 0], 8, "this network (0.0.0.0/8)"),
    ([10, 0, 0, 0], 8, "private (10.0.0.0/8)"),
    ([100, 64, 0, 0], 10, "shared by a provider (100.64.0.0/10)"),
    ([127, 0, 0, 0], 8, "loopback (127.0.0.0/8)"),
    ([169, 254, 0, 0], 16, "link-local (169.254.0.0/16)"),
    ([172, 16, 0, 0], 12, "private (172.16.0.0/12)"),
    ([192, 0, 0, 0], 24, "reserved (192.0.0.0/24)"),
    ([192, 0, 2, 0], 24, "for documentation (192.0.2.0/24)"),
    ([192, 88, 99, 0], 24, "a 6to4 relay (192.88.99.0/24)"),
    ([192, 168, 0, 0], 16, "private (192.168.0.0/16)"),
    ([198, 18, 0, 0], 15, "for benchmarks (198.18.0.0/15)"),
    ([198, 51, 100, 0], 24, "for documentation (198.51.100.0/24)"),
    ([203, 0, 113, 0], 24, "for documentation (203.0.113.0/24)"),
    ([224, 0, 0, 0], 4, "multicast (224.0.0.0/4)"),
    ([255, 255, 255, 255], 32, "broadcast"),
    ([240, 0, 0, 0], 4, "reserved (240.0.0.0/4)"),
];

/// Named before the general rule, so that the message says what the address is.
const SPECIAL_6: [Range6; 15] = [
    ([0; 8], 128, "unspecified (::)"),
    ([0, 0, 0, 0, 0, 0, 0, 1], 128, "loopback (::1)"),
    ([0, 0, 0, 0, 0, 0xffff, 0, 0], 96, "an IPv4 address in disguise (::ffff:0:0/96)"),
    ([0, 0, 0, 0, 0xffff, 0, 0, 0], 96, "an IPv4 address in disguise (::ffff:0:0:0/96)"),
    ([0; 8], 96, "an IPv4 address in disguise (::/96)"),
    ([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96, "an IPv4 address behind NAT64 (64:ff9b::/96)"),
    ([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48, "an IPv4 address behind NAT64 (64:ff9b:1::/48)"),
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 32, "Teredo (2001::/32)"),
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 23, "reserved (2001::/23)"),
    ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32, "for documentation (2001:db8::/32)"),
    ([0x2002, 0, 0, 0, 0, 0, 0, 0], 16, "6to4 (2002::/16)"),
    ([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20, "for documentation (3fff::/20)"),
    ([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7, "private (fc00::/7)"),
    ([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10, "link-local (fe80::/10)"),
    ([0xff00, 0, 0, 0, 0, 0, 0, 0], 8, "multicast (ff00::/8)"),
];

/// The name of the special range an address lies in; None: it is on the public internet.
pub fn special(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => special_4(address),
        IpAddr::V6(address) => special_6(address),
    }
}

fn special_4(address: Ipv4Addr) -> Option<&'static str> {
    let bits = address.to_bits();
    let inside = |range: &&Range4| prefix_equal_32(bits, Ipv4Addr::from(range.0).to_bits(), range.1);
    SPECIAL_4.iter().find(inside).map(|range| range.2)
}

fn special_6(address: Ipv6Addr) -> Option<&'static str> {
    let bits = address.to_bits();
    let inside =
        |range: &&Range6| bits >> (128 - range.1) == Ipv6Addr::from(range.0).to_bits() >> (128 - range.1);
    if let Some(range) = SPECIAL_6.iter().find(inside) {
        return Some(range.2);
    }
    if bits >> 125 != 0b001 {
        return Some("reserved (outside 2000::/3)");
    }
    // ISATAP: the lower half is [00|02]00:5efe followed by an IPv4 address.
    let marker = (bits >> 32) as u32;
    (marker & 0xfdff_ffff == 0x0000_5efe).then_some("an IPv4 address in disguise (ISATAP)")
}

fn prefix_equal_32(left: u32, right: u32, bits: u32) -> bool {
    left >> (32 - bits) == right >> (32 - bits)
}

#[cfg(test)]
mod tests {
    use super::special;

    fn check(address: &str, part: Option<&str>) {
        let found = special(address.parse().unwrap());
        match part {
            Some(part) => assert!(found.is_some_and(|name| name.contains(part)), "{address}: {found:?}"),
            None => assert_eq!(found, None, "{address}"),
        }
    }

    #[test]
    fn ranges_begin_and_end_where_the_registries_say() {
        for (first, last, before, after, part) in [
            ("0.0.0.0", "0.255.255.255", None, Some("1.0.0.0"), "this network"),
            ("10.0.0.0", "10.255.255.255", Some("9.255.255.255"), Some("11.0.0.0"), "private"),
            ("100.64.0.0", "100.127.255.255", Some("100.63.255.255"), Some("100.128.0.0"), "provider"),
            ("127.0.0.0", "127.255.255.255", Some("126.255.255.255"), Some("128.0.0.0"), "loopback"),
            ("169.254.0.0", "169.254.255.255", Some("169.253.255.255"), Some("169.255.0.0"), "link-local"),
            ("172.16.0.0", "172.31.255.255", Some("172.15.255.255"), Some("172.32.0.0"), "private"),
            ("192.0.0.0", "192.0.0.255", Some("191.255.255.255"), Some("192.0.1.0"), "reserved"),
            ("192.0.2.0", "192.0.2.255", Some("192.0.1.255"), Some("192.0.3.0"), "documentation"),
            ("192.88.99.0", "192.88.99.255", Some("192.88.98.255"), Some("192.88.100.0"), "6to4"),
            ("192.168.0.0", "192.168.255.255", Some("192.167.255.255"), Some("192.169.0.0"), "private"),
            ("198.18.0.0", "198.19.255.255", Some("198.17.255.255"), Some("198.20.0.0"), "benchmarks"),
            ("198.51.100.0", "198.51.100.255", Some("198.51.99.255"), Some("198.51.101.0"), "documentation"),
            ("203.0.113.0", "203.0.113.255", Some("203.0.112.255"), Some("203.0.114.0"), "documentation"),
            ("224.0.0.0", "239.255.255.255", Some("223.255.255.255"), None, "multicast"),
            ("240.0.0.0", "255.255.255.254", None, None, "reserved"),
            ("255.255.255.255", "255.255.255.255", None, None, "broadcast"),
            ("::", "::", None, None, "unspecified"),
            ("::1", "::1", None, None, "loopback"),
            ("::2", "::ffff:ffff", None, None, "disguise"),
            ("::ffff:0.0.0.0", "::ffff:8.8.8.8", None, None, "disguise"),
            ("64:ff9b::", "64:ff9b::ffff:ffff", None, None, "NAT64"),
            ("64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff", None, None, "NAT64"),
            ("2001::", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff", None, None, "Teredo"),
            ("2001:1::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", None, Some("2001:200::"), "reserved"),
            ("2001:db8::", "2001:db8:ffff::", Some("2001:db7::"), Some("2001:db9::"), "documentation"),
            ("2002::", "2002:ffff:ffff::", Some("2001:ffff::"), Some("2003::"), "6to4"),
            ("3fff::", "3fff:fff:ffff::", Some("3ffe::"), Some("3fff:1000::"), "documentation"),
            ("fc00::", "fdff:ffff::", None, None, "private"),
            ("fe80::", "febf:ffff::", None, None, "link-local"),
            ("ff00::", "ffff:ffff::", None, None, "multicast"),
            ("100::", "1fff:ffff::", None, Some("2000::"), "reserved"),
            ("4000::", "fbff:ffff::", Some("3fff:ffff::"), None, "reserved"),
            ("fec0::", "feff:ffff::", None, None, "reserved"),
            ("2a00:1450::5efe:7f00:1", "2a00:1450::200:5efe:10.0.0.1", None, None, "ISATAP"),
        ] {
            check(first, Some(part));
            check(last, Some(part));
            for outside in [before, after].into_iter().flatten() {
                check(outside, None);
            }
        }
    }

    #[test]
    fn the_public_internet_is_reachable() {
        for address in ["1.1.1.1", "8.8.8.8", "93.184.216.34", "2606:4700::1111", "2a00:1450:4001::200e"] {
            check(address, None);
        }
    }
}
