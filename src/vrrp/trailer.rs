//! keepalived's `auth_hmac` (2.4; draft-cassen-vrrp-auth-hmac): a trailer behind an advert of either version, with a sequence number made of the time and an
//! HMAC-SHA256 cut to 128 bits. The format is what keepalived 2.4.3 was seen to send.
//!
//! ```text
//! 0      1      2  3   4               12                      28
//! type=1 key id zeros  sequence (64)   first half of the HMAC
//! ```
//! Signed is: family (4 or 6), version, VRID, 0, the source address in 16 octets (IPv4 in front, zeros behind), the advert with its checksum taken as
//! zero, and the trailer with its HMAC taken as zero. Over IPv6 the advert's checksum covers the trailer, over IPv4 it does not.
use super::packet::Reject;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::net::IpAddr;
use std::time::Duration;

pub const LENGTH: usize = 28;
const TYPE: u8 = 1;
/// Where the HMAC begins.
const MAC: usize = 12;

/// What a verified trailer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signed {
    pub key: u8,
    pub sequence: u64,
}

/// The sequence numbers that senders are at: each is used once, and they grow.
#[derive(Debug, Default)]
pub struct Sequences(Vec<(IpAddr, u64)>);

/// As many senders are kept in mind; more are not on one network, and each had to know a key.
const SENDERS: usize = 64;

impl Sequences {
    pub fn take(&mut self, from: IpAddr, sequence: u64) -> Result<(), Reject> {
        match self.0.iter_mut().find(|s| s.0 == from) {
            Some(s) if sequence > s.1 => s.1 = sequence,
            Some(_) => return Err(Reject::Replay),
            None => {
                if self.0.len() == SENDERS {
                    self.0.remove(0);
                }
                self.0.push((from, sequence));
            }
        }
        Ok(())
    }
}

/// How long a message is without a trailer, as its own header has it. `None`: not even a header is there.
pub fn body_length(message: &[u8], six: bool) -> Option<usize> {
    let head = message.get(..8)?;
    Some(8 + usize::from(head[3]) * if six { 16 } else { 4 } + if head[0] >> 4 == 2 { 8 } else { 0 })
}

fn mac(key: &[u8], src: IpAddr, message: &[u8]) -> Option<Hmac<Sha256>> {
    // Any length is a key.
    let mut m = Hmac::<Sha256>::new_from_slice(key).ok()?;
    let mut source = [0; 16];
    match src {
        IpAddr::V4(a) => source[..4].copy_from_slice(&a.octets()),
        IpAddr::V6(a) => source = a.octets(),
    }
    m.update(&[if src.is_ipv4() { 4 } else { 6 }, message[0] >> 4, message[1], 0]);
    m.update(&source);
    m.update(&message[..6]);
    m.update(&[0; 2]);
    m.update(&message[8..message.len() - 16]);
    m.update(&[0; 16]);
    Some(m)
}

/// Puts a trailer behind a whole message. The checksum is the caller's, behind that.
pub fn sign(message: &mut Vec<u8>, src: IpAddr, id: u8, key: &[u8], sequence: u64) {
    message.extend_from_slice(&[TYPE, id, 0, 0]);
    message.extend_from_slice(&sequence.to_be_bytes());
    message.extend_from_slice(&[0; 16]);
    if let Some(m) = mac(key, src, message) {
        let at = message.len() - 16;
        message[at..].copy_from_slice(&m.finalize().into_bytes()[..16]);
    }
}

/// Checks the trailer of a message that has one; `key` finds a key by its id.
pub fn verify<'k>(message: &[u8], src: IpAddr, key: impl Fn(u8) -> Option<&'k [u8]>) -> Result<Signed, Reject> {
    if message.len() < 8 + LENGTH {
        return Err(Reject::Length);
    }
    let t = &message[message.len() - LENGTH..];
    if t[0] != TYPE || t[2..4] != [0, 0] {
        return Err(Reject::AuthType);
    }
    let secret = key(t[1]).ok_or(Reject::AuthType)?;
    // Without telling by time how much was right.
    let m = mac(secret, src, message).ok_or(Reject::AuthPass)?;
    m.verify_truncated_left(&t[MAC..]).map_err(|_| Reject::AuthPass)?;
    let mut sequence = [0; 8];
    sequence.copy_from_slice(&t[4..MAC]);
    Ok(Signed { key: t[1], sequence: u64::from_be_bytes(sequence) })
}

/// The sequence number of a moment: seconds in front, the fraction of a second behind, to 2^-16 s. Greater than `last` in any case.
pub fn sequence(since_epoch: Duration, last: u64) -> u64 {
    let fraction = u64::from(since_epoch.subsec_nanos()) * 65_536 / 1_000_000_000;
    let now = (since_epoch.as_secs() << 32) | (fraction << 16);
    now.max(last.saturating_add(1))
}

/// True if a sequence number is no further from `since_epoch` than `window`.
pub fn is_fresh(sequence: u64, since_epoch: Duration, window: Duration) -> bool {
    let sent = Duration::from_secs(sequence >> 32) + Duration::from_nanos(((sequence >> 16) & 0xffff) * 15_259);
    sent.abs_diff(since_epoch) <= window
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        crate::config::keepalived::build::hex(hex).unwrap()
    }

    const ONE: [u8; 32] = [
        0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29,
        30, 31,
    ];
    const NINE: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";

    fn key(id: u8) -> Option<&'static [u8]> {
        match id {
            1 => Some(&ONE),
            9 => Some(NINE),
            _ => None,
        }
    }

    /// As keepalived 2.4.3 sent them: version 3, version 2, IPv6.
    const SEEN: [(&str, &str, u8); 3] = [
        ("10.9.0.1", "31079601003243bf0a090064010100006b0a0b1983e500007cd025b138fa52779ee5437abd75e276", 1),
        (
            "10.9.0.1",
            "2108960100013e870a0900650000000000000000010900006b0a0b1b39170000f9707f819fc3267c26c4070c59e37b92",
            9,
        ),
        (
            "fe80::283b:ecff:fe4e:e476",
            "310996010064b2edfe800000000000000000000000000099010900006b0a0b1b38ec000034432775f2b4baf642abbef947318df9",
            9,
        ),
    ];

    #[test]
    fn what_keepalived_sends_is_taken_and_made() {
        for (src, hex, id) in SEEN {
            let (src, m): (IpAddr, _) = (src.parse().unwrap(), bytes(hex));
            assert_eq!(body_length(&m, src.is_ipv6()), Some(m.len() - LENGTH));
            let s = verify(&m, src, key).unwrap();
            assert_eq!((s.key, s.sequence >> 40), (id, 0x6b0a0b));
            let mut again = m[..m.len() - LENGTH].to_vec();
            sign(&mut again, src, id, key(id).unwrap(), s.sequence);
            assert_eq!(again, m);
            // The checksum may be changed on the way, nothing else.
            for at in 0..m.len() {
                let mut bad = m.clone();
                bad[at] ^= 4;
                assert_eq!(verify(&bad, src, key).is_ok(), (6..8).contains(&at), "{at}");
            }
            assert_eq!(verify(&m, "10.9.0.2".parse().unwrap(), key), Err(Reject::AuthPass));
        }
    }

    #[test]
    fn sequences_grow_and_age() {
        let t = Duration::new(1_795_820_313, 515_214_000);
        assert_eq!(sequence(t, 0), 0x6b0a_0b19_83e5_0000);
        assert_eq!(sequence(t, u64::MAX - 1), u64::MAX);
        assert_eq!(sequence(t, sequence(t, 0)), sequence(t, 0) + 1);
        let s = sequence(t, 0);
        assert!(is_fresh(s, t + Duration::from_secs(5), Duration::from_secs(6)));
        assert!(!is_fresh(s, t + Duration::from_secs(7), Duration::from_secs(6)));
        assert!(!is_fresh(s, t - Duration::from_secs(7), Duration::from_secs(6)));
        assert!(!is_fresh(u64::MAX, t, Duration::from_secs(300)));
        let mut seen = Sequences::default();
        let (a, b) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        assert!(seen.take(a, 5).is_ok() && seen.take(b, 4).is_ok() && seen.take(a, 6).is_ok());
        assert_eq!(seen.take(a, 6), Err(Reject::Replay));
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let src: IpAddr = "10.9.0.1".parse().unwrap();
        let m = bytes(SEEN[0].1);
        for len in 0..m.len() {
            let _ = verify(&m[..len], src, key);
            let _ = body_length(&m[..len], true);
        }
    }
}
