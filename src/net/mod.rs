//! Level 3: sockets with options, netlink, raw sockets.
pub mod dns;
pub mod listen;
pub mod netlink;
pub mod raw;
pub mod sockdiag;
