//! Hashes whose results are part of HAProxy's observable behaviour (`balance`, `hash-type`).
use std::net::IpAddr;

/// What `balance source` hashes: the 32-bit words of the address, exclusive-ored. A mapped IPv4 address counts as IPv4.
pub fn source(ip: IpAddr) -> u32 {
    match crate::base::addr::canonical(ip) {
        IpAddr::V4(v4) => u32::from(v4),
        IpAddr::V6(v6) => v6.octets().as_chunks::<4>().0.iter().fold(0, |h, w| h ^ u32::from_be_bytes(*w)),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn source_is_the_xor_of_words() {
        assert_eq!(super::source("127.0.0.1".parse().unwrap()), 0x7f00_0001);
        assert_eq!(super::source("2001:db8::1".parse().unwrap()), 0x2001_0db8 ^ 1);
    }
}
