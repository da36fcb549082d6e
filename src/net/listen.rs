//! Listening sockets, made with the guardian's rights and handed to the worker.
use crate::base::addr::ListenAddr;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;

/// `backlog` when neither the bind line nor the frontend says one: HAProxy takes the frontend's maxconn, the kernel caps it.
pub const DEFAULT_BACKLOG: i32 = 4096;

pub struct Options {
    pub backlog: i32,
    /// The address may come and go: bind although it is not there (IP_FREEBIND, no sysctl needed).
    pub freebind: bool,
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

/// Opens one socket; several with SO_REUSEPORT share an address. The error says what to do.
pub fn open(addr: &ListenAddr, o: &Options) -> Result<OwnedFd, String> {
    match addr {
        ListenAddr::Inet { addr: ip, port, v4v6, device } => {
            let say = |what: &str, e: std::io::Error| hint(what, addr, &e);
            let s = Socket::new(
                Domain::for_address(SocketAddr::new(*ip, *port)),
                Type::STREAM.nonblocking(),
                Some(Protocol::TCP),
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
            s.bind(&SockAddr::from(SocketAddr::new(*ip, *port))).map_err(|e| say("cannot bind socket", e))?;
            s.listen(o.backlog).map_err(|e| say("cannot listen", e))?;
            Ok(s.into())
        }
        ListenAddr::Unix(path) => {
            let say = |what: &str, e: std::io::Error| hint(what, addr, &e);
            // Bound beside the name and moved over it, so that there is no moment without a socket.
            let temp = format!("{path}.{}.tmp", std::process::id());
            let _ = std::fs::remove_file(&temp);
            let s = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)
                .map_err(|e| say("cannot create a socket", e))?;
            s.bind(&SockAddr::unix(&temp).map_err(|e| say("the path is too long", e))?)
                .map_err(|e| say("cannot bind socket", e))?;
            if let Some(m) = o.mode {
                use std::os::unix::fs::PermissionsExt;
                std::fs::set_permissions(&temp, std::fs::Permissions::from_mode(m))
                    .map_err(|e| say("cannot set the mode", e))?;
            }
            if o.uid.is_some() || o.gid.is_some() {
                std::os::unix::fs::chown(&temp, o.uid, o.gid).map_err(|e| say("cannot set the owner", e))?;
            }
            s.listen(o.backlog).map_err(|e| say("cannot listen", e))?;
            std::fs::rename(&temp, Path::new(path)).map_err(|e| say("cannot put the socket in place", e))?;
            Ok(s.into())
        }
        ListenAddr::Abstract(name) => {
            use std::os::linux::net::SocketAddrExt;
            let a = std::os::unix::net::SocketAddr::from_abstract_name(name).map_err(|e| hint("bad name", addr, &e))?;
            let l =
                std::os::unix::net::UnixListener::bind_addr(&a).map_err(|e| hint("cannot bind socket", addr, &e))?;
            l.set_nonblocking(true).map_err(|e| hint("cannot set non-blocking", addr, &e))?;
            Ok(l.into())
        }
        ListenAddr::Fd(n) => {
            // SAFETY: only duplicates; a descriptor that is not open is answered with EBADF.
            let fd = unsafe { libc::fcntl(*n, libc::F_DUPFD_CLOEXEC, 3) };
            if fd < 0 {
                return Err(format!("fd@{n} is not an open descriptor"));
            }
            // SAFETY: just made, and nobody else's.
            let fd = unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd) };
            let _ = socket2::SockRef::from(&fd).set_nonblocking(true);
            Ok(fd)
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
