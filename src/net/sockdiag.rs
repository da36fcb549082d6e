//! Resetting connections by their local address (SOCK_DESTROY of NETLINK_SOCK_DIAG): accepted ones and those that still wait in a backlog.
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
/// Every TCP state (1 to 12) but LISTEN (10) and TIME_WAIT (6).
const STATES: u32 = 0x1ffe & !(1 << 10) & !(1 << 6);
/// nlmsghdr and inet_diag_req_v2
const REQUEST: usize = 72;

/// What follows once the connections are reset.
#[derive(Debug)]
pub enum Then {
    /// The key comes back.
    Tell(u64),
    /// The process of this pidfd is killed. Not earlier: the kernel closes the sockets of the dead in an orderly way, which tells a client that the answer was whole.
    Kill(OwnedFd),
}

/// Resets connections on a thread of its own, because there may be many. Started once: at the moment of a loss there may be no room for another thread.
pub struct Resets(std::sync::mpsc::Sender<(Vec<IpAddr>, Then)>);

impl Resets {
    /// The thread, and where it says which keyed orders are done.
    pub fn start() -> io::Result<(Self, tokio::sync::mpsc::UnboundedReceiver<u64>)> {
        let (tx, orders) = std::sync::mpsc::channel::<(Vec<IpAddr>, Then)>();
        let (done, finished) = tokio::sync::mpsc::unbounded_channel();
        std::thread::Builder::new().name("resets".into()).spawn(move || {
            for (ips, then) in orders {
                // A kernel without SOCK_DESTROY leaves the connections to time out; the address goes all the same.
                let _ = reset_local(&ips);
                match then {
                    Then::Tell(key) if done.send(key).is_err() => return,
                    Then::Tell(_) => {}
                    Then::Kill(pidfd) => kill(&pidfd),
                }
            }
        })?;
        Ok((Self(tx), finished))
    }

    /// Without the thread, what follows is done at once.
    pub fn reset(&self, ips: Vec<IpAddr>, then: Then) {
        if let Err(std::sync::mpsc::SendError((_, Then::Kill(pidfd)))) = self.0.send((ips, then)) {
            kill(&pidfd);
        }
    }
}

fn kill(pidfd: &OwnedFd) {
    // SAFETY: plain system call on a descriptor that is held; a process that is gone is an error that says so.
    unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), libc::SIGKILL, 0, 0) };
}

/// Resets every connection whose local address is one of `ips`. Returns how many there were.
pub fn reset_local(ips: &[IpAddr]) -> io::Result<usize> {
    if ips.is_empty() {
        return Ok(0);
    }
    // SAFETY: plain system call; the result is checked.
    let fd = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_SOCK_DIAG) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made, and nobody else's.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut ids: Vec<(u8, [u8; 48])> = Vec::new();
    // Sockets of a listener for both families appear only among the IPv6 ones.
    for family in [libc::AF_INET, libc::AF_INET6] {
        let family = u8::try_from(family).unwrap_or(0);
        let flags = u16::try_from(libc::NLM_F_REQUEST | libc::NLM_F_DUMP).unwrap_or(0);
        send(&fd, &request(SOCK_DIAG_BY_FAMILY, flags, family, None))?;
        receive(&fd, |b| {
            if let Some(id) = b.get(4..52).and_then(|s| <[u8; 48]>::try_from(s).ok())
                && ips.contains(&local(b[0], &id))
            {
                ids.push((b[0], id));
            }
        })?;
    }
    let flags = u16::try_from(libc::NLM_F_REQUEST | libc::NLM_F_ACK).unwrap_or(0);
    for (family, id) in &ids {
        send(&fd, &request(SOCK_DESTROY, flags, *family, Some(id)))?;
        match receive(&fd, |_| ()) {
            Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => return Err(e),
            // Gone by itself meanwhile, or not to be had: the next one.
            _ => {}
        }
    }
    Ok(ids.len())
}

fn local(family: u8, id: &[u8; 48]) -> IpAddr {
    if i32::from(family) == libc::AF_INET {
        IpAddr::from([id[4], id[5], id[6], id[7]])
    } else {
        let mut six = [0u8; 16];
        six.copy_from_slice(&id[4..20]);
        IpAddr::from(six).to_canonical()
    }
}

fn request(kind: u16, flags: u16, family: u8, id: Option<&[u8; 48]>) -> [u8; REQUEST] {
    let mut b = [0u8; REQUEST];
    b[..4].copy_from_slice(&72u32.to_ne_bytes());
    b[4..6].copy_from_slice(&kind.to_ne_bytes());
    b[6..8].copy_from_slice(&flags.to_ne_bytes());
    b[16] = family;
    b[17] = 6;
    b[20..24].copy_from_slice(&STATES.to_ne_bytes());
    if let Some(id) = id {
        b[24..].copy_from_slice(id);
    }
    b
}

fn send(fd: &OwnedFd, b: &[u8]) -> io::Result<()> {
    // SAFETY: `b` is valid for its length.
    let n = unsafe { libc::send(fd.as_raw_fd(), b.as_ptr().cast(), b.len(), 0) };
    if n < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Reads until the end of a dump or an acknowledgement. The kernel answers within the send, so this never waits for long.
fn receive(fd: &OwnedFd, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buf = vec![0u8; 32 * 1024];
    loop {
        // SAFETY: `buf` is valid for its length.
        let n = unsafe { libc::recv(fd.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len(), 0) };
        let Ok(n) = usize::try_from(n) else { return Err(io::Error::last_os_error()) };
        let mut p = &buf[..n];
        while p.len() >= 16 {
            let len = u32::from_ne_bytes([p[0], p[1], p[2], p[3]]) as usize;
            if len < 16 || len > p.len() {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let body = &p[16..len];
            match i32::from(u16::from_ne_bytes([p[4], p[5]])) {
                libc::NLMSG_DONE => return Ok(()),
                libc::NLMSG_ERROR => {
                    let code = body.first_chunk::<4>().map_or(0, |c| i32::from_ne_bytes(*c));
                    return if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-code)) };
                }
                _ => each(body),
            }
            p = &p[((len + 3) & !3).min(p.len())..];
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_request_has_the_layout_the_kernel_reads() {
        let b = super::request(super::SOCK_DESTROY, 5, 2, Some(&[7; 48]));
        assert_eq!((b[0], b[4], b[16], b[17], b[24], b[71]), (72, 21, 2, 6, 7, 7));
    }
}
