//! keepalived's virtual servers as the proxy serves them (keepalived.conf(5), "Virtual server(s)").
pub use crate::health::pulse::{Checker, HttpProbe, HttpVersion, Origin, Probe, UdpProbe, Url};
use std::net::IpAddr;
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
    /// Its scheduler knows no weights but nothing.
    pub level: bool,
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
