//! SOCKS version 4, `CONNECT` only (manual, `socks4`).
use std::net::SocketAddrV4;

/// The request; HAProxy says this user name.
pub fn request(to: SocketAddrV4) -> Vec<u8> {
    let mut out = vec![4, 1];
    out.extend_from_slice(&to.port().to_be_bytes());
    out.extend_from_slice(&to.ip().octets());
    out.extend_from_slice(b"HAProxy\0");
    out
}

/// Bytes of an answer.
pub const ANSWER: usize = 8;

/// Whether an answer grants the request.
pub fn is_granted(answer: &[u8; ANSWER]) -> bool {
    answer[1] == 0x5a
}
