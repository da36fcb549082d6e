//! keepalived's virtual servers as the proxy serves them (keepalived.conf(5), "Virtual server(s)").
use super::model::Source;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// What a section that was a `virtual_server` block knows beside the words of every proxy.
#[derive(Clone, Debug, PartialEq)]
pub struct VirtualServer {
    pub persistence: Option<Persistence>,
    /// Total weight of live servers without which the `sorry_server` takes their place.
    pub quorum: u32,
    /// So much more is needed to gain it, and so much less to lose it.
    pub hysteresis: u32,
    /// `ops`: a server is chosen for each datagram.
    pub one_packet: bool,
}

/// `persistence_timeout`, `persistence_granularity`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Persistence {
    pub timeout: Duration,
    /// Addresses with so many bits in common are one client.
    pub prefix: u8,
}

impl Persistence {
    /// What is remembered of a client.
    pub fn key(&self, ip: IpAddr) -> IpAddr {
        match ip {
            IpAddr::V4(a) => {
                let keep = u32::MAX.checked_shl(32 - u32::from(self.prefix.min(32))).unwrap_or(0);
                IpAddr::V4((u32::from(a) & keep).into())
            }
            IpAddr::V6(a) => {
                let keep = u128::MAX.checked_shl(128 - u32::from(self.prefix.min(128))).unwrap_or(0);
                IpAddr::V6((u128::from(a) & keep).into())
            }
        }
    }
}

/// One checker of a `real_server`. All of them have to be content.
#[derive(Clone, Debug)]
pub struct Checker {
    /// `TCP_CHECK`, `HTTP_GET`, ...
    pub name: &'static str,
    pub probe: Probe,
    /// `connect_ip`, `connect_port`
    pub to: (Option<IpAddr>, Option<u16>),
    /// `bindto`, `bind_port`, `bind_if`
    pub from: Option<Arc<Source>>,
    /// `connect_timeout`
    pub timeout: Duration,
    /// `retry`: failures behind the first one before it counts.
    pub retry: u32,
    /// `delay_before_retry`
    pub retry_delay: Duration,
    /// `delay_loop`
    pub every: Duration,
    /// `warmup`: the first check comes within so much time.
    pub warmup: Duration,
    /// `alpha`: the server is down until this was content.
    pub alpha: bool,
    /// `fast_recovery`: no pause between the URLs of one that comes back.
    pub fast_recovery: bool,
}

#[derive(Clone, Debug)]
pub enum Probe {
    Tcp,
    Http(Box<HttpProbe>),
    Smtp {
        helo: String,
    },
    Dns {
        /// As in the packet.
        kind: u16,
        name: String,
    },
    Udp(Box<UdpProbe>),
    Ping,
    /// Told by the guardian: a script (`MISC_CHECK`), a file (`FILE_CHECK`), a neighbour (`BFD_CHECK`); the key of it.
    Outside(String),
}

#[derive(Clone, Debug)]
pub struct HttpProbe {
    pub tls: bool,
    /// `enable_sni`, `sni_name`
    pub sni: Option<String>,
    pub version: HttpVersion,
    pub urls: Vec<Url>,
}

/// `http_protocol`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HttpVersion {
    #[default]
    V10,
    /// With `Connection: close`.
    V10C,
    V11,
}

#[derive(Clone, Debug)]
pub struct Url {
    pub path: String,
    pub host: Option<String>,
    /// MD5 of the answer's body.
    pub digest: Option<[u8; 16]>,
    pub status: Vec<(u16, u16)>,
    /// `regex`, and whether it must not match.
    pub regex: Option<(regex::bytes::Regex, bool)>,
    /// `regex_min_offset`, `regex_max_offset`: where a match may begin.
    pub offsets: (usize, Option<usize>),
}

#[derive(Clone, Debug, Default)]
pub struct UdpProbe {
    /// None: something random.
    pub payload: Option<Vec<u8>>,
    /// An answer is wanted: octets, and which of their bits count.
    pub reply: Option<Vec<(u8, u8)>>,
    pub min: usize,
    pub max: usize,
}

/// What the guardian knows of something that servers are checked by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Fact {
    pub up: bool,
    /// What it adds to the server's weight (`misc_dynamic`, `dynamic`).
    pub weight: i32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_of_one_network_are_one() {
        let p = |prefix| Persistence { timeout: Duration::ZERO, prefix };
        let ip = |t: &str| t.parse::<IpAddr>().unwrap();
        assert_eq!(p(24).key(ip("10.1.2.3")), ip("10.1.2.0"));
        assert_eq!(p(32).key(ip("10.1.2.3")), ip("10.1.2.3"));
        assert_eq!(p(0).key(ip("10.1.2.3")), ip("0.0.0.0"));
        assert_eq!(p(64).key(ip("2001:db8::1")), ip("2001:db8::"));
        assert_eq!(p(128).key(ip("2001:db8::1")), ip("2001:db8::1"));
    }
}
