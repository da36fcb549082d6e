//! Level 3: sockets with options, netlink, raw sockets.
pub mod dns;
pub mod listen;
pub mod netlink;
pub mod raw;
pub mod routes;
pub mod sockdiag;
pub mod sockopt;

/// Connects to an abstract unix socket (`abns@`). Inside a runtime; the kernel answers at once.
pub fn connect_abstract(name: &str) -> std::io::Result<tokio::net::UnixStream> {
    use std::os::linux::net::SocketAddrExt;
    let addr = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
    let stream = std::os::unix::net::UnixStream::connect_addr(&addr)?;
    stream.set_nonblocking(true)?;
    tokio::net::UnixStream::from_std(stream)
}
