//! Resolving server names when a configuration is loaded: /etc/hosts, then the name servers of resolv.conf. Our own, because a static binary has no NSS.
use hickory_proto::op::ResponseCode;
use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::str::FromStr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A whole look-up takes no longer.
const LIMIT: Duration = Duration::from_secs(5);
const PER_TRY: Duration = Duration::from_millis(1500);

/// Look-ups at a time.
const AT_ONCE: usize = 16;

/// Addresses of many names, looked up side by side; IPv4 ones first.
pub fn lookup_all<'a>(names: impl Iterator<Item = &'a String>) -> BTreeMap<String, Vec<IpAddr>> {
    let todo: Mutex<Vec<&String>> = Mutex::new(names.collect());
    let found = Mutex::new(BTreeMap::new());
    let next = || todo.lock().ok()?.pop();
    std::thread::scope(|s| {
        let workers = todo.lock().map_or(0, |t| t.len()).min(AT_ONCE);
        for _ in 0..workers {
            s.spawn(|| {
                while let Some(n) = next() {
                    let v = lookup(n);
                    if let Ok(mut f) = found.lock() {
                        f.insert(n.clone(), v);
                    }
                }
            });
        }
    });
    found.into_inner().unwrap_or_default()
}

/// Addresses of `name`, IPv4 ones first.
fn lookup(name: &str) -> Vec<IpAddr> {
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

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    V4,
    V6,
    /// Service records (RFC 2782).
    Service,
}

impl Kind {
    fn record(self) -> RecordType {
        match self {
            Self::V4 => RecordType::A,
            Self::V6 => RecordType::AAAA,
            Self::Service => RecordType::SRV,
        }
    }
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    NoSuchName,
    Refused,
    Timeout,
    Other,
}

/// What a name server knew.
#[derive(Debug, Default)]
pub struct Answer {
    /// Of the family that was asked for.
    pub addresses: Vec<IpAddr>,
    /// Names, in lower case and with the dot at their end, with the addresses that came along (RFC 2782).
    pub additional: Vec<(String, IpAddr)>,
    pub services: Vec<Service>,
    pub truncated: bool,
}

#[derive(Debug)]
pub struct Service {
    /// Spelled as in [`Answer::additional`].
    pub target: String,
    pub port: u16,
    pub weight: u16,
}

impl Answer {
    pub fn addresses_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = IpAddr> + 'a {
        self.additional.iter().filter(move |a| a.0 == name).map(|a| a.1)
    }
}

/// A question on the wire and its number. `payload`: how large an answer may be (RFC 6891). `None` if that is no name.
pub fn question(name: &str, kind: Kind, payload: u16) -> Option<(u16, Vec<u8>)> {
    let mut fqdn = Name::from_str(name).ok()?;
    fqdn.set_fqdn(true);
    let mut m = Message::query();
    m.metadata.recursion_desired = true;
    m.add_query(Query::query(fqdn, kind.record()));
    let mut edns = hickory_proto::op::Edns::new();
    edns.set_max_payload(payload);
    m.set_edns(edns);
    Some((m.metadata.id, m.to_vec().ok()?))
}

/// Reads an answer; `None` if it is not one to question `id` for `kind` of `name`.
pub fn answer(bytes: &[u8], id: u16, name: &str, kind: Kind) -> Option<Result<Answer, Failure>> {
    let m = Message::from_vec(bytes).ok()?;
    let mut fqdn = Name::from_str(name).ok()?;
    fqdn.set_fqdn(true);
    let kind = kind.record();
    let asked = m.queries.first().is_some_and(|q| q.query_type() == kind && q.name().eq_ignore_root(&fqdn));
    if m.metadata.id != id || m.metadata.message_type != hickory_proto::op::MessageType::Response || !asked {
        return None;
    }
    match m.metadata.response_code {
        ResponseCode::NoError => {}
        ResponseCode::NXDomain => return Some(Err(Failure::NoSuchName)),
        ResponseCode::Refused => return Some(Err(Failure::Refused)),
        _ => return Some(Err(Failure::Other)),
    }
    let mut out = Answer { truncated: m.metadata.truncation, ..Answer::default() };
    let ip = |data: &RData| match data {
        RData::A(a) => Some(IpAddr::V4(a.0)),
        RData::AAAA(a) => Some(IpAddr::V6(a.0)),
        _ => None,
    };
    // An alias (CNAME) may stand between the name and its addresses: those of the answer section are meant, whatever they are called.
    for r in m.answers.iter().filter(|r| r.record_type() == kind) {
        out.addresses.extend(ip(&r.data));
        if let RData::SRV(s) = &r.data {
            let target = s.target.to_lowercase().to_string();
            out.services.push(Service { target, port: s.port, weight: s.weight });
        }
    }
    out.additional =
        m.additionals.iter().filter_map(|r| Some((r.name.to_lowercase().to_string(), ip(&r.data)?))).collect();
    Some(Ok(out))
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
    let question = m.to_vec().ok()?;
    let usable = |bytes: &[u8]| {
        let answer = Message::from_vec(bytes).ok().filter(|a| a.metadata.id == id)?;
        // A server that failed or refuses says nothing about the name: the next one may know.
        matches!(answer.metadata.response_code, ResponseCode::NoError | ResponseCode::NXDomain).then_some(answer)
    };
    let mut answer = usable(&by_udp(&question, server, left)?)?;
    if answer.metadata.truncation {
        // The whole answer does not fit into a datagram (RFC 7766).
        answer = usable(&by_tcp(&question, server, deadline.checked_duration_since(Instant::now())?)?)?;
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

fn by_udp(question: &[u8], server: SocketAddr, limit: Duration) -> Option<Vec<u8>> {
    let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(server).ok()?;
    socket.set_read_timeout(Some(limit.max(Duration::from_millis(1)))).ok()?;
    socket.send(question).ok()?;
    let mut buf = vec![0u8; 4096];
    let n = socket.recv(&mut buf).ok()?;
    buf.truncate(n);
    Some(buf)
}

/// Over TCP, each message has its length before it (RFC 1035 4.2.2).
fn by_tcp(question: &[u8], server: SocketAddr, limit: Duration) -> Option<Vec<u8>> {
    let limit = limit.max(Duration::from_millis(1));
    let mut s = TcpStream::connect_timeout(&server, limit).ok()?;
    s.set_read_timeout(Some(limit)).ok()?;
    let mut out = u16::try_from(question.len()).ok()?.to_be_bytes().to_vec();
    out.extend_from_slice(question);
    s.write_all(&out).ok()?;
    let mut len = [0u8; 2];
    s.read_exact(&mut len).ok()?;
    let mut answer = vec![0u8; usize::from(u16::from_be_bytes(len))];
    s.read_exact(&mut answer).ok()?;
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name server for one question a time, by `answer`.
    fn server(answer: impl Fn(Message) -> Message + Send + 'static) -> SocketAddr {
        let s = UdpSocket::bind("127.0.0.1:0").unwrap();
        let at = s.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut buf = [0u8; 512];
            while let Ok((n, from)) = s.recv_from(&mut buf) {
                let a = answer(Message::from_vec(&buf[..n]).unwrap());
                s.send_to(&a.to_vec().unwrap(), from).unwrap();
            }
        });
        at
    }

    fn reply(q: &Message, code: ResponseCode) -> Message {
        let mut m = q.clone();
        m.metadata.message_type = hickory_proto::op::MessageType::Response;
        m.metadata.response_code = code;
        m
    }

    #[test]
    fn a_server_that_failed_has_said_nothing_about_the_name() {
        let end = || Instant::now() + LIMIT;
        let broken = server(|q| reply(&q, ResponseCode::ServFail));
        assert_eq!(ask("a.example", RecordType::A, broken, end()), None);
        let empty = server(|q| reply(&q, ResponseCode::NXDomain));
        assert_eq!(ask("a.example", RecordType::A, empty, end()), Some(Vec::new()));
    }

    #[test]
    fn only_what_was_asked_for_is_an_address() {
        use hickory_proto::rr::{Record, rdata};
        let (id, bytes) = question("app.example", Kind::V4, 512).unwrap();
        let q = Message::from_vec(&bytes).unwrap();
        assert!(answer(&bytes, id, "app.example", Kind::V4).is_none(), "a question is no answer");
        let mut m = reply(&q, ResponseCode::NoError);
        let a = |name: &str, last| {
            let ip = rdata::A([10, 0, 0, last].into());
            Record::from_rdata(Name::from_str(name).unwrap(), 5, RData::A(ip))
        };
        m.add_answer(a("app.example.", 5));
        m.additionals.push(a("ns.example.", 53));
        let bytes = m.to_vec().unwrap();
        let got = answer(&bytes, id, "app.example", Kind::V4).unwrap().unwrap();
        assert_eq!(got.addresses, [IpAddr::from([10, 0, 0, 5])]);
        assert_eq!(got.addresses_of("ns.example.").collect::<Vec<_>>(), [IpAddr::from([10, 0, 0, 53])]);
        assert!(answer(&bytes, id, "other.example", Kind::V4).is_none());
        assert!(answer(&bytes, id, "app.example", Kind::V6).is_none());
        assert!(answer(&bytes, id.wrapping_add(1), "app.example", Kind::V4).is_none());
    }

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
