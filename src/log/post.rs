//! Datagrams of one thread that leave together: one system call for what its connections have logged in a turn of the event loop, and one
//! wake-up of whoever receives them.
use super::Sinks;
use socket2::SockAddr;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// So many leave at the latest.
const MOST: usize = 64;
/// So many bytes leave at the latest.
const FULL: usize = 32 * 1024;

/// Where a datagram leaves by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Udp(SocketAddr),
    /// The number of a connected unix socket of the [`Sinks`].
    Unix(usize),
}

#[derive(Debug)]
struct Letter {
    way: Way,
    /// Where its bytes begin and end.
    at: (usize, usize),
}

/// What waits to be sent: for a turn of the event loop, and longer where a local receiver has no room for more at the moment.
#[derive(Debug, Default)]
pub struct Post {
    /// Whose sockets are meant.
    sinks: Option<Arc<Sinks>>,
    bytes: Vec<u8>,
    letters: Vec<Letter>,
}

impl Post {
    pub fn is_empty(&self) -> bool {
        self.letters.is_empty()
    }

    /// Takes one datagram; others leave first if there is no room, or if they leave by other sockets. False if it is lost.
    pub(super) fn add(&mut self, sinks: &Arc<Sinks>, way: Way, bytes: &[u8], dropped: &AtomicU64) -> bool {
        if self.sinks.as_ref().is_some_and(|s| !Arc::ptr_eq(s, sinks)) {
            self.close(dropped);
        }
        if !self.has_room(bytes.len()) {
            self.send(dropped);
        }
        if !self.has_room(bytes.len()) {
            // A receiver that is stuck is no other one's business.
            return !self.letters.iter().any(|l| l.way == way) && sinks.at_once(way, bytes);
        }
        self.sinks.get_or_insert_with(|| sinks.clone());
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.letters.push(Letter { way, at: (start, self.bytes.len()) });
        true
    }

    fn has_room(&self, more: usize) -> bool {
        self.letters.is_empty() || self.letters.len() < MOST && self.bytes.len() + more <= FULL
    }

    /// Sends what can be sent without waiting. What a local receiver has no room for stays; what the network's socket does not take is lost and
    /// counted.
    pub fn send(&mut self, dropped: &AtomicU64) {
        let Some(sinks) = self.sinks.clone() else { return };
        let mut late: Vec<Letter> = Vec::new();
        let mut fds: Vec<Option<RawFd>> = Vec::new();
        for l in &self.letters {
            let fd = sinks.descriptor(l.way);
            if !fds.contains(&fd) {
                fds.push(fd);
            }
        }
        for fd in fds {
            // In their order by each socket; between sockets there is none.
            let now: Vec<&Letter> = self.letters.iter().filter(|l| sinks.descriptor(l.way) == fd).collect();
            let done = match (fd, &now[..]) {
                (Some(fd), [_, _, ..]) => together(fd, &now, &self.bytes),
                _ => 0,
            };
            // What the call has not taken goes on its own, and so says why.
            for l in &now[done..] {
                // Nothing overtakes what waits already.
                let waits = late.iter().any(|o| o.way == l.way);
                if !waits && sinks.at_once(l.way, &self.bytes[l.at.0..l.at.1]) {
                    continue;
                }
                match l.way {
                    Way::Unix(_) => late.push(Letter { way: l.way, at: l.at }),
                    Way::Udp(_) => drop(dropped.fetch_add(1, Relaxed)),
                }
            }
        }
        let mut kept = Vec::new();
        for l in &mut late {
            let start = kept.len();
            kept.extend_from_slice(&self.bytes[l.at.0..l.at.1]);
            l.at = (start, kept.len());
        }
        self.letters.clear();
        self.letters.append(&mut late);
        self.bytes.clear();
        self.bytes.append(&mut kept);
    }

    /// The last try: what still cannot be sent is lost and counted.
    pub fn close(&mut self, dropped: &AtomicU64) {
        self.send(dropped);
        dropped.fetch_add(self.letters.len() as u64, Relaxed);
        self.letters.clear();
        self.bytes.clear();
        self.sinks = None;
    }
}

/// How many of them the system took.
fn together(fd: RawFd, letters: &[&Letter], bytes: &[u8]) -> usize {
    let addresses: Vec<Option<SockAddr>> = letters
        .iter()
        .map(|l| match l.way {
            Way::Udp(to) => Some(to.into()),
            Way::Unix(_) => None,
        })
        .collect();
    let mut slices: Vec<libc::iovec> = letters
        .iter()
        .map(|l| {
            let b = &bytes[l.at.0..l.at.1];
            libc::iovec { iov_base: b.as_ptr().cast_mut().cast(), iov_len: b.len() }
        })
        .collect();
    let headers = slices.iter_mut().zip(&addresses).map(|(slice, address)| {
        // SAFETY: all zeros is a message without address, data and ancillary data.
        let mut h: libc::mmsghdr = unsafe { std::mem::zeroed() };
        h.msg_hdr.msg_iov = slice;
        h.msg_hdr.msg_iovlen = 1;
        if let Some(a) = address {
            (h.msg_hdr.msg_name, h.msg_hdr.msg_namelen) = (a.as_ptr().cast_mut().cast(), a.len());
        }
        h
    });
    let mut headers: Vec<libc::mmsghdr> = headers.collect();
    let n = libc::c_uint::try_from(headers.len()).unwrap_or(0);
    // SAFETY: `n` headers, whose data and addresses outlive the call, which only reads them and writes the lengths sent into the headers.
    let sent = unsafe { libc::sendmmsg(fd, headers.as_mut_ptr(), n, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) };
    usize::try_from(sent).unwrap_or(0)
}

impl Sinks {
    fn descriptor(&self, way: Way) -> Option<RawFd> {
        match way {
            Way::Udp(SocketAddr::V4(_)) => self.udp4.as_ref().map(AsRawFd::as_raw_fd),
            Way::Udp(SocketAddr::V6(_)) => self.udp6.as_ref().map(AsRawFd::as_raw_fd),
            Way::Unix(i) => self.paths.get(i).map(|p| p.1.as_raw_fd()),
        }
    }
}
