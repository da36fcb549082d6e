//! The Common Address Redundancy Protocol, version 2, as ucarp and the BSDs speak it: the same protocol number and groups as VRRP, another message, and an
//! HMAC-SHA1 over it. The format is what ucarp 1.5.2 was seen to send.
//!
//! ```text
//! 0     1     2        3     4       5        6         8              16
//! 0x21  vhid  advskew  7     demote  advbase  checksum  counter (64)   HMAC (160)
//! ```
//! Signed is: 2, 1, vhid, the virtual addresses (IPv4 ones in order, then IPv6 ones in order), and the counter; the key is the password with zeros behind it.
//! Who advertises more often wins: the interval is `advbase` seconds and `advskew` 256ths of one. The state machine counts in priorities, so `advskew` n is
//! priority 254 - n there: 254 for 0, 1 for 253.
use super::packet::{Reject, TTL, checksum};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use std::net::IpAddr;
use std::time::Duration;

pub const LENGTH: usize = 36;
/// A password has at most as many octets.
pub const KEY: usize = 20;
/// Version 2 in front of type 1, an advertisement.
const HEAD: u8 = 0x21;
/// How long counter and HMAC are, in 32-bit words.
const AUTH_WORDS: u8 = 7;
const COUNTER: std::ops::Range<usize> = 8..16;
const MAC: usize = 16;
/// Both at their most: the sender gives the addresses away.
const BOW_OUT: u8 = 255;

/// What the members of a group have in common.
#[derive(Clone, Copy, Debug)]
pub struct Group<'a> {
    /// The virtual host's number, 1 to 255 (`vhid`).
    pub vhid: u8,
    pub key: &'a [u8; KEY],
    /// As they are signed: see [`in_order`].
    pub addrs: &'a [IpAddr],
}

/// What an advert says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advert {
    /// Seconds, 1 to 255.
    pub advbase: u8,
    pub advskew: u8,
}

/// An advert as the state machine takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rank {
    /// 1 to 254; 0 of one that gives its addresses away.
    pub priority: u8,
    pub interval: Duration,
    /// So seldom that it would be taken for dead between two adverts: a backup does not wait for it, as in ucarp.
    pub slow: bool,
    /// Who wins with equal priorities, where the addresses do not decide.
    pub wins_tie: Option<bool>,
}

/// Of two that advertise equally often, ucarp takes the one with the lower address for the better one: lower as the number that a little-endian machine
/// sees in it, of which the last octet counts most.
pub fn goes_before(a: IpAddr, b: IpAddr) -> bool {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => u32::from_le_bytes(a.octets()) < u32::from_le_bytes(b.octets()),
        (a, b) => a < b,
    }
}

/// Addresses in the order in which they are signed.
pub fn in_order(addrs: impl IntoIterator<Item = IpAddr>) -> Vec<IpAddr> {
    // IPv4 addresses sort in front of IPv6 ones.
    let mut all: Vec<IpAddr> = addrs.into_iter().collect();
    all.sort_unstable();
    all.dedup();
    all
}

impl Advert {
    /// What a router of this priority says; 0 gives the addresses away.
    pub fn of(priority: u8, interval: Duration) -> Self {
        match priority {
            0 => Self { advbase: BOW_OUT, advskew: BOW_OUT },
            p => {
                Self { advbase: u8::try_from(interval.as_secs()).unwrap_or(u8::MAX), advskew: 254u8.saturating_sub(p) }
            }
        }
    }

    pub fn interval(self) -> Duration {
        Duration::from_secs(self.advbase.into()) + Duration::from_secs(1) * self.advskew.into() / 256
    }

    /// What it is worth to a router with the interval `own`, which takes a master for dead after `down_adverts` of them, three at least.
    pub fn rank(self, own: Duration, down_adverts: u32) -> Rank {
        let interval = self.interval();
        let base = Duration::from_secs(self.advbase.into());
        let by_skew = 254u8.saturating_sub(self.advskew).max(1);
        let (priority, wins_tie) = if self.advbase == BOW_OUT && self.advskew == BOW_OUT {
            (0, None)
        } else if by_skew == 1 || base == own {
            // Who cannot serve is the last resort, however often it says so.
            (by_skew, None)
        } else if base < own {
            (254, Some(true))
        } else {
            (by_skew.min(2), Some(false))
        };
        Rank { priority, interval, slow: interval > own * down_adverts.max(3), wins_tie }
    }

    /// Parses a message without its IP header. `ttl`: `None` where it is not looked at.
    pub fn parse(b: &[u8], ttl: Option<u8>, g: &Group<'_>) -> Result<Self, Reject> {
        if ttl.is_some_and(|t| t != TTL) {
            return Err(Reject::Ttl);
        }
        if b.len() < 2 {
            return Err(Reject::Length);
        }
        // Another group's on the same wire, or a VRRP router's with another number, is nobody's mistake.
        if b[1] != g.vhid {
            return Err(Reject::Vrid);
        }
        if b[0] != HEAD {
            return Err(if b[0] >> 4 == HEAD >> 4 { Reject::Type } else { Reject::Version });
        }
        if b.len() != LENGTH || b[3] != AUTH_WORDS {
            return Err(Reject::Length);
        }
        // Without a pseudo header in both families.
        if checksum(b, None) != 0 {
            return Err(Reject::Checksum);
        }
        let m = mac(g, &b[COUNTER]).ok_or(Reject::AuthPass)?;
        // Without telling by time how much was right.
        m.verify_slice(&b[MAC..]).map_err(|_| Reject::AuthPass)?;
        if b[5] == 0 {
            return Err(Reject::Interval);
        }
        Ok(Self { advbase: b[5], advskew: b[2] })
    }

    /// Fills `out` with the message. `counter` is another one each time.
    pub fn emit(self, counter: u64, g: &Group<'_>, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&[HEAD, g.vhid, self.advskew, AUTH_WORDS, 0, self.advbase, 0, 0]);
        out.extend_from_slice(&counter.to_be_bytes());
        match mac(g, &counter.to_be_bytes()) {
            Some(m) => out.extend_from_slice(&m.finalize().into_bytes()),
            None => out.extend_from_slice(&[0; 20]),
        }
        let sum = checksum(out, None);
        out[6..8].copy_from_slice(&sum.to_be_bytes());
    }
}

/// `None` cannot be: any length is a key.
fn mac(g: &Group<'_>, counter: &[u8]) -> Option<Hmac<Sha1>> {
    let mut m = Hmac::<Sha1>::new_from_slice(g.key).ok()?;
    m.update(&[HEAD >> 4, HEAD & 15, g.vhid]);
    for a in g.addrs {
        match a {
            IpAddr::V4(a) => m.update(&a.octets()),
            IpAddr::V6(a) => m.update(&a.octets()),
        }
    }
    m.update(counter);
    Some(m)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As ucarp 1.5.2 sent it: password "secret", 10.9.0.100, every second.
    const SEEN: &str = "21330007000111d966f32d59babd6fc299d0f4f4df625bb64b1a1bf7b7fad5bc6888e6ee";
    const KEY_OF: [u8; KEY] = *b"secret\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    const S: Duration = Duration::from_secs(1);

    fn ip(s: &str) -> IpAddr {
        s.parse().unwrap()
    }

    #[test]
    fn what_ucarp_sends_is_taken_and_made() {
        let b = crate::config::keepalived::build::hex(SEEN).unwrap();
        let addrs = [ip("10.9.0.100")];
        let g = Group { vhid: 51, key: &KEY_OF, addrs: &addrs };
        let a = Advert::parse(&b, Some(255), &g).unwrap();
        assert_eq!(a, Advert { advbase: 1, advskew: 0 });
        let mut out = Vec::new();
        a.emit(0x66f3_2d59_babd_6fc2, &g, &mut out);
        assert_eq!(out, b);
        assert_eq!(Advert::parse(&b, Some(254), &g), Err(Reject::Ttl));
        assert_eq!(Advert::parse(&b, None, &Group { vhid: 52, ..g }), Err(Reject::Vrid));
        assert_eq!(Advert::parse(&b, None, &Group { key: &[7; KEY], ..g }), Err(Reject::AuthPass));
        assert_eq!(Advert::parse(&b, None, &Group { addrs: &[], ..g }), Err(Reject::AuthPass));
        assert_eq!(Advert::parse(&b[..35], None, &g), Err(Reject::Length));
        for at in 0..b.len() {
            let mut bad = b.clone();
            bad[at] ^= 4;
            assert!(Advert::parse(&bad, None, &g).is_err(), "{at}");
            for len in 0..at {
                let _ = Advert::parse(&bad[..len], None, &g);
            }
        }
    }

    #[test]
    fn addresses_of_both_families_are_signed_in_order() {
        let addrs = in_order([ip("2001:db8::2"), ip("10.0.0.9"), ip("2001:db8::1"), ip("10.0.0.2"), ip("10.0.0.9")]);
        assert_eq!(addrs, [ip("10.0.0.2"), ip("10.0.0.9"), ip("2001:db8::1"), ip("2001:db8::2")]);
        let g = Group { vhid: 1, key: &KEY_OF, addrs: &addrs };
        let mut out = Vec::new();
        Advert::of(100, S).emit(1, &g, &mut out);
        assert_eq!(Advert::parse(&out, Some(255), &g), Ok(Advert { advbase: 1, advskew: 154 }));
        let turned: Vec<IpAddr> = addrs.iter().rev().copied().collect();
        assert_eq!(Advert::parse(&out, Some(255), &Group { addrs: &turned, ..g }), Err(Reject::AuthPass));
    }

    #[test]
    fn who_advertises_more_often_wins() {
        let rank = |advbase, advskew| Advert { advbase, advskew }.rank(S * 2, 3);
        let priority = |advbase, advskew| rank(advbase, advskew).priority;
        assert_eq!((priority(2, 0), priority(2, 100), priority(2, 253), priority(2, 254)), (254, 154, 1, 1));
        assert_eq!((priority(1, 200), rank(1, 200).wins_tie), (254, Some(true)));
        // Who cannot serve never wins by saying so more often.
        assert_eq!((priority(1, 253), priority(9, 254)), (1, 1));
        assert_eq!((priority(3, 0), rank(3, 0).wins_tie), (2, Some(false)));
        // As slow as its death would be, and no slower.
        assert_eq!((rank(6, 0).slow, rank(6, 1).slow, priority(6, 1), priority(255, 255)), (false, true, 2, 0));
        assert!(!Advert { advbase: 2, advskew: 9 }.rank(S * 2, 1).slow);
        assert_eq!(rank(2, 128).interval, Duration::from_millis(2500));
        assert!(goes_before(ip("10.0.1.3"), ip("10.0.0.200")) && !goes_before(ip("10.0.0.200"), ip("10.0.1.3")));
        assert_eq!(Advert::of(0, S), Advert { advbase: 255, advskew: 255 });
        for p in 1..=254 {
            assert_eq!(Advert::of(p, S * 2).rank(S * 2, 3).priority, p);
        }
    }
}
