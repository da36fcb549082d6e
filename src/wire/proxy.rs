//! What a load balancer in front says of its client: the PROXY protocol, versions 1 and 2 (proxy-protocol.txt, 2.1 and 2.2), and NetScaler's
//! client IP header.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What was said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Source and destination; none if the sender speaks for itself, or of a kind of address that has no place here.
    pub pair: Option<(SocketAddr, SocketAddr)>,
    /// Types and values, as they came.
    pub tlvs: Vec<(u8, Vec<u8>)>,
}

impl Header {
    /// The value of the first TLV of a type.
    pub fn tlv(&self, kind: u8) -> Option<&[u8]> {
        self.tlvs.iter().find(|t| t.0 == kind).map(|t| &t.1[..])
    }
}

/// `PP2_TYPE_ALPN`
pub const ALPN: u8 = 0x01;
/// `PP2_TYPE_AUTHORITY`
pub const AUTHORITY: u8 = 0x02;
/// `PP2_TYPE_CRC32C`
pub const CRC32C: u8 = 0x03;
/// `PP2_TYPE_UNIQUE_ID`
pub const UNIQUE_ID: u8 = 0x05;
/// `PP2_TYPE_SSL`, and within it version, common name, cipher, algorithms of signature and key.
pub const SSL: u8 = 0x20;
pub const SSL_VERSION: u8 = 0x21;
pub const SSL_CIPHER: u8 = 0x23;

/// The names of TLV types (manual, `fc_pp_tlv`).
const KINDS: &[(&str, u8)] = &[
    ("ALPN", ALPN),
    ("AUTHORITY", AUTHORITY),
    ("CRC32C", CRC32C),
    ("NOOP", 0x04),
    ("UNIQUE_ID", UNIQUE_ID),
    ("SSL", SSL),
    ("SSL_VERSION", SSL_VERSION),
    ("SSL_CN", 0x22),
    ("SSL_CIPHER", SSL_CIPHER),
    ("SSL_SIG_ALG", 0x24),
    ("SSL_KEY_ALG", 0x25),
    ("NETNS", 0x30),
];

/// A TLV type by name or number.
pub fn kind(text: &str) -> Option<u8> {
    let named = KINDS.iter().find(|k| k.0.eq_ignore_ascii_case(text)).map(|k| k.1);
    named.or_else(|| match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        Some(hex) => u8::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    })
}

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// More than any sender has to say; what claims more is refused.
pub const MAX_HEADER: usize = 16 + 4096;
/// The longest line of version 1.
const MAX_LINE: usize = 107;
const MAX_AUTHORITY: usize = 255;
const MAX_UNIQUE_ID: usize = 128;

const CASTAGNOLI: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);

/// What the bytes of a connection begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// The header, and its length in bytes.
    Whole(Header, usize),
    /// It goes on behind what is there.
    More,
    Bad,
}

/// True if bytes that are no good begin as a header does.
pub fn looks_right(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PROXY ") || bytes.starts_with(SIGNATURE) && bytes.get(12).is_none_or(|c| c >> 4 == 2)
}

/// Reads a header of either version.
pub fn read(bytes: &[u8]) -> Read {
    if bytes.len() >= SIGNATURE.len() && bytes.starts_with(SIGNATURE) {
        return version2(bytes);
    }
    if SIGNATURE.starts_with(bytes) || bytes.len() < 6 && b"PROXY ".starts_with(bytes) {
        return Read::More;
    }
    if !bytes.starts_with(b"PROXY ") {
        return Read::Bad;
    }
    match bytes.windows(2).position(|w| w == b"\r\n") {
        Some(end) if end + 2 <= MAX_LINE => {
            version1(&bytes[..end]).map_or(Read::Bad, |pair| Read::Whole(Header { pair, tlvs: Vec::new() }, end + 2))
        }
        None if bytes.len() < MAX_LINE => Read::More,
        _ => Read::Bad,
    }
}

/// `None`: it breaks the grammar; `Some(None)`: the sender does not say.
fn version1(line: &[u8]) -> Option<Option<(SocketAddr, SocketAddr)>> {
    let text = std::str::from_utf8(line).ok()?;
    let mut words = text.split(' ').skip(1);
    let family = words.next()?;
    if family == "UNKNOWN" {
        return Some(None);
    }
    let (src, dst): (IpAddr, IpAddr) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let (sp, dp): (u16, u16) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let fits = match family {
        "TCP4" => src.is_ipv4() && dst.is_ipv4(),
        "TCP6" => src.is_ipv6() && dst.is_ipv6(),
        _ => false,
    };
    (fits && words.next().is_none()).then(|| Some((SocketAddr::new(src, sp), SocketAddr::new(dst, dp))))
}

fn version2(bytes: &[u8]) -> Read {
    let &[command, family, hi, lo] = match bytes.get(12..16).and_then(|b| <&[u8; 4]>::try_from(b).ok()) {
        Some(b) => b,
        None => return Read::More,
    };
    let len = 16 + usize::from(u16::from_be_bytes([hi, lo]));
    if command >> 4 != 2 || len > MAX_HEADER || command & 0xf > 1 {
        return Read::Bad;
    }
    let Some(whole) = bytes.get(..len) else { return Read::More };
    if command & 0xf == 0 {
        // LOCAL: the sender's own, a health check perhaps; what it says of addresses does not count.
        let said = if family == 0 { tlvs(whole, 16) } else { Some(Vec::new()) };
        return said.map_or(Read::Bad, |tlvs| Read::Whole(Header { pair: None, tlvs }, len));
    }
    let body = &whole[16..];
    let port = |i: usize| u16::from_be_bytes([body[i], body[i + 1]]);
    let (pair, rest) = match family {
        0x11 if body.len() >= 12 => {
            let ip = |i: usize| IpAddr::from(Ipv4Addr::new(body[i], body[i + 1], body[i + 2], body[i + 3]));
            (Some((SocketAddr::new(ip(0), port(8)), SocketAddr::new(ip(4), port(10)))), 12)
        }
        0x21 if body.len() >= 36 => {
            let ip = |i: usize| {
                let mut a = [0; 16];
                a.copy_from_slice(&body[i..i + 16]);
                IpAddr::from(Ipv6Addr::from(a))
            };
            (Some((SocketAddr::new(ip(0), port(32)), SocketAddr::new(ip(16), port(34)))), 36)
        }
        0x11 | 0x21 => return Read::Bad,
        // Other kinds of addresses, and what follows them, are passed over.
        _ => (None, body.len()),
    };
    match tlvs(whole, 16 + rest) {
        Some(tlvs) => Read::Whole(Header { pair, tlvs }, len),
        None => Read::Bad,
    }
}

/// The TLVs from `at` on; `None` if one does not fit, or if the header is not what its sender's checksum says.
fn tlvs(whole: &[u8], mut at: usize) -> Option<Vec<(u8, Vec<u8>)>> {
    let mut all = Vec::new();
    while at < whole.len() {
        let &[kind, hi, lo] = <&[u8; 3]>::try_from(whole.get(at..at + 3)?).ok()?;
        let from = at + 3;
        at = from + usize::from(u16::from_be_bytes([hi, lo]));
        let value = whole.get(from..at)?;
        match kind {
            CRC32C => {
                let said = u32::from_be_bytes(value.try_into().ok()?);
                let mut d = CASTAGNOLI.digest();
                d.update(&whole[..from]);
                d.update(&[0; 4]);
                d.update(&whole[at..]);
                if d.finalize() != said {
                    return None;
                }
            }
            AUTHORITY if value.len() > MAX_AUTHORITY => return None,
            UNIQUE_ID if value.len() > MAX_UNIQUE_ID => return None,
            _ => {}
        }
        all.push((kind, value.to_vec()));
    }
    Some(all)
}

/// Both of one family, IPv4 mapped where the other is IPv6.
fn alike((s, d): (SocketAddr, SocketAddr)) -> (SocketAddr, SocketAddr) {
    let six = |a: SocketAddr| match a.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), a.port()),
        IpAddr::V6(_) => a,
    };
    if s.is_ipv4() == d.is_ipv4() { (s, d) } else { (six(s), six(d)) }
}

/// One line of version 1.
pub fn line(pair: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    match pair.map(alike) {
        Some((s, d)) => {
            let family = if s.is_ipv4() { "TCP4" } else { "TCP6" };
            format!("PROXY {family} {} {} {} {}\r\n", s.ip(), d.ip(), s.port(), d.port()).into_bytes()
        }
        None => b"PROXY UNKNOWN\r\n".to_vec(),
    }
}

/// A header of version 2. Values of 64 kB and more cannot be said and are left out. With `checksum` its last TLV is a CRC32C.
pub fn write(pair: Option<(SocketAddr, SocketAddr)>, tlvs: &[(u8, Vec<u8>)], checksum: bool) -> Vec<u8> {
    let mut body = Vec::new();
    let pair = pair.map(alike);
    let family = match pair {
        Some((SocketAddr::V4(s), SocketAddr::V4(d))) => {
            body.extend_from_slice(&s.ip().octets());
            body.extend_from_slice(&d.ip().octets());
            0x11
        }
        Some((SocketAddr::V6(s), SocketAddr::V6(d))) => {
            body.extend_from_slice(&s.ip().octets());
            body.extend_from_slice(&d.ip().octets());
            0x21
        }
        _ => 0,
    };
    if let Some((s, d)) = pair.filter(|_| family != 0) {
        body.extend_from_slice(&s.port().to_be_bytes());
        body.extend_from_slice(&d.port().to_be_bytes());
    }
    for (kind, value) in tlvs {
        // What does not fit into the length of the whole is left out; the checksum always fits.
        if body.len() + value.len() + 3 + 7 <= usize::from(u16::MAX) {
            put(&mut body, *kind, value);
        }
    }
    if checksum {
        put(&mut body, CRC32C, &[0; 4]);
    }
    let mut out = SIGNATURE.to_vec();
    // Without addresses it is LOCAL: who receives it takes those of the connection.
    out.extend_from_slice(&[if family == 0 { 0x20 } else { 0x21 }, family]);
    out.extend_from_slice(&u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.append(&mut body);
    if checksum {
        let sum = CASTAGNOLI.checksum(&out).to_be_bytes();
        let at = out.len() - 4;
        out[at..].copy_from_slice(&sum);
    }
    out
}

/// Appends one TLV.
pub fn put(out: &mut Vec<u8>, kind: u8, value: &[u8]) {
    let Ok(len) = u16::try_from(value.len()) else { return };
    out.push(kind);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(value);
}

/// Reads NetScaler's client IP header, of which the first four bytes are `magic`: an IP header and the beginning of a TCP header follow.
pub fn read_netscaler(bytes: &[u8], magic: u32) -> Read {
    let number = |i: usize| bytes.get(i..i + 4).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes);
    let Some(said) = number(0) else { return Read::More };
    if said != magic {
        return Read::Bad;
    }
    let Some(second) = number(4) else { return Read::More };
    // The old form has the length of what follows here; the newer one has two lengths, and its own type.
    let (from, len) = match second >> 16 {
        0 => (8, 8 + second as usize),
        _ => (12, usize::from(bytes[4]) << 8 | usize::from(bytes[5])),
    };
    let Some(ip) = bytes.get(from..) else { return Read::More };
    let Some(first) = ip.first() else { return Read::More };
    let (pair, used) = match first >> 4 {
        4 => {
            if ip.len() < 24 {
                return Read::More;
            }
            let tcp = usize::from(first & 0xf) * 4;
            if ip[9] != 6 || tcp < 20 {
                return Read::Bad;
            }
            if ip.len() < tcp + 4 {
                return Read::More;
            }
            let a = |i: usize| IpAddr::from(Ipv4Addr::new(ip[i], ip[i + 1], ip[i + 2], ip[i + 3]));
            let p = |i: usize| u16::from_be_bytes([ip[tcp + i], ip[tcp + i + 1]]);
            ((SocketAddr::new(a(12), p(0)), SocketAddr::new(a(16), p(2))), from + tcp + 4)
        }
        6 => {
            if ip.len() < 44 {
                return Read::More;
            }
            if ip[6] != 6 {
                return Read::Bad;
            }
            let a = |i: usize| {
                let mut o = [0; 16];
                o.copy_from_slice(&ip[i..i + 16]);
                IpAddr::from(Ipv6Addr::from(o))
            };
            let p = |i: usize| u16::from_be_bytes([ip[40 + i], ip[41 + i]]);
            ((SocketAddr::new(a(8), p(0)), SocketAddr::new(a(24), p(2))), from + 44)
        }
        _ => return Read::Bad,
    };
    match len {
        n if n < used || n > MAX_HEADER => Read::Bad,
        n if bytes.len() < n => Read::More,
        n => Read::Whole(Header { pair: Some(pair), tlvs: Vec::new() }, n),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> Option<(SocketAddr, SocketAddr)> {
        Some(("1.2.3.4:5".parse().unwrap(), "6.7.8.9:80".parse().unwrap()))
    }

    #[test]
    fn what_is_written_is_read_at_every_length() {
        let six = Some(("[2001:db8::1]:5".parse().unwrap(), "[::1]:80".parse().unwrap()));
        let said = vec![(AUTHORITY, b"example.com".to_vec()), (UNIQUE_ID, b"id".to_vec()), (0xea, Vec::new())];
        let mixed = pair().zip(six).map(|(a, b)| (a.0, b.1));
        let mapped = mixed.map(|(_, d)| ("[::ffff:1.2.3.4]:5".parse().unwrap(), d));
        for header in [
            (mapped, line(mixed), Vec::new()),
            (mapped, write(mixed, &[], true), Vec::new()),
            (pair(), line(pair()), Vec::new()),
            (None, write(None, &said, true), said.clone()),
            (None, line(None), Vec::new()),
            (six, line(six), Vec::new()),
            (pair(), write(pair(), &[], false), Vec::new()),
            (six, write(six, &said, false), said.clone()),
            (pair(), write(pair(), &said, true), said.clone()),
        ] {
            let (pair, bytes, tlvs) = header;
            for n in 0..bytes.len() {
                assert_eq!(read(&bytes[..n]), Read::More, "{n} of {bytes:?}");
            }
            let Read::Whole(h, len) = read(&[&bytes[..], b"GET"].concat()) else { panic!("{bytes:?}") };
            assert_eq!((h.pair, len), (pair, bytes.len()));
            assert!(tlvs.iter().all(|(k, v)| h.tlv(*k) == Some(v)), "{h:?}");
        }
    }

    #[test]
    fn what_is_broken_is_refused() {
        let mut sum = write(pair(), &[(AUTHORITY, b"a".to_vec())], true);
        sum[20] ^= 1;
        let cut = |tlv: &[u8]| {
            let mut b = write(pair(), &[], false);
            b.extend_from_slice(tlv);
            b[15] += u8::try_from(tlv.len()).unwrap();
            b
        };
        let long = write(pair(), &[(AUTHORITY, vec![b'a'; 256])], false);
        for bad in [
            b"GET / HTTP/1.1\r\n".to_vec(),
            b"PROXY TCP4 1.2.3.4 ::1 5 80\r\n".to_vec(),
            b"PROXY TCP4 1.2.3.4 6.7.8.9 5\r\n".to_vec(),
            b"PROXY TCP5 1.2.3.4 6.7.8.9 5 6\r\n".to_vec(),
            [&b"PROXY UNKNOWN "[..], &[b'x'; 100], b"\r\n"].concat(),
            sum,
            cut(&[0xea, 0, 9, 1]),
            cut(&[0xea, 0]),
            cut(&[CRC32C, 0, 1, 1]),
            long,
        ] {
            assert_eq!(read(&bad), Read::Bad, "{bad:?}");
        }
    }

    #[test]
    fn netscaler_in_both_forms() {
        let mut ip = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 1, 2, 3, 4, 6, 7, 8, 9];
        ip.extend_from_slice(&[0, 5, 0, 80]);
        let old = [&77u32.to_be_bytes()[..], &24u32.to_be_bytes(), &ip].concat();
        let new = [&77u32.to_be_bytes()[..], &[0, 36, 0, 1], &[0, 36, 0, 0], &ip].concat();
        for b in [old, new] {
            let r = read_netscaler(&b, 77);
            let Read::Whole(h, n) = r else { panic!("{r:?}") };
            assert_eq!((h.pair, n), (pair(), b.len()));
            assert!((0..b.len()).all(|n| read_netscaler(&b[..n], 77) == Read::More));
            assert_eq!(read_netscaler(&b, 78), Read::Bad);
        }
    }
}
