//! Raw sockets of one interface: VRRP in and out, announcements out.
use crate::vrrp::ah::AH_PROTOCOL;
use crate::vrrp::packet::{GROUP6, PROTOCOL, TTL};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, recvmsg};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockAddr, Socket, Type};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, RawFd};

/// DSCP CS6: network control.
const TOS: u32 = 0xc0;

fn setopt<T>(s: &Socket, level: i32, name: i32, v: &T) -> io::Result<()> {
    let len = libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0);
    // SAFETY: `v` is a plain value of the option's type and valid for `len` bytes.
    let r = unsafe { libc::setsockopt(s.as_raw_fd(), level, name, std::ptr::from_ref(v).cast(), len) };
    if r != 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A packet as received.
pub struct Packet {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub ttl: Option<u8>,
    pub len: usize,
    /// Where the message behind the IP header begins in the buffer.
    pub start: usize,
}

/// What a VRRP socket is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wire {
    pub six: bool,
    /// The one interface that it speaks and hears on; none: any of them, of unicast, and `ifindex` is 0.
    pub ifname: Option<String>,
    pub ifindex: u32,
    /// The group to be heard; `None` is unicast.
    pub group: Option<IpAddr>,
    /// Messages are in authentication headers, and whole packets are sent.
    pub header: bool,
    /// TTL or hop limit of what is sent to peers; to the group it is 255.
    pub ttl: u8,
}

/// A raw socket for VRRP, of one interface as a rule.
pub fn vrrp(w: &Wire) -> io::Result<Socket> {
    let (six, ifindex) = (w.six, w.ifindex);
    let domain = if six { Domain::IPV6 } else { Domain::IPV4 };
    let protocol = if w.header { AH_PROTOCOL } else { PROTOCOL };
    let s = Socket::new(domain, Type::RAW.nonblocking(), Some(Protocol::from(i32::from(protocol))))?;
    if let Some(name) = &w.ifname {
        s.bind_device(Some(name.as_bytes()))?;
    }
    s.set_recv_buffer_size(256 * 1024)?;
    if six {
        s.set_multicast_if_v6(ifindex)?;
        s.set_multicast_hops_v6(TTL.into())?;
        s.set_unicast_hops_v6(w.ttl.into())?;
        s.set_multicast_loop_v6(false)?;
        s.set_multicast_all_v6(false)?;
        s.set_recv_hoplimit_v6(true)?;
        setopt(&s, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, &1i32)?;
        if let Some(IpAddr::V6(g)) = w.group {
            s.join_multicast_v6(&g, ifindex)?;
        }
    } else {
        let index = i32::try_from(ifindex).unwrap_or(0);
        let mreqn = libc::ip_mreqn {
            imr_multiaddr: libc::in_addr { s_addr: 0 },
            imr_address: libc::in_addr { s_addr: 0 },
            imr_ifindex: index,
        };
        setopt(&s, libc::IPPROTO_IP, libc::IP_MULTICAST_IF, &mreqn)?;
        s.set_multicast_ttl_v4(TTL.into())?;
        s.set_multicast_loop_v4(false)?;
        s.set_multicast_all_v4(false)?;
        s.set_ttl_v4(w.ttl.into())?;
        s.set_tos_v4(TOS)?;
        if w.header {
            s.set_header_included_v4(true)?;
        }
        if let Some(IpAddr::V4(g)) = w.group {
            s.join_multicast_v4_n(&g, &InterfaceIndexOrAddress::Index(ifindex))?;
        }
    }
    Ok(s)
}

/// Packets come with the TTL that they arrived with.
pub fn receive_ttl(s: &Socket) -> io::Result<()> {
    setopt(s, libc::IPPROTO_IP, libc::IP_RECVTTL, &1i32)
}

/// Makes a socket hear nothing: what is there only to send would be given a copy of every packet.
pub fn deafen(s: &Socket) -> io::Result<()> {
    // Return 0 octets of whatever comes.
    let mut code =
        [libc::sock_filter { code: u16::try_from(libc::BPF_RET | libc::BPF_K).unwrap_or(0), jt: 0, jf: 0, k: 0 }];
    let program = libc::sock_fprog { len: 1, filter: code.as_mut_ptr() };
    // The program is copied before the call returns.
    setopt(s, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

/// Makes packets leave with this source address. IPv6 needs the scope of a link-local one.
pub fn bind_source(s: &Socket, src: IpAddr, ifindex: u32) -> io::Result<()> {
    match src {
        IpAddr::V4(a) => s.bind(&SockAddr::from(SocketAddrV4::new(a, 0))),
        IpAddr::V6(a) => s.bind(&SockAddr::from(SocketAddrV6::new(a, 0, 0, ifindex))),
    }
}

/// Reads one packet without waiting.
pub fn receive(fd: RawFd, six: bool, buf: &mut [u8]) -> io::Result<Packet> {
    if six {
        let mut space = nix::cmsg_space!(libc::in6_pktinfo, libc::c_int);
        let (n, src, mut dst, mut ttl);
        {
            let mut iov = [IoSliceMut::new(buf)];
            let m = recvmsg::<SockaddrIn6>(fd, &mut iov, Some(&mut space), MsgFlags::MSG_DONTWAIT)?;
            n = m.bytes;
            src = m.address.map_or(Ipv6Addr::UNSPECIFIED, |a| a.ip());
            (dst, ttl) = (Ipv6Addr::from(GROUP6.octets()), None);
            for c in m.cmsgs()? {
                match c {
                    ControlMessageOwned::Ipv6PacketInfo(p) => dst = Ipv6Addr::from(p.ipi6_addr.s6_addr),
                    ControlMessageOwned::Ipv6HopLimit(h) => ttl = u8::try_from(h).ok(),
                    _ => {}
                }
            }
        }
        return Ok(Packet { src: src.into(), dst: dst.into(), ttl, len: n, start: 0 });
    }
    let (n, src);
    {
        let mut iov = [IoSliceMut::new(buf)];
        let m = recvmsg::<SockaddrIn>(fd, &mut iov, None, MsgFlags::MSG_DONTWAIT)?;
        n = m.bytes;
        src = m.address.map_or(Ipv4Addr::UNSPECIFIED, |a| a.ip());
    }
    let b = &buf[..n];
    if n < 20 || b[0] >> 4 != 4 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let start = usize::from(b[0] & 15) * 4;
    if start < 20 || start > n {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(Packet {
        src: src.into(),
        dst: Ipv4Addr::new(b[16], b[17], b[18], b[19]).into(),
        ttl: Some(b[8]),
        len: n,
        start,
    })
}

pub fn send(s: &Socket, dst: IpAddr, ifindex: u32, bytes: &[u8]) -> io::Result<usize> {
    match dst {
        IpAddr::V4(a) => s.send_to(bytes, &SockAddr::from(SocketAddrV4::new(a, 0))),
        // The port of a raw IPv6 socket must be 0.
        IpAddr::V6(a) => s.send_to(bytes, &SockAddr::from(SocketAddrV6::new(a, 0, 0, ifindex))),
    }
}

/// A packet socket that only sends.
pub fn ethernet() -> io::Result<Socket> {
    Socket::new(Domain::PACKET, Type::RAW.nonblocking(), Some(Protocol::from(0)))
}

/// Sends a whole Ethernet frame out of an interface.
pub fn send_frame(s: &Socket, ifindex: u32, frame: &[u8]) -> io::Result<()> {
    // SAFETY: all zeros is a valid sockaddr_ll.
    let mut a: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    a.sll_family = u16::try_from(libc::AF_PACKET).unwrap_or(0);
    a.sll_ifindex = i32::try_from(ifindex).unwrap_or(0);
    a.sll_halen = 6;
    a.sll_addr[..6].copy_from_slice(&frame[..6]);
    a.sll_protocol = u16::from_ne_bytes([frame[12], frame[13]]);
    let len = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).unwrap_or(0);
    // SAFETY: `frame` and `a` are valid for the lengths given.
    let n = unsafe {
        libc::sendto(s.as_raw_fd(), frame.as_ptr().cast(), frame.len(), libc::MSG_DONTWAIT, (&raw const a).cast(), len)
    };
    if n < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
