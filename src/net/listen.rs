//! Listening sockets, made with the guardian's rights and handed to the worker.
use super::sockopt;
use crate::base::addr::ListenAddr;
use crate::config::model::SocketOptions;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// `backlog` when neither the bind line nor the frontend says one: HAProxy takes the frontend's maxconn, the kernel caps it.
pub const DEFAULT_BACKLOG: i32 = 4096;

pub struct Options {
    /// It receives datagrams.
    pub datagram: bool,
    /// The address may come and go: bind although it is not there (IP_FREEBIND, no sysctl needed).
    pub freebind: bool,
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub socket: SocketOptions,
    /// For what depends on it.
    pub backlog: i32,
}

/// A socket that is bound and does not listen yet: until [`begin`], nobody is sent to it.
#[derive(Debug)]
pub struct Bound {
    pub fd: OwnedFd,
    /// A unix socket that has yet to be moved to its name.
    pub unplaced: Option<Unplaced>,
    /// What could not be set, and is done without.
    pub lost: Vec<String>,
}

/// A unix socket lies beside its name until it is moved over it, so that there is no moment without one. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct Unplaced {
    temp: String,
    path: String,
}

impl Unplaced {
    /// Puts it in place of whatever has the name.
    pub fn place(self) -> Result<(), String> {
        std::fs::rename(&self.temp, &self.path)
            .map_err(|e| format!("cannot put the socket '{}' in place: {}", self.path, crate::base::diag::io_words(&e)))
    }
}

impl Drop for Unplaced {
    fn drop(&mut self) {
        // Once it is placed, there is nothing by this name.
        let _ = std::fs::remove_file(&self.temp);
    }
}

/// Starts listening. `backlog`: connections that may wait; the kernel caps it at net.core.somaxconn.
pub fn begin(fd: &OwnedFd, backlog: i32) -> std::io::Result<()> {
    if takes_datagrams(fd) {
        return Ok(());
    }
    socket2::SockRef::from(fd).listen(backlog)
}

/// A socket for datagrams, which does not listen.
pub fn takes_datagrams(fd: &OwnedFd) -> bool {
    socket2::SockRef::from(fd).r#type().is_ok_and(|t| t == Type::DGRAM)
}

/// The next connection of a listener of commands, if one waits.
pub fn accept(fd: &OwnedFd) -> Option<OwnedFd> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: accept4 without an address takes no pointers.
    let n = unsafe { libc::accept4(fd.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut(), flags) };
    // SAFETY: just accepted, and nobody else's.
    (n >= 0).then(|| unsafe { OwnedFd::from_raw_fd(n) })
}

/// Binds one socket; several with SO_REUSEPORT share an address. The error says what to do.
pub fn bind(addr: &ListenAddr, o: &Options) -> Result<Bound, String> {
    let kind = if o.datagram { Type::DGRAM } else { Type::STREAM }.nonblocking();
    let plain = |fd: OwnedFd| Bound { fd, unplaced: None, lost: Vec::new() };
    match addr {
        ListenAddr::Inet { addr: ip, port, v4v6, device } => {
            let say = |what: &str, e: std::io::Error| hint(what, addr, &e);
            let s = Socket::new(
                Domain::for_address(SocketAddr::new(*ip, *port)),
                kind,
                Some(if o.datagram { Protocol::UDP } else { Protocol::TCP }),
            )
            .map_err(|e| say("cannot create a socket", e))?;
            s.set_reuse_address(true).map_err(|e| say("SO_REUSEADDR", e))?;
            s.set_reuse_port(true).map_err(|e| say("SO_REUSEPORT", e))?;
            if ip.is_ipv6() {
                s.set_only_v6(!v4v6).map_err(|e| say("IPV6_V6ONLY", e))?;
            }
            if o.freebind {
                if ip.is_ipv4() { s.set_freebind_v4(true) } else { s.set_freebind_v6(true) }
                    .map_err(|e| say("IP_FREEBIND", e))?;
            }
            if let Some(d) = device {
                s.bind_device(Some(d.as_bytes())).map_err(|e| say("cannot bind to the interface", e))?;
            }
            sockopt::before_bind(s.as_fd(), *ip, &o.socket)
                .map_err(|e| say("cannot make receiving socket transparent", e))?;
            let at = SocketAddr::new(*ip, *port);
            s.bind(&SockAddr::from(at)).map_err(|e| say("cannot bind socket", e))?;
            if o.datagram {
                return Ok(plain(s.into()));
            }
            let lost = sockopt::after_bind(s.as_fd(), at, &o.socket, o.backlog)?;
            Ok(Bound { fd: s.into(), unplaced: None, lost })
        }
        ListenAddr::Unix(path) => {
            let say = |what: &str, e: std::io::Error| hint(what, addr, &e);
            let temp = format!("{path}.{}.tmp", std::process::id());
            let _ = std::fs::remove_file(&temp);
            let s = Socket::new(Domain::UNIX, kind, None).map_err(|e| say("cannot create a socket", e))?;
            s.bind(&SockAddr::unix(&temp).map_err(|e| say("the path is too long", e))?)
                .map_err(|e| say("cannot bind socket", e))?;
            let unplaced = Unplaced { temp: temp.clone(), path: path.clone() };
            if let Some(m) = o.mode {
                use std::os::unix::fs::PermissionsExt;
                std::fs::set_permissions(&temp, std::fs::Permissions::from_mode(m))
                    .map_err(|e| say("cannot set the mode", e))?;
            }
            if o.uid.is_some() || o.gid.is_some() {
                std::os::unix::fs::chown(&temp, o.uid, o.gid).map_err(|e| say("cannot set the owner", e))?;
            }
            Ok(Bound { fd: s.into(), unplaced: Some(unplaced), lost: Vec::new() })
        }
        ListenAddr::Abstract(name) => {
            let say = |what: &str, e: std::io::Error| hint(what, addr, &e);
            let s = Socket::new(Domain::UNIX, kind, None).map_err(|e| say("cannot create a socket", e))?;
            // An abstract name is a path that begins with a zero.
            s.bind(&SockAddr::unix(format!("\0{name}")).map_err(|e| say("the name is too long", e))?)
                .map_err(|e| say("cannot bind socket", e))?;
            Ok(plain(s.into()))
        }
        ListenAddr::Fd(n) => {
            // SAFETY: only duplicates; a descriptor that is not open is answered with EBADF.
            let fd = unsafe { libc::fcntl(*n, libc::F_DUPFD_CLOEXEC, 3) };
            if fd < 0 {
                return Err(format!("fd@{n} is not an open descriptor"));
            }
            // SAFETY: just made, and nobody else's.
            let fd = unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd) };
            let s = socket2::SockRef::from(&fd);
            let _ = s.set_nonblocking(true);
            // Whoever bound it knows nothing of what the line says.
            match s.local_addr().ok().and_then(|a| a.as_socket()) {
                Some(at) if !o.datagram => {
                    let lost = sockopt::after_bind(fd.as_fd(), at, &o.socket, o.backlog)?;
                    Ok(Bound { fd, unplaced: None, lost })
                }
                _ => Ok(plain(fd)),
            }
        }
    }
}

fn hint(what: &str, addr: &ListenAddr, e: &std::io::Error) -> String {
    let help = match e.raw_os_error() {
        Some(libc::EADDRINUSE) => "; another program listens there: stop it, or choose another port",
        Some(libc::EADDRNOTAVAIL) => {
            "; the address is not on this host: correct it, or make it a virtual address of this node"
        }
        Some(libc::EACCES) => "; ports below 1024 need root or CAP_NET_BIND_SERVICE",
        Some(libc::ENODEV) => "; there is no such interface",
        _ => "",
    };
    format!("{what} ({}) for [{addr}]{help}", crate::base::diag::io_words(e))
}
