//! Resolving server names when a configuration is loaded: /etc/hosts, then the name servers of resolv.conf. Our own, because a static binary has no NSS.
use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::str::FromStr;
use std::time::{Duration, Instant};

/// A whole look-up takes no longer.
const LIMIT: Duration = Duration::from_secs(5);
const PER_TRY: Duration = Duration::from_millis(1500);

/// Addresses of `name`, IPv4 ones first.
pub fn lookup(name: &str) -> Vec<IpAddr> {
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let found = from_hosts(&hosts, name);
    if !found.is_empty() {
        return found;
    }
    if name.eq_ignore_ascii_case("localhost") {
        return vec![IpAddr::from([127, 0, 0, 1])];
    }
    let conf = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let (servers, search) = resolv_conf(&conf);
    let deadline = Instant::now() + LIMIT;
    let mut names: Vec<String> = Vec::new();
    if name.contains('.') {
        names.push(name.to_owned());
    }
    names.extend(search.iter().map(|s| format!("{name}.{s}")));
    names.push(name.to_owned());
    for full in names {
        let mut out = Vec::new();
        for kind in [RecordType::A, RecordType::AAAA] {
            for server in &servers {
                match ask(&full, kind, *server, deadline) {
                    Some(v) => {
                        out.extend(v);
                        break;
                    }
                    None if Instant::now() >= deadline => return out,
                    None => {}
                }
            }
        }
        if !out.is_empty() {
            return out;
        }
    }
    Vec::new()
}

fn from_hosts(text: &str, name: &str) -> Vec<IpAddr> {
    let mut v: Vec<IpAddr> = text
        .lines()
        .filter_map(|l| {
            let mut w = l.split('#').next()?.split_whitespace();
            let ip = w.next()?.parse().ok()?;
            w.any(|h| h.eq_ignore_ascii_case(name)).then_some(ip)
        })
        .collect();
    v.sort_by_key(IpAddr::is_ipv6);
    v
}

fn resolv_conf(text: &str) -> (Vec<SocketAddr>, Vec<String>) {
    let (mut servers, mut search) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let mut w = line.split_whitespace();
        match w.next() {
            Some("nameserver") => servers.extend(
                w.next().and_then(|a| a.split('%').next()?.parse::<IpAddr>().ok()).map(|ip| SocketAddr::new(ip, 53)),
            ),
            Some("search" | "domain") => search = w.map(str::to_owned).collect(),
            _ => {}
        }
    }
    (servers, search)
}

/// One question to one server. `None`: no usable answer; an empty list: the name has no such address.
fn ask(name: &str, kind: RecordType, server: SocketAddr, deadline: Instant) -> Option<Vec<IpAddr>> {
    let left = deadline.checked_duration_since(Instant::now())?.min(PER_TRY);
    let mut fqdn = Name::from_str(name).ok()?;
    fqdn.set_fqdn(true);
    let mut m = Message::query();
    m.metadata.recursion_desired = true;
    m.add_query(Query::query(fqdn, kind));
    let id = m.metadata.id;
    let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(server).ok()?;
    socket.set_read_timeout(Some(left.max(Duration::from_millis(1)))).ok()?;
    socket.send(&m.to_vec().ok()?).ok()?;
    let mut buf = [0u8; 4096];
    let n = socket.recv(&mut buf).ok()?;
    let answer = Message::from_vec(&buf[..n]).ok()?;
    if answer.metadata.id != id {
        return None;
    }
    Some(
        answer
            .answers
            .iter()
            .filter_map(|r| match &r.data {
                RData::A(a) => Some(IpAddr::V4(a.0)),
                RData::AAAA(a) => Some(IpAddr::V6(a.0)),
                _ => None,
            })
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files() {
        assert_eq!(
            from_hosts("127.0.0.1 a b # c\n::1 a\n", "A"),
            ["127.0.0.1".parse::<IpAddr>().unwrap(), "::1".parse().unwrap()]
        );
        let (s, d) = resolv_conf("# x\nsearch a.example b.example\nnameserver 10.0.0.1\nnameserver fe80::1%eth0\n");
        assert_eq!((s.len(), d.len()), (2, 2));
    }
}
