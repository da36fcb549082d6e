//! The VRRP advertisement on the wire (RFC 3768 5.1, RFC 5798 5.1): `parse` rejects with a reason, `emit` fills.
use super::timing::Version;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// IP protocol number.
pub const PROTOCOL: u8 = 112;
pub const GROUP4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
pub const GROUP6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);
/// Adverts never cross a router.
pub const TTL: u8 = 255;
const TYPE_ADVERTISEMENT: u8 = 1;

/// A valid advertisement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advert {
    pub version: Version,
    pub vrid: u8,
    pub priority: u8,
    pub interval: Duration,
    pub addrs: Vec<IpAddr>,
    /// VRRPv2 only: authentication type and data.
    pub auth: (u8, [u8; 8]),
}

/// Authentication types of VRRPv2 (RFC 2338, 5.3.6): a clear-text password, or the IP authentication header.
pub const AUTH_SIMPLE: u8 = 1;
pub const AUTH_HEADER: u8 = 2;

/// Why a packet was dropped; each has its counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    Length,
    Ttl,
    Version,
    Type,
    Checksum,
    Vrid,
    AuthType,
    AuthPass,
    /// VRRPv2: the interval differs from ours.
    Interval,
    Addresses,
    /// Its number was used before: somebody sends an old packet again.
    Replay,
    /// Version 2 of what its sender says in version 3 as well.
    Twice,
}

impl Reject {
    /// For counters and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::Ttl => "ttl",
            Self::Version => "version",
            Self::Type => "type",
            Self::Checksum => "checksum",
            Self::Vrid => "vrid",
            Self::AuthType => "authentication type",
            Self::AuthPass => "password",
            Self::Interval => "advert interval",
            Self::Addresses => "addresses",
            Self::Replay => "sequence number",
            Self::Twice => "version 2 beside 3",
        }
    }
}

/// The authentication that a VRRPv2 packet has to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof<'a> {
    None,
    Pass(&'a [u8; 8]),
    /// The authentication header is checked already; the message only names it.
    Header,
}

/// What a packet is checked against.
pub struct Expect<'a> {
    pub version: Version,
    pub vrid: u8,
    pub src: IpAddr,
    pub dst: IpAddr,
    /// TTL or hop limit as received; `None` where it is not checked (unicast).
    pub ttl: Option<u8>,
    pub auth: Proof<'a>,
    /// Our interval, for the VRRPv2 comparison.
    pub interval: Duration,
    /// `v3_checksum_as_v2`
    pub plain_checksum: bool,
    /// Octets at the end that are a verified trailer ([`super::trailer`]), and no part of the advert.
    pub signed: usize,
}

impl Advert {
    /// Parses a VRRP message (without the IP header).
    pub fn parse(b: &[u8], e: &Expect<'_>) -> Result<Self, Reject> {
        if e.ttl.is_some_and(|t| t != TTL) {
            return Err(Reject::Ttl);
        }
        let whole = b;
        let b = &b[..b.len().saturating_sub(e.signed)];
        if b.len() < 8 {
            return Err(Reject::Length);
        }
        let version = match b[0] >> 4 {
            2 => Version::V2,
            3 => Version::V3,
            _ => return Err(Reject::Version),
        };
        if version != e.version {
            return Err(Reject::Version);
        }
        if b[0] & 0x0f != TYPE_ADVERTISEMENT {
            return Err(Reject::Type);
        }
        if b[1] != e.vrid {
            return Err(Reject::Vrid);
        }
        let count = usize::from(b[3]);
        let each = if e.src.is_ipv4() { 4 } else { 16 };
        let tail = if version == Version::V2 { 8 } else { 0 };
        if b.len() != 8 + count * each + tail {
            return Err(Reject::Length);
        }
        let pseudo = version == Version::V3 && !(e.src.is_ipv4() && e.plain_checksum);
        // Over IPv6 it covers what is behind the advert as well.
        let covered = if e.src.is_ipv6() { whole } else { b };
        if checksum(covered, pseudo.then_some((e.src, e.dst))) != 0 {
            return Err(Reject::Checksum);
        }
        let addrs = b[8..8 + count * each]
            .chunks_exact(each)
            .map(|c| match c {
                [a, b, c, d] => IpAddr::from([*a, *b, *c, *d]),
                six => IpAddr::from(<[u8; 16]>::try_from(six).unwrap_or_default()),
            })
            .collect();
        let (interval, auth) = match version {
            Version::V2 => {
                let mut data = [0; 8];
                data.copy_from_slice(&b[8 + count * each..]);
                let auth = (b[4], data);
                let wanted = match e.auth {
                    Proof::None => 0,
                    Proof::Pass(_) => AUTH_SIMPLE,
                    Proof::Header => AUTH_HEADER,
                };
                if b[4] != wanted {
                    return Err(Reject::AuthType);
                }
                if matches!(e.auth, Proof::Pass(pass) if *pass != data) {
                    return Err(Reject::AuthPass);
                }
                let interval = Duration::from_secs(b[5].into());
                if interval != e.interval {
                    return Err(Reject::Interval);
                }
                (interval, auth)
            }
            // There is no such packet: the version above is 2 or 3.
            Version::Carp => return Err(Reject::Version),
            Version::V3 => {
                let centis = u64::from(u16::from_be_bytes([b[4] & 0x0f, b[5]]));
                if centis == 0 {
                    return Err(Reject::Interval);
                }
                (Duration::from_millis(centis * 10), (0, [0; 8]))
            }
        };
        Ok(Self { version, vrid: b[1], priority: b[2], interval, addrs, auth })
    }

    /// Fills `out` with the message.
    pub fn emit(&self, src: IpAddr, dst: IpAddr, plain_checksum: bool, out: &mut Vec<u8>) {
        out.clear();
        let (v, word) = match self.version {
            Version::V2 => (2u8, [self.auth.0, u8::try_from(self.interval.as_secs()).unwrap_or(u8::MAX)]),
            Version::V3 | Version::Carp => {
                let centis = u16::try_from(self.interval.as_millis() / 10).unwrap_or(0x0fff).min(0x0fff);
                (3u8, centis.to_be_bytes())
            }
        };
        out.extend_from_slice(&[
            v << 4 | TYPE_ADVERTISEMENT,
            self.vrid,
            self.priority,
            u8::try_from(self.addrs.len()).unwrap_or(u8::MAX),
            word[0],
            word[1],
            0,
            0,
        ]);
        for a in &self.addrs {
            match a {
                IpAddr::V4(a) => out.extend_from_slice(&a.octets()),
                IpAddr::V6(a) => out.extend_from_slice(&a.octets()),
            }
        }
        if self.version == Version::V2 {
            out.extend_from_slice(&self.auth.1);
        }
        let pseudo = self.version == Version::V3 && !(src.is_ipv4() && plain_checksum);
        let sum = checksum(out, pseudo.then_some((src, dst)));
        out[6..8].copy_from_slice(&sum.to_be_bytes());
    }
}

/// The checksum of an IPv6 advert anew, with a trailer behind it.
pub fn sum_up(message: &mut [u8], src: IpAddr, dst: IpAddr) {
    message[6..8].fill(0);
    let sum = checksum(message, Some((src, dst)));
    message[6..8].copy_from_slice(&sum.to_be_bytes());
}

/// The Internet checksum (RFC 1071) over the message, with the pseudo header of VRRPv3 when addresses are given. Zero means valid.
pub(super) fn checksum(b: &[u8], pseudo: Option<(IpAddr, IpAddr)>) -> u16 {
    let mut sum: u32 = 0;
    let mut add = |bytes: &[u8]| {
        for c in bytes.chunks(2) {
            sum += u32::from(u16::from_be_bytes([c[0], c.get(1).copied().unwrap_or(0)]));
        }
    };
    add(b);
    if let Some((src, dst)) = pseudo {
        for ip in [src, dst] {
            match ip {
                IpAddr::V4(a) => add(&a.octets()),
                IpAddr::V6(a) => add(&a.octets()),
            }
        }
        add(&[0, PROTOCOL]);
        add(&u16::try_from(b.len()).unwrap_or(u16::MAX).to_be_bytes());
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SRC: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    const DST: IpAddr = IpAddr::V4(GROUP4);

    fn expect(version: Version) -> Expect<'static> {
        Expect {
            version,
            vrid: 51,
            src: SRC,
            dst: DST,
            ttl: Some(255),
            auth: Proof::None,
            interval: Duration::from_secs(1),
            plain_checksum: false,
            signed: 0,
        }
    }

    // VRID 51, priority 101, one address 10.0.0.100, one second, as keepalived sends it.
    const V2: [u8; 20] = [0x21, 51, 101, 1, 0, 1, 0x6f, 0x66, 10, 0, 0, 100, 0, 0, 0, 0, 0, 0, 0, 0];

    fn advert(version: Version) -> Advert {
        Advert {
            version,
            vrid: 51,
            priority: 101,
            interval: Duration::from_secs(1),
            addrs: vec!["10.0.0.100".parse().unwrap()],
            auth: (0, [0; 8]),
        }
    }

    #[test]
    fn v2_bytes_both_ways() {
        let mut out = vec![0xa5; 64];
        advert(Version::V2).emit(SRC, DST, false, &mut out);
        assert_eq!(out, V2);
        assert_eq!(Advert::parse(&V2, &expect(Version::V2)), Ok(advert(Version::V2)));
    }

    #[test]
    fn v3_covers_the_pseudo_header_unless_told_otherwise() {
        let mut out = Vec::new();
        advert(Version::V3).emit(SRC, DST, false, &mut out);
        assert_eq!(&out[..6], [0x31, 51, 101, 1, 0, 100]);
        assert_eq!(Advert::parse(&out, &expect(Version::V3)), Ok(advert(Version::V3)));
        assert_eq!(Advert::parse(&out, &Expect { dst: SRC, ..expect(Version::V3) }), Err(Reject::Checksum));
        advert(Version::V3).emit(SRC, DST, true, &mut out);
        assert_eq!(Advert::parse(&out, &expect(Version::V3)), Err(Reject::Checksum));
        assert!(Advert::parse(&out, &Expect { plain_checksum: true, ..expect(Version::V3) }).is_ok());
    }

    #[test]
    fn each_defect_has_its_reason() {
        let flip = |at: usize, v: u8| {
            let mut b = V2;
            b[at] = v;
            b
        };
        let p = |b: &[u8]| Advert::parse(b, &expect(Version::V2)).unwrap_err();
        assert_eq!(p(&V2[..19]), Reject::Length);
        assert_eq!(p(&V2[..7]), Reject::Length);
        assert_eq!(p(&flip(0, 0x41)), Reject::Version);
        assert_eq!(p(&flip(0, 0x22)), Reject::Type);
        assert_eq!(p(&flip(1, 52)), Reject::Vrid);
        assert_eq!(p(&flip(3, 2)), Reject::Length);
        assert_eq!(p(&flip(6, 0)), Reject::Checksum);
        assert_eq!(Advert::parse(&V2, &Expect { ttl: Some(64), ..expect(Version::V2) }), Err(Reject::Ttl));
        assert_eq!(
            Advert::parse(&V2, &Expect { auth: Proof::Pass(b"1111\0\0\0\0"), ..expect(Version::V2) }),
            Err(Reject::AuthType)
        );
        assert_eq!(
            Advert::parse(&V2, &Expect { interval: Duration::from_secs(2), ..expect(Version::V2) }),
            Err(Reject::Interval)
        );
    }

    #[test]
    fn passwords() {
        let mut a = advert(Version::V2);
        a.auth = (AUTH_SIMPLE, *b"1111\0\0\0\0");
        let mut out = Vec::new();
        a.emit(SRC, DST, false, &mut out);
        assert_eq!(Advert::parse(&out, &Expect { auth: Proof::Pass(b"1111\0\0\0\0"), ..expect(Version::V2) }), Ok(a));
        assert_eq!(
            Advert::parse(&out, &Expect { auth: Proof::Pass(b"2222\0\0\0\0"), ..expect(Version::V2) }),
            Err(Reject::AuthPass)
        );
        assert_eq!(Advert::parse(&out, &expect(Version::V2)), Err(Reject::AuthType));
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut seed = 7u64;
        for len in 0..64usize {
            for _ in 0..500 {
                let b: Vec<u8> = (0..len)
                    .map(|_| {
                        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                        (seed >> 56) as u8
                    })
                    .collect();
                for v in [Version::V2, Version::V3] {
                    let _ = Advert::parse(&b, &expect(v));
                }
            }
        }
    }
}
