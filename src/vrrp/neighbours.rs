//! BFD on the wire: the sessions of a node, their sockets, and what is told of them. Runs in the guardian, beside the engine; nothing here waits.
use super::bfd::{Action, Diagnostic, PORT, PORT_MULTIHOP, Packet, Session};
use crate::base::diag::io_words;
use crate::config::model::Bfd;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::Instant;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

/// Ports that packets leave from (RFC 5881, 4).
const FIRST_SOURCE_PORT: u32 = 49_152;
const SOURCE_PORTS: u32 = 16_384;
/// As many packets are taken before timers have their turn.
const TURN: usize = 64;

/// What is told of a session.
#[derive(Debug)]
pub enum Told {
    Changed { name: String, up: bool, why: &'static str },
    Trouble(String),
}

/// The sessions; dropped, they end without a word.
pub struct Neighbours(mpsc::UnboundedSender<Vec<Bfd>>);

impl Neighbours {
    /// Must be called inside the guardian's runtime.
    pub fn start() -> (Self, mpsc::UnboundedReceiver<Told>) {
        let (orders, wanted) = mpsc::unbounded_channel();
        let (tell, told) = mpsc::unbounded_channel();
        tokio::task::spawn_local(run(wanted, tell));
        (Self(orders), told)
    }

    /// Puts these sessions in place of those before. One that has not changed goes on; one that is not wanted any more tells its neighbour.
    pub fn replace(&self, all: Vec<Bfd>) {
        let _ = self.0.send(all);
    }
}

/// A socket that hears the packets of one family and port.
struct Ear {
    six: bool,
    multihop: bool,
    fd: AsyncFd<Socket>,
}

struct Line {
    session: Session,
    mouth: Socket,
}

fn reason(why: Diagnostic) -> &'static str {
    match why {
        Diagnostic::None => "it answers",
        Diagnostic::Expired => "nothing was heard from it in time",
        Diagnostic::NeighbourDown => "it says that it does not hear us, or is stopped",
        Diagnostic::AdminDown => "it is stopped here",
    }
}

async fn run(mut wanted: mpsc::UnboundedReceiver<Vec<Bfd>>, tell: mpsc::UnboundedSender<Told>) {
    let mut ears: Vec<Ear> = Vec::new();
    let mut lines: Vec<Line> = Vec::new();
    let mut last = std::process::id().wrapping_mul(0x9e37_79b1);
    loop {
        let deadline = lines.iter().filter_map(|l| l.session.next_deadline()).min();
        let timer = async {
            match deadline {
                Some(t) => tokio::time::sleep_until(t.into()).await,
                None => std::future::pending().await,
            }
        };
        let heard = async {
            let all: Vec<_> = ears.iter().map(|e| Box::pin(e.fd.readable())).collect();
            if all.is_empty() {
                std::future::pending::<()>().await;
            }
            let (_ready, ..) = futures_util::future::select_all(all).await;
        };
        tokio::select! {
            o = wanted.recv() => match o {
                Some(all) => change(all, &mut lines, &mut ears, &mut last, &tell),
                None => return,
            },
            () = heard => {}
            () = timer => {}
        }
        let now = Instant::now();
        for e in &ears {
            hear(e, &mut lines, now, &tell);
        }
        for l in &mut lines {
            let mut out = Vec::new();
            l.session.tick(now, &mut out);
            perform(l, &out, &tell);
        }
    }
}

/// Begins, keeps and ends sessions.
fn change(
    all: Vec<Bfd>,
    lines: &mut Vec<Line>,
    ears: &mut Vec<Ear>,
    last: &mut u32,
    tell: &mpsc::UnboundedSender<Told>,
) {
    lines.retain_mut(|l| {
        let stays = all.contains(l.session.conf());
        if !stays {
            let mut out = Vec::new();
            l.session.leave(&mut out);
            perform(l, &out, tell);
        }
        stays
    });
    for conf in all {
        if lines.iter().any(|l| *l.session.conf() == conf) {
            continue;
        }
        let name = conf.name.clone();
        *last = last.wrapping_add(1).max(1);
        if let Err(e) = listen(&conf, ears).and_then(|()| {
            let mouth = speak_from(&conf, *last)?;
            lines.push(Line { session: Session::new(conf, *last, Instant::now()), mouth });
            Ok(())
        }) {
            let _ = tell.send(Told::Trouble(format!("BFD {name}: cannot open its sockets: {}", io_words(&e))));
        }
    }
    ears.retain(|e| lines.iter().any(|l| fits(l.session.conf(), e)));
}

fn fits(c: &Bfd, e: &Ear) -> bool {
    c.neighbour.is_ipv6() == e.six && c.multihop == e.multihop
}

fn port(c: &Bfd) -> u16 {
    if c.multihop { PORT_MULTIHOP } else { PORT }
}

fn socket(six: bool) -> io::Result<Socket> {
    let domain = if six { Domain::IPV6 } else { Domain::IPV4 };
    let s = Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    if six {
        s.set_only_v6(true)?;
    }
    Ok(s)
}

fn any(six: bool) -> IpAddr {
    if six { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
}

fn listen(c: &Bfd, ears: &mut Vec<Ear>) -> io::Result<()> {
    if ears.iter().any(|e| fits(c, e)) {
        return Ok(());
    }
    let six = c.neighbour.is_ipv6();
    let s = socket(six)?;
    s.set_reuse_address(true)?;
    if six {
        s.set_recv_hoplimit_v6(true)?;
    } else {
        crate::net::raw::receive_ttl(&s)?;
    }
    s.bind(&SockAddr::from(SocketAddr::new(any(six), port(c))))?;
    // SAFETY: the Socket owns its descriptor for the life of the AsyncFd.
    let fd = unsafe { AsyncFd::register_with_interest(s, Interest::READABLE) }?;
    ears.push(Ear { six, multihop: c.multihop, fd });
    Ok(())
}

fn speak_from(c: &Bfd, discriminator: u32) -> io::Result<Socket> {
    let six = c.neighbour.is_ipv6();
    let s = socket(six)?;
    if six {
        s.set_unicast_hops_v6(c.ttl.into())?;
    } else {
        s.set_ttl_v4(c.ttl.into())?;
        // DSCP CS6: network control.
        s.set_tos_v4(0xc0)?;
    }
    let source = c.source.unwrap_or_else(|| any(six));
    for k in 0..16u32 {
        let p = u16::try_from(FIRST_SOURCE_PORT + (discriminator.wrapping_add(k * 997)) % SOURCE_PORTS).unwrap_or(0);
        match s.bind(&SockAddr::from(SocketAddr::new(source, p))) {
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => {}
            r => return r.map(|()| s),
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

/// Takes what has come; what is nobody's, or has travelled too far, is dropped.
fn hear(e: &Ear, lines: &mut [Line], now: Instant, tell: &mpsc::UnboundedSender<Told>) {
    let mut buf = [0u8; 128];
    for _ in 0..TURN {
        let got = e.fd.try_io(Interest::READABLE, |s| receive(s, &mut buf));
        let Ok((from, ttl, len)) = got else { return };
        let Some(p) = Packet::parse(&buf[..len]) else { continue };
        let mine = |l: &&mut Line| {
            let c = l.session.conf();
            let near = c.max_hops == u8::MAX || ttl.is_some_and(|t| t >= c.ttl.saturating_sub(c.max_hops));
            fits(c, e) && c.neighbour == from && near && (p.yours == 0 || p.yours == l.session.discriminator())
        };
        if let Some(l) = lines.iter_mut().find(mine) {
            let mut out = Vec::new();
            l.session.handle(now, &p, &mut out);
            perform(l, &out, tell);
        }
    }
}

fn receive(s: &Socket, buf: &mut [u8]) -> io::Result<(IpAddr, Option<u8>, usize)> {
    let mut space = nix::cmsg_space!(libc::c_int, libc::c_int);
    let mut iov = [IoSliceMut::new(buf)];
    let m = recvmsg::<SockaddrStorage>(s.as_raw_fd(), &mut iov, Some(&mut space), MsgFlags::MSG_DONTWAIT)?;
    let from = m.address.as_ref().and_then(|a| {
        let four = a.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
        four.or_else(|| a.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
    });
    let mut ttl = None;
    for c in m.cmsgs()? {
        if let ControlMessageOwned::Ipv4Ttl(t) | ControlMessageOwned::Ipv6HopLimit(t) = c {
            ttl = u8::try_from(t).ok();
        }
    }
    Ok((from.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), ttl, m.bytes))
}

fn perform(l: &mut Line, actions: &[Action], tell: &mpsc::UnboundedSender<Told>) {
    for a in actions {
        match a {
            Action::Send(p) => {
                let c = l.session.conf();
                // What is lost is what the protocol is there to notice.
                let _ = l.mouth.send_to(&p.emit(), &SockAddr::from(SocketAddr::new(c.neighbour, port(c))));
            }
            Action::Changed { up, why } => {
                let _ = tell.send(Told::Changed { name: l.session.conf().name.clone(), up: *up, why: reason(*why) });
            }
        }
    }
}
