//! Options of TCP sockets, in the order in which HAProxy sets them (configuration manual 4.2, `source`; 5.1 and 5.2, `mss`, `tcp-ut`, `tfo`, ...).
use crate::config::model::{Keepalive, SocketOptions};
use crate::rules::sample::TcpFact;
use socket2::SockRef;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};

/// Seconds that a connection without data waits in the kernel (`defer-accept`), as there.
const DEFER: i32 = 1;

fn set<T>(fd: BorrowedFd<'_>, level: i32, name: i32, value: &T) -> io::Result<()> {
    let len = libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0);
    // SAFETY: the kernel reads `len` bytes of `value`, which lives over the call; `T` is an integer or a C structure.
    match unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), len) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A socket that may be bound to, or take, addresses that are not this host's.
fn transparent(fd: BorrowedFd<'_>, v4: bool) -> io::Result<()> {
    match v4 {
        true => set(fd, libc::SOL_IP, libc::IP_TRANSPARENT, &1i32),
        false => set(fd, libc::SOL_IPV6, libc::IPV6_TRANSPARENT, &1i32),
    }
}

/// `struct tcp_md5sig` of linux/tcp.h.
#[repr(C, align(8))]
struct Md5Sig {
    /// A socket address, with room for any.
    addr: [u8; 128],
    flags: u8,
    prefix: u8,
    key_len: u16,
    interface: i32,
    key: [u8; 80],
}

/// `tcp-md5sig` (RFC 2385): segments from and to this address carry a digest made with the key.
fn md5(fd: BorrowedFd<'_>, peer: SocketAddr, key: &str) -> io::Result<()> {
    let mut addr = [0; 128];
    let (family, at, ip) = match peer.ip() {
        IpAddr::V4(ip) => (libc::AF_INET, 4, ip.octets().to_vec()),
        IpAddr::V6(ip) => (libc::AF_INET6, 8, ip.octets().to_vec()),
    };
    addr[..2].copy_from_slice(&u16::try_from(family).unwrap_or(0).to_ne_bytes());
    addr[2..4].copy_from_slice(&peer.port().to_be_bytes());
    addr[at..at + ip.len()].copy_from_slice(&ip);
    let bytes = &key.as_bytes()[..key.len().min(80)];
    let mut sig = Md5Sig { addr, flags: 0, prefix: 0, key_len: 0, interface: 0, key: [0; 80] };
    sig.key[..bytes.len()].copy_from_slice(bytes);
    sig.key_len = u16::try_from(bytes.len()).unwrap_or(0);
    set(fd, libc::SOL_TCP, libc::TCP_MD5SIG, &sig)
}

/// What has to be set before a listener is bound.
pub fn before_bind(fd: BorrowedFd<'_>, ip: IpAddr, o: &SocketOptions) -> io::Result<()> {
    if o.transparent { transparent(fd, ip.is_ipv4()) } else { Ok(()) }
}

/// What is set on a bound listener; the names of what could not be, with the reason.
pub fn after_bind(
    fd: BorrowedFd<'_>,
    addr: SocketAddr,
    o: &SocketOptions,
    backlog: i32,
) -> Result<Vec<String>, String> {
    let mut lost = Vec::new();
    let mut try_to = |what: &str, r: io::Result<()>| {
        if let Err(e) = r {
            lost.push(format!("cannot set {what}, ({}) for [{addr}]", crate::base::diag::io_words(&e)));
        }
    };
    let s = SockRef::from(&fd);
    if o.no_linger {
        try_to("SO_LINGER", s.set_linger(Some(Duration::ZERO)));
    }
    if let Some(mss) = o.mss.filter(|m| *m > 0) {
        try_to(&format!("MSS to {mss}"), set(fd, libc::SOL_TCP, libc::TCP_MAXSEG, &mss));
    }
    if let Some(cc) = &o.congestion {
        try_to("TCP congestion control algorithm", s.set_tcp_congestion(cc.as_bytes()));
    }
    if let Some(key) = &o.md5 {
        md5(fd, addr, key)
            .map_err(|e| format!("cannot set TCP MD5 signature, ({}) for [{addr}]", crate::base::diag::io_words(&e)))?;
    }
    if let Some(ms) = o.user_timeout_ms {
        try_to("TCP User Timeout", s.set_tcp_user_timeout(Some(Duration::from_millis(ms.into()))));
    }
    if o.defer_accept {
        try_to("DEFER_ACCEPT", set(fd, libc::SOL_TCP, libc::TCP_DEFER_ACCEPT, &DEFER));
    }
    if o.fast_open {
        try_to("TCP_FASTOPEN", set(fd, libc::SOL_TCP, libc::TCP_FASTOPEN, &backlog));
    }
    Ok(lost)
}

/// `mss -N`: an accepted connection sends segments that are so much smaller.
pub fn shrink_mss(s: &TcpStream, by: i32) {
    let s = SockRef::from(s);
    if let Ok(now) = s.tcp_mss() {
        let now = i32::try_from(now).unwrap_or(i32::MAX);
        let _ = set(s.as_fd(), libc::SOL_TCP, libc::TCP_MAXSEG, &(now - by).max(1));
    }
}

/// One of the kernel's facts about a connection.
pub fn fact(fd: BorrowedFd<'_>, what: TcpFact) -> Option<i64> {
    // SAFETY: zeroes are valid in a structure of integers.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut len = libc::socklen_t::try_from(size_of_val(&info)).ok()?;
    // SAFETY: the kernel writes at most `len` bytes into `info`.
    let r = unsafe {
        libc::getsockopt(fd.as_raw_fd(), libc::SOL_TCP, libc::TCP_INFO, (&raw mut info).cast(), &raw mut len)
    };
    let n = match what {
        TcpFact::Rtt => info.tcpi_rtt,
        TcpFact::RttVar => info.tcpi_rttvar,
        TcpFact::Unacked => info.tcpi_unacked,
        TcpFact::Sacked => info.tcpi_sacked,
        TcpFact::Lost => info.tcpi_lost,
        TcpFact::Retrans => info.tcpi_retrans,
        TcpFact::Fackets => info.tcpi_fackets,
        TcpFact::Reordering => info.tcpi_reordering,
    };
    (r == 0).then(|| n.into())
}

/// `option tcpka` with its numbers.
pub fn keepalive(fd: BorrowedFd<'_>, k: &Keepalive) {
    let s = SockRef::from(&fd);
    let _ = s.set_keepalive(true);
    let mut t = socket2::TcpKeepalive::new();
    if let Some(n) = k.count {
        t = t.with_retries(n);
    }
    if let Some(d) = k.idle {
        t = t.with_time(d);
    }
    if let Some(d) = k.interval {
        t = t.with_interval(d);
    }
    if k.count.is_some() || k.idle.is_some() || k.interval.is_some() {
        let _ = s.set_tcp_keepalive(&t);
    }
}

/// How a connection to a server is made.
#[derive(Clone, Copy, Default)]
pub struct Outgoing<'a> {
    pub keepalive: Option<&'a Keepalive>,
    /// The address it comes from; port 0 is any.
    pub source: Option<SocketAddr>,
    /// Ports that are tried in turn, beginning at `first_port`.
    pub ports: Option<(u16, u16)>,
    pub first_port: usize,
    /// The address need not be this host's.
    pub foreign: bool,
    pub interface: Option<&'a str>,
    pub congestion: Option<&'a str>,
    pub md5: Option<&'a str>,
    pub user_timeout: Option<Duration>,
    pub packets: Packets,
}

/// What the packets of a connection carry, where rules have said so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Packets {
    /// The whole byte of differentiated services (RFC 2474).
    pub tos: Option<u8>,
    /// The mark of the host's own firewall and routes.
    pub mark: Option<u32>,
}

impl Packets {
    /// The mark needs CAP_NET_RAW or CAP_NET_ADMIN; without it, packets go unmarked, as there.
    pub fn set(&self, fd: BorrowedFd<'_>) {
        if let Some(tos) = self.tos.map(i32::from) {
            // A socket of version 6 may carry version 4, and the other way round one of the two is refused.
            let _ = set(fd, libc::SOL_IP, libc::IP_TOS, &tos);
            let _ = set(fd, libc::SOL_IPV6, libc::IPV6_TCLASS, &tos);
        }
        if let Some(mark) = self.mark {
            let _ = set(fd, libc::SOL_SOCKET, libc::SO_MARK, &mark);
        }
    }
}

/// The source address could not be had, or the server not be reached.
#[derive(Debug)]
pub enum Unreached {
    Bind(io::Error),
    Connect(io::Error),
}

impl From<Unreached> for io::Error {
    fn from(u: Unreached) -> Self {
        match u {
            Unreached::Bind(e) | Unreached::Connect(e) => e,
        }
    }
}

/// So many ports of a range are tried.
const MOST_PORTS: usize = 10;

/// Connects to a server. A port of a range that is taken for this very server is passed over.
pub async fn connect(to: SocketAddr, o: &Outgoing<'_>) -> Result<TcpStream, Unreached> {
    let n = o.ports.map_or(1, |(low, high)| usize::from(high - low) + 1).min(MOST_PORTS);
    for k in 0..n {
        let one = Outgoing { first_port: o.first_port.wrapping_add(k), ..*o };
        match attempt(to, &one).await {
            Err(Unreached::Bind(e) | Unreached::Connect(e))
                if k + 1 < n && matches!(e.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse) => {}
            other => return other,
        }
    }
    Err(Unreached::Bind(io::ErrorKind::AddrNotAvailable.into()))
}

async fn attempt(to: SocketAddr, o: &Outgoing<'_>) -> Result<TcpStream, Unreached> {
    let plain = Unreached::Connect;
    let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(plain)?;
    socket.set_nodelay(true).map_err(plain)?;
    o.packets.set(socket.as_fd());
    if let Some(k) = o.keepalive {
        keepalive(socket.as_fd(), k);
    }
    {
        let s = SockRef::from(&socket);
        if let Some(i) = o.interface {
            // Without the right to it, it goes the way the routes say, as there.
            let _ = s.bind_device(Some(i.as_bytes()));
        }
        if let Some(source) = o.source {
            bind(&socket, source, o).map_err(Unreached::Bind)?;
        }
        if let Some(cc) = o.congestion {
            let _ = s.set_tcp_congestion(cc.as_bytes());
        }
        if let Some(key) = o.md5 {
            md5(socket.as_fd(), to, key).map_err(plain)?;
        }
        if let Some(t) = o.user_timeout {
            let _ = s.set_tcp_user_timeout(Some(t));
        }
    }
    socket.connect(to).await.map_err(plain)
}

fn bind(socket: &TcpSocket, source: SocketAddr, o: &Outgoing<'_>) -> io::Result<()> {
    if o.foreign {
        transparent(socket.as_fd(), source.is_ipv4())?;
    }
    socket.set_reuseaddr(true)?;
    let Some((low, high)) = o.ports else {
        // The port is chosen when the peer is known: the same one serves for many peers.
        let _ = set(socket.as_fd(), libc::SOL_IP, libc::IP_BIND_ADDRESS_NO_PORT, &1i32);
        return socket.bind(source);
    };
    let n = usize::from(high - low) + 1;
    let port = low + u16::try_from(o.first_port % n).unwrap_or(0);
    socket.bind(SocketAddr::new(source.ip(), port))
}
