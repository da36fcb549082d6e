//! Addresses as configurations write them, and networks to match clients against.
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A network in CIDR or address/mask form.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct IpNet {
    pub addr: IpAddr,
    pub prefix: u8,
}

impl IpNet {
    pub fn parse(word: &str) -> Option<Self> {
        let (addr, mask) = word.split_once('/').map_or((word, None), |(a, m)| (a, Some(m)));
        let addr: IpAddr = addr.parse().ok()?;
        let full = if addr.is_ipv4() { 32 } else { 128 };
        let prefix = match mask {
            None => full,
            Some(m) => match m.parse::<u8>() {
                Ok(p) if p <= full => p,
                Ok(_) => return None,
                Err(_) => {
                    let bits = u32::from(m.parse::<Ipv4Addr>().ok()?);
                    let ones = bits.leading_ones();
                    if bits.checked_shl(ones).unwrap_or(0) != 0 {
                        return None;
                    }
                    u8::try_from(ones).ok()?
                }
            },
        };
        Some(Self { addr, prefix })
    }

    /// True if `ip` lies in the network; an IPv4-mapped IPv6 address counts as its IPv4 address.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.addr, canonical(ip)) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                u32::from(net) & mask == u32::from(ip) & mask
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                u128::from(net) & mask == u128::from(ip) & mask
            }
            _ => false,
        }
    }
}

impl fmt::Display for IpNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.prefix)
    }
}

/// `::ffff:a.b.c.d` as `a.b.c.d`.
pub fn canonical(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(ip, IpAddr::V4),
        IpAddr::V4(_) => ip,
    }
}

/// Where a proxy listens.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum ListenAddr {
    /// Address and port; `None` is "any address" of the family.
    Inet {
        addr: IpAddr,
        port: u16,
        v4v6: bool,
        device: Option<String>,
    },
    Unix(String),
    /// Linux abstract socket, without the leading NUL; see [`abstract_name`].
    Abstract(String),
    /// An inherited descriptor.
    Fd(i32),
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet { addr: IpAddr::V4(a), port, .. } => write!(f, "{a}:{port}"),
            Self::Inet { addr: IpAddr::V6(a), port, .. } => write!(f, "[{a}]:{port}"),
            Self::Unix(p) => write!(f, "unix@{p}"),
            Self::Abstract(p) => show_abstract(p, f),
            Self::Fd(n) => write!(f, "fd@{n}"),
        }
    }
}

/// Who a connection comes from, as logs say it.
pub fn source_text(a: Option<SocketAddr>) -> String {
    a.map_or_else(|| "unix:1".to_owned(), |a| format!("{}:{}", canonical(a.ip()), a.port()))
}

/// Bytes of an abstract name that fill the whole of a socket's address.
const ABSTRACT: usize = 107;

/// The name of an abstract socket: `abns@` has it filled up with zeros, `abnsz@` as it is.
pub fn abstract_name(name: &str, filled: bool) -> String {
    let zeros = if filled { ABSTRACT.saturating_sub(name.len()) } else { 0 };
    format!("{name}{}", "\0".repeat(zeros))
}

fn show_abstract(name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let family = if name.len() < ABSTRACT { "abnsz" } else { "abns" };
    write!(f, "{family}@{}", name.trim_end_matches('\0'))
}

/// Host part of a server address.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Host {
    Ip(IpAddr),
    /// Resolved once, by the loader.
    Name(String),
    Unix(String),
    Abstract(String),
}

impl Host {
    pub const ANY4: Self = Self::Ip(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    pub const ANY6: Self = Self::Ip(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => write!(f, "{ip}"),
            Self::Name(n) => f.write_str(n),
            Self::Unix(p) => write!(f, "unix@{p}"),
            Self::Abstract(p) => show_abstract(p, f),
        }
    }
}

/// Splits `[prefix@]host[:port]` as HAProxy does (manual 11, "Address formats"): the last colon ends the host, brackets are optional around IPv6.
/// The port is handed back as text: it may be a range, an offset or missing.
pub fn split_host_port(word: &str) -> Result<(Host, Option<&str>), String> {
    let (family, rest) = match word.strip_prefix("stream+").unwrap_or(word).split_once('@') {
        Some(("uxst", r)) => ("unix", r),
        Some((f @ ("ipv4" | "ipv6" | "unix" | "abns" | "abnsz" | "fd" | "tcp4" | "tcp6" | "tcp"), r)) => (f, r),
        Some((f, _)) if !f.is_empty() && f.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'+') => {
            return Err(format!(
                "address family '{f}@' in '{word}' is not served yet; use ipv4@, ipv6@, unix@ or abns@"
            ));
        }
        _ => ("", word),
    };
    if family == "unix" || rest.starts_with('/') {
        return Ok((Host::Unix(rest.to_owned()), None));
    }
    if matches!(family, "abns" | "abnsz") {
        return Ok((Host::Abstract(abstract_name(rest, family == "abns")), None));
    }
    let (host, port) = if let Some(inner) = rest.strip_prefix('[') {
        let (h, tail) = inner.split_once(']').ok_or_else(|| format!("missing ']' in address '{word}'"))?;
        (h, tail.strip_prefix(':'))
    } else {
        match rest.rsplit_once(':') {
            // "::1" alone has no port, but HAProxy takes its last group for one only if what stays is an address or empty or a star.
            Some((h, p)) if h.parse::<Ipv6Addr>().is_ok() || !h.contains(':') => (h, Some(p)),
            Some((":", p)) => ("::", Some(p)),
            Some(_) if rest.parse::<Ipv6Addr>().is_ok() => (rest, None),
            Some((h, p)) => (h, Some(p)),
            None => (rest, None),
        }
    };
    let six = matches!(family, "ipv6" | "tcp6");
    let host = match host {
        "" | "*" if six => Host::ANY6,
        "" | "*" => Host::ANY4,
        h => match h.parse::<IpAddr>() {
            Ok(ip) if six && ip.is_ipv4() => return Err(format!("'{h}' is not an IPv6 address")),
            Ok(ip) if matches!(family, "ipv4" | "tcp4") && ip.is_ipv6() => {
                return Err(format!("'{h}' is not an IPv4 address"));
            }
            Ok(ip) => Host::Ip(ip),
            Err(_) if h.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c)) => Host::Name(h.to_owned()),
            Err(_) => return Err(format!("invalid address: '{h}' in '{word}'")),
        },
    };
    Ok((host, port))
}

/// The range of ports in `80`, `80-90`; an empty range is an error.
pub fn parse_ports(word: &str) -> Result<std::ops::RangeInclusive<u16>, String> {
    let bad = || format!("invalid port '{word}': a number from 1 to 65535 or a range is wanted");
    let (a, b) = word.split_once('-').unwrap_or((word, word));
    let (a, b) = (a.parse::<u16>().map_err(|_| bad())?, b.parse::<u16>().map_err(|_| bad())?);
    if a == 0 || a > b {
        return Err(bad());
    }
    Ok(a..=b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        assert!(IpNet::parse("10.0.0.0/8").unwrap().contains("10.9.8.7".parse().unwrap()));
        assert!(IpNet::parse("10.0.0.0/255.0.0.0").unwrap().contains("::ffff:10.9.8.7".parse().unwrap()));
        assert!(!IpNet::parse("10.0.0.1").unwrap().contains("10.0.0.2".parse().unwrap()));
        assert!(IpNet::parse("0.0.0.0/0").unwrap().contains("1.2.3.4".parse().unwrap()));
        assert!(IpNet::parse("2001:db8::/32").unwrap().contains("2001:db8::1".parse().unwrap()));
        assert_eq!(IpNet::parse("10.0.0.0/33"), None);
        assert_eq!(IpNet::parse("10.0.0.0/255.0.255.0"), None);
    }

    #[test]
    fn addresses() {
        let ok = |w: &str| split_host_port(w).map(|(h, p)| (h.to_string(), p.unwrap_or("-").to_owned())).unwrap();
        for (word, host, port) in [
            ("*:80", "0.0.0.0", "80"),
            (":80", "0.0.0.0", "80"),
            (":::443", "::", "443"),
            ("[::1]:443", "::1", "443"),
            ("::1:443", "::1", "443"),
            ("ipv6@:80", "::", "80"),
            ("10.0.0.1", "10.0.0.1", "-"),
            ("web.example:8080-8090", "web.example", "8080-8090"),
            ("/run/x.sock", "unix@/run/x.sock", "-"),
            ("abns@foo", "abns@foo", "-"),
            ("abnsz@foo", "abnsz@foo", "-"),
        ] {
            assert_eq!(ok(word), (host.to_owned(), port.to_owned()), "{word}");
        }
        assert!(split_host_port("ipv4@::1:80").is_err());
        assert!(split_host_port("quic4@:443").is_err());
        assert!(parse_ports("0").is_err() && parse_ports("90-80").is_err() && parse_ports("70000").is_err());
    }
}
