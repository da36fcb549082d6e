//! Messages between guardian and worker: JSON in sequenced packets, descriptors beside them.
use super::bundle::Target;
use crate::config::model::{CliLevel, Fact, Seen, Tracked};
use crate::state::live::Happening;
use crate::vrrp::view::VrrpView;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::HashMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Descriptors in one message; the kernel's own limit is 253.
pub const FDS_PER_MESSAGE: usize = 128;
/// Sockets described in one message, which has to fit into the default buffer of a socket.
pub const REFS_PER_MESSAGE: usize = 128;
/// Facts in one message.
pub const FACTS_PER_MESSAGE: usize = 256;
const MAX_MESSAGE: usize = 128 * 1024;

#[derive(Debug, Serialize, Deserialize)]
pub enum ToWorker {
    /// Begins a load; the bundle is attached. So many sockets that shall be served follow in `Wanted`, and the descriptors of those not yet known in `Sockets`.
    Load {
        generation: u64,
        wanted: usize,
        fresh: usize,
    },
    Wanted(Vec<SocketRef>),
    /// Numbers of the sockets whose descriptors are attached, in order.
    Sockets(Vec<u64>),
    /// Stop listening after a while in which nothing is done but to say so, let connections end.
    SoftStop {
        grace_ms: u64,
        hard_stop_ms: Option<u64>,
    },
    Vrrp(Vec<VrrpView>),
    /// What virtual routers track inside the proxy: [`ToGuardian::Seen`] answers, now and whenever it changes.
    Watch(Vec<(Tracked, String)>),
    /// What servers are checked by that is not asked over the network: what of it is new, or (`whole`) the first part of all.
    Facts {
        whole: bool,
        facts: HashMap<String, Fact>,
    },
    /// In front of the first load: what was known of servers before this worker.
    Known(Vec<Happening>),
    /// The attached connection wants the runtime socket, with these rights: what the master CLI was asked for this process.
    Cli(CliLevel),
    /// The outcome of a reload that never reached the worker.
    ReloadFailed(String),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SocketRef {
    pub id: u64,
    /// Worker thread that serves it; command sockets are served by the control thread.
    pub thread: usize,
    pub target: Target,
    pub unix: bool,
    pub backlog: i32,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum ToGuardian {
    /// Serving; kernel ids of the threads in the order of their epochs.
    Ready {
        generation: u64,
        threads: Vec<i32>,
    },
    Failed {
        generation: u64,
        why: String,
    },
    Drained,
    Control(Control),
    Seen(Vec<Seen>),
    /// A virtual server, or one of its servers, is up or down.
    Happened(Happening),
}

/// What the command socket asks of the guardian.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Control {
    Reload,
    /// Give the addresses away and keep off them until told otherwise.
    Standby(bool),
}

pub fn pair() -> nix::Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)
}

pub struct Channel {
    fd: AsyncFd<OwnedFd>,
}

impl Channel {
    /// Must be called inside a runtime.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        // SAFETY: the OwnedFd keeps the same descriptor open for the life of the AsyncFd.
        Ok(Self { fd: unsafe { AsyncFd::register(fd) }? })
    }

    /// Sends without waiting: the peer reads promptly or is not worth waiting for.
    pub fn send<T: Serialize>(&self, message: &T, fds: &[RawFd]) -> io::Result<()> {
        let json = serde_json::to_vec(message)?;
        let iov = [IoSlice::new(&json)];
        let scm = [ControlMessage::ScmRights(fds)];
        let cmsgs: &[ControlMessage<'_>] = if fds.is_empty() { &[] } else { &scm };
        sendmsg::<()>(
            self.fd.get_ref().as_raw_fd(),
            &iov,
            cmsgs,
            MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT,
            None,
        )?;
        Ok(())
    }

    /// Waits for room before sending; for loads, which may be large.
    pub async fn send_wait<T: Serialize>(&self, message: &T, fds: &[RawFd]) -> io::Result<()> {
        self.fd.async_io(Interest::WRITABLE, |_| self.send(message, fds)).await
    }

    /// The next message with its descriptors; `None` when the peer is gone.
    pub async fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        self.fd
            .async_io(Interest::READABLE, |fd| {
                let mut buf = vec![0u8; MAX_MESSAGE];
                let mut space = nix::cmsg_space!([RawFd; 253]);
                let (n, fds, flags);
                {
                    let mut iov = [IoSliceMut::new(&mut buf)];
                    let m = recvmsg::<()>(
                        fd.as_raw_fd(),
                        &mut iov,
                        Some(&mut space),
                        MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT,
                    )?;
                    (n, flags) = (m.bytes, m.flags);
                    let mut all: Vec<OwnedFd> = Vec::new();
                    for c in m.cmsgs()? {
                        if let ControlMessageOwned::ScmRights(v) = c {
                            // SAFETY: the kernel just installed these descriptors for us.
                            all.extend(v.into_iter().map(|f| unsafe { OwnedFd::from_raw_fd(f) }));
                        }
                    }
                    fds = all;
                }
                if n == 0 {
                    return Ok(None);
                }
                if flags.contains(MsgFlags::MSG_TRUNC) {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                Ok(Some((serde_json::from_slice(&buf[..n])?, fds)))
            })
            .await
    }
}
