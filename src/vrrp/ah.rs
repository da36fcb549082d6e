//! The IP authentication header of VRRPv2 (RFC 2338, 5.3.6.3; RFC 2402), as keepalived has it: HMAC-MD5-96 over the packet with the header's type of
//! service and checksum taken as zero. Old and weak; it is here because groups that have it must be able to move.
use super::packet::{PROTOCOL, Reject, TTL};
use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

/// IP protocol number of the authentication header.
pub const AH_PROTOCOL: u8 = 51;
const IP_HEADER: usize = 20;
/// Next header, length, reserved, SPI, sequence number, and 96 bits of authentication data.
pub const LENGTH: usize = 24;
const ICV: std::ops::Range<usize> = 12..LENGTH;
/// DSCP CS6: network control.
const TOS: u8 = 0xc0;

/// The authentication data of a whole IPv4 packet, header first. What routers change on the way counts as zero, and so does the data itself.
fn icv(key: &[u8; 8], packet: &[u8], header: usize) -> [u8; 12] {
    // A key of zeros is no key; any length is one.
    let Ok(mut mac) = Hmac::<Md5>::new_from_slice(key) else { return [0; 12] };
    let ah = header + ICV.start..header + ICV.end;
    mac.update(&packet[..1]);
    mac.update(&[0]);
    mac.update(&packet[2..10]);
    mac.update(&[0; 2]);
    mac.update(&packet[12..ah.start]);
    mac.update(&[0; 12]);
    mac.update(&packet[ah.end..]);
    let full = mac.finalize().into_bytes();
    let mut out = [0; 12];
    out.copy_from_slice(&full[..12]);
    out
}

/// Puts `message` into a whole IPv4 packet with authentication. `seq` is this sender's count, from 1; the kernel fills in the checksum.
pub fn wrap(src: Ipv4Addr, dst: Ipv4Addr, ttl: u8, key: &[u8; 8], seq: u32, message: &[u8], out: &mut Vec<u8>) {
    let len = u16::try_from(IP_HEADER + LENGTH + message.len()).unwrap_or(u16::MAX);
    // Never 0: the kernel would choose another one, behind the signature.
    let id = u16::try_from(seq & 0x7fff).unwrap_or(0) | 0x8000;
    out.clear();
    out.extend_from_slice(&[0x45, TOS]);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(&[0, 0, ttl, AH_PROTOCOL, 0, 0]);
    out.extend_from_slice(&src.octets());
    out.extend_from_slice(&dst.octets());
    out.extend_from_slice(&[PROTOCOL, 4, 0, 0]);
    out.extend_from_slice(&src.octets());
    out.extend_from_slice(&seq.to_be_bytes());
    out.extend_from_slice(&[0; 12]);
    out.extend_from_slice(message);
    let icv = icv(key, out, IP_HEADER);
    out[IP_HEADER + ICV.start..IP_HEADER + ICV.end].copy_from_slice(&icv);
}

/// Takes the message out of a whole IPv4 packet: where it begins, and the sender's count.
pub fn unwrap(packet: &[u8], key: &[u8; 8]) -> Result<(usize, u32), Reject> {
    let header = usize::from(*packet.first().ok_or(Reject::Length)? & 15) * 4;
    if header < IP_HEADER || packet.len() < header + LENGTH {
        return Err(Reject::Length);
    }
    let ah = &packet[header..header + LENGTH];
    if ah[..2] != [PROTOCOL, 4] || ah[4..8] != packet[12..16] {
        return Err(Reject::AuthType);
    }
    let mut whole = packet.to_vec();
    if !same(&icv(key, &whole, header), &ah[ICV]) {
        // A router on the way of a unicast advert has counted.
        whole[8] = TTL;
        if !same(&icv(key, &whole, header), &ah[ICV]) {
            return Err(Reject::AuthPass);
        }
    }
    Ok((header + LENGTH, u32::from_be_bytes([ah[8], ah[9], ah[10], ah[11]])))
}

/// The numbers that senders are at. A number is used once; a sender that was silent for so long that it counts as dead begins anew.
#[derive(Debug, Default)]
pub struct Counts(Vec<(IpAddr, u32, Instant)>);

/// As many senders are kept in mind; more are not on one network.
const SENDERS: usize = 64;

impl Counts {
    /// True if this packet of `from` was not there before; `patience` is how long a sender may be silent.
    pub fn is_new(&mut self, from: IpAddr, seq: u32, now: Instant, patience: Duration) -> bool {
        match self.0.iter_mut().find(|c| c.0 == from) {
            Some(c) if seq > c.1 || now.saturating_duration_since(c.2) > patience => (c.1, c.2) = (seq, now),
            Some(_) => return false,
            None => {
                if self.0.len() == SENDERS {
                    self.0.remove(0);
                }
                self.0.push((from, seq, now));
            }
        }
        true
    }
}

/// Compares without telling by time how much was right.
fn same(a: &[u8; 12], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |d, (x, y)| d | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As keepalived 2.2.7 sent it with `auth_pass secret`.
    const SEEN: &str = "45c0004000010000ff33d0ad0a090001e0000012700400000a090001000000013b9671b316016d3cfd4e6a552107960102013c890a0900640000000000000000";

    fn bytes(hex: &str) -> Vec<u8> {
        crate::config::keepalived::build::hex(hex).unwrap()
    }

    #[test]
    fn what_keepalived_sends_is_taken() {
        let p = bytes(SEEN);
        assert_eq!(unwrap(&p, b"secret\0\0"), Ok((44, 1)));
        assert_eq!(unwrap(&p, b"secreT\0\0"), Err(Reject::AuthPass));
        for at in [4, 13, 16, 28, 33, 46, 53] {
            let mut bad = p.clone();
            bad[at] ^= 1;
            assert!(unwrap(&bad, b"secret\0\0").is_err(), "{at}");
        }
    }

    #[test]
    fn a_number_counts_once() {
        let (t, s) = (Instant::now(), Duration::from_secs);
        let mut c = Counts::default();
        let (a, b) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        assert!(c.is_new(a, 5, t, s(3)) && c.is_new(b, 5, t, s(3)));
        assert!(!c.is_new(a, 5, t, s(3)) && !c.is_new(a, 4, t + s(1), s(3)) && c.is_new(a, 6, t + s(1), s(3)));
        // It was dead, and begins anew.
        assert!(c.is_new(a, 1, t + s(5), s(3)) && !c.is_new(a, 1, t + s(5), s(3)));
    }

    #[test]
    fn both_ways_and_no_bytes_make_it_panic() {
        let mut out = Vec::new();
        let (a, b) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(224, 0, 0, 18));
        wrap(a, b, 255, b"key\0\0\0\0\0", 7, &[1, 2, 3], &mut out);
        assert_eq!(unwrap(&out, b"key\0\0\0\0\0"), Ok((44, 7)));
        for len in 0..out.len() {
            let _ = unwrap(&out[..len], b"key\0\0\0\0\0");
            let mut odd = out.clone();
            odd[len] = 0xff;
            let _ = unwrap(&odd, b"key\0\0\0\0\0");
        }
    }
}
